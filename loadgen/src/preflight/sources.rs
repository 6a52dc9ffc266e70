//! Source addresses: where connections come from, so that there are ports for all of them.
//!
//! A connection needs a pair of local address and port that no other connection to the same server
//! has. One address has some 28,000 ports. On IPv4 loopback every address of 127.0.0.0/8 is ours,
//! so addresses are added until there are ports enough; elsewhere `--source` names them.
//! Sockets must be bound with `IP_BIND_ADDRESS_NO_PORT`, or the kernel gives each port only once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// Connections from one address of 127.0.0.0/8. There are plenty of addresses, and the more ports
/// of one are taken, the longer the kernel looks for the next: with 25,000 taken, connecting is
/// some twenty times slower than with 4,000.
const CONNS_PER_LOOPBACK_ADDR: u64 = 4_000;
/// Addresses of 127.0.0.0/8 that may be used: all but the first and the last.
const LOOPBACK_ADDRS_MAX: u64 = (1 << 24) - 2;

/// Spreads connections over source addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceAddrs {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel takes the one address it would take anyway.
    Kernel,
    /// Those of `--source`.
    Listed(Vec<IpAddr>),
    /// So many of 127.0.0.0/8, from 127.0.0.1 on.
    Loopback(u64),
}

/// Why an address of `--source` is of no use: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceError {
    /// IPv4 and IPv6 mixed.
    Family { source: IpAddr, target: IpAddr },
    /// The machine does not have it.
    NotHere(IpAddr),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family { source, target } => write!(
                f,
                "--source {source} cannot reach {target}: one is IPv4, the other IPv6; name \
                 addresses of one kind"
            ),
            Self::NotHere(source) => {
                let bits = if source.is_ipv4() { 32 } else { 128 };
                write!(
                    f,
                    "--source {source} is not an address of this machine; `ip addr` lists them, \
                     `sudo ip addr add {source}/{bits} dev <interface>` adds one"
                )
            }
        }
    }
}

impl std::error::Error for SourceError {}

impl SourceAddrs {
    /// Chooses addresses for `conns` connections to `target`, with `ports` usable local ports each.
    ///
    /// `listed` is `--source`, which always has its way. A tenth of the ports is left alone: the
    /// last ones are slow to find, and closed connections hold theirs for a while.
    pub(crate) fn new(
        target: SocketAddr,
        conns: u64,
        listed: &[IpAddr],
        ports: u64,
    ) -> Result<Self, SourceError> {
        for &source in listed {
            if source.is_ipv4() != target.is_ipv4() {
                return Err(SourceError::Family { source, target: target.ip() });
            }
            // No packet leaves; the kernel only looks whether it has the address.
            if UdpSocket::bind((source, 0)).is_err() {
                return Err(SourceError::NotHere(source));
            }
        }
        let kind = match target.ip() {
            _ if !listed.is_empty() => Kind::Listed(listed.to_vec()),
            IpAddr::V4(ip) if ip.is_loopback() => {
                let per_source = (ports - ports / 10).clamp(1, CONNS_PER_LOOPBACK_ADDR);
                match conns.div_ceil(per_source).min(LOOPBACK_ADDRS_MAX) {
                    // Binding would be a system call for nothing.
                    0 | 1 => Kind::Kernel,
                    count => Kind::Loopback(count),
                }
            }
            _ => Kind::Kernel,
        };
        Ok(Self { kind })
    }

    /// How many addresses there are.
    pub(crate) fn count(&self) -> u64 {
        match &self.kind {
            Kind::Kernel => 1,
            Kind::Listed(listed) => listed.len() as u64,
            Kind::Loopback(count) => *count,
        }
    }

