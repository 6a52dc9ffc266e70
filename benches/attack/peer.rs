//! One connection of an attacker: it never blocks, and knows what it was answered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::answer::{Answer, Listener};

/// A server whose backlog is full lets a connect wait for longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const READ_BYTES: usize = 16 * 1024;

/// What a connection is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// It speaks TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What it gets are records of TLS, though it speaks none that is understood.
    pub(crate) hears_records: bool,
    /// It has little room for what it does not read.
    pub(crate) receive_bytes: Option<usize>,
    /// It leaves with a reset.
    pub(crate) leaves_by_reset: bool,
}

/// A connection of an attacker.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    unsent: Vec<u8>,
    /// INVARIANT: at most `unsent.len()`.
    unsent_from: usize,
    listener: Listener,
    end: Option<Answer>,
    pub(crate) opened_at: Instant,
    /// Which connection of its attack it is.
    pub(crate) number: u32,
    /// How far the attack has come with it; its meaning is the attack's.
    pub(crate) step: u32,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

impl Peer {
    pub(crate) fn connect(addr: SocketAddr, manner: &Manner, number: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(bytes) = manner.receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if manner.leaves_by_reset {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        socket.connect_timeout(&addr.into(), CONNECT_TIMEOUT)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let tls = match &manner.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name);
                let mut session = session.map_err(io::Error::other)?;
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
        };
        let listener = if manner.hears_records { Listener::records() } else { Listener::http() };
        Ok(Self {
            socket: socket.into(),
            tls,
            unsent: Vec::new(),
            unsent_from: 0,
            listener,
            end: None,
            opened_at: Instant::now(),
            number,
            step: 0,
            sent_bytes: 0,
            received_bytes: 0,
        })
    }

    /// Sends what fits and keeps the rest for the next [`flush`](Self::flush).
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.unsent.extend_from_slice(bytes),
            // Nothing fails in memory; a session that has failed says so when it is read.
            Some(session) => drop(session.writer().write_all(bytes)),
        }
        self.flush();
    }

    /// Whether all is on its way.
    pub(crate) fn is_clear(&self) -> bool {
        self.unsent_from == self.unsent.len()
    }

    /// Whether the upgrade was granted.
    pub(crate) fn is_open(&self) -> bool {
        self.listener.is_open()
    }

    /// Whether the server has said why it will end it.
    pub(crate) fn has_answer(&self) -> bool {
        self.listener.answer().is_some()
    }

    /// Whether the server has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Ends our side alone.
    pub(crate) fn shut_down_write(&mut self) {
        // It fails only if the connection has ended, which is noticed when it is read.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    pub(crate) fn flush(&mut self) {
        if let Some(session) = &mut self.tls {
            while session.wants_write() && session.write_tls(&mut self.unsent).is_ok() {}
        }
        while self.unsent_from < self.unsent.len() && self.end.is_none() {
            match self.socket.write(&self.unsent[self.unsent_from..]) {
                Ok(count) => {
                    self.unsent_from += count;
                    self.sent_bytes += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.fail_to_send(&error),
            }
        }
        self.unsent.clear();
        self.unsent_from = 0;
    }

    /// Notices a reset without reading what came before it.
    pub(crate) fn look_for_reset(&mut self) {
        if matches!(SockRef::from(&self.socket).take_error(), Ok(Some(_)) | Err(_)) {
            self.end.get_or_insert(Answer::Reset);
        }
    }

    /// Reads at most so many bytes.
    pub(crate) fn receive(&mut self, byte_count: usize) {
        let mut buf = [0; READ_BYTES];
        let mut left = byte_count;
        while left > 0 && self.end.is_none() {
            let room = left.min(buf.len());
            match self.socket.read(&mut buf[..room]) {
                Ok(0) => self.end = Some(Answer::Closed),
                Ok(count) => {
                    left -= count;
                    self.received_bytes += count as u64;
                    self.hear(&buf[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.end = Some(Answer::Reset),
            }
        }
    }

    /// How it ended, if it has; else that we left.
    pub(crate) fn verdict(&self) -> Answer {
        if let Some(answer) = self.listener.answer() {
            return answer;
        }
        match self.end {
            None => Answer::Left,
            Some(_) if self.tls.as_ref().is_some_and(|session| session.is_handshaking()) => {
                Answer::TurnedAway
            }
            Some(end) => end,
        }
    }

    fn fail_to_send(&mut self, error: &io::Error) {
        // What the server said before may still be there to be read.
        self.receive(usize::MAX);
        // A reset is told once, here; the stream then only seems to end.
        if self.end.is_none() || error.kind() == ErrorKind::ConnectionReset {
            self.end = Some(Answer::Reset);
        }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        let Some(session) = &mut self.tls else {
            self.listener.hear(bytes);
            return;
        };
        while !bytes.is_empty() {
            if session.read_tls(&mut bytes).is_err() || session.process_new_packets().is_err() {
                self.end = Some(Answer::Alert);
                return;
            }
            let mut plain = [0; READ_BYTES];
            while let Ok(count @ 1..) = session.reader().read(&mut plain) {
                self.listener.hear(&plain[..count]);
            }
        }
    }
}
