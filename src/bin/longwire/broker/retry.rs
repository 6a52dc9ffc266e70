//! When to try again to reach a broker that is gone.
//!
//! Delays double, and are cut by chance so that the nodes of a cluster do not come together. In the
//! first minutes none is over half a second: who restarts a broker finds all nodes back at once. A broker
//! that has been gone for longer is asked less often.

use std::time::{Duration, Instant};

const DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest delay while the broker has not been gone for long.
const DELAY_AT_FIRST: Duration = Duration::from_millis(500);
/// How long that is.
const AT_FIRST: Duration = Duration::from_secs(600);
/// A link that has lasted as long is no failure when it ends.
const LASTING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Retry {
    delay_max: Duration,
    next: Duration,
    gone_since: Option<Instant>,
    linked_at: Option<Instant>,
}

impl Retry {
    pub(super) fn new(delay_max: Duration) -> Self {
        Self { delay_max, next: DELAY_MIN, gone_since: None, linked_at: None }
    }

    pub(super) fn handle_link(&mut self, now: Instant) {
        self.linked_at = Some(now);
    }

    /// The link has ended, or did not come to be: how long to wait. `chance` is from 0 to 1.
    pub(super) fn handle_down(&mut self, now: Instant, chance: f64) -> Duration {
        let linked_at = self.linked_at.take();
        if linked_at.is_some_and(|at| now.saturating_duration_since(at) >= LASTING) {
            self.next = DELAY_MIN;
            self.gone_since = None;
        }
        let gone = now.saturating_duration_since(*self.gone_since.get_or_insert(now));
        let delay_max = if gone < AT_FIRST { DELAY_AT_FIRST } else { self.delay_max };
        let delay = self.next.min(delay_max.min(self.delay_max));
        self.next = (delay * 2).max(DELAY_MIN);
        delay.mul_f64(0.5 + chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bk01_delays_double_and_stay_short_for_ten_minutes() {
        let mut retry = Retry::new(Duration::from_secs(30));
        let began = Instant::now();
        let mut now = began;
        let mut delays = Vec::new();
        while now < began + 3 * AT_FIRST {
            let delay = retry.handle_down(now, 1.0);
            delays.push((now - began, delay));
            now += delay;
        }
        let millis: Vec<u128> = delays.iter().take(5).map(|(_, delay)| delay.as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 500, 500]);
        for (at, delay) in &delays {
            assert!(*at >= AT_FIRST || *delay <= DELAY_AT_FIRST, "{delay:?} at {at:?}");
        }
        assert_eq!(delays.last().unwrap().1, Duration::from_secs(30));
        // A link that ends at once changes nothing; one that lasts does.
        retry.handle_link(now);
        assert_eq!(retry.handle_down(now, 1.0), Duration::from_secs(30));
        retry.handle_link(now);
        assert_eq!(retry.handle_down(now + LASTING, 0.0), DELAY_MIN / 2);
    }
}
