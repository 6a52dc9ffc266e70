//! The client: a closed loop with a fixed number of messages in flight on each connection.
//!
//! It has to cost less than the server it drives, so frames are built once and answers are counted
//! in bytes. The first answer and a sample of the later ones are compared byte by byte, wherever
//! in the stream they stand, because every answer of a cell is the same.
//!
//! INVARIANT: between two calls of `run` nothing is in flight.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::Socket;

use crate::cell::Cell;
use crate::crowd::{Crowd, Manner};
use crate::frame;

const READ_BYTES: usize = 64 * 1024;
const EVENTS_PER_TURN_MAX: usize = 1024;
/// One of this many reads is compared with what the server should have sent.
const READS_PER_CHECK: u64 = 256;
/// A server that sends nothing for this long is given up.
const STALL_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// All connections to one server.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: OwnedFd,
    conns: Vec<Conn>,
    script: Script,
    buf: Box<[u8]>,
    read_count: u64,
    in_flight: usize,
}

#[derive(Debug)]
struct Conn {
    socket: Socket,
    /// Bytes still to write. Those of whole frames, after the rest of the one begun.
    unsent: usize,
    /// Bytes written of the frame begun.
    frame_offset: usize,
    /// Bytes received of the answer begun.
    reply_offset: usize,
    checked: bool,
}

/// What is said, and what must be answered.
#[derive(Debug)]
struct Script {
    /// `depth` frames in a row, so that as many go out in one write.
    frames: Vec<u8>,
    frame_bytes: usize,
    depth: usize,
    reply: Vec<u8>,
    /// A bare server answers with anything.
    checks: bool,
}

impl Load {
    pub(crate) fn connect(addr: SocketAddr, cell: &Cell, manner: Manner) -> io::Result<Self> {
        let frame = frame::client_frame(cell);
        let script = Script {
            frame_bytes: frame.len(),
            frames: frame.repeat(cell.depth),
            depth: cell.depth,
            reply: frame::server_frame(cell),
            checks: manner == Manner::WebSocket,
        };
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut conns = Vec::with_capacity(cell.conn_count);
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for socket in Crowd::open(addr, cell.conn_count, manner)?.into_sockets() {
            socket.set_nonblocking(true)?;
            let data = EventData::new_u64(conns.len() as u64);
            epoll::add(&epoll, socket.as_fd(), data, interest)?;
            conns.push(Conn {
                socket,
                unsent: 0,
                frame_offset: 0,
                reply_offset: 0,
                checked: false,
            });
        }
        let buf = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Self { epoll, conns, script, buf, read_count: 0, in_flight: 0 })
    }

    /// Talks for `slice`, then waits for the last answers. Returns the messages answered.
    pub(crate) fn run(&mut self, slice: Duration) -> io::Result<u64> {
        assert_eq!(self.in_flight, 0, "the slice before has ended");
        let deadline = Instant::now() + slice;
        for conn in &mut self.conns {
            self.in_flight += self.script.depth;
            conn.say(self.script.depth, &self.script)?;
        }
        let mut answered_count = 0;
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_PER_TURN_MAX);
        while self.in_flight > 0 {
            events.clear();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, Some(&STALL_TIMEOUT)) {
                Ok(0) => return Err(self.stalled(answered_count)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let goes_on = Instant::now() < deadline;
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                answered_count += self.handle_ready(data.u64(), flags, goes_on)? as u64;
            }
        }
        Ok(answered_count)
    }

    /// Returns how many answers became whole.
    fn handle_ready(&mut self, index: u64, flags: EventFlags, goes_on: bool) -> io::Result<usize> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(conn) = self.conns.get_mut(index) else { return Ok(0) };
        if flags.contains(EventFlags::OUT) {
            conn.write(&self.script)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            return Ok(0);
        }
        let count = conn.read(&self.script, &mut self.buf, &mut self.read_count)?;
        if count > self.in_flight {
            return Err(io::Error::other("the server answered more than it was asked"));
        }
        if goes_on && count > 0 {
            conn.say(count, &self.script)?;
        } else {
            self.in_flight -= count;
        }
        Ok(count)
    }

    fn stalled(&self, answered_count: u64) -> io::Error {
        io::Error::other(format!(
            "the server fell silent: {answered_count} messages answered, {} open",
            self.in_flight
        ))
    }
}

impl Conn {
    /// Queues `count` more messages and writes what the socket takes.
    fn say(&mut self, count: usize, script: &Script) -> io::Result<()> {
        self.unsent += count * script.frame_bytes;
        self.write(script)
    }

    fn write(&mut self, script: &Script) -> io::Result<()> {
        while self.unsent > 0 {
            let end = script.frames.len().min(self.frame_offset + self.unsent);
            let bytes = &script.frames[self.frame_offset..end];
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.unsent -= sent;
                    self.frame_offset = (self.frame_offset + sent) % script.frame_bytes;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(io::Error::other(format!("client send: {error}"))),
            }
        }
        Ok(())
    }

    fn read(&mut self, script: &Script, buf: &mut [u8], read_count: &mut u64) -> io::Result<usize> {
        let mut answered_count = 0;
        loop {
            let len = match recv(&self.socket, &mut *buf, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(io::Error::other("the server closed a connection")),
                Ok((len, _)) => len,
                Err(Errno::AGAIN) => return Ok(answered_count),
                Err(error) => return Err(io::Error::other(format!("client receive: {error}"))),
            };
            *read_count += 1;
            if script.checks && (!self.checked || read_count.is_multiple_of(READS_PER_CHECK)) {
                self.check(&buf[..len], &script.reply)?;
            }
            self.reply_offset += len;
            if self.reply_offset >= script.reply.len() {
                answered_count += self.reply_offset / script.reply.len();
                self.reply_offset %= script.reply.len();
                self.checked = true;
            }
            if len < buf.len() {
                return Ok(answered_count);
            }
        }
    }

    /// Compares received bytes with the answers they must be part of.
    fn check(&self, mut bytes: &[u8], reply: &[u8]) -> io::Result<()> {
        let mut offset = self.reply_offset;
        while !bytes.is_empty() {
            let len = bytes.len().min(reply.len() - offset);
            let (head, rest) = bytes.split_at(len);
            if head != &reply[offset..offset + len] {
                return Err(io::Error::other(format!(
                    "the server's answer differs from the message between its bytes {offset} \
                     and {} (a ping would look like this too: take shorter slices)",
                    offset + len
                )));
            }
            bytes = rest;
            offset = 0;
        }
        Ok(())
    }
}
