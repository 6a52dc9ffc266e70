//! A server that the program starts, waits for and stops.
//!
//! It gets a process group of its own, so that whatever a shell or `npm exec` puts around the real
//! server is stopped with it, and a Ctrl-C at the terminal reaches only the generator, which then
//! stops the server by dropping this. A generator that is killed leaves its server behind.

use std::fmt;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::process;

/// How long a server may take until it accepts connections.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to stop by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server of before may still seem to accept: the kernel takes apart what a process
/// leaves behind after its end.
const TAKEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of the end of stderr is kept.
const TAIL_BYTES_MAX: usize = 8 * 1024;
/// How much of a line of stderr is repeated in an error.
const LINE_CHARS_MAX: usize = 300;

/// A started server; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: Mutex<std::process::Child>,
    pid: u32,
    stderr: Tail,
}

/// Why a server could not be started: one line.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The shell itself could not be run.
    Shell(io::Error),
    /// There is a server already.
    Taken(SocketAddr),
    /// It ended before it accepted connections.
    Ended { status: ExitStatus, said: Option<String> },
    /// It runs, but nobody accepts there.
    NotReady { ready: SocketAddr, timeout: Duration, said: Option<String> },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(error) => {
                write!(f, "`sh`, which starts the server, could not run: {error}")
            }
            Self::Taken(ready) => write!(
                f,
                "something listens on {ready} already; stop it, or observe it with --pid instead \
                 of --server"
            ),
            Self::Ended { status, said } => {
                write!(f, "the server ended before it accepted connections ({status})")?;
                write_said(f, said.as_deref())
            }
            Self::NotReady { ready, timeout, said } => {
                let seconds = timeout.as_secs_f64();
                write!(
                    f,
                    "the server did not accept connections on {ready} within {seconds} s; check \
                     that its port is that of the URL"
                )?;
                write_said(f, said.as_deref())
            }
        }
    }
}

impl std::error::Error for StartError {}

impl Child {
    /// Starts `command` by the shell and waits until `ready` accepts connections.
    pub(crate) fn start(command: &str, ready: SocketAddr) -> Result<Self, StartError> {
        Self::start_within(command, ready, READY_TIMEOUT)
    }

