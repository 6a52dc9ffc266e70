//! All contact with the kernel: the contract between a worker and the driver below it.
//!
//! The seam speaks completions, never readiness. A driver watches each attached socket; when bytes
//! have arrived it receives them into a block and hands the block over. Sends, closes and receives
//! into a given place are submitted and answered. Blocks move by value in both directions, so the
//! kernel and the worker can never hold the same memory.
//!
//! Rules every driver keeps, and the worker relies on:
//!
//! - After `attach`, bytes of the peer come as [`Completion::Received`], in order, until
//!   [`Completion::PeerClosed`] (end of stream) or [`Completion::Failed`], each at most once.
//! - At most one send of a connection is in flight; the worker sees to that, drivers assert it.
//!   Each `submit_send` is answered by exactly one [`Completion::Sent`], unless `submit_close`
//!   comes first.
//! - A driver with several listeners accepts from them in turn: peers of one do not keep those of
//!   another waiting. Pausing, resuming and closing are for all of them.
//! - A driver receives only into blocks the pool has. When it has none, ready connections wait
//!   in line and go on when blocks return; nobody is closed for lack of memory.
//! - After `submit_close` exactly one [`Completion::Closed`] arrives, it is the last that carries
//!   the token, and it comes only when the kernel has let go of every block of that connection
//!   (the driver gives these back to the pool itself).
//! - `poll_completion` hands out each block as soon as it is filled and returns `None` when the
//!   worker has to give blocks back, or flush, or wait, before there can be more.
//!
//! Drivers know tokens and sockets; they know nothing of connections, frames or deadlines.

pub(crate) mod activation;
pub(crate) mod addr;
pub(crate) mod affinity;
pub(crate) mod backend;
pub(crate) mod epoll;
pub(crate) mod heap;
pub(crate) mod lease;
pub(crate) mod listeners;
pub(crate) mod memory_limit;
#[cfg(test)]
pub(crate) mod sim;
pub(crate) mod socket;
mod table;
#[cfg(test)]
mod tests;
mod unix;
pub(crate) mod uring;
pub(crate) mod wake;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use self::addr::PeerAddr;
use crate::buf::{Block, Pool, Segment};

/// Names one connection of a worker: its slot, and which use of the slot this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    /// Slot in the worker's table.
    pub(crate) index: u32,
    /// Counts the uses of the slot; 24 bits, wraps.
    pub(crate) generation: u32,
}

impl Token {
    /// Largest generation; the next use starts at 0 again.
    pub(crate) const GENERATION_MAX: u32 = (1 << 24) - 1;

    /// The same slot, used once more.
    pub(crate) fn next_generation(generation: u32) -> u32 {
        if generation == Self::GENERATION_MAX { 0 } else { generation + 1 }
    }
}

/// What a send does when the socket takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Complete at once with what was taken, possibly nothing.
    Try,
    /// Complete when at least one byte was taken.
    Wait,
}

/// How a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Queued bytes still reach the peer.
    Orderly,
    /// Drop queued bytes and reset.
    Reset,
}

/// What a driver has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// System calls that submit, or wait for something to happen.
    pub(crate) waits: u64,
    /// Operations that the kernel has taken from a ring.
    pub(crate) submissions: u64,
    /// How often the kernel had more completions than room (row U05).
    pub(crate) completion_overflows: u64,
    /// How often there was no room for an operation, so that it had to wait for an enter (row U06).
    pub(crate) submission_stalls: u64,
    /// How often a receive had to wait for a free block (row U03).
    pub(crate) receives_parked: u64,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Completion<S> {
    /// A peer connected. `attach` the socket, or drop it to refuse.
    Accepted {
        /// Its socket.
        socket: S,
        /// Which listener it came by, in the order in which the driver was given them.
        listener: u8,
    },
    /// Accepting failed. The driver goes on by itself after errors of one peer; for
    /// `exhausted` ones it has paused, and `resume_accept` makes it try again.
    AcceptFailed {
        /// Why.
        error: io::Error,
        /// Descriptors or memory have run out (EMFILE, ENFILE, ENOBUFS, ENOMEM).
        exhausted: bool,
    },
    /// `block[..len]` are the next bytes of the peer; `len > 0`. The block is the worker's.
    Received {
        /// Whose bytes.
        token: Token,
        /// Where they are.
        block: Block,
        /// How many.
        len: usize,
    },
    /// `block[start..start + len]` are the next bytes of the peer, in the block and at the place
    /// that `submit_receive_into` named; `len > 0`.
    ReceivedInto {
        /// Whose bytes.
        token: Token,
        /// The block that was submitted.
        block: Block,
        /// How many bytes came.
        len: usize,
    },
    /// The peer will send no more. A block that was waiting to be received into comes back.
    PeerClosed {
        /// Whose stream ended.
        token: Token,
    },
    /// The connection broke (reset, timed out). Only `submit_close` is left to do.
    Failed {
        /// Which connection.
        token: Token,
        /// Why.
        error: io::Error,
    },
    /// Answer to `submit_send`: the first `sent` bytes of the segment were taken. `sent` may be
    /// less than its length: short, or nothing at all after `Patience::Try`.
    Sent {
        /// Which connection.
        token: Token,
        /// The segment that was submitted, not yet advanced.
        segment: Segment,
        /// How many bytes the kernel took.
        sent: usize,
    },
    /// Answer to `submit_close`; the last completion with this token.
    Closed {
        /// Which connection.
        token: Token,
    },
    /// Another thread used the wake handle.
    Woken,
}

