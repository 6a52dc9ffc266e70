//! UTF-8 of text messages (RFC 6455 §8.1), of whole ones and of ones that arrive in pieces.
//!
//! The bulk of each piece goes through the fastest kernel there is; what is written here is the
//! seam between two pieces. A character cut by the seam is not stored, only what may follow it: how
//! many bytes are missing and the range of the next one. That is all it takes to refuse a piece as
//! soon as it holds a byte no valid text could have there, even if its character is not complete.
//!
//! Unmasking and validation are joined here, so that a text is in the nearest cache for both.

use super::kernels::is_utf8;
use super::mask::unmask_or;
use super::violation::Violation;

/// Bytes unmasked before they are validated: they fit the L1 cache twice. A multiple of four, so
/// that each stride starts with the same byte of the masking key.
const STRIDE_BYTES: usize = 16 * 1024;

const _: () = assert!(STRIDE_BYTES.is_multiple_of(4));

/// Where a text stands that is validated piece by piece.
///
/// INVARIANT: `missing_bytes <= 3`, and while it is not 0, the next byte of a valid text lies in
/// `next_min..=next_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Utf8 {
    /// Bytes the last character still needs.
    missing_bytes: u8,
    next_min: u8,
    next_max: u8,
}

impl Utf8 {
    /// Takes the next piece. Fails as soon as no continuation can make the text valid; the text
    /// is then given up and this value means nothing.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        let mut chunk = chunk;
        while self.missing_bytes > 0 {
            let Some((&byte, rest)) = chunk.split_first() else {
                return Ok(());
            };
            self.push_byte(byte)?;
            chunk = rest;
        }
        let (whole, cut) = chunk.split_at(chunk.len() - cut_bytes(chunk));
        validate(whole)?;
        for &byte in cut {
            self.push_byte(byte)?;
        }
        Ok(())
    }

    /// The text ends here. Fails inside a character.
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        if self.is_between_characters() { Ok(()) } else { Err(Violation::InvalidUtf8) }
    }

    /// Whether the last character is complete.
    #[inline]
    pub(crate) fn is_between_characters(&self) -> bool {
        self.missing_bytes == 0
    }

    /// Takes one byte. The ranges are the table of well-formed sequences (RFC 3629 §4): the
    /// second byte after E0 and F0 excludes overlong forms, after ED surrogates, after F4 all
    /// beyond U+10FFFF.
    fn push_byte(&mut self, byte: u8) -> Result<(), Violation> {
        if self.missing_bytes > 0 {
            if !(self.next_min..=self.next_max).contains(&byte) {
                return Err(Violation::InvalidUtf8);
            }
            (self.next_min, self.next_max) = (0x80, 0xbf);
            self.missing_bytes -= 1;
            return Ok(());
        }
        (self.missing_bytes, self.next_min, self.next_max) = match byte {
            0x00..=0x7f => (0, 0, 0),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            0x80..=0xc1 | 0xf5..=0xff => return Err(Violation::InvalidUtf8),
        };
        Ok(())
    }
}

/// Validates a text that is complete.
#[inline]
pub(crate) fn validate(bytes: &[u8]) -> Result<(), Violation> {
    if is_utf8(bytes) { Ok(()) } else { Err(Violation::InvalidUtf8) }
}

/// Unmasks the next piece of a text and validates it. After a failure some of the piece may still
/// be masked; the connection fails, so nobody reads it.
///
/// `key` is turned to the start of the piece. ASCII costs one pass: what was seen while unmasking
/// proves it valid.
pub(crate) fn unmask_text(
    bytes: &mut [u8],
    key: [u8; 4],
    utf8: &mut Utf8,
) -> Result<(), Violation> {
    for stride in bytes.chunks_mut(STRIDE_BYTES) {
        let seen = unmask_or(stride, key);
        if !(seen.is_ascii() && utf8.is_between_characters()) {
            utf8.push(stride)?;
        }
    }
    Ok(())
}

