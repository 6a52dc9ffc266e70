//! Limits that are in the way of a run, found before it starts, each with the command that mends it.
//!
//! [`check`] is pure: it holds a plan against [`Limits`]. An obstacle is fatal if the run would
//! certainly fail on it; one that depends on what the server and its clients do is a warning.

pub(crate) mod limits;
pub(crate) mod sources;

pub(crate) use limits::Limits;
pub(crate) use sources::SourceAddrs;

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::units;

/// Kernel memory of one end of an idle TCP connection, as measured on Linux 6.18: 4.1 KiB.
const KERNEL_BYTES_PER_END: u64 = 4200;
/// Memory of the generator for one idle connection.
const OWN_BYTES_PER_CONN: u64 = 300;
/// What TLS adds to it.
const OWN_TLS_BYTES_PER_CONN: u64 = 3800;
/// What a compressor and its opposite add, where messages refer to earlier ones.
const OWN_TAKEOVER_BYTES_PER_CONN: u64 = 400 << 10;
/// Descriptors that are not connections: streams, libraries, the report.
const DESCRIPTORS_APART: u64 = 64;
/// Descriptors of a worker that are not connections: its ring or poller, its wake-up.
const DESCRIPTORS_PER_WORKER: u64 = 4;
/// A backlog that takes a storm of connections without loss.
const SOMAXCONN_GOOD: u64 = 4096;
/// The most that a buffer with one small message takes: a page.
const BUFFER_BYTES_PER_END: u64 = 4096;

/// What a run is going to need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// Connections open at once.
    pub(crate) conns: u64,
    pub(crate) threads: u64,
    pub(crate) target: SocketAddr,
    pub(crate) sources: &'a SourceAddrs,
    /// Whether connections are direct descriptors of io_uring.
    pub(crate) direct_descriptors: bool,
    /// Whether connections are secure.
    pub(crate) tls: bool,
    /// Whether connections keep what compresses their messages.
    pub(crate) deflate_takeover: bool,
    /// Whether the server runs on this machine, as [`is_here`] finds out: then the machine has both
    /// ends of each connection.
    pub(crate) target_is_here: bool,
    /// Descriptor limit of the server, from [`limits::nofile_of`], if its PID is known.
    pub(crate) server_nofile: Option<u64>,
}

/// A limit that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// What there is too little of.
    pub(crate) what: String,
    pub(crate) have: u64,
    pub(crate) need: u64,
    /// What to type.
    pub(crate) mend: String,
    /// Whether the run cannot succeed with it.
    pub(crate) fatal: bool,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (have, need) = (units::count(self.have), units::count(self.need));
        write!(f, "{}: {have} there, {need} needed; {}", self.what, self.mend)
    }
}

/// All that is in the way of a plan, what is fatal first.
pub(crate) fn check(plan: &Plan<'_>, limits: &Limits) -> Vec<Obstacle> {
    let found = [
        descriptors(plan, limits),
        ports(plan, limits),
        memory(plan, limits),
        cgroup(plan, limits),
        files(plan, limits),
        conntrack(plan, limits),
        server_descriptors(plan),
        buffers(plan, limits),
        backlog(plan, limits),
    ];
    let mut found: Vec<Obstacle> = found.into_iter().flatten().collect();
    found.sort_by_key(|obstacle| !obstacle.fatal);
    found
}

/// Whether an address belongs to this machine.
pub(crate) fn is_here(target: SocketAddr) -> bool {
    let ip = target.ip().to_canonical();
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    // No packet leaves: the kernel only looks up the way, and the way to an own address begins
    // there.
    let any: SocketAddr =
        if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    UdpSocket::bind(any)
        .and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()))
        .is_ok_and(|own| own.ip() == target.ip())
}

