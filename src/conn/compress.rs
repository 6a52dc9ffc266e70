//! permessage-deflate of one connection (RFC 7692 §7): what was agreed, and whose engine compresses
//! and inflates its messages.
//!
//! Without context takeover engines are lent by the core: an inflater for as long as a compressed
//! message is under way, a compressor for the length of one call. So a connection that agreed on
//! compression costs as much as one that did not. With takeover both stay with the connection.

use std::num::NonZeroU8;

use crate::policy::CompressionLimits;
use crate::proto::Role;
use crate::proto::deflate::{Deflater, Inflater};
use crate::proto::handshake::extensions::DeflateParams;

/// What one side of a connection does with its messages, and expects of the peer's, in one byte:
/// every connection has room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement(NonZeroU8);

const _: () = assert!(size_of::<Option<Agreement>>() == 1);

impl Agreement {
    const SEND_TAKEOVER: u8 = 0x10;
    const RECEIVE_TAKEOVER: u8 = 0x20;
    const WINDOW_BITS: u8 = 0x0f;

    /// What `params` mean for the side in this role.
    pub(crate) fn of(params: DeflateParams, role: Role) -> Self {
        let server = (params.server_window_bits, !params.server_no_context_takeover);
        let client = (params.client_window_bits, !params.client_no_context_takeover);
        let ((window_bits, send_takeover), (_, receive_takeover)) = match role {
            Role::Server => (server, client),
            Role::Client => (client, server),
        };
        let mut bits = window_bits;
        if send_takeover {
            bits |= Self::SEND_TAKEOVER;
        }
        if receive_takeover {
            bits |= Self::RECEIVE_TAKEOVER;
        }
        Self(NonZeroU8::new(bits).expect("a window has at least eight bits"))
    }

    /// Largest window of what is sent, as a logarithm.
    fn send_window_bits(self) -> u8 {
        self.0.get() & Self::WINDOW_BITS
    }

    /// Whether messages that are sent refer to earlier ones.
    fn send_takeover(self) -> bool {
        self.0.get() & Self::SEND_TAKEOVER != 0
    }

    /// Whether messages that are received may refer to earlier ones.
    fn receive_takeover(self) -> bool {
        self.0.get() & Self::RECEIVE_TAKEOVER != 0
    }

    /// Whether messages are sent to it in the form that most others take: the largest window, and
    /// each message by itself.
    pub(super) fn is_common(self) -> bool {
        !self.send_takeover() && usize::from(self.send_window_bits()) == WINDOW_BITS_MAX
    }

    /// Whether engines stay with the connection.
    pub(super) fn keeps_context(self) -> bool {
        self.send_takeover() || self.receive_takeover()
    }
}

/// Engines of a connection whose messages refer to earlier ones.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    inflater: Option<Box<Inflater>>,
    deflater: Option<Box<Deflater>>,
}

impl Contexts {
    /// Bytes of heap they hold.
    pub(super) fn held_bytes(&self, agreement: Agreement) -> usize {
        let inflater = if self.inflater.is_some() { Inflater::HELD_BYTES } else { 0 };
        let deflater = match self.deflater {
            Some(_) => Deflater::held_bytes(agreement.send_window_bits()),
            None => 0,
        };
        inflater + deflater
    }
}

/// Windows of compressors, as logarithms.
const WINDOW_BITS_MAX: usize = 15;

/// The engines of a core.
#[derive(Debug, Default)]
pub(crate) struct Engines {
    /// Boxed, because they move between here and the connections that use them.
    #[expect(clippy::vec_box, reason = "they move between here and the connections that use them")]
    inflaters: Vec<Box<Inflater>>,
    /// One for each window that a client has asked for.
    deflaters: [Option<Box<Deflater>>; WINDOW_BITS_MAX + 1],
    /// Inflaters that are lent.
    lent_count: usize,
    /// Bytes of heap of all engines, those included that are lent or stay with connections.
    engine_bytes: usize,
    /// What was compressed last.
    compressed: Vec<u8>,
}

impl Engines {
    /// The engine for the next compressed message of a peer.
    pub(super) fn lend_inflater(
        &mut self,
        agreement: Agreement,
        contexts: Option<&mut Contexts>,
    ) -> Box<Inflater> {
        self.lent_count += 1;
        let kept = match contexts {
            Some(contexts) if agreement.receive_takeover() => contexts.inflater.take(),
            Some(_) | None => self.inflaters.pop().map(|mut inflater| {
                inflater.reset();
                inflater
            }),
        };
        kept.unwrap_or_else(|| {
            self.engine_bytes += Inflater::HELD_BYTES;
            Box::new(Inflater::new())
        })
    }

    /// Takes an engine back when its message is complete, or given up.
    pub(super) fn return_inflater(
        &mut self,
        inflater: Box<Inflater>,
        agreement: Agreement,
        contexts: Option<&mut Contexts>,
    ) {
        self.lent_count -= 1;
        match contexts {
            Some(contexts) if agreement.receive_takeover() => contexts.inflater = Some(inflater),
            Some(_) | None => self.inflaters.push(inflater),
        }
    }

    /// Compresses a whole message. `None` if that does not pay: it is to be sent as it is.
    pub(super) fn compress(
        &mut self,
        payload: &[u8],
        agreement: Agreement,
        contexts: Option<&mut Contexts>,
        limits: &CompressionLimits,
    ) -> Option<&[u8]> {
        let window_bits = agreement.send_window_bits();
        let engine_bytes = &mut self.engine_bytes;
        let new = || {
            *engine_bytes += Deflater::held_bytes(window_bits);
            Box::new(Deflater::new(limits.level, window_bits))
        };
        self.compressed.clear();
        if agreement.send_takeover() {
            // What is in the context of the peer has to be what is in ours, so all of it is sent.
            let deflater = contexts?.deflater.get_or_insert_with(new);
            deflater.deflate(payload, &mut self.compressed);
            return Some(&self.compressed);
        }
        let deflater = self.deflaters[usize::from(window_bits)].get_or_insert_with(new);
        deflater.reset();
        deflater.deflate(payload, &mut self.compressed);
        (self.compressed.len() < payload.len()).then_some(&self.compressed)
    }

    /// A connection that kept engines ends.
    pub(super) fn forget(&mut self, contexts: &Contexts, agreement: Agreement) {
        self.engine_bytes -= contexts.held_bytes(agreement);
    }

    /// Frees half of what is not in use, save for one of each.
    pub(super) fn trim(&mut self) {
        let kept_count = (self.inflaters.len() / 2).max(1);
        self.engine_bytes -= self.inflaters.len().saturating_sub(kept_count) * Inflater::HELD_BYTES;
        self.inflaters.truncate(kept_count);
        self.inflaters.shrink_to_fit();
        self.compressed = Vec::new();
    }

    /// Whether `trim` still has something to free.
    pub(super) fn has_spare(&self) -> bool {
        self.inflaters.len() > 1 || self.compressed.capacity() > 0
    }

    /// Bytes of heap of all engines, those included that are lent or stay with connections.
    pub(crate) fn held_bytes(&self) -> usize {
        self.engine_bytes + self.compressed.capacity()
    }

    /// Inflaters that are lent.
    #[cfg(test)]
    pub(crate) fn lent_count(&self) -> usize {
        self.lent_count
    }
}
