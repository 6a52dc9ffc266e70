//! What messages are made of, and whether what came back is what was sent.
//!
//! A message has a stamp that names its connection and its place in the order; the rest is the same
//! for all. So an echo is checked by its stamp and its length, and a sample of them byte by byte.
//! Stamps are digits: the same for text and binary. They stand at the start, or in JSON where the
//! `id` is.

use std::fmt;
use std::fmt::Write as _;

use clap::ValueEnum;

/// Bytes of a whole stamp: connection and sequence number, eight hexadecimal digits each.
pub(crate) const STAMP_BYTES: usize = 16;
/// One of this many echoes is compared whole; and the first of each connection.
const ECHOES_PER_WHOLE_CHECK: u32 = 256;
/// The scripts of a text, with characters of one to four bytes.
const SCRIPTS: [&str; 5] = ["line ", "провод ", "線路を", "🜁𝄞", "žluťoučký "];

/// What stands before the stamp of a JSON message.
const JSON_HEAD: &str = "{\"id\":\"";
/// What stands between its stamp and its rows.
const JSON_ROWS: &str = "\",\"rows\":[";
/// What stands between its rows and what fills it up.
const JSON_PAD: &str = "],\"pad\":\"";
const JSON_END: &str = "\"}";
/// Below this there is no room for it, and the message is the stamp and dots.
const JSON_BYTES_MIN: usize =
    JSON_HEAD.len() + STAMP_BYTES + JSON_ROWS.len() + JSON_PAD.len() + JSON_END.len();

/// What messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Binary, all byte values.
    #[default]
    Binary,
    /// Text in mixed scripts.
    Text,
    /// Text: a JSON object with rows of readings, as services send it. It compresses as such does,
    /// to about a third of 1 KiB.
    Json,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Makes messages of one size, and knows them again.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    is_text: bool,
    /// Where the stamp begins.
    stamp_at: usize,
}

impl Payload {
    /// Messages of `size` bytes.
    pub(crate) fn new(size: usize, kind: Kind) -> Self {
        let mut bytes = filler(size, kind);
        let stamp_at = if has_rows(size, kind) { JSON_HEAD.len() } else { 0 };
        let stamp_bytes = (size - stamp_at).min(STAMP_BYTES);
        bytes[stamp_at..stamp_at + stamp_bytes].fill(b'0');
        Self { bytes, is_text: kind != Kind::Binary, stamp_at }
    }

    /// Whether messages are text.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text
    }

    /// The message with this stamp.
    pub(crate) fn stamped(&mut self, conn: u32, sequence: u32) -> &[u8] {
        let stamp = stamp(conn, sequence);
        let end = self.stamp_end();
        let stamp_bytes = end - self.stamp_at;
        self.bytes[self.stamp_at..end].copy_from_slice(&stamp[STAMP_BYTES - stamp_bytes..]);
        &self.bytes
    }

    /// Whether `received` is the message with this stamp.
    pub(crate) fn is_echo(&self, received: &[u8], conn: u32, sequence: u32) -> bool {
        let (at, end) = (self.stamp_at, self.stamp_end());
        let is_whole_check = sequence.is_multiple_of(ECHOES_PER_WHOLE_CHECK);
        let is_same_around =
            || received[..at] == self.bytes[..at] && received[end..] == self.bytes[end..];
        received.len() == self.bytes.len()
            && received[at..end] == stamp(conn, sequence)[STAMP_BYTES - (end - at)..]
            && (!is_whole_check || is_same_around())
    }

    fn stamp_end(&self) -> usize {
        self.bytes.len().min(self.stamp_at + STAMP_BYTES)
    }
}

/// So many bytes of this kind, without a stamp.
pub(crate) fn filler(size: usize, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Binary => (0..=250u8).cycle().take(size).collect(),
        Kind::Json if has_rows(size, kind) => json(size),
        Kind::Text | Kind::Json => text(size, kind),
    }
}

fn has_rows(size: usize, kind: Kind) -> bool {
    kind == Kind::Json && size >= JSON_BYTES_MIN
}

/// Connection, then sequence number. Short messages carry its end, which changes most.
fn stamp(conn: u32, sequence: u32) -> [u8; STAMP_BYTES] {
    let word = u64::from(conn) << 32 | u64::from(sequence);
    let mut stamp = [0; STAMP_BYTES];
    for (place, byte) in stamp.as_chunks_mut::<2>().0.iter_mut().zip(word.to_be_bytes()) {
        *place = [digit(byte >> 4), digit(byte & 15)];
    }
    stamp
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value)]
}

