//! The attacks, one kind of hostile client in each file.

mod bombs;
mod closes;
mod fragments;
mod garbage;
mod half_tls;
mod hoarders;
mod oversize;
mod pings;
mod plain_http;
mod resets;
mod silent;
mod slow_heads;
mod slow_readers;
mod stalled;

use crate::attack::Attack;
use crate::ground::Ground;

/// All of them.
pub(crate) fn all(ground: &Ground) -> Vec<Box<dyn Attack>> {
    vec![
        Box::new(silent::Silent::new(ground)),
        Box::new(slow_heads::SlowHeads::new(ground)),
        Box::new(oversize::Oversize::new()),
        Box::new(plain_http::PlainHttp::new()),
        Box::new(half_tls::HalfTls::new(ground)),
        Box::new(garbage::Garbage),
        Box::new(fragments::Fragments::new()),
        Box::new(hoarders::Hoarders::new()),
        Box::new(bombs::Bombs::new()),
        Box::new(pings::Pings::new(ground)),
        Box::new(stalled::Stalled::new(ground)),
        Box::new(slow_readers::SlowReaders::new(ground)),
        Box::new(closes::Closes::new(ground)),
        Box::new(resets::Resets::new()),
    ]
}
