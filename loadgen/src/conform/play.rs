//! Plays a session on a connection and writes down what happened.
//!
//! It keeps the closing handshake as a client has to (RFC 6455 §7): it answers a Close frame, waits
//! for the server to drop the connection, and drops it itself only after its patience has ended. It
//! judges nothing.

use std::io;
use std::time::{Duration, Instant};

use super::case::close_payload;
use super::case::{AtLast, Event, Outcome, Pace, Patience, Payload, Session, Side, Step};
use super::frame::{self, Head, Incoming, Keys, Violation, apply_mask, write_frame};
use super::peer::{Arrival, Peer, Timing};

mod trips;

pub(crate) use trips::{Trips, play_compressed, play_round_trips};

const PAUSE: Duration = Duration::from_secs(1);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message { binary: bool, payload: Vec<u8> },
    Pong(Vec<u8>),
    Silence(char),
}

impl Seen {
    pub(crate) fn is(&self, event: &Event) -> bool {
        match (self, event) {
            (
                Self::Message { binary, payload },
                Event::Message { binary: expected, payload: whole },
            ) => binary == expected && whole.difference(payload).is_none(),
            (Self::Pong(payload), Event::Pong(expected)) => expected.difference(payload).is_none(),
            (Self::Silence(mark), Event::Silence(expected)) => mark == expected,
            (Self::Message { .. } | Self::Pong(_) | Self::Silence(_), _) => false,
        }
    }
}

/// All that happened on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    pub(crate) seen: Vec<Seen>,
    /// What the server sent against the rules.
    pub(crate) violation: Option<Violation>,
    /// Who sent the first Close frame, or dropped the connection without one.
    pub(crate) closed_by: Side,
    /// Whether a Close frame came, and its code.
    pub(crate) close_frame: Option<Option<u16>>,
    /// Both Close frames were seen, and the server dropped the connection in time.
    pub(crate) clean: bool,
    /// We had to drop the connection.
    pub(crate) dropped_by_us: bool,
    /// The server reset the connection instead of ending it.
    pub(crate) reset: bool,
}

impl Transcript {
    fn new() -> Self {
        Self {
            seen: Vec::new(),
            violation: None,
            closed_by: Side::Server,
            close_frame: None,
            clean: false,
            dropped_by_us: false,
            reset: false,
        }
    }
}

/// Plays all steps of a session and waits for the end of the connection.
pub(crate) fn play(session: &Session, peer: Peer, timing: Timing, seed: u32) -> Transcript {
    let mut player = Player::new(peer, timing, seed);
    if session.closes_when_done {
        player.done_when = &session.outcomes;
    }
    player.closes_on_any = session.patience == Patience::Transfer;
    for step in &session.steps {
        if !player.step(step) {
            break;
        }
    }
    player.flush();
    player.wait_for_end(session.at_last, session.patience);
    player.transcript
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A Close frame was sent or received.
    Closing,
    Gone,
}

#[derive(Debug)]
struct Player<'a> {
    peer: Peer,
    timing: Timing,
    keys: Keys,
    state: State,
    /// Frames that leave together.
    out: Vec<u8>,
    /// Close with 1000 when what one of these wants to see has come.
    done_when: &'a [Outcome],
    /// Close with 1000 after the first message, right or wrong.
    closes_on_any: bool,
    /// How many messages came compressed.
    compressed_count: usize,
    transcript: Transcript,
}

impl<'a> Player<'a> {
    fn new(peer: Peer, timing: Timing, seed: u32) -> Self {
        Self {
            peer,
            timing,
            keys: Keys::new(seed),
            state: State::Open,
            out: Vec::new(),
            done_when: &[],
            closes_on_any: false,
            compressed_count: 0,
            transcript: Transcript::new(),
        }
    }

