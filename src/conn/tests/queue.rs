//! What is sent: order, partial sends, backpressure, replies in place (rows BP).

use crate::conn::{Connection, Core, Message, MessageKind, Phase, SendError};

use super::rig::{Rig, Window, echo, listen};
use super::ways::{every_way, random_cuts, repeat};
use super::wire::{BINARY, PING, PONG, TEXT, masked, plain, plain_close, read};

/// Bytes of the largest messages: beyond a receive block; under Miri beyond half of one, since they
/// are made byte by byte.
const LARGE_BYTES: usize = if cfg!(miri) { 9_000 } else { 40_000 };

/// Messages of a run where their number does not matter.
const MIX_COUNT: usize = if cfg!(miri) { 5 } else { 12 };

/// A pipelined run of messages and pings of all sizes, and the replies, each encoded by itself.
fn mix(rng: &mut fastrand::Rng, count: usize, after_each: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut replies) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let len = match rng.u8(0..8) {
            0..=3 => rng.usize(0..20),
            4 | 5 => rng.usize(100..300),
            6 => rng.usize(LARGE_BYTES / 20..LARGE_BYTES / 4),
            _ => rng.usize(0..LARGE_BYTES),
        };
        let payload: Vec<u8> = (0..len).map(|_| rng.u8(b' '..=b'~')).collect();
        match rng.u8(0..4) {
            0 if len <= 125 => {
                bytes.extend(masked(PING, &payload));
                replies.extend(plain(PONG, &payload));
                continue;
            }
            0 | 1 => {
                bytes.extend(masked(TEXT, &payload));
                replies.extend(plain(TEXT, &payload));
            }
            2 => {
                bytes.extend(masked(BINARY, &payload));
                replies.extend(plain(BINARY, &payload));
            }
            _ => {
                let cut = rng.usize(0..=len);
                bytes.extend(masked(0x02, &payload[..cut]));
                bytes.extend(masked(0x80, &payload[cut..]));
                replies.extend(plain(BINARY, &payload));
            }
        }
        replies.extend_from_slice(after_each);
    }
    (bytes, replies)
}

#[test]
fn bp05_echoes_are_the_replies_encoded_one_by_one_however_the_bytes_are_cut() {
    for seed in 0..u64::from(repeat(300)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(1..if cfg!(miri) { 6 } else { 30 });
        let (bytes, replies) = mix(&mut rng, count, &[]);
        for window in [Window::Wide, Window::Each(rng.usize(1..5000)), Window::Random(rng.clone())]
        {
            let mut rig = Rig::open(echo);
            rig.window = window;
            rig.batched = rng.bool();
            rig.feed(&bytes, &random_cuts(&mut rng, bytes.len(), 30));
            let outcome = rig.outcome();
            assert!(outcome.output == replies, "seed {seed}, {:?}", read(&outcome.output).len());
        }
    }
}

#[test]
fn bp05_small_echoes_in_one_block_are_the_same_in_every_way() {
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut bytes, mut replies) = (Vec::new(), Vec::new());
    for len in [0_usize, 3, 125, 126, 0, 7] {
        let payload: Vec<u8> = (0..len).map(|_| rng.u8(b'a'..=b'z')).collect();
        bytes.extend([masked(TEXT, &payload), masked(PING, b"p")].concat());
        replies.extend([plain(TEXT, &payload), plain(PONG, b"p")].concat());
    }
    assert_eq!(every_way(|| Rig::open(echo), &bytes).output, replies);
}

fn echo_then_send(connection: &mut Connection, core: &mut Core, message: Message<'_>) {
    echo(connection, core, message);
    let _ = connection.send(MessageKind::Text, b"own", core);
}

fn send_then_echo(connection: &mut Connection, core: &mut Core, message: Message<'_>) {
    let _ = connection.send(MessageKind::Text, b"own", core);
    echo(connection, core, message);
}

#[test]
fn echo_and_own_messages_keep_their_order() {
    let own = plain(TEXT, b"own");
    for seed in 0..u64::from(repeat(100)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (bytes, replies) = mix(&mut rng, MIX_COUNT, &own);
        let mut rig = Rig::open(echo_then_send);
        rig.window = Window::Random(rng.clone());
        rig.feed(&bytes, &random_cuts(&mut rng, bytes.len(), 10));
        assert!(rig.outcome().output == replies, "seed {seed}");

        let (bytes, replies) = mix(&mut rng, MIX_COUNT, &[]);
        let expected: Vec<u8> = read(&replies)
            .iter()
            .flat_map(|frame| {
                let before: &[u8] = if frame.first == PONG { &[] } else { &own };
                [before, &plain(frame.first, &frame.payload)].concat()
            })
            .collect();
        let mut rig = Rig::open(send_then_echo);
        rig.window = Window::Random(rng.clone());
        rig.feed(&bytes, &random_cuts(&mut rng, bytes.len(), 10));
        assert!(rig.outcome().output == expected, "seed {seed}");
    }
}

