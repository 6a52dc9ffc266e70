//! A worker's time: the monotonic clock without the stretches in which the worker could not run.
//!
//! After a stopped process or a suspended machine, hours may have passed in which no peer could be
//! heard. Counting them would disconnect everybody at once (row TM01), so they are left out, and
//! every deadline moves by as much.

use std::time::{Duration, Instant};

use crate::policy::{Tick, Ticks};

/// A turn that begins this much later than it was due did not run late, it was stopped.
const STOPPED_AFTER: Duration = Duration::from_secs(5);

/// After a stop, time stands still for so long: what has come meanwhile is read before anything
/// expires. With many connections that takes more than a turn.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The time of one worker.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    last: Instant,
    stopped: Duration,
    tick: Tick,
    /// Until then it does not stand still again: one stop after the other must not hold it for ever.
    moves_until: Tick,
}

impl Clock {
    /// Time starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, last: now, stopped: Duration::ZERO, tick: Tick(0), moves_until: Tick(0) }
    }

    /// The tick of the turn that begins `now`, after a wait of at most `timeout`.
    pub(crate) fn advance(&mut self, now: Instant, timeout: Option<Duration>) -> Tick {
        let elapsed = now.saturating_duration_since(self.last);
        let late = timeout.map_or(Duration::ZERO, |timeout| elapsed.saturating_sub(timeout));
        if late > STOPPED_AFTER {
            self.stopped += late;
            if self.tick >= self.moves_until {
                self.stopped += CATCH_UP;
                self.moves_until = self.tick.after(Ticks::at_least(CATCH_UP));
            }
        }
        self.last = now;
        let passed = now.saturating_duration_since(self.start).saturating_sub(self.stopped);
        self.tick = self.tick.max(Tick::of(passed));
        self.tick
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
        let after = clock.advance(start + 63 * SECOND, Some(2 * SECOND));
        assert_eq!(after.0 - before.0, 8, "a minute was lost, a second of waiting was not");
    }

    #[test]
    fn tm01_time_stands_still_until_what_has_come_meanwhile_can_be_read() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let before = clock.advance(start + 10 * SECOND, Some(10 * SECOND));
        let resumed = start + 70 * SECOND;
        for millis in [0, 1, 500, 990] {
            let now = resumed + Duration::from_millis(millis);
            assert_eq!(clock.advance(now, Some(Duration::ZERO)), before, "after {millis} ms");
        }
        assert_eq!(clock.advance(resumed + 2 * SECOND, Some(SECOND)).0, before.0 + 8);
        assert_eq!(clock.until(Tick(before.0 + 16)), SECOND, "and goes on as ever");
    }

    #[test]
    fn tm01_time_goes_on_however_often_the_worker_is_stopped() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut now = start;
        let mut tick = Tick(0);
        for _ in 0..1000 {
            now += 60 * SECOND;
            clock.advance(now, Some(Duration::ZERO));
            now += SECOND / 10;
            tick = clock.advance(now, Some(SECOND / 10));
        }
        assert!(tick >= Tick::of(40 * SECOND), "of the 100 s between stops: {tick:?}");
    }

    #[test]
    fn tm01_late_turn_counts() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        assert_eq!(clock.advance(start + 5 * SECOND, Some(SECOND)), Tick::of(5 * SECOND));
    }
}
