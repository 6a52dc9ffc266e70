//! The driver over io_uring.
//!
//! A connection is watched by one multishot poll, which costs an idle one less memory than an
//! armed receive would. When it has become readable, a receive is submitted into a block of the
//! pool; receives of many connections go to the kernel in one enter, sends in another, together
//! with the wait. Cancelling, closing and what becomes of completions that come later is in
//! `handle_completion` and `finish_close`.
//!
//! INVARIANT: the flags `POLLING`, `RECEIVING`, `SENDING` and `SHUTTING` of a connection say which
//! operations the kernel has; its socket is closed, and `Closed` told, only when it has none. Memory the
//! kernel has is in `receives` and `sends`, where nobody else touches it.

#![expect(unsafe_code, reason = "memory is handed to the kernel")]

mod accept;
mod outgoing;
pub(crate) mod probe;
mod ring;
mod setup;
mod slot;
mod user_data;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::squeue::{self, Flags};
use io_uring::{cqueue, opcode, types};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use slab::Slab;

use self::accept::{Accepting, Ending};
use self::ring::Ring;
use self::slot::Slots;
pub(crate) use self::slot::Socket;
use self::user_data::{NOBODY, Op, pack, unpack};
use super::addr::PeerAddr;
use super::backend::DriverSetup;
use super::socket;
use super::table::{
    CLOSING, DONE, FAILED, Next, POLLING, Place, READY, RECEIVING, SENDING, SHUTTING,
    STARVED_WAIT_MAX, Table,
};
use super::wake::Wake;
use super::{Closing, Completion, Driver, Health, Patience, Token};
use crate::buf::{Block, Pool, Segment};

/// Rounds of receives between two waits, one block for each connection in line: peers that never
/// stop talking must not keep the worker from flushing what it owes to others (row FR10).
const ROUNDS_PER_WAIT_MAX: u32 = 4;
/// Bytes received between two waits, about: so much is worked on and sent while it is in the cache.
const BYTES_PER_WAIT_MAX: usize = 64 * 1024;
/// Receives the kernel has at one time; an entry numbers them with 16 bits.
const RECEIVES_MAX: usize = u16::MAX as usize;
/// Bytes of one send; the kernel takes less than 2 GiB at a time, and far less is ever queued.
const SEND_BYTES_MAX: usize = 1 << 30;
/// Waits of 10 ms for the kernel to let go of memory when the driver is dropped.
const DROP_WAITS_MAX: usize = 200;

/// Operations on a ring, and what they come to.
#[derive(Debug)]
pub(crate) struct UringDriver {
    ring: Ring,
    table: Table<Socket>,
    /// Places the kernel may write to.
    receives: Slab<Place>,
    /// Segments the kernel may read.
    sends: Slab<Segment>,
    accepting: Accepting,
    wake: Wake,
    /// The file table of the ring, if connections are kept in it.
    slots: Option<Slots>,
    rounds_left: u32,
    bytes_left: usize,
    /// What receives into blocks of the pool have come to lately.
    typical_bytes: usize,
    starved: bool,
    /// The last wait returned for completions at hand alone.
    looked_away: bool,
}

impl UringDriver {
    /// A driver that listens and can be woken, with no connection yet. It belongs to the thread
    /// that makes it.
    pub(crate) fn new(setup: DriverSetup) -> io::Result<Self> {
        let slots = setup.direct_descriptors.then(Slots::default);
        let file_slots = slots.is_some().then_some(setup.conns_max);
        let ring = setup::build(setup.ring_entries, file_slots)?;
        let mut driver = Self {
            ring: Ring::new(ring),
            table: Table::new(setup.conns_max, slots.is_none()),
            receives: Slab::new(),
            sends: Slab::new(),
            accepting: Accepting::new(setup.listeners),
            wake: setup.wake,
            slots,
            rounds_left: ROUNDS_PER_WAIT_MAX,
            bytes_left: BYTES_PER_WAIT_MAX,
            typical_bytes: 0,
            starved: false,
            looked_away: false,
        };
        driver.arm_wake();
        Ok(driver)
    }
}

