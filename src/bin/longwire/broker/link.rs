//! What belongs to one link and ends with it: what has come and is not read yet, what is still to be
//! written, and what the broker was asked.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::address::Kind;
use super::connect::Opened;
use super::wire;

/// Bytes written ahead; above it messages stay in the queues of the cores.
pub(super) const OUT_BYTES_MAX: usize = 256 << 10;
pub(super) const READ_BYTES: usize = 64 << 10;

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
    pub(super) since_ping: Duration,
    pub(super) silence: Duration,
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

    pub(super) fn waiting_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    pub(super) fn has_output(&self) -> bool {
        self.waiting_bytes() > 0 || self.must_flush
    }

    /// So many bytes were taken; `None` if all that were taken are on their way.
    pub(super) fn handle_sent(&mut self, sent: Option<usize>) {
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
