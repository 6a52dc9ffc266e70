//! BP04, TC10, TL07: asks for echoes as fast as it is let and takes none of them. Reading pauses, the
//! queue stays at its bound, and the connection is reset at `write_stall_timeout`.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;
use crate::wire;

#[derive(Debug)]
pub(crate) struct Stalled {
    message: Vec<u8>,
    life_max: Duration,
}

impl Stalled {
    pub(crate) fn new(ground: &Ground) -> Self {
        Self {
            message: wire::frame(wire::BINARY, &[b's'; wire::MESSAGE_BYTES_MAX]),
            life_max: ground.timeouts.write_stall * 2 + Duration::from_secs(5),
        }
    }
}

impl Attack for Stalled {
    fn plan(&self) -> Plan {
        Plan {
            held_max: 300,
            visit_interval: Duration::from_millis(50),
            life_max: self.life_max,
            secure_every: 4,
            receive_bytes: Some(4096),
            ..Plan::new("stalled readers", "BP04 TC10 TL07", 10)
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
        if peer.is_clear() {
            peer.send(&self.message);
        }
        Next::Ignore
    }
}
