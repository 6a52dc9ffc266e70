//! Requests that are good HTTP and no good opening handshake.

use super::*;

#[test]
fn hs01_method_other_than_get_is_refused_with_405() {
    for method in ["POST", "PUT", "DELETE", "get", "GETT", "G", "!#$%&'*+-.^_`|~"] {
        assert_refused(replaced("GET", method), Refusal::MethodNotAllowed);
    }
    let text = response(Refusal::MethodNotAllowed);
    assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert!(text.contains("\r\nAllow: GET\r\n"));
}

#[test]
fn hs02_upgrade_in_http_1_0_is_refused_with_426() {
    assert_refused(replaced("HTTP/1.1", "HTTP/1.0"), Refusal::OutdatedHttpVersion);
    assert_refused("GET / HTTP/1.0\r\n\r\n", Refusal::OutdatedHttpVersion);
    let text = response(Refusal::OutdatedHttpVersion);
    assert!(text.starts_with("HTTP/1.1 426 ") && text.contains("\r\nUpgrade: websocket\r\n"));
}

#[test]
fn hs03_request_that_is_no_upgrade_is_refused_with_426() {
    for (from, to) in [
        ("Upgrade: websocket\r\n", ""),
        ("Connection: keep-alive, Upgrade\r\n", ""),
        ("keep-alive, Upgrade", "keep-alive"),
        ("keep-alive, Upgrade", ""),
        ("keep-alive, Upgrade", "upgrades, x-upgrade, up grade, \"upgrade\""),
        ("websocket", "websockets, h2c, web socket, websocket/13"),
        ("websocket", ""),
    ] {
        assert_refused(replaced(from, to), Refusal::NotAnUpgrade);
    }
    for (from, to) in [
        ("keep-alive, Upgrade", "UPGRADE"),
        ("keep-alive, Upgrade", "a,upgrade,b"),
        ("keep-alive, Upgrade", "a\r\nConnection: b\r\nconnection:\tuPgRaDe\t"),
        ("websocket", "WebSocket"),
        ("websocket", "h2c , WEBSOCKET"),
        ("websocket", "h2c\r\nUpgrade: websocket"),
    ] {
        assert_accepted(&replaced(from, to));
    }
    let text = response(Refusal::NotAnUpgrade);
    assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\nConnection: close, upgrade\r\n"));
    assert!(text.contains("\r\nUpgrade: websocket\r\n"));
}

