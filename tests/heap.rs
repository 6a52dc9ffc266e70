//! What peers can make the server hold, counted by the allocator: idle connections, and bombs.
//!
//! Server and peers are in one process, so peers are bare sockets here: what they send is made
//! before the count begins, and they keep nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot speak to its server has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression as Level, FlushCompress};
use longwire::{
    BackendChoice, Builder, CloseCode, Compression, Conn, ConnId, Conns, Handle, Handler, Message,
    Server, Stats,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The count is of the whole process: one test at a time.
static COUNTING: Mutex<()> = Mutex::new(());

const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A server that drops what it receives.
struct Running {
    addr: SocketAddr,
    handle: Handle,
    thread: JoinHandle<Stats>,
    _alone: MutexGuard<'static, ()>,
}

struct Sink;

impl Handler for Sink {
    type State = ();

    fn message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
}

/// Subscribes every connection to one topic, and tells what is queued for each.
struct Hub {
    conns: Vec<ConnId>,
    /// When it is asked, it tells.
    asked: Receiver<()>,
    told: Sender<Vec<usize>>,
}

impl Handler for Hub {
    type State = ();

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all").unwrap();
        self.conns.push(conn.id());
    }

    fn message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn turn(&mut self, conns: &mut Conns<'_, ()>) -> Option<Instant> {
        if self.asked.try_recv().is_ok() {
            let queued = |id: &ConnId| conns.conn(*id).map_or(0, |conn| conn.queued_bytes());
            self.told.send(self.conns.iter().map(queued).collect()).unwrap();
        }
        Some(conns.now() + Duration::from_millis(2))
    }
}

impl Running {
    fn start() -> Self {
        Self::serve(|builder| builder, |_| Sink)
    }

    fn serve<H: Handler>(
        set: impl FnOnce(Builder) -> Builder,
        handlers: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Self {
        let alone = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let builder = Server::builder()
            .listen(([127, 0, 0, 1], 0).into())
            // The same code holds the memory on every backend; epoll runs everywhere.
            .backend(BackendChoice::Epoll)
            .workers(1)
            .message_bytes_max(MESSAGE_BYTES_MAX)
            .spare_bytes_max(0)
            .ping_interval(None)
            .compression(Some(Compression::new()));
        let server = set(builder).build().unwrap();
        let (addr, handle) = (server.local_addr().unwrap(), server.handle());
        let thread = thread::spawn(move || server.run(handlers).unwrap());
        Self { addr, handle, thread, _alone: alone }
    }

    /// A connection that is open.
    fn connect(&self, offers_compression: bool) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let offer = match offers_compression {
            true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            false => "",
        };
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert_eq!(answer.contains("permessage-deflate"), offers_compression);
        stream
    }

    fn await_stats(&self, ready: impl Fn(&Stats) -> bool) {
        let start = Instant::now();
        while !ready(&self.handle.stats()) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", self.handle.stats());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) {
        self.handle.stop(CloseCode::GOING_AWAY);
        self.thread.join().unwrap();
    }
}

/// Zeros, compressed: blocks that do not refer to each other, so that any number is made quickly.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut compress = Compress::new(Level::best(), false);
    let mut block = Vec::with_capacity(4096);
    compress.compress_vec(&vec![0; 1 << 20], &mut block, FlushCompress::Full).unwrap();
    assert!(block.len() < 4096, "the block is whole");
    block.repeat(mebibytes)
}

/// A compressed frame of a client, masked with zeros, which change nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    if payload.len() < 1 << 16 {
        frame[1] = 0x80 | 126;
        frame.drain(2..8);
    }
    frame.extend_from_slice(payload);
    frame
}

/// Sends all of it, unless the server has had enough, and returns what that says.
fn provoke(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(bytes);
    let mut said = vec![0; 4];
    stream.read_exact(&mut said).unwrap();
    said
}

#[test]
fn pd01_bomb_of_any_size_takes_its_limit_and_at_most_64_kib() {
    let server = Running::start();
    // The core's own memory is there before the count.
    let mut first = server.connect(true);
    provoke(&mut first, &frame(0xc2, &bomb(2)));
    for mebibytes in [1, 16, 256, 1000] {
        let compressed = bomb(mebibytes);
        // What is longer than the limit even when compressed fails at its header.
        let whole = frame(0xc2, &compressed);
        let mut parts = Vec::new();
        for (index, part) in compressed.chunks(60_000).enumerate() {
            parts.extend(frame(if index == 0 { 0x42 } else { 0x00 }, part));
        }
        parts.extend(frame(0x80, &[]));
        for bytes in [whole, parts] {
            let mut stream = server.connect(true);
            let profiler = dhat::Profiler::builder().testing().build();
            if mebibytes == 1 {
                // Exactly at the limit: no bomb.
                stream.write_all(&bytes).unwrap();
                server.await_stats(|stats| stats.messages >= 1);
            } else {
                let said = provoke(&mut stream, &bytes);
                assert_eq!(said, [0x88, 2, 0x03, 0xf1], "a Close frame with 1009");
            }
            let held = dhat::HeapStats::get().max_bytes;
            drop(profiler);
            println!("bomb of {mebibytes} MiB, {} bytes: at most {held} bytes held", bytes.len());
            assert!(held <= MESSAGE_BYTES_MAX + 64 * 1024, "{mebibytes} MiB: {held} bytes held");
        }
    }
    server.stop();
}

