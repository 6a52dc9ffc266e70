//! The frame header (RFC 6455 §5.2): from bytes, and to bytes.
//!
//! Judges a header by itself: bits, opcode, mask, form of the length. Whether a continuation fits
//! the open message and whether the length is within our limits is the decoder's business.
//!
//! ```text
//!   byte 0            byte 1        0, 2 or 8 bytes      0 or 4 bytes
//!  +-+-+-+-+-------+ +-+---------+ +------------------+ +-------------+
//!  |F|R|R|R|opcode | |M| 7 bits  | | length, if the 7 | | masking key |
//!  |I|S|S|S|       | |A| length, | | bits are 126 or  | | if MASK     |
//!  |N|1|2|3|       | |S|126, 127 | | 127; big endian  | |             |
//!  +-+-+-+-+-------+ +-+---------+ +------------------+ +-------------+
//! ```
//!
//! INVARIANT: [`Header::decode`] gives the same verdict however the bytes are cut, and a refusal
//! as soon as a byte proves it; whether more bytes follow never changes a verdict once given.

use super::close::CONTROL_PAYLOAD_BYTES_MAX;
use super::violation::Violation;

/// Bytes of the longest header: a 64-bit length and a masking key.
pub(crate) const HEADER_BYTES_MAX: usize = 2 + 8 + KEY_BYTES;

/// Bytes of a masking key.
const KEY_BYTES: usize = 4;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const OPCODE_BITS: u8 = 0x0f;
const MASK: u8 = 0x80;
const LEN_BITS: u8 = 0x7f;
/// The 7-bit length that announces a 16-bit one.
const LEN_16: u8 = 126;
/// The 7-bit length that announces a 64-bit one.
const LEN_64: u8 = 127;

/// What a frame is (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    /// The next fragment of the open message.
    Continuation = 0x0,
    /// The first fragment of a text message, or all of it.
    Text = 0x1,
    /// The first fragment of a binary message, or all of it.
    Binary = 0x2,
    /// The last frame of a side.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping, or just shows life.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with these four bits.
    #[inline]
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether this is a control frame: Close, Ping or Pong (RFC 6455 §5.5).
    #[inline]
    pub(crate) const fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }

    /// Whether this begins a message. Only such a frame may carry RSV1 (RFC 7692 §6).
    #[inline]
    pub(crate) const fn begins_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }
}

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// We accepted it: frames of the peer are masked, ours are not.
    Server,
    /// We made it: the other way round.
    Client,
}

/// All that a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The last fragment of its message, or the only one.
    pub(crate) fin: bool,
    /// The message is compressed (RFC 7692 §6).
    pub(crate) rsv1: bool,
    /// What the frame is.
    pub(crate) opcode: Opcode,
    /// The masking key, if there is one.
    pub(crate) mask: Option<[u8; KEY_BYTES]>,
    /// Payload bytes that follow; at most 2^63 - 1.
    pub(crate) payload_len: u64,
}

impl Header {
    /// The header of an unfragmented frame.
    #[inline]
    pub(crate) const fn whole(
        opcode: Opcode,
        mask: Option<[u8; KEY_BYTES]>,
        payload_len: usize,
    ) -> Self {
        Self { fin: true, rsv1: false, opcode, mask, payload_len: payload_len as u64 }
    }

