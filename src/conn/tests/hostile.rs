//! Streams of frames, right and wrong, at random: the answer never depends on the cuts (row R7), and
//! nothing panics or is left behind (row R1).

use crate::conn::{CloseCause, Connection, Core, Message, MessageKind};

use super::rig::{Outcome, Rig, Window, echo};
use super::ways::{random_cuts, repeat};
use super::wire::{BINARY, BINARY_PART, CLOSE, LAST, MORE, PING, PONG, TEXT, TEXT_PART, keyed};

/// Bytes of the largest frames: beyond a receive block. Miri takes a second for so much, and makes
/// do with less in all but the tests of `large`.
const LARGE_BYTES: usize = if cfg!(miri) { 2_000 } else { 20_000 };

/// Answers in different ways, as the payload says.
fn moody(connection: &mut Connection, core: &mut Core, message: Message<'_>) {
    match message.payload().first() {
        Some(0..=63) => {
            let _ = connection.send(MessageKind::Binary, &[7; 300], core);
            echo(connection, core, message);
        }
        Some(64..=70) => connection.close(4000.into(), "enough", core),
        Some(71) => connection.fail(1011.into(), CloseCause::Panic, core),
        Some(72..=90) => {}
        Some(91..) | None => echo(connection, core, message),
    }
}

/// A few frames, most of them right.
fn frames(rng: &mut fastrand::Rng) -> Vec<u8> {
    let firsts = [TEXT, BINARY, TEXT_PART, BINARY_PART, MORE, MORE, LAST, LAST, PING, PONG];
    let mut bytes = Vec::new();
    let mut open = false;
    for _ in 0..rng.usize(1..12) {
        let mut first = firsts[rng.usize(0..firsts.len())];
        // Mostly in an order that is allowed.
        if first & 0x08 == 0 && rng.u8(0..16) > 0 {
            first = if open { first & 0x80 } else { first & 0x80 | (1 + rng.u8(0..2)) };
            open = first & 0x80 == 0;
        }
        if rng.u8(0..24) == 0 {
            first = CLOSE;
        }
        let len = match rng.u8(0..10) {
            0 => 0,
            1 => rng.usize(100..125),
            2 => rng.usize(125..300),
            3 if first & 0x08 == 0 => rng.usize(LARGE_BYTES / 20..LARGE_BYTES),
            _ => rng.usize(0..20),
        };
        let mut payload: Vec<u8> = "€uro ×".bytes().cycle().take(len).collect();
        if rng.u8(0..8) > 0 {
            payload = (0..len).map(|_| rng.u8(..128)).collect();
        }
        if first == CLOSE && rng.u8(0..4) > 0 && len >= 2 {
            payload[..2].copy_from_slice(&1000_u16.to_be_bytes());
        }
        let mut frame = keyed(first, &payload, rng.u32(..).to_be_bytes());
        if rng.u8(0..24) == 0 {
            let at = rng.usize(0..frame.len().min(14));
            frame[at] ^= 1 << rng.u8(0..8);
        }
        bytes.extend(frame);
    }
    bytes
}

fn run(bytes: &[u8], cuts: &[usize], window: Window, batched: bool, ends: bool) -> Outcome {
    let mut rig = Rig::open(moody);
    rig.window = window;
    rig.batched = batched;
    rig.feed(bytes, cuts);
    if ends {
        rig.receive_end();
    }
    let mut outcome = rig.outcome();
    // Whether the FIN left before the end of the peer's stream came is a matter of time.
    outcome.shut |= outcome.closed.is_some();
    outcome
}

#[test]
fn r7_any_stream_has_the_same_outcome_however_it_is_cut_and_taken() {
    for seed in 0..u64::from(repeat(3000)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bytes = frames(&mut rng);
        let ends = rng.bool();
        let expected = run(&bytes, &[], Window::Wide, false, ends);
        for _ in 0..4 {
            let most = if rng.bool() { 5 } else { 200 };
            let cuts = random_cuts(&mut rng, bytes.len(), most);
            let window = match rng.u8(0..3) {
                0 => Window::Wide,
                1 => Window::Each(rng.usize(1..2000)),
                _ => Window::Random(rng.fork()),
            };
            let outcome = run(&bytes, &cuts, window, rng.bool(), ends);
            assert!(outcome == expected, "seed {seed}:\n{outcome:?}\n{expected:?}");
        }
    }
}

#[test]
fn r1_noise_at_any_time_is_survived() {
    for seed in 0..u64::from(repeat(2000)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::open(moody);
        rig.window = Window::Random(rng.fork());
        for _ in 0..rng.usize(1..12) {
            match rng.u8(0..12) {
                0 => rig.sleep(rng.u32(0..300)),
                1 => rig.act(|c, core| c.close(1000.into(), "", core)),
                2 => {
                    let _ = rig.act(|c, core| c.send(MessageKind::Binary, &[1; 40_000], core));
                }
                3 => rig.receive(&(0..rng.usize(0..40)).map(|_| rng.u8(..)).collect::<Vec<_>>()),
                4 => rig.receive_end(),
                _ => rig.receive(&frames(&mut rng)),
            }
            if rig.closed.is_some() || rig.connection.peer_done {
                break;
            }
        }
        rig.release();
    }
}
