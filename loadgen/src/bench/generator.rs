//! Runs one cell: this program again, with the server to start and a file for the report.
//!
//! The command line is the one a user would type, so whatever a cell shows can be repeated.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::report::Report;
use crate::show;

/// After this a cell hangs, and is ended.
const CELL_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long a cell that was told to end may take to stop its server.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at a cell.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What one cell does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// For the shell, with its port.
    pub(super) command: String,
    pub(super) url: String,
    /// Scenario and flags.
    pub(super) arguments: Vec<String>,
}

/// Why there is no report of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The user ended the run.
    Interrupted,
    /// It could not be run: one line.
    Failed(String),
}

/// Tells whether the user wants the run to end.
pub(super) type Interrupted<'a> = &'a (dyn Fn() -> bool + Sync);

/// Something that runs cells.
pub(super) trait Generator {
    /// Runs one to its end.
    fn run(&self, job: &Job, interrupted: Interrupted<'_>) -> Result<Report, Missing>;
}

/// A program that takes the command line of loadgen.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
}

impl Program {
    /// The one that is running.
    pub(super) fn this() -> Result<Self, String> {
        let path = std::env::current_exe()
            .map_err(|error| format!("cannot find this program, to run it again: {error}"))?;
        Ok(Self { path })
    }
}

impl Generator for Program {
    fn run(&self, job: &Job, interrupted: Interrupted<'_>) -> Result<Report, Missing> {
        let report = ReportFile::new();
        let (scenario, flags) = job.arguments.split_first().unzip();
        let mut child = Command::new(&self.path)
            .args(scenario)
            .arg(&job.url)
            .args(flags.unwrap_or_default())
            .args(["--server", &job.command, "--quiet", "--json"])
            .arg(&report.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C comes here alone, and is passed on once.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                Missing::Failed(format!("cannot run {}: {error}", self.path.display()))
            })?;
        let said = Said::read(&mut child);
        let ended = wait(&mut child, interrupted);
        let said = said.last_line();
        ended?;
        // With exit code 1 there is a report, too: it tells of wrong answers.
        show::json::read(&report.path).map_err(|error| Missing::Failed(said.unwrap_or(error)))
    }
}

/// Waits until it ends by itself, or ends it.
fn wait(child: &mut Child, interrupted: Interrupted<'_>) -> Result<(), Missing> {
    let begun = Instant::now();
    let failed = |error: std::io::Error| Missing::Failed(format!("cannot wait for it: {error}"));
    loop {
        if child.try_wait().map_err(failed)?.is_some() {
            // What was ended early by a signal that reached both is not a figure.
            return if interrupted() { Err(Missing::Interrupted) } else { Ok(()) };
        }
        if interrupted() {
            stop(child);
            return Err(Missing::Interrupted);
        }
        if begun.elapsed() > CELL_TIMEOUT {
            stop(child);
            let minutes = CELL_TIMEOUT.as_secs() / 60;
            return Err(Missing::Failed(format!("it did not end within {minutes} minutes")));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Asks it to end, so that it stops its server; kills it if it does not.
fn stop(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let begun = Instant::now();
    while begun.elapsed() < STOP_TIMEOUT {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What a cell writes to stderr, read all the time so that it never blocks.
struct Said {
    reader: Option<thread::JoinHandle<String>>,
}

impl Said {
    fn read(child: &mut Child) -> Self {
        let reader = child.stderr.take().and_then(|mut stderr| {
            let read = move || {
                let mut bytes = Vec::new();
                let _ = stderr.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            };
            thread::Builder::new().name("stderr".to_owned()).spawn(read).ok()
        });
        Self { reader }
    }

    /// The last line with anything in it, without the name of the program in front.
    fn last_line(self) -> Option<String> {
        let text = self.reader?.join().ok()?;
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(show::printable(line.strip_prefix("loadgen: ").unwrap_or(line)))
    }
}

/// A file that nobody else has, removed when dropped.
struct ReportFile {
    path: PathBuf,
}

impl ReportFile {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("loadgen-bench-{}-{number}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        remove(&path);
        Self { path }
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    // It may never have been written.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::show::sample;

    /// A program that behaves as the script does; `$report` is the file after `--json`.
    struct Fake {
        program: Program,
    }

    impl Fake {
        fn new(name: &str, script: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fake-{name}-{}", std::process::id()));
            let last = "for report in \"$@\"; do :; done";
            fs::write(&path, format!("#!/bin/sh\n{last}\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            Self { program: Program { path } }
        }

        fn run(&self) -> Result<Report, Missing> {
            self.run_with(&|| false)
        }

        fn run_with(&self, interrupted: Interrupted<'_>) -> Result<Report, Missing> {
            let arguments = ["echo", "--size", "20"].map(str::to_owned).to_vec();
            let url = "ws://127.0.0.1:7/x".to_owned();
            self.program
                .run(&Job { command: "serve {x} 'y z'".to_owned(), url, arguments }, interrupted)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            remove(&self.program.path);
        }
    }

    fn failure(result: Result<Report, Missing>) -> String {
        match result {
            Err(Missing::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn program_is_called_as_a_user_would_and_its_report_is_read_even_with_status_1() {
        let json = show::json::render(&sample::report()).unwrap();
        let seen = std::env::temp_dir().join(format!("fake-seen-{}", std::process::id()));
        let script = format!(
            "printf '%s\\n' \"$@\" >{}\ncat >\"$report\" <<'END'\n{json}END\nexit 1",
            seen.display()
        );
        let report = Fake::new("good", &script).run().unwrap();
        assert_eq!(report.figure("p99"), sample::report().figure("p99"));
        let arguments = fs::read_to_string(&seen).unwrap();
        remove(&seen);
        let (arguments, file) = arguments.trim_end().rsplit_once('\n').unwrap();
        let expected =
            "echo\nws://127.0.0.1:7/x\n--size\n20\n--server\nserve {x} 'y z'\n--quiet\n--json";
        assert_eq!(arguments, expected);
        assert!(!Path::new(file).exists(), "{file} was left behind");
    }

    #[test]
    fn program_that_fails_is_quoted_with_its_last_line() {
        let script = "echo first >&2; echo 'loadgen: something listens there already' >&2; exit 2";
        assert_eq!(failure(Fake::new("bad", script).run()), "something listens there already");
        let reason = failure(Fake::new("mute", "exit 2").run());
        assert!(reason.starts_with("cannot read "), "{reason}");
        let missing = Program { path: PathBuf::from("/nonexistent/loadgen") };
        let fake = Fake { program: missing };
        assert!(failure(fake.run()).starts_with("cannot run /nonexistent/loadgen: "));
    }

    #[test]
    fn interrupted_cell_is_stopped_and_gives_no_report() {
        let begun = Instant::now();
        let interrupted = || begun.elapsed() > Duration::from_millis(200);
        let fake = Fake::new("slow", "trap 'exit 0' TERM\nwhile :; do sleep 0.02; done");
        assert_eq!(fake.run_with(&interrupted).unwrap_err(), Missing::Interrupted);
        assert!(begun.elapsed() < STOP_TIMEOUT);
    }
}
