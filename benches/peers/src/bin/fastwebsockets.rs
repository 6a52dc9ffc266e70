//! Echo and broadcast on `fastwebsockets`, upgraded by `hyper` as in its documentation.
//!
//! It writes each frame at once and has nothing to write several together. A read that was given
//! up half-way is lost, so broadcast reads and writes in two tasks.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError,
    WebSocketWrite,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use longwire_peers::{Ended, MESSAGE_BYTES_MAX, Role, hyper_upgrade, run};
use tokio::io::WriteHalf;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::broadcast::{Receiver, Sender};

/// A text or binary message: its opcode as a bit, for the crate's cannot be sent between threads.
type Spoken = (bool, Bytes);
type Writer = Arc<Mutex<WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>>>;

fn main() -> ExitCode {
    run("fastwebsockets", serve)
}

async fn serve(stream: TcpStream, role: Role<Spoken>) -> Ended {
    hyper_upgrade::serve(stream, |mut request| {
        let (response, upgraded) = upgrade(&mut request)?;
        tokio::spawn(converse(upgraded, role.clone()));
        Ok::<_, WebSocketError>(response)
    })
    .await
}

async fn converse(upgraded: UpgradeFut, role: Role<Spoken>) -> Ended {
    match role {
        Role::Echo => echo(upgraded).await,
        Role::Broadcast(all) => broadcast(upgraded, all).await,
    }
}

async fn echo(upgraded: UpgradeFut) -> Ended {
    let mut socket = upgraded.await?;
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

async fn broadcast(upgraded: UpgradeFut, all: Sender<Spoken>) -> Ended {
    let mut socket = upgraded.await?;
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    let (reader, writer) = socket.split(tokio::io::split);
    let writer = Arc::new(Mutex::new(writer));
    let speaking = tokio::spawn(speak(all.subscribe(), Arc::clone(&writer)));
    let heard = listen(FragmentCollectorRead::new(reader), &writer, &all).await;
    speaking.abort();
    heard
}

async fn speak(mut inbox: Receiver<Spoken>, writer: Writer) -> Ended {
    // One that has missed messages says no more: a gap must be seen.
    loop {
        let (is_text, payload) = inbox.recv().await?;
        let payload = Payload::Borrowed(&payload);
        let frame = if is_text { Frame::text(payload) } else { Frame::binary(payload) };
        writer.lock().await.write_frame(frame).await?;
    }
}

async fn listen(
    mut reader: FragmentCollectorRead<tokio::io::ReadHalf<TokioIo<Upgraded>>>,
    writer: &Writer,
    all: &Sender<Spoken>,
) -> Ended {
    loop {
        let frame = reader
            .read_frame(&mut async |answer| writer.lock().await.write_frame(answer).await)
            .await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                let is_text = frame.opcode == OpCode::Text;
                // It has at least this connection's receiver.
                let _ = all.send((is_text, Bytes::from(frame.payload.to_vec())));
            }
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}
