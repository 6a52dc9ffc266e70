//! Compressed messages (permessage-deflate, RFC 7692): what is agreed, what comes back, and what
//! becomes of those who misuse it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use longwire::{
    Accept, BackendChoice, Client as Dialing, ClientHandler, ClientTls, Close, CloseCode,
    Compression, Conn, Decision, Dialer, Handler, Message, Request, Target,
};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

use crate::certificates::Authority;
use crate::client::{BINARY, CONTINUATION, Client, Codec, PING, PONG, REQUEST, TEXT, frame};
use crate::secure::{secure_addr, secured};
use crate::server::{Running, builder, on_every_backend};

const RSV1: u8 = 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// One by zlib.
struct Zlib {
    takeover: bool,
    deflate: Deflate,
    inflate: Inflate,
}

impl Zlib {
    fn new(takeover: bool) -> Self {
        Self { takeover, deflate: Deflate::new(9, false, 15), inflate: Inflate::new(false, 15) }
    }
}

impl Codec for Zlib {
    fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.deflate.reset();
        }
        if message.is_empty() {
            // RFC 7692 §7.2.3.6: an empty block, of which a second flush would write nothing.
            return vec![0];
        }
        let mut out = vec![0; message.len() + message.len() / 100 + 1024];
        let before = self.deflate.total_out();
        self.deflate.compress(message, &mut out, DeflateFlush::SyncFlush).unwrap();
        out.truncate(usize::try_from(self.deflate.total_out() - before).unwrap());
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    /// The message, which is at most `1 << 20` bytes.
    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.inflate.reset(false);
        }
        let mut out = vec![0; (1 << 20) + 1];
        let before = self.inflate.total_out();
        let payload = [payload, &TAIL].concat();
        self.inflate.decompress(&payload, &mut out, InflateFlush::SyncFlush).unwrap();
        out.truncate(usize::try_from(self.inflate.total_out() - before).unwrap());
        out
    }
}

impl fmt::Debug for Zlib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zlib").field("takeover", &self.takeover).finish_non_exhaustive()
    }
}

fn compressing(backend: BackendChoice, compression: Compression) -> Running {
    Running::start_with(backend, builder(backend).compression(Some(compression)))
}

fn offering(offer: &str) -> String {
    let line = format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n");
    REQUEST.replacen("\r\n\r\n", &line, 1)
}

/// What the 101 says of extensions.
fn agreed(client: &mut Client) -> Option<String> {
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let name = "Sec-WebSocket-Extensions: ";
    let mut said = head.lines().filter_map(|line| line.strip_prefix(name));
    let answer = said.next().map(str::to_owned);
    assert_eq!(said.next(), None, "one answer");
    answer
}

/// An open connection that compresses.
fn open(server: &Running, takeover: bool) -> Client {
    open_at(server.addr, "/", takeover)
}

/// The same to `target`.
pub(crate) fn open_at(addr: SocketAddr, target: &str, takeover: bool) -> Client {
    let mut client = Client::connect(addr);
    let request = offering("permessage-deflate").replacen("GET / ", &format!("GET {target} "), 1);
    client.send_raw(request.as_bytes());
    let answer = agreed(&mut client).expect("it is agreed");
    assert_eq!(answer.contains("server_no_context_takeover"), !takeover, "{answer}");
    client.codec = Some(Box::new(Zlib::new(takeover)));
    client
}

/// A frame with RSV1 set.
fn marked(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(fin, opcode, payload);
    bytes[0] |= RSV1;
    bytes
}

fn deflated(client: &mut Client, message: &[u8]) -> Vec<u8> {
    client.codec.as_mut().expect("it compresses").deflate(message)
}

/// Text that resembles itself, of any length.
fn prose(bytes: usize) -> Vec<u8> {
    let words = ["{\"id\":", "\"name\":\"wire\",", "\"ts\":", "1234567", "},", "\n"];
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.extend(random.choice(words).unwrap().as_bytes());
    }
    text.truncate(bytes);
    text
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..bytes).map(|_| random.u8(..)).collect()
}

