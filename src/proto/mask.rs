//! Masking (RFC 6455 §5.3): XOR with a key of four bytes, in place. Masking and unmasking are the
//! same operation.
//!
//! Two loops: words for short payloads, and for longer ones blocks of vector registers, written
//! portably and compiled twice: as it is, and with AVX2; `kernels` chooses. Both return the OR of
//! all bytes they wrote, which proves a text ASCII for next to nothing.
//!
//! Neither has a loop for the odd bytes at the end. The last word (or lane) is computed before
//! anything is written, and written after all else: over bytes that are already right, and equal.
//!
//! ```text
//!   first          next lanes, aligned                    last
//!  |------------|                                   |------------|
//!  |--------|------------|------------|------------|-------------|
//! ```
//!
//! INVARIANT: byte `i` becomes `bytes[i] ^ key[i % 4]`, and no byte outside the slice is touched.

use super::kernels::unmask_wide;

/// Below this many bytes, words are at least as fast as blocks.
const WIDE_BYTES_MIN: usize = 384;

/// Bytes of a lane: one AVX2 register.
const LANE_BYTES: usize = 32;

/// Bytes of a block: four lanes, so that four independent XORs are in flight.
const BLOCK_BYTES: usize = 4 * LANE_BYTES;

/// Words of a lane and of a block.
const LANE_WORDS: usize = LANE_BYTES / 8;
const BLOCK_WORDS: usize = BLOCK_BYTES / 8;

const _: () = assert!(WIDE_BYTES_MIN >= 2 * LANE_BYTES, "the first and the last lane fit");

/// Unmasks in place, or masks.
#[inline]
pub(crate) fn unmask(bytes: &mut [u8], key: [u8; 4]) {
    // PERF: no kernel of its own; the OR is hidden behind loads and stores (bench `unmask`).
    unmask_or(bytes, key);
}

/// Unmasks in place and returns the OR of all unmasked bytes; below 0x80, all of them are ASCII.
#[inline]
pub(crate) fn unmask_or(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    if bytes.len() < WIDE_BYTES_MIN { unmask_words(bytes, key) } else { unmask_wide(bytes, key) }
}

/// The key as it applies `offset` bytes into the payload.
#[inline]
pub(crate) fn rotate(key: [u8; 4], offset: usize) -> [u8; 4] {
    // As a word: rotating the array by a variable is a call into the library, 20 ns.
    let [offset, ..] = offset.to_le_bytes();
    u32::from_le_bytes(key).rotate_right(8 * u32::from(offset % 4)).to_le_bytes()
}

/// Whole words of eight bytes, the last one overlapping.
#[inline]
fn unmask_words(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    let Some(&last) = bytes.last_chunk() else {
        return unmask_tiny(bytes, key);
    };
    let last = u64::from_le_bytes(last) ^ repeat(rotate(key, bytes.len()));
    let key = repeat(key);
    let mut seen = last;
    for word in bytes.as_chunks_mut().0 {
        let unmasked = u64::from_le_bytes(*word) ^ key;
        seen |= unmasked;
        *word = unmasked.to_le_bytes();
    }
    if let Some(place) = bytes.last_chunk_mut() {
        *place = last.to_le_bytes();
    }
    or_bytes(&[seen])
}

