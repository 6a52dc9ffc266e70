//! What a case is: its number, what it sends, and what a server may do then.
//!
//! Cases are data. They say nothing about sockets, and nothing about how a verdict is reached.

use std::fmt;

use super::corpus::Kind;
use super::frame::{self, Head};
use super::upgrade::Upgrade;

/// Number of a case, such as `6.4.2`. Numbers of sections 1 to 13 are those of the Autobahn
/// TestSuite; those from 20 on are our own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CaseId(pub(crate) Vec<u16>);

impl CaseId {
    pub(crate) fn section(&self) -> u16 {
        self.0.first().copied().unwrap_or_default()
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            write!(out, "{}{part}", if index == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl fmt::Debug for CaseId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// One conformance case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) id: CaseId,
    /// What is sent, in words.
    pub(crate) title: String,
    /// What the server has to do, in words.
    pub(crate) expected: String,
    pub(crate) script: Script,
}

/// What is done on the connection of a case.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// Frames behind a plain opening handshake.
    Session(Session),
    /// Messages, each after the echo of the one before it.
    RoundTrips { binary: bool, bytes: usize, count: usize },
    /// The same with messages that are compressed and differ.
    Compressed(Compressed),
    /// An opening handshake of its own.
    Upgrade(Upgrade),
}

impl Script {
    /// Whether the case moves so much that it would slow down others which run beside it.
    pub(crate) fn is_heavy(&self) -> bool {
        match self {
            Self::Session(session) => session.patience == Patience::Transfer,
            Self::RoundTrips { .. } | Self::Compressed(_) => true,
            Self::Upgrade(_) => false,
        }
    }

    /// Extensions that have to be agreed on before it can be played.
    pub(crate) fn offer(&self) -> Option<&'static str> {
        match self {
            Self::Session(session) => session.offer,
            Self::Compressed(case) => Some(case.offer),
            Self::RoundTrips { .. } | Self::Upgrade(_) => None,
        }
    }
}

/// Compressed messages to send one by one.
#[derive(Clone, Debug)]
pub(crate) struct Compressed {
    /// What is offered, as the header has it.
    pub(crate) offer: &'static str,
    pub(crate) kind: Kind,
    /// Bytes of each message, or characters of text.
    pub(crate) len: usize,
    /// Bytes of each frame; all in one if there are none.
    pub(crate) fragment_bytes: Option<usize>,
    pub(crate) count: usize,
}

/// Frames to send, and what may come back.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Extensions that are offered; what is played takes for granted that they are agreed on.
    pub(crate) offer: Option<&'static str>,
    pub(crate) steps: Vec<Step>,
    /// What the server may do, the best first.
    pub(crate) outcomes: Vec<Outcome>,
    /// Whether we close with 1000 as soon as all that was expected has come.
    pub(crate) closes_when_done: bool,
    /// What we do when the server leaves us waiting.
    pub(crate) at_last: AtLast,
    pub(crate) patience: Patience,
    /// The RFC leaves the outcome open: it is told, not graded.
    pub(crate) informational: bool,
}

/// One thing that we do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Frame(Head, Payload, Pace),
    /// A message in frames of this many bytes. If they fill the last one, an empty one follows.
    Fragments {
        binary: bool,
        payload: Payload,
        bytes: usize,
    },
    /// Bytes of a frame whose head announced them, masked from this offset on.
    Part {
        bytes: Vec<u8>,
        key: [u8; 4],
        offset: usize,
    },
    /// A Close frame with this payload, which begins the closing handshake.
    Close(Vec<u8>),
    /// A second of silence; the script ends here if the server does not sit through it.
    Pause,
    /// As `Pause`; that the connection was still open then counts among the events.
    Silence(char),
}

/// How bytes are put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Together with what comes before and after.
    Together,
    /// Each frame by a write of its own.
    Apart,
    /// In writes of this many bytes.
    Chopped(usize),
}

