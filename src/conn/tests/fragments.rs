//! Fragments and text (rows FG).

use crate::conn::{MessageKind, Phase};
use crate::policy::Limits;

use super::rig::{Rig, echo, listen};
use super::ways::{assert_fails, echoed, every_way};
use super::wire::{
    BINARY, BINARY_PART, KEY, LAST, MORE, PING, PONG, TEXT, TEXT_PART, header, masked, plain,
    plain_close,
};

#[test]
fn fg01_continuation_without_a_message_fails() {
    for first in [MORE, LAST] {
        assert_fails(&masked(first, b"orphan"), 1002, &[]);
        let after_message = [masked(TEXT, b"whole"), masked(first, b"")].concat();
        assert_fails(&after_message, 1002, &plain(TEXT, b"whole"));
    }
}

#[test]
fn fg01_new_message_inside_an_open_one_fails() {
    for first in [TEXT, BINARY, TEXT_PART, BINARY_PART] {
        let bytes = [masked(BINARY_PART, b"open"), masked(PING, b"?"), masked(first, b"new")];
        let messages = assert_fails(&bytes.concat(), 1002, &plain(PONG, b"?"));
        assert!(messages.is_empty());
    }
}

#[test]
fn fg02_fragments_up_to_the_limit_pass_and_one_byte_more_fails_at_its_header() {
    // Under Miri, which takes a second for 16 KiB, the limit is lower; the parts still leave the
    // block they came in.
    let half = vec![b'h'; if cfg!(miri) { 9 * 1024 } else { 32 * 1024 }];
    let bytes_max = 2 * half.len();
    let limits = || Limits { message_bytes_max: bytes_max, ..Limits::default() };
    let begun = [masked(BINARY_PART, &half), masked(MORE, &half[1..])].concat();
    let whole = [&begun[..], &masked(LAST, b"!")].concat();
    let outcome = every_way(|| Rig::open_within(echo, limits()), &whole);
    assert_eq!(outcome.messages.len(), 1);
    assert_eq!(outcome.messages[0].1.len(), bytes_max);
    let over = [begun, header(LAST, 2, Some(KEY))].concat();
    let outcome = every_way(|| Rig::open_within(echo, limits()), &over);
    assert_eq!((outcome.messages.len(), outcome.output), (0, plain_close(1009)));
}

#[test]
fn fg03_one_byte_fragments_hold_twice_their_payload_at_most() {
    let limits = Limits { message_bytes_max: 1 << 18, ..Limits::default() };
    let mut rig = Rig::open_within(listen, limits);
    rig.receive(&masked(BINARY_PART, b"."));
    // The memory grows in steps; Miri sees the first of them.
    for payload_bytes in 2..if cfg!(miri) { 300 } else { 131_000 } {
        rig.receive(&masked(MORE, b"."));
        let held = rig.core.pool.sized_lent_bytes();
        assert!(held <= 2 * payload_bytes + 4096, "{held} bytes for {payload_bytes}");
    }
    assert!(rig.messages.is_empty() && rig.connection.phase() == Phase::Open);
    rig.release();
}

#[test]
fn fg04_empty_fragments_without_end_fail() {
    let mut bytes = masked(TEXT_PART, b"");
    for _ in 0..63 {
        bytes.extend(masked(MORE, b""));
    }
    let allowed = [&bytes[..], &masked(LAST, b"")].concat();
    let outcome = echoed(&allowed);
    assert_eq!(outcome.output, plain(TEXT, b""), "an empty message is a message");
    assert_fails(&[&bytes[..], &masked(MORE, b"")].concat(), 1008, &[]);
    let mut rig = Rig::open(listen);
    rig.receive(&bytes);
    assert_eq!(rig.core.pool.lent_count(), 0, "nothing has come that needs memory");
    rig.release();
}

