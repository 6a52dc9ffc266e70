//! What this machine gives a process: read from `/proc` and `/sys`, by a function that tests
//! replace, and judged nowhere here.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use longwire::{Backend, group_limit, parse_cores};

/// Bit of `CAP_SYS_RESOURCE`, which raises hard limits, in a set of capabilities.
const CAP_SYS_RESOURCE: u64 = 1 << 24;
/// Bit of `CAP_IPC_LOCK`, with which locked memory is not counted.
const CAP_IPC_LOCK: u64 = 1 << 14;
const CONNTRACK_COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// A limit of processes; `u64::MAX` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// What was read. Options are `None` where the kernel does not tell, as in containers.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) kernel: String,
    /// Cores this process may run on, and all that there are.
    pub(super) cores: usize,
    pub(super) cores_online: usize,
    pub(super) nofile: Bound,
    pub(super) memlock: Bound,
    pub(super) nr_open: Option<u64>,
    pub(super) file_max: Option<u64>,
    pub(super) files_open: u64,
    pub(super) somaxconn: Option<u64>,
    /// First and last port that the kernel gives to clients.
    pub(super) ports: Option<(u64, u64)>,
    /// Pages that all sockets of TCP may hold together.
    pub(super) tcp_pages: Option<u64>,
    pub(super) receive_bytes_max: Option<u64>,
    pub(super) send_bytes_max: Option<u64>,
    pub(super) conntrack: Option<Conntrack>,
    pub(super) memory_bytes: u64,
    pub(super) memory_available: u64,
    pub(super) group: Option<Group>,
    pub(super) io_uring_disabled: Option<u64>,
    pub(super) seccomp: u64,
    pub(super) power: Power,
    pub(super) probed: Probed,
}

/// Connection tracking of the firewall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conntrack {
    pub(super) max: u64,
    pub(super) count: u64,
    /// Whether it takes notice of connections at all: it may be loaded, and no rule use it.
    pub(super) tracks: bool,
}

/// The control group that leaves the least memory.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) file: String,
    pub(super) bytes: u64,
    /// Without what the kernel would give back if need be.
    pub(super) used: u64,
}

/// What whoever runs this may change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Power {
    pub(super) root: bool,
    /// Hard limits may be raised: by this process, and by one that `sudo` starts.
    pub(super) raises: bool,
    pub(super) could_raise: bool,
    /// Memory may be locked without a limit.
    pub(super) locks: bool,
    /// The files below `/proc/sys` are not mounted for reading alone.
    pub(super) sysctl: bool,
    pub(super) systemd: bool,
}

/// What was found out by trying.
#[derive(Clone, Debug)]
pub(super) struct Probed {
    pub(super) io_uring: Result<(), String>,
    pub(super) direct_descriptors: Result<(), String>,
    /// Whether the firewall took notice of a connection.
    pub(super) tracks: bool,
}

impl Machine {
    /// The one this runs on.
    pub(super) fn this() -> Result<Self, String> {
        let probed = Probed {
            io_uring: Backend::IoUring.probe(false),
            direct_descriptors: Backend::IoUring.probe(true),
            tracks: is_tracked().unwrap_or(false),
        };
        Self::read(|path| fs::read_to_string(path).ok(), probed)
    }

    /// The one whose files `read` gives.
    pub(super) fn read(
        read: impl Fn(&Path) -> Option<String>,
        probed: Probed,
    ) -> Result<Self, String> {
        let text = |path: &str| read(Path::new(path));
        let needed = |path: &str| text(path).ok_or_else(|| missing(path));
        let number = |path: &str| text(path).and_then(|text| text.trim().parse::<u64>().ok());
        let nth = |path: &str, at: usize| text(path).and_then(|text| nth(&text, at));
        let limits = needed("/proc/self/limits")?;
        let status = Status(needed("/proc/self/status")?);
        let meminfo = Meminfo(needed("/proc/meminfo")?);
        let bound = |name| bound(&limits, name).ok_or_else(|| missing("/proc/self/limits"));
        let memory_bytes =
            meminfo.bytes("MemTotal:").ok_or_else(|| missing("MemTotal in /proc/meminfo"))?;
        let online = text("/sys/devices/system/cpu/online");
        let online = online.and_then(|list| parse_cores(&list).ok()).unwrap_or_default();
        let ports = "/proc/sys/net/ipv4/ip_local_port_range";
        let tracked = Conntrack {
            max: number("/proc/sys/net/netfilter/nf_conntrack_max").unwrap_or(0),
            count: number(CONNTRACK_COUNT).unwrap_or(0),
            tracks: probed.tracks,
        };
        Ok(Self {
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cores: usable(&status, &online),
            cores_online: online.len().max(1),
            nofile: bound("Max open files")?,
            memlock: bound("Max locked memory")?,
            nr_open: number("/proc/sys/fs/nr_open"),
            file_max: number("/proc/sys/fs/file-max"),
            files_open: nth("/proc/sys/fs/file-nr", 0).unwrap_or(0),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            ports: nth(ports, 0).zip(nth(ports, 1)).filter(|(first, last)| first <= last),
            tcp_pages: nth("/proc/sys/net/ipv4/tcp_mem", 2),
            receive_bytes_max: nth("/proc/sys/net/ipv4/tcp_rmem", 2),
            send_bytes_max: nth("/proc/sys/net/ipv4/tcp_wmem", 2),
            conntrack: (tracked.max > 0).then_some(tracked),
            memory_bytes,
            memory_available: meminfo.bytes("MemAvailable:").unwrap_or(memory_bytes),
            group: group(&read, memory_bytes),
            io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
            seccomp: status.number("Seccomp:", 10).unwrap_or(0),
            power: Power {
                root: status.number("Uid:", 10) == Some(0),
                raises: status.has("CapEff:", CAP_SYS_RESOURCE),
                could_raise: status.has("CapBnd:", CAP_SYS_RESOURCE),
                locks: status.has("CapEff:", CAP_IPC_LOCK),
                sysctl: !text("/proc/self/mountinfo").is_some_and(|mounts| is_locked(&mounts)),
                systemd: text("/proc/1/comm").is_some_and(|name| name.trim() == "systemd"),
            },
            probed,
        })
    }
}

