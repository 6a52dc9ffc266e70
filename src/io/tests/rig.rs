//! A driver with a pool, a listening address, and the steps that every test takes.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::buf::{Pool, PoolConfig, Segment};
use crate::io::backend::DriverSetup;
use crate::io::socket::Listener;
use crate::io::uring::UringDriver;
use crate::io::wake::Wake;
use crate::io::{Closing, Completion, Driver, Patience, Token, socket};

/// How long the kernel may take for anything on loopback.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to happen.
const SILENCE: Duration = Duration::from_millis(40);

pub(super) type Make<D> = fn(DriverSetup) -> io::Result<D>;

/// Makes a test per driver of each generic function. `but slots`: not with direct descriptors.
macro_rules! on_every_driver {
    (but slots, $($name:ident,)*) => {
        mod on_epoll {
            $(#[test] fn $name() { super::$name(crate::io::epoll::EpollDriver::new); })*
        }
        mod on_io_uring {
            $(#[test] fn $name() { super::$name(crate::io::uring::UringDriver::new); })*
        }
    };
    ($($name:ident,)*) => {
        on_every_driver! { but slots, $($name,)* }
        mod on_io_uring_slots {
            $(#[test] fn $name() { super::$name(crate::io::tests::rig::with_slots); })*
        }
    };
}
pub(super) use on_every_driver;

/// io_uring with connections as direct descriptors.
pub(super) fn with_slots(setup: DriverSetup) -> io::Result<UringDriver> {
    UringDriver::new(DriverSetup { direct_descriptors: true, ..setup })
}

/// What a driver is set up with, where a test cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knobs {
    pub(super) receive_blocks_max: usize,
    pub(super) ring_entries: u32,
    pub(super) conns_max: u32,
}

impl Default for Knobs {
    fn default() -> Self {
        Self { receive_blocks_max: 16, ring_entries: 64, conns_max: 1024 }
    }
}

#[derive(Debug)]
pub(super) struct Rig<D> {
    pub(super) driver: D,
    pub(super) pool: Pool,
    pub(super) wake: Wake,
    pub(super) addr: SocketAddr,
}

impl<D: Driver> Rig<D> {
    /// None, with a note, where the kernel forbids the backend.
    pub(super) fn new(make: Make<D>) -> Option<Self> {
        Self::with(make, Knobs::default())
    }

    pub(super) fn with(make: Make<D>, knobs: Knobs) -> Option<Self> {
        Self::listening(make, knobs, Vec::new())
    }

    /// With more listeners: numbers from 1 on, behind the one at `addr`.
    pub(super) fn listening(make: Make<D>, knobs: Knobs, more: Vec<Listener>) -> Option<Self> {
        let listener = socket::listen("127.0.0.1:0".parse().unwrap(), 1024).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut listeners = vec![listener];
        listeners.extend(more);
        let wake = Wake::new().unwrap();
        let setup = DriverSetup {
            listeners,
            wake: wake.clone(),
            conns_max: knobs.conns_max,
            direct_descriptors: false,
            ring_entries: knobs.ring_entries,
        };
        let driver = match make(setup) {
            Err(error) if is_forbidden(&error) => {
                eprintln!("not run: {error}");
                return None;
            }
            made => made.unwrap(),
        };
        let config =
            PoolConfig { receive_blocks_max: knobs.receive_blocks_max, spare_bytes_max: 1 << 20 };
        Some(Self { driver, pool: Pool::new(config), wake, addr })
    }

    /// A peer that is attached under `token`.
    pub(super) fn connect(&mut self, token: Token) -> TcpStream {
        let peer = TcpStream::connect(self.addr).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let Completion::Accepted { socket, .. } = self.next() else { panic!("a peer to accept") };
        self.driver.attach(token, socket).unwrap();
        peer
    }

    /// A peer that has come by this listener.
    pub(super) fn accept(&mut self, by: u8) -> D::Socket {
        match self.next() {
            Completion::Accepted { socket, listener } => {
                assert_eq!(listener, by);
                socket
            }
            other => panic!("a peer should come, but {}", name(&other)),
        }
    }

    /// What happens next.
    pub(super) fn next(&mut self) -> Completion<D::Socket> {
        self.poll_for(PATIENCE).expect("something happens")
    }

    /// What happens within `patience`.
    pub(super) fn poll_for(&mut self, patience: Duration) -> Option<Completion<D::Socket>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(completion) = self.driver.poll_completion(&mut self.pool) {
                return Some(completion);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.driver.wait(Some(left)).unwrap();
        }
    }

    pub(super) fn assert_silent(&mut self) {
        if let Some(completion) = self.poll_for(SILENCE) {
            panic!("nothing should happen, but {}", name(&completion));
        }
    }

    /// The next `len` bytes of a peer, and no more.
    pub(super) fn receive(&mut self, token: Token, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            match self.next() {
                Completion::Received { token: from, block, len } => {
                    assert_eq!(from, token);
                    assert!(len > 0);
                    bytes.extend_from_slice(&block.bytes()[..len]);
                    self.pool.give(block);
                }
                other => panic!("bytes should arrive, but {}", name(&other)),
            }
        }
        assert_eq!(bytes.len(), len);
        bytes
    }

    pub(super) fn submit_send(&mut self, token: Token, bytes: &[u8], patience: Patience) {
        let mut block = self.pool.take(bytes.len());
        block.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        self.driver.submit_send(token, Segment::new(block, 0, bytes.len()), patience);
    }

    /// Sends, and returns how many bytes were taken.
    pub(super) fn send(&mut self, token: Token, bytes: &[u8], patience: Patience) -> usize {
        self.submit_send(token, bytes, patience);
        match self.next() {
            Completion::Sent { token: to, segment, sent } => {
                assert_eq!(to, token);
                assert!(sent <= segment.len());
                self.pool.give(segment.block);
                sent
            }
            other => panic!("a send should be answered, but {}", name(&other)),
        }
    }

    /// Sends until the socket takes no more.
    pub(super) fn fill_socket(&mut self, token: Token) {
        while self.send(token, &[b'f'; 60_000], Patience::Try) > 0 {}
    }

    /// Closes a connection; drops what is told of others meanwhile.
    pub(super) fn close(&mut self, token: Token, closing: Closing) {
        self.driver.submit_close(token, closing);
        match self.next() {
            Completion::Closed { token: closed } => assert_eq!(closed, token),
            other => panic!("only Closed may come, but {}", name(&other)),
        }
    }
}

pub(super) fn token(index: u32) -> Token {
    Token { index, generation: 5 }
}

/// Names a completion without asking its socket to be printable.
pub(super) fn name<S>(completion: &Completion<S>) -> String {
    match completion {
        Completion::Accepted { listener, .. } => format!("Accepted by {listener}"),
        Completion::AcceptFailed { error, .. } => format!("AcceptFailed: {error}"),
        Completion::Received { token, len, .. } => format!("Received {len} of {token:?}"),
        Completion::ReceivedInto { token, len, .. } => format!("ReceivedInto {len} of {token:?}"),
        Completion::PeerClosed { token } => format!("PeerClosed of {token:?}"),
        Completion::Failed { token, error } => format!("Failed of {token:?}: {error}"),
        Completion::Sent { token, sent, .. } => format!("Sent {sent} of {token:?}"),
        Completion::Closed { token } => format!("Closed of {token:?}"),
        Completion::Woken => "Woken".to_owned(),
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}
