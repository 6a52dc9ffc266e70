//! Which sites' scripts may open connections (RFC 6455 §10.2).
//!
//! A browser names the site in `Origin`, and no script can change what it names; other clients
//! name none or whatever they like. So this keeps foreign sites from using the cookies of a user,
//! and nothing else: it is no substitute for knowing who the user is.
//!
//! Comparison is exact: scheme, host without regard to case, and port, where 80 for `http` and 443
//! for `https` are the same as none. Nothing matches by its beginning or its end. A host with a
//! final dot is another host, as it is for browsers.

use std::net::Ipv6Addr;
use std::str;

/// Origins in a list, which is walked once for each handshake.
const ORIGIN_COUNT_MAX: usize = 1024;

/// What a browser sends for a page without a site: a sandboxed frame, a local file.
const NULL: &str = "null";

/// The origins that are admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    /// Every site.
    Any,
    /// These sites.
    Listed(OriginList),
}

/// A list whose entries were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginList {
    sites: Box<[Site]>,
    /// Whether `null` is one of them.
    null: bool,
}

impl Origins {
    /// Only these origins, such as `https://chat.example` or `http://localhost:8080`; `null` is
    /// one only if it is named. With an empty list no browser is admitted.
    ///
    /// The error is a sentence that names the one which is no origin, and says what to write.
    pub(crate) fn listed<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut sites = Vec::new();
        let mut null = false;
        for text in list {
            match text.trim() {
                NULL => null = true,
                text => sites.push(Site::from_setting(text)?),
            }
        }
        if sites.len() > ORIGIN_COUNT_MAX {
            return Err(format!(
                "{} origins are too many: list at most {ORIGIN_COUNT_MAX}",
                sites.len()
            ));
        }
        Ok(Self::Listed(OriginList { sites: sites.into(), null }))
    }

    /// Whether a request with this `Origin` is admitted. One without is no browser's, and is
    /// admitted unless an origin is required.
    pub(crate) fn admits(&self, origin: Option<&[u8]>, require_origin: bool) -> bool {
        match (self, origin) {
            (_, None) => !require_origin,
            (Self::Any, Some(_)) => true,
            (Self::Listed(list), Some(origin)) => list.contains(origin),
        }
    }
}

impl OriginList {
    fn contains(&self, origin: &[u8]) -> bool {
        let Ok(origin) = str::from_utf8(origin) else { return false };
        if origin == NULL {
            return self.null;
        }
        let Ok(parts) = Parts::of(origin) else { return false };
        self.sites.iter().any(|site| site.is(&parts))
    }
}

/// One entry of a list, in lower case, without the port its scheme has anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
}

impl Site {
    fn from_setting(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        match Parts::of(&text) {
            Ok(Parts { scheme, host, port }) => {
                Ok(Self { scheme: scheme.into(), host: host.into(), port })
            }
            Err(fault) => Err(fault.advice(&text)),
        }
    }

    /// The scheme is compared as it stands: a browser sends it in lower case.
    fn is(&self, parts: &Parts<'_>) -> bool {
        *self.scheme == *parts.scheme
            && self.host.eq_ignore_ascii_case(parts.host)
            && self.port == parts.port
    }
}

/// An origin, taken apart.
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    /// None if it is what the scheme has anyway.
    port: Option<u16>,
}

/// Why a text is no origin.
enum Fault {
    Scheme,
    Wildcard,
    Rest,
    Host,
    Port,
}

