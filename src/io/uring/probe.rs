//! Whether io_uring works here, found out by using it: a small driver serves one peer on loopback
//! from accept to close, with every operation a worker's driver uses.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::UringDriver;
use super::setup::FILE_SLOTS_MAX;
use crate::buf::{Pool, PoolConfig, Segment};
use crate::io::backend::DriverSetup;
use crate::io::wake::Wake;
use crate::io::{Closing, Completion, Driver, Patience, Token, socket};

/// How long one step may take. On loopback each takes microseconds.
const STEP_MAX: Duration = Duration::from_secs(1);
const ENTRIES: u32 = 64;
const TOKEN: Token = Token { index: 0, generation: 1 };

/// Why io_uring cannot be used.
#[derive(Debug)]
pub(crate) enum ProbeError {
    /// The ring could not be made. The error names the system call.
    Setup(io::Error),
    /// The loopback connection could not be made.
    Loopback(io::Error),
    /// An operation did not do what it has to.
    Operation {
        /// Which.
        name: &'static str,
        /// What it did instead.
        outcome: String,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "{error}"),
            Self::Loopback(error) => write!(f, "io_uring cannot be probed on loopback: {error}"),
            Self::Operation { name, outcome } => write!(f, "io_uring {name}: {outcome}"),
        }
    }
}

impl std::error::Error for ProbeError {}

/// Runs what the driver needs, on a descriptor or on a slot of the largest file table there may be.
pub(crate) fn probe(direct_descriptors: bool) -> Result<(), ProbeError> {
    let listener = socket::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)
        .map_err(ProbeError::Loopback)?;
    let addr = listener.local_addr().map_err(ProbeError::Loopback)?;
    let wake = Wake::new().map_err(ProbeError::Setup)?;
    let setup = DriverSetup {
        listeners: vec![listener],
        wake: wake.clone(),
        conns_max: if direct_descriptors { FILE_SLOTS_MAX } else { 1 },
        direct_descriptors,
        ring_entries: ENTRIES,
    };
    let driver = UringDriver::new(setup).map_err(ProbeError::Setup)?;
    let pool = Pool::new(PoolConfig { receive_blocks_max: 1, spare_bytes_max: 0 });
    let peer = TcpStream::connect_timeout(&addr, STEP_MAX).map_err(ProbeError::Loopback)?;
    peer.set_read_timeout(Some(STEP_MAX)).map_err(ProbeError::Loopback)?;
    Probe { driver, pool, peer }.run(&wake)
}

struct Probe {
    driver: UringDriver,
    pool: Pool,
    peer: TcpStream,
}

impl Probe {
    fn run(&mut self, wake: &Wake) -> Result<(), ProbeError> {
        match self.next("accept")? {
            Completion::Accepted { socket, .. } => {
                self.driver.attach(TOKEN, socket).map_err(ProbeError::Setup)?;
            }
            other => return Err(unexpected("accept", &other)),
        }
        wake.wake();
        match self.next("poll")? {
            Completion::Woken => {}
            other => return Err(unexpected("poll", &other)),
        }
        // Twice, because a multishot poll has to go on after the first time.
        for _ in 0..2 {
            self.echo()?;
        }
        self.driver.submit_close(TOKEN, Closing::Orderly);
        match self.next("cancel")? {
            Completion::Closed { .. } => Ok(()),
            other => Err(unexpected("cancel", &other)),
        }
    }

    fn echo(&mut self) -> Result<(), ProbeError> {
        self.peer.write_all(b"?").map_err(ProbeError::Loopback)?;
        let block = match self.next("receive")? {
            Completion::Received { block, len: 1, .. } if block.bytes().starts_with(b"?") => block,
            other => return Err(unexpected("receive", &other)),
        };
        self.driver.submit_send(TOKEN, Segment::new(block, 0, 1), Patience::Wait);
        match self.next("send")? {
            Completion::Sent { segment, sent: 1, .. } => self.pool.give(segment.block),
            other => return Err(unexpected("send", &other)),
        }
        let mut byte = [0];
        match self.peer.read(&mut byte) {
            Ok(1) if &byte == b"?" => Ok(()),
            other => Err(ProbeError::Operation { name: "send", outcome: format!("{other:?}") }),
        }
    }

    /// What the driver tells next; it has to come of the operation `name`.
    fn next(&mut self, name: &'static str) -> Result<Completion<super::Socket>, ProbeError> {
        let end = Instant::now() + STEP_MAX;
        loop {
            if let Some(completion) = self.driver.poll_completion(&mut self.pool) {
                return Ok(completion);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let outcome = format!("nothing came of it within {STEP_MAX:?}");
                return Err(ProbeError::Operation { name, outcome });
            }
            self.driver.wait(Some(left)).map_err(|error| ProbeError::Operation {
                name: "enter",
                outcome: error.to_string(),
            })?;
        }
    }
}

fn unexpected(name: &'static str, completion: &Completion<super::Socket>) -> ProbeError {
    let outcome = match completion {
        Completion::AcceptFailed { error, .. } | Completion::Failed { error, .. } => {
            error.to_string()
        }
        other => format!("unexpected {other:?}"),
    };
    ProbeError::Operation { name, outcome }
}
