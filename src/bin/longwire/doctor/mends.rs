//! What to do about a limit: sysctls, commands, or another way to start the server. It does none of
//! this; it says what whoever runs it may do, and what others have to.

use super::costs;
use super::limits::{Key, Limit, Start, bytes_for, workers_for};
use super::machine::{Group, Machine};
use super::words::{bytes, grouped};

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) conns: u64,
    pub(super) tls: bool,
}

/// How a limit is widened, or gone around.
#[derive(Clone, Debug, Default)]
pub(super) struct Mend {
    /// Whether it can be done from here, with what is listed.
    pub(super) possible: bool,
    /// What is the matter, and what helps.
    pub(super) text: String,
    pub(super) sysctls: Vec<Sysctl>,
    pub(super) commands: Vec<String>,
    /// The server is to be started in another way.
    pub(super) start: Option<Start>,
}

/// A setting of the kernel, and the value that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sysctl {
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Sysctl {
    pub(super) fn new(name: &'static str, value: impl ToString) -> Self {
        Self { name, value: value.to_string() }
    }
}

/// What to do about a limit that has no room for what is wanted.
pub(super) fn mend(machine: &Machine, start: Start, limit: &Limit, wish: Wish) -> Mend {
    match limit.key {
        Key::Descriptors if start.direct_descriptors => rings(machine, wish),
        Key::Descriptors => descriptors(machine, start, wish),
        Key::FileMax => file_max(machine, start, wish),
        Key::Conntrack => conntrack(machine, wish),
        Key::Memory => memory(machine, start, limit, wish),
        Key::GroupMemory => group_memory(machine, start, wish),
    }
}

/// A higher limit if there is a way to it, otherwise descriptors of another kind.
fn descriptors(machine: &Machine, start: Start, wish: Wish) -> Mend {
    let needed = rounded(wish.conns + costs::server_descriptors(start.workers));
    if let Some(mend) = raise(machine, needed) {
        return mend;
    }
    let mut mend = rings(machine, wish);
    mend.text = format!("{}. {}", why_not_raised(machine, needed), mend.text);
    if !mend.possible {
        mend.text += &format!(
            ". Or have the limit raised from outside: docker run --ulimit nofile={needed}:{needed}"
        );
    }
    mend
}

/// The hard limit raised to `needed`, by whoever may do that here.
fn raise(machine: &Machine, needed: u64) -> Option<Mend> {
    let power = machine.power;
    let is_beyond_kernel = machine.nr_open.is_some_and(|max| max < needed);
    if is_beyond_kernel && !power.sysctl {
        return None;
    }
    let mut commands = Vec::new();
    if power.raises {
        commands.push(format!("ulimit -n {needed}    # in the shell that starts longwire"));
    } else if power.could_raise {
        commands.push(format!(
            "sudo prlimit --pid $$ --nofile={needed}:{needed}    # in the shell that starts longwire"
        ));
    }
    if power.systemd {
        let sudo = sudo(machine);
        let folder = "/etc/systemd/system/longwire.service.d";
        commands.push(format!(
            "{sudo}mkdir -p {folder} && printf '[Service]\\nLimitNOFILE={needed}\\n' | {sudo}tee \
             {folder}/nofile.conf && {sudo}systemctl daemon-reload    # for the service"
        ));
    }
    let sysctls =
        if is_beyond_kernel { vec![Sysctl::new("fs.nr_open", needed)] } else { Vec::new() };
    let text = format!(
        "{} descriptors are needed, a process may have {}: raise the hard limit (longwire raises \
         the soft one by itself)",
        grouped(needed),
        grouped(machine.nofile.hard)
    );
    (!commands.is_empty()).then_some(Mend { possible: true, text, sysctls, commands, start: None })
}

fn why_not_raised(machine: &Machine, needed: u64) -> String {
    let hard = grouped(machine.nofile.hard);
    let reason = if machine.power.could_raise || machine.power.systemd {
        "fs.nr_open is lower and /proc/sys is read-only here"
    } else {
        "CAP_SYS_RESOURCE is missing here, even for root"
    };
    format!("A process may have {hard} descriptors; {} cannot be had: {reason}", grouped(needed))
}

/// Connections in the file tables of rings, of as many as it takes.
fn rings(machine: &Machine, wish: Wish) -> Mend {
    let Some(workers) = workers_for(machine, wish.conns) else {
        let text = format!(
            "Direct descriptors of io_uring, {} for each worker, do not help either: there may be {} \
             workers, if there are descriptors for these",
            grouped(machine.nofile.hard.min(costs::RING_SLOTS_MAX)),
            grouped(costs::WORKERS_MAX)
        );
        return Mend { text, ..Mend::default() };
    };
    let start = Some(Start { direct_descriptors: true, workers });
    let way = format!(
        "Direct descriptors of io_uring are counted for each ring, so {workers} workers hold as many"
    );
    match &machine.probed.direct_descriptors {
        Ok(()) => Mend { possible: true, text: way, start, ..Mend::default() },
        Err(reason) => {
            let permit = permit_io_uring(machine);
            let text = format!("{way}; but io_uring does not work here ({reason}){}", permit.text);
            Mend { text, start: start.filter(|_| permit.possible), ..permit }
        }
    }
}

