//! What a connection has received and not yet finished: the one place that owns inbound memory.
//!
//! A frame that lies whole in the receive block never comes here; it is unmasked and handed on
//! where it lies. This file keeps the rest: the bytes of a cut header, the payload of a cut control
//! frame, and the payload of a message that spans receives or fragments. An idle connection has no
//! inbox at all.
//!
//! ```text
//! receive block   |..whole frame..|..whole frame..|hea|        hea -> stash
//! next block      |der|pay| -> payload collected behind HEADER_ROOM in a sized block
//! large body      received by the kernel straight behind what is collected
//! ```
//!
//! Memory follows what has arrived, never what was announced: a block is less than twice its
//! content (row R3), unless the core happens to have a larger free one at hand.

use crate::buf::{Block, HEADER_ROOM, Pool, RECEIVE_BLOCK_BYTES};
use crate::policy::Tick;
use crate::proto::deflate::{self, Inflater};
use crate::proto::sequence::{Failure, OpenMessage};
use crate::proto::text::{self, Utf8};
use crate::proto::{Header, LimitExceeded, Violation, mask};

use super::message::MessageKind;

/// Longest run of bytes that is kept of a cut header or control frame.
const STASH_BYTES: usize = 14 + 125;

/// A rest of a frame at least this long is received into its final place.
const DIRECT_BYTES_MIN: usize = RECEIVE_BLOCK_BYTES;
/// One direct receive takes at most this much, so that it is unmasked while in the cache.
const DIRECT_BYTES_MAX: usize = 256 * 1024;

/// Room made for what is inflated, at first and at least.
const INFLATE_BYTES_MIN: usize = 1024;
/// What is inflated in one step, so that text is checked while it is in the cache.
const INFLATE_BYTES_MAX: usize = 16 * 1024;

/// The unfinished input of one connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    stash: [u8; STASH_BYTES],
    stash_len: u8,
    body: Option<Body>,
    message: Option<Collecting>,
}

/// A data frame of which payload is still to come.
#[derive(Clone, Copy, Debug)]
struct Body {
    /// Payload bytes still to come.
    remaining: usize,
    /// Masking key, rotated to the next byte.
    key: Option<[u8; 4]>,
    /// Whether the message ends with this frame.
    fin: bool,
}

/// A message of which payload is still to come.
#[derive(Debug)]
struct Collecting {
    kind: MessageKind,
    /// What the headers so far add up to.
    open: OpenMessage,
    utf8: Utf8,
    /// Inflates the payload, if the message is compressed.
    inflater: Option<Box<Inflater>>,
    /// Payload from `HEADER_ROOM` on; empty while lent for a direct receive.
    block: Block,
    /// Payload bytes collected.
    len: usize,
    opened_at: Tick,
}

/// A message that is complete.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Text or binary.
    pub(crate) kind: MessageKind,
    /// Where the payload is, from `HEADER_ROOM` on.
    pub(crate) block: Block,
    /// Payload bytes.
    pub(crate) len: usize,
    /// What it was inflated with.
    pub(super) inflater: Option<Box<Inflater>>,
}

impl Collected {
    /// Where in the block a payload of `len` bytes is.
    pub(crate) fn payload_range(len: usize) -> (usize, usize) {
        (HEADER_ROOM, HEADER_ROOM + len)
    }
}

/// Room for the next bytes of a large frame, to be received into directly.
#[derive(Debug)]
pub(crate) struct DirectRoom {
    /// The block of the message.
    pub(crate) block: Block,
    /// First free byte.
    pub(crate) start: usize,
    /// One past the last byte that may be received.
    pub(crate) end: usize,
}

impl Inbox {
    /// Nothing unfinished yet.
    pub(crate) fn new() -> Self {
        Self { stash: [0; STASH_BYTES], stash_len: 0, body: None, message: None }
    }

    /// Keeps the bytes of a header that was cut.
    pub(crate) fn stash(&mut self, bytes: &[u8]) {
        let start = usize::from(self.stash_len);
        self.stash[start..start + bytes.len()].copy_from_slice(bytes);
        self.stash_len = u8::try_from(start + bytes.len()).expect("at most STASH_BYTES");
    }

    /// The bytes of the cut header or control frame.
    pub(crate) fn stashed(&mut self) -> &mut [u8] {
        &mut self.stash[..usize::from(self.stash_len)]
    }

    /// Forgets the stashed bytes: their frame is dealt with.
    pub(crate) fn clear_stash(&mut self) {
        self.stash_len = 0;
    }