/// What a worker asks of the kernel. See the module's rules.
pub(crate) trait Driver {
    /// An accepted socket that is not attached yet. Dropping it closes it.
    type Socket;

    /// Whether `submit_send` does the system call itself, so that it pays to send each reply while
    /// its bytes are hot rather than all of them at the end of the turn.
    const SENDS_AT_ONCE: bool;

    /// The time. A worker asks once per turn.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// By which other threads end a wait; it is answered by [`Completion::Woken`].
    fn wake_handle(&self) -> wake::Wake;

    /// Starts to watch a socket under `token`. On error the socket is closed.
    fn attach(&mut self, token: Token, socket: Self::Socket) -> io::Result<()>;

    /// Sends a segment. The answer is `Sent`, or `Failed`.
    fn submit_send(&mut self, token: Token, segment: Segment, patience: Patience);

    /// The next bytes of this peer go to `block[start..end]` and are announced by `ReceivedInto`.
    /// Holds for one completion.
    fn submit_receive_into(&mut self, token: Token, block: Block, start: usize, end: usize);

    /// No more bytes of this peer until `resume_receive`. Bytes already received may still come.
    fn pause_receive(&mut self, token: Token);

    /// Undoes `pause_receive`.
    fn resume_receive(&mut self, token: Token);

    /// Tells the peer that no more bytes follow (FIN). No send may be in flight.
    fn shutdown_write(&mut self, token: Token);

    /// Gives the connection up, whatever is in flight.
    fn submit_close(&mut self, token: Token, closing: Closing);

    /// Accepts no more, by any listener, until `resume_accept`.
    fn pause_accept(&mut self);

    /// Accepts again.
    fn resume_accept(&mut self);

    /// Accepts and closes at once one waiting peer although no descriptor is left, by means of a
    /// descriptor held in reserve; of each listener in turn. Returns whether there was one.
    fn shed_one(&mut self) -> bool;

    /// Stops listening for good: the listening sockets are closed.
    fn close_listeners(&mut self);

    /// Stops accepting for good. The listening sockets go on for another process that has them,
    /// and peers that wait there are its own; those accepted by then are still reported.
    fn release_listeners(&mut self);

    /// The address of the peer, asked of the kernel (nothing is stored).
    fn peer_addr(&self, token: Token) -> io::Result<PeerAddr>;

    /// The kernel's estimate of the round trip to the peer, if it has one.
    fn round_trip(&self, token: Token) -> Option<Duration>;

    /// What was counted so far. No system call.
    fn health(&self) -> Health;

    /// The next thing that happened, if it can be had without waiting.
    fn poll_completion(&mut self, pool: &mut Pool) -> Option<Completion<Self::Socket>>;

    /// Submits what is queued, then waits for something to happen, for `timeout` at most (`None`:
    /// without end; zero: do not wait). Returns at once if `poll_completion` has something.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

/// A driver that also watches sockets which this process has opened.
pub(crate) trait Outgoing: Driver {
    /// As [`Driver::attach`], for a socket that is connected, or about to be. If it cannot connect,
    /// `Failed` tells.
    fn attach_outgoing(&mut self, token: Token, socket: OwnedFd) -> io::Result<()>;
}
