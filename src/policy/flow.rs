//! How fast one connection may send: messages per second and bytes per second, each with a burst
//! of one second (row FR14).
//!
//! The state lies beside each connection, so it is 16 bytes. It counts in eighths because a tick
//! is an eighth of a second: then what a tick gives back is a whole number, and no rate is rounded
//! however often it is asked.

use std::num::{NonZeroU32, NonZeroU64};

use super::{Tick, Ticks};

/// Ticks in a second, and parts of one message or one byte in which is counted.
const PARTS: u32 = 8;

/// What one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowLimits {
    /// Messages per second, at most [`FlowLimits::MESSAGES_PER_SECOND_MAX`].
    pub(crate) messages_per_second: Option<NonZeroU32>,
    /// Bytes per second.
    ///
    /// With [`RateMode::Close`] it has to be at least the largest message, or such a message
    /// closes its connection whenever it comes. Above 2^61 it is no limit.
    pub(crate) bytes_per_second: Option<NonZeroU64>,
    /// What happens to a connection that sends faster.
    pub(crate) mode: RateMode,
}

impl FlowLimits {
    /// Above this a second's messages could not be counted.
    pub(crate) const MESSAGES_PER_SECOND_MAX: u32 = u32::MAX / PARTS / 2;
}

/// What happens to a connection that sends faster than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateMode {
    /// It is closed with 1008.
    #[default]
    Close,
    /// It is not read until it is within its rate again.
    Throttle,
}

impl std::str::FromStr for RateMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "close" => Ok(Self::Close),
            "throttle" => Ok(Self::Throttle),
            _ => Err("give close or throttle".to_owned()),
        }
    }
}

impl std::fmt::Display for RateMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Close => "close",
            Self::Throttle => "throttle",
        })
    }
}

/// What a connection that has sent something is to be met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It is within its limits.
    Ok,
    /// It is over them and to be closed.
    Exceeded,
    /// It is over them and not to be read before this tick. What was received already still
    /// counts when it is taken, and may make the wait longer.
    WaitUntil(Tick),
}

/// Two token buckets, full at the start and refilled by time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowRate {
    /// Bytes taken that time has not given back yet, in parts.
    byte_parts: u64,
    /// Messages taken that time has not given back yet, in parts.
    message_parts: u32,
    /// When both were last brought up to date.
    at: Tick,
}

const _: () = assert!(size_of::<FlowRate>() <= 16);

impl FlowRate {
    /// Nothing sent yet.
    pub(crate) fn new(now: Tick) -> Self {
        Self { byte_parts: 0, message_parts: 0, at: now }
    }

    /// Counts so many messages and so many bytes.
    ///
    /// They may be counted apart, bytes as they are received and a message when it is whole: then a
    /// message of any size is slowed down while it arrives.
    pub(crate) fn take(
        &mut self,
        now: Tick,
        message_count: u32,
        bytes: usize,
        limits: &FlowLimits,
    ) -> Flow {
        let elapsed = Ticks(now.0.saturating_sub(self.at.0));
        self.at = self.at.max(now);
        let mut wait = Ticks(0);
        if let Some(rate) = limits.messages_per_second {
            let taken = u64::from(message_count) * u64::from(PARTS);
            let parts = given_back(self.message_parts.into(), rate.into(), elapsed) + taken;
            self.message_parts = u32::try_from(parts).unwrap_or(u32::MAX);
            wait = wait.max(wait_of(self.message_parts.into(), rate.into()));
        }
        if let Some(rate) = limits.bytes_per_second {
            let taken = (bytes as u64).saturating_mul(PARTS.into());
            let parts = given_back(self.byte_parts, rate, elapsed);
            self.byte_parts = parts.saturating_add(taken);
            wait = wait.max(wait_of(self.byte_parts, rate));
        }
        match limits.mode {
            _ if wait == Ticks(0) => Flow::Ok,
            RateMode::Close => Flow::Exceeded,
            RateMode::Throttle => Flow::WaitUntil(self.at.after(wait)),
        }
    }
}

/// What is left of `parts`. A tick gives back as many parts as a second gives whole ones.
fn given_back(parts: u64, per_second: NonZeroU64, elapsed: Ticks) -> u64 {
    parts.saturating_sub(per_second.get().saturating_mul(elapsed.0.into()))
}