    fn start_within(
        command: &str,
        ready: SocketAddr,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let begun = Instant::now();
        while accepts(ready) {
            if begun.elapsed() >= TAKEN_TIMEOUT {
                return Err(StartError::Taken(ready));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let child = Self::spawn(command).map_err(StartError::Shell)?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.ended() {
                return Err(StartError::Ended { status, said: child.said() });
            }
            if accepts(ready) {
                return Ok(child);
            }
            if begun.elapsed() >= timeout {
                return Err(StartError::NotReady { ready, timeout, said: child.said() });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// PID of the shell, which is the process group, too.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        lock(&self.process).try_wait().ok().flatten()
    }

    /// What it said last on stderr.
    pub(crate) fn said(&self) -> Option<String> {
        self.stderr.last_line()
    }

    fn spawn(command: &str) -> io::Result<Self> {
        // A shell, and no splitting of our own: quotes, variables and `cd x && ./server` then mean
        // what they mean where the command was tried. Shells replace themselves by a single
        // command; where one does not, it is counted with the server and costs nothing when idle.
        let mut process = Command::new("sh")
            .args(["-c", command])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = Tail::read(process.stderr.take());
        let pid = process.id();
        Ok(Self { process: Mutex::new(process), pid, stderr })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // The group may be gone already.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether anything of the process group still runs. Zombies do not: where the first process
    /// of a container waits for nobody, they stay for ever.
    fn group_runs(&self) -> bool {
        let all = process::all().unwrap_or_default();
        all.iter().any(|(_, stat)| stat.group == self.pid && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Waits until the whole group has ended.
    fn wait_until_ended(&self, timeout: Duration) -> bool {
        let begun = Instant::now();
        loop {
            let leader_ended = self.ended().is_some();
            if leader_ended && !self.group_runs() {
                return true;
            }
            if begun.elapsed() >= timeout {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A leader that was waited for may have left its id to somebody else, unless its group
        // still has members, which keep the id from being used again.
        if self.ended().is_some() && !self.group_runs() {
            return;
        }
        self.signal(Signal::TERM);
        if !self.wait_until_ended(STOP_TIMEOUT) {
            self.signal(Signal::KILL);
            self.wait_until_ended(Duration::from_secs(1));
        }
    }
}

/// The end of what a process writes to stderr, read all the time so that it never blocks.
#[derive(Debug)]
struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Tail {
    fn read(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = stream.and_then(|mut stream| {
            thread::Builder::new()
                .name("stderr".to_owned())
                .spawn(move || {
                    let mut chunk = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut chunk) {
                        let mut kept = lock(&kept);
                        kept.extend_from_slice(&chunk[..count]);
                        let surplus = kept.len().saturating_sub(TAIL_BYTES_MAX);
                        kept.drain(..surplus);
                    }
                })
                .ok()
        });
        Self { bytes, reader }
    }

    fn last_line(&self) -> Option<String> {
        // What an ended process wrote may still be in the pipe. A process that runs, or a
        // grandchild that has the pipe, keeps it open, hence the bound.
        let begun = Instant::now();
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
            && begun.elapsed() < Duration::from_millis(200)
        {
            thread::sleep(Duration::from_millis(5));
        }
        telling_line(&String::from_utf8_lossy(&lock(&self.bytes)))
    }
}

/// The last line that names an error, else the last line with anything in it.
///
/// Runtimes end with something else: node with its version, Rust with a hint about backtraces.
fn telling_line(text: &str) -> Option<String> {
    let lines = text.lines().map(printable);
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    let names_error = |line: &&String| {
        let line = line.to_ascii_lowercase();
        line.contains("error:") || line.contains("error ") || line.contains("panicked at")
    };
    lines.iter().rfind(names_error).or_else(|| lines.last()).cloned()
}

/// The line without escape sequences and control characters, and not too long.
fn printable(line: &str) -> String {
    let mut clean = String::new();
    let mut chars = line.trim().chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // A sequence ends with its first letter: `ESC [ 3 1 m`.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else if !char.is_control() {
            clean.push(char);
        }
    }
    if clean.chars().count() > LINE_CHARS_MAX {
        clean = clean.chars().take(LINE_CHARS_MAX).chain(['…']).collect();
    }
    clean
}

fn write_said(f: &mut fmt::Formatter<'_>, said: Option<&str>) -> fmt::Result {
    match said {
        Some(said) => write!(f, "; it said: {said}"),
        None => write!(f, "; it said nothing on stderr"),
    }
}

fn accepts(addr: SocketAddr) -> bool {
    // A free port in the range of local ports may connect to itself.
    TcpStream::connect_timeout(&addr, Duration::from_millis(500))
        .is_ok_and(|stream| stream.local_addr().ok() != Some(addr))
}

/// A thread that panicked with the lock leaves bytes or a child that are as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;

    use super::*;

    /// An address where nobody listens.
    pub(in super::super) fn free_addr() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// A small HTTP server on that address, and what it is asked to do before.
    pub(in super::super) fn http_server(addr: SocketAddr) -> String {
        format!("python3 -m http.server --bind 127.0.0.1 {} 2>/dev/null", addr.port())
    }

    fn runs(pid: u32) -> bool {
        process::stat(pid).is_ok_and(|stat| stat.state != 'Z')
    }

    #[test]
    fn server_is_ready_when_started_and_gone_when_dropped() {
        let addr = free_addr();
        let child = Child::start(&http_server(addr), addr).unwrap();
        assert!(accepts(addr) && child.ended().is_none());
        let (begun, pid) = (Instant::now(), child.pid());
        drop(child);
        // Not by its port: that may be another test's by now.
        assert!(!runs(pid));
        assert!(begun.elapsed() < STOP_TIMEOUT, "it was killed, not stopped");
    }

    #[test]
    fn server_behind_shells_is_stopped_with_them() {
        let addr = free_addr();
        let command = format!("true; sh -c '{}; true' & wait", http_server(addr));
        let child = Child::start(&command, addr).unwrap();
        let family = process::family(&process::all().unwrap(), child.pid(), Some(child.pid()));
        assert!(family.len() >= 3, "{family:?}");
        drop(child);
        assert!(family.iter().all(|pid| !runs(*pid)));
    }

    #[test]
    fn server_that_ignores_the_request_to_stop_is_killed() {
        let child =
            Child::spawn("trap '' TERM; echo ready >&2; while :; do sleep 0.05; done").unwrap();
        let pid = child.pid();
        while child.said().is_none() {}
        assert!(runs(pid));
        let begun = Instant::now();
        drop(child);
        assert!(begun.elapsed() >= STOP_TIMEOUT && !runs(pid));
    }

    #[test]
    fn server_that_dies_first_is_quoted_with_its_status() {
        let error =
            Child::start("echo 'Error: no such port' >&2; exit 3", free_addr()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server ended before it accepted connections (exit status: 3); it said: Error: no \
             such port"
        );
        let error = Child::start("exit 0", free_addr()).unwrap_err().to_string();
        assert!(error.ends_with("(exit status: 0); it said nothing on stderr"), "{error}");
        let error = Child::start("no-such-program-here", free_addr()).unwrap_err().to_string();
        assert!(error.contains("127") && error.contains("not found"), "{error}");
    }

    #[test]
    fn server_that_never_accepts_is_given_up_and_stopped() {
        let timeout = Duration::from_millis(300);
        let marker = "echo waiting >&2; sleep 30";
        let error = Child::start_within(marker, free_addr(), timeout).unwrap_err().to_string();
        assert!(error.contains("within 0.3 s") && error.ends_with("it said: waiting"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn taken_port_is_refused_before_anything_is_started() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Child::start("sleep 30", listener.local_addr().unwrap()).unwrap_err();
        assert!(matches!(error, StartError::Taken(_)));
        assert!(error.to_string().contains("--pid"));
    }

    #[test]
    fn port_that_is_about_to_become_free_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            thread::sleep(TAKEN_TIMEOUT / 4);
            drop(listener);
        });
        assert!(Child::start(&http_server(addr), addr).is_ok());
    }

    #[test]
    fn end_while_running_is_seen() {
        let child = Child::spawn("sleep 0.1; echo 'thread panicked at x' >&2; exit 9").unwrap();
        assert!(child.ended().is_none());
        while child.ended().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(child.ended().unwrap().code(), Some(9));
        assert_eq!(child.said().unwrap(), "thread panicked at x");
    }

    #[test]
    fn flood_on_stderr_neither_blocks_the_server_nor_fills_memory() {
        let child =
            Child::spawn("i=0; while [ $i -lt 40000 ]; do echo line $i >&2; i=$((i+1)); done")
                .unwrap();
        while child.ended().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(child.said().unwrap(), "line 39999");
        assert!(lock(&child.stderr.bytes).len() <= TAIL_BYTES_MAX);
    }

    #[test]
    fn telling_line_is_the_error_and_not_the_runtimes_last_words() {
        let node = "node:events:497\n      throw er;\n\nError: listen EADDRINUSE: 9001\n    at \
                    Server.x (node:net:1)\n  port: 9001\n}\n\nNode.js v20.11.0\n";
        assert_eq!(telling_line(node).unwrap(), "Error: listen EADDRINUSE: 9001");
        let python = "Traceback (most recent call last):\n  File x\nOSError: [Errno 98] in use\n";
        assert_eq!(telling_line(python).unwrap(), "OSError: [Errno 98] in use");
        assert_eq!(telling_line("one\n\x1b[31mtwo\x1b[0m\r\n\n").unwrap(), "two");
        assert_eq!(telling_line("\n  \n"), None);
        assert_eq!(telling_line(&"x".repeat(1000)).unwrap().chars().count(), LINE_CHARS_MAX + 1);
    }
}
