//! How a connection ended, as the application hears it.

use crate::proto::CloseCode;

/// Which side began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer: by a Close frame, or by going away.
    Peer,
    /// This server: the application closed, or the connection failed or timed out.
    Server,
}

/// The end of a connection (RFC 6455 §7.1.5, §7.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    code: CloseCode,
    reason: String,
    side: Side,
}

impl Close {
    pub(crate) fn new(code: CloseCode, reason: &str, side: Side) -> Self {
        Self { code, reason: reason.to_owned(), side }
    }

    /// The close code: what the peer's Close frame carried, [`CloseCode::NO_STATUS`] if it carried
    /// none, [`CloseCode::ABNORMAL`] if the connection ended without one, or the code this server
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
}
