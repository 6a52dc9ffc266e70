//! What a server answers to an attacker: how a connection ended, read from its bytes as they come.

use std::fmt;

/// A head of a response that is longer is not longwire's.
const HEAD_BYTES_MAX: usize = 4096;
/// RFC 8446 §5.1: the type of a record that is an alert.
const ALERT: u8 = 21;

/// How the server took leave of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// A response that is no upgrade.
    Status(u16),
    /// A Close frame.
    Close(u16),
    /// An alert of TLS.
    Alert,
    /// The end of the stream, and nothing before it that says why.
    Closed,
    /// A reset.
    Reset,
    /// Closed or reset before TLS was agreed on: there was no room.
    TurnedAway,
    /// None: the attacker left.
    Left,
    /// A second answer, or anything at all behind an answer.
    Excess,
}

/// Stands for every code in a list of what is allowed.
pub(crate) const ANY_CLOSE: Answer = Answer::Close(0);

impl Answer {
    /// Whether the server may say so, if `allowed` is what the rows say.
    pub(crate) fn is_among(self, allowed: &[Self]) -> bool {
        let any_close = matches!(self, Self::Close(_)) && allowed.contains(&ANY_CLOSE);
        any_close || allowed.contains(&self)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) | Self::Close(code) => write!(f, "{code}"),
            Self::Alert => f.write_str("alert"),
            Self::Closed => f.write_str("closed"),
            Self::Reset => f.write_str("reset"),
            Self::TurnedAway => f.write_str("turned away"),
            Self::Left => f.write_str("left"),
            Self::Excess => f.write_str("EXCESS"),
        }
    }
}

/// Reads the bytes of one connection.
#[derive(Debug)]
pub(crate) struct Listener {
    state: State,
    answer: Option<Answer>,
    opened: bool,
}

#[derive(Debug)]
enum State {
    /// The head of a response.
    Head(Vec<u8>),
    /// Frames: what has come of a header, then how much of a payload is to come.
    Frames { header: Vec<u8>, payload_bytes: u64 },
    /// What belongs to the answer, and then nothing more.
    Rest(u64),
    /// Records of TLS, of which only the first byte is looked at.
    Records { begun: bool },
}

impl Listener {
    /// Expects a response of HTTP.
    pub(crate) fn http() -> Self {
        Self { state: State::Head(Vec::new()), answer: None, opened: false }
    }

    /// Expects records of TLS that nobody decrypts.
    pub(crate) fn records() -> Self {
        Self { state: State::Records { begun: false }, answer: None, opened: false }
    }

    /// What was answered so far.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.answer
    }

    /// Whether the upgrade was granted.
    pub(crate) fn is_open(&self) -> bool {
        self.opened
    }

    /// Takes the next bytes.
    pub(crate) fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Head(_) => self.hear_head(bytes),
                State::Frames { .. } => self.hear_frames(bytes),
                State::Rest(left) => {
                    let taken =
                        usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= taken as u64;
                    if taken < bytes.len() {
                        self.answer = Some(Answer::Excess);
                    }
                    bytes.len()
                }
                State::Records { begun } => {
                    if !*begun && bytes[0] == ALERT {
                        self.answer = Some(Answer::Alert);
                    }
                    *begun = true;
                    bytes.len()
                }
            };
            bytes = &bytes[taken..];
        }
    }

    fn hear_head(&mut self, bytes: &[u8]) -> usize {
        let State::Head(head) = &mut self.state else { return 0 };
        let before = head.len();
        head.extend_from_slice(bytes);
        let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
            if head.len() > HEAD_BYTES_MAX {
                self.answer = Some(Answer::Excess);
                self.state = State::Rest(0);
            }
            return bytes.len();
        };
        let text = String::from_utf8_lossy(&head[..end]);
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let body_bytes = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        self.state = match status {
            Some(101) => {
                self.opened = true;
                State::Frames { header: Vec::new(), payload_bytes: 0 }
            }
            Some(status) => {
                self.answer = Some(Answer::Status(status));
                State::Rest(body_bytes.unwrap_or(0))
            }
            None => {
                self.answer = Some(Answer::Excess);
                State::Rest(0)
            }
        };
        end + 4 - before
    }

    fn hear_frames(&mut self, bytes: &[u8]) -> usize {
        let State::Frames { header, payload_bytes } = &mut self.state else { return 0 };
        if *payload_bytes > 0 {
            let taken = usize::try_from(*payload_bytes).map_or(bytes.len(), |n| n.min(bytes.len()));
            *payload_bytes -= taken as u64;
            return taken;
        }
        header.push(bytes[0]);
        let Some(len) = payload_len(header) else { return 1 };
        let is_close = header[0] & 0x0F == 0x8;
        // The code of a Close frame is read as if it belonged to the header.
        let code_bytes = if is_close { len.min(2) as usize } else { 0 };
        if header.len() < 2 + code_bytes {
            return 1;
        }
        if is_close {
            let code = header.get(2..4).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
            self.answer = Some(Answer::Close(code));
            self.state = State::Rest(len - code_bytes as u64);
        } else {
            *payload_bytes = len;
            header.clear();
        }
        1
    }
}

/// How long the payload is, once the header is whole up to there. Frames of a server have no mask.
fn payload_len(header: &[u8]) -> Option<u64> {
    let extended = |bytes: &[u8]| bytes.iter().fold(0, |len, &byte| len << 8 | u64::from(byte));
    match header.get(1)? & 0x7F {
        126 => header.get(2..4).map(extended),
        127 => header.get(2..10).map(extended),
        len => Some(u64::from(len)),
    }
}
