//! The client role of the library against its server role and against servers that are none, and
//! what an application can do of its own accord at the end of a turn.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use longwire::client::Builder;
use longwire::{
    BackendChoice, Client, ClientHandler, Close, CloseCode, Conn, ConnId, ConnectError, Conns,
    Dialer, Error, Handler, Message, Server, Side, Target,
};

use crate::app::Event;
use crate::client;
use crate::server::{Running, builder, has_io_uring, on_every_backend, usable_cores};

/// What a dialing application was told.
#[derive(Debug)]
enum Told {
    Open(u32),
    Message(u32, Vec<u8>),
    Close(u32, u16, String, Side),
    Fail(u32, ConnectError),
}

/// Connects `conns` times, sends `greeting` on each, and closes each after its first message.
struct Caller {
    target: Target,
    source: Option<IpAddr>,
    conns: u32,
    greeting: Vec<u8>,
    told: Sender<Told>,
}

impl Caller {
    fn new(target: Target, conns: u32, told: &Sender<Told>) -> Self {
        let greeting = b"hello".to_vec();
        Self { target, source: None, conns, greeting, told: told.clone() }
    }
}

impl ClientHandler for Caller {
    type State = u32;

    fn turn(&mut self, dialer: &mut Dialer<'_, u32>) -> Option<Instant> {
        for number in 0..std::mem::take(&mut self.conns) {
            if let Err((number, error)) = dialer.connect(&self.target, self.source, number) {
                self.told.send(Told::Fail(number, ConnectError::Connect(error))).unwrap();
            }
        }
        if dialer.conn_count() == 0 {
            dialer.stop();
        }
        None
    }

    fn open(&mut self, conn: &mut Conn<'_, u32>) {
        self.told.send(Told::Open(*conn.state())).unwrap();
        conn.send_binary(&self.greeting).unwrap();
    }

    fn message(&mut self, conn: &mut Conn<'_, u32>, message: Message<'_>) {
        let number = *conn.state();
        self.told.send(Told::Message(number, message.payload().to_vec())).unwrap();
        conn.close(CloseCode::NORMAL, "bye");
    }

    fn close(&mut self, conn: &mut Conn<'_, u32>, close: &Close) {
        let (number, code) = (*conn.state(), close.code().as_u16());
        let told = Told::Close(number, code, close.reason().to_owned(), close.side());
        self.told.send(told).unwrap();
    }

    fn fail(&mut self, number: u32, error: &ConnectError) {
        let error = match error {
            ConnectError::Connect(error) => ConnectError::Connect(error.kind().into()),
            ConnectError::Refused { status } => ConnectError::Refused { status: *status },
            ConnectError::NotWebSocket(what) => ConnectError::NotWebSocket(what),
            ConnectError::Timeout => ConnectError::Timeout,
            _ => ConnectError::ClosedEarly,
        };
        self.told.send(Told::Fail(number, error)).unwrap();
    }
}

fn settings(backend: BackendChoice) -> Builder {
    Client::builder().backend(backend).workers(1)
}

/// Runs callers, one on each worker, and returns what they were told.
fn call(settings: Builder, target: &Target, conns: u32) -> Vec<Told> {
    let (sender, told) = channel();
    settings.build().unwrap().run(|_| Caller::new(target.clone(), conns, &sender)).unwrap();
    drop(sender);
    told.iter().collect()
}

fn target(addr: SocketAddr) -> Target {
    Target::new(addr, "localhost", "/")
}

/// How a single attempt at `target` failed.
fn failure(settings: Builder, target: &Target) -> ConnectError {
    match <[Told; 1]>::try_from(call(settings, target, 1)) {
        Ok([Told::Fail(0, error)]) => error,
        other => panic!("one failure is told, not {other:?}"),
    }
}

/// A server that answers whatever comes first with `answer`, and closes.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let _ = peer.read(&mut [0; 4096]);
        let _ = peer.write_all(answer);
    });
    addr
}