    /// Reads the header at the start of `bytes`: the header and its length in bytes, or `None` if
    /// more bytes are needed.
    ///
    /// Opcode and reserved bits are judged on the first byte; FIN of control frames, their length
    /// and the mask bit on the second, before the length is looked at.
    #[inline]
    pub(crate) fn decode(
        bytes: &[u8],
        role: Role,
        rsv1_allowed: bool,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = decode_first(first, rsv1_allowed)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        check_second(first, second, opcode, role)?;

        let len_read = match second & LEN_BITS {
            LEN_16 => decode_len_16(bytes)?,
            LEN_64 => decode_len_64(bytes)?,
            len => Some((u64::from(len), 2)),
        };
        let Some((payload_len, len_end)) = len_read else {
            return Ok(None);
        };
        let (mask, header_bytes) = if second & MASK == 0 {
            (None, len_end)
        } else {
            let Some(&key) = bytes.get(len_end..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            (Some(key), len_end + KEY_BYTES)
        };
        let header =
            Self { fin: first & FIN != 0, rsv1: first & RSV1 != 0, opcode, mask, payload_len };
        Ok(Some((header, header_bytes)))
    }

    /// Bytes of the header of a frame with `payload_len` bytes of payload.
    #[inline]
    pub(crate) const fn encoded_len(payload_len: usize, masked: bool) -> usize {
        let len_end = match payload_len {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        if masked { len_end + KEY_BYTES } else { len_end }
    }

    /// Writes the header to the start of `out`, which has room for it, and returns its length.
    #[inline]
    pub(crate) fn encode(&self, out: &mut [u8]) -> usize {
        debug_assert!(self.payload_len >> 63 == 0, "lengths have 63 bits");
        let rsv1 = if self.rsv1 { RSV1 } else { 0 };
        let fin = if self.fin { FIN } else { 0 };
        let masked = if self.mask.is_some() { MASK } else { 0 };
        let len = self.payload_len.to_be_bytes();
        let [.., len_high, len_low] = len;
        out[0] = fin | rsv1 | self.opcode as u8;
        let len_end = match self.payload_len {
            0..=125 => {
                out[1] = masked | len_low;
                2
            }
            126..=0xffff => {
                out[1..4].copy_from_slice(&[masked | LEN_16, len_high, len_low]);
                4
            }
            _ => {
                out[1] = masked | LEN_64;
                out[2..10].copy_from_slice(&len);
                10
            }
        };
        let Some(key) = self.mask else {
            return len_end;
        };
        out[len_end..len_end + KEY_BYTES].copy_from_slice(&key);
        len_end + KEY_BYTES
    }
}

/// The opcode of a first byte that has nothing wrong.
#[inline]
fn decode_first(first: u8, rsv1_allowed: bool) -> Result<Opcode, Violation> {
    let Some(opcode) = Opcode::from_bits(first & OPCODE_BITS) else {
        return Err(Violation::ReservedOpcode);
    };
    if first & (RSV1 | RSV2_RSV3) != 0 {
        let rsv1_only = first & RSV2_RSV3 == 0;
        // RFC 7692 §6: RSV1 belongs to the message, so only its first frame carries it.
        if !(rsv1_only && rsv1_allowed && opcode.begins_message()) {
            return Err(Violation::ReservedBit);
        }
    }
    Ok(opcode)
}

/// What the second byte shows besides the length.
#[inline]
fn check_second(first: u8, second: u8, opcode: Opcode, role: Role) -> Result<(), Violation> {
    // RFC 6455 §5.5: control frames are whole and short.
    if opcode.is_control() {
        if first & FIN == 0 {
            return Err(Violation::FragmentedControl);
        }
        if usize::from(second & LEN_BITS) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(Violation::OversizedControl);
        }
    }
    // RFC 6455 §5.1: clients mask every frame, servers none.
    match (role, second & MASK != 0) {
        (Role::Server, true) | (Role::Client, false) => Ok(()),
        (Role::Server, false) => Err(Violation::UnmaskedFrame),
        (Role::Client, true) => Err(Violation::MaskedFrame),
    }
}

/// A 16-bit length and where it ends.
#[inline]
fn decode_len_16(bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let Some(&[_, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let len = u16::from_be_bytes([high, low]);
    if len < u16::from(LEN_16) {
        return Err(Violation::NonMinimalLength);
    }
    Ok(Some((u64::from(len), 4)))
}

/// A 64-bit length and where it ends. Its first byte shows an overflow, and its first six show
/// that 16 bits would have done.
#[inline]
fn decode_len_64(bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    if bytes.get(2).is_some_and(|&top| top & 0x80 != 0) {
        return Err(Violation::LengthOverflow);
    }
    if bytes.get(2..8) == Some(&[0; 6]) {
        return Err(Violation::NonMinimalLength);
    }
    let Some(&len) = bytes.get(2..).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    Ok(Some((u64::from_be_bytes(len), 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPCODES: [Opcode; 6] = [
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ];
    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    type Verdict = Result<Option<(Header, usize)>, Violation>;

    /// Decodes the bytes whole and byte by byte, and returns the one verdict together with the
    /// number of bytes that it took.
    fn decode_every_way(bytes: &[u8], role: Role, rsv1_allowed: bool) -> (Verdict, usize) {
        let whole = Header::decode(bytes, role, rsv1_allowed);
        for taken in 0..=bytes.len() {
            let verdict = Header::decode(&bytes[..taken], role, rsv1_allowed);
            if verdict != Ok(None) {
                assert_eq!(verdict, whole, "{bytes:x?} cut at {taken}");
                return (verdict, taken);
            }
        }
        assert_eq!(whole, Ok(None));
        (whole, bytes.len())
    }

    /// A masked header with the given first byte and the length bits and bytes as they stand.
    fn masked(first: u8, len_bits: u8, len_bytes: &[u8]) -> Vec<u8> {
        [&[first, MASK | len_bits][..], len_bytes, &KEY].concat()
    }

    #[test]
    fn fr01_unmasked_client_frame_is_refused_at_the_second_byte() {
        for opcode in OPCODES {
            for len_bits in 0..=LEN_64 {
                if opcode.is_control() && len_bits > 125 {
                    continue;
                }
                let bytes = [FIN | opcode as u8, len_bits, 0xff, 0xff];
                let verdict = decode_every_way(&bytes, Role::Server, false);
                assert_eq!(verdict, (Err(Violation::UnmaskedFrame), 2));
            }
        }
    }

    #[test]
    fn masked_server_frame_is_refused_at_the_second_byte() {
        let bytes = masked(FIN | Opcode::Text as u8, 5, &[]);
        assert_eq!(decode_every_way(&bytes, Role::Client, false), (Err(Violation::MaskedFrame), 2));
    }

    #[test]
    fn fr02_length_with_top_bit_is_refused_at_its_first_byte() {
        for len in [1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX] {
            let bytes = masked(FIN | Opcode::Binary as u8, LEN_64, &len.to_be_bytes());
            let verdict = decode_every_way(&bytes, Role::Server, false);
            assert_eq!(verdict, (Err(Violation::LengthOverflow), 3), "{len}");
        }
    }

    #[test]
    fn fr04_length_in_a_longer_form_than_needed_is_refused() {
        for len in (0..=70_000u64).step_by(if cfg!(miri) { 1009 } else { 1 }) {
            let long = masked(FIN | Opcode::Binary as u8, LEN_64, &len.to_be_bytes());
            let (verdict, taken) = decode_every_way(&long, Role::Server, false);
            if len < 65_536 {
                assert_eq!((verdict, taken), (Err(Violation::NonMinimalLength), 8), "{len}");
            } else {
                assert_eq!(verdict.unwrap().unwrap().0.payload_len, len);
            }
            let Ok(len) = u16::try_from(len) else {
                continue;
            };
            let middle = masked(FIN | Opcode::Binary as u8, LEN_16, &len.to_be_bytes());
            let (verdict, taken) = decode_every_way(&middle, Role::Server, false);
            if len < 126 {
                assert_eq!((verdict, taken), (Err(Violation::NonMinimalLength), 4), "{len}");
            } else {
                assert_eq!(verdict.unwrap().unwrap().0.payload_len, u64::from(len));
            }
        }
    }

    #[test]
    fn fr05_fr06_reserved_bits_are_refused_on_the_first_byte() {
        for opcode in OPCODES {
            for rsv in 1..8u8 {
                for rsv1_allowed in [false, true] {
                    let bytes = masked(FIN | rsv << 4 | opcode as u8, 1, &[]);
                    let verdict = decode_every_way(&bytes, Role::Server, rsv1_allowed);
                    let is_data_start = matches!(opcode, Opcode::Text | Opcode::Binary);
                    if rsv == 4 && rsv1_allowed && is_data_start {
                        assert!(verdict.0.unwrap().unwrap().0.rsv1);
                    } else {
                        assert_eq!(verdict, (Err(Violation::ReservedBit), 1), "{bytes:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn fr07_reserved_opcode_is_refused_before_its_length() {
        for opcode in (0x3..=0x7).chain(0xb..=0xf) {
            for (len_bits, len) in [(0, 0), (125, 0), (LEN_16, 0), (LEN_64, 1 << 62), (LEN_64, !0)]
            {
                let bytes = masked(FIN | opcode, len_bits, &u64::to_be_bytes(len));
                let verdict = decode_every_way(&bytes, Role::Server, true);
                assert_eq!(verdict, (Err(Violation::ReservedOpcode), 1));
            }
        }
    }

    #[test]
    fn fr08_header_cut_anywhere_waits_and_then_is_the_same() {
        // Miri has time for the lengths at which something changes.
        let bits = (0..63).filter(|bit| !cfg!(miri) || [0, 7, 16, 32, 62].contains(bit));
        let lens = bits.flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for payload_len in lens.chain([125, 126, 65_535, (1 << 63) - 1]) {
            for (role, mask) in [(Role::Server, Some(KEY)), (Role::Client, None)] {
                for opcode in OPCODES {
                    let rsv1 = opcode == Opcode::Text;
                    if opcode.is_control() && payload_len > 125 {
                        continue;
                    }
                    let fin = opcode.is_control() || payload_len % 2 == 0;
                    let header = Header { fin, rsv1, opcode, mask, payload_len };
                    let mut bytes = [0; HEADER_BYTES_MAX];
                    let end = header.encode(&mut bytes);
                    let verdict = decode_every_way(&bytes, role, true);
                    assert_eq!(verdict, (Ok(Some((header, end))), end));
                }
            }
        }
    }

    #[test]
    fn fr08_every_first_and_second_byte_is_judged_the_same_however_cut() {
        for start in (0..=u16::MAX).step_by(if cfg!(miri) { 1009 } else { 1 }) {
            let [first, second] = start.to_be_bytes();
            let mut bytes = [0x01; HEADER_BYTES_MAX];
            bytes[..2].copy_from_slice(&[first, second]);
            for role in [Role::Server, Role::Client] {
                for rsv1_allowed in [false, true] {
                    let (verdict, _) = decode_every_way(&bytes, role, rsv1_allowed);
                    assert_ne!(verdict, Ok(None), "14 bytes are always enough");
                }
            }
        }
    }

    #[test]
    fn ct01_fragmented_or_long_control_frame_is_refused_at_the_second_byte() {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let opcode = opcode as u8;
            for len_bits in 0..=LEN_64 {
                let fragment = masked(opcode, len_bits, &[0xff; 8]);
                let verdict = decode_every_way(&fragment, Role::Server, false);
                assert_eq!(verdict, (Err(Violation::FragmentedControl), 2));
                if len_bits > 125 {
                    let long = masked(FIN | opcode, len_bits, &[0xff; 8]);
                    let verdict = decode_every_way(&long, Role::Server, false);
                    assert_eq!(verdict, (Err(Violation::OversizedControl), 2));
                }
            }
        }
    }

    #[test]
    fn header_has_the_length_that_was_announced() {
        for payload_len in [0, 1, 125, 126, 65_535, 65_536, 1 << 30] {
            for mask in [None, Some(KEY)] {
                let header = Header {
                    fin: true,
                    rsv1: false,
                    opcode: Opcode::Binary,
                    mask,
                    payload_len: payload_len as u64,
                };
                let end = header.encode(&mut [0; HEADER_BYTES_MAX]);
                assert_eq!(end, Header::encoded_len(payload_len, mask.is_some()));
            }
        }
    }

    #[test]
    fn headers_of_the_standard_are_encoded_as_printed() {
        // The examples of RFC 6455 §5.7.
        for (opcode, fin, mask, payload_len, bytes) in [
            (Opcode::Text, true, None, 5, &[0x81, 0x05][..]),
            (
                Opcode::Text,
                true,
                Some([0x37, 0xfa, 0x21, 0x3d]),
                5,
                &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d],
            ),
            (Opcode::Text, false, None, 3, &[0x01, 0x03]),
            (Opcode::Continuation, true, None, 2, &[0x80, 0x02]),
            (Opcode::Ping, true, None, 5, &[0x89, 0x05]),
            (Opcode::Binary, true, None, 256, &[0x82, 0x7e, 0x01, 0x00]),
            (Opcode::Binary, true, None, 65_536, &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let header = Header { fin, rsv1: false, opcode, mask, payload_len };
            let mut out = [0; HEADER_BYTES_MAX];
            let end = header.encode(&mut out);
            assert_eq!(&out[..end], bytes);
        }
    }
}
