//! Flow control: what a send is told, when there is room again, and what becomes of those who take
//! too little, send too much, stay too long, or hold more than there is.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use longwire::{
    BackendChoice, Builder, Close, CloseCode, Conn, ConnId, Conns, Handler, Message, Overflow,
    RateMode, SendError, SendStatus, Side,
};

use crate::certificates::Authority;
use crate::client::{BINARY, CLOSE, Client, PING, PONG, REQUEST, TEXT, frame};
use crate::secure::{secure_addr, secured};
use crate::server::{Running, builder, on_every_backend};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// How soon a command is done.
const TURN: Duration = Duration::from_millis(5);

/// What the application was told, or has seen of its sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Open(ConnId),
    /// Sends by their outcome: sent, queued, refused because the queue is full.
    Sends([usize; 3]),
    Writable(ConnId),
    Close(ConnId, u16, Side),
}

/// What the application is to do with a connection.
#[derive(Debug)]
enum Command {
    /// Send so many messages of so many bytes.
    Flood(ConnId, usize, usize),
    Pause(ConnId),
    Resume(ConnId),
    Close(ConnId),
}

/// Echoes, and does what it is told from outside.
struct Station {
    told: Sender<Told>,
    commands: Receiver<Command>,
}

impl Handler for Station {
    type State = ();

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        let _ = self.told.send(Told::Open(conn.id()));
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        if message.text() == Some("/pause") {
            conn.pause_receive();
            return;
        }
        // It fails only when the connection is closing.
        let _ = conn.echo(message);
    }

    fn writable(&mut self, conn: &mut Conn<'_, ()>) {
        let _ = self.told.send(Told::Writable(conn.id()));
    }

    fn close(&mut self, conn: &mut Conn<'_, ()>, close: &Close) {
        let _ = self.told.send(Told::Close(conn.id(), close.code().as_u16(), close.side()));
    }

    fn turn(&mut self, conns: &mut Conns<'_, ()>) -> Option<Instant> {
        for command in self.commands.try_iter() {
            let (Command::Flood(id, ..)
            | Command::Pause(id)
            | Command::Resume(id)
            | Command::Close(id)) = command;
            let Some(mut conn) = conns.conn(id) else { continue };
            match command {
                Command::Flood(_, count, bytes) => {
                    let sends = flood(&mut conn, count, bytes);
                    let _ = self.told.send(Told::Sends(sends));
                }
                Command::Pause(_) => conn.pause_receive(),
                Command::Resume(_) => conn.resume_receive(),
                Command::Close(_) => conn.close(CloseCode::NORMAL, "done"),
            }
        }
        Some(conns.now() + TURN)
    }
}

fn flood(conn: &mut Conn<'_, ()>, count: usize, bytes: usize) -> [usize; 3] {
    let mut sends = [0; 3];
    for number in 0..count {
        match conn.send_binary(&crate::app::flood_payload(number, bytes)) {
            Ok(SendStatus::Sent) => sends[0] += 1,
            Ok(SendStatus::Queued) => sends[1] += 1,
            Err(SendError::QueueFull) => sends[2] += 1,
            Err(SendError::Closed) => {}
        }
    }
    sends
}

/// A server with a [`Station`], and the other ends of its channels.
struct Staffed {
    server: Running,
    told: Receiver<Told>,
    commands: Sender<Command>,
}

impl Staffed {
    fn start(backend: BackendChoice, settings: Builder) -> Self {
        let (told_in, told) = channel();
        let (commands, commands_out) = channel();
        let station = Mutex::new(Some(Station { told: told_in, commands: commands_out }));
        let take = move |_| station.lock().unwrap().take().expect("there is one worker");
        Self { server: Running::serve(backend, settings, take), told, commands }
    }

    fn open(&self) -> (Client, ConnId) {
        (Client::open(self.server.addr), self.next_open())
    }

