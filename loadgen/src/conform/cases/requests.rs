//! Sections 21, 22 and 24: requests with something wrong; most of them must be refused.

use super::{List, Row};
use crate::conform::frame::{Head, TEXT, write_frame};
use crate::conform::upgrade::{ACCEPT, REFUSE, Rule};

const BAD_REQUEST: Rule = Rule::Refuse { statuses: &[400] };
const KEY: &str = "Sec-WebSocket-Key";
const VERSION: &str = "Sec-WebSocket-Version";

pub(super) fn add(list: &mut List) {
    add_request_line(list);
    add_host(list);
    add_tokens(list);
    add_key(list);
    add_version(list);
    add_lines(list);
    add_bodies(list);
}

/// Adds cases of one group, numbered from 1.
fn group(list: &mut List, group: [u16; 2], cases: &[Row]) {
    for (number, (title, rule, change)) in (1..).zip(cases) {
        list.upgrade(&[group[0], group[1], number], title, *rule, *change);
    }
}

fn add_request_line(list: &mut List) {
    // RFC 6455 §4.2.1: a GET of HTTP/1.1 or higher.
    group(
        list,
        [21, 1],
        &[
            ("POST instead of GET", REFUSE, |request| request.method("POST")),
            ("HEAD instead of GET", REFUSE, |request| request.method("HEAD")),
            ("`get` in lower case, which is another method", REFUSE, |request| {
                request.method("get")
            }),
            ("HTTP/1.0", REFUSE, |request| request.version("HTTP/1.0")),
            ("no HTTP version", REFUSE, |request| request.version("")),
            ("HTTQ/1.1", REFUSE, |request| request.version("HTTQ/1.1")),
            ("no target", REFUSE, |request| request.target("")),
            ("a space in the target", REFUSE, |request| request.target("{} x")),
            ("a fragment in the target", Rule::Open, |request| request.target("{}#top")),
            ("HTTP/1.2", Rule::Open, |request| request.version("HTTP/1.2")),
        ],
    );
}

fn add_host(list: &mut List) {
    // RFC 9112 §3.2: a server MUST respond with 400 to each of these but the last.
    group(
        list,
        [21, 2],
        &[
            ("no Host", BAD_REQUEST, |request| request.without("Host")),
            ("two different Hosts", BAD_REQUEST, |request| request.line("Host: elsewhere.example")),
            ("the same Host twice", BAD_REQUEST, |request| {
                let line = format!("Host: {}", request.host);
                request.line(&line)
            }),
            ("a Host with a space in it", BAD_REQUEST, |request| request.with("Host", "a b")),
            ("a Host with a path", BAD_REQUEST, |request| request.with("Host", "localhost/x")),
            ("an empty Host", Rule::Open, |request| request.with("Host", "")),
        ],
    );
}

fn add_tokens(list: &mut List) {
    // RFC 6455 §4.2.1: the tokens `websocket` and `Upgrade`, as elements and not as parts of words.
    group(
        list,
        [21, 3],
        &[
            ("no Upgrade", Rule::NotAnUpgrade, |request| request.without("Upgrade")),
            ("no Connection", Rule::NotAnUpgrade, |request| request.without("Connection")),
            ("`Upgrade: h2c`", Rule::NotAnUpgrade, |request| request.with("Upgrade", "h2c")),
            ("`Upgrade: websockets`", Rule::NotAnUpgrade, |request| {
                request.with("Upgrade", "websockets")
            }),
            ("`Connection: keep-alive`", Rule::NotAnUpgrade, |request| {
                request.with("Connection", "keep-alive")
            }),
            ("`Connection: no-upgrade`", Rule::NotAnUpgrade, |request| {
                request.with("Connection", "no-upgrade")
            }),
            ("`Connection: upgraded`", Rule::NotAnUpgrade, |request| {
                request.with("Connection", "upgraded")
            }),
            ("neither Upgrade nor Connection", Rule::NotAnUpgrade, |request| {
                request.without("Upgrade").without("Connection")
            }),
        ],
    );
}

