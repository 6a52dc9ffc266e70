//! Echo and broadcast on `axum` and its WebSocket extractor.

use std::process::ExitCode;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt as _;
use longwire_peers::{MESSAGE_BYTES_MAX, Order, Role, run_listener, talk};

fn main() -> ExitCode {
    run_listener("axum", async |listener, role: Role<Message>| {
        let upgrade = async move |upgrade: WebSocketUpgrade| -> Response {
            upgrade
                .max_message_size(MESSAGE_BYTES_MAX)
                .max_frame_size(MESSAGE_BYTES_MAX)
                .on_upgrade(|socket| converse(socket, role))
        };
        let listener = listener.tap_io(|stream| {
            // A connection without it would be slow, not wrong.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, Router::new().fallback(any(upgrade))).await
    })
}

async fn converse(socket: WebSocket, role: Role<Message>) {
    let is_data = |message: &Message| matches!(message, Message::Text(_) | Message::Binary(_));
    // A connection that fails has told its peer; nobody else wants to know.
    let _ = talk(socket, role, Order::Alternate, is_data).await;
}