#[test]
fn hs16_what_is_agreed_stands_in_the_101() {
    on_every_backend(|backend| {
        let both = "; server_no_context_takeover; client_no_context_takeover";
        let without = format!("permessage-deflate{both}");
        let (shared, kept) = (Compression::new(), Compression::new().context_takeover(true));
        for (settings, offer, answer) in [
            (shared, "permessage-deflate", Some(without.as_str())),
            (shared, "x-unknown, permessage-deflate", Some(&without)),
            (shared, "permessage-deflate; x=1, permessage-deflate", Some(&without)),
            (shared, "permessage-deflate; server_max_window_bits=16", None),
            (shared, "permessage-deflate; server_max_window_bits=\"16\"", None),
            (shared, "permessage-deflate; client_max_window_bits=7", None),
            (shared, "x-webkit-deflate-frame", None),
            (kept, "permessage-deflate", Some("permessage-deflate")),
            (
                kept,
                "permessage-deflate; server_max_window_bits=10",
                Some("permessage-deflate; server_max_window_bits=10"),
            ),
        ] {
            let server = compressing(backend, settings);
            let mut client = Client::connect(server.addr);
            client.send_raw(offering(offer).as_bytes());
            assert_eq!(agreed(&mut client).as_deref(), answer, "{offer}");
            client.echo("either way");
        }
        // It is off unless it is turned on.
        let server = Running::start(backend);
        let mut client = Client::connect(server.addr);
        client.send_raw(offering("permessage-deflate").as_bytes());
        assert_eq!(agreed(&mut client), None);
    });
}

#[test]
fn compressed_and_plain_messages_of_every_size_come_back() {
    on_every_backend(|backend| {
        for takeover in [false, true] {
            let settings = Compression::new().context_takeover(takeover);
            let settings = builder(backend).compression(Some(settings)).message_bytes_max(1 << 20);
            let server = Running::start_with(backend, settings);
            let mut client = open(&server, takeover);
            for bytes in [0, 1, 125, 126, 255, 256, 20_000, 65_535, 65_536, 1 << 20] {
                for message in [prose(bytes), noise(bytes)] {
                    let payload = deflated(&mut client, &message);
                    client.send_raw(&marked(true, BINARY, &payload));
                    client.send_frame(true, BINARY, &message);
                    for _ in 0..2 {
                        assert!(client.read_frame().payload == message, "{bytes} bytes");
                    }
                }
            }
            // In fragments, with a ping between.
            let message = prose(3000);
            let payload = deflated(&mut client, &message);
            let (first, rest) = payload.split_at(payload.len() / 3);
            client.send_raw(&marked(false, TEXT, first));
            client.send_frame(true, PING, b"between");
            client.send_frame(false, CONTINUATION, b"");
            client.send_frame(true, CONTINUATION, rest);
            assert_eq!(client.read_frame().opcode, PONG);
            assert!(client.read_text().into_bytes() == message);
            client.close(1000);
            server.stop();
        }
    });
}

#[test]
fn small_messages_and_those_that_gain_nothing_are_sent_plain() {
    on_every_backend(|backend| {
        let server = compressing(backend, Compression::new().message_bytes_min(300));
        let mut client = open(&server, false);
        // Without the codec, a compressed frame is one that breaks the protocol.
        client.codec = None;
        for message in [prose(299), noise(5000)] {
            client.send_frame(true, BINARY, &message);
            assert!(client.read_frame().payload == message);
        }
        client.codec = Some(Box::new(Zlib::new(false)));
        client.send_frame(true, BINARY, &prose(300));
        assert!(client.read_frame().payload == prose(300));
        assert_eq!(client.codec_uses, 1, "that one was compressed");
    });
}

