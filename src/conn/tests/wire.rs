//! Frames as a peer would write and read them.
//!
//! Deliberately not built on the codec under test: what is wrong there must not cancel out here.

/// First bytes of frames.
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;
/// First bytes of fragments that are not the last.
pub(super) const TEXT_PART: u8 = 0x01;
pub(super) const BINARY_PART: u8 = 0x02;
pub(super) const MORE: u8 = 0x00;
pub(super) const LAST: u8 = 0x80;

/// A masking key whose bytes all differ.
pub(super) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The example of RFC 6455 §1.2, without what is optional.
pub(super) const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The answer to it.
pub(super) const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The header of a frame, with a length in its shortest form.
pub(super) fn header(first: u8, len: u64, key: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    if len < 126 {
        bytes.push(mask_bit | u8::try_from(len).unwrap());
    } else if let Ok(len) = u16::try_from(len) {
        bytes.push(mask_bit | 126);
        bytes.extend_from_slice(&len.to_be_bytes());
    } else {
        bytes.push(mask_bit | 127);
        bytes.extend_from_slice(&len.to_be_bytes());
    }
    bytes.extend_from_slice(&key.unwrap_or_default()[..if key.is_some() { 4 } else { 0 }]);
    bytes
}

/// A frame of a client, masked with `key`.
pub(super) fn keyed(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64, Some(key));
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask(&mut bytes[start..], key);
    bytes
}

/// Masks, or unmasks. By 16 bytes: Miri pays for each step, and many of these frames are long.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u128::from_ne_bytes([a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u128::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// A frame of a client.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    keyed(first, payload, KEY)
}

/// A frame of a server.
pub(super) fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64, None);
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a Close frame.
pub(super) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A Close frame of a client.
pub(super) fn masked_close(code: u16) -> Vec<u8> {
    masked(CLOSE, &close_payload(code, ""))
}

/// The Close frame with which a server ends a connection.
pub(super) fn plain_close(code: u16) -> Vec<u8> {
    plain(CLOSE, &close_payload(code, ""))
}

/// What was read of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) key: Option<[u8; 4]>,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// First byte and payload.
    pub(super) fn parts(&self) -> (u8, &[u8]) {
        (self.first, &self.payload)
    }
}

/// Reads frames until the end of `bytes`, which must fall between two of them.
pub(super) fn read(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (len, mut at) = match bytes[1] & 0x7f {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()).try_into().unwrap(), 10),
            len => (usize::from(len), 2),
        };
        let key: Option<[u8; 4]> =
            (bytes[1] & 0x80 != 0).then(|| bytes[at..at + 4].try_into().unwrap());
        at += if key.is_some() { 4 } else { 0 };
        let mut payload = bytes[at..at + len].to_vec();
        if let Some(key) = key {
            mask(&mut payload, key);
        }
        frames.push(Frame { first: bytes[0], key, payload });
        bytes = &bytes[at + len..];
    }
    frames
}
