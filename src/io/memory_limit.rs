//! How much memory the machine, or the container around this process, lets it have.
//!
//! It reads what the kernel says of control groups, of both versions, and of the machine. A group
//! is limited by every group above it too, so the way is walked up to where the hierarchy is
//! mounted, and the smallest limit counts. What cannot be read limits nothing.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Part of the limit a server uses by default: the rest is for the kernel's buffers, which count
/// too, for the allocator, and for the application.
const DEFAULT_PERCENT: u64 = 80;

/// The default memory budget of a process: 80 % of the smallest of its limits.
pub(crate) fn default_limit() -> usize {
    percent_of(limit_bytes(|path| fs::read_to_string(path).ok()))
}

fn percent_of(bytes: Option<u64>) -> usize {
    let part = bytes.map(|bytes| bytes / 100 * DEFAULT_PERCENT);
    // Without any limit known, none is set.
    part.map_or(usize::MAX, |part| usize::try_from(part).unwrap_or(usize::MAX))
}

/// The smallest of: the memory of the machine, the limit of each group around this process, and the
/// limit of its address space, which a process cannot exceed either.
fn limit_bytes(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine_bytes(&text));
    let group = group_limit(&read).map(|limit| limit.bytes);
    let address_space = getrlimit(Resource::As).current;
    [machine, group, address_space].into_iter().flatten().min()
}

/// `MemTotal` of `/proc/meminfo`.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The memory that a control group leaves to all processes in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// Bytes, those of the kernel's part of a connection included.
    pub bytes: u64,
    /// The file that holds this limit.
    pub file: PathBuf,
}

/// The smallest limit of the groups this process is in, of both versions, by what `read` says of
/// the files of `/proc` and `/sys`.
pub fn group_limit(read: impl Fn(&Path) -> Option<String>) -> Option<GroupLimit> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let mut smallest: Option<GroupLimit> = None;
    for hierarchy in [Hierarchy::Unified, Hierarchy::Memory] {
        let Some(group) = groups.lines().find_map(|line| hierarchy.group_in(line)) else {
            continue;
        };
        for mount in mounts.lines().filter_map(|line| hierarchy.mount_in(line)) {
            for folder in mount.folders_of(group) {
                let file = folder.join(hierarchy.limit_file());
                // Version 2 says `max` for none; version 1 says a number beyond any machine.
                let bytes = read(&file).and_then(|text| text.trim().parse().ok());
                let limit = bytes.map(|bytes| GroupLimit { bytes, file });
                smallest = smallest.into_iter().chain(limit).min_by_key(|limit| limit.bytes);
            }
        }
    }
    smallest
}

/// Where limits of memory are set.
#[derive(Clone, Copy)]
enum Hierarchy {
    /// Version 2: one for all controllers.
    Unified,
    /// Version 1: the one of the memory controller.
    Memory,
}

impl Hierarchy {
    const fn limit_file(self) -> &'static str {
        match self {
            Self::Unified => "memory.max",
            Self::Memory => "memory.limit_in_bytes",
        }
    }

    /// The group of this process in this hierarchy, if a line of `/proc/self/cgroup` names it:
    /// `id ":" controllers ":" path`.
    fn group_in(self, line: &str) -> Option<&Path> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_named = match self {
            Self::Unified => controllers.is_empty(),
            Self::Memory => controllers.split(',').any(|controller| controller == "memory"),
        };
        is_named.then(|| Path::new(path))
    }

    /// Where this hierarchy is mounted, if a line of `/proc/self/mountinfo` says so:
    /// `id parent device root point options ... "-" type source options`.
    fn mount_in(self, line: &str) -> Option<Mount<'_>> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_this = match self {
            Self::Unified => kind.next()? == "cgroup2",
            Self::Memory => {
                kind.next()? == "cgroup" && kind.nth(1)?.split(',').any(|option| option == "memory")
            }
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (Path::new(fields.next()?), Path::new(fields.next()?));
        is_this.then_some(Mount { root, point })
    }
}

/// A hierarchy that is mounted, as a whole or from one of its groups on.
struct Mount<'a> {
    /// The group that is seen at the mount point.
    root: &'a Path,
    point: &'a Path,
}

