//! What is kept of connections that have ended, and how the words of peers are made fit to read.
//!
//! A worker keeps its last few; others ask it for them. Nothing here is on the path of a message.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::conn::{CloseCause, ClosedBy};
use crate::conn_info::ConnId;
use crate::proto::CloseCode;

/// Bytes of a peer's words that are kept (row LC07).
const WORDS_BYTES_MAX: usize = 128;
/// Stands for what was cut off.
const CUT: char = '\u{2026}';

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

/// Words of a peer as they may stand on a terminal and in a log: one line, nothing that moves a
/// cursor or hides what follows, at most 128 bytes (row LC07).
pub(crate) fn legible(words: &str) -> String {
    let mut text = String::new();
    for character in words.chars() {
        let escaped = character.escape_debug();
        // Quotes do no harm here.
        let is_plain = escaped.len() == 1 || matches!(character, '"' | '\'');
        let before = text.len();
        if is_plain {
            text.push(character);
        } else {
            text.extend(escaped);
        }
        if text.len() > WORDS_BYTES_MAX - CUT.len_utf8() {
            text.truncate(before);
            text.push(CUT);
            break;
        }
    }
    text
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

    #[test]
    fn lc07_words_of_peers_cannot_move_a_cursor_and_are_cut() {
        assert_eq!(legible("it's \"fine\", Grüße"), "it's \"fine\", Grüße");
        assert_eq!(legible("a\nb\r\t\u{1b}[2J"), "a\\nb\\r\\t\\u{1b}[2J");
        assert_eq!(legible("\u{9b}31m\u{202e}x\u{200b}"), "\\u{9b}31m\\u{202e}x\\u{200b}");
        assert_eq!(legible("\\n"), "\\\\n", "what is escaped can be told from what is not");
    }

    #[test]
    fn lc07_any_words_come_out_on_one_line_of_bounded_length() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..if cfg!(miri) { 20 } else { 5_000 } {
            let words: String = (0..rng.usize(0..200))
                .map(|_| match rng.u8(0..4) {
                    0 => char::from(rng.u8(..)),
                    1 => rng.char('\u{2000}'..='\u{2100}'),
                    _ => rng.char(..),
                })
                .collect();
            let text = legible(&words);
            assert!(text.len() <= WORDS_BYTES_MAX, "{words:?}");
            assert!(
                !text.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
            );
        }
        let long = "x".repeat(1 << 20);
        assert!(legible(&long).ends_with(CUT));
    }
}
