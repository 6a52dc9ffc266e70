//! The protocol of NATS, as far as topics need it.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Decoded, Frame, Garbage, body, length, line};
use crate::broker::address::Login;
use crate::broker::names::SUBJECT_BYTES_MAX;

/// Bytes of a line: our subject twice, for there may be one to reply to, and two numbers.
const LINE_BYTES_MAX: usize = 2 * SUBJECT_BYTES_MAX + 64;
/// A greeting names all servers of a cluster.
const INFO_BYTES_MAX: usize = 16 << 10;

pub(super) fn decode(input: &[u8], payload_bytes_max: usize) -> Decoded<'_> {
    let is_info = input.starts_with(b"INFO ");
    let bytes_max = if is_info { INFO_BYTES_MAX } else { LINE_BYTES_MAX };
    let Some((text, next)) = line(input, bytes_max)? else { return Ok(None) };
    let frame = match text {
        b"PING" => Frame::Ping,
        b"PONG" => Frame::Pong,
        b"+OK" => Frame::Other,
        _ if text.starts_with(b"INFO ") => Frame::Info(&text[5..]),
        _ if text.starts_with(b"-ERR") => Frame::Refused(&text[4..]),
        _ => return message(input, text, next, payload_bytes_max),
    };
    Ok(Some((frame, next)))
}

/// `MSG <subject> <number> [reply-to] <bytes>`, and the payload.
fn message<'a>(
    input: &'a [u8],
    line: &'a [u8],
    next: usize,
    payload_bytes_max: usize,
) -> Decoded<'a> {
    let rest = line.strip_prefix(b"MSG ").ok_or(Garbage::UnknownFrame)?;
    let rest = str::from_utf8(rest).map_err(|_| Garbage::BadLine)?;
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let (subject, _number) = words.next().zip(words.next()).ok_or(Garbage::BadLine)?;
    let third = words.next().ok_or(Garbage::BadLine)?;
    let bytes = words.next().unwrap_or(third);
    if words.next().is_some() {
        return Err(Garbage::BadLine);
    }
    let length = length(bytes.as_bytes(), payload_bytes_max)?;
    let Some((payload, next)) = body(input, next, length)? else { return Ok(None) };
    Ok(Some((Frame::Message { subject, payload }, next)))
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Info {
    pub(in crate::broker) payload_bytes_max: usize,
    pub(in crate::broker) offers_tls: bool,
    pub(in crate::broker) requires_tls: bool,
}

impl Info {
    /// Names of servers in it are not read: where we connect, and whose name is checked, is ours to
    /// say (row BK05).
    pub(in crate::broker) fn of(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        let is = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
        let payload_bytes_max = value.get("max_payload")?.as_u64()?;
        let requires_tls = is("tls_required");
        Some(Self {
            payload_bytes_max: usize::try_from(payload_bytes_max).unwrap_or(usize::MAX),
            offers_tls: requires_tls || is("tls_available"),
            requires_tls,
        })
    }
}

/// Who we are, and that we want nothing back of what we send ourselves (row BK06).
pub(in crate::broker) fn greet(out: &mut Vec<u8>, login: &Login, is_tls: bool) {
    let mut options = json!({
        "verbose": false,
        "pedantic": false,
        "echo": false,
        "headers": false,
        "protocol": 1,
        "tls_required": is_tls,
        "lang": "rust",
        "name": "longwire",
        "version": env!("CARGO_PKG_VERSION"),
    });
    match login {
        Login::Nobody => {}
        Login::Token(token) => options["auth_token"] = json!(token),
        Login::Password(password) => options["pass"] = json!(password),
        Login::User { name, password } => {
            options["user"] = json!(name);
            options["pass"] = json!(password);
        }
    }
    add(out, format_args!("CONNECT {options}\r\nPING\r\n"));
}

pub(super) fn subscribe(out: &mut Vec<u8>, subjects: &[(&str, u64)]) {
    for (subject, number) in subjects {
        add(out, format_args!("SUB {subject} {number}\r\n"));
    }
}

pub(super) fn unsubscribe(out: &mut Vec<u8>, number: u64) {
    add(out, format_args!("UNSUB {number}\r\n"));
}

pub(super) fn publish(out: &mut Vec<u8>, subject: &str, payload: [&[u8]; 2]) {
    let bytes: usize = payload.iter().map(|part| part.len()).sum();
    add(out, format_args!("PUB {subject} {bytes}\r\n"));
    for part in payload {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn add(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_with_and_without_a_reply_subject() {
        for input in
            [&b"MSG a.b 12 5\r\nhe\r\no\r\nPING\r\n"[..], b"MSG a.b  12 r.x  5\r\nhe\r\no\r\n"]
        {
            let (frame, _) = decode(input, 5).unwrap().unwrap();
            assert_eq!(frame, Frame::Message { subject: "a.b", payload: b"he\r\no" });
        }
    }

    #[test]
    fn bk04_frames_that_no_server_sends_are_garbage() {
        let info = [b"INFO ", &[b'x'; INFO_BYTES_MAX][..]].concat();
        let line = vec![b'x'; LINE_BYTES_MAX + 2];
        for (input, garbage) in [
            (&b"MSG a 1 6\r\n"[..], Garbage::TooLarge),
            (b"MSG a 1 18446744073709551610\r\n", Garbage::BadLength),
            (b"MSG a 1 9999999999999999999\r\n", Garbage::TooLarge),
            (b"MSG a 1 -1\r\n", Garbage::BadLength),
            (b"MSG a 1\r\n", Garbage::BadLine),
            (b"MSG a 1 b 2 3\r\n", Garbage::BadLine),
            (b"MSG a 1 2\r\nabcd", Garbage::BadLength),
            (b"HMSG a 1 2 3\r\n", Garbage::UnknownFrame),
            (b"HTTP/1.1 400 Bad Request\r\n", Garbage::UnknownFrame),
            (b"PING\n", Garbage::BadLine),
            (b"\r\n", Garbage::UnknownFrame),
            (&info, Garbage::LineTooLong),
            (&line, Garbage::LineTooLong),
        ] {
            let text = String::from_utf8_lossy(&input[..input.len().min(40)]);
            assert_eq!(decode(input, 5), Err(garbage), "{text}");
        }
        assert_eq!(decode(b"-ERR\r\n", 5), Ok(Some((Frame::Refused(b""), 6))));
    }

    #[test]
    fn greeting_is_read_and_answered() {
        let info = br#"{"max_payload":1024,"tls_required":true,"host":"evil.example"}"#;
        let expected = Info { payload_bytes_max: 1024, offers_tls: true, requires_tls: true };
        assert_eq!(Info::of(info), Some(expected));
        for wrong in [&b"{}"[..], b"[]", b"{\"max_payload\":-1}", b"x"] {
            assert_eq!(Info::of(wrong), None);
        }
        let mut out = Vec::new();
        let login = Login::User { name: "a\"\r\n".to_owned(), password: "b".to_owned() };
        greet(&mut out, &login, false);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#""echo":false"#) && text.contains(r#""user":"a\"\r\n""#), "{text}");
        assert_eq!(text.matches("\r\n").count(), 2, "{text}");
    }
}
