//! WebSocket frames of a client, right and wrong, and the strict reader of a server's frames.
//!
//! The writer answers for bytes and refuses nothing: a conformance case has to send what no library
//! would. The reader is the opposite: whatever RFC 6455 forbids a server is an error with its name.

use std::fmt;
use std::io::{self, Read};

use super::deflate::{InflateFault, Inflater};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// More than any case asks for; a server that announces more is not echoing.
const FRAME_BYTES_MAX: u64 = 64 << 20;
/// The same for a message that comes compressed.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// RSV1 of the first byte: the message is compressed (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// How the length field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthForm {
    /// In as few bytes as RFC 6455 demands.
    Shortest,
    /// In 16 bits, whatever the length.
    Two,
    /// In 64 bits, whatever the length.
    Eight,
    /// In 64 bits, and not the length of the payload but this.
    Lie(u64),
}

/// How the payload is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// By the next key of the connection.
    Fresh,
    /// By this key.
    Key([u8; 4]),
    /// Not at all: no mask bit and no key.
    None,
}

/// The head of a frame, as free as its bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) fin: bool,
    /// The three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) form: LengthForm,
    pub(crate) mask: Mask,
}

impl Head {
    /// A whole, masked frame without reserved bits.
    pub(crate) fn of(opcode: u8) -> Self {
        Self { fin: true, rsv: 0, opcode, form: LengthForm::Shortest, mask: Mask::Fresh }
    }

    /// Writes the head of a frame of `payload_bytes`; `key` stands for [`Mask::Fresh`]. Returns the
    /// key that the payload must be masked with.
    pub(crate) fn write(&self, payload_bytes: usize, key: [u8; 4], out: &mut Vec<u8>) -> [u8; 4] {
        let key = match self.mask {
            Mask::Fresh => Some(key),
            Mask::Key(key) => Some(key),
            Mask::None => None,
        };
        out.push(u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode & 0xf);
        let mask_bit = if key.is_some() { 0x80 } else { 0 };
        let two = u16::try_from(payload_bytes);
        match (self.form, two) {
            (LengthForm::Shortest, Ok(bytes @ 0..=125)) => {
                out.push(mask_bit | bytes.to_be_bytes()[1]);
            }
            (LengthForm::Shortest | LengthForm::Two, Ok(bytes)) => {
                out.push(mask_bit | 126);
                out.extend(bytes.to_be_bytes());
            }
            (LengthForm::Lie(bytes), _) => {
                out.push(mask_bit | 127);
                out.extend(bytes.to_be_bytes());
            }
            (LengthForm::Eight | LengthForm::Shortest | LengthForm::Two, _) => {
                out.push(mask_bit | 127);
                out.extend((payload_bytes as u64).to_be_bytes());
            }
        }
        out.extend(key.into_iter().flatten());
        key.unwrap_or_default()
    }
}

/// Appends a whole frame.
pub(crate) fn write_frame(head: Head, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    let key = head.write(payload.len(), key, out);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], key, 0);
}

/// Masks bytes that begin at `offset` of their payload.
pub(crate) fn apply_mask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[(offset + index) % 4];
    }
}

/// Masking keys of one connection: without a pattern, and the same in each run, so that a failure
/// can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Keys(u32);

impl Keys {
    pub(crate) fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9) | 1)
    }

    pub(crate) fn next_key(&mut self) -> [u8; 4] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0.to_be_bytes()
    }
}

/// What a server sent, put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole message, of however many fragments.
    Message {
        binary: bool,
        /// As it was before it was compressed, if it was.
        payload: Vec<u8>,
        compressed: bool,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A Close frame: code and reason, if it has them.
    Close(Option<(u16, String)>),
}

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// Between two frames or inside one, the stream ended or was reset.
    Gone(io::ErrorKind),
    /// The server sent what RFC 6455 forbids.
    Violation(Violation),
}

/// What RFC 6455 forbids a server to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    MaskedFrame,
    ReservedBits,
    ReservedOpcode(u8),
    FragmentedControl,
    LongControl,
    LengthNotShortest,
    HugeFrame(u64),
    ContinuationOfNothing,
    MessageInsideMessage,
    TextNotUtf8,
    CloseOfOneByte,
    CloseCode(u16),
    CloseReasonNotUtf8,
    NotDeflate,
    InflatesTooFar,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::MaskedFrame => "a masked frame",
            Self::ReservedBits => "a frame with reserved bits set",
            Self::ReservedOpcode(opcode) => return write!(out, "the reserved opcode {opcode}"),
            Self::FragmentedControl => "a fragmented control frame",
            Self::LongControl => "a control frame of more than 125 bytes",
            Self::LengthNotShortest => "a length that is not in its shortest form",
            Self::HugeFrame(bytes) => return write!(out, "a frame of {bytes} bytes"),
            Self::ContinuationOfNothing => "a continuation without a message",
            Self::MessageInsideMessage => "a new message inside an unfinished one",
            Self::TextNotUtf8 => "text that is not UTF-8",
            Self::CloseOfOneByte => "a Close frame with half a code",
            Self::CloseCode(code) => return write!(out, "a Close frame with the code {code}"),
            Self::CloseReasonNotUtf8 => "a close reason that is not UTF-8",
            Self::NotDeflate => {
                "a compressed message that cannot be inflated under what was agreed on"
            }
            Self::InflatesTooFar => "a compressed message of more than 64 MiB",
        };
        out.write_str(text)
    }
}

