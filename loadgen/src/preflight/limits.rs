//! What this machine allows: limits of the process, the kernel and the control group, read once.
//!
//! Parsers take text. What cannot be read is `None` and stands in nobody's way: a run that fails
//! says so itself, while a run that is refused for a guess cannot be made at all.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::observe::process::number_after;

/// All limits that connections meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Descriptors of this process, after the soft limit was raised; `None`: without limit.
    pub(crate) nofile: Option<u64>,
    /// The highest that even root may set that limit to.
    pub(crate) nr_open: Option<u64>,
    /// Open files of the machine: (in use, at most).
    pub(crate) files: Option<(u64, u64)>,
    /// Local ports of one source address that the kernel gives away: (first, last).
    pub(crate) port_range: Option<(u16, u16)>,
    /// How many of them are reserved.
    pub(crate) ports_reserved: u64,
    /// Connections that may wait to be accepted.
    pub(crate) somaxconn: Option<u64>,
    /// Memory of TCP buffers in bytes: (in use, at most).
    pub(crate) tcp_bytes: Option<(u64, u64)>,
    /// Bytes that can be had without swapping.
    pub(crate) memory_available: Option<u64>,
    /// The control group with the least memory left.
    pub(crate) cgroup: Option<Cgroup>,
    /// Tracked connections: (now, at most); `None` if none are tracked.
    pub(crate) conntrack: Option<(u64, u64)>,
    /// Root does not meet the limit on open files of the machine.
    pub(crate) is_root: bool,
}

/// A control group that limits memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// The file that holds the limit.
    pub(crate) file: String,
    pub(crate) limit_bytes: u64,
    pub(crate) used_bytes: u64,
}

impl Cgroup {
    /// What is left.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }
}

