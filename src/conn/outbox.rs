//! What a connection still has to send: the one place that owns outbound memory.
//!
//! Everything queued in a turn leaves in as few sends as possible, and at most one send of a
//! connection is in flight (row U08). A reply that reuses a received payload is not copied: its
//! header is written in front of the payload, and the receive block itself is sent. Several such
//! replies from one block are moved together, so that a block always holds *one* run of bytes:
//!
//! ```text
//! received   |hdr|mask|payload A     |hdr|mask|payload B     |   masked by the client
//! sent                |hdr|payload A     ||hdr|payload B     |   B moved down over the gap
//! ```
//!
//! A reply is never longer than the frame it answers (the header loses its mask), so the run never
//! reaches bytes that are still to be parsed.
//!
//! With TLS the queue holds plaintext, which is sealed when it is about to be sent; records of TLS
//! itself, and what a short send has left of some, stand in front of it.
//!
//! INVARIANT: `queued_bytes` is the sum of all segments and the one in flight; a segment without
//! memory exists only while its block is being worked through (`slot`), never across a turn's end.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use crate::buf::{Block, HEADER_ROOM, Pool, RECEIVE_BLOCK_BYTES, Segment, Shared};
use crate::policy::{PROGRESS_BYTES_MIN, Tick};
use crate::proto::header::HEADER_BYTES_MAX;
use crate::proto::{Header, Opcode, encoder};

use super::message::{InPlace, Source};
use super::tls::{SEAL_BYTES_MAX, Tls, sealed_bytes_max};

/// Smaller things are gathered in one segment up to this size.
const GATHER_BYTES_MAX: usize = 16 * 1024;
/// A reply at least this long is worth a segment of its own rather than a copy.
const IN_PLACE_BYTES_MIN: usize = 4 * 1024;
/// What is shared and at least this long is not copied behind what is queued already.
const SHARE_BYTES_MIN: usize = 256;

/// Where in a block a segment begins, so that a record header fits before it. Blocks are larger
/// than what they are taken for by more than that.
const SEGMENT_START: usize = HEADER_ROOM / 2;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    queued_bytes: usize,
    reported_bytes: usize,
    send_submitted: bool,
    /// With TLS: so many segments at the front are records already, and keep their order.
    sealed_count: usize,
    /// The segment in flight is one of records.
    sealed_submitted: bool,
    /// The peer's window was full at the last send.
    blocked: bool,
    /// Segment that is waiting for the block which is being worked through, by source.
    received_slot: Option<usize>,
    collected_slot: Option<usize>,
    /// Pongs queued since the queue was last empty.
    pong_count: u16,
    /// The newest ping's payload, to be answered when the queue is empty again (row CT02).
    late_pong: Option<Box<[u8]>>,
    /// Progress since `progress_at`, and when that was.
    progress_bytes: usize,
    progress_at: Option<Tick>,
}

impl Outbox {
    /// Queues a frame whose payload is elsewhere.
    pub(crate) fn push_frame(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        mask: Option<[u8; 4]>,
        pool: &mut Pool,
    ) {
        self.push_frame_of(&Header::whole(opcode, mask, payload.len()), payload, pool);
    }

    /// Queues a frame with a compressed payload (RFC 7692 §6).
    pub(crate) fn push_compressed(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        mask: Option<[u8; 4]>,
        pool: &mut Pool,
    ) {
        let header = Header { rsv1: true, ..Header::whole(opcode, mask, payload.len()) };
        self.push_frame_of(&header, payload, pool);
    }

    fn push_frame_of(&mut self, header: &Header, payload: &[u8], pool: &mut Pool) {
        let start = self.make_room(encoder::frame_bytes(payload.len(), header.mask), pool);
        let Some(tail) = self.segments.back_mut() else { unreachable!("room was made") };
        encoder::encode_frame(&mut tail.block.bytes_mut()[start..], header, payload);
    }

