//! Runs the cases: first makes sure that there is a WebSocket server at all, then plays the small
//! cases many at a time, and the heavy ones two at a time, so that no case waits for another's bytes.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Options;
use super::answer::Answer;
use super::case::{Case, Event, Payload, Script};
use super::peer::{Opened, Peer, Timing, ask, connect};
use super::play::{play, play_compressed, play_round_trips};
use super::report::{CaseReport, Report};
use super::request::{Request, Target};
use super::verdict::{Verdict, judge, judge_trips};

const HEAVY_THREADS_MAX: usize = 2;

/// Makes sure that somebody answers a plain opening handshake with 101, however wrong otherwise.
/// Returns what the server calls itself. The error is one line for the user.
pub(super) fn preflight(options: &Options) -> Result<Option<String>, String> {
    let timing = Timing::new(options.timeout);
    let url = &options.url;
    let stream = connect(&options.target, timing).map_err(|error| not_reached(url, &error))?;
    let request = Request::plain(&options.target, 1);
    match ask(&stream, &request.bytes(), usize::MAX, timing.stall) {
        Answer::Head(head) if head.status == 101 => Ok(head.first("Server").map(str::to_owned)),
        Answer::Head(head) if head.status == 404 => {
            Err(format!("{url} answers 404: is it the right path?"))
        }
        answer => Err(format!(
            "{url} is not a WebSocket server: a valid upgrade request got {}",
            answer.describe()
        )),
    }
}

fn not_reached(url: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{url} refuses connections: is the server started, and is it this port?")
        }
        io::ErrorKind::TimedOut => format!("{url} does not answer: is a firewall between?"),
        io::ErrorKind::InvalidData => {
            format!("no TLS with {url}: {error}; see --ca and --insecure")
        }
        _ => format!("cannot connect to {url}: {error}"),
    }
}

/// Runs all these cases.
pub(super) fn all(options: &Options, server: Option<String>, cases: Vec<Case>) -> Report {
    let started_at = SystemTime::now();
    let start = Instant::now();
    let progress = progress_bar(cases.len());
    let (heavy, light): (Vec<Case>, Vec<Case>) =
        cases.into_iter().partition(|case| case.script.is_heavy());
    let mut reports = run_together(options, &light, options.threads, &progress);
    let threads = options.threads.min(HEAVY_THREADS_MAX);
    reports.extend(run_together(options, &heavy, threads, &progress));
    progress.finish_and_clear();
    reports.sort_by(|left, right| left.id.cmp(&right.id));
    Report { url: options.url.clone(), server, started_at, took: start.elapsed(), cases: reports }
}

fn run_together(
    options: &Options,
    cases: &[Case],
    threads: usize,
    progress: &ProgressBar,
) -> Vec<CaseReport> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let report = run_case(case, &options.target, options.timeout);
            progress.set_message(report.id.to_string());
            progress.inc(1);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(work);
        }
    });
    reports.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_case(case: &Case, target: &Target, timeout: Duration) -> CaseReport {
    let timing = Timing::new(timeout);
    let seed = case.id.0.iter().fold(7, |seed: u32, part| seed * 131 + u32::from(*part));
    let start = Instant::now();
    let verdict = match &case.script {
        Script::Upgrade(upgrade) => upgrade.run(target, timing, seed),
        Script::Session(_) | Script::RoundTrips { .. } | Script::Compressed(_) => {
            match Peer::open(target, timing, seed, case.script.offer()) {
                Ok(Opened::Peer(peer)) => run_frames(&case.script, peer, timing, seed),
                Ok(Opened::Declined) => Verdict::unimplemented(),
                Err(why) => Verdict::not_opened(&why),
            }
        }
    };
    CaseReport {
        id: case.id.clone(),
        title: case.title.clone(),
        expected: case.expected.clone(),
        took: start.elapsed(),
        verdict,
    }
}

fn run_frames(script: &Script, peer: Peer, timing: Timing, seed: u32) -> Verdict {
    match script {
        Script::Session(session) => judge(session, &play(session, peer, timing, seed)),
        Script::RoundTrips { binary, bytes, count } => {
            let unit = if *binary { b"\xfe" } else { b"*" };
            let payload = Payload::repeated(unit, *bytes);
            let message = Event::Message { binary: *binary, payload };
            judge_trips(&play_round_trips(&message, *count, peer, timing), *count)
        }
        Script::Compressed(case) => judge_trips(&play_compressed(case, peer, timing), case.count),
        Script::Upgrade(_) => unreachable!("upgrades make their own connection"),
    }
}

/// One line on standard error, if somebody sits there.
fn progress_bar(cases: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(cases as u64), ProgressDrawTarget::stderr());
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} cases, {elapsed}: {msg}");
    // The template is ours; were it wrong, the default one would do.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
