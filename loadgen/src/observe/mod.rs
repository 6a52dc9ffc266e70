//! Sees the server, and this program, from outside: CPU time, memory, threads, descriptors.
//!
//! A server is a process and all its descendants, because a shell or `npm exec` may stand around
//! the real one. It is never slowed down more than needed: the costly questions are asked only in
//! [`Server::snapshot`], before and after what is measured; [`Server::sample`] is for the timeline.
//! What the kernel does not tell is `None` and gives no figure, never a zero.

mod child;
pub(crate) mod kernel;
mod listener;
pub(crate) mod own;
pub(crate) mod process;

pub(crate) use child::StartError;
pub(crate) use own::Own;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::child::Child;
use self::process::{CpuTime, Usage};
use crate::report::{Better, Figure, Unit, count_as_f64};
use crate::units;

/// The server that is observed; stopped when dropped if it was started here.
#[derive(Debug)]
pub(crate) struct Server {
    pid: u32,
    /// With the PID, its identity: PIDs are used again.
    started_ticks: u64,
    child: Option<Child>,
    /// The process and its descendants at the last snapshot.
    family: Mutex<Vec<u32>>,
}

/// All that can be seen of the server and the kernel at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    pub(crate) usage: Usage,
    pub(crate) kernel: kernel::Snapshot,
}

/// The part that is cheap enough to be asked every second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) cpu: CpuTime,
    pub(crate) rss_bytes: u64,
}

/// Why a process cannot be observed: one line.
#[derive(Debug)]
pub(crate) enum ObserveError {
    /// No process has this PID.
    NoProcess(u32),
    /// It belongs to another user.
    Foreign { pid: u32, uid: u32 },
    /// It belongs to this user, and yet the kernel does not show it.
    Hidden(u32),
    /// The kernel's answer was of no use.
    Unreadable { pid: u32, error: io::Error },
    /// It could not be started.
    Start(StartError),
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess(pid) => write!(
                f,
                "there is no process {pid} that this user may see; check --pid (`ss -ltnp` shows \
                 who listens)"
            ),
            Self::Foreign { pid, uid } => write!(
                f,
                "process {pid} belongs to another user (uid {uid}), and only that user or root may \
                 see its memory and descriptors; run loadgen with sudo, or leave out --pid"
            ),
            Self::Hidden(pid) => write!(
                f,
                "process {pid} does not let itself be inspected (it has privileges that this user \
                 has not); run loadgen with sudo, or leave out --pid"
            ),
            Self::Unreadable { pid, error } => {
                write!(f, "process {pid} could not be observed: {error}; leave out --pid")
            }
            Self::Start(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ObserveError {}

impl Server {
    /// Observes a process that runs already.
    pub(crate) fn of_pid(pid: u32) -> Result<Self, ObserveError> {
        let server = Self::of(pid, None)?;
        match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(_) => Ok(server),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let owner = fs::metadata(format!("/proc/{pid}")).map(|metadata| metadata.uid());
                let user = rustix::process::geteuid().as_raw();
                // A process with privileges shows root as the owner of its files in `/proc`.
                Err(match owner {
                    Ok(uid) if uid != user && uid != 0 => ObserveError::Foreign { pid, uid },
                    Ok(0) if real_uid(pid) == Some(0) => ObserveError::Foreign { pid, uid: 0 },
                    _ => ObserveError::Hidden(pid),
                })
            }
            Err(error) => Err(ObserveError::Unreadable { pid, error }),
        }
    }

    /// Starts a server by a shell command, and returns when `ready` accepts connections.
    ///
    /// Waits up to 10 s. Dropping it stops the server: SIGTERM, and SIGKILL after 5 s.
    pub(crate) fn start(command: &str, ready: SocketAddr) -> Result<Self, ObserveError> {
        let child = Child::start(command, ready).map_err(ObserveError::Start)?;
        Self::of(child.pid(), Some(child))
    }

    /// PID of the observed process; the shell's if it was started here.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// A remark if no observed process seems to have the socket that listens on `addr`: of a server
    /// in a container, or with a mistyped PID, every figure would be somebody else's.
    ///
    /// To be asked before there are connections; it looks at each descriptor.
    pub(crate) fn doubt(&self, addr: SocketAddr) -> Option<String> {
        let family = self.family.lock().unwrap_or_else(PoisonError::into_inner);
        (listener::is_among(&family, addr) == Some(false)).then(|| {
            format!(
                "process {} and its children do not seem to have the socket that listens on \
                 {addr}: if another process serves it (in a container, for example), the \
                 figures of the server are wrong",
                self.pid
            )
        })
    }

