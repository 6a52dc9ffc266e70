//! Messages one by one, each after the echo of the one before: plain ones that are all alike, and
//! compressed ones that are cut from some data.

use std::time::Instant;

use super::{AtLast, Event, Patience, Payload, Peer, Player, State, Timing, Transcript};
use super::{close_payload, frame};
use crate::conform::case::Compressed;
use crate::conform::deflate::Deflater;
use crate::conform::frame::{Head, write_frame};

/// How far a row of messages came.
#[derive(Clone, Debug)]
pub(crate) struct Trips {
    pub(crate) echoes: usize,
    /// The message whose echo is missing or wrong.
    pub(crate) missing: Option<Event>,
    /// How many echoes came compressed.
    pub(crate) compressed_count: usize,
    /// Payload bytes as they were, and as they were sent.
    pub(crate) message_bytes: usize,
    pub(crate) sent_bytes: usize,
    /// What followed the last right echo.
    pub(crate) transcript: Transcript,
}

/// Sends the same message again and again. Ends early at the first wrong echo, which is then the last
/// of the transcript.
pub(crate) fn play_round_trips(message: &Event, count: usize, peer: Peer, timing: Timing) -> Trips {
    let Event::Message { binary, payload } = message else {
        unreachable!("only messages are echoed")
    };
    let bytes = payload.to_vec();
    let head = Head::of(opcode(*binary));
    let mut runner = Runner::new(peer, timing);
    while runner.trips.echoes < count && runner.player.state == State::Open {
        let key = runner.player.keys.next_key();
        write_frame(head, &bytes, key, &mut runner.player.out);
        if !runner.takes_echo_of(message) {
            break;
        }
    }
    runner.end()
}

/// Sends messages of a case of compression, each compressed as it was agreed on.
pub(crate) fn play_compressed(case: &Compressed, peer: Peer, timing: Timing) -> Trips {
    let params = peer.params().expect("a case of compression is played where that was agreed on");
    let corpus = case.kind.corpus();
    let binary = case.kind.is_binary();
    let mut deflater = Deflater::new(&params);
    let mut runner = Runner::new(peer, timing);
    while runner.trips.echoes < case.count && runner.player.state == State::Open {
        let bytes = corpus.message(runner.trips.echoes, case.len);
        let payload = deflater.message(&bytes);
        runner.trips.message_bytes += bytes.len();
        runner.trips.sent_bytes += payload.len();
        runner.queue_compressed(opcode(binary), &payload, case.fragment_bytes);
        let message = Event::Message { binary, payload: Payload::new(&bytes) };
        if !runner.takes_echo_of(&message) {
            break;
        }
    }
    runner.end()
}

fn opcode(binary: bool) -> u8 {
    if binary { frame::BINARY } else { frame::TEXT }
}

struct Runner {
    player: Player<'static>,
    trips: Trips,
}

impl Runner {
    fn new(peer: Peer, timing: Timing) -> Self {
        let trips = Trips {
            echoes: 0,
            missing: None,
            compressed_count: 0,
            message_bytes: 0,
            sent_bytes: 0,
            transcript: Transcript::new(),
        };
        Self { player: Player::new(peer, timing, 97), trips }
    }

    /// Queues a compressed message in frames of this many bytes, RSV1 on the first (RFC 7692 §6.1).
    fn queue_compressed(&mut self, opcode: u8, payload: &[u8], fragment_bytes: Option<usize>) {
        let parts = payload.chunks(fragment_bytes.unwrap_or(payload.len()));
        let last = parts.len() - 1;
        for (index, part) in parts.enumerate() {
            let (opcode, rsv) = if index == 0 { (opcode, 4) } else { (frame::CONTINUATION, 0) };
            let head = Head { fin: index == last, rsv, ..Head::of(opcode) };
            let key = self.player.keys.next_key();
            write_frame(head, part, key, &mut self.player.out);
        }
    }

    /// Sends what is queued; whether the next thing that comes back is this message.
    fn takes_echo_of(&mut self, message: &Event) -> bool {
        let player = &mut self.player;
        player.flush();
        let deadline = Instant::now() + player.timing.stall;
        while player.transcript.seen.is_empty() && player.handle_next(deadline) {}
        match player.transcript.seen.pop() {
            Some(echo) if echo.is(message) => {
                self.trips.echoes += 1;
                true
            }
            other => {
                player.transcript.seen.extend(other);
                self.trips.missing = Some(message.clone());
                false
            }
        }
    }

    fn end(mut self) -> Trips {
        self.player.start_closing(&close_payload(1000, b""));
        self.player.wait_for_end(AtLast::Close, Patience::Reaction);
        self.trips.compressed_count = self.player.compressed_count;
        self.trips.transcript = self.player.transcript;
        self.trips
    }
}