impl Mount<'_> {
    /// The folders of `group` and of the groups around it, as far as they are mounted.
    ///
    /// In a container the group may lie outside of what is mounted; then the mount point is the
    /// container's own group, which is what holds.
    fn folders_of(&self, group: &Path) -> Vec<PathBuf> {
        let climbs = group.components().any(|part| part == Component::ParentDir);
        let below = match group.strip_prefix(self.root) {
            Ok(below) if !climbs => below,
            Ok(_) | Err(_) => Path::new(""),
        };
        below.ancestors().map(|part| self.point.join(part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24684084 kB\nMemFree:         1000 kB\n";
    const MACHINE: u64 = 24_684_084 * 1024;
    const V2_MOUNT: &str =
        "30 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    const V1_MOUNTS: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
    const V1_GROUPS: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/jobs/a\n1:cpu:/\n0::/";

    /// The limit with these files, on a machine without a limit of the address space.
    fn limit(groups: &str, mounts: &str, files: &[(&str, &str)]) -> u64 {
        let read = |path: &Path| match path.to_str().unwrap() {
            "/proc/meminfo" => Some(MEMINFO.to_owned()),
            "/proc/self/cgroup" => Some(groups.to_owned()),
            "/proc/self/mountinfo" => Some(mounts.to_owned()),
            path => files
                .iter()
                .find(|(file, _)| *file == path)
                .map(|(_, content)| format!("{content}\n")),
        };
        limit_bytes(read).unwrap()
    }

    #[test]
    fn bp03_limit_of_the_group_or_of_one_around_it_counts() {
        let v2 = |files: &[(&str, &str)]| limit("0::/system.slice/a.service\n", V2_MOUNT, files);
        assert_eq!(v2(&[]), MACHINE);
        assert_eq!(v2(&[("/sys/fs/cgroup/system.slice/a.service/memory.max", "max")]), MACHINE);
        let own = ("/sys/fs/cgroup/system.slice/a.service/memory.max", "536870912");
        assert_eq!(v2(&[own]), 536_870_912);
        assert_eq!(v2(&[own, ("/sys/fs/cgroup/system.slice/memory.max", "1000000")]), 1_000_000);
        assert_eq!(v2(&[own, ("/sys/fs/cgroup/memory.max", "2000000")]), 2_000_000);
        assert_eq!(v2(&[own, ("/sys/fs/cgroup/other/memory.max", "5")]), 536_870_912);

        let v1 = |files: &[(&str, &str)]| limit(V1_GROUPS, V1_MOUNTS, files);
        let none = ("/sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(v1(&[none]), MACHINE);
        assert_eq!(
            v1(&[none, ("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "3000000")]),
            3_000_000
        );
        // The unified hierarchy beside it may hold the memory controller instead.
        assert_eq!(v1(&[none, ("/sys/fs/cgroup/unified/memory.max", "4000000")]), 4_000_000);
    }

    #[test]
    fn bp03_limit_of_a_container_is_found_at_its_mount() {
        let file = ("/sys/fs/cgroup/memory.max", "1000000");
        // With a name space of its own.
        assert_eq!(limit("0::/\n", V2_MOUNT, &[file]), 1_000_000);
        assert_eq!(limit("0::/../b\n", V2_MOUNT, &[file]), 1_000_000);
        // Without one, the path is the host's, and the mount begins at it, or elsewhere.
        for root in ["/docker/abc", "/docker"] {
            let mount = V2_MOUNT.replace(" / ", &format!(" {root} "));
            assert_eq!(limit("0::/docker/abc\n", &mount, &[file]), 1_000_000, "{root}");
            assert_eq!(limit("0::/other\n", &mount, &[file]), 1_000_000, "{root}");
        }
    }

    #[test]
    fn bp03_nonsense_limits_nothing() {
        for (groups, mounts) in [
            ("", ""),
            ("0", "x"),
            ("0::", V2_MOUNT),
            ("::\n:\n", "a - b\n - cgroup2\n- - -"),
            ("4:memory:", V1_MOUNTS),
            ("0::/a", "30 23 0:26 - cgroup2"),
        ] {
            assert_eq!(limit(groups, mounts, &[]), MACHINE, "{groups:?}, {mounts:?}");
        }
        let file = |content| [("/sys/fs/cgroup/memory.max", content)];
        for content in ["", "max", "-1", "1k", "18446744073709551616"] {
            assert_eq!(limit("0::/\n", V2_MOUNT, &file(content)), MACHINE, "{content}");
        }
        for meminfo in ["", "MemTotal:", "MemTotal: kB", "MemTotal: x kB", "MemTotal: 5"] {
            assert_eq!(machine_bytes(meminfo), None, "{meminfo:?}");
        }
    }

    #[test]
    fn bp03_default_is_four_fifths_of_the_limit() {
        assert_eq!(percent_of(Some(512 << 20)), (512 << 20) / 100 * 80);
        assert_eq!(percent_of(Some(0)), 0);
        assert_eq!(percent_of(None), usize::MAX);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads the files of the kernel")]
    fn bp03_default_of_this_machine_is_within_its_memory() {
        let machine = machine_bytes(&fs::read_to_string("/proc/meminfo").unwrap()).unwrap();
        let default = default_limit();
        assert!(default > 1 << 20, "{default}");
        assert!(default as u64 <= machine / 100 * DEFAULT_PERCENT, "{default} of {machine}");
    }
}
