//! What this side says: messages, pings, and the frame that closes.

use std::fmt;

use crate::proto::{CloseCode, Opcode, close as close_frame};

use super::message::InPlace;
use super::{Connection, Core, MessageKind, Phase};

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is closing or closed. Nothing can be sent any more.
    Closed,
    /// The peer reads too slowly: more than the limit is queued already. The connection is being
    /// closed with 1013.
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

impl Connection {
    /// Queues a message. Fragmentation is never needed: a message is one frame.
    pub(crate) fn send(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        core: &mut Core,
    ) -> Result<(), SendError> {
        self.check_queue(core)?;
        if self.send_compressed(kind, payload, core) {
            return Ok(());
        }
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_frame(kind.opcode(), payload, mask, &mut core.pool);
        Ok(())
    }

    /// Queues a received message as it is, without copying it where that can be.
    pub(crate) fn send_in_place(
        &mut self,
        kind: MessageKind,
        place: InPlace<'_>,
        core: &mut Core,
    ) -> Result<(), SendError> {
        self.check_queue(core)?;
        if self.send_compressed(kind, place.payload(), core) {
            return Ok(());
        }
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_in_place(place, kind.opcode(), mask, &mut core.pool);
        Ok(())
    }

    /// Sends a ping with up to 125 bytes of payload, which the peer's pong repeats.
    pub(crate) fn ping(&mut self, payload: &[u8], core: &mut Core) -> Result<(), SendError> {
        self.check_queue(core)?;
        self.push_control(Opcode::Ping, &payload[..payload.len().min(125)], core);
        Ok(())
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

    pub(super) fn check_queue(&mut self, core: &mut Core) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        if self.queued_bytes() >= core.limits.send_bytes_max {
            self.fail(CloseCode::TRY_AGAIN_LATER, core);
            return Err(SendError::QueueFull);
        }
        Ok(())
    }

    pub(super) fn push_close(&mut self, code: CloseCode, reason: &str, core: &mut Core) {
        let mut payload = [0; 125];
        let len = close_frame::encode(code, reason, &mut payload);
        self.push_control(Opcode::Close, &payload[..len], core);
    }

    pub(super) fn push_control(&mut self, opcode: Opcode, payload: &[u8], core: &mut Core) {
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_frame(opcode, payload, mask, &mut core.pool);
    }
}
