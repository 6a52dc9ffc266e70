//! Messages to compressed payloads and back, as RFC 7692 §7.2 says, on flate2.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Params;
use super::reach::farthest;

/// What every compressed message ends with, and nobody sends (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The smallest window that the compressor can do.
const WINDOW_BITS_MIN: u8 = 9;
/// Fast, and yet with Huffman tables of its own in each block.
const LEVEL: u32 = 3;
const BLOCK_BYTES: usize = 64 << 10;

/// Compresses our messages.
#[derive(Debug)]
pub(crate) struct Deflater {
    compress: Compress,
    forgets: bool,
}

impl Deflater {
    pub(crate) fn new(params: &Params) -> Self {
        let bits = params.client_window_bits();
        // With a window of 256 bytes it has to do without references: stored blocks are always right.
        let level = if bits < WINDOW_BITS_MIN { 0 } else { LEVEL };
        let compress = Compress::new_with_window_bits(
            Compression::new(level),
            false,
            bits.max(WINDOW_BITS_MIN),
        );
        Self { compress, forgets: params.client_no_context_takeover }
    }

    /// The payload that stands for this message.
    pub(crate) fn message(&mut self, message: &[u8]) -> Vec<u8> {
        if self.forgets {
            self.compress.reset();
        }
        let mut out = Vec::with_capacity(message.len() / 2 + 64);
        let start = self.compress.total_in();
        loop {
            let used = usize::try_from(self.compress.total_in() - start).unwrap_or(usize::MAX);
            let rest = message.get(used..).unwrap_or_default();
            let flushed = self.compress.compress_vec(rest, &mut out, FlushCompress::Sync);
            flushed.expect("raw deflate has no preset dictionary, so it cannot fail");
            let used = usize::try_from(self.compress.total_in() - start).unwrap_or(usize::MAX);
            if used >= message.len() && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity().max(BLOCK_BYTES));
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        // Nothing to flush leaves nothing; RFC 7692 §7.2.3.6 makes one byte of it.
        if out.is_empty() { vec![0] } else { out }
    }
}

/// A message compressed for itself, with nothing before it to refer to.
pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
    Deflater::new(&Params::default()).message(message)
}

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateFault {
    /// It is not deflate, or refers to what lies outside of the agreed window.
    Corrupt,
    /// It is longer than anything that was sent.
    TooLong,
}

/// Inflates the server's messages.
#[derive(Debug)]
pub(crate) struct Inflater {
    decompress: Decompress,
    forgets: bool,
    /// Where it is smaller than the largest one.
    window_bytes: Option<u32>,
}

impl Inflater {
    pub(crate) fn new(params: &Params) -> Self {
        let bits = params.server_window_bits();
        Self {
            decompress: Decompress::new(false),
            forgets: params.server_no_context_takeover,
            window_bytes: (bits < super::WINDOW_BITS_MAX).then_some(1 << bits),
        }
    }

