//! Peers that are slow, silent, or want more than their share.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{CONTINUATION, Client, PING, PONG, REQUEST, TEXT, frame};
use crate::server::{Running, builder, on_every_backend};

const TIMEOUT: Duration = Duration::from_millis(400);
/// The kernel keeps a silent peer to itself for about a second before the server sees it.
const KERNEL_HOLDS: Duration = Duration::from_millis(1_500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

#[test]
fn tc05_silent_peer_is_dropped_at_the_handshake_timeout_without_a_byte() {
    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).handshake_timeout(TIMEOUT));
        let began = Instant::now();
        let mut silent: Vec<Client> = (0..20).map(|_| Client::connect(server.addr)).collect();
        let mut open = Client::open(server.addr);
        for client in &mut silent {
            client.read_end();
        }
        let waited = began.elapsed();
        assert!(waited >= TIMEOUT && waited < TIMEOUT + KERNEL_HOLDS + SLACK, "{waited:?}");
        open.echo("an open connection has no such limit");
        open.close(1000);
        assert_eq!(server.stop().refusals["timeout"], 20);
    });
}

#[test]
fn hd03_slow_head_is_answered_with_408_however_steadily_it_comes() {
    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).handshake_timeout(TIMEOUT));
        let mut client = Client::connect(server.addr);
        let began = Instant::now();
        let mut sender = client.stream.try_clone().unwrap();
        let trickle = thread::spawn(move || {
            for byte in REQUEST.bytes() {
                if std::io::Write::write_all(&mut sender, &[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(40));
            }
        });
        let mut response = [0; 20];
        client.stream.read_exact(&mut response).unwrap();
        let waited = began.elapsed();
        assert_eq!(&response, b"HTTP/1.1 408 Request");
        assert!(waited >= TIMEOUT && waited < TIMEOUT + SLACK, "{waited:?}");
        drop(client);
        trickle.join().unwrap();
        assert_eq!(server.stop().refusals["timeout"], 1);
    });
}

#[test]
fn tc09_peer_that_answers_no_ping_is_dropped() {
    on_every_backend(|backend| {
        let settings = builder(backend).ping_interval(Some(TIMEOUT)).pong_timeout(TIMEOUT);
        let server = Running::start_with(backend, settings);
        let mut lively = Client::open(server.addr);
        let mut silent = Client::open(server.addr);
        let began = Instant::now();
        assert_eq!(silent.read_frame().opcode, PING);
        for _ in 0..3 {
            let ping = lively.read_frame();
            assert_eq!(ping.opcode, PING);
            lively.send_frame(true, PONG, &ping.payload);
        }
        let (_, code, side) = server.next_close();
        assert_eq!((code, side), (1006, longwire::Side::Local));
        assert!(began.elapsed() >= TIMEOUT, "it was given its time");
        let stats = server.handle.stats();
        assert_eq!((stats.opened, stats.closed), (2, 1), "who answers is kept");
    });
}

#[test]
fn fg05_message_that_is_never_finished_closes_with_1008() {
    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).message_timeout(TIMEOUT));
        let mut client = Client::open(server.addr);
        client.send_frame(false, TEXT, b"to be continued");
        client.expect_failure(1008);
    });
}

#[test]
fn ct03_control_frames_beyond_the_rate_close_with_1008() {
    on_every_backend(|backend| {
        let settings = builder(backend).control_frames_per_second(5);
        let server = Running::start_with(backend, settings);
        let mut client = Client::open(server.addr);
        client.send_raw(&frame(true, PONG, b"unasked").repeat(100));
        client.expect_failure(1008);
    });
}

#[test]
fn fg04_empty_fragments_without_end_close_with_1008() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        client.send_frame(false, TEXT, b"x");
        client.send_raw(&frame(false, CONTINUATION, b"").repeat(65));
        client.expect_failure(1008);
    });
}

#[test]
fn bp01_peer_that_never_reads_is_closed_once_its_queue_is_full() {
    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).send_bytes_max(256 * 1024));
        let mut bystander = Client::open(server.addr);
        let mut client = Client::open(server.addr);
        // The application's own words, so that no pause of reading can keep them back.
        client.send_text("/flood 10 20000");
        server.await_stats("the flood", |stats| stats.messages == 1);
        bystander.echo("not disturbed");
        for number in 0..10 {
            assert!(client.read_frame().payload == crate::app::flood_payload(number, 20_000));
        }
        // More than the queue and the sockets hold: the application gets an error, and the peer 1013.
        client.send_text("/flood 2000 20000");
        let (_, code, _) = server.next_close();
        assert_eq!(code, 1013);
        bystander.echo("not disturbed either");
    });
}

#[test]
fn fr10_flood_of_one_peer_does_not_hold_up_another() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut flooder = Client::open(server.addr);
        let mut other = Client::open(server.addr);
        let mut sender = flooder.stream.try_clone().unwrap();
        let flood = frame(true, TEXT, b"x").repeat(200_000);
        let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, &flood));
        let reading = thread::spawn(move || {
            for _ in 0..200_000 {
                assert_eq!(flooder.read_text(), "x");
            }
        });
        let mut slowest = Duration::ZERO;
        while !reading.is_finished() {
            let began = Instant::now();
            other.echo("in between");
            slowest = slowest.max(began.elapsed());
        }
        reading.join().unwrap();
        sending.join().unwrap().unwrap();
        // Generous, since client and server share the cores with all other tests.
        assert!(slowest < Duration::from_secs(1), "waited for {slowest:?}");
    });
}
