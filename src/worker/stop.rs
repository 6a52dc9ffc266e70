//! Stopping a worker: close every connection, now or spread over a time, let what is queued leave,
//! then end by a deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::conn::Phase;
use crate::io::Driver;
use crate::policy::{Tick, Ticks};
use crate::proto::CloseCode;

use super::drain::Drain;
use super::{Application, Worker};

/// Connections closed in one turn, so that a million closes are not one long turn.
const CLOSES_PER_TURN_MAX: usize = 1024;
/// Slots looked at in one turn for connections to close: most of a table may be empty.
const SLOTS_PER_TURN_MAX: usize = 64 * 1024;

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// What the peers are told.
    pub(crate) code: CloseCode,
    /// Over which time they are told. At once if it is zero.
    pub(crate) drain_time: Duration,
    /// How long they have to answer after that.
    pub(crate) grace: Duration,
    /// The listening sockets go on in another process.
    pub(crate) handed_over: bool,
    /// Which jitter.
    pub(crate) seed: u64,
}

impl StopOrder {
    /// Tells all at once.
    pub(crate) fn at_once(code: CloseCode, grace: Duration) -> Self {
        Self { code, drain_time: Duration::ZERO, grace, handed_over: false, seed: 0 }
    }

    /// Waits for nobody.
    pub(crate) fn cut_off() -> Self {
        Self::at_once(CloseCode::GOING_AWAY, Duration::ZERO)
    }

    /// How long all of it may take.
    fn time_max(&self) -> Duration {
        self.drain_time.saturating_add(self.grace)
    }
}

/// By which other threads tell the workers to stop.
#[derive(Debug, Default)]
pub(crate) struct StopSwitch {
    /// Read once per wake; the order is behind a lock because it is given once or twice in a life.
    given: AtomicBool,
    order: Mutex<Option<StopOrder>>,
}

impl StopSwitch {
    /// Tells the workers to stop. A later order replaces an earlier one: with no grace, it ends a
    /// stop that takes too long.
    pub(crate) fn give(&self, mut order: StopOrder) {
        let mut given = self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A worker may see the later one alone, and must not end what goes on elsewhere.
        order.handed_over |= given.is_some_and(|earlier| earlier.handed_over);
        *given = Some(order);
        self.given.store(true, Ordering::Release);
    }