    /// The message that this payload stands for, of at most `bytes_max`.
    pub(crate) fn message(
        &mut self,
        payload: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<u8>, InflateFault> {
        if self.forgets {
            self.decompress.reset(false);
        }
        if self.window_bytes.is_some_and(|bytes| farthest(payload) > bytes) {
            return Err(InflateFault::Corrupt);
        }
        let mut message = Vec::with_capacity(payload.len().saturating_mul(2).min(BLOCK_BYTES));
        for part in [payload, &TAIL] {
            self.inflate(part, &mut message, bytes_max)?;
        }
        Ok(message)
    }

    fn inflate(
        &mut self,
        mut input: &[u8],
        message: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), InflateFault> {
        let mut block = [0; BLOCK_BYTES];
        loop {
            let before = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(input, &mut block, FlushDecompress::Sync);
            let status = status.map_err(|_| InflateFault::Corrupt)?;
            let read = moved(before.0, self.decompress.total_in());
            let written = moved(before.1, self.decompress.total_out());
            input = &input[read..];
            message.extend_from_slice(&block[..written]);
            if message.len() > bytes_max {
                return Err(InflateFault::TooLong);
            }
            if status == Status::StreamEnd {
                // RFC 7692 §7.2.3.4: a last block ends no message; what follows begins anew.
                self.decompress.reset(false);
            } else if written < block.len() {
                return Ok(());
            }
            if input.is_empty() && written < block.len() {
                return Ok(());
            }
        }
    }
}

/// How far a counter went in one call, which moves no further than a slice is long.
fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("a call moves at most a slice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::corpus::Kind;
    use crate::conform::deflate::blocks::Blocks;

    fn params(text: &str) -> Params {
        Params::parse(&format!("permessage-deflate{text}")).unwrap().unwrap()
    }

    /// Ten times the same 4000 bytes without any pattern.
    fn text() -> Vec<u8> {
        Kind::Random.corpus().message(0, 4000).repeat(10)
    }

    #[test]
    fn messages_come_back_under_every_agreement() {
        for text_of in [
            "",
            "; client_no_context_takeover; server_no_context_takeover",
            "; client_max_window_bits=8; server_max_window_bits=8",
            "; client_max_window_bits=9; server_max_window_bits=9",
            "; client_max_window_bits=12; server_max_window_bits=15",
        ] {
            let agreed = params(text_of);
            let mirrored = Params {
                server_no_context_takeover: agreed.client_no_context_takeover,
                server_max_window_bits: agreed.client_max_window_bits.flatten(),
                ..Params::default()
            };
            let (mut deflater, mut inflater) = (Deflater::new(&agreed), Inflater::new(&mirrored));
            let text = text();
            for len in [0, 1, 0, 5, 125, 126, 4096, 40_000, 0, 17] {
                let payload = deflater.message(&text[..len]);
                let message = inflater.message(&payload, 1 << 20);
                assert_eq!(message.as_deref(), Ok(&text[..len]), "{text_of}: {len}");
            }
        }
    }

    #[test]
    fn examples_of_the_standard_are_read() {
        let mut inflater = Inflater::new(&Params::default());
        let hello = Ok(b"Hello".to_vec());
        assert_eq!(inflater.message(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 9), hello);
        assert_eq!(inflater.message(&[0xf2, 0x00, 0x11, 0x00, 0x00], 9), hello, "taken over");
        let stored = [0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0];
        assert_eq!(inflater.message(&stored, 9), hello);
        assert_eq!(inflater.message(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], 9), hello);
        assert_eq!(inflater.message(&stored, 9), hello, "behind a last block");
        assert_eq!(inflater.message(&[0], 9), Ok(vec![]));
    }

    #[test]
    fn repeated_message_is_a_reference_only_where_context_is_taken_over() {
        let text = &text()[..4096];
        let mut keeps = Deflater::new(&Params::default());
        assert!(keeps.message(text).len() > 1000 && keeps.message(text).len() < 200);
        let mut forgets = Deflater::new(&params("; client_no_context_takeover"));
        assert_eq!(forgets.message(text), forgets.message(text));
    }

    #[test]
    fn server_that_leaves_its_window_is_found_out() {
        let payload = Deflater::new(&Params::default()).message(&text());
        let mut wide = Inflater::new(&Params::default());
        assert_eq!(wide.message(&payload, 1 << 20), Ok(text()));
        let mut narrow = Inflater::new(&params("; server_max_window_bits=9"));
        let read = narrow.message(&payload, 1 << 20);
        assert_eq!(read.map(|message| message.len()), Err(InflateFault::Corrupt));
    }

    #[test]
    fn server_that_refers_to_a_forgotten_message_is_found_out() {
        let mut keeps = Deflater::new(&Params::default());
        let payloads = [keeps.message(&text()[..4096]), keeps.message(&text()[..4096])];
        let mut forgets = Inflater::new(&params("; server_no_context_takeover"));
        assert!(forgets.message(&payloads[0], 1 << 20).is_ok());
        assert_eq!(forgets.message(&payloads[1], 1 << 20), Err(InflateFault::Corrupt));
    }

    #[test]
    fn endless_message_is_given_up_at_the_bound() {
        let payload = deflated(&vec![0; 1 << 20]);
        let mut inflater = Inflater::new(&Params::default());
        assert_eq!(inflater.message(&payload, (1 << 20) - 1), Err(InflateFault::TooLong));
        let mut inflater = Inflater::new(&Params::default());
        assert_eq!(inflater.message(&payload, 1 << 20).map(|message| message.len()), Ok(1 << 20));
    }

    #[test]
    fn blocks_made_by_hand_are_what_they_are_meant_to_be() {
        let read = |blocks: Blocks| {
            Inflater::new(&Params::default()).message(&blocks.into_message(), 1 << 20)
        };
        let fixed = |last| Blocks::new().fixed(last).literals(b"abc\xff").end();
        assert_eq!(read(fixed(false)), Ok(b"abc\xff".to_vec()));
        assert_eq!(read(fixed(true)), Ok(b"abc\xff".to_vec()));
        assert_eq!(read(Blocks::new().stored(b"x").stored(b"")), Ok(b"x".to_vec()));
        let copy = Blocks::new().fixed(false).literals(b"abc").copy(3, 2).end();
        assert_eq!(read(copy), Ok(b"abcabc".to_vec()));
        let far = Blocks::new().fixed(false).literals(b"abc").copy(3, 3).end();
        assert_eq!(read(far), Err(InflateFault::Corrupt));
    }
}