/// Reads a server's frames from a stream.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    stream: R,
    /// Where permessage-deflate was agreed on.
    inflater: Option<Inflater>,
    /// The message that waits for its last fragment.
    unfinished: Option<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    binary: bool,
    compressed: bool,
    payload: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(stream: R, inflater: Option<Inflater>) -> Self {
        Self { stream, inflater, unfinished: None }
    }

    /// The next whole message or control frame.
    pub(crate) fn next(&mut self) -> Result<Incoming, ReadEnd> {
        loop {
            let (first, bytes) = self.read_head()?;
            let (fin, opcode, compressed) = (first & 0x80 != 0, first & 0xf, first & RSV1 != 0);
            let payload = match (opcode, &mut self.unfinished) {
                (CONTINUATION, Some(message)) => {
                    read_onto(&mut self.stream, &mut message.payload, bytes)?;
                    Vec::new()
                }
                (CONTINUATION, None) => return Err(violation(Violation::ContinuationOfNothing)),
                (TEXT | BINARY, Some(_)) => {
                    return Err(violation(Violation::MessageInsideMessage));
                }
                _ => {
                    let mut payload = Vec::new();
                    read_onto(&mut self.stream, &mut payload, bytes)?;
                    payload
                }
            };
            match opcode {
                TEXT | BINARY => {
                    let binary = opcode == BINARY;
                    self.unfinished = Some(Unfinished { binary, compressed, payload });
                }
                CLOSE => return read_close(&payload).map(Incoming::Close),
                PING => return Ok(Incoming::Ping(payload)),
                PONG => return Ok(Incoming::Pong(payload)),
                _ => {}
            }
            if fin && let Some(message) = self.unfinished.take() {
                return self.finish(message);
            }
        }
    }

    fn finish(&mut self, message: Unfinished) -> Result<Incoming, ReadEnd> {
        let Unfinished { binary, compressed, mut payload } = message;
        if compressed && let Some(inflater) = &mut self.inflater {
            let inflated = inflater.message(&payload, MESSAGE_BYTES_MAX);
            payload = inflated.map_err(|fault| match fault {
                InflateFault::Corrupt => violation(Violation::NotDeflate),
                InflateFault::TooLong => violation(Violation::InflatesTooFar),
            })?;
        }
        if !binary && std::str::from_utf8(&payload).is_err() {
            return Err(violation(Violation::TextNotUtf8));
        }
        Ok(Incoming::Message { binary, payload, compressed })
    }

    /// First byte and length of the next frame.
    fn read_head(&mut self) -> Result<(u8, usize), ReadEnd> {
        let [first, second] = self.read_array()?;
        let (fin, opcode) = (first & 0x80 != 0, first & 0xf);
        let may_be_compressed = self.inflater.is_some() && matches!(opcode, TEXT | BINARY);
        let reserved = first & if may_be_compressed { 0x30 } else { 0x70 };
        let fault = match (reserved != 0, second & 0x80 != 0, opcode) {
            (true, _, _) => Some(Violation::ReservedBits),
            (_, true, _) => Some(Violation::MaskedFrame),
            (_, _, 3..=7 | 11..) => Some(Violation::ReservedOpcode(opcode)),
            (_, _, CLOSE..) if !fin => Some(Violation::FragmentedControl),
            (_, _, CLOSE..) if second & 0x7f > 125 => Some(Violation::LongControl),
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(violation(fault));
        }
        let (bytes, least) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(self.read_array()?)), 126),
            127 => (u64::from_be_bytes(self.read_array()?), 65_536),
            bytes => (u64::from(bytes), 0),
        };
        if bytes < least {
            return Err(violation(Violation::LengthNotShortest));
        }
        match usize::try_from(bytes) {
            Ok(usable) if bytes <= FRAME_BYTES_MAX => Ok((first, usable)),
            _ => Err(violation(Violation::HugeFrame(bytes))),
        }
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], ReadEnd> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map_err(|error| ReadEnd::Gone(error.kind()))?;
        Ok(bytes)
    }
}

fn violation(violation: Violation) -> ReadEnd {
    ReadEnd::Violation(violation)
}

/// Reads exactly `bytes` behind what `buffer` holds.
fn read_onto(stream: &mut impl Read, buffer: &mut Vec<u8>, bytes: usize) -> Result<(), ReadEnd> {
    let start = buffer.len();
    buffer.resize(start + bytes, 0);
    stream.read_exact(&mut buffer[start..]).map_err(|error| ReadEnd::Gone(error.kind()))
}

fn read_close(payload: &[u8]) -> Result<Option<(u16, String)>, ReadEnd> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(violation(Violation::CloseOfOneByte)),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(violation(Violation::CloseCode(code)));
    }
    let reason = std::str::from_utf8(reason);
    let reason = reason.map_err(|_| violation(Violation::CloseReasonNotUtf8))?;
    Ok(Some((code, reason.to_owned())))
}

#[cfg(test)]
mod tests;
