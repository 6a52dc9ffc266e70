//! TC05: connects and says nothing. It is closed at `handshake_timeout` without a byte.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;

#[derive(Debug)]
pub(crate) struct Silent {
    life_max: Duration,
}

impl Silent {
    pub(crate) fn new(ground: &Ground) -> Self {
        // A connection of which nothing has come is accepted about a second late.
        Self { life_max: ground.timeouts.handshake + Duration::from_secs(5) }
    }
}

impl Attack for Silent {
    fn plan(&self) -> Plan {
        Plan {
            held_max: 2000,
            visit_interval: Duration::from_secs(1),
            life_max: self.life_max,
            ..Plan::new("silent connects", "TC05", 100)
        }
    }

    fn allowed(&self, _number: u32) -> &'static [Answer] {
        &[Answer::Closed]
    }

    fn greet(&mut self, _peer: &mut Peer) {}

    fn visit(&mut self, _peer: &mut Peer) -> Next {
        Next::Read
    }
}
