//! One connection as the simulated driver sees it: what is in flight, and what each event does.
//!
//! A receive has two steps, as in a real kernel: it takes a block, then it is announced; between
//! the two it may be paused, redirected, broken or closed. A send too: its bytes may be at the peer
//! (and even answered) long before `Sent` is handed out.
//!
//! INVARIANT: `World::blocks_held` is the number of blocks in `receiving`, `target` and `send` of
//! all connections; memory that connections share is not the pool's, and not counted.

use std::io;

use super::peer::{Peer, PeerId, Stage};
use super::world::{Event, Kind, World};
use super::{Closing, Completion, Patience, SimSocket, Token};
use crate::buf::{Block, Pool, Segment};

/// Written behind received bytes, so that whoever reads further reads no plausible leftovers.
const POISON: u8 = 0xDB;
/// How far.
const POISON_BYTES: usize = 64;

/// One place of the worker's table, as seen from below.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) conn: Option<Conn>,
    /// Generation of the latest use.
    last: Option<u32>,
}

/// An attached connection.
#[derive(Debug)]
pub(super) struct Conn {
    token: Token,
    peer: PeerId,
    paused: bool,
    write_shut: bool,
    end_told: bool,
    failed_told: bool,
    closing: Option<Closing>,
    /// A `Receive` event of this connection is on its way.
    receive_queued: bool,
    /// The block of a receive under way.
    receiving: Option<Block>,
    /// Where the next bytes go.
    target: Option<Target>,
    send: Option<Sending>,
}

#[derive(Debug)]
struct Target {
    block: Block,
    start: usize,
    end: usize,
}

#[derive(Debug)]
struct Sending {
    segment: Segment,
    patience: Patience,
    /// How much the peer has got already; none while the kernel has not tried.
    taken: Option<usize>,
}

/// What the worker asks for, each with its side of the contract.
impl World {
    pub(super) fn attach(&mut self, token: Token, id: PeerId) -> io::Result<()> {
        let index = token.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        assert!(token.generation <= Token::GENERATION_MAX, "{token:?}: generations have 24 bits");
        assert!(slot.conn.is_none(), "{token:?}: the slot is in use until `Closed`");
        assert!(slot.last != Some(token.generation), "{token:?}: each use has its own generation");
        if self.dice.hits(self.dice.config.unattachable) {
            return Err(self.dice.attach_error());
        }
        slot.last = Some(token.generation);
        slot.conn = Some(Conn::new(token, id));
        let peer = &mut self.peers[id.index()];
        peer.stage = Stage::Attached;
        peer.token = Some(token);
        let broken = peer.broken;
        self.stats.attached += 1;
        if broken {
            self.push(Kind::Fail, token);
        } else if self.dice.hits(self.dice.config.reset) {
            self.break_conn(id);
        }
        self.kick_receive(token);
        Ok(())
    }

    pub(super) fn submit_send(&mut self, token: Token, segment: Segment, patience: Patience) {
        let conn = live(&mut self.slots, token);
        conn.assert_usable();
        assert!(!conn.write_shut, "{token:?}: a send after `shutdown_write`");
        assert!(conn.send.is_none(), "{token:?}: a second send in flight (U08)");
        assert!(segment.start < segment.end, "{token:?}: a send has bytes");
        assert!(segment.end <= segment.block.len(), "{token:?}: a segment lies in its block");
        self.blocks_held += Self::counted(&segment.block);
        conn.send = Some(Sending { segment, patience, taken: None });
        if self.sends_at_once || self.dice.pick(2) == 0 {
            self.transfer(token);
        }
        self.push(Kind::Send, token);
    }

    pub(super) fn submit_receive_into(
        &mut self,
        token: Token,
        block: Block,
        start: usize,
        end: usize,
    ) {
        let conn = live(&mut self.slots, token);
        conn.assert_usable();
        assert!(conn.target.is_none(), "{token:?}: a second place to receive into");
        assert!(start < end, "{token:?}: there is room to receive into");
        assert!(end <= block.len(), "{token:?}: the room lies in the block");
        conn.target = Some(Target { block, start, end });
        self.blocks_held += 1;
        // It may stand in line for a block, which it needs no more.
        conn.receive_queued = false;
        self.kick_receive(token);
    }

