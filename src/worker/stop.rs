//! Stopping a worker: close every connection, let what is queued leave, then end by a deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::io::Driver;
use crate::policy::{Tick, Ticks};
use crate::proto::CloseCode;

use super::{Application, Worker};

/// Connections closed in one turn, so that a million closes are not one long turn.
const CLOSES_PER_TURN_MAX: usize = 1024;

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// What the peers are told.
    pub(crate) code: CloseCode,
    /// How long they have to answer.
    pub(crate) grace: Duration,
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
    pub(crate) fn give(&self, order: StopOrder) {
        *self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(order);
        self.given.store(true, Ordering::Release);
    }

    fn order(&self) -> Option<StopOrder> {
        if !self.given.load(Ordering::Acquire) {
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
    /// Slots from here on have not been told yet.
    next_index: usize,
    all_told: bool,
    /// End of the grace.
    deadline: Tick,
    /// All that is left was cut off.
    cut_off: bool,
}

impl Stop {
    /// When `advance_stop` has something to do.
    pub(super) fn next_due(&self) -> Tick {
        match &self.under_way {
            None => Tick::NEVER,
            Some(stop) if stop.cut_off => Tick::NEVER,
            Some(stop) if !stop.all_told => Tick(0),
            Some(stop) => stop.deadline,
        }
    }

    /// Whether no connection is taken any more.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
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
        let deadline = self.core.now.after(Ticks::at_least(order.grace));
        match &mut self.stop.under_way {
            Some(stop) if stop.order == order => {}
            Some(stop) => {
                stop.order = order;
                stop.deadline = if order.grace.is_zero() { self.core.now } else { deadline };
            }
            None => {
                self.driver.close_listeners();
                let deadline = if order.grace.is_zero() { self.core.now } else { deadline };
                let under_way =
                    UnderWay { order, next_index: 0, all_told: false, deadline, cut_off: false };
                self.stop.under_way = Some(under_way);
            }
        }
    }

    /// Goes on with a stop. False once it is done.
    pub(super) fn advance_stop(&mut self) -> bool {
        let Some(stop) = &mut self.stop.under_way else { return true };
        if self.table.is_empty() {
            return false;
        }
        let slot_count = self.deadlines.slot_count();
        let code = stop.order.code;
        let first = stop.next_index;
        let last = (first + CLOSES_PER_TURN_MAX).min(slot_count);
        stop.next_index = last;
        stop.all_told = last == slot_count;
        let cut_off = !stop.cut_off && stop.deadline <= self.core.now;
        stop.cut_off |= cut_off;
        let told = if cut_off { 0..slot_count } else { first..last };
        for index in told {
            let Some(entry) = self.table.get_mut(index) else { continue };
            if cut_off {
                entry.connection.cut_off(&mut self.core);
            } else {
                entry.connection.retire(code, &mut self.core);
            }
            let Ok(index) = u32::try_from(index) else { break };
            self.tell_ending(index);
            self.look_after(index);
        }
        true
    }
}