fn descriptors(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let have = limits.nofile?;
    let threads = plan.threads.max(1);
    if plan.direct_descriptors {
        // The kernel holds the table of each ring to the descriptor limit of the process.
        let need = plan.conns.div_ceil(threads).saturating_add(DESCRIPTORS_APART);
        return below(have, need).then(|| Obstacle {
            what: "direct descriptors in each thread's ring".to_owned(),
            have,
            need,
            mend: format!("use {}", direct_flags(plan.conns, have)),
            fatal: true,
        });
    }
    let apart = DESCRIPTORS_APART + DESCRIPTORS_PER_WORKER.saturating_mul(threads);
    let need = plan.conns.saturating_add(apart);
    below(have, need).then(|| {
        let nr_open = match limits.nr_open {
            Some(most) if most < need => format!("sudo sysctl -w fs.nr_open={need} && "),
            _ => String::new(),
        };
        Obstacle {
            what: "descriptors of this process (nofile)".to_owned(),
            have,
            need,
            mend: format!(
                "type `{nr_open}sudo prlimit --pid $$ --nofile={need}` in this shell, or use \
                 io_uring with {}",
                direct_flags(plan.conns, have)
            ),
            fatal: true,
        }
    })
}

/// Flags that spread connections over rings, each with one part in twenty to spare.
fn direct_flags(conns: u64, per_ring: u64) -> String {
    let usable = (per_ring - per_ring / 20).saturating_sub(DESCRIPTORS_APART).max(1);
    format!("`--threads {} --direct-descriptors`", conns.div_ceil(usable).max(1))
}

fn server_descriptors(plan: &Plan<'_>) -> Option<Obstacle> {
    let have = plan.server_nofile?;
    let need = plan.conns.saturating_add(DESCRIPTORS_APART);
    below(have, need).then(|| Obstacle {
        what: "descriptors of the server (nofile)".to_owned(),
        have,
        need,
        mend: format!(
            "type `ulimit -n {need}` in the shell before starting the server there, unless its \
             connections are no descriptors (`longwire echo --direct-descriptors`)"
        ),
        fatal: false,
    })
}

fn files(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let (used, have) = limits.files?;
    let need = plan.conns.saturating_mul(ends(plan)).saturating_add(used);
    below(have, need).then(|| Obstacle {
        what: "open files of the machine (fs.file-max)".to_owned(),
        have,
        need,
        mend: format!("type `sudo sysctl -w fs.file-max={need}`"),
        // Root may open more, but the server need not be root's.
        fatal: !limits.is_root,
    })
}

fn ports(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let ports = limits.ports_per_source();
    let addrs = plan.sources.count();
    let have = ports.saturating_mul(addrs);
    below(have, plan.conns).then(|| Obstacle {
        what: format!("local ports ({addrs} source address{})", if addrs == 1 { "" } else { "es" }),
        have,
        need: plan.conns,
        mend: ports_mend(plan, limits, addrs),
        fatal: true,
    })
}

fn ports_mend(plan: &Plan<'_>, limits: &Limits, addrs: u64) -> String {
    let (first, last) = (1024_u16, u16::MAX);
    let widest = u64::from(last - first) + 1 - limits.ports_reserved.min(1 << 15);
    let widen = format!("type `sudo sysctl -w net.ipv4.ip_local_port_range=\"{first} {last}\"`");
    if plan.conns <= widest.saturating_mul(addrs) {
        return widen;
    }
    if let IpAddr::V6(ip) = plan.target.ip()
        && ip.is_loopback()
        && !plan.sources.are_listed()
    {
        let port = plan.target.port();
        return format!(
            "IPv6 loopback has one address only: let the server listen on IPv4, and use \
             ws://127.0.0.1:{port}"
        );
    }
    let count = plan.conns.div_ceil(limits.ports_per_source().max(1));
    format!("name {count} addresses of this machine: `--source A,B,...` (`ip addr` lists them)")
}

fn memory(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let have = limits.memory_available?;
    let need = memory_need(plan);
    below(have, need).then(|| Obstacle {
        what: "bytes of memory (MemAvailable)".to_owned(),
        have,
        need,
        mend: format!("use `--conns {}` at most, or free memory", conns_for(plan, have)),
        fatal: true,
    })
}

fn cgroup(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let group = limits.cgroup.as_ref()?;
    let have = group.free_bytes();
    let need = memory_need(plan);
    below(have, need).then(|| Obstacle {
        what: format!("bytes of memory of the control group ({})", group.file),
        have,
        need,
        mend: format!(
            "type `echo {} | sudo tee {}`, or use `--conns {}` at most",
            group.used_bytes.saturating_add(need),
            group.file,
            conns_for(plan, have)
        ),
        fatal: true,
    })
}

