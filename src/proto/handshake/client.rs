//! The client's side of the handshake: the request, and a strict reading of the answer.
//!
//! A client that takes a lax answer hides the mistakes of servers, so everything RFC 6455 §4.1
//! lets a client fail on, it fails on. The answer is small and comes from a server the user chose,
//! so it is parsed anew when more of it has come; its size is bounded all the same.

use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::extensions::{self, DeflateParams, DeflatePolicy};
use super::fields::{self, Single};
use super::response;

/// Bytes a response head may have.
const RESPONSE_HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADER_COUNT_MAX: usize = 100;
const STATUS_LINE_START: &[u8] = b"HTTP/1.1 ";

/// One opening handshake of a client.
#[derive(Debug)]
pub(crate) struct Upgrade {
    key: String,
    offered_protocols: Vec<String>,
    offered_deflate: Option<DeflatePolicy>,
    deflate: Option<DeflateParams>,
}

/// Why a server's answer is no valid 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeError {
    /// Not an HTTP/1.1 response.
    MalformedResponse,
    /// The head goes on for more than 16 KiB or 100 headers.
    ResponseTooLong,
    /// The server refused, with this status.
    Refused(u16),
    /// `Upgrade` is not exactly `websocket`.
    UpgradeMismatch,
    /// `Connection` does not name `upgrade`.
    ConnectionMismatch,
    /// `Sec-WebSocket-Accept` is missing, repeated, or answers another key.
    AcceptMismatch,
    /// A sub-protocol that was not offered, or more than one.
    UnrequestedProtocol,
    /// An extension that was not offered.
    UnrequestedExtension,
    /// permessage-deflate with parameters that do not answer the offer (RFC 7692 §7.1).
    ExtensionMismatch,
}

impl Upgrade {
    /// A handshake with this nonce. RFC 6455 §4.1 asks for 16 fresh random bytes.
    pub(crate) fn new(random: [u8; 16]) -> Self {
        Self {
            key: STANDARD.encode(random),
            offered_protocols: Vec::new(),
            offered_deflate: None,
            deflate: None,
        }
    }

    /// Makes the request offer permessage-deflate. The offer leaves with
    /// [`request_bytes`](Self::request_bytes).
    pub(crate) fn offer_deflate(&mut self, policy: DeflatePolicy) {
        self.offered_deflate = Some(policy);
    }

    /// What was agreed about compression; known once the answer is complete and valid.
    pub(crate) fn deflate(&self) -> Option<DeflateParams> {
        self.deflate
    }

