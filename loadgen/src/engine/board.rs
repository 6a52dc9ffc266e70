//! What the threads of a run share: the order they follow, the window that is measured, and the
//! place where each hands over what it has counted.
//!
//! Times are nanoseconds since the start of the run, so that one thread can time what another sent.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tally::Tally;

/// What the threads are to do. Orders only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Nothing yet: threads are starting.
    Wait,
    /// Open the connections.
    Open,
    /// Do what the scenario is about.
    Run,
    /// The disturbance, or the last check, of scenarios that have one.
    Second,
    /// Send nothing more; what is under way may still arrive.
    Settle,
    /// Close the connections.
    Close,
    /// End at once.
    Stop,
}

const ORDERS: [Order; 7] =
    [Order::Wait, Order::Open, Order::Run, Order::Second, Order::Settle, Order::Close, Order::Stop];

/// Shared by the threads of a run.
#[derive(Debug)]
pub(crate) struct Board {
    base: Instant,
    order: AtomicU8,
    /// Threads that have started.
    ready: AtomicUsize,
    /// Since when the order `Run` holds.
    run_at: AtomicU64,
    /// Since when the order `Second` holds, or never.
    second_at: AtomicU64,
    window_start: AtomicU64,
    window_end: AtomicU64,
    tallies: Vec<Mutex<Tally>>,
}

impl Board {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            base: Instant::now(),
            order: AtomicU8::new(0),
            ready: AtomicUsize::new(0),
            run_at: AtomicU64::new(0),
            second_at: AtomicU64::new(u64::MAX),
            window_start: AtomicU64::new(u64::MAX),
            window_end: AtomicU64::new(u64::MAX),
            tallies: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> u64 {
        self.nanos(Instant::now())
    }

    /// An instant as nanoseconds since the start.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The reverse.
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.base + Duration::from_nanos(nanos)
    }

    pub(crate) fn order(&self) -> Order {
        ORDERS[usize::from(self.order.load(Ordering::Acquire))]
    }

    /// A thread has started.
    pub(crate) fn note_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all threads have started.
    pub(crate) fn all_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) >= self.tallies.len()
    }

    /// Gives the next order.
    pub(crate) fn give(&self, order: Order) {
        if order == Order::Run {
            self.run_at.store(self.now(), Ordering::Release);
        }
        if order == Order::Second {
            self.second_at.store(self.now(), Ordering::Release);
        }
        let number = ORDERS.iter().position(|known| *known == order).unwrap_or_default();
        self.order.store(u8::try_from(number).unwrap_or_default(), Ordering::Release);
    }

    /// When `Run` was ordered.
    pub(crate) fn run_at(&self) -> u64 {
        self.run_at.load(Ordering::Acquire)
    }

    /// When `Second` was ordered, or the end of time.
    pub(crate) fn second_at(&self) -> u64 {
        self.second_at.load(Ordering::Acquire)
    }

    /// What happens from now on for `length` is measured.
    pub(crate) fn open_window(&self, length: Duration) {
        let start = self.now();
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.window_end.store(start.saturating_add(length), Ordering::Release);
        self.window_start.store(start, Ordering::Release);
    }

    /// The window ends now, if it has not yet. Returns its seconds.
    pub(crate) fn close_window(&self) -> f64 {
        let start = self.window_start.load(Ordering::Acquire);
        let end = self.window_end.load(Ordering::Acquire).min(self.now());
        self.window_end.store(end, Ordering::Release);
        Duration::from_nanos(end.saturating_sub(start)).as_secs_f64()
    }

    /// When the window began, or the end of time.
    pub(crate) fn window_start(&self) -> u64 {
        self.window_start.load(Ordering::Acquire)
    }

    /// Whether the window has ended before this moment.
    pub(crate) fn is_over(&self, nanos: u64) -> bool {
        nanos >= self.window_end.load(Ordering::Acquire)
    }

    /// Whether this moment is measured.
    pub(crate) fn is_measured(&self, nanos: u64) -> bool {
        nanos >= self.window_start.load(Ordering::Acquire)
            && nanos < self.window_end.load(Ordering::Acquire)
    }

    /// The place of a worker's counts.
    pub(crate) fn tally(&self, worker: usize) -> MutexGuard<'_, Tally> {
        self.tallies[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what all workers have handed over.
    pub(crate) fn collect(&self, into: &mut Tally) {
        for worker in 0..self.tallies.len() {
            into.take(&mut self.tally(worker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_holds_from_its_start_to_just_before_its_end() {
        let board = Board::new(1);
        assert!(!board.is_measured(board.now()));
        board.open_window(Duration::from_secs(100));
        let now = board.now();
        assert!(board.is_measured(now));
        assert!(!board.is_measured(now + 101_000_000_000));
        assert!(board.close_window() < 50.0);
        assert!(!board.is_measured(board.now()));
    }

    #[test]
    fn orders_arrive_as_they_were_given() {
        let board = Board::new(1);
        assert_eq!(board.order(), Order::Wait);
        for order in ORDERS {
            board.give(order);
            assert_eq!(board.order(), order);
        }
    }
}
