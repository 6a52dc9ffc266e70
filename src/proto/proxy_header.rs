//! The PROXY protocol, versions 1 and 2: the address of a client, told by the proxy in front of us.
//!
//! A header is judged while it arrives: a byte that proves it wrong refuses it at once, an address
//! or a port in text is judged at the separator behind it. Every error is found at the first place
//! that is wrong, from left to right, so how the bytes were cut into reads cannot change it.
//!
//! Whether a peer may send such a header is not asked here, and nothing is guessed: a listener
//! either demands one or takes its bytes for a request. What the header says beside the source
//! address (destination, TLVs) is checked for its form and otherwise ignored.
//!
//! Work is linear in the bytes: a line is looked at again with each read, but has 107 bytes at
//! most, and of a binary header only the heads of its few TLVs are.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

/// Bytes of the longest header in text, its line end included.
pub(crate) const V1_BYTES_MAX: usize = 107;
/// Bytes of the longest binary header, the fixed part included. The format allows 64 KiB; proxies
/// send less than 1 KiB.
pub(crate) const V2_BYTES_MAX: usize = 4096;

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_FIXED_BYTES: usize = 16;
/// Bytes that may follow the fixed part.
const V2_BODY_BYTES_MAX: usize = V2_BYTES_MAX - V2_FIXED_BYTES;

/// Extra fields of one binary header; their heads are walked again with each read, so that there
/// have to be few. The format names nine kinds.
const TLV_COUNT_MAX: usize = 64;
/// Type and length.
const TLV_HEAD_BYTES: usize = 3;
const TLV_TYPE_CRC32C: u8 = 0x03;
const CRC32C_BYTES: usize = 4;

/// What a whole header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// The proxy speaks for itself, or for a peer without an internet address: the address of the
    /// socket stays.
    Local,
    /// The proxy speaks for this client.
    Peer(SocketAddr),
}

/// Why bytes are not a PROXY header. The connection is closed without a response: whatever sent
/// this does not speak HTTP to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyError {
    /// They begin like neither version.
    NotAProxyHeader,
    /// Version 1: neither `TCP4`, `TCP6` nor `UNKNOWN`.
    UnknownProtocol,
    /// Version 1: not an address of the family that was named.
    MalformedAddress,
    /// Version 1: not a port without a sign and without leading zeros.
    MalformedPort,
    /// Version 1: something else than CR LF where the line ends.
    MalformedLineEnd,
    /// Version 1: no line end within 107 bytes.
    LineTooLong,
    /// Version 2 by its signature, but not by its number.
    UnknownVersion,
    /// Version 2: neither LOCAL nor PROXY.
    UnknownCommand,
    /// Version 2: a family and transport that the format does not define.
    UnknownFamily,
    /// Version 2: shorter than the addresses of its family.
    TooShort,
    /// Version 2: more than 4 KiB.
    TooLong,
    /// Version 2: a TLV that does not end where the header does, or a checksum of a wrong size.
    MalformedTlv,
    /// Version 2: more than 64 TLVs.
    TooManyTlvs,
    /// Version 2: the bytes do not have the checksum that they carry.
    WrongChecksum,
}

