//! A worker's part in the memory budget of the process (row BP03).

use std::sync::Arc;

use crate::io::{Driver, heap};
use crate::policy::Tick;
use crate::policy::budget::{Budget, BudgetShare, Level};
use crate::proto::LimitExceeded;

use super::{Application, Worker};

/// A change of less than this is not worth telling the other workers at once.
const REPORT_BYTES: usize = 64 * 1024;
/// Once so much has been freed, and half of what there was, it is worth a walk of the allocator.
const RELEASE_BYTES_MIN: usize = 8 << 20;

/// What this worker holds of the budget, and how scarce memory was at the last look.
#[derive(Debug)]
pub(super) struct MemoryShare {
    share: BudgetShare,
    reported_bytes: usize,
    looked_at: Tick,
    shed_at: Tick,
    level: Level,
    /// The most that was held since freed memory last went back to the kernel.
    peak_bytes: usize,
}

impl MemoryShare {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        let share = BudgetShare::new(budget);
        let (looked_at, shed_at) = (Tick(0), Tick(0));
        let level = Level::Normal;
        Self { share, reported_bytes: 0, looked_at, shed_at, level, peak_bytes: 0 }
    }

    /// How scarce memory is.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    fn report(&mut self, held_bytes: usize) {
        self.reported_bytes = held_bytes;
        self.peak_bytes = self.peak_bytes.max(held_bytes);
        self.share.set_bytes(held_bytes);
        self.level = self.share.level();
    }
}

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Reports what is held, and does what the level asks for.
    pub(super) fn look_after_memory(&mut self) {
        let now = self.core.now;
        let held_bytes = self.held_bytes();
        let memory = &mut self.memory;
        let changed = held_bytes.abs_diff(memory.reported_bytes) >= REPORT_BYTES;
        if !changed && memory.looked_at == now {
            return;
        }
        memory.looked_at = now;
        memory.report(held_bytes);
        if memory.level >= Level::RefuseNew && self.core.pool.has_spare() {
            // Nobody is to be closed for what is only kept for the next message; least of all for
            // what the last one that was closed has left behind.
            self.core.pool.release_spare();
            let held_bytes = self.core.held_bytes() + self.topics.held_bytes();
            memory.report(held_bytes);
        }
        self.core.is_pressed = memory.level >= Level::PauseReading;
        // Those that were told to go have a second to take their Close frame; to choose others
        // before that would close more than it takes.
        if memory.level >= Level::Shed && memory.shed_at <= now {
            let linger = self.core.limits.timeouts.linger;
            memory.shed_at = now.after(linger);
            let shed_bytes = memory.share.shed_bytes();
            self.shed_queues(shed_bytes);
        }
    }

    /// Bytes of heap that peers make this worker hold, and what it keeps for them.
    pub(super) fn held_bytes(&self) -> usize {
        self.core.held_bytes() + self.topics.held_bytes()
    }

    /// Frees what is spare, and after a peak gives the freed back to the kernel. Call it about once a
    /// second.
    pub(super) fn trim_memory(&mut self) {
        self.core.trim();
        let held_bytes = self.held_bytes();
        let freed_bytes = self.memory.peak_bytes.saturating_sub(held_bytes);
        if freed_bytes >= RELEASE_BYTES_MIN.max(held_bytes) {
            self.memory.peak_bytes = held_bytes;
            heap::release_free();
        }
    }

    /// Closes the connections with the largest queues, until these add up to `bytes`.
    fn shed_queues(&mut self, bytes: usize) {
        let mut queues: Vec<(usize, u32)> = (0..self.deadlines.slot_count())
            .filter_map(|index| {
                let held = self.table.get(index)?.connection.held_bytes();
                (held > 0).then_some((held, u32::try_from(index).ok()?))
            })
            .collect();
        queues.sort_unstable_by(|a, b| b.cmp(a));
        let mut freed_bytes = 0;
        let mut closed_count = 0;
        for (held, index) in queues {
            if freed_bytes >= bytes {
                break;
            }
            freed_bytes += held;
            closed_count += 1;
            let Some(entry) = self.table.get_mut(index as usize) else { continue };
            entry.connection.fail_with(LimitExceeded::MemoryScarce.into(), &mut self.core);
            self.tell_ending(index);
            self.look_after(index);
        }
        tracing::warn!(
            closed_count,
            freed_bytes,
            "memory is scarce: the largest queues are closed"
        );
    }
}
