//! When each connection of a worker is told to go, so that clients do not come back all at once.
//!
//! In each tick as many are told as the share of the time that has passed asks for, plus a part of
//! the tick that is drawn by lot, so that several servers do not close in step. Who is next is drawn by lot,
//! too: connections that came one after another mostly belong together.
//!
//! INVARIANT: never more have been told than the share of the time up to the end of this tick, and
//! none twice. So in no second is it more than nine eighths of the mean, and those that were due.

use std::time::Duration;

use crate::policy::{Tick, Ticks};

/// What the kernel has accepted when a worker stops accepting is here after this time.
const EARLY: Duration = Duration::from_secs(1);

/// The schedule of one worker.
#[derive(Debug)]
pub(super) struct Drain {
    began: Tick,
    span: Ticks,
    /// Connections that there were at the beginning.
    conn_count: usize,
    told: usize,
    /// Which slots there were, and how they are gone through: each once, in steps of `stride`.
    slot_count: usize,
    visited: usize,
    next_slot: usize,
    stride: usize,
    seed: u64,
}

impl Drain {
    /// Begins now, with so many connections in so many slots.
    pub(super) fn new(
        now: Tick,
        time: Duration,
        slot_count: usize,
        conn_count: usize,
        seed: u64,
    ) -> Self {
        let slots = slot_count.max(1) as u64;
        let next_slot = narrow(mix(seed) % slots);
        let stride = stride(slots, mix(seed ^ 1));
        let span = Ticks::at_least(time);
        Self {
            began: now,
            span,
            conn_count,
            told: 0,
            slot_count,
            visited: 0,
            next_slot,
            stride,
            seed,
        }
    }

    /// The next slot to look at, if it is time; a connection there that is told is counted by
    /// `handle_told`.
    pub(super) fn poll_slot(&mut self, now: Tick) -> Option<u32> {
        if self.visited == self.slot_count || self.told >= self.due_count(now) {
            return None;
        }
        let slot = self.next_slot;
        self.visited += 1;
        self.next_slot = (slot + self.stride) % self.slot_count;
        u32::try_from(slot).ok()
    }

    /// One more has been told.
    pub(super) fn handle_told(&mut self) {
        self.told += 1;
    }

    /// Whether the time is over; who has not been told by then came later, or is at its handshake.
    pub(super) fn is_over(&self, now: Tick) -> bool {
        now >= self.began.after(self.span)
    }

    /// Whether it has only begun.
    pub(super) fn is_early(&self, now: Tick) -> bool {
        now < self.began.after(Ticks::at_least(EARLY))
    }

    /// When `poll_slot` may next have one, or the time is over.
    pub(super) fn next_due(&self, now: Tick) -> Tick {
        let is_through = self.visited == self.slot_count;
        if !is_through && self.told < self.due_count(now) {
            // More than a turn had time for.
            Tick(0)
        } else if is_through && !self.is_early(now) {
            self.began.after(self.span)
        } else {
            now.after(Ticks(1))
        }
    }

    /// How many are to be told until the end of this tick.
    fn due_count(&self, now: Tick) -> usize {
        let passed = now.0.saturating_sub(self.began.0);
        // In parts of a tick. A few connections of a worker have moments of their own, too.
        if passed + 1 >= self.span.0 {
            return self.conn_count;
        }
        let parts =
            u128::from(passed) * PARTS + u128::from(mix(self.seed ^ u64::from(now.0)) >> 48);
        let all = u128::from(self.span.0.max(1)) * PARTS;
        let first = u128::from(mix(self.seed) >> 48);
        let due = (self.conn_count as u128 * parts * PARTS / all + first) / PARTS;
        usize::try_from(due).unwrap_or(usize::MAX).min(self.conn_count)
    }
}

/// Parts of a tick, and of a connection.
const PARTS: u128 = 1 << 16;

/// A step by which all slots are gone through before the first comes again: coprime to their count.
fn stride(slots: u64, seed: u64) -> usize {
    let mut stride = seed % slots;
    while gcd(stride, slots) != 1 {
        stride += 1;
    }
    narrow(stride)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A number that looks drawn by lot (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn narrow(slot: u64) -> usize {
    usize::try_from(slot).expect("a slot of a table")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS_PER_SECOND: usize = 8;

    /// How many are told in each tick, when every second slot is empty and turns come as they do.
    fn schedule(conn_count: usize, seconds: u64, seed: u64) -> (Vec<usize>, Vec<u32>) {
        let slot_count = 2 * conn_count;
        let mut drain =
            Drain::new(Tick(100), Duration::from_secs(seconds), slot_count, conn_count, seed);
        let (mut told, mut order) = (Vec::new(), Vec::new());
        let mut now = Tick(100);
        while !drain.is_over(now) {
            let before = drain.told;
            while let Some(slot) = drain.poll_slot(now) {
                if slot % 2 == 0 {
                    drain.handle_told();
                    order.push(slot);
                }
            }
            told.push(drain.told - before);
            now = drain.next_due(now);
        }
        (told, order)
    }

    #[test]
    fn lc01_closes_of_any_second_are_at_most_twice_the_mean() {
        for (conns, seconds) in [(20_000, 10), (1_000_000, 30), (977, 3), (100, 10)] {
            for seed in 0..20 {
                let (told, _) = schedule(conns, seconds, seed);
                let mean = conns as f64 / seconds as f64;
                let most = told.windows(TICKS_PER_SECOND).map(|w| w.iter().sum::<usize>()).max();
                let most = most.unwrap() as f64;
                assert!(most <= mean * 1.3 + 1.0, "{conns} in {seconds} s: {most} in a second");
                let least: usize = told.iter().sum();
                assert!(least >= conns - 1, "all are told in time: {least} of {conns}");
            }
        }
    }

    #[test]
    fn lc01_every_connection_is_told_once_and_neighbours_are_not_told_together() {
        let (_, mut order) = schedule(5_000, 10, 3);
        let close = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 4).count();
        assert!(close < order.len() / 10, "{close} neighbours in a row");
        let count = order.len();
        order.sort_unstable();
        order.dedup();
        assert_eq!(order.len(), count, "none twice");
    }

    #[test]
    fn lc01_single_connection_has_a_moment_of_its_own() {
        let moments: Vec<usize> = (0..50)
            .filter_map(|seed| schedule(1, 30, seed).0.iter().position(|&n| n == 1))
            .collect();
        let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
        assert!(last - first > 15 * TICKS_PER_SECOND, "from {first} to {last}");
    }

    #[test]
    fn empty_table_has_nobody_to_tell() {
        let mut drain = Drain::new(Tick(0), Duration::from_secs(5), 0, 0, 7);
        assert_eq!(drain.poll_slot(Tick(3)), None);
        assert_eq!(drain.next_due(Tick(3)), Tick(4), "who is on the way here is awaited");
        assert!(drain.is_over(drain.next_due(Tick(20))), "and then nobody is");
    }
}
