//! The client's address as an HTTP proxy in front of us tells it, in a header.
//!
//! Exactly one header is read, the one that the operator says his proxy writes. Reading whichever
//! is there would let a client choose: a proxy writes one of them and passes the others on as they
//! came. [`ForwardedHeader::XForwardedFor`] is the default because nearly every proxy appends to
//! it, and because its grammar has no quotes: what a client put in front cannot swallow what the
//! proxy wrote behind it, as an open quote in `Forwarded` can.
//!
//! Each proxy appends the address it was reached from, so entries are believed from the right, as
//! far as those who wrote them are trusted: the right-most address that is no trusted proxy is the
//! client. What stands left of it is the client's own text and cannot change the answer, whatever
//! it is. Where the chain cannot be followed, the address of the socket stays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use super::Request;
use super::fields;

/// Entries of a list; one with more was made to be long, and none of it is believed.
const ENTRY_COUNT_MAX: usize = 32;

/// Which header names the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, each appended by the proxy that was reached from it.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the same in its `for` parameters.
    Forwarded,
    /// `X-Real-IP`: one address, written by the proxy in place of what was there.
    XRealIp,
}

impl str::FromStr for ForwardedHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            "x-real-ip" => Ok(Self::XRealIp),
            _ => Err("give x-forwarded-for, forwarded or x-real-ip".to_owned()),
        }
    }
}

impl std::fmt::Display for ForwardedHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::XRealIp => "x-real-ip",
        })
    }
}

impl ForwardedHeader {
    /// The header's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
            Self::XRealIp => "X-Real-IP",
        }
    }

    /// The address of the client that sent `request` over a socket from `peer`, in its canonical
    /// form: `::ffff:192.0.2.1` is 192.0.2.1.
    ///
    /// It is `peer`, unless that is a trusted proxy and the header leads to another address.
    pub(crate) fn client_addr(
        self,
        request: &Request<'_>,
        peer: IpAddr,
        is_trusted: impl Fn(IpAddr) -> bool,
    ) -> IpAddr {
        let peer = peer.to_canonical();
        if !is_trusted(peer) {
            return peer;
        }
        let lines = request
            .headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case(self.name()))
            .map(|(_, value)| value);
        let found = match self {
            Self::XForwardedFor => follow(lines.flat_map(list_entries), is_trusted),
            Self::Forwarded => follow(lines.flat_map(forwarded_entries), is_trusted),
            Self::XRealIp => only_address(lines),
        };
        found.unwrap_or(peer)
    }
}

/// How far the entries seen so far can be followed from their right end.
enum Chain {
    /// There is none.
    Empty,
    /// All are trusted proxies; the first of them is where the request began.
    Trusted(IpAddr),
    /// Right of this client there are only trusted proxies.
    Client(IpAddr),
    /// Right of something that is no address there are only trusted proxies.
    Broken,
}

/// The right-most entry that is not trusted, found in one pass from the left.
fn follow(
    entries: impl Iterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut chain = Chain::Empty;
    for (index, entry) in entries.enumerate() {
        if index == ENTRY_COUNT_MAX {
            return None;
        }
        chain = match (entry, chain) {
            (None, _) => Chain::Broken,
            (Some(address), Chain::Empty) if is_trusted(address) => Chain::Trusted(address),
            (Some(address), chain) if is_trusted(address) => chain,
            (Some(address), _) => Chain::Client(address),
        };
    }
    match chain {
        Chain::Trusted(address) | Chain::Client(address) => Some(address),
        Chain::Empty | Chain::Broken => None,
    }
}

/// The address of the only line, if there is one line and it is an address.
fn only_address<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<IpAddr> {
    match (lines.next(), lines.next()) {
        (Some(line), None) => address_of(line),
        (None | Some(_), _) => None,
    }
}

/// The entries of an `X-Forwarded-For` line. Empty ones are passed over, as in any list.
fn list_entries(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    fields::list_elements(line).filter(|entry| !entry.is_empty()).map(address_of)
}

/// The entries of a `Forwarded` line (RFC 7239 §4).
fn forwarded_entries(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    split_unquoted(line, b',').filter(|entry| !entry.is_empty()).map(forwarded_for)
}

