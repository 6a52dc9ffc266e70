//! One connection, with a worker and a driver played by the test.
//!
//! The rig does what `worker::dispatch` does with a completion and what a driver does with a step,
//! and asserts on the way what both may rely on: one send at a time, nothing after the FIN, a
//! deadline in every state, all blocks back when nothing is under way.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buf::{Block, Pool, PoolConfig, Segment};
use crate::conn::{
    Close, Collected, ConnectError, Connection, Core, DirectRoom, Ending, Engines, Event,
    HeadStatus, Input, MaskKeys, Message, MessageKind, Phase, Plaintext, Source, Step, Tls,
};
use crate::metrics::Metrics;
use crate::policy::{Limits, Tick};
use crate::proto::Role;
use crate::proto::handshake::Upgrade;

use super::judge::judge;
use super::wire::{ANSWER, REQUEST};

/// What the application does with a message.
pub(super) type App = fn(&mut Connection, &mut Core, Message<'_>);

/// How much the peer's side takes of a send.
#[derive(Clone, Debug)]
pub(super) enum Window {
    /// All of it.
    Wide,
    /// At most so many bytes.
    Each(usize),
    /// Any number, now or later.
    Random(fastrand::Rng),
    /// So many bytes, then nothing.
    Room(usize),
    /// So many bytes; a send beyond them stays under way.
    Held(usize),
}

/// What came from the peer and is not received yet.
enum Arrival {
    Bytes(Vec<u8>, usize),
    End,
}

/// All that can be seen of a connection from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) messages: Vec<(MessageKind, Vec<u8>)>,
    pub(super) output: Vec<u8>,
    pub(super) close: Option<Close>,
    pub(super) phase: Phase,
    pub(super) shut: bool,
    /// Closed by the server, and whether by a reset.
    pub(super) closed: Option<bool>,
}

/// One connection and all around it.
pub(super) struct Rig {
    pub(super) core: Core,
    pub(super) connection: Connection,
    pub(super) window: Window,
    pub(super) output: Vec<u8>,
    pub(super) messages: Vec<(MessageKind, Vec<u8>)>,
    pub(super) closes: Vec<Close>,
    pub(super) never_opened: Option<ConnectError>,
    pub(super) opened: bool,
    pub(super) paused: bool,
    pub(super) shut: bool,
    pub(super) closed: Option<bool>,
    /// Bytes that were received directly into their place.
    pub(super) direct_bytes: usize,
    /// Steps are taken when a turn ends, not after each receive: a driver that sends in batches.
    pub(super) batched: bool,
    app: App,
    arrivals: VecDeque<Arrival>,
    sending: Option<(Segment, bool)>,
    direct: Option<DirectRoom>,
}