/// At most seven bytes: two overlapping words of four, or single bytes.
#[inline]
fn unmask_tiny(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    let (Some(&first), Some(&last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        let mut seen = 0;
        for (byte, key) in bytes.iter_mut().zip(&key) {
            *byte ^= key;
            seen |= *byte;
        }
        return seen;
    };
    let first = u32::from_le_bytes(first) ^ u32::from_le_bytes(key);
    let last = u32::from_le_bytes(last) ^ u32::from_le_bytes(rotate(key, bytes.len()));
    if let Some(place) = bytes.first_chunk_mut() {
        *place = first.to_le_bytes();
    }
    if let Some(place) = bytes.last_chunk_mut() {
        *place = last.to_le_bytes();
    }
    or_bytes(&[u64::from(first | last)])
}

/// The portable kernel, compiled for AVX2.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2")]
pub(super) fn unmask_wide_avx2(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    unmask_wide_portable(bytes, key)
}

/// Whole lanes, the first and the last one overlapping the aligned ones between.
///
/// PERF: payloads start behind a header of 6, 8 or 14 bytes, so unaligned is the rule, and then
/// every second access touches two cache lines; aligning gains half as much again in L1
/// (bench `unmask`).
#[inline(always)]
pub(super) fn unmask_wide_portable(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return unmask_words(bytes, key);
    };
    let mut seen = [0; LANE_WORDS];
    let first = unmask_lane(first, repeat(key), &mut seen);
    let last = unmask_lane(last, repeat(rotate(key, bytes.len())), &mut seen);
    // The first lane covers the bytes in front of the first aligned one, however many there are.
    let aligned_start = bytes.as_ptr().align_offset(LANE_BYTES).min(LANE_BYTES);
    let aligned = &mut bytes[aligned_start..];
    unmask_lanes(aligned, repeat(rotate(key, aligned_start)), &mut seen);
    bytes[..LANE_BYTES].copy_from_slice(&first);
    let last_start = bytes.len() - LANE_BYTES;
    bytes[last_start..].copy_from_slice(&last);
    or_bytes(&seen)
}

/// As many whole lanes as there are; up to 31 bytes at the end stay as they were.
///
/// The loops over words have a fixed length and no branch, so the compiler turns each into as many
/// vector operations as it takes.
#[inline(always)]
fn unmask_lanes(bytes: &mut [u8], key: u64, seen: &mut [u64; LANE_WORDS]) {
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK_BYTES>();
    let mut seen_blocks = [0; BLOCK_WORDS];
    for block in blocks {
        for (word, seen) in block.as_chunks_mut().0.iter_mut().zip(&mut seen_blocks) {
            let unmasked = u64::from_le_bytes(*word) ^ key;
            *seen |= unmasked;
            *word = unmasked.to_le_bytes();
        }
    }
    for seen_lane in seen_blocks.as_chunks::<LANE_WORDS>().0 {
        for (seen, seen_word) in seen.iter_mut().zip(seen_lane) {
            *seen |= seen_word;
        }
    }
    // Fewer lanes than a block are left. Saying so keeps the compiler from making a wide loop of it.
    for lane in rest.as_chunks_mut().0.iter_mut().take(BLOCK_BYTES / LANE_BYTES - 1) {
        *lane = unmask_lane(lane, key, seen);
    }
}

/// One lane, by value.
#[inline(always)]
fn unmask_lane(
    lane: &[u8; LANE_BYTES],
    key: u64,
    seen: &mut [u64; LANE_WORDS],
) -> [u8; LANE_BYTES] {
    let mut unmasked_lane = *lane;
    for (word, seen) in unmasked_lane.as_chunks_mut().0.iter_mut().zip(seen) {
        let unmasked = u64::from_le_bytes(*word) ^ key;
        *seen |= unmasked;
        *word = unmasked.to_le_bytes();
    }
    unmasked_lane
}

/// The key, as it applies to a word that starts where the key starts.
#[inline(always)]
fn repeat(key: [u8; 4]) -> u64 {
    let key = u64::from(u32::from_le_bytes(key));
    key << 32 | key
}

