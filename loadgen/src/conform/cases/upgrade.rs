//! Section 20: requests that are valid, in every form HTTP allows; the server must accept them.

use super::List;
use crate::conform::request::Request;
use crate::conform::upgrade::{ACCEPT, Rule};

pub(super) fn add(list: &mut List) {
    let mut number = 0;
    let mut add = |title: &str, rule, change: fn(Request) -> Request| {
        number += 1;
        list.upgrade(&[20, 1, number], title, rule, change);
    };
    add("the request that RFC 6455 asks for", ACCEPT, |request| request);
    add("the key of the example in RFC 6455 1.3", ACCEPT, |request| {
        request.with_key("dGhlIHNhbXBsZSBub25jZQ==")
    });
    add("a key of 16 zero bytes", ACCEPT, |request| request.with_key("AAAAAAAAAAAAAAAAAAAAAA=="));
    add("header names in lower case", ACCEPT, |request| request.names(str::to_lowercase));
    add("header names in upper case", ACCEPT, |request| request.names(str::to_uppercase));
    add("`Upgrade: WebSocket`", ACCEPT, |request| request.with("Upgrade", "WebSocket"));
    add("`Connection: upgrade` in lower case", ACCEPT, |request| {
        request.with("Connection", "upgrade")
    });
    add("`Connection: keep-alive, Upgrade`", ACCEPT, |request| {
        request.with("Connection", "keep-alive, Upgrade")
    });
    add("`keep-alive` and `Upgrade` in two Connection lines", ACCEPT, |request| {
        request.with("Connection", "keep-alive").line("Connection: Upgrade")
    });
    add("an empty element in the Connection list", ACCEPT, |request| {
        request.with("Connection", "keep-alive,, Upgrade,")
    });
    add("spaces and tabs around header values", ACCEPT, |request| {
        request.with("Upgrade", " \twebsocket \t").with("Sec-WebSocket-Version", "\t13  ")
    });
    add("no space behind the colons", ACCEPT, |request| {
        request.without("Connection").line("Connection:Upgrade")
    });
    add("headers that mean nothing to it, one without a value", ACCEPT, |request| {
        request.line("X-Nothing:").line("Accept-Language: de, en;q=0.5").line("DNT: 1")
    });
    add("the target in absolute form (RFC 9112 3.2.2)", ACCEPT, |request| {
        let absolute = format!("http://{}{{}}", request.host);
        request.target(&absolute)
    });
    add("an empty line before the request (RFC 9112 2.2)", Rule::ShouldAccept, |request| {
        request.before("\r\n")
    });
    add("`Upgrade: h2c, websocket` (RFC 9110 7.8)", Rule::Open, |request| {
        request.with("Upgrade", "h2c, websocket")
    });
    add("an Origin of another site", Rule::Open, |request| {
        request.with("Origin", "http://elsewhere.example")
    });
    add("a cookie of 4 KiB", Rule::Open, |request| {
        request.with("Cookie", &format!("a={}", "x".repeat(4094)))
    });
    list.chopped_upgrade(&[20, 2, 1], "the request byte by byte", 1);
    list.chopped_upgrade(&[20, 2, 2], "the request in pieces of 7 bytes", 7);
}