/// Reads the header at the front of `bytes`: what it says, and how many bytes it has. None while
/// it is not whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let parsed = match bytes.first() {
        None => Err(Stop::Cut),
        Some(b'P') => match parse_line(line) {
            Err(Stop::Cut) if line.len() == V1_BYTES_MAX => Err(ProxyError::LineTooLong.into()),
            parsed => parsed,
        },
        Some(_) => parse_binary(bytes),
    };
    match parsed {
        Ok(whole) => Ok(Some(whole)),
        Err(Stop::Cut) => Ok(None),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// Why reading ends early.
#[derive(Debug)]
enum Stop {
    /// The bytes end here, and are right so far.
    Cut,
    Wrong(ProxyError),
}

impl From<ProxyError> for Stop {
    fn from(error: ProxyError) -> Self {
        Self::Wrong(error)
    }
}

/// ```text
/// PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 CR LF
/// PROXY TCP6 2001:db8::1 2001:db8::2 56324 443 CR LF
/// PROXY UNKNOWN [ SP anything ] CR LF
/// ```
fn parse_line(line: &[u8]) -> Result<(ProxyHeader, usize), Stop> {
    let mut cursor = Cursor { bytes: line, at: 0 };
    cursor.literal(V1_SIGNATURE, ProxyError::NotAProxyHeader)?;
    let header = if cursor.peek()? == b'U' {
        cursor.literal(b"UNKNOWN", ProxyError::UnknownProtocol)?;
        if cursor.peek()? == b' ' {
            // The format has receivers ignore whatever stands here.
            cursor.field(b'\r', ProxyError::MalformedLineEnd, usize::MAX, |byte| byte != b'\n')?;
        } else {
            cursor.literal(b"\r", ProxyError::UnknownProtocol)?;
        }
        ProxyHeader::Local
    } else {
        cursor.literal(b"TCP", ProxyError::UnknownProtocol)?;
        let read_address = match cursor.byte()? {
            b'4' => read_v4,
            b'6' => read_v6,
            _ => return Err(ProxyError::UnknownProtocol.into()),
        };
        cursor.literal(b" ", ProxyError::UnknownProtocol)?;
        let source = read_address(&mut cursor)?;
        read_address(&mut cursor)?;
        let port = read_port(&mut cursor, b' ')?;
        read_port(&mut cursor, b'\r')?;
        ProxyHeader::Peer(SocketAddr::new(source, port))
    };
    cursor.literal(b"\n", ProxyError::MalformedLineEnd)?;
    Ok((header, cursor.at))
}

fn read_v4(cursor: &mut Cursor<'_>) -> Result<IpAddr, Stop> {
    const CHARS_MAX: usize = "255.255.255.255".len();
    let allowed = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let text = cursor.field(b' ', ProxyError::MalformedAddress, CHARS_MAX, allowed)?;
    let address: Ipv4Addr = text.parse().map_err(|_| ProxyError::MalformedAddress)?;
    Ok(address.into())
}

fn read_v6(cursor: &mut Cursor<'_>) -> Result<IpAddr, Stop> {
    const CHARS_MAX: usize = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len();
    let allowed = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    let text = cursor.field(b' ', ProxyError::MalformedAddress, CHARS_MAX, allowed)?;
    let address: Ipv6Addr = text.parse().map_err(|_| ProxyError::MalformedAddress)?;
    Ok(address.into())
}

fn read_port(cursor: &mut Cursor<'_>, end: u8) -> Result<u16, Stop> {
    const CHARS_MAX: usize = "65535".len();
    let error = ProxyError::MalformedPort;
    let text = cursor.field(end, error, CHARS_MAX, |byte| byte.is_ascii_digit())?;
    if text.len() > 1 && text.starts_with('0') {
        return Err(error.into());
    }
    Ok(text.parse().map_err(|_| error)?)
}

/// What the address block of a binary header is.
#[derive(Clone, Copy)]
enum Family {
    /// To be discarded unread, together with what follows it.
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    fn of(byte: u8) -> Result<Self, ProxyError> {
        match byte {
            0x00 => Ok(Self::Unspecified),
            // The low half tells streams from datagrams, over which HTTP/3 reaches a proxy.
            0x11 | 0x12 => Ok(Self::Inet),
            0x21 | 0x22 => Ok(Self::Inet6),
            0x31 | 0x32 => Ok(Self::Unix),
            _ => Err(ProxyError::UnknownFamily),
        }
    }

    /// Source and destination, and the ports of both.
    const fn address_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 2 * (4 + 2),
            Self::Inet6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }
}

