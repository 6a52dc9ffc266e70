//! How connections are named and described to other threads.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::io::Token;

/// Names a connection of a server or client. May be kept for any time: what is meant for one that has
/// ended reaches nobody. Never used twice within 2^24 connections of a core. Written as a
/// hexadecimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    const INDEX_BITS: u32 = 30;
    const GENERATION_BITS: u32 = 24;

    pub(crate) fn new(core: usize, token: Token) -> Self {
        let above = (core as u64) << Self::GENERATION_BITS | u64::from(token.generation);
        Self(above << Self::INDEX_BITS | u64::from(token.index))
    }

    /// The number of its core.
    pub(crate) fn core(self) -> usize {
        (self.0 >> (Self::INDEX_BITS + Self::GENERATION_BITS)) as usize
    }

    /// Its token, if it is a connection of this core.
    pub(crate) fn token_at(self, core: usize) -> Option<Token> {
        let bits = |from: u32, count: u32| {
            u32::try_from(self.0 >> from & ((1 << count) - 1)).expect("it has at most 32 bits")
        };
        let index = bits(0, Self::INDEX_BITS);
        let generation = bits(Self::INDEX_BITS, Self::GENERATION_BITS);
        (self.core() == core).then_some(Token { index, generation })
    }
}

/// Reads what `Display` has written.
impl std::str::FromStr for ConnId {
    type Err = InvalidConnId;

    fn from_str(text: &str) -> Result<Self, InvalidConnId> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_plain);
        number.map(Self).ok_or(InvalidConnId)
    }
}

/// The text is no name of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidConnId;

impl fmt::Display for InvalidConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the name of a connection is up to 16 hexadecimal digits, as /connections tells it",
        )
    }
}

impl std::error::Error for InvalidConnId {}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What is known of a connection; see [`Handle::connections`](crate::Handle::connections).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnInfo {
    /// Its name, for [`Handle::send`](crate::Handle::send) and [`Handle::close`](crate::Handle::close).
    pub id: ConnId,
    /// The number of the worker it is on, from 0.
    pub core: usize,
    /// The client's address, as [`Conn::client_addr`](crate::Conn::client_addr) tells it.
    pub client_addr: Option<IpAddr>,
    /// Since it was accepted, to an eighth of a second.
    pub age: Duration,
    /// Topics it subscribes to, up to 16.
    pub topics: Vec<String>,
    /// Bytes queued that the kernel has not taken yet.
    pub queued_bytes: usize,
}
