//! Compressed messages: any bytes inflate to the same however they are cut and however much room
//! there is, and to what another implementation makes of them; a bomb stops at its limit; what we
//! compress, both inflate.
//!
//! The first byte of an input says level, window and takeover.

#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire::fuzz_internals::{Deflater, Inflater, TAIL};
use longwire_fuzz::cuts;
use longwire_fuzz::inflate::{Other, Read};

/// What a message may inflate to here.
const MESSAGE_BYTES_MAX: usize = 100_000;

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else { return };
    inflate_every_way(bytes);
    round_trip(how, bytes);
});

fn inflate_every_way(bytes: &[u8]) {
    let whole = inflate(&mut Inflater::default(), bytes, &[], || MESSAGE_BYTES_MAX + 1);
    let mut random = cuts::random_of(bytes);
    for cuts in cuts::ways(bytes) {
        let most = 1 << random.u32(0..10);
        let mut steps = random.fork();
        let cut = inflate(&mut Inflater::default(), bytes, &cuts, || steps.usize(1..=most));
        // Whether the limit or the fault is met first depends on how much was asked for.
        let same = match (&whole, &cut) {
            (Read::Whole(whole), Read::Whole(cut)) => whole == cut,
            (Read::Whole(_), _) | (_, Read::Whole(_)) => false,
            (_, _) => true,
        };
        assert!(same, "cut at {cuts:?}, steps up to {most}");
    }
    let other = Other::default().message(bytes, MESSAGE_BYTES_MAX);
    match (&whole, &other) {
        (Read::Whole(ours), Read::Whole(theirs)) => assert!(ours == theirs, "another reading"),
        // The other one sees at once that a code has no symbols. Zlib sees it at the end of the
        // lengths, and a message may be cut before that.
        (Read::Whole(ours), Read::Malformed(theirs)) => {
            assert!(ours == theirs, "another implementation stops elsewhere");
        }
        (Read::Whole(_), Read::TooMuch) => panic!("the other one goes on to the limit"),
        // The other one takes some codes that are no full codes.
        (Read::Malformed(_), _) => {}
        (Read::TooMuch, Read::Whole(_)) => panic!("the other one stops short of the limit"),
        (Read::TooMuch, _) => {}
    }
}

/// Inflates a message: pieces up to each cut, and as much room at a time as `step` says. Never
/// gives more room than the limit and one byte.
fn inflate(
    inflater: &mut Inflater,
    bytes: &[u8],
    cuts: &[usize],
    mut step: impl FnMut() -> usize,
) -> Read {
    let mut out = Vec::new();
    let mut start = 0;
    let ends = cuts.iter().copied().chain([bytes.len()]);
    let mut pieces: Vec<&[u8]> = Vec::new();
    for end in ends {
        pieces.push(&bytes[start..end]);
        start = end;
    }
    pieces.push(&TAIL);
    for mut piece in pieces {
        loop {
            let mut room = vec![0; step().min(MESSAGE_BYTES_MAX + 1 - out.len())];
            let Some((consumed, produced)) = inflater.push(piece, &mut room) else {
                return Read::Malformed(out);
            };
            out.extend_from_slice(&room[..produced]);
            piece = &piece[consumed..];
            if out.len() > MESSAGE_BYTES_MAX {
                return Read::TooMuch;
            }
            if produced < room.len() {
                assert!(piece.is_empty(), "room is left only if all input is used");
                break;
            }
        }
    }
    Read::Whole(out)
}

/// Messages of one sender, with its context or without.
fn round_trip(how: u8, bytes: &[u8]) {
    let (level, window_bits, takeover) = (how % 10, 9 + how / 10 % 7, how >= 128);
    let mut deflater = Deflater::new(level, window_bits);
    let (mut inflater, mut other) = (Inflater::default(), Other::default());
    let mut random = cuts::random_of(bytes);
    let cuts = cuts::at_random(&mut random, bytes.len(), 3);
    let mut start = 0;
    for end in cuts.into_iter().chain([bytes.len()]) {
        let payload = bytes[start..end].repeat(1 + usize::from(how % 3) * 20);
        start = end;
        if !takeover {
            deflater.reset();
            inflater.reset();
            other.reset();
        }
        let mut compressed = Vec::new();
        deflater.deflate(&payload, &mut compressed);
        // What a receiver with a limit on payloads has to let pass.
        assert!(compressed.len() <= payload.len() + payload.len() / 8 + 64, "it hardly grows");
        if payload.len() > MESSAGE_BYTES_MAX {
            return;
        }
        let ours = inflate(&mut inflater, &compressed, &[], || 1000);
        assert!(ours == Read::Whole(payload.clone()), "we read what we have written");
        let theirs = other.message(&compressed, payload.len());
        assert!(theirs == Read::Whole(payload), "others read what we have written");
    }
}
