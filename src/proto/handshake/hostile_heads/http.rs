//! Heads that are wrong, or strange, as HTTP requests.

use super::*;

#[test]
fn hd01_request_line_over_its_limit_is_refused_with_414() {
    let limits = limits();
    let line_bytes_max = limits.request_line_bytes_max;
    let frame_bytes = "GET / HTTP/1.1".len();
    for (line_bytes, expected) in
        [(line_bytes_max, None), (line_bytes_max + 1, Some(Refusal::RequestLineTooLong))]
    {
        let target = format!("/{}", "a".repeat(line_bytes - frame_bytes));
        let head = replaced("/chat?x=1", &target);
        assert_eq!(head.find('\r'), Some(line_bytes));
        assert_eq!(judge_within(head.as_bytes(), &limits).err(), expected);
    }
    let endless = format!("GET /{}", "a".repeat(line_bytes_max));
    let refusal = judge_within(endless.as_bytes(), &limits).err();
    assert_eq!(refusal, Some(Refusal::RequestLineTooLong));
    assert_eq!(Refusal::RequestLineTooLong.status(), 414);
}

#[test]
fn hd02_header_line_over_its_limit_is_refused_with_431() {
    let limits = limits();
    let line_bytes_max = limits.header_line_bytes_max;
    for (line_bytes, expected) in
        [(line_bytes_max, None), (line_bytes_max + 1, Some(Refusal::HeaderTooLong))]
    {
        let head = with_lines(&format!("X: {}\r\n", "a".repeat(line_bytes - 3)));
        assert_eq!(judge_within(head.as_bytes(), &limits).err(), expected);
        let head = with_lines(&format!("X: {}\t\r\n", "a".repeat(line_bytes - 4)));
        let refusal = judge_within(head.as_bytes(), &limits).err();
        assert_eq!(refusal, expected, "a tab counts as well");
    }
    assert_eq!(Refusal::HeaderTooLong.status(), 431);
}

#[test]
fn hd02_head_over_its_limit_is_refused_with_431() {
    let limits = limits();
    let (head_bytes_max, long) = (limits.head_bytes_max, limits.header_line_bytes_max - 92);
    let lines_bytes = VALID.len() - VALID.find('\n').unwrap() - 1 - 2;
    for (head_bytes, expected) in
        [(head_bytes_max, None), (head_bytes_max + 1, Some(Refusal::HeadTooLong))]
    {
        let first = format!("X: {}\r\n", "a".repeat(long));
        let rest = head_bytes - lines_bytes - first.len() - "Y: \r\n".len();
        let head = with_lines(&format!("{first}Y: {}\r\n", "b".repeat(rest)));
        assert_eq!(judge_within(head.as_bytes(), &limits).err(), expected);
    }
    // The line that passes the limit of the head would pass its own, later.
    let head = with_lines(&format!("X: {0}\r\nY: {0}\r\nZ: {0}{0}\r\n", "a".repeat(long)));
    let refusal = judge_within(head.as_bytes(), &limits).err();
    assert_eq!(refusal, Some(Refusal::HeadTooLong));
    assert_eq!(Refusal::HeadTooLong.status(), 431);
}

#[test]
fn hd02_more_headers_than_the_limit_are_refused_with_431() {
    for (header_count, expected) in [(100, None), (101, Some(Refusal::TooManyHeaders))] {
        let head = with_lines(&"X: y\r\n".repeat(header_count - 5));
        assert_eq!(judge(head.as_bytes()).err(), expected);
    }
    let limits = HeadLimits { header_count_max: 1000, ..HeadLimits::default() };
    for (header_count, expected) in [(256, None), (257, Some(Refusal::TooManyHeaders))] {
        let head = with_lines(&"X: y\r\n".repeat(header_count - 5));
        assert_eq!(judge_within(head.as_bytes(), &limits).err(), expected);
    }
    assert_eq!(Refusal::TooManyHeaders.status(), 431);
}

#[test]
fn hd04_control_byte_is_refused_at_every_position() {
    // Every place and byte; Miri has time for each kind of byte at some places.
    let kinds = [0, b'\t', b'\n', b'\r', 0x1f, b' ', b':', b'a', 0x7f, 0x80, 0xff];
    let (step, bytes) =
        if cfg!(miri) { (23, kinds.to_vec()) } else { (1, (0..=255).collect::<Vec<u8>>()) };
    for position in (0..VALID.len()).step_by(step) {
        for &byte in &bytes {
            let mut head = VALID.as_bytes().to_vec();
            if head[position] == byte {
                continue;
            }
            head[position] = byte;
            // A line end that became something else may leave the head open.
            if !byte.is_ascii_control() && VALID.as_bytes()[position].is_ascii_control() {
                head.extend_from_slice(b"\r\n\r\n");
            }
            let refusal = judge(&head).err();
            if byte.is_ascii_control() && byte != b'\t' {
                let status = refusal.map(Refusal::status);
                assert_eq!(status, Some(400), "{byte:#x} at {position}");
            }
        }
    }
}

