//! The servers of the tests, on the library.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use longwire::{
    BackendChoice, CloseCode, Compression, Conn, ConnId, Conns, Handle, Handler, Message, Server,
};

use crate::authority::Authority;

/// What a server speaks beside WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speech {
    pub(crate) tls: bool,
    /// Whether it agrees on permessage-deflate.
    pub(crate) deflate: bool,
}

/// What a server does wrong, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The last byte of each tenth echo is another.
    Corrupts,
    /// Answers binary by text.
    ChangesKind,
    /// Each tenth echo is sent twice.
    Doubles,
    /// Stops for a second, this long after the first message.
    Stalls(Duration),
    /// Closes each connection after its tenth message, with this code.
    Closes(u16),
}

/// Sends each message back.
#[derive(Debug)]
struct Echo {
    fault: Fault,
    count: u64,
    stalls_at: Option<Instant>,
}

impl Handler for Echo {
    type State = u64;

    fn message(&mut self, conn: &mut Conn<'_, u64>, message: Message<'_>) {
        self.count += 1;
        *conn.state() += 1;
        if self.count == 1
            && let Fault::Stalls(after) = self.fault
        {
            self.stalls_at = Some(Instant::now() + after);
        }
        let is_tenth = self.count.is_multiple_of(10);
        let mut copy = message.payload().to_vec();
        match self.fault {
            Fault::Corrupts if is_tenth => {
                *copy.last_mut().unwrap() ^= 1;
                conn.send_binary(&copy).unwrap();
                return;
            }
            Fault::ChangesKind => {
                conn.send_text(&String::from_utf8_lossy(&copy)).unwrap();
                return;
            }
            Fault::Doubles if is_tenth => {
                conn.send_binary(&copy).unwrap();
            }
            Fault::Closes(code) if *conn.state() == 10 => {
                conn.close(CloseCode::from(code), "that is enough");
                return;
            }
            _ => {}
        }
        let _ = conn.echo(message);
    }

    fn turn(&mut self, _: &mut Conns<'_, u64>) -> Option<Instant> {
        let at = self.stalls_at?;
        if Instant::now() < at {
            return Some(at);
        }
        self.stalls_at = None;
        thread::sleep(Duration::from_secs(1));
        None
    }
}

/// How a broadcast goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    /// Every tenth message misses one subscriber.
    Loses,
    /// Every tenth message comes twice.
    Doubles,
    /// Every tenth message comes after the next.
    Reorders,
}

/// Sends what one connection says to all.
#[derive(Debug)]
struct Broadcast {
    delivery: Delivery,
    subscribers: Vec<ConnId>,
    said: VecDeque<Vec<u8>>,
    count: u64,
    held_back: Option<Vec<u8>>,
}

impl Broadcast {
    fn deliver(&mut self, message: &[u8], conns: &mut Conns<'_, ()>) {
        let skips = self.delivery == Delivery::Loses && self.count.is_multiple_of(10);
        for id in self.subscribers.iter().skip(usize::from(skips)) {
            if let Some(mut conn) = conns.conn(*id) {
                let _ = conn.send_binary(message);
            }
        }
    }
}

impl Handler for Broadcast {
    type State = ();

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        self.subscribers.push(conn.id());
    }

    fn message(&mut self, _: &mut Conn<'_, ()>, message: Message<'_>) {
        self.said.push_back(message.payload().to_vec());
    }

    fn turn(&mut self, conns: &mut Conns<'_, ()>) -> Option<Instant> {
        while let Some(message) = self.said.pop_front() {
            self.count += 1;
            if self.delivery == Delivery::Reorders && self.count.is_multiple_of(10) {
                self.held_back = Some(message);
                continue;
            }
            self.deliver(&message, conns);
            if self.delivery == Delivery::Doubles && self.count.is_multiple_of(10) {
                self.deliver(&message, conns);
            }
            if let Some(message) = self.held_back.take() {
                self.deliver(&message, conns);
            }
        }
        None
    }
}

/// A server in this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    speech: Speech,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// An echo server.
    pub(crate) fn echo(backend: BackendChoice, fault: Fault) -> Self {
        Self::echo_that_speaks(backend, fault, Speech::default())
    }

    /// An echo server over TLS, or with compression.
    pub(crate) fn echo_that_speaks(backend: BackendChoice, fault: Fault, speech: Speech) -> Self {
        Self::start(backend, speech, move || Echo { fault, count: 0, stalls_at: None })
    }

    /// A server that broadcasts.
    pub(crate) fn broadcast(backend: BackendChoice, delivery: Delivery) -> Self {
        Self::broadcast_that_speaks(backend, delivery, Speech::default())
    }

    /// A server that broadcasts over TLS, or with compression.
    pub(crate) fn broadcast_that_speaks(
        backend: BackendChoice,
        delivery: Delivery,
        speech: Speech,
    ) -> Self {
        Self::start(backend, speech, move || Broadcast {
            delivery,
            subscribers: Vec::new(),
            said: VecDeque::new(),
            count: 0,
            held_back: None,
        })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.speech.tls { "wss" } else { "ws" };
        format!("{scheme}://{}/echo", self.addr)
    }

    fn start<H: Handler>(
        backend: BackendChoice,
        speech: Speech,
        handler: impl Fn() -> H + Send + Sync + 'static,
    ) -> Self {
        let builder = Server::builder()
            .backend(backend)
            .workers(1)
            .message_bytes_max(1 << 20)
            .compression(speech.deflate.then(Compression::new));
        let addr = ([127, 0, 0, 1], 0).into();
        let builder = if speech.tls {
            builder.listen_tls(addr, Authority::of_tests().tls())
        } else {
            builder.listen(addr)
        };
        let server = builder.build().unwrap();
        let (addr, handle) = (server.local_addr().unwrap(), server.handle());
        let run = move || drop(server.run(|_| handler()).unwrap());
        Self { addr, speech, handle, thread: Some(thread::spawn(run)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop_now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The backends of this machine; where one is missing, that is said.
pub(crate) fn backends() -> Vec<BackendChoice> {
    let io_uring = Server::builder()
        .listen(([127, 0, 0, 1], 0).into())
        .backend(BackendChoice::IoUring)
        .build();
    match io_uring {
        Ok(_) => vec![BackendChoice::Epoll, BackendChoice::IoUring],
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI is set, and: {error}");
            eprintln!("SKIPPED io_uring: {error}");
            vec![BackendChoice::Epoll]
        }
    }
}
