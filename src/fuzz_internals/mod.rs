//! What the targets of `fuzz/` drive. Compiled under `cfg(fuzzing)` only, and not an API.
//!
//! Nothing is judged here beyond what a worker asserts of a connection: this only opens doors. What
//! must hold is said in `fuzz/`, by models and by comparison of one way with another.

#![allow(missing_docs, missing_debug_implementations, reason = "not an API")]

mod compression;
mod heads;
mod rig;
mod setting;

pub use compression::{Agreed, Deflater, Inflater, TAIL, judge_answer, judge_offer, offer};
pub use heads::{HeadVerdict, Limits as HeadLimits, accept_response, head_verdict, scan_in_pieces};
pub use rig::{Fact, Outcome, Rig};
pub use setting::{App, Compression, Options};

use std::net::SocketAddr;

use crate::proto::proxy_header::{self, ProxyHeader};

/// What a PROXY header says, and its bytes. The client's address is absent if the proxy speaks for
/// itself; the text of an error is one of its variants.
pub fn proxy_header(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, String> {
    match proxy_header::parse(bytes) {
        Ok(None) => Ok(None),
        Ok(Some((ProxyHeader::Local, len))) => Ok(Some((None, len))),
        Ok(Some((ProxyHeader::Peer(address), len))) => Ok(Some((Some(address), len))),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Bytes of the longest PROXY header that is taken.
pub const PROXY_HEADER_BYTES_MAX: usize = proxy_header::V2_BYTES_MAX;

/// Topics beside their model, for as long as there are bytes.
pub fn topics(bytes: &[u8]) {
    crate::pubsub::model::play(bytes);
}
