//! The simulated network itself: its clock, what is about to happen, and the listening sockets.
//!
//! Events that are due stand in `ready`, later ones in `later`, and receives that found no block
//! in `starved`. An event is only a hint to look at a connection, so that one that comes twice or
//! too late finds nothing to do; its token tells whether the connection it meant still exists.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Weak;
use std::time::{Duration, Instant};

use super::conn::Slot;
use super::faults::{Dice, FaultConfig};
use super::peer::{Net, Peer, PeerId, Stage};
use super::{Completion, SimSocket, Token};
use crate::buf::{Block, Pool};

/// Turns that end by their timeout within less than this did not wait: the worker spins.
const WAIT_MIN: Duration = Duration::from_micros(10);

/// What a turn takes at least. Were it nothing, a worker that always has something to do would stop
/// the clock, and with it everything that only time ends.
const TURN_TIME: Duration = Duration::from_micros(2);

/// Longest time for which nobody can be accepted.
const EXHAUSTED_MAX: Duration = Duration::from_millis(500);

/// Token of events that belong to no connection.
const NOBODY: Token = Token { index: u32::MAX, generation: u32::MAX };

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Calls of `wait`.
    pub(crate) turns: u64,
    /// Completions handed out.
    pub(crate) completions: u64,
    /// Sockets accepted.
    pub(crate) accepted: u64,
    /// Accepts that failed because something had run out.
    pub(crate) accepts_exhausted: u64,
    /// Accepts that failed because the peer was gone.
    pub(crate) accepts_aborted: u64,
    /// Sockets attached.
    pub(crate) attached: u64,
    /// `Closed` completions.
    pub(crate) closed: u64,
    /// Connections the network broke.
    pub(crate) broken: u64,
    /// Bytes handed to the worker.
    pub(crate) received_bytes: u64,
    /// Bytes taken from the worker.
    pub(crate) sent_bytes: u64,
    /// Sends that took less than they were given.
    pub(crate) short_sends: u64,
    /// Receives that found no block.
    pub(crate) starved: u64,
    /// Completions that came after `submit_close` or `Failed`.
    pub(crate) late: u64,
    /// Events swallowed because their connection was gone.
    pub(crate) stale: u64,
    /// Jumps of the clock.
    pub(crate) skips: u64,
    /// Waits without end although nothing is on its way and the test plans nothing.
    pub(crate) sleeps: u64,
    /// Turns in a row that got nothing and did not wait, now.
    pub(crate) spin_now: u64,
    /// The most of them.
    pub(crate) spin_longest: u64,
}

/// One completion, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceEntry {
    /// When, since the start.
    pub(crate) at: Duration,
    /// The variant of `Completion`.
    pub(crate) name: &'static str,
    /// Whose; absent for completions of no connection.
    pub(crate) token: Option<Token>,
    /// Bytes received or sent.
    pub(crate) len: usize,
}

/// What an event makes the driver look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The backlog.
    Accept,
    /// Whether there are bytes, or the end of the stream, to receive.
    Receive,
    /// A receive under way that is done.
    Announce,
    /// A send that is done or may go on.
    Send,
    /// A broken connection.
    Fail,
    /// A close.
    Close,
    /// The wake handle.
    Wake,
    /// Nothing; ends a wait, after which blocks can be had again.
    BlocksReturn,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) token: Token,
}

/// An event that is not due yet. The earliest is the greatest, as `BinaryHeap` wants it.
#[derive(Debug)]
struct Later {
    at: Duration,
    order: u64,
    event: Event,
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Later {}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    this: Weak<RefCell<Self>>,
    pub(super) dice: Dice,
    base: Instant,
    pub(super) elapsed: Duration,
    pub(super) horizon: Option<Duration>,
    pub(super) sends_at_once: bool,
    pub(super) slots: Vec<Slot>,
    pub(super) peers: Vec<Peer>,
    backlog: VecDeque<PeerId>,
    listening: bool,
    accept_paused: bool,
    accept_queued: bool,
    exhausted_until: Duration,
    ready: VecDeque<Event>,
    later: BinaryHeap<Later>,
    order: u64,
    starved: Vec<Event>,
    no_blocks_until: Duration,
    wake_pending: bool,
    /// Completions handed out since the last wait.
    round_completions: u64,
    pub(super) blocks_held: usize,
    pub(super) stats: Stats,
    pub(super) trace_hash: u64,
    pub(super) trace: Vec<TraceEntry>,
}

