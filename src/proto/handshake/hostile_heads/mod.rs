//! Request heads as no good client sends them, one table per row of the hostile inputs.
//! Rows about HTTP stand in `http`, rows about the upgrade in `upgrade`.
//!
//! Every head, accepted or refused, goes through `judge`, which has it scanned whole, byte by byte
//! and at random splits with bytes already seen destroyed, and insists on one result.

mod http;
mod upgrade;

use super::*;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VALID: &str = "GET /chat?x=1 HTTP/1.1\r\nHost: a.example:80\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Scans in pieces. What was seen is zeroed before the next piece comes, so that a scanner that
/// went back to it would refuse a NUL.
fn scan_in_pieces(head: &[u8], limits: &HeadLimits, seed: u64) -> Result<Option<usize>, Refusal> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut scanner = HeadScanner::default();
    let mut arrived = vec![0; head.len()];
    let mut start = 0;
    while start < head.len() {
        let piece_max = if seed == 0 { 1 } else { 1 << random.u32(0..8) };
        let piece = random.usize(1..=piece_max);
        let end = (start + piece).min(head.len());
        arrived[start..end].copy_from_slice(&head[start..end]);
        if let Some(bytes) = scanner.scan(&arrived[..end], limits)? {
            return Ok(Some(bytes));
        }
        arrived[start..end].fill(0);
        start = end;
    }
    Ok(None)
}

/// Seeds of the splits to try; 0 is byte by byte. Miri has time for one random split of each head;
/// byte by byte it runs the tests of the scanner.
const SEEDS: std::ops::Range<u64> = if cfg!(miri) { 1..2 } else { 0..4 };

fn judge_within<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<Request<'a>, Refusal> {
    let whole = HeadScanner::default().scan(head, limits);
    for seed in SEEDS {
        assert_eq!(
            scan_in_pieces(head, limits, seed),
            whole,
            "in pieces of seed {seed}: {}",
            head.escape_ascii()
        );
    }
    let head_bytes = whole?.expect("a head of these tests is complete or refused");
    let request = Request::parse(&head[..head_bytes])?;
    request.upgrade_key()?;
    Ok(request)
}

/// The limits that are tested at their edges: the default ones; under Miri, which takes seconds for
/// a head of 8 KiB, smaller ones.
fn limits() -> HeadLimits {
    let limits = HeadLimits::default();
    assert_eq!((limits.request_line_bytes_max, limits.header_line_bytes_max), (8192, 8192));
    assert_eq!((limits.head_bytes_max, limits.header_count_max), (16_384, 100));
    if cfg!(miri) {
        return HeadLimits {
            request_line_bytes_max: 512,
            header_line_bytes_max: 512,
            head_bytes_max: 1024,
            ..limits
        };
    }
    limits
}

fn judge(head: &[u8]) -> Result<Request<'_>, Refusal> {
    judge_within(head, &HeadLimits::default())
}

/// The valid head with `from` replaced.
fn replaced(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from}");
    VALID.replacen(from, to, 1)
}

/// The valid head with these lines before its first header.
fn with_lines(lines: &str) -> String {
    replaced("Host:", &format!("{lines}Host:"))
}

#[track_caller]
fn assert_refused(head: impl AsRef<[u8]>, expected: Refusal) {
    let head = head.as_ref();
    assert_eq!(judge(head).err(), Some(expected), "{}", head.escape_ascii());
}

#[track_caller]
fn assert_accepted(head: &str) {
    assert_eq!(judge(head.as_bytes()).err(), None, "{head}");
}

fn response(refusal: Refusal) -> String {
    let mut out = Vec::new();
    refusal.write_response(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn valid_request_is_taken_apart() {
    let head = with_lines("Origin: http://o\r\nX-Empty:\r\nx-more: \t a\tb \u{e9} \t\r\n");
    let request = judge(head.as_bytes()).unwrap();
    assert_eq!((request.path(), request.query()), ("/chat", Some("x=1")));
    assert_eq!((request.target(), request.host()), ("/chat?x=1", "a.example:80"));
    assert_eq!(request.origin(), Some(&b"http://o"[..]));
    assert_eq!(request.header("UPGRADE"), Some(&b"websocket"[..]));
    assert_eq!(request.header("X-EMPTY"), Some(&b""[..]));
    assert_eq!(request.header("X-More"), Some("a\tb \u{e9}".as_bytes()));
    assert_eq!(request.header("absent"), None);
    assert_eq!(request.headers().count(), 8);
    assert_eq!(request.headers().last(), Some(("Sec-WebSocket-Version", &b"13"[..])));
    assert_eq!((request.protocols().count(), request.extensions_header().count()), (0, 0));
    let accept_key = response::accept_key(request.upgrade_key().unwrap());
    assert_eq!(&accept_key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(
        format!("{request:?}"),
        r#"Request { target: "/chat?x=1", host: "a.example:80", .. }"#
    );
}
