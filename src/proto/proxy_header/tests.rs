//! PROXY headers as proxies send them, and as none does; each one cut everywhere.

use super::*;

use ProxyHeader::{Local, Peer};

type Verdict = Result<Option<(ProxyHeader, usize)>, ProxyError>;

/// The verdict on all of `bytes`, after every shorter front of it has been seen not to say
/// anything else.
fn verdict(bytes: &[u8]) -> Verdict {
    let whole = parse(bytes);
    let mut earlier = Ok(None);
    for cut in 0..bytes.len() {
        let front = parse(&bytes[..cut]);
        assert!(earlier == Ok(None) || front == earlier, "{front:?} at {cut} after {earlier:?}");
        assert!(front == Ok(None) || front == whole, "{front:?} at {cut}, then {whole:?}");
        earlier = front;
    }
    whole
}

/// The first place that proves `bytes` wrong: how many of them are refused and no fewer.
fn refused_at(bytes: &[u8]) -> usize {
    (0..=bytes.len()).find(|&cut| parse(&bytes[..cut]).is_err()).unwrap()
}

fn peer(text: &str) -> ProxyHeader {
    Peer(text.parse().unwrap())
}

fn binary(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([version_and_command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind, high, low], value].concat()
}

/// 192.0.2.1:56324 to 198.51.100.2:443.
const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 0x04, 0x01, 0xBB];

fn inet6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let destination: Ipv6Addr = "2001:db8::2".parse().unwrap();
    [&source.octets()[..], &destination.octets(), &[0x00, 0x50, 0x01, 0xBB]].concat()
}

fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&INET[..], tlvs].concat())
}

/// A header with a checksum behind another TLV, as HAProxy sends it.
fn with_checksum() -> Vec<u8> {
    let mut bytes = with_tlvs(&[tlv(0x02, b"example.com"), tlv(0x03, &[0; 4])].concat());
    let crc = !crc32c(!0, &bytes);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn good_headers() -> Vec<(Vec<u8>, ProxyHeader)> {
    let mut good: Vec<(Vec<u8>, ProxyHeader)> = [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", peer("192.0.2.1:56324")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", peer("255.255.255.255:65535")),
        ("PROXY TCP6 2001:db8::1 ::1 1 443\r\n", peer("[2001:db8::1]:1")),
        ("PROXY TCP6 2001:DB8::A ::1 1 443\r\n", peer("[2001:db8::a]:1")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 443\r\n", peer("[::ffff:192.0.2.1]:1")),
        ("PROXY UNKNOWN\r\n", Local),
        ("PROXY UNKNOWN \r\n", Local),
        ("PROXY UNKNOWN any\0thing \u{e9} 99999\r\n", Local),
    ]
    .into_iter()
    .map(|(line, header)| (line.as_bytes().to_vec(), header))
    .collect();
    let all_ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY TCP6 {all_ones} {all_ones} 65535 65535\r\n");
    good.push((longest.into_bytes(), peer(&format!("[{all_ones}]:65535"))));
    let unknown = format!("PROXY UNKNOWN {all_ones} {all_ones} 65535 65535\r\n");
    assert_eq!(unknown.len(), V1_BYTES_MAX);
    good.push((unknown.into_bytes(), Local));
    good.extend([
        (binary(0x21, 0x11, &INET), peer("192.0.2.1:56324")),
        (binary(0x21, 0x12, &INET), peer("192.0.2.1:56324")),
        (binary(0x21, 0x21, &inet6()), peer("[2001:db8::1]:80")),
        (binary(0x21, 0x22, &inet6()), peer("[2001:db8::1]:80")),
        (binary(0x21, 0x31, &[7; 216]), Local),
        (binary(0x21, 0x32, &[&[7; 216][..], &tlv(0xE0, b"x")].concat()), Local),
        (binary(0x21, 0x00, &[]), Local),
        (binary(0x21, 0x00, &[9; 20]), Local),
        (binary(0x20, 0x00, &[]), Local),
        (binary(0x20, 0x11, &INET), Local),
        (binary(0x20, 0xFF, &[9; 5]), Local),
        (with_tlvs(&tlv(0x04, &[])), peer("192.0.2.1:56324")),
        (with_tlvs(&tlv(0xEA, &[1; 300])), peer("192.0.2.1:56324")),
        (with_tlvs(&tlv(0x04, &[]).repeat(TLV_COUNT_MAX)), peer("192.0.2.1:56324")),
        (with_tlvs(&tlv(0x04, &[0; V2_BODY_BYTES_MAX - 12 - 3])), peer("192.0.2.1:56324")),
        (with_checksum(), peer("192.0.2.1:56324")),
    ]);
    good
}

#[test]
fn px03_whole_header_is_read_and_what_follows_is_left() {
    for (bytes, header) in good_headers() {
        let shown = bytes.escape_ascii().to_string();
        assert_eq!(verdict(&bytes), Ok(Some((header, bytes.len()))), "{shown}");
        for following in [&b"GET / HTTP/1.1\r\n"[..], b"\r\n", b"\n", b" ", &bytes, &[0xFF; 200]] {
            let longer = [&bytes, following].concat();
            assert_eq!(parse(&longer), Ok(Some((header, bytes.len()))), "{shown}");
        }
    }
}

#[test]
fn px03_header_that_is_cut_short_is_waited_for() {
    for (bytes, _) in good_headers() {
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{} at {cut}", bytes.escape_ascii());
        }
    }
}

