//! HD03: a request of which a byte comes each second. 408 at `handshake_timeout`, whatever comes.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;
use crate::wire;

#[derive(Debug)]
pub(crate) struct SlowHeads {
    head: Vec<u8>,
    life_max: Duration,
}

impl SlowHeads {
    pub(crate) fn new(ground: &Ground) -> Self {
        let life_max = ground.timeouts.handshake + Duration::from_secs(5);
        Self { head: wire::upgrade(""), life_max }
    }
}

impl Attack for SlowHeads {
    fn plan(&self) -> Plan {
        Plan {
            visit_interval: Duration::from_secs(1),
            life_max: self.life_max,
            ..Plan::new("slow heads", "HD03", 40)
        }
    }

    fn allowed(&self, _number: u32) -> &'static [Answer] {
        &[Answer::Status(408)]
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&self.head[..1]);
        peer.step = 1;
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if let Some(byte) = self.head.get(peer.step as usize) {
            peer.send(&[*byte]);
            peer.step += 1;
        }
        Next::Read
    }
}