impl Limits {
    /// Raises what may be raised without asking, then reads everything.
    pub(crate) fn read() -> Self {
        let page_bytes = rustix::param::page_size() as u64;
        let port_range = proc("sys/net/ipv4/ip_local_port_range").and_then(|t| parse_range(&t));
        let reserved = proc("sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
        let sockstat = proc("net/sockstat").unwrap_or_default();
        let tcp_used = crate::observe::kernel::sockstat_value(&sockstat, "TCP:", "mem");
        let tcp_most = proc("sys/net/ipv4/tcp_mem").and_then(|text| number(&text, 2));
        let tracked = proc_number("sys/net/netfilter/nf_conntrack_count");
        let tracked_most = proc_number("sys/net/netfilter/nf_conntrack_max");
        Self {
            nofile: raise_descriptor_limit(),
            nr_open: proc_number("sys/fs/nr_open"),
            files: proc("sys/fs/file-nr").and_then(|text| parse_file_nr(&text)),
            port_range,
            ports_reserved: port_range.map_or(0, |range| reserved_within(&reserved, range)),
            somaxconn: proc_number("sys/net/core/somaxconn"),
            tcp_bytes: tcp_most.map(|most| {
                (tcp_used.unwrap_or(0).saturating_mul(page_bytes), most.saturating_mul(page_bytes))
            }),
            memory_available: proc("meminfo")
                .and_then(|text| number_after(&text, "MemAvailable:"))
                .map(|kib| kib.saturating_mul(1024)),
            cgroup: tightest_cgroup(),
            conntrack: tracked.zip(tracked_most),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// Ports that one source address has for connections to one server.
    pub(crate) fn ports_per_source(&self) -> u64 {
        // The kernel's own default, where the range cannot be read.
        let (first, last) = self.port_range.unwrap_or((32_768, 60_999));
        let count = u64::from(last.saturating_sub(first)) + 1;
        count.saturating_sub(self.ports_reserved)
    }
}

/// Raises the soft descriptor limit to the hard one, and returns what holds then.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

/// Descriptor limit of another process, the soft one; `None` if it has none or does not tell.
pub(crate) fn nofile_of(pid: u32) -> Option<u64> {
    parse_nofile(&proc(&format!("{pid}/limits"))?)
}

/// `Max open files            20000                20000                files`.
pub(crate) fn parse_nofile(text: &str) -> Option<u64> {
    number_after(text, "Max open files")
}

/// `32768\t60999`.
pub(crate) fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_ascii_whitespace();
    let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// `556\t0\t2466170`: allocated, free (always 0 since Linux 2.6), at most.
pub(crate) fn parse_file_nr(text: &str) -> Option<(u64, u64)> {
    let allocated = number(text, 0)?;
    Some((allocated.saturating_sub(number(text, 1)?), number(text, 2)?))
}

/// Ports of a list such as `8080,9148,40000-40010` that lie in a range. The kernel keeps it sorted
/// and without overlaps.
pub(crate) fn reserved_within(text: &str, (first, last): (u16, u16)) -> u64 {
    let mut count = 0;
    for part in text.trim().split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) {
            let (low, high) = (low.max(first), high.min(last));
            count += (u64::from(high) + 1).saturating_sub(u64::from(low));
        }
    }
    count
}

/// A memory limit of a control group: `max` in version 2, a number close to 2^63 in version 1, mean
/// that there is none.
pub(crate) fn parse_memory_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

/// Folders of the control groups of a process that may limit memory, innermost first, as (folder,
/// whether it is of version 2).
pub(crate) fn parse_cgroup(text: &str) -> Vec<(String, bool)> {
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let version_2 = controllers.is_empty();
        if !version_2 && !controllers.split(',').any(|name| name == "memory") {
            continue;
        }
        let mut path = path.trim_end_matches('/');
        loop {
            let root = if version_2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
            folders.push((format!("{root}{path}"), version_2));
            // A limit of any group around ours holds, too.
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    folders
}

fn tightest_cgroup() -> Option<Cgroup> {
    let folders = parse_cgroup(&proc("self/cgroup")?);
    let groups = folders.iter().filter_map(|(folder, version_2)| {
        let (limit, used) = if *version_2 {
            ("memory.max", "memory.current")
        } else {
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
        };
        let folder = Path::new(folder);
        let file = folder.join(limit);
        let limit_bytes = parse_memory_limit(&fs::read_to_string(&file).ok()?)?;
        let used_bytes = fs::read_to_string(folder.join(used)).ok()?.trim().parse().ok()?;
        // Pages of files are given back when others need them.
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let files = ["inactive_file ", "active_file "].iter();
        let given_back: u64 = files.filter_map(|key| number_after(&stat, key)).sum();
        let used_bytes = u64::saturating_sub(used_bytes, given_back);
        Some(Cgroup { file: file.display().to_string(), limit_bytes, used_bytes })
    });
    groups.min_by_key(Cgroup::free_bytes)
}

fn number(text: &str, place: usize) -> Option<u64> {
    text.split_ascii_whitespace().nth(place)?.parse().ok()
}

fn proc_number(path: &str) -> Option<u64> {
    number(&proc(path)?, 0)
}

fn proc(path: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc").join(path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_this_machine_are_read_and_the_soft_one_raised() {
        let limits = Limits::read();
        assert_eq!(limits.nofile, getrlimit(Resource::Nofile).maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        let (used, most) = limits.files.unwrap();
        assert!(used > 0 && used < most);
        assert!(limits.nr_open.unwrap() >= 1024 && limits.somaxconn.unwrap() >= 1);
        assert!(limits.memory_available.unwrap() > 1 << 20);
        assert!((1..=65_536).contains(&limits.ports_per_source()));
    }

    #[test]
    fn port_range_is_read_and_nonsense_refused() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        for text in ["", "1\n", "60999 32768", "1 70000", "a b"] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }

    #[test]
    fn reserved_ports_count_only_within_the_range() {
        let range = (32_768, 60_999);
        assert_eq!(reserved_within("\n", range), 0);
        assert_eq!(reserved_within("8080,9148\n", range), 0);
        assert_eq!(reserved_within("8080,40000-40009,50000\n", range), 11);
        assert_eq!(reserved_within("30000-32769,60998-65535\n", range), 4);
        assert_eq!(reserved_within("0-65535\n", (0, u16::MAX)), 65_536);
    }

    #[test]
    fn usable_ports_are_the_range_without_what_is_reserved() {
        let limits = Limits { port_range: Some((100, 199)), ports_reserved: 30, ..Limits::read() };
        assert_eq!(limits.ports_per_source(), 70);
        let unknown = Limits { port_range: None, ports_reserved: 0, ..limits };
        assert_eq!(unknown.ports_per_source(), 28_232);
    }

    #[test]
    fn descriptor_limit_of_a_process_is_its_soft_one() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max processes             9                    9                    processes\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(parse_nofile(text), Some(1024));
        assert_eq!(
            parse_nofile("Max open files            unlimited     unlimited  files\n"),
            None
        );
        assert!(nofile_of(std::process::id()).is_some());
        assert_eq!(nofile_of(0), None);
    }

    #[test]
    fn file_nr_gives_use_and_most() {
        assert_eq!(parse_file_nr("556\t0\t2466170\n"), Some((556, 2_466_170)));
        assert_eq!(parse_file_nr("600\t100\t9223372036854775807\n"), Some((500, i64::MAX as u64)));
        assert_eq!(parse_file_nr("600\n"), None);
    }

    #[test]
    fn no_memory_limit_is_told_apart_from_a_high_one() {
        assert_eq!(parse_memory_limit("max\n"), None);
        assert_eq!(parse_memory_limit("9223372036854771712\n"), None);
        assert_eq!(parse_memory_limit("1073741824\n"), Some(1 << 30));
    }

    #[test]
    fn cgroups_of_both_versions_are_found_with_all_around_them() {
        let text = "5:devices:/a\n4:cpu,memory:/outer/inner\n1:name=systemd:/x\n0::/user/job\n";
        let folders: Vec<String> =
            parse_cgroup(text).into_iter().map(|(folder, _)| folder).collect();
        assert_eq!(
            folders,
            [
                "/sys/fs/cgroup/memory/outer/inner",
                "/sys/fs/cgroup/memory/outer",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/user/job",
                "/sys/fs/cgroup/user",
                "/sys/fs/cgroup",
            ]
        );
        assert_eq!(parse_cgroup("0::/\n"), [("/sys/fs/cgroup".to_owned(), true)]);
        assert!(parse_cgroup("").is_empty() && parse_cgroup("nonsense\n").is_empty());
    }
}
