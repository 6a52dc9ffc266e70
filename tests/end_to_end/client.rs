//! A peer for the tests: RFC 6455's client side over a blocking socket, strict about all it reads.
//!
//! It can break every rule (`send_raw`, `send_frame`), but forgives the server nothing: each frame
//! is checked for what a server may send, and every read has a time limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::SockRef;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// An upgrade request with the key of RFC 6455 §1.3.
pub(crate) const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// The answer to that key, from the same section.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A connection to the server under test.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What stands between the stream and the frames, if that is TLS.
    tls: Option<Box<ClientConnection>>,
    received: Vec<u8>,
    /// Inflates compressed messages; without it they break the protocol.
    pub(crate) codec: Option<Box<dyn Codec>>,
    /// Compressed messages so far.
    pub(crate) codec_uses: u32,
    /// Bytes of `received` that have been read as frames.
    parsed: usize,
}

/// Compresses and inflates messages, as the two sides have agreed.
pub(crate) trait Codec: std::fmt::Debug + Send {
    /// The payload of a compressed message.
    fn deflate(&mut self, message: &[u8]) -> Vec<u8>;
    /// The message that such a payload is.
    fn inflate(&mut self, payload: &[u8]) -> Vec<u8>;
}

/// A whole frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: u8, payload: &[u8]) -> Self {
        Self { opcode, payload: payload.to_vec() }
    }
}

