//! How messages are compressed, as it is set.

use crate::config::{at_least, at_most};
use crate::error::Error;
use crate::policy::CompressionLimits;
use crate::proto::handshake::extensions::DeflatePolicy;

/// How messages are compressed (permessage-deflate, RFC 7692). The defaults serve most.
///
/// Which messages gain by it is for the application to know: text of some hundred bytes and more
/// does, what is compressed already does not. Where secrets and text of strangers stand in one
/// message, the size of what is compressed tells of both (CRIME, BREACH); such connections should
/// not compress: see [`Accept::compression`](crate::Accept::compression).
#[derive(Clone, Copy, Debug)]
#[must_use = "it is to be given to a builder"]
pub struct Compression {
    context_takeover: bool,
    window_bits: u8,
    level: u8,
    message_bytes_min: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { context_takeover: false, window_bits: 15, level: 1, message_bytes_min: 256 }
    }
}

impl Compression {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether messages may refer to earlier ones of their connection. Default off: then engines
    /// are shared by all connections of a core, and an idle one costs nothing. With it small
    /// messages that resemble each other become much smaller, and each connection that has sent
    /// and received compressed messages holds about 400 KiB with a window of 15 bits, 200 KiB with
    /// one of 9.
    pub fn context_takeover(mut self, on: bool) -> Self {
        self.context_takeover = on;
        self
    }

    /// How far a message may refer back, as a logarithm of bytes. Default 15 (32 KiB), from 9.
    pub fn window_bits(mut self, bits: u8) -> Self {
        self.window_bits = bits;
        self
    }

    /// From 1, fast, to 9, small. Default 1.
    pub fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// Messages of fewer bytes are sent as they are. Default 256.
    pub fn message_bytes_min(mut self, bytes: usize) -> Self {
        self.message_bytes_min = bytes;
        self
    }

    pub(crate) fn checked(self) -> Result<CompressionLimits, Error> {
        at_least("window_bits of the compression", self.window_bits.into(), 9)?;
        at_most("window_bits of the compression", self.window_bits.into(), 15)?;
        at_least("level of the compression", self.level.into(), 1)?;
        at_most("level of the compression", self.level.into(), 9)?;
        let Self { context_takeover, window_bits, level, message_bytes_min } = self;
        let policy = DeflatePolicy { context_takeover, window_bits_max: window_bits };
        Ok(CompressionLimits { policy, level, message_bytes_min })
    }
}
