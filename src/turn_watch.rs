//! Finds workers that do not come to the end of a turn: a callback that blocks, or never returns.
//!
//! It counts the time that its caller has seen pass, not that of a clock: while the whole process is
//! stopped nobody is stuck (row TM01).

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;

/// Tells for how long each worker has been at one turn. A turn is short: a worker that is at one for
/// a second serves nobody, mostly because a callback blocks. Made by
/// [`Handle::turn_watch`](crate::Handle::turn_watch).
///
/// ```no_run
/// # fn watch(handle: &longwire::Handle) {
/// use std::time::Duration;
///
/// const PERIOD: Duration = Duration::from_millis(250);
/// let mut watch = handle.turn_watch();
/// loop {
///     std::thread::sleep(PERIOD);
///     for (worker, time) in watch.poll(PERIOD).into_iter().enumerate() {
///         if time >= Duration::from_secs(1) {
///             eprintln!("worker {worker} is stuck");
///         }
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct TurnWatch {
    workers: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    metrics: Arc<Metrics>,
    /// Which turn it was at.
    turn: Option<u64>,
    time: Duration,
}

impl TurnWatch {
    pub(crate) fn new(metrics: Vec<Arc<Metrics>>) -> Self {
        let seen = |metrics| Seen { metrics, turn: None, time: Duration::ZERO };
        Self { workers: metrics.into_iter().map(seen).collect() }
    }

    /// For how long each worker has been at the turn it is at, as far as has been seen; zero for
    /// one that waits. `passed` is the time since the last call, as it was planned: if more has passed, the
    /// process was stopped.
    pub fn poll(&mut self, passed: Duration) -> Vec<Duration> {
        self.workers.iter_mut().map(|worker| worker.poll(passed)).collect()
    }
}

impl Seen {
    fn poll(&mut self, passed: Duration) -> Duration {
        let turn = self.metrics.turn_under_way();
        self.time = if turn.is_some() && turn == self.turn {
            self.time.saturating_add(passed)
        } else {
            Duration::ZERO
        };
        self.turn = turn;
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lc05_worker_is_stuck_while_it_is_at_one_and_the_same_turn() {
        const STEP: Duration = Duration::from_millis(250);
        let metrics: Vec<Arc<Metrics>> = (0..2).map(|_| Arc::default()).collect();
        let mut watch = TurnWatch::new(metrics.clone());
        assert_eq!(watch.poll(STEP), [Duration::ZERO; 2], "none has begun");
        metrics[1].begin_turn();
        for count in 0..5 {
            assert_eq!(watch.poll(STEP), [Duration::ZERO, STEP * count]);
        }
        metrics[1].count_turn(STEP);
        assert_eq!(watch.poll(STEP), [Duration::ZERO; 2], "it waits");
        for _ in 0..5 {
            metrics[1].begin_turn();
            assert_eq!(watch.poll(STEP), [Duration::ZERO; 2], "each is another turn");
            metrics[1].count_turn(STEP);
        }
    }
}
