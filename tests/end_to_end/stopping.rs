//! Stopping in order, and stopping at once.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use longwire::{
    Close, CloseCode, Conn, Handle, Handler, InvalidTopic, Message, PublishError, Receipt, Side,
    SubscribeError, TopicPolicy,
};
use socket2::SockRef;

use crate::app::flood_payload;
use crate::client::{BINARY, CLOSE, Client, REQUEST, TEXT, frame};
use crate::server::{Running, builder, on_every_backend, usable_cores};

/// Row LC04 allows a second; a machine busy with other tests adds to that. In order, it would take
/// the five seconds of the close timeout, or the ten of the stop timeout.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Together more than the kernel holds for one connection.
const FLOOD_COUNT: usize = 300;
const FLOOD_BYTES: usize = 40_000;

#[test]
fn lc01_stop_delivers_what_is_queued_then_closes_with_the_code_given() {
    on_every_backend(|backend| {
        for code in [CloseCode::SERVICE_RESTART, CloseCode::GOING_AWAY] {
            let settings = builder(backend).send_bytes_max(2 * FLOOD_COUNT * FLOOD_BYTES);
            let mut server = Running::start_with(backend, settings);
            let mut idle = Client::open(server.addr);
            let mut slow = Client::open(server.addr);
            // So small that most of the flood has to wait in the server.
            SockRef::from(&slow.stream).set_recv_buffer_size(128 * 1024).unwrap();
            slow.send_text(&format!("/flood {FLOOD_COUNT} {FLOOD_BYTES}"));
            server.await_stats("the flood", |stats| stats.messages == 1);
            server.handle.stop(code);

            assert_eq!(idle.read_close(), (code.as_u16(), String::new()));
            idle.send_close(code.as_u16());
            idle.read_end();
            let refused = TcpStream::connect(server.addr).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "no more are let in");

            for number in 0..FLOOD_COUNT {
                let frame = slow.read_frame();
                assert_eq!(frame.opcode, BINARY);
                assert!(frame.payload == flood_payload(number, FLOOD_BYTES), "{number} is intact");
            }
            assert_eq!(slow.read_close().0, code.as_u16());
            slow.send_close(code.as_u16());
            slow.read_end();
            let stats = server.join();
            assert_eq!((stats.opened, stats.closed), (2, 2));
            for _ in 0..2 {
                let (_, told, side) = server.next_close();
                assert_eq!((told, side), (code.as_u16(), Side::Local));
            }
        }
    });
}

#[test]
fn lc01_stop_ends_at_its_deadline_whatever_the_peers_do() {
    on_every_backend(|backend| {
        let grace = Duration::from_millis(500);
        let mut server = Running::start_with(backend, builder(backend).stop_timeout(grace));
        let silent: Vec<Client> = (0..5).map(|_| Client::open(server.addr)).collect();
        let asked_at = Instant::now();
        server.handle.stop(CloseCode::GOING_AWAY);
        let stats = server.join();
        let waited = asked_at.elapsed();
        assert!(waited >= grace && waited < grace + AT_ONCE, "{waited:?}");
        assert_eq!((stats.opened, stats.closed), (5, 5));
        for mut client in silent {
            assert_eq!(client.read_close().0, 1001, "they were told");
            let (_, code, _) = server.next_close();
            assert_eq!(code, 1006, "they did not answer");
        }
    });
}

#[test]
fn lc04_stop_at_once_ends_a_stop_in_progress() {
    on_every_backend(|backend| {
        let mut server = Running::start(backend);
        let _silent = Client::open(server.addr);
        let mut unread = Client::open(server.addr);
        unread.send_text("/flood 50 20000");
        server.await_stats("the flood", |stats| stats.messages == 1);
        server.handle.stop(CloseCode::SERVICE_RESTART);
        thread::sleep(Duration::from_millis(100));
        let asked_at = Instant::now();
        server.handle.stop_now();
        let stats = server.join();
        assert!(asked_at.elapsed() < AT_ONCE, "{:?}", asked_at.elapsed());
        assert_eq!((stats.opened, stats.closed), (2, 2));
    });
}

