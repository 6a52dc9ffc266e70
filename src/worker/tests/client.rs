//! A client of the tests: says messages, knows what must come back, and reads it strictly.
//!
//! It decides nothing by itself beyond what every client does: it answers pings and Close frames,
//! unless told not to. It knows nothing of a network: bytes to send are in `out`, bytes that came
//! go to `handle_received`. Anything a server must not send is an error with a reason.

use std::collections::VecDeque;

use crate::conn::MessageKind;
use crate::proto::handshake::{Upgrade, UpgradeError};
use crate::proto::{CloseCode, Header, Opcode, Role, close, encoder};

use super::payload::{self, Command, Spec};

/// What must come back.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Message(Spec),
    Note { sequence: usize },
}

/// How far the opening handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Waiting,
    Open,
    /// The server answered with this status.
    Refused(u16),
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: usize,
    pub(super) opening: Opening,
    /// Bytes to be sent.
    pub(super) out: VecDeque<u8>,
    /// Whether pings and Close frames are answered.
    pub(super) answers: bool,
    /// The code of the server's Close frame.
    pub(super) close_code: Option<CloseCode>,
    pub(super) said_close: bool,
    /// Messages that came back.
    pub(super) returned: u64,
    pub(super) pings_answered: u64,
    /// Every frame that came, if kept.
    pub(super) frames: Option<Vec<(Opcode, Vec<u8>)>>,
    /// The application was told to fill the queue: how many copies come is its peer's doing.
    burst: Option<Spec>,
    next_sequence: usize,
    expected: VecDeque<Expected>,
    pings: VecDeque<Vec<u8>>,
    upgrade: Upgrade,
    received: Vec<u8>,
    parsed: usize,
    rng: fastrand::Rng,
}