    pub(super) fn pause_receive(&mut self, token: Token) {
        let conn = live(&mut self.slots, token);
        conn.assert_usable();
        conn.paused = true;
    }

    pub(super) fn resume_receive(&mut self, token: Token) {
        let conn = live(&mut self.slots, token);
        conn.assert_usable();
        conn.paused = false;
        self.kick_receive(token);
    }

    pub(super) fn shutdown_write(&mut self, token: Token) {
        let conn = live(&mut self.slots, token);
        conn.assert_usable();
        assert!(conn.send.is_none(), "{token:?}: `shutdown_write` with a send in flight");
        conn.write_shut = true;
        let peer = &mut self.peers[conn.peer.index()];
        if !peer.broken {
            peer.fin_from_server = true;
        }
    }

    pub(super) fn submit_close(&mut self, token: Token, closing: Closing) {
        live(&mut self.slots, token).closing = Some(closing);
        self.push(Kind::Close, token);
    }

    pub(super) fn peer_of(&self, token: Token) -> Option<PeerId> {
        let conn = self.slots.get(token.index as usize)?.conn.as_ref()?;
        (conn.token == token).then_some(conn.peer)
    }
}

/// What the network does to a connection.
impl World {
    /// Makes the driver look whether there is something to receive.
    pub(super) fn kick_receive(&mut self, token: Token) {
        let Some(conn) = find(&mut self.slots, token) else { return };
        let peer = &self.peers[conn.peer.index()];
        let has_news = !peer.to_server.is_empty() || (peer.fin_from_peer && !conn.end_told);
        let is_busy = conn.receive_queued || conn.receiving.is_some();
        if has_news && !is_busy && !conn.paused && conn.closing.is_none() {
            conn.receive_queued = true;
            self.push(Kind::Receive, token);
        }
    }

    /// Makes the driver look whether a waiting send can go on.
    pub(super) fn kick_send(&mut self, token: Token) {
        let waits = |conn: &mut Conn| conn.send.as_ref().is_some_and(|send| send.taken.is_none());
        if find(&mut self.slots, token).is_some_and(waits) {
            self.push(Kind::Send, token);
        }
    }

    pub(super) fn handle_receive(
        &mut self,
        event: Event,
        pool: &mut Pool,
    ) -> Option<Completion<SimSocket>> {
        let token = event.token;
        let Some(conn) = find(&mut self.slots, token) else { return self.swallow() };
        if !conn.receive_queued {
            return None;
        }
        conn.receive_queued = false;
        if conn.paused || conn.failed_told || conn.closing.is_some() {
            return None;
        }
        let (id, has_target) = (conn.peer, conn.target.is_some());
        let peer = &self.peers[id.index()];
        if peer.to_server.is_empty() {
            return if peer.broken { None } else { self.end_of_stream(token, pool) };
        }
        if self.dice.hits(self.dice.config.reset) {
            self.break_conn(id);
        }
        if !has_target {
            let block = self.take_receive(event, pool);
            let conn = find(&mut self.slots, token)?;
            // In line for a block, or in possession of one.
            conn.receive_queued = block.is_none();
            conn.receiving = Some(block?);
        }
        if !has_target && self.dice.hits(self.dice.config.delay) {
            self.push_delayed(Kind::Announce, token);
            return None;
        }
        self.announce(token, pool)
    }

    pub(super) fn handle_announce(
        &mut self,
        token: Token,
        pool: &mut Pool,
    ) -> Option<Completion<SimSocket>> {
        let Some(conn) = find(&mut self.slots, token) else { return self.swallow() };
        if conn.receiving.is_none() || conn.failed_told {
            return None;
        }
        if conn.closing.is_some() {
            let is_late = self.dice.hits(self.dice.config.late);
            self.stats.late += u64::from(is_late);
            return if is_late { self.announce(token, pool) } else { None };
        }
        self.announce(token, pool)
    }

