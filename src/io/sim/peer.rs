//! The other ends of the simulated connections, and the test's hand on them and on the clock.
//!
//! A peer is a pair of byte pipes and a few facts about how each side ended. It decides nothing by
//! itself: the test writes, reads and hangs up, through [`Net`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::world::{Kind, Stats, TraceEntry, World};
use crate::io::Token;

/// Names one peer of the whole simulation; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub(super) u32);

impl PeerId {
    /// The peer as a place in a list: 0, 1, 2, ... in the order in which they connected.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The test's handle to a simulated network. Clones name the same network.
#[derive(Clone, Debug)]
pub(crate) struct Net(pub(super) Rc<RefCell<World>>);

impl Net {
    /// A new peer connects. It waits in the backlog until the driver accepts it, and is reset at
    /// once when nobody listens.
    pub(crate) fn connect(&self) -> PeerId {
        self.0.borrow_mut().connect()
    }

    /// The peer sends. Bytes written to a broken or fully closed connection are lost; the latter
    /// shows the peer a reset, as a real kernel does.
    pub(crate) fn peer_write(&self, id: PeerId, bytes: &[u8]) {
        self.0.borrow_mut().peer_write(id, bytes);
    }

    /// What the server sent since the last call. Opens the window.
    pub(crate) fn peer_read(&self, id: PeerId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.peer_read_into(id, &mut bytes);
        bytes
    }

    /// As `peer_read`, appended to `bytes`. Returns how many came.
    pub(crate) fn peer_read_into(&self, id: PeerId, bytes: &mut Vec<u8>) -> usize {
        self.0.borrow_mut().peer_read(id, usize::MAX, bytes)
    }

    /// As `peer_read_into`, but at most `bytes_max`: a peer that reads slowly.
    pub(crate) fn peer_read_some(&self, id: PeerId, max: usize, bytes: &mut Vec<u8>) -> usize {
        self.0.borrow_mut().peer_read(id, max, bytes)
    }

    /// From now on the peer accepts this many bytes that it has not read.
    pub(crate) fn peer_window(&self, id: PeerId, bytes: usize) {
        self.0.borrow_mut().peer_window(id, bytes);
    }

    /// The peer sends no more (FIN); it still reads.
    pub(crate) fn peer_shutdown(&self, id: PeerId) {
        self.0.borrow_mut().peer_shutdown(id);
    }

    /// The peer breaks the connection (RST). What it has not read is gone.
    pub(crate) fn peer_reset(&self, id: PeerId) {
        self.0.borrow_mut().peer_reset(id);
    }

    /// Whether the peer, having read everything, finds the end of the server's stream.
    pub(crate) fn peer_sees_fin(&self, id: PeerId) -> bool {
        let world = self.0.borrow();
        let peer = world.peer(id);
        peer.fin_from_server && peer.to_peer.is_empty() && !peer.reset_seen
    }

    /// Whether the peer finds its connection broken, by the server or by the network.
    pub(crate) fn peer_sees_reset(&self, id: PeerId) -> bool {
        self.0.borrow().peer(id).reset_seen
    }

    /// Whether the server has given up its socket of this peer (or never got one).
    pub(crate) fn is_closed(&self, id: PeerId) -> bool {
        self.0.borrow().peer(id).stage == Stage::Closed
    }

    /// Whether the network, not the peer and not the server, broke this connection.
    pub(crate) fn was_broken(&self, id: PeerId) -> bool {
        self.0.borrow().peer(id).broken_by_network
    }

    /// Bytes the peer wrote that the server has not received.
    pub(crate) fn peer_unreceived(&self, id: PeerId) -> usize {
        self.0.borrow().peer(id).to_server.len()
    }

    /// Which listener the peer came to.
    pub(crate) fn listener_of(&self, id: PeerId) -> u8 {
        self.0.borrow().peer(id).listener
    }

    /// The token under which the server has this peer.
    pub(crate) fn token_of(&self, id: PeerId) -> Option<Token> {
        self.0.borrow().peer(id).token
    }

    /// Virtual time, for the worker.
    pub(crate) fn now(&self) -> Instant {
        self.0.borrow().now()
    }

    /// Virtual time since the start of the simulation.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.borrow().elapsed
    }

    /// Moves the clock on by hand: a turn that took long, or a machine that stood still.
    pub(crate) fn advance(&self, time: Duration) {
        self.0.borrow_mut().advance(time);
    }

    /// When the test wants to act next, in time since the start: no wait sleeps past it. `None`
    /// when the test has nothing left to do.
    pub(crate) fn set_horizon(&self, at: Option<Duration>) {
        self.0.borrow_mut().horizon = at;
    }

    /// Ends the current or next wait, as the wake handle does.
    pub(crate) fn wake(&self) {
        self.0.borrow_mut().wake();
    }

    /// What happened so far, in numbers.
    pub(crate) fn stats(&self) -> Stats {
        self.0.borrow().stats
    }

    /// A hash of every completion so far and of its time: equal runs have equal hashes.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.0.borrow().trace_hash
    }

    /// Every completion so far; empty unless `keep_trace` is set.
    pub(crate) fn trace(&self) -> Vec<TraceEntry> {
        self.0.borrow().trace.clone()
    }

    /// Blocks of the pool that the driver holds.
    pub(crate) fn blocks_held(&self) -> usize {
        self.0.borrow().blocks_held
    }

    /// Panics unless every connection is closed and the driver holds nothing of the worker's.
    pub(crate) fn assert_quiescent(&self) {
        self.0.borrow().assert_quiescent();
    }
}