    /// Queues bytes as they are.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], pool: &mut Pool) {
        let start = self.make_room(bytes.len(), pool);
        let Some(tail) = self.segments.back_mut() else { unreachable!("room was made") };
        tail.block.bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Queues what others are sent, too, from where it lies.
    pub(crate) fn push_shared(
        &mut self,
        memory: &Rc<Shared>,
        range: Range<usize>,
        pool: &mut Pool,
    ) {
        let len = range.len();
        // Behind something else, a copy of a few bytes costs less than a send of its own.
        if len < SHARE_BYTES_MIN && !self.is_empty() {
            self.push_bytes(&memory.bytes()[range], pool);
            return;
        }
        self.queued_bytes += len;
        self.segments.push_back(Segment::new(Block::shared(memory), range.start, range.end));
    }

    /// Queues a frame whose payload lies in a received block, without copying where that can be.
    ///
    /// The block itself follows by [`settle`](Self::settle) when it has been worked through.
    pub(crate) fn push_in_place(
        &mut self,
        place: InPlace<'_>,
        opcode: Opcode,
        mask: Option<[u8; 4]>,
        pool: &mut Pool,
    ) {
        let InPlace { memory, payload_start, source } = place;
        let payload_bytes = memory.len() - payload_start;
        let header_bytes = Header::encoded_len(payload_bytes, mask.is_some());
        match self.in_place_start(payload_start, payload_bytes, header_bytes, source) {
            Some(start) => {
                memory.copy_within(payload_start.., start + header_bytes);
                encoder::encode_in_place(memory, start + header_bytes, payload_bytes, opcode, mask);
                self.extend_slot(start, start + header_bytes + payload_bytes, source);
            }
            None => self.push_frame(opcode, &memory[payload_start..], mask, pool),
        }
    }

    /// The block has been worked through: it goes to the segment that waits for it, or back.
    pub(crate) fn settle(&mut self, block: Block, source: Source, pool: &mut Pool) {
        match self.slot(source).take() {
            Some(index) => self.segments[index].block = block,
            None => pool.give(block),
        }
    }

    /// Queues a pong; behind a queue that does not move, only so many, then only the newest.
    pub(crate) fn admit_pong(&mut self, payload: &[u8], pongs_queued_max: u16) -> bool {
        if !self.blocked || self.pong_count < pongs_queued_max {
            self.pong_count = self.pong_count.saturating_add(1);
            // RFC 6455 §5.5.3: only the newest ping needs an answer, and an older one must not
            // follow it.
            self.late_pong = None;
            return true;
        }
        self.late_pong = Some(payload.into());
        false
    }

    /// The next segment to send, and whether the send is to wait for room. Answer with
    /// [`handle_sent`](Self::handle_sent).
    pub(crate) fn take_segment(&mut self, now: Tick) -> Option<(Segment, bool)> {
        if self.send_submitted {
            return None;
        }
        debug_assert!(self.received_slot.is_none() && self.collected_slot.is_none());
        let segment = self.segments.pop_front()?;
        self.send_submitted = true;
        self.sealed_submitted = self.sealed_count > 0;
        self.sealed_count = self.sealed_count.saturating_sub(1);
        if self.blocked {
            self.progress_at.get_or_insert(now);
        }
        Some((segment, self.blocked))
    }

    /// The first `sent` bytes of the segment have left.
    pub(crate) fn handle_sent(
        &mut self,
        mut segment: Segment,
        sent: usize,
        now: Tick,
        pool: &mut Pool,
    ) {
        assert!(self.send_submitted, "a send completes once");
        self.send_submitted = false;
        self.queued_bytes -= sent;
        segment.start += sent;
        self.note_progress(sent, now);
        if segment.len() == 0 {
            pool.give(segment.block);
            self.blocked = false;
            return;
        }
        self.blocked = true;
        self.segments.push_front(rehouse(segment, pool));
        self.sealed_count += usize::from(self.sealed_submitted);
    }

    /// Queues TLS records, which go before all plaintext.
    pub(crate) fn push_sealed(&mut self, records: &[u8], pool: &mut Pool) {
        self.insert_sealed(self.sealed_count, records, pool);
    }

    /// Queues TLS records that were made before those of the last [`seal_next`](Self::seal_next),
    /// which have to follow them.
    pub(crate) fn push_sealed_first(&mut self, records: &[u8], pool: &mut Pool) {
        self.insert_sealed(0, records, pool);
    }