    /// The bytes to send. `target` begins with a slash; `headers` are sent as they are.
    pub(crate) fn request_bytes(
        &mut self,
        host: &str,
        target: &str,
        protocols: &[&str],
        headers: &[(&str, &str)],
    ) -> Vec<u8> {
        self.offered_protocols = protocols.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n",
            self.key
        );
        if !protocols.is_empty() {
            append(&mut text, "Sec-WebSocket-Protocol", &protocols.join(", "));
        }
        if let Some(policy) = &self.offered_deflate {
            append(&mut text, "Sec-WebSocket-Extensions", &extensions::offer(policy));
        }
        for (name, value) in headers {
            append(&mut text, name, value);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Judges what has been received so far. Returns the length of the head once it is complete
    /// and valid; what follows it are frames. `None` asks for more bytes.
    pub(crate) fn parse_response(&mut self, bytes: &[u8]) -> Result<Option<usize>, UpgradeError> {
        let start_bytes = bytes.len().min(STATUS_LINE_START.len());
        if bytes[..start_bytes] != STATUS_LINE_START[..start_bytes] {
            return Err(UpgradeError::MalformedResponse);
        }
        let mut places = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
        let mut response = httparse::Response::new(&mut places);
        let head_bytes = match response.parse(&bytes[..bytes.len().min(RESPONSE_HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) if bytes.len() < RESPONSE_HEAD_BYTES_MAX => {
                return Ok(None);
            }
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(UpgradeError::ResponseTooLong);
            }
            Err(_) => return Err(UpgradeError::MalformedResponse),
        };
        match response.code {
            Some(101) => {
                self.check_headers(response.headers)?;
                self.deflate = self.check_extensions(response.headers)?;
            }
            Some(status) => return Err(UpgradeError::Refused(status)),
            None => return Err(UpgradeError::MalformedResponse),
        }
        Ok(Some(head_bytes))
    }

    fn check_headers(&self, headers: &[httparse::Header<'_>]) -> Result<(), UpgradeError> {
        let mut upgrade = Single::Absent;
        let mut accept = Single::Absent;
        let mut protocol = Single::Absent;
        let mut connection_upgrade = false;
        for header in headers {
            let is = |known: &str| header.name.eq_ignore_ascii_case(known);
            if is("Upgrade") {
                upgrade.record(header.value);
            } else if is("Connection") {
                connection_upgrade |= fields::list_contains(header.value, "upgrade");
            } else if is("Sec-WebSocket-Accept") {
                accept.record(header.value);
            } else if is("Sec-WebSocket-Protocol") {
                protocol.record(header.value);
            }
        }
        if !matches!(upgrade, Single::Present(value) if value.eq_ignore_ascii_case(b"websocket")) {
            return Err(UpgradeError::UpgradeMismatch);
        }
        if !connection_upgrade {
            return Err(UpgradeError::ConnectionMismatch);
        }
        if accept != Single::Present(&response::accept_key(self.key.as_bytes())) {
            return Err(UpgradeError::AcceptMismatch);
        }
        let offered = |value: &[u8]| self.offered_protocols.iter().any(|p| p.as_bytes() == value);
        match protocol {
            Single::Absent => Ok(()),
            Single::Present(value) if offered(value) => Ok(()),
            Single::Present(_) | Single::Repeated => Err(UpgradeError::UnrequestedProtocol),
        }
    }

    fn check_extensions(
        &self,
        headers: &[httparse::Header<'_>],
    ) -> Result<Option<DeflateParams>, UpgradeError> {
        let mut lines = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"))
            .map(|header| header.value)
            .peekable();
        match &self.offered_deflate {
            Some(policy) => extensions::accept_answer(lines, policy),
            None if lines.peek().is_some() => Err(UpgradeError::UnrequestedExtension),
            None => Ok(None),
        }
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MalformedResponse => f.write_str("the answer is not an HTTP/1.1 response"),
            Self::ResponseTooLong => f.write_str("the head of the answer is too long"),
            Self::Refused(status) => write!(f, "the server refused with status {status}"),
            Self::UpgradeMismatch => f.write_str("the server does not upgrade to websocket"),
            Self::ConnectionMismatch => f.write_str("the server does not upgrade this connection"),
            Self::AcceptMismatch => f.write_str("the accept key answers another request"),
            Self::UnrequestedProtocol => f.write_str("a sub-protocol that was not offered"),
            Self::UnrequestedExtension => f.write_str("an extension that was not offered"),
            Self::ExtensionMismatch => f.write_str("permessage-deflate other than it was offered"),
        }
    }
}

impl std::error::Error for UpgradeError {}

fn append(text: &mut String, name: &str, value: &str) {
    write!(text, "{name}: {value}\r\n").expect("a string takes every write");
}

#[cfg(test)]
mod tests {
    use super::super::response::{AcceptParts, write_accept};
    use super::super::{HeadLimits, HeadScanner, Request};
    use super::*;

    const VALID: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    /// The handshake of RFC 6455 §1.3, with its sub-protocols offered.
    fn upgrade() -> Upgrade {
        let mut upgrade = Upgrade::new(*b"the sample nonce");
        upgrade.request_bytes("a.example", "/chat", &["chat", "superchat"], &[]);
        upgrade
    }

    fn judge(response: &str) -> Result<Option<usize>, UpgradeError> {
        let whole = upgrade().parse_response(response.as_bytes());
        // Each prefix is parsed from its start, so Miri has time for some of them only.
        for end in (0..response.len()).step_by(if cfg!(miri) { 61 } else { 1 }) {
            match upgrade().parse_response(&response.as_bytes()[..end]) {
                Ok(None) => {}
                early => assert_eq!(early, whole, "at {end} bytes of {response}"),
            }
        }
        whole
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let limits = HeadLimits::default();
        let mut upgrade = Upgrade::new([7; 16]);
        let head =
            upgrade.request_bytes("[::1]:80", "/a?b", &["x", "y"], &[("Origin", "http://o")]);
        assert_eq!(HeadScanner::default().scan(&head, &limits), Ok(Some(head.len())));
        let request = Request::parse(&head).unwrap();
        assert_eq!((request.target(), request.host()), ("/a?b", "[::1]:80"));
        assert_eq!(request.origin(), Some(&b"http://o"[..]));
        assert!(request.protocols().eq(["x", "y"]));
        let accept_key = response::accept_key(request.upgrade_key().unwrap());
        let protocol = request.select_protocol(&["y"]);
        let mut out = Vec::new();
        let parts = AcceptParts { accept_key, protocol, extensions: &[], headers: b"X-A: b\r\n" };
        write_accept(&parts, &mut out);
        assert_eq!(upgrade.parse_response(&out), Ok(Some(out.len())));
    }

    #[test]
    fn valid_response_is_taken_and_frames_behind_it_are_left() {
        let response = format!("{VALID}\r\n");
        assert_eq!(judge(&response), Ok(Some(response.len())));
        let with_frame = format!("{VALID}\r\n\u{1}\u{0}");
        assert_eq!(upgrade().parse_response(with_frame.as_bytes()), Ok(Some(response.len())));
        let response = format!("{VALID}Sec-WebSocket-Protocol: superchat\r\n\r\n");
        assert_eq!(judge(&response), Ok(Some(response.len())));
    }

    #[test]
    fn client_fails_on_every_deviation() {
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let refused = UpgradeError::Refused(200);
        for (from, to, error) in [
            ("HTTP/1.1 101", "HTTP/1.1 200", refused),
            ("HTTP/1.1 101", "HTTP/1.0 101", UpgradeError::MalformedResponse),
            ("HTTP/1.1 101", "SSH-2.0-x", UpgradeError::MalformedResponse),
            ("Upgrade: WebSocket\r\n", "", UpgradeError::UpgradeMismatch),
            ("WebSocket\r\n", "h2c, websocket\r\n", UpgradeError::UpgradeMismatch),
            ("keep-alive, upgrade", "keep-alive", UpgradeError::ConnectionMismatch),
            (accept, "", UpgradeError::AcceptMismatch),
            ("s3pPLM", "S3pPLM", UpgradeError::AcceptMismatch),
            ("xOo=", "xOo=, x", UpgradeError::AcceptMismatch),
            (accept, &accept.repeat(2), UpgradeError::AcceptMismatch),
            (
                "Upgrade:",
                "Sec-WebSocket-Protocol: x\r\nUpgrade:",
                UpgradeError::UnrequestedProtocol,
            ),
            (
                "Upgrade:",
                "Sec-WebSocket-Protocol: chat, superchat\r\nUpgrade:",
                UpgradeError::UnrequestedProtocol,
            ),
            (
                "Upgrade:",
                "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade:",
                UpgradeError::UnrequestedExtension,
            ),
            ("Upgrade: ", "Upgrade : ", UpgradeError::MalformedResponse),
        ] {
            let response = format!("{}\r\n", VALID.replacen(from, to, 1));
            assert_eq!(judge(&response), Err(error), "{from:?} replaced by {to:?}");
        }
    }

    #[test]
    fn client_learns_whether_its_offer_of_compression_is_taken() {
        let mut upgrade = Upgrade::new(*b"the sample nonce");
        upgrade.offer_deflate(DeflatePolicy { context_takeover: true, window_bits_max: 15 });
        let head = String::from_utf8(upgrade.request_bytes("a.example", "/", &[], &[])).unwrap();
        let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        assert!(head.contains(offer), "{head}");

        let response = format!("{VALID}\r\n");
        assert_eq!(upgrade.parse_response(response.as_bytes()), Ok(Some(response.len())));
        assert_eq!(upgrade.deflate(), None, "the server took none");

        let header = "sec-websocket-extensions: permessage-deflate; client_max_window_bits=12\r\n";
        let response = format!("{VALID}{header}\r\n");
        for end in 0..response.len() {
            assert_eq!(upgrade.parse_response(&response.as_bytes()[..end]), Ok(None));
            assert_eq!(upgrade.deflate(), None, "the answer is not complete");
        }
        assert_eq!(upgrade.parse_response(response.as_bytes()), Ok(Some(response.len())));
        assert_eq!(upgrade.deflate().unwrap().client_window_bits, 12);

        let response = format!("{VALID}{}\r\n", header.repeat(2));
        let error = upgrade.parse_response(response.as_bytes());
        assert_eq!(error, Err(UpgradeError::ExtensionMismatch));
    }

    #[test]
    fn endless_response_is_given_up() {
        let long = format!("{VALID}X: {}", "y".repeat(RESPONSE_HEAD_BYTES_MAX));
        let error = upgrade().parse_response(long.as_bytes());
        assert_eq!(error, Err(UpgradeError::ResponseTooLong));
        let many = format!("{VALID}{}\r\n", "X: y\r\n".repeat(HEADER_COUNT_MAX));
        let error = upgrade().parse_response(many.as_bytes());
        assert_eq!(error, Err(UpgradeError::ResponseTooLong));
    }
}
