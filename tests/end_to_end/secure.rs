//! WebSocket over TLS (wss): handshakes, echo, certificates, and the way a connection ends.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longwire::{BackendChoice, Builder, ClientAuth, ListenAddr, Side, Tls};
use rustls::{AlertDescription, ClientConfig, Error, HandshakeKind, version};

use crate::app::Event;
use crate::certificates::{Authority, VERSIONS};
use crate::client::{BINARY, CLOSE, Client, Frame, REQUEST, TEXT, frame};
use crate::server::{Running, builder, on_every_backend};

/// A server on one port alone, which speaks TLS.
pub(crate) fn secured(settings: Builder, tls: Tls) -> Builder {
    let addr: ListenAddr = "127.0.0.1:0".parse().unwrap();
    settings.listen_tls(addr, tls)
}

/// Where a server speaks TLS that was made by [`secured`].
pub(crate) fn secure_addr(server: &Running) -> std::net::SocketAddr {
    match server.addrs[..] {
        [_, ListenAddr::Tcp(addr)] => addr,
        _ => panic!("a plain port and one of TLS, not {:?}", server.addrs),
    }
}

fn start(backend: BackendChoice, authority: &Authority) -> Running {
    Running::start_with(backend, secured(builder(backend), authority.tls()))
}

/// What `tls()` of a client says when the server has refused its handshake.
fn refused_with(mut client: Client) -> Error {
    let error = match client.try_send_raw(REQUEST.as_bytes()) {
        Ok(()) => client.try_read(&mut [0; 64]).unwrap_err(),
        Err(error) => error,
    };
    let inner = error.into_inner().expect("an error of TLS");
    *inner.downcast::<Error>().expect("an error of TLS")
}

#[test]
fn messages_of_every_size_are_echoed_over_either_version() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let settings = builder(backend).message_bytes_max(1 << 20);
        let server = Running::start_with(backend, secured(settings, authority.tls()));
        for only in VERSIONS {
            let config = authority.client_with(&[only], None, |_| ());
            let mut client = Client::open_secure(secure_addr(&server), &config);
            assert_eq!(client.tls().protocol_version(), Some(only.version));
            assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
            for bytes in [0, 1, 125, 126, 16_000, 16_384, 65_535, 65_536, 1 << 20] {
                let payload = crate::app::flood_payload(bytes, bytes);
                for _ in 0..2 {
                    client.send_frame(true, BINARY, &payload);
                    assert!(client.read_frame().payload == payload, "{bytes} bytes");
                }
            }
            client.close(1000);
        }
        let stats = server.stop();
        assert_eq!((stats.opened, stats.messages), (2, 36));
    });
}

#[test]
fn plain_and_secure_port_of_one_server_serve_side_by_side() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let mut plain = Client::open(server.addr);
        let mut secure = Client::open_secure(secure_addr(&server), &authority.client());
        for number in 0..20 {
            plain.send_text(&format!("plain {number}"));
            secure.send_text(&format!("secure {number}"));
            assert_eq!(secure.read_text(), format!("secure {number}"));
            assert_eq!(plain.read_text(), format!("plain {number}"));
        }
        plain.close(1000);
        secure.close(1000);
    });
}

#[test]
fn r7_frames_cut_into_records_in_every_way_are_echoed() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let messages: Vec<u8> =
            [0, 1, 125, 126, 300].iter().flat_map(|&n| frame(true, TEXT, &vec![b'x'; n])).collect();
        for chunk in [1, 2, 7, 130, messages.len()] {
            let config = authority.client();
            let mut client = Client::open_secure(secure_addr(&server), &config);
            for piece in messages.chunks(chunk) {
                client.send_raw(piece);
            }
            for bytes in [0, 1, 125, 126, 300] {
                assert_eq!(client.read_text().len(), bytes, "in pieces of {chunk}");
            }
        }
    });
}

#[test]
fn hd03_slow_head_over_tls_is_answered_with_408_in_tls() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let settings = builder(backend)
            .tls_handshake_timeout(Duration::from_millis(1500))
            .handshake_timeout(Duration::from_secs(2));
        let server = Running::start_with(backend, secured(settings, authority.tls()));
        let mut client =
            Client::connect_secure(secure_addr(&server), &authority.client(), "localhost");
        let began = Instant::now();
        client.send_raw(b"GET / HTTP/1.1\r\n");
        let response = client.read_response();
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        // The shorter limit is for TLS alone.
        assert!(began.elapsed() >= Duration::from_millis(1700), "{:?}", began.elapsed());
    });
}

