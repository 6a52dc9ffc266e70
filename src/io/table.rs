//! What a driver remembers of its connections: an entry of 16 bytes each, the line of those that
//! have something to receive, and side maps for what few connections have.
//!
//! It holds the rules of the contract that do not depend on the backend: a connection stands in
//! line at most once, is served one block per round, says `PeerClosed` or `Failed` once, and is
//! silent after `Closed`. It makes no system call but `close`.
//!
//! INVARIANT: `QUEUED` is set exactly while the connection's token stands in `line`;
//! `TARGET` exactly while `targets` has the index; `SENDING` from `submit_send` to its answer.

#![expect(unsafe_code, reason = "descriptors are kept as bare numbers, to fit the entry")]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;

use super::{Completion, Token};
use crate::buf::{Block, Pool, RECEIVE_BLOCK_BYTES};

/// How long a wait lasts at most while connections wait for a block: a driver's `wait` cannot see
/// the pool, so it could sleep through a block that was given back after the last poll. Blocks
/// that come back with a completion are not waited for.
pub(super) const STARVED_WAIT_MAX: Duration = Duration::from_millis(2);

/// Entries for which address space is reserved at most: 64 MiB of it.
const RESERVED_MAX: u32 = 1 << 22;

/// The slot is in use.
pub(super) const ATTACHED: u16 = 1;
/// Bytes, an end or an error may be waiting to be received.
pub(super) const READY: u16 = 1 << 1;
/// The token stands in line.
const QUEUED: u16 = 1 << 2;
/// Receive until the kernel has nothing left, even after short receives.
pub(super) const EXHAUST: u16 = 1 << 3;
/// The worker wants no bytes at present.
const PAUSED: u16 = 1 << 4;
/// The end of the stream, or an error, was announced: nothing more is received.
pub(super) const DONE: u16 = 1 << 5;
/// `Failed` was announced.
pub(super) const FAILED: u16 = 1 << 6;
/// `submit_close` was called.
pub(super) const CLOSING: u16 = 1 << 7;
/// The next receive goes to a place of the worker's choice.
const TARGET: u16 = 1 << 8;
/// A send is not answered yet.
pub(super) const SENDING: u16 = 1 << 9;
/// The kernel has a receive of this connection.
pub(super) const RECEIVING: u16 = 1 << 10;
/// epoll watches the socket for what comes.
pub(super) const WATCHED: u16 = 1 << 13;
/// epoll watches the socket for room, too.
pub(super) const WATCHED_WRITE: u16 = 1 << 14;
/// The kernel has a poll of this connection.
pub(super) const POLLING: u16 = 1 << 11;
/// The kernel has a shutdown of this connection.
pub(super) const SHUTTING: u16 = 1 << 12;

/// A large body gives way to others after this much.
const IN_A_ROW_BYTES_MAX: usize = 1 << 20;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its descriptor, or its slot in the file table of the ring.
    pub(super) fd: RawFd,
    generation: u32,
    /// Where a send that the kernel has, or that waits, is kept. Valid while `SENDING`.
    pub(super) send_slot: u32,
    /// Where a receive that the kernel has is kept. Valid while `RECEIVING`.
    pub(super) receive_slot: u16,
    pub(super) flags: u16,
}

const _: () = assert!(size_of::<Entry>() == 16, "every idle connection pays for it");

impl Entry {
    const FREE: Self = Self { fd: -1, generation: 0, send_slot: 0, receive_slot: 0, flags: 0 };

    /// Whether any of `flags` is set.
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    fn wants_line(&self) -> bool {
        let out = QUEUED | PAUSED | DONE | CLOSING | RECEIVING;
        self.has(READY) && !self.has(out)
    }
}

/// Where the next bytes of a connection go.
#[derive(Debug)]
pub(super) struct Place {
    block: Block,
    start: usize,
    end: usize,
    /// Named by the worker, rather than taken from the pool.
    chosen: bool,
}

