//! Each server, as its own process, does what it is compared for: echoes text and binary of every
//! size, puts fragments together, answers a ping and a Close, and broadcasts in order.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

type Socket = WebSocketStream<TcpStream>;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running server, killed when dropped.
struct Server {
    child: Child,
    addr: String,
}

impl Server {
    fn start(command: &[String], mode: &str) -> Self {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .args(["--listen", "127.0.0.1:0", "--mode", mode])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").expect("the server says its address");
        Self { child, addr: addr.to_owned() }
    }

    async fn connect(&self) -> Socket {
        let stream = TcpStream::connect(&self.addr).await.unwrap();
        let url = format!("ws://{}/any/path?at=all", self.addr);
        let config = WebSocketConfig::default().max_frame_size(None);
        client_async_with_config(url, stream, Some(config)).await.unwrap().0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Name and command of each server. Those of npm are there only if they were installed.
fn peers() -> Vec<Vec<String>> {
    let mut peers: Vec<Vec<String>> = [
        env!("CARGO_BIN_EXE_axum"),
        env!("CARGO_BIN_EXE_fastwebsockets"),
        env!("CARGO_BIN_EXE_sockudo_ws"),
        env!("CARGO_BIN_EXE_tokio_tungstenite"),
        env!("CARGO_BIN_EXE_tokio_tungstenite_4k"),
        env!("CARGO_BIN_EXE_tokio_websockets"),
        env!("CARGO_BIN_EXE_web_socket"),
        env!("CARGO_BIN_EXE_yawc"),
    ]
    .into_iter()
    .map(|program| vec![program.to_owned()])
    .collect();
    let npm = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("npm");
    if npm.join("node_modules").exists() {
        let path = |name: &str| npm.join(name).to_string_lossy().into_owned();
        peers.push(vec!["node".to_owned(), path("ws.js")]);
        peers.push(vec![path("node_modules/.bin/bun"), path("bun.js")]);
    } else {
        eprintln!("SKIPPED ws and bun: not installed; run benches/peers/setup");
    }
    peers
}

async fn next(socket: &mut Socket, what: &str) -> Message {
    timeout(PATIENCE, socket.next())
        .await
        .unwrap_or_else(|_| panic!("{what}: no answer"))
        .unwrap_or_else(|| panic!("{what}: it hung up"))
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn pattern(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

#[tokio::test]
async fn every_server_echoes_text_and_binary_of_every_size() {
    for peer in peers() {
        let what = format!("{peer:?}");
        let server = Server::start(&peer, "echo");
        let mut socket = server.connect().await;
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 17 << 20] {
            for message in [Message::binary(pattern(size)), Message::text("é".repeat(size / 2))] {
                socket.send(message.clone()).await.unwrap();
                assert!(next(&mut socket, &what).await == message, "{what}: {size} bytes differ");
            }
        }
    }
}

#[tokio::test]
async fn every_server_answers_messages_that_come_together_in_order() {
    for peer in peers() {
        let what = format!("{peer:?}");
        let server = Server::start(&peer, "echo");
        let mut socket = server.connect().await;
        for number in 0..200 {
            socket.feed(Message::text(number.to_string())).await.unwrap();
        }
        socket.flush().await.unwrap();
        for number in 0..200 {
            assert_eq!(next(&mut socket, &what).await, Message::text(number.to_string()), "{what}");
        }
    }
}

#[tokio::test]
async fn every_server_joins_fragments_answers_a_ping_and_a_close() {
    for peer in peers() {
        for mode in ["echo", "broadcast"] {
            let what = format!("{peer:?} {mode}");
            let server = Server::start(&peer, mode);
            let mut socket = server.connect().await;
            for (data, part, last) in [
                (Data::Text, "gr", false),
                (Data::Continue, "üß", false),
                (Data::Continue, "e", true),
            ] {
                let frame = Frame::message(part.as_bytes().to_vec(), OpCode::Data(data), last);
                socket.send(Message::Frame(frame)).await.unwrap();
            }
            assert_eq!(next(&mut socket, &what).await, Message::text("grüße"), "{what}");
            socket.send(Message::Ping("there?".into())).await.unwrap();
            assert_eq!(next(&mut socket, &what).await, Message::Pong("there?".into()), "{what}");
            socket.close(None).await.unwrap();
            let answer = next(&mut socket, &what).await;
            assert!(matches!(answer, Message::Close(_)), "{what}: {answer:?}");
            let end = timeout(PATIENCE, socket.next()).await.expect("it closes the connection");
            assert!(matches!(end, None | Some(Err(Error::ConnectionClosed))), "{what}: {end:?}");
        }
    }
}

#[tokio::test]
async fn every_server_broadcasts_in_order_to_all_and_the_sender() {
    for peer in peers() {
        let what = format!("{peer:?}");
        let server = Server::start(&peer, "broadcast");
        let mut sockets = Vec::new();
        for _ in 0..5 {
            let mut socket = server.connect().await;
            // Its own word comes back once it hears the others.
            socket.send(Message::text("here")).await.unwrap();
            assert_eq!(next(&mut socket, &what).await, Message::text("here"), "{what}");
            sockets.push(socket);
        }
        for number in 0..100_u8 {
            sockets[2].feed(Message::binary(vec![number; 100])).await.unwrap();
        }
        sockets[2].flush().await.unwrap();
        for socket in &mut sockets {
            let mut expected = 0;
            while expected < 100 {
                let message = next(socket, &what).await;
                if message != Message::text("here") {
                    assert_eq!(message, Message::binary(vec![expected; 100]), "{what}");
                    expected += 1;
                }
            }
        }
    }
}

#[test]
fn mistake_on_the_command_line_is_one_line_and_status_2() {
    for peer in peers() {
        let mut child = Command::new(&peer[0])
            .args(&peer[1..])
            .args(["--mode", "shout"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{peer:?}");
        assert!(said.contains("echo or broadcast") && said.lines().count() == 1, "{said}");
    }
}
