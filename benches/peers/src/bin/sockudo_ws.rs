//! Echo and broadcast on `sockudo-ws`, on its Tokio runtime.
//!
//! Its io_uring transport is not used: it is for the unsplit stream on a runtime of its own, and
//! its documentation gives Tokio as the default.

use std::process::ExitCode;

use longwire_peers::{Ended, MESSAGE_BYTES_MAX, Order, Role, run, talk};
use sockudo_ws::handshake::server_handshake;
use sockudo_ws::{Config, Message, Role as Side, WebSocketStream, init_clock};
use tokio::net::TcpStream;

fn main() -> ExitCode {
    // Its documentation asks for this before the runtime is made.
    init_clock();
    run("sockudo-ws", serve)
}

async fn serve(mut stream: TcpStream, role: Role<Message>) -> Ended {
    let request = server_handshake(&mut stream).await?;
    let config = Config::builder().max_payload_length(MESSAGE_BYTES_MAX).build();
    let socket =
        WebSocketStream::from_raw_with_leftover(stream, Side::Server, config, request.leftover);
    talk(socket, role, Order::Alternate, |message| {
        matches!(message, Message::Text(_) | Message::Binary(_))
    })
    .await
}
