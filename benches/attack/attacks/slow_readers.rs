//! TC10: takes a byte per second of what it is owed. Less than 64 bytes in `write_stall_timeout` are
//! no progress, and it is reset.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;
use crate::wire;

const VISITS_PER_SECOND: u32 = 10;

#[derive(Debug)]
pub(crate) struct SlowReaders {
    message: Vec<u8>,
    life_max: Duration,
}

impl SlowReaders {
    pub(crate) fn new(ground: &Ground) -> Self {
        Self {
            message: wire::frame(wire::BINARY, &[b'r'; wire::MESSAGE_BYTES_MAX]),
            life_max: ground.timeouts.write_stall * 2 + Duration::from_secs(5),
        }
    }
}

impl Attack for SlowReaders {
    fn plan(&self) -> Plan {
        Plan {
            held_max: 150,
            visit_interval: Duration::from_secs(1) / VISITS_PER_SECOND,
            life_max: self.life_max,
            receive_bytes: Some(4096),
            ..Plan::new("slow readers", "TC10", 5)
        }
    }

    fn allowed(&self, _number: u32) -> &'static [Answer] {
        &[Answer::Reset]
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&wire::upgrade(""));
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if !peer.is_open() {
            return Next::Read;
        }
        // The kernel at both ends takes megabytes before the server has anything left to send.
        if peer.is_clear() {
            peer.send(&self.message);
        }
        peer.step += 1;
        Next::ReadBytes(usize::from(peer.step.is_multiple_of(VISITS_PER_SECOND)))
    }
}