fn missing(what: &str) -> String {
    format!("cannot read {what}; this takes Linux with /proc mounted")
}

/// The number at this place of a line of several.
fn nth(text: &str, at: usize) -> Option<u64> {
    text.split_whitespace().nth(at)?.parse().ok()
}

/// A line of `/proc/self/limits`: a name with blanks in it, the soft and the hard limit, a unit.
fn bound(limits: &str, name: &str) -> Option<Bound> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut fields = line.split_whitespace().map(|field| match field {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some(Bound { soft: fields.next()??, hard: fields.next()?? })
}

/// Cores that the process may use and that are there: the list may name others.
fn usable(status: &Status, online: &[usize]) -> usize {
    let allowed = status.field("Cpus_allowed_list:").and_then(|list| parse_cores(list).ok());
    let allowed: BTreeSet<usize> = allowed.unwrap_or_default().into_iter().collect();
    let there = online.iter().filter(|core| allowed.contains(core)).count();
    there.max(1)
}

/// Whether `/proc/sys` is mounted for reading alone, as containers do:
/// `id parent device root point options ... "-" type source options`.
fn is_locked(mounts: &str) -> bool {
    let of = |line: &str, point: &str| {
        let mut fields = line.split(' ').skip(4);
        fields.next() == Some(point)
            && fields.next().is_some_and(|options| options.split(',').any(|option| option == "ro"))
    };
    mounts.lines().any(|line| of(line, "/proc/sys") || of(line, "/proc"))
}

/// The group with the smallest limit, unless the machine has no more memory than that.
fn group(read: &impl Fn(&Path) -> Option<String>, memory_bytes: u64) -> Option<Group> {
    let limit = group_limit(read).filter(|limit| limit.bytes < memory_bytes)?;
    let beside = |name: &str| read(&limit.file.with_file_name(name));
    let usage = beside("memory.current").or_else(|| beside("memory.usage_in_bytes"));
    let usage = usage.and_then(|text| text.trim().parse().ok()).unwrap_or(0_u64);
    let stat = beside("memory.stat").unwrap_or_default();
    // Version 1 names what lies below as well, which its limit is for, `total_`.
    let prefix = if stat.contains("total_inactive_file ") { "total_" } else { "" };
    let files = ["inactive_file ", "active_file "].iter().filter_map(|name| {
        let name = format!("{prefix}{name}");
        stat.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<u64>().ok())
    });
    let used = usage.saturating_sub(files.sum());
    Some(Group { file: limit.file.display().to_string(), bytes: limit.bytes, used })
}

/// Whether the firewall has an entry for a connection that is open.
fn is_tracked() -> std::io::Result<bool> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let _open = TcpStream::connect(listener.local_addr()?)?;
    let count = fs::read_to_string(CONNTRACK_COUNT)?;
    Ok(count.trim() != "0")
}

/// `/proc/self/status`.
struct Status(String);

impl Status {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    fn number(&self, name: &str, radix: u32) -> Option<u64> {
        u64::from_str_radix(self.field(name)?.split_whitespace().next()?, radix).ok()
    }

    /// Whether this set of capabilities holds that one.
    fn has(&self, set: &str, capability: u64) -> bool {
        self.number(set, 16).is_some_and(|set| set & capability != 0)
    }
}

/// `/proc/meminfo`.
struct Meminfo(String);

impl Meminfo {
    fn bytes(&self, name: &str) -> Option<u64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
    }
}
