//! The client that behaves: what it notices of an attack is what counts.
//!
//! A number of connections, half of them over TLS, opened before the attack, each in a thread that
//! blocks: one echo each 10 ms, compared byte by byte and timed. The good client shares its core with
//! the attackers, so the kernel is asked how long a thread stood in line for the core, and that is
//! taken off: what is left is the time of the server and of the way to it. An echo that is late keeps
//! its connection from asking for the next ones in time; those are counted as if they had been asked
//! for, so that one long wait is not one sample among thousands.
//!
//! Beside them one thread opens a connection now and then, as a visitor who comes during the attack,
//! and closes it in order.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::core;
use crate::ground::Ground;
use crate::latency::Latencies;
use crate::wire;

/// Connections of each transport.
pub(crate) const CONNS_EACH: usize = 6;
/// Between two echoes of one connection.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);
/// Between two visitors.
const VISIT_INTERVAL: Duration = Duration::from_millis(300);
/// A good client gives up after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// A visitor who finds no room comes back after this, so often at most.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
const TRIES_MAX: u32 = 12;
const ECHOES_PER_VISIT: u32 = 5;

/// What is going on, as the good client is told; it does the same in all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    WarmUp,
    Calm,
    Attack,
    After,
    Over,
}

/// The phase, for all threads to see.
#[derive(Debug)]
pub(crate) struct Stage(AtomicU8);

impl Stage {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(Phase::WarmUp as u8))
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        let phases = [Phase::WarmUp, Phase::Calm, Phase::Attack, Phase::After];
        let known = phases.into_iter().find(|&phase| phase as u8 == self.0.load(Ordering::Relaxed));
        known.unwrap_or(Phase::Over)
    }
}

/// What connections of one kind have seen.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    pub(crate) calm: Latencies,
    pub(crate) attack: Latencies,
    /// Why connections were lost.
    pub(crate) lost: Vec<String>,
}

impl Experience {
    fn add(&mut self, phase: Phase, time: Duration) {
        match phase {
            Phase::Calm => self.calm.add(time),
            Phase::Attack => self.attack.add(time),
            Phase::WarmUp | Phase::After | Phase::Over => {}
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.calm.append(other.calm);
        self.attack.append(other.attack);
        self.lost.extend(other.lost);
    }
}

/// What visitors have seen who came during the attack.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    pub(crate) served: u64,
    /// Tries that found no room, and were followed by another.
    pub(crate) retries: u64,
    /// From the first try to the first echo.
    pub(crate) waits: Latencies,
    pub(crate) failed: Vec<String>,
}

/// Asks for echoes on one connection until it is over.
pub(crate) fn stay(ground: &Ground, secure: bool, stage: &Stage) -> Experience {
    let mut experience = Experience::default();
    if let Err(error) = stay_until_over(ground, secure, stage, &mut experience) {
        experience.lost.push(format!("in phase {:?}: {error}", stage.phase()));
    }
    experience
}

fn stay_until_over(
    ground: &Ground,
    secure: bool,
    stage: &Stage,
    experience: &mut Experience,
) -> io::Result<()> {
    core::pin(core::CLIENT)?;
    let line = Line::of_this_thread()?;
    let mut client = Client::connect(ground, secure)?;
    loop {
        let phase = stage.phase();
        if phase == Phase::Over {
            return client.close();
        }
        let stood = line.stood()?;
        let began_at = Instant::now();
        client.echo()?;
        let elapsed = began_at.elapsed();
        let mut waited = elapsed.saturating_sub(line.stood()? - stood);
        thread::sleep(INTERVAL.saturating_sub(elapsed));
        // Those that would have been asked for meanwhile would have waited for the rest of it.
        experience.add(phase, waited);
        while waited > INTERVAL {
            waited -= INTERVAL;
            experience.add(phase, waited);
        }
    }
}

/// How long a thread has been ready to run while its core ran another.
struct Line {
    schedstat: File,
}

impl Line {
    fn of_this_thread() -> io::Result<Self> {
        Ok(Self { schedstat: File::open("/proc/thread-self/schedstat")? })
    }