#[test]
fn hd04_control_byte_in_name_value_or_target_is_refused() {
    for byte in (0..0x20u8).chain([0x7F]) {
        for (from, to) in [("/chat", "/ch_at"), ("Host", "Ho_st"), ("a.ex", "a._ex")] {
            let mut head = replaced(from, to).into_bytes();
            let place = head.iter().position(|&byte| byte == b'_').unwrap();
            head[place] = byte;
            assert_eq!(judge(&head).unwrap_err().status(), 400, "{byte:#x} in {to}");
        }
    }
    assert_accepted(&with_lines("X: a\tb\r\n"));
}

#[test]
fn hd05_bare_line_feed_is_refused() {
    assert_refused(VALID.replace("\r\n", "\n"), Refusal::BareLineFeed);
    assert_refused(replaced("\r\nHost", "\nHost"), Refusal::BareLineFeed);
    assert_refused(replaced("\r\nUpgrade", "\nUpgrade"), Refusal::BareLineFeed);
    assert_refused(replaced("13\r\n\r\n", "13\r\n\n"), Refusal::BareLineFeed);
    assert_refused(format!("\n{VALID}"), Refusal::BareLineFeed);
    assert_refused(replaced("\r\nHost", "\rHost"), Refusal::BareCarriageReturn);
    assert_refused(replaced("\r\nHost", "\r\r\nHost"), Refusal::BareCarriageReturn);
    assert_eq!(Refusal::BareLineFeed.status(), 400);
}

#[test]
fn hd06_malformed_header_name_is_refused() {
    for line in
        ["X : y", ": y", "X", "X y: z", "X\u{e9}: y", "(X): y", "X\t: y", "\"X\": y", "X@: y", "="]
    {
        assert_refused(with_lines(&format!("{line}\r\n")), Refusal::MalformedHeader);
    }
    assert_refused(with_lines(" "), Refusal::MalformedHeader);
    assert_refused(with_lines("\tX: y\r\n"), Refusal::MalformedHeader);
    assert_refused(replaced("Sec-WebSocket-Key:", "Sec-WebSocket-Key :"), Refusal::MalformedHeader);
    assert_eq!(Refusal::MalformedHeader.status(), 400);
}

#[test]
fn hd07_folded_header_is_refused() {
    for fold in [" y", "\ty", " \r\n", "\tA: b\r\n"] {
        assert_refused(with_lines(&format!("X: a\r\n{fold}\r\n")), Refusal::FoldedHeader);
    }
    assert_refused(replaced("13\r\n\r\n", "13\r\n \r\n\r\n"), Refusal::FoldedHeader);
    assert_eq!(Refusal::FoldedHeader.status(), 400);
}

#[test]
fn hd08_request_without_exactly_one_host_is_refused() {
    assert_refused(replaced("Host: a.example:80\r\n", ""), Refusal::MissingHost);
    assert_refused(with_lines("host: a.example:80\r\n"), Refusal::DuplicateHost);
    for host in ["", "a, b", "a,b", "a b", "a/b", "u@a", "a:b", "[::1", "\u{e9}", "http://a"] {
        assert_refused(replaced("a.example:80", host), Refusal::MalformedHost);
    }
    assert_accepted(&replaced("a.example:80", "[::1]:8080"));
    for refusal in [Refusal::MissingHost, Refusal::DuplicateHost, Refusal::MalformedHost] {
        assert_eq!(refusal.status(), 400);
    }
}

#[test]
fn hd09_absolute_target_replaces_host() {
    let head = replaced("/chat?x=1", "http://b.example/room?y");
    let request = judge(head.as_bytes()).unwrap();
    assert_eq!(
        (request.host(), request.path(), request.query()),
        ("b.example", "/room", Some("y"))
    );
    let head = replaced("/chat?x=1", "ws://b.example");
    assert_eq!(judge(head.as_bytes()).unwrap().path(), "/");
    assert_refused(replaced("/chat?x=1", "http://u@b/"), Refusal::MalformedHost);
    assert_refused(replaced("/chat?x=1", "http:///b"), Refusal::MalformedHost);
    let two_hosts = replaced("/chat?x=1", "http://b/").replace("Host", "Host: c\r\nHost");
    assert_refused(two_hosts, Refusal::DuplicateHost);
}

