//! `Decision::defer`: what an application decides about a request later, from another thread.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use longwire::{Accept, CloseCode, Decision, Response};

use crate::client::Client;
use crate::server::{builder, on_every_backend};
use crate::upgrading::{Gated, PATIENCE, answer, ask, assert_status, split, upgrade_of};

#[test]
fn deferred_request_is_decided_from_another_thread() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let (mut client, deferral) = gated.defer();
        let (mut rejected, refusal) = gated.defer();
        let (mut answered, response) = gated.defer();
        // They wait without holding up anybody.
        ask(gated.addr(), &upgrade_of("/chat")).finish_handshake();
        thread::spawn(move || {
            response.decide(Decision::answer(Response::new(200).text("later")));
            refusal.decide(Decision::reject(Response::new(401).header("X-Why", "token")));
            deferral.decide(Accept::new("deferred".to_owned()).header("X-A", "b").into());
        })
        .join()
        .unwrap();
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nX-A: b"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        client.send_text("who");
        assert_eq!(client.read_text(), "deferred");
        client.close(1000);
        let rejected = split(&rejected.read_response());
        assert_status(&rejected, 401);
        assert!(rejected.0.contains("\r\nX-Why: token"), "{}", rejected.0);
        let answered = split(&answered.read_response());
        assert_status(&answered, 200);
        assert_eq!(answered.1, "later");
    });
}

#[test]
fn deferred_plain_request_cannot_be_accepted() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        for (request, status, body) in [
            ("GET /defer HTTP/1.1\r\nHost: a\r\n\r\n", 426, true),
            ("HEAD /defer HTTP/1.1\r\nHost: a\r\n\r\n", 405, false),
        ] {
            let mut client = ask(gated.addr(), request);
            let deferral = gated.deferrals.recv_timeout(PATIENCE).unwrap();
            deferral.decide(Decision::accept("no upgrade".to_owned()));
            let (head, rest) = split(&client.read_response());
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(body || rest.is_empty(), "{rest}");
        }
        assert_eq!(gated.server.stop().opened, 0);
    });
}

#[test]
fn deferral_that_is_dropped_or_deferred_again_refuses_with_503() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        assert_status(&answer(gated.addr(), &upgrade_of("/drop")), 503);
        assert_status(&answer(gated.addr(), &upgrade_of("/panic-while-deferring")), 503);
        let (mut client, deferral) = gated.defer();
        thread::spawn(move || drop(deferral)).join().unwrap();
        assert_status(&split(&client.read_response()), 503);
        let (mut client, deferral) = gated.defer();
        deferral.decide(Decision::defer(|_| unreachable!("once is enough")));
        assert_status(&split(&client.read_response()), 503);
        let stats = gated.server.stop();
        assert_eq!((stats.opened, stats.refusals["overloaded"]), (0, 4));
    });
}

#[test]
fn r4_deferred_request_is_answered_at_the_handshake_timeout_and_the_decision_is_too_late() {
    on_every_backend(|backend| {
        let timeout = Duration::from_millis(500);
        let gated = Gated::start_with(backend, builder(backend).handshake_timeout(timeout));
        let began = Instant::now();
        let (mut client, deferral) = gated.defer();
        assert_status(&split(&client.read_response()), 408);
        assert!(began.elapsed() >= timeout);
        deferral.decide(Decision::accept("too late".to_owned()));
        ask(gated.addr(), &upgrade_of("/chat")).finish_handshake();
        let stats = gated.server.stop();
        assert_eq!((stats.opened, stats.refusals["timeout"]), (1, 1));
    });
}

#[test]
fn hs19_decision_for_a_peer_that_is_gone_reaches_nobody_else() {
    on_every_backend(|backend| {
        // So that slots are used again at once.
        let gated = Gated::start_with(backend, builder(backend).conns_max(2));
        for round in 0..30 {
            let (client, deferral) = gated.defer();
            match round % 3 {
                0 => drop(client),
                1 => client.reset(),
                _ => {
                    let mut client = client;
                    client.half_close();
                    client.read_response();
                }
            }
            let mut next = until_let_in(gated.addr());
            deferral.decide(Decision::accept("gone".to_owned()));
            next.send_text("who");
            assert_eq!(next.read_text(), "/next", "in round {round}");
            next.close(1000);
        }
        assert!(gated.closed.try_iter().all(|state| state == "/next"));
        assert_eq!(gated.server.stop().opened, 30);
    });
}

/// Asks again while it is told that there is no room.
fn until_let_in(addr: SocketAddr) -> Client {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut client = ask(addr, &upgrade_of("/next"));
        let head = client.read_head();
        if head.starts_with("HTTP/1.1 101 ") {
            return client;
        }
        assert!(Instant::now() < end, "no place becomes free: {head}");
    }
}

#[test]
fn hs19_decision_and_the_end_of_the_peer_may_cross_in_any_way() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        for round in 0..200 {
            let (client, deferral) = gated.defer();
            let deciding = thread::spawn(move || {
                deferral.decide(Decision::accept("crossing".to_owned()));
            });
            if round % 2 == 0 {
                drop(client)
            } else {
                client.reset()
            }
            deciding.join().unwrap();
        }
        let mut last = ask(gated.addr(), &upgrade_of("/chat"));
        last.finish_handshake();
        last.close(1000);
        gated.server.await_stats("all ends", |stats| stats.closed == stats.opened);
        let stats = gated.server.stop();
        let accepted = gated.closed.try_iter().filter(|state| state == "crossing").count();
        assert_eq!(accepted as u64 + 1, stats.opened, "each that opened was closed once");
    });
}

#[test]
fn hs21_deferred_requests_count_as_handshakes() {
    on_every_backend(|backend| {
        let gated = Gated::start_with(backend, builder(backend).handshakes_max(3));
        let mut open = ask(gated.addr(), &upgrade_of("/chat"));
        open.finish_handshake();
        let waiting: Vec<_> = (0..3).map(|_| gated.defer()).collect();
        for _ in 0..5 {
            assert_status(&answer(gated.addr(), &upgrade_of("/chat")), 503);
        }
        open.send_text("who");
        assert_eq!(open.read_text(), "chat", "an open connection is no handshake");
        for (mut client, deferral) in waiting {
            deferral.decide(Decision::accept("at last".to_owned()));
            client.finish_handshake();
            client.send_text("who");
            assert_eq!(client.read_text(), "at last");
        }
        ask(gated.addr(), &upgrade_of("/chat")).finish_handshake();
        assert_eq!(gated.server.handle.stats().refusals["overloaded"], 5);
    });
}

#[test]
fn server_that_stops_refuses_what_waits_for_a_decision() {
    on_every_backend(|backend| {
        let mut gated = Gated::start(backend);
        let (mut client, deferral) = gated.defer();
        gated.server.handle.stop(CloseCode::GOING_AWAY);
        assert_status(&split(&client.read_response()), 503);
        drop(client);
        gated.server.join();
        // The worker is gone.
        deferral.decide(Decision::accept("too late".to_owned()));
    });
}
