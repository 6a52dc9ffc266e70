//! From received bytes to events: frames in, messages out, control frames answered.
//!
//! A frame that lies whole in the block is decoded, unmasked and validated where it lies; that is
//! the path nearly every message takes, and it touches no memory but the block. All else goes
//! through the inbox. Each byte is looked at once.

use std::ops::Range;

use crate::buf::Block;
use crate::proto::sequence::{self, Failure, OpenMessage, SizeLimits};
use crate::proto::text;
use crate::proto::{CloseCode, Header, LimitExceeded, Opcode, Violation, close, mask};
use crate::tap::Shown;

use super::inbox::{Collected, Inbox};
use super::message::{InPlace, MessageKind, Source};
use super::{Close, CloseCause, Connection, Core, Phase, Side};

/// How far a received block has been worked through.
///
/// INVARIANT: `parsed <= filled <= block.len()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    parsed: usize,
    filled: usize,
}

/// What the application is to be told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message that lies at `start..end` of the block.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// First byte of the payload.
        start: usize,
        /// One past its last byte.
        end: usize,
    },
    /// A message that was collected from several receives or fragments.
    Collected(Collected),
}

impl Input {
    /// The first `filled` bytes of a block, none of them worked through.
    pub(crate) fn new(filled: usize) -> Self {
        Self { parsed: 0, filled }
    }

    /// This part of a block, not worked through.
    pub(crate) fn within(range: Range<usize>) -> Self {
        Self { parsed: range.start, filled: range.end }
    }

    /// Leaves the next `bytes` behind.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.parsed += bytes;
        debug_assert!(self.parsed <= self.filled, "never past what was received");
    }

    /// The bytes not yet worked through.
    pub(crate) fn rest<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        &block[self.parsed..self.filled]
    }

    /// The bytes not yet worked through, which are so now.
    pub(crate) fn take_rest<'b>(&mut self, block: &'b [u8]) -> &'b [u8] {
        let rest = self.rest(block);
        self.parsed = self.filled;
        rest
    }

    /// The bytes not yet worked through, to be changed where they lie.
    pub(super) fn rest_mut<'b>(&self, block: &'b mut [u8]) -> &'b mut [u8] {
        &mut block[self.parsed..self.filled]
    }

    /// Where in the block the rest begins.
    pub(super) fn start(&self) -> usize {
        self.parsed
    }

    /// Where in the block it ends.
    pub(super) fn end(&self) -> usize {
        self.filled
    }

    /// Whether all is worked through.
    pub(super) fn is_empty(&self) -> bool {
        self.parsed == self.filled
    }

    fn drop_rest(&mut self) -> usize {
        let rest = self.filled - self.parsed;
        self.parsed = self.filled;
        rest
    }
}

impl Connection {
    /// Notes that the peer is alive.
    pub(crate) fn handle_heard(&mut self, bytes: usize, core: &mut Core) {
        self.heard_at = core.now;
        if self.phase == Phase::Open {
            self.deadline = crate::policy::Tick::NEVER;
            self.take_flow(0, bytes, core);
        }
    }

