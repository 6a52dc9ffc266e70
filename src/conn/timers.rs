//! What is due when: the one deadline of each state, and what happens then (row R4).

use crate::policy::{LimitChanges, Tick, Ticks};
use crate::proto::{CloseCode, LimitExceeded, Opcode};

use super::{Close, CloseCause, Connection, Core, Phase, Side};

impl Connection {
    /// Something was due at `next_deadline`.
    pub(crate) fn handle_deadline(&mut self, core: &mut Core) {
        if self.next_deadline(core) > core.now {
            return;
        }
        match self.phase {
            Phase::Handshake => self.handle_handshake_timeout(core),
            Phase::Open => self.handle_open_deadline(core),
            Phase::Closing => {
                self.end(Close::abnormal(Side::Local, CloseCause::CloseTimeout), core);
                self.phase = Phase::Ended;
                self.reset = true;
            }
            Phase::Draining => {
                self.phase = Phase::Ended;
                self.reset = true;
            }
            Phase::Lingering => self.phase = Phase::Ended,
            Phase::Ended => {}
        }
    }

    /// When `handle_deadline` is to be called.
    pub(crate) fn next_deadline(&self, core: &Core) -> Tick {
        let timeouts = &core.limits.timeouts;
        if self.phase != Phase::Open {
            return if self.phase == Phase::Ended { Tick::NEVER } else { self.deadline };
        }
        let mut due =
            if self.receive_paused { Tick::NEVER } else { self.next_silence_deadline(core) };
        if let Some(since) = self.outbox.as_ref().and_then(|outbox| outbox.stalled_since()) {
            due = due.min(since.after(timeouts.write_stall));
        }
        if let Some(opened_at) = self.inbox.as_ref().and_then(|inbox| inbox.opened_at()) {
            due = due.min(opened_at.after(timeouts.message));
        }
        if let Some(expires_at) = self.expires_at() {
            due = due.min(expires_at);
        }
        if self.receive_paused
            && let Some(until) = self.throttled_until().filter(|until| *until > core.now)
        {
            due = due.min(until);
        }
        due
    }

    /// Limits have changed. What was counted by those of before is counted anew: else a peer would be
    /// closed for what it did while it might, or wait for a rate that is gone.
    pub(crate) fn handle_limits_changed(&mut self, changes: LimitChanges, core: &Core) {
        if changes.rates
            && let Some(extras) = &mut self.extras
        {
            extras.flow = None;
        }
        // A pong that is awaited was asked for by the old limits, and is still owed.
        if changes.silence && self.phase == Phase::Open && self.deadline == Tick::NEVER {
            self.heard_at = core.now;
        }
    }

    /// When silence is to be asked about, or to end the connection.
    ///
    /// It counts only while we listen: a peer whose bytes we leave unread cannot show that it
    /// lives. Then the queue that made us pause is what times it, by the write-stall timeout.
    fn next_silence_deadline(&self, core: &Core) -> Tick {
        let timeouts = &core.limits.timeouts;
        let mut due = self.deadline;
        if due == Tick::NEVER
            && let Some(interval) = timeouts.ping_interval
        {
            due = self.heard_at.after(self.spread_out(interval));
        }
        if let Some(idle) = timeouts.idle {
            due = due.min(self.heard_at.after(idle));
        }
        due
    }

    pub(super) fn handle_open_deadline(&mut self, core: &mut Core) {
        let timeouts = &core.limits.timeouts;
        let passed =
            |since: Option<Tick>, span: Ticks| since.is_some_and(|at| at.after(span) <= core.now);
        let stalled = self.outbox.as_ref().and_then(|outbox| outbox.stalled_since());
        let pong_missed = !self.receive_paused && self.deadline <= core.now;
        if pong_missed || passed(stalled, timeouts.write_stall) {
            let cause = if pong_missed { CloseCause::PongTimeout } else { CloseCause::WriteStall };
            self.end(Close::abnormal(Side::Local, cause), core);
            self.phase = Phase::Ended;
            self.reset = true;
            return;
        }
        if passed(self.inbox.as_ref().and_then(|inbox| inbox.opened_at()), timeouts.message) {
            self.fail_with(LimitExceeded::MessageTimeout.into(), core);
            return;
        }
        if timeouts.idle.is_some_and(|idle| passed(Some(self.heard_at), idle)) {
            self.fail(CloseCode::GOING_AWAY, CloseCause::IdleTimeout, core);
            return;
        }
        if self.expires_at().is_some_and(|at| at <= core.now) {
            self.begin_close(CloseCode::GOING_AWAY, "lifetime", CloseCause::Lifetime, core);
            return;
        }
        if self.receive_paused {
            // A throttled peer may go on; the next step sees to that.
            return;
        }
        self.deadline = core.now.after(timeouts.pong);
        let mask = self.mask(core);
        if core.taps.is_some() {
            self.show_control(Opcode::Ping, &[], core);
        }
        self.outbox_mut(&mut core.outboxes).push_frame(Opcode::Ping, &[], mask, &mut core.pool);
    }

    fn expires_at(&self) -> Option<Tick> {
        self.extras.as_ref()?.expires_at
    }

    /// The span, 80 % to 100 % of it, so that connections that were opened together do not end,
    /// and come back, together.
    pub(super) fn shorten(&self, span: Ticks) -> Ticks {
        let share = 4 * 255 + u64::from(self.spread);
        Ticks(u32::try_from(u64::from(span.0) * share / (5 * 255)).unwrap_or(u32::MAX).max(1))
    }

    /// The interval, 80 % to 120 % of it.
    fn spread_out(&self, interval: Ticks) -> Ticks {
        // In parts of 25500, so that no rounding gathers pings on every second or third tick.
        let share = 80 * 255 + u64::from(self.spread) * 40;
        Ticks(u32::try_from(u64::from(interval.0) * share / 25_500).unwrap_or(u32::MAX).max(1))
    }
}
