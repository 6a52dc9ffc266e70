//! How often a peer may send control frames (row CT03), and how often a core may log what peers do
//! (row R8).

use super::{Limits, Tick, Ticks};

/// Ticks in a second, as a divisor.
const TICKS_PER_SECOND: u32 = 8;

/// A token bucket in six bytes: full at the start, emptied by control frames, refilled by time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlRate {
    /// Frames taken that time has not given back yet.
    used: u16,
    /// When `used` was last brought up to date.
    at: Tick,
}

impl ControlRate {
    /// Nothing used yet.
    pub(crate) fn new(now: Tick) -> Self {
        Self { used: 0, at: now }
    }

    /// Takes one frame; false if that is one too many.
    pub(crate) fn take(&mut self, now: Tick, limits: &Limits) -> bool {
        let elapsed = Ticks(now.0.saturating_sub(self.at.0));
        let back = u64::from(elapsed.0) * u64::from(limits.control_frames_per_second)
            / u64::from(TICKS_PER_SECOND);
        if back > 0 {
            self.used = self.used.saturating_sub(u16::try_from(back).unwrap_or(u16::MAX));
            self.at = now;
        }
        self.used = self.used.saturating_add(1);
        self.used <= limits.control_frames_burst
    }
}

/// Lines of one class in a second.
const LINES_PER_SECOND_MAX: u8 = 10;

/// Log lines of one class that a core has written in this second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRate {
    lines: u8,
    since: Tick,
}

impl LogRate {
    /// Nothing written yet.
    pub(crate) fn new(now: Tick) -> Self {
        Self { lines: 0, since: now }
    }

    /// Takes one line; false if that is one too many.
    pub(crate) fn take(&mut self, now: Tick) -> bool {
        if now.0.saturating_sub(self.since.0) >= TICKS_PER_SECOND {
            *self = Self::new(now);
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r8_ten_lines_of_a_second_are_logged_and_the_rest_is_not() {
        let mut rate = LogRate::new(Tick(100));
        for second in 0..3 {
            let now = Tick(100 + second * TICKS_PER_SECOND);
            let logged = (0..1000).filter(|_| rate.take(now)).count();
            assert_eq!(logged, usize::from(LINES_PER_SECOND_MAX), "second {second}");
            assert!(!rate.take(Tick(now.0 + TICKS_PER_SECOND - 1)), "the second is not over");
        }
    }

    #[test]
    fn ct03_burst_passes_and_one_more_does_not() {
        let limits = Limits::default();
        let mut rate = ControlRate::new(Tick(0));
        for _ in 0..limits.control_frames_burst {
            assert!(rate.take(Tick(0), &limits));
        }
        assert!(!rate.take(Tick(0), &limits));
    }

    #[test]
    fn ct03_steady_rate_passes_for_ever() {
        let limits = Limits::default();
        let mut rate = ControlRate::new(Tick(0));
        let per_tick = u32::from(limits.control_frames_per_second) / TICKS_PER_SECOND;
        for tick in 0..if cfg!(miri) { 100 } else { 10_000 } {
            for _ in 0..per_tick {
                assert!(rate.take(Tick(tick), &limits));
            }
        }
        for _ in 0..u32::from(limits.control_frames_burst) {
            rate.take(Tick(10_000), &limits);
        }
        assert!(!rate.take(Tick(10_000), &limits));
    }
}
