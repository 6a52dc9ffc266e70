//! What a thread counts and records while it runs, until the thread that shows it takes it over.
//!
//! A worker writes to a tally of its own, without a lock, and hands it over some times a second.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::report::ErrorCount;

/// The longest latency that is told apart: an hour, in nanoseconds.
const LATENCY_MAX: u64 = 3_600_000_000_000;

/// How often things happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Connections opened.
    pub(crate) opened: u64,
    /// Those of them that agreed on compression.
    pub(crate) compressed: u64,
    /// Attempts to connect that failed.
    pub(crate) failed: u64,
    /// Attempts that were made once more.
    pub(crate) retried: u64,
    /// Connections that ended.
    pub(crate) closed: u64,
    /// Messages answered, or delivered, within the window.
    pub(crate) messages: u64,
    /// Payload bytes of these.
    pub(crate) bytes: u64,
    /// Messages sent to be delivered.
    pub(crate) published: u64,
    /// Messages of the window without an answer at the end.
    pub(crate) unanswered: u64,
    pub(crate) mismatches: u64,
    /// Deliveries, by the books of the subscribers, at the end.
    pub(crate) delivered: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    /// Slow readers that the server closed.
    pub(crate) slow_closed: u64,
}

/// Counts, errors and latencies since the last hand-over, or of the whole run.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    errors: BTreeMap<&'static str, (u64, String)>,
    /// Of answers or deliveries within the window.
    pub(crate) latency: Histogram<u64>,
    /// The same before the disturbance, where a scenario has one.
    pub(crate) before: Histogram<u64>,
    /// From when a connection was due to its being open.
    pub(crate) connect: Histogram<u64>,
    /// From when a message was due to its being sent.
    pub(crate) lag: Histogram<u64>,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.opened, other.opened),
            (&mut self.compressed, other.compressed),
            (&mut self.failed, other.failed),
            (&mut self.retried, other.retried),
            (&mut self.closed, other.closed),
            (&mut self.messages, other.messages),
            (&mut self.bytes, other.bytes),
            (&mut self.published, other.published),
            (&mut self.unanswered, other.unanswered),
            (&mut self.mismatches, other.mismatches),
            (&mut self.delivered, other.delivered),
            (&mut self.slow_closed, other.slow_closed),
            (&mut self.duplicates, other.duplicates),
            (&mut self.reordered, other.reordered),
        ] {
            *sum += part;
        }
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

impl Default for Tally {
    fn default() -> Self {
        let nothing =
            || Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in range");
        Self {
            counts: Counts::default(),
            errors: BTreeMap::new(),
            latency: nothing(),
            before: nothing(),
            connect: nothing(),
            lag: nothing(),
        }
    }
}

impl Tally {
    /// Notes an error; `example` is asked for the first of its kind.
    pub(crate) fn error(&mut self, kind: &'static str, example: impl FnOnce() -> String) {
        self.errors.entry(kind).or_insert_with(|| (0, example())).0 += 1;
    }

    /// Errors of all kinds.
    pub(crate) fn error_total(&self) -> u64 {
        self.errors.values().map(|(count, _)| count).sum()
    }

    /// The errors, for a report.
    pub(crate) fn errors(&self) -> Vec<ErrorCount> {
        let errors = self.errors.iter();
        errors
            .map(|(kind, (count, example))| ErrorCount {
                kind: (*kind).to_owned(),
                count: *count,
                example: example.clone(),
            })
            .collect()
    }

    /// Takes everything out of another.
    pub(crate) fn take(&mut self, other: &mut Self) {
        self.counts.add(&std::mem::take(&mut other.counts));
        for (kind, (count, example)) in std::mem::take(&mut other.errors) {
            self.errors.entry(kind).or_insert((0, example)).0 += count;
        }
        for (sum, part) in [
            (&mut self.latency, &mut other.latency),
            (&mut self.before, &mut other.before),
            (&mut self.connect, &mut other.connect),
            (&mut self.lag, &mut other.lag),
        ] {
            if !part.is_empty() {
                sum.add(&*part).expect("all have the same bounds");
                part.reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_or_counted_twice_when_a_tally_is_taken_over() {
        let (mut own, mut total) = (Tally::default(), Tally::default());
        for round in 1..=3 {
            own.counts.messages += 5;
            own.counts.opened += 1;
            own.error("refused", || format!("round {round}"));
            own.latency.record(round).unwrap();
            total.take(&mut own);
            assert_eq!((own.counts.messages, own.error_total(), own.latency.len()), (0, 0, 0));
        }
        assert_eq!((total.counts.messages, total.counts.opened), (15, 3));
        assert_eq!((total.latency.len(), total.latency.max()), (3, 3));
        let errors = total.errors();
        assert_eq!((errors.len(), errors[0].count), (1, 3));
        assert_eq!(errors[0].example, "round 1", "the first of its kind is the example");
    }
}
