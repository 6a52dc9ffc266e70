//! FG05, R3: all of a message but its last byte, and then nothing for a long time: what may be the
//! most memory for what is sent. The server keeps less than twice as much, and has it back when the
//! peer has left.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;
use crate::wire;

#[derive(Debug)]
pub(crate) struct Hoarders {
    most_of_a_message: Vec<u8>,
}

impl Hoarders {
    pub(crate) fn new() -> Self {
        let mut frame = wire::frame(wire::BINARY, &[b'h'; wire::MESSAGE_BYTES_MAX]);
        frame.pop();
        Self { most_of_a_message: frame }
    }
}

impl Attack for Hoarders {
    fn plan(&self) -> Plan {
        Plan {
            visit_interval: Duration::from_millis(250),
            // Before `message_timeout`, so that there are always as many as may be held.
            life_max: Duration::from_secs(5),
            secure_every: 20,
            ..Plan::new("unfinished messages", "FG05 R3", 50)
        }
    }

    fn allowed(&self, _number: u32) -> &'static [Answer] {
        &[Answer::Left]
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&wire::upgrade(""));
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if peer.is_open() && peer.step == 0 {
            peer.send(&self.most_of_a_message);
            peer.step = 1;
        }
        Next::Read
    }
}
