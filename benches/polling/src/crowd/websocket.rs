//! As much of RFC 6455 as a client needs that only listens: the opening handshake, unmasked frames of
//! the server, and pongs.

use std::io::Write as _;

use super::http::Headers;
use crate::serve_push::PATH;

/// The example of RFC 6455 §1.3 and what must answer it. Every client uses the same key: it keeps
/// caches out, and there are none here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// RFC 6455 §5.3 asks for keys nobody can foresee, against proxies that could be deceived. There is
/// none on the way to the loopback device.
const MASKING_KEY: [u8; 4] = [0x1d, 0x72, 0xc5, 0x3a];

const HEADER_COUNT_MAX: usize = 32;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What Chrome on Linux adds to an opening handshake, without any cookie. It offers compression,
/// which longwire declines.
const BROWSER_LINES: &str = concat!(
    "Pragma: no-cache\r\n",
    "Cache-Control: no-cache\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) ",
    "Chrome/141.0.0.0 Safari/537.36\r\n",
    "Origin: https://app.example.com\r\n",
    "Accept-Encoding: gzip, deflate, br, zstd\r\n",
    "Accept-Language: en-US,en;q=0.9\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
);

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    /// With its code, if there is one.
    Close(Option<u16>),
}

/// Appends the opening handshake of a client.
pub(crate) fn put_upgrade(request: &mut Vec<u8>, client: usize, headers: Headers) {
    let lines = match headers {
        Headers::Browser => BROWSER_LINES,
        Headers::Minimal => "",
    };
    // Writing to a vector does not fail.
    let _ = write!(
        request,
        "GET {PATH}{client} HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    );
}

/// The length of the answer to the opening handshake, once it is there whole.
pub(crate) fn parse_upgrade(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut lines = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut head = httparse::Response::new(&mut lines);
    let parsed = head.parse(bytes).map_err(|error| format!("the answer is not HTTP: {error}"))?;
    let (httparse::Status::Complete(head_bytes), Some(status)) = (parsed, head.code) else {
        return Ok(None);
    };
    if status != 101 {
        return Err(format!("the opening handshake was answered with status {status}"));
    }
    let is_accept =
        |line: &&httparse::Header<'_>| line.name.eq_ignore_ascii_case("sec-websocket-accept");
    if head.headers.iter().find(is_accept).is_none_or(|line| line.value != ACCEPT) {
        return Err("the opening handshake has a wrong Sec-WebSocket-Accept".to_owned());
    }
    Ok(Some(head_bytes))
}

/// The frame at the beginning of `bytes` and its length, once it is there whole.
pub(crate) fn parse_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let (head_bytes, payload_bytes) = match *bytes {
        [_, length, ..] if length & MASKED != 0 => {
            return Err("a frame of the server is masked".to_owned());
        }
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 127, ..] => return Err("a frame is larger than any update".to_owned()),
        [_, length, ..] if length < 126 => (2, usize::from(length)),
        _ => return Ok(None),
    };
    let end = head_bytes + payload_bytes;
    let Some(payload) = bytes.get(head_bytes..end) else { return Ok(None) };
    const FIN_TEXT: u8 = FIN | TEXT;
    const FIN_PING: u8 = FIN | PING;
    const FIN_CLOSE: u8 = FIN | CLOSE;
    let frame = match bytes[0] {
        FIN_TEXT => Frame::Text(payload),
        FIN_PING => Frame::Ping(payload),
        FIN_CLOSE => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        other => return Err(format!("a frame begins with {other:#04x}, which nothing asked for")),
    };
    Ok(Some((frame, end)))
}

/// Appends the answer to a ping, whose payload is at most 125 bytes (RFC 6455 §5.5).
pub(crate) fn put_pong(frame: &mut Vec<u8>, payload: &[u8]) -> Result<(), String> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length <= 125);
    let length = length.ok_or_else(|| "a ping has more than 125 bytes".to_owned())?;
    frame.extend([FIN | PONG, MASKED | length]);
    frame.extend(MASKING_KEY);
    frame.extend(payload.iter().zip(MASKING_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_is_found_only_when_it_is_whole() {
        let text = [&[0x81, 3][..], b"abc"].concat();
        for end in 0..text.len() {
            assert_eq!(parse_frame(&text[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(parse_frame(&text), Ok(Some((Frame::Text(b"abc"), 5))));
        let long = [&[0x81, 126, 0, 200][..], &[b'x'; 200]].concat();
        assert_eq!(parse_frame(&long), Ok(Some((Frame::Text(&[b'x'; 200]), 204))));
    }

    #[test]
    fn control_frames_are_told_apart() {
        assert_eq!(parse_frame(&[0x89, 1, 7]), Ok(Some((Frame::Ping(&[7]), 3))));
        assert_eq!(parse_frame(&[0x88, 2, 3, 233]), Ok(Some((Frame::Close(Some(1001)), 4))));
        assert_eq!(parse_frame(&[0x88, 0]), Ok(Some((Frame::Close(None), 2))));
    }

    #[test]
    fn what_a_server_must_not_send_is_an_error() {
        assert!(parse_frame(&[0x81, 0x81, 0, 0, 0, 0, 0]).is_err());
        assert!(parse_frame(&[0x01, 1, 0]).is_err());
    }

    #[test]
    fn pong_is_masked_and_carries_the_payload() {
        let mut frame = Vec::new();
        put_pong(&mut frame, b"12345").unwrap();
        assert_eq!(frame[..2], [0x8A, 0x85]);
        let (key, masked) = frame[2..].split_at(4);
        let payload: Vec<u8> =
            masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(payload, b"12345");
        assert!(put_pong(&mut Vec::new(), &[0; 126]).is_err());
    }

    #[test]
    fn handshake_is_judged_by_status_and_accept() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(parse_upgrade(good.as_bytes()), Ok(Some(good.len())));
        assert_eq!(parse_upgrade(&good.as_bytes()[..30]), Ok(None));
        let wrong = good.replace("s3pP", "S3pP");
        assert!(parse_upgrade(wrong.as_bytes()).is_err());
        assert!(parse_upgrade(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
    }
}