    /// Returns whether there is any sense in the next step.
    fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::Frame(head, payload, pace) => self.send_frame(*head, payload, *pace),
            Step::Fragments { binary, payload, bytes } => {
                self.send_fragments(*binary, &payload.to_vec(), *bytes);
            }
            Step::Part { bytes, key, offset } => {
                let start = self.out.len();
                self.out.extend_from_slice(bytes);
                apply_mask(&mut self.out[start..], *key, *offset);
            }
            Step::Close(payload) => self.queue_close(payload),
            Step::Pause => return self.pause(),
            Step::Silence(mark) => {
                let is_open = self.pause();
                if is_open {
                    self.transcript.seen.push(Seen::Silence(*mark));
                }
                return is_open;
            }
        }
        true
    }

    fn send_frame(&mut self, head: Head, payload: &Payload, pace: Pace) {
        let key = self.keys.next_key();
        match pace {
            Pace::Together => write_frame(head, &payload.to_vec(), key, &mut self.out),
            Pace::Apart | Pace::Chopped(_) => {
                self.flush();
                let mut bytes = Vec::new();
                write_frame(head, &payload.to_vec(), key, &mut bytes);
                let chop = if let Pace::Chopped(chop) = pace { chop } else { bytes.len() };
                self.peer.send_chopped(&bytes, chop);
            }
        }
    }

    fn send_fragments(&mut self, binary: bool, payload: &[u8], bytes: usize) {
        let opcode = if binary { frame::BINARY } else { frame::TEXT };
        if payload.len() <= bytes {
            write_frame(Head::of(opcode), payload, self.keys.next_key(), &mut self.out);
            return;
        }
        let whole = payload.chunks_exact(bytes);
        let rest = whole.remainder();
        for (index, part) in whole.enumerate() {
            let opcode = if index == 0 { opcode } else { frame::CONTINUATION };
            let head = Head { fin: false, ..Head::of(opcode) };
            write_frame(head, part, self.keys.next_key(), &mut self.out);
        }
        write_frame(Head::of(frame::CONTINUATION), rest, self.keys.next_key(), &mut self.out);
    }

    fn queue_close(&mut self, payload: &[u8]) {
        if self.state == State::Open {
            write_frame(Head::of(frame::CLOSE), payload, self.keys.next_key(), &mut self.out);
            self.state = State::Closing;
            self.transcript.closed_by = Side::Us;
        }
    }

    fn start_closing(&mut self, payload: &[u8]) {
        self.queue_close(payload);
        self.flush();
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            let bytes = std::mem::take(&mut self.out);
            self.peer.send(&bytes);
        }
    }

    /// Lets a second pass; returns whether the connection is still open then.
    fn pause(&mut self) -> bool {
        self.flush();
        let end = Instant::now() + PAUSE;
        while self.state != State::Gone && self.handle_next(end) {}
        self.state == State::Open
    }

    fn wait_for_end(&mut self, at_last: AtLast, patience: Patience) {
        let (each, whole) = match patience {
            Patience::Reaction => (self.timing.reaction, self.timing.reaction),
            Patience::Transfer => (self.timing.stall, self.timing.transfer),
        };
        let start = Instant::now();
        let mut deadline = start + each;
        let mut received_bytes = self.peer.received_bytes();
        while self.state != State::Gone {
            let state = self.state;
            if self.handle_next(deadline) {
                if self.state != state {
                    deadline = Instant::now() + each;
                }
                continue;
            }
            let moved = self.peer.received_bytes() != received_bytes;
            if moved && start.elapsed() < whole {
                received_bytes = self.peer.received_bytes();
            } else if self.state == State::Open {
                let payload = match at_last {
                    AtLast::Fail => close_payload(1001, b"Going Away"),
                    AtLast::Close => Vec::new(),
                };
                self.start_closing(&payload);
            } else {
                self.transcript.dropped_by_us = true;
                self.transcript.clean = false;
                self.state = State::Gone;
            }
            deadline = Instant::now() + each;
        }
    }

    /// Handles the next arrival; false if none came before the deadline or none can come any more.
    fn handle_next(&mut self, deadline: Instant) -> bool {
        if self.state == State::Gone {
            return false;
        }
        let Some(arrival) = self.peer.next_before(deadline) else { return false };
        match arrival {
            Arrival::Gone(kind) => {
                self.transcript.reset = kind == io::ErrorKind::ConnectionReset;
                self.state = State::Gone;
            }
            Arrival::Violation(violation) => {
                self.transcript.violation = Some(violation);
                self.start_closing(&close_payload(1002, b""));
                // The reader has lost its place in the stream, so an end could not be seen.
                self.transcript.dropped_by_us = true;
                self.state = State::Gone;
            }
            Arrival::Incoming(Incoming::Ping(payload)) => {
                if self.state == State::Open {
                    let mut bytes = Vec::new();
                    let key = self.keys.next_key();
                    write_frame(Head::of(frame::PONG), &payload, key, &mut bytes);
                    self.peer.send(&bytes);
                }
            }
            Arrival::Incoming(Incoming::Close(close)) => {
                self.handle_close(close.map(|(code, _)| code))
            }
            Arrival::Incoming(Incoming::Pong(payload)) => self.handle_event(Seen::Pong(payload)),
            Arrival::Incoming(Incoming::Message { binary, payload, compressed }) => {
                self.compressed_count += usize::from(compressed);
                self.handle_event(Seen::Message { binary, payload });
            }
        }
        true
    }

    fn handle_close(&mut self, code: Option<u16>) {
        self.transcript.close_frame = Some(code);
        self.transcript.clean = true;
        if self.state == State::Open {
            self.state = State::Closing;
            self.transcript.closed_by = Side::Server;
            let mut bytes = Vec::new();
            let key = self.keys.next_key();
            write_frame(Head::of(frame::CLOSE), &close_payload(1000, b""), key, &mut bytes);
            self.peer.send(&bytes);
        }
    }

    fn handle_event(&mut self, seen: Seen) {
        let is_message = matches!(seen, Seen::Message { .. });
        self.transcript.seen.push(seen);
        let all = &self.transcript.seen;
        let is_done = self.done_when.iter().any(|outcome| {
            outcome.closing.by == Side::Us
                && all.len() == outcome.events.len()
                && all.iter().zip(&outcome.events).all(|(seen, event)| seen.is(event))
        });
        if is_done || (self.closes_on_any && is_message) {
            self.start_closing(&close_payload(1000, b""));
        }
    }
}

#[cfg(test)]
mod tests;