    fn stood(&self) -> io::Result<Duration> {
        let mut text = [0; 64];
        let len = self.schedstat.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..len]);
        let nanos = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
        let nanos = nanos.ok_or_else(|| io::Error::other("schedstat does not look as expected"))?;
        Ok(Duration::from_nanos(nanos))
    }
}

/// Comes and goes until it is over.
pub(crate) fn visit(ground: &Ground, stage: &Stage) -> io::Result<[Visits; 2]> {
    core::pin(core::CLIENT)?;
    let mut visits = [Visits::default(), Visits::default()];
    let mut secure = false;
    while stage.phase() != Phase::Over {
        let phase = stage.phase();
        let began_at = Instant::now();
        let outcome = try_to_visit(ground, secure);
        if phase == Phase::Attack {
            let visits = &mut visits[usize::from(secure)];
            match outcome {
                Ok((retries, wait)) => {
                    visits.served += 1;
                    visits.retries += u64::from(retries);
                    visits.waits.add(wait);
                }
                Err(error) => visits.failed.push(error.to_string()),
            }
        }
        secure = !secure;
        thread::sleep(VISIT_INTERVAL.saturating_sub(began_at.elapsed()));
    }
    Ok(visits)
}

/// How many tries were in vain, and how long it took to the first echo.
fn try_to_visit(ground: &Ground, secure: bool) -> io::Result<(u32, Duration)> {
    let began_at = Instant::now();
    let mut retries = 0;
    let mut client = loop {
        match Client::connect(ground, secure) {
            Ok(client) => break client,
            Err(error) if retries == TRIES_MAX => return Err(error),
            Err(_) => {
                retries += 1;
                thread::sleep(RETRY_INTERVAL);
            }
        }
    };
    client.echo()?;
    let wait = began_at.elapsed();
    for _ in 1..ECHOES_PER_VISIT {
        client.echo()?;
    }
    client.close()?;
    Ok((retries, wait))
}

/// A connection that blocks.
struct Client {
    stream: Stream,
    message_number: u64,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    fn connect(ground: &Ground, secure: bool) -> io::Result<Self> {
        let addr = if secure { ground.secure } else { ground.plain };
        let socket = TcpStream::connect_timeout(&addr, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let stream = if secure {
            let name = "localhost".try_into().map_err(io::Error::other)?;
            let session = ClientConnection::new(Arc::clone(&ground.tls), name);
            let session = session.map_err(io::Error::other)?;
            Stream::Secure(Box::new(StreamOwned::new(session, socket)))
        } else {
            Stream::Plain(socket)
        };
        let mut client = Self { stream, message_number: 0 };
        client.stream.write(&wire::upgrade(""))?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let line = String::from_utf8_lossy(&head);
            return Err(io::Error::other(line.lines().next().unwrap_or_default().to_owned()));
        }
        Ok(client)
    }

    /// Sends a message and takes its echo, which has to be the same.
    fn echo(&mut self) -> io::Result<()> {
        self.message_number += 1;
        let text = format!("message {:>12} of a client that behaves", self.message_number);
        self.stream.write(&wire::frame(wire::TEXT, text.as_bytes()))?;
        loop {
            let (first_byte, payload) = self.receive()?;
            match first_byte {
                wire::TEXT if payload == text.as_bytes() => return Ok(()),
                wire::PING => self.stream.write(&wire::frame(wire::PONG, &payload))?,
                _ => {
                    let what = format!("{first_byte:#04x} {payload:02x?} instead of the echo");
                    return Err(io::Error::other(what));
                }
            }
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.stream.write(&wire::close(1000))?;
        let (first_byte, payload) = self.receive()?;
        if first_byte != wire::CLOSE || payload != 1000u16.to_be_bytes() {
            return Err(io::Error::other("the Close frame is not answered by its like"));
        }
        Ok(())
    }

    /// A frame: its first byte and its payload. Nothing that a good client is sent is long.
    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header)?;
        let mut payload = vec![0; usize::from(header[1] & 0x7F)];
        self.stream.read_exact(&mut payload)?;
        Ok((header[0], payload))
    }
}

impl Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Secure(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.read_exact(bytes),
            Self::Secure(stream) => stream.read_exact(bytes),
        }
    }
}
