//! The opening handshake at the connection (rows HS, HD, TC05 and R5).

use crate::conn::{ConnectError, Connection, Phase};
use crate::metrics::Stats;
use crate::policy::Limits;
use crate::proto::handshake::Refusal;

use super::rig::{Rig, core, echo, listen};
use super::ways::every_way;
use super::wire::{ANSWER, REQUEST, TEXT, masked, plain};

/// Ticks of a second.
const SECOND: u32 = 8;

fn accepted() -> Rig {
    Rig::accepted(echo, Limits::default())
}

/// Asserts that the output is one whole HTTP error that echoes nothing (row R5).
fn assert_refused(output: &[u8], status: u16) {
    let text = std::str::from_utf8(output).expect("text of our own");
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.contains("\r\nConnection: close"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "one response");
}

/// The request with a header line more.
fn request_with(line: &str) -> Vec<u8> {
    let text = std::str::from_utf8(REQUEST).unwrap().trim_end();
    format!("{text}\r\n{line}\r\n\r\n").into_bytes()
}

#[test]
fn request_in_any_pieces_is_answered_by_101() {
    let outcome = every_way(accepted, REQUEST);
    assert_eq!(outcome.output, ANSWER);
    assert_eq!((outcome.phase, outcome.closed), (Phase::Open, None));
    // The connection was given up by the rig, which is the end of an open connection.
    assert_eq!(outcome.close, None);
}

#[test]
fn answer_in_any_pieces_opens_the_client_and_frames_may_follow_at_once() {
    let bytes = [ANSWER, &plain(TEXT, b"welcome")].concat();
    let outcome = every_way(
        || {
            let mut rig = Rig::dialled(listen);
            assert!(rig.output.starts_with(b"GET /chat HTTP/1.1\r\n"));
            rig.output.clear();
            rig
        },
        &bytes,
    );
    assert_eq!(outcome.messages.len(), 1);
    assert_eq!(outcome.phase, Phase::Open);
}

#[test]
fn answer_that_does_not_match_ends_the_client_and_its_reason_is_told() {
    let mut wrong = ANSWER.to_vec();
    let last = wrong.len() - 6;
    wrong[last] ^= 1;
    for (answer, reason) in [
        (wrong, "Sec-WebSocket-Accept"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec(), "status 403"),
        (b"SSH-2.0-".to_vec(), "not HTTP/1.1"),
    ] {
        let mut rig = Rig::dialled(listen);
        rig.output.clear();
        rig.receive(&answer);
        assert_eq!((rig.opened, rig.closed, rig.output.len()), (false, Some(false), 0));
        let told = rig.never_opened.take().expect("the reason is told").to_string();
        assert!(told.contains(reason), "{told}");
        rig.release();
    }
}

#[test]
fn hs08_request_with_a_body_is_refused_and_the_body_never_read() {
    for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let outcome = every_way(accepted, &request_with(line));
        assert_refused(&outcome.output, 400);
        assert_eq!((outcome.phase, outcome.shut), (Phase::Lingering, true));
    }
    let mut rig = accepted();
    rig.receive(&request_with("Content-Length: 5"));
    for body in [&b"hello"[..], REQUEST, &masked(TEXT, b"smuggled")] {
        rig.receive(body);
    }
    assert_refused(&rig.output, 400);
    assert!(!rig.opened && rig.messages.is_empty());
    rig.release();
}

#[test]
fn hs09_bytes_behind_the_head_in_the_same_read_are_refused() {
    let frame = masked(TEXT, b"early");
    for early in [&b"\0"[..], b"G", REQUEST, &frame] {
        for cut in [0, 1, 40, REQUEST.len() - 1] {
            let mut rig = accepted();
            rig.feed(&[REQUEST, early].concat(), &[cut]);
            let outcome = rig.outcome();
            assert_refused(&outcome.output, 400);
            assert!(outcome.messages.is_empty() && outcome.close.is_none());
            assert_eq!((outcome.phase, outcome.shut), (Phase::Lingering, true));
        }
    }
}

#[test]
fn hs10_second_request_after_a_refusal_is_not_answered() {
    let bad = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for gap in [false, true] {
        let mut rig = accepted();
        rig.feed(&[&bad[..], REQUEST].concat(), if gap { &[27] } else { &[] });
        if gap {
            rig.receive(REQUEST);
        }
        let outcome = rig.outcome();
        assert_eq!(outcome.output.windows(8).filter(|w| w == b"HTTP/1.1").count(), 1);
        assert_eq!((outcome.phase, outcome.shut), (Phase::Lingering, true));
    }
    let outcome = every_way(accepted, bad);
    assert_refused(&outcome.output, 426);
}

#[test]
fn hd03_slow_head_is_answered_with_408_in_time_however_it_trickles() {
    let mut rig = accepted();
    let begun = rig.core.now.0;
    for byte in REQUEST.chunks(1) {
        rig.receive(byte);
        if !rig.output.is_empty() {
            break;
        }
        rig.sleep(SECOND / 2);
    }
    assert_refused(&rig.output, 408);
    let waited = rig.core.now.0 - begun;
    assert!((10 * SECOND..=11 * SECOND).contains(&waited), "{waited} ticks");
    assert!(rig.shut && !rig.opened);
    rig.receive(&REQUEST[20..]);
    rig.sleep(2 * SECOND);
    assert_eq!(rig.closed, Some(false));
    assert_refused(&rig.output, 408);
    rig.release();
}