#[test]
fn lc04_stop_at_once_leaves_nothing_behind() {
    on_every_backend(|backend| {
        let mut server = Running::start(backend);
        let mut clients: Vec<Client> = (0..50).map(|_| Client::open(server.addr)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            match number % 3 {
                0 => client.send_raw(b"\x01\x85\0\0\0\0beg"),
                1 => client.send_text("/flood 50 20000"),
                _ => {}
            }
        }
        let mut in_handshake = Client::connect(server.addr);
        in_handshake.send_raw(&REQUEST.as_bytes()[..20]);
        server.await_stats("the last to come", |stats| stats.accepted == 51);
        let asked_at = Instant::now();
        server.handle.stop_now();
        let stats = server.join();
        assert!(asked_at.elapsed() < AT_ONCE, "{:?}", asked_at.elapsed());
        assert_eq!((stats.opened, stats.closed), (50, 50));
        assert!(TcpStream::connect(server.addr).is_err());
    });
}

#[test]
fn stop_before_the_first_turn_is_not_lost() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        assert_eq!(server.stop().accepted, 0);
        let built = builder(backend).build().unwrap();
        built.handle().stop(CloseCode::GOING_AWAY);
        let (calls, _) = channel();
        let run = move || built.run(|worker| crate::app::App { worker, calls: calls.clone() });
        assert_eq!(thread::spawn(run).join().unwrap().unwrap().accepted, 0);
    });
}

/// Publishes whenever it is called, to a topic that every core keeps.
struct Restless {
    /// And whether the connection was closed by then.
    receipts: Sender<(bool, Receipt)>,
}

impl Restless {
    fn publish(&self, conn: &mut Conn<'_, ()>, is_closed: bool) {
        let refused = conn.publish("a b", "x").map(drop);
        assert_eq!(refused, Err(PublishError::Invalid(InvalidTopic::Blank)));
        let receipt = conn.publish("all", "x").unwrap();
        self.receipts.send((is_closed, receipt)).unwrap();
    }
}

impl Handler for Restless {
    type State = ();

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all").unwrap();
        self.publish(conn, false);
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, _: Message<'_>) {
        self.publish(conn, false);
    }

    fn close(&mut self, conn: &mut Conn<'_, ()>, _: &Close) {
        assert_eq!(conn.subscribe("all"), Err(SubscribeError::Closed));
        self.publish(conn, true);
    }
}

/// Speaks, and closes when the server does, unless that cuts it off.
fn talk(mut client: Client, is_cut_off: bool) -> Client {
    for _ in 0..50 {
        // The server may have gone by now.
        let _ = client.try_send_raw(&frame(true, TEXT, b"go on"));
    }
    if !is_cut_off {
        while client.read_frame().opcode != CLOSE {}
        client.send_close(1001);
        client.read_end();
    }
    client
}

/// Publishes from a thread of its own, until it is told that the server has stopped.
fn publish_until(stopped: &Receiver<()>, handle: &Handle) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        receipts.push(handle.publish("all", "y").unwrap());
        thread::sleep(Duration::from_micros(100));
    }
    receipts
}

#[test]
fn what_is_published_while_a_server_stops_has_its_end_and_harms_nobody() {
    const CLIENTS: usize = 6;
    on_every_backend(|backend| {
        for at_once in [false, true] {
            let (sender, receipts) = channel();
            let settings = builder(backend).cores(usable_cores()).workers(2);
            let settings = settings.topic_policy(|_| TopicPolicy::new().history(1));
            let restless = move |_| Restless { receipts: sender.clone() };
            let mut server = Running::serve(backend, settings, restless);
            let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::open(server.addr)).collect();
            server.await_stats("all clients", |stats| stats.opened == CLIENTS as u64);
            let handle = server.handle.clone();
            let (stop, stopped) = channel();
            let publisher = thread::spawn(move || publish_until(&stopped, &handle));
            let talk = |client| thread::spawn(move || talk(client, at_once));
            let talks: Vec<_> = clients.into_iter().map(talk).collect();
            server.await_stats("the first messages", |stats| stats.messages > 20);
            if at_once {
                server.handle.stop_now();
            } else {
                server.handle.stop(CloseCode::GOING_AWAY);
            }
            let stats = server.join();
            stop.send(()).unwrap();
            talks.into_iter().for_each(|talk| drop(talk.join().unwrap()));
            assert_eq!(stats.failures.get(&1011), None, "no call has panicked");
            let told: Vec<(bool, Receipt)> = receipts.iter().collect();
            let closed = told.iter().filter(|(is_closed, _)| *is_closed).count();
            assert_eq!(closed, CLIENTS, "a closed connection publishes");
            let of_calls = told.into_iter().map(|(_, receipt)| receipt);
            for receipt in of_calls.chain(publisher.join().unwrap()) {
                assert!(receipt.delivery().is_some(), "nobody is left to wait for");
            }
        }
    });
}