#[test]
fn connections_of_both_kinds_stand_beside_each_other() {
    on_every_backend(|backend| {
        for takeover in [false, true] {
            let server = compressing(backend, Compression::new().context_takeover(takeover));
            let mut clients: Vec<Client> =
                (0..12)
                    .map(|n| {
                        if n % 3 == 0 { Client::open(server.addr) } else { open(&server, takeover) }
                    })
                    .collect();
            let mut cut: Vec<Vec<u8>> = vec![Vec::new(); clients.len()];
            for round in 0..6 {
                // All are in the middle of a message at once.
                for (number, client) in clients.iter_mut().enumerate() {
                    let message = prose(1000 + 37 * number + round);
                    let bytes = match number % 3 {
                        0 => frame(true, TEXT, &message),
                        _ => marked(true, TEXT, &deflated(client, &message)),
                    };
                    let (first, rest) = bytes.split_at(bytes.len() / 2);
                    client.send_raw(first);
                    cut[number] = rest.to_vec();
                }
                for (number, client) in clients.iter_mut().enumerate().rev() {
                    client.send_raw(&cut[number]);
                    let message = prose(1000 + 37 * number + round);
                    assert!(client.read_text().into_bytes() == message, "of {number}");
                }
            }
        }
    });
}

#[test]
fn pd01_bomb_is_closed_with_1009_however_it_is_cut() {
    on_every_backend(|backend| {
        let server = compressing(backend, Compression::new());
        let mut other = open(&server, false);
        let mut codec = Zlib::new(false);
        let fits = codec.deflate(&vec![0; MESSAGE_BYTES_MAX]);
        other.send_raw(&marked(true, BINARY, &fits));
        assert_eq!(other.read_frame().payload.len(), MESSAGE_BYTES_MAX);
        for bytes in [MESSAGE_BYTES_MAX + 1, 1 << 20, 60 << 20] {
            let bomb = codec.deflate(&vec![0; bytes]);
            assert!(bomb.len() < MESSAGE_BYTES_MAX, "only its content is too large");
            let mut client = open(&server, false);
            client.send_raw(&marked(true, BINARY, &bomb));
            client.expect_failure(1009);

            let mut client = open(&server, false);
            let mut pieces = bomb.chunks(bomb.len().div_ceil(20));
            let mut bytes = marked(false, BINARY, pieces.next().unwrap());
            for piece in pieces {
                bytes.extend(frame(false, CONTINUATION, piece));
            }
            bytes.extend(frame(true, CONTINUATION, b""));
            // The server may be gone before all of it is sent.
            let _ = client.try_send_raw(&bytes);
            client.expect_failure(1009);
        }
        other.send_raw(&marked(true, BINARY, &fits));
        assert_eq!(other.read_frame().payload.len(), MESSAGE_BYTES_MAX, "others are served");
    });
}

#[test]
fn pd03_malformed_data_is_closed_with_1007_and_harms_nobody_else() {
    on_every_backend(|backend| {
        for takeover in [false, true] {
            let server = compressing(backend, Compression::new().context_takeover(takeover));
            let mut other = open(&server, takeover);
            // Blocks of the type that there is not, and a match of what was never there.
            let malformed: [&[u8]; 3] = [&[0xff; 10], &[0x07], &[0x02, 0x02, 0x00]];
            for payload in malformed {
                let mut client = open(&server, takeover);
                client.send_raw(&marked(true, BINARY, payload));
                client.expect_failure(1007);
                let message = prose(500);
                let payload = deflated(&mut other, &message);
                other.send_raw(&marked(true, BINARY, &payload));
                assert!(other.read_frame().payload == message);
            }
            // Inflated, it is no UTF-8 (row FG06).
            let mut client = open(&server, takeover);
            let payload = deflated(&mut client, &[b'a'; 400].map(|byte| byte | 0x80));
            client.send_raw(&marked(true, TEXT, &payload));
            client.expect_failure(1007);
        }
    });
}

#[test]
fn fr05_mark_of_compression_without_agreement_is_closed_with_1002() {
    on_every_backend(|backend| {
        let server = compressing(backend, Compression::new());
        let payload = Zlib::new(false).deflate(b"hello");
        let mut client = Client::open(server.addr);
        client.send_raw(&marked(true, TEXT, &payload));
        client.expect_failure(1002);
        for wrong in [marked(true, PING, b""), marked(true, CONTINUATION, b"")] {
            let mut client = open(&server, false);
            client.send_raw(&marked(false, TEXT, &payload));
            client.send_raw(&wrong);
            client.expect_failure(1002);
        }
        for reserved in [0x20, 0x10] {
            let mut client = open(&server, false);
            let mut bytes = frame(true, TEXT, b"x");
            bytes[0] |= reserved;
            client.send_raw(&bytes);
            client.expect_failure(1002);
        }
    });
}