/// ```text
/// 0           12             13         14       16
/// | signature | ver | cmd | family  | length | addresses | TLVs ... |
///                                            |<------- length ----->|
/// ```
fn parse_binary(bytes: &[u8]) -> Result<(ProxyHeader, usize), Stop> {
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.literal(V2_SIGNATURE, ProxyError::NotAProxyHeader)?;
    let version_and_command = cursor.byte()?;
    if version_and_command >> 4 != 2 {
        return Err(ProxyError::UnknownVersion.into());
    }
    let is_local = match version_and_command & 0x0F {
        0 => true,
        1 => false,
        _ => return Err(ProxyError::UnknownCommand.into()),
    };
    let family = match cursor.byte()? {
        // A proxy that checks our health; the format has receivers ignore the family then.
        _ if is_local => Family::Unspecified,
        byte => Family::of(byte)?,
    };
    let body_bytes = read_body_bytes(&mut cursor)?;
    let address_bytes = family.address_bytes();
    let tlv_bytes = body_bytes.checked_sub(address_bytes).ok_or(ProxyError::TooShort)?;
    let header = match family {
        Family::Unspecified => ProxyHeader::Local,
        Family::Inet => ProxyHeader::Peer(read_source::<4>(&mut cursor)?.into()),
        Family::Inet6 => ProxyHeader::Peer(read_source::<16>(&mut cursor)?.into()),
        Family::Unix => {
            cursor.take(address_bytes)?;
            ProxyHeader::Local
        }
    };
    let tlvs_at = cursor.at;
    let checksum_at = match family {
        Family::Unspecified => None,
        Family::Inet | Family::Inet6 | Family::Unix => walk_tlvs(&bytes[tlvs_at..], tlv_bytes)?,
    };
    cursor.take(tlv_bytes)?;
    let whole = &bytes[..cursor.at];
    if checksum_at.is_some_and(|at| !checksum_is_right(whole, tlvs_at + at)) {
        return Err(ProxyError::WrongChecksum.into());
    }
    Ok((header, whole.len()))
}

/// The source out of a whole address block: two addresses, then the ports of both.
fn read_source<const N: usize>(cursor: &mut Cursor<'_>) -> Result<([u8; N], u16), Stop> {
    let source = cursor.chunk()?;
    cursor.take(N)?;
    let port = cursor.chunk()?;
    cursor.take(port.len())?;
    Ok((source, u16::from_be_bytes(port)))
}

/// The length field, refused at its first byte if that alone is too much.
fn read_body_bytes(cursor: &mut Cursor<'_>) -> Result<usize, Stop> {
    let high = usize::from(cursor.byte()?) << 8;
    if high > V2_BODY_BYTES_MAX {
        return Err(ProxyError::TooLong.into());
    }
    let body_bytes = high | usize::from(cursor.byte()?);
    if body_bytes > V2_BODY_BYTES_MAX {
        return Err(ProxyError::TooLong.into());
    }
    Ok(body_bytes)
}

/// Goes from TLV to TLV, which have to end together with the `tlv_bytes` of the header. Returns
/// where the checksum is, if there is one. Values, and what is nested in them, are not looked at.
fn walk_tlvs(tlvs: &[u8], tlv_bytes: usize) -> Result<Option<usize>, Stop> {
    let mut checksum_at = None;
    let mut count = 0;
    let mut at = 0;
    while at < tlv_bytes {
        if count == TLV_COUNT_MAX {
            return Err(ProxyError::TooManyTlvs.into());
        }
        if tlv_bytes - at < TLV_HEAD_BYTES {
            return Err(ProxyError::MalformedTlv.into());
        }
        let Some(&[kind, high, low]) = tlvs.get(at..at + TLV_HEAD_BYTES) else {
            return Err(Stop::Cut);
        };
        let value_at = at + TLV_HEAD_BYTES;
        let value_bytes = usize::from(u16::from_be_bytes([high, low]));
        if value_bytes > tlv_bytes - value_at {
            return Err(ProxyError::MalformedTlv.into());
        }
        if kind == TLV_TYPE_CRC32C {
            // Of two checksums, neither says which bytes it was taken over.
            if value_bytes != CRC32C_BYTES || checksum_at.is_some() {
                return Err(ProxyError::MalformedTlv.into());
            }
            checksum_at = Some(value_at);
        }
        at = value_at + value_bytes;
        count += 1;
    }
    Ok(checksum_at)
}

