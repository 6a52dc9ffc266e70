//! Finds the end of a request head while its bytes arrive, and refuses what can be refused early.
//!
//! The scanner answers for line ends, control bytes and sizes, and for a first line that cannot
//! become a request. What the lines mean is the business of `request`. It keeps no bytes, only
//! where it stands, and a refusal depends on the bytes up to the offending one and on nothing
//! after it; so every way of cutting a head into reads gives the same result.
//!
//! INVARIANT: `line_start <= seen`, and no byte before `seen` is ever looked at again.

use super::fields::is_token_byte;
use super::{HeadLimits, Refusal};

/// Empty lines skipped before the request line (RFC 9112 §2.2 asks for at least one).
pub(super) const LEADING_EMPTY_LINES_MAX: usize = 2;
/// No registered method is longer than this many bytes.
const METHOD_BYTES_MAX: usize = 16;
const LINE_END_BYTES: usize = 2;

/// Where the scan of one request head stands.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    phase: Phase,
    /// Bytes looked at.
    seen: usize,
    /// Where the current line begins.
    line_start: usize,
    /// Where the first header line begins, once the request line is complete.
    fields_start: usize,
    header_count: usize,
    empty_line_count: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// First byte of a request line, or of an empty line before it.
    #[default]
    Start,
    /// Line feed of an empty line before the request line.
    StartLineFeed,
    /// The method, or the space after it.
    Method,
    /// The request line after the method.
    RequestLine,
    /// Line feed of the request line.
    RequestLineFeed,
    /// First byte of a header line, or of the empty line that ends the head.
    FieldStart,
    /// Rest of a header line.
    Field,
    /// Line feed of a header line.
    FieldLineFeed,
    /// Line feed of the empty line that ends the head.
    EndLineFeed,
    /// The head is complete; `seen` is its length.
    Complete,
}

impl HeadScanner {
    /// Looks at the bytes of `head` it has not seen yet; `head` is everything received so far.
    ///
    /// Returns the length of the head once its last byte has come, and again when asked again.
    /// After a refusal the scanner is of no further use.
    pub(crate) fn scan(
        &mut self,
        head: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        while let Some(&byte) = head.get(self.seen) {
            match self.phase {
                Phase::Start => self.handle_first_byte(byte)?,
                Phase::Method => self.handle_method_byte(byte)?,
                Phase::RequestLine => self.skip_request_line(head, limits)?,
                Phase::FieldStart => self.handle_line_start(byte, limits)?,
                Phase::Field => self.skip_field(head, limits)?,
                Phase::StartLineFeed => self.handle_line_feed(byte, Phase::Start)?,
                Phase::RequestLineFeed => {
                    self.handle_line_feed(byte, Phase::FieldStart)?;
                    self.fields_start = self.seen;
                }
                Phase::FieldLineFeed => self.handle_line_feed(byte, Phase::FieldStart)?,
                Phase::EndLineFeed => self.handle_line_feed(byte, Phase::Complete)?,
                Phase::Complete => break,
            }
            debug_assert!(self.line_start <= self.seen, "a line begins where it was seen");
        }
        Ok((self.phase == Phase::Complete).then_some(self.seen))
    }

    fn handle_first_byte(&mut self, byte: u8) -> Result<(), Refusal> {
        if byte == b'\r' {
            if self.empty_line_count == LEADING_EMPTY_LINES_MAX {
                return Err(Refusal::LeadingEmptyLines);
            }
            self.empty_line_count += 1;
            self.advance(Phase::StartLineFeed);
            return Ok(());
        }
        if !is_token_byte(byte) {
            return Err(refusal_of_byte(byte, Refusal::MalformedRequestLine));
        }
        self.line_start = self.seen;
        self.advance(Phase::Method);
        Ok(())
    }