impl Place {
    /// The memory to receive into.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block.bytes_mut()[self.start..self.end]
    }

    /// Bytes there is room for.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes there is room for, if the worker named the place.
    pub(super) fn chosen_len(&self) -> Option<usize> {
        self.chosen.then(|| self.len())
    }

    /// The memory, when nothing was received.
    pub(super) fn into_block(self) -> Block {
        self.block
    }
}

/// The connections of a driver.
#[derive(Debug)]
pub(super) struct Table<S> {
    entries: Vec<Entry>,
    line: VecDeque<Token>,
    /// How often who was next had to wait for a block.
    parked_count: u64,
    /// What the worker has still to be told.
    queue: VecDeque<Completion<S>>,
    targets: HashMap<u32, Place>,
    /// Whose large body was received last, and how much of it in a row.
    in_a_row: (u32, usize),
    /// Blocks of connections that ended while no pool was at hand.
    returned: Vec<Block>,
    /// Whether `Entry::fd` are descriptors of the process, to be closed here.
    owns_fds: bool,
}

impl<S> Table<S> {
    /// A table that never has to grow for `conns_max` connections. Untouched pages cost nothing.
    pub(super) fn new(conns_max: u32, owns_fds: bool) -> Self {
        Self {
            entries: Vec::with_capacity(conns_max.min(RESERVED_MAX) as usize),
            line: VecDeque::new(),
            parked_count: 0,
            queue: VecDeque::new(),
            targets: HashMap::new(),
            in_a_row: (u32::MAX, 0),
            returned: Vec::new(),
            owns_fds,
        }
    }

    /// Takes a descriptor in, under a token whose slot is free.
    pub(super) fn insert(&mut self, token: Token, fd: OwnedFd) {
        assert!(self.owns_fds, "this table keeps slots of the ring");
        self.insert_raw(token, fd.into_raw_fd());
    }