    fn next_open(&self) -> ConnId {
        match self.next_event() {
            Told::Open(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the application is told something")
    }

    /// The next that is not `writable`, which comes whenever sockets have taken all.
    fn next_event(&self) -> Told {
        loop {
            match self.next() {
                Told::Writable(_) => {}
                other => return other,
            }
        }
    }

    /// The end of a connection, if one has come.
    fn poll_close(&self) -> Option<Told> {
        self.told.try_iter().find(|told| !matches!(told, Told::Writable(_)))
    }

    fn order(&self, command: Command) {
        self.commands.send(command).unwrap();
    }

    /// Floods a connection whose peer does not read until its socket takes no more.
    fn block(&self, id: ConnId) {
        loop {
            self.flood(id, 5, 100_000);
            thread::sleep(TURN * 4);
            if self.flood(id, 1, 100_000) == [0, 1, 0] {
                return;
            }
        }
    }

    /// Lets a connection be flooded; how the sends went.
    fn flood(&self, id: ConnId, count: usize, bytes: usize) -> [usize; 3] {
        self.order(Command::Flood(id, count, bytes));
        match self.next_event() {
            Told::Sends(sends) => sends,
            other => panic!("{other:?}"),
        }
    }
}

fn read_flood(client: &mut Client, count: usize, bytes: usize) {
    for number in 0..count {
        let read = client.read_frame();
        assert_eq!((read.opcode, read.payload.len()), (BINARY, bytes), "{number} of {count}");
        assert!(read.payload == crate::app::flood_payload(number, bytes), "{number} of {count}");
    }
}

#[test]
fn send_tells_where_the_message_stands_and_writable_comes_once() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let staffed = Staffed::start(backend, secured(builder(backend), authority.tls()));
        for is_secure in [false, true] {
            let mut client = match is_secure {
                true => Client::open_secure(secure_addr(&staffed.server), &authority.client()),
                false => Client::open(staffed.server.addr),
            };
            let id = staffed.next_open();
            // Three messages stay under the high-water mark of 64 KiB.
            assert_eq!(staffed.flood(id, 3, 20_000), [3, 0, 0]);
            read_flood(&mut client, 3, 20_000);
            for _ in 0..3 {
                assert_eq!(staffed.flood(id, 20, 20_000), [3, 17, 0]);
                read_flood(&mut client, 20, 20_000);
                assert_eq!(staffed.next(), Told::Writable(id));
            }
            client.echo("and it goes on");
            assert_eq!(staffed.flood(id, 1, 10), [1, 0, 0]);
            client.read_frame();
            client.close(1000);
            assert_eq!(staffed.next(), Told::Close(id, 1000, Side::Peer), "no other `writable`");
        }
    });
}

#[test]
fn bp01_overflow_that_drops_counts_and_keeps_connection_and_control_frames() {
    on_every_backend(|backend| {
        let settings = builder(backend).send_bytes_max(256 * 1024).overflow(Overflow::Drop);
        let staffed = Staffed::start(backend, settings);
        let (mut client, id) = staffed.open();
        let (mut other, _) = staffed.open();
        // More than the sockets take, turn by turn, so that the queue is full in the end.
        let mut floods = Vec::new();
        let mut lost = 0;
        while floods.len() < 400 && lost == 0 {
            let sends = staffed.flood(id, 100, 20_000);
            lost += sends[2];
            floods.push(sends);
        }
        assert!(lost > 0, "the queue is never full: {floods:?}");
        staffed.server.await_stats("what was lost", |stats| stats.dropped == lost as u64);
        other.echo("not disturbed");
        // Neither a ping's answer nor a Close is lost behind a full queue.
        client.send_frame(true, PING, b"there?");
        for [sent, queued, _] in floods {
            read_flood(&mut client, sent + queued, 20_000);
        }
        assert_eq!(client.read_frame().opcode, PONG);
        assert_eq!(staffed.next(), Told::Writable(id));
        client.echo("and it goes on");
        assert_eq!(staffed.flood(id, 1, 10), [1, 0, 0]);
        client.read_frame();
        client.close(1000);
        assert_eq!(staffed.next(), Told::Close(id, 1000, Side::Peer));
        let stats = staffed.server.stop();
        assert!(stats.failures.is_empty(), "{:?}", stats.failures);
    });
}

#[test]
fn bp01_close_behind_a_full_queue_is_not_dropped() {
    on_every_backend(|backend| {
        let settings = builder(backend).send_bytes_max(256 * 1024).overflow(Overflow::Drop);
        let staffed = Staffed::start(backend, settings);
        let (mut client, id) = staffed.open();
        let mut taken = Vec::new();
        loop {
            let [sent, queued, lost] = staffed.flood(id, 100, 20_000);
            taken.push(sent + queued);
            if lost > 0 {
                break;
            }
        }
        staffed.order(Command::Close(id));
        for count in taken {
            read_flood(&mut client, count, 20_000);
        }
        assert_eq!(client.read_close(), (1000, "done".to_owned()));
        client.send_close(1000);
        client.read_end();
    });
}

#[test]
fn bp01_overflow_that_closes_says_so_behind_what_was_queued() {
    on_every_backend(|backend| {
        let settings = builder(backend).send_bytes_max(256 * 1024);
        let staffed = Staffed::start(backend, settings);
        let (mut client, id) = staffed.open();
        let sends = staffed.flood(id, 30, 20_000);
        // 13 messages are below the limit, the 14th passes it, the next closes.
        assert_eq!((sends[0] + sends[1], sends[2]), (14, 1));
        assert_eq!(staffed.next(), Told::Close(id, 1013, Side::Local));
        read_flood(&mut client, 14, 20_000);
        client.expect_failure(1013);
        assert_eq!(staffed.server.stop().failures[&1013], 1);
    });
}