    fn handle_method_byte(&mut self, byte: u8) -> Result<(), Refusal> {
        if byte == b' ' {
            self.advance(Phase::RequestLine);
            return Ok(());
        }
        if !is_token_byte(byte) {
            return Err(refusal_of_byte(byte, Refusal::MalformedRequestLine));
        }
        if self.seen - self.line_start == METHOD_BYTES_MAX {
            return Err(Refusal::MethodTooLong);
        }
        self.advance(Phase::Method);
        Ok(())
    }

    fn skip_request_line(&mut self, head: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let end = self.seen + plain_prefix_bytes(&head[self.seen..]);
        if end - self.line_start > limits.request_line_bytes_max {
            return Err(Refusal::RequestLineTooLong);
        }
        self.seen = end;
        match head.get(end) {
            None => Ok(()),
            Some(b'\r') => {
                self.advance(Phase::RequestLineFeed);
                Ok(())
            }
            Some(&byte) => Err(refusal_of_byte(byte, Refusal::ControlByte)),
        }
    }

    fn handle_line_start(&mut self, byte: u8, limits: &HeadLimits) -> Result<(), Refusal> {
        match byte {
            b'\r' => {
                self.advance(Phase::EndLineFeed);
                return Ok(());
            }
            b' ' | b'\t' if self.header_count == 0 => return Err(Refusal::MalformedHeader),
            b' ' | b'\t' => return Err(Refusal::FoldedHeader),
            _ => {}
        }
        // They may be more than the limit already: it may have been lowered meanwhile.
        if self.header_count >= limits.header_count_max {
            return Err(Refusal::TooManyHeaders);
        }
        self.header_count += 1;
        self.line_start = self.seen;
        self.phase = Phase::Field;
        Ok(())
    }

    fn skip_field(&mut self, head: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let end = self.seen + plain_prefix_bytes(&head[self.seen..]);
        // Where each limit ends is compared first, so that the refusal names the one that is met
        // first even if bytes behind both have come.
        let line_end_max = self.line_start.saturating_add(limits.header_line_bytes_max);
        let fields_bytes_max = limits.head_bytes_max.saturating_sub(LINE_END_BYTES);
        let fields_end_max = self.fields_start.saturating_add(fields_bytes_max);
        if end > line_end_max.min(fields_end_max) {
            let line_first = line_end_max < fields_end_max;
            return Err(if line_first { Refusal::HeaderTooLong } else { Refusal::HeadTooLong });
        }
        self.seen = end;
        match head.get(end) {
            None => Ok(()),
            Some(b'\r') => {
                self.advance(Phase::FieldLineFeed);
                Ok(())
            }
            Some(b'\t') => {
                self.advance(Phase::Field);
                Ok(())
            }
            Some(&byte) => Err(refusal_of_byte(byte, Refusal::ControlByte)),
        }
    }

    fn handle_line_feed(&mut self, byte: u8, next: Phase) -> Result<(), Refusal> {
        if byte != b'\n' {
            return Err(Refusal::BareCarriageReturn);
        }
        self.advance(next);
        Ok(())
    }

    fn advance(&mut self, next: Phase) {
        self.seen += 1;
        self.phase = next;
    }
}

/// The refusal of a byte that may not stand where it stands; line feeds have one of their own.
fn refusal_of_byte(byte: u8, otherwise: Refusal) -> Refusal {
    if byte == b'\n' { Refusal::BareLineFeed } else { otherwise }
}

/// Bytes before the first control byte (0x00-0x1F, 0x7F), tabs and line ends included in those.
///
/// PERF: eight bytes a step; header lines are long enough to pay for it (bench `kernels`,
/// `handshake`).
fn plain_prefix_bytes(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let hits = control_bytes(u64::from_le_bytes(*word));
        if hits != 0 {
            return index * 8 + (hits.trailing_zeros() / 8) as usize;
        }
    }
    let tail_start = bytes.len() - tail.len();
    tail_start + tail.iter().position(u8::is_ascii_control).unwrap_or(tail.len())
}

