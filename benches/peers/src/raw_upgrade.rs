//! The opening handshake for `web-socket`, which has none and begins after it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::Ended;

/// RFC 6455 §4.2.2: appended to the key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADER_COUNT_MAX: usize = 64;

/// Reads the request and accepts it; what the client sent after it stays in `stream`.
pub async fn accept(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> Ended {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Err("no request".into());
        }
    }
    let Some(key) = key(&head) else {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await?;
        stream.flush().await?;
        return Err("not an upgrade to WebSocket".into());
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_of(&key)
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.flush().await?)
}

/// The key of a request for an upgrade to version 13; None for any other request.
fn key(head: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?;
    let value = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| header.value)
    };
    let is_upgrade = request.method == Some("GET")
        && value("upgrade")?.eq_ignore_ascii_case(b"websocket")
        && value("sec-websocket-version")? == b"13";
    is_upgrade.then_some(value("sec-websocket-key")?.to_vec())
}

fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_that_of_the_example_in_the_rfc() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn request_without_upgrade_has_no_key() {
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n\r\n";
        assert_eq!(key(upgrade.as_bytes()), Some(b"abc".to_vec()));
        assert_eq!(key(upgrade.replace("13", "8").as_bytes()), None);
        assert_eq!(key(upgrade.replace("GET", "POST").as_bytes()), None);
        assert_eq!(key(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), None);
    }
}