impl Client {
    /// A TCP connection that has said nothing yet.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream.into())
    }

    /// The same over a stream of any kind, such as a Unix one.
    pub(crate) fn over(stream: OwnedFd) -> Self {
        // Nothing that is TCP's alone is asked of it.
        let stream = TcpStream::from(stream);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, tls: None, received: Vec::new(), codec: None, codec_uses: 0, parsed: 0 }
    }

    /// The same, to speak TLS with the server of this name; no byte of that has been sent.
    pub(crate) fn connect_secure(
        addr: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &'static str,
    ) -> Self {
        let mut client = Self::connect(addr);
        client.begin_tls(config, name);
        client
    }

    /// Speaks TLS from here on.
    pub(crate) fn begin_tls(&mut self, config: &Arc<ClientConfig>, name: &'static str) {
        let name = ServerName::try_from(name).unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        self.tls = Some(Box::new(session));
    }

    /// An open WebSocket connection over TLS.
    pub(crate) fn open_secure(addr: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut client = Self::connect_secure(addr, config, "localhost");
        client.send_raw(REQUEST.as_bytes());
        client.finish_handshake();
        client
    }

    /// The session of a connection over TLS.
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("it speaks TLS")
    }

    /// The session, and what it speaks over.
    pub(crate) fn parts(&mut self) -> (&mut ClientConnection, &mut TcpStream) {
        (self.tls.as_mut().expect("it speaks TLS"), &mut self.stream)
    }

    /// Sends what TLS itself has to say.
    pub(crate) fn flush_tls(&mut self) {
        let tls = self.tls.as_mut().expect("it speaks TLS");
        while tls.wants_write() {
            tls.write_tls(&mut self.stream).unwrap();
        }
    }

    /// An open WebSocket connection.
    pub(crate) fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, REQUEST)
    }

    /// An open WebSocket connection to `target`.
    pub(crate) fn open_at(addr: SocketAddr, target: &str) -> Self {
        Self::open_with(addr, &REQUEST.replacen("GET / ", &format!("GET {target} "), 1))
    }

    /// An open WebSocket connection that asks with `request`.
    pub(crate) fn open_with(addr: SocketAddr, request: &str) -> Self {
        let mut client = Self::connect(addr);
        client.send_raw(request.as_bytes());
        client.finish_handshake();
        client
    }

    /// Reads the answer to an upgrade request that was sent already, and checks it.
    pub(crate) fn finish_handshake(&mut self) {
        let head = self.read_head();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("HTTP/1.1 101 Switching Protocols"), "{head}");
        let mut wanted = vec![
            ("connection".to_owned(), "upgrade".to_owned()),
            ("sec-websocket-accept".to_owned(), ACCEPT.to_owned()),
            ("upgrade".to_owned(), "websocket".to_owned()),
        ];
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name = name.to_ascii_lowercase();
            let value = if name == "sec-websocket-accept" {
                value.to_owned()
            } else {
                value.to_ascii_lowercase()
            };
            let place = wanted.iter().position(|header| *header == (name.clone(), value.clone()));
            let unexpected = format!("header that was not asked for, wrong, or double: {line}");
            wanted.remove(place.expect(&unexpected));
        }
        assert!(wanted.is_empty(), "missing {wanted:?} in {head}");
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap();
    }

    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write_all(bytes),
            None => self.stream.write_all(bytes),
        }
    }

    /// Over TLS only what its `close_notify` closes has ended in order; all else is an error.
    pub(crate) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(buf),
            None => self.stream.read(buf),
        }
    }

    /// Sends one masked frame.
    pub(crate) fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        self.send_raw(&frame(fin, opcode, payload));
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_frame(true, TEXT, text.as_bytes());
    }

    /// Sends a Close frame with `code`.
    pub(crate) fn send_close(&mut self, code: u16) {
        self.send_frame(true, CLOSE, &code.to_be_bytes());
    }

    /// Sends a text message and expects it back.
    pub(crate) fn echo(&mut self, text: &str) {
        self.send_text(text);
        assert_eq!(self.read_text(), text);
    }

    /// The next frame. Panics on anything that a server must not send.
    pub(crate) fn read_frame(&mut self) -> Frame {
        self.poll_frame().expect("a frame, not the end of the stream")
    }

    /// The next frame, or `None` if the stream has ended, in order and between two frames.
    pub(crate) fn poll_frame(&mut self) -> Option<Frame> {
        if !self.fill(2) {
            assert_eq!(self.received.len(), self.parsed, "the stream ends inside a frame");
            return None;
        }
        let [first, second] = [self.received[self.parsed], self.received[self.parsed + 1]];
        let is_compressed = first & 0x70 == 0x40 && first & 0x0f < CLOSE && self.codec.is_some();
        assert!(first & 0x70 == 0 || is_compressed, "reserved bits are clear");
        assert_eq!(first & 0x80, 0x80, "this server sends no fragments");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let opcode = first & 0x0f;
        assert!(matches!(opcode, TEXT | BINARY | CLOSE | PING | PONG), "opcode {opcode}");
        let (header_bytes, len) = self.read_len(second & 0x7f);
        assert!(opcode < CLOSE || len <= 125, "control frame of {len} bytes");
        assert!(self.fill(header_bytes + len), "the stream ends inside a frame");
        let start = self.parsed + header_bytes;
        let mut payload = self.received[start..start + len].to_vec();
        self.parsed = start + len;
        if let Some(codec) = self.codec.as_mut().filter(|_| is_compressed) {
            payload = codec.inflate(&payload);
            self.codec_uses += 1;
        }
        if opcode == TEXT {
            assert!(str::from_utf8(&payload).is_ok(), "text is UTF-8");
        }
        Some(Frame { opcode, payload })
    }

    /// Bytes of the header, and of the payload.
    fn read_len(&mut self, short: u8) -> (usize, usize) {
        let extended = match short {
            126 => 2,
            127 => 8,
            len => return (2, usize::from(len)),
        };
        assert!(self.fill(2 + extended), "the stream ends inside a header");
        let bytes = &self.received[self.parsed + 2..self.parsed + 2 + extended];
        let len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        assert!(len > if extended == 2 { 125 } else { 65_535 }, "length in its shortest form");
        (2 + extended, len)
    }

    pub(crate) fn read_text(&mut self) -> String {
        let frame = self.read_frame();
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The next frame is a Close; returns its code and reason.
    pub(crate) fn read_close(&mut self) -> (u16, String) {
        let frame = self.read_frame();
        assert_eq!(frame.opcode, CLOSE, "{frame:?}");
        let (code, reason) = frame.payload.split_at(2);
        (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(reason.to_vec()).unwrap())
    }

    /// The server ends the stream, in order and without another byte.
    pub(crate) fn read_end(&mut self) {
        let frame = self.poll_frame();
        assert_eq!(frame, None, "nothing follows");
    }

    /// The server fails the connection with `code`, and ends the stream.
    pub(crate) fn expect_failure(&mut self, code: u16) {
        assert_eq!(self.read_close().0, code);
        self.read_end();
    }

    /// A closing handshake, from this side.
    pub(crate) fn close(mut self, code: u16) {
        self.send_close(code);
        assert_eq!(self.read_close().0, code);
        self.read_end();
    }

    /// Ends the connection in one of four ways.
    pub(crate) fn end(mut self, way: usize) {
        match way {
            0 => self.close(1000),
            1 => drop(self),
            2 => self.reset(),
            3 => {
                self.send_raw(b"\x81\x05plain");
                self.expect_failure(1002);
            }
            _ => panic!("there are four ways, not {way}"),
        }
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// No more bytes from this side, which still listens.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// An HTTP response and the end of the stream.
    pub(crate) fn read_response(&mut self) -> String {
        while self.fill(self.received.len() - self.parsed + 1) {}
        String::from_utf8(self.received.split_off(self.parsed)).unwrap()
    }

    /// The head of an HTTP response.
    pub(crate) fn read_head(&mut self) -> String {
        loop {
            let unread = &self.received[self.parsed..];
            if let Some(end) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8(unread[..end].to_vec()).unwrap();
                self.parsed += end + 4;
                return head;
            }
            let unread_bytes = unread.len();
            assert!(self.fill(unread_bytes + 1), "the stream ends inside a head");
        }
    }

    /// Receives until `len` unread bytes are here. False if the stream ended before.
    fn fill(&mut self, len: usize) -> bool {
        if self.parsed == self.received.len() {
            self.received.clear();
            self.parsed = 0;
        }
        let mut chunk = [0; 64 * 1024];
        while self.received.len() - self.parsed < len {
            match self.try_read(&mut chunk) {
                Ok(0) => return false,
                Ok(bytes) => self.received.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the server did not answer in order: {error}"),
            }
        }
        true
    }
}

/// A masked frame.
pub(crate) fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if fin { 0x80 } else { 0 } | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => bytes.push(0x80 | len),
        (_, Ok(len)) => {
            bytes.push(0x80 | 126);
            bytes.extend(len.to_be_bytes());
        }
        (_, Err(_)) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}
