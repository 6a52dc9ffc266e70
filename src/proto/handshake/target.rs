//! The request target, and the authority it or the `Host` header names.
//!
//! Targets are split, never decoded: `%2e%2e` is not `..`, and a path matches only what it was
//! compared with byte by byte. All parts are borrowed from the target.

use std::net::Ipv6Addr;
use std::str;

use super::Refusal;

const PORT_DIGITS_MAX: usize = 5;

/// A request target in origin form or absolute form (RFC 9112 §3.2), in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Host and port of an absolute form. It replaces the `Host` header.
    pub(super) authority: Option<&'a str>,
    /// Begins with a slash.
    pub(super) path: &'a str,
    /// What follows the first question mark.
    pub(super) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Splits a target. Asterisk form and authority form belong to other methods than GET.
    pub(super) fn parse(target: &'a str) -> Result<Self, Refusal> {
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Self { authority: None, path, query });
        }
        let (scheme, rest) = target.split_once("://").ok_or(Refusal::MalformedTarget)?;
        let known = ["http", "https", "ws", "wss"];
        if !known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(Refusal::MalformedTarget);
        }
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_bytes);
        let authority = authority_of(authority.as_bytes())?;
        let (path, query) = split_query(rest);
        // RFC 9112 §3.2.1: the path of an absolute URI without one is the root.
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority: Some(authority), path, query })
    }
}

/// The target as text, if it has only bytes a target may have.
///
/// Every visible ASCII character but the mark of a fragment is let through: browsers send some
/// that RFC 3986 would have encoded, such as `|`, and nothing is ever decoded here.
pub(super) fn target_text(bytes: &[u8]) -> Result<&str, Refusal> {
    let visible = bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    if bytes.is_empty() || !visible {
        return Err(Refusal::MalformedTarget);
    }
    str::from_utf8(bytes).map_err(|_| Refusal::MalformedTarget)
}

/// `host [":" port]` as text, if it is one (RFC 3986 §3.2.2, without user information).
pub(super) fn authority_of(bytes: &[u8]) -> Result<&str, Refusal> {
    let text = str::from_utf8(bytes).map_err(|_| Refusal::MalformedHost)?;
    let (host_is_valid, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']').ok_or(Refusal::MalformedHost)?;
            (address.parse::<Ipv6Addr>().is_ok(), rest)
        }
        None => {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (!host.is_empty() && host.bytes().all(is_host_byte), rest)
        }
    };
    if !host_is_valid || !is_port_suffix(rest) {
        return Err(Refusal::MalformedHost);
    }
    Ok(text)
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Nothing, or a colon and a port. RFC 3986 §3.2.3 allows the port to be empty.
fn is_port_suffix(suffix: &str) -> bool {
    if suffix.is_empty() {
        return true;
    }
    let Some(port) = suffix.strip_prefix(':') else { return false };
    let digits = port.len() <= PORT_DIGITS_MAX && port.bytes().all(|byte| byte.is_ascii_digit());
    digits && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Bytes of a registered name, with the comma left out: it would make the header a list.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_split_and_never_decoded() {
        for (target, authority, path, query) in [
            ("/", None, "/", None),
            ("/a/../b%2e%2e%00", None, "/a/../b%2e%2e%00", None),
            ("/a?b?c=%20", None, "/a", Some("b?c=%20")),
            ("/a?", None, "/a", Some("")),
            ("//b", None, "//b", None),
            ("/http://x", None, "/http://x", None),
            ("http://a.example:80/b?c", Some("a.example:80"), "/b", Some("c")),
            ("WSS://[::1]", Some("[::1]"), "/", None),
            ("ws://a?b", Some("a"), "/", Some("b")),
        ] {
            assert_eq!(Target::parse(target), Ok(Target { authority, path, query }), "{target}");
        }
    }

    #[test]
    fn hd08_authority_is_one_host_with_an_optional_port() {
        for good in ["a", "a.example", "A:80", "a:", "127.0.0.1:65535", "[::1]:80", "[fe80::1]"] {
            assert_eq!(authority_of(good.as_bytes()), Ok(good));
        }
        for bad in [
            "",
            ":80",
            "a,b",
            "a, b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "a:b",
            "a:65536",
            "a:000080",
            "a:8:0",
            "[::1",
            "[::1]x",
            "[]",
            "[fe80::1%25e]",
            "::1",
            "a\\b",
            "a\"",
            "<a>",
            "h\u{e9}",
            "a:-1",
            "a:+1",
        ] {
            assert_eq!(authority_of(bad.as_bytes()), Err(Refusal::MalformedHost), "{bad}");
        }
    }
}
