//! HD01, HD02, FR03: a request line, a head, a number of header lines and a frame beyond the limits.

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;
use crate::wire;

const LONG_LINE: u32 = 0;
const LONG_HEAD: u32 = 1;
const MANY_HEADERS: u32 = 2;
const KINDS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Oversize {
    long_line: Vec<u8>,
    long_head: Vec<u8>,
    many_headers: Vec<u8>,
    huge_frame: Vec<u8>,
}

impl Oversize {
    pub(crate) fn new() -> Self {
        let line = "a".repeat(7000);
        Self {
            long_line: format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)).into_bytes(),
            long_head: wire::upgrade(&format!("A: {line}\r\nB: {line}\r\nC: {line}\r\n")),
            many_headers: wire::upgrade(&"A: b\r\n".repeat(120)),
            huge_frame: wire::announcement(1 << 62),
        }
    }
}

impl Attack for Oversize {
    fn plan(&self) -> Plan {
        Plan { secure_every: 15, ..Plan::new("oversize", "HD01 HD02 FR03", 60) }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        match number % KINDS {
            LONG_LINE => &[Answer::Status(414)],
            LONG_HEAD | MANY_HEADERS => &[Answer::Status(431)],
            _ => &[Answer::Close(1009)],
        }
    }

    fn greet(&mut self, peer: &mut Peer) {
        match peer.number % KINDS {
            LONG_LINE => peer.send(&self.long_line),
            LONG_HEAD => peer.send(&self.long_head),
            MANY_HEADERS => peer.send(&self.many_headers),
            _ => peer.send(&wire::upgrade("")),
        }
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if peer.is_open() && peer.step == 0 {
            peer.send(&self.huge_frame);
            peer.step = 1;
        }
        Next::Read
    }
}
