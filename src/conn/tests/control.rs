//! Pings, pongs, and what is done with too many of them (rows CT).

use crate::conn::{MessageKind, Phase, SendError};
use crate::policy::Limits;

use super::rig::{Rig, Window, listen};
use super::ways::{assert_fails, echoed, repeat};
use super::wire::{
    BINARY, CLOSE, KEY, LAST, PING, PONG, TEXT, TEXT_PART, header, masked, plain, plain_close, read,
};

#[test]
fn ct01_fragmented_or_long_control_frame_fails_at_its_second_byte() {
    for first in [CLOSE, PING, PONG] {
        for len in [0, 1, 125] {
            assert_fails(&[first & 0x7f, 0x80 | len], 1002, &[]);
        }
        for len in [126, 127] {
            assert_fails(&[first, 0x80 | len], 1002, &[]);
        }
        assert_fails(&header(first, 126, Some(KEY)), 1002, &[]);
    }
}

/// The payloads of the pongs in `output`.
fn pongs(output: &[u8]) -> Vec<Vec<u8>> {
    let frames = read(output);
    assert!(frames.iter().all(|frame| frame.first == PONG), "nothing but pongs");
    frames.into_iter().map(|frame| frame.payload).collect()
}

/// A server whose peer has stopped reading with one message on its way.
fn blocked(rig: &mut Rig, bytes: usize) {
    rig.window = Window::Room(0);
    rig.act(|connection, core| connection.send(MessageKind::Binary, &vec![7; bytes], core))
        .unwrap();
}

#[test]
fn ping_of_our_own_leaves_with_its_payload_cut_at_125_bytes() {
    let payload: Vec<u8> = (0..=255).collect();
    for (make, is_client) in [(Rig::open as fn(_) -> _, false), (Rig::open_client, true)] {
        let mut rig: Rig = make(listen);
        for bytes in [0, 1, 124, 125, 126, 256] {
            rig.act(|connection, core| connection.ping(&payload[..bytes], core)).unwrap();
            let frames = read(&std::mem::take(&mut rig.output));
            let [frame] = &frames[..] else { panic!("one frame, not {frames:?}") };
            assert_eq!(frame.parts(), (PING, &payload[..bytes.min(125)]));
            assert_eq!(frame.key.is_some(), is_client, "a client masks all it sends");
            // The answer is no news to the application.
            let make_frame = if is_client { plain } else { masked };
            rig.receive(&make_frame(PONG, &frame.payload));
        }
        assert_eq!((rig.connection.phase(), rig.messages.len()), (Phase::Open, 0));
        rig.release();
    }
}

#[test]
fn ping_of_our_own_waits_its_turn_and_is_refused_when_the_queue_is_full_or_closed() {
    let limits = Limits { send_bytes_max: 1000, ..Limits::default() };
    let mut rig = Rig::open_within(listen, limits);
    blocked(&mut rig, 100);
    rig.act(|connection, core| connection.ping(b"behind", core)).unwrap();
    assert_eq!(rig.output, b"", "the peer takes nothing");
    rig.give_room(10_000);
    let frames = read(&rig.output);
    let behind: Vec<_> = frames.iter().map(|frame| (frame.first, frame.payload.len())).collect();
    assert_eq!(behind, [(BINARY, 100), (PING, 6)]);
    blocked(&mut rig, 1000);
    let refused = rig.act(|connection, core| connection.ping(b"", core));
    assert_eq!(refused, Err(SendError::QueueFull));
    let closed = rig.act(|connection, core| connection.ping(b"", core));
    assert_eq!(closed, Err(SendError::Closed));
    rig.release();
}

#[test]
fn ct02_pings_behind_a_peer_that_does_not_read_are_answered_by_a_few_pongs_and_the_newest() {
    // Three times the queue under Miri, where each costs milliseconds.
    let pings = if cfg!(miri) { 50 } else { 200 };
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(0);
    for n in 0_u32..pings {
        rig.receive(&masked(PING, &[n.to_be_bytes(); 30].concat()[..120]));
        assert!(rig.core.pool.sized_lent_bytes() <= 4096 + 16, "after {n} pings");
        assert!(rig.connection.queued_bytes() <= 4096);
    }
    rig.window = Window::Wide;
    let mut rig = finish_sending(rig);
    let numbers: Vec<u32> = pongs(&rig.output)
        .iter()
        .map(|payload| u32::from_be_bytes(payload[..4].try_into().unwrap()))
        .collect();
    assert!((16..=18).contains(&numbers.len()), "{numbers:?}");
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&(pings - 1)), "the newest is answered");
    rig.output.clear();
    rig.receive(&masked(PING, b"again"));
    assert_eq!(pongs(&rig.output), [b"again"], "and so is the next");
    rig.release();
}

fn finish_sending(mut rig: Rig) -> Rig {
    rig.act(|_, _| ());
    assert_eq!(rig.connection.queued_bytes(), 0);
    rig
}

