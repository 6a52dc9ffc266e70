//! UTF-8 on registers of 64 bytes, for CPUs with AVX-512 VBMI, after Keiser and Lemire, "Validating
//! UTF-8 in less than one instruction per byte". `kernels` says when it may run.
//!
//! A text is bad where two neighbours cannot stand together, or where the third or fourth byte of a
//! character is missing or one too many. Whether two neighbours can, three of their four nibbles
//! tell: each looks up the [`PROBLEMS`] it may take part in, one bit for each, and a bit that all
//! three have in common is a problem. The bytes 1 to 3 places earlier come from memory, by loads
//! that overlap.
//!
//! ```text
//!     |  61 ..              .. 127 |       a window: 3 bytes, and the block behind them
//!         |  64 ..          .. 127 |       the block, which is judged
//! ```
//!
//! INVARIANT: what is wrong with a byte shows in it and the three before it. So blocks may be
//! judged in any order and twice, and the last one overlaps the one before.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_maskz_permutexvar_epi8, _mm512_movepi8_mask, _mm512_or_si512,
    _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_srli_epi16,
    _mm512_subs_epu8, _mm512_ternarylogic_epi64, _mm512_test_epi64_mask, _mm512_xor_si512,
};

/// Bytes of a register.
const BLOCK_BYTES: usize = 64;

/// Bytes before a block that its first bytes may go on with.
const BEFORE_BYTES: usize = 3;

const WINDOW_BYTES: usize = BEFORE_BYTES + BLOCK_BYTES;

/// Blocks that are tested for ASCII together.
const GROUP_BLOCKS: usize = 2;
const GROUP_BYTES: usize = GROUP_BLOCKS * BLOCK_BYTES;

/// The least the kernel takes: the last window, which has all its bytes.
pub(super) const LEN_MIN: usize = WINDOW_BYTES;

/// What two neighbours can do wrong: high nibble of the first, low nibble of the first, high nibble
/// of the second, each as a set in which bit `n` stands for nibble `n`.
///
/// INVARIANT: the last entry, bit 0x80 of what is looked up, is two continuation bytes in a row. It
/// is a problem or a duty, as the bytes before them decide.
const PROBLEMS: [[u16; 3]; 8] = [
    // A character begins, and does not go on.
    [LEAD, ANY, !CONTINUATION],
    // A character goes on that did not begin.
    [ASCII, ANY, CONTINUATION],
    // Overlong: C0 and C1.
    [1 << 0xc, 0x0003, CONTINUATION],
    // Overlong: E0 before 80 to 9F.
    [1 << 0xe, 0x0001, 0x0300],
    // Overlong: F0 before 80 to 8F. And F5 to FF before the same: they begin nothing.
    [1 << 0xf, 0xffe1, 0x0100],
    // Beyond U+10FFFF: F4 before 90 to BF. And F5 to FF before the same.
    [1 << 0xf, 0xfff0, 0x0e00],
    // Surrogates: ED before A0 to BF.
    [1 << 0xe, 1 << 0xd, 0x0c00],
    // Two continuation bytes.
    [CONTINUATION, ANY, CONTINUATION],
];

/// Kinds of bytes, as sets of high nibbles.
const ASCII: u16 = 0x00ff;
const CONTINUATION: u16 = 0x0f00;
const LEAD: u16 = 0xf000;
const ANY: u16 = 0xffff;

const FIRST_HIGH: [u8; BLOCK_BYTES] = lookup_table(0);
const FIRST_LOW: [u8; BLOCK_BYTES] = lookup_table(1);
const SECOND_HIGH: [u8; BLOCK_BYTES] = lookup_table(2);

/// The problems that each nibble takes part in. VBMI looks up by six bits; the table repeats itself
/// every four, so the two bits above a nibble may be anything.
const fn lookup_table(column: usize) -> [u8; BLOCK_BYTES] {
    let mut table = [0; BLOCK_BYTES];
    let mut place = 0;
    while place < BLOCK_BYTES {
        let mut problem = 0;
        while problem < PROBLEMS.len() {
            if PROBLEMS[problem][column] >> (place % 16) & 1 == 1 {
                table[place] |= 1 << problem;
            }
            problem += 1;
        }
        place += 1;
    }
    table
}

/// Whether the bytes are UTF-8. Takes at least [`LEN_MIN`] of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        unreachable!("the kernel takes {LEN_MIN} bytes at least, not {}", bytes.len());
    };
    // Nothing branches on what is bad before the end: a text is bad once, and then given up.
    let mut bad = _mm512_or_si512(judge_first_block(first), judge_window(last));
    let mut rest = &bytes[BLOCK_BYTES - BEFORE_BYTES..];
    while let Some(group) = rest.first_chunk() {
        bad = _mm512_or_si512(bad, judge_group(group));
        rest = &rest[GROUP_BYTES..];
    }
    while let Some(window) = rest.first_chunk() {
        bad = _mm512_or_si512(bad, judge_window(window));
        rest = &rest[BLOCK_BYTES..];
    }
    _mm512_test_epi64_mask(bad, bad) == 0 && !is_cut(last)
}

