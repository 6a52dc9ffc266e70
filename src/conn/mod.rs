//! One connection, from its first byte to its last: a state machine without I/O.
//!
//! Bytes go in (`handle_received`, `handle_received_into`), events for the application come out
//! (`poll_event`, `poll_ending`), and so do the things the worker shall do next (`poll_step`). Time
//! is an argument, memory is lent by the core. The connection never calls the application and never
//! sees a socket.
//!
//! ```text
//!             101 queued          our Close queued              Close of both sides, or failure
//! Handshake ------------> Open ------------------> Closing ---------------> Draining
//!     |  refused           |  failed, or Close of the peer                     | queue sent
//!     +--------------------+---------------------------------------------> Draining
//!                                                            shut down write  |
//!                                               Ended <--- Lingering <--------+
//!                                                  end of stream, 64 KiB, or deadline
//! ```
//!
//! INVARIANT: the application is told exactly once how a connection ended that it knows of
//! (`poll_ending`): each that was open, and in the client role also each that never opened.

mod close;
mod core;
mod frames;
mod head;
mod inbox;
mod message;
mod opening;
mod outbox;
mod secure;
#[cfg(test)]
mod tests;
mod tls;

pub use close::{Close, ConnectError, Side};
pub use message::{Message, MessageKind};

pub(crate) use close::Ending;
pub(crate) use core::{Core, MaskKeys, SpareOutboxes};
pub(crate) use frames::{Event, Input};
pub(crate) use head::HeadStatus;
pub(crate) use inbox::{Collected, DirectRoom};
pub(crate) use message::{InPlace, Source};
pub(crate) use opening::{Deferred, Terms};
pub(crate) use outbox::Outbox;
pub(crate) use tls::Tls;

use std::io;

use crate::buf::{Block, Segment};
use crate::policy::{ControlRate, LINGER_BYTES_MAX, Tick, Ticks};
use crate::proto::handshake::Refusal;
use crate::proto::sequence::Failure;
use crate::proto::{CloseCode, Opcode, Role, close as close_frame};

use head::HeadInbox;
use inbox::Inbox;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The opening handshake is not complete.
    Handshake,
    /// Messages flow.
    Open,
    /// We have queued a Close frame and wait for the peer's.
    Closing,
    /// Nothing more is said; what is queued still leaves.
    Draining,
    /// Our side is shut; what the peer still sends is dropped.
    Lingering,
    /// Over.
    Ended,
}

/// What the worker shall do for a connection.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this; wait for room if `wait`.
    Send {
        /// What to send.
        segment: Segment,
        /// Whether the send completes only once something was taken.
        wait: bool,
    },
    /// Receive the next bytes here.
    ReceiveInto(DirectRoom),
    /// Receive no more for now.
    PauseReceive,
    /// Receive again.
    ResumeReceive,
    /// No more bytes follow.
    ShutdownWrite,
    /// Give the connection up: reset if the peer would not take what is queued.
    Close {
        /// Drop what the kernel still holds.
        reset: bool,
    },
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is closing or closed. Nothing can be sent any more.
    Closed,
    /// The peer reads too slowly: more than the limit is queued already. The connection is being
    /// closed with 1013.
    QueueFull,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::QueueFull => "the peer reads too slowly; its queue is full",
        })
    }
}

impl std::error::Error for SendError {}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    phase: Phase,
    role: Role,
    /// The peer has sent its last byte.
    peer_done: bool,
    /// The queue could not be delivered: end by a reset.
    reset: bool,
    receive_paused: bool,
    /// The application wants to receive nothing at present.
    held: bool,
    /// The block of the unfinished message is being received into.
    direct_submitted: bool,
    close_submitted: bool,
    /// Spreads the pings of connections that were opened together.
    spread: u8,
    /// Bytes that may still be dropped before the peer is cut off.
    linger_bytes: u32,
    /// When the last byte came.
    heard_at: Tick,
    /// End of the current wait; of an open connection, of the wait for a pong.
    deadline: Tick,
    control_rate: ControlRate,
    head: Option<Box<HeadInbox>>,
    inbox: Option<Box<Inbox>>,
    outbox: Option<Box<Outbox>>,
    ending: Option<Box<Ending>>,
    tls: Option<Box<Tls>>,
}

