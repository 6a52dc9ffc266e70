//! The judgement: whether what is wanted fits, what is in the way of it, and how the server is to
//! be started. Pure: of two equal machines it says the same.

use super::costs;
use super::limits::{Key, Limit, Start, limits, narrowest, taken_bytes, workers_for};
use super::machine::Machine;
use super::mends::{Mend, Sysctl, Wish, exceeds_memlock, memlock_commands, mend, permit_io_uring};
use super::words::{bytes, grouped};

/// What there is to say about a machine.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// How the server that was judged is started.
    pub(super) start: Start,
    pub(super) limits: Vec<Limit>,
    pub(super) wish: Wish,
    /// Whether the wish was one, or what there is memory for.
    pub(super) asked: bool,
    /// Memory that as many take while they are idle, of the server that was judged.
    pub(super) taken_bytes: u64,
    pub(super) obstacles: Vec<Obstacle>,
    /// How to start it when nothing is in the way any more; none if that cannot be brought about.
    pub(super) then: Option<Start>,
    pub(super) advice: Vec<Advice>,
}

/// A limit with less room than is wanted.
#[derive(Clone, Debug)]
pub(super) struct Obstacle {
    pub(super) key: Key,
    pub(super) holds: u64,
    pub(super) mend: Mend,
}

/// What bounds no number of connections, and yet is worth knowing.
#[derive(Clone, Debug)]
pub(super) struct Advice {
    pub(super) about: &'static str,
    pub(super) text: String,
    pub(super) sysctls: Vec<Sysctl>,
}

impl Verdict {
    /// Judges a machine for a server that is started so.
    pub(super) fn of(machine: &Machine, start: Start, asked: Option<u64>, tls: bool) -> Self {
        let found = limits(machine, start);
        let wish = Wish { conns: asked.unwrap_or_else(|| roomy(machine, start, tls)), tls };
        let mut obstacles = Vec::new();
        let mut then = start;
        if let Some(obstacle) = obstacle(machine, start, &found, wish, |key| !is_other(key)) {
            then = obstacle.mend.start.unwrap_or(start);
            obstacles.push(obstacle);
        }
        // More workers take more memory, so the rest is judged for how it will be started.
        let later = limits(machine, then);
        for limit in later.iter().filter(|limit| is_other(limit.key)) {
            let only = |key| key == limit.key;
            obstacles.extend(obstacle(machine, then, &later, wish, only));
        }
        obstacles.sort_by_key(|obstacle| obstacle.holds);
        let taken_bytes = taken_bytes(machine, start, wish.conns, tls);
        let can_be = obstacles.iter().all(|obstacle| obstacle.mend.possible);
        Self {
            start,
            limits: found,
            wish,
            asked: asked.is_some(),
            taken_bytes,
            obstacles,
            then: can_be.then_some(then),
            advice: advice(machine, then, wish),
        }
    }

    /// Whether a server that is started as judged holds what is wanted.
    pub(super) fn fits(&self) -> bool {
        self.holds(self.wish.tls) >= self.wish.conns
    }

    /// Connections that it holds.
    pub(super) fn holds(&self, tls: bool) -> u64 {
        self.narrowest(tls).holds(tls)
    }

    pub(super) fn narrowest(&self, tls: bool) -> &Limit {
        narrowest(&self.limits, tls)
    }

    /// All settings of the kernel that are in the way.
    pub(super) fn sysctls(&self) -> Vec<&Sysctl> {
        self.obstacles.iter().flat_map(|obstacle| &obstacle.mend.sysctls).collect()
    }
}

/// Connections that there is memory for, of a server with as many workers as that may take; rounded
/// down to two digits, because what is free changes all the time.
fn roomy(machine: &Machine, start: Start, tls: bool) -> u64 {
    let room = |start| {
        let limits = limits(machine, start);
        let memory = limits.iter().filter(|limit| is_memory(limit.key));
        memory.map(|limit| limit.holds(tls)).min().unwrap_or(0)
    };
    let most = room(start);
    let workers = workers_for(machine, most).unwrap_or(start.workers);
    let conns = room(Start { workers: workers.max(start.workers), ..start }).max(1);
    let unit = 10_u64.pow(conns.ilog10().saturating_sub(1));
    conns / unit * unit
}

