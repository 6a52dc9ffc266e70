//! Why a connection ended: a few causes with names that are constants, so that peers cannot make
//! the counts of them grow in number.

use std::fmt;
use std::io;

use crate::proto::sequence::Failure;
use crate::proto::{LimitExceeded, Violation};

use super::Side;

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClosedBy {
    /// This side: its application, its limits, its timeouts.
    Local,
    /// The peer, by a Close frame.
    Peer,
    /// Neither said anything: the stream ended, or the connection broke.
    Network,
}

impl ClosedBy {
    pub(crate) fn of(side: Side, cause: CloseCause) -> Self {
        let is_broken = matches!(
            cause,
            CloseCause::Eof | CloseCause::Reset | CloseCause::Broken | CloseCause::Tls
        );
        match side {
            Side::Local => Self::Local,
            Side::Peer if is_broken => Self::Network,
            Side::Peer => Self::Peer,
        }
    }

    /// A word for it: `local`, `peer` or `network`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Network => "network",
        }
    }
}

impl fmt::Display for ClosedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a connection ended.
///
/// It is what began the end: a connection that the application closed, and whose peer then hangs up
/// without an answer, was ended by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer sent a Close frame.
    Peer,
    /// The application closed it.
    Application,
    /// A call of the application panicked.
    Panic,
    /// The peer broke the RFC.
    Violation(Violation),
    /// The peer went over a limit, or read too slowly.
    Limit(LimitExceeded),
    /// The peer kept asking for more subscriptions than it may have.
    TooManySubscriptions,
    /// No sign of life came within the time for a pong.
    PongTimeout,
    /// The peer took next to nothing of what was queued for it.
    WriteStall,
    /// The peer was silent for too long.
    IdleTimeout,
    /// Our Close frame was not answered in time.
    CloseTimeout,
    /// The connection was open for as long as it may be.
    Lifetime,
    /// The server stopped.
    Shutdown,
    /// The peer's stream ended without a Close frame.
    Eof,
    /// The peer, or somebody on the way, reset the connection.
    Reset,
    /// The connection broke in another way: see the error of the system.
    Broken,
    /// A TLS record could not be opened, or an alert came.
    Tls,
}

impl CloseCause {
    /// What a failure of the system means.
    pub(crate) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Broken,
        }
    }

    /// A name for counters and logs; one of few, whatever peers do.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Application => "application",
            Self::Panic => "panic",
            Self::Violation(_) => "protocol_error",
            Self::Limit(limit) => limit_name(limit),
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::PongTimeout => "pong_timeout",
            Self::WriteStall => "write_stall",
            Self::IdleTimeout => "idle_timeout",
            Self::CloseTimeout => "close_timeout",
            Self::Lifetime => "lifetime",
            Self::Shutdown => "shutdown",
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Broken => "io_error",
            Self::Tls => "tls_error",
        }
    }
}

const fn limit_name(limit: LimitExceeded) -> &'static str {
    match limit {
        LimitExceeded::MessageTooBig => "message_too_big",
        LimitExceeded::FrameTooBig => "frame_too_big",
        LimitExceeded::TooManyEmptyFragments => "too_many_empty_fragments",
        LimitExceeded::MessageTimeout => "message_timeout",
        LimitExceeded::TooManyControlFrames => "too_many_control_frames",
        LimitExceeded::RateExceeded => "rate_exceeded",
        LimitExceeded::SendQueueFull => "slow_reader",
        LimitExceeded::MemoryScarce => "memory_scarce",
    }
}

impl From<Failure> for CloseCause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Violation(violation) => Self::Violation(violation),
            Failure::Limit(limit) => Self::Limit(limit),
        }
    }
}

/// In words, for people.
impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Limit(limit) => limit.fmt(f),
            Self::Peer => f.write_str("the peer closed"),
            Self::Application => f.write_str("the application closed"),
            Self::Panic => f.write_str("the application panicked"),
            Self::TooManySubscriptions => f.write_str("too many subscriptions"),
            Self::PongTimeout => f.write_str("no sign of life after a ping"),
            Self::WriteStall => f.write_str("the peer took nothing of what was queued"),
            Self::IdleTimeout => f.write_str("silence for too long"),
            Self::CloseTimeout => f.write_str("a Close frame was not answered"),
            Self::Lifetime => f.write_str("the end of its lifetime"),
            Self::Shutdown => f.write_str("the server stopped"),
            Self::Eof => f.write_str("the stream ended without a Close frame"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::Broken => f.write_str("the connection broke"),
            Self::Tls => f.write_str("TLS failed"),
        }
    }
}
