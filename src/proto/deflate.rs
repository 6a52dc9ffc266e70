//! Compression of messages (RFC 7692 §7.2): an engine for each direction, over slices.
//!
//! An [`Inflater`] writes into the slice it is given and never beyond it, so whoever owns the slice
//! holds the limit: on the inflated size, while it is produced. A [`Deflater`] compresses messages
//! that are whole, because all that are sent are. Neither knows frames, which messages are
//! compressed, or what was agreed: without context takeover the caller resets an engine before each
//! message, and one engine serves any number of connections.
//!
//! `zlib-rs` is used directly. The front of it that `flate2` offers cannot choose how much memory a
//! compressor takes beside its window.

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::Violation;

/// What a sender takes off the end of each message, and a receiver puts back (RFC 7692 §7.2.1).
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The message without payload: the first byte of an empty stored block, whose rest is the tail.
const EMPTY_MESSAGE: u8 = 0x00;

/// The decoder of `zlib-rs` has a window of this size, whatever was agreed, and does not refuse a
/// distance between the agreed window and its own. So an inflater serves every window.
const INFLATE_WINDOW_BITS: u8 = 15;

/// Decompresses messages, one after the other.
pub(crate) struct Inflater {
    stream: Inflate,
    state: InflaterState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InflaterState {
    /// Within a stream of blocks.
    Open,
    /// Behind a block with BFINAL. What follows begins a stream of its own (RFC 7692 §7.2.3.4).
    Ended,
    /// The data was malformed. zlib is not called again before a reset.
    Failed,
}

impl Inflater {
    /// Bytes of heap an inflater holds.
    pub(crate) const HELD_BYTES: usize = 48 * 1024;

    /// An inflater for every window.
    pub(crate) fn new() -> Self {
        Self { stream: Inflate::new(false, INFLATE_WINDOW_BITS), state: InflaterState::Open }
    }

    /// Forgets the messages before, and an error. To be called before each message if there is no
    /// context takeover.
    pub(crate) fn reset(&mut self) {
        self.stream.reset(false);
        self.state = InflaterState::Open;
    }

    /// Decompresses `input` into `output`; returns how much of each was used.
    ///
    /// Each call goes on until the input is used up or the output is full. A result that leaves
    /// room in `output` has used all of `input`, and everything in it has been written. One that
    /// fills `output` may hold more, even if all input is used: call again with the rest of the
    /// input, which may be empty, and fresh output. At the end of a message [`TAIL`] is pushed in
    /// the same way; the message is complete when that has left room in the output.
    ///
    /// A message may hold several streams, each ended by a block with BFINAL. What comes behind one
    /// cannot refer to what was before it.
    ///
    /// A message that was cut within a block is no error: the tail then counts as more of the block.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(usize, usize), Violation> {
        let mut consumed = 0;
        let mut produced = 0;
        loop {
            match self.state {
                InflaterState::Failed => return Err(Violation::MalformedDeflate),
                InflaterState::Ended if consumed == input.len() => break,
                InflaterState::Ended => self.reset(),
                InflaterState::Open => {}
            }
            let (total_in, total_out) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(
                &input[consumed..],
                &mut output[produced..],
                InflateFlush::NoFlush,
            );
            consumed += taken(self.stream.total_in() - total_in);
            produced += taken(self.stream.total_out() - total_out);
            match status {
                // Each stream has at least one byte of input, which bounds the turns of this loop.
                Ok(Status::StreamEnd) => self.state = InflaterState::Ended,
                Ok(Status::Ok | Status::BufError) => break,
                Err(_) => self.state = InflaterState::Failed,
            }
        }
        debug_assert!(consumed == input.len() || produced == output.len());
        Ok((consumed, produced))
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Compresses messages, one after the other.
pub(crate) struct Deflater {
    stream: Deflate,
}

impl Deflater {
    /// Room for the output of a step beyond that for its input: the headers of a block, and the
    /// tail. What does not fit takes another step.
    const STEP_EXTRA_BYTES: usize = 64;
    const STEP_BYTES_MAX: usize = 16 * 1024;

    /// A compressor of this level, 0 (stored) to 9 (smallest), and window, 9 to 15 bits.
    pub(crate) fn new(level: u8, window_bits: u8) -> Self {
        assert!(level <= 9, "zlib has ten levels");
        assert!(window_bits >= 9, "zlib can compress with this window");
        assert!(window_bits <= 15, "DEFLATE has such a window");
        let stream = Deflate::new_with_config(DeflateConfig {
            level: i32::from(level),
            // Negative is how zlib is told to write no header.
            window_bits: -i32::from(window_bits),
            mem_level: mem_level(window_bits),
            ..DeflateConfig::default()
        });
        Self { stream }
    }

    /// Bytes of heap a compressor with this window holds, whatever its level.
    pub(crate) const fn held_bytes(window_bits: u8) -> usize {
        const STATE_BYTES: usize = 7 * 1024;
        const HASH_BYTES: usize = 128 * 1024;
        // The window twice, and two bytes for each of its positions to find matches.
        let window_bytes = 4 << window_bits;
        let symbol_bytes = 7 << (mem_level(window_bits) + 6);
        STATE_BYTES + HASH_BYTES + window_bytes + symbol_bytes
    }

    /// Forgets the messages before. To be called before each message if there is no context
    /// takeover.
    pub(crate) fn reset(&mut self) {
        self.stream.reset();
    }

    /// Appends a whole message in compressed form to `out`.
    pub(crate) fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if payload.is_empty() {
            // zlib writes nothing when it is asked to flush a second time without new input.
            out.push(EMPTY_MESSAGE);
            return;
        }
        let mut read = 0;
        let mut written = out.len();
        loop {
            let room = payload.len() - read + Self::STEP_EXTRA_BYTES;
            out.resize(written + room.min(Self::STEP_BYTES_MAX), 0);
            let (total_in, total_out) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.compress(
                &payload[read..],
                &mut out[written..],
                DeflateFlush::SyncFlush,
            );
            assert!(status.is_ok(), "a compressor takes every input");
            read += taken(self.stream.total_in() - total_in);
            written += taken(self.stream.total_out() - total_out);
            // A flush is complete when it leaves room; until then it has to be asked for again.
            if written < out.len() {
                break;
            }
        }
        assert_eq!(read, payload.len(), "a flush has taken all input");
        out.truncate(written);
        assert!(out.ends_with(&TAIL), "a flush ends with an empty stored block");
        out.truncate(written - TAIL.len());
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

/// How many symbols zlib gathers before it ends a block, as it calls it: 2^(level + 6). A block of
/// symbols for half a window costs little compression, and a small window so takes little memory.
const fn mem_level(window_bits: u8) -> i32 {
    window_bits as i32 - 7
}

/// zlib counts in 64 bits; what one call moves has the length of a slice.
fn taken(bytes: u64) -> usize {
    usize::try_from(bytes).expect("one call moves no more than its slices hold")
}

#[cfg(test)]
mod tests;