    /// Starts on the payload of a data frame. `admitted` is the message with this frame added.
    /// A compressed message comes with an inflater.
    pub(crate) fn begin_body(
        &mut self,
        header: &Header,
        admitted: OpenMessage,
        now: Tick,
        inflater: Option<Box<Inflater>>,
    ) {
        self.set_body(header);
        match &mut self.message {
            Some(message) => message.open = admitted,
            None => {
                self.message = Some(Collecting {
                    kind: MessageKind::of(header.opcode),
                    open: admitted,
                    utf8: Utf8::default(),
                    inflater,
                    block: Block::empty(),
                    len: 0,
                    opened_at: now,
                });
            }
        }
    }

    /// Starts on the payload of a data frame that nobody will read.
    pub(crate) fn begin_skip(&mut self, header: &Header) {
        self.set_body(header);
    }

    /// Takes payload from `bytes`, and returns how many of them it took. A message that grows
    /// beyond `message_bytes_max` by inflating it fails; others were judged by their headers.
    pub(crate) fn take_body(
        &mut self,
        bytes: &mut [u8],
        message_bytes_max: usize,
        pool: &mut Pool,
    ) -> Result<usize, Failure> {
        let Some(body) = &mut self.body else { return Ok(0) };
        let taken = body.remaining.min(bytes.len());
        if taken == 0 {
            return Ok(0);
        }
        let bytes = &mut bytes[..taken];
        match &mut self.message {
            Some(message) if message.inflater.is_some() => {
                if let Some(key) = body.key {
                    mask::unmask(bytes, key);
                }
                message.inflate(bytes, message_bytes_max, pool)?;
            }
            Some(message) => {
                body.unmask(bytes, message)?;
                message.reserve(taken, body.remaining - taken, pool);
                let start = HEADER_ROOM + message.len;
                message.block.bytes_mut()[start..start + taken].copy_from_slice(bytes);
                message.len += taken;
            }
            None => {}
        }
        body.advance(taken);
        Ok(taken)
    }

    /// Whether payload of a data frame is still to come; if none is, the frame is left.
    ///
    /// Returns the message if that frame was its last. Call it after each step.
    pub(crate) fn end_body(
        &mut self,
        message_bytes_max: usize,
        pool: &mut Pool,
    ) -> Result<Option<Collected>, Failure> {
        let Some(body) = self.body.filter(|body| body.remaining == 0) else { return Ok(None) };
        self.body = None;
        if !body.fin {
            return Ok(None);
        }
        if let Some(message) = &mut self.message {
            // Before the message is taken: on failure its block goes back with the inbox.
            if message.inflater.is_some() {
                message.inflate(&deflate::TAIL, message_bytes_max, pool)?;
            }
            message.utf8.finish()?;
        }
        let Some(message) = self.message.take() else { return Ok(None) };
        let Collecting { kind, block, len, inflater, .. } = message;
        Ok(Some(Collected { kind, block, len, inflater }))
    }

    /// Lends the block of the message for a direct receive, if what is still to come is large.
    pub(crate) fn lend_direct(&mut self, pool: &mut Pool) -> Option<DirectRoom> {
        let body = self.body.filter(|body| body.remaining >= DIRECT_BYTES_MIN)?;
        let message = self.message.as_mut().filter(|message| message.inflater.is_none())?;
        message.reserve(1, body.remaining - 1, pool);
        let start = HEADER_ROOM + message.len;
        let room = message.block.len() - start;
        let end = start + room.min(body.remaining).min(DIRECT_BYTES_MAX);
        let block = std::mem::replace(&mut message.block, Block::empty());
        Some(DirectRoom { block, start, end })
    }

    /// Whether what is still to come is large enough to be received directly.
    pub(crate) fn wants_direct(&self) -> bool {
        !self.inflates() && self.body.is_some_and(|body| body.remaining >= DIRECT_BYTES_MIN)
    }

    /// Takes the block back, with `len` bytes received.
    pub(crate) fn take_direct(
        &mut self,
        mut block: Block,
        len: usize,
        pool: &mut Pool,
    ) -> Result<(), Violation> {
        let (Some(body), Some(message)) = (&mut self.body, &mut self.message) else {
            // The connection has failed or begun to close meanwhile; the bytes are only skipped.
            if let Some(body) = &mut self.body {
                body.advance(len);
            }
            pool.give(block);
            return Ok(());
        };
        let start = HEADER_ROOM + message.len;
        let result = body.unmask(&mut block.bytes_mut()[start..start + len], message);
        message.block = block;
        message.len += len;
        body.advance(len);
        result
    }