    /// Address for the connection with this index, in turn; `None`: the kernel chooses.
    pub(crate) fn source_of(&self, index: u64) -> Option<IpAddr> {
        let place = index % self.count().max(1);
        match &self.kind {
            Kind::Kernel => None,
            Kind::Listed(listed) => listed.get(usize::try_from(place).ok()?).copied(),
            Kind::Loopback(_) => {
                let offset = u32::try_from(place).ok()?;
                Some(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + offset).into())
            }
        }
    }

    /// Whether the addresses were named by `--source`.
    pub(crate) fn are_listed(&self) -> bool {
        matches!(self.kind, Kind::Listed(_))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const PORTS: u64 = 28_232;

    fn loopback() -> SocketAddr {
        "127.0.0.1:9001".parse().unwrap()
    }

    fn spread(conns: u64) -> SourceAddrs {
        SourceAddrs::new(loopback(), conns, &[], PORTS).unwrap()
    }

    #[test]
    fn few_connections_leave_the_choice_to_the_kernel() {
        for conns in [0, 1, 4_000] {
            assert_eq!(spread(conns).source_of(0), None, "{conns}");
            assert_eq!(spread(conns).count(), 1, "{conns}");
        }
    }

    #[test]
    fn million_connections_are_spread_evenly_with_room_at_each_address() {
        let sources = spread(1_000_000);
        let mut used: HashMap<IpAddr, u64> = HashMap::new();
        for index in 0..1_000_000 {
            *used.entry(sources.source_of(index).unwrap()).or_default() += 1;
        }
        assert_eq!(used.len() as u64, sources.count());
        assert_eq!(sources.count(), 250);
        assert!(used.values().all(|count| *count <= PORTS - PORTS / 10));
        assert_eq!(sources.source_of(0).unwrap().to_string(), "127.0.0.1");
        assert_eq!(sources.source_of(1).unwrap().to_string(), "127.0.0.2");
        assert_eq!(sources.source_of(250), sources.source_of(0));
    }

    #[test]
    fn addresses_go_on_past_the_last_byte_and_stay_loopback() {
        let sources = SourceAddrs::new(loopback(), 70_000, &[], 1).unwrap();
        assert_eq!(sources.source_of(254).unwrap().to_string(), "127.0.0.255");
        assert_eq!(sources.source_of(255).unwrap().to_string(), "127.0.1.0");
        let most = SourceAddrs::new(loopback(), u64::MAX, &[], 0).unwrap();
        assert_eq!(most.source_of(most.count() - 1).unwrap().to_string(), "127.255.255.254");
    }

    #[test]
    fn spread_addresses_can_really_be_bound_here() {
        let sources = spread(1_000_000);
        for index in 0..sources.count() {
            UdpSocket::bind((sources.source_of(index).unwrap(), 0)).unwrap();
        }
    }

    #[test]
    fn remote_and_ipv6_targets_are_not_spread() {
        for target in ["192.0.2.1:80", "[::1]:80", "[2001:db8::1]:80"] {
            let target = target.parse().unwrap();
            let sources = SourceAddrs::new(target, 1_000_000, &[], PORTS).unwrap();
            assert_eq!((sources.count(), sources.source_of(7)), (1, None), "{target}");
        }
    }

    #[test]
    fn listed_addresses_are_taken_in_turn() {
        let listed = ["127.0.0.9", "127.0.0.7"].map(|text| text.parse().unwrap());
        let sources = SourceAddrs::new(loopback(), 1_000_000, &listed, PORTS).unwrap();
        assert!(sources.are_listed());
        let taken: Vec<_> = (0..3).filter_map(|index| sources.source_of(index)).collect();
        assert_eq!(taken, [listed[0], listed[1], listed[0]]);
    }

    #[test]
    fn listed_address_that_is_not_ours_or_of_the_wrong_kind_is_refused() {
        let foreign: IpAddr = "192.0.2.77".parse().unwrap();
        let error = SourceAddrs::new(loopback(), 1, &[foreign], PORTS).unwrap_err();
        assert_eq!(error, SourceError::NotHere(foreign));
        assert!(error.to_string().contains("ip addr add 192.0.2.77/32"));
        let six: IpAddr = "::1".parse().unwrap();
        let error = SourceAddrs::new(loopback(), 1, &[six], PORTS).unwrap_err();
        assert!(matches!(error, SourceError::Family { .. }));
        assert!(error.to_string().contains("IPv6"));
    }
}