#[test]
fn fg05_message_left_open_fails_after_a_minute_and_pings_go_on_until_then() {
    let mut rig = Rig::open(listen);
    rig.receive(&masked(TEXT_PART, b"open"));
    let mut pings = 0;
    for second in 0..60 {
        rig.sleep(8);
        assert_eq!(rig.connection.phase(), Phase::Open, "after {second} s");
        if rig.output == plain(PING, b"") {
            rig.output.clear();
            rig.receive(&masked(PONG, b""));
            pings += 1;
        }
    }
    assert!(pings >= 1);
    rig.sleep(8);
    assert_eq!(rig.output, plain_close(1008));
    assert_eq!(rig.release().0[0].code().as_u16(), 1008);
}

/// One of each way in which bytes are not UTF-8.
const NOT_UTF8: [&[u8]; 12] = [
    b"\x80",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xff",
    b"\xe2\x28\xa1",
];

#[test]
fn fg06_text_that_is_not_utf8_fails() {
    for bad in NOT_UTF8 {
        let text = [b"good ", bad, b" end"].concat();
        assert_fails(&masked(TEXT, &text), 1007, &[]);
        let parts = [masked(TEXT_PART, &text[..6]), masked(LAST, &text[6..])].concat();
        assert_fails(&parts, 1007, &[]);
    }
}

#[test]
fn fg06_bad_byte_fails_before_its_frame_is_complete() {
    for (bad, needed) in [(&b"\xff"[..], 1), (b"\xed\xa0", 2), (b"\xf4\x90", 2), (b"\xc3(", 2)] {
        let text = [b"0123456789", bad, &[b'x'; 100]].concat();
        let frame = masked(TEXT, &text);
        let (before, after) = (6 + 10 + needed - 1, 6 + 10 + needed);
        let mut rig = Rig::open(listen);
        rig.receive(&frame[..before]);
        assert_eq!(rig.connection.phase(), Phase::Open);
        rig.receive(&frame[before..after]);
        assert_eq!(rig.output, plain_close(1007));
        rig.release();
    }
}

#[test]
fn fg06_binary_may_hold_any_bytes() {
    let payload = NOT_UTF8.concat();
    let bytes = [masked(BINARY, &payload), masked(BINARY_PART, &payload), masked(LAST, b"")];
    assert_eq!(echoed(&bytes.concat()).messages.len(), 2);
}

/// 64 characters of one to four bytes.
fn mixed_text() -> String {
    ["a", "ß", "€", "𐍈"].into_iter().cycle().take(64).collect()
}

#[test]
fn fg07_character_may_be_cut_by_a_read() {
    let text = mixed_text();
    let outcome = echoed(&masked(TEXT, text.as_bytes()));
    assert_eq!(outcome.messages, [(MessageKind::Text, text.into_bytes())]);
}

#[test]
fn fg07_character_may_be_cut_by_a_fragment_and_a_ping() {
    let text = mixed_text();
    // Miri has time for cuts in the first characters.
    for cut in 0..=if cfg!(miri) { 6 } else { text.len() } {
        let (head, tail) = text.as_bytes().split_at(cut);
        let bytes = [masked(TEXT_PART, head), masked(PING, b"\xff"), masked(LAST, tail)].concat();
        let mut rig = Rig::open(listen);
        rig.receive(&bytes);
        let mut in_pieces = Rig::open(listen);
        // Each piece costs Miri milliseconds.
        let step = if cfg!(miri) { 5 } else { 1 };
        in_pieces.feed(&bytes, &(1..bytes.len()).step_by(step).collect::<Vec<_>>());
        for outcome in [rig.outcome(), in_pieces.outcome()] {
            assert_eq!(outcome.output, plain(PONG, b"\xff"), "cut at {cut}");
            assert_eq!(outcome.messages, [(MessageKind::Text, text.clone().into_bytes())]);
        }
    }
}

#[test]
fn fg08_text_that_ends_inside_a_character_fails() {
    for cut in [&b"\xc3"[..], b"\xe2\x82", b"\xe2", b"\xf0\x90\x8d", b"\xf0\x90", b"\xf0"] {
        let text = [b"good ", cut].concat();
        assert_fails(&masked(TEXT, &text), 1007, &[]);
        let parts = [masked(TEXT_PART, &text), masked(MORE, b""), masked(LAST, b"")].concat();
        assert_fails(&parts, 1007, &[]);
    }
}
