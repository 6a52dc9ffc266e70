//! Request heads: any bytes, cut anywhere, have one verdict; refusals are whole HTTP responses; what
//! is accepted says to `httparse` what it says to us, and holds nothing two readers could read in
//! two ways.

#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire::fuzz_internals::{
    HeadLimits, HeadVerdict, accept_response, head_verdict, scan_in_pieces,
};
use longwire::{Refusal, Request};
use longwire_fuzz::cuts;

fuzz_target!(|bytes: &[u8]| {
    for limits in [HeadLimits::usual(), HeadLimits::small()] {
        judge(bytes, &limits);
    }
});

fn judge(bytes: &[u8], limits: &HeadLimits) {
    let whole = scan_in_pieces(bytes, &[], limits);
    for cuts in cuts::ways(bytes) {
        assert_eq!(scan_in_pieces(bytes, &cuts, limits), whole, "cut at {cuts:?}");
    }
    let verdict = head_verdict(bytes, limits);
    match (&verdict, whole) {
        (HeadVerdict::Cut, Ok(None)) => {
            assert!(bytes.len() < limits.bytes_max(), "a scanner decides within its bounds");
        }
        (HeadVerdict::Refused(refusal), Err(scanned)) => assert_eq!(*refusal, scanned),
        (HeadVerdict::Refused(_), Ok(Some(len))) => {
            assert!(len <= limits.bytes_max(), "a head keeps to its bounds");
        }
        (HeadVerdict::Request(parsed, _), Ok(Some(len))) => assert_eq!(*parsed, len),
        _ => panic!("the scanner has found the end, or it has not"),
    }
    match verdict {
        HeadVerdict::Cut => {}
        HeadVerdict::Refused(refusal) => check_refusal(refusal),
        HeadVerdict::Request(len, request) => {
            check_agreement(&bytes[..len], &request, limits);
            check_soundness(&request);
            match accept_response(&request) {
                Ok(response) => check_accept(&request, &response),
                Err(refusal) => check_refusal(refusal),
            }
        }
    }
}

/// One complete response that ends the connection (row R5).
fn check_refusal(refusal: Refusal) {
    let mut response = Vec::new();
    refusal.write_response(&mut response);
    let mut places = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Response::new(&mut places);
    let Ok(httparse::Status::Complete(head_bytes)) = parsed.parse(&response) else {
        panic!("a refusal is HTTP: {}", response.escape_ascii());
    };
    let value = |name: &str| {
        let mut lines = parsed.headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
        let value = lines.next().map(|line| line.value);
        assert!(lines.next().is_none(), "{name} stands once");
        value.and_then(|value| std::str::from_utf8(value).ok())
    };
    assert_eq!((parsed.version, parsed.code), (Some(1), Some(refusal.status())));
    assert!((400..=599).contains(&refusal.status()), "a refusal is an error");
    assert!(value("Connection").is_some_and(|value| value.starts_with("close")));
    let body_bytes = response.len() - head_bytes;
    assert_eq!(value("Content-Length"), Some(body_bytes.to_string().as_str()));
}

/// What another parser reads in the same bytes.
fn check_agreement(head: &[u8], request: &Request<'_>, limits: &HeadLimits) {
    // RFC 9110 §2.5: a later 1.x is read as the latest that is known. `httparse` refuses it.
    let mut head = head.to_vec();
    if let Some(at) = head.windows(8).position(|bytes| bytes == b" HTTP/1.") {
        head[at + 8] = head[at + 8].min(b'1');
    }
    let mut places = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut places);
    let parsed = other.parse(&head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "the head ends where we say");
    assert_eq!(other.path, Some(request.target()));
    let method = other.method.unwrap_or_default();
    assert!(method == "GET" || method == "HEAD", "{method}");
    let ours: Vec<(&str, &[u8])> = request.headers().collect();
    let theirs: Vec<(&str, &[u8])> =
        other.headers.iter().map(|header| (header.name, trimmed(header.value))).collect();
    assert_eq!(ours, theirs, "both read the same headers");
    assert!(ours.len() <= limits.header_count_max(), "as many as are allowed");
}

/// What no request may hold that is taken on, by the plain reading of RFC 9112 and RFC 6455 §4.2.1.
fn check_soundness(request: &Request<'_>) {
    let values = |wanted: &str| -> Vec<&[u8]> {
        let lines = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        lines.map(|(_, value)| value).collect()
    };
    let has = |wanted: &str, element: &str| {
        values(wanted).iter().any(|value| {
            let mut elements = value.split(|byte| *byte == b',').map(trimmed);
            elements.any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
        })
    };
    assert!(values("Host").len() <= 1, "one host");
    assert!(values("Origin").len() <= 1, "one origin");
    assert!(values("Transfer-Encoding").is_empty(), "no body");
    for length in values("Content-Length") {
        assert!(!length.is_empty() && length.iter().all(|byte| *byte == b'0'), "no body");
    }
    for (name, value) in request.headers() {
        assert!(!name.is_empty() && !name.bytes().any(|byte| b" \t:\r\n\0".contains(&byte)));
        assert!(value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
    }
    assert!(request.target().bytes().all(|byte| byte.is_ascii_graphic()), "{}", request.target());
    assert!(request.path().starts_with('/'));
    if !request.is_upgrade() {
        return;
    }
    assert_eq!(values("Sec-WebSocket-Version"), [b"13"]);
    assert_eq!(values("Sec-WebSocket-Key").iter().map(|key| key.len()).collect::<Vec<_>>(), [24]);
    assert!(has("Connection", "upgrade") && has("Upgrade", "websocket"));
    assert!(values("Expect").is_empty());
    assert!(!request.host().is_empty(), "an upgrade has a host");
}

/// The 101, as a client reads it.
fn check_accept(request: &Request<'_>, response: &[u8]) {
    let mut places = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Response::new(&mut places);
    assert_eq!(parsed.parse(response), Ok(httparse::Status::Complete(response.len())));
    assert_eq!(parsed.code, Some(101));
    let protocol = parsed.headers.iter().find(|line| line.name == "Sec-WebSocket-Protocol");
    if let Some(protocol) = protocol {
        let offered = request.protocols().any(|name| name.as_bytes() == protocol.value);
        assert!(offered, "a sub-protocol is selected out of those that are offered");
    }
}

fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