#[test]
fn px03_malformed_line_is_refused() {
    use ProxyError::*;
    for (line, error) in [
        ("GET / HTTP/1.1\r\n", NotAProxyHeader),
        ("POST / HTTP/1.1\r\n", NotAProxyHeader),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", NotAProxyHeader),
        ("PROXY\r\n", NotAProxyHeader),
        ("PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", NotAProxyHeader),
        (" PROXY UNKNOWN\r\n", NotAProxyHeader),
        ("\0", NotAProxyHeader),
        ("PROXY \r\n", UnknownProtocol),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", UnknownProtocol),
        ("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", UnknownProtocol),
        ("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", UnknownProtocol),
        ("PROXY TCP\r\n", UnknownProtocol),
        ("PROXY TCP4\r\n", UnknownProtocol),
        ("PROXY TCP46 192.0.2.1 192.0.2.2 1 2\r\n", UnknownProtocol),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", UnknownProtocol),
        ("PROXY UNKNOWNS\r\n", UnknownProtocol),
        ("PROXY UNKNOWN\n", UnknownProtocol),
        ("PROXY UNKNOWN\r \n", MalformedLineEnd),
        ("PROXY UNKNOWN a\nb\r\n", MalformedLineEnd),
        ("PROXY UNKNOWN a\rb\r\n", MalformedLineEnd),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.1.5 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 0xC0.0.2.1 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.1 ::1 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.1\r\n", MalformedAddress),
        ("PROXY TCP4 1111111111111111", MalformedAddress),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP6 ::1 192.0.2.2 1 2\r\n", MalformedAddress),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", MalformedAddress),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", MalformedAddress),
        ("PROXY TCP6 1::2::3 ::1 1 2\r\n", MalformedAddress),
        ("PROXY TCP6 00001::1 ::1 1 2\r\n", MalformedAddress),
        ("PROXY TCP4 192.0.2.1 192.0.2.2  1 2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1  2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 100000 2\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", MalformedPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", MalformedLineEnd),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\0", MalformedLineEnd),
    ] {
        assert_eq!(verdict(line.as_bytes()), Err(error), "{line:?}");
    }
}

#[test]
fn px03_line_of_more_than_107_bytes_is_refused_at_its_107th() {
    for line in [
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)),
        format!("PROXY UNKNOWN {}", "x".repeat(1000)),
        format!(
            "PROXY TCP6 {0} {0} 65535 65535\r\n",
            "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
        ),
    ] {
        assert_eq!(verdict(line.as_bytes()), Err(ProxyError::LineTooLong), "{line}");
        assert_eq!(refused_at(line.as_bytes()), V1_BYTES_MAX, "{line}");
    }
}

