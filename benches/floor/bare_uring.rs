//! The floor with io_uring: multishot accept, multishot poll, receive on readiness, batched sends.
//!
//! The same calls as the io_uring driver of the library and nothing above them. Each turn is one
//! enter: it submits what the last turn queued and waits until all sends of that batch and one
//! more thing are done, so that their completions cost no enter of their own.
//!
//! One leaked buffer serves every receive and send. The kernel may write to it for one connection
//! while it sends from it for another; the bytes mean nothing, and this program never reads them.

#![expect(unsafe_code, reason = "a bare ring takes addresses; the crate's push is unsafe")]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::debt::{Debt, Exchange};

const SQ_ENTRIES: u32 = 1024;
const CQ_ENTRIES: u32 = 4 * SQ_ENTRIES;

const ACCEPT: u64 = 0;
const POLL: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const RELEASE: u64 = 4;

/// user_data: what was asked in the low byte, the connection above it.
fn user_data(kind: u64, index: usize) -> u64 {
    kind | (index as u64) << 8
}

struct Conn {
    fd: RawFd,
    debt: Debt,
    receive_submitted: bool,
    send_submitted: bool,
    /// Bytes came while a receive was already in flight.
    ready_again: bool,
}

struct Server {
    ring: IoUring,
    listener: RawFd,
    exchange: Exchange,
    /// Slots are not reused: a late completion then finds nobody instead of a stranger.
    conns: Vec<Option<Conn>>,
    hot: *mut u8,
    sends_submitted: usize,
}

/// Serves until killed.
pub(crate) fn serve(listener: &TcpListener, exchange: Exchange) -> io::Result<()> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(CQ_ENTRIES)
        .build(SQ_ENTRIES)
        .map_err(|error| io::Error::other(format!("io_uring_setup: {error}; try epoll")))?;
    let hot = Box::leak(vec![0; exchange.hot_bytes as usize].into_boxed_slice()).as_mut_ptr();
    let mut server = Server {
        ring,
        listener: listener.as_raw_fd(),
        exchange,
        conns: Vec::new(),
        hot,
        sends_submitted: 0,
    };
    server.submit_accept()?;
    let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(CQ_ENTRIES as usize);
    loop {
        let want = server.sends_submitted + 1;
        match server.ring.submit_and_wait(want) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        completions.extend(server.ring.completion());
        for cqe in completions.drain(..) {
            server.handle_completion(&cqe)?;
        }
    }
}

impl Server {
    fn handle_completion(&mut self, cqe: &cqueue::Entry) -> io::Result<()> {
        let index = usize::try_from(cqe.user_data() >> 8).unwrap_or(usize::MAX);
        let goes_on = cqueue::more(cqe.flags());
        match cqe.user_data() & 0xff {
            ACCEPT => self.handle_accepted(cqe.result(), goes_on),
            POLL => self.handle_ready(index, cqe.result(), goes_on),
            RECEIVE => self.handle_received(index, cqe.result()),
            SEND => self.handle_sent(index, cqe.result()),
            _ => Ok(()),
        }
    }

