//! Limits and decisions, pure: how much a peer may ask for, and how long it may take.
//!
//! Nothing here does anything; `conn` and `worker` ask and act.

pub(crate) mod admission;
pub(crate) mod budget;
pub(crate) mod flow;
pub(crate) mod origins;
mod rate;
mod ticks;
pub(crate) mod trusted;

pub use flow::RateMode;
pub(crate) use flow::{Flow, FlowLimits, FlowRate};
pub(crate) use origins::Origins;
pub(crate) use rate::{ControlRate, LogRate};
pub(crate) use ticks::{Tick, Ticks};

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::handshake::HeadLimits;
use crate::proto::handshake::extensions::DeflatePolicy;

/// Every bound a worker holds its connections to. Built and checked by `config`.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bounds of a request head.
    pub(crate) head: HeadLimits,
    /// Payload bytes of a whole message.
    pub(crate) message_bytes_max: usize,
    /// Payload bytes of one frame.
    pub(crate) frame_bytes_max: usize,
    /// Fragments without payload in a row.
    pub(crate) empty_fragments_max: u16,
    /// Control frames per second that refill the burst of [`ControlRate`].
    pub(crate) control_frames_per_second: u16,
    /// Control frames that may come at once.
    pub(crate) control_frames_burst: u16,
    /// Pongs that wait behind a slow reader; later pings only replace the newest.
    pub(crate) pongs_queued_max: u16,
    /// Queued bytes above which a connection is not read.
    pub(crate) send_high_water_bytes: usize,
    /// Queued bytes above which a connection takes no more messages.
    pub(crate) send_bytes_max: usize,
    /// What becomes of messages above `send_bytes_max`.
    pub(crate) overflow: Overflow,
    /// Messages and bytes per second of one connection, if they are bounded.
    pub(crate) flow: Option<FlowLimits>,
    /// Whose scripts may connect.
    pub(crate) origins: Arc<Origins>,
    /// Whether a request must tell its origin.
    pub(crate) require_origin: bool,
    /// How messages are compressed, if they may be.
    pub(crate) compression: Option<CompressionLimits>,
    /// Connections of one worker.
    pub(crate) conns_max: usize,
    /// Connections of one worker that have not finished their handshake.
    pub(crate) handshakes_max: usize,
    /// Of these, connections that have not finished their TLS handshake.
    pub(crate) tls_handshakes_max: usize,
    /// Connections that have ended of which one worker keeps a record.
    pub(crate) closes_kept: usize,
    /// Handshakes that one worker begins per second, if they are bounded.
    pub(crate) handshakes_per_second: Option<NonZeroU32>,
    /// Deadlines.
    pub(crate) timeouts: Timeouts,
}

/// Which limits have changed that connections count something by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitChanges {
    /// How long a peer may be silent.
    pub(crate) silence: bool,
    /// How much it may send in a second.
    pub(crate) rates: bool,
}

impl LimitChanges {
    /// Between these.
    pub(crate) fn between(old: &Limits, new: &Limits) -> Self {
        let times = |limits: &Limits| (limits.timeouts.ping_interval, limits.timeouts.idle);
        Self { silence: times(old) != times(new), rates: old.flow != new.flow }
    }

    /// Both kinds.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { silence: self.silence || other.silence, rates: self.rates || other.rates }
    }
}

/// What becomes of a message for a connection whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is dropped, and the connection closed with 1013 (try again later).
    #[default]
    Close,
    /// It is dropped, counted, and the sender told.
    Drop,
}

impl std::str::FromStr for Overflow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "close" => Ok(Self::Close),
            "drop" => Ok(Self::Drop),
            _ => Err("give close or drop".to_owned()),
        }
    }
}

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Close => "close",
            Self::Drop => "drop",
        })
    }
}

/// How a core compresses its messages (RFC 7692).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompressionLimits {
    /// What is negotiated.
    pub(crate) policy: DeflatePolicy,
    /// From 1, fast, to 9, small.
    pub(crate) level: u8,
    /// Messages of fewer bytes are sent as they are.
    pub(crate) message_bytes_min: usize,
}

/// How long each wait may take (row R4 of the project's threat list: every wait has a deadline).
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    /// From accept to the end of the request head.
    pub(crate) handshake: Ticks,
    /// From accept to the end of the TLS handshake; a part of `handshake`.
    pub(crate) tls_handshake: Ticks,
    /// From our Close frame to the peer's.
    pub(crate) close: Ticks,
    /// Time for a queue to shrink by a few bytes.
    pub(crate) write_stall: Ticks,
    /// Silence after which a ping is sent.
    pub(crate) ping_interval: Option<Ticks>,
    /// From a ping to any byte of the peer.
    pub(crate) pong: Ticks,
    /// Silence after which a connection is closed.
    pub(crate) idle: Option<Ticks>,
    /// From the opening of a connection to its end, whatever happens on it.
    pub(crate) lifetime: Option<Ticks>,
    /// From the first fragment of a message to its last.
    pub(crate) message: Ticks,
    /// Time for the peer to take our last bytes once the connection has failed, and then again
    /// to close its side.
    pub(crate) linger: Ticks,
}

/// Bytes of a peer that are read and dropped after the connection has ended.
pub(crate) const LINGER_BYTES_MAX: u32 = 64 * 1024;

/// A queue that does not shrink by this much within the write-stall timeout is stalled. One byte
/// now and then is not progress (an attack that keeps a timer alive).
pub(crate) const PROGRESS_BYTES_MIN: usize = 64;

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            message_bytes_max: 64 * 1024,
            frame_bytes_max: 64 * 1024,
            empty_fragments_max: 64,
            control_frames_per_second: 128,
            control_frames_burst: 256,
            pongs_queued_max: 16,
            send_high_water_bytes: 64 * 1024,
            send_bytes_max: 1024 * 1024,
            overflow: Overflow::Close,
            flow: None,
            origins: Arc::new(Origins::Any),
            require_origin: false,
            compression: None,
            conns_max: 1 << 20,
            handshakes_max: 4096,
            handshakes_per_second: None,
            tls_handshakes_max: 256,
            closes_kept: 256,
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |s| Ticks::at_least(Duration::from_secs(s));
        Self {
            handshake: seconds(10),
            tls_handshake: seconds(5),
            close: seconds(5),
            write_stall: seconds(30),
            ping_interval: Some(seconds(30)),
            pong: seconds(20),
            idle: None,
            lifetime: None,
            message: seconds(60),
            linger: seconds(1),
        }
    }
}
