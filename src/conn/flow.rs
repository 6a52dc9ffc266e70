//! How fast a connection may go: when receiving pauses, and how much may come in a second.

use crate::policy::{Flow, FlowRate, Tick};
use crate::proto::LimitExceeded;

use super::{Connection, Core, Phase, Step};

/// What a peer has sent lately, and until when it is not read because of that.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: FlowRate,
    until: Tick,
}

impl Connection {
    /// Whether to receive nothing until further notice.
    pub(crate) fn hold(&mut self, on: bool) {
        self.held = on;
    }

    /// Counts what has come against the rates of this connection (row FR14).
    pub(super) fn take_flow(&mut self, message_count: u32, bytes: usize, core: &mut Core) {
        let Some(limits) = core.limits.flow else { return };
        let now = core.now;
        let new = || Throttle { rate: FlowRate::new(now), until: now };
        let throttle = self.extras_mut().flow.get_or_insert_with(new);
        match throttle.rate.take(now, message_count, bytes, &limits) {
            Flow::Ok => {}
            Flow::Exceeded => self.fail_with(LimitExceeded::RateExceeded.into(), core),
            Flow::WaitUntil(tick) => throttle.until = tick,
        }
    }

    /// Whether the peer has to wait because it sent too much.
    pub(super) fn is_throttled(&self, now: Tick) -> bool {
        self.throttled_until().is_some_and(|until| until > now)
    }

    /// When the peer may go on at the earliest.
    pub(super) fn throttled_until(&self) -> Option<Tick> {
        Some(self.extras.as_ref()?.flow.as_ref()?.until)
    }

    /// Whether to tell the application that it may send again; once for each time it was told
    /// that something waits.
    pub(crate) fn poll_writable(&mut self, core: &Core) -> bool {
        let drained = self.queued_bytes() <= core.limits.send_high_water_bytes / 2;
        let writable = self.wants_writable && drained && self.phase == Phase::Open;
        if writable {
            self.wants_writable = false;
        }
        writable
    }

    /// Backpressure, and the place for what is received next.
    pub(super) fn poll_receive_step(&mut self, core: &mut Core) -> Option<Step> {
        let queued = self.queued_bytes();
        let high_water = if core.is_pressed { 0 } else { core.limits.send_high_water_bytes };
        // Once a Close frame is on its way, the peer's answer is all that is waited for.
        let held = self.phase == Phase::Open && (self.held || self.is_throttled(core.now));
        if !self.receive_paused && (held || queued > high_water) {
            self.receive_paused = true;
            return Some(Step::PauseReceive);
        }
        // Half way down, so that a peer at the limit does not stop and go with every byte.
        if self.receive_paused && !held && queued <= high_water / 2 {
            self.receive_paused = false;
            // Silence is counted anew.
            self.handle_heard(0, core);
            return Some(Step::ResumeReceive);
        }
        if self.receive_paused
            || self.direct_submitted
            || self.phase != Phase::Open
            || self.is_secure()
        {
            return None;
        }
        let room = self.inbox.as_mut()?.lend_direct(&mut core.pool)?;
        self.direct_submitted = true;
        Some(Step::ReceiveInto(room))
    }
}
