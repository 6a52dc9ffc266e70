//! The memory of the whole process, and what is done before it is used up (row BP03).
//!
//! Each worker says once per turn how much its connections hold; the sum decides, for all workers
//! alike. So the sum is late by a turn of each worker, and the room above the last level has to be
//! worth more than what arrives in that time. What is counted, and what is done at each level, is
//! the affair of the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Percent of the budget from which each level holds.
const REFUSE_NEW_PERCENT: usize = 80;
const PAUSE_READING_PERCENT: usize = 90;
const SHED_PERCENT: usize = 95;

/// How scarce memory is. Each level includes what is done at those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing is to be done.
    Normal,
    /// New connections are refused with 503.
    RefuseNew,
    /// Connections over their high-water mark are not read.
    PauseReading,
    /// The connections with the largest queues are closed with 1013.
    Shed,
}

/// What all workers together may hold, and what they do.
#[derive(Debug)]
pub(crate) struct Budget {
    /// May be changed at any time; read as seldom as what is used.
    limit_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
}

impl Default for Budget {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Budget {
    /// Nothing used of so many bytes.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes: AtomicUsize::new(limit_bytes), used_bytes: AtomicUsize::new(0) }
    }

    /// It is so many bytes from now on.
    pub(crate) fn set_limit(&self, limit_bytes: usize) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// How scarce memory is, by what was last reported.
    pub(crate) fn level(&self) -> Level {
        let used_bytes = self.used_bytes();
        if used_bytes >= self.threshold_bytes(SHED_PERCENT) {
            Level::Shed
        } else if used_bytes >= self.threshold_bytes(PAUSE_READING_PERCENT) {
            Level::PauseReading
        } else if used_bytes >= self.threshold_bytes(REFUSE_NEW_PERCENT) {
            Level::RefuseNew
        } else {
            Level::Normal
        }
    }

    /// What all workers have reported.
    pub(crate) fn used_bytes(&self) -> usize {
        // Only the number counts, and it is late anyway: nothing is ordered by it.
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Rounded up, so that no level holds before its percentage is reached. A budget of nothing is
    /// used up from the start.
    fn threshold_bytes(&self, percent: usize) -> usize {
        let limit_bytes = self.limit_bytes.load(Ordering::Relaxed);
        let whole = limit_bytes / 100 * percent;
        whole + (limit_bytes % 100 * percent).div_ceil(100)
    }
}

/// What one worker holds of a budget; given back when the worker ends, however it does.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    budget: Arc<Budget>,
    /// INVARIANT: this much of `budget.used_bytes` is ours.
    reported_bytes: usize,
}