// A million of these are in memory at once.
const _: () = assert!(size_of::<Connection>() <= 72);

impl Connection {
    /// A connection that was just accepted.
    pub(crate) fn server(spread: u8, core: &Core) -> Self {
        Self::new(Role::Server, spread, core)
    }

    fn new(role: Role, spread: u8, core: &Core) -> Self {
        Self {
            phase: Phase::Handshake,
            role,
            peer_done: false,
            reset: false,
            receive_paused: false,
            held: false,
            direct_submitted: false,
            close_submitted: false,
            spread,
            linger_bytes: 0,
            heard_at: core.now,
            deadline: core.now.after(core.limits.timeouts.handshake),
            control_rate: ControlRate::new(core.now),
            head: None,
            inbox: None,
            outbox: None,
            ending: None,
            tls: None,
        }
    }

    /// Queues a message. Fragmentation is never needed: a message is one frame.
    pub(crate) fn send(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        core: &mut Core,
    ) -> Result<(), SendError> {
        self.check_queue(core)?;
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_frame(kind.opcode(), payload, mask, &mut core.pool);
        Ok(())
    }

    /// Queues a received message as it is, without copying it where that can be.
    pub(crate) fn send_in_place(
        &mut self,
        kind: MessageKind,
        place: InPlace<'_>,
        core: &mut Core,
    ) -> Result<(), SendError> {
        self.check_queue(core)?;
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_in_place(place, kind.opcode(), mask, &mut core.pool);
        Ok(())
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2). The application hears of the end when the
    /// peer has answered, or has failed to in time.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str, core: &mut Core) {
        if self.phase != Phase::Open {
            return;
        }
        self.push_close(code, reason, core);
        self.abandon_message(core);
        self.phase = Phase::Closing;
        self.deadline = core.now.after(core.limits.timeouts.close);
    }

    /// The application's handler panicked, or our own policy ends this connection: a Close frame
    /// with `code` is the last thing it says.
    pub(crate) fn fail(&mut self, code: CloseCode, core: &mut Core) {
        match self.phase {
            Phase::Open => self.push_close(code, "", core),
            Phase::Handshake | Phase::Closing => {}
            Phase::Draining | Phase::Lingering | Phase::Ended => return,
        }
        core.metrics.count_failure(code.as_u16());
        self.end(code, "", Side::Local, core);
        self.drain(core.limits.timeouts.linger, core);
    }

    /// The server stops: the closing handshake, or a refusal if nothing is open yet.
    pub(crate) fn retire(&mut self, code: CloseCode, core: &mut Core) {
        match self.phase {
            Phase::Handshake => self.refuse(Refusal::Overloaded, core),
            Phase::Open => self.close(code, "", core),
            Phase::Closing | Phase::Draining | Phase::Lingering | Phase::Ended => {}
        }
    }

    /// The server has stopped waiting.
    pub(crate) fn cut_off(&mut self, core: &mut Core) {
        self.end(CloseCode::ABNORMAL, "", Side::Local, core);
        self.reset = self.outbox.is_some();
        self.phase = Phase::Ended;
    }

    /// The application gives the connection up without a word.
    pub(crate) fn abort(&mut self, core: &mut Core) {
        self.end(CloseCode::ABNORMAL, "", Side::Local, core);
        self.reset = true;
        self.phase = Phase::Ended;
    }

    /// Sends a ping with up to 125 bytes of payload, which the peer's pong repeats.
    pub(crate) fn ping(&mut self, payload: &[u8], core: &mut Core) -> Result<(), SendError> {
        self.check_queue(core)?;
        self.push_control(Opcode::Ping, &payload[..payload.len().min(125)], core);
        Ok(())
    }

    /// Whether to receive nothing until further notice.
    pub(crate) fn hold(&mut self, on: bool) {
        self.held = on;
    }

    /// The kernel has taken `sent` bytes of the segment.
    pub(crate) fn handle_sent(&mut self, segment: Segment, sent: usize, core: &mut Core) {
        let mask = self.mask(core);
        let Some(outbox) = &mut self.outbox else { unreachable!("a send has a queue") };
        outbox.handle_sent(segment, sent, core.now, &mut core.pool);
        if !outbox.is_empty()
            || (self.phase == Phase::Open && outbox.push_late_pong(mask, &mut core.pool))
        {
            return;
        }
        // The next to use this queue is another connection (row U10).
        outbox.forget_pongs();
        core.outboxes.extend(self.outbox.take());
    }

    /// The peer sends no more.
    pub(crate) fn handle_peer_closed(&mut self, core: &mut Core) {
        self.peer_done = true;
        match self.phase {
            Phase::Handshake => self.never_open(ConnectError::ClosedEarly),
            // The peer may still read (row TC08): what is queued leaves first.
            Phase::Open | Phase::Closing => {
                self.end(CloseCode::ABNORMAL, "", self.ending_side(), core);
                self.drain(core.limits.timeouts.close, core);
            }
            Phase::Lingering => self.phase = Phase::Ended,
            Phase::Draining | Phase::Ended => {}
        }
    }

    /// The connection broke.
    pub(crate) fn handle_failed(&mut self, error: io::Error, core: &mut Core) {
        if self.phase == Phase::Handshake {
            self.never_open(ConnectError::Connect(error));
            return;
        }
        self.end(CloseCode::ABNORMAL, "", self.ending_side(), core);
        self.phase = Phase::Ended;
    }

    /// Something was due at `next_deadline`.
    pub(crate) fn handle_deadline(&mut self, core: &mut Core) {
        if self.next_deadline(core) > core.now {
            return;
        }
        match self.phase {
            Phase::Handshake => self.handle_handshake_timeout(core),
            Phase::Open => self.handle_open_deadline(core),
            Phase::Closing => {
                self.end(CloseCode::ABNORMAL, "", Side::Local, core);
                self.phase = Phase::Ended;
                self.reset = true;
            }
            Phase::Draining => {
                self.phase = Phase::Ended;
                self.reset = true;
            }
            Phase::Lingering => self.phase = Phase::Ended,
            Phase::Ended => {}
        }
    }

    /// The kernel has let go of the connection; memory goes back.
    pub(crate) fn release(&mut self, core: &mut Core) {
        self.phase = Phase::Ended;
        self.abandon_message(core);
        self.tls = None;
        if let Some(mut outbox) = self.outbox.take() {
            outbox.clear(&mut core.pool);
            core.outboxes.push(outbox);
        }
    }

    /// How the connection ended, for the application; once.
    pub(crate) fn poll_ending(&mut self) -> Option<Box<Ending>> {
        self.ending.take()
    }

    /// What to do next. Call until there is nothing.
    pub(crate) fn poll_step(&mut self, core: &mut Core) -> Option<Step> {
        if self.phase == Phase::Ended {
            return self.poll_last_step();
        }
        if let Some((segment, wait)) = self.take_segment(core) {
            return Some(Step::Send { segment, wait });
        }
        match self.phase {
            Phase::Draining if self.outbox.is_none() => self.poll_drained(core),
            Phase::Open | Phase::Closing => self.poll_receive_step(core),
            Phase::Lingering => self.poll_linger_step(),
            Phase::Handshake | Phase::Draining | Phase::Ended => None,
        }
    }

    /// When `handle_deadline` is to be called.
    pub(crate) fn next_deadline(&self, core: &Core) -> Tick {
        let timeouts = &core.limits.timeouts;
        if self.phase != Phase::Open {
            return if self.phase == Phase::Ended { Tick::NEVER } else { self.deadline };
        }
        let mut due =
            if self.receive_paused { Tick::NEVER } else { self.next_silence_deadline(core) };
        if let Some(since) = self.outbox.as_ref().and_then(|outbox| outbox.stalled_since()) {
            due = due.min(since.after(timeouts.write_stall));
        }
        if let Some(opened_at) = self.inbox.as_ref().and_then(|inbox| inbox.opened_at()) {
            due = due.min(opened_at.after(timeouts.message));
        }
        due
    }

    /// When silence is to be asked about, or to end the connection.
    ///
    /// It counts only while we listen: a peer whose bytes we leave unread cannot show that it
    /// lives. Then the queue that made us pause is what times it, by the write-stall timeout.
    fn next_silence_deadline(&self, core: &Core) -> Tick {
        let timeouts = &core.limits.timeouts;
        let mut due = self.deadline;
        if due == Tick::NEVER
            && let Some(interval) = timeouts.ping_interval
        {
            due = self.heard_at.after(self.spread_out(interval));
        }
        if let Some(idle) = timeouts.idle {
            due = due.min(self.heard_at.after(idle));
        }
        due
    }

    /// Where the connection is in its life.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Which side of the protocol this is.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Bytes queued and not yet taken by the kernel.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.queued_bytes())
    }

    /// Whether the next bytes should go to a place of their own, which is to be named before they
    /// are received elsewhere.
    pub(crate) fn wants_direct(&self) -> bool {
        // Records have to be opened first.
        self.tls.is_none() && self.inbox.as_ref().is_some_and(|inbox| inbox.wants_direct())
    }

    /// Settles who keeps a block that has been worked through.
    pub(crate) fn settle(&mut self, block: Block, source: Source, core: &mut Core) {
        match &mut self.outbox {
            Some(outbox) => outbox.settle(block, source, &mut core.pool),
            None => core.pool.give(block),
        }
    }

    fn handle_open_deadline(&mut self, core: &mut Core) {
        let timeouts = &core.limits.timeouts;
        let passed =
            |since: Option<Tick>, span: Ticks| since.is_some_and(|at| at.after(span) <= core.now);
        let stalled = self.outbox.as_ref().and_then(|outbox| outbox.stalled_since());
        let pong_missed = !self.receive_paused && self.deadline <= core.now;
        if pong_missed || passed(stalled, timeouts.write_stall) {
            self.end(CloseCode::ABNORMAL, "", Side::Local, core);
            self.phase = Phase::Ended;
            self.reset = true;
            return;
        }
        if passed(self.inbox.as_ref().and_then(|inbox| inbox.opened_at()), timeouts.message) {
            self.fail_with(crate::proto::LimitExceeded::MessageTimeout.into(), core);
            return;
        }
        if timeouts.idle.is_some_and(|idle| passed(Some(self.heard_at), idle)) {
            self.fail(CloseCode::GOING_AWAY, core);
            return;
        }
        self.deadline = core.now.after(timeouts.pong);
        let mask = self.mask(core);
        self.outbox_mut(&mut core.outboxes).push_frame(Opcode::Ping, &[], mask, &mut core.pool);
    }

    fn poll_last_step(&mut self) -> Option<Step> {
        if self.close_submitted {
            return None;
        }
        self.close_submitted = true;
        Some(Step::Close { reset: self.reset })
    }

    /// What is to be sent next, and whether the send is to wait for room.
    fn take_segment(&mut self, core: &mut Core) -> Option<(Segment, bool)> {
        if self.tls.is_some() {
            self.seal_next(core)?;
        }
        self.outbox.as_mut()?.take_segment(core.now)
    }

    /// Everything has left: our side is done.
    fn poll_drained(&mut self, core: &mut Core) -> Option<Step> {
        if let Some((segment, wait)) = self.take_close_notify(core) {
            return Some(Step::Send { segment, wait });
        }
        if self.peer_done || self.linger_bytes == 0 {
            self.phase = Phase::Ended;
            return self.poll_last_step();
        }
        self.phase = Phase::Lingering;
        self.deadline = core.now.after(core.limits.timeouts.linger);
        // RFC 6455 §7.1.1: the server closes first, so that the client is not left in TIME_WAIT.
        match self.role {
            Role::Server => Some(Step::ShutdownWrite),
            Role::Client => self.poll_linger_step(),
        }
    }

    /// What the peer still sends is read, for unread input would turn the close into a reset, and
    /// that would destroy our Close frame on its way (row CL08).
    fn poll_linger_step(&mut self) -> Option<Step> {
        std::mem::take(&mut self.receive_paused).then_some(Step::ResumeReceive)
    }

    /// Backpressure, and the place for what is received next.
    fn poll_receive_step(&mut self, core: &mut Core) -> Option<Step> {
        let queued = self.queued_bytes();
        let high_water = core.limits.send_high_water_bytes;
        if !self.receive_paused && (self.held || queued > high_water) {
            self.receive_paused = true;
            return Some(Step::PauseReceive);
        }
        // Half way down, so that a peer at the limit does not stop and go with every byte.
        if self.receive_paused && !self.held && queued <= high_water / 2 {
            self.receive_paused = false;
            // Silence is counted anew.
            self.handle_heard(core);
            return Some(Step::ResumeReceive);
        }
        if self.receive_paused
            || self.direct_submitted
            || self.phase != Phase::Open
            || self.tls.is_some()
        {
            return None;
        }
        let room = self.inbox.as_mut()?.lend_direct(&mut core.pool)?;
        self.direct_submitted = true;
        Some(Step::ReceiveInto(room))
    }

    /// The connection breaks the RFC or goes past a limit.
    fn fail_with(&mut self, failure: Failure, core: &mut Core) {
        let code = match failure {
            Failure::Violation(violation) => violation.close_code(),
            Failure::Limit(limit) => limit.close_code(),
        };
        self.fail(code, core);
    }

    /// Who began to close, if the peer is gone now.
    fn ending_side(&self) -> Side {
        if self.phase == Phase::Closing { Side::Local } else { Side::Peer }
    }

    /// Records the end, for the application.
    fn end(&mut self, code: CloseCode, reason: &str, side: Side, core: &mut Core) {
        self.abandon_message(core);
        if self.ending.is_none() && matches!(self.phase, Phase::Open | Phase::Closing) {
            self.ending = Some(Box::new(Ending::Closed(Close::new(code, reason, side))));
        }
    }

    /// The handshake has failed without an answer to give. A server's application never knew.
    fn never_open(&mut self, error: ConnectError) {
        if self.role == Role::Client {
            self.ending = Some(Box::new(Ending::NeverOpened(error)));
        }
        self.phase = Phase::Ended;
    }

    /// Nothing more is said after what is queued; that has `span` to leave.
    fn drain(&mut self, span: Ticks, core: &Core) {
        self.phase = Phase::Draining;
        self.linger_bytes = LINGER_BYTES_MAX;
        self.deadline = core.now.after(span);
    }

    fn push_close(&mut self, code: CloseCode, reason: &str, core: &mut Core) {
        let mut payload = [0; 125];
        let len = close_frame::encode(code, reason, &mut payload);
        self.push_control(Opcode::Close, &payload[..len], core);
    }

    fn push_control(&mut self, opcode: Opcode, payload: &[u8], core: &mut Core) {
        let mask = self.mask(core);
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_frame(opcode, payload, mask, &mut core.pool);
    }

    fn check_queue(&mut self, core: &mut Core) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        if self.queued_bytes() >= core.limits.send_bytes_max {
            self.fail(CloseCode::TRY_AGAIN_LATER, core);
            return Err(SendError::QueueFull);
        }
        Ok(())
    }

    fn abandon_message(&mut self, core: &mut Core) {
        if let Some(inbox) = &mut self.inbox {
            inbox.abandon_message(&mut core.pool);
        }
    }

    /// A masking key if this side masks (RFC 6455 §5.3: the client does).
    fn mask(&self, core: &mut Core) -> Option<[u8; 4]> {
        match self.role {
            Role::Server => None,
            Role::Client => Some(core.keys.next_key()),
        }
    }

    fn outbox_mut(&mut self, spare: &mut SpareOutboxes) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| spare.pop().unwrap_or_default())
    }

    /// The interval, 80 % to 120 % of it.
    fn spread_out(&self, interval: Ticks) -> Ticks {
        // In parts of 25500, so that no rounding gathers pings on every second or third tick.
        let share = 80 * 255 + u64::from(self.spread) * 40;
        Ticks(u32::try_from(u64::from(interval.0) * share / 25_500).unwrap_or(u32::MAX).max(1))
    }
}