#[test]
fn echoes_of_a_client_are_masked_and_whole() {
    for seed in 0..u64::from(repeat(100)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (_, frames) = mix(&mut rng, MIX_COUNT, &[]);
        let bytes: Vec<u8> = read(&frames)
            .iter()
            .flat_map(|frame| {
                let first = if frame.first == PONG { PING } else { frame.first };
                plain(first, &frame.payload)
            })
            .collect();
        let mut rig = Rig::open_client(echo);
        rig.window = Window::Random(rng.clone());
        rig.feed(&bytes, &random_cuts(&mut rng, bytes.len(), 10));
        let output = rig.outcome().output;
        let (sent, expected) = (read(&output), read(&frames));
        assert!(
            sent.iter().map(|f| f.parts()).eq(expected.iter().map(|f| f.parts())),
            "seed {seed}"
        );
        assert!(sent.iter().all(|frame| frame.key.is_some()));
    }
}

#[test]
fn bp04_reading_pauses_above_the_high_water_mark_and_resumes_at_half_of_it() {
    let high_water = crate::policy::Limits::default().send_high_water_bytes;
    let mut rig = Rig::open(echo);
    rig.window = Window::Room(0);
    let message = masked(BINARY, &[7; 1000]);
    let mut sent = 0;
    while !rig.paused {
        rig.receive(&message);
        sent += 1;
    }
    let queued = rig.connection.queued_bytes();
    assert!(queued > high_water && queued <= high_water + 1004, "{queued}");
    let unread = repeat(1000) as usize;
    for _ in 0..unread {
        rig.receive(&message);
    }
    assert_eq!(rig.connection.queued_bytes(), queued, "nothing more is read");
    assert!(rig.core.pool.sized_lent_bytes() <= 3 * high_water);
    rig.give_room(queued - high_water / 2 - 1);
    assert!(rig.paused, "one byte above half");
    rig.give_room(1);
    while rig.connection.queued_bytes() > 0 {
        rig.give_room(10_000);
    }
    assert!(!rig.paused);
    assert_eq!(rig.messages.len(), sent + unread, "and nothing is lost");
    assert_eq!(rig.output.len(), (sent + unread) * 1004);
    rig.release();
}

#[test]
fn bp01_peer_that_never_reads_is_closed_with_1013_at_the_limit() {
    let limits = crate::policy::Limits::default();
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(0);
    let refused = (0..2000).find(|_| {
        let sent = rig.act(|c, core| c.send(MessageKind::Binary, &[0; 1000], core));
        if sent.is_err() {
            assert_eq!(sent, Err(SendError::QueueFull));
        }
        sent.is_err()
    });
    assert!(refused.is_some() && rig.connection.phase() == Phase::Draining);
    assert!(rig.connection.queued_bytes() <= limits.send_bytes_max + 1004 + 4);
    assert_eq!(rig.closes[0].code().as_u16(), 1013);
    rig.sleep(8 + 2);
    assert_eq!((rig.closed, rig.output.len()), (Some(true), 0));
    rig.release();
}

#[test]
fn bp05_every_size_of_partial_send_gives_the_same_bytes() {
    let bytes: Vec<u8> = [
        masked(TEXT, b"small"),
        masked(BINARY, &[1; 200]),
        masked(PING, b"p"),
        masked(BINARY, &[2; 700]),
    ]
    .concat();
    let mut whole = Rig::open(echo);
    whole.receive(&bytes);
    let expected = whole.outcome().output;
    for most in 1..=expected.len() {
        let mut rig = Rig::open(echo);
        rig.window = Window::Each(most);
        rig.receive(&bytes);
        assert_eq!(rig.outcome().output, expected, "{most} bytes at a time");
        // The first send stops at `most`; what follows has come while it waited.
        let mut rig = Rig::open(echo);
        rig.window = Window::Room(most);
        rig.receive(&bytes);
        rig.receive(&masked(TEXT, b"later"));
        rig.window = Window::Wide;
        let output = rig.outcome().output;
        assert_eq!(output, [&expected[..], &plain(TEXT, b"later")].concat(), "stopped at {most}");
        if cfg!(miri) && most > 8 {
            return;
        }
    }
}

#[test]
fn failure_follows_the_replies_before_it() {
    let bytes = [masked(TEXT, b"a"), masked(PING, b"b"), masked(TEXT, b"\xff")].concat();
    let outcome = every_way(|| Rig::open(echo), &bytes);
    let expected = [plain(TEXT, b"a"), plain(PONG, b"b"), plain_close(1007)];
    assert_eq!(outcome.output, expected.concat());
}
