//! What belongs to one link and ends with it: what has come and is not read yet, what is still to be
//! written, and what the broker was asked.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::address::Kind;
use super::connect::{Down, Opened};
use super::wire;

/// Bytes written ahead; above it messages stay in the queues of the cores.
const OUT_BYTES_MAX: usize = 256 << 10;
pub(super) const READ_BYTES: usize = 64 << 10;
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Nothing has come for so long, not even an answer to pings; or nothing was taken.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// One link.
pub(super) struct Link {
    pub(super) kind: Kind,
    pub(super) input: Vec<u8>,
    /// INVARIANT: `sent <= out.len()`.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    pub(super) must_flush: bool,
    pub(super) payload_bytes_max: usize,
    /// The ping of this number follows what was last asked for.
    pub(super) batch_ping: Option<u64>,
    pub(super) ping_count: u64,
    pub(super) pong_count: u64,
    since_ping: Duration,
    /// How long nothing has come.
    silence: Duration,
    /// How long nothing was taken of what is still to be written.
    stillness: Duration,
    /// Whether the broker has asked for a sign of life. One answers all that it has asked.
    owes_pong: bool,
    pub(super) is_up: bool,
    pub(super) began: Instant,
    /// Nodes that have been heard.
    pub(super) peers: HashSet<u64>,
    /// Whether messages may be sent.
    pub(super) is_released: bool,
    /// The topics of a time before the link.
    pub(super) restored: usize,
}

impl Link {
    pub(super) fn new(kind: Kind, opened: &Opened) -> Self {
        Self {
            kind,
            input: Vec::new(),
            out: Vec::new(),
            sent: 0,
            must_flush: false,
            payload_bytes_max: opened.payload_bytes_max,
            batch_ping: None,
            ping_count: 0,
            pong_count: 0,
            since_ping: Duration::ZERO,
            silence: Duration::ZERO,
            stillness: Duration::ZERO,
            owes_pong: false,
            is_up: false,
            began: Instant::now(),
            peers: HashSet::new(),
            is_released: false,
            restored: 0,
        }
    }

    pub(super) fn ping(&mut self) {
        wire::ping(self.kind, &mut self.out);
        self.ping_count += 1;
        self.since_ping = Duration::ZERO;
    }

    /// The broker wants a sign of life.
    pub(super) fn handle_ping(&mut self) {
        self.owes_pong = true;
    }

    /// Gives the sign of life that is owed, if there is room: a broker that asks and asks and does
    /// not read costs no memory.
    pub(super) fn pong(&mut self) {
        if self.has_room() && std::mem::take(&mut self.owes_pong) {
            wire::pong(self.kind, &mut self.out);
        }
    }

    /// Something has come.
    pub(super) fn handle_received(&mut self) {
        self.silence = Duration::ZERO;
    }

    /// Some time has passed.
    pub(super) fn handle_time(&mut self, passed: Duration) -> Result<(), Down> {
        self.silence += passed;
        self.stillness = if self.has_output() { self.stillness + passed } else { Duration::ZERO };
        self.since_ping += passed;
        if self.since_ping >= PING_INTERVAL {
            self.ping();
        }
        // A broker that speaks and does not read is of no use either.
        if self.silence.max(self.stillness) >= SILENCE_MAX { Err(Down::Stalled) } else { Ok(()) }
    }

    /// Whether more may be written ahead.
    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes() < OUT_BYTES_MAX
    }

    fn waiting_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    pub(super) fn has_output(&self) -> bool {
        self.waiting_bytes() > 0 || self.must_flush
    }

    /// So many bytes were taken; `None` if all that were taken are on their way.
    pub(super) fn handle_sent(&mut self, sent: Option<usize>) {
        self.stillness = Duration::ZERO;
        let Some(bytes) = sent else {
            self.must_flush = false;
            return;
        };
        self.sent += bytes;
        self.must_flush = true;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.out.shrink_to(OUT_BYTES_MAX);
        } else if self.sent >= OUT_BYTES_MAX {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// One step of writing: may be given up at any time without losing count.
pub(super) async fn push(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    must_flush: bool,
) -> io::Result<Option<usize>> {
    if bytes.is_empty() && must_flush {
        return writer.flush().await.map(|()| None);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        sent => Ok(Some(sent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn link() -> Link {
        let stream = Box::new(tokio::io::duplex(1).0);
        let opened = Opened { stream, input: Vec::new(), payload_bytes_max: 1 };
        Link::new(Kind::Nats, &opened)
    }

    #[test]
    fn bk04_broker_that_asks_and_does_not_read_is_given_up() {
        let mut link = link();
        let mut ticks = 0;
        loop {
            for _ in 0..1000 {
                link.handle_received();
                link.handle_ping();
            }
            link.pong();
            assert!(link.waiting_bytes() < 1000, "one answer is enough: {}", link.waiting_bytes());
            if link.handle_time(TICK).is_err() {
                break;
            }
            ticks += 1;
            assert!(TICK * ticks < 2 * SILENCE_MAX, "it is still waited for");
        }
        assert!(TICK * ticks >= SILENCE_MAX - TICK);
    }

    #[test]
    fn broker_that_reads_slowly_is_kept_and_answered_when_there_is_room() {
        let mut link = link();
        link.out = vec![0; OUT_BYTES_MAX];
        for _ in 0..9 {
            link.handle_ping();
            link.pong();
            assert!(!link.out.ends_with(b"PONG\r\n"), "there is no room");
            link.handle_received();
            link.handle_time(SILENCE_MAX / 2).expect("it has not stopped reading");
            link.handle_sent(Some(1));
        }
        link.handle_sent(Some(OUT_BYTES_MAX / 2));
        link.pong();
        assert!(link.out.ends_with(b"PONG\r\n"));
        let bytes = link.out.len();
        link.pong();
        assert_eq!(link.out.len(), bytes, "nothing is owed any more");
    }
}
