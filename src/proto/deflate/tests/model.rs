//! DEFLATE (RFC 1951) read bit by bit, as its text says it, with no thought of speed.

/// Reads blocks until the input ends behind one, and appends what they hold to `out`, to which
/// they may refer. Returns the largest distance; none if the data is malformed or cut.
pub(super) fn inflate(input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut bits = Bits { input, at: 0 };
    let mut distance_max = 0;
    while bits.at < input.len() * 8 {
        let is_final = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, out)?,
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|n| [8, 9, 7, 8][[144, 256, 280].partition_point(|at| *at <= n)])
                    .collect();
                block(
                    &mut bits,
                    &Code::new(&lengths),
                    &Code::new(&[5; 30]),
                    out,
                    &mut distance_max,
                )?;
            }
            2 => {
                let (literals, distances) = dynamic_codes(&mut bits)?;
                block(&mut bits, &literals, &distances, out, &mut distance_max)?;
            }
            _ => return None,
        }
        if is_final {
            bits.at = bits.at.next_multiple_of(8);
        }
    }
    Some(distance_max)
}

struct Bits<'a> {
    input: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<usize> {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.input.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Some(value)
    }
}

/// RFC 1951 §3.2.2: symbols by length and value, with the first code of each length.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; 16];
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|n| lengths[*n] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        for symbol in &symbols {
            counts[usize::from(lengths[*symbol])] += 1;
        }
        Self { counts, symbols }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return self.symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) -> Option<()> {
    bits.at = bits.at.next_multiple_of(8);
    let len = bits.take(16)?;
    if bits.take(16)? != !len & 0xFFFF {
        return None;
    }
    for _ in 0..len {
        out.push(u8::try_from(bits.take(8)?).ok()?);
    }
    Some(())
}

fn dynamic_codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let literal_count = bits.take(5)? + 257;
    let distance_count = bits.take(5)? + 1;
    let mut lengths = [0; 19];
    for place in &ORDER[..bits.take(4)? + 4] {
        lengths[*place] = u8::try_from(bits.take(3)?).ok()?;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literal_count + distance_count {
        let (length, count) = match code.symbol(bits)? {
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (u8::try_from(length).ok()?, 1),
        };
        lengths.extend(std::iter::repeat_n(length, count));
    }
    let (literals, distances) = lengths.split_at_checked(literal_count)?;
    Some((Code::new(literals), Code::new(distances.get(..distance_count)?)))
}

fn block(
    bits: &mut Bits<'_>,
    literals: &Code,
    distances: &Code,
    out: &mut Vec<u8>,
    distance_max: &mut usize,
) -> Option<()> {
    const LENGTHS: [usize; 29] = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115,
        131, 163, 195, 227, 258,
    ];
    loop {
        let symbol = literals.symbol(bits)?;
        if symbol <= 256 {
            let Ok(literal) = u8::try_from(symbol) else { return Some(()) };
            out.push(literal);
            continue;
        }
        let place = symbol - 257;
        let extra = if place < 8 || place == 28 { 0 } else { place / 4 - 1 };
        let len = LENGTHS.get(place)? + bits.take(u32::try_from(extra).ok()?)?;
        let place = distances.symbol(bits)?;
        let extra = (place / 2).saturating_sub(1);
        if place >= 30 {
            return None;
        }
        let base = if place < 4 { place } else { (2 + place % 2) << extra };
        let distance = 1 + base + bits.take(u32::try_from(extra).ok()?)?;
        *distance_max = distance.max(*distance_max);
        for _ in 0..len {
            out.push(out[out.len().checked_sub(distance)?]);
        }
    }
}