/// What we do when the server leaves us waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtLast {
    /// Fail the connection: Close with 1001.
    Fail,
    /// Close without a code.
    Close,
}

/// How long the server may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For a reaction.
    Reaction,
    /// For large messages: as long as bytes keep moving.
    Transfer,
}

/// A repeated pattern, which stands for its bytes until they are needed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    unit: Vec<u8>,
    bytes: usize,
}

impl Payload {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { unit: bytes.to_vec(), bytes: bytes.len() }
    }

    pub(crate) fn repeated(unit: &[u8], bytes: usize) -> Self {
        Self { unit: unit.to_vec(), bytes }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.unit.iter().copied().cycle().take(self.bytes).collect()
    }

    /// Where `other` differs first, if it does.
    pub(crate) fn difference(&self, other: &[u8]) -> Option<usize> {
        let expected = self.unit.iter().cycle().take(self.bytes);
        let differing = expected.zip(other).position(|(ours, theirs)| ours != theirs);
        differing.or_else(|| (other.len() != self.bytes).then(|| other.len().min(self.bytes)))
    }

    /// The byte at this place.
    pub(crate) fn at(&self, index: usize) -> Option<u8> {
        (index < self.bytes).then(|| self.unit[index % self.unit.len()])
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes of {:?}", self.bytes, String::from_utf8_lossy(&self.unit))
    }
}

/// How a case may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) grade: Grade,
    /// Everything that comes back, in order; pings are answered and do not count.
    pub(crate) events: Vec<Event>,
    pub(crate) closing: Closing,
}

/// What may count as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message {
        binary: bool,
        payload: Payload,
    },
    Pong(Payload),
    /// The connection was still open after a [`Step::Silence`].
    Silence(char),
}

/// How a connection has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) by: Side,
    /// Codes that the server's Close frame may carry.
    pub(crate) codes: Vec<u16>,
    /// Both Close frames must have been seen, and then the server must close first.
    pub(crate) clean: bool,
    /// The Close frame SHOULD carry one of the codes (RFC 6455 §7.1.7); else it may carry none.
    pub(crate) code_wanted: bool,
    /// If we had to close, the server has missed the fault; then nothing else counts.
    pub(crate) must_notice: bool,
    /// A wrong code is not only noted but means that the Close frame was not understood.
    pub(crate) code_is_the_point: bool,
}

impl Closing {
    /// We close with 1000; the server answers and drops the connection.
    pub(crate) fn ours() -> Self {
        Self {
            by: Side::Us,
            codes: vec![1000],
            clean: true,
            code_wanted: false,
            must_notice: false,
            code_is_the_point: false,
        }
    }

    /// The server fails the connection with one of these codes.
    pub(crate) fn failed_with(codes: &[u16]) -> Self {
        Self {
            by: Side::Server,
            codes: codes.to_vec(),
            clean: false,
            code_wanted: true,
            must_notice: false,
            code_is_the_point: false,
        }
    }

    /// The server answers our own Close frame with one of these codes.
    pub(crate) fn answered_with(codes: &[u16], clean: bool) -> Self {
        let code_wanted = !clean;
        Self { codes: codes.to_vec(), clean, code_wanted, code_is_the_point: true, ..Self::ours() }
    }
}

/// Who sent the first Close frame, or dropped the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Us,
    Server,
}

/// The verdict on a case, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    Ok,
    Informational,
    /// What the case is about was not agreed on; the RFC demands no extension of anybody.
    Unimplemented,
    NonStrict,
    Failed,
}

impl Grade {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Informational => "INFORMATIONAL",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::NonStrict => "NON-STRICT",
            Self::Failed => "FAILED",
        }
    }
}

/// A frame without anything special.
pub(crate) fn plain(opcode: u8, payload: &[u8]) -> Step {
    Step::Frame(Head::of(opcode), Payload::new(payload), Pace::Together)
}

