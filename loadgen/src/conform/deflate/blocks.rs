//! Deflate blocks bit by bit (RFC 1951), right and wrong: what no compressor would write.

/// Blocks that are being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    /// Bits that do not fill a byte yet, the first of them lowest.
    bits: u32,
    bit_count: u32,
    /// The block that is being written says it is the last, so what follows it begins on a byte.
    is_last: bool,
}

impl Blocks {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends the low `count` bits, at most 16, the lowest first.
    pub(crate) fn bits(mut self, value: u32, count: u32) -> Self {
        self.bits |= (value & ((1 << count) - 1)) << self.bit_count;
        self.bit_count += count;
        while self.bit_count >= 8 {
            self.bytes.push(self.bits.to_le_bytes()[0]);
            self.bits >>= 8;
            self.bit_count -= 8;
        }
        self
    }

    /// A Huffman code of `count` bits, the highest first (RFC 1951 §3.1.1).
    fn code(self, code: u32, count: u32) -> Self {
        self.bits(code.reverse_bits() >> (32 - count), count)
    }

    /// Zero bits up to the next byte.
    fn align(self) -> Self {
        let missing = (8 - self.bit_count % 8) % 8;
        self.bits(0, missing)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        debug_assert_eq!(self.bit_count, 0);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Head of a block with the fixed codes.
    pub(crate) fn fixed(mut self, is_last: bool) -> Self {
        self.is_last = is_last;
        self.bits(u32::from(is_last), 1).bits(1, 2)
    }

    /// A block that holds these bytes as they are.
    pub(crate) fn stored(self, bytes: &[u8]) -> Self {
        let len = u16::try_from(bytes.len()).expect("a stored block has at most 65,535 bytes");
        self.stored_as(len, !len, bytes)
    }

    /// The same with these two lengths, the second being the complement of the first.
    pub(crate) fn stored_as(self, len: u16, complement: u16, bytes: &[u8]) -> Self {
        let head = self.bits(0, 3).align();
        head.raw(&len.to_le_bytes()).raw(&complement.to_le_bytes()).raw(bytes)
    }

    /// Literals in a block with the fixed codes (RFC 1951 §3.2.6).
    pub(crate) fn literals(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |blocks, byte| blocks.symbol(u32::from(*byte)))
    }

    /// A literal, end or length code of a block with the fixed codes.
    pub(crate) fn symbol(self, symbol: u32) -> Self {
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// Copies 3 to 10 bytes from a distance by its code; only codes below 4 have no further bits.
    pub(crate) fn copy(self, len: u32, distance_code: u32) -> Self {
        debug_assert!((3..=10).contains(&len));
        self.symbol(257 + len - 3).code(distance_code, 5)
    }

    /// The end of a block with the fixed codes.
    pub(crate) fn end(self) -> Self {
        let ended = self.symbol(256);
        if ended.is_last { ended.align() } else { ended }
    }

    /// The payload of a message: all blocks, then the start of an empty one whose rest is left out
    /// (RFC 7692 §7.2.1).
    pub(crate) fn into_message(self) -> Vec<u8> {
        self.bits(0, 3).align().bytes
    }

    /// All that was written, filled up to a byte.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.align().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard_are_written() {
        let hello = |last| Blocks::new().fixed(last).literals(b"Hello").end().into_message();
        assert_eq!(hello(false), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        assert_eq!(hello(true), [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]);
        let stored = [0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0];
        assert_eq!(Blocks::new().stored(b"Hello").into_message(), stored);
        assert_eq!(Blocks::new().into_message(), [0]);
    }
}