#[test]
fn tc05_silent_connection_takes_less_than_512_bytes_of_heap() {
    const COUNT: usize = 200;
    let server = Running::start();
    drop(server.connect(false));
    let profiler = dhat::Profiler::builder().testing().build();
    let streams: Vec<TcpStream> =
        (0..COUNT).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    server.await_stats(|stats| stats.accepted > COUNT as u64);
    let held = dhat::HeapStats::get().curr_bytes;
    drop(profiler);
    println!("{COUNT} silent connections: {held} bytes");
    assert!(held <= COUNT * 512, "{held} bytes for {COUNT} connections");
    drop(streams);
    server.stop();
}

#[test]
fn pd06_idle_compressed_connection_takes_32_bytes_more_at_most() {
    const COUNT: usize = 200;
    let server = Running::start();
    let compressed = frame(0xc2, &bomb(1));
    drop(server.connect(true));
    let mut held = [0, 0];
    for (held, offers) in held.iter_mut().zip([false, true]) {
        let profiler = dhat::Profiler::builder().testing().build();
        let mut streams: Vec<TcpStream> = (0..COUNT).map(|_| server.connect(offers)).collect();
        // Each has used what it agreed on, and is idle now.
        for stream in streams.iter_mut().filter(|_| offers) {
            stream.write_all(&compressed).unwrap();
        }
        let sent = if offers { COUNT as u64 } else { 0 };
        server.await_stats(|stats| stats.messages == sent);
        // Spare memory is given back over some seconds.
        thread::sleep(Duration::from_secs(3));
        *held = dhat::HeapStats::get().curr_bytes;
        drop(profiler);
        let closed = server.handle.stats().closed;
        drop(streams);
        server.await_stats(|stats| stats.closed == closed + COUNT as u64);
    }
    println!("{COUNT} idle connections: {} bytes plain, {} compressed", held[0], held[1]);
    // One spare inflater and one compressor belong to the core.
    let of_core = 64 * 1024;
    assert!(held[1] <= held[0] + COUNT * 32 + of_core, "{held:?}");
    server.stop();
}

#[test]
fn bp02_message_that_many_stalled_readers_wait_for_is_in_memory_once() {
    const COUNT: usize = 200;
    const BYTES: usize = 64 * 1024;
    const STALLED_AFTER_MAX: usize = 200;
    let (ask, asked) = channel();
    let (told, answers) = channel();
    let hub = Mutex::new(Some(Hub { conns: Vec::new(), asked, told }));
    let server = Running::serve(
        |builder| builder.send_bytes_max(64 << 20).memory_bytes_max(8 << 30),
        move |_| hub.lock().unwrap().take().expect("there is one worker"),
    );
    let streams: Vec<TcpStream> = (0..COUNT).map(|_| server.connect(false)).collect();
    let message = vec![b'x'; BYTES];
    let publish = || {
        let receipt = server.handle.publish("all", &message).unwrap();
        let told = receipt.wait(Duration::from_secs(20)).expect("all are served");
        assert_eq!((told.queued, told.refused), (COUNT, 0));
    };
    let queued = || {
        ask.send(()).unwrap();
        answers.recv_timeout(Duration::from_secs(20)).unwrap()
    };
    // Until the sockets of all have taken what they can.
    let mut published = 0;
    while queued().iter().any(|bytes| *bytes <= BYTES) {
        assert!(published < STALLED_AFTER_MAX, "the readers never stall");
        publish();
        published += 1;
    }
    let before = queued();
    let profiler = dhat::Profiler::builder().testing().build();
    publish();
    let held = dhat::HeapStats::get().curr_bytes;
    drop(profiler);
    for (before, after) in before.into_iter().zip(queued()) {
        assert!((BYTES..BYTES + 64).contains(&(after - before)), "{before}, then {after} charged");
    }
    println!("a message of {BYTES} bytes for {COUNT} readers: {held} bytes held");
    assert!(held >= BYTES, "it is held");
    assert!(held <= 3 * BYTES, "{held} bytes held");
    drop(streams);
    server.stop();
}
