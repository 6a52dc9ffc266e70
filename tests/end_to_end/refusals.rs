//! Who is not let in, and how it is told.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use longwire::BackendChoice;

use crate::client::{Client, REQUEST};
use crate::server::{Running, builder, on_every_backend};

fn server_with_room_for(backend: BackendChoice, conns: usize) -> Running {
    Running::start_with(backend, builder(backend).conns_max(conns))
}

/// The answer to a request that is refused: whole, with the status, and the end of the stream.
fn refused(client: &mut Client, status: u16) -> String {
    let response = client.read_response();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains("\r\nConnection: close"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "nothing follows");
    head.to_owned()
}

/// Asks again while it is told that there is no room.
fn until_let_in(addr: SocketAddr) -> Client {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let mut client = Client::connect(addr);
        client.send_raw(REQUEST.as_bytes());
        let mut start = [0; 12];
        while client.stream.peek(&mut start).unwrap() < start.len() {}
        if start != *b"HTTP/1.1 503" {
            client.finish_handshake();
            return client;
        }
        assert!(Instant::now() < end, "no place becomes free");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn tc06_exactly_conns_max_are_held_and_the_others_get_503() {
    on_every_backend(|backend| {
        let server = server_with_room_for(backend, 10);
        let mut held: Vec<Client> = (0..10).map(|_| Client::open(server.addr)).collect();
        for _ in 0..15 {
            let mut client = Client::connect(server.addr);
            client.send_raw(REQUEST.as_bytes());
            let head = refused(&mut client, 503);
            assert!(head.contains("\r\nRetry-After: "), "{head}");
        }
        for (number, client) in held.iter_mut().enumerate() {
            client.echo(&format!("{number} is held"));
        }
        let stats = server.handle.stats();
        assert_eq!((stats.accepted, stats.opened, stats.closed), (25, 10, 0));
        assert_eq!(stats.refusals["overloaded"], 15);

        for round in 0..3 {
            held.pop().unwrap().close(1000);
            server.await_stats("room for one", |stats| stats.closed == round + 1);
            // The place is free once the kernel has let go of the socket, too.
            let mut client = until_let_in(server.addr);
            client.echo("a place has become free");
            held.push(client);
            let mut client = Client::connect(server.addr);
            client.send_raw(REQUEST.as_bytes());
            refused(&mut client, 503);
        }
    });
}

#[test]
fn tc06_all_workers_together_hold_conns_max() {
    on_every_backend(|backend| {
        let cores = crate::server::usable_cores();
        let settings = builder(backend).cores(cores).conns_max(20);
        let server = Running::start_with(backend, settings);
        let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(server.addr)).collect();
        for client in &mut clients {
            client.send_raw(REQUEST.as_bytes());
        }
        server.await_stats("60 answers", |stats| {
            stats.opened + stats.refusals.get("overloaded").copied().unwrap_or(0) == 60
        });
        assert_eq!(server.handle.stats().opened, 20);
    });
}

#[test]
fn hs10_second_request_after_a_refusal_is_not_answered() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let bad = REQUEST.replacen("Upgrade: websocket\r\n", "", 1);
        for second in [REQUEST, bad.as_str()] {
            let mut client = Client::connect(server.addr);
            client.send_raw((bad.clone() + second).as_bytes());
            let head = client.read_response();
            assert_eq!(head.matches("HTTP/1.1").count(), 1, "both in one write: {head}");

            let mut client = Client::connect(server.addr);
            client.send_raw(bad.as_bytes());
            let head = client.read_head();
            assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
            assert!(head.contains("\r\nUpgrade: websocket"), "{head}");
            client.send_raw(second.as_bytes());
            let rest = client.read_response();
            assert!(!rest.contains("HTTP/1.1"), "once the first is answered: {rest}");
        }
        server.await_stats("four refusals", |stats| stats.refusals.values().sum::<u64>() == 4);
        assert_eq!(server.stop().opened, 0);
    });
}

#[test]
fn hs09_frame_before_the_answer_is_refused() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::connect(server.addr);
        client.send_raw(&[REQUEST.as_bytes(), b"\x81\x80\0\0\0\0"].concat());
        refused(&mut client, 400);
        assert_eq!(server.stop().opened, 0);
    });
}

#[test]
fn tl01_tls_on_a_plain_port_is_refused_with_400() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::connect(server.addr);
        let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 200]].concat();
        client.send_raw(&hello);
        refused(&mut client, 400);
    });
}

#[test]
fn tc13_handshakes_beyond_the_rate_are_told_when_to_come_back() {
    const CLIENTS: usize = 200;
    on_every_backend(|backend| {
        let rate = NonZeroU32::new(40);
        let server = Running::start_with(backend, builder(backend).handshakes_per_second(rate));
        let began = Instant::now();
        let (mut held, mut delays) = (Vec::new(), BTreeSet::new());
        for _ in 0..CLIENTS {
            let mut client = Client::connect(server.addr);
            client.send_raw(REQUEST.as_bytes());
            let mut start = [0; 12];
            while client.stream.peek(&mut start).unwrap() < start.len() {}
            if start != *b"HTTP/1.1 503" {
                client.finish_handshake();
                held.push(client);
                continue;
            }
            let head = refused(&mut client, 503);
            let delay = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap();
            delays.insert(delay.parse::<u64>().unwrap());
        }
        // A quarter of a second's at once, and then as many as the time that has passed allows.
        let allowed = 10.0 + began.elapsed().as_secs_f64().mul_add(40.0, 5.0);
        assert!(held.len() >= 10 && (held.len() as f64) <= allowed, "{} of {allowed}", held.len());
        assert!(delays.iter().all(|delay| (2..=10).contains(delay)) && delays.len() > 3);
        let stats = server.handle.stats();
        assert_eq!(stats.refusals["handshake_rate"], (CLIENTS - held.len()) as u64);
        for client in &mut held {
            client.echo("who was let in is served");
        }
        std::thread::sleep(Duration::from_millis(500));
        Client::open(server.addr).echo("now there is room again");
        server.stop();
    });
}
