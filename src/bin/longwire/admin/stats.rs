//! `/stats.json`: the figures of the server, of all cores and of each, as the page draws them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use longwire::Stats;
use serde_json::{Map, Value, json};

use super::{Admin, broker, closes, resident_bytes, show as show_json};

pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    let cores = admin.cores();
    let Admin { facts, stage, handle, .. } = &*admin;
    let of_core = |(core, stats)| {
        let mut figures = figures(std::slice::from_ref(stats));
        figures.insert("core".to_owned(), json!(core));
        Value::Object(figures)
    };
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "backend": facts.backend,
        "uptime_seconds": admin.uptime().as_secs_f64(),
        "ready": stage.is_serving(),
        "rss_bytes": resident_bytes().ok(),
        "conns_max": handle.conns_max(),
        "memory_bytes_max": handle.memory_bytes_max(),
        "message_bytes_max": handle.message_bytes_max(),
        "urls": facts.urls,
        "broker": broker::stats(&admin),
        "totals": figures(&cores),
        "cores": cores.iter().enumerate().map(of_core).collect::<Vec<Value>>(),
    });
    show_json(StatusCode::OK, &value)
}

/// The figures of some cores together.
fn figures(cores: &[Stats]) -> Map<String, Value> {
    let sum = |field: fn(&Stats) -> u64| cores.iter().map(field).sum::<u64>();
    let mut refusals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    for stats in cores {
        for (reason, count) in &stats.refusals {
            *refusals.entry(reason).or_default() += count;
        }
        for (code, count) in &stats.failures {
            *failures.entry(code.to_string()).or_default() += count;
        }
    }
    let mut closes: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    let mut close_causes: BTreeMap<&str, u64> = BTreeMap::new();
    for stats in cores {
        for ((by, code), count) in &stats.closes {
            let of_side = closes.entry(closes::side(by)).or_default();
            *of_side.entry(closes::code_label(*code)).or_default() += count;
        }
        for (cause, count) in &stats.close_causes {
            *close_causes.entry(cause).or_default() += count;
        }
    }
    let turn_seconds: f64 = cores.iter().map(|stats| stats.turn_time.as_secs_f64()).sum();
    let mut figures = Map::new();
    for (name, value) in [
        ("open", sum(|stats| stats.opened.saturating_sub(stats.closed))),
        ("accepted", sum(|stats| stats.accepted)),
        ("opened", sum(|stats| stats.opened)),
        ("closed", sum(|stats| stats.closed)),
        ("shed", sum(|stats| stats.shed)),
        ("messages", sum(|stats| stats.messages)),
        ("message_bytes", sum(|stats| stats.message_bytes)),
        ("sent_messages", sum(|stats| stats.sent_messages)),
        ("sent_bytes", sum(|stats| stats.sent_bytes)),
        ("dropped", sum(|stats| stats.dropped)),
        ("published", sum(|stats| stats.published)),
        ("topics", sum(|stats| stats.topics)),
        ("subscriptions", sum(|stats| stats.subscriptions)),
        ("queued_bytes", sum(|stats| stats.queued_bytes)),
        ("held_bytes", sum(|stats| stats.held_bytes)),
        ("receive_blocks_lent", sum(|stats| stats.receive_blocks_lent)),
        ("receive_blocks_free", sum(|stats| stats.receive_blocks_free)),
        ("pool_bytes", sum(|stats| stats.pool_bytes)),
        ("pool_spare_bytes", sum(|stats| stats.spare_bytes)),
        ("waits", sum(|stats| stats.waits)),
        ("submissions", sum(|stats| stats.submissions)),
        ("completion_overflows", sum(|stats| stats.completion_overflows)),
        ("submission_stalls", sum(|stats| stats.submission_stalls)),
        ("receives_parked", sum(|stats| stats.receives_parked)),
        ("turns", sum(|stats| stats.turns.iter().sum())),
    ] {
        figures.insert(name.to_owned(), json!(value));
    }
    figures.insert("turn_seconds".to_owned(), json!(turn_seconds));
    figures.insert("refusals".to_owned(), json!(refusals));
    figures.insert("failures".to_owned(), json!(failures));
    figures.insert("closes".to_owned(), json!(closes));
    figures.insert("close_causes".to_owned(), json!(close_causes));
    figures
}