#[test]
fn hs04_version_other_than_13_is_refused() {
    assert_refused(replaced("Sec-WebSocket-Version: 13\r\n", ""), Refusal::MissingVersion);
    for version in ["7", "8", "0", "14", "013", "255", "13, 8", "", "13.0", "+13", "\"13\""] {
        assert_refused(replaced("13", version), Refusal::UnsupportedVersion);
    }
    assert_eq!(Refusal::MissingVersion.status(), 400);
    assert_eq!(Refusal::UnsupportedVersion.status(), 426);
    for refusal in [Refusal::MissingVersion, Refusal::UnsupportedVersion] {
        assert!(response(refusal).contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }
    assert!(response(Refusal::UnsupportedVersion).contains("\r\nUpgrade: websocket\r\n"));
}

#[test]
fn hs05_duplicate_version_is_refused() {
    assert_refused(with_lines("Sec-WebSocket-Version: 13\r\n"), Refusal::DuplicateVersion);
    assert_refused(with_lines("sec-websocket-version: 8\r\n"), Refusal::DuplicateVersion);
    assert_eq!(Refusal::DuplicateVersion.status(), 400);
}

#[test]
fn hs06_key_is_16_bytes_in_canonical_base64() {
    assert_refused(replaced(KEY, ""), Refusal::MissingKey);
    // Miri has time for the lengths next to the right one, and none and many.
    let near = |length: &usize| !cfg!(miri) || [0, 22, 23, 25, 64].contains(length);
    for length in (0..=64).filter(|length| *length != 24).filter(near) {
        let padded = format!("{}==", "A".repeat(length));
        for key in ["A".repeat(length), padded[padded.len() - length..].to_owned()] {
            assert_refused(replaced("dGhlIHNhbXBsZSBub25jZQ==", &key), Refusal::MalformedKey);
        }
    }
    for key in [
        "dGhlIHNhbXBsZSBub25jZQAA",
        "dGhlIHNhbXBsZSBub25jZQA=",
        "dGhlIHNhbXBsZSBub25jZR==",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZSB-b25jZQ==",
        "dGhlIHNhbXBs ZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ=A",
        "========================",
    ] {
        assert_eq!(key.len(), 24);
        assert_refused(replaced("dGhlIHNhbXBsZSBub25jZQ==", key), Refusal::MalformedKey);
    }
    // Miri has time for those that are taken, and what is beside them.
    let near = |last: &u8| !cfg!(miri) || b"!/0AQghwxz~".contains(last);
    for last in (b'!'..=b'~').filter(near) {
        let key = format!("AAAAAAAAAAAAAAAAAAAAA{}==", char::from(last));
        let taken = judge(replaced("dGhlIHNhbXBsZSBub25jZQ==", &key).as_bytes()).is_ok();
        assert_eq!(taken, b"AQgw".contains(&last), "{key}");
    }
    assert_eq!(Refusal::MissingKey.status(), 400);
    assert_eq!(Refusal::MalformedKey.status(), 400);
}

#[test]
fn hs07_duplicate_key_is_refused() {
    assert_refused(with_lines(KEY), Refusal::DuplicateKey);
    assert_refused(with_lines(&KEY.to_lowercase()), Refusal::DuplicateKey);
    assert_eq!(Refusal::DuplicateKey.status(), 400);
}

#[test]
fn hs08_upgrade_with_a_body_is_refused() {
    assert_refused(with_lines("Content-Length: 5\r\n"), Refusal::UnexpectedBody);
    assert_refused(with_lines("Content-Length: 18446744073709551615\r\n"), Refusal::UnexpectedBody);
    assert_refused(with_lines("Transfer-Encoding: chunked\r\n"), Refusal::UnexpectedBody);
    assert_refused(with_lines("Transfer-Encoding: CHUNKED\r\n"), Refusal::UnexpectedBody);
    assert_accepted(&with_lines("Content-Length: 0\r\n"));
    assert_eq!(Refusal::UnexpectedBody.status(), 400);
}

#[test]
fn hs09_bytes_behind_the_head_are_left_for_the_caller_to_refuse() {
    let limits = HeadLimits::default();
    for early in [VALID, "\u{1}", "\r\n"] {
        let bytes = format!("{VALID}{early}");
        let head_bytes = HeadScanner::default().scan(bytes.as_bytes(), &limits);
        assert_eq!(head_bytes, Ok(Some(VALID.len())));
    }
    assert!(response(Refusal::EarlyBytes).starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn hs10_refusal_announces_the_end_of_the_connection() {
    for refusal in [Refusal::NotAnUpgrade, Refusal::MissingKey, Refusal::EarlyBytes] {
        let text = response(refusal);
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1);
        assert!(text.contains("\r\nConnection: close"));
    }
}

#[test]
fn hs11_expectation_is_refused_with_417() {
    assert_refused(with_lines("Expect: 100-continue\r\n"), Refusal::UnexpectedExpect);
    let head = with_lines("expect: 100-Continue\r\nContent-Length: 5\r\n");
    assert_refused(head, Refusal::UnexpectedExpect);
    assert!(response(Refusal::UnexpectedExpect).starts_with("HTTP/1.1 417 Expectation Failed\r\n"));
}

#[test]
fn hs12_second_origin_is_refused_with_403() {
    assert_refused(
        with_lines("Origin: http://a\r\norigin: http://a\r\n"),
        Refusal::DuplicateOrigin,
    );
    assert_eq!(Refusal::DuplicateOrigin.status(), 403);
}

#[test]
fn hs14_offered_protocols_are_distinct_tokens() {
    let offer = |value: &str| with_lines(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
    for value in ["", ",", "a,,b", "a b", "a,", "a;b", "\"a\"", "a/b", "\u{e9}", "a,(b)"] {
        assert_refused(offer(value), Refusal::MalformedProtocols);
    }
    for value in ["a, a", "a,b,c,b", "a\r\nSec-WebSocket-Protocol: a"] {
        assert_refused(offer(value), Refusal::DuplicateProtocol);
    }
    let head = offer("chat, Chat\r\nsec-websocket-protocol:v2.x,\tv1");
    let request = judge(head.as_bytes()).unwrap();
    assert!(request.protocols().eq(["chat", "Chat", "v2.x", "v1"]));
    assert_eq!(request.select_protocol(&["V1", "v1", "chat"]), Some("v1"), "the server's first");
    assert_eq!(request.select_protocol(&["CHAT", "x"]), None);
    assert_eq!(Refusal::MalformedProtocols.status(), 400);
    assert_eq!(Refusal::DuplicateProtocol.status(), 400);
}

#[test]
fn hs14_offered_protocols_are_bounded() {
    let names = |count: usize| (0..count).map(|i| format!("p{i}")).collect::<Vec<_>>().join(",");
    let offer = |value: &str| with_lines(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
    assert_accepted(&offer(&names(32)));
    assert_refused(offer(&names(33)), Refusal::TooManyProtocols);
    assert_refused(offer(&names(if cfg!(miri) { 100 } else { 1500 })), Refusal::TooManyProtocols);
    assert_accepted(&offer(&"p".repeat(1024)));
    assert_refused(offer(&"p".repeat(1025)), Refusal::TooManyProtocols);
    assert_eq!(Refusal::TooManyProtocols.status(), 400);
}

#[test]
fn hs15_malformed_extensions_are_refused() {
    let offer = |value: &str| with_lines(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
    for value in ["", ",", "a;", "a;b=", "a b", "a;b=\"c", "a;b=\"\"", "=", "a;b==c", "\u{e9}"] {
        assert_refused(offer(value), Refusal::MalformedExtensions);
    }
    assert_refused(offer("a\r\nSec-WebSocket-Extensions: ;"), Refusal::MalformedExtensions);
    let head = offer("x-unknown; y=\"z\", permessage-deflate; constructor");
    let request = judge(head.as_bytes()).unwrap();
    assert_eq!(
        request.extensions_header().count(),
        1,
        "unknown ones are for the answer to decline"
    );
    assert_eq!(Refusal::MalformedExtensions.status(), 400);
}

#[test]
fn hs16_deflate_offers_nobody_can_take_are_no_syntax_errors() {
    for parameters in [
        "client_max_window_bits; client_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=\"10\"",
        "server_max_window_bits=8",
        "server_max_window_bits",
    ] {
        let value = format!("permessage-deflate; {parameters}");
        let head = with_lines(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
        assert!(judge(head.as_bytes()).unwrap().extensions_header().eq([value.as_str()]));
    }
    let head = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=\r\n";
    assert_refused(with_lines(head), Refusal::MalformedExtensions);
}

#[test]
fn hs18_headers_without_a_meaning_here_are_ignored() {
    let lines = "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Foo: y\r\nSec-WebSocket-Key1: z\r\n";
    assert_accepted(&with_lines(lines));
    let listed = "Upgrade, Sec-WebSocket-Key, Origin, Host, Sec-WebSocket-Version";
    let head =
        replaced("keep-alive, Upgrade", listed).replace("Host:", "Origin: http://o\r\nHost:");
    let request = judge(head.as_bytes()).unwrap();
    assert_eq!(request.origin(), Some(&b"http://o"[..]));
    assert!(request.header("Sec-WebSocket-Key").is_some());
}
