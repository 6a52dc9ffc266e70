//! What messages are made of, and whether what came back is what was sent.
//!
//! A message begins with a stamp that names its connection and its place in the order; the rest is
//! the same for all. So an echo is checked by its stamp and its length, and a sample of them byte
//! by byte. Stamps are digits: the same for text and binary.

/// Bytes of a whole stamp: connection and sequence number, eight hexadecimal digits each.
pub(crate) const STAMP_BYTES: usize = 16;
/// One of this many echoes is compared whole; and the first of each connection.
const ECHOES_PER_WHOLE_CHECK: u32 = 256;
/// The scripts of a text, with characters of one to four bytes.
const SCRIPTS: [&str; 5] = ["line ", "провод ", "線路を", "🜁𝄞", "žluťoučký "];

/// Makes messages of one size, and knows them again.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    is_text: bool,
}

impl Payload {
    /// Messages of `size` bytes.
    pub(crate) fn new(size: usize, is_text: bool) -> Self {
        let mut bytes = if is_text { text(size) } else { (0..=250u8).cycle().take(size).collect() };
        let stamp_bytes = size.min(STAMP_BYTES);
        bytes[..stamp_bytes].fill(b'0');
        Self { bytes, is_text }
    }

    /// Whether messages are text.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text
    }

    /// The message with this stamp.
    pub(crate) fn stamped(&mut self, conn: u32, sequence: u32) -> &[u8] {
        let stamp = stamp(conn, sequence);
        let stamp_bytes = self.bytes.len().min(STAMP_BYTES);
        self.bytes[..stamp_bytes].copy_from_slice(&stamp[STAMP_BYTES - stamp_bytes..]);
        &self.bytes
    }

    /// Whether `received` is the message with this stamp.
    pub(crate) fn is_echo(&self, received: &[u8], conn: u32, sequence: u32) -> bool {
        let stamp_bytes = self.bytes.len().min(STAMP_BYTES);
        let is_whole_check = sequence.is_multiple_of(ECHOES_PER_WHOLE_CHECK);
        received.len() == self.bytes.len()
            && received[..stamp_bytes] == stamp(conn, sequence)[STAMP_BYTES - stamp_bytes..]
            && (!is_whole_check || received[stamp_bytes..] == self.bytes[stamp_bytes..])
    }
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
fn text(size: usize) -> Vec<u8> {
    let mut text = "0".repeat(size.min(STAMP_BYTES));
    for script in SCRIPTS.iter().cycle() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_known_again_at_every_size() {
        for size in (0..40).chain([125, 126, 65_535, 65_536]) {
            for is_text in [false, true] {
                let mut payload = Payload::new(size, is_text);
                let sent = payload.stamped(3, 0x1_0203).to_vec();
                assert_eq!(sent.len(), size);
                assert!(!is_text || std::str::from_utf8(&sent).is_ok());
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
        let mut payload = Payload::new(1000, false);
        for sequence in [0, 256, 512] {
            let mut sent = payload.stamped(1, sequence).to_vec();
            assert!(payload.is_echo(&sent, 1, sequence));
            sent[999] ^= 1;
            assert!(!payload.is_echo(&sent, 1, sequence));
        }
    }
}
