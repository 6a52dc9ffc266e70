//! The floor with epoll: accept, register once, receive until short, send what is owed.
//!
//! No frames, no limits, no deadlines; for a client that insists on WebSocket it answers handshakes
//! and writes frame headers, and still reads nothing. One buffer, always hot, serves every receive and send; the
//! content of what goes out is whatever lies in it. Ends only when its parent kills it, or when
//! something is wrong with the machine.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::debt::{Debt, Exchange};
use crate::{frame, upgrade};

const LISTENER: u64 = u64::MAX;
const EVENTS_PER_TURN_MAX: usize = 1024;
/// What a connection is watched for.
const WATCH: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

struct Conn {
    fd: OwnedFd,
    debt: Debt,
    awaits_room: bool,
    /// The opening handshake is over, or there is none.
    opened: bool,
}

struct Server {
    epoll: OwnedFd,
    exchange: Exchange,
    conns: slab::Slab<Conn>,
    hot: Box<[u8]>,
}

/// Serves until killed.
pub(crate) fn serve(listener: &TcpListener, exchange: Exchange) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut server = Server {
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        exchange,
        conns: slab::Slab::new(),
        hot: vec![0; exchange.hot_bytes as usize].into_boxed_slice(),
    };
    epoll::add(
        &server.epoll,
        listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN | EventFlags::ET,
    )?;
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS_PER_TURN_MAX);
    loop {
        events.clear();
        match epoll::wait(&server.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (flags, data) = (event.flags, event.data);
            if data.u64() == LISTENER {
                server.accept_all(listener)?;
            } else {
                server.handle_ready(usize::try_from(data.u64()).unwrap_or(usize::MAX), flags);
            }
        }
    }
}

impl Server {
    fn accept_all(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let fd = match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(io::Error::other(format!("accept: {error}"))),
            };
            let entry = self.conns.vacant_entry();
            let data = EventData::new_u64(entry.key() as u64);
            epoll::add(&self.epoll, fd.as_fd(), data, WATCH)?;
            let opened = !self.exchange.speaks;
            entry.insert(Conn { fd, debt: Debt::default(), awaits_room: false, opened });
        }
    }

    fn handle_ready(&mut self, index: usize, flags: EventFlags) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut goes_on = !flags.contains(EventFlags::OUT) || pay(conn, &self.hot, self.exchange);
        if goes_on && (ended || flags.contains(EventFlags::IN)) {
            goes_on = receive_until_short(conn, &mut self.hot, self.exchange, ended);
        }
        if goes_on && conn.debt.owed > 0 && !conn.awaits_room {
            // Watched for room only once there was none: most sockets never are.
            conn.awaits_room = true;
            let data = EventData::new_u64(index as u64);
            goes_on = epoll::modify(&self.epoll, &conn.fd, data, WATCH | EventFlags::OUT).is_ok();
        }
        if !goes_on {
            self.conns.remove(index);
        }
    }
}

/// Receives and answers. Returns whether the connection goes on.
///
/// A receive that came short has drained the socket, and the next bytes make a new edge; but the
/// end of the stream, once reported, is not reported again, so then it goes on until it is found.
fn receive_until_short(conn: &mut Conn, hot: &mut [u8], exchange: Exchange, ended: bool) -> bool {
    loop {
        let len = match recv(&conn.fd, &mut *hot, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok((len, _)) => len,
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        };
        if !conn.opened {
            conn.opened = true;
            return upgrade::answer(&conn.fd, &hot[..len]).is_ok();
        }
        conn.debt.handle_received(len, exchange);
        if exchange.speaks {
            frame::fill_empty(&mut hot[..conn.debt.owed], exchange.reply_bytes);
        }
        if !pay(conn, hot, exchange) {
            return false;
        }
        if len < hot.len() && !ended {
            return true;
        }
    }
}

/// Sends what is owed, as far as the socket takes it. Returns whether the connection goes on.
fn pay(conn: &mut Conn, hot: &[u8], exchange: Exchange) -> bool {
    while conn.debt.owed > 0 {
        let bytes = &hot[..conn.debt.send_bytes(exchange.hot_bytes) as usize];
        match send(&conn.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => conn.debt.owed -= sent,
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}
