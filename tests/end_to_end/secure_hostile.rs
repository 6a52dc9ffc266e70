//! Peers of the TLS port that are slow, silent, want more than their share, or speak no TLS.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use longwire::BackendChoice;
use rustls::{ClientConfig, version};

use crate::certificates::{Authority, VERSIONS};
use crate::client::{BINARY, Client, Frame, REQUEST, frame};
use crate::secure::{secure_addr, secured};
use crate::server::{Running, builder, on_every_backend};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

fn start(backend: BackendChoice, authority: &Authority) -> Running {
    Running::start_with(backend, secured(builder(backend), authority.tls()))
}

/// The first flight of a handshake: one record.
fn client_hello(client: &mut Client) -> Vec<u8> {
    let mut record = Vec::new();
    client.tls().write_tls(&mut record).unwrap();
    assert_eq!(record[0], HANDSHAKE);
    assert_eq!(record.len(), 5 + usize::from(u16::from_be_bytes([record[3], record[4]])));
    record
}

/// One record of plaintext.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    [&[kind, 3, 1, high, low], content].concat()
}

/// Reads all that comes. The connection must end, in whatever way.
fn read_to_end(client: &mut Client) -> Vec<u8> {
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match client.stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(bytes) => all.extend_from_slice(&chunk[..bytes]),
            // Unread input makes of the end a reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }
}

#[test]
fn tl01_plain_http_on_the_tls_port_gets_an_alert_and_no_answer() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for first in [REQUEST.as_bytes(), b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03", &[0; 200]] {
            let mut client = Client::connect(secure_addr(&server));
            client.send_raw(first);
            client.half_close();
            let answer = read_to_end(&mut client);
            // What is too short to be wrong is met with silence.
            assert!(answer.is_empty() || (answer.len() == 7 && answer[0] == ALERT), "{answer:?}");
            assert_eq!(answer.is_empty(), first.len() == 2);
        }
        let mut good = Client::open_secure(secure_addr(&server), &authority.client());
        good.echo("others are served");
        assert_eq!(server.stop().refusals["tls"], 3);
    });
}

#[test]
fn tl02_client_hello_in_single_bytes_is_answered_as_if_whole() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for only in VERSIONS {
            let config = authority.client_with(&[only], None, |_| ());
            let connect = || Client::connect_secure(secure_addr(&server), &config, "localhost");
            let finish = |mut client: Client, how: &str| {
                client.send_raw(REQUEST.as_bytes());
                client.finish_handshake();
                client.echo(how);
            };
            let mut client = connect();
            for byte in client_hello(&mut client) {
                client.stream.write_all(&[byte]).unwrap();
                thread::sleep(Duration::from_micros(200));
            }
            finish(client, "in packets of a byte");

            let mut client = connect();
            let hello = client_hello(&mut client);
            let records: Vec<Vec<u8>> =
                hello[5..].chunks(1).map(|byte| record(HANDSHAKE, byte)).collect();
            client.stream.write_all(&records.concat()).unwrap();
            finish(client, "in records of a byte");

            let mut client = connect();
            let hello = client_hello(&mut client);
            for byte in hello[5..].chunks(1) {
                client.stream.write_all(&record(HANDSHAKE, byte)).unwrap();
            }
            finish(client, "in packets of a record of a byte");
        }
        assert_eq!(server.stop().opened, 6);
    });
}

#[test]
fn tl02_whole_handshake_and_session_in_single_bytes_is_served() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for only in VERSIONS {
            let config = authority.client_with(&[only], None, |_| ());
            let mut client = Client::connect_secure(secure_addr(&server), &config, "localhost");
            let mut stream = client.stream.try_clone().unwrap();
            while client.tls().is_handshaking() {
                send_in_bytes(&mut client);
                if client.tls().wants_read() && client.tls().is_handshaking() {
                    client.tls().read_tls(&mut stream).unwrap();
                    client.tls().process_new_packets().unwrap();
                }
            }
            client.tls().writer().write_all(REQUEST.as_bytes()).unwrap();
            send_in_bytes(&mut client);
            client.finish_handshake();
            client.tls().writer().write_all(&frame(true, BINARY, &[7; 300])).unwrap();
            send_in_bytes(&mut client);
            assert_eq!(client.read_frame(), Frame::new(BINARY, &[7; 300]));
            client.close(1000);
        }
    });
}

