//! What a worker shows of itself to other threads: after each turn, and once a second.

use crate::io::Driver;

use super::{Application, Worker};

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Shows others what this turn was like.
    pub(super) fn report(&self) {
        let metrics = &self.core.metrics;
        metrics.queued_bytes.set(self.core.queued_bytes as u64);
        metrics.published.set(self.topics.published_count());
        metrics.count_turn(self.driver.now().saturating_duration_since(self.clock.now()));
        if self.table.is_empty() {
            // There may be no further turn for a long time.
            self.report_levels();
        }
    }

    /// Shows others what need not be known to the turn: topics, memory, and the queues shared with
    /// the kernel.
    #[cold]
    pub(super) fn report_levels(&self) {
        let metrics = &self.core.metrics;
        metrics.topics.set(self.topics.topic_count() as u64);
        metrics.subscriptions.set(self.topics.subscription_count() as u64);
        metrics.held_bytes.set(self.held_bytes() as u64);
        let pool = &self.core.pool;
        metrics.receive_blocks_lent.set(pool.receive_lent() as u64);
        metrics.receive_blocks_free.set(pool.receive_available() as u64);
        metrics.pool_bytes.set(pool.held_bytes() as u64);
        metrics.spare_bytes.set(pool.spare_bytes() as u64);
        let health = self.driver.health();
        metrics.waits.set(health.waits);
        metrics.submissions.set(health.submissions);
        metrics.completion_overflows.set(health.completion_overflows);
        metrics.submission_stalls.set(health.submission_stalls);
        metrics.receives_parked.set(health.receives_parked);
    }
}