/// Says no to compression where a secret is at stake.
struct Careful;

impl Handler for Careful {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<()> {
        Accept::new(()).compression(request.path() != "/secret").into()
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.echo(message).unwrap();
    }
}

#[test]
fn pd08_application_can_leave_a_connection_uncompressed() {
    on_every_backend(|backend| {
        let settings = builder(backend).compression(Some(Compression::new()));
        let server = Running::serve(backend, settings, |_| Careful);
        for (path, is_compressed) in [("/", true), ("/secret", false)] {
            let mut client = Client::connect(server.addr);
            let request =
                offering("permessage-deflate").replacen("GET / ", &format!("GET {path} "), 1);
            client.send_raw(request.as_bytes());
            assert_eq!(agreed(&mut client).is_some(), is_compressed, "{path}");
            client.codec = if is_compressed { Some(Box::new(Zlib::new(false))) } else { None };
            client.send_frame(true, TEXT, &prose(1000));
            assert!(client.read_text().into_bytes() == prose(1000));
            assert_eq!(client.codec_uses, u32::from(is_compressed));
        }
    });
}

/// Sends one message after the other, each once the one before has come back.
struct Parrot {
    target: Target,
    conns: usize,
    messages: Vec<Vec<u8>>,
    told: Sender<(u16, usize)>,
}

impl ClientHandler for Parrot {
    type State = usize;

    fn turn(&mut self, dialer: &mut Dialer<'_, usize>) -> Option<Instant> {
        for _ in 0..std::mem::take(&mut self.conns) {
            dialer.connect(&self.target, None, 0).unwrap();
        }
        if dialer.conn_count() == 0 {
            dialer.stop();
        }
        None
    }

    fn open(&mut self, conn: &mut Conn<'_, usize>) {
        conn.send_binary(&self.messages[0]).unwrap();
    }

    fn message(&mut self, conn: &mut Conn<'_, usize>, message: Message<'_>) {
        let number = *conn.state();
        if message.payload() != self.messages[number] {
            conn.close(CloseCode::new(4000), "not what was sent");
            return;
        }
        *conn.state() += 1;
        match self.messages.get(number + 1) {
            Some(next) => drop(conn.send_binary(next).unwrap()),
            None => conn.close(CloseCode::NORMAL, ""),
        }
    }

    fn close(&mut self, conn: &mut Conn<'_, usize>, close: &Close) {
        let _ = self.told.send((close.code().as_u16(), *conn.state()));
    }
}

#[test]
fn client_and_server_of_the_library_compress_for_each_other() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let sizes = [0, 1, 125, 126, 300, 20_000, 65_535, 65_536, 150_000];
        let messages: Vec<Vec<u8>> =
            sizes.iter().flat_map(|&bytes| [prose(bytes), noise(bytes), prose(bytes)]).collect();
        for takeovers in [(false, false), (true, true), (true, false), (false, true)] {
            for is_secure in [false, true] {
                let ours = Compression::new().context_takeover(takeovers.0);
                let theirs = Compression::new().context_takeover(takeovers.1).window_bits(10);
                let settings = builder(backend).compression(Some(ours)).message_bytes_max(1 << 20);
                let server = Running::start_with(backend, secured(settings, authority.tls()));
                let target = match is_secure {
                    true => Target::new(secure_addr(&server), "localhost", "/")
                        .tls(&ClientTls::with_ca_file(authority.file()).unwrap(), "localhost")
                        .unwrap(),
                    false => Target::new(server.addr, "localhost", "/"),
                };
                let (sender, told) = channel();
                let client = Dialing::builder()
                    .backend(backend)
                    .workers(1)
                    .message_bytes_max(1 << 20)
                    .compression(Some(theirs));
                let parrot = |_| Parrot {
                    target: target.clone(),
                    conns: 3,
                    messages: messages.clone(),
                    told: sender.clone(),
                };
                client.build().unwrap().run(parrot).unwrap();
                let told: Vec<_> = told.try_iter().collect();
                assert_eq!(told, [(1000, messages.len()); 3], "{takeovers:?}, {is_secure}");
            }
        }
    });
}
