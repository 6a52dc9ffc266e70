//! The answer to a handshake that is taken: 101 and nothing else.
//!
//! It has a known largest size, so it is written into memory the connection already has. All its
//! text is the server's own, save for the accept key, which is a hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::Request;
use super::fields::is_token;

/// Characters of a `Sec-WebSocket-Accept`: the 20 bytes of a SHA-1 in Base64.
pub(crate) const ACCEPT_KEY_CHARS: usize = 28;
/// Longest sub-protocol name a server can choose. Names are fixed when the server is built.
pub(crate) const PROTOCOL_BYTES_MAX: usize = 256;
/// Largest size of what [`write_accept`] writes.
pub(crate) const ACCEPT_RESPONSE_BYTES_MAX: usize =
    START.len() + ACCEPT_KEY_CHARS + PROTOCOL_HEADER.len() + PROTOCOL_BYTES_MAX + END.len();

/// RFC 6455 §1.3: appended to the key before it is hashed.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const START: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: ";
const PROTOCOL_HEADER: &[u8] = b"\r\nSec-WebSocket-Protocol: ";
const END: &[u8] = b"\r\n\r\n";

/// Writes the 101 to the start of `out` and returns its size.
///
/// `protocol` is the server's name for what [`Request::select_protocol`] found: a token of at most
/// [`PROTOCOL_BYTES_MAX`] bytes. `out` has room for [`ACCEPT_RESPONSE_BYTES_MAX`].
pub(crate) fn write_accept(request: &Request<'_>, protocol: Option<&str>, out: &mut [u8]) -> usize {
    let mut bytes = 0;
    let mut append = |part: &[u8]| {
        out[bytes..bytes + part.len()].copy_from_slice(part);
        bytes += part.len();
    };
    append(START);
    append(&request.accept_key());
    if let Some(name) = protocol {
        assert!(is_token(name.as_bytes()), "a sub-protocol is a token");
        assert!(name.len() <= PROTOCOL_BYTES_MAX, "a sub-protocol has a bounded name");
        append(PROTOCOL_HEADER);
        append(name.as_bytes());
    }
    append(END);
    bytes
}

/// The accept value that answers a key (RFC 6455 §4.2.2 (5)).
pub(super) fn accept_key(key: &[u8]) -> [u8; ACCEPT_KEY_CHARS] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; ACCEPT_KEY_CHARS];
    let written = STANDARD.encode_slice(digest, &mut accept);
    assert_eq!(written, Ok(ACCEPT_KEY_CHARS), "a SHA-1 has 28 characters in Base64");
    accept
}

#[cfg(test)]
mod tests {
    use super::super::HeadLimits;
    use super::*;

    const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn accept_answers_the_example_of_the_rfc() {
        let request = Request::parse(HEAD, &HeadLimits::default()).unwrap();
        let mut out = [0; ACCEPT_RESPONSE_BYTES_MAX];
        let bytes = write_accept(&request, Some("chat"), &mut out);
        assert_eq!(
            str::from_utf8(&out[..bytes]).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\n\r\n"
        );
        let bytes = write_accept(&request, None, &mut out);
        assert!(out[..bytes].ends_with(b"xOo=\r\n\r\n"), "no protocol header without a protocol");
    }

    #[test]
    fn largest_accept_fits_its_bound_exactly() {
        let request = Request::parse(HEAD, &HeadLimits::default()).unwrap();
        let mut out = [0; ACCEPT_RESPONSE_BYTES_MAX];
        let name = "p".repeat(PROTOCOL_BYTES_MAX);
        assert_eq!(write_accept(&request, Some(&name), &mut out), ACCEPT_RESPONSE_BYTES_MAX);
    }

    #[test]
    #[should_panic(expected = "a sub-protocol is a token")]
    fn hs14_accept_cannot_be_split_by_a_protocol_name() {
        let request = Request::parse(HEAD, &HeadLimits::default()).unwrap();
        write_accept(&request, Some("chat\r\nX: y"), &mut [0; ACCEPT_RESPONSE_BYTES_MAX]);
    }
}