#[test]
fn fr14_more_messages_than_the_rate_close_with_1008() {
    on_every_backend(|backend| {
        let settings = builder(backend).messages_per_second(Some(10));
        let staffed = Staffed::start(backend, settings);
        let (mut client, _) = staffed.open();
        client.send_raw(&frame(true, TEXT, b"x").repeat(10));
        for _ in 0..10 {
            assert_eq!(client.read_text(), "x", "a second's worth at once is no harm");
        }
        client.send_raw(&frame(true, TEXT, b"y").repeat(30));
        loop {
            let read = client.read_frame();
            if read.opcode == CLOSE {
                assert_eq!(read.payload[..2], 1008u16.to_be_bytes());
                break;
            }
        }
        client.read_end();
        let (mut other, _) = {
            let _ = staffed.next();
            staffed.open()
        };
        other.echo("each has a rate of its own");
    });
}

#[test]
fn fr14_more_bytes_than_the_rate_close_with_1008() {
    on_every_backend(|backend| {
        let settings = builder(backend).message_bytes_max(10_000).bytes_per_second(Some(20_000));
        let staffed = Staffed::start(backend, settings);
        let (mut client, id) = staffed.open();
        client.send_frame(true, BINARY, &[1; 10_000]);
        assert_eq!(client.read_frame().payload.len(), 10_000);
        // Also bytes of a message that is never whole.
        client.send_raw(&frame(false, BINARY, &[1; 9_000]));
        client.send_raw(&frame(false, 0, &[1; 900]));
        for _ in 0..200 {
            // Pongs are no messages.
            if client.try_send_raw(&frame(true, PONG, &[1; 120])).is_err() {
                break;
            }
        }
        assert_eq!(staffed.next(), Told::Close(id, 1008, Side::Local));
    });
}

#[test]
fn fr14_throttled_peer_waits_and_loses_nothing() {
    on_every_backend(|backend| {
        let settings = builder(backend)
            .bytes_per_second(Some(100_000))
            .rate_mode(RateMode::Throttle)
            // Silence that we ask for is no reason to end a connection.
            .ping_interval(Some(Duration::from_millis(300)))
            .pong_timeout(Duration::from_millis(300));
        let staffed = Staffed::start(backend, settings);
        let (mut client, _) = staffed.open();
        let began = Instant::now();
        let mut sender = client.stream.try_clone().unwrap();
        let flood = frame(true, BINARY, &[7; 10_000]).repeat(30);
        let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, &flood));
        let mut echoes = 0;
        while echoes < 30 {
            let read = client.read_frame();
            match read.opcode {
                PING => client.send_frame(true, PONG, &read.payload),
                _ => {
                    assert_eq!(read.payload, [7; 10_000]);
                    echoes += 1;
                }
            }
        }
        sending.join().unwrap().unwrap();
        // 300 KB, of which a second's worth is free.
        assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
        let stats = staffed.server.handle.stats();
        assert_eq!((stats.messages, stats.closed), (30, 0));
    });
}

#[test]
fn application_can_close_a_peer_that_is_throttled() {
    on_every_backend(|backend| {
        let settings = builder(backend).messages_per_second(Some(10)).rate_mode(RateMode::Throttle);
        let staffed = Staffed::start(backend, settings);
        let (mut client, id) = staffed.open();
        // Received at once, and ten seconds' worth.
        client.send_raw(&frame(true, TEXT, b"x").repeat(110));
        for _ in 0..110 {
            assert_eq!(client.read_text(), "x");
        }
        assert_closes(&staffed, client, id);
    });
}

#[test]
fn application_can_close_a_peer_that_is_paused() {
    on_every_backend(|backend| {
        let staffed = Staffed::start(backend, builder(backend));
        let (mut client, id) = staffed.open();
        client.echo("hello");
        staffed.order(Command::Pause(id));
        assert_closes(&staffed, client, id);
    });
}

/// The application closes, and hears the peer's answer at once.
fn assert_closes(staffed: &Staffed, mut client: Client, id: ConnId) {
    let began = Instant::now();
    staffed.order(Command::Close(id));
    assert_eq!(client.read_close(), (1000, "done".to_owned()));
    client.send_close(1000);
    client.read_end();
    assert_eq!(staffed.next(), Told::Close(id, 1000, Side::Local));
    assert!(began.elapsed() < Duration::from_secs(4), "the answer was not read");
}

