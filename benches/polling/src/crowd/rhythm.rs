//! When which client polls: each once per period, all of them spread evenly over it.
//!
//! Neighbours in number are far apart in time. Updates go round by number, so a client's poll must
//! not stand at a fixed distance from its update for all clients alike: the delays would then all be
//! the same, instead of anything between nothing and the period.

/// The fractional part of the golden ratio, in 2^-32: its multiples fill a circle evenly.
const GOLDEN: u64 = 0x9E37_79B9;

/// The polls of all clients, in order of time.
#[derive(Debug)]
pub(crate) struct Rhythm {
    period_ns: u64,
    /// Place in the period, and client; sorted.
    beats: Vec<(u64, usize)>,
    next: usize,
    round_start_ns: u64,
}

impl Rhythm {
    pub(crate) fn new(start_ns: u64, period_ns: u64, clients: usize) -> Self {
        let place = |client: usize| {
            let turns = (client as u64).wrapping_mul(GOLDEN) & u64::from(u32::MAX);
            let place = (u128::from(turns) * u128::from(period_ns)) >> 32;
            u64::try_from(place).unwrap_or(0)
        };
        let mut beats: Vec<_> = (0..clients).map(|client| (place(client), client)).collect();
        beats.sort_unstable();
        Self { period_ns, beats, next: 0, round_start_ns: start_ns }
    }

    pub(crate) fn next_due_ns(&self) -> u64 {
        self.beats.get(self.next).map_or(u64::MAX, |(place, _)| self.round_start_ns + place)
    }

    /// The next client whose poll is due.
    pub(crate) fn poll_due(&mut self, now_ns: u64) -> Option<usize> {
        if self.next_due_ns() > now_ns {
            return None;
        }
        let (_, client) = self.beats[self.next];
        self.next += 1;
        if self.next == self.beats.len() {
            self.next = 0;
            self.round_start_ns += self.period_ns;
        }
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_polls_once_per_period() {
        let mut rhythm = Rhythm::new(1_000, 100, 7);
        for end in [1_100, 1_200, 1_300] {
            let mut clients: Vec<_> = std::iter::from_fn(|| rhythm.poll_due(end - 1)).collect();
            clients.sort_unstable();
            assert_eq!(clients, [0, 1, 2, 3, 4, 5, 6], "until {end}");
        }
    }

    #[test]
    fn polls_are_spread_over_the_period() {
        let mut rhythm = Rhythm::new(0, 1_000_000, 1_000);
        let mut before = 0;
        for _ in 0..1_000 {
            let due = rhythm.next_due_ns();
            assert!(due - before <= 3_000, "a pause of {} ns", due - before);
            before = due;
            rhythm.poll_due(due);
        }
    }
}
