//! When each connection is next due, and which ones are.
//!
//! One `u32` of ticks for each slot, swept in slices. There is no wheel and no heap: a deadline
//! that moves away (a peer was heard) is not touched at all, it is found early, looked at, and put
//! where it belongs now. Only one that comes nearer is written.
//!
//! INVARIANT: no slot is due before `next_due`, except those the running sweep has already passed.

use crate::policy::Tick;

/// Slots looked at in one turn: about ten microseconds.
const SLICE: usize = 64 * 1024;

/// Deadlines of one worker.
#[derive(Debug)]
pub(crate) struct Deadlines {
    due: Vec<Tick>,
    next_due: Tick,
    sweep: Option<Sweep>,
}

/// A pass over all slots, possibly over several turns.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    /// Next slot to look at.
    index: usize,
    /// Earliest deadline among the slots passed.
    earliest: Tick,
}

impl Deadlines {
    /// No deadlines.
    pub(crate) fn new() -> Self {
        Self { due: Vec::new(), next_due: Tick::NEVER, sweep: None }
    }

    /// The slot is due at `tick`, or before, if it already was.
    pub(crate) fn lower(&mut self, index: u32, tick: Tick) {
        let index = index as usize;
        if index >= self.due.len() {
            self.due.resize(index + 1, Tick::NEVER);
        }
        if tick < self.due[index] {
            self.set(index, tick);
        }
    }

    /// Slots that have ever been used.
    pub(crate) fn slot_count(&self) -> usize {
        self.due.len()
    }

    /// The slot is never due.
    pub(crate) fn clear(&mut self, index: u32) {
        if let Some(due) = self.due.get_mut(index as usize) {
            *due = Tick::NEVER;
        }
    }

    /// The next slot that is due at `now`; its deadline is cleared, so set a new one. `None` ends
    /// this turn's slice.
    pub(crate) fn poll_due(&mut self, now: Tick, budget: &mut SweepBudget) -> Option<u32> {
        if self.sweep.is_none() && now < self.next_due {
            return None;
        }
        let sweep = self.sweep.get_or_insert(Sweep { index: 0, earliest: Tick::NEVER });
        while let Some(due) = self.due.get_mut(sweep.index) {
            if budget.0 == 0 {
                return None;
            }
            budget.0 -= 1;
            sweep.index += 1;
            if *due <= now {
                *due = Tick::NEVER;
                return u32::try_from(sweep.index - 1).ok();
            }
            sweep.earliest = sweep.earliest.min(*due);
        }
        self.next_due = sweep.earliest;
        self.sweep = None;
        None
    }

    /// When `poll_due` may next find something; the past if a sweep is under way.
    pub(crate) fn next_due(&self) -> Tick {
        if self.sweep.is_some() { Tick(0) } else { self.next_due }
    }

    fn set(&mut self, index: usize, tick: Tick) {
        self.due[index] = tick;
        self.next_due = self.next_due.min(tick);
        if let Some(sweep) = &mut self.sweep {
            sweep.earliest = sweep.earliest.min(tick);
        }
    }
}

/// How many slots may still be looked at in this turn.
#[derive(Debug)]
pub(crate) struct SweepBudget(usize);

impl SweepBudget {
    /// A turn's worth.
    pub(crate) fn new() -> Self {
        Self(SLICE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn due_at(deadlines: &mut Deadlines, now: u32) -> Vec<u32> {
        let mut found = Vec::new();
        loop {
            let mut budget = SweepBudget(7);
            while let Some(index) = deadlines.poll_due(Tick(now), &mut budget) {
                found.push(index);
            }
            if deadlines.sweep.is_none() {
                return found;
            }
        }
    }

    #[test]
    fn tm02_deadlines_agree_with_a_sorted_map() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut deadlines = Deadlines::new();
        let mut model = BTreeMap::new();
        for now in 0..2_000 {
            for _ in 0..rng.usize(0..20) {
                let index = rng.u32(0..300);
                if rng.u8(0..4) == 0 {
                    deadlines.clear(index);
                    model.remove(&index);
                } else {
                    let tick = now + rng.u32(0..200);
                    deadlines.lower(index, Tick(tick));
                    let due = model.entry(index).or_insert(tick);
                    *due = (*due).min(tick);
                }
            }
            let mut found = due_at(&mut deadlines, now);
            found.sort_unstable();
            let expected: Vec<u32> =
                model.iter().filter(|(_, tick)| **tick <= now).map(|(index, _)| *index).collect();
            model.retain(|_, tick| *tick > now);
            assert_eq!(found, expected, "at {now}");
            let earliest = model.values().min().map_or(Tick::NEVER, |tick| Tick(*tick));
            assert!(deadlines.next_due() <= earliest, "nothing is missed");
        }
    }

    #[test]
    fn tm02_never_is_never_due() {
        let mut deadlines = Deadlines::new();
        deadlines.lower(3, Tick::NEVER);
        assert_eq!(due_at(&mut deadlines, u32::MAX - 1), Vec::<u32>::new());
    }
}