#[test]
fn hd10_target_is_a_path_of_visible_ascii() {
    for target in
        ["*", "a.example:80", "chat", "ftp://a/", "?x", "/a#b", "/\u{e9}", "\u{e9}", "/\u{7f}é"]
    {
        let refusal = judge(replaced("/chat?x=1", target).as_bytes()).unwrap_err();
        assert_eq!(refusal.status(), 400, "{target}");
    }
    assert_refused(replaced("/chat?x=1", ""), Refusal::MalformedTarget);
    for target in ["/a b", " /a", "/a "] {
        assert_refused(replaced("/chat?x=1", target), Refusal::MalformedRequestLine);
    }
    for target in ["/%00", "/..", "/%2e%2e/a", "/a?|^{}\"", "/%zz", "//"] {
        let head = replaced("/chat?x=1", target);
        assert_eq!(judge(head.as_bytes()).unwrap().target(), target, "kept as it came");
    }
    let head = replaced("/chat?x=1", "/%2e%2e");
    assert_ne!(judge(head.as_bytes()).unwrap().path(), "/..");
}

#[test]
fn hd11_version_is_http_1() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/9.9"] {
        assert_refused(replaced("HTTP/1.1", version), Refusal::UnsupportedHttpVersion);
    }
    assert_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::UnsupportedHttpVersion);
    assert_eq!(Refusal::UnsupportedHttpVersion.status(), 505);
    for version in
        ["http/1.1", "HTTP/1.1x", "HTTP/1", "HTTP/11", "HTTP/1.10", "HTTP/+.1", "HTTQ/1.1", "x"]
    {
        assert_refused(replaced("HTTP/1.1", version), Refusal::MalformedRequestLine);
    }
    assert_refused("GET /\r\n\r\n", Refusal::MalformedRequestLine);
    assert_accepted(&replaced("HTTP/1.1", "HTTP/1.2"));
    assert_accepted(&replaced("HTTP/1.1", "HTTP/1.9"));
}

#[test]
fn hd12_two_empty_lines_before_the_request_are_skipped() {
    assert_accepted(&format!("\r\n{VALID}"));
    assert_accepted(&format!("\r\n\r\n{VALID}"));
    assert_refused(format!("\r\n\r\n\r\n{VALID}"), Refusal::LeadingEmptyLines);
    assert_refused(format!("\r{VALID}"), Refusal::BareCarriageReturn);
    assert_eq!(Refusal::LeadingEmptyLines.status(), 400);
}

#[test]
fn hd13_ambiguous_body_framing_is_refused() {
    let length = "Content-Length: 0\r\n";
    let coding = "Transfer-Encoding: chunked\r\n";
    assert_refused(with_lines(&format!("{length}{coding}")), Refusal::MalformedContentLength);
    assert_refused(with_lines(&length.repeat(2)), Refusal::MalformedContentLength);
    for value in ["", "+5", "5,5", "0,0", "0x5", "18446744073709551616", "-0", "5 5", "\u{665}"] {
        let head = with_lines(&format!("Content-Length: {value}\r\n"));
        assert_refused(&head, Refusal::MalformedContentLength);
        assert_refused(head.replace("GET", "POST"), Refusal::MalformedContentLength);
    }
    assert_refused(with_lines("Content-Length:  5\r\n"), Refusal::UnexpectedBody);
    for value in
        ["", "gzip", "chunked, gzip", "gzip, chunked", "chunked;q=1", "xchunked", "identity"]
    {
        let head = with_lines(&format!("Transfer-Encoding: {value}\r\n"));
        assert_refused(head, Refusal::MalformedTransferEncoding);
    }
    assert_refused(with_lines(&coding.repeat(2)), Refusal::MalformedTransferEncoding);
    let old = with_lines(coding).replace("HTTP/1.1", "HTTP/1.0");
    assert_refused(old, Refusal::MalformedTransferEncoding);
    assert_eq!(Refusal::MalformedContentLength.status(), 400);
    assert_eq!(Refusal::MalformedTransferEncoding.status(), 400);
}

#[test]
fn hd15_non_ascii_bytes_never_fold_into_ascii() {
    // The Kelvin sign and the long s fold to `k` and `s` in Unicode.
    assert_refused(replaced("websocket", "web\u{17f}oc\u{212a}et"), Refusal::NotAnUpgrade);
    assert_refused(with_lines("Sec-WebSocket-Protocol: \u{e9}\r\n"), Refusal::MalformedProtocols);
    assert_refused(
        with_lines("Sec-WebSocket-Extensions: \u{e9}\r\n"),
        Refusal::MalformedExtensions,
    );
    assert_refused(replaced("13", "13\u{e9}"), Refusal::UnsupportedVersion);
    assert_refused(replaced("dGhl", "dGh\u{e9}"), Refusal::MalformedKey);
    let head = with_lines("Origin: \u{e9}\r\n");
    assert_eq!(judge(head.as_bytes()).unwrap().origin(), Some("\u{e9}".as_bytes()));
}

