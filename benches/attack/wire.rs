//! The bytes of a client on the wire, good and bad.
//!
//! Written from RFC 6455 §5.2 on its own, not with the encoder of the library: an attack that shares
//! code with what it attacks would share its blind spots.

use zlib_rs::{Deflate, DeflateFlush};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// Binary, with more fragments to come.
pub(crate) const BINARY_PART: u8 = 0x02;
/// A fragment with more to come.
pub(crate) const PART: u8 = 0x00;
/// RSV1: the payload is compressed (RFC 7692 §6).
pub(crate) const COMPRESSED: u8 = 0x40;

/// What the server calls `message_bytes_max`.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The offer of compression, as a header line.
pub(crate) const DEFLATE_OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An upgrade request with further header lines.
pub(crate) fn upgrade(more: &str) -> Vec<u8> {
    // The key is the one of RFC 6455 §1.3.
    format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A masked frame.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    push_frame(&mut frame, first_byte, payload);
    frame
}

/// Appends a masked frame.
pub(crate) fn push_frame(bytes: &mut Vec<u8>, first_byte: u8, payload: &[u8]) {
    bytes.push(first_byte);
    // RFC 6455 §5.2: the shortest form that holds the length.
    if let Some(len) = u8::try_from(payload.len()).ok().filter(|&len| len < 126) {
        bytes.push(0x80 | len);
    } else if let Ok(len) = u16::try_from(payload.len()) {
        bytes.push(0x80 | 126);
        bytes.extend_from_slice(&len.to_be_bytes());
    } else {
        bytes.push(0x80 | 127);
        bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    bytes.extend_from_slice(&MASKING_KEY);
    bytes.extend(payload.iter().zip(MASKING_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// The header of a masked frame that announces so many bytes, which never come.
pub(crate) fn announcement(bytes: u64) -> Vec<u8> {
    let mut header = vec![BINARY, 0x80 | 127];
    header.extend_from_slice(&bytes.to_be_bytes());
    header.extend_from_slice(&MASKING_KEY);
    header
}

/// A Close frame with this code.
pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

/// So many zeros, compressed as a message is (RFC 7692 §7.2.1).
pub(crate) fn compressed_zeros(mut byte_count: usize) -> Vec<u8> {
    let zeros = [0; MESSAGE_BYTES_MAX];
    let mut stream = Deflate::new(9, false, 15);
    let mut packed = Vec::new();
    let mut room = [0; MESSAGE_BYTES_MAX];
    while byte_count > 0 {
        let piece = byte_count.min(zeros.len());
        byte_count -= piece;
        let flush = if byte_count == 0 { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush };
        let before = stream.total_out();
        stream.compress(&zeros[..piece], &mut room, flush).expect("a compressor takes every input");
        let written = usize::try_from(stream.total_out() - before).expect("as many as fit");
        packed.extend_from_slice(&room[..written]);
    }
    let tail = packed.len().saturating_sub(4);
    assert_eq!(&packed[tail..], [0, 0, 0xFF, 0xFF], "a flush ends with an empty stored block");
    packed.truncate(tail);
    packed
}