impl Client {
    /// A client that has said nothing yet.
    pub(super) fn new(peer: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ (peer as u64) << 32);
        Self {
            peer,
            opening: Opening::Waiting,
            out: VecDeque::new(),
            answers: true,
            close_code: None,
            said_close: false,
            returned: 0,
            pings_answered: 0,
            frames: None,
            burst: None,
            next_sequence: 0,
            expected: VecDeque::new(),
            pings: VecDeque::new(),
            upgrade: Upgrade::new(rng.u128(..).to_be_bytes()),
            received: Vec::new(),
            parsed: 0,
            rng,
        }
    }

    /// A client whose request is on its way.
    pub(super) fn knocking(peer: usize, seed: u64) -> Self {
        let mut client = Self::new(peer, seed);
        client.knock();
        client
    }

    /// Asks to be let in.
    pub(super) fn knock(&mut self) {
        let target = format!("/{}", self.peer);
        let request = self.upgrade.request_bytes("sim.example", &target, &[], &[]);
        self.out.extend(request);
    }

    /// Says a message in `fragments` frames, and expects what the application makes of it.
    pub(super) fn say(
        &mut self,
        kind: MessageKind,
        command: Command,
        len: usize,
        fragments: usize,
    ) {
        let sequence = self.next_sequence;
        let tagged = len >= payload::PREFIX_BYTES;
        self.next_sequence += usize::from(tagged);
        let command = if tagged { command } else { Command::Echo };
        let spec = Spec { kind, peer: self.peer, sequence, command, len };
        self.say_fragments(kind, &spec.bytes(), fragments);
        if self.said_close {
            return;
        }
        let reply = Expected::Message(spec);
        match command {
            Command::Echo | Command::Copy | Command::Close => self.expected.push_back(reply),
            Command::Twice => self.expected.extend([reply, reply]),
            Command::Note => self.expected.extend([Expected::Note { sequence }, reply]),
            Command::Keep | Command::Panic => {}
            Command::Burst => self.burst = Some(spec),
        }
    }

    /// Expects a message of this length, too short for a prefix, that was sent frame by frame.
    pub(super) fn expect_raw(&mut self, kind: MessageKind, len: usize) {
        let (peer, sequence) = (self.peer, self.next_sequence);
        let spec = Spec { kind, peer, sequence, command: Command::Echo, len };
        self.expected.push_back(Expected::Message(spec));
    }

    /// Sends a ping.
    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.pings.push_back(payload.to_vec());
        self.frame(Opcode::Ping, true, payload);
    }

    /// Begins or answers the closing handshake.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        let mut out = [0; 125];
        let len = close::encode(code, reason, &mut out);
        self.frame(Opcode::Close, true, &out[..len]);
        self.said_close = true;
    }

    /// Sends one masked frame.
    pub(super) fn frame(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        let mask = Some(self.rng.u32(..).to_be_bytes());
        let mut frame = vec![0; encoder::frame_bytes(payload.len(), mask)];
        let header = Header { fin, ..Header::whole(opcode, mask, payload.len()) };
        encoder::encode_frame(&mut frame, &header, payload);
        self.out.extend(frame);
    }

    /// Bytes that came from the server.
    pub(super) fn handle_received(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.received.extend_from_slice(bytes);
        if self.opening == Opening::Waiting {
            self.read_answer()?;
        }
        if let Opening::Refused(_) = self.opening {
            return Ok(());
        }
        while self.opening == Opening::Open {
            let rest = &self.received[self.parsed..];
            let header = Header::decode(rest, Role::Client, false);
            let Some((header, header_bytes)) = header.map_err(|error| format!("{error:?}"))? else {
                break;
            };
            let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            if len > rest.len() - header_bytes {
                break;
            }
            let start = self.parsed + header_bytes;
            self.parsed = start + len;
            let received = std::mem::take(&mut self.received);
            let taken = self.handle_frame(&header, &received[start..start + len]);
            self.received = received;
            taken?;
        }
        self.received.drain(..self.parsed);
        self.parsed = 0;
        Ok(())
    }

    /// Whether everything has come back that was expected.
    pub(super) fn is_satisfied(&self) -> bool {
        self.expected.is_empty()
    }

    /// Whether the stream stands between two frames.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.received.is_empty() || matches!(self.opening, Opening::Refused(_))
    }

    /// What is still to come, for messages of failed tests.
    pub(super) fn next_expected(&self) -> String {
        format!("{:?} of {}", self.expected.front(), self.expected.len())
    }

    fn say_fragments(&mut self, kind: MessageKind, payload: &[u8], fragments: usize) {
        let mut opcode = kind.opcode();
        let mut rest = payload;
        for left in (1..fragments.max(1)).rev() {
            let len = if left == 1 { rest.len() / 2 } else { self.rng.usize(0..=rest.len() / 2) };
            let (piece, others) = rest.split_at(len);
            self.frame(opcode, false, piece);
            if self.rng.u8(0..8) == 0 {
                self.ping(b"between");
            }
            (opcode, rest) = (Opcode::Continuation, others);
        }
        self.frame(opcode, true, rest);
    }

    fn read_answer(&mut self) -> Result<(), String> {
        match self.upgrade.parse_response(&self.received) {
            Ok(None) => {}
            Ok(Some(head_bytes)) => {
                self.parsed = head_bytes;
                self.opening = Opening::Open;
            }
            Err(UpgradeError::Refused(status)) => self.opening = Opening::Refused(status),
            Err(error) => return Err(format!("a bad answer: {error:?}")),
        }
        Ok(())
    }

    fn handle_frame(&mut self, header: &Header, payload: &[u8]) -> Result<(), String> {
        if self.close_code.is_some() {
            return Err(format!("{:?} after the Close frame", header.opcode));
        }
        if let Some(frames) = &mut self.frames {
            frames.push((header.opcode, payload.to_vec()));
        }
        match header.opcode {
            Opcode::Continuation => Err("a fragment".to_owned()),
            Opcode::Text | Opcode::Binary if !header.fin => Err("a fragment".to_owned()),
            Opcode::Text | Opcode::Binary => {
                self.handle_message(MessageKind::of(header.opcode), payload)
            }
            Opcode::Close => self.handle_close(payload),
            Opcode::Ping => {
                if self.answers && !self.said_close {
                    self.pings_answered += 1;
                    self.frame(Opcode::Pong, true, payload);
                }
                Ok(())
            }
            Opcode::Pong => {
                // Of pings behind a queue that does not move only the newest is answered.
                let place = self.pings.iter().position(|ping| ping == payload);
                let place =
                    place.ok_or_else(|| format!("a pong nobody asked for: {payload:x?}"))?;
                self.pings.drain(..=place);
                Ok(())
            }
        }
    }

    fn handle_message(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), String> {
        self.returned += 1;
        if kind == MessageKind::Text && str::from_utf8(payload).is_err() {
            return Err("text that is none".to_owned());
        }
        let good = match self.expected.front() {
            Some(Expected::Message(spec)) => spec.kind == kind && spec.matches(payload),
            Some(Expected::Note { sequence }) => payload == payload::note(self.peer, *sequence),
            None => {
                let is_burst = |spec: Spec| spec.kind == kind && spec.matches(payload);
                return match self.burst {
                    Some(spec) if is_burst(spec) => Ok(()),
                    _ => Err(format!("nothing was expected, {} bytes came", payload.len())),
                };
            }
        };
        if !good {
            let start = String::from_utf8_lossy(&payload[..payload.len().min(16)]).into_owned();
            let len = payload.len();
            return Err(format!("{} was expected, {kind:?} {len} {start}", self.next_expected()));
        }
        self.expected.pop_front();
        Ok(())
    }

    fn handle_close(&mut self, payload: &[u8]) -> Result<(), String> {
        let decoded = close::decode(payload).map_err(|error| format!("a Close with {error:?}"))?;
        let code = decoded.map_or(CloseCode::NO_STATUS, |(code, _)| code);
        self.close_code = Some(code);
        if self.answers && !self.said_close {
            self.close(code, "");
        }
        Ok(())
    }
}
