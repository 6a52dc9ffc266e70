//! What a user sees while a run lasts: one line that changes, where standard error is a terminal;
//! elsewhere a line every ten seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::tally::Tally;
use crate::report::count_as_f64;
use crate::units;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at the rate.
const RATE_EVERY: Duration = Duration::from_millis(500);

/// The display of one run.
#[derive(Debug)]
pub(crate) struct Progress {
    display: Display,
    rate: f64,
    messages: u64,
    rated_at: Instant,
}

#[derive(Debug)]
enum Display {
    None,
    Line(ProgressBar),
    Lines(Instant),
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let display = if quiet {
            Display::None
        } else if std::io::stderr().is_terminal() {
            let line = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            Display::Line(line)
        } else {
            Display::Lines(Instant::now())
        };
        Self { display, rate: 0.0, messages: 0, rated_at: Instant::now() }
    }

    /// Shows how far the run is.
    pub(crate) fn show(
        &mut self,
        doing: &str,
        elapsed: Duration,
        length: Option<Duration>,
        total: &Tally,
        conns: u64,
    ) {
        let passed = self.rated_at.elapsed();
        if passed >= RATE_EVERY {
            let messages = total.counts.messages;
            self.rate = count_as_f64(messages - self.messages) / passed.as_secs_f64();
            (self.messages, self.rated_at) = (messages, Instant::now());
        }
        match &mut self.display {
            Display::None => {}
            Display::Line(line) => {
                line.set_message(text(doing, elapsed, length, total, conns, self.rate));
                line.tick();
            }
            Display::Lines(last) if last.elapsed() >= LINE_EVERY => {
                eprintln!("{}", text(doing, elapsed, length, total, conns, self.rate));
                *last = Instant::now();
            }
            Display::Lines(_) => {}
        }
    }

    /// Leaves nothing behind.
    pub(crate) fn clear(&mut self) {
        if let Display::Line(line) = &self.display {
            line.finish_and_clear();
        }
    }
}

fn text(
    doing: &str,
    elapsed: Duration,
    length: Option<Duration>,
    total: &Tally,
    conns: u64,
    rate: f64,
) -> String {
    let of = length.map_or_else(String::new, |length| format!("/{}", units::duration(length)));
    let mut text = format!(
        "{doing} {}s{of}  {} of {} connected",
        elapsed.as_secs(),
        units::count(total.counts.open()),
        units::count(conns),
    );
    if rate > 0.0 {
        text += &format!("  {} messages/s", units::rate(rate));
    }
    if !total.latency.is_empty() {
        let micros = |q: f64| units::micros(count_as_f64(total.latency.value_at_quantile(q)) / 1e3);
        text += &format!("  p50 {}  p99 {}", micros(0.5), micros(0.99));
    }
    match total.error_total() {
        0 => {}
        errors => text += &format!("  {} errors", units::count(errors)),
    }
    text
}
