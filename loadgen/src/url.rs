//! The URL of the server: from `ws://host:port/path?query` to addresses and a request target.
//!
//! Parsing is pure and asks nobody; only [`Url::resolve`] goes to the resolver. Nothing is repaired:
//! what would have to be percent-encoded or guessed is refused with the right form.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

const PORT_DEFAULT: u16 = 80;
const TLS_PORT_DEFAULT: u16 = 443;

/// Where to connect, and what to ask for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// As it was typed, for reports.
    pub(crate) text: String,
    /// Whether the scheme is `wss`.
    pub(crate) tls: bool,
    /// Value of the `Host` header: with the port unless it is the default, IPv6 in brackets.
    pub(crate) host: String,
    /// Addresses in the resolver's order. Empty until [`Url::resolve`], save for an address literal.
    pub(crate) addrs: Vec<SocketAddr>,
    /// Path and query; begins with a slash.
    pub(crate) path: String,
    /// Host without brackets, as the resolver takes it.
    pub(crate) name: String,
    port: u16,
}

impl Url {
    /// Takes a URL apart.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let fail = |fault| UrlError { text: text.to_owned(), fault };
        let (tls, rest) = after_scheme(text).map_err(fail)?;
        let port_default = if tls { TLS_PORT_DEFAULT } else { PORT_DEFAULT };
        if rest.contains('#') {
            return Err(fail(Fault::Fragment));
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (name, port) = split_authority(authority).map_err(fail)?;
        let port = port.unwrap_or(port_default);
        if target.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(fail(Fault::Target));
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let bare = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        let host = if port == port_default { bare } else { format!("{bare}:{port}") };
        Ok(Self {
            text: text.to_owned(),
            tls,
            host,
            addrs: literal(name, port).into_iter().collect(),
            path: format!("{slash}{target}"),
            name: name.to_owned(),
            port,
        })
    }

    /// Asks the system's resolver for the addresses, unless the URL names one.
    pub(crate) fn resolve(&mut self) -> Result<(), UrlError> {
        if !self.addrs.is_empty() {
            return Ok(());
        }
        let fail = |reason| UrlError {
            text: self.text.clone(),
            fault: Fault::Unresolved { name: self.name.clone(), reason },
        };
        let found = (self.name.as_str(), self.port).to_socket_addrs();
        let found = found.map_err(|error| fail(resolver_words(&error.to_string())))?;
        let mut addrs = Vec::new();
        for addr in found {
            // The resolver answers once for each socket type on some systems.
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        if addrs.is_empty() {
            return Err(fail("it has no address".to_owned()));
        }
        self.addrs = addrs;
        Ok(())
    }
}

/// Why a URL is of no use: one line, with the right form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlError {
    text: String,
    fault: Fault,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// `http://` or `https://`, with the right form.
    Http(String),
    /// Another scheme.
    Scheme(String),
    /// No scheme, with the right form.
    NoScheme(String),
    Fragment,
    UserInfo,
    NoHost,
    Host,
    Brackets,
    Zone,
    Port(String),
    Target,
    Unresolved {
        name: String,
        reason: String,
    },
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match &self.fault {
            Fault::Http(right) => {
                write!(f, "`{text}` is not the URL of a WebSocket; write `{right}`")
            }
            Fault::Scheme(scheme) => {
                write!(
                    f,
                    "`{text}`: the scheme `{scheme}` is not known; use ws://host:port/path or wss://host:port/path"
                )
            }
            Fault::NoScheme(right) => write!(f, "`{text}` has no scheme; write `{right}`"),
            Fault::Fragment => write!(
                f,
                "`{text}` has a fragment, which a WebSocket URL must not have; leave out `#` and \
                 what follows, or write %23 for a `#` that belongs to the path"
            ),
            Fault::UserInfo => write!(
                f,
                "`{text}` has a user name in it, which is not supported; leave out all up to the `@`"
            ),
            Fault::NoHost => write!(f, "`{text}` has no host; use ws://host:port/path"),
            Fault::Host => write!(
                f,
                "`{text}`: the host may hold ASCII letters, digits, `.`, `-` and `_`; write an \
                 international name in its xn-- form"
            ),
            Fault::Brackets => write!(
                f,
                "`{text}`: an IPv6 address stands in brackets, as in ws://[::1]:9001/path"
            ),
            Fault::Zone => write!(
                f,
                "`{text}`: IPv6 addresses with a zone are not supported; use another address of \
                 that host"
            ),
            Fault::Port(port) => {
                write!(f, "`{text}`: `{port}` is not a port; use a number from 1 to 65535")
            }
            Fault::Target => write!(
                f,
                "`{text}`: path and query may hold visible ASCII only; percent-encode the rest \
                 (a space is %20)"
            ),
            Fault::Unresolved { name, reason } => write!(
                f,
                "the address of `{name}` could not be found: {reason}; check the name, or use an \
                 IP address"
            ),
        }
    }
}