/// Whether a header has the CRC32c that stands in it at `checksum_at`, where the sender had zeros
/// when it was computed.
fn checksum_is_right(header: &[u8], checksum_at: usize) -> bool {
    let (before, rest) = header.split_at(checksum_at);
    let Some((carried, after)) = rest.split_first_chunk::<CRC32C_BYTES>() else { return false };
    let crc = [before, &[0; CRC32C_BYTES], after].into_iter().fold(!0, crc32c);
    !crc == u32::from_be_bytes(*carried)
}

/// CRC-32 with the polynomial of Castagnoli, continued from `crc`.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC32C_TABLE[usize::from(low ^ byte)]
    })
}

const CRC32C_TABLE: [u32; 256] = {
    const POLYNOMIAL_REVERSED: u32 = 0x82F6_3B78;
    let mut table = [0; 256];
    let mut index = 0;
    let mut start = 0u32;
    while index < table.len() {
        let mut crc = start;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL_REVERSED } else { 0 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        start += 1;
    }
    table
};

/// INVARIANT: `at <= bytes.len()`.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Cut)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let taken = self.bytes[self.at..].get(..count).ok_or(Stop::Cut)?;
        self.at += count;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let chunk = self.bytes[self.at..].first_chunk().ok_or(Stop::Cut)?;
        self.at += N;
        Ok(*chunk)
    }

    /// Exactly these bytes.
    fn literal(&mut self, literal: &[u8], error: ProxyError) -> Result<(), Stop> {
        for &expected in literal {
            if self.byte()? != expected {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The text before `end`, which is passed over: at most so many bytes, all of them allowed.
    fn field(
        &mut self,
        end: u8,
        error: ProxyError,
        bytes_max: usize,
        allowed: impl Fn(u8) -> bool,
    ) -> Result<&'a str, Stop> {
        let start = self.at;
        loop {
            let byte = self.byte()?;
            let field_bytes = self.at - 1 - start;
            if byte == end {
                // Fields that are read have only ASCII; the one that is ignored may be empty.
                return Ok(str::from_utf8(&self.bytes[start..start + field_bytes]).unwrap_or(""));
            }
            if field_bytes == bytes_max || !allowed(byte) {
                return Err(error.into());
            }
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAProxyHeader => "no PROXY header: its signature is missing",
            Self::UnknownProtocol => "PROXY v1: the protocol is not TCP4, TCP6 or UNKNOWN",
            Self::MalformedAddress => "PROXY v1: malformed address",
            Self::MalformedPort => "PROXY v1: malformed port",
            Self::MalformedLineEnd => "PROXY v1: the line does not end in CR LF",
            Self::LineTooLong => "PROXY v1: the line has more than 107 bytes",
            Self::UnknownVersion => "PROXY v2: the version is not 2",
            Self::UnknownCommand => "PROXY v2: the command is not LOCAL or PROXY",
            Self::UnknownFamily => "PROXY v2: unknown address family or transport",
            Self::TooShort => "PROXY v2: too short for the addresses of its family",
            Self::TooLong => "PROXY v2: more than 4096 bytes",
            Self::MalformedTlv => "PROXY v2: a TLV of a wrong length",
            Self::TooManyTlvs => "PROXY v2: more than 64 TLVs",
            Self::WrongChecksum => "PROXY v2: wrong CRC32c",
        })
    }
}

impl Error for ProxyError {}

#[cfg(test)]
mod tests;