/// How far the server has come with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits to be accepted.
    Backlog,
    /// Accepted, not attached.
    Accepted,
    /// Attached under `Peer::token`.
    Attached,
    /// The server has let go of it.
    Closed,
}

/// One simulated peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) to_server: Pipe,
    pub(super) to_peer: Pipe,
    /// Unread bytes the peer accepts.
    pub(super) window: usize,
    pub(super) stage: Stage,
    /// Which listener it came to.
    pub(super) listener: u8,
    pub(super) token: Option<Token>,
    pub(super) fin_from_peer: bool,
    pub(super) fin_from_server: bool,
    /// The server's socket is broken: it fails as soon as the server looks.
    pub(super) broken: bool,
    pub(super) broken_by_network: bool,
    pub(super) reset_seen: bool,
}

impl Peer {
    pub(super) fn new(window: usize, listener: u8) -> Self {
        Self {
            to_server: Pipe::default(),
            to_peer: Pipe::default(),
            window,
            stage: Stage::Backlog,
            listener,
            token: None,
            fin_from_peer: false,
            fin_from_server: false,
            broken: false,
            broken_by_network: false,
            reset_seen: false,
        }
    }

    /// Bytes the peer accepts now.
    pub(super) fn room(&self) -> usize {
        if self.broken { 0 } else { self.window.saturating_sub(self.to_peer.len()) }
    }

    /// A reset reaches the peer. Bytes it had received but not read are lost beyond `kept_bytes`.
    pub(super) fn see_reset(&mut self, kept_bytes: usize) {
        self.reset_seen = true;
        self.to_peer.truncate(kept_bytes);
    }
}

/// Bytes on their way, in order.
///
/// INVARIANT: `start <= bytes.len()`, and `start == 0` when nothing is left.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    bytes: Vec<u8>,
    start: usize,
}

impl Pipe {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next `len` bytes.
    pub(super) fn front(&self, len: usize) -> &[u8] {
        &self.bytes[self.start..self.start + len]
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        assert!(self.start <= self.bytes.len(), "a pipe gives what it has");
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start >= 64 * 1024 && self.start * 2 >= self.bytes.len() {
            // Else a pipe that never runs empty grows by every byte that ever went through it.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Keeps at most the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start.saturating_add(len));
        self.consume(0);
    }
}

/// The peers' side of the network.
impl World {
    pub(super) fn peer(&self, id: PeerId) -> &Peer {
        &self.peers[id.index()]
    }

    fn connect(&mut self) -> PeerId {
        let index = u32::try_from(self.peers.len()).expect("a simulation has few peers");
        let id = PeerId(index);
        let listener = match self.dice.config.listeners {
            1 => 0,
            count => u8::try_from(self.dice.pick(count.into())).expect("less than the count"),
        };
        self.peers.push(Peer::new(self.dice.config.window_bytes, listener));
        self.enter_backlog(id);
        id
    }

    fn peer_write(&mut self, id: PeerId, bytes: &[u8]) {
        let peer = &mut self.peers[id.index()];
        assert!(!peer.fin_from_peer, "a peer that said FIN writes no more");
        if peer.broken || peer.reset_seen {
            return;
        }
        if peer.stage == Stage::Closed {
            let unread_bytes = peer.to_peer.len();
            let kept_bytes = self.dice.pick(unread_bytes + 1);
            self.peers[id.index()].see_reset(kept_bytes);
            return;
        }
        peer.to_server.push(bytes);
        self.kick_peer(id);
    }

    fn peer_read(&mut self, id: PeerId, max: usize, bytes: &mut Vec<u8>) -> usize {
        let peer = &mut self.peers[id.index()];
        let len = peer.to_peer.len().min(max);
        bytes.extend_from_slice(peer.to_peer.front(len));
        peer.to_peer.consume(len);
        if let Some(token) = peer.token {
            self.kick_send(token);
        }
        len
    }

    fn peer_window(&mut self, id: PeerId, bytes: usize) {
        let peer = &mut self.peers[id.index()];
        peer.window = bytes;
        if let Some(token) = peer.token {
            self.kick_send(token);
        }
    }

    fn peer_shutdown(&mut self, id: PeerId) {
        self.peers[id.index()].fin_from_peer = true;
        self.kick_peer(id);
    }

    fn peer_reset(&mut self, id: PeerId) {
        // The server may still find what came before the reset, or part of it, or nothing.
        let unreceived_bytes = self.peers[id.index()].to_server.len();
        let kept_bytes = self.dice.pick(unreceived_bytes + 1);
        let peer = &mut self.peers[id.index()];
        if peer.broken || peer.reset_seen {
            return;
        }
        peer.broken = true;
        peer.see_reset(0);
        peer.to_server.truncate(kept_bytes);
        if let Some(token) = peer.token {
            self.push(Kind::Fail, token);
        }
    }

    fn kick_peer(&mut self, id: PeerId) {
        if let Some(token) = self.peers[id.index()].token {
            self.kick_receive(token);
        }
    }
}