impl std::error::Error for UrlError {}

/// Whether it is `wss://`, and what follows the scheme.
fn after_scheme(text: &str) -> Result<(bool, &str), Fault> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(without_slashes(text));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Ok((false, rest)),
        "wss" => Ok((true, rest)),
        "http" => Err(Fault::Http(format!("ws://{rest}"))),
        "https" => Err(Fault::Http(format!("wss://{rest}"))),
        _ if is_scheme(scheme) => Err(Fault::Scheme(scheme.to_owned())),
        // The slashes belong to the query, as in `host/path?next=http://other`.
        _ => Err(Fault::NoScheme(format!("ws://{text}"))),
    }
}

fn without_slashes(text: &str) -> Fault {
    if text.is_empty() {
        return Fault::NoHost;
    }
    let (scheme, bare) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => ("ws", rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => ("wss", rest),
        _ => ("ws", text),
    };
    let bare = bare.trim_start_matches('/');
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Fault::NoScheme(format!("{scheme}://[{bare}]"));
    }
    Fault::NoScheme(format!("{scheme}://{bare}"))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Host (without brackets) and port, if there is one.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), Fault> {
    if authority.contains('@') {
        return Err(Fault::UserInfo);
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (name, after) = rest.split_once(']').ok_or(Fault::Brackets)?;
        if name.contains('%') {
            return Err(Fault::Zone);
        }
        if name.parse::<Ipv6Addr>().is_err() {
            return Err(Fault::Brackets);
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((name, parse_port(port)?)),
            None if after.is_empty() => Ok((name, None)),
            None => Err(Fault::Brackets),
        };
    }
    let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
    if port.contains(':') {
        return Err(Fault::Brackets);
    }
    if name.is_empty() {
        return Err(Fault::NoHost);
    }
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !name.bytes().all(valid) {
        return Err(Fault::Host);
    }
    Ok((name, parse_port(port)?))
}

/// An empty port is the default one (RFC 3986 §3.2.3).
fn parse_port(text: &str) -> Result<Option<u16>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(Some(port)),
        _ => Err(Fault::Port(text.to_owned())),
    }
}

fn literal(name: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Some((ip, port).into());
    }
    name.parse::<Ipv6Addr>().ok().map(|ip| SocketAddrV6::new(ip, port, 0, 0).into())
}

