//! Memory of the kernel: what sockets cost outside every process.
//!
//! The figures are of the whole machine. On loopback they hold both ends of a connection, the
//! server's and the generator's.

use std::fs;
use std::io;

use super::process::number_after;

/// The kernel's memory at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) slab: Slab,
    /// Memory of TCP buffers, in bytes; `None` if the kernel does not tell.
    pub(crate) tcp_bytes: Option<u64>,
    /// TCP sockets in use, IPv4 and IPv6.
    pub(crate) tcp_sockets: Option<u64>,
}

/// Bytes of kernel objects, and where they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slab {
    pub(crate) bytes: u64,
    pub(crate) from: SlabSource,
}

/// Where [`Slab`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlabSource {
    /// Live objects of `/proc/slabinfo`, without caches of file systems. Only root may read it.
    Slabinfo,
    /// `SUnreclaim` and `SReclaimable` of `/proc/meminfo`: file system and all.
    Meminfo,
}

impl SlabSource {
    /// For a remark in the report.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Slabinfo => "live objects of /proc/slabinfo, without those of file systems",
            Self::Meminfo => {
                "SUnreclaim + SReclaimable of /proc/meminfo, which file systems move, too \
                 (as root it would be /proc/slabinfo)"
            }
        }
    }
}

/// Reads the kernel's memory now.
pub(crate) fn snapshot() -> io::Result<Snapshot> {
    let page_bytes = rustix::param::page_size() as u64;
    let slabinfo = fs::read_to_string("/proc/slabinfo").ok();
    let from_slabinfo = slabinfo.and_then(|text| parse_slabinfo(&text, page_bytes));
    let slab = match from_slabinfo {
        Some(bytes) => Slab { bytes, from: SlabSource::Slabinfo },
        None => {
            let text = fs::read_to_string("/proc/meminfo")?;
            let bytes = parse_meminfo_slab(&text).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo does not know slabs")
            })?;
            Slab { bytes, from: SlabSource::Meminfo }
        }
    };
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let sockstat6 = fs::read_to_string("/proc/net/sockstat6").unwrap_or_default();
    Ok(Snapshot {
        slab,
        tcp_bytes: sockstat_value(&sockstat, "TCP:", "mem").map(|pages| pages * page_bytes),
        tcp_sockets: sockstat_value(&sockstat, "TCP:", "inuse")
            .map(|count| count + sockstat_value(&sockstat6, "TCP6:", "inuse").unwrap_or(0)),
    })
}

/// Sum over `/proc/slabinfo` (version 2) of live objects, each with its share of its slab.
///
/// Slabs that stand empty are left out: connections of an earlier run leave them behind, and the
/// next run fills them without any growth.
pub(crate) fn parse_slabinfo(text: &str, page_bytes: u64) -> Option<u64> {
    if !text.starts_with("slabinfo - version: 2.") {
        return None;
    }
    let mut sum = 0_u64;
    for line in text.lines().skip(1).filter(|line| !line.starts_with('#')) {
        // name active_objs num_objs objsize objperslab pagesperslab : tunables ... : slabdata ...
        let mut fields = line.split_ascii_whitespace();
        if is_of_file_systems(fields.next()?) {
            continue;
        }
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let (live, per_slab, pages) = (number(0)?, number(2)?, number(0)?);
        let bytes = live.checked_mul(pages)?.checked_mul(page_bytes)?;
        sum = sum.checked_add(bytes.checked_div(per_slab)?)?;
    }
    Some(sum)
}

/// Bytes of kernel objects in `/proc/meminfo`; kernels before 2.6.19 know only their sum.
pub(crate) fn parse_meminfo_slab(text: &str) -> Option<u64> {
    let kib = match (number_after(text, "SUnreclaim:"), number_after(text, "SReclaimable:")) {
        (Some(fixed), Some(reclaimable)) => fixed + reclaimable,
        _ => number_after(text, "Slab:")?,
    };
    kib.checked_mul(1024)
}

/// One number of `/proc/net/sockstat`, as in `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0`.
pub(crate) fn sockstat_value(text: &str, line: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|text| text.strip_prefix(line))?;
    let mut words = rest.split_ascii_whitespace();
    while let Some(word) = words.next() {
        if word == key {
            return words.next()?.parse().ok();
        }
        words.next();
    }
    None
}

