//! Noise after the upgrade (R1): it breaks some rule sooner or later, and the Close frame says which.

use std::time::Duration;

use crate::answer::{ANY_CLOSE, Answer};
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;
use crate::wire;

#[derive(Debug)]
pub(crate) struct Garbage;

impl Attack for Garbage {
    fn plan(&self) -> Plan {
        Plan {
            life_max: Duration::from_secs(3),
            secure_every: 20,
            ..Plan::new("garbage", "R1 FR01 FR05 FR07", 40)
        }
    }

    fn allowed(&self, _number: u32) -> &'static [Answer] {
        // Some noise is the beginning of a frame that may be, and whose end does not come.
        &[ANY_CLOSE, Answer::Left]
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&wire::upgrade(wire::DEFLATE_OFFER));
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if peer.is_open() && peer.step == 0 {
            let mut random = fastrand::Rng::with_seed(u64::from(peer.number));
            let mut noise = [0; 512];
            random.fill(&mut noise);
            peer.send(&noise);
            peer.step = 1;
        }
        Next::Read
    }
}
