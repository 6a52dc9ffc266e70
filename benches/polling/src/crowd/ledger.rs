//! Keeps account of what has arrived: every update once, in order, at the right client, and how long
//! it took.

use crate::schedule::Schedule;
use crate::update::Update;

/// What was wrong with the updates of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came again, or after a later one.
    pub(crate) repeated: u64,
    /// Came to another client, or was never published.
    pub(crate) misdelivered: u64,
}

/// The account of all clients.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The newest sequence number of each client; 0 before its first.
    newest: Vec<u64>,
    arrived: u64,
    repeated: u64,
    misdelivered: u64,
    /// Publishing instant and arrival of each update that counts.
    arrivals: Vec<(Update, u64)>,
}

impl Ledger {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            newest: vec![0; clients],
            arrived: 0,
            repeated: 0,
            misdelivered: 0,
            arrivals: Vec::new(),
        }
    }

    /// A client has an update.
    pub(crate) fn handle_update(&mut self, client: usize, update: Update, now_ns: u64) {
        if u64::try_from(client) != Ok(update.client) {
            self.misdelivered += 1;
            return;
        }
        let newest = &mut self.newest[client];
        if update.seq <= *newest {
            self.repeated += 1;
            return;
        }
        // What was skipped is missing from the number of those that arrived.
        *newest = update.seq;
        self.arrived += 1;
        self.arrivals.push((update, now_ns));
    }

    /// The sequence number that a client has reached.
    pub(crate) fn newest(&self, client: usize) -> u64 {
        self.newest[client]
    }

    /// Updates that arrived and count.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// What is wrong, when nothing more will arrive.
    pub(crate) fn faults(&self, schedule: &Schedule) -> Faults {
        let invented = |&(client, newest): &(u64, u64)| newest > schedule.count_for(client);
        let invented = (0..).zip(self.newest.iter().copied()).filter(invented).count();
        Faults {
            lost: schedule.update_count().saturating_sub(self.arrived),
            repeated: self.repeated,
            misdelivered: self.misdelivered + u64::try_from(invented).unwrap_or(u64::MAX),
        }
    }

    /// From publishing to the client having it, shortest first.
    pub(crate) fn delays(&self) -> Vec<u64> {
        let delay = |(update, now_ns): &(Update, u64)| now_ns.saturating_sub(update.at);
        sorted(self.arrivals.iter().map(delay))
    }

    /// How late the server published, after the schedule.
    pub(crate) fn publishing_lags(&self, schedule: &Schedule) -> Vec<u64> {
        sorted(self.arrivals.iter().map(|(update, _)| {
            update.at.saturating_sub(schedule.client_due_ns(update.client, update.seq))
        }))
    }
}

/// The value that so many of a thousand sorted values do not exceed (nearest rank); 0 if there are
/// none.
pub(crate) fn quantile(sorted: &[u64], permille: usize) -> u64 {
    let rank = (sorted.len() * permille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clients, two updates each.
    const SCHEDULE: Schedule =
        Schedule { start_ns: 100, interval_ns: 10, duration_ns: 20, client_count: 2 };

    fn update(client: u64, seq: u64) -> Update {
        Update { client, seq, at: SCHEDULE.client_due_ns(client, seq) + 1 }
    }

    fn ledger(updates: &[(usize, Update)]) -> Ledger {
        let mut ledger = Ledger::new(2);
        for (client, update) in updates {
            ledger.handle_update(*client, *update, update.at + 5);
        }
        ledger
    }

    fn whole() -> Vec<(usize, Update)> {
        vec![(0, update(0, 1)), (1, update(1, 1)), (0, update(0, 2)), (1, update(1, 2))]
    }

    #[test]
    fn ledger_is_clean_when_every_update_arrived_once_in_order() {
        let ledger = ledger(&whole());
        assert_eq!(ledger.faults(&SCHEDULE), Faults::default());
        assert_eq!(ledger.delays(), [5; 4]);
        assert_eq!(ledger.publishing_lags(&SCHEDULE), [1; 4]);
    }

    #[test]
    fn ledger_counts_what_is_missing_at_the_end_and_in_between() {
        let mut updates = whole();
        updates.remove(3);
        updates.remove(0);
        assert_eq!(ledger(&updates).faults(&SCHEDULE), Faults { lost: 2, ..Faults::default() });
    }

    #[test]
    fn ledger_counts_what_comes_twice() {
        let mut updates = whole();
        updates.push((1, update(1, 2)));
        assert_eq!(ledger(&updates).faults(&SCHEDULE), Faults { repeated: 1, ..Faults::default() });
    }

    #[test]
    fn ledger_counts_what_comes_out_of_order() {
        let mut updates = whole();
        updates.swap(0, 2);
        let faults = Faults { repeated: 1, lost: 1, ..Faults::default() };
        assert_eq!(ledger(&updates).faults(&SCHEDULE), faults);
    }

    #[test]
    fn ledger_counts_what_comes_to_the_wrong_client_or_was_never_published() {
        let mut updates = whole();
        updates.push((0, update(1, 3)));
        updates.push((1, update(1, 3)));
        assert_eq!(ledger(&updates).faults(&SCHEDULE).misdelivered, 2);
    }

    #[test]
    fn quantile_is_the_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&values, 500), 50);
        assert_eq!(quantile(&values, 990), 99);
        assert_eq!(quantile(&values, 1000), 100);
        assert_eq!(quantile(&[7], 990), 7);
        assert_eq!(quantile(&[], 500), 0);
    }
}
