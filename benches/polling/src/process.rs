//! What the kernel is asked about processes: which core, how many descriptors, how much CPU time and
//! memory, how many TCP segments.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Descriptors beside those of the clients.
const DESCRIPTORS_RESERVED: u64 = 64;

/// CPU time of a process so far, over all its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) run_ns: u64,
    /// It could have run, but its core was taken by somebody else.
    pub(crate) waited_ns: u64,
}

/// Confines the calling thread, and those it starts, to one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let refused = |why: &dyn std::fmt::Display| {
        io::Error::other(format!(
            "cannot run on core {core}: {why}; name two other cores with --cores SERVER,CLIENTS"
        ))
    };
    if core >= CpuSet::MAX_CPU {
        return Err(refused(&"there is none of that number"));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| refused(&error))
}

/// Makes room for so many connections.
pub(crate) fn raise_descriptor_limit(clients: u64) -> io::Result<()> {
    let wanted = clients + DESCRIPTORS_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < wanted) {
        let clients_max = most.saturating_sub(DESCRIPTORS_RESERVED);
        return Err(io::Error::other(format!(
            "{clients} clients need {wanted} descriptors and this process may have {most}: give \
             --clients {clients_max} or fewer, or raise the limit with `ulimit -Hn {wanted}` as root"
        )));
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?)
}

/// CPU time of a process.
///
/// The kernel brings the figure of a running thread up to date once per tick, so it may be some
/// milliseconds short: nothing over the seconds of a measurement.
pub(crate) fn cpu(pid: u32) -> io::Result<Cpu> {
    let mut cpu = Cpu::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // A thread that ended between the two calls.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut fields = text.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(run)), Some(Ok(waited))) = (fields.next(), fields.next()) else {
            return Err(malformed(&path));
        };
        cpu.run_ns += run;
        cpu.waited_ns += waited;
    }
    Ok(cpu)
}

/// Resident bytes of a process.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path)?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .map(|kib: u64| kib * 1024)
        .ok_or_else(|| malformed(Path::new(&path)))
}

/// TCP segments sent so far by everybody in this network namespace. Over loopback both ends are
/// in it, so each segment of either direction is counted once.
pub(crate) fn tcp_segments() -> io::Result<u64> {
    let path = Path::new("/proc/net/snmp");
    segments_in(&fs::read_to_string(path)?).ok_or_else(|| malformed(path))
}

/// Two lines begin with `Tcp:`, the first with the names and the second with the figures.
fn segments_in(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, figures) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "OutSegs")?;
    figures.split_whitespace().nth(place)?.parse().ok()
}

fn malformed(path: &Path) -> io::Error {
    io::Error::other(format!("{} does not look as expected", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_segments_are_found_by_name() {
        let text = "Ip: Forwarding OutSegs\nIp: 1 2\nTcp: InSegs OutSegs RetransSegs\n\
                    Tcp: 10 20 30\nUdp: OutSegs\n";
        assert_eq!(segments_in(text), Some(20));
        assert_eq!(segments_in("Tcp: InSegs\nTcp: 1\n"), None);
    }

    #[test]
    fn own_process_has_cpu_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu(pid).unwrap().run_ns > 0);
        assert!(resident_bytes(pid).unwrap() > 4096);
        tcp_segments().unwrap();
    }
}
