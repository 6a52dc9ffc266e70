//! What is known of the broker by those who ask: whether the link is up, what has gone over it, and
//! which messages this node has missed.
//!
//! INVARIANT: the gaps that are kept are at most `GAPS_MAX`, their names at most `NAMES_BYTES_MAX`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

const GAPS_MAX: usize = 1024;
const NAMES_BYTES_MAX: usize = 256 << 10;

/// Shared by the side thread, which writes, and the administration, which reads.
#[derive(Debug)]
pub(crate) struct Report {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when the link has been up or down.
    since: Instant,
    /// Why it is down; `None` if it is up.
    why_down: Option<String>,
    figures: Figures,
    gaps: VecDeque<Gap>,
    names_bytes: usize,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) is_up: bool,
    pub(crate) links: u64,
    /// Links that ended or did not come to be, by cause.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) duplicates: u64,
    /// Of subjects that were not asked for, or by nobody of ours.
    pub(crate) strays: u64,
    pub(crate) queue_dropped: u64,
    pub(crate) too_large: u64,
    pub(crate) gaps: u64,
    pub(crate) missed: u64,
    pub(crate) subscriptions: usize,
    pub(crate) queue_messages: usize,
    pub(crate) queue_bytes: usize,
}

/// Messages of a topic that this node has missed.
#[derive(Debug)]
struct Gap {
    /// From 1, one more for each.
    id: u64,
    topic: Box<str>,
    missed: u64,
    cause: GapCause,
    at: SystemTime,
}

/// Where messages were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapCause {
    /// On the way from the node of this number.
    Link(u64),
    /// Here: the workers were too busy to take them.
    Busy,
}

impl Report {
    pub(super) fn new() -> Self {
        let state = State {
            since: Instant::now(),
            why_down: Some("not connected yet".to_owned()),
            figures: Figures::default(),
            gaps: VecDeque::new(),
            names_bytes: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// The link is up, and all topics are subscribed to.
    pub(super) fn up(&self) {
        let mut state = self.state();
        state.since = Instant::now();
        state.why_down = None;
        state.figures.is_up = true;
    }

    /// The link has ended, or did not come to be. True if that is news: it had been up, or it is the
    /// first attempt.
    pub(super) fn down(&self, cause: &'static str, why: String) -> bool {
        let mut state = self.state();
        let was_up = std::mem::take(&mut state.figures.is_up);
        if was_up {
            state.since = Instant::now();
        }
        let is_news = was_up || state.figures.failures.is_empty();
        state.why_down = Some(why);
        *state.figures.failures.entry(cause).or_default() += 1;
        is_news
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.state().figures);
    }

    pub(super) fn gap(&self, topic: &str, missed: u64, cause: GapCause) {
        let mut state = self.state();
        state.figures.gaps += 1;
        state.figures.missed = state.figures.missed.saturating_add(missed);
        let id = state.figures.gaps;
        state.names_bytes += topic.len();
        state.gaps.push_back(Gap { id, topic: topic.into(), missed, cause, at: SystemTime::now() });
        while state.gaps.len() > GAPS_MAX || state.names_bytes > NAMES_BYTES_MAX {
            let Some(oldest) = state.gaps.pop_front() else { break };
            state.names_bytes -= oldest.topic.len();
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.state().figures.clone()
    }

    /// Why the link is down, and for how long; `None` if it is up.
    pub(crate) fn degraded(&self) -> Option<(String, Duration)> {
        let state = self.state();
        state.why_down.clone().map(|why| (why, state.since.elapsed()))
    }

    /// The gaps behind a number that are still kept, the oldest first.
    pub(crate) fn gaps(&self, after: u64, limit: usize) -> Value {
        let state = self.state();
        let recent = state.gaps.iter().filter(|gap| gap.id > after).take(limit);
        json!({
            "events": state.figures.gaps,
            "missed": state.figures.missed,
            "gaps": recent.map(Gap::describe).collect::<Vec<Value>>(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gap {
    fn describe(&self) -> Value {
        let (cause, node) = match self.cause {
            GapCause::Link(node) => ("link", Some(format!("{node:016x}"))),
            GapCause::Busy => ("busy", None),
        };
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "id": self.id,
            "topic": self.topic,
            "missed": self.missed,
            "cause": cause,
            "node": node,
            "unix_seconds": at.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bk02_gaps_are_kept_within_bounds_and_told_once() {
        let report = Report::new();
        for number in 0..GAPS_MAX as u64 + 10 {
            report.gap("a", number, GapCause::Busy);
        }
        let all = report.gaps(0, usize::MAX);
        assert_eq!(all["events"], GAPS_MAX + 10);
        assert_eq!(all["gaps"].as_array().unwrap().len(), GAPS_MAX);
        assert_eq!(all["gaps"][0]["id"], 11);
        let last = GAPS_MAX as u64 + 9;
        assert_eq!(report.gaps(last, 9)["gaps"].as_array().unwrap().len(), 1);
        let long = "x".repeat(NAMES_BYTES_MAX / 2 + 1);
        report.gap(&long, 1, GapCause::Link(10));
        report.gap(&long, 1, GapCause::Link(10));
        let left = report.gaps(0, usize::MAX);
        assert_eq!(left["gaps"].as_array().unwrap().len(), 1);
        assert_eq!(left["gaps"][0]["node"], "000000000000000a");
    }

    #[test]
    fn first_failure_and_each_end_of_a_link_are_news() {
        let report = Report::new();
        let down = || report.down("unreachable", "nobody listens".to_owned());
        assert_eq!([down(), down(), down()], [true, false, false]);
        report.up();
        assert_eq!([down(), down()], [true, false]);
    }
}