/// Each connection opened, had its greeting echoed, and closed in good order.
fn assert_all_served(told: &[Told], conns: u32) {
    for number in 0..conns {
        let own: Vec<&Told> = told
            .iter()
            .filter(|told| match told {
                Told::Open(n) | Told::Message(n, _) | Told::Close(n, ..) | Told::Fail(n, _) => {
                    *n == number
                }
            })
            .collect();
        let [Told::Open(_), Told::Message(_, payload), Told::Close(_, 1000, reason, Side::Local)] =
            own[..]
        else {
            panic!("connection {number}: {own:?}");
        };
        assert_eq!((payload.as_slice(), reason.as_str()), (&b"hello"[..], "bye"));
    }
    assert_eq!(told.len(), 3 * conns as usize);
}

#[test]
fn client_and_server_of_the_library_talk() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let told = call(settings(backend), &target(server.addr), 200);
        assert_all_served(&told, 200);
        server.stop();
    });
}

#[test]
fn request_names_what_was_asked_for() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let target = Target::new(server.addr, "example.org", "/a?b=c")
            .protocols(&["x", "y"])
            .header("Authorization", "Bearer z");
        call(settings(backend), &target, 1);
        let Event::Open { path, query, headers } = server.next_call().event else {
            panic!("`open` comes first")
        };
        assert_eq!((path.as_str(), query.as_deref()), ("/a", Some("b=c")));
        for wanted in [
            ("Host", "example.org"),
            ("Sec-WebSocket-Protocol", "x, y"),
            ("Authorization", "Bearer z"),
        ] {
            let found =
                headers.iter().any(|(name, value)| (name.as_str(), value.as_str()) == wanted);
            assert!(found, "{wanted:?} in {headers:?}");
        }
    });
}

#[test]
fn connections_come_from_the_source_that_was_named() {
    on_every_backend(|backend| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, told) = channel();
        let client = thread::spawn(move || {
            let mut caller = Caller::new(target(addr), 2, &sender);
            caller.source = Some([127, 9, 8, 7].into());
            let caller = std::sync::Mutex::new(Some(caller));
            let take = |_| caller.lock().unwrap().take().unwrap();
            settings(backend).build().unwrap().run(take).unwrap();
        });
        for _ in 0..2 {
            let (peer, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), IpAddr::from([127, 9, 8, 7]));
            drop(peer);
        }
        client.join().unwrap();
        let failed = |told: &Told| {
            matches!(told, Told::Fail(_, ConnectError::ClosedEarly | ConnectError::Connect(_)))
        };
        assert!(told.iter().all(|told| failed(&told)));
    });
}

#[test]
fn every_way_not_to_open_is_told_by_its_name() {
    on_every_backend(|backend| {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = failure(settings(backend), &target(closed));
        let ConnectError::Connect(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);

        let error = failure(settings(backend), &target(answering(b"HTTP/1.1 404 No\r\n\r\n")));
        assert!(matches!(error, ConnectError::Refused { status: 404 }), "{error:?}");

        let error = failure(settings(backend), &target(answering(b"SSH-2.0-OpenSSH\r\n")));
        assert!(matches!(error, ConnectError::NotWebSocket(_)), "{error:?}");

        let error = failure(settings(backend), &target(answering(b"")));
        assert!(matches!(error, ConnectError::ClosedEarly), "{error:?}");

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let hasty = settings(backend).handshake_timeout(Duration::from_millis(300));
        let error = failure(hasty, &target(silent.local_addr().unwrap()));
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
    });
}

#[test]
fn more_workers_than_cores_share_them() {
    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).workers(5));
        let told = call(settings(backend).workers(7), &target(server.addr), 10);
        assert_eq!(told.len(), 7 * 3 * 10);
        assert!(told.iter().all(|told| !matches!(told, Told::Fail(..))), "{told:?}");
        server.stop();
    });
}

#[test]
fn direct_descriptors_connect_too() {
    if !has_io_uring() {
        return;
    }
    let backend = BackendChoice::IoUring;
    let server = Running::start_with(backend, builder(backend).direct_descriptors(true));
    let settings = settings(backend).direct_descriptors(true).conns_max(300);
    let told = call(settings, &target(server.addr), 300);
    assert_all_served(&told, 300);
    server.stop();
}

