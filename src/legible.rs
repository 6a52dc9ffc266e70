//! How the words of peers are made fit to read, by people and on terminals.
//!
//! INVARIANT: what comes out is one line, of bounded length, without control characters.

/// Bytes of a peer's words that are kept (row LC07).
const WORDS_BYTES_MAX: usize = 128;
/// Stands for what was cut off.
const CUT: char = '\u{2026}';

/// Words of a peer as they may stand on a terminal and in a log: one line, nothing that moves a
/// cursor or hides what follows, at most 128 bytes (row LC07).
pub(crate) fn legible(words: &str) -> String {
    legible_bytes(words.as_bytes(), WORDS_BYTES_MAX)
}

/// The same for any bytes and any bound; those that are no UTF-8 are escaped, too.
pub(crate) fn legible_bytes(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let before = text.len();
            // Quotes do no harm here.
            if character == '\'' || character == '"' {
                text.push(character);
            } else {
                text.extend(character.escape_debug());
            }
            if is_cut(&mut text, before, bytes_max) {
                return text;
            }
        }
        for byte in chunk.invalid() {
            let before = text.len();
            text.extend(byte.escape_ascii().map(char::from));
            if is_cut(&mut text, before, bytes_max) {
                return text;
            }
        }
    }
    text
}

/// Cuts a text that has grown too long back to what it was before. There is always room for a sign
/// that it is cut.
fn is_cut(text: &mut String, before: usize, bytes_max: usize) -> bool {
    let is_cut = text.len() > bytes_max.saturating_sub(CUT.len_utf8());
    if is_cut {
        text.truncate(before);
        text.push(CUT);
    }
    is_cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lc07_words_of_peers_cannot_move_a_cursor_and_are_cut() {
        assert_eq!(legible("it's \"fine\", Grüße"), "it's \"fine\", Grüße");
        assert_eq!(legible("a\nb\r\t\u{1b}[2J"), "a\\nb\\r\\t\\u{1b}[2J");
        assert_eq!(legible("\u{9b}31m\u{202e}x\u{200b}"), "\\u{9b}31m\\u{202e}x\\u{200b}");
        assert_eq!(legible("\\n"), "\\\\n", "what is escaped can be told from what is not");
    }

    #[test]
    fn lc07_any_words_come_out_on_one_line_of_bounded_length() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..if cfg!(miri) { 20 } else { 5_000 } {
            let words: String = (0..rng.usize(0..200))
                .map(|_| match rng.u8(0..4) {
                    0 => char::from(rng.u8(..)),
                    1 => rng.char('\u{2000}'..='\u{2100}'),
                    _ => rng.char(..),
                })
                .collect();
            let text = legible(&words);
            assert!(text.len() <= WORDS_BYTES_MAX, "{words:?}");
            assert!(
                !text.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
            );
        }
        assert_eq!(legible_bytes(b"\xff\x00a\xc3", 99), "\\xff\\0a\\xc3");
        assert_eq!(legible_bytes(b"\xff\xff\xff", 11), "\\xff\\xff\u{2026}");
        let long = "x".repeat(1 << 20);
        assert!(legible(&long).ends_with(CUT));
    }
}
