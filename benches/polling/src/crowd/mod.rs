//! All clients, in one event loop on one thread: what they send and receive is counted to the byte.
//!
//! A connection is opened before anything is measured, and stays. A client asks for nothing while an
//! answer is outstanding. Anything a server must not do ends the run with an error; updates that are
//! missing, come twice or in the wrong order do not, but are counted by the ledger.

mod http;
mod ledger;
mod rhythm;
mod websocket;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Sub;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

pub(crate) use http::Headers;
pub(crate) use ledger::{Faults, Ledger, quantile};

use crate::clock::{self, SECOND_NS};
use crate::update::Update;
use crate::way::Way;
use rhythm::Rhythm;
use websocket::Frame;

/// Clients connected before the first of them must have been answered. Well below the backlog.
const WAVE_CLIENTS: usize = 256;
/// In which a wave must be answered.
const WAVE_TIMEOUT_NS: u64 = 10 * SECOND_NS;
const BLOCK_BYTES: usize = 16 * 1024;
const EVENTS_MAX: usize = 1024;

/// What has gone over the connections so far, counted by the clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) requests: u64,
    /// Answers, or messages, with an update.
    pub(crate) updates: u64,
    /// Answers that there is none.
    pub(crate) empty: u64,
    pub(crate) pings: u64,
    /// Polls left out because the answer to the one before was still outstanding.
    pub(crate) skipped: u64,
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_bytes: self.received_bytes - before.received_bytes,
            requests: self.requests - before.requests,
            updates: self.updates - before.updates,
            empty: self.empty - before.empty,
            pings: self.pings - before.pings,
            skipped: self.skipped - before.skipped,
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first answer is outstanding.
    Opening,
    /// Nothing is outstanding.
    Open,
    /// An answer is outstanding.
    Asked,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    stage: Stage,
    /// The beginning of something that is not there whole.
    unread: Vec<u8>,
    /// What the kernel has not taken yet.
    unsent: Vec<u8>,
}

/// Many clients of one server.
#[derive(Debug)]
pub(crate) struct Crowd {
    way: Way,
    headers: Headers,
    epoll: OwnedFd,
    clients: Vec<Client>,
    opened: usize,
    rhythm: Option<Rhythm>,
    traffic: Traffic,
    ledger: Ledger,
    /// Room for what is received, and for what is sent.
    block: Vec<u8>,
    message: Vec<u8>,
}

impl Crowd {
    /// Connects all clients, and returns when each has been answered once.
    pub(crate) fn open(
        way: Way,
        headers: Headers,
        addr: SocketAddr,
        clients: usize,
    ) -> io::Result<Self> {
        let mut crowd = Self {
            way,
            headers,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            clients: Vec::with_capacity(clients),
            opened: 0,
            rhythm: None,
            traffic: Traffic::default(),
            ledger: Ledger::new(clients),
            block: vec![0; BLOCK_BYTES],
            message: Vec::new(),
        };
        while crowd.clients.len() < clients {
            for _ in 0..WAVE_CLIENTS.min(clients - crowd.clients.len()) {
                crowd.connect(addr)?;
            }
            let deadline_ns = clock::now_ns() + WAVE_TIMEOUT_NS;
            crowd.run_until(deadline_ns, |crowd| crowd.opened == crowd.clients.len())?;
            if crowd.opened < crowd.clients.len() {
                let missing = crowd.clients.len() - crowd.opened;
                return Err(io::Error::other(format!(
                    "{missing} clients had no answer within 10 s of connecting"
                )));
            }
        }
        Ok(crowd)
    }

    /// From now on the clients want updates.
    pub(crate) fn begin(&mut self, poll_period_ns: u64) -> io::Result<()> {
        match self.way {
            Way::Poll => {
                let now_ns = clock::now_ns();
                self.rhythm = Some(Rhythm::new(now_ns, poll_period_ns, self.clients.len()));
            }
            Way::LongPoll => {
                for index in 0..self.clients.len() {
                    self.ask(index)?;
                }
            }
            Way::Push => {}
        }
        Ok(())
    }