fn send_in_bytes(client: &mut Client) {
    let mut records = Vec::new();
    while client.tls().wants_write() {
        client.tls().write_tls(&mut records).unwrap();
    }
    for byte in records {
        client.stream.write_all(&[byte]).unwrap();
    }
}

#[test]
fn tl02_handshake_that_is_not_finished_is_closed_at_its_timeout() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let timeout = Duration::from_millis(600);
        let settings = builder(backend).tls_handshake_timeout(timeout);
        let server = Running::start_with(backend, secured(settings, authority.tls()));
        let config = authority.client();
        let mut open = Client::open_secure(secure_addr(&server), &config);
        let began = Instant::now();
        let mut halves: Vec<Client> = [1, 5, 6, 100]
            .into_iter()
            .map(|bytes| {
                let mut client = Client::connect_secure(secure_addr(&server), &config, "localhost");
                let hello = client_hello(&mut client);
                client.stream.write_all(&hello[..bytes]).unwrap();
                client
            })
            .collect();
        // One that goes as far as the answer, and says no more.
        let mut client = Client::connect_secure(secure_addr(&server), &config, "localhost");
        let hello = client_hello(&mut client);
        client.stream.write_all(&hello).unwrap();
        halves.push(client);
        for (number, client) in halves.iter_mut().enumerate() {
            let answer = read_to_end(client);
            assert_eq!(answer.is_empty(), number < 4, "{answer:?}");
        }
        let waited = began.elapsed();
        assert!(waited >= timeout && waited < timeout + SLACK, "{waited:?}");
        open.echo("an open connection has no such limit");
        server.await_stats("5 timeouts", |stats| stats.refusals.get("timeout") == Some(&5));
    });
}

#[test]
fn tl03_alerts_and_empty_records_without_end_fail_the_handshake() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let mut open = Client::open_secure(secure_addr(&server), &authority.client());
        // One that nobody vouches for ends nothing, and counts as a warning.
        let close_notify = record(ALERT, &[1, 0]).repeat(6);
        let warnings = record(ALERT, &[1, 90]).repeat(100_000);
        let empty_handshakes = record(HANDSHAKE, &[]).repeat(100_000);
        let empty_data = record(23, &[]).repeat(100_000);
        let cipher_changes = record(20, &[1]).repeat(100_000);
        let fatal = record(ALERT, &[2, 40]);
        let floods = [close_notify, warnings, empty_handshakes, empty_data, cipher_changes, fatal];
        for (number, flood) in floods.iter().enumerate() {
            for after_hello in [false, true] {
                let config = authority.client();
                let mut client = Client::connect_secure(secure_addr(&server), &config, "localhost");
                let hello = client_hello(&mut client);
                let began = Instant::now();
                if after_hello {
                    client.stream.write_all(&hello).unwrap();
                }
                // The server may be gone before all of it is sent.
                let _ = client.stream.write_all(flood);
                read_to_end(&mut client);
                assert!(began.elapsed() < SLACK, "flood {number} is not ended at once");
                open.echo("not disturbed");
            }
        }
        assert_eq!(server.stop().opened, 1);
    });
}

#[test]
fn tl03_key_updates_are_followed_until_there_are_too_many_in_a_row() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let config = authority.client_with(&[&version::TLS13], None, |_| ());
        let mut client = Client::open_secure(secure_addr(&server), &config);
        let mut other = Client::open_secure(secure_addr(&server), &config);
        // Each asks for an update of the server's keys; one answers them all (RFC 8446 §4.6.3).
        for _ in 0..3 {
            for _ in 0..30 {
                client.tls().refresh_traffic_keys().unwrap();
            }
            client.echo("the newest keys are in use");
        }
        for _ in 0..20_000 {
            client.tls().refresh_traffic_keys().unwrap();
        }
        let mut updates = Vec::new();
        while client.tls().wants_write() {
            client.tls().write_tls(&mut updates).unwrap();
        }
        // The server is gone before it has read them all.
        let _ = client.stream.write_all(&updates);
        assert_eq!(server.next_close().1, 1006);
        other.echo("not disturbed");
    });
}

#[test]
fn tl03_answer_after_a_key_update_leaves_at_once_whatever_its_size() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        let config = authority.client_with(&[&version::TLS13], None, |_| ());
        let mut client = Client::open_secure(secure_addr(&server), &config);
        // The server's own KeyUpdate takes room in front of the answer. What fills a block to the
        // last byte without it has none left.
        let sizes = (16_280..16_400).chain(16_770..16_900).chain(32_690..32_770);
        for bytes in sizes {
            client.tls().refresh_traffic_keys().unwrap();
            let payload = vec![b'k'; bytes];
            client.send_frame(true, BINARY, &payload);
            assert!(client.read_frame().payload == payload, "{bytes} bytes");
        }
        client.close(1000);
    });
}