impl<'a> Parts<'a> {
    /// `scheme "://" host [ ":" port ]`, as RFC 6454 §6.2 writes it.
    fn of(text: &'a str) -> Result<Self, Fault> {
        if text.contains('*') {
            return Err(Fault::Wildcard);
        }
        let (scheme, authority) = text.split_once("://").ok_or(Fault::Scheme)?;
        if !is_scheme(scheme) {
            return Err(Fault::Scheme);
        }
        if authority.contains(['/', '?', '#']) {
            return Err(Fault::Rest);
        }
        let host_bytes = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.find(']').ok_or(Fault::Host)? + "[]".len(),
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_bytes);
        if !is_host(host) {
            return Err(Fault::Host);
        }
        let port = match port.strip_prefix(':') {
            Some(port) => parse_port(port).ok_or(Fault::Port)?,
            None if port.is_empty() => return Ok(Self { scheme, host, port: None }),
            None => return Err(Fault::Host),
        };
        let is_default = matches!((scheme, port), ("http", 80) | ("https", 443));
        Ok(Self { scheme, host, port: Some(port).filter(|_| !is_default) })
    }
}

impl Fault {
    /// One line for whoever wrote `text` into a list.
    fn advice(self, text: &str) -> String {
        let advice = match self {
            Self::Scheme => "begin with the scheme, as in https://chat.example",
            Self::Wildcard if text == "*" => {
                "a list names each origin; to admit every site, set allow_any_origin instead"
            }
            Self::Wildcard => "a list has no wildcards; name each origin, as in https://a.example",
            Self::Rest => {
                "end after the host or its port, without a slash or a path, as in \
                 https://chat.example"
            }
            Self::Host => {
                "write one host name or address, as in https://chat.example or http://[::1]:8080 \
                 (names beyond ASCII in their xn-- form)"
            }
            Self::Port => "write a port from 1 to 65535 without leading zeros, or none",
        };
        format!("`{}` is not an origin: {advice}", text.escape_debug())
    }
}

/// RFC 3986 §3.1, in lower case.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte)
        })
}

