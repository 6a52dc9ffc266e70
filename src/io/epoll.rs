//! The driver over epoll: the backend where io_uring is forbidden or too old.
//!
//! A socket is registered edge-triggered, once its first bytes were received or, if it is outgoing,
//! from the start, and once more the first time it is full, to be told of room. Receives and sends
//! are direct system calls; what they come to is told as completions. Receives happen lazily, one
//! per call of `poll_completion`, so each block is handed over while it is hot.
//!
//! INVARIANT: a connection whose socket may have something to receive is `READY` in the table;
//! one with a send that the socket did not take is in `waiting`.

#![expect(unsafe_code, reason = "mio lends the descriptor of its epoll as a bare number")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::addr::PeerAddr;
use super::backend::DriverSetup;
use super::listeners::{LISTENERS_MAX, Listeners};
use super::socket;
use super::table::{DONE, FAILED, Next, SENDING, STARVED_WAIT_MAX, Table, WATCHED, WATCHED_WRITE};
use super::wake::Wake;
use super::{Closing, Completion, Driver, Health, Outgoing, Patience, Token};
use crate::buf::{Block, Pool, Segment};

/// Events taken from the kernel at once.
const EVENTS_PER_WAIT_MAX: usize = 1024;
/// Accepts between two waits, of all listeners: a flood of peers must not hold up those that are
/// connected.
const ACCEPTS_PER_WAIT_MAX: u32 = 64;
/// Rounds of receives between two waits, one block for each connection in line: peers that never
/// stop talking must not keep the worker from looking after others (row FR10).
const ROUNDS_PER_WAIT_MAX: usize = 4;

/// Listeners are the last numbers of all, from here on; no token of a connection is so large.
const LISTENERS: usize = usize::MAX - (LISTENERS_MAX - 1);
const WAKE: mio::Token = mio::Token(LISTENERS - 1);

/// Readiness made into completions.
#[derive(Debug)]
pub(crate) struct EpollDriver {
    events: Events,
    state: State,
    /// The last wait returned for queued completions alone, without a look at the sockets.
    looked_away: bool,
    wait_count: u64,
}

/// All but the events, so that these can be gone through while they are handled.
#[derive(Debug)]
struct State {
    poll: Poll,
    table: Table<OwnedFd>,
    waiting: HashMap<u32, Segment>,
    listeners: Listeners,
    accept_paused: bool,
    accepts_left: u32,
    receives_left: usize,
    starved: bool,
    wake: Wake,
}

impl EpollDriver {
    /// A driver that listens and can be woken, with no connection yet.
    pub(crate) fn new(setup: DriverSetup) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (number, listener) in setup.listeners.iter().enumerate() {
            let fd = listener.as_fd().as_raw_fd();
            let token = mio::Token(LISTENERS + number);
            // Workers that share a Unix socket all wake for a peer, and all but one find nobody;
            // mio knows no way to wake one of them.
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        let wake_fd = setup.wake.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&wake_fd), WAKE, Interest::READABLE)?;
        let state = State {
            poll,
            table: Table::new(setup.conns_max, true),
            waiting: HashMap::new(),
            listeners: Listeners::new(setup.listeners),
            accept_paused: false,
            accepts_left: ACCEPTS_PER_WAIT_MAX,
            receives_left: 0,
            starved: false,
            wake: setup.wake,
        };
        let events = Events::with_capacity(EVENTS_PER_WAIT_MAX);
        Ok(Self { events, state, looked_away: false, wait_count: 0 })
    }
}

impl Driver for EpollDriver {
    type Socket = OwnedFd;

    const SENDS_AT_ONCE: bool = true;

    fn wake_handle(&self) -> Wake {
        self.state.wake.clone()
    }

    fn attach(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        // The request is here already, or nearly (see `Listener::await_first_bytes`), so it is received before
        // the socket is watched: registered now, it would report at once what is known anyway.
        self.state.table.insert(token, socket);
        self.state.table.mark_ready(token, false);
        self.state.receives_left += 1;
        Ok(())
    }

    fn submit_send(&mut self, token: Token, segment: Segment, patience: Patience) {
        self.state.submit_send(token, segment, patience);
    }

    fn submit_receive_into(&mut self, token: Token, block: Block, start: usize, end: usize) {
        self.state.table.set_target(token, block, start, end);
    }

    fn pause_receive(&mut self, token: Token) {
        self.state.table.set_paused(token, true);
    }

    fn resume_receive(&mut self, token: Token) {
        self.state.table.set_paused(token, false);
    }