/// Sends on a schedule of its own, and ends by giving up or by stopping.
struct Clockwork {
    target: Target,
    conns: VecDeque<ConnId>,
    due: Option<Instant>,
    left: u32,
    /// Echoes that are still to come.
    missing: u32,
    late: Sender<Duration>,
    echoes: Sender<usize>,
}

const PERIOD: Duration = Duration::from_micros(2_300);

impl ClientHandler for Clockwork {
    type State = ();

    fn turn(&mut self, dialer: &mut Dialer<'_, ()>) -> Option<Instant> {
        if self.conns.is_empty() {
            let connected = dialer.connect(&self.target, None, ()).unwrap();
            self.conns.push_back(connected);
            return None;
        }
        let due = self.due?;
        let now = Instant::now();
        if now < due {
            return Some(due);
        }
        if self.left == 0 && self.missing > 0 {
            // A busy server answers late.
            self.due = Some(now + PERIOD);
            return self.due;
        }
        if self.left == 0 {
            dialer.abort(self.conns[0]);
            dialer.stop();
            return None;
        }
        self.left -= 1;
        self.late.send(now - due).unwrap();
        let mut conn = dialer.conn(self.conns[0]).expect("it is open");
        conn.send_text("tick").unwrap();
        self.due = Some(now + PERIOD);
        self.due
    }

    fn open(&mut self, _: &mut Conn<'_, ()>) {
        self.due = Some(Instant::now() + PERIOD);
    }

    fn message(&mut self, _: &mut Conn<'_, ()>, message: Message<'_>) {
        self.missing -= 1;
        self.echoes.send(message.payload().len()).unwrap();
    }
}

#[test]
fn turn_comes_when_it_was_asked_for_and_not_a_millisecond_later() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let ((late, lateness), (echoes, echoed)) = (channel(), channel());
        let client = settings(backend).cores(usable_cores()).build().unwrap();
        let clockwork = |_| Clockwork {
            target: target(server.addr),
            conns: VecDeque::new(),
            due: None,
            left: 100,
            missing: 100,
            late: late.clone(),
            echoes: echoes.clone(),
        };
        client.run(clockwork).unwrap();
        drop((late, echoes));
        let mut lateness: Vec<Duration> = lateness.iter().collect();
        lateness.sort_unstable();
        assert_eq!(lateness.len(), 100);
        // A busy machine delays some; a driver that counts whole milliseconds would delay most.
        assert!(lateness[25] < Duration::from_micros(500), "{lateness:?}");
        assert_eq!(echoed.iter().collect::<Vec<_>>(), [4; 100]);
        let (_, code, side) = server.next_close();
        assert_eq!((code, side), (1006, Side::Peer), "the client resets what it gives up");
    });
}

/// A server that greets each connection once, some time after it opened.
struct Late {
    waiting: VecDeque<(Instant, ConnId)>,
}

impl Handler for Late {
    type State = ();

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        self.waiting.push_back((Instant::now() + Duration::from_millis(50), conn.id()));
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, _: Message<'_>) {
        conn.pause_receive();
    }

    fn turn(&mut self, conns: &mut Conns<'_, ()>) -> Option<Instant> {
        while let Some((due, id)) = self.waiting.front().copied() {
            if due > Instant::now() {
                return Some(due);
            }
            self.waiting.pop_front();
            if let Some(mut conn) = conns.conn(id) {
                conn.send_text("here you are").unwrap();
                conn.resume_receive();
            }
        }
        None
    }
}

#[test]
fn server_speaks_of_its_own_accord_at_its_own_time() {
    on_every_backend(|backend| {
        let server = builder(backend).build().unwrap();
        let (addr, handle) = (server.local_addr().unwrap(), server.handle());
        let running =
            thread::spawn(move || server.run(|_| Late { waiting: VecDeque::new() }).unwrap());
        let start = Instant::now();
        let mut peers: Vec<client::Client> = (0..3).map(|_| client::Client::open(addr)).collect();
        for peer in &mut peers {
            assert_eq!(peer.read_text(), "here you are");
        }
        assert!(start.elapsed() >= Duration::from_millis(50));
        handle.stop(CloseCode::GOING_AWAY);
        drop(peers);
        running.join().unwrap();
    });
}