    fn handle_accepted(&mut self, result: i32, goes_on: bool) -> io::Result<()> {
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            return Err(io::Error::other(format!("accept: {error}")));
        }
        let index = self.conns.len();
        self.conns.push(Some(Conn {
            fd: result,
            debt: Debt::default(),
            receive_submitted: false,
            send_submitted: false,
            ready_again: false,
        }));
        if !goes_on {
            self.submit_accept()?;
        }
        self.submit_poll(index, result)
    }

    fn handle_ready(&mut self, index: usize, result: i32, goes_on: bool) -> io::Result<()> {
        let Some(conn) = conn_mut(&mut self.conns, index) else { return Ok(()) };
        if result < 0 {
            return self.close(index);
        }
        let fd = conn.fd;
        conn.ready_again |= conn.receive_submitted;
        let receives = !conn.receive_submitted;
        conn.receive_submitted = true;
        if receives {
            self.submit_receive(index, fd)?;
        }
        if goes_on { Ok(()) } else { self.submit_poll(index, fd) }
    }

    fn handle_received(&mut self, index: usize, result: i32) -> io::Result<()> {
        let Some(conn) = conn_mut(&mut self.conns, index) else { return Ok(()) };
        conn.receive_submitted = false;
        let again = std::mem::take(&mut conn.ready_again);
        let Ok(len) = usize::try_from(result) else {
            // A receive after readiness may find nothing: the bytes went with the one before.
            return if -result == Errno::AGAIN.raw_os_error() { Ok(()) } else { self.close(index) };
        };
        if len == 0 {
            return self.close(index);
        }
        conn.debt.handle_received(len, self.exchange);
        let fd = conn.fd;
        let sends = conn.debt.owed > 0 && !conn.send_submitted;
        if len == self.exchange.hot_bytes as usize || again {
            conn.receive_submitted = true;
            self.submit_receive(index, fd)?;
        }
        if sends { self.submit_send(index) } else { Ok(()) }
    }

    fn handle_sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        self.sends_submitted -= 1;
        let Some(conn) = conn_mut(&mut self.conns, index) else { return Ok(()) };
        conn.send_submitted = false;
        let Ok(sent) = usize::try_from(result) else { return self.close(index) };
        conn.debt.owed -= sent;
        if conn.debt.owed > 0 { self.submit_send(index) } else { Ok(()) }
    }

    fn submit_accept(&mut self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC.bits().cast_signed();
        let sqe = opcode::AcceptMulti::new(types::Fd(self.listener)).flags(flags).build();
        self.push(&sqe.user_data(user_data(ACCEPT, 0)))
    }

    fn submit_poll(&mut self, index: usize, fd: RawFd) -> io::Result<()> {
        let interest = u32::from((PollFlags::IN | PollFlags::RDHUP).bits());
        let sqe = opcode::PollAdd::new(types::Fd(fd), interest).multi(true).build();
        self.push(&sqe.user_data(user_data(POLL, index)))
    }

    fn submit_receive(&mut self, index: usize, fd: RawFd) -> io::Result<()> {
        let flags = RecvFlags::DONTWAIT.bits().cast_signed();
        let sqe = opcode::Recv::new(types::Fd(fd), self.hot, self.exchange.hot_bytes).flags(flags);
        self.push(&sqe.build().user_data(user_data(RECEIVE, index)))
    }

    /// Waits in the kernel until all is taken: a short send would have to be noticed by a turn
    /// that waits for one more completion than there is.
    fn submit_send(&mut self, index: usize) -> io::Result<()> {
        let Some(conn) = conn_mut(&mut self.conns, index) else { return Ok(()) };
        conn.send_submitted = true;
        let flags = SendFlags::NOSIGNAL.bits().cast_signed() | MSG_WAITALL;
        let bytes = conn.debt.send_bytes(self.exchange.hot_bytes);
        let sqe = opcode::Send::new(types::Fd(conn.fd), self.hot, bytes).flags(flags).build();
        self.sends_submitted += 1;
        self.push(&sqe.user_data(user_data(SEND, index)))
    }

    fn close(&mut self, index: usize) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(index).and_then(Option::take) else { return Ok(()) };
        // The armed poll holds the file; without the cancel the peer would never see the end.
        let cancel = opcode::AsyncCancel::new(user_data(POLL, index)).build();
        self.push(&cancel.user_data(user_data(RELEASE, index)))?;
        let close = opcode::Close::new(types::Fd(conn.fd)).build();
        self.push(&close.user_data(user_data(RELEASE, index)))
    }

    fn push(&mut self, sqe: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the only memory an entry of this file names is `hot`, which is leaked (so it
            // outlives the ring) and of which no reference exists; `hot_bytes` bounds each length.
            let pushed = unsafe { self.ring.submission().push(sqe) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

/// From `linux/socket.h`; rustix names it for receiving only.
const MSG_WAITALL: i32 = 0x100;

fn conn_mut(conns: &mut [Option<Conn>], index: usize) -> Option<&mut Conn> {
    conns.get_mut(index)?.as_mut()
}
