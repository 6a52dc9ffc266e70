//! What this side says: messages, pings, and the frame that closes.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use crate::buf::Shared;
use crate::policy::Overflow;
use crate::proto::{CloseCode, LimitExceeded, Opcode, Role, close as close_frame};
use crate::tap::Shown;

use super::message::InPlace;
use super::{Connection, Core, MessageKind, Phase};

/// What has become of a message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// It leaves at the end of the turn; the peer has taken everything before it.
    Sent,
    /// It waits behind what the peer has not taken yet. [`writable`](crate::Handler::writable)
    /// will tell when the queue has drained.
    Queued,
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is closing or closed. Nothing can be sent any more.
    Closed,
    /// The peer reads too slowly: more than the limit is queued already. By default the connection
    /// is being closed with 1013; with [`Overflow::Drop`] only this message
    /// is lost, and [`writable`](crate::Handler::writable) will tell when the queue has drained.
    QueueFull,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::QueueFull => "the peer reads too slowly; its queue is full",
        })
    }
}

impl std::error::Error for SendError {}

/// How frames that several connections are sent are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedForm {
    Plain,
    /// Compressed where that pays (RFC 7692 §6).
    Deflated,
}

impl Connection {
    /// Queues a message. Fragmentation is never needed: a message is one frame.
    pub(crate) fn send(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        core: &mut Core,
    ) -> Result<SendStatus, SendError> {
        self.check_queue(core)?;
        self.push_message(kind, payload, core);
        Ok(self.send_status(core))
    }

    /// Queues a received message as it is, without copying it where that can be.
    pub(crate) fn send_in_place(
        &mut self,
        kind: MessageKind,
        place: InPlace<'_>,
        core: &mut Core,
    ) -> Result<SendStatus, SendError> {
        self.check_queue(core)?;
        core.metrics.count_sent(1, place.payload().len());
        if core.taps.is_some() {
            self.show(&Shown::sent(kind.opcode(), place.payload()), core);
        }
        if !self.send_compressed(kind, place.payload(), core) {
            let mask = self.mask(core);
            let outbox = self.outbox_mut(&mut core.outboxes);
            outbox.push_in_place(place, kind.opcode(), mask, &mut core.pool);
        }
        Ok(self.send_status(core))
    }

    /// The form of the frames that it can be sent together with others; none if it needs frames of
    /// its own.
    pub(crate) fn shared_form(&self) -> Option<SharedForm> {
        match self.compression {
            None if self.role == Role::Server => Some(SharedForm::Plain),
            Some(agreement) if self.role == Role::Server && agreement.is_common() => {
                Some(SharedForm::Deflated)
            }
            Some(_) | None => None,
        }
    }

    /// Compresses a payload for all whose form is [`SharedForm::Deflated`]. `None` if it is to be sent
    /// as it is.
    pub(crate) fn compress_shared<'c>(
        &self,
        payload: &[u8],
        core: &'c mut Core,
    ) -> Option<&'c [u8]> {
        let (agreement, limits) = (self.compression?, core.limits.compression?);
        if payload.len() < limits.message_bytes_min {
            return None;
        }
        core.engines.compress(payload, agreement, None, &limits)
    }

    /// Queues frames that others are sent, too.
    pub(crate) fn push_shared(
        &mut self,
        memory: &Rc<Shared>,
        range: Range<usize>,
        core: &mut Core,
    ) {
        let Core { pool, outboxes, .. } = core;
        self.outbox_mut(outboxes).push_shared(memory, range, pool);
    }

    /// Sends a ping with up to 125 bytes of payload, which the peer's pong repeats.
    pub(crate) fn ping(&mut self, payload: &[u8], core: &mut Core) -> Result<(), SendError> {
        self.check_queue(core)?;
        self.push_control(Opcode::Ping, &payload[..payload.len().min(125)], core);
        Ok(())
    }

    /// Queues a message for which there is room.
    pub(crate) fn push_message(&mut self, kind: MessageKind, payload: &[u8], core: &mut Core) {
        core.metrics.count_sent(1, payload.len());
        if core.taps.is_some() {
            self.show(&Shown::sent(kind.opcode(), payload), core);
        }
        if !self.send_compressed(kind, payload, core) {
            let mask = self.mask(core);
            let outbox = self.outbox_mut(&mut core.outboxes);
            outbox.push_frame(kind.opcode(), payload, mask, &mut core.pool);
        }
    }

    /// Queues a message in compressed form. False if it is to be sent as it is.
    pub(super) fn send_compressed(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        core: &mut Core,
    ) -> bool {
        let (Some(agreement), Some(limits)) = (self.compression, core.limits.compression) else {
            return false;
        };
        if payload.len() < limits.message_bytes_min {
            return false;
        }
        let mask = self.mask(core);
        let contexts = self.extras.as_mut().map(|extras| &mut extras.contexts);
        let compressed = core.engines.compress(payload, agreement, contexts, &limits);
        let Some(compressed) = compressed else { return false };
        let outbox = self.outbox.get_or_insert_with(|| core.outboxes.pop().unwrap_or_default());
        outbox.push_compressed(kind.opcode(), compressed, mask, &mut core.pool);
        true
    }

    /// Where the message that was queued last stands.
    #[inline]
    fn send_status(&mut self, core: &Core) -> SendStatus {
        let blocked = self.outbox.as_ref().is_some_and(|outbox| outbox.is_blocked());
        if !blocked && self.queued_bytes() <= core.limits.send_high_water_bytes {
            return SendStatus::Sent;
        }
        self.wants_writable = true;
        SendStatus::Queued
    }

    pub(super) fn check_queue(&mut self, core: &mut Core) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        self.check_room(1, core)
    }

    /// Whether something more may be queued; does what the policy asks for if not: so many messages
    /// are lost then.
    pub(crate) fn check_room(&mut self, messages: usize, core: &mut Core) -> Result<(), SendError> {
        if self.queued_bytes() < core.limits.send_bytes_max {
            return Ok(());
        }
        match core.limits.overflow {
            Overflow::Close => self.fail_with(LimitExceeded::SendQueueFull.into(), core),
            Overflow::Drop => {
                core.metrics.dropped.add(messages as u64);
                self.wants_writable = true;
            }
        }
        Err(SendError::QueueFull)
    }

    pub(super) fn push_close(&mut self, code: CloseCode, reason: &str, core: &mut Core) {
        let mut payload = [0; 125];
        let len = close_frame::encode(code, reason, &mut payload);
        self.push_control(Opcode::Close, &payload[..len], core);
    }

    pub(super) fn push_control(&mut self, opcode: Opcode, payload: &[u8], core: &mut Core) {
        if core.taps.is_some() {
            self.show_control(opcode, payload, core);
        }
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_frame(opcode, payload, mask, &mut core.pool);
    }
}
