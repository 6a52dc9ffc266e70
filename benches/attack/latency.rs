//! Round trips, gathered whole and sorted once: nothing is rounded into a histogram's cells.

use std::time::Duration;

/// Round trips of one phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    pub(crate) fn add(&mut self, time: Duration) {
        self.nanos.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.nanos.append(&mut other.nanos);
    }

    pub(crate) fn count(&self) -> usize {
        self.nanos.len()
    }

    /// The time that so many of a thousand did not exceed; none without any.
    pub(crate) fn per_mille(&mut self, per_mille: usize) -> Option<Duration> {
        self.nanos.sort_unstable();
        let rank = (self.nanos.len() * per_mille).div_ceil(1000).max(1);
        self.nanos.get(rank - 1).map(|&nanos| Duration::from_nanos(nanos))
    }
}