    /// Forgets the message, and skips what is still to come of its frame. Returns what it was
    /// inflated with.
    pub(crate) fn abandon_message(&mut self, pool: &mut Pool) -> Option<Box<Inflater>> {
        let message = self.message.take()?;
        pool.give(message.block);
        message.inflater
    }

    /// Whether the unfinished message is compressed.
    pub(crate) fn inflates(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.inflater.is_some())
    }

    /// Whether payload of a data frame is still to come.
    pub(crate) fn in_body(&self) -> bool {
        self.body.is_some()
    }

    /// The message of which fragments are still to come.
    pub(crate) fn open_message(&self) -> Option<OpenMessage> {
        self.message.as_ref().map(|message| message.open)
    }

    /// Bytes of memory that the unfinished message holds.
    pub(crate) fn held_bytes(&self) -> usize {
        let Some(message) = &self.message else { return 0 };
        let inflater = if message.inflater.is_some() { Inflater::HELD_BYTES } else { 0 };
        message.block.len() + inflater
    }

    /// When the unfinished message began.
    pub(crate) fn opened_at(&self) -> Option<Tick> {
        self.message.as_ref().map(|message| message.opened_at)
    }

    /// Whether nothing is unfinished, so that the inbox may go.
    pub(crate) fn is_empty(&self) -> bool {
        self.stash_len == 0 && self.body.is_none() && self.message.is_none()
    }

    fn set_body(&mut self, header: &Header) {
        debug_assert!(self.body.is_none(), "one frame at a time");
        let remaining = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        self.body = Some(Body { remaining, key: header.mask, fin: header.fin });
    }
}

impl Body {
    /// Undoes the mask and, for text, checks the bytes.
    fn unmask(&self, bytes: &mut [u8], message: &mut Collecting) -> Result<(), Violation> {
        match (message.kind, self.key) {
            (MessageKind::Text, Some(key)) => text::unmask_text(bytes, key, &mut message.utf8),
            (MessageKind::Text, None) => message.utf8.push(bytes),
            (MessageKind::Binary, Some(key)) => {
                mask::unmask(bytes, key);
                Ok(())
            }
            (MessageKind::Binary, None) => Ok(()),
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.remaining -= bytes;
        self.key = self.key.map(|key| mask::rotate(key, bytes));
    }
}

impl Collecting {
    /// Inflates more of the message, up to its limit and not a byte further (row PD01).
    fn inflate(
        &mut self,
        mut bytes: &[u8],
        message_bytes_max: usize,
        pool: &mut Pool,
    ) -> Result<(), Failure> {
        let Some(inflater) = &mut self.inflater else { return Ok(()) };
        let mut excess = [0];
        loop {
            if HEADER_ROOM + self.len >= self.block.len() {
                // Which doubles it: blocks come in powers of two.
                pool.grow(&mut self.block, self.len + INFLATE_BYTES_MIN, message_bytes_max);
            }
            let start = HEADER_ROOM + self.len;
            let end = self.block.len().min(HEADER_ROOM + message_bytes_max);
            // One byte beyond the limit shows that there is more than it.
            let at_limit = start >= end;
            let room = match at_limit {
                true => &mut excess[..],
                false => &mut self.block.bytes_mut()[start..end.min(start + INFLATE_BYTES_MAX)],
            };
            let (consumed, produced) = inflater.push(bytes, room)?;
            if at_limit && produced > 0 {
                return Err(LimitExceeded::MessageTooBig.into());
            }
            if self.kind == MessageKind::Text {
                self.utf8.push(&room[..produced])?;
            }
            let full = produced == room.len();
            bytes = &bytes[consumed..];
            self.len += produced;
            if !full {
                return Ok(());
            }
        }
    }

    /// Makes room for `bytes` more, with `announced` known to follow them.
    fn reserve(&mut self, bytes: usize, announced: usize, pool: &mut Pool) {
        let needed = self.len + bytes;
        if HEADER_ROOM + needed <= self.block.len() {
            return;
        }
        let mut block = pool.take_spare(needed + announced).unwrap_or_else(|| pool.take(needed));
        let filled = HEADER_ROOM..HEADER_ROOM + self.len;
        block.bytes_mut()[filled.clone()]
            .copy_from_slice(self.block.bytes().get(filled).unwrap_or_default());
        pool.give(std::mem::replace(&mut self.block, block));
    }
}
