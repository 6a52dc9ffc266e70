//! `GET /tap?conn=ID`, `?topic=NAME` or `?addr=ADDRESS`: the frames of connections as they come and
//! go, an object of JSON on each line, until the client leaves or the connection has ended. With
//! `&payload` also what they carry.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Frame;
use longwire::{ConnId, Tap, TapDirection, TapEvent, TapTarget};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::closes::{side, unix_seconds};
use super::{Admin, answer, fault};
use crate::topic::TopicRules;

/// Taps at one time.
pub(super) const TAPS_MAX: usize = 4;
/// Bytes of a payload that are shown.
const PAYLOAD_BYTES_MAX: usize = 1024;
/// How often events are fetched.
const PACE: Duration = Duration::from_millis(20);
/// Fetches in vain after which a line shows that the server is there.
const SILENT_FETCHES_MAX: u32 = 500;
/// Bytes of lines that are sent at once.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// A viewer that has taken nothing for so long has its connection ended, and leaves its place.
pub(super) const UNREAD_MAX: Duration = Duration::from_secs(10);

/// Extends the life of a connection for as long as something is streamed to it, and the client
/// takes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease(Arc<Mutex<Option<Instant>>>);

impl Lease {
    /// Since when the client has taken nothing. None if nothing is streamed.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        *self.lock()
    }

    fn extend(&self) {
        *self.lock() = Some(Instant::now());
    }

    fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines, as the body of an answer.
struct Feed {
    tap: Tap,
    pace: Interval,
    silent_fetches: u32,
    lease: Lease,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn watch(
    State(admin): State<Arc<Admin>>,
    Extension(lease): Extension<Lease>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let target = match target(&query, &admin.rules) {
        Ok(target) => target,
        Err(advice) => return fault(StatusCode::BAD_REQUEST, &advice),
    };
    let Ok(permit) = Arc::clone(&admin.taps).try_acquire_owned() else {
        let text = format!("{TAPS_MAX} taps are open, which is as many as there may be");
        return fault(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    let wants_payload = query.split('&').any(|pair| pair == "payload" || pair == "payload=");
    let tap = admin.handle.tap(target, if wants_payload { PAYLOAD_BYTES_MAX } else { 0 });
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    lease.extend();
    let feed = Feed { tap, pace, silent_fetches: 0, lease, _permit: permit };
    answer(StatusCode::OK, "application/x-ndjson", Body::new(feed))
}

/// What is to be watched.
fn target(query: &str, rules: &TopicRules) -> Result<TapTarget, String> {
    let named = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut targets = named.filter_map(|(name, value)| match name {
        "conn" => {
            let id = value.parse::<ConnId>();
            Some(id.map(TapTarget::Conn).map_err(|error| error.to_string()))
        }
        "addr" => {
            let addr = value.parse::<IpAddr>();
            Some(addr.map(TapTarget::Addr).map_err(|_| "addr is an IP address".to_owned()))
        }
        "topic" => match rules.topic_at(&format!("/topics/{value}")) {
            Some(Ok(topic)) => Some(Ok(TapTarget::Topic(topic))),
            Some(Err(error)) => Some(Err(error.to_string())),
            None => None,
        },
        _ => None,
    });
    match (targets.next(), targets.next()) {
        (Some(target), None) => target,
        _ => Err("give one of conn=ID, topic=NAME and addr=ADDRESS".to_owned()),
    }
}

impl hyper::body::Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // What came before has left, or there is room for more; otherwise nobody would ask.
        self.lease.extend();
        loop {
            ready!(self.pace.poll_tick(context));
            let lines = self.fetch();
            if !lines.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(lines.into()))));
            }
            if self.tap.is_over() {
                return Poll::Ready(None);
            }
        }
    }
}

impl Feed {
    /// The lines that there are.
    fn fetch(&mut self) -> String {
        let mut lines = String::new();
        while lines.len() < CHUNK_BYTES_MAX
            && let Some(event) = self.tap.try_next()
        {
            push(&mut lines, &describe(&event));
        }
        let skipped = self.tap.take_skipped();
        if skipped > 0 {
            push(&mut lines, &json!({ "event": "skipped", "count": skipped }));
        }
        self.silent_fetches = if lines.is_empty() { self.silent_fetches + 1 } else { 0 };
        if self.silent_fetches > SILENT_FETCHES_MAX {
            // A client that is gone without a word is found out by what it does not take.
            self.silent_fetches = 0;
            push(&mut lines, &json!({ "event": "idle" }));
        }
        lines
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.lease.end();
    }
}

fn push(lines: &mut String, value: &Value) {
    lines.push_str(&value.to_string());
    lines.push('\n');
}

fn describe(event: &TapEvent) -> Value {
    match event {
        TapEvent::Watching { id, client_addr } => json!({
            "event": "watching",
            "id": id.to_string(),
            "address": client_addr.map(|addr| addr.to_string()),
        }),
        TapEvent::Frame(frame) => json!({
            "event": "frame",
            "id": frame.id.to_string(),
            "time": unix_seconds(frame.at.elapsed()),
            "direction": match frame.direction {
                TapDirection::In => "in",
                TapDirection::Out => "out",
            },
            "opcode": frame.opcode,
            "fin": frame.fin,
            "compressed": frame.compressed,
            "assembled": frame.assembled,
            "bytes": frame.payload_bytes,
            "payload": frame.payload,
        }),
        TapEvent::Ended { id, by, code, cause } => json!({
            "event": "ended",
            "id": id.to_string(),
            "side": side(by),
            "code": code.as_u16(),
            "cause": cause,
        }),
        TapEvent::Missing => json!({ "event": "missing" }),
        _ => Value::Null,
    }
}
