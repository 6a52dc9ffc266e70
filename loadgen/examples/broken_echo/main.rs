//! A WebSocket echo server that is right, or wrong in exactly the ways it is asked to be.
//!
//!     broken_echo [FAULT]...
//!
//! It shows that the conformance cases see each fault and nothing else. One blocking thread per
//! connection, no limits, no deadlines: a test object, not a server. Without faults it passes every
//! case; those of compression it implements if one of its words is `deflate` or begins with it. Says
//! `listening on 127.0.0.1:PORT`, then serves until it is killed.

mod deflate;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deflate::Deflate;
use sha1::{Digest, Sha1};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Echoes above this get the wrong byte.
const LARGE_BYTES: usize = 65_536;
const HEAD_BYTES_MAX: u64 = 64 << 10;
const CODES: [(&str, Fault); 15] = [
    ("utf8", |faults| faults.utf8 = true),
    ("reserved-bits", |faults| faults.reserved_bits = true),
    ("close-code", |faults| faults.close_code = true),
    ("corrupt", |faults| faults.corrupt = true),
    ("unmasked", |faults| faults.unmasked = true),
    ("accept", |faults| faults.accept = true),
    ("deflate", |_| ()),
    ("deflate-any-offer", |faults| faults.any_offer = true),
    ("deflate-silent-answer", |faults| faults.silent_answer = true),
    ("deflate-wide-window", |faults| faults.wide_window = true),
    ("deflate-takeover", |faults| faults.takeover = true),
    ("deflate-any-data", |faults| faults.any_data = true),
    ("deflate-last-block", |faults| faults.last_block = true),
    ("deflate-no-limit", |faults| faults.no_limit = true),
    ("deflate-tail", |faults| faults.tail = true),
];

type Fault = fn(&mut Faults);

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// No fault: permessage-deflate is accepted where it is offered.
    deflate: bool,
    /// Text and close reasons may be any bytes.
    utf8: bool,
    /// Reserved bits mean nothing.
    reserved_bits: bool,
    /// Every failure says 1000.
    close_code: bool,
    /// One byte of every large echo is wrong.
    corrupt: bool,
    /// Frames need no mask.
    unmasked: bool,
    /// The accept value is that of another key.
    accept: bool,
    /// Wrong parameters in an offer mean nothing.
    any_offer: bool,
    /// The answer to an offer has no parameters, whatever was asked for.
    silent_answer: bool,
    /// Compression uses the largest window whatever was agreed on.
    wide_window: bool,
    /// Compression goes on with the last context whatever was agreed on.
    takeover: bool,
    /// What cannot be inflated ends the message instead of the connection.
    any_data: bool,
    /// A block that says it is the last fails the connection.
    last_block: bool,
    /// A compressed message may become as long as it likes.
    no_limit: bool,
    /// Compressed messages keep the four bytes that have to be left out.
    tail: bool,
}

fn main() -> ExitCode {
    let mut faults = Faults::default();
    for word in std::env::args().skip(1) {
        let Some((_, set)) = CODES.iter().find(|(name, _)| *name == word) else {
            let names = CODES.map(|(name, _)| name).join(", ");
            eprintln!("broken_echo: no fault `{word}`; choose from: {names}");
            return ExitCode::from(2);
        };
        set(&mut faults);
        faults.deflate |= word.starts_with("deflate");
    }
    match serve(faults) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broken_echo: {error}");
            ExitCode::from(2)
        }
    }
}

fn serve(faults: Faults) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || serve_one(&stream, faults));
    }
    Ok(())
}

/// One connection, from its request to its end.
fn serve_one(stream: &TcpStream, faults: Faults) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::with_capacity(65_536, stream);
    match read_request(&mut reader) {
        Ok(Ok(Opening { key, extensions })) => {
            let offers: Vec<&str> = extensions.iter().map(String::as_str).collect();
            let accepted = if faults.deflate { Deflate::accept(&offers, faults) } else { None };
            let (deflate, answer) = accepted.unzip();
            let answer = answer
                .map(|value| format!("Sec-WebSocket-Extensions: {value}\r\n"))
                .unwrap_or_default();
            let key = if faults.accept { "dGhlIHdyb25nIGtleSEhIQ==" } else { &key };
            let accept =
                STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nServer: broken_echo\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{answer}\r\n"
            );
            if send(stream, head.as_bytes()).is_ok() {
                let mut conn = Conn { stream, reader, faults, deflate, message: None };
                while conn.step().is_some() {}
            }
        }
        Ok(Err(refusal)) => {
            let head =
                format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = send(stream, head.as_bytes());
        }
        Err(_) => {}
    }
    linger(stream);
}

fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

/// Closes so that what was sent last is not destroyed by what was never read.
fn linger(mut stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut block = [0; 65_536];
    while matches!(stream.read(&mut block), Ok(1..)) {}
}

/// What counts in a valid request.
struct Opening {
    key: String,
    /// Values of all lines that offer extensions.
    extensions: Vec<String>,
}

/// A valid request, or the status that refuses it.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Result<Opening, &'static str>> {
    let mut lines = Vec::new();
    let mut head = reader.take(HEAD_BYTES_MAX);
    loop {
        let mut line = Vec::new();
        let is_whole = head.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\r\n");
        line.truncate(line.len().saturating_sub(2));
        match String::from_utf8(line) {
            _ if !is_whole => return Ok(Err("400 Bad Request")),
            Ok(line) if line.is_empty() && lines.is_empty() => {}
            Ok(line) if line.is_empty() => return Ok(check_request(&lines)),
            Ok(line) => lines.push(line),
            Err(_) => return Ok(Err("400 Bad Request")),
        }
    }
}

fn check_request(lines: &[String]) -> Result<Opening, &'static str> {
    const BAD: &str = "400 Bad Request";
    const NO_UPGRADE: &str = "426 Upgrade Required\r\nUpgrade: websocket";
    const VERSION: &str = "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(BAD) };
    if target.is_empty() {
        return Err(BAD);
    }
    if method != "GET" {
        return Err("405 Method Not Allowed\r\nAllow: GET");
    }
    let mut fields = Vec::new();
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').ok_or(BAD)?;
        if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\0']) {
            return Err(BAD);
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
    }
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value).collect()
    };
    let has = |name: &str, token: &str| {
        all(name).join(",").split(',').any(|element| element.trim().eq_ignore_ascii_case(token))
    };
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if all("host").len() != 1
        || !all("host")[0].bytes().all(host_byte)
        || all("content-length").len() > 1
    {
        return Err(BAD);
    }
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(NO_UPGRADE);
    }
    match all("sec-websocket-version")[..] {
        ["13"] => {}
        [other] if other.parse::<u8>().is_ok_and(|number| number.to_string() == other) => {
            return Err(VERSION);
        }
        _ => return Err(BAD),
    }
    let extensions = all("sec-websocket-extensions");
    let are_well_formed = extensions.iter().all(|value| deflate::is_well_formed(value));
    match all("sec-websocket-key")[..] {
        [key] if are_well_formed => match STANDARD.decode(key) {
            Ok(bytes) if bytes.len() == 16 => {
                let extensions = extensions.into_iter().map(str::to_owned).collect();
                Ok(Opening { key: key.to_owned(), extensions })
            }
            _ => Err(BAD),
        },
        _ => Err(BAD),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token)
}

/// An open connection.
struct Conn<'a> {
    stream: &'a TcpStream,
    reader: BufReader<&'a TcpStream>,
    faults: Faults,
    deflate: Option<Deflate>,
    message: Option<Message>,
}

/// The message that is being received.
struct Message {
    binary: bool,
    compressed: bool,
    payload: Vec<u8>,
}

