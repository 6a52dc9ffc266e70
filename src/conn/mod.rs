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

mod cause;
mod close;
mod compress;
mod core;
mod flow;
mod frames;
mod head;
mod inbox;
mod message;
mod opening;
mod outbox;
mod proxied;
mod secure;
mod send;
mod tapped;
#[cfg(test)]
mod tests;
mod timers;
mod tls;

pub use cause::{CloseCause, ClosedBy};
pub use close::{Close, ConnectError, Side};
pub use message::{Message, MessageKind};
pub use send::{SendError, SendStatus};

pub(crate) use close::Ending;
pub(crate) use compress::Engines;
pub(crate) use core::{Core, MaskKeys, SpareOutboxes};
pub(crate) use frames::{Event, Input};
pub(crate) use head::HeadStatus;
pub(crate) use inbox::{Collected, DirectRoom};
pub(crate) use message::Source;
pub(crate) use opening::{Deferred, Terms};
pub(crate) use outbox::Outbox;
pub(crate) use send::SharedForm;
pub(crate) use tls::{Plaintext, Tls};

use std::io;
use std::num::NonZeroU32;

use crate::buf::{Block, Segment};
use crate::policy::{ControlRate, LINGER_BYTES_MAX, Tick, Ticks};
use crate::proto::deflate::Inflater;
use crate::proto::handshake::Refusal;
use crate::proto::sequence::Failure;
use crate::proto::{CloseCode, Opcode, Role};

use compress::{Agreement, Contexts};
use flow::Throttle;
use head::HeadInbox;
use inbox::Inbox;
use proxied::Client;

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
    /// The application waits for the queue to drain.
    wants_writable: bool,
    /// The block of the unfinished message is being received into.
    direct_submitted: bool,
    close_submitted: bool,
    /// Spreads the pings of connections that were opened together.
    spread: u8,
    /// When it came.
    since: Tick,
    /// When the last byte came.
    heard_at: Tick,
    /// End of the current wait; of an open connection, of the wait for a pong.
    deadline: Tick,
    control_rate: ControlRate,
    head: Option<Box<HeadInbox>>,
    inbox: Option<Box<Inbox>>,
    outbox: Option<Box<Outbox>>,
    /// Messages may be compressed.
    compression: Option<Agreement>,
    extras: Option<Box<Extras>>,
}

/// What few connections have.
#[derive(Debug, Default)]
struct Extras {
    tls: Option<Tls>,
    contexts: Contexts,
    flow: Option<Throttle>,
    /// End of the lifetime.
    expires_at: Option<Tick>,
    /// The PROXY header, as long as it is not complete.
    proxy_header: Option<Vec<u8>>,
    client: Client,
    /// One more than the slot under which its frames are shown, if they are.
    tapped: Option<NonZeroU32>,
    /// Why our Close frame was queued, while the peer's is awaited.
    closing: Option<CloseCause>,
    /// How it ended, until the application is told.
    ending: Option<Ending>,
    /// Bytes that may still be dropped before the peer is cut off.
    linger_bytes: u32,
}

