//! One connection, with a worker, a driver and a peer played by the fuzzer.
//!
//! The rig does what `worker::dispatch` does with a completion and what a driver does with a step,
//! and asserts on the way what both may rely on: one send at a time, nothing after the FIN, a
//! deadline in every state, all blocks back at the end. It writes down in order what the connection
//! was told, so that a model can be told the same.

use std::collections::VecDeque;

use crate::buf::{Block, RECEIVE_BLOCK_BYTES, Segment};
use crate::conn::{
    Close, Collected, Connection, Core, DirectRoom, Ending, Event, HeadStatus, Input, Message,
    MessageKind, Phase, SendError, Source, Step, Terms,
};
use crate::policy::Tick;
use crate::proto::deflate::{Deflater, Inflater};
use crate::proto::handshake::Upgrade;
use crate::proto::{CloseCode, Role};

use super::setting::{App, Options, RECEIVE_BLOCKS_MAX, core};

/// The example of RFC 6455 §1.2, up to what may follow.
const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";
/// The answer to it, up to what may follow.
const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// Something the connection was told, or did that a model cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Received(Vec<u8>),
    /// The peer took so many bytes.
    Sent(usize),
    /// A message of the application: whether it is text, and what came of it.
    Send(bool, Vec<u8>, Result<(), SendError>),
    Ping(Vec<u8>, Result<(), SendError>),
    Close(u16, String),
    Paused,
    Resumed,
    Ticked,
    PeerClosed,
    Failed,
}

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether text, and the payload.
    pub messages: Vec<(bool, Vec<u8>)>,
    pub output: Vec<u8>,
    pub close: Option<Close>,
    /// Bytes follow no more.
    pub shut: bool,
    /// Ended by itself, and whether by a reset.
    pub closed: Option<bool>,
    pub facts: Vec<Fact>,
}

enum Arrival {
    Bytes(Vec<u8>, usize),
    End,
}

/// One connection and all around it.
pub struct Rig {
    core: Core,
    connection: Connection,
    app: App,
    messages: Vec<(bool, Vec<u8>)>,
    output: Vec<u8>,
    closes: Vec<Close>,
    facts: Vec<Fact>,
    opened: bool,
    paused: bool,
    shut: bool,
    closed: Option<bool>,
    /// What the peer takes: so much in all, if it is bounded, and so much at a time.
    room: Option<usize>,
    each_bytes_max: usize,
    batched: bool,
    arrivals: VecDeque<Arrival>,
    sending: Option<(Segment, bool)>,
    direct: Option<DirectRoom>,
}

impl Rig {
    /// A server's connection that was just accepted.
    pub fn accepted(options: &Options) -> Self {
        let core = core(options);
        let connection = Connection::server(0, &core);
        Self::around(connection, core, options.app)
    }

    /// A connection that is open; the handshake has left no trace.
    pub fn open(options: &Options) -> Self {
        let mut rig = if options.client { Self::dialled(options) } else { Self::accepted(options) };
        let offer = options.compression.map_or_else(String::new, |compression| {
            let answer = "; server_no_context_takeover; client_no_context_takeover";
            let windows = format!(
                "; server_max_window_bits={0}; client_max_window_bits={0}",
                compression.window_bits_max
            );
            let takeover = if compression.context_takeover { "" } else { answer };
            format!("Sec-WebSocket-Extensions: permessage-deflate{takeover}{windows}\r\n")
        });
        let start = if options.client { ANSWER } else { REQUEST };
        rig.receive(format!("{start}{offer}\r\n").as_bytes());
        assert!(rig.opened, "a handshake by the book opens");
        if let Some(output) = rig.output.strip_suffix(b"\r\n\r\n") {
            let said = output.windows(18).any(|bytes| bytes == b"permessage-deflate");
            assert_eq!(
                said,
                options.compression.is_some(),
                "compression is agreed if it is wanted"
            );
        }
        rig.output.clear();
        rig.facts.clear();
        rig
    }

    fn dialled(options: &Options) -> Self {
        let mut core = core(options);
        let mut upgrade = Upgrade::new(*b"the sample nonce");
        if let Some(compression) = core.limits.compression {
            upgrade.offer_deflate(compression.policy);
        }
        let request = upgrade.request_bytes("server.example.com", "/chat", &[], &[]);
        let connection = Connection::client(&request, upgrade, 0, &mut core);
        let mut rig = Self::around(connection, core, options.app);
        rig.look_after();
        rig
    }