/// Whether the rings of so many workers take more locked memory than is allowed.
pub(super) fn exceeds_memlock(machine: &Machine, workers: u64) -> bool {
    !machine.power.locks && machine.memlock.soft < workers * costs::RING_BYTES
}

/// How the rings of so many workers get their memory.
pub(super) fn memlock_commands(workers: u64) -> String {
    let needed = workers * costs::RING_BYTES;
    format!("LimitMEMLOCK={needed} for a service, prlimit --memlock={needed}:{needed} as root")
}

/// What may be done to have io_uring.
pub(super) fn permit_io_uring(machine: &Machine) -> Mend {
    if exceeds_memlock(machine, 1) {
        let text = format!(
            ": RLIMIT_MEMLOCK is {}; {} for each worker",
            bytes(machine.memlock.soft),
            memlock_commands(1)
        );
        return Mend { text, ..Mend::default() };
    }
    if machine.io_uring_disabled.is_some_and(|disabled| disabled > 0) {
        return Mend {
            possible: machine.power.sysctl,
            text: ": kernel.io_uring_disabled forbids it".to_owned(),
            sysctls: vec![Sysctl::new("kernel.io_uring_disabled", 0)],
            ..Mend::default()
        };
    }
    let text = if machine.seccomp == 2 {
        ": a seccomp filter is at work; give the container a profile that permits io_uring_setup, \
         io_uring_enter and io_uring_register (docker run --security-opt seccomp=FILE)"
    } else {
        ""
    };
    Mend { text: text.to_owned(), ..Mend::default() }
}

fn file_max(machine: &Machine, start: Start, wish: Wish) -> Mend {
    let needed = machine.files_open + wish.conns + costs::server_descriptors(start.workers);
    // The rest of the machine opens files, too.
    let needed = rounded(needed + needed / 10);
    Mend {
        possible: machine.power.sysctl,
        text: format!(
            "All processes of the machine may have {} files open, {} are",
            grouped(machine.file_max.unwrap_or(0)),
            grouped(machine.files_open)
        ),
        sysctls: vec![Sysctl::new("fs.file-max", needed)],
        ..Mend::default()
    }
}

fn conntrack(machine: &Machine, wish: Wish) -> Mend {
    let used = machine.conntrack.map_or(0, |conntrack| conntrack.count);
    // Closed connections keep their entries for minutes.
    let needed = rounded((used + wish.conns) * 5 / 4);
    Mend {
        possible: machine.power.sysctl,
        text:
            "The firewall keeps an entry for each connection, and drops packets of new ones when \
               its table is full (or exempt the port: nft … notrack)"
                .to_owned(),
        sysctls: vec![
            Sysctl::new("net.netfilter.nf_conntrack_buckets", needed / 4),
            Sysctl::new("net.netfilter.nf_conntrack_max", needed),
        ],
        ..Mend::default()
    }
}

fn memory(machine: &Machine, start: Start, limit: &Limit, wish: Wish) -> Mend {
    let needed = bytes_for(machine, start, wish.conns, wish.tls);
    let helps = if needed < machine.memory_bytes {
        "stop what else uses memory"
    } else {
        "it takes a machine with more memory, or several machines"
    };
    let text = format!(
        "{} are needed, {} of {} are available: {helps}, or want no more than {}",
        bytes(needed),
        bytes(machine.memory_available),
        bytes(machine.memory_bytes),
        grouped(limit.holds(wish.tls)),
    );
    Mend { text, ..Mend::default() }
}

fn group_memory(machine: &Machine, start: Start, wish: Wish) -> Mend {
    let Some(group) = &machine.group else { return Mend::default() };
    let needed =
        (group.used + bytes_for(machine, start, wish.conns, wish.tls)).next_multiple_of(1 << 20);
    let (possible, command) = widen_group(machine, group, needed);
    let whose = if possible { "the group" } else { "the container, from outside" };
    Mend {
        possible: possible && needed <= machine.memory_bytes,
        text: format!(
            "{} are needed, {} leaves {}: give {whose} more{}",
            bytes(needed),
            group.file,
            bytes(group.bytes),
            if needed <= machine.memory_bytes { "" } else { ", on a machine that has as much" },
        ),
        commands: vec![command],
        ..Mend::default()
    }
}

/// How a group gets `needed` bytes, and whether that is done in here.
fn widen_group(machine: &Machine, group: &Group, needed: u64) -> (bool, String) {
    let mut folders = group.file.rsplit('/').skip(1);
    let sudo = sudo(machine);
    match folders.next() {
        // At the mount point lies a container's own group; a machine's has no such file.
        Some("cgroup" | "memory") => {
            (false, format!("docker update --memory={needed} --memory-swap={needed} CONTAINER"))
        }
        Some(unit) if unit.ends_with(".service") || unit.ends_with(".slice") => {
            (true, format!("{sudo}systemctl set-property {unit} MemoryMax={needed}"))
        }
        _ => (true, format!("echo {needed} | {sudo}tee {}", group.file)),
    }
}

/// What precedes a command that takes root.
pub(super) fn sudo(machine: &Machine) -> &'static str {
    if machine.power.root { "" } else { "sudo " }
}

fn rounded(number: u64) -> u64 {
    number.next_multiple_of(1024)
}
