//! Coarse time: what deadlines are counted in.
//!
//! A deadline of a connection is four bytes because there are a million of them. A tick is an
//! eighth of a second; a `u32` of them lasts 17 years.

use std::time::Duration;

/// Length of a tick.
const TICK: Duration = Duration::from_millis(125);

/// A point in a worker's time, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(pub(crate) u32);

impl Tick {
    /// Later than anything.
    pub(crate) const NEVER: Self = Self(u32::MAX);

    /// The last tick that began within `elapsed`.
    pub(crate) fn of(elapsed: Duration) -> Self {
        Self(count(elapsed.as_millis() / TICK.as_millis()))
    }

    /// This much later.
    pub(crate) fn after(self, span: Ticks) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Time since the worker's start.
    pub(crate) fn elapsed(self) -> Duration {
        TICK * self.0
    }
}

impl Ticks {
    /// The fewest ticks that last `duration`, wherever within a tick they begin: a deadline is
    /// never early.
    pub(crate) fn at_least(duration: Duration) -> Self {
        Self(count(duration.as_millis().div_ceil(TICK.as_millis())).saturating_add(1))
    }
}

fn count(ticks: u128) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_is_never_shorter_than_asked() {
        for millis in [0, 1, 124, 125, 126, 1000, 10_000] {
            let asked = Duration::from_millis(millis);
            for begun in [0, 1, 60, 124] {
                let start = Duration::from_millis(begun);
                let due = Tick::of(start).after(Ticks::at_least(asked));
                assert!(due.elapsed() >= start + asked, "{millis} from {begun}");
                assert!(due.elapsed() <= start + asked + 2 * TICK);
            }
        }
    }

    #[test]
    fn huge_span_saturates_below_never() {
        let due = Tick(5).after(Ticks::at_least(Duration::MAX));
        assert_eq!(due, Tick::NEVER);
    }
}