fn buffers(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let (used, have) = limits.tcp_bytes?;
    let per_conn = BUFFER_BYTES_PER_END * ends(plan);
    let need = plan.conns.saturating_mul(per_conn).saturating_add(used);
    below(have, need).then(|| {
        let pages = need.div_ceil(rustix::param::page_size() as u64);
        Obstacle {
            what: "bytes of TCP buffers (net.ipv4.tcp_mem), if all connections have data at once"
                .to_owned(),
            have,
            need,
            mend: format!(
                "type `sudo sysctl -w net.ipv4.tcp_mem=\"{} {} {pages}\"`",
                pages / 2,
                pages / 4 * 3
            ),
            fatal: false,
        }
    })
}

fn conntrack(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let (tracked, have) = limits.conntrack?;
    let need = tracked.saturating_add(plan.conns);
    below(have, need).then(|| Obstacle {
        what: "tracked connections (nf_conntrack)".to_owned(),
        have,
        need,
        mend: format!("type `sudo sysctl -w net.netfilter.nf_conntrack_max={need}`"),
        // The module is often loaded without a rule that makes it track anything.
        fatal: tracked > 0,
    })
}

fn backlog(plan: &Plan<'_>, limits: &Limits) -> Option<Obstacle> {
    let have = limits.somaxconn.filter(|_| plan.target_is_here)?;
    let need = plan.conns.min(SOMAXCONN_GOOD);
    below(have, need).then(|| Obstacle {
        what: "connections that wait to be accepted (net.core.somaxconn)".to_owned(),
        have,
        need,
        mend: format!("type `sudo sysctl -w net.core.somaxconn={need}`, then restart the server"),
        fatal: false,
    })
}

fn memory_need(plan: &Plan<'_>) -> u64 {
    plan.conns.saturating_mul(bytes_per_conn(plan))
}

/// How many connections fit, with a tenth of the memory to spare.
fn conns_for(plan: &Plan<'_>, bytes: u64) -> u64 {
    (bytes - bytes / 10) / bytes_per_conn(plan)
}

fn bytes_per_conn(plan: &Plan<'_>) -> u64 {
    let tls = if plan.tls { OWN_TLS_BYTES_PER_CONN } else { 0 };
    let engines = if plan.deflate_takeover { OWN_TAKEOVER_BYTES_PER_CONN } else { 0 };
    KERNEL_BYTES_PER_END * ends(plan) + OWN_BYTES_PER_CONN + tls + engines
}

/// Ends of each connection that this machine holds.
fn ends(plan: &Plan<'_>) -> u64 {
    if plan.target_is_here { 2 } else { 1 }
}

fn below(have: u64, need: u64) -> bool {
    have < need
}

#[cfg(test)]
mod tests {
    use super::limits::Cgroup;
    use super::*;

    /// A machine where nothing is in the way.
    fn wide() -> Limits {
        Limits {
            nofile: Some(1 << 30),
            nr_open: Some(1 << 30),
            files: Some((500, 1 << 40)),
            port_range: Some((32_768, 60_999)),
            ports_reserved: 0,
            somaxconn: Some(4096),
            tcp_bytes: Some((0, 1 << 50)),
            memory_available: Some(1 << 50),
            cgroup: None,
            conntrack: None,
            is_root: false,
        }
    }

    fn found(conns: u64, target: &str, limits: &Limits) -> Vec<Obstacle> {
        found_with(conns, target, limits, |_| {})
    }