/// The `for` parameter of one element, which may be there once.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut node = fields::Single::Absent;
    for parameter in split_unquoted(element, b';').filter(|parameter| !parameter.is_empty()) {
        let equals = parameter.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        if !fields::is_token(name) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            node.record(value);
        }
    }
    let fields::Single::Present(node) = node else { return None };
    match node {
        // An address needs no escapes; with one inside the quotes it is none.
        [b'"', node @ .., b'"'] => address_of(node),
        // RFC 7239 §6: what has a colon or a bracket has to be quoted.
        _ if fields::is_token(node) => address_of(node),
        _ => None,
    }
}

/// The parts between separators that stand outside quotes, without the blanks around them.
fn split_unquoted(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    let ends_part = move |byte: &u8| {
        if escaped {
            escaped = false;
        } else if quoted && *byte == b'\\' {
            escaped = true;
        } else if *byte == b'"' {
            quoted = !quoted;
        }
        !quoted && *byte == separator
    };
    bytes.split(ends_part).map(fields::trim_blanks)
}

/// An address, which some proxies write with the port of the connection behind it.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    let address: IpAddr = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        address.parse::<Ipv6Addr>().ok()?.into()
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        if !is_port(port) {
            return None;
        }
        address.parse::<Ipv4Addr>().ok()?.into()
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// 10.0.0.0/8 and 2001:db8:f::/48 are the proxies of these tests.
    fn is_trusted(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.segments()[..3] == [0x2001, 0xdb8, 0xf],
        }
    }

    fn client_of(header: ForwardedHeader, peer: &str, lines: &[(&str, &str)]) -> String {
        let mut head = String::from(
            "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        );
        for (name, value) in lines {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        let request = Request::parse(head.as_bytes()).unwrap();
        header.client_addr(&request, peer.parse().unwrap(), is_trusted).to_string()
    }

    /// What the proxy's `X-Forwarded-For` lines lead to.
    fn listed(lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("X-Forwarded-For", *line)).collect();
        client_of(ForwardedHeader::XForwardedFor, PROXY, &lines)
    }

    fn forwarded(line: &str) -> String {
        client_of(ForwardedHeader::Forwarded, PROXY, &[("Forwarded", line)])
    }

    #[test]
    fn px04_headers_of_an_untrusted_peer_are_ignored() {
        let lines = [
            ("X-Forwarded-For", "192.0.2.9"),
            ("Forwarded", "for=192.0.2.9"),
            ("X-Real-IP", "192.0.2.9"),
        ];
        for header in
            [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded, ForwardedHeader::XRealIp]
        {
            for peer in ["203.0.113.5", "2001:db8::5"] {
                assert_eq!(client_of(header, peer, &lines), peer);
            }
            assert_eq!(client_of(header, "::ffff:203.0.113.5", &lines), "203.0.113.5");
            assert_eq!(client_of(header, PROXY, &lines), "192.0.2.9", "{header:?}");
            assert_eq!(client_of(header, "::ffff:10.0.0.1", &lines), "192.0.2.9", "{header:?}");
        }
    }

    #[test]
    fn px04_only_the_chosen_header_is_read() {
        let lines = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("Forwarded", "for=192.0.2.2"),
            ("X-Real-IP", "192.0.2.3"),
        ];
        for (header, client) in [
            (ForwardedHeader::default(), "192.0.2.1"),
            (ForwardedHeader::XForwardedFor, "192.0.2.1"),
            (ForwardedHeader::Forwarded, "192.0.2.2"),
            (ForwardedHeader::XRealIp, "192.0.2.3"),
        ] {
            assert_eq!(client_of(header, PROXY, &lines), client);
            let others: Vec<_> =
                lines.into_iter().filter(|(name, _)| *name != header.name()).collect();
            assert_eq!(client_of(header, PROXY, &others), PROXY, "{header:?}");
        }
    }

    #[test]
    fn px05_rightmost_untrusted_hop_is_the_client() {
        for (lines, client) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
            (&["1.1.1.1, 192.0.2.1, 10.0.0.7"], "192.0.2.1"),
            (&["1.1.1.1,192.0.2.1 ,\t10.0.0.7,10.2.3.4"], "192.0.2.1"),
            (&["10.9.9.9, 192.0.2.1"], "192.0.2.1"),
            (&["10.0.0.9, 192.0.2.1, 10.0.0.7", "10.0.0.8"], "192.0.2.1"),
            (&["1.1.1.1", "192.0.2.1", "10.0.0.8"], "192.0.2.1"),
            (&["192.0.2.1", "", ", ,"], "192.0.2.1"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
            (&["localhost, <script>, 192.0.2.1"], "192.0.2.1"),
            (&["unknown", "192.0.2.1, 10.0.0.3"], "192.0.2.1"),
            (&["2001:db8::9, 2001:db8:f::1"], "2001:db8::9"),
            (&["[2001:db8::9]:443, 10.0.0.2"], "2001:db8::9"),
            (&["[2001:DB8::9]"], "2001:db8::9"),
            (&["192.0.2.1:51234"], "192.0.2.1"),
            (&["::ffff:192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
        ] {
            assert_eq!(listed(lines), client, "{lines:?}");
        }
    }

    #[test]
    fn px05_junk_where_the_client_should_be_leaves_the_socket_address() {
        for line in [
            "",
            ",",
            "unknown",
            "_hidden",
            "192.0.2.1, junk",
            "192.0.2.1, junk, 10.0.0.2",
            "junk, 10.0.0.2",
            "192.0.2.1 192.0.2.2",
            "192.0.2.01",
            "192.0.2",
            "3221225985",
            "192.0.2.1:",
            "192.0.2.1:+80",
            "192.0.2.1:65536",
            "192.0.2.1:80:80",
            "[192.0.2.1]",
            "[2001:db8::9",
            "2001:db8::9]",
            "[2001:db8::9]443",
            "[2001:db8::9]:",
            "fe80::1%eth0",
            "\"192.0.2.1\"",
            "192.0.2.1;",
            "192.0.2.\u{661}",
            "for=192.0.2.1",
        ] {
            assert_eq!(listed(&[line]), PROXY, "{line:?}");
        }
    }

    #[test]
    fn px05_more_than_32_entries_leave_the_socket_address() {
        let many = |count: usize| vec!["192.0.2.1"; count].join(", ");
        assert_eq!(listed(&[&many(32)]), "192.0.2.1");
        assert_eq!(listed(&[&many(33)]), PROXY);
        assert_eq!(listed(&[&many(16), &many(16)]), "192.0.2.1");
        assert_eq!(listed(&[&many(16), &many(17)]), PROXY);
        let elements = vec!["for=192.0.2.1"; 33].join(",");
        assert_eq!(forwarded(&elements), PROXY);
        assert_eq!(forwarded(&elements[14..]), "192.0.2.1");
    }

    #[test]
    fn px05_forwarded_is_read_by_its_grammar() {
        for (line, client) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:4711\"", "192.0.2.1"),
            ("for=\"[2001:db8::9]:4711\"", "2001:db8::9"),
            ("FOR=\"[2001:db8::9]\";proto=https;by=10.0.0.1", "2001:db8::9"),
            ("for=1.1.1.1, for=192.0.2.1;by=10.0.0.3, for=10.0.0.3", "192.0.2.1"),
            ("by=\"a,b;for=1.1.1.1\" ; for=192.0.2.1;", "192.0.2.1"),
            ("by=\"a\\\",for=1.1.1.1\";for=192.0.2.1", "192.0.2.1"),
            ("for=unknown, for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1, for=unknown", PROXY),
            ("for=192.0.2.1, for=_gateway, for=10.0.0.2", PROXY),
            ("for=192.0.2.1, proto=https", PROXY),
            ("for=192.0.2.1;for=192.0.2.2", PROXY),
            ("for=192.0.2.1:4711", PROXY),
            ("for=[2001:db8::9]", PROXY),
            ("for=\"2001:db8::9", PROXY),
            ("for=\", for=192.0.2.1", PROXY),
            ("for=\"192.0.2.\\1\"", PROXY),
            ("for = 192.0.2.1", PROXY),
            ("192.0.2.1", PROXY),
            ("for", PROXY),
            ("=192.0.2.1", PROXY),
            ("for=\"", PROXY),
        ] {
            assert_eq!(forwarded(line), client, "{line}");
        }
    }

    #[test]
    fn px05_real_ip_is_one_line_with_one_address() {
        let name = ForwardedHeader::XRealIp.name();
        let real = |lines: &[(&str, &str)]| client_of(ForwardedHeader::XRealIp, PROXY, lines);
        assert_eq!(real(&[(name, "192.0.2.1")]), "192.0.2.1");
        assert_eq!(real(&[("x-real-ip", "2001:db8::9")]), "2001:db8::9");
        assert_eq!(real(&[(name, "192.0.2.1"), (name, "192.0.2.1")]), PROXY);
        for line in ["", "192.0.2.1, 192.0.2.2", "unknown"] {
            assert_eq!(real(&[(name, line)]), PROXY, "{line}");
        }
    }
}
