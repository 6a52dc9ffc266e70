//! A worker's time: the monotonic clock without the stretches in which the worker could not run.
//!
//! After a stopped process or a suspended machine, hours may have passed in which no peer could be
//! heard. Counting them would disconnect everybody at once (row TM01), so they are left out, and
//! every deadline moves by as much.

use std::time::{Duration, Instant};

use crate::policy::Tick;

/// A turn that begins this much later than it was due did not run late, it was stopped.
const STOPPED_AFTER: Duration = Duration::from_secs(5);

/// The time of one worker.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    last: Instant,
    stopped: Duration,
}

impl Clock {
    /// Time starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, last: now, stopped: Duration::ZERO }
    }

    /// The tick of the turn that begins `now`, after a wait of at most `timeout`.
    pub(crate) fn advance(&mut self, now: Instant, timeout: Option<Duration>) -> Tick {
        let elapsed = now.saturating_duration_since(self.last);
        let late = timeout.map_or(Duration::ZERO, |timeout| elapsed.saturating_sub(timeout));
        if late > STOPPED_AFTER {
            self.stopped += late;
        }
        self.last = now;
        Tick::of(now.saturating_duration_since(self.start).saturating_sub(self.stopped))
    }

    /// When this turn began.
    pub(crate) fn now(&self) -> Instant {
        self.last
    }

    /// How long until `tick` begins.
    pub(crate) fn until(&self, tick: Tick) -> Duration {
        let passed = self.last.saturating_duration_since(self.start).saturating_sub(self.stopped);
        tick.elapsed().saturating_sub(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn tm01_time_in_which_the_worker_was_stopped_does_not_count() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let before = clock.advance(start + SECOND, Some(SECOND));
        let after = clock.advance(start + 62 * SECOND, Some(SECOND));
        assert_eq!(after.0 - before.0, 8, "a minute was lost, the second of waiting was not");
    }

    #[test]
    fn tm01_late_turn_counts() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        assert_eq!(clock.advance(start + 5 * SECOND, Some(SECOND)), Tick::of(5 * SECOND));
    }
}