// A million of these are in memory at once.
const _: () = assert!(size_of::<Connection>() <= 64);

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
            wants_writable: false,
            direct_submitted: false,
            close_submitted: false,
            spread,
            since: core.now,
            heard_at: core.now,
            deadline: core.now.after(core.limits.timeouts.handshake),
            control_rate: ControlRate::new(core.now),
            head: None,
            inbox: None,
            outbox: None,
            compression: None,
            extras: None,
        }
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2). The application hears of the end when the
    /// peer has answered, or has failed to in time.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str, core: &mut Core) {
        self.begin_close(code, reason, CloseCause::Application, core);
    }

    /// The closing handshake, for this reason.
    fn begin_close(&mut self, code: CloseCode, reason: &str, cause: CloseCause, core: &mut Core) {
        if self.phase != Phase::Open {
            return;
        }
        self.push_close(code, reason, core);
        self.abandon_message(core);
        self.phase = Phase::Closing;
        self.extras_mut().closing = Some(cause);
        self.deadline = core.now.after(core.limits.timeouts.close);
    }

    /// The application's handler panicked, or our own policy ends this connection: a Close frame
    /// with `code` is the last thing it says.
    pub(crate) fn fail(&mut self, code: CloseCode, cause: CloseCause, core: &mut Core) {
        match self.phase {
            Phase::Open => self.push_close(code, "", core),
            Phase::Handshake | Phase::Closing => {}
            Phase::Draining | Phase::Lingering | Phase::Ended => return,
        }
        core.metrics.count_failure(code.as_u16());
        self.end(Close::new(code, "", Side::Local, cause), core);
        self.drain(core.limits.timeouts.linger, core);
    }

    /// The server stops: the closing handshake, or a refusal if nothing is open yet.
    pub(crate) fn retire(&mut self, code: CloseCode, core: &mut Core) {
        match self.phase {
            Phase::Handshake => self.refuse(Refusal::Overloaded, core),
            Phase::Open => self.begin_close(code, "", CloseCause::Shutdown, core),
            Phase::Closing | Phase::Draining | Phase::Lingering | Phase::Ended => {}
        }
    }

    /// The server has stopped waiting.
    pub(crate) fn cut_off(&mut self, core: &mut Core) {
        let cause = self.ending_cause(CloseCause::Shutdown);
        self.end(Close::abnormal(Side::Local, cause), core);
        self.reset = self.outbox.is_some();
        self.phase = Phase::Ended;
    }

    /// The application gives the connection up without a word.
    pub(crate) fn abort(&mut self, core: &mut Core) {
        self.end(Close::abnormal(Side::Local, CloseCause::Application), core);
        self.reset = true;
        self.phase = Phase::Ended;
    }

    /// The kernel has taken `sent` bytes of the segment.
    pub(crate) fn handle_sent(&mut self, segment: Segment, sent: usize, core: &mut Core) {
        let mask = self.mask(core);
        let Some(outbox) = &mut self.outbox else { unreachable!("a send has a queue") };
        outbox.handle_sent(segment, sent, core.now, &mut core.pool);
        if !outbox.is_empty() {
            return;
        }
        if self.phase == Phase::Open
            && let Some(payload) = outbox.push_late_pong(mask, &mut core.pool)
        {
            if core.taps.is_some() {
                self.show_control(Opcode::Pong, &payload, core);
            }
            return;
        }
        // The next to use this queue is another connection (row U10).
        outbox.forget_pongs();
        self.return_outbox(core);
    }

    /// The peer sends no more.
    pub(crate) fn handle_peer_closed(&mut self, core: &mut Core) {
        self.peer_done = true;
        match self.phase {
            Phase::Handshake => self.never_open(ConnectError::ClosedEarly),
            // The peer may still read (row TC08): what is queued leaves first.
            Phase::Open | Phase::Closing => {
                let cause = self.ending_cause(CloseCause::Eof);
                self.end(Close::abnormal(self.ending_side(), cause), core);
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
        let cause = self.ending_cause(CloseCause::of_error(&error));
        self.end(Close::abnormal(self.ending_side(), cause).by_error(&error), core);
        self.phase = Phase::Ended;
    }

    /// The kernel has let go of the connection; memory goes back.
    pub(crate) fn release(&mut self, core: &mut Core) {
        self.phase = Phase::Ended;
        self.abandon_message(core);
        if let Some(mut extras) = self.extras.take() {
            if let Some(tls) = &mut extras.tls {
                tls.release(&mut core.pool);
                core.attached_bytes -= tls.own_bytes();
            }
            if let Some(agreement) = self.compression {
                core.engines.forget(&extras.contexts, agreement);
            }
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.clear(&mut core.pool);
            self.return_outbox(core);
        }
    }

    /// How the connection ended, for the application; once.
    pub(crate) fn poll_ending(&mut self) -> Option<Ending> {
        self.extras.as_mut()?.ending.take()
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

    /// Brings the sum of what all queues hold up to date; call it when something was done.
    #[inline]
    pub(crate) fn report_queue(&mut self, core: &mut Core) {
        if let Some(outbox) = &mut self.outbox {
            core.queued_bytes = core.queued_bytes.wrapping_add_signed(outbox.unreported_bytes());
        }
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

    /// When it came.
    pub(crate) fn since(&self) -> Tick {
        self.since
    }

    /// Whether permessage-deflate was agreed on.
    pub(crate) fn compression_agreed(&self) -> bool {
        self.compression.is_some()
    }

    /// Bytes of memory that ending this connection would free, save for what every one has.
    pub(crate) fn held_bytes(&self) -> usize {
        let inbox = self.inbox.as_ref().map_or(0, |inbox| inbox.held_bytes());
        let cut_record = self.tls().map_or(0, |tls| tls.stashed_bytes());
        self.queued_bytes() + inbox + cut_record
    }

    /// Whether the next bytes should go to a place of their own, which is to be named before they
    /// are received elsewhere.
    pub(crate) fn wants_direct(&self) -> bool {
        // Records have to be opened first.
        !self.is_secure() && self.inbox.as_ref().is_some_and(|inbox| inbox.wants_direct())
    }

    /// Settles who keeps a block that has been worked through.
    pub(crate) fn settle(&mut self, block: Block, source: Source, core: &mut Core) {
        match &mut self.outbox {
            Some(outbox) => outbox.settle(block, source, &mut core.pool),
            None => core.pool.give(block),
        }
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
        if self.is_secure() {
            self.seal_next(core)?;
        }
        self.outbox.as_mut()?.take_segment(core.now)
    }

    /// Everything has left: our side is done.
    fn poll_drained(&mut self, core: &mut Core) -> Option<Step> {
        if let Some((segment, wait)) = self.take_close_notify(core) {
            return Some(Step::Send { segment, wait });
        }
        if self.peer_done || self.extras_mut().linger_bytes == 0 {
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

    /// The connection breaks the RFC or goes past a limit.
    pub(crate) fn fail_with(&mut self, failure: Failure, core: &mut Core) {
        let code = match failure {
            Failure::Violation(violation) => violation.close_code(),
            Failure::Limit(limit) => limit.close_code(),
        };
        self.fail(code, failure.into(), core);
    }

    /// Who began to close, if the peer is gone now.
    fn ending_side(&self) -> Side {
        if self.phase == Phase::Closing { Side::Local } else { Side::Peer }
    }

    /// Why we began to close, or else this.
    fn ending_cause(&self, otherwise: CloseCause) -> CloseCause {
        let closing = self.extras.as_ref().and_then(|extras| extras.closing);
        closing.filter(|_| self.phase == Phase::Closing).unwrap_or(otherwise)
    }

    /// Records the end, for the application.
    fn end(&mut self, close: Close, core: &mut Core) {
        self.abandon_message(core);
        if matches!(self.phase, Phase::Open | Phase::Closing) {
            self.extras_mut().ending.get_or_insert(Ending::Closed(close));
        }
    }

    /// The handshake has failed without an answer to give. A server's application never knew.
    fn never_open(&mut self, error: ConnectError) {
        if self.role == Role::Client {
            self.extras_mut().ending = Some(Ending::NeverOpened(error));
        }
        self.phase = Phase::Ended;
    }

    /// Nothing more is said after what is queued; that has `span` to leave.
    fn drain(&mut self, span: Ticks, core: &Core) {
        self.phase = Phase::Draining;
        self.extras_mut().linger_bytes = LINGER_BYTES_MAX;
        self.deadline = core.now.after(span);
    }

    fn abandon_message(&mut self, core: &mut Core) {
        let Some(inbox) = &mut self.inbox else { return };
        if let Some(inflater) = inbox.abandon_message(&mut core.pool) {
            self.return_inflater(inflater, core);
        }
    }

    /// An engine for a compressed message.
    fn lend_inflater(&mut self, core: &mut Core) -> Option<Box<Inflater>> {
        let contexts = self.extras.as_mut().map(|extras| &mut extras.contexts);
        Some(core.engines.lend_inflater(self.compression?, contexts))
    }

    fn return_inflater(&mut self, inflater: Box<Inflater>, core: &mut Core) {
        let Some(agreement) = self.compression else { return };
        let contexts = self.extras.as_mut().map(|extras| &mut extras.contexts);
        core.engines.return_inflater(inflater, agreement, contexts);
    }

    /// A masking key if this side masks (RFC 6455 §5.3: the client does).
    fn mask(&self, core: &mut Core) -> Option<[u8; 4]> {
        match self.role {
            Role::Server => None,
            Role::Client => Some(core.keys.next_key()),
        }
    }

    /// The next to use this queue, which is empty, is another connection.
    fn return_outbox(&mut self, core: &mut Core) {
        self.report_queue(core);
        core.outboxes.extend(self.outbox.take());
    }

    fn outbox_mut(&mut self, spare: &mut SpareOutboxes) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| spare.pop().unwrap_or_default())
    }

    fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}