#[test]
fn paused_peer_is_not_read_until_it_is_resumed() {
    /// Pauses at the first message; a message to another connection resumes the first.
    struct Gate {
        held: Option<ConnId>,
        resume: bool,
        seen: Sender<usize>,
    }
    impl Handler for Gate {
        type State = ();
        fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
            self.seen.send(message.payload().len()).unwrap();
            match self.held {
                None => {
                    conn.pause_receive();
                    self.held = Some(conn.id());
                }
                Some(held) => self.resume = held != conn.id(),
            }
        }
        fn turn(&mut self, conns: &mut Conns<'_, ()>) -> Option<Instant> {
            if self.resume
                && let Some(mut conn) = self.held.and_then(|held| conns.conn(held))
            {
                conn.resume_receive();
            }
            None
        }
    }
    on_every_backend(|backend| {
        let server = builder(backend).build().unwrap();
        let (addr, handle) = (server.local_addr().unwrap(), server.handle());
        let (sender, seen) = channel();
        let running = thread::spawn(move || {
            server.run(|_| Gate { held: None, resume: false, seen: sender.clone() }).unwrap()
        });
        let mut held = client::Client::open(addr);
        held.send_text("1");
        assert_eq!(seen.recv().unwrap(), 1);
        held.send_text("22");
        assert!(seen.recv_timeout(Duration::from_millis(200)).is_err(), "it is paused");
        let mut other = client::Client::open(addr);
        other.send_text("333");
        assert_eq!(seen.recv().unwrap(), 3);
        assert_eq!(seen.recv().unwrap(), 2, "what was sent meanwhile is not lost");
        handle.stop_now();
        running.join().unwrap();
    });
}

#[test]
fn worker_that_fails_stops_the_other_workers_of_a_client() {
    /// The first worker panics once the second has a connection, which would last for ever.
    struct Pair {
        worker: usize,
        target: Option<Target>,
        is_open: Arc<AtomicBool>,
        told: Sender<Told>,
    }
    impl ClientHandler for Pair {
        type State = ();
        fn turn(&mut self, dialer: &mut Dialer<'_, ()>) -> Option<Instant> {
            if self.worker == 0 {
                assert!(!self.is_open.load(Ordering::Acquire), "as it was told to");
                return Some(Instant::now() + Duration::from_millis(1));
            }
            if let Some(target) = self.target.take() {
                dialer.connect(&target, None, ()).unwrap();
            }
            None
        }
        fn open(&mut self, _: &mut Conn<'_, ()>) {
            self.is_open.store(true, Ordering::Release);
        }
        fn message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
        fn close(&mut self, _: &mut Conn<'_, ()>, close: &Close) {
            let (code, reason) = (close.code().as_u16(), close.reason().to_owned());
            self.told.send(Told::Close(1, code, reason, close.side())).unwrap();
        }
    }
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let (is_open, target) = (Arc::<AtomicBool>::default(), target(server.addr));
        let ((told, all_told), (ended, end)) = (channel(), channel());
        // In a thread of its own, so that a client that hangs fails the test.
        thread::spawn(move || {
            let pair = |worker| Pair {
                worker,
                target: Some(target.clone()),
                is_open: Arc::clone(&is_open),
                told: told.clone(),
            };
            ended.send(settings(backend).workers(2).build().unwrap().run(pair)).unwrap();
        });
        let error = end.recv_timeout(Duration::from_secs(10)).expect("it ends").unwrap_err();
        assert!(matches!(error, Error::Worker { worker: 0, .. }), "{error:?}");
        let told = all_told.recv().unwrap();
        assert!(matches!(told, Told::Close(1, 1006, _, Side::Local)), "{told:?}");
        server.stop();
    });
}

#[test]
fn panic_in_turn_ends_the_run_with_an_error() {
    struct Panics;
    impl Handler for Panics {
        type State = ();
        fn message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
        fn turn(&mut self, _: &mut Conns<'_, ()>) -> Option<Instant> {
            panic!("as it was told to");
        }
    }
    let error = Server::builder().listen(([127, 0, 0, 1], 0).into()).run(|_| Panics).unwrap_err();
    assert!(error.to_string().contains("the handler panicked in `turn`"), "{error}");
}