    fn around(connection: Connection, core: Core, app: App) -> Self {
        Self {
            core,
            connection,
            app,
            messages: Vec::new(),
            output: Vec::new(),
            closes: Vec::new(),
            facts: Vec::new(),
            opened: false,
            paused: false,
            shut: false,
            closed: None,
            room: None,
            each_bytes_max: usize::MAX,
            batched: false,
            arrivals: VecDeque::new(),
            sending: None,
            direct: None,
        }
    }

    /// From now on steps are taken when a turn ends, as with a driver that sends in batches.
    pub fn batch(&mut self, on: bool) {
        self.batched = on;
        self.pump();
    }

    /// From now on the peer takes at most so much at a time.
    pub fn take_at_most(&mut self, bytes: usize) {
        self.each_bytes_max = bytes.max(1);
    }

    /// From now on the peer takes `bytes` and then nothing, or everything.
    pub fn give_room(&mut self, bytes: Option<usize>) {
        self.room = bytes;
        self.pump();
    }

    /// Bytes of the peer, as one piece.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.arrive(bytes);
        self.pump();
    }

    /// Bytes of the peer, one piece up to each cut, in one turn if steps are batched.
    pub fn feed(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut start = 0;
        for &end in cuts.iter().chain([&bytes.len()]) {
            self.arrive(&bytes[start..end]);
            start = end;
            if !self.batched {
                self.pump();
            }
        }
        self.pump();
    }

    /// The peer sends no more.
    pub fn receive_end(&mut self) {
        self.arrivals.push_back(Arrival::End);
        self.pump();
    }

    /// The connection breaks.
    pub fn break_off(&mut self) {
        if self.closed.is_none() {
            self.facts.push(Fact::Failed);
            self.connection
                .handle_failed(std::io::ErrorKind::ConnectionReset.into(), &mut self.core);
            self.tell_close();
            self.pump();
        }
    }

    /// The application sends a message.
    pub fn send(&mut self, text: bool, payload: &[u8]) {
        let kind = if text { MessageKind::Text } else { MessageKind::Binary };
        let result = self.connection.send(kind, payload, &mut self.core).map(|_| ());
        self.facts.push(Fact::Send(text, payload.to_vec(), result));
        self.tell_close();
        self.pump();
    }

    /// The application sends a ping.
    pub fn ping(&mut self, payload: &[u8]) {
        let result = self.connection.ping(payload, &mut self.core);
        self.facts.push(Fact::Ping(payload.to_vec(), result));
        self.tell_close();
        self.pump();
    }

    /// The application closes.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.facts.push(Fact::Close(code, reason.to_owned()));
        self.connection.close(CloseCode::new(code), reason, &mut self.core);
        self.tell_close();
        self.pump();
    }

    /// The application wants to receive nothing for now, or again.
    pub fn hold(&mut self, on: bool) {
        self.connection.hold(on);
        self.pump();
    }

    /// The core is short of memory, or no longer.
    pub fn press(&mut self, on: bool) {
        self.core.is_pressed = on;
        self.pump();
    }

    /// Time goes by, tick by tick.
    pub fn sleep(&mut self, ticks: u32) {
        for _ in 0..ticks {
            if self.closed.is_some() {
                return;
            }
            self.core.now.0 += 1;
            self.facts.push(Fact::Ticked);
            if self.connection.next_deadline(&self.core) <= self.core.now {
                self.connection.handle_deadline(&mut self.core);
                self.tell_close();
                self.pump();
                let due = self.connection.next_deadline(&self.core);
                assert!(due > self.core.now, "a deadline that is past is dealt with");
            }
        }
    }

    /// Whether the connection is over.
    pub fn is_over(&self) -> bool {
        self.closed.is_some()
    }

    /// What has come of it, once all that is queued has left; then everything must be given back.
    pub fn finish(mut self) -> Outcome {
        self.give_room(None);
        while self.complete_send() {
            self.pump();
        }
        let (shut, closed) = (self.shut, self.closed);
        self.break_off();
        assert!(self.closed.is_some(), "a connection that has ended asks to be closed");
        self.connection.release(&mut self.core);
        self.check_memory();
        assert_eq!(self.closes.len(), usize::from(self.opened), "one close event per open");
        Outcome {
            messages: self.messages,
            output: self.output,
            close: self.closes.pop(),
            shut,
            closed,
            facts: self.facts,
        }
    }

    /// Once what is kept for the next message is given back, only what a core always has is left.
    fn check_memory(&mut self) {
        // Each call frees half.
        (0..64).for_each(|_| self.core.trim());
        let blocks_bytes = RECEIVE_BLOCKS_MAX * RECEIVE_BLOCK_BYTES;
        assert!(self.core.pool.held_bytes() <= blocks_bytes, "every block has come back");
        let engines_bytes = Inflater::HELD_BYTES + Deflater::held_bytes(15);
        assert!(self.core.engines.held_bytes() <= engines_bytes, "every engine has come back");
        let receive_blocks = [(); RECEIVE_BLOCKS_MAX].map(|()| self.core.pool.take_receive());
        assert!(receive_blocks.iter().all(Option::is_some), "no receive block is lent");
    }

    fn arrive(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.arrivals.push_back(Arrival::Bytes(bytes.to_vec(), 0));
        }
    }

    fn pump(&mut self) {
        loop {
            let more_follows = self.batched && !self.arrivals.is_empty() && !self.paused;
            if !more_follows || self.connection.wants_direct() {
                self.look_after();
            }
            if self.paused || self.closed.is_some() {
                return;
            }
            match self.arrivals.pop_front() {
                None => return,
                Some(Arrival::Bytes(bytes, start)) => {
                    let taken = self.deliver(&bytes[start..]);
                    if start + taken < bytes.len() {
                        self.arrivals.push_front(Arrival::Bytes(bytes, start + taken));
                    }
                }
                Some(Arrival::End) => {
                    if let Some(room) = self.direct.take() {
                        self.core.pool.give(room.block);
                    }
                    self.facts.push(Fact::PeerClosed);
                    self.connection.handle_peer_closed(&mut self.core);
                    self.tell_close();
                    // A driver says nothing of a peer that has gone.
                    self.arrivals.clear();
                }
            }
        }
    }

    fn deliver(&mut self, bytes: &[u8]) -> usize {
        let taken = match self.direct.take() {
            Some(DirectRoom { mut block, start, end }) => {
                let taken = bytes.len().min(end - start);
                block.bytes_mut()[start..start + taken].copy_from_slice(&bytes[..taken]);
                self.facts.push(Fact::Received(bytes[..taken].to_vec()));
                self.connection.handle_heard(taken, &mut self.core);
                let event = self.connection.handle_received_into(block, taken, &mut self.core);
                if let Some(event) = event {
                    self.handle_event(event, &mut Block::empty());
                }
                taken
            }
            None => {
                let mut block = self.core.pool.take_receive().expect("a receive block is free");
                let taken = bytes.len().min(block.len());
                block.bytes_mut()[..taken].copy_from_slice(&bytes[..taken]);
                self.facts.push(Fact::Received(bytes[..taken].to_vec()));
                self.connection.handle_heard(taken, &mut self.core);
                self.handle_plaintext(block, taken);
                taken
            }
        };
        self.tell_close();
        taken
    }

    fn handle_plaintext(&mut self, mut block: Block, len: usize) {
        let mut input = Input::new(len);
        if self.connection.phase() == Phase::Handshake {
            self.handle_head(&block, &mut input);
        }
        loop {
            let event = self.connection.poll_event(block.bytes_mut(), &mut input, &mut self.core);
            let Some(event) = event else { break };
            self.handle_event(event, &mut block);
        }
        assert!(input.rest(block.bytes()).is_empty(), "all of the input is dealt with");
        self.connection.settle(block, Source::Received, &mut self.core);
    }

    fn handle_head(&mut self, block: &Block, input: &mut Input) {
        let (connection, core) = (&mut self.connection, &mut self.core);
        if connection.role() == Role::Client {
            self.opened |= connection.poll_answer(block.bytes(), input, core);
            return;
        }
        self.opened = match connection.poll_head(block.bytes(), input, core) {
            None => return,
            Some(HeadStatus::InBlock(len)) => judge(connection, &block.bytes()[len], core),
            Some(HeadStatus::Collected(bytes)) => judge(connection, &bytes, core),
        };
    }

    fn handle_event(&mut self, event: Event, block: &mut Block) {
        match event {
            Event::Message { kind, start, end } => {
                let memory = &mut block.bytes_mut()[..end];
                self.tell_message(Message::new(kind, memory, start, Source::Received));
            }
            Event::Collected(Collected { kind, mut block, len, .. }) => {
                let (start, end) = Collected::payload_range(len);
                let message = match block.bytes_mut().get_mut(..end) {
                    Some(memory) => Message::new(kind, memory, start, Source::Collected),
                    None => Message::new(kind, &mut [], 0, Source::Collected),
                };
                self.tell_message(message);
                self.connection.settle(block, Source::Collected, &mut self.core);
            }
        }
    }

    fn tell_message(&mut self, message: Message<'_>) {
        assert!(self.opened && self.closes.is_empty(), "messages come between open and close");
        let text = message.kind() == MessageKind::Text;
        assert_eq!(message.text().is_some(), text, "text is UTF-8");
        let payload = message.payload().to_vec();
        match self.app {
            App::Listen => {}
            App::Echo => {
                let (kind, place) = message.into_parts();
                let _ = self.connection.send_in_place(kind, place, &mut self.core);
            }
            App::Copy => {
                let _ = self.connection.send(message.kind(), &payload, &mut self.core);
                if payload.starts_with(b"!") {
                    self.connection.close(CloseCode::new(4000), "", &mut self.core);
                }
            }
        }
        self.messages.push((text, payload));
    }

    fn tell_close(&mut self) {
        let Some(ending) = self.connection.poll_ending() else { return };
        let Ending::Closed(close) = ending else {
            assert!(!self.opened, "what was open has closed");
            return;
        };
        self.closes.push(close);
        assert!(self.opened && self.closes.len() == 1, "one close event, after open");
    }

    fn look_after(&mut self) {
        if self.closed.is_some() {
            return;
        }
        loop {
            while let Some(step) = self.connection.poll_step(&mut self.core) {
                self.execute(step);
            }
            if !self.complete_send() {
                break;
            }
        }
        if !matches!(self.connection.phase(), Phase::Open | Phase::Ended) {
            assert_ne!(self.connection.next_deadline(&self.core), Tick::NEVER, "every wait ends");
        }
    }

    fn execute(&mut self, step: Step) {
        assert!(self.closed.is_none(), "closing is the last step");
        match step {
            Step::Send { segment, wait } => {
                assert!(self.sending.is_none(), "one send at a time");
                assert!(!self.shut && segment.len() > 0, "something to say, and not after the FIN");
                self.sending = Some((segment, wait));
            }
            Step::ReceiveInto(room) => {
                assert!(
                    self.direct.is_none() && room.start < room.end,
                    "one place to receive into"
                );
                assert!(room.end <= room.block.len(), "the place is in the block");
                self.direct = Some(room);
            }
            Step::PauseReceive => {
                assert!(!std::mem::replace(&mut self.paused, true), "paused once");
                self.facts.push(Fact::Paused);
            }
            Step::ResumeReceive => {
                assert!(std::mem::take(&mut self.paused), "resumed once");
                self.facts.push(Fact::Resumed);
            }
            Step::ShutdownWrite => {
                assert!(self.sending.is_none(), "the FIN follows all that is said");
                assert!(!std::mem::replace(&mut self.shut, true), "shut once");
            }
            Step::Close { reset } => {
                self.closed = Some(reset);
                let sending = self.sending.take().map(|(segment, _)| segment.block);
                let direct = self.direct.take().map(|room| room.block);
                for block in [sending, direct].into_iter().flatten() {
                    self.core.pool.give(block);
                }
            }
        }
    }

    /// The kernel takes what it can of the send in flight. False if there is none, or it waits.
    fn complete_send(&mut self) -> bool {
        let Some((segment, wait)) = self.sending.take() else { return false };
        let room = self.room.unwrap_or(usize::MAX);
        let sent = segment.len().min(self.each_bytes_max).min(room);
        if sent == 0 && wait {
            self.sending = Some((segment, wait));
            return false;
        }
        self.room = self.room.map(|room| room - sent);
        self.output.extend_from_slice(&segment.bytes()[..sent]);
        self.facts.push(Fact::Sent(sent));
        self.connection.handle_sent(segment, sent, &mut self.core);
        true
    }
}

/// An application that lets everybody in. Returns whether it was an upgrade.
fn judge(connection: &mut Connection, head: &[u8], core: &mut Core) -> bool {
    let Some(request) = connection.judge(head, core) else { return false };
    match Connection::acceptable(&request, &core.limits) {
        Ok(request) => {
            let terms = Terms { protocol: None, headers: &[], compression: true };
            connection.accept(&request, &terms, core);
            true
        }
        Err(refusal) => {
            connection.refuse(refusal, core);
            false
        }
    }
}