    /// One line if the server has ended while it should run.
    pub(crate) fn ended(&self) -> Option<String> {
        if let Some(child) = &self.child {
            let status = child.ended()?;
            let said = child.said().map_or_else(String::new, |said| format!("; it said: {said}"));
            return Some(format!("the server ended during the run ({status}){said}"));
        }
        let runs = process::stat(self.pid)
            .is_ok_and(|stat| stat.started_ticks == self.started_ticks && stat.state != 'Z');
        (!runs).then(|| format!("the server (process {}) ended during the run", self.pid))
    }

    /// Everything, with processes that have come since; takes some milliseconds, and walks through
    /// the page tables of the server.
    pub(crate) fn snapshot(&self) -> io::Result<Snapshot> {
        self.check_runs()?;
        // The kernel first: looking at processes creates kernel objects of its own.
        let kernel = kernel::snapshot()?;
        let group = self.child.as_ref().map(Child::pid);
        let family = process::family(&process::all()?, self.pid, group);
        let usage = process::usage(&family)?;
        *self.family.lock().unwrap_or_else(PoisonError::into_inner) = family;
        Ok(Snapshot { at: Instant::now(), usage, kernel })
    }

    /// CPU time and resident memory, of the processes that the last snapshot found.
    pub(crate) fn sample(&self) -> io::Result<Sample> {
        self.check_runs()?;
        let family = self.family.lock().unwrap_or_else(PoisonError::into_inner);
        let (cpu, rss_bytes) = process::light_usage(&family)?;
        Ok(Sample { at: Instant::now(), cpu, rss_bytes })
    }

    fn of(pid: u32, child: Option<Child>) -> Result<Self, ObserveError> {
        let stat = process::stat(pid).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ObserveError::NoProcess(pid),
            _ => ObserveError::Unreadable { pid, error },
        })?;
        if stat.state == 'Z' {
            return Err(ObserveError::NoProcess(pid));
        }
        let group = child.as_ref().map(Child::pid);
        let all = process::all().map_err(|error| ObserveError::Unreadable { pid, error })?;
        let family = Mutex::new(process::family(&all, pid, group));
        Ok(Self { pid, started_ticks: stat.started_ticks, child, family })
    }

    fn check_runs(&self) -> io::Result<()> {
        self.ended().map_or(Ok(()), |line| Err(io::Error::new(io::ErrorKind::NotFound, line)))
    }
}

impl Sample {
    /// CPU used since an earlier sample; 100 is one core. `None` without time in between.
    pub(crate) fn cpu_percent_since(&self, earlier: &Self) -> Option<f64> {
        percent(earlier.cpu, self.cpu, self.at.duration_since(earlier.at))
    }
}

/// What was done between two snapshots; 0 for what does not apply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Messages answered or delivered.
    pub(crate) messages: u64,
    /// Connections opened, where opening them is the work that is measured.
    pub(crate) conns: u64,
}

/// What work cost: CPU per message or connection, from the start of the measured part to its end.
pub(crate) fn work_figures(start: &Snapshot, end: &Snapshot, work: Work) -> Vec<Figure> {
    let (before, after) = (start.usage.cpu, end.usage.cpu);
    let micros = after.total.saturating_sub(before.total).as_secs_f64() * 1e6;
    let mut figures = Vec::new();
    let costs =
        [("server_cpu_us_per_message", work.messages), ("server_cpu_us_per_conn", work.conns)];
    for (name, count) in costs.into_iter().filter(|(_, count)| *count > 0) {
        figures.push(figure(name, micros / count_as_f64(count), Unit::Micros, Better::Lower));
    }
    if let Some(value) = percent(before, after, end.at.duration_since(start.at)) {
        figures.push(figure("server_cpu_percent", value, Unit::Percent, Better::Neither));
    }
    figures
}

/// What connections cost: memory from before the first one to when `conns` of them are open.
///
/// Figures of the kernel are of the machine: on loopback they hold both ends of each connection.
pub(crate) fn memory_figures(empty: &Snapshot, full: &Snapshot, conns: u64) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut per_conn = |name, before: Option<u64>, after: Option<u64>| {
        if let (Some(before), Some(after), 1..) = (before, after, conns) {
            // Less memory than before is noise, and is shown as what it is.
            let value = (count_as_f64(after) - count_as_f64(before)) / count_as_f64(conns);
            figures.push(figure(name, value, Unit::Bytes, Better::Lower));
        }
    };
    let (before, after) = (&empty.usage, &full.usage);
    per_conn("server_rss_bytes_per_conn", Some(before.rss_bytes), Some(after.rss_bytes));
    per_conn("server_pss_bytes_per_conn", before.pss_bytes, after.pss_bytes);
    let (before, after) = (&empty.kernel, &full.kernel);
    if before.slab.from == after.slab.from {
        let (before, after) = (Some(before.slab.bytes), Some(after.slab.bytes));
        per_conn("kernel_slab_bytes_per_conn", before, after);
    }
    per_conn("kernel_sock_bytes_per_conn", before.tcp_bytes, after.tcp_bytes);
    let threads = count_as_f64(full.usage.threads);
    figures.push(figure("server_threads", threads, Unit::Count, Better::Neither));
    if let Some(count) = full.usage.descriptors {
        let count = count_as_f64(count);
        figures.push(figure("server_descriptors", count, Unit::Count, Better::Neither));
    }
    figures
}

