//! What the application sees of a connection, and what it can do to it.

use std::time::Duration;

use longwire::{BackendChoice, Side};

use crate::app::{Call, Event};
use crate::client::{BINARY, CLOSE, Client, Frame, REQUEST};
use crate::server::{Running, builder, on_every_backend};

fn close(code: u16, reason: &str, side: Side) -> Event {
    Event::Close { code, reason: reason.to_owned(), side }
}

#[test]
fn calls_of_a_connection_come_in_order_with_a_state_of_its_own() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut first = Client::open(server.addr);
        let mut second = Client::open(server.addr);
        first.echo("a");
        second.echo("b");
        first.echo("c");
        for (client, count) in [(&mut first, "3"), (&mut second, "2")] {
            client.send_text("/count");
            assert_eq!(client.read_text(), count);
        }
        first.close(1000);
        let mut third = Client::open(server.addr);
        third.send_text("/count");
        assert_eq!(third.read_text(), "1", "a new connection starts with a new state");
        third.close(4321);
        second.close(1001);

        let calls: Vec<Call> = std::iter::from_fn(|| Some(server.next_call())).take(12).collect();
        let opened: Vec<_> =
            calls.iter().filter(|call| matches!(call.event, Event::Open { .. })).collect();
        assert_eq!(opened.len(), 3);
        for (open, messages, code) in
            [(opened[0], 3, 1000), (opened[1], 2, 1001), (opened[2], 1, 4321)]
        {
            let own: Vec<_> = calls.iter().filter(|call| call.conn == open.conn).collect();
            assert_eq!(own.len(), messages + 2, "{own:?}");
            assert_eq!(own[0], open, "`open` comes first");
            let is_message = |call: &&&Call| matches!(call.event, Event::Message { .. });
            assert_eq!(own.iter().filter(is_message).count(), messages);
            assert_eq!(own[messages + 1].event, close(code, "", Side::Peer));
        }
        server.stop();
    });
}

#[test]
fn open_shows_the_request() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let request = REQUEST.replacen("GET / ", "GET /rooms/blue?since=7&x=%2F ", 1).replacen(
            "Host: localhost",
            "hOST: example.org:9001\r\nX-Token:   s3cret \t",
            1,
        );
        let mut client = Client::open_with(server.addr, &request);
        client.echo("hello");
        let Event::Open { path, query, headers } = server.next_call().event else {
            panic!("`open` comes first")
        };
        assert_eq!((path.as_str(), query.as_deref()), ("/rooms/blue", Some("since=7&x=%2F")));
        let value = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("host"), Some("example.org:9001"));
        assert_eq!(value("x-token"), Some("s3cret"));
        assert_eq!(value("cookie"), None);
        assert_eq!(headers.len(), 6, "{headers:?}");
    });
}

#[test]
fn message_sent_at_open_follows_the_handshake() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open_at(server.addr, "/greet");
        assert_eq!(client.read_text(), "welcome");
        client.echo("thanks");
    });
}

#[test]
fn application_closes_with_its_code_and_reason() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        client.echo("first");
        client.send_text("/close 4007 grüße und auf wiedersehen");
        assert_eq!(client.read_close(), (4007, "grüße und auf wiedersehen".to_owned()));
        assert_eq!(server.other_calls().len(), 3, "`close` waits for the answer of the peer");
        client.send_frame(true, CLOSE, b"\x0f\xa7and on this side");
        client.read_end();
        assert_eq!(server.next_call().event, close(4007, "and on this side", Side::Local));
    });
}

#[test]
fn cl07_reason_of_the_application_is_cut_at_a_character() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        client.send_text(&format!("/close 3000 {}", "€".repeat(50)));
        assert_eq!(client.read_close(), (3000, "€".repeat(41)));
        for code in ["1005", "1006", "1015", "0", "65535"] {
            let mut client = Client::open(server.addr);
            client.send_text(&format!("/close {code} x"));
            assert_eq!(client.read_close().0, 1000, "{code} must not be sent");
        }
    });
}

#[test]
fn r1_panic_of_the_application_closes_that_connection_with_1011() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut bystander = Client::open(server.addr);
        bystander.echo("before");

        let mut client = Client::open(server.addr);
        client.echo("a message before");
        client.send_text("/panic");
        client.expect_failure(1011);
        Client::open_at(server.addr, "/panic-at-open").expect_failure(1011);
        Client::open_at(server.addr, "/panic-at-close").close(1000);

        bystander.echo("after");
        drop(bystander);
        let closes = [server.next_close(), server.next_close(), server.next_close()];
        let codes = closes.map(|(_, code, _)| code);
        assert_eq!(codes, [1011, 1011, 1000], "each is told of its end");
        let stats = server.stop();
        assert_eq!((stats.opened, stats.closed), (4, 4));
        assert_eq!(stats.failures[&1011], 2);
    });
}

