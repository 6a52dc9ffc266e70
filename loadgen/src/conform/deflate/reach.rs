//! How far back a compressed message refers (RFC 1951), without inflating it.
//!
//! zlib-rs keeps 32 KiB of history whatever window it is told, so that a server which leaves the agreed
//! window would go unnoticed. Only codes are read here; what they stand for is not needed.

const LENGTH_BITS: [u32; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const CODE_LENGTH_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const CODE_BITS_MAX: usize = 15;

/// The farthest distance in the blocks of this message. It stops without a word at what is no deflate,
/// or where the data ends, as it does inside the last, empty block of each message.
pub(crate) fn farthest(payload: &[u8]) -> u32 {
    let mut walk = Walk { bytes: payload, at: 0, farthest: 0 };
    while walk.block().is_some() {}
    walk.farthest
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
    farthest: u32,
}

impl Walk<'_> {
    fn block(&mut self) -> Option<()> {
        self.bits(1)?;
        match self.bits(2)? {
            0 => {
                self.at = self.at.next_multiple_of(8);
                let bytes = self.bits(16)? as usize;
                self.bits(16)?;
                self.at += bytes * 8;
                Some(())
            }
            1 => {
                let mut lengths = [8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                self.symbols(&Code::new(&lengths), &Code::new(&[5; 30]))
            }
            2 => {
                let (literals, distances) = self.tables()?;
                self.symbols(&literals, &distances)
            }
            _ => None,
        }
    }

    fn tables(&mut self) -> Option<(Code, Code)> {
        let literal_count = self.bits(5)? as usize + 257;
        let count = literal_count + self.bits(5)? as usize + 1;
        let mut of_lengths = [0; 19];
        for index in CODE_LENGTH_ORDER.into_iter().take(self.bits(4)? as usize + 4) {
            of_lengths[index] = self.bits(3)?.to_le_bytes()[0];
        }
        let of_lengths = Code::new(&of_lengths);
        let mut lengths: Vec<u8> = Vec::with_capacity(count);
        while lengths.len() < count {
            let (value, times) = match self.symbol(&of_lengths)? {
                16 => (*lengths.last()?, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length.to_le_bytes()[0], 1),
            };
            lengths.extend(std::iter::repeat_n(value, times as usize));
        }
        let (literals, distances) = lengths.split_at(literal_count);
        Some((Code::new(literals), Code::new(distances)))
    }

    /// The rest of a block, up to its end.
    fn symbols(&mut self, literals: &Code, distances: &Code) -> Option<()> {
        loop {
            match self.symbol(literals)? {
                0..=255 => {}
                256 => return Some(()),
                length => {
                    self.bits(*LENGTH_BITS.get(length as usize - 257)?)?;
                    let distance = match self.symbol(distances)? {
                        code @ 0..=3 => code + 1,
                        code => {
                            let extra = code / 2 - 1;
                            ((2 + code % 2) << extra) + 1 + self.bits(extra)?
                        }
                    };
                    self.farthest = self.farthest.max(distance);
                }
            }
        }
    }

    fn symbol(&mut self, code: &Code) -> Option<u32> {
        let (mut value, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            value |= self.bits(1)?;
            if value < first + count {
                return code.symbols.get((index + value - first) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        None
    }

    fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for place in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value |= (u32::from(byte) >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }
}

/// A canonical Huffman code (RFC 1951 §3.2.2): how many codes of each length there are, and their
/// symbols in order.
struct Code {
    counts: [u32; CODE_BITS_MAX + 1],
    symbols: Vec<u32>,
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; CODE_BITS_MAX + 1];
        let mut symbols: Vec<(u8, u32)> = Vec::new();
        for (symbol, length) in (0..).zip(lengths) {
            let length = (*length).min(15);
            if length > 0 {
                counts[usize::from(length)] += 1;
                symbols.push((length, symbol));
            }
        }
        symbols.sort_unstable();
        Self { counts, symbols: symbols.into_iter().map(|(_, symbol)| symbol).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::corpus::Kind;
    use crate::conform::deflate::blocks::Blocks;
    use crate::conform::deflate::deflated;

    #[test]
    fn distance_is_read_from_blocks_of_every_type() {
        let fixed = |code, extra, bits| {
            let copy = Blocks::new().stored(b"abc").fixed(false).literals(b"d").copy(3, code);
            farthest(&copy.bits(extra, bits).end().into_message())
        };
        assert_eq!(fixed(0, 0, 0), 1);
        assert_eq!(fixed(3, 0, 0), 4);
        assert_eq!(fixed(4, 1, 1), 6);
        assert_eq!(fixed(29, 0x1fff, 13), 32_768);
        assert_eq!(farthest(&Blocks::new().stored(b"abc").into_message()), 0);
        let unit = Kind::Random.corpus().message(0, 4000);
        assert_eq!(farthest(&deflated(&unit.repeat(2))), 4000);
        let prose = Kind::Prose.corpus().message(0, 131_072);
        assert!((20_000..=32_768).contains(&farthest(&deflated(&prose))), "dynamic tables");
    }

    #[test]
    fn any_bytes_are_walked_to_their_end() {
        let corpus = Kind::Random.corpus();
        for index in 0..2000 {
            farthest(&corpus.message(index, 100));
        }
    }
}