    fn shutdown_write(&mut self, token: Token) {
        if let Some(fd) = self.state.table.fd(token) {
            // It fails when the peer is gone already; a receive will tell.
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    fn submit_close(&mut self, token: Token, closing: Closing) {
        self.state.submit_close(token, closing);
    }

    fn pause_accept(&mut self) {
        self.state.accept_paused = true;
    }

    fn resume_accept(&mut self) {
        self.state.accept_paused = false;
    }

    fn shed_one(&mut self) -> bool {
        self.state.listeners.shed_one()
    }

    fn close_listeners(&mut self) {
        for listener in self.state.listeners.take() {
            let fd = listener.as_fd().as_raw_fd();
            // Closing would not do: another worker may hold the same socket. It cannot fail for
            // what was registered.
            let _ = self.state.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    fn release_listeners(&mut self) {
        self.state.listeners.keep_files();
        self.close_listeners();
    }

    fn peer_addr(&self, token: Token) -> io::Result<PeerAddr> {
        let fd = self.state.table.fd(token).ok_or(io::ErrorKind::NotConnected)?;
        socket::peer_addr(fd)
    }

    fn round_trip(&self, token: Token) -> Option<Duration> {
        socket::round_trip(self.state.table.fd(token)?)
    }

    fn health(&self) -> Health {
        let receives_parked = self.state.table.parked_count();
        Health { waits: self.wait_count, receives_parked, ..Health::default() }
    }

    fn poll_completion(&mut self, pool: &mut Pool) -> Option<Completion<OwnedFd>> {
        self.state.poll_completion(pool)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let has_news = self.state.table.has_news();
        if has_news && !self.looked_away && !self.state.has_work() {
            // The answers to sends are at hand. A look at the sockets is due the next time, when
            // more may have come; this saves half of the waits.
            self.looked_away = true;
            return Ok(());
        }
        self.looked_away = false;
        self.wait_count += 1;
        let timeout = self.state.cap_timeout(timeout, has_news);
        let timeout = self.state.wait_exactly(timeout)?;
        match self.state.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) | Ok(()) => {}
        }
        self.state.accepts_left = ACCEPTS_PER_WAIT_MAX;
        self.state.starved = false;
        for event in &self.events {
            self.state.handle_event(event);
        }
        self.state.receives_left = ROUNDS_PER_WAIT_MAX * self.state.table.line_len();
        Ok(())
    }
}

impl Outgoing for EpollDriver {
    fn attach_outgoing(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        // Here the peer does not speak first: a receive before the socket is watched would be vain.
        self.state.table.insert(token, socket);
        self.state.watch(token, WATCHED);
        Ok(())
    }
}

impl State {
    fn submit_send(&mut self, token: Token, segment: Segment, patience: Patience) {
        let Some(entry) = self.table.find_open(token).filter(|entry| !entry.has(FAILED)) else {
            // It broke, and the worker is about to learn of it.
            self.table.return_block(segment.block);
            return;
        };
        assert!(!entry.has(SENDING), "one send of a connection at a time");
        entry.flags |= SENDING;
        self.send(token, segment, patience);
    }

    /// Sends, and tells what it came to, or keeps the segment until the socket takes some.
    fn send(&mut self, token: Token, segment: Segment, patience: Patience) {
        let Some(fd) = self.table.fd(token) else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let result = rustix::io::retry_on_intr(|| rustix::net::send(fd, segment.bytes(), flags));
        match result {
            Ok(sent) => self.table.announce(Completion::Sent { token, segment, sent }),
            Err(Errno::AGAIN) if patience == Patience::Wait => {
                self.waiting.insert(token.index, segment);
                self.watch(token, WATCHED_WRITE);
            }
            Err(Errno::AGAIN) => self.table.announce(Completion::Sent { token, segment, sent: 0 }),
            Err(errno) => {
                self.table.clear(token, SENDING);
                self.table.return_block(segment.block);
                self.table.fail(token, errno.into());
            }
        }
    }

    fn submit_close(&mut self, token: Token, closing: Closing) {
        self.table.close(token);
        if let Some(segment) = self.waiting.remove(&token.index) {
            self.table.return_block(segment.block);
        }
        if let Some(fd) = self.table.take_fd(token) {
            if closing == Closing::Reset {
                socket::reset_on_close(fd.as_fd());
            }
            // Closing the last descriptor of a socket takes it out of epoll, too.
            drop(fd);
        }
        self.table.announce(Completion::Closed { token });
    }

    fn handle_event(&mut self, event: &mio::event::Event) {
        match event.token() {
            mio::Token(LISTENERS..) => self.listeners.set_ready(event.token().0 - LISTENERS),
            WAKE => {
                self.wake.clear();
                self.table.announce(Completion::Woken);
            }
            packed => {
                let token = unpack(packed);
                let is_over = event.is_read_closed() || event.is_error();
                if event.is_readable() || is_over {
                    self.table.mark_ready(token, is_over || event.is_priority());
                }
                if event.is_writable() || event.is_write_closed() || event.is_error() {
                    self.send_waiting(token);
                }
            }
        }
    }

    fn send_waiting(&mut self, token: Token) {
        let is_sending = self.table.find(token).is_some_and(|entry| entry.has(SENDING));
        if is_sending && let Some(segment) = self.waiting.remove(&token.index) {
            self.send(token, segment, Patience::Wait);
        }
    }

    fn poll_completion(&mut self, pool: &mut Pool) -> Option<Completion<OwnedFd>> {
        self.table
            .poll_news(pool)
            .or_else(|| self.poll_accept())
            .or_else(|| self.poll_receive(pool))
    }

    fn poll_accept(&mut self) -> Option<Completion<OwnedFd>> {
        if !self.may_accept() || self.accepts_left == 0 {
            return None;
        }
        self.accepts_left -= 1;
        match self.listeners.accept()? {
            (listener, Ok(socket)) => Some(Completion::Accepted { socket, listener }),
            (_, Err(errno)) => {
                let exhausted = socket::pauses_accept(errno);
                self.accept_paused |= exhausted;
                Some(Completion::AcceptFailed { error: errno.into(), exhausted })
            }
        }
    }

    fn poll_receive(&mut self, pool: &mut Pool) -> Option<Completion<OwnedFd>> {
        // Blocks may have come back since the last time.
        self.starved = false;
        while self.receives_left > 0 {
            match self.table.next_receive(pool) {
                Next::Receive(token, mut place) => {
                    self.receives_left -= 1;
                    let result = self.receive(token, place.bytes_mut());
                    let is_filled = result == Ok(place.len());
                    let completion =
                        self.table.handle_received(token, place, result, is_filled, pool);
                    self.watch(token, WATCHED);
                    // A failure is queued.
                    if let Some(told) = completion.or_else(|| self.table.poll_news(pool)) {
                        return Some(told);
                    }
                }
                Next::Starved => {
                    self.starved = true;
                    return None;
                }
                Next::Nobody => return None,
            }
        }
        None
    }

    /// Has epoll watch a connection: from its first receive on, or from the start if it is outgoing,
    /// for what comes, and from the first time its socket is full also for room. Few sockets ever
    /// are.
    fn watch(&mut self, token: Token, flag: u16) {
        let Some(entry) = self.table.find_open(token) else { return };
        if entry.has(flag) || entry.has(DONE) {
            return;
        }
        let is_new = !entry.has(WATCHED);
        entry.flags |= WATCHED | flag;
        // Urgent data stops a receive short of what there is; PRIORITY is how that is seen.
        let mut interest = Interest::READABLE | Interest::PRIORITY;
        if entry.has(WATCHED_WRITE) {
            interest |= Interest::WRITABLE;
        }
        let (fd, registry) = (entry.fd, self.poll.registry());
        let result = if is_new {
            registry.register(&mut SourceFd(&fd), pack(token), interest)
        } else {
            registry.reregister(&mut SourceFd(&fd), pack(token), interest)
        };
        if let Err(error) = result {
            self.table.fail(token, error);
        }
    }

    fn receive(&self, token: Token, bytes: &mut [u8]) -> Result<usize, Errno> {
        let fd = self.table.fd(token).ok_or(Errno::BADF)?;
        let (_, len) = rustix::net::recv(fd, bytes, RecvFlags::DONTWAIT)?;
        Ok(len)
    }

    fn may_accept(&self) -> bool {
        !self.accept_paused && self.listeners.has_ready()
    }

    /// Whether `poll_completion` could go on without the kernel having news.
    fn has_work(&self) -> bool {
        self.may_accept() || (self.table.has_line() && !self.starved)
    }

    /// Waits for a time that is not of whole milliseconds, which is all that mio knows. Returns
    /// what is left to wait.
    fn wait_exactly(&self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        let Some(exact) = timeout.filter(|time| time.subsec_nanos() % 1_000_000 != 0) else {
            return Ok(timeout);
        };
        // SAFETY: `self.poll` owns the descriptor and outlives the borrow.
        let poll = unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) };
        let mut fds = [PollFd::new(&poll, PollFlags::IN)];
        let limit = Timespec::try_from(exact).map_err(io::Error::other)?;
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(Some(Duration::ZERO)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn cap_timeout(&self, timeout: Option<Duration>, has_news: bool) -> Option<Duration> {
        if has_news || self.has_work() {
            Some(Duration::ZERO)
        } else if self.starved {
            Some(timeout.map_or(STARVED_WAIT_MAX, |timeout| timeout.min(STARVED_WAIT_MAX)))
        } else {
            timeout
        }
    }
}

/// Index and generation in one word, so that an event of a former use of the slot is told apart.
fn pack(token: Token) -> mio::Token {
    mio::Token(token.index as usize | (token.generation as usize) << 32)
}

fn unpack(packed: mio::Token) -> Token {
    let index = packed.0 & u32::MAX as usize;
    Token {
        index: u32::try_from(index).expect("masked to 32 bits"),
        generation: u32::try_from(packed.0 >> 32).expect("the other 32 bits"),
    }
}

const _: () = assert!(usize::BITS == 64, "a token takes 56 bits");