    /// Whether the workers were told to stop.
    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    fn order(&self) -> Option<StopOrder> {
        if !self.is_given() {
            return None;
        }
        *self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How far a worker is with stopping.
#[derive(Debug, Default)]
pub(super) struct Stop {
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    order: StopOrder,
    /// Who is told when, if not all are at once.
    drain: Option<Drain>,
    /// Slots from here on have not been told yet, when it is the turn of all that are left.
    next_index: usize,
    all_told: bool,
    /// End of the grace.
    deadline: Tick,
    /// All that is left was cut off.
    cut_off: bool,
}

impl UnderWay {
    fn new(order: StopOrder, now: Tick, drain: Option<Drain>) -> Self {
        let time_max = order.time_max();
        let deadline = if time_max.is_zero() { now } else { now.after(Ticks::at_least(time_max)) };
        Self { order, drain, next_index: 0, all_told: false, deadline, cut_off: false }
    }
}

impl Stop {
    /// When `advance_stop` has something to do.
    pub(super) fn next_due(&self, now: Tick) -> Tick {
        match &self.under_way {
            None => Tick::NEVER,
            Some(stop) if stop.cut_off => Tick::NEVER,
            Some(UnderWay { drain: Some(drain), deadline, .. }) => {
                drain.next_due(now).min(*deadline)
            }
            Some(stop) if !stop.all_told => Tick(0),
            Some(stop) => stop.deadline,
        }
    }

    /// Whether no connection is taken any more. Those that came before the sockets were handed
    /// over are: nobody else has them.
    pub(super) fn refuses(&self) -> bool {
        self.under_way.as_ref().is_some_and(|stop| !stop.order.handed_over || stop.drain.is_none())
    }

    /// Whether the application has no more turns: while connections are told one after another,
    /// the others are still served.
    pub(super) fn is_final(&self) -> bool {
        self.under_way.as_ref().is_some_and(|stop| stop.drain.is_none())
    }
}

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Another thread has something to say.
    pub(super) fn handle_woken(&mut self) {
        if let Some(order) = self.shared.stop.order() {
            self.begin_stop(order);
        }
    }

    /// Begins to stop, or goes on by a new order.
    pub(super) fn begin_stop(&mut self, order: StopOrder) {
        match &self.stop.under_way {
            Some(stop) if stop.order == order || stop.cut_off => return,
            Some(_) => {}
            None if order.handed_over => self.driver.release_listeners(),
            None => self.driver.close_listeners(),
        }
        let drain = self.drain_by(&order);
        self.stop.under_way = Some(UnderWay::new(order, self.core.now, drain));
    }

    /// The schedule of a stop that tells connections one after another.
    fn drain_by(&self, order: &StopOrder) -> Option<Drain> {
        if order.drain_time.is_zero() {
            return None;
        }
        let seed = order.seed ^ self.topics.core() as u64;
        let (slot_count, conn_count) = (self.deadlines.slot_count(), self.table.len());
        Some(Drain::new(self.core.now, order.drain_time, slot_count, conn_count, seed))
    }

    /// Goes on with a stop. False once it is done.
    pub(super) fn advance_stop(&mut self) -> bool {
        let now = self.core.now;
        let Some(stop) = &mut self.stop.under_way else { return true };
        // What was accepted before a hand-over may still be on its way here.
        let is_early = stop.drain.as_ref().is_some_and(|drain| drain.is_early(now));
        let awaits_more = stop.order.handed_over && is_early;
        if self.table.is_empty() && !awaits_more {
            return false;
        }
        if !stop.cut_off && stop.deadline <= now {
            stop.cut_off = true;
            stop.drain = None;
            self.cut_all_off();
            return true;
        }
        let code = stop.order.code;
        if stop.drain.as_ref().is_some_and(|drain| drain.is_over(now)) {
            stop.drain = None;
        }
        if stop.drain.is_some() {
            self.advance_drain(code);
        } else {
            self.tell_next(code);
        }
        true
    }

    /// Tells those whose time has come.
    fn advance_drain(&mut self, code: CloseCode) {
        let (mut closes, mut slots) = (CLOSES_PER_TURN_MAX, SLOTS_PER_TURN_MAX);
        while closes > 0 && slots > 0 {
            let Some(stop) = &mut self.stop.under_way else { return };
            let Some(drain) = &mut stop.drain else { return };
            let Some(index) = drain.poll_slot(self.core.now) else { return };
            slots -= 1;
            let Some(entry) = self.table.get_mut(index as usize) else { continue };
            // A handshake is let to its end: its peer would take the answer for a refusal.
            if entry.connection.phase() != Phase::Open {
                continue;
            }
            drain.handle_told();
            closes -= 1;
            entry.connection.retire(code, &mut self.core);
            self.tell_ending(index);
            self.look_after(index);
        }
    }

    /// Tells all that have not been told, as many as a turn has time for.
    fn tell_next(&mut self, code: CloseCode) {
        let slot_count = self.deadlines.slot_count();
        let Some(stop) = &mut self.stop.under_way else { return };
        let first = stop.next_index;
        let last = (first + CLOSES_PER_TURN_MAX).min(slot_count);
        stop.next_index = last;
        stop.all_told = last == slot_count;
        for index in first..last {
            let Some(entry) = self.table.get_mut(index) else { continue };
            entry.connection.retire(code, &mut self.core);
            let Ok(index) = u32::try_from(index) else { break };
            self.tell_ending(index);
            self.look_after(index);
        }
    }

    fn cut_all_off(&mut self) {
        for index in 0..self.deadlines.slot_count() {
            let Some(entry) = self.table.get_mut(index) else { continue };
            entry.connection.cut_off(&mut self.core);
            let Ok(index) = u32::try_from(index) else { break };
            self.tell_ending(index);
            self.look_after(index);
        }
    }
}
