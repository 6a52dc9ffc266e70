//! What a bare server owes: how many bytes to send back for the bytes that came.
//!
//! The bare servers know no frames. They are told the size of a message and of its answer on the
//! wire, and count. INVARIANT: `received < message_bytes`.

/// Sizes of one exchange on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    message_bytes: usize,
    pub(crate) reply_bytes: usize,
    /// Answer the opening handshake, and with frames a client understands.
    pub(crate) speaks: bool,
    /// Answer as the bytes come, instead of when the message is whole.
    streams: bool,
    /// Bytes of the one buffer.
    pub(crate) hot_bytes: u32,
}

impl Exchange {
    /// Messages larger than the receive buffer are answered while they arrive: that is the least
    /// a server could do, and what one that keeps whole messages is measured against.
    pub(crate) fn new(message_bytes: usize, reply_bytes: usize) -> Self {
        assert!(message_bytes > 0, "an exchange has a message");
        let streams = message_bytes > HOT_BYTES as usize;
        let hot_bytes = if streams { STREAM_HOT_BYTES } else { HOT_BYTES };
        Self { message_bytes, reply_bytes, speaks: false, streams, hot_bytes }
    }

    /// Bytes of the answer that may be sent once `received` bytes of a message are here.
    fn due(self, received: usize) -> usize {
        if self.streams { received.min(self.reply_bytes) } else { 0 }
    }
}

/// Bytes of the one buffer where messages fit it; the receive block of longwire.
const HOT_BYTES: u32 = 16 * 1024 + 512;
/// Bytes of the one buffer for larger ones: fewer system calls, and still in the L2 cache.
const STREAM_HOT_BYTES: u32 = 256 * 1024;

/// Where one connection stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Debt {
    /// Bytes of the message that is not whole yet.
    received: usize,
    /// Bytes to send.
    pub(crate) owed: usize,
}

impl Debt {
    /// `bytes` more came.
    pub(crate) fn handle_received(&mut self, bytes: usize, exchange: Exchange) {
        let total = self.received + bytes;
        let already_due = exchange.due(self.received);
        self.received = total % exchange.message_bytes;
        let whole = total / exchange.message_bytes * exchange.reply_bytes;
        self.owed += whole + exchange.due(self.received) - already_due;
    }

    /// Bytes of the next send, at most what the buffer holds.
    pub(crate) fn send_bytes(self, hot_bytes: u32) -> u32 {
        u32::try_from(self.owed).unwrap_or(u32::MAX).min(hot_bytes)
    }
}