fn is_memory(key: Key) -> bool {
    matches!(key, Key::Memory | Key::GroupMemory)
}

/// Whether it is judged for the way the server will be started, which descriptors decide.
fn is_other(key: Key) -> bool {
    key != Key::Descriptors
}

fn obstacle(
    machine: &Machine,
    start: Start,
    limits: &[Limit],
    wish: Wish,
    is_meant: impl Fn(Key) -> bool,
) -> Option<Obstacle> {
    let limit = limits.iter().find(|limit| is_meant(limit.key))?;
    let holds = limit.holds(wish.tls);
    (holds < wish.conns).then(|| Obstacle {
        key: limit.key,
        holds,
        mend: mend(machine, start, limit, wish),
    })
}

fn advice(machine: &Machine, start: Start, wish: Wish) -> Vec<Advice> {
    let all = [backlog(machine), busy(machine, wish), ports(machine, wish), backend(machine)];
    all.into_iter().chain([untracked(machine, wish), locked(machine, start)]).flatten().collect()
}

fn backlog(machine: &Machine) -> Option<Advice> {
    let max = machine.somaxconn.filter(|max| *max < costs::BACKLOG)?;
    Some(Advice {
        about: "net.core.somaxconn",
        text: format!(
            "{} connections may wait to be accepted, at each worker; when all clients come back at \
             once, more than that have to try again",
            grouped(max)
        ),
        sysctls: vec![Sysctl::new("net.core.somaxconn", costs::BACKLOG)],
    })
}

/// A connection that is not idle has a page in a socket buffer at least.
fn busy(machine: &Machine, wish: Wish) -> Option<Advice> {
    let needed = wish.conns / 10;
    let pages = machine.tcp_pages.filter(|pages| *pages < needed)?;
    Some(Advice {
        about: "net.ipv4.tcp_mem",
        text: format!(
            "{} connections may have bytes under way at one time, which idle ones have not; with a \
             tenth of them busy it would be {}",
            grouped(pages),
            grouped(needed)
        ),
        sysctls: vec![Sysctl::new(
            "net.ipv4.tcp_mem",
            format!("{} {} {needed}", needed / 2, needed / 4 * 3),
        )],
    })
}

fn ports(machine: &Machine, wish: Wish) -> Option<Advice> {
    let (first, last) = machine.ports?;
    let ports = last - first + 1;
    (wish.conns > ports).then(|| Advice {
        about: "net.ipv4.ip_local_port_range",
        text: format!(
            "Whoever connects from one address, as a proxy or a load generator does, has {} ports \
             for each address the server listens on, if its range is as here; clients of their own \
             addresses need none of this",
            grouped(ports)
        ),
        sysctls: Vec::new(),
    })
}

fn backend(machine: &Machine) -> Option<Advice> {
    let reason = machine.probed.io_uring.as_ref().err()?;
    let permit = permit_io_uring(machine);
    Some(Advice {
        about: "io_uring",
        text: format!("It runs on epoll, because {reason}{}", permit.text),
        sysctls: permit.sysctls,
    })
}

/// Rings are made smaller where memory may not be locked, which costs system calls.
fn locked(machine: &Machine, start: Start) -> Option<Advice> {
    let is_short = machine.probed.io_uring.is_ok() && exceeds_memlock(machine, start.workers);
    is_short.then(|| Advice {
        about: "RLIMIT_MEMLOCK",
        text: format!(
            "It is {}, too little for the rings of {} workers, so these will be smaller than they \
             should be, or fail: {}",
            bytes(machine.memlock.soft),
            start.workers,
            memlock_commands(start.workers)
        ),
        sysctls: Vec::new(),
    })
}

fn untracked(machine: &Machine, wish: Wish) -> Option<Advice> {
    let table = machine.conntrack.filter(|table| !table.tracks && table.max < wish.conns)?;
    Some(Advice {
        about: "nf_conntrack_max",
        text: format!(
            "It is {}, and bounds nothing, because no rule of the firewall tracks connections; one \
             that does would bound them",
            grouped(table.max)
        ),
        sysctls: Vec::new(),
    })
}