fn add_key(list: &mut List) {
    // RFC 6455 §4.2.1 and §11.3.1: once, and 16 bytes in Base64.
    group(
        list,
        [22, 1],
        &[
            ("no Sec-WebSocket-Key", REFUSE, |request| request.without(KEY)),
            ("an empty key", REFUSE, |request| request.with(KEY, "")),
            ("two different keys", REFUSE, |request| {
                request.line("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
            }),
            ("the same key twice", REFUSE, |request| {
                let line = format!("{KEY}: {}", request.key);
                request.line(&line)
            }),
            ("a key of 15 bytes", REFUSE, |request| request.with(KEY, "AAAAAAAAAAAAAAAAAAAA")),
            ("a key of 17 bytes", REFUSE, |request| request.with(KEY, "AAAAAAAAAAAAAAAAAAAAAAA=")),
            ("a key without its padding", REFUSE, |request| {
                request.with(KEY, "AAAAAAAAAAAAAAAAAAAAAA")
            }),
            ("a key with a byte that is not Base64", REFUSE, |request| {
                request.with(KEY, "AAAA!AAAAAAAAAAAAAAAAA==")
            }),
            ("a key in the alphabet for URLs", REFUSE, |request| {
                request.with(KEY, "____________________-A==")
            }),
            ("a key whose last bits are not zero (RFC 4648 3.5)", Rule::Open, |request| {
                request.with_key("AAAAAAAAAAAAAAAAAAAAAB==")
            }),
        ],
    );
}

fn add_version(list: &mut List) {
    // RFC 6455 §4.2.2 and §11.3.5.
    group(
        list,
        [22, 2],
        &[
            ("no Sec-WebSocket-Version", REFUSE, |request| request.without(VERSION)),
            ("version 12", Rule::RefuseVersion, |request| request.with(VERSION, "12")),
            ("version 14", Rule::RefuseVersion, |request| request.with(VERSION, "14")),
            ("version 8, a draft that some speak, too", Rule::Open, |request| {
                request.with(VERSION, "8")
            }),
            ("version 0", Rule::RefuseVersion, |request| request.with(VERSION, "0")),
            ("version 255", Rule::RefuseVersion, |request| request.with(VERSION, "255")),
            ("version 1", Rule::RefuseVersion, |request| request.with(VERSION, "1")),
            ("version 113", Rule::RefuseVersion, |request| request.with(VERSION, "113")),
            ("version `013`", REFUSE, |request| request.with(VERSION, "013")),
            ("version `13x`", REFUSE, |request| request.with(VERSION, "13x")),
            ("versions `13, 8` in one line", REFUSE, |request| request.with(VERSION, "13, 8")),
            ("versions 13 and 8 in two lines", REFUSE, |request| {
                request.line("Sec-WebSocket-Version: 8")
            }),
        ],
    );
}

fn add_lines(list: &mut List) {
    // RFC 9112 §2.2, §5.1 and §5.2, RFC 9110 §5.5.
    group(
        list,
        [24, 1],
        &[
            ("a space between a header's name and its colon", BAD_REQUEST, |request| {
                request.line("X-Spaced : 1")
            }),
            ("a header line without a colon", REFUSE, |request| request.line("nonsense")),
            ("a header without a name", REFUSE, |request| request.line(": nameless")),
            ("a header's name with a bracket in it", REFUSE, |request| request.line("X(y: 1")),
            ("a folded header line", Rule::Open, |request| request.line("X-Folded: a\r\n b")),
            ("a folded line in front of all headers", Rule::Open, |request| {
                request.first_line(" X-Lost: 1")
            }),
            ("lines that end with LF alone", Rule::Open, |request| request.line_end("\n")),
            ("a CR alone in a header value", Rule::Open, |request| request.line("X-Bare: a\rb")),
            ("a zero byte in a header value", Rule::Open, |request| request.line("X-Zero: a\0b")),
            ("bytes above 127 in a header value", Rule::Open, |request| {
                request.line("X-Name: J\u{f6}rg")
            }),
            ("300 headers", Rule::Open, |request| {
                (0..300).fold(request, |request, number| request.line(&format!("X-{number}: 1")))
            }),
            ("a header value of 64 KiB", Rule::Open, |request| {
                request.line(&format!("X-Long: {}", "x".repeat(64 << 10)))
            }),
        ],
    );
}

fn add_bodies(list: &mut List) {
    // RFC 9110 §9.3.1 gives content in a GET no meaning, and RFC 6455 §4.1 lets a client say nothing
    // before the answer; neither says what a server has to do about it.
    group(
        list,
        [24, 2],
        &[
            ("a body of no bytes announced", Rule::Open, |request| {
                request.line("Content-Length: 0")
            }),
            ("a body announced and sent", Rule::Open, |request| {
                request.line("Content-Length: 5").body(b"hello")
            }),
            ("a body in chunks announced and sent", Rule::Open, |request| {
                request.line("Transfer-Encoding: chunked").body(b"0\r\n\r\n")
            }),
            ("two lengths of the body (RFC 9112 6.3)", REFUSE, |request| {
                request.line("Content-Length: 5").line("Content-Length: 6").body(b"hello!")
            }),
            ("a ping right behind the request", Rule::Open, |request| {
                let mut ping = Vec::new();
                write_frame(
                    Head::of(crate::conform::frame::PING),
                    b"early",
                    [1, 2, 3, 4],
                    &mut ping,
                );
                request.body(&ping)
            }),
            ("half a frame of text right behind the request", Rule::Open, |request| {
                let mut bytes = Vec::new();
                write_frame(Head::of(TEXT), b"early", [1, 2, 3, 4], &mut bytes);
                bytes.truncate(4);
                request.body(&bytes)
            }),
            ("a plain request again, after all of these", ACCEPT, |request| request),
        ],
    );
}