/// What a reader of the figures must know of them.
pub(crate) fn remarks(empty: &Snapshot, full: &Snapshot, target_is_here: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if full.usage.cpu.in_ticks {
        remarks.push(
            "server CPU time came in ticks of 10 ms, because its CPU clock could not be read: \
             short runs are imprecise"
                .to_owned(),
        );
    }
    let (before, after) = (empty.usage.processes, full.usage.processes);
    if before != after {
        remarks.push(format!(
            "the server had {before} processes at first and {after} at the end; memory per \
             connection holds that difference"
        ));
    }
    let ends = if target_is_here { "both ends of each connection" } else { "our end only" };
    let from = full.kernel.slab.from.describe();
    let sockets = match (empty.kernel.tcp_sockets, full.kernel.tcp_sockets) {
        (Some(before), Some(after)) if after > before => {
            format!(", {} TCP sockets", units::count(after - before))
        }
        _ => String::new(),
    };
    remarks.push(format!("kernel memory is of {ends}{sockets}; slab bytes are from {from}"));
    remarks
}

fn percent(before: CpuTime, after: CpuTime, passed: Duration) -> Option<f64> {
    let used = after.total.saturating_sub(before.total).as_secs_f64();
    (!passed.is_zero()).then(|| 100.0 * used / passed.as_secs_f64())
}

fn figure(name: &str, value: f64, unit: Unit, better: Better) -> Figure {
    Figure { name: name.to_owned(), value, unit, better }
}

