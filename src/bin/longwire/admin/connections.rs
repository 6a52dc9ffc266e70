//! `GET /connections?limit=N`: some of the open connections; with `closed`, the last that have ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use longwire::ConnInfo;
use serde_json::{Value, json};

use super::{Admin, closes, fault, show};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// For all workers to answer; those that have not are left out.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn list(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let Some(limit) = limit(&query) else {
        let text = format!("limit is a number from 1 to {LIMIT_MAX}");
        return fault(StatusCode::BAD_REQUEST, &text);
    };
    let wants_closed = query.split('&').any(|pair| pair == "closed" || pair == "closed=");
    let listing = tokio::task::spawn_blocking(move || {
        if wants_closed {
            return admin.handle.closes(limit, TIMEOUT).iter().map(closes::describe).collect();
        }
        let conns = admin.handle.connections(limit, TIMEOUT);
        // A client that comes back had an end before: it is told beside the new connection.
        let last_closes = closes::by_address(&admin.handle.closes(LIMIT_MAX, TIMEOUT));
        conns.iter().map(|conn| describe(conn, &last_closes)).collect()
    });
    match listing.await {
        Ok(list) => show(StatusCode::OK, &list),
        Err(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "the list could not be made"),
    }
}

fn limit(query: &str) -> Option<usize> {
    match query.split('&').find_map(|pair| pair.strip_prefix("limit=")) {
        Some(number) => number.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)),
        None => Some(LIMIT_DEFAULT),
    }
}

fn describe(conn: &ConnInfo, last_closes: &HashMap<IpAddr, Value>) -> Value {
    json!({
        "id": conn.id.to_string(),
        "core": conn.core,
        "address": conn.client_addr.map(|addr| addr.to_string()),
        "age_seconds": conn.age.as_secs_f64(),
        "topics": conn.topics,
        "queued_bytes": conn.queued_bytes,
        "last_close": conn.client_addr.and_then(|addr| last_closes.get(&addr)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_a_number_within_bounds() {
        for (query, expected) in [
            ("", Some(100)),
            ("limit=1", Some(1)),
            ("limit=1000", Some(1000)),
            ("a=b&limit=7", Some(7)),
            ("limit=0", None),
            ("limit=1001", None),
            ("limit=", None),
            ("limit=-1", None),
            ("limit=99999999999999999999", None),
        ] {
            assert_eq!(limit(query), expected, "{query}");
        }
    }
}
