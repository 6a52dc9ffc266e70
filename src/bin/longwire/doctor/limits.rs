//! How many connections each limit of a machine leaves room for, to a server that is started in a
//! certain way. Sums alone; what to do about them is said elsewhere.

use super::costs;
use super::machine::Machine;
use super::words::{bytes, grouped};

/// How a server is started, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) direct_descriptors: bool,
    pub(super) workers: u64,
}

/// What bounds the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Descriptors of the process, or of its rings.
    Descriptors,
    /// Open files of the whole machine.
    FileMax,
    /// Entries of the firewall.
    Conntrack,
    /// Memory of the machine.
    Memory,
    /// Memory of the control group.
    GroupMemory,
}

/// A limit, and the connections that it has room for.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) key: Key,
    /// What the machine has.
    pub(super) has: String,
    pub(super) plain: u64,
    pub(super) tls: u64,
}

impl Key {
    /// As in the documentation of the kernel.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "RLIMIT_NOFILE",
            Self::FileMax => "fs.file-max",
            Self::Conntrack => "nf_conntrack_max",
            Self::Memory => "memory",
            Self::GroupMemory => "cgroup memory",
        }
    }
}

impl Limit {
    pub(super) fn holds(&self, tls: bool) -> u64 {
        if tls { self.tls } else { self.plain }
    }
}

/// All that bound this machine, the same for plain and TLS except where memory does.
pub(super) fn limits(machine: &Machine, start: Start) -> Vec<Limit> {
    let mut limits = vec![descriptors(machine, start)];
    let reserved = costs::server_descriptors(start.workers);
    let mut push = |key, has, room: [u64; 2]| {
        limits.push(Limit { key, has, plain: room[0], tls: room[1] });
    };
    if let Some(max) = machine.file_max {
        let open = machine.files_open;
        let room = max.saturating_sub(open).saturating_sub(reserved);
        push(Key::FileMax, format!("{}, {} open", grouped(max), grouped(open)), [room; 2]);
    }
    if let Some(tracked) = machine.conntrack.filter(|conntrack| conntrack.tracks) {
        let room = tracked.max.saturating_sub(tracked.count);
        let has = format!("{}, {} used", grouped(tracked.max), grouped(tracked.count));
        push(Key::Conntrack, has, [room; 2]);
    }
    let tracked = machine.is_tracked();
    let room = |free| [false, true].map(|tls| conns_in(free, start, tls, tracked));
    let has = format!("{} available", bytes(machine.memory_available));
    push(Key::Memory, has, room(machine.memory_available));
    if let Some(group) = &machine.group {
        let has = format!("{}, {} used", bytes(group.bytes), bytes(group.used));
        push(Key::GroupMemory, has, room(group.bytes.saturating_sub(group.used)));
    }
    limits
}

/// The limit that leaves the least room.
pub(super) fn narrowest(limits: &[Limit], tls: bool) -> &Limit {
    let narrowest = limits.iter().min_by_key(|limit| limit.holds(tls));
    narrowest.expect("every machine has descriptors and memory")
}

/// The fewest workers whose rings hold so many connections, if io_uring works.
pub(super) fn workers_for(machine: &Machine, conns: u64) -> Option<u64> {
    let mut workers = machine.cores as u64..=costs::WORKERS_MAX;
    workers.find(|workers| {
        slots(machine, Start { direct_descriptors: true, workers: *workers }) >= conns
    })
}

/// Free memory that so many connections take.
pub(super) fn bytes_for(machine: &Machine, start: Start, conns: u64, tls: bool) -> u64 {
    taken_bytes(machine, start, conns, tls).div_ceil(100 - costs::SPARE_PERCENT) * 100
}

/// Memory that a server with so many idle connections takes, that of the kernel included.
pub(super) fn taken_bytes(machine: &Machine, start: Start, conns: u64, tls: bool) -> u64 {
    conns * costs::conn_bytes(tls, machine.is_tracked()) + costs::server_bytes(start.workers)
}

fn conns_in(free: u64, start: Start, tls: bool, tracked: bool) -> u64 {
    let planned = free / 100 * (100 - costs::SPARE_PERCENT);
    let left = planned.saturating_sub(costs::server_bytes(start.workers));
    left / costs::conn_bytes(tls, tracked)
}

fn descriptors(machine: &Machine, start: Start) -> Limit {
    let hard = machine.nofile.hard;
    let reserved = costs::server_descriptors(start.workers);
    let has = if hard == u64::MAX { "unlimited".to_owned() } else { grouped(hard) };
    let (has, room) = if start.direct_descriptors {
        let works = machine.probed.direct_descriptors.is_ok();
        let room = if works { slots(machine, start) } else { 0 };
        (format!("{has} for each of {} rings", start.workers), room)
    } else {
        (format!("{has} (hard)"), hard.saturating_sub(reserved))
    };
    Limit { key: Key::Descriptors, has, plain: room, tls: room }
}

/// Slots of all rings that may be planned for connections.
fn slots(machine: &Machine, start: Start) -> u64 {
    // What is not a connection still takes descriptors of the process.
    let fits = machine.nofile.hard > costs::server_descriptors(start.workers);
    if fits { costs::planned(start.workers, ring_slots(machine)) } else { 0 }
}

fn ring_slots(machine: &Machine) -> u64 {
    machine.nofile.hard.min(costs::RING_SLOTS_MAX)
}

impl Machine {
    /// Whether the firewall keeps an entry for each connection.
    pub(super) fn is_tracked(&self) -> bool {
        self.conntrack.is_some_and(|conntrack| conntrack.tracks)
    }
}