impl Driver for UringDriver {
    type Socket = Socket;

    const SENDS_AT_ONCE: bool = false;

    fn wake_handle(&self) -> Wake {
        self.wake.clone()
    }

    fn attach(&mut self, token: Token, socket: Socket) -> io::Result<()> {
        // The request is here already, or nearly (see `Listener::await_first_bytes`), so it is
        // received before the socket is polled: armed now, a poll would report at once what is known anyway.
        self.table.insert_raw(token, socket.into_raw());
        self.table.mark_ready(token, false);
        Ok(())
    }

    fn submit_send(&mut self, token: Token, segment: Segment, patience: Patience) {
        let Some(entry) = self.table.find_open(token).filter(|entry| !entry.has(FAILED)) else {
            // It broke, and the worker is about to learn of it.
            self.table.return_block(segment.block);
            return;
        };
        assert!(!entry.has(SENDING), "one send of a connection at a time");
        let mut flags = SendFlags::NOSIGNAL;
        if patience == Patience::Try {
            flags |= SendFlags::DONTWAIT;
        }
        let bytes = segment.bytes();
        let len = bytes.len().min(SEND_BYTES_MAX);
        let len = u32::try_from(len).expect("capped at SEND_BYTES_MAX");
        let flags = i32::from_ne_bytes(flags.bits().to_ne_bytes());
        let send = opcode::Send::new(types::Fd(entry.fd), bytes.as_ptr(), len).flags(flags).build();
        entry.flags |= SENDING;
        let slot = self.sends.insert(segment);
        entry.send_slot = u32::try_from(slot).expect("one send per connection");
        self.push_for_conn(send, Op::Send, token);
    }

    fn submit_receive_into(&mut self, token: Token, block: Block, start: usize, end: usize) {
        self.table.set_target(token, block, start, end);
    }

    fn pause_receive(&mut self, token: Token) {
        self.table.set_paused(token, true);
    }

    fn resume_receive(&mut self, token: Token) {
        self.table.set_paused(token, false);
    }