    fn found_with(
        conns: u64,
        target: &str,
        limits: &Limits,
        change: impl Fn(&mut Plan<'_>),
    ) -> Vec<Obstacle> {
        let target = target.parse().unwrap();
        let sources = SourceAddrs::new(target, conns, &[], limits.ports_per_source()).unwrap();
        let mut plan = Plan {
            conns,
            threads: 2,
            target,
            sources: &sources,
            direct_descriptors: false,
            tls: false,
            deflate_takeover: false,
            target_is_here: is_here(target),
            server_nofile: None,
        };
        change(&mut plan);
        check(&plan, limits)
    }

    /// The only obstacle.
    fn only(obstacles: Vec<Obstacle>) -> Obstacle {
        assert_eq!(obstacles.len(), 1, "{obstacles:#?}");
        obstacles.into_iter().next().unwrap()
    }

    const HERE: &str = "127.0.0.1:9001";
    const AWAY: &str = "192.0.2.1:9001";

    #[test]
    fn wide_machine_lets_a_million_connections_through() {
        assert_eq!(found(1_000_000, HERE, &wide()), []);
        assert_eq!(found(28_232, AWAY, &wide()), []);
    }

    #[test]
    fn descriptor_limit_names_the_command_and_the_way_around_it() {
        let limits = Limits { nofile: Some(20_000), nr_open: Some(1_048_576), ..wide() };
        let obstacle = only(found(1_000_000, HERE, &limits));
        assert_eq!((obstacle.have, obstacle.need, obstacle.fatal), (20_000, 1_000_072, true));
        assert!(obstacle.mend.contains("`sudo prlimit --pid $$ --nofile=1000072`"));
        assert!(obstacle.mend.contains("`--threads 53 --direct-descriptors`"), "{obstacle}");
        let exact = Limits { nofile: Some(1_000_072), ..wide() };
        assert_eq!(found(1_000_000, HERE, &exact), []);
        assert_eq!(found(1_000_000, HERE, &Limits { nofile: None, ..wide() }), []);
    }

    #[test]
    fn nr_open_is_raised_first_where_it_is_lower_than_the_need() {
        let limits = Limits { nofile: Some(1024), nr_open: Some(1_048_576), ..wide() };
        let obstacle = only(found(2_000_000, HERE, &limits));
        let command =
            "`sudo sysctl -w fs.nr_open=2000072 && sudo prlimit --pid $$ --nofile=2000072`";
        assert!(obstacle.mend.contains(command), "{obstacle}");
    }

    #[test]
    fn direct_descriptors_are_limited_for_each_ring() {
        let limits = Limits { nofile: Some(20_000), ..wide() };
        let with = |threads| {
            found_with(1_000_000, HERE, &limits, |plan| {
                plan.direct_descriptors = true;
                plan.threads = threads;
            })
        };
        let obstacle = only(with(2));
        assert_eq!((obstacle.have, obstacle.need, obstacle.fatal), (20_000, 500_064, true));
        assert_eq!(obstacle.mend, "use `--threads 53 --direct-descriptors`");
        assert_eq!(with(53), []);
        assert_eq!(with(49).len(), 1);
    }

    #[test]
    fn ports_run_out_only_where_addresses_do() {
        let obstacle = only(found(40_000, AWAY, &wide()));
        assert_eq!((obstacle.have, obstacle.need, obstacle.fatal), (28_232, 40_000, true));
        let command = "type `sudo sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
        assert_eq!(obstacle.mend, command);
        let obstacle = only(found(100_000, AWAY, &wide()));
        assert!(obstacle.mend.starts_with("name 4 addresses"), "{obstacle}");
        let obstacle = only(found(100_000, "[::1]:9001", &wide()));
        assert!(obstacle.mend.contains("one address only"), "{obstacle}");
        assert!(obstacle.mend.ends_with("ws://127.0.0.1:9001"), "{obstacle}");
        let reserved = Limits { ports_reserved: 28_000, ..wide() };
        assert_eq!(only(found(300, AWAY, &reserved)).have, 232);
    }

    #[test]
    fn memory_counts_both_ends_where_both_are_here() {
        let limits = Limits { memory_available: Some(5_000_000_000), ..wide() };
        let obstacle = only(found(1_000_000, HERE, &limits));
        assert_eq!((obstacle.need, obstacle.fatal), (8_700_000_000, true));
        assert!(obstacle.mend.contains("`--conns 517241`"), "{obstacle}");
        assert_eq!(found(20_000, AWAY, &limits), []);
        let little = Limits { memory_available: Some(1_000_000), ..wide() };
        assert_eq!(only(found(1000, AWAY, &little)).need, 4_500_000);
    }

    #[test]
    fn control_group_is_named_with_its_file() {
        let file = "/sys/fs/cgroup/job/memory.max".to_owned();
        let group = Cgroup { file, limit_bytes: 1_000_000, used_bytes: 400_000 };
        let obstacle = only(found(100, HERE, &Limits { cgroup: Some(group), ..wide() }));
        assert_eq!((obstacle.have, obstacle.need, obstacle.fatal), (600_000, 870_000, true));
        let command = "`echo 1270000 | sudo tee /sys/fs/cgroup/job/memory.max`";
        assert!(obstacle.mend.contains(command), "{obstacle}");
    }

    #[test]
    fn open_files_of_the_machine_stop_all_but_root() {
        let limits = Limits { files: Some((500, 10_000)), ..wide() };
        let obstacle = only(found(5000, HERE, &limits));
        assert_eq!((obstacle.need, obstacle.fatal), (10_500, true));
        assert!(obstacle.mend.contains("fs.file-max=10500"));
        assert!(!only(found(5000, HERE, &Limits { is_root: true, ..limits.clone() })).fatal);
        assert_eq!(found(5000, AWAY, &limits), []);
    }

    #[test]
    fn connection_tracking_is_fatal_only_while_it_tracks() {
        let limits = Limits { conntrack: Some((7, 1000)), ..wide() };
        let obstacle = only(found(1000, HERE, &limits));
        assert_eq!((obstacle.need, obstacle.fatal), (1007, true));
        assert!(obstacle.mend.contains("nf_conntrack_max=1007"));
        let idle = Limits { conntrack: Some((0, 999)), ..wide() };
        assert!(!only(found(1000, HERE, &idle)).fatal);
    }

    #[test]
    fn buffers_backlog_and_the_server_are_warnings() {
        let limits = Limits { tcp_bytes: Some((0, 4096 * 100)), ..wide() };
        let obstacle = only(found(1000, HERE, &limits));
        assert!(!obstacle.fatal && obstacle.mend.contains("tcp_mem=\""), "{obstacle}");
        let limits = Limits { somaxconn: Some(128), ..wide() };
        let obstacle = only(found(1000, HERE, &limits));
        assert!(!obstacle.fatal && obstacle.mend.contains("somaxconn=1000"));
        assert_eq!(found(1000, AWAY, &limits), []);
        assert_eq!(found(128, HERE, &limits), []);
        let obstacles = found_with(1000, HERE, &wide(), |plan| plan.server_nofile = Some(1024));
        let obstacle = only(obstacles);
        assert!(!obstacle.fatal && obstacle.mend.contains("ulimit -n 1064"));
    }

    #[test]
    fn what_is_fatal_comes_first() {
        let limits = Limits { somaxconn: Some(1), memory_available: Some(1), ..wide() };
        let fatal: Vec<bool> =
            found(1000, HERE, &limits).iter().map(|obstacle| obstacle.fatal).collect();
        assert_eq!(fatal, [true, false]);
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        for target in [HERE, AWAY, "[::1]:1"] {
            let obstacles = found(u64::MAX, target, &wide());
            assert!(obstacles.len() >= 3 && obstacles[0].fatal);
        }
        let nothing = Limits { port_range: Some((9, 9)), ports_reserved: 1, ..wide() };
        let zero = Limits { nofile: Some(0), memory_available: Some(0), ..nothing };
        assert!(found(1, AWAY, &zero).len() >= 3);
    }

    #[test]
    fn obstacle_is_one_line_with_have_need_and_command() {
        let limits = Limits { nofile: Some(20_000), ..wide() };
        let line = only(found(1_000_000, HERE, &limits)).to_string();
        let begin = "descriptors of this process (nofile): 20,000 there, 1,000,072 needed; type `";
        assert!(line.starts_with(begin), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn own_addresses_are_told_from_others() {
        for here in [HERE, "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_here(here.parse().unwrap()), "{here}");
        }
        assert!(!is_here(AWAY.parse().unwrap()));
    }

    #[test]
    fn this_machine_lets_ten_connections_through() {
        let obstacles = found(10, HERE, &Limits::read());
        assert!(obstacles.iter().all(|obstacle| !obstacle.fatal), "{obstacles:#?}");
    }
}