/// A name of letters, digits, `-`, `_` and `.`, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(bracketed) = text.strip_prefix('[') {
        return bracketed.strip_suffix(']').is_some_and(|addr| addr.parse::<Ipv6Addr>().is_ok());
    }
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// A port as it is serialised: no sign, no leading zero.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(list: &[&str], origin: &str) -> bool {
        let origins = Origins::listed(list.iter().copied()).unwrap();
        let admitted = origins.admits(Some(origin.as_bytes()), false);
        assert_eq!(admitted, origins.admits(Some(origin.as_bytes()), true), "{origin}");
        admitted
    }

    #[test]
    fn hs12_only_listed_origins_are_admitted() {
        let list = [
            "https://good.example",
            "http://good.example:8080",
            "HTTPS://Upper.Example:443",
            "http://plain.example:80",
            "http://[::1]:3000",
            "https://dotted.example.",
            "chrome-extension://abcdefgh",
        ];
        for (origin, admitted) in [
            ("https://good.example", true),
            ("https://good.example:443", true),
            ("https://GOOD.example", true),
            ("https://Good.Example:443", true),
            ("http://good.example:8080", true),
            ("https://upper.example", true),
            ("http://plain.example", true),
            ("http://plain.example:80", true),
            ("http://[::1]:3000", true),
            ("https://dotted.example.", true),
            ("chrome-extension://abcdefgh", true),
            // Another host that looks like it.
            ("https://good.example.evil", false),
            ("https://good.example.evil.com", false),
            ("https://evilgood.example", false),
            ("https://evil.good.example", false),
            ("https://good.exampl", false),
            ("https://good.example.", false),
            ("https://dotted.example", false),
            ("https://good\u{2024}example", false),
            ("https://g\u{43e}od.example", false),
            ("https://[::2]:3000", false),
            // Another scheme.
            ("http://good.example", false),
            ("http://good.example:443", false),
            ("HTTPS://good.example", false),
            ("wss://good.example", false),
            ("good.example", false),
            ("//good.example", false),
            ("https:good.example", false),
            // Another port.
            ("https://good.example:444", false),
            ("https://good.example:80", false),
            ("https://good.example:8080", false),
            ("http://good.example:80800", false),
            ("https://plain.example:80", false),
            ("https://good.example:", false),
            ("https://good.example:0443", false),
            ("https://good.example:+443", false),
            ("chrome-extension://abcdefgh:443", false),
            // No origin, or more than one.
            ("null", false),
            ("", false),
            ("https://good.example/", false),
            ("https://good.example/path", false),
            ("https://good.example?", false),
            ("https://good.example#", false),
            ("https://good.example, https://good.example", false),
            ("https://evil.example https://good.example", false),
            ("https://good.example@evil.example", false),
            ("https://evil.example@good.example", false),
            ("https://evil.example\\good.example", false),
            ("https://", false),
            ("https://*", false),
            ("*", false),
        ] {
            assert_eq!(admits(&list, origin), admitted, "{origin}");
        }
    }

    #[test]
    fn hs12_null_is_admitted_only_if_listed() {
        assert!(admits(&["null"], "null"));
        assert!(admits(&["https://good.example", "null"], "null"));
        assert!(!admits(&["https://good.example"], "null"));
        assert!(!admits(&["null"], "NULL"));
        assert!(!admits(&["null"], "https://null"));
    }

    #[test]
    fn hs12_empty_list_admits_no_origin_and_any_admits_all() {
        for origin in ["https://good.example", "null", "", "*"] {
            assert!(!admits(&[], origin), "{origin}");
            assert!(Origins::Any.admits(Some(origin.as_bytes()), true), "{origin}");
        }
    }

    #[test]
    fn hs12_bytes_that_are_no_text_are_no_origin() {
        let origins = Origins::listed(["https://good.example"]).unwrap();
        for origin in [&b"https://good.example\xFF"[..], b"\xFFhttps://good.example", b"\xC0"] {
            assert!(!origins.admits(Some(origin), false), "{}", origin.escape_ascii());
        }
    }

    #[test]
    fn hs13_missing_origin_is_admitted_unless_it_is_required() {
        let listed = Origins::listed(["https://good.example"]).unwrap();
        for origins in [listed, Origins::listed([]).unwrap(), Origins::Any] {
            assert!(origins.admits(None, false), "{origins:?}");
            assert!(!origins.admits(None, true), "{origins:?}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_in_one_line_that_says_what_to_write() {
        for (text, advice) in [
            ("good.example", "begin with the scheme"),
            ("", "begin with the scheme"),
            ("://good.example", "begin with the scheme"),
            ("4https://good.example", "begin with the scheme"),
            ("https:/good.example", "begin with the scheme"),
            ("https://good.example/", "without a slash or a path"),
            ("https://good.example/chat", "without a slash or a path"),
            ("https://good.example?a", "without a slash or a path"),
            ("https://good.example#a", "without a slash or a path"),
            ("*", "allow_any_origin"),
            ("https://*.good.example", "no wildcards"),
            ("https://*", "no wildcards"),
            ("https://", "one host name"),
            ("https://:443", "one host name"),
            ("https://user@good.example", "one host name"),
            ("https://good.example, https://b.example", "without a slash"),
            ("https://g\u{f6}od.example", "xn--"),
            ("https://[::1", "one host name"),
            ("https://[::g]", "one host name"),
            ("https://[::1]x", "one host name"),
            ("https://::1", "one host name"),
            ("https://good.example:0", "a port from 1"),
            ("https://good.example:65536", "a port from 1"),
            ("https://good.example:0443", "a port from 1"),
            ("https://good.example:", "a port from 1"),
            ("https://good.example:http", "a port from 1"),
            ("https://\u{212a}elvin.example", "xn--"),
            ("https://a\nb\u{1b}[31m", "one host name"),
        ] {
            let error = Origins::listed([text]).unwrap_err();
            assert!(error.contains(advice), "{text:?}: {error}");
            assert!(!error.contains(['\n', '\u{1b}']), "{error:?}");
        }
        let error = Origins::listed(vec!["https://good.example"; 1025]).unwrap_err();
        assert!(error.contains("at most 1024"), "{error}");
    }
}