/// Marks control bytes of a word by their highest bit. The lowest mark is exact; those above it
/// may be the borrow of the subtraction, which is why only the lowest may be used.
fn control_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let not_delete = word ^ (ONES * 0x7F);
    let delete = not_delete.wrapping_sub(ONES) & !not_delete;
    (below_space | delete) & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prefix_equals_its_scalar_definition_for_every_byte_and_position() {
        let edges = [0, b'\t', 0x1F, b' ', b'~', 0x7F, 0x80, 0xFF];
        for fill in [b' ', b'a', b'~', 0x80, 0xFF] {
            // Miri has time for the edges of what is plain.
            for byte in (0..=255u8).filter(|byte| !cfg!(miri) || edges.contains(byte)) {
                for position in 0..20 {
                    let mut bytes = [fill; 20];
                    bytes[position] = byte;
                    let expected = bytes.iter().position(u8::is_ascii_control).unwrap_or(20);
                    assert_eq!(plain_prefix_bytes(&bytes), expected, "{byte:#x} at {position}");
                }
            }
        }
    }

    #[test]
    fn plain_prefix_of_random_bytes_equals_its_scalar_definition() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..if cfg!(miri) { 20 } else { 20_000 } {
            let mut bytes = [0u8; 40];
            bytes.iter_mut().for_each(|byte| *byte = random.u8(0x1E..=0x81));
            let bytes = &bytes[..random.usize(0..=40)];
            let expected = bytes.iter().position(u8::is_ascii_control).unwrap_or(bytes.len());
            assert_eq!(plain_prefix_bytes(bytes), expected, "round {round} of seed 7");
        }
    }

    #[test]
    fn scanner_reports_the_head_and_leaves_what_follows() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
        let mut scanner = HeadScanner::default();
        let limits = HeadLimits::default();
        assert_eq!(scanner.scan(&bytes[..20], &limits), Ok(None));
        assert_eq!(scanner.scan(bytes, &limits), Ok(Some(bytes.len() - 4)));
        assert_eq!(scanner.scan(bytes, &limits), Ok(Some(bytes.len() - 4)), "asked again");
    }

    /// Bytes already seen are overwritten by NUL before the next call: a scanner that looked at
    /// one of them again would refuse it. So the work is one look per byte, however they arrive.
    #[test]
    fn hd02_scanner_looks_at_each_byte_once() {
        let limits = HeadLimits::default();
        let mut head = b"GET /chat HTTP/1.1\r\nHost: a\r\n".to_vec();
        for index in 0..if cfg!(miri) { 5 } else { 90 } {
            head.extend_from_slice(format!("X-{index}: {}\r\n", "v".repeat(150)).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        for step_bytes in [1, 2, 3, 7, 64, 1000] {
            let mut scanner = HeadScanner::default();
            let mut arrived = vec![0; head.len()];
            let mut outcome = None;
            for start in (0..head.len()).step_by(step_bytes) {
                let end = (start + step_bytes).min(head.len());
                arrived[start..end].copy_from_slice(&head[start..end]);
                outcome = scanner.scan(&arrived[..end], &limits).unwrap();
                assert_eq!(scanner.seen, end, "every byte is used when it comes");
                arrived[start..end].fill(0);
            }
            assert_eq!(outcome, Some(head.len()));
        }
    }

    #[test]
    fn bytes_max_bounds_every_head_the_scanner_waits_for() {
        let limits = HeadLimits {
            request_line_bytes_max: 20,
            header_line_bytes_max: 30,
            head_bytes_max: 40,
            header_count_max: 3,
        };
        let head = b"\r\n\r\nGET /45678 HTTP/1.1\r\na: 45678901234567\r\nb: 45678901234567\r\n\r\n";
        assert_eq!(HeadScanner::default().scan(head, &limits), Ok(Some(head.len())));
        assert!(head.len() <= limits.bytes_max());
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..if cfg!(miri) { 20 } else { 2_000 } {
            let bytes: Vec<u8> =
                (0..limits.bytes_max()).map(|_| *random.choice(b"a: \r\n").unwrap()).collect();
            let outcome = HeadScanner::default().scan(&bytes, &limits);
            assert!(outcome != Ok(None), "undecided after bytes_max");
        }
    }
}