/// Whether the last character lacks bytes, given that nothing else is wrong.
#[inline]
fn is_cut(last: &[u8; WINDOW_BYTES]) -> bool {
    let [.., third_last, second_last, last] = *last;
    third_last >= 0xf0 || second_last >= 0xe0 || last >= 0xc0
}

/// The first block of a text. Before it, zeros are put.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn judge_first_block(block: &[u8; BLOCK_BYTES]) -> __m512i {
    const PLACES_BACK: [[u8; BLOCK_BYTES]; BEFORE_BYTES] =
        [places_back(1), places_back(2), places_back(3)];
    let [back_1, back_2, back_3] = &PLACES_BACK;
    let block = load(block);
    judge(
        block,
        _mm512_maskz_permutexvar_epi8(!0 << 1, load(back_1), block),
        _mm512_maskz_permutexvar_epi8(!0 << 2, load(back_2), block),
        _mm512_maskz_permutexvar_epi8(!0 << 3, load(back_3), block),
    )
}

/// For each place of a block the one `distance` earlier; 0 for the first ones.
const fn places_back(distance: u8) -> [u8; BLOCK_BYTES] {
    let mut places = [0; BLOCK_BYTES];
    let mut place = distance;
    while (place as usize) < BLOCK_BYTES {
        places[place as usize] = place - distance;
        place += 1;
    }
    places
}

/// Blocks in a row. If they and the bytes before them are ASCII, nothing can be wrong.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn judge_group(group: &[u8; BEFORE_BYTES + GROUP_BYTES]) -> __m512i {
    let mut seen = load_at(group, 0);
    for block in 0..GROUP_BLOCKS {
        seen = _mm512_or_si512(seen, load_at(group, BEFORE_BYTES + block * BLOCK_BYTES));
    }
    let mut bad = _mm512_setzero_si512();
    if _mm512_movepi8_mask(seen) == 0 {
        return bad;
    }
    for block in 0..GROUP_BLOCKS {
        bad = _mm512_or_si512(bad, judge_at(group, block * BLOCK_BYTES));
    }
    bad
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn judge_window(window: &[u8; WINDOW_BYTES]) -> __m512i {
    judge_at(window, 0)
}

/// The window that starts at `start`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn judge_at(bytes: &[u8], start: usize) -> __m512i {
    judge(
        load_at(bytes, start + 3),
        load_at(bytes, start + 2),
        load_at(bytes, start + 1),
        load_at(bytes, start),
    )
}

/// Not zero where a byte is wrong. `back_1` has the byte before in the place of each, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn judge(block: __m512i, back_1: __m512i, back_2: __m512i, back_3: __m512i) -> __m512i {
    // There is no shift of bytes. One of 16 bits leaves the high nibble with rubbish above it,
    // which the tables do not mind.
    const A_AND_B_AND_C: i32 = 0x80;
    let problems = _mm512_ternarylogic_epi64::<A_AND_B_AND_C>(
        _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(back_1), load(&FIRST_HIGH)),
        _mm512_permutexvar_epi8(back_1, load(&FIRST_LOW)),
        _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(block), load(&SECOND_HIGH)),
    );
    // Two places after E0 to FF, and three after F0 to FF, a continuation byte must follow another:
    // only then the difference keeps the bit 0x80.
    let third = _mm512_subs_epu8(back_2, splat(0xe0 - 0x80));
    let fourth = _mm512_subs_epu8(back_3, splat(0xf0 - 0x80));
    let due = _mm512_and_si512(_mm512_or_si512(third, fourth), splat(0x80));
    _mm512_xor_si512(problems, due)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn splat(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

/// The register's worth of bytes that starts at `start`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn load_at(bytes: &[u8], start: usize) -> __m512i {
    match bytes[start..].first_chunk() {
        Some(block) => load(block),
        None => unreachable!("a window has all its bytes"),
    }
}

/// PERF: a cast is one load wherever it is inlined. Built from words (`_mm512_set_epi64`), it is
/// taken apart where loads overlap, and the kernel takes eight times as long (bench `text`).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn load(bytes: &[u8; BLOCK_BYTES]) -> __m512i {
    bytemuck::must_cast(*bytes)
}

#[cfg(test)]
mod tests {
    use super::super::kernels::{is_utf8, is_utf8_portable};
    use super::*;

    /// A block at the start, a group, a window, and a last block that overlaps.
    const LONG: usize = BLOCK_BYTES + GROUP_BYTES + BLOCK_BYTES + 17;