    /// Takes a descriptor of the process, or a slot of the ring in.
    pub(super) fn insert_raw(&mut self, token: Token, fd: RawFd) {
        let index = token.index as usize;
        assert!(token.generation <= Token::GENERATION_MAX, "a generation has 24 bits");
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry::FREE);
        }
        let entry = &mut self.entries[index];
        assert!(!entry.has(ATTACHED), "a slot holds one connection at a time");
        *entry = Entry { fd, generation: token.generation, flags: ATTACHED, ..Entry::FREE };
    }

    /// The connection of `token`, unless it is gone or the slot is used by another.
    pub(super) fn find(&self, token: Token) -> Option<&Entry> {
        let entry = self.entries.get(token.index as usize)?;
        (entry.has(ATTACHED) && entry.generation == token.generation).then_some(entry)
    }

    /// As `find`, to change it.
    pub(super) fn find_mut(&mut self, token: Token) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(token.index as usize)?;
        (entry.has(ATTACHED) && entry.generation == token.generation).then_some(entry)
    }

    /// As `find`, but not once `submit_close` was called.
    pub(super) fn find_open(&mut self, token: Token) -> Option<&mut Entry> {
        self.find_mut(token).filter(|entry| !entry.has(CLOSING))
    }

    /// The descriptor of a connection.
    pub(super) fn fd(&self, token: Token) -> Option<BorrowedFd<'_>> {
        assert!(self.owns_fds, "a slot of the ring is no descriptor");
        let entry = self.find(token).filter(|entry| entry.fd >= 0)?;
        // SAFETY: an attached entry owns its open descriptor, and only `take_fd` and `drop`, which
        // need the table exclusively, give it up.
        Some(unsafe { BorrowedFd::borrow_raw(entry.fd) })
    }

    /// Gives the descriptor of a connection up, to be closed.
    pub(super) fn take_fd(&mut self, token: Token) -> Option<OwnedFd> {
        assert!(self.owns_fds, "a slot of the ring is no descriptor");
        let fd = self.take_raw(token)?;
        // SAFETY: the entry owned the open descriptor, and no longer names it.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Gives the descriptor or the slot of the ring up.
    pub(super) fn take_raw(&mut self, token: Token) -> Option<RawFd> {
        let entry = self.find_mut(token).filter(|entry| entry.fd >= 0)?;
        Some(std::mem::replace(&mut entry.fd, -1))
    }

    /// Tokens of all connections that have one of `flags` set.
    pub(super) fn tokens_with(&self, flags: u16) -> impl Iterator<Item = Token> + '_ {
        (0u32..)
            .zip(&self.entries)
            .filter(move |(_, entry)| entry.has(flags))
            .map(|(index, entry)| Token { index, generation: entry.generation })
    }

    /// There is something to receive; `exhaust`: up to an end, an error, or nothing left.
    pub(super) fn mark_ready(&mut self, token: Token, exhaust: bool) {
        if let Some(entry) = self.find_mut(token) {
            entry.flags |= if exhaust { READY | EXHAUST } else { READY };
            self.line_up(token);
        }
    }

    /// Whether anybody stands in line.
    pub(super) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// How often who was next had to wait for a block.
    pub(super) fn parked_count(&self) -> u64 {
        self.parked_count
    }

    /// How many stand in line: one round.
    pub(super) fn line_len(&self) -> usize {
        self.line.len()
    }

    /// Who is next, and where the bytes go. `Starved`: who is next has to wait for a block.
    pub(super) fn next_receive(&mut self, pool: &mut Pool) -> Next {
        while let Some(token) = self.line.pop_front() {
            let Some(entry) = self.find_mut(token) else { continue };
            entry.flags &= !QUEUED;
            if !entry.wants_line() {
                continue;
            }
            let chosen = entry.has(TARGET);
            let place = if chosen { self.take_target(token) } else { pool_place(pool) };
            let Some(place) = place else {
                self.line.push_front(token);
                self.set(token, QUEUED);
                self.parked_count += 1;
                return Next::Starved;
            };
            self.clear(token, READY);
            return Next::Receive(token, place);
        }
        Next::Nobody
    }

    /// What a receive came to. `more`: the kernel had more than the place could take.
    ///
    /// The connection goes to the tail of the line here, but nothing is received before the next
    /// call of `next_receive`: so the worker, which is handed these bytes first, can still name
    /// the place of the next ones.
    pub(super) fn handle_received(
        &mut self,
        token: Token,
        place: Place,
        result: Result<usize, Errno>,
        more: bool,
        pool: &mut Pool,
    ) -> Option<Completion<S>> {
        let Some(entry) = self.find_open(token).filter(|entry| !entry.has(DONE)) else {
            pool.give(place.block);
            return None;
        };
        match result {
            Ok(0) => {
                entry.flags |= DONE;
                pool.give(place.block);
                self.return_target(token);
                Some(Completion::PeerClosed { token })
            }
            Ok(len) => {
                assert!(len <= place.len(), "the kernel stays within the place it was given");
                if more || entry.has(EXHAUST) {
                    entry.flags |= READY;
                }
                if place.chosen && more && self.may_go_on(token, len) {
                    self.line_up_first(token);
                } else {
                    self.line_up(token);
                }
                Some(match place {
                    Place { block, chosen: true, .. } => {
                        Completion::ReceivedInto { token, block, len }
                    }
                    Place { block, .. } => self.received(token, block, len),
                })
            }
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => {
                entry.flags &= !EXHAUST;
                if errno == Errno::INTR {
                    entry.flags |= READY;
                }
                self.put_back(token, place, pool);
                self.line_up(token);
                None
            }
            Err(errno) => {
                pool.give(place.block);
                self.fail(token, errno.into());
                None
            }
        }
    }

    /// Announces that a connection broke, once. A place that was waiting is returned.
    pub(super) fn fail(&mut self, token: Token, error: io::Error) {
        let Some(entry) = self.find_open(token) else { return };
        let is_news = !entry.has(FAILED);
        entry.flags |= FAILED | DONE;
        self.return_target(token);
        if is_news {
            self.queue.push_back(Completion::Failed { token, error });
        }
    }

    /// The next bytes go to `block[start..end]`.
    pub(super) fn set_target(&mut self, token: Token, block: Block, start: usize, end: usize) {
        assert!(start < end && end <= block.len(), "a place lies within its block");
        let Some(entry) = self.find_open(token).filter(|entry| !entry.has(DONE)) else {
            // It broke while its last bytes were on their way to the worker.
            self.returned.push(block);
            return;
        };
        assert!(!entry.has(TARGET), "one place at a time");
        entry.flags |= TARGET;
        self.targets.insert(token.index, Place { block, start, end, chosen: true });
    }

    /// Stops receiving, or goes on.
    pub(super) fn set_paused(&mut self, token: Token, paused: bool) {
        if let Some(entry) = self.find_open(token) {
            entry.flags = if paused { entry.flags | PAUSED } else { entry.flags & !PAUSED };
            self.line_up(token);
        }
    }

    /// The connection is given up: from here on it is silent.
    pub(super) fn close(&mut self, token: Token) {
        let entry = self.find_mut(token).expect("submit_close names an attached connection");
        assert!(!entry.has(CLOSING), "a connection is closed once");
        entry.flags |= CLOSING;
        self.return_target(token);
    }

    /// Sets flags of a connection that is known to be attached.
    pub(super) fn set(&mut self, token: Token, flags: u16) {
        if let Some(entry) = self.find_mut(token) {
            entry.flags |= flags;
        }
    }

    /// Clears flags of a connection that is known to be attached.
    pub(super) fn clear(&mut self, token: Token, flags: u16) {
        if let Some(entry) = self.find_mut(token) {
            entry.flags &= !flags;
        }
    }

    /// Keeps a block until a pool is at hand.
    pub(super) fn return_block(&mut self, block: Block) {
        self.returned.push(block);
    }

    /// Has the worker told, after everything that is queued.
    pub(super) fn announce(&mut self, completion: Completion<S>) {
        self.queue.push_back(completion);
    }

    /// Whether the worker has still to be told something.
    pub(super) fn has_news(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What the worker is to be told next. Blocks that were kept go home first, so none is left
    /// when `Closed` is told.
    pub(super) fn poll_news(&mut self, pool: &mut Pool) -> Option<Completion<S>> {
        for block in self.returned.drain(..) {
            pool.give(block);
        }
        while let Some(completion) = self.queue.pop_front() {
            if let Some(completion) = self.deliver(completion, pool) {
                return Some(completion);
            }
        }
        None
    }

    /// The last that is told of a connection: its slot is free from here on.
    pub(super) fn closed(&mut self, token: Token) -> Completion<S> {
        let entry = self.find_mut(token).expect("Closed is told once");
        assert!(entry.fd < 0, "Closed is told when the socket is closed");
        *entry = Entry::FREE;
        Completion::Closed { token }
    }

    /// The last look at a completion that was queued: the worker may have closed its connection
    /// since, and then hears nothing but `Closed`.
    fn deliver(&mut self, completion: Completion<S>, pool: &mut Pool) -> Option<Completion<S>> {
        match completion {
            Completion::Sent { token, segment, sent } => {
                self.clear(token, SENDING);
                if self.find_open(token).is_some() {
                    return Some(Completion::Sent { token, segment, sent });
                }
                pool.give(segment.block);
                None
            }
            Completion::Received { token, block, len } => {
                if self.find_open(token).is_some() {
                    return Some(self.received(token, block, len));
                }
                pool.give(block);
                None
            }
            Completion::ReceivedInto { token, block, len } => {
                if self.find_open(token).is_some() {
                    return Some(Completion::ReceivedInto { token, block, len });
                }
                pool.give(block);
                None
            }
            Completion::PeerClosed { token } => {
                self.find_open(token).map(|_| Completion::PeerClosed { token })
            }
            Completion::Failed { token, error } => {
                self.find_open(token).map(|_| Completion::Failed { token, error })
            }
            Completion::Closed { token } => Some(self.closed(token)),
            Completion::Accepted { socket, listener } => {
                Some(Completion::Accepted { socket, listener })
            }
            Completion::AcceptFailed { error, exhausted } => {
                Some(Completion::AcceptFailed { error, exhausted })
            }
            Completion::Woken => Some(Completion::Woken),
        }
    }

    /// Whether a large body may be received further before others have their turn: the fewer are
    /// under way, the hotter is their memory.
    fn may_go_on(&mut self, token: Token, len: usize) -> bool {
        let in_a_row = if self.in_a_row.0 == token.index { self.in_a_row.1 + len } else { len };
        let may = in_a_row < IN_A_ROW_BYTES_MAX;
        self.in_a_row = (token.index, if may { in_a_row } else { 0 });
        may
    }

    fn line_up_first(&mut self, token: Token) {
        if let Some(entry) = self.find_mut(token).filter(|entry| entry.wants_line()) {
            entry.flags |= QUEUED;
            self.line.push_front(token);
        }
    }

    fn line_up(&mut self, token: Token) {
        if let Some(entry) = self.find_mut(token).filter(|entry| entry.wants_line()) {
            entry.flags |= QUEUED;
            self.line.push_back(token);
        }
    }

    /// Bytes that came into a block of the pool. If the worker has named a place for them since
    /// the receive was submitted, they are moved there: it counts on the next bytes being there.
    fn received(&mut self, token: Token, mut block: Block, len: usize) -> Completion<S> {
        let has_target = self.find(token).is_some_and(|entry| entry.has(TARGET));
        let Some(mut place) = has_target.then(|| self.take_target(token)).flatten() else {
            return Completion::Received { token, block, len };
        };
        let taken = len.min(place.len());
        place.bytes_mut()[..taken].copy_from_slice(&block.bytes()[..taken]);
        if taken == len {
            self.returned.push(block);
        } else {
            block.bytes_mut().copy_within(taken..len, 0);
            self.queue.push_front(Completion::Received { token, block, len: len - taken });
        }
        Completion::ReceivedInto { token, block: place.block, len: taken }
    }

    /// A place that was not used waits for the next bytes, or goes home.
    fn put_back(&mut self, token: Token, place: Place, pool: &mut Pool) {
        if place.chosen {
            self.set(token, TARGET);
            self.targets.insert(token.index, place);
        } else {
            pool.give(place.block);
        }
    }

    fn take_target(&mut self, token: Token) -> Option<Place> {
        self.clear(token, TARGET);
        self.targets.remove(&token.index)
    }

    fn return_target(&mut self, token: Token) {
        if self.find(token).is_some_and(|entry| entry.has(TARGET)) {
            let place = self.take_target(token);
            self.returned.extend(place.map(Place::into_block));
        }
    }
}

impl<S> Drop for Table<S> {
    fn drop(&mut self) {
        let fds = self.entries.iter().filter(|entry| entry.has(ATTACHED)).map(|entry| entry.fd);
        for fd in fds.filter(|fd| self.owns_fds && *fd >= 0) {
            // SAFETY: an attached entry owns its open descriptor, and the table is going away.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// What `Table::next_receive` found.
#[derive(Debug)]
pub(super) enum Next {
    /// Receive into this place.
    Receive(Token, Place),
    /// Somebody is ready, but no block is free.
    Starved,
    /// Nobody is ready.
    Nobody,
}

fn pool_place(pool: &mut Pool) -> Option<Place> {
    let block = pool.take_receive()?;
    Some(Place { block, start: 0, end: RECEIVE_BLOCK_BYTES, chosen: false })
}