#[test]
fn px03_malformed_binary_header_is_refused() {
    use ProxyError::*;
    let too_long = u16::try_from(V2_BODY_BYTES_MAX + 1).unwrap();
    let mut oversized = binary(0x21, 0x11, &[]);
    oversized[14..].copy_from_slice(&too_long.to_be_bytes());
    let mut wrong_checksum = with_checksum();
    wrong_checksum[16] ^= 1;
    let checksum = tlv(0x03, &[0; 4]);
    for (bytes, error) in [
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), NotAProxyHeader),
        (b"\r\nGET / HTTP/1.1".to_vec(), NotAProxyHeader),
        (binary(0x11, 0x11, &INET), UnknownVersion),
        (binary(0x01, 0x11, &INET), UnknownVersion),
        (binary(0x22, 0x11, &INET), UnknownCommand),
        (binary(0x2F, 0x00, &[]), UnknownCommand),
        (binary(0x21, 0x41, &INET), UnknownFamily),
        (binary(0x21, 0x13, &INET), UnknownFamily),
        (binary(0x21, 0x10, &INET), UnknownFamily),
        (binary(0x21, 0x01, &INET), UnknownFamily),
        (binary(0x21, 0xFF, &INET), UnknownFamily),
        (binary(0x21, 0x11, &[]), TooShort),
        (binary(0x21, 0x11, &INET[..11]), TooShort),
        (binary(0x21, 0x21, &INET), TooShort),
        (binary(0x21, 0x31, &[0; 215]), TooShort),
        (oversized, TooLong),
        (binary(0x20, 0x00, &[0; 5000]), TooLong),
        (with_tlvs(&[0x04]), MalformedTlv),
        (with_tlvs(&[0x04, 0]), MalformedTlv),
        (with_tlvs(&[0x04, 0, 1]), MalformedTlv),
        (with_tlvs(&[0x04, 0xFF, 0xFF, 0]), MalformedTlv),
        (with_tlvs(&[tlv(0x04, b"ab"), vec![0]].concat()), MalformedTlv),
        (with_tlvs(&tlv(0x03, &[0; 3])), MalformedTlv),
        (with_tlvs(&tlv(0x03, &[0; 5])), MalformedTlv),
        (with_tlvs(&[checksum.clone(), checksum.clone()].concat()), MalformedTlv),
        (with_tlvs(&tlv(0x04, &[]).repeat(TLV_COUNT_MAX + 1)), TooManyTlvs),
        (with_tlvs(&checksum), WrongChecksum),
        (wrong_checksum, WrongChecksum),
    ] {
        assert_eq!(verdict(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
}

#[test]
fn px03_byte_that_proves_it_wrong_is_the_last_one_looked_at() {
    let oversized = [&binary(0x21, 0x11, &[])[..14], &[0x10, 0x00]].concat();
    let bad_tlv = [&with_tlvs(&tlv(0x04, &[0; 200]))[..28], &[0x04, 0x02, 0x00]].concat();
    for (bytes, at) in [
        (b"GET".to_vec(), 1),
        (b"PROXZ".to_vec(), 5),
        (b"PROXY TCP5".to_vec(), 10),
        (b"PROXY TCP4 192.0.2.x".to_vec(), 20),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx".to_vec(), 36),
        (b"\r\n\r\nX".to_vec(), 5),
        (binary(0x31, 0x11, &INET), 13),
        (binary(0x21, 0x51, &INET), 14),
        (oversized, 15),
        (binary(0x21, 0x21, &INET), 16),
        (bad_tlv, 31),
    ] {
        assert_eq!(refused_at(&bytes), at, "{}", bytes.escape_ascii());
    }
}

#[test]
fn px03_no_single_changed_byte_panics_or_depends_on_the_cut() {
    for (bytes, header) in good_headers() {
        // The verdict on each front makes long headers quadratic; their middle is one value.
        if bytes.len() > if cfg!(miri) { 50 } else { 130 } {
            continue;
        }
        for at in 0..bytes.len() {
            for value in if cfg!(miri) { 60..=70 } else { 0..=u8::MAX } {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(Some((_, header_bytes))) = verdict(&changed) {
                    assert!(header_bytes <= changed.len());
                } else {
                    assert!(changed != bytes, "{header:?}");
                }
            }
        }
    }
}

#[test]
fn px03_no_changed_byte_passes_a_checksum() {
    let bytes = with_checksum();
    for at in 16..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            // A changed type or length may hide the checksum; everything else is found.
            let hides = (28..31).contains(&at) || (42..45).contains(&at);
            assert!(hides || parse(&changed) == Err(ProxyError::WrongChecksum), "{at}, bit {bit}");
        }
    }
}

#[test]
fn checksum_is_the_one_of_castagnoli() {
    // The check value that catalogues of CRCs give for this one.
    assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
}

#[test]
fn px03_error_is_one_line() {
    for bytes in [&b"GET"[..], b"PROXY TCP5", b"PROXY TCP4 x"] {
        let text = parse(bytes).unwrap_err().to_string();
        assert!(text.contains("PROXY") && !text.contains('\n'), "{text}");
    }
}
