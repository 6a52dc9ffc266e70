//! New limits for a worker that runs.
//!
//! Almost all limits are asked when they matter, so those that are there from now on hold from now on, for
//! connections that are open, too. A message that has begun is judged by the next of its frames, a
//! head by the next of its bytes, a wait by when it began. What a worker reserved at its start (its
//! table) is not made anew; whoever gives the order sees to that.
//!
//! Deadlines, and whether a connection is read, follow from limits but are kept with the connection. So
//! each is looked at once, some in each turn: of a million that shall be asked for a sign of life,
//! the first are asked at once and the others without a stall.

use crate::io::Driver;
use crate::policy::admission::HandshakeRate;
use crate::policy::{LimitChanges, Limits};

use super::{Application, Worker};

/// Slots looked at in one turn: each may cost a few system calls.
const SLOTS_PER_TURN_MAX: usize = 1024;

/// How far a worker is with looking at its connections.
#[derive(Debug)]
pub(super) struct Review {
    /// Those before it have been looked at.
    pub(super) next_slot: usize,
    changes: LimitChanges,
}

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Holds its connections to these limits from now on.
    pub(super) fn reconfigure(&mut self, limits: Limits) {
        let former = std::mem::replace(&mut self.core.limits, limits);
        let limits = &self.core.limits;
        // A rate that stays goes on where it is: a new one would grant a burst each time.
        if limits.handshakes_per_second != former.handshakes_per_second {
            let now = self.core.now;
            self.handshake_rate =
                limits.handshakes_per_second.map(|rate| HandshakeRate::new(rate, now));
        }
        let changes = LimitChanges::between(&former, limits);
        // Those that have not been looked at for an earlier change are looked at for both.
        let before = self.review.take().map(|review| review.changes).unwrap_or_default();
        self.review = Some(Review { next_slot: 0, changes: changes.and(before) });
    }

    /// Looks at some more connections. Call it once in a turn while there is a review.
    #[cold]
    pub(super) fn advance_review(&mut self) {
        let Some(Review { next_slot, changes }) = self.review.take() else { return };
        let slot_count = self.deadlines.slot_count();
        let end = next_slot.saturating_add(SLOTS_PER_TURN_MAX).min(slot_count);
        for index in next_slot..end {
            let Some(entry) = self.table.get_mut(index) else { continue };
            entry.connection.handle_limits_changed(changes, &self.core);
            let Ok(index) = u32::try_from(index) else { break };
            self.look_after(index);
        }
        if end < slot_count {
            self.review = Some(Review { next_slot: end, changes });
        }
    }
}