fn real_uid(pid: u32) -> Option<u64> {
    process::number_after(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "Uid:")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::child::tests::{free_addr, http_server};
    use super::kernel::{Slab, SlabSource};
    use super::*;

    fn snapshot(at: Instant, cpu_us: u64, bytes: u64) -> Snapshot {
        let cpu = CpuTime { total: Duration::from_micros(cpu_us), in_ticks: false };
        let usage = Usage {
            cpu,
            rss_bytes: bytes,
            pss_bytes: Some(bytes / 2),
            threads: 3,
            descriptors: Some(9),
            processes: 1,
        };
        let slab = Slab { bytes: bytes * 10, from: SlabSource::Slabinfo };
        let kernel = kernel::Snapshot { slab, tcp_bytes: Some(4096), tcp_sockets: Some(1) };
        Snapshot { at, usage, kernel }
    }

    fn value(figures: &[Figure], name: &str) -> Option<f64> {
        figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    #[test]
    fn work_is_cpu_per_message_and_share_of_a_core() {
        let now = Instant::now();
        let start = snapshot(now, 1_000_000, 0);
        let end = snapshot(now + Duration::from_secs(2), 1_500_000, 0);
        let figures = work_figures(&start, &end, Work { messages: 100_000, conns: 1_000 });
        assert_eq!(value(&figures, "server_cpu_us_per_message"), Some(5.0));
        assert_eq!(value(&figures, "server_cpu_us_per_conn"), Some(500.0));
        assert_eq!(value(&figures, "server_cpu_percent"), Some(25.0));
        assert_eq!(figures[0].name, "server_cpu_us_per_message");
        let idle = work_figures(&start, &end, Work::default());
        assert_eq!(value(&idle, "server_cpu_us_per_message"), None);
    }

    #[test]
    fn memory_is_the_difference_per_connection() {
        let now = Instant::now();
        let (empty, full) = (snapshot(now, 0, 1_000_000), snapshot(now, 0, 3_000_000));
        let figures = memory_figures(&empty, &full, 10_000);
        assert_eq!(value(&figures, "server_rss_bytes_per_conn"), Some(200.0));
        assert_eq!(value(&figures, "server_pss_bytes_per_conn"), Some(100.0));
        assert_eq!(value(&figures, "kernel_slab_bytes_per_conn"), Some(2000.0));
        assert_eq!(value(&figures, "kernel_sock_bytes_per_conn"), Some(0.0));
        assert_eq!(value(&figures, "server_threads"), Some(3.0));
        assert_eq!(value(&figures, "server_descriptors"), Some(9.0));
        let shrunk = memory_figures(&full, &empty, 10_000);
        assert_eq!(value(&shrunk, "server_rss_bytes_per_conn"), Some(-200.0));
    }

    #[test]
    fn what_is_not_known_gives_no_figure() {
        let now = Instant::now();
        let empty = snapshot(now, 0, 1_000_000);
        let mut full = snapshot(now, 0, 3_000_000);
        full.usage.pss_bytes = None;
        full.usage.descriptors = None;
        full.kernel.slab.from = SlabSource::Meminfo;
        full.kernel.tcp_bytes = None;
        let names: Vec<String> =
            memory_figures(&empty, &full, 10).into_iter().map(|figure| figure.name).collect();
        assert_eq!(names, ["server_rss_bytes_per_conn", "server_threads"]);
        assert_eq!(memory_figures(&empty, &full, 0).len(), 1);
        assert!(work_figures(&empty, &full, Work::default()).is_empty());
    }

    #[test]
    fn every_figure_has_a_name_and_unit_that_reports_know() {
        let now = Instant::now();
        let (empty, full) = (snapshot(now, 0, 0), snapshot(now + Duration::from_secs(1), 1, 1));
        let mut figures = work_figures(&empty, &full, Work { messages: 1, conns: 1 });
        figures.extend(memory_figures(&empty, &full, 1));
        assert_eq!(figures.len(), 9);
        for figure in figures {
            assert_eq!(crate::report::unit_of(&figure.name), Some(figure.unit), "{}", figure.name);
        }
    }

    #[test]
    fn remarks_say_where_kernel_memory_comes_from_and_what_changed() {
        let now = Instant::now();
        let empty = snapshot(now, 0, 0);
        let mut full = empty;
        assert_eq!(remarks(&empty, &full, true).len(), 1);
        assert!(remarks(&empty, &full, true)[0].contains("both ends"));
        full.usage.processes = 4;
        full.usage.cpu.in_ticks = true;
        full.kernel.slab.from = SlabSource::Meminfo;
        full.kernel.tcp_sockets = Some(10_001);
        let all = remarks(&empty, &full, false).join("\n");
        for words in
            ["ticks", "1 processes at first and 4", "our end only, 10,000 TCP", "/proc/meminfo"]
        {
            assert!(all.contains(words), "{all}");
        }
    }

    #[test]
    fn started_server_is_observed_while_it_works_and_its_end_is_told() {
        let addr = free_addr();
        let server = Server::start(&http_server(addr), addr).unwrap();
        let start = server.snapshot().unwrap();
        let first = server.sample().unwrap();
        for _ in 0..200 {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"GET /nothing HTTP/1.0\r\n\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        let (end, second) = (server.snapshot().unwrap(), server.sample().unwrap());
        let figures = work_figures(&start, &end, Work { messages: 200, conns: 0 });
        let cost = value(&figures, "server_cpu_us_per_message").unwrap();
        assert!((20.0..100_000.0).contains(&cost), "{cost}");
        assert!(second.cpu_percent_since(&first).unwrap() > 0.5);
        // The interpreter has some 15 MB, so the family holds it and not only the shell.
        assert!(end.usage.rss_bytes > 5 << 20 && second.rss_bytes > 5 << 20, "{end:?}");
        assert_eq!(server.ended(), None);
        assert_eq!(server.doubt(addr), None);
        let stranger = Server::of_pid(std::process::id()).unwrap();
        stranger.family.lock().unwrap().truncate(1);
        assert!(stranger.doubt(addr).unwrap().contains("the figures of the server are wrong"));

        let family = server.family.lock().unwrap().clone();
        for pid in family {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        while server.ended().is_none() {}
        let line = server.ended().unwrap();
        assert!(line.starts_with("the server ended during the run (signal: 9"), "{line}");
        assert_eq!(server.snapshot().unwrap_err().to_string(), line);
    }

    #[test]
    fn own_process_can_be_observed_by_its_pid() {
        let server = Server::of_pid(std::process::id()).unwrap();
        assert_eq!(server.pid(), std::process::id());
        assert!(server.snapshot().unwrap().usage.descriptors.unwrap() >= 3);
        assert_eq!(server.ended(), None);
    }

    #[test]
    fn unknown_pid_is_one_clear_line() {
        let line = Server::of_pid(u32::MAX >> 2).unwrap_err().to_string();
        assert!(line.starts_with("there is no process 1073741823") && !line.contains('\n'));
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_taken_for_the_server() {
        let mut server = Server::of_pid(std::process::id()).unwrap();
        server.started_ticks += 1;
        assert!(server.ended().unwrap().contains("ended during the run"));
        assert!(server.sample().is_err());
    }

    #[test]
    fn process_of_another_user_is_named_as_such() {
        let line = ObserveError::Foreign { pid: 7, uid: 33 }.to_string();
        assert!(line.contains("another user (uid 33)") && line.contains("sudo"));
        // Only an ordinary user meets one: the first process of the machine is root's.
        if !rustix::process::geteuid().is_root() {
            let error = Server::of_pid(1).unwrap_err();
            assert!(matches!(error, ObserveError::Foreign { .. } | ObserveError::NoProcess(_)));
        }
    }
}