/// Whether a cache grows with files that are read, and never with sockets.
///
/// A build or a log next to the run would otherwise pass for memory of connections. Only caches
/// that the kernel never merges with others of their size (these have constructors) are named.
fn is_of_file_systems(cache: &str) -> bool {
    let of_sockets = cache == "sock_inode_cache" || cache == "lsm_inode_cache";
    cache == "radix_tree_node"
        || (!of_sockets && (cache.ends_with("inode_cache") || cache.ends_with("_inode")))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
ext4_inode_cache  187698 187824   1128   14    4 : tunables    0    0    0 : slabdata  13416  13416      0
btrfs_inode            5      5   1016   16    4 : tunables    0    0    0 : slabdata      1      1      0
radix_tree_node      100    100    576   14    2 : tunables    0    0    0 : slabdata     10     10      0
TCP                   65    130   2368   13    8 : tunables    0    0    0 : slabdata      9     10      0
sock_inode_cache     190    228    832   19    4 : tunables    0    0    0 : slabdata     12     12      0
lsm_inode_cache       64    128     32  128    1 : tunables    0    0    0 : slabdata      1      1      0
";

    #[test]
    fn slabinfo_counts_live_objects_of_all_caches_but_those_of_files() {
        // 65 of 13 to a slab of 8 pages, 190 of 19 to 4, 64 of 128 to 1.
        assert_eq!(parse_slabinfo(SLABINFO, 4096), Some(5 * 8 * 4096 + 10 * 4 * 4096 + 2048));
        assert_eq!(parse_slabinfo(SLABINFO, 16384), Some(5 * 8 * 16384 + 10 * 4 * 16384 + 8192));
    }

    #[test]
    fn slabinfo_of_another_form_is_not_guessed_at() {
        for text in [
            "",
            "slabinfo - version: 1.1\nTCP 1 2 3 4 5 6\n",
            "slabinfo - version: 2.1\nTCP 79 130 2368 13\n",
            "slabinfo - version: 2.1\nTCP 79 130 2368 0 8 : tunables 0 0 0\n",
            "slabinfo - version: 2.1\nTCP 79 130 2368 13 : tunables 0 0 0\n",
        ] {
            assert_eq!(parse_slabinfo(text, 4096), None, "{text}");
        }
    }

    #[test]
    fn meminfo_gives_the_sum_or_what_old_kernels_have() {
        let new = "MemTotal: 9 kB\nSlab: 70 kB\nSReclaimable: 50 kB\nSUnreclaim: 20 kB\n";
        assert_eq!(parse_meminfo_slab(new), Some(70 * 1024));
        assert_eq!(parse_meminfo_slab("MemTotal: 9 kB\nSlab: 60 kB\n"), Some(60 * 1024));
        assert_eq!(parse_meminfo_slab("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn sockstat_is_read_by_key_and_not_by_place() {
        let text = "sockets: used 15\nTCP: inuse 7 orphan 0 tw 2 alloc 9 mem 3\n\
                    UDP: inuse 1 mem 5\nUDPLITE: inuse 0\n";
        assert_eq!(sockstat_value(text, "TCP:", "mem"), Some(3));
        assert_eq!(sockstat_value(text, "TCP:", "inuse"), Some(7));
        assert_eq!(sockstat_value(text, "UDP:", "mem"), Some(5));
        assert_eq!(sockstat_value("TCP: inuse 7\n", "TCP:", "mem"), None);
        assert_eq!(sockstat_value("", "TCP:", "mem"), None);
    }

    #[test]
    fn kernel_of_this_machine_counts_connections_made() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut seen = Vec::new();
        // Others use sockets, too, so one quiet attempt is enough.
        for _ in 0..10 {
            let before = snapshot().unwrap();
            let mut conns = Vec::new();
            for _ in 0..100 {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                conns.push((client, listener.accept().unwrap()));
            }
            let after = snapshot().unwrap();
            assert!(after.slab.bytes > 1 << 20 && before.slab.from == after.slab.from);
            let opened = after.tcp_sockets.unwrap().abs_diff(before.tcp_sockets.unwrap());
            if (190..=210).contains(&opened) {
                return;
            }
            seen.push(opened);
        }
        panic!("200 sockets were opened, seen were {seen:?}");
    }
}
