//! Echo and broadcast on `web-socket`, over a buffered reader and a buffered writer.
//!
//! The crate reads and writes right through to the stream it is given, so the buffers are the
//! application's; answers leave when the read buffer is empty. Fragments, and whether text is
//! UTF-8, are the application's business, too. A read that was given up half-way is lost, so
//! broadcast reads and writes in two tasks.

use std::process::ExitCode;
use std::sync::Arc;

use longwire_peers::{BATCH_MAX, Ended, MESSAGE_BYTES_MAX, Role, raw_upgrade, run};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::sync::broadcast::{Receiver, Sender};
use web_socket::{CloseCode, DataType, Event, Frame, MessageType, Stream, WebSocket};

/// A whole message.
#[derive(Clone, Debug)]
struct Spoken {
    ty: MessageType,
    payload: Arc<[u8]>,
}

type Writer = Arc<Mutex<WebSocket<BufWriter<OwnedWriteHalf>>>>;

fn main() -> ExitCode {
    run("web-socket", serve)
}

async fn serve(stream: TcpStream, role: Role<Spoken>) -> Ended {
    match role {
        Role::Echo => {
            let mut stream = BufReader::new(BufWriter::new(stream));
            raw_upgrade::accept(&mut stream).await?;
            echo(server(stream)).await
        }
        Role::Broadcast(all) => {
            let mut stream = BufReader::new(stream);
            raw_upgrade::accept(&mut stream).await?;
            // The client must not speak before it has read the answer, and what it says before
            // this line would be lost with the buffer.
            if !stream.buffer().is_empty() {
                return Err("spoke too early".into());
            }
            broadcast(stream.into_inner(), all).await
        }
    }
}

fn server<S>(stream: S) -> WebSocket<S> {
    let mut socket = WebSocket::server(stream);
    socket.max_payload_len = MESSAGE_BYTES_MAX;
    socket
}

async fn echo<S>(mut socket: WebSocket<BufReader<S>>) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut whole = Whole::default();
    loop {
        match whole.take(socket.recv().await?) {
            Heard::Message(ty, payload) => socket.send(frame(ty, &payload)).await?,
            Heard::Ping(payload) => socket.send_pong(payload).await?,
            Heard::Nothing => continue,
            Heard::Close(code) => return Ok(socket.close(code).await?),
        }
        if socket.stream.buffer().is_empty() {
            socket.flash().await?;
        }
    }
}

async fn broadcast(stream: TcpStream, all: Sender<Spoken>) -> Ended {
    let (reader, writer) = stream.into_split();
    let writer = Arc::new(Mutex::new(server(BufWriter::new(writer))));
    let speaking = tokio::spawn(speak(all.subscribe(), Arc::clone(&writer)));
    let heard = listen(server(BufReader::new(reader)), &writer, &all).await;
    speaking.abort();
    heard
}

async fn speak(mut inbox: Receiver<Spoken>, writer: Writer) -> Ended {
    loop {
        // One that has missed messages says no more: a gap must be seen.
        let spoken = inbox.recv().await?;
        let mut writer = writer.lock().await;
        writer.send(frame(spoken.ty, &spoken.payload)).await?;
        for _ in 1..BATCH_MAX {
            let Ok(spoken) = inbox.try_recv() else { break };
            writer.send(frame(spoken.ty, &spoken.payload)).await?;
        }
        writer.flash().await?;
    }
}

async fn listen(
    mut socket: WebSocket<impl AsyncRead + Unpin>,
    writer: &Writer,
    all: &Sender<Spoken>,
) -> Ended {
    let mut whole = Whole::default();
    loop {
        match whole.take(socket.recv().await?) {
            Heard::Message(ty, payload) => {
                // It has at least this connection's receiver.
                let _ = all.send(Spoken { ty, payload: payload.into() });
            }
            Heard::Ping(payload) => {
                let mut writer = writer.lock().await;
                writer.send_pong(payload).await?;
                writer.flash().await?;
            }
            Heard::Nothing => {}
            Heard::Close(code) => {
                let mut writer = writer.lock().await;
                let code = u16::from(code).to_be_bytes();
                writer.send_raw(Frame { fin: true, opcode: 8, data: &code }).await?;
                return Ok(writer.flash().await?);
            }
        }
    }
}

fn frame(ty: MessageType, payload: &[u8]) -> Frame<'_> {
    let opcode = match ty {
        MessageType::Text => 1,
        MessageType::Binary => 2,
    };
    Frame { fin: true, opcode, data: payload }
}

/// What is left to answer of an event.
enum Heard {
    Message(MessageType, Box<[u8]>),
    Ping(Box<[u8]>),
    Nothing,
    Close(CloseCode),
}

/// Puts fragments together.
#[derive(Debug, Default)]
struct Whole {
    fragments: Vec<u8>,
}

impl Whole {
    fn take(&mut self, event: Event) -> Heard {
        match event {
            Event::Data { ty: DataType::Complete(ty), data } => checked(ty, data),
            Event::Data { ty: DataType::Stream(part), data } => {
                if self.fragments.len() + data.len() > MESSAGE_BYTES_MAX {
                    return Heard::Close(CloseCode::MessageTooBig);
                }
                self.fragments.extend_from_slice(&data);
                match part {
                    Stream::End(ty) => {
                        checked(ty, std::mem::take(&mut self.fragments).into_boxed_slice())
                    }
                    Stream::Start(_) | Stream::Next(_) => Heard::Nothing,
                }
            }
            Event::Ping(payload) => Heard::Ping(payload),
            Event::Pong(_) => Heard::Nothing,
            Event::Error(_) => Heard::Close(CloseCode::ProtocolError),
            Event::Close { code, .. } => Heard::Close(code.into()),
        }
    }
}

fn checked(ty: MessageType, payload: Box<[u8]>) -> Heard {
    if ty.is_text() && std::str::from_utf8(&payload).is_err() {
        return Heard::Close(CloseCode::InvalidPayload);
    }
    Heard::Message(ty, payload)
}
