//! Runs a scenario: threads that talk, and one that gives orders, watches and keeps the time.
//!
//! The conductor is the thread that the user looks at. It never touches a connection; it gives
//! orders on the board, takes the counts that the pilots hand over, and asks the kernel about the
//! server and about this process.

pub(crate) mod board;
pub(crate) mod payload;
pub(crate) mod pilot;
mod progress;
pub(crate) mod setup;
pub(crate) mod tally;
mod trust;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::observe::own::{self, OwnSample};
use crate::observe::{Own, Sample as ServerSample, Server, Snapshot};
use crate::report::{Sample, count_as_f64};
use crate::signals::Signals;
use board::{Board, Order};
use pilot::{Dialing, Pilot, Script};
use progress::Progress;
use setup::Setup;
use tally::Tally;

/// How often the conductor looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Length of an interval of the timeline.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How long threads may take to close their connections in good order, beyond 10 us for each.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long threads may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A share of a core above which the generator rather than the server is measured.
const BUSY_PERCENT: f64 = 80.0;
/// Attempts that fail before the first success, after which more are pointless.
const FAILURES_MAX: u64 = 100;

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Conductor {
    pub(crate) setup: Setup,
    pub(crate) board: Arc<Board>,
    pub(crate) total: Tally,
    pub(crate) timeline: Vec<Sample>,
    pub(crate) server: Option<Server>,
    pub(crate) signals: Signals,
    /// What the server looked like before the first connection.
    pub(crate) empty: Option<Snapshot>,
    /// Resident bytes of this process before the first connection.
    own_empty_bytes: u64,
    threads: Option<JoinHandle<Result<longwire::Stats, longwire::Error>>>,
    progress: Progress,
    own: Own,
    /// The same for the timeline, from interval to interval.
    own_sampled: Own,
    started: Instant,
    sampled: Sampled,
}

/// What the last interval of the timeline ended with.
#[derive(Debug)]
struct Sampled {
    at: Instant,
    messages: u64,
    errors: u64,
    latency: Histogram<u64>,
    server: Option<ServerSample>,
}

/// What was measured between the two ends of a window.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) server: Option<(Snapshot, Snapshot)>,
    pub(crate) own: Option<OwnSample>,
    /// Messages that were counted in it.
    pub(crate) messages: u64,
}

