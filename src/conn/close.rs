//! How a connection ended, or why it never opened, as the application hears it.

use std::fmt;
use std::io;

use crate::proto::CloseCode;
use crate::proto::handshake::UpgradeError;

use super::cause::{CloseCause, ClosedBy};

/// Which side began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer: by a Close frame, or by going away.
    Peer,
    /// This side: the application closed, or the connection failed or timed out.
    Local,
}

/// The end of a connection (RFC 6455 §7.1.5, §7.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    code: CloseCode,
    reason: String,
    side: Side,
    cause: CloseCause,
    /// 0 if there was none.
    os_error: i32,
}

impl Close {
    pub(crate) fn new(code: CloseCode, reason: &str, side: Side, cause: CloseCause) -> Self {
        Self { code, reason: reason.to_owned(), side, cause, os_error: 0 }
    }

    /// The end of a connection without a Close frame.
    pub(crate) fn abnormal(side: Side, cause: CloseCause) -> Self {
        Self::new(CloseCode::ABNORMAL, "", side, cause)
    }

    /// The same, for an error of the system.
    pub(crate) fn by_error(mut self, error: &io::Error) -> Self {
        self.os_error = error.raw_os_error().unwrap_or_default();
        self
    }

    /// The close code: what the peer's Close frame carried, [`CloseCode::NO_STATUS`] if it carried
    /// none, [`CloseCode::ABNORMAL`] if the connection ended without one, or the code this side
    /// failed the connection with.
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// The peer's reason, at most 123 bytes; often empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Which side began to close.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Who ended the connection: as [`side`](Self::side), but what broke or stopped without a word
    /// is told apart from a peer that closed.
    pub fn by(&self) -> ClosedBy {
        ClosedBy::of(self.side, self.cause)
    }

    /// Why it ended.
    pub fn cause(&self) -> CloseCause {
        self.cause
    }

    /// The number of the system's error (`errno`) if the connection broke by one.
    pub fn os_error(&self) -> Option<i32> {
        (self.os_error != 0).then_some(self.os_error)
    }
}

/// Why a connection in the client role never opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no TCP connection: refused, unreachable, or reset.
    Connect(io::Error),
    /// There is no TLS connection; the text says why, such as a certificate nobody trusts.
    Tls(String),
    /// The server answered with this HTTP status instead of 101.
    Refused {
        /// The status.
        status: u16,
    },
    /// The answer is not one of a WebSocket server (RFC 6455 §4.1); the text says what is wrong.
    NotWebSocket(&'static str),
    /// No complete answer came in time.
    Timeout,
    /// The server closed the connection before it had answered.
    ClosedEarly,
}

impl From<UpgradeError> for ConnectError {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Refused(status) => Self::Refused { status },
            UpgradeError::MalformedResponse => Self::NotWebSocket("the answer is not HTTP/1.1"),
            UpgradeError::ResponseTooLong => Self::NotWebSocket("the answer's head has no end"),
            UpgradeError::UpgradeMismatch => {
                Self::NotWebSocket("the answer does not upgrade to websocket")
            }
            UpgradeError::ConnectionMismatch => {
                Self::NotWebSocket("the answer's Connection header does not name upgrade")
            }
            UpgradeError::AcceptMismatch => {
                Self::NotWebSocket("the answer's Sec-WebSocket-Accept does not fit the key")
            }
            UpgradeError::UnrequestedProtocol => {
                Self::NotWebSocket("the answer selects a sub-protocol that was not offered")
            }
            UpgradeError::UnrequestedExtension => {
                Self::NotWebSocket("the answer selects an extension that was not offered")
            }
            UpgradeError::ExtensionMismatch => Self::NotWebSocket(
                "the answer accepts permessage-deflate other than it was offered",
            ),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Tls(why) => write!(f, "no TLS connection: {why}"),
            Self::Refused { status } => {
                write!(f, "the server refused the upgrade with HTTP status {status}")
            }
            Self::NotWebSocket(what) => write!(f, "not a WebSocket server: {what}"),
            Self::Timeout => f.write_str("no answer to the upgrade request in time"),
            Self::ClosedEarly => f.write_str("the server closed before it answered"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Tls(_)
            | Self::Refused { .. }
            | Self::NotWebSocket(_)
            | Self::Timeout
            | Self::ClosedEarly => None,
        }
    }
}

/// What the application is told last of a connection.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It was open, and has closed.
    Closed(Close),
    /// It never opened. Only in the client role.
    NeverOpened(ConnectError),
}
