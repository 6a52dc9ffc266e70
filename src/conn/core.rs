//! What a core lends to its connections while they work: memory, bounds, and the time of the turn.

use crate::buf::Pool;
use crate::metrics::Metrics;
use crate::policy::{Limits, Tick};
use crate::proto::handshake::Refusal;
use crate::tap::Taps;

use super::compress::Engines;
use super::outbox::Outbox;

/// Boxed, because a connection holds a pointer, not a queue: most have none.
pub(crate) type SpareOutboxes = Vec<Box<Outbox>>;

/// Lent to every call of a connection.
#[derive(Debug)]
pub(crate) struct Core {
    /// Blocks.
    pub(crate) pool: Pool,
    /// Queues not in use; a connection takes one for as long as it has something to send.
    pub(crate) outboxes: SpareOutboxes,
    /// What compresses and inflates.
    pub(crate) engines: Engines,
    /// Room to put an answer together; empty between calls.
    pub(crate) scratch: Vec<u8>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// Bytes of heap beside blocks and lent engines: TLS, and engines that stay with connections.
    pub(crate) attached_bytes: usize,
    /// Bytes in the queues of all connections, as far as it was reported.
    pub(crate) queued_bytes: usize,
    /// Memory is so scarce that peers with anything queued are not read.
    pub(crate) is_pressed: bool,
    /// The time of this turn.
    pub(crate) now: Tick,
    /// Masking keys, for the client role.
    pub(crate) keys: MaskKeys,
    /// Who is shown frames, if anybody is.
    pub(crate) taps: Option<Box<Taps>>,
    /// Counters of this core.
    pub(crate) metrics: std::sync::Arc<Metrics>,
}

impl Core {
    /// Gives back half of what was not needed lately. Call it about once a second.
    pub(crate) fn trim(&mut self) {
        self.pool.trim();
        self.engines.trim();
        self.outboxes.truncate(self.outboxes.len() / 2);
        self.outboxes.shrink_to_fit();
    }

    /// Whether `trim` still has something to give back.
    pub(crate) fn has_spare(&self) -> bool {
        self.pool.has_spare() || self.engines.has_spare() || !self.outboxes.is_empty()
    }

    /// Bytes of heap that peers make this core hold, and what it keeps for them.
    pub(crate) fn held_bytes(&self) -> usize {
        self.pool.held_bytes() + self.engines.held_bytes() + self.attached_bytes
    }

    /// Counts a handshake that was refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.metrics.count_refusal(refusal.class());
    }
}

/// Masking keys from the system's strong generator, fetched in batches (RFC 6455 §10.3: a peer
/// must not be able to predict them).
#[derive(Debug, Default)]
pub(crate) struct MaskKeys {
    bytes: Vec<u8>,
}

impl MaskKeys {
    const BATCH_BYTES: usize = 1024;

    /// The nonce of an opening handshake (RFC 6455 §4.1).
    pub(crate) fn next_nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        for part in nonce.as_chunks_mut().0 {
            *part = self.next_key();
        }
        nonce
    }

    /// A key never used before.
    pub(crate) fn next_key(&mut self) -> [u8; 4] {
        if self.bytes.is_empty() {
            self.bytes.resize(Self::BATCH_BYTES, 0);
            getrandom::fill(&mut self.bytes).expect("the system has random bytes");
        }
        let rest = self.bytes.len() - 4;
        let key =
            [self.bytes[rest], self.bytes[rest + 1], self.bytes[rest + 2], self.bytes[rest + 3]];
        self.bytes.truncate(rest);
        key
    }
}
