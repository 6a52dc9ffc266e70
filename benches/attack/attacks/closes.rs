//! CL05, CL06, CL08, TC08: who does not answer a Close frame, or talks on after it; who sends two of
//! them; who sends messages, a Close frame and the end of the stream at once; who ends its side alone.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;
use crate::wire;

/// Breaks a rule, and talks on.
const TALKER: u32 = 0;
/// Breaks a rule, and says nothing more.
const MUTE: u32 = 1;
const TWICE: u32 = 2;
const RACER: u32 = 3;
const HALF_CLOSER: u32 = 4;
const KINDS: u32 = 5;

#[derive(Debug)]
pub(crate) struct Closes {
    /// Of an opcode that is reserved.
    bad_frame: Vec<u8>,
    chatter: Vec<u8>,
    twice: Vec<u8>,
    race: Vec<u8>,
    life_max: Duration,
}

impl Closes {
    pub(crate) fn new(ground: &Ground) -> Self {
        let message = wire::frame(wire::TEXT, &[b'c'; 1000]);
        Self {
            bad_frame: wire::frame(0x83, b""),
            chatter: message.repeat(4),
            twice: [wire::close(1000), wire::close(1001)].concat(),
            race: [message.repeat(4), wire::close(1000)].concat(),
            life_max: ground.timeouts.close + Duration::from_secs(5),
        }
    }
}

impl Attack for Closes {
    fn plan(&self) -> Plan {
        Plan {
            life_max: self.life_max,
            secure_every: 12,
            ..Plan::new("close races", "CL05 CL06 CL08 TC08", 40)
        }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        match number % KINDS {
            // What it sends after the end destroys the Close frame before it is read.
            TALKER => &[Answer::Close(1002), Answer::Reset],
            MUTE => &[Answer::Close(1002)],
            TWICE | RACER => &[Answer::Close(1000)],
            _ => &[Answer::Closed],
        }
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&wire::upgrade(""));
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if !peer.is_open() {
            return Next::Read;
        }
        peer.step += 1;
        match (peer.number % KINDS, peer.step) {
            (TALKER | MUTE, 1) => peer.send(&self.bad_frame),
            (TALKER, _) if peer.is_clear() => peer.send(&self.chatter),
            (TWICE, 1) => peer.send(&self.twice),
            (RACER, 1) => {
                peer.send(&self.race);
                peer.shut_down_write();
            }
            (HALF_CLOSER, 1) => peer.shut_down_write(),
            _ => {}
        }
        Next::Read
    }
}
