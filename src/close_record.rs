//! What is kept of connections that have ended.
//!
//! A worker keeps its last few; others ask it for them. Nothing here is on the path of a message.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::conn::{CloseCause, ClosedBy};
use crate::conn_info::ConnId;
use crate::proto::CloseCode;

/// How a connection ended; see [`Handle::closes`](crate::Handle::closes).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseRecord {
    /// Its name.
    pub id: ConnId,
    /// The core it was on.
    pub core: usize,
    /// The client's address, as [`Conn::client_addr`](crate::Conn::client_addr) told it.
    pub client_addr: Option<IpAddr>,
    /// When it ended: the beginning of that turn of its worker.
    pub at: Instant,
    /// Since it was accepted, to an eighth of a second.
    pub age: Duration,
    /// Who ended it.
    pub by: ClosedBy,
    /// The close code, as [`Close::code`](crate::Close::code) tells it.
    pub code: CloseCode,
    /// Why it ended.
    pub cause: CloseCause,
    /// The number of the system's error (`errno`), if it broke by one.
    pub os_error: Option<i32>,
    /// Bytes that were queued and not taken by the kernel, our Close frame included.
    pub queued_bytes: usize,
    /// The kernel's smoothed estimate of the round trip. `None` for Unix sockets and direct
    /// descriptors.
    pub round_trip: Option<Duration>,
    /// The reason in the Close frame: control characters and such are escaped, and it is cut at
    /// 128 bytes.
    pub reason: String,
}

/// The last connections of a worker that have ended, oldest first.
#[derive(Debug)]
pub(crate) struct CloseRing {
    records: VecDeque<CloseRecord>,
    records_max: usize,
}

impl CloseRing {
    /// An empty ring; it takes memory as it fills.
    pub(crate) fn new(records_max: usize) -> Self {
        Self { records: VecDeque::new(), records_max }
    }

    /// Whether anything is kept.
    pub(crate) fn keeps(&self) -> bool {
        self.records_max > 0
    }

    /// Keeps a record, in place of the oldest if there is no room.
    pub(crate) fn push(&mut self, record: CloseRecord) {
        if self.records.len() >= self.records_max {
            self.records.pop_front();
        }
        if self.keeps() {
            self.records.push_back(record);
        }
    }

    /// The newest, newest first.
    pub(crate) fn newest(&self, records_max: usize) -> Vec<CloseRecord> {
        self.records.iter().rev().take(records_max).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Token;

    fn record(index: u32) -> CloseRecord {
        CloseRecord {
            id: ConnId::new(0, Token { index, generation: 0 }),
            core: 0,
            client_addr: None,
            at: Instant::now(),
            age: Duration::ZERO,
            by: ClosedBy::Peer,
            code: CloseCode::NORMAL,
            cause: CloseCause::Peer,
            os_error: None,
            queued_bytes: 0,
            round_trip: None,
            reason: String::new(),
        }
    }

    #[test]
    fn ring_keeps_the_newest_and_tells_them_first() {
        let mut ring = CloseRing::new(3);
        for index in 0..5 {
            ring.push(record(index));
        }
        let names = |records: Vec<CloseRecord>| -> Vec<String> {
            records.iter().map(|record| record.id.to_string()).collect()
        };
        assert_eq!(names(ring.newest(9)), ["4", "3", "2"]);
        assert_eq!(names(ring.newest(1)), ["4"]);
        let mut none = CloseRing::new(0);
        none.push(record(1));
        assert!(!none.keeps() && none.newest(9).is_empty());
    }
}
