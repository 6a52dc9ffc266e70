//! What is said to a broker and heard from it, as bytes: no I/O, no clock, no memory of its own.
//!
//! Only what topics need of the protocols is understood; all else is garbage, after which the link
//! is not used any more. A decoder looks at received bytes where they lie, and knows from the first
//! bytes of a frame whether it may become too long: nothing is allocated or waited for because of a
//! length that a broker has declared.

pub(super) mod nats;
pub(super) mod redis;

use super::address::Kind;

/// What has come from a broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message {
        subject: &'a str,
        payload: &'a [u8],
    },
    /// To be answered.
    Ping,
    /// All that was said before our ping has been dealt with.
    Pong,
    /// The greeting of NATS, JSON.
    Info(&'a [u8]),
    /// The broker will not do what it was asked to; its words.
    Refused(&'a [u8]),
    /// Nothing that needs an answer.
    Other,
}

/// What no broker says, or not at this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Garbage {
    UnknownFrame,
    LineTooLong,
    BadLine,
    BadLength,
    /// Larger than the largest message of ours.
    TooLarge,
    TooNested,
}

/// A whole frame and its length, or `None` if there is more to come.
pub(super) type Decoded<'a> = Result<Option<(Frame<'a>, usize)>, Garbage>;

/// The first frame of what has come; `payload_bytes_max` holds for the payload of a message.
pub(super) fn decode(kind: Kind, input: &[u8], payload_bytes_max: usize) -> Decoded<'_> {
    match kind {
        Kind::Nats => nats::decode(input, payload_bytes_max),
        Kind::Redis => redis::decode(input, payload_bytes_max),
    }
}

/// Asks for the messages of subjects, each with a number of its own.
pub(super) fn subscribe(kind: Kind, out: &mut Vec<u8>, subjects: &[(&str, u64)]) {
    match kind {
        Kind::Nats => nats::subscribe(out, subjects),
        Kind::Redis => redis::subscribe(out, subjects),
    }
}

pub(super) fn unsubscribe(kind: Kind, out: &mut Vec<u8>, subject: &str, number: u64) {
    match kind {
        Kind::Nats => nats::unsubscribe(out, number),
        Kind::Redis => redis::unsubscribe(out, subject),
    }
}

/// Sends a message, which is these parts together.
pub(super) fn publish(kind: Kind, out: &mut Vec<u8>, subject: &str, payload: [&[u8]; 2]) {
    match kind {
        Kind::Nats => nats::publish(out, subject, payload),
        Kind::Redis => redis::publish(out, subject, payload),
    }
}

pub(super) fn ping(kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::Nats => out.extend_from_slice(b"PING\r\n"),
        Kind::Redis => redis::command(out, &[b"PING"]),
    }
}

pub(super) fn pong(kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::Nats => out.extend_from_slice(b"PONG\r\n"),
        // Redis asks nobody.
        Kind::Redis => {}
    }
}

/// The line that the input begins with, without its end, and where the next begins. The search ends
/// where the line would be too long, so a line that comes byte by byte costs little.
fn line(input: &[u8], bytes_max: usize) -> Result<Option<(&[u8], usize)>, Garbage> {
    let seen = &input[..input.len().min(bytes_max + 2)];
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(0) => Err(Garbage::BadLine),
        Some(end) if seen[end - 1] == b'\r' => Ok(Some((&seen[..end - 1], end + 1))),
        Some(_) => Err(Garbage::BadLine),
        None if seen.len() == bytes_max + 2 => Err(Garbage::LineTooLong),
        None => Ok(None),
    }
}

/// A length, of digits alone.
fn length(digits: &[u8], max: usize) -> Result<usize, Garbage> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Garbage::BadLength);
    }
    let text = str::from_utf8(digits).map_err(|_| Garbage::BadLength)?;
    let length: u64 = text.parse().map_err(|_| Garbage::BadLength)?;
    usize::try_from(length).ok().filter(|length| *length <= max).ok_or(Garbage::TooLarge)
}

/// So many bytes and the end of a line, from a place on.
fn body(input: &[u8], start: usize, length: usize) -> Result<Option<(&[u8], usize)>, Garbage> {
    let end = start + length;
    let Some(ending) = input.get(end..end + 2) else { return Ok(None) };
    if ending != b"\r\n" {
        return Err(Garbage::BadLength);
    }
    Ok(Some((&input[start..end], end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD_BYTES_MAX: usize = 64;

    fn samples(kind: Kind) -> Vec<&'static [u8]> {
        match kind {
            Kind::Nats => vec![
                b"INFO {\"max_payload\":1048576}\r\n",
                b"MSG longwire.t.a 7 5\r\nhello\r\n",
                b"PING\r\n",
                b"PONG\r\n",
                b"-ERR 'Slow Consumer'\r\n",
                b"+OK\r\n",
            ],
            Kind::Redis => vec![
                b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*0\r\n",
                b">3\r\n$7\r\nmessage\r\n$12\r\nlongwire.t.a\r\n$5\r\nhello\r\n",
                b">3\r\n$9\r\nsubscribe\r\n$12\r\nlongwire.t.a\r\n:1\r\n",
                b"+PONG\r\n",
                b":12\r\n",
                b"-ERR no\r\n",
            ],
        }
    }

    #[test]
    fn frames_are_whole_only_with_their_last_byte() {
        for kind in [Kind::Nats, Kind::Redis] {
            for sample in samples(kind) {
                for cut in 0..sample.len() {
                    assert_eq!(decode(kind, &sample[..cut], PAYLOAD_BYTES_MAX), Ok(None), "{cut}");
                }
                let twice = [sample, sample].concat();
                let (_, length) = decode(kind, &twice, PAYLOAD_BYTES_MAX).unwrap().unwrap();
                assert_eq!(length, sample.len());
            }
        }
    }

    /// Frames with bytes changed, cut and inserted: the decoder never panics, never returns more than
    /// it was given, and never waits for more than its limits allow.
    #[test]
    fn bk04_garbage_is_refused_without_waiting_for_it() {
        let long = [b'x'; 1 << 17];
        for kind in [Kind::Nats, Kind::Redis] {
            for sample in samples(kind) {
                for _ in 0..3000 {
                    let mut bytes = sample.to_vec();
                    for _ in 0..fastrand::usize(1..4) {
                        let at = fastrand::usize(..bytes.len());
                        match fastrand::u8(..4) {
                            0 => bytes[at] = fastrand::u8(..),
                            1 => drop(bytes.remove(at)),
                            2 => bytes.insert(at, b'9'),
                            _ => bytes.insert(at, b"\r\n-:*>$%"[fastrand::usize(..8)]),
                        }
                        if bytes.is_empty() {
                            break;
                        }
                    }
                    if let Ok(Some((_, length))) = decode(kind, &bytes, PAYLOAD_BYTES_MAX) {
                        assert!(0 < length && length <= bytes.len());
                    }
                    bytes.extend_from_slice(&long);
                    let is_decided = decode(kind, &bytes, PAYLOAD_BYTES_MAX) != Ok(None);
                    assert!(is_decided, "{:?}", String::from_utf8_lossy(&bytes[..80]));
                }
            }
        }
    }
}
