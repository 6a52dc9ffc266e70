//! PROXY headers, both versions: a verdict never changes once it is given, however many bytes have
//! come by then, and it is what a plain reading of the format says.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use longwire::fuzz_internals::{PROXY_HEADER_BYTES_MAX, proxy_header};

/// Prefixes that are all tried; of longer inputs, each 61st.
const PREFIX_BYTES: usize = 700;

fuzz_target!(|bytes: &[u8]| {
    let whole = proxy_header(bytes);
    let mut decided = Ok(None);
    for end in (0..bytes.len()).filter(|end| *end < PREFIX_BYTES || end % 61 == 0) {
        let verdict = proxy_header(&bytes[..end]);
        assert!(decided == Ok(None) || verdict == decided, "{end} bytes change {decided:?}");
        decided = verdict;
    }
    assert!(decided == Ok(None) || whole == decided, "the last byte changes {decided:?}");
    match &whole {
        Ok(None) => assert!(bytes.len() < PROXY_HEADER_BYTES_MAX, "it is decided within bounds"),
        Ok(Some((_, len))) => assert!(*len <= bytes.len().min(PROXY_HEADER_BYTES_MAX)),
        Err(_) => {}
    }
    if let Some(expected) = read_line(bytes) {
        assert_eq!(whole, Ok(Some(expected)), "a line as the format has it");
    } else if let Some(expected) = read_binary(bytes) {
        assert_eq!(whole, Ok(Some(expected)), "a header without TLVs as the format has it");
    } else if let Ok(Some((Some(_), len))) = whole {
        let has_tlvs = bytes[0] != b'P' && len > 16 + 12;
        assert!(has_tlvs, "no plain reading has this address");
    }
});

/// Version 1, by its words.
fn read_line(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let line = &bytes[..bytes.len().min(107)];
    let end = line.windows(2).position(|end| end == b"\r\n")?;
    let text = std::str::from_utf8(&line[..end]).ok()?;
    let words: Vec<&str> = text.split(' ').collect();
    let port = |word: &str| {
        let port: u16 = word.parse().ok()?;
        (port.to_string() == word).then_some(port)
    };
    let address = match words[..] {
        ["PROXY", "UNKNOWN"] => None,
        ["PROXY", "TCP4", source, destination, source_port, destination_port] => {
            let (source, _): (Ipv4Addr, Ipv4Addr) =
                (source.parse().ok()?, destination.parse().ok()?);
            port(destination_port)?;
            Some(SocketAddr::from((source, port(source_port)?)))
        }
        ["PROXY", "TCP6", source, destination, source_port, destination_port] => {
            let (source, _): (Ipv6Addr, Ipv6Addr) =
                (source.parse().ok()?, destination.parse().ok()?);
            port(destination_port)?;
            Some(SocketAddr::from((source, port(source_port)?)))
        }
        _ => return None,
    };
    Some((address, end + 2))
}

/// Version 2 with addresses and nothing behind them.
fn read_binary(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let (fixed, body) = bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?.split_at_checked(4)?;
    let len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let body = body.get(..len)?;
    let address = match (fixed[0], fixed[1], len) {
        (0x20, _, 0..=4080) => None,
        (0x21, 0x11 | 0x12, 12) => {
            let source: [u8; 4] = body[..4].try_into().ok()?;
            Some(SocketAddr::from((source, u16::from_be_bytes([body[8], body[9]]))))
        }
        (0x21, 0x21 | 0x22, 36) => {
            let source: [u8; 16] = body[..16].try_into().ok()?;
            Some(SocketAddr::from((source, u16::from_be_bytes([body[32], body[33]]))))
        }
        (0x21, 0x31 | 0x32, 216) | (0x21, 0, 0..=4080) => None,
        _ => return None,
    };
    Some((address, 16 + len))
}
