//! Each scenario in every way: whole, byte by byte, cut anywhere, to peers that take what they like.

use crate::conn::{MessageKind, Phase};

use super::rig::{Outcome, Rig, Window, echo};

/// How many times to repeat what is otherwise repeated `times`: Miri is a thousand times slower.
pub(super) fn repeat(times: u32) -> u32 {
    if cfg!(miri) { (times / 500).clamp(2, 40) } else { times }
}

/// Up to `most` random places to cut `len` bytes at.
pub(super) fn random_cuts(rng: &mut fastrand::Rng, len: usize, most: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..rng.usize(0..=most)).map(|_| rng.usize(0..=len)).collect();
    cuts.sort_unstable();
    cuts
}

/// Runs a scenario in every way there is, on rigs that `make` makes, and returns the one outcome.
pub(super) fn every_way(make: impl Fn() -> Rig, bytes: &[u8]) -> Outcome {
    let run = |cuts: &[usize], window: Window, batched: bool| {
        let mut rig = make();
        rig.window = window;
        rig.batched = batched;
        rig.feed(bytes, cuts);
        rig.outcome()
    };
    let expected = run(&[], Window::Wide, false);
    let check = |cuts: &[usize], window: Window, what: &str| {
        for batched in [false, true] {
            let outcome = run(cuts, window.clone(), batched);
            assert!(
                outcome == expected,
                "{what}, cuts {cuts:?}, {window:?}, {batched}:\n{outcome:?}\n{expected:?}"
            );
        }
    };
    let random = |seed| Window::Random(fastrand::Rng::with_seed(seed));
    let everywhere: Vec<usize> = (1..bytes.len()).collect();
    if cfg!(miri) {
        // Each piece costs Miri milliseconds: eight it is, for the shortest byte by byte.
        let pieces_bytes = bytes.len().div_ceil(8).max(1);
        let cuts: Vec<usize> = everywhere.into_iter().step_by(pieces_bytes).collect();
        check(&cuts, random(1), "in eight pieces");
        return expected;
    }
    for window in [Window::Wide, Window::Each(1), Window::Each(7), random(1)] {
        check(&[], window.clone(), "whole");
        if bytes.len() <= 20_000 {
            check(&everywhere, window, "byte by byte");
        }
    }
    if bytes.len() <= 400 {
        for cut in 1..bytes.len() {
            check(&[cut], Window::Wide, "one cut");
            check(&[cut], Window::Each(1), "one cut");
        }
    }
    for seed in 0..repeat(40) {
        let mut rng = fastrand::Rng::with_seed(u64::from(seed));
        let cuts = random_cuts(&mut rng, bytes.len(), 12);
        check(&cuts, random(u64::from(seed)), &format!("seed {seed}"));
    }
    expected
}

/// A scenario of an open server connection that echoes, in every way.
pub(super) fn echoed(bytes: &[u8]) -> Outcome {
    every_way(|| Rig::open(echo), bytes)
}

/// Asserts that the peer is failed with one Close frame and nothing else after `said` (row R6),
/// and returns the messages that came before.
pub(super) fn assert_fails(bytes: &[u8], code: u16, said: &[u8]) -> Vec<(MessageKind, Vec<u8>)> {
    let outcome = echoed(bytes);
    let expected = [said, &super::wire::plain_close(code)].concat();
    assert_eq!(outcome.output, expected, "{bytes:x?}");
    let close = outcome.close.expect("the application hears of it");
    assert_eq!((close.code().as_u16(), close.side()), (code, crate::conn::Side::Local));
    assert_eq!((outcome.phase, outcome.shut), (Phase::Lingering, true));
    outcome.messages
}
