//! `GET /connections?limit=N`: some of the open connections.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use longwire::ConnInfo;
use serde_json::{Value, json};

use super::{Admin, fault, show};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// For all workers to answer; those that have not are left out.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn list(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let Some(limit) = limit(query.as_deref().unwrap_or_default()) else {
        let text = format!("limit is a number from 1 to {LIMIT_MAX}");
        return fault(StatusCode::BAD_REQUEST, &text);
    };
    let listing = tokio::task::spawn_blocking(move || admin.handle.connections(limit, TIMEOUT));
    match listing.await {
        Ok(conns) => show(StatusCode::OK, &conns.iter().map(describe).collect()),
        Err(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "the list could not be made"),
    }
}

fn limit(query: &str) -> Option<usize> {
    match query.split('&').find_map(|pair| pair.strip_prefix("limit=")) {
        Some(number) => number.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)),
        None => Some(LIMIT_DEFAULT),
    }
}

fn describe(conn: &ConnInfo) -> Value {
    json!({
        "id": conn.id.to_string(),
        "core": conn.core,
        "address": conn.client_addr.map(|addr| addr.to_string()),
        "age_seconds": conn.age.as_secs_f64(),
        "topics": conn.topics,
        "queued_bytes": conn.queued_bytes,
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