/// The OR of all bytes of the words.
#[inline(always)]
fn or_bytes(words: &[u64]) -> u8 {
    let word = words.iter().fold(0, |seen, word| seen | word);
    let word = word | word >> 32;
    let word = word | word >> 16;
    let [low, ..] = (word | word >> 8).to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6455 §5.3.
    fn unmask_by_definition(bytes: &mut [u8], key: [u8; 4]) -> u8 {
        let mut seen = 0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[index % 4];
            seen |= *byte;
        }
        seen
    }

    fn random_bytes(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    }

    /// Runs every kernel on `bytes[start..end]` and compares all of `bytes` with the definition.
    fn check(bytes: &[u8], start: usize, end: usize, key: [u8; 4]) {
        let mut expected = bytes.to_vec();
        let seen = unmask_by_definition(&mut expected[start..end], key);
        type Kernel = fn(&mut [u8], [u8; 4]) -> u8;
        let kernels: [(&str, Kernel); 4] = [
            ("unmask_or", unmask_or),
            ("words", unmask_words),
            ("portable", unmask_wide_portable),
            ("dispatch", unmask_wide),
        ];
        for (name, kernel) in kernels {
            let mut actual = bytes.to_vec();
            assert_eq!(kernel(&mut actual[start..end], key), seen, "{name} {start}..{end}");
            assert!(actual == expected, "{name} {start}..{end} key {key:?}");
        }
        let mut actual = bytes.to_vec();
        unmask(&mut actual[start..end], key);
        assert!(actual == expected, "unmask {start}..{end} key {key:?}");
    }

    #[test]
    fn fr09_kernels_equal_the_definition_at_every_length_and_alignment() {
        let mut rng = fastrand::Rng::with_seed(9);
        let (len_max, starts) = if cfg!(miri) { (140, 1) } else { (450, 33) };
        let bytes = random_bytes(&mut rng, len_max + 64 + 8);
        for len in 0..=len_max {
            for start in 0..starts {
                check(&bytes, start, start + len, [0x80, 0x01, 0xfe, 0x37]);
            }
        }
    }

    #[test]
    fn fr09_kernels_equal_the_definition_on_random_payloads() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        println!("seed {seed}");
        for _ in 0..if cfg!(miri) { 3 } else { 200 } {
            let len = rng.usize(..if cfg!(miri) { 500 } else { 70_000 });
            let bytes = random_bytes(&mut rng, len + 40);
            let start = rng.usize(..40);
            check(&bytes, start, start + len, rng.u32(..).to_ne_bytes());
        }
    }

    #[test]
    fn fr09_every_key_byte_and_the_zero_key_unmask_right() {
        let bytes: Vec<u8> = (0..=255).collect();
        for key in (0..=255u8).step_by(if cfg!(miri) { 85 } else { 1 }) {
            check(&bytes, 1, 200, [key, 0, 0, 0]);
            check(&bytes, 1, 200, [0, key, !key, key]);
            check(&bytes, 3, 20, [key; 4]);
        }
    }

    #[test]
    fn single_byte_above_ascii_is_seen_at_every_place() {
        for len in [1, 3, 7, 8, 63, 64, 129, 383, 384, 513, 777] {
            let mut bytes = vec![b'a'; len];
            assert!(unmask_or(&mut bytes, [0; 4]) < 0x80);
            // Miri has time for one place in each lane.
            for place in (0..len).step_by(if cfg!(miri) { 29 } else { 1 }) {
                bytes[place] = 0xc3;
                assert!(unmask_or(&mut bytes, [0; 4]) >= 0x80, "{place} of {len}");
                bytes[place] = b'a';
            }
        }
    }

    #[test]
    fn rotated_key_goes_on_where_the_payload_was_cut() {
        let key = [1, 2, 4, 8];
        let bytes: Vec<u8> = (0..200).collect();
        let mut whole = bytes.clone();
        unmask(&mut whole, key);
        for cut in 0..=bytes.len() {
            let mut parts = bytes.clone();
            let (head, tail) = parts.split_at_mut(cut);
            unmask(head, key);
            unmask(tail, rotate(key, cut));
            assert_eq!(parts, whole, "cut at {cut}");
        }
        assert_eq!(rotate(key, usize::MAX), [8, 1, 2, 4]);
    }
}