    /// The next message in `block`, or `None` when all of the input is dealt with.
    pub(crate) fn poll_event(
        &mut self,
        block: &mut [u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Option<Event> {
        match self.phase {
            Phase::Open | Phase::Closing => {}
            Phase::Handshake | Phase::Draining | Phase::Lingering | Phase::Ended => {
                self.linger(input.drop_rest());
                return None;
            }
        }
        match self.next_event(block, input, core) {
            Ok(Some(event)) => {
                self.take_flow(1, 0, core);
                Some(event)
            }
            Ok(None) => {
                self.linger(input.drop_rest());
                None
            }
            Err(failure) => {
                self.fail_with(failure, core);
                self.linger(input.drop_rest());
                None
            }
        }
    }

    /// Bytes of a large frame have come to their final place.
    pub(crate) fn handle_received_into(
        &mut self,
        block: Block,
        len: usize,
        core: &mut Core,
    ) -> Option<Event> {
        self.direct_submitted = false;
        self.linger(len);
        let Some(inbox) = &mut self.inbox else {
            core.pool.give(block);
            return None;
        };
        let taken = inbox.take_direct(block, len, &mut core.pool).map_err(Failure::from);
        match taken.and_then(|()| self.end_body(core)) {
            Ok(collected) => collected.filter(|_| self.phase == Phase::Open).map(Event::Collected),
            Err(failure) => {
                self.fail_with(failure, core);
                None
            }
        }
    }

    fn next_event(
        &mut self,
        block: &mut [u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Result<Option<Event>, Failure> {
        while self.is_listening() {
            if self.inbox.is_some()
                && let Some(event) = self.advance_inbox(block, input, core)?
            {
                return Ok(Some(event));
            }
            // The frame that was completed may have been a Close.
            if input.parsed == input.filled || !self.is_listening() {
                return Ok(None);
            }
            let bytes = &block[input.parsed..input.filled];
            let Some((header, header_bytes)) =
                Header::decode(bytes, self.role, self.compression.is_some())?
            else {
                self.stash_rest(block, input);
                return Ok(None);
            };
            if header.opcode.is_control() {
                if !self.control_in_block(&header, header_bytes, block, input, core)? {
                    return Ok(None);
                }
                continue;
            }
            let event = self.data_in_block(&header, header_bytes, block, input, core)?;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// A data frame of which at least the header is in the block.
    #[inline]
    fn data_in_block(
        &mut self,
        header: &Header,
        header_bytes: usize,
        block: &mut [u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Result<Option<Event>, Failure> {
        let admitted = self.admit(header, core)?;
        let start = input.parsed + header_bytes;
        let payload_bytes = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let whole = payload_bytes <= input.filled - start;
        let plain = header.fin && !header.rsv1;
        if whole && plain && self.inbox.is_none() && self.phase == Phase::Open {
            let end = start + payload_bytes;
            let kind = MessageKind::of(header.opcode);
            unmask_whole(&mut block[start..end], kind, header.mask)?;
            if core.taps.is_some() {
                self.show(&Shown::received(header.opcode, &block[start..end]), core);
            }
            input.advance(header_bytes + payload_bytes);
            return Ok(Some(Event::Message { kind, start, end }));
        }
        input.advance(header_bytes);
        self.begin_body(header, admitted, core);
        Ok(None)
    }

    /// A control frame of which at least the header is in the block. False if it is cut.
    fn control_in_block(
        &mut self,
        header: &Header,
        header_bytes: usize,
        block: &mut [u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Result<bool, Failure> {
        let start = input.parsed + header_bytes;
        let payload_bytes = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        if payload_bytes > input.filled - start {
            self.stash_rest(block, input);
            return Ok(false);
        }
        let end = start + payload_bytes;
        input.advance(header_bytes + payload_bytes);
        if let Some(key) = header.mask {
            mask::unmask(&mut block[start..end], key);
        }
        if core.taps.is_some() {
            self.show(&Shown::received(header.opcode, &block[start..end]), core);
        }
        if header.opcode == Opcode::Ping && self.admit_ping(&block[start..end], core)? {
            if core.taps.is_some() {
                self.show_control(Opcode::Pong, &block[start..end], core);
            }
            let mask = self.mask(core);
            let place = InPlace {
                memory: &mut block[..end],
                payload_start: start,
                source: Source::Received,
            };
            let outbox = self.outbox_mut(&mut core.outboxes);
            outbox.push_in_place(place, Opcode::Pong, mask, &mut core.pool);
        } else if header.opcode != Opcode::Ping {
            self.handle_control(header.opcode, &block[start..end], core)?;
        }
        Ok(true)
    }

    /// Goes on with what is unfinished, as far as the input allows.
    fn advance_inbox(
        &mut self,
        block: &mut [u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Result<Option<Event>, Failure> {
        self.advance_stash(block, input, core)?;
        let Some(inbox) = &mut self.inbox else { return Ok(None) };
        if inbox.in_body() {
            let bytes = &mut block[input.parsed..input.filled];
            let message_bytes_max = core.limits.message_bytes_max;
            let taken = inbox.take_body(bytes, message_bytes_max, &mut core.pool)?;
            input.advance(taken);
        }
        Ok(self.end_body(core)?.map(Event::Collected))
    }

    /// Leaves a frame that is whole, and returns the message if it is whole, too.
    fn end_body(&mut self, core: &mut Core) -> Result<Option<Collected>, Failure> {
        let Some(inbox) = &mut self.inbox else { return Ok(None) };
        let mut collected = inbox.end_body(core.limits.message_bytes_max, &mut core.pool)?;
        if let Some(inflater) = collected.as_mut().and_then(|collected| collected.inflater.take()) {
            self.return_inflater(inflater, core);
        }
        self.drop_empty_inbox();
        if core.taps.is_some()
            && let Some(collected) = &collected
        {
            self.show_collected(collected, core);
        }
        Ok(collected)
    }

    /// Completes a cut header or control frame.
    fn advance_stash(
        &mut self,
        block: &[u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Result<(), Failure> {
        loop {
            let (role, rsv1_allowed) = (self.role, self.compression.is_some());
            let Some(inbox) = &mut self.inbox else { return Ok(()) };
            let stashed = inbox.stashed();
            if stashed.is_empty() {
                return Ok(());
            }
            let (missing, header) = match Header::decode(stashed, role, rsv1_allowed)? {
                None => (1, None),
                Some((header, header_bytes)) if header.opcode.is_control() => {
                    let whole = header_bytes + usize::try_from(header.payload_len).unwrap_or(0);
                    (whole - stashed.len(), Some((header, header_bytes)))
                }
                Some((header, header_bytes)) => (0, Some((header, header_bytes))),
            };
            let (0, Some((header, header_bytes))) = (missing, header) else {
                let taken = missing.min(input.filled - input.parsed);
                if taken == 0 {
                    return Ok(());
                }
                inbox.stash(&block[input.parsed..input.parsed + taken]);
                input.advance(taken);
                continue;
            };
            return self.handle_stashed(&header, header_bytes, core);
        }
    }

    /// A header that was cut is complete, and so is its frame if it is a control frame.
    fn handle_stashed(
        &mut self,
        header: &Header,
        header_bytes: usize,
        core: &mut Core,
    ) -> Result<(), Failure> {
        if !header.opcode.is_control() {
            self.inbox_mut().clear_stash();
            let admitted = self.admit(header, core)?;
            self.begin_body(header, admitted, core);
            return Ok(());
        }
        let mut payload = [0; 125];
        let payload = {
            let stashed = self.inbox_mut().stashed();
            let bytes = &mut payload[..stashed.len() - header_bytes];
            bytes.copy_from_slice(&stashed[header_bytes..]);
            bytes
        };
        self.inbox_mut().clear_stash();
        if let Some(key) = header.mask {
            mask::unmask(payload, key);
        }
        if core.taps.is_some() {
            self.show(&Shown::received(header.opcode, payload), core);
        }
        if header.opcode == Opcode::Ping {
            if self.admit_ping(payload, core)? {
                self.push_control(Opcode::Pong, payload, core);
            }
            return Ok(());
        }
        self.handle_control(header.opcode, payload, core)
    }

    /// A Pong or a Close.
    fn handle_control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        core: &mut Core,
    ) -> Result<(), Failure> {
        if opcode == Opcode::Close {
            return self.handle_close_frame(payload, core);
        }
        // RFC 6455 §5.5.3: an unsolicited Pong is no answer to anything. That the peer lives was
        // noted when the bytes came.
        self.take_control_rate(core)
    }

    /// RFC 6455 §5.5.1: a Close is answered by a Close with the same code (and reason), unless it
    /// is the answer itself.
    fn handle_close_frame(&mut self, payload: &[u8], core: &mut Core) -> Result<(), Failure> {
        let decoded = close::decode(payload)?;
        let (code, reason) = decoded.unwrap_or((CloseCode::NO_STATUS, ""));
        if self.phase == Phase::Closing {
            let cause = self.ending_cause(CloseCause::Application);
            self.end(Close::new(code, reason, Side::Local, cause), core);
        } else {
            self.push_control(Opcode::Close, payload, core);
            self.end(Close::new(code, reason, Side::Peer, CloseCause::Peer), core);
        }
        self.drain(core.limits.timeouts.close, core);
        Ok(())
    }

    /// Whether a ping is to be answered now.
    fn admit_ping(&mut self, payload: &[u8], core: &mut Core) -> Result<bool, Failure> {
        self.take_control_rate(core)?;
        // RFC 6455 §5.5.2 asks for no answer once we have sent a Close frame.
        if self.phase != Phase::Open {
            return Ok(false);
        }
        let pongs_queued_max = core.limits.pongs_queued_max;
        Ok(self.outbox_mut(&mut core.outboxes).admit_pong(payload, pongs_queued_max))
    }

    fn take_control_rate(&mut self, core: &Core) -> Result<(), Failure> {
        if self.control_rate.take(core.now, &core.limits) {
            return Ok(());
        }
        Err(LimitExceeded::TooManyControlFrames.into())
    }

    fn admit(&self, header: &Header, core: &Core) -> Result<OpenMessage, Failure> {
        if self.phase == Phase::Closing {
            // Nobody will see it, so neither its order nor its size matters.
            return Ok(OpenMessage { announced_bytes: 0, empty_fragments: 0 });
        }
        let open = self.inbox.as_ref().and_then(|inbox| inbox.open_message());
        let mut limits = SizeLimits {
            frame_bytes_max: core.limits.frame_bytes_max,
            message_bytes_max: core.limits.message_bytes_max,
            empty_fragments_max: core.limits.empty_fragments_max,
        };
        let inflates = self.inbox.as_ref().is_some_and(|inbox| inbox.inflates());
        if header.rsv1 || inflates {
            // The limit holds for what is inflated (row PD02); what cannot be compressed is larger
            // than that by the headers of its blocks.
            let with_headers = |bytes: usize| bytes.saturating_add(bytes / 8 + 64);
            limits.frame_bytes_max = with_headers(limits.frame_bytes_max);
            limits.message_bytes_max = with_headers(limits.message_bytes_max);
        }
        sequence::admit(header, open, limits)
    }

    fn begin_body(&mut self, header: &Header, admitted: OpenMessage, core: &mut Core) {
        if core.taps.is_some() {
            self.show_header(header, core);
        }
        if self.phase == Phase::Closing {
            self.inbox_mut().begin_skip(header);
            return;
        }
        let inflater = header.rsv1.then(|| self.lend_inflater(core)).flatten();
        self.inbox_mut().begin_body(header, admitted, core.now, inflater);
    }

    /// Keeps what is left of the input: a cut header, or a cut control frame.
    fn stash_rest(&mut self, block: &[u8], input: &mut Input) {
        self.inbox_mut().stash(&block[input.parsed..input.filled]);
        input.drop_rest();
    }

    /// Leaves the rest of the input unread.
    pub(super) fn skip_rest(&mut self, input: &mut Input) {
        self.linger(input.drop_rest());
    }

    /// Counts bytes that nobody reads; too many of them end the connection (row R5).
    fn linger(&mut self, bytes: usize) {
        if !matches!(self.phase, Phase::Draining | Phase::Lingering) {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let left = &mut self.extras_mut().linger_bytes;
        *left = left.saturating_sub(bytes);
        if *left == 0 && self.phase == Phase::Lingering {
            self.phase = Phase::Ended;
        }
    }

    /// Whether what the peer sends is still parsed.
    fn is_listening(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing)
    }

    fn inbox_mut(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_with(|| Box::new(Inbox::new()))
    }

    fn drop_empty_inbox(&mut self) {
        if self.inbox.as_ref().is_some_and(|inbox| inbox.is_empty()) {
            self.inbox = None;
        }
    }
}

/// Undoes the mask of a message that lies whole in one frame, and checks text, in one pass where
/// the text is ASCII.
#[inline]
fn unmask_whole(
    bytes: &mut [u8],
    kind: MessageKind,
    key: Option<[u8; 4]>,
) -> Result<(), Violation> {
    match (kind, key) {
        (MessageKind::Text, Some(key)) => text::unmask_whole_text(bytes, key),
        (MessageKind::Text, None) => text::validate(bytes),
        (MessageKind::Binary, Some(key)) => {
            mask::unmask(bytes, key);
            Ok(())
        }
        (MessageKind::Binary, None) => Ok(()),
    }
}
