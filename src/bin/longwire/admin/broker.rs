//! What the administration says of the broker: health, figures, and `GET /gaps?after=N&limit=N`.
//!
//! A node without its broker is healthy and ready: it serves its own clients, and would be missed by
//! them. So the probes say that it is degraded, with the status of one that is well.

use std::fmt;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use serde_json::{Value, json};

use super::metrics::{gauge, level};
use super::{Admin, answer, fault, show};
use crate::broker::Figures;

const LIMIT_MAX: usize = 1000;

/// Name, explanation, and the figure.
type Figure = (&'static str, &'static str, fn(&Figures) -> u64);

const COUNTERS: &[Figure] = &[
    ("longwire_broker_links", "Links to the broker that came to be", |f| f.links),
    ("longwire_broker_messages_sent", "Messages sent to other nodes", |f| f.sent),
    ("longwire_broker_messages_received", "Messages of other nodes", |f| f.received),
    ("longwire_broker_duplicates", "Messages of other nodes that came late or again", |f| {
        f.duplicates
    }),
    ("longwire_broker_strays", "What the broker sent that no node has sent to us", |f| f.strays),
    ("longwire_broker_queue_dropped", "Messages dropped on the way to the broker", |f| {
        f.queue_dropped
    }),
    ("longwire_broker_too_large", "Messages larger than the broker takes", |f| f.too_large),
    ("longwire_broker_gaps", "Times that messages of other nodes were missed", |f| f.gaps),
    ("longwire_broker_messages_missed", "Messages of other nodes that were missed", |f| f.missed),
];

pub(super) async fn health(State(admin): State<Arc<Admin>>) -> Response {
    let broker = admin.broker.as_ref().and_then(|(broker, _)| {
        let (why, time) = broker.report().degraded()?;
        Some(format!("ok\ndegraded: {}: {why}, for {} s\n", broker.url(), time.as_secs()))
    });
    let text = broker.unwrap_or_else(|| "ok\n".to_owned());
    answer(StatusCode::OK, "text/plain; charset=utf-8", text)
}

pub(super) async fn gaps(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let Some((after, limit)) = bounds(query.as_deref().unwrap_or_default()) else {
        let text = format!("after is a number, limit one from 1 to {LIMIT_MAX}");
        return fault(StatusCode::BAD_REQUEST, &text);
    };
    match &admin.broker {
        Some((broker, _)) => show(StatusCode::OK, &broker.report().gaps(after, limit)),
        None => fault(StatusCode::NOT_FOUND, "there is no broker; --broker names one"),
    }
}

fn bounds(query: &str) -> Option<(u64, usize)> {
    let value =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let after = value("after").map_or(Ok(0), str::parse).ok()?;
    let limit = value("limit").map_or(Ok(LIMIT_MAX), str::parse).ok()?;
    (1..=LIMIT_MAX).contains(&limit).then_some((after, limit))
}

/// A part of `/stats.json`.
pub(super) fn stats(admin: &Admin) -> Value {
    let Some((broker, _)) = &admin.broker else { return Value::Null };
    let figures = broker.report().figures();
    let degraded = broker.report().degraded();
    json!({
        "url": broker.url(),
        "node": broker.node(),
        "state": if degraded.is_some() { "degraded" } else { "up" },
        "why": degraded.map(|(why, _)| why),
        "links": figures.links,
        "failures": figures.failures,
        "sent": figures.sent,
        "received": figures.received,
        "duplicates": figures.duplicates,
        "strays": figures.strays,
        "queue_dropped": figures.queue_dropped,
        "too_large": figures.too_large,
        "gaps": figures.gaps,
        "missed": figures.missed,
        "subscriptions": figures.subscriptions,
        "queue_messages": figures.queue_messages,
        "queue_bytes": figures.queue_bytes,
    })
}

/// A part of `/metrics`.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    for &(name, help, figure) in COUNTERS {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(figure(figures)).encode(metric)?;
    }
    let (name, help) = ("longwire_broker_failures", "Links that ended or failed, by cause");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (cause, count) in &figures.failures {
        ConstCounter::new(*count).encode(family.encode_family(&[("cause", *cause)])?)?;
    }
    let up = i64::from(figures.is_up);
    gauge(encoder, "longwire_broker_up", "Whether topics span nodes now", up)?;
    for (name, help, value) in [
        (
            "longwire_broker_subscriptions",
            "Topics subscribed to at the broker",
            figures.subscriptions,
        ),
        (
            "longwire_broker_queue_messages",
            "Messages that wait for the broker",
            figures.queue_messages,
        ),
        ("longwire_broker_queue_bytes", "Bytes that wait for the broker", figures.queue_bytes),
    ] {
        gauge(encoder, name, help, level(value as u64))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_list_are_numbers() {
        for (query, expected) in [
            ("", Some((0, 1000))),
            ("after=7", Some((7, 1000))),
            ("limit=1&after=0", Some((0, 1))),
            ("after=-1", None),
            ("after=", None),
            ("limit=0", None),
            ("limit=1001", None),
        ] {
            assert_eq!(bounds(query), expected, "{query}");
        }
    }
}
