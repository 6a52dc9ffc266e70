//! A look at the workers, four times a second: is one stuck at a turn, and is the service manager
//! to be told that all is well (row LC05).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use super::{Life, spawn};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// A worker that is at one turn for so long serves nobody.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Looks between two words about how far a drain has come.
const LOOKS_PER_STATUS: u32 = 4;

/// Looks from now on, on a thread of its own.
pub(super) fn watch(life: &Arc<Life>) -> io::Result<()> {
    let life = Arc::clone(life);
    let sign = life.manager.watchdog_period();
    let period = sign.map_or(PERIOD, |most| PERIOD.min(most));
    spawn("vitals", move || {
        let mut watch = life.plan.handle.turn_watch();
        let mut vitals = Vitals::default();
        for looks in 1_u32.. {
            sleep(period);
            // A reload may have changed it.
            let wishes = Wishes { sign, abort_after: life.plan.reload.stuck_abort() };
            let seen = vitals.look(&watch.poll(period), period, &wishes);
            act(&life, &seen);
            if life.plan.stage.is_stopping() && looks % LOOKS_PER_STATUS == 0 {
                tell_left(&life);
            }
        }
    })
}

/// What is wanted of the looks.
#[derive(Debug, Default)]
struct Wishes {
    /// A sign of life at least so often.
    sign: Option<Duration>,
    /// An end of the process when a worker is stuck for so long.
    abort_after: Option<Duration>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Vitals {
    /// Which workers are stuck.
    stuck: Vec<bool>,
    /// Since the last sign of life.
    silence: Duration,
}

/// What there is to do after a look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// For how long a worker is stuck.
    stuck: Duration,
    /// Workers that are stuck from now on, and for how long a turn has lasted; or no longer.
    news: Vec<(usize, Option<Duration>)>,
    sign_is_due: bool,
    abort_is_due: bool,
}

impl Vitals {
    fn look(&mut self, turns: &[Duration], period: Duration, wishes: &Wishes) -> Seen {
        let longest = turns.iter().copied().max().unwrap_or_default();
        let is_well = longest < STUCK_AFTER;
        self.silence += period;
        let sign_is_due = is_well && wishes.sign.is_some_and(|most| self.silence + period > most);
        if sign_is_due {
            self.silence = Duration::ZERO;
        }
        Seen {
            stuck: if is_well { Duration::ZERO } else { longest },
            news: self.news(turns),
            sign_is_due,
            abort_is_due: wishes.abort_after.is_some_and(|limit| longest >= limit),
        }
    }

    fn news(&mut self, turns: &[Duration]) -> Vec<(usize, Option<Duration>)> {
        self.stuck.resize(turns.len(), false);
        let mut news = Vec::new();
        for (worker, (time, was_stuck)) in turns.iter().zip(&mut self.stuck).enumerate() {
            let is_stuck = *time >= STUCK_AFTER;
            if is_stuck != *was_stuck {
                news.push((worker, is_stuck.then_some(*time)));
            }
            *was_stuck = is_stuck;
        }
        news
    }
}

fn act(life: &Life, seen: &Seen) {
    let millis = u64::try_from(seen.stuck.as_millis()).unwrap_or(u64::MAX);
    life.plan.stage.0.stuck_millis.store(millis, Ordering::Relaxed);
    for (worker, time) in &seen.news {
        match time {
            Some(time) => tracing::warn!(worker, "stuck: a turn has lasted {time:?} so far"),
            None => tracing::warn!(worker, "no longer stuck"),
        }
    }
    if seen.abort_is_due {
        tracing::error!("a worker is stuck for {:?} (--stuck-abort); aborting", seen.stuck);
        std::process::abort();
    }
    if seen.sign_is_due {
        life.manager.tell("WATCHDOG=1");
    }
}

/// How far a drain has come.
fn tell_left(life: &Life) {
    let stats = life.plan.handle.stats();
    let left = stats.opened.saturating_sub(stats.closed);
    life.manager.tell(&format!("STATUS=draining, {left} connections are left"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lc05_watchdog_hears_nothing_while_a_worker_is_stuck() {
        let wishes = Wishes { sign: Some(SECOND), abort_after: None };
        let mut vitals = Vitals::default();
        let mut signs = |turn: Duration, looks: u32| {
            let turns = [Duration::ZERO, turn];
            (0..looks).filter(|_| vitals.look(&turns, PERIOD, &wishes).sign_is_due).count()
        };
        assert_eq!(signs(Duration::ZERO, 40), 10, "once a second, while all turn");
        assert_eq!(signs(SECOND / 2, 40), 10, "a long turn is no fault yet");
        assert_eq!(signs(SECOND, 40), 0);
        assert_eq!(signs(Duration::ZERO, 1), 1, "at once when it turns again");
    }

    #[test]
    fn lc05_stuck_worker_is_news_once_and_is_shown_all_the_time() {
        let (wishes, mut vitals) = (Wishes::default(), Vitals::default());
        let mut look = |turn| vitals.look(&[SECOND / 10, turn], PERIOD, &wishes);
        assert_eq!(look(SECOND / 2), Seen::default());
        assert_eq!(look(SECOND).news, [(1, Some(SECOND))]);
        let later = look(5 * SECOND);
        assert_eq!((later.stuck, later.news.len()), (5 * SECOND, 0));
        assert_eq!(look(Duration::ZERO).news, [(1, None)]);
    }

    #[test]
    fn lc05_process_ends_only_if_it_was_asked_for() {
        let mut vitals = Vitals::default();
        let mut look = |abort_after, turn| {
            vitals.look(&[turn], PERIOD, &Wishes { sign: None, abort_after }).abort_is_due
        };
        assert!(!look(None, 3600 * SECOND));
        assert!(!look(Some(30 * SECOND), 29 * SECOND));
        assert!(look(Some(30 * SECOND), 30 * SECOND));
    }
}
