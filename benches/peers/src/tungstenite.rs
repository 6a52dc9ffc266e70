//! `tokio-tungstenite`, for its two servers.
//!
//! Its documentation gives 128 KiB as the read buffer for high load and 4 KiB for very many
//! connections. The first is the default and allocated for each connection, so there is one server
//! for each choice.

use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{Ended, MESSAGE_BYTES_MAX, Order, Role, talk};

/// Serves one connection.
pub async fn serve(
    stream: TcpStream,
    role: Role<Message>,
    read_buffer_bytes: Option<usize>,
) -> Ended {
    let limit = Some(MESSAGE_BYTES_MAX);
    let mut config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
    if let Some(bytes) = read_buffer_bytes {
        config = config.read_buffer_size(bytes).write_buffer_size(bytes);
    }
    let socket = accept_async_with_config(stream, Some(config)).await?;
    talk(socket, role, Order::Alternate, |message| message.is_text() || message.is_binary()).await
}
