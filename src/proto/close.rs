//! The close code and the payload of a Close frame (RFC 6455 §5.5.1, §7.4).
//!
//! Knows which codes may stand in a frame and how code and reason are laid out. When a Close is
//! sent, answered or awaited is the connection's business.
//!
//! INVARIANT: [`encode`] writes no code that [`decode`] would refuse.

use std::fmt;

use super::violation::Violation;

/// Payload bytes of the longest control frame (RFC 6455 §5.5).
pub(crate) const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Bytes of the code in front of the reason.
const CODE_BYTES: usize = 2;

/// Bytes of the longest reason a Close frame can carry.
const REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - CODE_BYTES;

/// Why a connection was closed (RFC 6455 §7.4).
///
/// Any number can be held, because some codes are only ever reported and never sent; ask
/// [`is_sendable`](Self::is_sendable) before one is given to a peer. Applications choose their own
/// codes from 4000 to 4999; 3000 to 3999 are registered with IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that cannot be accepted, as binary where only text is understood.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005, never sent: the Close frame carried no code.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006, never sent: the connection ended without a Close frame.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the content does not fit its type, as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer broke a rule of this endpoint.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: the message is longer than this endpoint accepts.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: a client misses an extension it needs. Servers do not send it.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: the server met an error of its own.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; reconnect after a random delay.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; reconnect later, or elsewhere.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a server behind this gateway gave an invalid answer.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015, never sent: the TLS handshake failed.
    pub const TLS_FAILED: Self = Self(1015);

    /// The code with this number, whatever it is.
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether the code may stand in a Close frame: 1000-1003, 1007-1014 and 3000-4999
    /// (RFC 6455 §7.4 and the IANA registry of close codes).
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the payload of a Close frame; `None` if it is empty.
pub(crate) fn decode(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((&code, reason)) = payload.split_first_chunk::<CODE_BYTES>() else {
        return Err(Violation::TruncatedClose);
    };
    let code = CloseCode(u16::from_be_bytes(code));
    // RFC 6455 §7.4.1: the codes set aside for reporting must not be set in a frame.
    if !code.is_sendable() {
        return Err(Violation::InvalidCloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
    Ok(Some((code, reason)))
}

/// Writes the payload of a Close frame and returns its length.
///
/// A reason that is too long is cut behind the last character that fits. [`CloseCode::NO_STATUS`]
/// stands for the empty payload. Panics on any other code that is not sendable: what a peer sends
/// cannot be one, and codes of the application are checked where they come in.
pub(crate) fn encode(
    code: CloseCode,
    reason: &str,
    out: &mut [u8; CONTROL_PAYLOAD_BYTES_MAX],
) -> usize {
    if code == CloseCode::NO_STATUS {
        return 0;
    }
    assert!(code.is_sendable(), "close code {code} must not stand in a frame");
    let reason = cut(reason).as_bytes();
    let end = CODE_BYTES + reason.len();
    out[..CODE_BYTES].copy_from_slice(&code.0.to_be_bytes());
    out[CODE_BYTES..end].copy_from_slice(reason);
    end
}

/// As much of `reason` as fits, in whole characters.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_payload_has_no_code() {
        assert_eq!(decode(&[]), Ok(None));
    }

    #[test]
    fn cl01_payload_of_one_byte_is_refused() {
        for byte in 0..=255 {
            assert_eq!(decode(&[byte]), Err(Violation::TruncatedClose));
        }
    }

    #[test]
    fn cl02_exactly_the_sendable_codes_are_accepted() {
        let mut accepted_count = 0;
        for number in (0..=u16::MAX).step_by(if cfg!(miri) { 499 } else { 1 }) {
            let refused = number < 1000
                || [1004, 1005, 1006, 1015].contains(&number)
                || (1016..3000).contains(&number)
                || number >= 5000;
            let code = CloseCode::new(number);
            let decoded = decode(&number.to_be_bytes()).map(|close| close.map(|(code, _)| code));
            if refused {
                assert_eq!(decoded, Err(Violation::InvalidCloseCode), "{number}");
            } else {
                assert_eq!(decoded, Ok(Some(code)), "{number}");
                accepted_count += 1;
            }
            assert_eq!(code.is_sendable(), !refused, "{number}");
        }
        assert!(cfg!(miri) || accepted_count == 4 + 8 + 2000);
    }

    #[test]
    fn cl03_reason_that_is_not_utf8_is_refused() {
        for bad in
            [&b"\xff"[..], b"ab\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"cut\xe2\x82"]
        {
            let payload = [&1000u16.to_be_bytes(), bad].concat();
            assert_eq!(decode(&payload), Err(Violation::InvalidUtf8), "{bad:x?}");
        }
    }

    #[test]
    fn cl03_code_is_judged_before_the_reason() {
        assert_eq!(decode(b"\x00\x01\xff"), Err(Violation::InvalidCloseCode));
    }

    #[test]
    fn encoded_close_decodes_to_what_was_given() {
        let mut out = [0; CONTROL_PAYLOAD_BYTES_MAX];
        for (code, reason) in [(1000, ""), (1001, "bye"), (3000, "\u{20ac}\u{1f600}"), (4999, "x")]
        {
            let len = encode(CloseCode::new(code), reason, &mut out);
            assert_eq!(len, 2 + reason.len());
            assert_eq!(decode(&out[..len]), Ok(Some((CloseCode::new(code), reason))));
        }
    }

    #[test]
    fn close_without_status_is_encoded_as_the_empty_payload() {
        let mut out = [0; CONTROL_PAYLOAD_BYTES_MAX];
        assert_eq!(encode(CloseCode::NO_STATUS, "not sent", &mut out), 0);
    }

    #[test]
    #[should_panic(expected = "close code 1006 must not stand in a frame")]
    fn code_that_is_only_reported_is_not_encoded() {
        encode(CloseCode::ABNORMAL, "", &mut [0; CONTROL_PAYLOAD_BYTES_MAX]);
    }

    #[test]
    fn cl07_long_reason_is_cut_behind_the_last_character_that_fits() {
        for character in ["a", "\u{e4}", "\u{20ac}", "\u{1f600}"] {
            for lead_bytes in 0..4 {
                for count in 20..130 {
                    // Miri has time for those near the edge.
                    let len = lead_bytes + count * character.len();
                    if cfg!(miri) && !(121..=126).contains(&len) {
                        continue;
                    }
                    let reason = "-".repeat(lead_bytes) + &character.repeat(count);
                    let mut out = [0xee; CONTROL_PAYLOAD_BYTES_MAX];
                    let len = encode(CloseCode::NORMAL, &reason, &mut out);
                    let (_, sent) = decode(&out[..len]).unwrap().unwrap();
                    assert!(reason.starts_with(sent));
                    let fits = reason.len() <= REASON_BYTES_MAX;
                    assert!(if fits {
                        sent == reason
                    } else {
                        sent.len() > REASON_BYTES_MAX - character.len()
                    });
                    assert!(out[len..].iter().all(|&byte| byte == 0xee), "nothing behind the end");
                }
            }
        }
    }
}
