//! Request heads: the scanner in pieces, and the verdict about a head that is whole.

use crate::proto::handshake::response::{self, AcceptParts};
use crate::proto::handshake::{HeadLimits, HeadScanner, Refusal, Request};

/// Bounds of a head.
#[derive(Clone, Copy)]
pub struct Limits(HeadLimits);

impl Limits {
    /// Those of a server.
    pub fn usual() -> Self {
        Self(HeadLimits::default())
    }

    /// Such that a short input meets all of them.
    pub fn small() -> Self {
        Self(HeadLimits {
            request_line_bytes_max: 48,
            header_line_bytes_max: 64,
            head_bytes_max: 320,
            header_count_max: 9,
        })
    }

    /// Bytes after which a scanner has decided.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max()
    }

    /// Header lines that are taken.
    pub fn header_count_max(&self) -> usize {
        self.0.header_count_max
    }
}

/// What is thought of a head.
pub enum HeadVerdict<'a> {
    /// More bytes are needed.
    Cut,
    /// It is refused.
    Refused(Refusal),
    /// It is HTTP that an application may answer: its bytes, and what it says.
    Request(usize, Request<'a>),
}

/// Judges bytes that came at once.
pub fn head_verdict<'a>(bytes: &'a [u8], limits: &Limits) -> HeadVerdict<'a> {
    match HeadScanner::default().scan(bytes, &limits.0) {
        Err(refusal) => HeadVerdict::Refused(refusal),
        Ok(None) => HeadVerdict::Cut,
        Ok(Some(len)) => match Request::parse(&bytes[..len]) {
            Err(refusal) => HeadVerdict::Refused(refusal),
            Ok(request) => HeadVerdict::Request(len, request),
        },
    }
}

/// Scans bytes that come cut at these places. What was seen is zeroed before the next piece comes,
/// so that a scanner that went back to it would refuse a NUL.
pub fn scan_in_pieces(
    bytes: &[u8],
    cuts: &[usize],
    limits: &Limits,
) -> Result<Option<usize>, Refusal> {
    let mut scanner = HeadScanner::default();
    let mut arrived = vec![0; bytes.len()];
    let mut start = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        arrived[start..end].copy_from_slice(&bytes[start..end]);
        if let Some(len) = scanner.scan(&arrived[..end], &limits.0)? {
            return Ok(Some(len));
        }
        arrived[start..end].fill(0);
        start = end;
    }
    Ok(None)
}

/// The 101 to an upgrade; the refusal if the request is none.
pub fn accept_response(request: &Request<'_>) -> Result<Vec<u8>, Refusal> {
    let accept_key = response::accept_key(request.upgrade_key()?);
    let protocol = request.select_protocol(&["chat", "superchat"]);
    let parts = AcceptParts { accept_key, protocol, extensions: &[], headers: &[] };
    let mut out = Vec::new();
    response::write_accept(&parts, &mut out);
    Ok(out)
}