#[test]
fn tl10_certificate_is_chosen_by_the_name_that_is_asked_for() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let all = ["localhost", "127.0.0.1", "unknown.test"];
        let first = authority.issue("first", &all);
        let second = authority.issue("second", &["second.test", "*.wild.test"]);
        let tls = Tls::from_files(&first.certificate_file, &first.key_file)
            .and_then(|tls| tls.add_certificate_files(&second.certificate_file, &second.key_file))
            .unwrap();
        let server = Running::start_with(backend, secured(builder(backend), tls));
        let config = authority.client();
        for (name, shown) in [
            ("localhost", &first),
            // A name that nobody has, and an address, for which no name is sent at all.
            ("unknown.test", &first),
            ("127.0.0.1", &first),
            ("second.test", &second),
            ("a.wild.test", &second),
        ] {
            let mut client = Client::connect_secure(secure_addr(&server), &config, name);
            client.send_raw(REQUEST.as_bytes());
            client.finish_handshake();
            let certificates = client.tls().peer_certificates().unwrap();
            assert_eq!(certificates, std::slice::from_ref(&shown.certificate), "for {name}");
            client.echo(name);
        }
    });
}

#[test]
fn tl10_client_without_a_protocol_in_common_gets_the_alert() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for only in VERSIONS {
            let h2 = authority.client_with(&[only], None, |config| {
                config.alpn_protocols = vec![b"h2".to_vec()];
            });
            let client = Client::connect_secure(secure_addr(&server), &h2, "localhost");
            let error = refused_with(client);
            assert_eq!(error, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
            let silent = authority.client_with(&[only], None, |config| {
                config.alpn_protocols.clear();
            });
            let mut client = Client::open_secure(secure_addr(&server), &silent);
            assert_eq!(client.tls().alpn_protocol(), None);
            client.echo("who offers nothing is served");
        }
        server.await_stats("two refusals", |stats| stats.refusals.get("tls") == Some(&2));
    });
}

#[test]
fn tl11_client_certificate_is_asked_for_where_it_is_set_so() {
    on_every_backend(|backend| {
        let (authority, strangers) = (Authority::new(), Authority::new());
        let known = authority.issue("client", &["client.test"]);
        let foreign = strangers.issue("client", &["client.test"]);
        for (mode, bare_is_served) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)]
        {
            let tls = authority.tls().client_auth(authority.file(), mode).unwrap();
            let server = Running::start_with(backend, secured(builder(backend), tls));
            for only in VERSIONS {
                for (shown, is_served) in
                    [(None, bare_is_served), (Some(&known), true), (Some(&foreign), false)]
                {
                    let config = authority.client_with(&[only], shown, |_| ());
                    if is_served {
                        Client::open_secure(secure_addr(&server), &config).echo("let in");
                        continue;
                    }
                    let client = Client::connect_secure(secure_addr(&server), &config, "localhost");
                    let error = refused_with(client);
                    assert!(matches!(error, Error::AlertReceived(_)), "{error}");
                }
            }
            let served = if bare_is_served { 4 } else { 2 };
            server.await_stats("6 clients", |stats| {
                (stats.opened, stats.refusals.get("tls").copied()) == (served, Some(6 - served))
            });
        }
    });
}

#[test]
fn tl06_early_data_is_not_accepted() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let config = authority
            .client_with(&[&version::TLS13], None, |config| config.enable_early_data = true);
        let mut first = Client::open_secure(secure_addr(&server), &config);
        // The ticket comes before this answer.
        first.echo("hello");
        first.close(1000);
        let mut second = Client::connect_secure(secure_addr(&server), &config, "localhost");
        assert!(second.tls().early_data().is_none(), "the ticket allows none");
        second.send_raw(REQUEST.as_bytes());
        second.finish_handshake();
        assert_eq!(second.tls().handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!second.tls().is_early_data_accepted());
        second.echo("resumed without it");
    });
}

#[test]
fn tl08_end_without_close_notify_is_no_clean_close() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for only in VERSIONS {
            // Where in the second record the stream is cut.
            for cut in [0, 1, 4, 5, 6, 20] {
                let config = authority.client_with(&[only], None, |_| ());
                let mut client = Client::open_secure(secure_addr(&server), &config);
                let mut record = Vec::new();
                client.send_text("whole");
                client.tls().writer().write_all(&frame(true, TEXT, b"cut")).unwrap();
                client.tls().write_tls(&mut record).unwrap();
                client.stream.write_all(&record[..cut]).unwrap();
                client.half_close();
                let calls: Vec<Event> = (0..3).map(|_| server.next_call().event).collect();
                let end = Event::Close { code: 1006, reason: String::new(), side: Side::Peer };
                assert!(matches!(calls[0], Event::Open { .. }), "{calls:?}");
                assert_eq!(calls[1..], [Event::Message { bytes: 5 }, end], "cut at {cut}");
                // Our side was not cut: what was queued, and then the end, in order.
                assert_eq!(client.read_text(), "whole");
                client.read_end();
            }
        }
        assert_eq!(server.other_calls(), []);
    });
}