    pub(super) fn handle_send(&mut self, token: Token) -> Option<Completion<SimSocket>> {
        let Some(conn) = find(&mut self.slots, token) else { return self.swallow() };
        let Sending { patience, taken, .. } = conn.send.as_ref()?;
        let (id, patience, mut taken) = (conn.peer, *patience, *taken);
        if conn.closing.is_some() || conn.failed_told {
            // Only what was done before can still be reported.
            let is_late = taken.is_some() && self.dice.hits(self.dice.config.late);
            self.stats.late += u64::from(is_late);
            return if is_late { self.answer_send(token) } else { None };
        }
        if self.dice.hits(self.dice.config.reset) {
            self.break_conn(id);
        }
        if taken.is_none() {
            taken = self.transfer(token);
        }
        let gave_up = patience == Patience::Try && !self.peers[id.index()].broken;
        if taken.is_some() || gave_up { self.answer_send(token) } else { None }
    }

    pub(super) fn handle_fail(&mut self, token: Token) -> Option<Completion<SimSocket>> {
        let Some(conn) = find(&mut self.slots, token) else { return self.swallow() };
        if conn.failed_told || conn.closing.is_some() {
            return None;
        }
        let was_sent = conn.send.as_ref().is_some_and(|send| send.taken.is_some());
        if was_sent && self.dice.pick(2) == 0 {
            self.push(Kind::Fail, token);
            return self.answer_send(token);
        }
        live(&mut self.slots, token).failed_told = true;
        Some(Completion::Failed { token, error: self.dice.break_error() })
    }

    pub(super) fn handle_close(
        &mut self,
        token: Token,
        pool: &mut Pool,
    ) -> Option<Completion<SimSocket>> {
        let Some(conn) = find(&mut self.slots, token) else { return self.swallow() };
        let (id, closing) = (conn.peer, conn.closing?);
        let blocks = [
            conn.receiving.take(),
            conn.target.take().map(|target| target.block),
            conn.send.take().map(|send| send.segment.block),
        ];
        for block in blocks.into_iter().flatten() {
            self.give(block, pool);
        }
        self.slots[token.index as usize].conn = None;
        self.hang_up(id, closing);
        self.stats.closed += 1;
        Some(Completion::Closed { token })
    }

    /// The network breaks a connection, or the backlog drops it.
    pub(super) fn break_conn(&mut self, id: PeerId) {
        let unread_bytes = self.peers[id.index()].to_peer.len();
        let kept_bytes = self.dice.pick(unread_bytes + 1);
        let peer = &mut self.peers[id.index()];
        if peer.broken {
            return;
        }
        peer.broken = true;
        peer.broken_by_network = true;
        peer.see_reset(kept_bytes);
        let token = peer.token;
        self.stats.broken += 1;
        if let Some(token) = token {
            self.push(Kind::Fail, token);
        }
    }

    fn end_of_stream(&mut self, token: Token, pool: &mut Pool) -> Option<Completion<SimSocket>> {
        let conn = find(&mut self.slots, token)?;
        let has_ended = self.peers[conn.peer.index()].fin_from_peer;
        if conn.end_told || !has_ended {
            return None;
        }
        conn.end_told = true;
        if let Some(target) = conn.target.take() {
            self.give(target.block, pool);
        }
        Some(Completion::PeerClosed { token })
    }

    /// Hands received bytes out, in the place that was asked for last.
    fn announce(&mut self, token: Token, pool: &mut Pool) -> Option<Completion<SimSocket>> {
        let conn = find(&mut self.slots, token)?;
        let (target, receiving) = (conn.target.take(), conn.receiving.take());
        let peer = &mut self.peers[conn.peer.index()];
        let is_into = target.is_some();
        let (mut block, start, end, spare) = match (target, receiving) {
            (Some(target), spare) => (target.block, target.start, target.end, spare),
            (None, Some(block)) => {
                let end = block.len();
                (block, 0, end, None)
            }
            (None, None) => return None,
        };
        let mut len = peer.to_server.len().min(end - start);
        if len > 1 && self.dice.hits(self.dice.config.short_receive) {
            len = self.dice.short(len);
        }
        let bytes = block.bytes_mut();
        bytes[start..start + len].copy_from_slice(peer.to_server.front(len));
        bytes[start + len..end.min(start + len + POISON_BYTES)].fill(POISON);
        peer.to_server.consume(len);
        self.blocks_held -= 1;
        self.stats.received_bytes += len as u64;
        if let Some(spare) = spare {
            self.give(spare, pool);
        }
        if len == 0 {
            // The peer reset the connection and took its bytes along.
            pool.give(block);
            return None;
        }
        self.kick_receive(token);
        if is_into {
            return Some(Completion::ReceivedInto { token, block, len });
        }
        Some(Completion::Received { token, block, len })
    }

