//! `POST /topics/NAME`: publishes the body, under the limits of the WebSocket side.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Body as _;
use longwire::{Payload, PublishError};
use serde_json::json;
use tokio::time::timeout;

use super::{Admin, fault, show};

/// For a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Until all workers have served their subscribers.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read and thrown away of a body that is too large, so that its client reads the answer
/// instead of a reset.
const WASTE_BYTES_MAX: usize = 1 << 20;
/// When it may be less busy.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What a body is made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFault {
    TooLarge,
    Broken,
}

pub(super) async fn publish(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let topic = match admin.rules.topic_at(head.uri.path()) {
        Some(Ok(topic)) => topic,
        Some(Err(error)) => return fault(StatusCode::BAD_REQUEST, &error.to_string()),
        None => return fault(StatusCode::NOT_FOUND, "there is no such page"),
    };
    let kind = match kind(&head.headers) {
        Ok(kind) => kind,
        Err(advice) => return fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, advice),
    };
    let bytes_max = admin.handle.message_bytes_max();
    let waits = head.headers.contains_key(header::EXPECT);
    let message = match timeout(BODY_TIMEOUT, read(body, bytes_max, waits)).await {
        Ok(Ok(message)) => message,
        Ok(Err(BodyFault::TooLarge)) => {
            let text = format!("a message has at most {bytes_max} bytes");
            return fault(StatusCode::PAYLOAD_TOO_LARGE, &text);
        }
        Ok(Err(BodyFault::Broken)) => return fault(StatusCode::BAD_REQUEST, "a broken body"),
        Err(_) => return fault(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
    };
    let payload: Payload<'_> = match kind {
        Kind::Binary => message.as_slice().into(),
        Kind::Text => match str::from_utf8(&message) {
            Ok(text) => text.into(),
            Err(_) => {
                let text = "text is UTF-8; other bytes are sent as application/octet-stream";
                return fault(StatusCode::BAD_REQUEST, text);
            }
        },
    };
    deliver(&admin, &topic, payload).await
}

/// Publishes, and waits for what has become of it.
async fn deliver(admin: &Admin, topic: &str, payload: Payload<'_>) -> Response {
    if !admin.stage.is_serving() {
        return busy("the server is not accepting messages");
    }
    let receipt = match admin.handle.publish(topic, payload) {
        Ok(receipt) => {
            if let Some((_, port)) = &admin.broker {
                port.publish(topic, payload.kind(), payload.bytes());
            }
            receipt
        }
        Err(error @ PublishError::Busy) => return busy(&error.to_string()),
        Err(error @ PublishError::Invalid(_)) => {
            return fault(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    match timeout(DELIVERY_TIMEOUT, receipt).await {
        Ok(delivery) => {
            let counts = json!({ "queued": delivery.queued, "refused": delivery.refused });
            show(StatusCode::OK, &counts)
        }
        // It cannot be taken back: to say that it failed would have it sent twice.
        Err(_) => show(StatusCode::ACCEPTED, &json!({ "queued": null, "refused": null })),
    }
}

fn busy(why: &str) -> Response {
    let mut response = fault(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    response
}

/// What the headers say that the body is.
fn kind(headers: &HeaderMap) -> Result<Kind, &'static str> {
    let advice = "send text/*, application/json or application/octet-stream, not compressed";
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(advice);
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Kind::Text) };
    let value = value.to_str().map_err(|_| advice)?.to_ascii_lowercase();
    match value.split(';').next().unwrap_or_default().trim() {
        "application/octet-stream" => Ok(Kind::Binary),
        // What curl says when it is told nothing; its user means text as well.
        "application/json" | "application/x-www-form-urlencoded" => Ok(Kind::Text),
        other if other.starts_with("text/") => Ok(Kind::Text),
        _ => Err(advice),
    }
}

/// The whole body, if it is no larger than a message. Memory follows what has come.
async fn read(mut body: Body, bytes_max: usize, waits: bool) -> Result<Vec<u8>, BodyFault> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > bytes_max && waits {
        // It has not been sent yet, and need not be.
        return Err(BodyFault::TooLarge);
    }
    let mut message = Vec::new();
    let mut taken_bytes = 0;
    while let Some(chunk) = next(&mut body).await? {
        taken_bytes += chunk.len();
        if taken_bytes <= bytes_max {
            message.extend_from_slice(&chunk);
        } else if taken_bytes > bytes_max.saturating_add(WASTE_BYTES_MAX) {
            break;
        }
    }
    if taken_bytes > bytes_max { Err(BodyFault::TooLarge) } else { Ok(message) }
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, BodyFault> {
    loop {
        let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await else {
            return Ok(None);
        };
        // Trailers are of no interest.
        if let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use clap::Parser as _;
    use longwire::{Server, TopicPolicy};
    use serde_json::{Value, from_slice};

    use super::*;
    use crate::admin::Facts;
    use crate::args::{Args, Command};
    use crate::life::Stage;
    use crate::topic::TopicRules;

    /// A server that says it serves and never runs, so that messages of every topic wait for it.
    fn standing(inbox_orders_max: usize) -> (Server, Arc<Admin>) {
        let Command::Serve(args) = Args::parse_from(["longwire", "serve"]).command else {
            unreachable!("it was asked for")
        };
        let rules = Arc::new(TopicRules::new(&args.topics).unwrap());
        let server = Server::builder()
            .listen(([127, 0, 0, 1], 0).into())
            .workers(1)
            .topic_policy(|_| TopicPolicy::new().history(1))
            .inbox_orders_max(inbox_orders_max)
            .build()
            .unwrap();
        let facts = Facts { backend: String::new(), urls: Vec::new() };
        let stage = Stage::default();
        stage.serve();
        let admin = Admin::new(server.handle(), stage, rules, facts, None);
        (server, Arc::new(admin))
    }

    /// Publishes; the answer and its body.
    fn post(admin: &Arc<Admin>) -> (Response, Value) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let request =
            Request::builder().method("POST").uri("/topics/a").body(Body::from("x")).unwrap();
        runtime.block_on(async {
            let mut response = publish(State(Arc::clone(admin)), request).await;
            let body = to_bytes(std::mem::take(response.body_mut()), usize::MAX).await.unwrap();
            (response, from_slice(&body).unwrap())
        })
    }

    #[test]
    fn hp06_message_for_a_worker_that_takes_no_more_is_answered_with_503_and_when_to_retry() {
        let (_server, admin) = standing(1);
        let waiting = admin.handle.publish("a", "before it").unwrap();
        let (response, body) = post(&admin);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(body["error"], PublishError::Busy.to_string());
        assert_eq!(waiting.delivery(), None, "the one before it still waits");
    }

    #[test]
    fn message_of_which_nothing_is_heard_in_time_is_accepted_without_counts() {
        let (server, admin) = standing(10);
        let (response, body) = post(&admin);
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(body, json!({ "queued": null, "refused": null }));
        drop(server);
        let (response, body) = post(&admin);
        assert_eq!(response.status(), StatusCode::OK, "nobody is left who could be late");
        assert_eq!(body, json!({ "queued": 0, "refused": 0 }));
    }
}
