//! Messages larger than a block, and the receives that go straight to their place.

use crate::conn::{CloseCause, MessageKind, Phase};
use crate::policy::Limits;

use super::rig::{Rig, Window, echo, listen};
use super::ways::{assert_fails, every_way, random_cuts, repeat};
use super::wire::{BINARY, BINARY_PART, LAST, MORE, PING, PONG, TEXT, TEXT_PART, masked, plain};

/// Bytes that leave the block they came in, and arrive directly in part. Miri takes seconds for
/// them.
const LARGE_FOR_MIRI: usize = 18_000;

/// Limits that let `bytes` in, and several such messages out.
fn limits(bytes: usize) -> Limits {
    Limits {
        message_bytes_max: bytes,
        frame_bytes_max: bytes,
        send_bytes_max: 8 * bytes,
        ..Limits::default()
    }
}

fn noise(rng: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

/// Text with a character of three bytes at every place, relative to any cut.
fn wide_text(bytes: usize) -> String {
    let mut text = "€uro€".repeat(bytes / 9);
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}

#[test]
fn message_of_100_kib_arrives_however_it_is_cut() {
    let bytes = if cfg!(miri) { LARGE_FOR_MIRI } else { 100 * 1024 };
    let mut rng = fastrand::Rng::with_seed(1);
    let message = [masked(BINARY, &noise(&mut rng, bytes)), masked(PING, b"end")].concat();
    let outcome = every_way(|| Rig::open_within(echo, limits(1 << 20)), &message);
    assert_eq!(outcome.messages[0].1.len(), bytes);
    assert!(outcome.output.ends_with(&plain(PONG, b"end")));
}

#[test]
fn large_frame_is_received_into_its_place() {
    let bytes = if cfg!(miri) { 2 * LARGE_FOR_MIRI } else { 1 << 20 };
    for seed in 0..u64::from(repeat(30)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let text = wide_text(bytes);
        let message = [masked(TEXT, text.as_bytes()), masked(TEXT, b"next")].concat();
        let mut rig = Rig::open_within(echo, limits(1 << 20));
        rig.window = Window::Random(rng.clone());
        rig.batched = rng.bool();
        rig.feed(&message, &random_cuts(&mut rng, message.len(), 200));
        assert!(rig.direct_bytes > bytes / 3, "seed {seed}: {} bytes", rig.direct_bytes);
        let outcome = rig.outcome();
        assert!(
            outcome.messages[0] == (MessageKind::Text, text.clone().into_bytes()),
            "seed {seed}"
        );
        assert!(outcome.messages[1].1 == b"next", "seed {seed}");
        let expected = [plain(TEXT, text.as_bytes()), plain(TEXT, b"next")].concat();
        assert!(outcome.output == expected, "seed {seed}");
    }
}

#[test]
fn message_of_the_largest_size_passes_and_one_byte_more_does_not() {
    let bytes = if cfg!(miri) { LARGE_FOR_MIRI } else { 16 << 20 };
    let mut rng = fastrand::Rng::with_seed(2);
    let payload = noise(&mut rng, bytes);
    let mut rig = Rig::open_within(echo, limits(bytes));
    rig.feed(
        &masked(BINARY, &payload),
        &random_cuts(&mut rng, bytes, if cfg!(miri) { 40 } else { 500 }),
    );
    assert!(rig.messages[0].1 == payload);
    assert!(rig.output == plain(BINARY, &payload));
    rig.release();

    let mut rig = Rig::open_within(echo, limits(bytes));
    rig.receive(&super::wire::header(BINARY, bytes as u64 + 1, Some(super::wire::KEY)));
    assert_eq!(rig.output, super::wire::plain_close(1009));
    rig.release();
}

#[test]
fn r3_large_frame_holds_twice_what_has_come_at_most() {
    let bytes = if cfg!(miri) { LARGE_FOR_MIRI } else { 4 << 20 };
    for piece in [1000, 10_000, 100_000] {
        let message = masked(BINARY, &vec![7; bytes]);
        let mut rig = Rig::open_within(listen, limits(bytes));
        let mut sent = 0;
        for piece in message.chunks(piece) {
            rig.receive(piece);
            sent += piece.len();
            let held = rig.core.pool.sized_lent_bytes();
            assert!(held <= 2 * sent + 4096, "{held} bytes for {sent}");
        }
        assert_eq!(rig.messages.len(), 1);
        rig.release();
    }
}

#[test]
fn fragments_larger_than_blocks_with_pings_between_make_one_message() {
    let part_bytes = if cfg!(miri) { LARGE_FOR_MIRI / 2 } else { 90_001 };
    let text = wide_text(4 * part_bytes);
    let parts: Vec<&[u8]> = text.as_bytes().chunks(part_bytes).collect();
    let ping = masked(PING, b"\xff between");
    let message = [
        masked(TEXT_PART, parts[0]),
        ping.clone(),
        masked(MORE, parts[1]),
        masked(MORE, b""),
        masked(MORE, parts[2]),
        ping.clone(),
        ping,
        masked(LAST, parts[3]),
    ]
    .concat();
    let pong = plain(PONG, b"\xff between");
    let expected = [&pong[..], &pong, &pong, &plain(TEXT, text.as_bytes())].concat();
    for seed in 0..u64::from(repeat(40)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::open_within(echo, limits(1 << 20));
        rig.window = Window::Random(rng.clone());
        rig.batched = rng.bool();
        rig.feed(&message, &random_cuts(&mut rng, message.len(), 60));
        assert!(rig.outcome().output == expected, "seed {seed}");
    }
}

#[test]
fn message_of_65536_fragments_of_64_bytes_arrives() {
    // Enough under Miri, where each costs milliseconds, to leave the block they came in.
    let fragments = if cfg!(miri) { 280 } else { 65_536 };
    let mut rng = fastrand::Rng::with_seed(3);
    let payload = noise(&mut rng, fragments * 64);
    let mut bytes = Vec::new();
    for (index, part) in payload.chunks(64).enumerate() {
        let first = if index == 0 { BINARY_PART } else { MORE };
        let last = if index + 1 == fragments { 0x80 } else { 0 };
        bytes.extend(masked(first | last, part));
    }
    let mut rig = Rig::open_within(echo, limits(payload.len()));
    rig.feed(&bytes, &random_cuts(&mut rng, bytes.len(), if cfg!(miri) { 40 } else { 1000 }));
    assert!(rig.messages[0].1 == payload);
    assert!(rig.output == plain(BINARY, &payload));
    rig.release();
}

#[test]
fn fg06_bad_text_in_a_large_frame_fails_wherever_it_is() {
    let bytes = if cfg!(miri) { LARGE_FOR_MIRI } else { 60_000 };
    // Before and behind the edges of blocks; Miri has time for the first.
    for at in [0, 16_000, 17_000, 40_000, bytes - 1] {
        let mut text = vec![b'x'; bytes];
        text[at] = 0xff;
        assert!(assert_fails(&masked(TEXT, &text), 1007, &[]).is_empty());
        if cfg!(miri) {
            return;
        }
    }
}

#[test]
fn connection_that_ends_during_a_direct_receive_gives_its_block_back() {
    let message = masked(BINARY, &vec![1; 200_000]);
    // Before, in and behind the room of the direct receive; Miri has time for one of them.
    let rests: &[usize] = if cfg!(miri) { &[30_000] } else { &[0, 1000, 30_000, 150_000, 170_000] };
    let begun = if cfg!(miri) { LARGE_FOR_MIRI } else { 30_000 };
    let ends: [fn(&mut Rig); 5] = [
        |rig| rig.receive_end(),
        |rig| rig.break_off(),
        |rig| rig.act(|connection, core| connection.close(1000.into(), "", core)),
        |rig| rig.act(|connection, core| connection.fail(1011.into(), CloseCause::Panic, core)),
        |rig| rig.sleep(8 * 100),
    ];
    for end in ends {
        for &rest in rests {
            let mut rig = Rig::open_within(listen, limits(1 << 20));
            rig.receive(&message[..begun]);
            assert!(rig.direct_bytes > 0);
            end(&mut rig);
            if rig.closed.is_none() {
                rig.receive(&message[begun..begun + rest]);
                rig.receive(&super::wire::masked_close(1000));
            }
            assert!(rig.messages.is_empty());
            assert_ne!(rig.connection.phase(), Phase::Open);
            rig.release();
        }
    }
}

#[test]
fn r5_bytes_of_a_direct_receive_count_as_dropped_ones() {
    let message = masked(BINARY, &vec![1; 600_000]);
    let mut rig = Rig::open_within(listen, limits(1 << 20));
    let begun = if cfg!(miri) { LARGE_FOR_MIRI } else { 140_000 };
    rig.receive(&message[..begun]);
    rig.act(|connection, core| connection.fail(1011.into(), CloseCause::Panic, core));
    rig.receive(&message[begun..begun + 70_000]);
    assert_eq!(rig.closed, Some(false), "64 KiB are enough");
    rig.release();
}