    /// The kernel takes bytes of the send in flight; none when it cannot take any now.
    fn transfer(&mut self, token: Token) -> Option<usize> {
        let conn = find(&mut self.slots, token)?;
        let send = conn.send.as_mut()?;
        let peer = &mut self.peers[conn.peer.index()];
        let dice = &mut self.dice;
        let mut len = send.segment.len().min(peer.room());
        if len > 1 && dice.hits(dice.config.short_send) {
            len = dice.short(len);
        }
        if send.patience == Patience::Try && dice.hits(dice.config.refused_try) {
            len = 0;
        }
        if len == 0 {
            return None;
        }
        peer.to_peer.push(&send.segment.bytes()[..len]);
        send.taken = Some(len);
        self.stats.sent_bytes += len as u64;
        Some(len)
    }

    fn answer_send(&mut self, token: Token) -> Option<Completion<SimSocket>> {
        let Sending { segment, taken, .. } = find(&mut self.slots, token)?.send.take()?;
        let sent = taken.unwrap_or(0);
        self.blocks_held -= Self::counted(&segment.block);
        self.stats.short_sends += u64::from(sent < segment.len());
        Some(Completion::Sent { token, segment, sent })
    }

    fn swallow(&mut self) -> Option<Completion<SimSocket>> {
        self.stats.stale += 1;
        None
    }
}

impl Conn {
    fn new(token: Token, peer: PeerId) -> Self {
        Self {
            token,
            peer,
            paused: false,
            write_shut: false,
            end_told: false,
            failed_told: false,
            closing: None,
            receive_queued: false,
            receiving: None,
            target: None,
            send: None,
        }
    }

    fn assert_usable(&self) {
        assert!(!self.failed_told, "{:?}: only a close may follow `Failed`", self.token);
    }
}

/// The connection of an event, or none when the event comes too late.
fn find(slots: &mut [Slot], token: Token) -> Option<&mut Conn> {
    let conn = slots.get_mut(token.index as usize)?.conn.as_mut()?;
    (conn.token == token).then_some(conn)
}

/// The connection the worker names, which must be one it may still name.
fn live(slots: &mut [Slot], token: Token) -> &mut Conn {
    let conn = find(slots, token);
    let conn = conn.unwrap_or_else(|| panic!("{token:?}: no such connection, or a stale token"));
    assert!(conn.closing.is_none(), "{token:?}: an operation after `submit_close`");
    conn
}

/// How connections end, as the peer sees it.
impl World {
    /// The server closes a socket that it never attached.
    pub(super) fn refuse(&mut self, id: PeerId) {
        self.hang_up(id, Closing::Orderly);
    }

    /// The connection is gone before it was accepted.
    pub(super) fn abort(&mut self, id: PeerId) {
        self.break_conn(id);
        self.hang_up(id, Closing::Reset);
    }

    /// The server's socket is closed. Unread input turns even an orderly close into a reset, by
    /// which the peer may lose what it was sent last (CL08).
    fn hang_up(&mut self, id: PeerId, closing: Closing) {
        let unread_bytes = self.peers[id.index()].to_peer.len();
        let kept_bytes = self.dice.pick(unread_bytes + 1);
        let peer: &mut Peer = &mut self.peers[id.index()];
        peer.stage = Stage::Closed;
        peer.token = None;
        if peer.reset_seen {
            return;
        }
        if closing == Closing::Reset || !peer.to_server.is_empty() {
            peer.see_reset(kept_bytes);
        } else if !peer.broken {
            peer.fin_from_server = true;
        }
    }
}