impl Conductor {
    /// Starts the threads; with `opens`, they open their connections at once. A script is made for
    /// each, which is told its number and how many connections it has.
    pub(crate) fn start<S: Script + 'static>(
        mut setup: Setup,
        opens: bool,
        scripts: impl Fn(usize, &Dialing) -> S + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let server = setup.server.take();
        let empty = server.as_ref().and_then(|server| server.snapshot().ok());
        let own = Own::new().map_err(|error| format!("cannot observe this process: {error}"))?;
        let own_sampled = Own::new().map_err(|error| error.to_string())?;
        let client = setup.client()?;
        let workers = client.cores().len();
        let board = Arc::new(Board::new(workers));
        let signals = setup.signals.clone();
        let (shared, dialing) = (Arc::clone(&board), setup.dialing(workers));
        let run = move || {
            client.run(|worker| {
                let dialing = dialing[worker].clone();
                let script = scripts(worker, &dialing);
                Pilot::new(script, Arc::clone(&shared), worker, workers, dialing, opens)
            })
        };
        let threads = thread::Builder::new().name("threads".to_owned()).spawn(run);
        let threads = threads.map_err(|error| format!("cannot start a thread: {error}"))?;
        let patience = Instant::now() + START_TIMEOUT;
        while !board.all_ready() && !threads.is_finished() && Instant::now() < patience {
            thread::sleep(LOOK_EVERY / 50);
        }
        // All is in place but the connections: from here on memory is theirs.
        let own_empty_bytes = own::rss_bytes().unwrap_or_default();
        board.give(Order::Open);
        let started = Instant::now();
        let progress = Progress::new(setup.quiet);
        let total = Tally::default();
        let sampled = Sampled {
            at: started,
            messages: 0,
            errors: 0,
            latency: total.latency.clone(),
            server: server.as_ref().and_then(|server| server.sample().ok()),
        };
        Ok(Self {
            setup,
            board,
            total,
            timeline: Vec::new(),
            server,
            signals,
            empty,
            own_empty_bytes,
            threads: Some(threads),
            progress,
            own,
            own_sampled,
            started,
            sampled,
        })
    }

    /// Waits until every connection is open or has failed. Returns the seconds it took.
    ///
    /// Fails if not one could be opened.
    pub(crate) fn ramp(&mut self) -> Result<f64, String> {
        let conns = self.setup.conns;
        let done = |total: &Tally| {
            let (opened, failed) = (total.counts.opened, total.counts.failed);
            opened + failed >= conns || (opened == 0 && failed >= FAILURES_MAX)
        };
        self.wait("opening", None, done)?;
        if self.total.counts.opened == 0 {
            let errors = self.total.errors();
            let example = errors
                .first()
                .map_or("no connection could be opened", |error| error.example.as_str());
            return Err(format!("{}: {example}", self.setup.url.text));
        }
        Ok(self.started.elapsed().as_secs_f64())
    }

    /// Gives an order and lets `length` pass.
    pub(crate) fn go_on(&mut self, order: Order, length: Duration) -> Result<(), String> {
        self.board.give(order);
        self.wait("warming up", Some(length), |_| false)
    }

    /// Measures for `length`.
    pub(crate) fn measure(&mut self, length: Duration) -> Result<Measured, String> {
        let snapshot = |server: &Option<Server>| server.as_ref().and_then(|s| s.snapshot().ok());
        let before = snapshot(&self.server);
        let _ = self.own.sample();
        let messages_before = self.total.counts.messages;
        self.board.open_window(length);
        self.wait("measuring", Some(length), |_| false)?;
        let own = self.own.sample().ok();
        let after = snapshot(&self.server);
        let seconds = self.board.close_window();
        // The last counts of the window are handed over within a moment.
        thread::sleep(3 * LOOK_EVERY);
        self.look()?;
        let messages = self.total.counts.messages - messages_before;
        Ok(Measured { seconds, server: before.zip(after), own, messages })
    }

    /// Waits until `done`, or until `length` has passed, and shows what happens meanwhile.
    pub(crate) fn wait(
        &mut self,
        doing: &'static str,
        length: Option<Duration>,
        done: impl Fn(&Tally) -> bool,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !done(&self.total) && !self.signals.is_interrupted() {
            let left = length.map_or(LOOK_EVERY, |length| length.saturating_sub(start.elapsed()));
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(LOOK_EVERY));
            self.look()?;
            if let Some(server) = &self.server
                && let Some(line) = server.ended()
            {
                return Err(line);
            }
            self.progress.show(doing, start.elapsed(), length, &self.total, self.setup.conns);
        }
        Ok(())
    }

    /// Takes over what the threads have counted, and adds to the timeline.
    fn look(&mut self) -> Result<(), String> {
        let mut news = Tally::default();
        self.board.collect(&mut news);
        let sampled = &mut self.sampled;
        sampled.latency.add(&news.latency).expect("all have the same bounds");
        self.total.take(&mut news);
        if sampled.at.elapsed() >= SAMPLE_EVERY {
            self.add_sample();
        }
        if self.threads.as_ref().is_some_and(JoinHandle::is_finished)
            && self.board.order() < Order::Close
        {
            return Err(self.join().err().unwrap_or_else(|| "a thread ended early".to_owned()));
        }
        Ok(())
    }

    fn add_sample(&mut self) {
        let Self { total, sampled, server, own_sampled, .. } = self;
        let now = Instant::now();
        let seconds = now.duration_since(sampled.at).as_secs_f64();
        let micros = |nanos: u64| Some(count_as_f64(nanos) / 1e3).filter(|micros| *micros > 0.0);
        let quantile = |q: f64| micros(sampled.latency.value_at_quantile(q));
        let seen = server.as_ref().and_then(|server| server.sample().ok());
        let cpu = seen.zip(sampled.server).and_then(|(now, last)| now.cpu_percent_since(&last));
        let own = own_sampled.sample().map_or(0.0, |own| own.cpu_percent);
        self.timeline.push(Sample {
            at_s: now.duration_since(self.started).as_secs_f64(),
            open: total.counts.open(),
            messages_per_s: count_as_f64(total.counts.messages - sampled.messages) / seconds,
            errors: total.error_total() - sampled.errors,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            max_us: micros(sampled.latency.max()),
            server_cpu_percent: cpu,
            server_rss_bytes: seen.map(|seen| seen.rss_bytes),
            generator_cpu_percent: own,
        });
        sampled.at = now;
        sampled.messages = total.counts.messages;
        sampled.errors = total.error_total();
        sampled.latency.reset();
        sampled.server = seen;
    }

    /// Closes all connections and ends the threads.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.board.give(Order::Close);
        let patience = CLOSE_TIMEOUT + Duration::from_micros(10 * self.setup.conns);
        let start = Instant::now();
        while self.threads.as_ref().is_some_and(|threads| !threads.is_finished()) {
            if start.elapsed() > patience || self.signals.count() > 1 {
                self.board.give(Order::Stop);
            }
            thread::sleep(LOOK_EVERY / 5);
        }
        self.board.collect(&mut self.total);
        self.progress.clear();
        self.join()
    }

    /// Bytes by which this process has grown since before the first connection.
    pub(crate) fn own_growth_bytes(&self) -> u64 {
        own::rss_bytes().unwrap_or_default().saturating_sub(self.own_empty_bytes)
    }

    /// Resident bytes of the server now, if it is observed.
    pub(crate) fn server_rss(&self) -> Option<u64> {
        Some(self.server.as_ref()?.sample().ok()?.rss_bytes)
    }

    /// Whether this process was so busy that it found its own limit; a remark if so.
    pub(crate) fn busy_note(&self, measured: &Measured) -> Option<String> {
        let busiest = measured.own.as_ref()?.busiest_percent;
        (busiest > BUSY_PERCENT).then(|| {
            format!(
                "the generator was the limit: its busiest thread took {busiest:.0} % of a core; \
                 give it more --threads, or the server less"
            )
        })
    }

    fn join(&mut self) -> Result<(), String> {
        match self.threads.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(_))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.to_string()),
            Some(Err(_)) => Err("a thread of the generator panicked".to_owned()),
        }
    }
}

impl Drop for Conductor {
    /// After an error the threads still run.
    fn drop(&mut self) {
        self.progress.clear();
        self.board.give(Order::Stop);
        let _ = self.join();
    }
}