#[test]
fn tl08_close_notify_alone_is_no_close_of_the_websocket() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let mut client = Client::open_secure(secure_addr(&server), &authority.client());
        client.echo("hello");
        client.tls().send_close_notify();
        client.flush_tls();
        let (_, code, side) = server.next_close();
        assert_eq!((code, side), (1006, Side::Peer));
        client.read_end();
        // A Close frame is one, whether TLS ends in order or not.
        let mut client = Client::open_secure(secure_addr(&server), &authority.client());
        client.send_close(1001);
        client.half_close();
        let (_, code, side) = server.next_close();
        assert_eq!((code, side), (1001, Side::Peer));
        assert_eq!(client.read_close().0, 1001);
        client.read_end();
    });
}

/// Reads to the end, which has to be a `close_notify` and then that of the stream.
fn assert_ends_in_order(client: &mut Client) {
    // `Ok(None)` means a `close_notify`; without one this is an error.
    client.read_end();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [], "nothing follows the close_notify");
}

#[test]
fn tl09_close_frame_comes_first_then_close_notify_then_the_end_of_the_stream() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for only in VERSIONS {
            let config = authority.client_with(&[only], None, |_| ());
            let open = || Client::open_secure(secure_addr(&server), &config);
            let mut client = open();
            client.send_close(1000);
            assert_eq!(client.read_close().0, 1000);
            assert_ends_in_order(&mut client);

            let mut client = open();
            client.send_text("/close 4000 enough");
            assert_eq!(client.read_close(), (4000, "enough".to_owned()));
            client.send_close(4000);
            assert_ends_in_order(&mut client);

            let mut client = open();
            client.send_raw(b"\x81\x05plain");
            assert_eq!(client.read_close().0, 1002);
            assert_ends_in_order(&mut client);

            // Behind more than a socket takes at once.
            let mut client = open();
            client.send_text("/flood 12 60000");
            client.send_text("/close 4001 enough");
            for number in 0..12 {
                let payload = crate::app::flood_payload(number, 60_000);
                assert!(client.read_frame() == Frame { opcode: BINARY, payload });
            }
            assert_eq!(client.read_close().0, 4001);
            client.send_frame(true, CLOSE, b"");
            assert_ends_in_order(&mut client);

            let mut client = Client::connect_secure(secure_addr(&server), &config, "localhost");
            client.send_raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(client.read_head().starts_with("HTTP/1.1 426 "));
            client.read_response();
            assert_ends_in_order(&mut client);
        }
    });
}

#[test]
fn tl12_reload_of_certificates_under_load_drops_nobody() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let tls = authority.tls();
        let server = Running::start_with(backend, secured(builder(backend), tls.clone()));
        let (addr, config) = (secure_addr(&server), authority.client());
        let mut old = Client::open_secure(addr, &config);
        let done = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let (done, config) = (Arc::clone(&done), Arc::clone(&config));
                thread::spawn(move || visit_until(&done, addr, &config))
            })
            .collect();
        for generation in 2..20 {
            authority.issue("server", &["localhost"]);
            assert_eq!(tls.reload().unwrap().generation, generation);
            old.echo("still here");
        }
        let newest = authority.issue("server", &["localhost"]);
        tls.reload().unwrap();
        done.store(true, Ordering::Relaxed);
        let visits: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        let mut client = Client::open_secure(addr, &authority.client());
        let shown = client.tls().peer_certificates().unwrap();
        assert_eq!(shown, [newest.certificate], "new handshakes see the new one");
        client.close(1000);
        old.close(1000);
        let stats = server.stop();
        assert_eq!((stats.opened, stats.closed), (visits + 2, visits + 2));
        assert!(stats.refusals.is_empty() && stats.failures.is_empty(), "{stats:?}");
    });
}

/// Comes and goes; how often.
fn visit_until(done: &AtomicBool, addr: std::net::SocketAddr, config: &Arc<ClientConfig>) -> u64 {
    let mut visits = 0;
    while !done.load(Ordering::Relaxed) || visits == 0 {
        let mut client = Client::open_secure(addr, config);
        client.echo("hello");
        client.close(1000);
        visits += 1;
    }
    visits
}

#[test]
fn reset_connection_over_tls_is_told_once() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let config = authority.client();
        for _ in 0..20 {
            let mut client = Client::open_secure(secure_addr(&server), &config);
            client.echo("hello");
            client.reset();
            assert_eq!(server.next_close().1, 1006);
        }
        let mut client = Client::open_secure(secure_addr(&server), &config);
        client.echo("others are served");
        assert_eq!(server.handle.stats().closed, 20);
    });
}
