//! CT02, CT03: floods of pings by who does not read.
//!
//! One half sends more than `control_frames_per_second` lets pass and reads after a second: it finds
//! 1008. The other half blocks its own socket with echoes it does not take, then pings within the
//! rate for as long as it is let: it is reset at `write_stall_timeout`.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;
use crate::wire;

/// The burst is 256.
const FLOOD_PINGS: usize = 400;
/// At the interval of visits this is under the 128 that may come in a second.
const STEADY_PINGS: usize = 5;
const VISIT_INTERVAL: Duration = Duration::from_millis(50);
/// Visits in a second.
const FLOOD_READS_AT: u32 = 20;
/// Echoes are asked for up to this visit.
const BLOCKED_AT: u32 = 10;

#[derive(Debug)]
pub(crate) struct Pings {
    flood: Vec<u8>,
    steady: Vec<u8>,
    message: Vec<u8>,
    life_max: Duration,
}

impl Pings {
    pub(crate) fn new(ground: &Ground) -> Self {
        let ping = wire::frame(wire::PING, &[b'p'; 125]);
        Self {
            flood: ping.repeat(FLOOD_PINGS),
            steady: ping.repeat(STEADY_PINGS),
            message: wire::frame(wire::BINARY, &[b'm'; 16 * 1024]),
            life_max: ground.timeouts.write_stall * 2 + Duration::from_secs(5),
        }
    }
}

impl Attack for Pings {
    fn plan(&self) -> Plan {
        Plan {
            held_max: 120,
            visit_interval: VISIT_INTERVAL,
            life_max: self.life_max,
            secure_every: 5,
            receive_bytes: Some(4096),
            ..Plan::new("ping floods", "CT02 CT03", 6)
        }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        if number.is_multiple_of(2) {
            // A peer that does not read for a second may lose the Close frame.
            &[Answer::Close(1008), Answer::Reset]
        } else {
            &[Answer::Reset]
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
        let reads_late = peer.number.is_multiple_of(2);
        match peer.step {
            1 if reads_late => peer.send(&self.flood),
            FLOOD_READS_AT.. if reads_late => return Next::Read,
            _ if reads_late || !peer.is_clear() => {}
            ..BLOCKED_AT => peer.send(&self.message),
            _ => peer.send(&self.steady),
        }
        Next::Ignore
    }
}
