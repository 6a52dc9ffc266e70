//! Messages of every size and shape come back as they were sent.

use std::fmt::Write as _;

use longwire::BackendChoice;

use crate::client::{BINARY, CLOSE, CONTINUATION, Client, Frame, PING, PONG, REQUEST, TEXT, frame};
use crate::server::{Running, builder, has_io_uring, on_every_backend, usable_cores};

const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Both sides of each change of the length's form, and the largest.
const SIZES: [usize; 8] = [0, 1, 125, 126, 16_384, 65_535, 65_536, MESSAGE_BYTES_MAX];

fn large_messages(backend: BackendChoice) -> Running {
    Running::start_with(backend, builder(backend).message_bytes_max(MESSAGE_BYTES_MAX))
}

/// Text of so many bytes in which no two places look alike, with characters of two bytes.
fn text_of(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut number = 0;
    while text.len() < bytes {
        write!(text, "{number}ü").unwrap();
        number += 1;
    }
    while text.len() > bytes {
        text.pop();
    }
    text.extend(std::iter::repeat_n('x', bytes - text.len()));
    text
}

/// Bytes that are no text, different for each `salt`.
fn bytes_of(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) >> 3 ^ at ^ salt).to_le_bytes()[0] | 0x80).collect()
}

fn echo_all_sizes(client: &mut Client) {
    for bytes in SIZES {
        client.echo(&text_of(bytes));
        let payload = bytes_of(bytes, bytes);
        client.send_frame(true, BINARY, &payload);
        assert!(client.read_frame() == Frame::new(BINARY, &payload), "binary of {bytes} bytes");
    }
}

#[test]
fn text_and_binary_of_every_size_class_come_back() {
    on_every_backend(|backend| {
        let server = large_messages(backend);
        let mut client = Client::open(server.addr);
        echo_all_sizes(&mut client);
        client.close(1000);
        let stats = server.stop();
        assert_eq!(stats.messages, 2 * SIZES.len() as u64);
        assert_eq!(stats.message_bytes, 2 * SIZES.iter().sum::<usize>() as u64);
    });
}

#[test]
fn message_above_the_limit_closes_with_1009() {
    on_every_backend(|backend| {
        let server = large_messages(backend);
        let mut client = Client::open(server.addr);
        // The header alone is enough; no payload is waited for.
        let header = &frame(true, BINARY, &vec![0; MESSAGE_BYTES_MAX + 1])[..14];
        client.send_raw(header);
        client.expect_failure(1009);
    });
}

#[test]
fn ct05_pings_between_fragments_are_answered_at_once() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        client.send_frame(false, TEXT, b"frag");
        for payload in [&b""[..], b"first", &[0xff; 125]] {
            client.send_frame(true, PING, payload);
            assert_eq!(client.read_frame(), Frame::new(PONG, payload), "before the message ends");
            client.send_frame(false, CONTINUATION, b"-");
        }
        client.send_frame(true, CONTINUATION, b"mented");
        assert_eq!(client.read_text(), "frag---mented");
        client.echo("and on it goes");
    });
}

#[test]
fn ping_of_the_application_leaves_with_up_to_125_bytes_of_its_payload() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        for bytes in [1, 125, 126, 1000] {
            let payload = "0123456789".repeat(100);
            client.send_text(&format!("/ping {}", &payload[..bytes]));
            let frame = client.read_frame();
            assert_eq!(frame, Frame::new(PING, &payload.as_bytes()[..bytes.min(125)]));
            client.send_frame(true, PONG, &frame.payload);
        }
        client.send_text("/count");
        assert_eq!(client.read_text(), "5", "the pongs were no messages");
    });
}

#[test]
fn fg07_character_split_over_fragments_is_accepted() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        let text = "a-ä-€-🙂".as_bytes();
        for split in 0..=text.len() {
            client.send_frame(false, TEXT, &text[..split]);
            client.send_frame(true, PING, b"");
            assert_eq!(client.read_frame().opcode, PONG);
            client.send_frame(true, CONTINUATION, &text[split..]);
            assert_eq!(client.read_frame(), Frame::new(TEXT, text), "split at {split}");
        }
    });
}

#[test]
fn fr08_session_written_byte_by_byte_is_understood() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::connect(server.addr);
        for byte in REQUEST.as_bytes() {
            client.send_raw(&[*byte]);
        }
        client.finish_handshake();
        let long = text_of(300);
        let mut session = frame(true, TEXT, b"short");
        session.extend(frame(true, TEXT, long.as_bytes()));
        session.extend(frame(false, TEXT, "grü".as_bytes()));
        session.extend(frame(true, PING, b"well?"));
        session.extend(frame(true, CONTINUATION, "ße".as_bytes()));
        session.extend(frame(true, CLOSE, &1000_u16.to_be_bytes()));
        for byte in session {
            client.send_raw(&[byte]);
        }
        assert_eq!(client.read_text(), "short");
        assert_eq!(client.read_text(), long);
        assert_eq!(client.read_frame(), Frame::new(PONG, b"well?"));
        assert_eq!(client.read_text(), "grüße");
        assert_eq!(client.read_close().0, 1000);
        client.read_end();
    });
}

#[test]
fn many_messages_in_one_write_come_back_in_order() {
    on_every_backend(|backend| {
        let server = Running::start(backend);
        let mut client = Client::open(server.addr);
        let burst: Vec<u8> =
            (0..1_000).flat_map(|n| frame(true, TEXT, format!("no. {n}").as_bytes())).collect();
        client.send_raw(&burst);
        for n in 0..1_000 {
            assert_eq!(client.read_text(), format!("no. {n}"));
        }
    });
}

#[test]
fn connections_spread_over_the_workers_and_each_gets_its_own_echo() {
    on_every_backend(|backend| {
        let cores = usable_cores();
        let workers = cores.len().min(2);
        let server = Running::start_with(backend, builder(backend).cores(cores).workers(workers));
        let mut clients: Vec<Client> = (0..200).map(|_| Client::open(server.addr)).collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.send_text(&format!("{number} in round {round}"));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.read_text(), format!("{number} in round {round}"));
            }
        }
        let mut calls = vec![0; workers];
        for call in server.other_calls() {
            calls[call.worker] += 1;
        }
        // One open and three messages each. That the kernel gives 200 connections to one of two
        // listeners has a chance of 1 in 2^199.
        assert_eq!(calls.iter().sum::<usize>(), 200 * 4);
        assert!(calls.iter().all(|count| *count > 0), "{calls:?}");
        drop(clients);
        assert_eq!(server.stop().opened, 200);
    });
}

#[test]
fn direct_descriptors_serve_as_well_but_know_no_peer_address() {
    if !has_io_uring() {
        return;
    }
    let backend = BackendChoice::IoUring;
    let settings =
        builder(backend).direct_descriptors(true).conns_max(8).message_bytes_max(MESSAGE_BYTES_MAX);
    let server = Running::start_with(backend, settings);
    let mut client = Client::open(server.addr);
    echo_all_sizes(&mut client);
    client.send_text("/addr");
    assert_eq!(client.read_text(), "Unsupported");
    // Slots are used again: far more connections come and go than there are.
    for number in 0..100 {
        let mut other = Client::open(server.addr);
        other.echo(&format!("number {number}"));
        match number % 3 {
            0 => other.close(1000),
            1 => other.reset(),
            _ => drop(other),
        }
        server.await_stats("one open connection", |stats| stats.opened - stats.closed == 1);
    }
    client.echo("still here");
}
