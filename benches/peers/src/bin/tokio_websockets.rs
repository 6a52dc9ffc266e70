//! Echo and broadcast on `tokio-websockets`.

use std::process::ExitCode;

use longwire_peers::{Ended, MESSAGE_BYTES_MAX, Order, Role, run, talk};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Limits, Message, ServerBuilder};

fn main() -> ExitCode {
    run("tokio-websockets", serve)
}

async fn serve(stream: TcpStream, role: Role<Message>) -> Ended {
    // Messages leave in one frame each, as from the others; the crate would split at 4 MiB.
    let (_request, socket) = ServerBuilder::new()
        .config(Config::default().frame_size(MESSAGE_BYTES_MAX))
        .limits(Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX)))
        .accept(stream)
        .await?;
    talk(socket, role, Order::ReadFirst, |message| message.is_text() || message.is_binary()).await
}