/// A frame that is not the last of its message.
pub(crate) fn open_ended(opcode: u8, payload: &[u8]) -> Step {
    let head = Head { fin: false, ..Head::of(opcode) };
    Step::Frame(head, Payload::new(payload), Pace::Together)
}

/// The same steps at another pace.
pub(crate) fn paced(pace: Pace, steps: Vec<Step>) -> Vec<Step> {
    let with_pace = |step| match step {
        Step::Frame(head, payload, _) => Step::Frame(head, payload, pace),
        other => other,
    };
    steps.into_iter().map(with_pace).collect()
}

pub(crate) fn text(payload: &[u8]) -> Event {
    Event::Message { binary: false, payload: Payload::new(payload) }
}

pub(crate) fn pong(payload: &[u8]) -> Event {
    Event::Pong(Payload::new(payload))
}

impl Session {
    /// The server sends back `events`, then we close.
    pub(crate) fn echo(steps: Vec<Step>, events: Vec<Event>) -> Self {
        Self {
            offer: None,
            steps,
            outcomes: vec![Outcome { grade: Grade::Ok, events, closing: Closing::ours() }],
            closes_when_done: true,
            at_last: AtLast::Fail,
            patience: Patience::Reaction,
            informational: false,
        }
    }

    /// The server sends back `events`, then fails the connection with 1002.
    pub(crate) fn protocol_error(steps: Vec<Step>, events: Vec<Event>) -> Self {
        let closing = Closing::failed_with(&[1002]);
        let outcomes = vec![Outcome { grade: Grade::Ok, events, closing }];
        Self { outcomes, ..Self::echo(steps, Vec::new()) }
    }

    /// We close in one of our steps; the server answers with one of these codes.
    pub(crate) fn close(steps: Vec<Step>, codes: &[u16], clean: bool) -> Self {
        let closing = Closing::answered_with(codes, clean);
        let outcomes = vec![Outcome { grade: Grade::Ok, events: Vec::new(), closing }];
        Self { outcomes, closes_when_done: false, ..Self::echo(steps, Vec::new()) }
    }

    /// A server that sends back only `events`, but closes alike, is lenient.
    pub(crate) fn or_non_strict(mut self, events: Vec<Event>) -> Self {
        let closing = self.outcomes[0].closing.clone();
        self.outcomes.push(Outcome { grade: Grade::NonStrict, events, closing });
        self
    }

    /// A server that sends back `events` and ends like this has this grade.
    pub(crate) fn or(mut self, grade: Grade, events: Vec<Event>, closing: Closing) -> Self {
        self.outcomes.push(Outcome { grade, events, closing });
        self
    }

    /// The server fails the connection with one of these codes, the first of which is the best.
    pub(crate) fn failure(steps: Vec<Step>, events: Vec<Event>, codes: &[u16]) -> Self {
        let closing = Closing::failed_with(&codes[..1]);
        let outcomes = vec![Outcome { grade: Grade::Ok, events: events.clone(), closing }];
        let session = Self { outcomes, ..Self::echo(steps, Vec::new()) };
        match codes {
            [_] => session,
            _ => session.or(Grade::NonStrict, events, Closing::failed_with(codes)),
        }
    }

    /// The same where this was offered and agreed on.
    pub(crate) fn offering(mut self, offer: &'static str) -> Self {
        self.offer = Some(offer);
        self
    }

    /// At last we close without a code instead of failing the connection.
    pub(crate) fn closing_at_last(mut self) -> Self {
        self.at_last = AtLast::Close;
        self
    }

    /// Time is counted from the last byte that moved.
    pub(crate) fn transfer(mut self) -> Self {
        self.patience = Patience::Transfer;
        self
    }
}

/// Payload of a Close frame.
pub(crate) fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}

/// A Close frame with code 1000.
pub(crate) fn close_1000() -> Step {
    Step::Close(close_payload(1000, b""))
}

/// A ping without payload.
pub(crate) fn empty_ping() -> Step {
    plain(frame::PING, b"")
}
