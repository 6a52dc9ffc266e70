//! However a connection ends, the application hears of it exactly once, and the peer hears what it
//! still can.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use longwire::Side;

use crate::app::Event;
use crate::client::{CLOSE, Client, TEXT, frame};
use crate::server::{Running, builder, on_every_backend};

/// Ends a connection in one of five ways; in the last, the server does.
fn end(mut client: Client, way: usize) {
    if way < 4 {
        return client.end(way);
    }
    client.send_text("/close 4000 enough");
    assert_eq!(client.read_close(), (4000, "enough".to_owned()));
    client.send_close(4000);
    client.read_end();
}

#[test]
fn tc07_every_open_has_one_close_however_it_ends() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let clients: Vec<Client> = (0..100).map(|_| Client::open(server.addr)).collect();
        for (number, mut client) in clients.into_iter().enumerate() {
            if number % 2 == 0 {
                client.echo("something first");
            }
            end(client, number % 5);
        }
        server.await_stats("the last close", |stats| stats.closed == 100);
        let mut opens = BTreeMap::new();
        let mut endings = BTreeMap::new();
        for call in server.other_calls() {
            match call.event {
                Event::Open { .. } => assert_eq!(opens.insert(call.conn, true), None),
                Event::Message { .. } => assert!(opens[&call.conn], "not after `close`"),
                Event::Close { code, side, .. } => {
                    assert_eq!(opens.insert(call.conn, false), Some(true), "one `close`");
                    *endings.entry((code, side == Side::Peer)).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(opens.len(), 100);
        let expected =
            [((1000, true), 20), ((1002, false), 20), ((1006, true), 40), ((4000, false), 20)];
        assert_eq!(endings.into_iter().collect::<Vec<_>>(), expected);
        let stats = server.stop();
        assert_eq!((stats.opened, stats.closed), (100, 100));
    });
}

#[test]
fn tc08_half_closed_peer_still_reads_what_it_is_owed() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        for number in 0..50 {
            client.send_text(&format!("{number} {}", "x".repeat(2_000)));
        }
        client.half_close();
        for number in 0..50 {
            assert!(client.read_text().starts_with(&format!("{number} ")));
        }
        client.read_end();
        let (_, code, side) = server.next_close();
        assert_eq!((code, side), (1006, Side::Peer));
        server.stop();
    });
}

#[test]
fn cl04_close_is_echoed_once_and_the_server_ends_the_stream() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        for payload in [&b""[..], b"\x03\xe8", b"\x0f\xa0reason"] {
            let mut client = Client::open(server.addr);
            client.send_frame(true, CLOSE, payload);
            let answer = client.read_frame();
            assert_eq!((answer.opcode, answer.payload.as_slice()), (CLOSE, payload));
            client.read_end();
        }
    });
}

#[test]
fn cl05_peer_that_never_answers_a_close_is_cut_off() {
    on_every_backend(|backend| {
        let settings = builder(backend).close_timeout(Duration::from_millis(300));
        let server = Running::start_with(backend, settings);
        let mut client = Client::open(server.addr);
        let asked_at = Instant::now();
        client.send_text("/close 1000 bye");
        assert_eq!(client.read_close().0, 1000);
        let (_, code, side) = server.next_close();
        assert_eq!((code, side), (1006, Side::Local));
        let waited = asked_at.elapsed();
        assert!(waited >= Duration::from_millis(300), "not before its time: {waited:?}");
        // The peer did not keep to the protocol, so there is no need to be orderly.
        let error = client.stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

/// A peer whose bytes are still on the way when the server fails the connection must find the Close
/// frame all the same: a close with unread input would reset the connection under it.
#[test]
fn cl08_peer_that_still_sends_reads_the_close_frame_every_time() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let junk = vec![0xff; 8 * 1024];
        for run in 0..300 {
            let mut client = Client::open(server.addr);
            client.send_raw(b"\x81\x05plain");
            // Sent before, at, and after the moment the server lets go.
            for chunk in 0..run % 7 {
                if run % 2 == 1 && chunk == 3 {
                    thread::sleep(Duration::from_micros(300));
                }
                client.send_raw(&junk);
            }
            client.expect_failure(1002);
        }
        let stats = server.stop();
        assert_eq!(stats.failures[&1002], 300);
    });
}

#[test]
fn bp04_peer_that_sends_without_reading_gets_all_of_it_back_later() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        let sender = client.stream.try_clone().unwrap();
        // More than the kernel's buffers of both directions hold.
        let count = 2_500;
        let payload = |number: usize| format!("{number:5}").repeat(2_000);
        let sending = thread::spawn(move || {
            let mut sender = &sender;
            for number in 0..count {
                sender.write_all(&frame(true, TEXT, payload(number).as_bytes())).unwrap();
            }
        });
        // Until the server reads no more, because nothing is taken from it.
        let progress = || server.handle.stats().messages;
        let mut last = 0;
        while progress() == 0 || progress() != last {
            last = progress();
            thread::sleep(Duration::from_millis(100));
        }
        assert!(!sending.is_finished(), "reading pauses before all {count} are in");
        for number in 0..count {
            assert!(client.read_text() == payload(number), "message {number} is intact");
        }
        sending.join().unwrap();
        client.close(1000);
    });
}

/// A send to a peer that is gone raises SIGPIPE unless it is told not to, and by default that ends
/// the process. Programs in Rust ignore it, but a library cannot rely on its host to do so.
#[cfg(feature = "cli")]
#[test]
fn bp06_sends_to_a_peer_that_is_gone_raise_no_signal() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::{Arc, OnceLock};

    use socket2::SockRef;

    static RAISED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let raised = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&raised)).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.write_all(b"!").unwrap_err();
    assert!(raised.swap(false, SeqCst), "this test would notice the signal");
    RAISED.set(raised).unwrap();

    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).send_bytes_max(32 << 20));
        for _ in 0..10 {
            let mut client = Client::open(server.addr);
            SockRef::from(&client.stream).set_recv_buffer_size(128 * 1024).unwrap();
            // More than the kernel holds, so that the server has to send again; and a peer that
            // ends its own side first, for only then does a reset break the pipe.
            client.send_text("/flood 200 40000");
            client.half_close();
            assert_eq!(client.read_frame().payload.len(), 40_000);
            thread::sleep(Duration::from_millis(20));
            client.reset();
        }
        server.await_stats("the last close", |stats| stats.closed == 10);
        let raised = RAISED.get().unwrap().load(SeqCst);
        assert!(!raised, "SIGPIPE was raised");
        Client::open(server.addr).echo("still served");
    });
}
