//! When which client gets which update. Both servers publish by it, and the clients know from it
//! what must arrive and whether the server published late.
//!
//! The updates of all clients are spread evenly over the interval, so that the load is even.
//! Nothing here reads the clock.

/// A plan of updates; numbers count from 0, sequence numbers of a client from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    /// From one update of a client to its next.
    pub(crate) interval_ns: u64,
    /// Nothing is published from `start_ns` and this on.
    pub(crate) duration_ns: u64,
    pub(crate) client_count: u64,
}

impl Schedule {
    /// Updates of all clients together.
    pub(crate) fn update_count(&self) -> u64 {
        let product = u128::from(self.duration_ns) * u128::from(self.client_count);
        u64::try_from(product.div_ceil(u128::from(self.interval_ns))).unwrap_or(u64::MAX)
    }

    /// When the update of this number is due.
    pub(crate) fn due_ns(&self, number: u64) -> u64 {
        let offset = u128::from(number) * u128::from(self.interval_ns);
        let offset = offset / u128::from(self.client_count);
        self.start_ns.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// When a client's update of this sequence number is due.
    pub(crate) fn client_due_ns(&self, client: u64, seq: u64) -> u64 {
        self.due_ns(seq.saturating_sub(1).saturating_mul(self.client_count).saturating_add(client))
    }

    /// How many updates a client gets.
    pub(crate) fn count_for(&self, client: u64) -> u64 {
        let total = self.update_count();
        total / self.client_count + u64::from(client < total % self.client_count)
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

/// Walks a schedule as time goes on.
#[derive(Debug)]
pub(crate) struct Publisher {
    schedule: Schedule,
    next: u64,
}

impl Publisher {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, next: 0 }
    }

    /// Client and sequence number of the next update, if it is due.
    pub(crate) fn poll_due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let clients = self.schedule.client_count;
        Some((number % clients, number / clients + 1))
    }

    /// When there is something to publish again; none when all is published.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        (self.next < self.schedule.update_count()).then(|| self.schedule.due_ns(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { start_ns: 1_000, interval_ns: 100, duration_ns: 250, client_count: 4 };

    #[test]
    fn updates_are_spread_evenly_over_the_interval() {
        let due: Vec<u64> = (0..6).map(|number| SCHEDULE.due_ns(number)).collect();
        assert_eq!(due, [1_000, 1_025, 1_050, 1_075, 1_100, 1_125]);
    }

    #[test]
    fn publisher_gives_each_client_its_updates_in_order_and_then_ends() {
        let mut publisher = Publisher::new(SCHEDULE);
        let mut next_seq = [1; 4];
        while let Some((client, seq)) = publisher.poll_due(u64::MAX) {
            let expected = &mut next_seq[usize::try_from(client).unwrap()];
            assert_eq!(seq, *expected);
            *expected += 1;
        }
        assert_eq!(publisher.next_due_ns(), None);
        for (client, next) in (0..).zip(next_seq) {
            assert_eq!(SCHEDULE.count_for(client), next - 1, "client {client}");
        }
        assert_eq!(next_seq, [4, 4, 3, 3]);
    }

    #[test]
    fn publisher_keeps_back_what_is_not_due() {
        let mut publisher = Publisher::new(SCHEDULE);
        assert_eq!(publisher.poll_due(999), None);
        assert_eq!(publisher.poll_due(1_000), Some((0, 1)));
        assert_eq!(publisher.poll_due(1_000), None);
        assert_eq!(publisher.next_due_ns(), Some(SCHEDULE.client_due_ns(1, 1)));
    }
}