#[test]
fn ct02_waiting_pong_never_reaches_the_next_connection() {
    let mut rig = Rig::open(listen);
    blocked(&mut rig, 100);
    for _ in 0..40 {
        rig.receive(&masked(PING, b"secret of the first"));
    }
    rig.receive(&masked(CLOSE, b""));
    rig.window = Window::Wide;
    let mut rig = finish_sending(rig).reopen();
    rig.window = Window::Wide;
    rig.act(|connection, core| connection.send(MessageKind::Text, b"for the second", core))
        .unwrap();
    assert_eq!(rig.output, plain(TEXT, b"for the second"));
    rig.release();
}

#[test]
fn ct02_waiting_pong_is_dropped_for_a_newer_one() {
    let mut rig = Rig::open(listen);
    blocked(&mut rig, 100);
    // Far behind the first message, so that it stays queued when the first has left.
    rig.act(|connection, core| connection.send(MessageKind::Binary, &vec![8; 20_000], core))
        .unwrap();
    for n in 0..20_u8 {
        rig.receive(&masked(PING, &[n]));
    }
    // The first segment leaves whole, and the next one has not stalled yet.
    rig.window = Window::Held(102);
    rig.act(|_, _| ());
    rig.receive(&masked(PING, b"newest"));
    rig.window = Window::Wide;
    let rig = finish_sending(rig);
    let frames = read(&rig.output);
    let last = frames.iter().rfind(|frame| frame.first == PONG).unwrap();
    assert_eq!(last.payload, b"newest");
    let numbers: Vec<u8> = frames
        .iter()
        .filter(|frame| frame.first == PONG && frame.payload.len() == 1)
        .map(|frame| frame.payload[0])
        .collect();
    assert!(numbers.is_sorted());
    rig.release();
}

#[test]
fn ct02_waiting_pong_is_not_sent_behind_a_close_frame() {
    let mut rig = Rig::open(listen);
    blocked(&mut rig, 100);
    for _ in 0..40 {
        rig.receive(&masked(PING, b"unanswered"));
    }
    rig.act(|connection, core| connection.close(1000.into(), "", core));
    rig.window = Window::Wide;
    let rig = finish_sending(rig);
    assert!(rig.output.ends_with(&plain_close(1000)));
    rig.release();
}

#[test]
fn ct03_too_many_control_frames_fail() {
    let mut rig = Rig::open(listen);
    for _ in 0..256 {
        rig.receive(&masked(PONG, b""));
    }
    assert_eq!(rig.connection.phase(), Phase::Open);
    rig.receive(&masked(PONG, b""));
    assert_eq!(rig.output, plain_close(1008));
    rig.release();
}

#[test]
fn ct04_unsolicited_pongs_are_ignored_and_hold_nothing() {
    let mut rig = Rig::open(listen);
    for n in 0..repeat(10_000) {
        let pong = masked(PONG, n.to_string().as_bytes());
        rig.feed(&pong, &[n as usize % pong.len()]);
        assert_eq!(rig.core.pool.lent_count(), 0);
        if n % 100 == 99 {
            rig.sleep(8);
        }
    }
    assert!(rig.output.is_empty() && rig.messages.is_empty());
    assert_eq!(rig.connection.phase(), Phase::Open);
    rig.release();
}

#[test]
fn ct05_ping_between_fragments_is_answered_at_once() {
    let bytes = [
        masked(TEXT_PART, b"frag"),
        masked(PING, b"in between"),
        masked(0x00, b"men"),
        masked(PING, b""),
        masked(LAST, b"ted"),
        masked(PING, b"after"),
    ]
    .concat();
    let outcome = echoed(&bytes);
    let expected = [
        plain(PONG, b"in between"),
        plain(PONG, b""),
        plain(TEXT, b"fragmented"),
        plain(PONG, b"after"),
    ];
    assert_eq!(outcome.output, expected.concat());
    assert_eq!(outcome.messages, [(MessageKind::Text, b"fragmented".to_vec())]);
}

#[test]
fn ct06_peer_that_only_answers_pings_lives() {
    let mut rig = Rig::open(listen);
    for _ in 0..repeat(500) {
        rig.sleep(8 * 10);
        for _ in read(&std::mem::take(&mut rig.output)) {
            rig.receive(&masked(PONG, b""));
        }
        assert_eq!(rig.connection.phase(), Phase::Open);
    }
    rig.release();
}

#[test]
fn ct06_peer_that_answers_pings_and_never_reads_is_reset_when_its_queue_stalls() {
    let mut rig = Rig::open(listen);
    let begun = rig.core.now;
    blocked(&mut rig, 1000);
    while rig.closed.is_none() {
        rig.sleep(8 * 5);
        rig.receive(&masked(PONG, b""));
        assert!(rig.core.now <= begun.after(crate::policy::Ticks(8 * 36)), "30 s and a little");
    }
    assert_eq!(rig.closed, Some(true));
    assert!(rig.core.now >= begun.after(crate::policy::Ticks(8 * 30)));
    assert_eq!(rig.release().0[0].code().as_u16(), 1006);
}
