//! How the ring accepts: one operation for each listener, with its number in the completion.
//!
//! A TCP listener has a multishot accept. A Unix socket is shared by all workers, and the kernel
//! wakes the one that waits in front: with an operation that stays in line, the same worker would
//! be given every connection. So its accept ends with each peer, and is armed again behind those of
//! the other workers.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{cqueue, opcode, squeue, types};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

use super::user_data::Op;
use super::{Socket, UringDriver, result_of};
use crate::io::listeners::{Listeners, narrow};
use crate::io::socket::{self, Listener};
use crate::io::{Completion, Token};

/// The listeners of a ring, and which of them the kernel accepts from.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) listeners: Listeners,
    /// The kernel has the accept of the listener with this number.
    armed: Vec<bool>,
    paused: bool,
    /// Listeners that another process goes on with, until the kernel has let go of our accept.
    released: Vec<Option<Listener>>,
}

/// What becomes of listening sockets that a ring accepts no more from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody listens there any more.
    ShutDown,
    /// Another process does.
    LeftOpen,
}

impl Accepting {
    pub(super) fn new(listeners: Vec<Listener>) -> Self {
        let armed = vec![false; listeners.len()];
        let released = listeners.iter().map(|_| None).collect();
        Self { listeners: Listeners::new(listeners), armed, paused: false, released }
    }

    /// Whether the kernel has an accept.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.contains(&true)
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
    }
}

impl UringDriver {
    /// Arms the accepts that the kernel has not, or has ended.
    pub(super) fn arm_accepts(&mut self) {
        if self.accepting.paused {
            return;
        }
        for number in 0..self.accepting.armed.len() {
            if !self.accepting.armed[number] {
                self.arm_accept(number);
            }
        }
    }

    fn arm_accept(&mut self, number: usize) {
        let Some(listener) = self.accepting.listeners.get(number) else { return };
        let accept = self.accept_of(listener, listener.is_shared());
        self.accepting.armed[number] = true;
        self.push(accept, Op::Accept, owner(number));
    }

    /// An accept of one peer, or of all that come.
    fn accept_of(&self, listener: &Listener, is_single: bool) -> squeue::Entry {
        let flags = i32::from_ne_bytes(SocketFlags::CLOEXEC.bits().to_ne_bytes());
        let fd = types::Fd(listener.as_fd().as_raw_fd());
        // A slot of the file table cannot be inherited, so the flag would be refused.
        match (is_single, &self.slots) {
            (false, None) => opcode::AcceptMulti::new(fd).flags(flags).build(),
            (false, Some(_)) => opcode::AcceptMulti::new(fd).allocate_file_index(true).build(),
            (true, slots) => {
                let (addr, addr_len) = (std::ptr::null_mut(), std::ptr::null_mut());
                let accept = opcode::Accept::new(fd, addr, addr_len);
                match slots {
                    None => accept.flags(flags).build(),
                    Some(_) => {
                        accept.file_index(Some(types::DestinationSlot::auto_target())).build()
                    }
                }
            }
        }
    }

    pub(super) fn pause_accepts(&mut self) {
        self.accepting.paused = true;
        for number in 0..self.accepting.armed.len() {
            if self.accepting.armed[number] {
                self.cancel(Op::Accept, owner(number));
            }
        }
    }

    pub(super) fn close_all_listeners(&mut self, ending: Ending) {
        self.pause_accepts();
        if self.accepting.is_armed() {
            // Before the descriptors are gone: an accept may not have reached the kernel yet, and
            // its number may name another socket soon.
            let _ = self.ring.submit();
        }
        for (number, listener) in self.accepting.listeners.take().into_iter().enumerate() {
            if ending == Ending::LeftOpen {
                if self.accepting.armed[number] {
                    self.accepting.released[number] = Some(listener);
                }
                continue;
            }
            if listener.is_lent() {
                continue;
            }
            // The kernel keeps the socket as long as it has the accept; this ends the listening
            // now. Workers that share it are about to close it, too.
            let _ = rustix::net::shutdown(&listener, Shutdown::Both);
        }
    }

    /// The kernel has let go of the accept of a listener that another process goes on with. A peer may
    /// have woken this accept before it was cancelled. Nobody else was woken for that peer, and would
    /// look before the next one comes, so it is taken here.
    fn finish_release(&mut self, number: usize) {
        let Some(listener) = &self.accepting.released[number] else { return };
        if !listener.has_peer() {
            // Who comes from now on wakes the others.
            self.accepting.released[number] = None;
            return;
        }
        let accept = self.accept_of(listener, true);
        self.accepting.armed[number] = true;
        self.push(accept, Op::Accept, owner(number));
        // The others may be quicker; then it must not wait for the next peer.
        self.cancel(Op::Accept, owner(number));
    }

    pub(super) fn handle_accept(
        &mut self,
        token: Token,
        result: Result<u32, Errno>,
        is_last: bool,
    ) -> Option<Completion<Socket>> {
        let number = number_of(token);
        self.accepting.armed[number] &= !is_last;
        match result {
            Ok(_) | Err(Errno::CANCELED) if is_last => self.finish_release(number),
            // It would fail again.
            Err(_) => self.accepting.released[number] = None,
            Ok(_) => {}
        }
        match result {
            Ok(raw) => {
                Some(Completion::Accepted { socket: self.accepted(raw), listener: narrow(number) })
            }
            Err(Errno::CANCELED) => None,
            // Shutting the listening socket down makes the accept fail.
            Err(_) if self.accepting.listeners.is_empty() => None,
            Err(errno) => {
                let exhausted = socket::pauses_accept(errno);
                if exhausted {
                    self.pause_accepts();
                }
                Some(Completion::AcceptFailed { error: errno.into(), exhausted })
            }
        }
    }

    /// As `handle_accept`, for a driver that is being dropped: the peer is, too.
    pub(super) fn reap_accept(&mut self, token: Token, completion: &cqueue::Entry) {
        self.accepting.armed[number_of(token)] &= cqueue::more(completion.flags());
        drop(result_of(completion).map(|raw| self.accepted(raw)));
    }

    /// The socket that an accept answered with.
    fn accepted(&self, raw: u32) -> Socket {
        match &self.slots {
            Some(slots) => slots.own(raw),
            None => {
                let fd = RawFd::try_from(raw).expect("a descriptor is an i32");
                // SAFETY: the kernel has just made this descriptor and told nobody else.
                Socket::Descriptor(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }
    }
}

/// What stands in the place of a connection in the word of an accept.
fn owner(number: usize) -> Token {
    Token { index: u32::from(narrow(number)), generation: 0 }
}

/// The listener of an accept.
fn number_of(token: Token) -> usize {
    token.index as usize
}