    /// Handles what comes until that instant, or until `done`.
    pub(crate) fn run_until(
        &mut self,
        deadline_ns: u64,
        done: impl Fn(&Self) -> bool,
    ) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        while !done(self) {
            self.poll_those_due()?;
            let now_ns = clock::now_ns();
            if now_ns >= deadline_ns {
                break;
            }
            let due_ns = self.rhythm.as_ref().map_or(u64::MAX, Rhythm::next_due_ns);
            let timeout = clock::timespec(due_ns.min(deadline_ns).saturating_sub(now_ns));
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
                let flags = event.flags;
                self.handle_event(index, flags)
                    .map_err(|error| io::Error::other(format!("client {index}: {error}")))?;
            }
        }
        Ok(())
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The bytes of one request as the clients send it now.
    pub(crate) fn request_bytes(&self) -> usize {
        let mut request = Vec::new();
        match self.way {
            Way::Poll => http::put_request(&mut request, "poll", 1000, 1, self.headers),
            Way::LongPoll => http::put_request(&mut request, "wait", 1000, 1, self.headers),
            Way::Push => websocket::put_upgrade(&mut request, 1000, self.headers),
        }
        request.len()
    }

    fn connect(&mut self, addr: SocketAddr) -> io::Result<()> {
        // Blocking: over loopback the kernel answers by itself, at once.
        let stream = TcpStream::connect(addr).map_err(|error| {
            io::Error::other(format!("client {} cannot connect: {error}", self.clients.len()))
        })?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let index = self.clients.len();
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(index as u64), interest)?;
        let (unread, unsent) = (Vec::new(), Vec::new());
        self.clients.push(Client { stream, stage: Stage::Opening, unread, unsent });
        self.message.clear();
        match self.way {
            Way::Poll | Way::LongPoll => {
                http::put_request(&mut self.message, "poll", index, 0, self.headers);
            }
            Way::Push => websocket::put_upgrade(&mut self.message, index, self.headers),
        }
        self.traffic.requests += 1;
        self.send_message(index)
    }

    fn poll_those_due(&mut self) -> io::Result<()> {
        let now_ns = clock::now_ns();
        while let Some(index) = self.rhythm.as_mut().and_then(|rhythm| rhythm.poll_due(now_ns)) {
            if self.clients[index].stage == Stage::Open {
                self.ask(index)?;
            } else {
                self.traffic.skipped += 1;
            }
        }
        Ok(())
    }

    /// Sends a request for what is newer than the client has.
    fn ask(&mut self, index: usize) -> io::Result<()> {
        let route = if self.way == Way::Poll { "poll" } else { "wait" };
        let after = self.ledger.newest(index);
        self.message.clear();
        http::put_request(&mut self.message, route, index, after, self.headers);
        self.clients[index].stage = Stage::Asked;
        self.traffic.requests += 1;
        self.send_message(index)
    }

    /// Sends what lies in `message`.
    fn send_message(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        client.unsent.extend_from_slice(&self.message);
        self.flush(index)
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let Client { stream, unsent, .. } = &mut self.clients[index];
        while !unsent.is_empty() {
            match stream.write(unsent) {
                Ok(count) => {
                    self.traffic.sent_bytes += count as u64;
                    unsent.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, index: usize, flags: EventFlags) -> io::Result<()> {
        if flags.contains(EventFlags::OUT) {
            self.flush(index)?;
        }
        // With an end in sight, all is read up to it.
        let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        while flags.contains(EventFlags::IN) || ending {
            match self.clients[index].stream.read(&mut self.block) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(count) => {
                    let now_ns = clock::now_ns();
                    self.traffic.received_bytes += count as u64;
                    self.handle_bytes(index, count, now_ns)?;
                    // Edge-triggered: what comes after a short read makes a new event.
                    if count < BLOCK_BYTES && !ending {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes apart what lies in the block, behind what was left of the time before.
    fn handle_bytes(&mut self, index: usize, count: usize, now_ns: u64) -> io::Result<()> {
        let mut unread = std::mem::take(&mut self.clients[index].unread);
        unread.extend_from_slice(&self.block[..count]);
        let mut taken = 0;
        while taken < unread.len() {
            let handled = self.handle_next(index, &unread[taken..], now_ns)?;
            if handled == 0 {
                break;
            }
            taken += handled;
        }
        unread.drain(..taken);
        self.clients[index].unread = unread;
        Ok(())
    }

    /// Handles one answer or frame and returns its bytes; 0 if it is not there whole.
    fn handle_next(&mut self, index: usize, bytes: &[u8], now_ns: u64) -> io::Result<usize> {
        match (self.way, self.clients[index].stage) {
            (Way::Push, Stage::Opening) => {
                let taken = websocket::parse_upgrade(bytes).map_err(io::Error::other)?;
                if taken.is_some() {
                    self.note_open(index);
                }
                Ok(taken.unwrap_or(0))
            }
            (Way::Push, Stage::Open | Stage::Asked) => {
                let frame = websocket::parse_frame(bytes).map_err(io::Error::other)?;
                let Some((frame, taken)) = frame else { return Ok(0) };
                self.handle_frame(index, &frame, now_ns)?;
                Ok(taken)
            }
            (Way::Poll | Way::LongPoll, Stage::Open) => {
                Err(io::Error::other("the server answered what nobody had asked"))
            }
            (Way::Poll | Way::LongPoll, stage) => {
                let answer = http::parse_answer(bytes).map_err(io::Error::other)?;
                let Some((answer, taken)) = answer else { return Ok(0) };
                self.handle_answer(index, stage, &answer, now_ns)?;
                Ok(taken)
            }
        }
    }

    fn handle_answer(
        &mut self,
        index: usize,
        stage: Stage,
        answer: &http::Answer<'_>,
        now_ns: u64,
    ) -> io::Result<()> {
        match answer.status {
            200 => self.handle_update(index, answer.body, now_ns)?,
            204 => self.traffic.empty += 1,
            status => return Err(io::Error::other(format!("the server answered {status}"))),
        }
        if stage == Stage::Opening {
            self.note_open(index);
            return Ok(());
        }
        self.clients[index].stage = Stage::Open;
        if self.way == Way::LongPoll { self.ask(index) } else { Ok(()) }
    }

    fn handle_frame(&mut self, index: usize, frame: &Frame<'_>, now_ns: u64) -> io::Result<()> {
        match frame {
            Frame::Text(payload) => self.handle_update(index, payload, now_ns),
            Frame::Ping(payload) => {
                self.traffic.pings += 1;
                self.message.clear();
                websocket::put_pong(&mut self.message, payload).map_err(io::Error::other)?;
                self.send_message(index)
            }
            Frame::Close(code) => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
                Err(io::Error::other(format!("the server closes with {code}")))
            }
        }
    }

    fn handle_update(&mut self, index: usize, bytes: &[u8], now_ns: u64) -> io::Result<()> {
        let update = Update::parse(bytes).map_err(io::Error::other)?;
        self.traffic.updates += 1;
        self.ledger.handle_update(index, update, now_ns);
        Ok(())
    }

    fn note_open(&mut self, index: usize) {
        self.clients[index].stage = Stage::Open;
        self.opened += 1;
    }
}
