//! FG02, FG03, FG04: messages in fragments of one byte, up to the limit and beyond it, and fragments
//! of no byte at all.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;
use crate::wire;

/// Fragments sent in one go, 7 bytes each.
const FRAGMENTS_PER_VISIT: usize = 1024;
/// One more than it takes to pass the limit.
const VISITS: u32 = 65;

const _: () = assert!(VISITS as usize * FRAGMENTS_PER_VISIT > wire::MESSAGE_BYTES_MAX);

#[derive(Debug)]
pub(crate) struct Fragments {
    begin: Vec<u8>,
    tiny: Vec<u8>,
    empty: Vec<u8>,
}

impl Fragments {
    pub(crate) fn new() -> Self {
        Self {
            begin: wire::frame(wire::BINARY_PART, b""),
            tiny: wire::frame(wire::PART, b"x").repeat(FRAGMENTS_PER_VISIT),
            empty: wire::frame(wire::PART, b"").repeat(200),
        }
    }
}

impl Attack for Fragments {
    fn plan(&self) -> Plan {
        Plan {
            visit_interval: Duration::from_millis(20),
            secure_every: 10,
            ..Plan::new("fragment bombs", "FG02 FG03 FG04", 10)
        }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        if number.is_multiple_of(2) { &[Answer::Close(1009)] } else { &[Answer::Close(1008)] }
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&wire::upgrade(""));
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if !peer.is_open() || !peer.is_clear() || peer.step > VISITS {
            return Next::Read;
        }
        if peer.step == 0 {
            peer.send(&self.begin);
        } else if peer.number.is_multiple_of(2) {
            peer.send(&self.tiny);
        } else {
            peer.send(&self.empty);
            peer.step = VISITS;
        }
        peer.step += 1;
        Next::Read
    }
}