#[test]
fn handshake_that_times_out_is_counted_as_refused_by_the_server_and_not_by_the_client() {
    let timeouts = |rig: &Rig| {
        let mut stats = Stats::default();
        stats.add(&rig.core.metrics);
        stats.refusals.get(Refusal::Timeout.class()).copied()
    };
    let mut begun = accepted();
    begun.receive(&REQUEST[..20]);
    for (mut rig, counted) in
        [(accepted(), Some(1)), (begun, Some(1)), (Rig::dialled(listen), None)]
    {
        assert_eq!(timeouts(&rig), None);
        rig.sleep(13 * SECOND);
        assert_eq!((rig.opened, rig.closed), (false, Some(false)));
        assert_eq!(timeouts(&rig), counted);
        let is_told = matches!(rig.never_opened, Some(ConnectError::Timeout));
        assert_eq!(is_told, counted.is_none(), "who dialled is told: {:?}", rig.never_opened);
        rig.release();
    }
}

#[test]
fn tc05_silent_peer_is_closed_without_a_word_and_costs_nothing() {
    let mut rig = accepted();
    let connection = &rig.connection;
    assert!(connection.head.is_none() && connection.inbox.is_none());
    assert!(connection.outbox.is_none() && connection.extras.is_none());
    assert!(size_of::<Connection>() <= 512);
    rig.sleep(10 * SECOND);
    assert_eq!(rig.closed, None);
    rig.sleep(2);
    assert_eq!((rig.closed, rig.output.len(), rig.opened), (Some(false), 0, false));
    assert_eq!(rig.core.pool.lent_count(), 0);
    rig.release();
}

#[test]
fn tc07_connection_that_breaks_at_any_byte_is_given_back() {
    let bytes = [&masked(0x01, b"part"), &masked(0x89, b"ping")[..], &masked(0x80, &[b'x'; 300])];
    let bytes = bytes.concat();
    // Miri has time for some places in each part.
    for cut in (0..bytes.len()).step_by(if cfg!(miri) { 19 } else { 1 }) {
        let mut rig = Rig::open(echo);
        rig.window = super::rig::Window::Room(3);
        rig.receive(&bytes[..cut]);
        rig.break_off();
        let (closes, _) = rig.release();
        assert_eq!(closes[0].code().as_u16(), 1006, "broken at {cut}");
    }
    for cut in (0..REQUEST.len()).step_by(if cfg!(miri) { 40 } else { 1 }) {
        let mut rig = accepted();
        rig.receive(&REQUEST[..cut]);
        rig.break_off();
        assert!(rig.release().0.is_empty());
    }
}

#[test]
fn r5_refused_peer_is_read_for_64_kib_and_no_longer_than_a_second() {
    let mut rig = accepted();
    rig.receive(b"\x16\x03\x01");
    assert_refused(&rig.output, 400);
    for _ in 0..15 {
        rig.receive(&[0; 4096]);
    }
    assert_eq!(rig.closed, None);
    rig.receive(&[0; 4097]);
    assert_eq!(rig.closed, Some(false));
    rig.release();

    let mut rig = accepted();
    rig.receive(b"\x16\x03\x01");
    rig.sleep(SECOND);
    assert_eq!(rig.closed, None);
    rig.sleep(2);
    assert_eq!(rig.closed, Some(false));
    rig.release();
}

#[test]
fn r5_refused_peer_that_closes_its_side_is_closed_at_once() {
    let mut rig = accepted();
    rig.receive(b"\x16\x03\x01");
    rig.receive_end();
    assert_eq!(rig.closed, Some(false));
    rig.release();
}

#[test]
fn server_that_stops_refuses_handshakes_and_closes_open_connections() {
    let mut rig = accepted();
    rig.receive(&REQUEST[..20]);
    rig.act(|connection, core| connection.retire(1012.into(), core));
    assert_refused(&rig.output, 503);
    rig.release();
    let mut rig = Rig::open(listen);
    rig.act(|connection, core| connection.retire(1012.into(), core));
    assert_eq!(rig.output, super::wire::plain_close(1012));
    rig.act(|connection, core| connection.cut_off(core));
    assert_eq!(rig.closed, Some(false));
    assert_eq!(rig.release().0[0].code().as_u16(), 1006);
}

#[test]
fn r3_unfinished_head_holds_twice_its_bytes_at_most() {
    let mut core = core(Limits::default());
    let mut connection = Connection::server(0, &core);
    let head = [&REQUEST[..REQUEST.len() - 2], b"X: ", &[b'x'; 5000]].concat();
    // Miri has time for some hundred bytes, one by one.
    let head = &head[..if cfg!(miri) { 500 } else { head.len() }];
    for (index, byte) in head.iter().enumerate() {
        let mut input = crate::conn::Input::new(1);
        assert!(connection.poll_head(&[*byte], &mut input, &mut core).is_none());
        let held = connection.head.as_ref().map_or(0, |head| head.held_bytes());
        assert!(held <= 2 * (index + 1) + 4096);
    }
    assert_eq!(connection.phase(), Phase::Handshake);
    assert_eq!(core.pool.lent_count(), 0);
}
