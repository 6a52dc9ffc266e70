//! `GET /connections?closed&limit=N`: the last connections that have ended, newest first, and why.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longwire::{CloseRecord, ClosedBy};
use serde_json::{Value, json};

/// Who closed, in the words of a server.
pub(super) fn side(by: &str) -> &'static str {
    match by {
        by if by == ClosedBy::Local.name() => "server",
        by if by == ClosedBy::Peer.name() => "client",
        _ => "network",
    }
}

/// The label of a close code; all those of no known meaning have one.
pub(super) fn code_label(code: Option<u16>) -> String {
    code.map_or_else(|| "other".to_owned(), |code| code.to_string())
}

pub(super) fn describe(record: &CloseRecord) -> Value {
    let ago = record.at.elapsed();
    json!({
        "id": record.id.to_string(),
        "core": record.core,
        "address": record.client_addr.map(|addr| addr.to_string()),
        "closed_at": unix_seconds(ago),
        "ago_seconds": ago.as_secs_f64(),
        "age_seconds": record.age.as_secs_f64(),
        "side": side(record.by.name()),
        "code": record.code.as_u16(),
        "cause": record.cause.name(),
        "detail": record.cause.to_string(),
        "errno": record.os_error,
        "queued_bytes": record.queued_bytes,
        "round_trip_seconds": record.round_trip.map(|span| span.as_secs_f64()),
        "reason": record.reason,
    })
}

/// The newest close of each address, of records that stand newest first.
pub(super) fn by_address(records: &[CloseRecord]) -> HashMap<IpAddr, Value> {
    let mut newest = HashMap::new();
    for record in records {
        if let Some(addr) = record.client_addr {
            newest.entry(addr).or_insert_with(|| {
                json!({
                    "ago_seconds": record.at.elapsed().as_secs_f64(),
                    "side": side(record.by.name()),
                    "code": record.code.as_u16(),
                    "cause": record.cause.name(),
                })
            });
        }
    }
    newest
}

/// What was so long ago, as Unix time.
pub(super) fn unix_seconds(ago: Duration) -> f64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.saturating_sub(ago).as_secs_f64()
}