/// The fewest ticks until no more than a second's worth is taken.
fn wait_of(parts: u64, per_second: NonZeroU64) -> Ticks {
    let burst = per_second.get().saturating_mul(PARTS.into());
    let ticks = parts.saturating_sub(burst).div_ceil(per_second.get());
    Ticks(u32::try_from(ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(messages: u32, bytes: u64, mode: RateMode) -> FlowLimits {
        FlowLimits {
            messages_per_second: NonZeroU32::new(messages),
            bytes_per_second: NonZeroU64::new(bytes),
            mode,
        }
    }

    #[test]
    fn fr14_burst_of_one_second_passes_and_one_more_does_not() {
        for mode in [RateMode::Close, RateMode::Throttle] {
            let over = |ticks: u32| match mode {
                RateMode::Close => Flow::Exceeded,
                RateMode::Throttle => Flow::WaitUntil(Tick(7 + ticks)),
            };
            let limits = limits(100, 5000, mode);
            let mut rate = FlowRate::new(Tick(7));
            for _ in 0..100 {
                assert_eq!(rate.take(Tick(7), 1, 50, &limits), Flow::Ok);
            }
            assert_eq!(rate.take(Tick(7), 1, 0, &limits), over(1), "101 messages");
            let mut rate = FlowRate::new(Tick(7));
            assert_eq!(rate.take(Tick(7), 0, 5000, &limits), Flow::Ok);
            assert_eq!(rate.take(Tick(7), 0, 1, &limits), over(1), "5001 bytes");
            assert_eq!(rate.take(Tick(7), 0, 4999, &limits), over(8), "10,000 bytes");
        }
    }

    #[test]
    fn fr14_steady_rate_passes_for_ever_and_is_not_rounded() {
        // Rates that do not divide by the ticks of a second, asked in every tick.
        for per_second in [1u32, 3, 7, 9, 13, 1000, 12_345] {
            let limits = limits(per_second, u64::from(per_second) * 10, RateMode::Close);
            let mut rate = FlowRate::new(Tick(0));
            let mut sent = 0u64;
            let mut last = Flow::Ok;
            for tick in 0..if cfg!(miri) { 80 } else { 8000 } {
                let due = (u64::from(per_second) * tick).div_ceil(8);
                for _ in sent..due {
                    let now = Tick(u32::try_from(tick).unwrap());
                    last = rate.take(now, 1, 10, &limits);
                    assert_eq!(last, Flow::Ok, "{per_second} per second at tick {tick}");
                }
                sent = due;
            }
            assert_eq!(last, Flow::Ok);
        }
    }

    #[test]
    fn fr14_sender_that_waits_as_told_gets_its_rate_and_no_more() {
        for per_second in [1u32, 7, 9, 100, 1000] {
            let limits = limits(per_second, 0, RateMode::Throttle);
            let mut rate = FlowRate::new(Tick(0));
            let mut now = Tick(0);
            let mut sent = 0;
            let seconds = if cfg!(miri) { 5 } else { 100 };
            while now < Tick(seconds * PARTS) {
                match rate.take(now, 1, 0, &limits) {
                    Flow::WaitUntil(tick) => {
                        assert!(tick > now);
                        now = tick;
                    }
                    Flow::Ok => {}
                    Flow::Exceeded => panic!("a throttled sender is never closed"),
                }
                sent += 1;
            }
            let (least, most) = (per_second * seconds, per_second * (seconds + 1) + 1);
            assert!((least..=most).contains(&sent), "{sent} at {per_second} per second");
        }
    }

    #[test]
    fn fr14_large_message_is_waited_for_as_long_as_it_weighs() {
        let limits = limits(0, 1000, RateMode::Throttle);
        let mut rate = FlowRate::new(Tick(0));
        assert_eq!(rate.take(Tick(0), 1, 61_000, &limits), Flow::WaitUntil(Tick(60 * 8)));
        assert_eq!(rate.take(Tick(60 * 8), 1, 0, &limits), Flow::Ok);
        assert_eq!(rate.take(Tick(60 * 8), 1, 1, &limits), Flow::WaitUntil(Tick(60 * 8 + 1)));
    }

    #[test]
    fn fr14_rest_gives_back_one_burst_and_no_more() {
        let limits = limits(10, 0, RateMode::Close);
        let mut rate = FlowRate::new(Tick(0));
        for _ in 0..2 {
            let now = Tick(rate.at.0 + 1_000_000);
            assert!((0..10).all(|_| rate.take(now, 1, 0, &limits) == Flow::Ok));
            assert_eq!(rate.take(now, 1, 0, &limits), Flow::Exceeded);
        }
    }

    #[test]
    fn fr14_without_limits_everything_passes() {
        let limits = limits(0, 0, RateMode::Close);
        let mut rate = FlowRate::new(Tick(0));
        assert_eq!(rate.take(Tick(0), u32::MAX, usize::MAX, &limits), Flow::Ok);
    }

    #[test]
    fn fr14_extremes_saturate() {
        for mode in [RateMode::Close, RateMode::Throttle] {
            let largest = limits(FlowLimits::MESSAGES_PER_SECOND_MAX, u64::MAX, mode);
            let smallest = limits(1, 1, mode);
            for limits in [largest, smallest] {
                let mut rate = FlowRate::new(Tick(5));
                for now in [Tick(5), Tick(0), Tick(u32::MAX - 1), Tick::NEVER] {
                    for _ in 0..3 {
                        rate.take(now, u32::MAX, usize::MAX, &limits);
                    }
                }
                assert_ne!(rate.take(Tick(9), u32::MAX, 0, &limits), Flow::Ok, "{limits:?}");
            }
        }
        // A clock that seems to go back gives nothing back, and takes nothing twice.
        let limits = limits(1, 0, RateMode::Close);
        let mut rate = FlowRate::new(Tick(100));
        assert_eq!(rate.take(Tick(100), 1, 0, &limits), Flow::Ok);
        assert_eq!(rate.take(Tick(0), 1, 0, &limits), Flow::Exceeded);
        assert_eq!(rate.take(Tick(100), 0, 0, &limits), Flow::Exceeded);
    }
}
