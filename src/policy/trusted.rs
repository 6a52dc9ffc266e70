//! Which peers are proxies whose word about a client's address is believed.
//!
//! The word itself is read elsewhere: a PROXY header by `proto::proxy_header`, HTTP headers by
//! `proto::handshake::forwarded`. IPv4 addresses in IPv6 form are the IPv4 addresses, in the list
//! as in the question, because a socket that takes both families shows them so.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Networks in a list: it is walked for each entry of a header. The longest lists of large content
/// networks have some hundred.
const NETWORK_COUNT_MAX: usize = 1024;

/// Bits of an IPv4 address in IPv6 form that all of these addresses share.
const MAPPED_PREFIX_BITS: u8 = 96;

/// Networks of trusted proxies; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies {
    networks: Box<[IpNet]>,
}

impl TrustedProxies {
    /// Reads addresses and networks, such as `10.0.0.0/8`, `192.0.2.7` and `2001:db8::/32`.
    ///
    /// The error is a sentence that names the one which is neither, and says what to write.
    pub(crate) fn parse<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let networks = list.into_iter().map(parse_network).collect::<Result<Box<_>, _>>()?;
        if networks.len() > NETWORK_COUNT_MAX {
            return Err(format!(
                "{} trusted proxies are too many: write at most {NETWORK_COUNT_MAX}, \
                 joined to larger networks",
                networks.len()
            ));
        }
        Ok(Self { networks })
    }

    /// Whether this peer is a trusted proxy.
    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.networks.iter().any(|network| network.contains(&addr))
    }

    /// Whether nobody is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let malformed = || {
        format!(
            "`{}` is not a trusted proxy: write an address or a network, such as 192.0.2.7, \
             10.0.0.0/8 or 2001:db8::/32",
            text.escape_debug()
        )
    };
    let network = match text.parse::<IpAddr>() {
        Ok(addr) => IpNet::from(addr),
        Err(_) => text.parse::<IpNet>().map_err(|_| malformed())?,
    };
    // A slip of the prefix would trust more, or others, than was meant.
    if network.trunc() != network {
        return Err(format!(
            "`{text}` names one address of a network: write {} for the network, or {} for the \
             address",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(canonical(network))
}

/// The IPv4 network that an IPv6 network stands for, if it holds nothing else.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let (Some(addr), Some(bits)) =
        (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(MAPPED_PREFIX_BITS))
    else {
        return network;
    };
    Ipv4Net::new(addr, bits).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(list: &[&str]) -> TrustedProxies {
        TrustedProxies::parse(list.iter().copied()).unwrap()
    }

    #[test]
    fn px02_peer_is_trusted_if_a_network_holds_it() {
        let proxies = trusted(&["10.0.0.0/8", " 192.0.2.7", "2001:db8::/32", "::1"]);
        for addr in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1",
            "::ffff:10.1.2.3",
            "::ffff:192.0.2.7",
        ] {
            assert!(proxies.contains(addr.parse().unwrap()), "{addr}");
        }
        for addr in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "192.0.2.8",
            "2001:db7:ffff::",
            "2001:db9::",
            "::2",
            "::10.1.2.3",
            "::ffff:11.0.0.0",
            "64:ff9b::10.1.2.3",
        ] {
            assert!(!proxies.contains(addr.parse().unwrap()), "{addr}");
        }
    }

    #[test]
    fn px02_nobody_is_trusted_by_default() {
        let nobody = TrustedProxies::default();
        assert!(nobody.is_empty());
        for addr in ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(!nobody.contains(addr.parse().unwrap()), "{addr}");
        }
        assert!(!trusted(&["::1"]).is_empty());
    }

    #[test]
    fn network_of_mapped_addresses_is_the_ipv4_network() {
        assert_eq!(trusted(&["::ffff:10.0.0.0/104"]), trusted(&["10.0.0.0/8"]));
        assert_eq!(trusted(&["::ffff:192.0.2.7"]), trusted(&["192.0.2.7/32"]));
        assert!(trusted(&["0.0.0.0/0"]).contains("::ffff:192.0.2.7".parse().unwrap()));
        assert!(!trusted(&["0.0.0.0/0"]).contains("2001:db8::1".parse().unwrap()));
        assert!(!trusted(&["::/0"]).contains("::ffff:192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused_in_one_line_that_says_what_to_write() {
        for (text, hint) in [
            ("", "10.0.0.0/8"),
            ("proxy.example", "10.0.0.0/8"),
            ("10.0.0.0/33", "10.0.0.0/8"),
            ("10.0.0.0/", "10.0.0.0/8"),
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("10.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1:80", "10.0.0.0/8"),
            ("10.0.0.0/8,192.0.2.7", "10.0.0.0/8"),
            ("2001:db8::/129", "2001:db8::/32"),
            ("[::1]", "2001:db8::/32"),
            ("a\nb\u{1b}[31m", "10.0.0.0/8"),
            ("10.1.2.3/8", "write 10.0.0.0/8 for the network, or 10.1.2.3 for the address"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
        ] {
            let error = TrustedProxies::parse([text]).unwrap_err();
            assert!(error.contains(hint), "{error}");
            assert!(error.starts_with('`') && !error.contains(['\n', '\u{1b}']), "{error:?}");
        }
        let error = TrustedProxies::parse(vec!["10.0.0.0/8"; 1025]).unwrap_err();
        assert!(error.contains("at most 1024"), "{error}");
    }
}
