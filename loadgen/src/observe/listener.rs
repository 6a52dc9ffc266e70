//! Who listens: whether the socket of the server's address belongs to the processes observed.
//!
//! A listener that is a direct descriptor of io_uring is in no table of descriptors, and one in
//! another network namespace in no list of sockets: the first looks like a stranger's, the second
//! like none, so the answer is good for a remark and not for a refusal.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Whether one of the processes holds a socket that listens on `addr`; `None` if nobody on this
/// machine seems to, or if descriptors cannot be looked at.
pub(super) fn is_among(pids: &[u32], addr: SocketAddr) -> Option<bool> {
    let mut inodes = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        inodes.extend(listening_inodes(&text, addr));
    }
    if inodes.is_empty() {
        return None;
    }
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()? {
            let link = entry.and_then(|entry| fs::read_link(entry.path()));
            let inode = link.ok().and_then(|link| parse_socket_link(link.to_str()?));
            if inode.is_some_and(|inode| inodes.contains(&inode)) {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Inodes of the sockets of `/proc/net/tcp` or `tcp6` that accept connections to `addr`.
fn listening_inodes(text: &str, addr: SocketAddr) -> Vec<u64> {
    let mut inodes = Vec::new();
    for line in text.lines().skip(1) {
        // sl local_address rem_address st tx:rx tr:tm->when retrnsmt uid timeout inode ...
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..] else { continue };
        let (Some(local), Ok(inode)) = (parse_local(local), inode.parse()) else { continue };
        let ip = local.ip().to_canonical();
        if local.port() == addr.port() && (ip.is_unspecified() || ip == addr.ip().to_canonical()) {
            inodes.push(inode);
        }
    }
    inodes
}

/// `0100007F:2329`: each word of the address as a number of this machine, then the port.
fn parse_local(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        IpAddr::from(Ipv4Addr::from(bytes))
    } else {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?))
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// `socket:[12345]`.
fn parse_socket_link(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 126 1 0
   1: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 127 1 0
   2: 0100007F:2329 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 128 1 0
";
    const TCP6: &str = "  sl  local_address remote_address st ...
   0: 00000000000000000000000000000000:2329 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9 1
   1: 00000000000000000000000001000000:2329 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 8 1
";

    fn inodes(text: &str, addr: &str) -> Vec<u64> {
        listening_inodes(text, addr.parse().unwrap())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_sockets_that_listen_on_the_address_count() {
        assert_eq!(inodes(TCP, "127.0.0.1:9001"), [127]);
        assert!(inodes(TCP, "10.0.0.1:9001").is_empty());
        assert_eq!(inodes(TCP, "10.0.0.1:2024"), [126]);
        assert_eq!(inodes(TCP6, "[::1]:9001"), [9, 8]);
        assert_eq!(inodes(TCP6, "127.0.0.1:9001"), [9]);
        assert!(inodes("", "127.0.0.1:9001").is_empty());
        assert!(inodes("head\n0: 1 2 0A\n0: x:y z 0A 4 5 6 7 8 9\n", "127.0.0.1:9001").is_empty());
    }

    #[test]
    fn socket_links_are_told_from_others() {
        assert_eq!(parse_socket_link("socket:[12345]"), Some(12345));
        for link in ["pipe:[12345]", "/dev/null", "socket:[x]", "anon_inode:[eventpoll]"] {
            assert_eq!(parse_socket_link(link), None, "{link}");
        }
    }

    #[test]
    fn own_listener_is_ours_and_not_a_strangers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(is_among(&[std::process::id()], addr), Some(true));
        assert_eq!(is_among(&[], addr), Some(false));
        drop(listener);
        assert_eq!(is_among(&[std::process::id()], addr), None);
    }
}