    fn insert_sealed(&mut self, index: usize, records: &[u8], pool: &mut Pool) {
        debug_assert!(self.received_slot.is_none() && self.collected_slot.is_none());
        let mut block = pool.take(records.len());
        block.bytes_mut()[..records.len()].copy_from_slice(records);
        self.queued_bytes += records.len();
        self.segments.insert(index, Segment::new(block, 0, records.len()));
        self.sealed_count += 1;
    }

    /// Seals what is next to be sent, unless that is sealed already, or cannot be yet: where it
    /// lies, or else into another block. What TLS has to send before it is appended to `output`.
    pub(crate) fn seal_next(&mut self, tls: &mut Tls, output: &mut Vec<u8>, pool: &mut Pool) {
        if self.sealed_count > 0 || self.send_submitted {
            return;
        }
        let Some(plain) = self.segments.front_mut() else { return };
        let plain_bytes = plain.len().min(SEAL_BYTES_MAX);
        if plain_bytes == plain.len()
            && !plain.block.is_shared()
            && let Some(records) =
                tls.seal_in_place(plain.block.bytes_mut(), plain.start..plain.end, output)
        {
            self.queued_bytes += records.len() - plain_bytes;
            (plain.start, plain.end) = (records.start, records.end);
            self.sealed_count = 1;
            return;
        }
        let room = sealed_bytes_max(plain_bytes);
        // Memory that is hot, unless the peer may make us wait with it.
        let receive_block =
            if room <= RECEIVE_BLOCK_BYTES && !self.blocked { pool.take_receive() } else { None };
        let mut block = receive_block.unwrap_or_else(|| pool.take(room));
        let sealed = tls.seal(&plain.bytes()[..plain_bytes], block.bytes_mut(), output);
        let Some(sealed_bytes) = sealed else {
            pool.give(block);
            return;
        };
        plain.start += plain_bytes;
        self.queued_bytes = self.queued_bytes - plain_bytes + sealed_bytes;
        if plain.len() == 0 {
            pool.give(self.segments.pop_front().map_or_else(Block::empty, |plain| plain.block));
        }
        self.segments.push_front(Segment::new(block, 0, sealed_bytes));
        self.sealed_count = 1;
    }

    /// Drops what can never be sealed.
    pub(crate) fn drop_plaintext(&mut self, pool: &mut Pool) {
        for segment in self.segments.drain(self.sealed_count..) {
            self.queued_bytes -= segment.len();
            pool.give(segment.block);
        }
    }