impl BudgetShare {
    /// Holds nothing yet.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, reported_bytes: 0 }
    }

    /// Reports that the worker now holds so many bytes. Touches the memory that workers share only
    /// if that has changed.
    pub(crate) fn set_bytes(&mut self, bytes: usize) {
        let used_bytes = &self.budget.used_bytes;
        if bytes > self.reported_bytes {
            used_bytes.fetch_add(bytes - self.reported_bytes, Ordering::Relaxed);
        } else if bytes < self.reported_bytes {
            used_bytes.fetch_sub(self.reported_bytes - bytes, Ordering::Relaxed);
        }
        self.reported_bytes = bytes;
    }

    /// How scarce memory is in the whole process.
    pub(crate) fn level(&self) -> Level {
        self.budget.level()
    }

    /// Bytes this worker has to free so that [`Level::Shed`] ends: of what is over, the part that it
    /// has of what is used. So workers that see the level at once do not each free all of it.
    pub(crate) fn shed_bytes(&self) -> usize {
        let used_bytes = self.budget.used_bytes();
        let Some(over_bytes) = used_bytes.checked_sub(self.budget.threshold_bytes(SHED_PERCENT))
        else {
            return 0;
        };
        // One byte below the threshold is where the level ends.
        let over_bytes = over_bytes as u128 + 1;
        let part = (over_bytes * self.reported_bytes as u128).div_ceil(used_bytes.max(1) as u128);
        usize::try_from(part).map_or(self.reported_bytes, |part| part.min(self.reported_bytes))
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.set_bytes(0);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn share_of(limit_bytes: usize) -> (Arc<Budget>, BudgetShare) {
        let budget = Arc::new(Budget::new(limit_bytes));
        (Arc::clone(&budget), BudgetShare::new(budget))
    }

    #[test]
    fn bp03_levels_begin_at_80_90_and_95_percent() {
        for scale in [1, 7, 1 << 20, usize::MAX / 1000] {
            let (budget, mut share) = share_of(1000 * scale);
            for (bytes, level) in [
                (0, Level::Normal),
                (800 * scale - 1, Level::Normal),
                (800 * scale, Level::RefuseNew),
                (900 * scale - 1, Level::RefuseNew),
                (900 * scale, Level::PauseReading),
                (950 * scale - 1, Level::PauseReading),
                (950 * scale, Level::Shed),
                (1000 * scale, Level::Shed),
                (usize::MAX, Level::Shed),
                (0, Level::Normal),
            ] {
                share.set_bytes(bytes);
                assert_eq!(budget.level(), level, "{bytes} of {}", 1000 * scale);
                assert_eq!(share.level(), level);
            }
        }
    }

    #[test]
    fn bp03_small_and_boundless_budgets_have_levels_too() {
        let (_budget, mut share) = share_of(0);
        assert_eq!(share.level(), Level::Shed);
        assert_eq!(share.shed_bytes(), 0, "there is nothing to free");
        share.set_bytes(1);
        assert_eq!(share.shed_bytes(), 1);
        let (_budget, mut share) = share_of(1);
        assert_eq!(share.level(), Level::Normal);
        share.set_bytes(1);
        assert_eq!(share.level(), Level::Shed);
        let (_budget, mut share) = share_of(usize::MAX);
        share.set_bytes(usize::MAX / 2);
        assert_eq!(share.level(), Level::Normal);
        share.set_bytes(usize::MAX);
        assert_eq!(share.level(), Level::Shed);
    }

    #[test]
    fn bp03_levels_are_in_order() {
        assert!(Level::Normal < Level::RefuseNew);
        assert!(Level::RefuseNew < Level::PauseReading);
        assert!(Level::PauseReading < Level::Shed);
    }

    #[test]
    fn bp03_levels_follow_a_budget_that_is_changed() {
        let (budget, mut share) = share_of(1000);
        share.set_bytes(850);
        assert_eq!(share.level(), Level::RefuseNew);
        budget.set_limit(2000);
        assert_eq!(share.level(), Level::Normal);
        budget.set_limit(850);
        assert_eq!((share.level(), share.shed_bytes()), (Level::Shed, 43));
    }

    #[test]
    fn bp03_workers_count_together_and_give_back_when_they_end() {
        let (budget, mut first) = share_of(1000);
        let mut second = BudgetShare::new(Arc::clone(&budget));
        first.set_bytes(500);
        assert_eq!(second.level(), Level::Normal);
        second.set_bytes(450);
        assert_eq!((first.level(), budget.used_bytes()), (Level::Shed, 950));
        first.set_bytes(400);
        assert_eq!((second.level(), budget.used_bytes()), (Level::RefuseNew, 850));
        drop(second);
        assert_eq!((first.level(), budget.used_bytes()), (Level::Normal, 400));
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn bp03_workers_that_shed_at_once_free_enough_and_little_more() {
        for held in [[970, 0, 0], [400, 560, 3], [1, 1, 960], [5000, 7, 900], [317, 317, 317]] {
            let budget = Arc::new(Budget::new(1000));
            let mut shares: Vec<_> =
                held.iter().map(|_| BudgetShare::new(Arc::clone(&budget))).collect();
            for (share, bytes) in shares.iter_mut().zip(held) {
                share.set_bytes(bytes);
            }
            assert_eq!(budget.level(), Level::Shed);
            let parts: Vec<usize> = shares.iter().map(BudgetShare::shed_bytes).collect();
            for (index, share) in shares.iter_mut().enumerate() {
                share.set_bytes(held[index] - parts[index]);
            }
            assert_eq!(budget.level(), Level::PauseReading, "{held:?} freed {parts:?}");
            assert!(budget.used_bytes() >= 950 - held.len(), "{held:?} freed {parts:?}");
            assert!(shares.iter().all(|share| share.shed_bytes() == 0));
        }
    }

    #[test]
    fn bp03_reports_of_many_threads_add_up() {
        let budget = Arc::new(Budget::new(1 << 30));
        thread::scope(|scope| {
            for seed in 0..4 {
                let budget = Arc::clone(&budget);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut share = BudgetShare::new(budget);
                    for _ in 0..if cfg!(miri) { 100 } else { 100_000 } {
                        share.set_bytes(random.usize(..1000));
                        let used_bytes = share.budget.used_bytes();
                        assert!(used_bytes < 4 * 1000, "{used_bytes} bytes were never held");
                    }
                });
            }
        });
        assert_eq!(budget.used_bytes(), 0);
    }
}