    fn shutdown_write(&mut self, token: Token) {
        if self.slots.is_some() {
            self.shutdown_slot(token);
        } else if let Some(fd) = self.table.fd(token) {
            // A system call, because the ring would hand the operation to a thread of its own. It
            // fails when the peer is gone already; a receive will tell.
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    fn submit_close(&mut self, token: Token, closing: Closing) {
        self.table.close(token);
        if closing == Closing::Reset {
            if self.slots.is_some() {
                self.reset_slot_on_close(token);
            } else if let Some(fd) = self.table.fd(token) {
                socket::reset_on_close(fd);
            }
        }
        // A receive needs no cancelling: it never waits.
        for (flag, op) in [(POLLING, Op::Poll), (SENDING, Op::Send)] {
            if self.table.find(token).is_some_and(|entry| entry.has(flag)) {
                self.cancel(op, token);
            }
        }
        self.finish_close(token);
    }

    fn pause_accept(&mut self) {
        self.pause_accepts();
    }

    fn resume_accept(&mut self) {
        self.accepting.resume();
    }

    fn shed_one(&mut self) -> bool {
        self.accepting.listeners.shed_one()
    }

    fn close_listeners(&mut self) {
        self.close_all_listeners(Ending::ShutDown);
    }

    fn release_listeners(&mut self) {
        self.accepting.listeners.keep_files();
        self.close_all_listeners(Ending::LeftOpen);
    }

    fn peer_addr(&self, token: Token) -> io::Result<PeerAddr> {
        if self.slots.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        socket::peer_addr(self.table.fd(token).ok_or(io::ErrorKind::NotConnected)?)
    }

    fn round_trip(&self, token: Token) -> Option<Duration> {
        // Options of a socket that has no descriptor cannot be read.
        if self.slots.is_some() {
            return None;
        }
        socket::round_trip(self.table.fd(token)?)
    }

    fn health(&self) -> Health {
        Health { receives_parked: self.table.parked_count(), ..self.ring.health() }
    }

    fn poll_completion(&mut self, pool: &mut Pool) -> Option<Completion<Socket>> {
        loop {
            if let Some(news) = self.table.poll_news(pool) {
                return Some(news);
            }
            if let Some(completion) = self.ring.next_completion() {
                if let Some(told) = self.handle_completion(&completion, pool) {
                    return Some(told);
                }
            } else if !self.start_receives(pool) {
                return None;
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // The kernel may have ended an accept. Once per turn is often enough to go on.
        self.arm_accepts();
        self.close_dropped_slots();
        let has_news = self.table.has_news() || self.ring.has_completion();
        let has_work = has_news || (self.table.has_line() && !self.starved);
        if has_work && !self.looked_away && !self.ring.needs_enter() {
            self.looked_away = true;
        } else {
            self.looked_away = false;
            let (want, timeout) = match timeout {
                _ if has_work => (0, timeout),
                Some(Duration::ZERO) => (0, timeout),
                _ if !self.starved => (1, timeout),
                None => (1, Some(STARVED_WAIT_MAX)),
                Some(timeout) => (1, Some(timeout.min(STARVED_WAIT_MAX))),
            };
            self.ring.submit_and_wait(want, timeout)?;
        }
        self.rounds_left = ROUNDS_PER_WAIT_MAX;
        self.bytes_left = BYTES_PER_WAIT_MAX;
        self.starved = false;
        Ok(())
    }
}

impl UringDriver {
    /// One round: a receive for everybody in line, as far as there are blocks. Returns whether
    /// there are completions to look at.
    fn start_receives(&mut self, pool: &mut Pool) -> bool {
        self.starved = false;
        if self.rounds_left == 0 || self.bytes_left == 0 {
            return false;
        }
        let mut started = 0;
        for _ in 0..self.table.line_len().min(RECEIVES_MAX) {
            match self.table.next_receive(pool) {
                Next::Receive(token, place) => {
                    let bytes = place.chosen_len().unwrap_or_else(|| self.typical_bytes.max(1));
                    self.bytes_left = self.bytes_left.saturating_sub(bytes);
                    self.submit_receive(token, place);
                    started += 1;
                    if self.bytes_left == 0 {
                        break;
                    }
                }
                Next::Starved => {
                    self.starved = started == 0;
                    break;
                }
                Next::Nobody => break,
            }
        }
        if started == 0 {
            return false;
        }
        self.rounds_left -= 1;
        // An error that lasts is the next wait's to report.
        self.ring.submit().is_ok()
    }

    fn submit_receive(&mut self, token: Token, mut place: Place) {
        let Some(entry) = self.table.find_mut(token) else {
            self.table.return_block(place.into_block());
            return;
        };
        let bytes = place.bytes_mut();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let flags = i32::from_ne_bytes(RecvFlags::DONTWAIT.bits().to_ne_bytes());
        let receive =
            opcode::Recv::new(types::Fd(entry.fd), bytes.as_mut_ptr(), len).flags(flags).build();
        entry.flags |= RECEIVING;
        let slot = self.receives.insert(place);
        entry.receive_slot = u16::try_from(slot).expect("RECEIVES_MAX at one time");
        self.push_for_conn(receive, Op::Receive, token);
    }

    fn handle_completion(
        &mut self,
        completion: &cqueue::Entry,
        pool: &mut Pool,
    ) -> Option<Completion<Socket>> {
        let (op, token) = unpack(completion.user_data()).expect("only our words come back");
        let result = result_of(completion);
        let is_last = !cqueue::more(completion.flags());
        match op {
            Op::Accept => self.handle_accept(token, result, is_last),
            Op::Wake => {
                if is_last {
                    self.arm_wake();
                }
                self.wake.clear();
                Some(Completion::Woken)
            }
            Op::Poll => {
                self.handle_poll(token, result, is_last);
                None
            }
            Op::Receive => {
                let has_more = cqueue::sock_nonempty(completion.flags());
                self.handle_receive(token, result, has_more, pool)
            }
            Op::Send => self.handle_send(token, result, pool),
            Op::Shutdown => {
                self.table.clear(token, SHUTTING);
                self.finish_close(token);
                None
            }
            Op::Close => Some(self.table.closed(token)),
            // Whatever came of it, the operation that was to be cancelled answers for itself.
            Op::Cancel | Op::Unattended => None,
        }
    }

    fn handle_poll(&mut self, token: Token, result: Result<u32, Errno>, is_last: bool) {
        let Some(entry) = self.table.find_mut(token) else { return };
        if is_last {
            entry.flags &= !POLLING;
        }
        if entry.has(CLOSING) {
            self.finish_close(token);
            return;
        }
        match result {
            Ok(mask) => {
                let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
                // If this was the last, it is re-armed when there is nothing left to receive.
                self.table.mark_ready(token, mask & poll_bits(over) != 0);
            }
            Err(errno) => self.table.fail(token, errno.into()),
        }
    }

    fn handle_receive(
        &mut self,
        token: Token,
        result: Result<u32, Errno>,
        has_more: bool,
        pool: &mut Pool,
    ) -> Option<Completion<Socket>> {
        let entry = self.table.find_mut(token).filter(|entry| entry.has(RECEIVING))?;
        entry.flags &= !RECEIVING;
        let is_closing = entry.has(CLOSING);
        let place = self.receives.remove(usize::from(entry.receive_slot));
        if is_closing {
            pool.give(place.into_block());
            self.finish_close(token);
            return None;
        }
        let result = result.map(|len| len as usize);
        let more = has_more || result == Ok(place.len());
        if let (Ok(len), None) = (result, place.chosen_len()) {
            self.typical_bytes = (7 * self.typical_bytes + len) / 8;
        }
        let told = self.table.handle_received(token, place, result, more, pool);
        self.rearm_poll(token);
        told
    }

    fn handle_send(
        &mut self,
        token: Token,
        result: Result<u32, Errno>,
        pool: &mut Pool,
    ) -> Option<Completion<Socket>> {
        let entry = self.table.find_mut(token).filter(|entry| entry.has(SENDING))?;
        entry.flags &= !SENDING;
        let (is_closing, has_failed) = (entry.has(CLOSING), entry.has(FAILED));
        let segment = self.sends.remove(entry.send_slot as usize);
        let sent = match result {
            Ok(sent) => sent as usize,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => {
                self.table.fail(token, errno.into());
                pool.give(segment.block);
                self.finish_close(token);
                return None;
            }
        };
        if is_closing || has_failed {
            pool.give(segment.block);
            self.finish_close(token);
            return None;
        }
        Some(Completion::Sent { token, segment, sent })
    }

    /// Closes the socket of a connection that is given up, once the kernel has no operation of it.
    fn finish_close(&mut self, token: Token) {
        let Some(entry) = self.table.find(token) else { return };
        if !entry.has(CLOSING) || entry.has(POLLING | RECEIVING | SENDING | SHUTTING) {
            return;
        }
        if self.slots.is_some() {
            self.close_slot(token);
        } else if let Some(fd) = self.table.take_fd(token) {
            drop(fd);
            self.table.announce(Completion::Closed { token });
        }
    }

    fn arm_wake(&mut self) {
        let fd = types::Fd(self.wake.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, poll_bits(PollFlags::IN)).multi(true);
        self.push(poll.build(), Op::Wake, NOBODY);
    }

    fn arm_poll(&mut self, token: Token) {
        let Some(entry) = self.table.find_mut(token) else { return };
        entry.flags |= POLLING;
        let events = poll_bits(PollFlags::IN | PollFlags::RDHUP);
        let poll = opcode::PollAdd::new(types::Fd(entry.fd), events).multi(true);
        self.push_for_conn(poll.build(), Op::Poll, token);
    }

    /// Arms the poll of a connection that has none, once nothing is left to receive.
    ///
    /// The usual reason for an end is that the kernel had no room for completions. At a readable socket the
    /// new poll would fire at once and take up room again, so that with many of them no receive
    /// would ever have its turn.
    fn rearm_poll(&mut self, token: Token) {
        let quiet = POLLING | READY | DONE | CLOSING;
        if self.table.find(token).is_some_and(|entry| !entry.has(quiet)) {
            self.arm_poll(token);
        }
    }

    fn cancel(&mut self, op: Op, token: Token) {
        // Only a failure to cancel is told, and that is ignored: see `handle_completion`.
        let cancel = opcode::AsyncCancel::new(pack(op, token)).build().flags(Flags::SKIP_SUCCESS);
        self.push(cancel, Op::Cancel, token);
    }

    /// Pushes an operation on a connection, whose `fd` may be a slot of the file table.
    fn push_for_conn(&mut self, entry: squeue::Entry, op: Op, token: Token) {
        let is_slot = self.slots.is_some();
        self.push(if is_slot { entry.flags(Flags::FIXED_FILE) } else { entry }, op, token);
    }

    fn push(&mut self, entry: squeue::Entry, op: Op, token: Token) {
        // SAFETY: the memory of a receive is in `receives`, that of a send in `sends`. Both own it
        // on the heap, where it does not move, and give it up when its completion is handled, or
        // leak it in `drop`. No other operation refers to memory that is not static.
        unsafe { self.ring.push(entry.user_data(pack(op, token))) }
    }

    /// Takes back what a completion gives up, and tells nobody.
    fn reap(&mut self, completion: &cqueue::Entry) {
        let (op, token) = unpack(completion.user_data()).expect("only our words come back");
        match op {
            Op::Accept => self.reap_accept(token, completion),
            Op::Receive => {
                if let Some(entry) = self.table.find(token).filter(|entry| entry.has(RECEIVING)) {
                    self.receives.try_remove(usize::from(entry.receive_slot));
                }
            }
            Op::Send => {
                if let Some(entry) = self.table.find(token).filter(|entry| entry.has(SENDING)) {
                    self.sends.try_remove(entry.send_slot as usize);
                }
            }
            Op::Wake | Op::Poll | Op::Cancel | Op::Shutdown | Op::Close | Op::Unattended => {}
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        self.pause_accept();
        let sending: Vec<_> = self.table.tokens_with(SENDING).collect();
        for token in sending {
            self.cancel(Op::Send, token);
        }
        for _ in 0..DROP_WAITS_MAX {
            while let Some(completion) = self.ring.next_completion() {
                self.reap(&completion);
            }
            if !self.accepting.is_armed() && self.receives.is_empty() && self.sends.is_empty() {
                return;
            }
            if self.ring.submit_and_wait(1, Some(Duration::from_millis(10))).is_err() {
                break;
            }
        }
        // The kernel would not let go of memory it may still write to. It keeps it.
        std::mem::forget(std::mem::take(&mut self.receives));
        std::mem::forget(std::mem::take(&mut self.sends));
    }
}

/// The flags as the ring takes them; their type differs with what the crate is built on.
fn poll_bits(flags: PollFlags) -> u32 {
    u32::from(u16::from_ne_bytes(flags.bits().to_ne_bytes()))
}

/// What an operation came to: a number, or why not.
fn result_of(completion: &cqueue::Entry) -> Result<u32, Errno> {
    let result = completion.result();
    u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
}