#[test]
fn tl04_handshake_message_of_more_than_64_kib_fails_at_its_header() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for declared in [[1, 1, 0, 1], [1, 0xff, 0xff, 0xff]] {
            let mut client = Client::connect(secure_addr(&server));
            let began = Instant::now();
            client.send_raw(&record(HANDSHAKE, &declared));
            read_to_end(&mut client);
            assert!(began.elapsed() < SLACK, "it was not waited for");
        }
        assert_eq!(server.stop().refusals["tls"], 2);
    });
}

#[test]
fn tl05_handshakes_in_progress_are_bounded_and_open_connections_live_on() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let timeout = Duration::from_secs(2);
        let settings = builder(backend).tls_handshakes_max(4).tls_handshake_timeout(timeout);
        let server = Running::start_with(backend, secured(settings, authority.tls()));
        let config = authority.client();
        let mut open = Client::open_secure(secure_addr(&server), &config);
        open.echo("before");
        let began = Instant::now();
        let mut halves: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = Client::connect_secure(secure_addr(&server), &config, "localhost");
                let hello = client_hello(&mut client);
                client.stream.write_all(&hello[..50]).unwrap();
                client
            })
            .collect();
        open.echo("meanwhile");
        server.await_stats("16 refusals", |stats| stats.refusals.get("overloaded") == Some(&16));
        assert!(began.elapsed() < timeout, "before any of them has timed out");
        assert_eq!(server.handle.stats().accepted, 5, "what is not let in is not counted as such");
        // The plain port has no TLS handshakes.
        Client::open(server.addr).echo("on the other port");
        for client in &mut halves {
            assert_eq!(read_to_end(client), [], "closed without a byte");
        }
        assert!(began.elapsed() >= timeout, "four had their time");
        let mut late = Client::open_secure(secure_addr(&server), &config);
        late.echo("there is room again");
        open.echo("after");
        assert_eq!(server.stop().refusals["timeout"], 4);
    });
}

/// Sends echo after echo until the server takes no more; how many.
fn send_until_blocked(client: &mut Client, frame: &[u8]) -> usize {
    client.stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    for count in 0.. {
        client.tls().writer().write_all(frame).unwrap();
        while client.tls().wants_write() {
            let (tls, stream) = client.parts();
            if tls.write_tls(stream).is_err() {
                return count + 1;
            }
        }
        assert!(count * frame.len() < 64 << 20, "the server takes without end");
    }
    unreachable!("the count has no end")
}

#[test]
fn tl07_echo_to_a_reader_that_stalls_is_bounded_and_nothing_is_lost() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = start(backend, &authority);
        for only in VERSIONS {
            let config: Arc<ClientConfig> = authority.client_with(&[only], None, |_| ());
            let mut client = Client::open_secure(secure_addr(&server), &config);
            let mut other = Client::open_secure(secure_addr(&server), &config);
            let payload = crate::app::flood_payload(1, 16 * 1024);
            let count = send_until_blocked(&mut client, &frame(true, BINARY, &payload));
            other.echo("not disturbed");
            // The rest of the last frame is still to be sent, so reading and writing alternate.
            let mut stream = client.stream.try_clone().unwrap();
            stream.set_nonblocking(false).unwrap();
            let mut rest = Vec::new();
            while client.tls().wants_write() {
                client.tls().write_tls(&mut rest).unwrap();
            }
            let sending = thread::spawn(move || {
                stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
                stream.write_all(&rest).unwrap();
            });
            for number in 0..count {
                assert!(client.read_frame().payload == payload, "echo {number} of {count}");
            }
            sending.join().unwrap();
            client.echo("and it goes on");
        }
    });
}

#[test]
fn tl07_what_waits_for_a_stalled_reader_over_tls_counts_to_its_queue() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let settings = builder(backend).send_bytes_max(256 * 1024);
        let server = Running::start_with(backend, secured(settings, authority.tls()));
        let config = authority.client();
        let mut client = Client::open_secure(secure_addr(&server), &config);
        let mut other = Client::open_secure(secure_addr(&server), &config);
        client.send_text("/flood 2000 20000");
        assert_eq!(server.next_close().1, 1013);
        other.echo("not disturbed");
    });
}