#[test]
fn peer_address_is_that_of_the_client() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        client.send_text("/addr");
        let addr = client.stream.local_addr().unwrap();
        assert_eq!(client.read_text(), addr.to_string());
    });
}

#[test]
fn r8_stats_count_what_has_happened() {
    on_every_backend(|backend| {
        let server = Running::start_with(backend, builder(backend).message_bytes_max(1_000));
        assert_eq!(server.handle.stats(), longwire::Stats::default());
        for _ in 0..2 {
            let mut client = Client::open(server.addr);
            client.echo("12345");
            client.send_frame(true, BINARY, &[7; 1_000]);
            assert_eq!(client.read_frame(), Frame::new(BINARY, &[7; 1_000]));
            client.close(1000);
        }
        for (replaced, by, count) in [
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 3),
            ("Upgrade: websocket\r\n", "", 2),
            ("GET / ", "POST / ", 1),
        ] {
            for _ in 0..count {
                let mut client = Client::connect(server.addr);
                client.send_raw(REQUEST.replacen(replaced, by, 1).as_bytes());
                assert!(client.read_response().starts_with("HTTP/1.1 4"));
            }
        }
        for (frame, code) in [
            (&b"\x82\x05plain"[..], 1002),
            (&b"\x81\x81\0\0\0\0\xff"[..], 1007),
            (&b"\x82\xfe\x03\xe9\0\0\0\0"[..], 1009),
            (&b"\x83\x80\0\0\0\0"[..], 1002),
        ] {
            let mut client = Client::open(server.addr);
            client.send_raw(frame);
            client.expect_failure(code);
        }
        server.await_stats("the last close", |stats| stats.closed == 6);
        let mut while_running = server.handle.stats();
        let stats = server.stop();
        // The turns that stopped it count, too, and levels are shown at the end of a turn.
        while_running.turns = stats.turns;
        while_running.turn_time = stats.turn_time;
        while_running.waits = stats.waits;
        while_running.submissions = stats.submissions;
        while_running.held_bytes = stats.held_bytes;
        while_running.receive_blocks_free = stats.receive_blocks_free;
        while_running.pool_bytes = stats.pool_bytes;
        while_running.spare_bytes = stats.spare_bytes;
        assert_eq!(stats, while_running);
        assert_eq!((stats.accepted, stats.opened, stats.closed, stats.shed), (12, 6, 6, 0));
        assert_eq!((stats.messages, stats.message_bytes), (4, 2 * 1_005));
        assert_eq!(
            stats.refusals.into_iter().collect::<Vec<_>>(),
            [("method", 1), ("missing_key", 3), ("not_an_upgrade", 2)]
        );
        assert_eq!(
            stats.failures.into_iter().collect::<Vec<_>>(),
            [(1002, 2), (1007, 1), (1009, 1)]
        );
    });
}

#[test]
fn server_is_started_by_its_defaults_on_a_backend_of_its_choice() {
    let server = longwire::Server::builder()
        .listen(([127, 0, 0, 1], 0).into())
        .backend(BackendChoice::Auto)
        .build()
        .unwrap();
    assert_ne!(server.local_addr().unwrap().port(), 0, "the kernel has chosen one");
    assert!(server.backend_reason().starts_with(server.backend().name()));
    assert!(!server.cores().is_empty());
}

#[test]
fn lc05_callback_that_blocks_is_seen_until_it_returns() {
    const STEP: Duration = Duration::from_millis(50);
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut watch = server.handle.turn_watch();
        let mut client = Client::open(server.addr);
        client.send_text("/block 1500");
        let mut longest = Duration::ZERO;
        for _ in 0..25 {
            std::thread::sleep(STEP);
            longest = longest.max(watch.poll(STEP)[0]);
        }
        assert!(longest >= 10 * STEP, "{longest:?}");
        assert_eq!(client.read_text(), "at last");
        client.echo("it goes on");
        watch.poll(STEP);
        std::thread::sleep(STEP);
        assert!(watch.poll(STEP)[0] <= STEP, "it waits for the next message");
        server.stop();
    });
}
