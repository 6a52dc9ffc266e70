//! Frames that break the rules, and frames that are cut (rows FR).

use std::num::NonZeroU32;

use crate::conn::{MessageKind, Phase};
use crate::policy::{FlowLimits, Limits, RateMode};

use super::rig::{Rig, Window, echo, listen};
use super::ways::{assert_fails, echoed, repeat};
use super::wire::{
    BINARY, BINARY_PART, CLOSE, KEY, MORE, PING, PONG, TEXT, close_payload, header, keyed, masked,
    plain, plain_close, read,
};

const PROTOCOL_ERROR: u16 = 1002;

/// Feeds a header and nothing else, and returns what is answered, once it is seen that no memory
/// was taken for what it announces.
fn answer_to_header(rig: &mut Rig, bytes: &[u8]) -> Vec<u8> {
    rig.receive(bytes);
    assert_eq!(rig.core.pool.lent_count(), 0, "nothing is held for {bytes:x?}");
    std::mem::take(&mut rig.output)
}

#[test]
fn fr01_unmasked_frame_fails_at_its_second_byte() {
    for first in [MORE, TEXT, BINARY, CLOSE, PING, PONG] {
        assert_fails(&[first, 0], PROTOCOL_ERROR, &[]);
    }
    assert_fails(&[TEXT, 0x7f], PROTOCOL_ERROR, &[]);
    assert_fails(&plain(TEXT, b"hello"), PROTOCOL_ERROR, &[]);
}

#[test]
fn fr01_masked_frame_of_a_server_fails_the_client() {
    let mut rig = Rig::open_client(listen);
    rig.receive(&masked(TEXT, b"hello"));
    let frames = read(&rig.output);
    let close = close_payload(PROTOCOL_ERROR, "");
    assert_eq!(frames.iter().map(|f| f.parts()).collect::<Vec<_>>(), [(CLOSE, &close[..])]);
    assert_eq!(rig.release().0[0].code().as_u16(), PROTOCOL_ERROR);
}

#[test]
fn fr02_length_with_its_top_bit_set_fails_at_that_bit() {
    assert_fails(&[BINARY, 0xff, 0x80], PROTOCOL_ERROR, &[]);
    assert_fails(&header(BINARY, 1 << 63, Some(KEY)), PROTOCOL_ERROR, &[]);
    assert_fails(&header(TEXT, u64::MAX, Some(KEY)), PROTOCOL_ERROR, &[]);
}

#[test]
fn fr03_length_over_the_limit_fails_at_the_header_and_holds_nothing() {
    let limit = Limits::default().message_bytes_max as u64;
    let mut rig = Rig::open(listen);
    // Miri has time for both sides of the forms of a length, of the limit, and of the largest.
    for shift in (0..63).filter(|shift| !cfg!(miri) || [0, 7, 16, 62].contains(shift)) {
        for len in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
            if len > limit {
                let said = answer_to_header(&mut rig, &header(BINARY, len, Some(KEY)));
                assert_eq!(said, plain_close(1009), "{len} bytes");
            } else {
                rig.receive(&header(BINARY, len, Some(KEY)));
                assert_eq!(rig.connection.phase(), Phase::Open, "{len} bytes");
                assert!(rig.core.pool.sized_lent_bytes() <= 4096, "{len} bytes are not paid for");
            }
            rig = rig.reopen();
        }
    }
}

#[test]
fn fr03_sum_of_lengths_does_not_wrap() {
    for len in [u64::MAX >> 1, (u64::MAX >> 1) - 1, 1 << 62, 1 << 32] {
        let first = masked(BINARY_PART, b"begun");
        let bytes = [first, header(MORE, len, Some(KEY))].concat();
        assert_fails(&bytes, 1009, &[]);
    }
}

