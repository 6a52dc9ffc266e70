//! The program as a child process: started, read, signalled, and measured through `/proc`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::backends;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// The last line that the program says before it waits for peers.
const LAST_LINE: &str = "try it, ";

/// A server of the program; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// What it said up to the moment it was ready.
    pub(crate) announcement: Vec<String>,
    lines: Receiver<String>,
    /// What it has said on standard error so far.
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts it on a free port.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_by(echo_command(flags))
    }

    /// Starts `longwire serve`, both ports free ones.
    pub(crate) fn serve(flags: &[&str]) -> Self {
        Self::start_by(serve_command(flags))
    }

    /// Starts it by a command that runs it.
    pub(crate) fn start_by(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&stderr);
        let stderr_reader = thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                *said.lock().unwrap() += &(line + "\n");
            }
        });
        let mut announcement = Vec::new();
        while announcement.last().is_none_or(|line: &String| !line.starts_with(LAST_LINE)) {
            let line = lines.recv_timeout(PATIENCE);
            announcement.push(line.expect("the program says where it listens"));
        }
        let addr = listening(&announcement)[0];
        Self { child, addr, announcement, lines, stderr, stderr_reader: Some(stderr_reader) }
    }

    /// What it said behind this word.
    pub(crate) fn announced(&self, word: &str) -> &str {
        let line = self.announcement.iter().find(|line| line.trim_start().starts_with(word));
        line.unwrap().trim_start()[word.len()..].trim_start()
    }

    /// Where it listens for administration.
    pub(crate) fn admin(&self) -> SocketAddr {
        let url = self.announced("administration on http://");
        url.strip_suffix('/').unwrap().parse().unwrap()
    }

    /// The ports where it listens, in the order of its announcement.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        listening(&self.announcement)
    }

    /// The next line that it says on standard output.
    pub(crate) fn next_line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program has something to say")
    }

    /// Lines that it has said on standard error so far.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.stderr.lock().unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end; how it ended, and what it said after the announcement on standard output
    /// and on standard error.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>, String) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "the program does not end");
            thread::sleep(Duration::from_millis(2));
        };
        self.stderr_reader.take().unwrap().join().unwrap();
        let stderr = self.stderr.lock().unwrap().clone();
        (status, self.lines.iter().collect(), stderr)
    }

    /// Descriptors it has open.
    pub(crate) fn fd_count(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Threads it has, those of the kernel that work for it included.
    pub(crate) fn thread_count(&self) -> usize {
        fs::read_dir(self.proc("task")).unwrap().count()
    }

    /// Bytes of memory it has.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// CPU time of all its threads.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(self.proc("task")).unwrap();
        let nanos = tasks.map(|task| {
            let schedstat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            schedstat.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn proc(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(announcement: &[String]) -> Vec<SocketAddr> {
    let places = announcement.iter().filter_map(|line| line.strip_prefix("listening on "));
    let places = places.map(|place| place.strip_suffix(" (TLS)").unwrap_or(place));
    // Those of the Unix domain are no ports.
    places.filter_map(|place| place.parse().ok()).collect()
}

/// `longwire` with these arguments.
pub(crate) fn longwire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    command.args(args).env_remove("LONGWIRE_LOG").env_remove("LONGWIRE_ADMIN_TOKEN");
    command.env_remove("LONGWIRE_BROKER");
    command
}

/// `longwire echo` on a free port, with these flags; it has nothing to warn of.
pub(crate) fn echo_command(flags: &[&str]) -> Command {
    let mut command = any_command(flags);
    command.arg("--allow-any-origin");
    command
}

/// `longwire echo` on a free port, with these flags and no others.
pub(crate) fn any_command(flags: &[&str]) -> Command {
    let mut command = longwire(&["echo", "--listen", "127.0.0.1:0"]);
    command.args(flags);
    drain_at_once(&mut command, flags);
    command
}

/// `longwire serve` on free ports, with these flags; it has nothing to warn of.
pub(crate) fn serve_command(flags: &[&str]) -> Command {
    let mut command = longwire(&["serve", "--listen", "127.0.0.1:0", "--allow-any-origin"]);
    command.args(flags);
    drain_at_once(&mut command, flags);
    if !flags.contains(&"--admin") {
        command.args(["--admin", "127.0.0.1:0"]);
    }
    command
}

/// A test has a few connections and no storm to fear, unless it says so.
fn drain_at_once(command: &mut Command, flags: &[&str]) {
    if !flags.contains(&"--drain-time") {
        command.args(["--drain-time", "0s"]);
    }
}

/// Runs a command to its end, which must come soon.
pub(crate) fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("the program does not end: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

/// The program must not start: exit code 2, and one line that holds all of `words`.
pub(crate) fn expect_refusal(command: Command, words: &[&str]) {
    let described = format!("{command:?}");
    let output = run(command);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{described}: {stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{described}");
    assert!(stderr.starts_with("longwire: "), "{described}: {stderr}");
    assert_eq!(stderr.matches('\n').count(), 1, "{described}: one line, not {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{described}: `{word}` is not in {stderr}");
    }
}

/// Runs `check` on each backend that this machine has, on all of them at the same time.
pub(crate) fn on_every_backend(check: fn(&'static str)) {
    backends::run_on_each("epoll", has_io_uring().then_some("io_uring"), check);
}

/// Whether io_uring may be used here.
pub(crate) fn has_io_uring() -> bool {
    backends::has_io_uring(|| {
        let program = Program::start(&["--workers", "1"]);
        let backend = program.announced("backend");
        (!backend.starts_with("io_uring")).then(|| backend.to_owned())
    })
}

/// Polls until it is so; tells the `state` if it does not come to that.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool, state: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}: {}", state());
        thread::sleep(Duration::from_millis(2));
    }
}