/// The resolver's reason without the part that std puts before it.
fn resolver_words(error: &str) -> String {
    let words = error.rsplit_once("information: ").map_or(error, |(_, words)| words);
    words.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Url::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn url_of_an_ipv4_address_needs_no_resolver() {
        let mut url = Url::parse("ws://127.0.0.1:9001/echo?size=20&x=/y").unwrap();
        assert_eq!(url.host, "127.0.0.1:9001");
        assert_eq!(url.path, "/echo?size=20&x=/y");
        assert_eq!(url.addrs, ["127.0.0.1:9001".parse().unwrap()]);
        url.resolve().unwrap();
        assert_eq!(url.addrs.len(), 1);
        assert_eq!(url.text, "ws://127.0.0.1:9001/echo?size=20&x=/y");
    }

    #[test]
    fn url_of_an_ipv6_address_keeps_its_brackets_in_the_host_header() {
        let url = Url::parse("WS://[::1]:9001").unwrap();
        assert_eq!((url.host.as_str(), url.path.as_str()), ("[::1]:9001", "/"));
        assert_eq!(url.addrs, ["[::1]:9001".parse().unwrap()]);
        assert_eq!(Url::parse("ws://[2001:db8::1]/").unwrap().host, "[2001:db8::1]");
    }

    #[test]
    fn default_port_is_80_and_left_out_of_the_host_header() {
        for text in ["ws://10.0.0.1", "ws://10.0.0.1:80", "ws://10.0.0.1:/"] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.path.as_str()), ("10.0.0.1", "/"), "{text}");
            assert_eq!(url.addrs, ["10.0.0.1:80".parse().unwrap()], "{text}");
        }
    }

    #[test]
    fn query_without_a_path_gets_its_slash() {
        assert_eq!(Url::parse("ws://host?room=1").unwrap().path, "/?room=1");
    }

    #[test]
    fn name_has_addresses_only_after_resolving() {
        let mut url = Url::parse("ws://localhost:9001/").unwrap();
        assert!(url.addrs.is_empty());
        url.resolve().unwrap();
        assert!(url.addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 9001));
        assert!(!url.addrs.is_empty());
    }

    #[test]
    fn unknown_name_gives_one_line_with_the_name() {
        let mut url = Url::parse("ws://no-such-host.invalid:9001/").unwrap();
        let line = url.resolve().unwrap_err().to_string();
        assert!(line.starts_with("the address of `no-such-host.invalid` could not be found: "));
        assert!(!line.contains('\n') && !line.contains("lookup"), "{line}");
    }

    #[test]
    fn url_of_tls_has_its_own_default_port() {
        let url = Url::parse("wss://10.0.0.1/a").unwrap();
        assert!(url.tls && url.host == "10.0.0.1" && url.name == "10.0.0.1");
        assert_eq!(url.addrs, ["10.0.0.1:443".parse().unwrap()]);
        assert_eq!(Url::parse("wss://host:80").unwrap().host, "host:80");
        assert_eq!(Url::parse("ws://host:443").unwrap().host, "host:443");
        assert!(!Url::parse("ws://host").unwrap().tls);
        assert!(Url::parse("https://host").is_err());
    }

    #[test]
    fn other_schemes_are_refused_with_the_right_form() {
        let cases = [
            ("http://host:9001/a", "write `ws://host:9001/a`"),
            ("https://host/a", "write `wss://host/a`"),
            ("ftp://host", "the scheme `ftp` is not known"),
            ("localhost:9001/a", "write `ws://localhost:9001/a`"),
            ("127.0.0.1:9001", "write `ws://127.0.0.1:9001`"),
            ("host/a?next=http://other", "write `ws://host/a?next=http://other`"),
            ("ws:/host", "write `ws://host`"),
            ("wss:host/a", "write `wss://host/a`"),
            ("::1", "write `ws://[::1]`"),
            ("://host", "write `ws://"),
        ];
        for (text, words) in cases {
            assert!(refusal(text).contains(words), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn malformed_urls_are_refused_with_what_is_wrong() {
        let cases = [
            ("", "no host"),
            ("ws://", "no host"),
            ("ws:///path", "no host"),
            ("ws://:9001", "no host"),
            ("ws://host/#top", "fragment"),
            ("ws://host#", "fragment"),
            ("ws://user:secret@host/", "user name"),
            ("ws://::1/", "brackets"),
            ("ws://[::1/", "brackets"),
            ("ws://[::1]9001/", "brackets"),
            ("ws://[host]/", "brackets"),
            ("ws://[fe80::1%25eth0]/", "zone"),
            ("ws://host:0/", "`0` is not a port"),
            ("ws://host:65536/", "`65536` is not a port"),
            ("ws://host:+80/", "`+80` is not a port"),
            ("ws://host:port/", "`port` is not a port"),
            ("ws://h\u{f6}st/", "ASCII"),
            ("ws://ho st/", "ASCII"),
            ("ws://host/a b", "percent-encode"),
            ("ws://host/\u{f6}", "percent-encode"),
            ("ws://host/a\r\nx: y", "percent-encode"),
        ];
        for (text, words) in cases {
            assert!(refusal(text).contains(words), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn longest_and_strangest_texts_never_panic() {
        let mut seed = fastrand::Rng::with_seed(7);
        let alphabet: Vec<char> = "ws:/[]@#?%.1af\u{f6} 9".chars().collect();
        for _ in 0..20_000 {
            let text: String =
                (0..seed.usize(0..24)).map(|_| alphabet[seed.usize(0..17)]).collect();
            for text in [text.clone(), format!("ws://{text}")] {
                if let Ok(url) = Url::parse(&text) {
                    assert!(url.path.starts_with('/') && !url.host.is_empty(), "{text}");
                }
            }
        }
    }
}