/// Takes messages and says nothing.
pub(super) fn listen(_: &mut Connection, _: &mut Core, _: Message<'_>) {}

/// Sends each message back from where it lies.
pub(super) fn echo(connection: &mut Connection, core: &mut Core, message: Message<'_>) {
    let (kind, place) = message.into_parts();
    let _ = connection.send_in_place(kind, place, core);
}

/// Memory of a core that keeps nothing spare, so that all it has was paid for by a peer.
pub(super) fn core(limits: Limits) -> Core {
    let config = PoolConfig { receive_blocks_max: 2, spare_bytes_max: 0 };
    Core {
        pool: Pool::new(config),
        outboxes: Vec::new(),
        engines: Engines::default(),
        scratch: Vec::new(),
        attached_bytes: 0,
        queued_bytes: 0,
        is_pressed: false,
        limits,
        now: Tick(1000),
        keys: MaskKeys::default(),
        taps: None,
        metrics: Arc::new(Metrics::default()),
    }
}

impl Rig {
    /// A server's connection that was just accepted.
    pub(super) fn accepted(app: App, limits: Limits) -> Self {
        let core = core(limits);
        let connection = Connection::server(0, &core);
        Self::around(connection, core, app)
    }

    /// A server's connection that is open; the 101 has left.
    pub(super) fn open(app: App) -> Self {
        Self::open_within(app, Limits::default())
    }

    /// The same, with limits of its own.
    pub(super) fn open_within(app: App, limits: Limits) -> Self {
        let mut rig = Self::accepted(app, limits);
        rig.shake_hands();
        rig
    }

    /// A client's connection that has sent its request.
    pub(super) fn dialled(app: App) -> Self {
        let mut rig = Self::dialling(app);
        rig.look_after();
        rig
    }

    /// A client's connection that is about to send its request.
    pub(super) fn dialling(app: App) -> Self {
        Self::dialling_within(app, Limits::default())
    }

    /// The same, with limits of its own.
    pub(super) fn dialling_within(app: App, limits: Limits) -> Self {
        let mut core = core(limits);
        let mut upgrade = Upgrade::new(*b"the sample nonce");
        if let Some(compression) = core.limits.compression {
            upgrade.offer_deflate(compression.policy);
        }
        let request = upgrade.request_bytes("server.example.com", "/chat", &[], &[]);
        let connection = Connection::client(&request, upgrade, 0, &mut core);
        Self::around(connection, core, app)
    }

    /// A client's connection that is open.
    pub(super) fn open_client(app: App) -> Self {
        let mut rig = Self::dialled(app);
        rig.receive(ANSWER);
        rig.output.clear();
        assert!(rig.opened);
        rig
    }

    /// Over TLS.
    pub(super) fn over(mut self, tls: Tls) -> Self {
        self.connection.secure(tls, &mut self.core);
        self
    }

    /// A new connection on the same core; the one before must be over.
    pub(super) fn reopen(self) -> Self {
        let (app, core) = (self.app, self.release().1);
        let connection = Connection::server(0, &core);
        let mut rig = Self::around(connection, core, app);
        rig.shake_hands();
        rig
    }

    /// The handshake of a server's connection; nothing but the 101 is sent.
    fn shake_hands(&mut self) {
        if cfg!(miri) {
            // The hash is most of what Miri would do; the tests of `opening` and `pair` run it.
            self.connection.open(&self.core);
            self.opened = true;
            return;
        }
        self.receive(REQUEST);
        assert_eq!(std::mem::take(&mut self.output), ANSWER, "nothing else has been said");
    }

    fn around(connection: Connection, core: Core, app: App) -> Self {
        Self {
            core,
            connection,
            window: Window::Wide,
            output: Vec::new(),
            messages: Vec::new(),
            closes: Vec::new(),
            never_opened: None,
            opened: false,
            paused: false,
            shut: false,
            closed: None,
            direct_bytes: 0,
            batched: false,
            app,
            arrivals: VecDeque::new(),
            sending: None,
            direct: None,
        }
    }

    /// Bytes of the peer, as one piece.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.arrive(bytes);
        self.pump();
    }

    /// Bytes of the peer, one piece up to each cut, in one turn if the driver sends in batches.
    pub(super) fn feed(&mut self, bytes: &[u8], cuts: &[usize]) {
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
    pub(super) fn receive_end(&mut self) {
        self.arrivals.push_back(Arrival::End);
        self.pump();
    }

    /// The connection breaks.
    pub(super) fn break_off(&mut self) {
        self.connection.handle_failed(std::io::ErrorKind::ConnectionReset.into(), &mut self.core);
        self.tell_close();
        self.pump();
    }

    /// Something of the application, or of the worker.
    pub(super) fn act<T>(&mut self, act: impl FnOnce(&mut Connection, &mut Core) -> T) -> T {
        let result = act(&mut self.connection, &mut self.core);
        self.tell_close();
        self.pump();
        result
    }

    /// The peer takes so many bytes more.
    pub(super) fn give_room(&mut self, bytes: usize) {
        match &mut self.window {
            Window::Room(room) => *room += bytes,
            Window::Wide | Window::Each(_) | Window::Random(_) | Window::Held(_) => {
                unreachable!("room is elsewhere")
            }
        }
        self.pump();
    }

    /// Time goes by, tick by tick. Returns early when the connection is closed.
    pub(super) fn sleep(&mut self, ticks: u32) {
        for _ in 0..ticks {
            if self.closed.is_some() {
                return;
            }
            self.core.now.0 += 1;
            if self.connection.next_deadline(&self.core) <= self.core.now {
                self.connection.handle_deadline(&mut self.core);
                self.tell_close();
                self.pump();
                let due = self.connection.next_deadline(&self.core);
                assert!(due > self.core.now, "a deadline that is past is dealt with");
            }
        }
    }

    /// What has come of it, once all that is queued has left; then everything must be given back.
    pub(super) fn outcome(mut self) -> Outcome {
        while self.complete_send(true) {
            self.pump();
        }
        let (phase, shut, closed) = (self.connection.phase(), self.shut, self.closed);
        let output = std::mem::take(&mut self.output);
        let messages = std::mem::take(&mut self.messages);
        let close = self.closes.first().cloned();
        self.release();
        Outcome { messages, output, close, phase, shut, closed }
    }

    /// Ends the connection if it has not ended, and checks that nothing of it is left.
    pub(super) fn release(mut self) -> (Vec<Close>, Core) {
        if self.closed.is_none() {
            self.break_off();
        }
        assert!(self.closed.is_some(), "a connection that has ended asks to be closed");
        self.tell_close();
        self.connection.release(&mut self.core);
        assert_eq!(self.core.pool.lent_count(), 0, "every block has come back");
        assert_eq!(self.core.engines.lent_count(), 0, "every inflater has come back (PD07)");
        assert_eq!(self.closes.len(), usize::from(self.opened), "one close event per open");
        (self.closes, self.core)
    }

    fn arrive(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.arrivals.push_back(Arrival::Bytes(bytes.to_vec(), 0));
        }
    }

    fn pump(&mut self) {
        loop {
            if !self.batched || self.arrivals.is_empty() || self.connection.wants_direct() {
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
                    self.connection.handle_peer_closed(&mut self.core);
                    self.tell_close();
                }
            }
        }
    }

    fn deliver(&mut self, bytes: &[u8]) -> usize {
        let taken = match self.direct.take() {
            Some(DirectRoom { mut block, start, end }) => {
                let taken = bytes.len().min(end - start);
                block.bytes_mut()[start..start + taken].copy_from_slice(&bytes[..taken]);
                self.connection.handle_heard(taken, &mut self.core);
                self.direct_bytes += taken;
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
                self.connection.handle_heard(taken, &mut self.core);
                self.handle_received(block, taken);
                taken
            }
        };
        self.tell_close();
        taken
    }

    fn handle_received(&mut self, mut block: Block, len: usize) {
        if !self.connection.is_secure() {
            self.handle_plaintext(block, Input::new(len));
            return;
        }
        let mut records = Input::new(len);
        while let Some(plaintext) =
            self.connection.poll_plaintext(&mut block, &mut records, &mut self.core)
        {
            let (plain, range) = match plaintext {
                Plaintext::Received(range) => {
                    records = Input::new(0);
                    (std::mem::replace(&mut block, Block::empty()), range)
                }
                Plaintext::Apart(plain, range) => (plain, range),
            };
            self.handle_plaintext(plain, Input::within(range));
        }
        assert!(records.is_empty(), "all of the input is dealt with");
        self.core.pool.give(block);
    }

    fn handle_plaintext(&mut self, mut block: Block, mut input: Input) {
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
        if connection.role == Role::Client {
            self.opened |= connection.poll_answer(block.bytes(), input, core);
            return;
        }
        let request = match connection.poll_head(block.bytes(), input, core) {
            None => return,
            Some(HeadStatus::InBlock(head)) => judge(connection, &block.bytes()[head], core),
            Some(HeadStatus::Collected(bytes)) => judge(connection, &bytes, core),
        };
        assert!(!self.opened, "a connection opens once");
        self.opened = request;
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
        self.messages.push((message.kind(), message.payload().to_vec()));
        (self.app)(&mut self.connection, &mut self.core, message);
    }

    fn tell_close(&mut self) {
        if let Some(ending) = self.connection.poll_ending() {
            let close = match ending {
                Ending::Closed(close) => close,
                Ending::NeverOpened(error) => {
                    assert!(!self.opened && self.never_opened.is_none(), "it is told once");
                    self.never_opened = Some(error);
                    return;
                }
            };
            self.closes.push(close);
            assert!(self.opened && self.closes.len() == 1, "one close event, after open");
        }
    }

    fn look_after(&mut self) {
        if self.closed.is_some() {
            return;
        }
        loop {
            while let Some(step) = self.connection.poll_step(&mut self.core) {
                self.execute(step);
            }
            if !self.complete_send(false) {
                break;
            }
        }
        let under_way = self.sending.is_some() || self.direct.is_some();
        let cut_record = self.connection.tls().is_some_and(|tls| tls.stashed_bytes() > 0);
        let unfinished = self.connection.inbox.is_some() || cut_record;
        let idle = self.connection.outbox.is_none() && !unfinished;
        if idle && !under_way {
            assert_eq!(self.core.pool.lent_count(), 0, "an idle connection holds no block");
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
                assert!(
                    !self.shut && segment.len() > 0,
                    "there is something to say, and nothing after the FIN"
                );
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
            }
            Step::ResumeReceive => {
                assert!(std::mem::take(&mut self.paused), "resumed once");
            }
            Step::ShutdownWrite => {
                assert!(self.sending.is_none(), "the FIN follows all that is said");
                assert!(!std::mem::replace(&mut self.shut, true), "shut once");
            }
            Step::Close { reset } => {
                self.closed = Some(reset);
                for block in [
                    self.sending.take().map(|(segment, _)| segment.block),
                    self.direct.take().map(|room| room.block),
                ] {
                    self.core.pool.give(block.unwrap_or_else(Block::empty));
                }
            }
        }
    }

    /// The kernel takes what it can of the send in flight. False if there is none, or it waits.
    fn complete_send(&mut self, prompt: bool) -> bool {
        let Some((segment, wait)) = self.sending.take() else { return false };
        let Some(sent) = self.window.take(segment.len(), wait, prompt) else {
            self.sending = Some((segment, wait));
            return false;
        };
        self.output.extend_from_slice(&segment.bytes()[..sent]);
        self.connection.handle_sent(segment, sent, &mut self.core);
        true
    }
}

impl Window {
    /// How many of `len` bytes are taken now; none if the send has to wait.
    fn take(&mut self, len: usize, wait: bool, prompt: bool) -> Option<usize> {
        match self {
            Self::Wide => Some(len),
            Self::Each(most) => Some(len.min(*most)),
            Self::Random(rng) => (rng.bool() || prompt).then(|| rng.usize(usize::from(wait)..=len)),
            Self::Room(room) => {
                let sent = len.min(*room);
                *room -= sent;
                (sent > 0 || !wait).then_some(sent)
            }
            Self::Held(room) => {
                let sent = len.min(*room);
                *room -= sent;
                (sent > 0).then_some(sent)
            }
        }
    }
}