impl World {
    pub(super) fn new(seed: u64, config: FaultConfig, this: Weak<RefCell<Self>>) -> Self {
        Self {
            this,
            dice: Dice::new(seed, config),
            base: Instant::now(),
            elapsed: Duration::ZERO,
            horizon: None,
            sends_at_once: false,
            slots: Vec::new(),
            peers: Vec::new(),
            backlog: VecDeque::new(),
            listening: true,
            accept_paused: false,
            accept_queued: false,
            exhausted_until: Duration::ZERO,
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            order: 0,
            starved: Vec::new(),
            no_blocks_until: Duration::ZERO,
            wake_pending: false,
            round_completions: 0,
            blocks_held: 0,
            stats: Stats::default(),
            trace_hash: 0xCBF2_9CE4_8422_2325,
            trace: Vec::new(),
        }
    }

    /// The next completion that needs no waiting.
    pub(super) fn poll_completion(&mut self, pool: &mut Pool) -> Option<Completion<SimSocket>> {
        assert!(
            self.blocks_held <= pool.lent_count(),
            "the driver holds {} blocks and the pool has lent {}: one was given back twice, or \
             was never the pool's",
            self.blocks_held,
            pool.lent_count(),
        );
        // At least one completion per round, or a turn without progress would be our doing.
        if self.round_completions > 0 && self.dice.hits(self.dice.config.cut_round) {
            return None;
        }
        self.promote_due();
        loop {
            if self.blocks_returned(pool) {
                self.ready.extend(self.starved.drain(..));
            }
            let event = self.next_ready()?;
            if let Some(completion) = self.handle_event(event, pool) {
                self.note(&completion);
                return Some(completion);
            }
        }
    }