#[test]
fn fr04_length_not_in_its_shortest_form_fails() {
    for len in [0_u16, 1, 124, 125] {
        let bytes = [&[BINARY, 0xfe][..], &len.to_be_bytes()].concat();
        assert_fails(&bytes, PROTOCOL_ERROR, &[]);
    }
    for len in [0_u64, 125, 126, 0xfffe, 0xffff] {
        let bytes = [&[BINARY, 0xff][..], &len.to_be_bytes()].concat();
        assert_fails(&bytes, PROTOCOL_ERROR, &[]);
    }
}

#[test]
fn fr05_reserved_bits_fail_with_every_opcode() {
    // Miri has time for a data frame, a control frame and a reserved opcode of each.
    for bits in 1_u8..8 {
        for opcode in (0..16).step_by(if cfg!(miri) { 9 } else { 1 }) {
            assert_fails(&[0x80 | bits << 4 | opcode], PROTOCOL_ERROR, &[]);
        }
    }
}

#[test]
fn fr06_compression_bit_on_a_continuation_or_control_frame_fails() {
    let begun = masked(BINARY_PART, b"begun");
    for first in [0xc0_u8, 0x40, 0xc8, 0xc9, 0xca] {
        assert_fails(&[&begun[..], &masked(first, b"x")].concat(), PROTOCOL_ERROR, &[]);
    }
}

#[test]
fn fr07_reserved_opcode_fails_before_its_length_is_looked_at() {
    let reserved = [3_u8, 7, 0xb, 0xf, 4, 5, 6, 0xc, 0xd, 0xe];
    // Miri has time for the lowest and the highest of data and control.
    for opcode in reserved.into_iter().take(if cfg!(miri) { 4 } else { 10 }) {
        assert_fails(&[0x80 | opcode], PROTOCOL_ERROR, &[]);
        assert_fails(&header(0x80 | opcode, u64::MAX >> 1, Some(KEY)), PROTOCOL_ERROR, &[]);
    }
}

#[test]
fn fr08_frames_cut_anywhere_are_the_same_frames() {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for len in [0_usize, 1, 2, 125, 126, 127] {
        let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
        bytes.extend(masked(BINARY, &payload));
        bytes.extend(masked(PING, &payload[..len.min(125)]));
        expected.extend(plain(BINARY, &payload));
        expected.extend(plain(PONG, &payload[..len.min(125)]));
    }
    let outcome = echoed(&bytes);
    assert!(outcome.output == expected);
    assert_eq!(outcome.messages.len(), 6);
    assert_eq!(outcome.phase, Phase::Open);
}

#[test]
fn fr08_header_of_every_length_may_be_cut_twice() {
    let payload = vec![0x5a; 0x1_0001];
    for len in [3, 200, 0x1_0001] {
        let limits =
            || Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, ..Limits::default() };
        let bytes = masked(BINARY, &payload[..len]);
        for first in 1..15.min(bytes.len()) {
            for second in first..16.min(bytes.len()) {
                let mut rig = Rig::open_within(listen, limits());
                rig.feed(&bytes, &[first, second]);
                let messages = rig.outcome().messages;
                assert!(
                    messages == [(MessageKind::Binary, payload[..len].to_vec())],
                    "{len} {first} {second}"
                );
                if cfg!(miri) && second > 6 {
                    return;
                }
            }
        }
    }
}

#[test]
fn fr09_every_key_is_undone_at_every_alignment() {
    let keys = [[0; 4], [0xff; 4], [1, 0, 0, 0], [0, 0, 0, 0x80], [0x12, 0x34, 0x56, 0x78]];
    // Miri has time for lengths up to two words and a rest.
    let len_max = if cfg!(miri) { 19 } else { 39 };
    for (index, key) in (0_u8..).zip(keys) {
        let mut bytes = Vec::new();
        let mut payloads = Vec::new();
        for len in 0..=len_max {
            let payload: Vec<u8> = (index..=255).step_by(7).cycle().take(len).collect();
            bytes.extend(keyed(BINARY, &payload, key));
            payloads.push((MessageKind::Binary, payload));
        }
        assert!(echoed(&bytes).messages == payloads, "key {key:x?}");
    }
}