impl Conn<'_> {
    /// Handles one frame; nothing if the connection has to end.
    fn step(&mut self) -> Option<()> {
        let [first, second] = self.read_array()?;
        let (fin, opcode) = (first & 0x80 != 0, first & 0xf);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let is_control = opcode >= 8;
        let is_known = matches!(opcode, 0..=2 | 8..=10);
        let breaks_order = !is_control && (opcode == 0) != self.message.is_some();
        let may_be_compressed = self.deflate.is_some() && matches!(opcode, 1 | 2);
        let reserved = first & if may_be_compressed { 0x30 } else { 0x70 };
        if reserved != 0 && !self.faults.reserved_bits
            || !masked && !self.faults.unmasked
            || !is_known
            || is_control && (!fin || short > 125)
            || breaks_order
        {
            return self.fail(1002);
        }
        let (bytes, least) = match short {
            126 => (u64::from(u16::from_be_bytes(self.read_array()?)), 126),
            127 => (u64::from_be_bytes(self.read_array()?), 65_536),
            bytes => (u64::from(bytes), 0),
        };
        if bytes < least || bytes >> 63 != 0 {
            return self.fail(1002);
        }
        let key = if masked { self.read_array()? } else { [0; 4] };
        let bytes = usize::try_from(bytes).ok()?;
        if is_control {
            let mut payload = vec![0; bytes];
            self.reader.read_exact(&mut payload).ok()?;
            unmask(&mut payload, key, 0);
            return self.control(opcode, &payload);
        }
        let compressed = may_be_compressed && first & 0x40 != 0;
        let begun = Message { binary: opcode == 2, compressed, payload: Vec::new() };
        let mut message = self.message.take().unwrap_or(begun);
        self.read_data(&mut message, bytes, key)?;
        if !fin {
            self.message = Some(message);
            return Some(());
        }
        self.echo(message)
    }

    fn echo(&mut self, message: Message) -> Option<()> {
        let Message { binary, compressed, mut payload } = message;
        if compressed && let Some(deflate) = &mut self.deflate {
            payload = match deflate.inflate(&payload) {
                Ok(payload) => payload,
                Err(code) => return self.fail(code),
            };
        }
        if !binary && !self.faults.utf8 && std::str::from_utf8(&payload).is_err() {
            return self.fail(1007);
        }
        if self.faults.corrupt && payload.len() > LARGE_BYTES {
            let middle = payload.len() / 2;
            payload[middle] ^= 1;
        }
        let opcode = if binary { 2 } else { 1 };
        match &mut self.deflate {
            Some(deflate) => {
                let payload = deflate.deflate(&payload);
                self.send_frame(0x40 | opcode, &payload)
            }
            None => self.send_frame(opcode, &payload),
        }
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) -> Option<()> {
        match (opcode, payload) {
            (9, _) => self.send_frame(10, payload),
            (10, _) => Some(()),
            (_, []) => self.send_frame(8, &[]).and(None),
            (_, [_]) => self.fail(1002),
            (_, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return self.fail(1002);
                }
                if !self.faults.utf8 && std::str::from_utf8(reason).is_err() {
                    return self.fail(1007);
                }
                self.send_frame(8, &payload[..2]).and(None)
            }
        }
    }

    /// Reads a payload onto a message, and refuses text as soon as it cannot become UTF-8 any more.
    fn read_data(&mut self, message: &mut Message, bytes: usize, key: [u8; 4]) -> Option<()> {
        let is_text = !message.binary && !message.compressed;
        let message = &mut message.payload;
        let start = message.len();
        // What was read before is valid but for the start of one character.
        let mut valid = start.saturating_sub(3);
        while valid > 0 && message[valid] & 0xc0 == 0x80 {
            valid -= 1;
        }
        while message.len() < start + bytes {
            let available = self.reader.fill_buf().ok().filter(|bytes| !bytes.is_empty())?;
            let count = available.len().min(start + bytes - message.len());
            let at = message.len();
            message.extend_from_slice(&available[..count]);
            self.reader.consume(count);
            unmask(&mut message[at..], key, at - start);
            if is_text && !self.faults.utf8 {
                match std::str::from_utf8(&message[valid..]) {
                    Ok(_) => valid = message.len(),
                    Err(error) if error.error_len().is_none() => valid += error.valid_up_to(),
                    Err(_) => return self.fail(1007),
                }
            }
        }
        Some(())
    }

    fn fail(&mut self, code: u16) -> Option<()> {
        let code = if self.faults.close_code { 1000 } else { code };
        self.send_frame(8, &code.to_be_bytes()).and(None)
    }

    fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Option<()> {
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len()) {
            Ok(bytes @ 0..=125) => frame.push(bytes.to_be_bytes()[1]),
            Ok(bytes) => {
                frame.push(126);
                frame.extend(bytes.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        send(self.stream, &frame).ok()
    }

    fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}

fn unmask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[(offset + index) % 4];
    }
}