/// Text of exactly so many bytes, that can begin with a stamp of ASCII.
fn text(size: usize, kind: Kind) -> Vec<u8> {
    let mut text = "0".repeat(size.min(STAMP_BYTES));
    let scripts: &[&str] = if kind == Kind::Text { &SCRIPTS } else { &["."] };
    for script in scripts.iter().cycle() {
        if text.len() + script.len() > size {
            break;
        }
        text.push_str(script);
    }
    while text.len() < size {
        text.push('.');
    }
    text.into_bytes()
}

/// A JSON object of exactly so many bytes, whose rows name the same things with other values.
fn json(size: usize) -> Vec<u8> {
    const STATES: [&str; 4] = ["ok", "ok", "stale", "warning"];
    let mut json = String::with_capacity(size);
    json.extend([JSON_HEAD, &"0".repeat(STAMP_BYTES), JSON_ROWS]);
    let room = size - JSON_PAD.len() - JSON_END.len();
    let mut value: u64 = 20_260_101;
    for row in 0.. {
        // Numbers without a pattern: a row like the last one would compress to nothing.
        value =
            value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (sensor, time) = (value >> 54, 1_767_225_600 + row * 15);
        let (whole, part) = ((value >> 32) % 90, (value >> 20) % 100);
        let state = STATES[usize::try_from(value >> 62).unwrap_or_default()];
        let comma = if row == 0 { "" } else { "," };
        let start = json.len();
        let _ = write!(
            json,
            "{comma}{{\"sensor\":{sensor},\"time\":{time},\"value\":{whole}.{part:02},\
             \"unit\":\"celsius\",\"state\":\"{state}\"}}"
        );
        if json.len() > room {
            json.truncate(start);
            break;
        }
    }
    json.push_str(JSON_PAD);
    let pad = size - JSON_END.len() - json.len();
    json.extend(std::iter::repeat_n('x', pad));
    json.push_str(JSON_END);
    json.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_known_again_at_every_size() {
        for size in (0..60).chain([125, 126, 65_535, 65_536]) {
            for kind in [Kind::Binary, Kind::Text, Kind::Json] {
                let mut payload = Payload::new(size, kind);
                let sent = payload.stamped(3, 0x1_0203).to_vec();
                assert_eq!(sent.len(), size);
                assert!(!payload.is_text() || std::str::from_utf8(&sent).is_ok());
                payload.stamped(9, 9);
                assert!(payload.is_echo(&sent, 3, 0x1_0203), "{size}");
                if size > 0 {
                    assert!(!payload.is_echo(&sent, 3, 0x1_0204), "another place, {size}");
                    assert!(!payload.is_echo(&sent[1..], 3, 0x1_0203), "shorter, {size}");
                }
                if size >= STAMP_BYTES {
                    assert!(!payload.is_echo(&sent, 4, 0x1_0203), "another connection, {size}");
                }
            }
        }
    }

    #[test]
    fn single_wrong_byte_is_found_by_the_whole_check() {
        for kind in [Kind::Binary, Kind::Text, Kind::Json] {
            let mut payload = Payload::new(1000, kind);
            for sequence in [0, 256, 512] {
                let mut sent = payload.stamped(1, sequence).to_vec();
                assert!(payload.is_echo(&sent, 1, sequence));
                for place in [0, 999] {
                    sent[place] ^= 1;
                    assert!(!payload.is_echo(&sent, 1, sequence), "{kind}, {place}");
                    sent[place] ^= 1;
                }
            }
        }
    }

    #[test]
    fn json_is_json_that_compresses_as_such_at_every_size() {
        for size in (JSON_BYTES_MIN..400).chain([1024, 16 << 10]) {
            let mut payload = Payload::new(size, Kind::Json);
            let message: serde_json::Value =
                serde_json::from_slice(payload.stamped(0xabc, 0xdef)).unwrap();
            assert_eq!(message["id"], "00000abc00000def", "{size}");
        }
        // Neither so even that nothing is left of it, nor so wild that nothing is gained.
        let json = Payload::new(1024, Kind::Json).stamped(1, 1).to_vec();
        let mut deflated =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut deflated, &json).unwrap();
        let deflated_bytes = deflated.finish().unwrap().len();
        assert!((250..500).contains(&deflated_bytes), "{deflated_bytes}");
    }
}
