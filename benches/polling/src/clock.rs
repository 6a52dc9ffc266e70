//! The one clock that both processes read: nanoseconds of `CLOCK_MONOTONIC`.
//!
//! Every process of a machine sees the same one, so an instant that the server writes into an
//! update can be compared with the instant at which a client has it.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Now.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0) * SECOND_NS;
    whole + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A span of time, cut at what 64 bits hold: 584 years.
pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// As the kernel wants it.
pub(crate) fn timespec(span_ns: u64) -> Timespec {
    let seconds = i64::try_from(span_ns / SECOND_NS).unwrap_or(i64::MAX);
    let rest = u32::try_from(span_ns % SECOND_NS).unwrap_or(0);
    Timespec { tv_sec: seconds, tv_nsec: rest.into() }
}