    /// Whether what is next to be sent is TLS records.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed_count > 0
    }

    /// Queues the answer to the newest ping once nothing is before it. Its payload, if there was one.
    pub(crate) fn push_late_pong(
        &mut self,
        mask: Option<[u8; 4]>,
        pool: &mut Pool,
    ) -> Option<Box<[u8]>> {
        self.pong_count = 0;
        let payload = self.late_pong.take()?;
        self.push_frame(Opcode::Pong, &payload, mask, pool);
        Some(payload)
    }

    /// Forgets the pings that were not answered and those that were.
    pub(crate) fn forget_pongs(&mut self) {
        self.pong_count = 0;
        self.late_pong = None;
    }

    /// Gives all memory back; what was queued is lost.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        for segment in self.segments.drain(..) {
            pool.give(segment.block);
        }
        let (segments, reported_bytes) = (std::mem::take(&mut self.segments), self.reported_bytes);
        *self = Self { segments, reported_bytes, ..Self::default() };
    }

    /// Bytes queued, those in flight included.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// By how much the queue has grown since it was asked last.
    pub(crate) fn unreported_bytes(&mut self) -> isize {
        let reported = std::mem::replace(&mut self.reported_bytes, self.queued_bytes);
        self.queued_bytes.wrapping_sub(reported).cast_signed()
    }

    /// Whether nothing is queued and nothing in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && !self.send_submitted
    }

    /// Whether the peer's window was full at the last send.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Since when the peer has taken (nearly) nothing, if it has.
    pub(crate) fn stalled_since(&self) -> Option<Tick> {
        self.progress_at
    }

    /// Room for `bytes` at the tail of the queue: returns where in the last segment's block.
    fn make_room(&mut self, bytes: usize, pool: &mut Pool) -> usize {
        self.queued_bytes += bytes;
        let slots = (self.received_slot, self.collected_slot);
        let tail_index = self.segments.len().wrapping_sub(1);
        let gathers = slots.0 != Some(tail_index)
            && slots.1 != Some(tail_index)
            && self.segments.len() > self.sealed_count;
        let tail = self.segments.back_mut().filter(|tail| gathers && !tail.block.is_shared());
        if let Some(tail) = tail {
            if tail.end + bytes > tail.block.len() && tail.len() + bytes <= GATHER_BYTES_MAX {
                grow(tail, bytes, pool);
            }
            if tail.end + bytes <= tail.block.len() {
                let start = tail.end;
                tail.end += bytes;
                return start;
            }
        }
        let block = pool.take(bytes);
        self.segments.push_back(Segment::new(block, SEGMENT_START, SEGMENT_START + bytes));
        SEGMENT_START
    }

    /// Where an in-place frame may start, if there is a place for it.
    fn in_place_start(
        &mut self,
        payload_start: usize,
        payload_bytes: usize,
        header_bytes: usize,
        source: Source,
    ) -> Option<usize> {
        let tail_index = self.segments.len().checked_sub(1);
        if let Some(index) = *self.slot(source) {
            let start = self.segments[index].end;
            return (Some(index) == tail_index && start + header_bytes <= payload_start)
                .then_some(start);
        }
        let first = self.segments.is_empty() && !self.send_submitted;
        let worth_it = match source {
            // A receive block is the core's: it may wait for one send, never in a queue.
            Source::Received => first,
            Source::Collected => first || payload_bytes >= IN_PLACE_BYTES_MIN,
        };
        worth_it.then(|| payload_start.checked_sub(header_bytes)).flatten()
    }

    fn extend_slot(&mut self, start: usize, end: usize, source: Source) {
        self.queued_bytes += end - start;
        let slot = *self.slot(source);
        if let Some(index) = slot {
            self.segments[index].end = end;
            return;
        }
        *self.slot(source) = Some(self.segments.len());
        self.segments.push_back(Segment { block: Block::empty(), start, end });
    }

    fn slot(&mut self, source: Source) -> &mut Option<usize> {
        match source {
            Source::Received => &mut self.received_slot,
            Source::Collected => &mut self.collected_slot,
        }
    }

    fn note_progress(&mut self, sent: usize, now: Tick) {
        let Some(since) = &mut self.progress_at else { return };
        self.progress_bytes += sent;
        if self.queued_bytes == 0 {
            self.progress_at = None;
            self.progress_bytes = 0;
        } else if self.progress_bytes >= PROGRESS_BYTES_MIN {
            *since = now;
            self.progress_bytes = 0;
        }
    }
}

/// Moves what is left of a segment into memory of its own size: receive blocks must return to the
/// core, and a slow reader must not hold a large block for a few bytes.
fn rehouse(segment: Segment, pool: &mut Pool) -> Segment {
    let left = segment.len();
    if segment.block.is_shared() {
        return segment;
    }
    let must = segment.block.len() == RECEIVE_BLOCK_BYTES;
    if !must && left * 8 >= segment.block.len() {
        return segment;
    }
    let mut block = pool.take(left);
    block.bytes_mut()[..left].copy_from_slice(segment.bytes());
    pool.give(segment.block);
    Segment::new(block, 0, left)
}

/// Moves a segment into a block with room for `bytes` more.
fn grow(tail: &mut Segment, bytes: usize, pool: &mut Pool) {
    let len = tail.len();
    let mut block = pool.take(len + bytes);
    block.bytes_mut()[SEGMENT_START..][..len].copy_from_slice(tail.bytes());
    pool.give(std::mem::replace(&mut tail.block, block));
    tail.start = SEGMENT_START;
    tail.end = SEGMENT_START + len;
}

const _: () = assert!(HEADER_BYTES_MAX <= HEADER_ROOM);