#[test]
fn hd15_random_bytes_in_interpreted_headers_never_panic() {
    let mut random = fastrand::Rng::with_seed(15);
    let names = [
        "Host",
        "Origin",
        "Expect",
        "Upgrade",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "X",
    ];
    let alphabet = b"\x80\xC3\xA9\xFF\",;=\\ \tabc13:[]-chunked";
    for _ in 0..if cfg!(miri) { 20 } else { 20_000 } {
        let mut head = with_lines("_").into_bytes();
        let place = head.iter().position(|&byte| byte == b'_').unwrap();
        let mut line = format!("{}: ", random.choice(names).unwrap()).into_bytes();
        let value_bytes = random.usize(0..20);
        line.extend((0..value_bytes).map(|_| *random.choice(alphabet).unwrap()));
        line.extend_from_slice(b"\r\n");
        head.splice(place..=place, line);
        if let Ok(request) = judge(&head) {
            assert_eq!(request.headers().count(), 6);
            assert!(request.protocols().all(|name| !name.is_empty()));
        }
    }
}

#[test]
fn hd16_names_with_a_meaning_elsewhere_have_none() {
    for name in ["constructor", "__proto__", "toString", "hasOwnProperty", "length", "0", "null"] {
        let head = with_lines(&format!(
            "{name}: x\r\nSec-WebSocket-Extensions: {name}; {name}={name}\r\n\
             Sec-WebSocket-Protocol: {name}\r\n"
        ));
        let request = judge(head.as_bytes()).unwrap();
        assert_eq!(request.header(name), Some(&b"x"[..]));
        assert_eq!(request.select_protocol(&["chat"]), None);
    }
}

#[test]
fn hp03_methods_of_plain_http_are_refused_with_405() {
    for method in ["HEAD", "TRACE", "UNKNOWN", "ABCDEFGHIJKLMNOP"] {
        assert_refused(replaced("GET", method), Refusal::MethodNotAllowed);
    }
    assert_refused("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MethodNotAllowed);
    assert_refused("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", Refusal::MethodNotAllowed);
    assert!(response(Refusal::MethodNotAllowed).ends_with("\r\nContent-Length: 0\r\n\r\n"));
    assert_refused(replaced("GET", "ABCDEFGHIJKLMNOPQ"), Refusal::MethodTooLong);
    assert_refused("A".repeat(17), Refusal::MethodTooLong);
    assert_eq!(Refusal::MethodTooLong.status(), 400);
}

#[test]
fn px01_proxy_header_is_refused() {
    let first = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    assert_refused(format!("{first}{VALID}"), Refusal::MalformedRequestLine);
    assert_refused(format!("{first}\r\n{VALID}"), Refusal::MalformedRequestLine);
    assert_refused("PROXY UNKNOWN\r\n\r\n", Refusal::MalformedRequestLine);
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C";
    assert_refused(binary, Refusal::MalformedRequestLine);
    assert_eq!(Refusal::MalformedRequestLine.status(), 400);
}

#[test]
fn tl01_tls_on_a_plain_port_is_refused_at_its_first_byte() {
    assert_refused([0x16], Refusal::MalformedRequestLine);
    assert_refused([0x16, 3, 1, 2, 0, 1], Refusal::MalformedRequestLine);
}

/// Removes, repeats and exchanges pieces of lines: nothing may panic, and a head that is taken has
/// what a handshake needs.
#[test]
fn mutated_heads_never_panic_and_never_lose_what_is_required() {
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..if cfg!(miri) { 20 } else { 20_000 } {
        let mut head = VALID.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let start = random.usize(0..head.len());
            let end = random.usize(start..(start + 20).min(head.len()));
            let piece = head[start..end].to_vec();
            let to = random.usize(0..head.len());
            match random.u8(0..3) {
                0 => drop(head.drain(start..end)),
                1 => drop(head.splice(to..to, piece)),
                _ => head[to] = random.u8(..),
            }
        }
        head.extend_from_slice(b"\r\n\r\n");
        if let Ok(request) = judge(&head) {
            assert!(request.target().len() >= request.path().len() || request.path() == "/");
            let version = request.header("sec-websocket-version");
            assert_eq!(version, Some(&b"13"[..]), "round {round} of seed 3");
            assert_eq!(request.header("sec-websocket-key").map(<[u8]>::len), Some(24));
        }
    }
}