#[test]
fn r4_connection_is_closed_at_the_end_of_its_lifetime() {
    on_every_backend(|backend| {
        let lifetime = Duration::from_millis(1_500);
        let staffed = Staffed::start(backend, builder(backend).lifetime_max(Some(lifetime)));
        let began = Instant::now();
        let (mut busy, _) = staffed.open();
        let (mut quiet, _) = staffed.open();
        let code = loop {
            busy.send_text("busy");
            let read = busy.read_frame();
            if read.opcode == CLOSE {
                break u16::from_be_bytes([read.payload[0], read.payload[1]]);
            }
            thread::sleep(TURN);
        };
        assert_eq!(code, 1001);
        let lived = began.elapsed();
        assert!(lived >= lifetime * 4 / 5, "{lived:?}");
        assert_eq!(quiet.read_close().0, 1001);
        quiet.send_close(1001);
        quiet.read_end();
        let lived = began.elapsed();
        assert!(lived >= lifetime * 4 / 5 && lived < lifetime + PATIENCE / 5, "{lived:?}");
    });
}

#[test]
fn paused_peer_is_not_read_and_goes_on_when_it_is_resumed() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let settings = builder(backend)
            .ping_interval(Some(Duration::from_millis(300)))
            .pong_timeout(Duration::from_millis(300));
        let staffed = Staffed::start(backend, secured(settings, authority.tls()));
        for is_secure in [false, true] {
            let mut client = match is_secure {
                true => Client::open_secure(secure_addr(&staffed.server), &authority.client()),
                false => Client::open(staffed.server.addr),
            };
            let id = staffed.next_open();
            // What has come with the order is still handed over.
            client
                .send_raw(&[frame(true, TEXT, b"/pause"), frame(true, TEXT, b"with it")].concat());
            assert_eq!(client.read_text(), "with it");
            let before = staffed.server.handle.stats().messages;
            client.send_text("later");
            thread::sleep(Duration::from_millis(1_200));
            assert_eq!(staffed.server.handle.stats().messages, before, "it is not read");
            // The other direction is open.
            assert_eq!(staffed.flood(id, 1, 10), [1, 0, 0]);
            assert_eq!(client.read_frame().opcode, BINARY);
            staffed.order(Command::Resume(id));
            loop {
                let read = client.read_frame();
                match read.opcode {
                    PING => client.send_frame(true, PONG, &read.payload),
                    _ => {
                        assert_eq!(read.payload, b"later");
                        break;
                    }
                }
            }
            client.reset();
            assert_eq!(staffed.next(), Told::Close(id, 1006, Side::Peer), "not before");
        }
    });
}

/// The status that a new connection is answered with.
fn status(staffed: &Staffed) -> u16 {
    let mut client = Client::connect(staffed.server.addr);
    client.send_raw(REQUEST.as_bytes());
    let head = client.read_head();
    let status = head.split(' ').nth(1).expect("a status").parse().unwrap();
    if status == 101 {
        staffed.next_open();
        client.close(1000);
        assert!(matches!(staffed.next_event(), Told::Close(_, 1000, _)));
    }
    status
}

#[test]
fn bp03_scarce_memory_refuses_new_peers_then_sheds_the_largest_queue() {
    on_every_backend(|backend| {
        let budget = 16 << 20;
        let settings = builder(backend).memory_bytes_max(budget).send_bytes_max(64 << 20);
        let staffed = Staffed::start(backend, settings);
        let (mut good, _) = staffed.open();
        let (mut small, small_id) = staffed.open();
        let (mut large, large_id) = staffed.open();
        // Neither reads, so what the sockets do not take is queued.
        staffed.block(small_id);
        staffed.block(large_id);
        assert_eq!(status(&staffed), 101, "there is room");
        let mut refused = false;
        let closed = loop {
            staffed.flood(large_id, 2, 100_000);
            // The turn that follows reports what is held.
            thread::sleep(TURN * 2);
            good.echo("lives on");
            if let Some(told) = staffed.poll_close() {
                break told;
            }
            refused |= status(&staffed) == 503;
        };
        assert!(refused, "new peers are refused before anybody is closed");
        assert_eq!(closed, Told::Close(large_id, 1013, Side::Local));
        // What is free again counts no longer against those that are left.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            good.echo("lives on");
            thread::sleep(TURN * 4);
        }
        assert_eq!(staffed.poll_close(), None, "nobody else is closed");
        assert_eq!(status(&staffed), 101, "there is room again");
        let read = small.read_frame();
        assert_eq!((read.opcode, read.payload.len()), (BINARY, 100_000));
        // The peer that was closed gets what its socket had taken; the rest is cut off.
        assert_eq!(large.read_frame().payload.len(), 100_000);
    });
}