#[test]
fn fr12_messages_before_garbage_are_delivered_first() {
    let bytes = [masked(TEXT, b"one"), masked(BINARY, b"two"), vec![0xff; 40]].concat();
    let said = [plain(TEXT, b"one"), plain(BINARY, b"two")].concat();
    let messages = assert_fails(&bytes, PROTOCOL_ERROR, &said);
    let payloads: Vec<_> = messages.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(payloads, [b"one", b"two"]);
}

#[test]
fn fr13_frames_after_a_close_frame_are_dropped() {
    let payload = close_payload(1000, "done");
    let close = masked(CLOSE, &payload);
    for after in [
        masked(TEXT, b"late"),
        masked(PING, b"late"),
        masked(CLOSE, &close_payload(1001, "")),
        masked(BINARY_PART, b"late"),
        vec![0xff; 20],
    ] {
        let outcome = echoed(&[masked(TEXT, b"first"), close.clone(), after.clone()].concat());
        let expected = [plain(TEXT, b"first"), plain(CLOSE, &payload)].concat();
        assert_eq!(outcome.output, expected, "{after:x?}");
        assert_eq!(outcome.messages.len(), 1, "{after:x?}");
        let close = outcome.close.unwrap();
        assert_eq!((close.code().as_u16(), close.reason()), (1000, "done"));
        assert_eq!((outcome.phase, outcome.shut), (Phase::Lingering, true));
    }
}

#[test]
fn fr15_client_masks_each_frame_with_a_fresh_key() {
    let mut rig = Rig::open_client(echo);
    rig.window = Window::Each(5);
    for n in 0..repeat(1000) {
        rig.core.now.0 += 1;
        rig.receive(&plain(TEXT, n.to_string().as_bytes()));
        rig.receive(&plain(PING, b"?"));
        rig.act(|connection, core| connection.send(MessageKind::Binary, b"own", core)).unwrap();
        assert_eq!(rig.connection.queued_bytes(), 0);
    }
    let frames = read(&rig.output);
    let mut keys: Vec<u32> =
        frames.iter().map(|frame| u32::from_be_bytes(frame.key.expect("a mask"))).collect();
    let set_bits = |bit: u32| keys.iter().filter(|key| *key >> bit & 1 == 1).count();
    if !cfg!(miri) {
        for bit in 0..32 {
            let share = set_bits(bit) * 100 / keys.len();
            assert!((40..60).contains(&share), "bit {bit} is set in {share} %");
        }
    }
    let key_count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    // Among 3000 draws of 2^32, three equal pairs are expected once in a million million runs.
    assert!(key_count - keys.len() <= 2, "keys are not used again");
    assert_eq!(frames[0].parts(), (TEXT, &b"0"[..]));
    rig.release();
}

#[test]
fn fr11_messages_without_payload_are_delivered_counted_and_take_no_memory() {
    let count = repeat(2000) as usize;
    let mut rig = Rig::open(listen);
    for empty in [masked(TEXT, b""), masked(BINARY, b"")] {
        rig.receive(&empty.repeat(count));
        assert_eq!(rig.core.pool.lent_count(), 0);
    }
    assert_eq!(rig.messages.len(), 2 * count);
    assert!(rig.messages.iter().all(|(_, payload)| payload.is_empty()));
    rig.release();

    let flow = FlowLimits {
        messages_per_second: NonZeroU32::new(10),
        bytes_per_second: None,
        mode: RateMode::Close,
    };
    let mut rig = Rig::open_within(listen, Limits { flow: Some(flow), ..Limits::default() });
    rig.receive(&masked(TEXT, b"").repeat(20));
    assert_eq!(rig.messages.len(), 11, "they count, and the one that is too many is the last");
    assert_eq!(rig.output, plain_close(1008));
    rig.release();
}