    /// Passes time until something happens, `timeout` is over, or the test wants to act.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) {
        self.stats.turns += 1;
        let progressed = self.round_completions > 0;
        self.round_completions = 0;
        self.elapsed += TURN_TIME;
        self.strike_between_turns();
        self.promote_due();
        // Blocks may have been given back after the last poll found none. The driver cannot see
        // that from here, so it looks again, once per turn that got anywhere.
        let retries_starved = progressed && !self.starved.is_empty();
        if !self.ready.is_empty() || retries_starved {
            return;
        }
        let by_event = self.later.peek().map(|later| later.at);
        let by_timeout = timeout.map(|timeout| self.elapsed.saturating_add(timeout));
        let others = [by_event, self.horizon].into_iter().flatten().min();
        let until = [by_timeout, others].into_iter().flatten().min();
        let Some(until) = until else {
            self.stats.sleeps += 1;
            return;
        };
        let waited = until.saturating_sub(self.elapsed);
        let timed_out = by_timeout == Some(until) && others.is_none_or(|other| until < other);
        self.count_spin(!progressed && timed_out && waited < WAIT_MIN);
        self.elapsed += waited;
        self.promote_due();
    }

    pub(super) fn now(&self) -> Instant {
        self.base + self.elapsed
    }

    pub(super) fn advance(&mut self, time: Duration) {
        self.elapsed += time;
    }

    pub(super) fn wake(&mut self) {
        if !self.wake_pending {
            self.wake_pending = true;
            self.push(Kind::Wake, NOBODY);
        }
    }

    /// Puts an event on its way: ready at once or after a delay, once or twice.
    pub(super) fn push(&mut self, kind: Kind, token: Token) {
        let event = Event { kind, token };
        let delay_max = self.dice.config.delay_max;
        if self.dice.hits(self.dice.config.delay) {
            let delay = self.dice.delay(delay_max);
            self.push_later(delay, event);
        } else {
            self.ready.push_back(event);
        }
        if token != NOBODY && self.dice.hits(self.dice.config.duplicate) {
            let delay = self.dice.delay(delay_max * 4);
            self.push_later(delay, event);
        }
    }

    /// Puts an event on its way that certainly takes time.
    pub(super) fn push_delayed(&mut self, kind: Kind, token: Token) {
        let delay = self.dice.delay(self.dice.config.delay_max);
        self.push_later(delay, Event { kind, token });
    }

    /// A block to receive into, if the pool has one and does not pretend otherwise.
    pub(super) fn take_receive(&mut self, event: Event, pool: &mut Pool) -> Option<Block> {
        let block = if self.elapsed < self.no_blocks_until { None } else { pool.take_receive() };
        if block.is_some() {
            self.blocks_held += 1;
        } else {
            self.stats.starved += 1;
            self.starved.push(event);
        }
        block
    }

    /// Gives a block back that the driver held.
    pub(super) fn give(&mut self, block: Block, pool: &mut Pool) {
        self.blocks_held -= Self::counted(&block);
        pool.give(block);
    }

    /// Whether a block is lent by the pool, as a count.
    pub(super) fn counted(block: &Block) -> usize {
        usize::from(!block.is_shared())
    }

    pub(super) fn assert_quiescent(&self) {
        assert_eq!(self.stats.attached, self.stats.closed, "every connection is closed, once");
        assert_eq!(self.blocks_held, 0, "the driver holds no block of closed connections");
        for (index, slot) in self.slots.iter().enumerate() {
            assert!(slot.conn.is_none(), "slot {index} is empty");
        }
        for (index, peer) in self.peers.iter().enumerate() {
            assert_eq!(peer.stage, Stage::Closed, "the server let go of peer {index}");
        }
    }

    fn handle_event(&mut self, event: Event, pool: &mut Pool) -> Option<Completion<SimSocket>> {
        match event.kind {
            Kind::Accept => self.handle_accept(),
            Kind::Receive => self.handle_receive(event, pool),
            Kind::Announce => self.handle_announce(event.token, pool),
            Kind::Send => self.handle_send(event.token),
            Kind::Fail => self.handle_fail(event.token),
            Kind::Close => self.handle_close(event.token, pool),
            Kind::Wake => {
                self.wake_pending = false;
                Some(Completion::Woken)
            }
            Kind::BlocksReturn => None,
        }
    }

    fn push_later(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.later.push(Later { at: self.elapsed + delay, order: self.order, event });
    }

    fn promote_due(&mut self) {
        while self.later.peek().is_some_and(|later| later.at <= self.elapsed) {
            if let Some(later) = self.later.pop() {
                self.ready.push_back(later.event);
            }
        }
    }

    fn next_ready(&mut self) -> Option<Event> {
        if self.ready.len() > 1 && self.dice.hits(self.dice.config.reorder) {
            let index = self.dice.pick(self.ready.len());
            return self.ready.swap_remove_front(index);
        }
        self.ready.pop_front()
    }

    fn blocks_returned(&self, pool: &Pool) -> bool {
        !self.starved.is_empty()
            && self.elapsed >= self.no_blocks_until
            && pool.receive_available() > 0
    }

    /// Faults that need no operation to strike at.
    fn strike_between_turns(&mut self) {
        if self.dice.hits(self.dice.config.skip) {
            self.stats.skips += 1;
            self.elapsed += self.dice.delay(self.dice.config.skip_max);
        }
        if self.dice.hits(self.dice.config.spurious_wake) {
            self.wake();
        }
        if self.dice.hits(self.dice.config.shortage) {
            let delay = self.dice.delay(self.dice.config.delay_max);
            self.no_blocks_until = self.elapsed + delay;
            self.push_later(delay, Event { kind: Kind::BlocksReturn, token: NOBODY });
        }
    }

    fn count_spin(&mut self, spins: bool) {
        self.stats.spin_now = if spins { self.stats.spin_now + 1 } else { 0 };
        self.stats.spin_longest = self.stats.spin_longest.max(self.stats.spin_now);
    }

    /// Enters a completion into the statistics and the trace.
    fn note(&mut self, completion: &Completion<SimSocket>) {
        self.round_completions += 1;
        self.stats.completions += 1;
        self.stats.spin_now = 0;
        let (name, token, len) = match completion {
            Completion::Accepted { socket, .. } => ("Accepted", None, socket.peer.index()),
            Completion::AcceptFailed { .. } => ("AcceptFailed", None, 0),
            Completion::Received { token, len, .. } => ("Received", Some(*token), *len),
            Completion::ReceivedInto { token, len, .. } => ("ReceivedInto", Some(*token), *len),
            Completion::PeerClosed { token } => ("PeerClosed", Some(*token), 0),
            Completion::Failed { token, .. } => ("Failed", Some(*token), 0),
            Completion::Sent { token, sent, .. } => ("Sent", Some(*token), *sent),
            Completion::Closed { token } => ("Closed", Some(*token), 0),
            Completion::Woken => ("Woken", None, 0),
        };
        let entry = TraceEntry { at: self.elapsed, name, token, len };
        self.trace_hash = entry.mix_into(self.trace_hash);
        if self.dice.config.keep_trace {
            self.trace.push(entry);
        }
    }
}