/// Unmasks and validates a text that is complete in one frame.
#[inline]
pub(crate) fn unmask_whole_text(bytes: &mut [u8], key: [u8; 4]) -> Result<(), Violation> {
    if bytes.len() <= STRIDE_BYTES {
        let seen = unmask_or(bytes, key);
        return if seen.is_ascii() { Ok(()) } else { validate(bytes) };
    }
    let mut utf8 = Utf8::default();
    unmask_text(bytes, key, &mut utf8)?;
    utf8.finish()
}

/// How many bytes at the end of `chunk` begin a character that is not complete there.
fn cut_bytes(chunk: &[u8]) -> usize {
    for (before, &byte) in chunk.iter().rev().take(3).enumerate() {
        let char_bytes = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            0x00..=0x7f => return 0,
        };
        let present = before + 1;
        return if present < char_bytes { present } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x9a, 0x03, 0xf1, 0x6c];

    /// Pushes the pieces and finishes.
    fn push_all(pieces: &[&[u8]]) -> Result<(), Violation> {
        let mut utf8 = Utf8::default();
        for piece in pieces {
            utf8.push(piece)?;
        }
        utf8.finish()
    }

    fn masked(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    /// Compares with `core::str`: whole, and in every split into two.
    fn check_string(bytes: &[u8]) {
        let expected = std::str::from_utf8(bytes).map(drop).map_err(|_| Violation::InvalidUtf8);
        assert_eq!(validate(bytes), expected, "{bytes:x?}");
        assert_eq!(push_all(&[bytes]), expected, "{bytes:x?}");
        for cut in 1..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(push_all(&[head, tail]), expected, "{head:x?} {tail:x?}");
        }
    }

    /// Whether `core::str` can tell that no continuation makes these bytes valid.
    fn is_hopeless(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some())
    }

    /// One of each kind of byte, and the edges of each range in the table.
    const EDGES: [u8; 30] = [
        0x00, 0x41, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x91, 0x9f, 0xa0, 0xa1, 0xbe, 0xbf, 0xc0, 0xc1,
        0xc2, 0xc3, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
    ];

    /// Every byte there is; under Miri, which is slow, the edges around E0, ED, F0 and F4.
    fn bytes_to_try() -> Vec<u8> {
        if cfg!(miri) {
            return vec![0x41, 0x80, 0x90, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xf5];
        }
        (0..=255).collect()
    }

    #[test]
    fn fg06_strings_up_to_three_bytes_are_judged_as_by_the_standard_library() {
        let bytes = bytes_to_try();
        for &a in &bytes {
            check_string(&[a]);
            for &b in &bytes {
                check_string(&[a, b]);
                bytes.iter().for_each(|&c| check_string(&[a, b, c]));
            }
        }
    }

    #[test]
    fn fg06_characters_of_four_bytes_are_judged_as_by_the_standard_library() {
        let bytes = bytes_to_try();
        for &a in bytes.iter().filter(|&&a| a >= 0xf0) {
            for (&b, &c) in bytes.iter().flat_map(|b| bytes.iter().map(move |c| (b, c))) {
                // What cannot be saved is refused by then: see the test of pieces below.
                if !is_hopeless(&[a, b, c]) {
                    bytes.iter().for_each(|&d| check_string(&[a, b, c, d]));
                }
            }
        }
    }

    #[test]
    fn fg06_mixed_strings_of_four_bytes_are_judged_as_by_the_standard_library() {
        let edges: &[u8] = if cfg!(miri) { &EDGES[19..22] } else { &EDGES };
        for &a in edges {
            for &b in edges {
                for &c in edges {
                    edges.iter().for_each(|&d| check_string(&[a, b, c, d]));
                }
            }
        }
    }

    #[test]
    fn fg06_bad_byte_is_refused_before_its_character_ends() {
        for bad in [
            &b"\xed\xa0"[..],
            b"\xf4\x90",
            b"\xf0\x80",
            b"\xe0\x9f",
            b"\xc0",
            b"\xc1",
            b"\xf5",
            b"\xff",
            b"\x80",
            b"\xf1\x80\x41",
        ] {
            assert_eq!(Utf8::default().push(bad), Err(Violation::InvalidUtf8), "{bad:x?}");
            let after_text = [b"some text, \xc3\xa4 ", bad].concat();
            assert_eq!(Utf8::default().push(&after_text), Err(Violation::InvalidUtf8));
        }
    }

    #[test]
    fn fg06_piece_fails_exactly_when_no_continuation_can_save_it() {
        let all = bytes_to_try();
        for (&a, &b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            for &c in &all {
                let bytes = [a, b, c];
                let mut utf8 = Utf8::default();
                assert_eq!(utf8.push(&bytes).is_err(), is_hopeless(&bytes), "{bytes:x?}");
                let mut bytewise = Utf8::default();
                let failed = bytes.iter().any(|&byte| bytewise.push(&[byte]).is_err());
                assert_eq!(failed, is_hopeless(&bytes), "{bytes:x?} byte by byte");
            }
        }
    }

    #[test]
    fn fg07_text_is_accepted_in_every_split_into_three() {
        let text = "Gr\u{fc}\u{df}e, \u{20ac}uro \u{1f600}\u{10ffff}\u{d7ff}\u{e000} ".repeat(4);
        // The splits are half of the square of the length: Miri has time for one of the four.
        let text: String = text.chars().take(if cfg!(miri) { 16 } else { 64 }).collect();
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(push_all(&pieces), Ok(()), "cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(push_all(&single), Ok(()));
    }

    #[test]
    fn fg07_empty_pieces_change_nothing() {
        assert_eq!(push_all(&[]), Ok(()));
        assert_eq!(push_all(&[b"", b"\xe2", b"", b"\x82", b"", b"\xac", b""]), Ok(()));
    }

    #[test]
    fn fg08_text_that_ends_inside_a_character_is_refused() {
        for cut in [&b"\xc3"[..], b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98"] {
            for lead in ["", "a", "text long enough for the wide kernels ".repeat(9).as_str()] {
                let bytes = [lead.as_bytes(), cut].concat();
                let mut utf8 = Utf8::default();
                assert_eq!(utf8.push(&bytes), Ok(()), "more could follow");
                assert_eq!(utf8.finish(), Err(Violation::InvalidUtf8));
                let refused = unmask_whole_text(&mut masked(&bytes), KEY);
                assert_eq!(refused, Err(Violation::InvalidUtf8));
            }
        }
    }

    #[test]
    fn fg06_fg07_masked_text_is_judged_and_unmasked_at_every_length() {
        let long = STRIDE_BYTES + 70;
        let lens: Vec<usize> = (0..200).chain(STRIDE_BYTES - 3..=long).collect();
        for unit in ["a", "a\u{e4}", "\u{20ac}", "b\u{1f600}"] {
            let text = unit.repeat(long);
            // Miri has time for the lengths around words and characters.
            for &len in
                lens.iter().filter(|&&len| !cfg!(miri) || len < 13 || len % 16 < 2 && len < 80)
            {
                let bytes = &text.as_bytes()[..len];
                let expected =
                    std::str::from_utf8(bytes).map(drop).map_err(|_| Violation::InvalidUtf8);
                let mut whole = masked(bytes);
                assert_eq!(unmask_whole_text(&mut whole, KEY), expected, "{unit} {len}");
                assert!(whole == bytes, "{unit} {len}");
                let mut piece = masked(bytes);
                let mut utf8 = Utf8::default();
                assert_eq!(unmask_text(&mut piece, KEY, &mut utf8), Ok(()), "{unit} {len}");
                assert_eq!(utf8.finish(), expected);
                assert!(piece == bytes, "{unit} {len}");
            }
        }
    }

    #[test]
    fn fg06_ascii_piece_after_half_a_character_is_refused() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"\xc3"), Ok(()));
        let mut piece = masked(b"plain");
        assert_eq!(unmask_text(&mut piece, KEY, &mut utf8), Err(Violation::InvalidUtf8));
    }

    #[test]
    fn fg06_single_bad_byte_in_a_long_text_is_found_anywhere() {
        let len = if cfg!(miri) { 300 } else { 2 * STRIDE_BYTES + 100 };
        let step = if cfg!(miri) { 37 } else { 97 };
        for place in (0..len).step_by(step).chain([len - 1]) {
            let mut bytes = vec![b'x'; len];
            bytes[place] = 0xc0;
            assert_eq!(unmask_whole_text(&mut masked(&bytes), KEY), Err(Violation::InvalidUtf8));
        }
    }
}
