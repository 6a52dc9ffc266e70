//! The answer to a handshake that is taken: 101 and nothing else.
//!
//! All its text is the server's and its application's own, save for the accept key, which is a hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::fields::is_token;

/// Characters of a `Sec-WebSocket-Accept`: the 20 bytes of a SHA-1 in Base64.
pub(crate) const ACCEPT_KEY_CHARS: usize = 28;
/// Longest sub-protocol name a server can choose. Names are fixed when the server is built.
pub(crate) const PROTOCOL_BYTES_MAX: usize = 256;
/// RFC 6455 §1.3: appended to the key before it is hashed.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const START: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: ";
const PROTOCOL_HEADER: &[u8] = b"\r\nSec-WebSocket-Protocol: ";
const EXTENSIONS_HEADER: &[u8] = b"\r\nSec-WebSocket-Extensions: ";

/// What a 101 says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptParts<'a> {
    /// What [`accept_key`] makes of the client's key.
    pub(crate) accept_key: [u8; ACCEPT_KEY_CHARS],
    /// The server's name for what [`Request::select_protocol`](super::Request::select_protocol)
    /// found: a token of at most [`PROTOCOL_BYTES_MAX`] bytes.
    pub(crate) protocol: Option<&'a str>,
    /// The extensions that are taken, as the server writes them; empty for none.
    pub(crate) extensions: &'a [u8],
    /// More header lines, each with its line end.
    pub(crate) headers: &'a [u8],
}

/// Appends the 101 to `out`.
pub(crate) fn write_accept(parts: &AcceptParts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(START);
    out.extend_from_slice(&parts.accept_key);
    if let Some(name) = parts.protocol {
        assert!(is_token(name.as_bytes()), "a sub-protocol is a token");
        assert!(name.len() <= PROTOCOL_BYTES_MAX, "a sub-protocol has a bounded name");
        out.extend_from_slice(PROTOCOL_HEADER);
        out.extend_from_slice(name.as_bytes());
    }
    if !parts.extensions.is_empty() {
        out.extend_from_slice(EXTENSIONS_HEADER);
        out.extend_from_slice(parts.extensions);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(parts.headers);
    out.extend_from_slice(b"\r\n");
}

/// The accept value that answers a key (RFC 6455 §4.2.2 (5)).
pub(crate) fn accept_key(key: &[u8]) -> [u8; ACCEPT_KEY_CHARS] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; ACCEPT_KEY_CHARS];
    let written = STANDARD.encode_slice(digest, &mut accept);
    assert_eq!(written, Ok(ACCEPT_KEY_CHARS), "a SHA-1 has 28 characters in Base64");
    accept
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn accept(parts: &AcceptParts<'_>) -> String {
        let mut out = Vec::new();
        write_accept(parts, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn parts() -> AcceptParts<'static> {
        let request = Request::parse(HEAD).unwrap();
        let accept_key = accept_key(request.upgrade_key().unwrap());
        AcceptParts { accept_key, protocol: None, extensions: &[], headers: &[] }
    }

    #[test]
    fn accept_answers_the_example_of_the_rfc() {
        assert_eq!(
            accept(&AcceptParts { protocol: Some("chat"), ..parts() }),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\n\r\n"
        );
        assert!(accept(&parts()).ends_with("xOo=\r\n\r\n"), "nothing that was not asked for");
    }

    #[test]
    fn extensions_and_headers_of_the_application_follow() {
        let extensions = b"permessage-deflate";
        let text = accept(&AcceptParts { extensions, headers: b"X-A: b\r\n", ..parts() });
        let end = "xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-A: b\r\n\r\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    #[should_panic(expected = "a sub-protocol is a token")]
    fn hs14_accept_cannot_be_split_by_a_protocol_name() {
        accept(&AcceptParts { protocol: Some("chat\r\nX: y"), ..parts() });
    }
}