    /// The dispatch, which takes the kernel of this file where the CPU has what it needs, and the
    /// kernel other CPUs run.
    fn check(bytes: &[u8], expected: bool, what: &str) {
        assert_eq!(is_utf8(bytes), expected, "{what}: {bytes:x?}");
        assert_eq!(is_utf8_portable(bytes), expected, "{what}, portable: {bytes:x?}");
    }

    fn is_utf8_by_core(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok()
    }

    /// Places around the first edge of two blocks.
    const FIRST_EDGE: std::ops::RangeInclusive<usize> = 61..=67;

    /// The very start, the edges inside and behind the group, and of the last block.
    const OTHER_EDGES: [usize; 5] = [0, 126, 190, LONG - BLOCK_BYTES - 2, LONG - 4];

    /// Puts `sequence` into ASCII at each of the places.
    fn check_at(places: impl Iterator<Item = usize>, text: &mut [u8], sequence: &[u8]) {
        let expected = is_utf8_by_core(sequence);
        for place in places {
            text[place..place + sequence.len()].copy_from_slice(sequence);
            assert_eq!(is_utf8(text), expected, "{sequence:x?} at {place}");
            text[place..place + sequence.len()].fill(b'x');
        }
    }

    #[test]
    fn fg06_sequences_of_one_and_two_bytes_are_judged_right_at_block_edges() {
        let mut text = [b'x'; LONG];
        for a in 0..=255 {
            check_at(FIRST_EDGE.chain(OTHER_EDGES), &mut text, &[a]);
            for b in 0..=255 {
                check_at(FIRST_EDGE.chain(OTHER_EDGES), &mut text, &[a, b]);
            }
        }
    }

    #[test]
    fn fg06_sequences_of_three_bytes_are_judged_right_at_block_edges() {
        let mut text = [b'x'; LONG];
        for a in 0..=255 {
            for b in 0..=255 {
                for c in 0..=255 {
                    check_at(FIRST_EDGE, &mut text, &[a, b, c]);
                }
            }
        }
    }

    #[test]
    fn fg06_sequences_of_four_bytes_are_judged_right_at_block_edges() {
        // One byte of each kind, and the edges of the ranges in the table of RFC 3629 §4.
        let edges = [
            0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed,
            0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        let mut text = [b'x'; LONG];
        for (a, b) in edges.iter().flat_map(|a| edges.iter().map(move |b| (*a, *b))) {
            for (c, d) in edges.iter().flat_map(|c| edges.iter().map(move |d| (*c, *d))) {
                check_at(FIRST_EDGE.chain(OTHER_EDGES), &mut text, &[a, b, c, d]);
            }
        }
    }

    #[test]
    fn fg06_text_is_judged_right_at_every_length_and_alignment() {
        for unit in ["a", "a\u{e4}", "\u{20ac}", "b\u{1f600}", "\u{1f600}"] {
            let text = unit.repeat(LONG);
            for start in 0..BLOCK_BYTES {
                for len in 0..200 {
                    let bytes = &text.as_bytes()[start..start + len];
                    check(bytes, is_utf8_by_core(bytes), "piece");
                }
            }
        }
    }

    #[test]
    fn fg06_single_wrong_byte_is_found_at_every_place() {
        for unit in ["a", "\u{e4}", "\u{20ac}", "\u{1f600}"] {
            for len in (LEN_MIN..LONG).step_by(unit.len()) {
                let mut bytes = unit.repeat(len).into_bytes();
                bytes.truncate(len / unit.len() * unit.len());
                for place in 0..bytes.len() {
                    for wrong in [b'a', 0x80, 0xc3, 0xe2, 0xf0, 0xff] {
                        let right = std::mem::replace(&mut bytes[place], wrong);
                        check(&bytes, is_utf8_by_core(&bytes), "one byte wrong");
                        bytes[place] = right;
                    }
                }
            }
        }
    }

    #[test]
    fn fg06_mutated_random_text_is_judged_as_by_the_standard_library() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let tops = ['\u{7f}', '\u{7ff}', '\u{ffff}', char::MAX];
        for _ in 0..20_000 {
            let len = rng.usize(20..400);
            let mut text = String::new();
            for _ in 0..len {
                let top = rng.choice(tops).unwrap();
                text.push(rng.char(..=top));
            }
            let mut bytes = text.into_bytes();
            check(&bytes, true, "valid text");
            for _ in 0..rng.usize(1..4) {
                let place = rng.usize(..bytes.len());
                match rng.u8(..4) {
                    0 => bytes[place] = rng.u8(..),
                    1 => bytes[place] ^= 1 << rng.u8(..8),
                    2 => bytes.insert(place, rng.u8(0x80..)),
                    _ => drop(bytes.remove(place)),
                }
            }
            check(&bytes, is_utf8_by_core(&bytes), "mutated text");
        }
    }
}
