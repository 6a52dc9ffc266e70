//! RESP3, the protocol of Redis from version 6 on, as far as topics need it.
//!
//! In version 3 of the protocol one connection may subscribe and publish.

use super::{Decoded, Frame, Garbage, body, length, line};
use crate::broker::address::Login;
use crate::broker::names::SUBJECT_BYTES_MAX;

const LINE_BYTES_MAX: usize = 512;
/// Values in an answer, and how deep they may stand in each other. The answer to HELLO has some
/// twenty, and a list of modules with maps of their own.
const VALUES_MAX: usize = 1024;
const DEPTH_MAX: usize = 5;
/// Bytes of a string that is no payload.
const STRING_BYTES_MAX: usize = 2 * SUBJECT_BYTES_MAX;

pub(super) fn decode(input: &[u8], payload_bytes_max: usize) -> Decoded<'_> {
    let Some((text, next)) = line(input, LINE_BYTES_MAX)? else { return Ok(None) };
    let Some((kind, rest)) = text.split_first() else { return Err(Garbage::UnknownFrame) };
    let frame = match kind {
        b'+' if rest == b"PONG" => Frame::Pong,
        b'+' | b':' | b'_' | b'#' | b',' => Frame::Other,
        b'-' => Frame::Refused(rest),
        b'>' => return push(input, rest, next, payload_bytes_max),
        b'%' | b'*' | b'$' | b'=' => {
            let end = skip(input, 0, &mut { VALUES_MAX }, DEPTH_MAX)?;
            return Ok(end.map(|end| (Frame::Other, end)));
        }
        _ => return Err(Garbage::UnknownFrame),
    };
    Ok(Some((frame, next)))
}

/// What comes unasked: of a message its channel and its payload.
fn push<'a>(input: &'a [u8], count: &[u8], start: usize, payload_bytes_max: usize) -> Decoded<'a> {
    let count = length(count, 16)?;
    let Some((kind, mut at)) = string(input, start, STRING_BYTES_MAX)? else { return Ok(None) };
    if kind == b"message" && count == 3 {
        let Some((subject, next)) = string(input, at, STRING_BYTES_MAX)? else { return Ok(None) };
        let Some((payload, end)) = string(input, next, payload_bytes_max)? else {
            return Ok(None);
        };
        let subject = str::from_utf8(subject).map_err(|_| Garbage::BadLine)?;
        return Ok(Some((Frame::Message { subject, payload }, end)));
    }
    let mut values = VALUES_MAX;
    for _ in 1..count {
        let Some(end) = skip(input, at, &mut values, DEPTH_MAX)? else { return Ok(None) };
        at = end;
    }
    Ok(Some((Frame::Other, at)))
}

/// A string of counted bytes, and where the next value begins.
fn string(input: &[u8], start: usize, bytes_max: usize) -> Result<Option<(&[u8], usize)>, Garbage> {
    let Some((text, next)) = line(&input[start..], LINE_BYTES_MAX)? else { return Ok(None) };
    let digits = text.strip_prefix(b"$").ok_or(Garbage::UnknownFrame)?;
    body(input, start + next, length(digits, bytes_max)?)
}

/// Where a value ends that is of no interest, if it has come to its end.
fn skip(
    input: &[u8],
    start: usize,
    values_left: &mut usize,
    depth_left: usize,
) -> Result<Option<usize>, Garbage> {
    *values_left = values_left.checked_sub(1).ok_or(Garbage::TooLarge)?;
    let depth_left = depth_left.checked_sub(1).ok_or(Garbage::TooNested)?;
    let Some((text, next)) = line(&input[start..], LINE_BYTES_MAX)? else { return Ok(None) };
    let Some((kind, rest)) = text.split_first() else { return Err(Garbage::UnknownFrame) };
    let next = start + next;
    let count = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(Some(next)),
        b'$' | b'=' if rest == b"-1" => return Ok(Some(next)),
        b'$' | b'=' => {
            let body = body(input, next, length(rest, STRING_BYTES_MAX)?)?;
            return Ok(body.map(|(_, end)| end));
        }
        b'*' | b'~' => length(rest, VALUES_MAX)?,
        b'%' => 2 * length(rest, VALUES_MAX)?,
        _ => return Err(Garbage::UnknownFrame),
    };
    let mut at = next;
    for _ in 0..count {
        let Some(end) = skip(input, at, values_left, depth_left)? else { return Ok(None) };
        at = end;
    }
    Ok(Some(at))
}

/// Which protocol we speak, and who we are.
pub(in crate::broker) fn greet(out: &mut Vec<u8>, login: &Login) {
    let (name, password) = match login {
        Login::Nobody => {
            command(out, &[b"HELLO", b"3", b"SETNAME", b"longwire"]);
            return command(out, &[b"PING"]);
        }
        // The user that a password alone stands for.
        Login::Password(password) | Login::Token(password) => ("default", password),
        Login::User { name, password } => (name.as_str(), password),
    };
    let (name, password) = (name.as_bytes(), password.as_bytes());
    command(out, &[b"HELLO", b"3", b"AUTH", name, password, b"SETNAME", b"longwire"]);
    command(out, &[b"PING"]);
}

pub(super) fn subscribe(out: &mut Vec<u8>, subjects: &[(&str, u64)]) {
    if subjects.is_empty() {
        return;
    }
    let words = subjects.iter().map(|(subject, _)| subject.as_bytes());
    command(out, &[&b"SUBSCRIBE"[..]].into_iter().chain(words).collect::<Vec<_>>());
}

pub(super) fn unsubscribe(out: &mut Vec<u8>, subject: &str) {
    command(out, &[b"UNSUBSCRIBE", subject.as_bytes()]);
}

pub(super) fn publish(out: &mut Vec<u8>, subject: &str, payload: [&[u8]; 2]) {
    out.extend_from_slice(b"*3\r\n");
    bulk(out, &[b"PUBLISH"]);
    bulk(out, &[subject.as_bytes()]);
    bulk(out, &payload);
}

pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bulk(out, &[word]);
    }
}

/// One string, of parts.
fn bulk(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(format!("${bytes}\r\n").as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bk04_frames_that_no_server_sends_are_garbage() {
        let nested = "*1\r\n".repeat(8);
        let many = "*1000\r\n*1000\r\n".to_owned() + &":1\r\n".repeat(2000);
        for (input, garbage) in [
            (">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$6\r\n", Garbage::TooLarge),
            (">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$-1\r\n", Garbage::BadLength),
            (">3\r\n$7\r\nmessage\r\n$99999999999\r\n", Garbage::TooLarge),
            (">18446744073709551615\r\n", Garbage::BadLength),
            (">3\r\n:1\r\n", Garbage::UnknownFrame),
            (">1000000\r\n", Garbage::TooLarge),
            ("*1000000000\r\n", Garbage::TooLarge),
            ("%1000000000\r\n", Garbage::TooLarge),
            ("$1000000000\r\n", Garbage::TooLarge),
            ("HTTP/1.1 400 Bad Request\r\n", Garbage::UnknownFrame),
            ("\r\n", Garbage::UnknownFrame),
            (&nested, Garbage::TooNested),
            (&many, Garbage::TooLarge),
        ] {
            assert_eq!(decode(input.as_bytes(), 5), Err(garbage), "{input}");
        }
    }

    #[test]
    fn commands_are_lists_of_counted_strings() {
        let mut out = Vec::new();
        publish(&mut out, "a", [b"12", b"\r\n3"]);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$5\r\n12\r\n3\r\n");
        out.clear();
        greet(&mut out, &Login::Password("p w".to_owned()));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(
            "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$3\r\np w"
        ));
    }
}