/// The listening sockets.
impl World {
    pub(super) fn enter_backlog(&mut self, id: PeerId) {
        if self.listening {
            self.backlog.push_back(id);
            self.kick_accept();
        } else {
            self.refuse(id);
        }
    }

    pub(super) fn pause_accept(&mut self) {
        self.accept_paused = true;
    }

    pub(super) fn resume_accept(&mut self) {
        self.accept_paused = false;
        self.kick_accept();
    }

    pub(super) fn shed_one(&mut self) -> bool {
        let Some(index) = self.next_in_backlog() else { return false };
        if let Some(id) = self.backlog.remove(index) {
            self.refuse(id);
        }
        true
    }

    pub(super) fn close_listeners(&mut self) {
        self.listening = false;
        while let Some(id) = self.backlog.pop_front() {
            self.abort(id);
        }
    }

    fn kick_accept(&mut self) {
        if !self.accept_queued && !self.accept_paused && !self.backlog.is_empty() {
            self.accept_queued = true;
            self.push(Kind::Accept, NOBODY);
        }
    }

    fn handle_accept(&mut self) -> Option<Completion<SimSocket>> {
        self.accept_queued = false;
        // A peer may have been accepted by the kernel just before accepting was paused.
        if self.accept_paused && !self.dice.hits(self.dice.config.late) {
            return None;
        }
        let index = self.next_in_backlog()?;
        if self.elapsed < self.exhausted_until || self.dice.hits(self.dice.config.exhausted) {
            if self.elapsed >= self.exhausted_until {
                self.exhausted_until = self.elapsed + self.dice.delay(EXHAUSTED_MAX);
            }
            self.accept_paused = true;
            self.stats.accepts_exhausted += 1;
            let error = self.dice.exhausted_error();
            return Some(Completion::AcceptFailed { error, exhausted: true });
        }
        let id = self.backlog.remove(index)?;
        self.kick_accept();
        if self.dice.hits(self.dice.config.aborted) {
            self.abort(id);
            self.stats.accepts_aborted += 1;
            let error = self.dice.aborted_error();
            return Some(Completion::AcceptFailed { error, exhausted: false });
        }
        self.stats.accepted += 1;
        self.peers[id.index()].stage = Stage::Accepted;
        let net = Net(self.this.upgrade()?);
        let listener = self.peers[id.index()].listener;
        let socket = SimSocket { peer: id, net, attached: false };
        Some(Completion::Accepted { socket, listener })
    }

    /// Who is accepted next: the peer that has waited longest at some listener that has one. What
    /// order the listeners are in is nobody's business.
    fn next_in_backlog(&mut self) -> Option<usize> {
        if self.backlog.is_empty() {
            return None;
        }
        if self.dice.config.listeners == 1 {
            return Some(0);
        }
        let some = self.backlog[self.dice.pick(self.backlog.len())];
        let listener = self.peers[some.index()].listener;
        self.backlog.iter().position(|id| self.peers[id.index()].listener == listener)
    }
}

impl TraceEntry {
    /// FNV-1a, a word at a time: equality of runs is all it has to tell.
    fn mix_into(self, hash: u64) -> u64 {
        let token = self.token.unwrap_or(NOBODY);
        let at = u64::try_from(self.at.as_nanos()).unwrap_or(u64::MAX);
        let id = u64::from(token.index) << 32 | u64::from(token.generation);
        let name = u64::from(self.name.as_bytes()[0]) << 8 | self.name.len() as u64;
        [at, id, name, self.len as u64]
            .into_iter()
            .fold(hash, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01B3).rotate_left(29))
    }
}
