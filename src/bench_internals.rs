//! The kernels that `benches/kernels.rs` measures. Not an API: it may change in any release.

#![allow(missing_docs, reason = "not an API")]

use crate::proto::handshake::response::{self, AcceptParts};
use crate::proto::handshake::{HeadLimits, HeadScanner, Request};
use crate::proto::text::Utf8;
use crate::proto::{Header, Role, mask, text};

pub fn unmask(bytes: &mut [u8], key: [u8; 4]) {
    mask::unmask(bytes, key);
}

pub fn unmask_or(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    mask::unmask_or(bytes, key)
}

/// Whether the bytes are UTF-8.
pub fn validate(bytes: &[u8]) -> bool {
    text::validate(bytes).is_ok()
}

/// Unmasks a message that is whole, and tells whether it is UTF-8.
pub fn unmask_whole_text(bytes: &mut [u8], key: [u8; 4]) -> bool {
    text::unmask_whole_text(bytes, key).is_ok()
}

/// Unmasks a part of a message, and tells whether it is UTF-8 so far.
pub fn unmask_text(bytes: &mut [u8], key: [u8; 4]) -> bool {
    text::unmask_text(bytes, key, &mut Utf8::default()).is_ok()
}

/// Length of a frame's header and of its payload.
pub fn decode_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, header_bytes) = Header::decode(bytes, Role::Server, false).ok()??;
    Some((header_bytes, usize::try_from(header.payload_len).ok()?))
}

/// Parses a request head and writes the answer; returns the answer's length, 0 if it is refused.
pub fn handshake(head: &[u8], answer: &mut Vec<u8>) -> usize {
    answer.clear();
    let _ = answer_into(head, answer);
    answer.len()
}

/// The answer to a request head, if it is an upgrade.
pub fn handshake_answer(head: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    answer_into(head, &mut answer)?;
    Some(answer)
}

fn answer_into(head: &[u8], answer: &mut Vec<u8>) -> Option<()> {
    let limits = HeadLimits::default();
    let len = HeadScanner::default().scan(head, &limits).ok()??;
    let request = Request::parse(&head[..len]).ok()?;
    let accept_key = response::accept_key(request.upgrade_key().ok()?);
    let parts = AcceptParts { accept_key, protocol: None, extensions: &[], headers: &[] };
    response::write_accept(&parts, answer);
    Some(())
}
