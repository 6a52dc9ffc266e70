//! The three ways an update can reach a client.

use clap::ValueEnum;
use serde::Serialize;

/// How a client gets its updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// The client asks once a second.
    Poll,
    /// The client asks, and is answered when there is something.
    LongPoll,
    /// The server sends over a WebSocket.
    Push,
}

impl Way {
    /// Its column in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Poll => "HTTP polling",
            Self::LongPoll => "long polling",
            Self::Push => "longwire push",
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::LongPoll => "long-poll",
            Self::Push => "push",
        }
    }
}
