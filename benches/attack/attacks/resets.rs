//! TC07, TC12: connections that are reset at every byte of a session, one after the other.

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;
use crate::wire;

#[derive(Debug)]
pub(crate) struct Resets {
    head: Vec<u8>,
    frames: Vec<u8>,
}

impl Resets {
    pub(crate) fn new() -> Self {
        let frames = [
            wire::frame(wire::TEXT, b"to be echoed"),
            wire::frame(wire::PING, b"and answered"),
            wire::frame(wire::BINARY_PART, &[0; 200]),
            wire::close(1000),
        ];
        Self { head: wire::upgrade(""), frames: frames.concat() }
    }

    /// After how many bytes the session is cut.
    fn cut(&self, number: u32) -> usize {
        number as usize % (self.head.len() + self.frames.len())
    }
}

impl Attack for Resets {
    fn plan(&self) -> Plan {
        Plan {
            secure_every: 40,
            leaves_by_reset: true,
            ..Plan::new("resets and churn", "TC07 TC12", 200)
        }
    }

    fn allowed(&self, _number: u32) -> &'static [Answer] {
        &[Answer::Left]
    }

    fn greet(&mut self, peer: &mut Peer) {
        let byte_count = self.cut(peer.number).min(self.head.len());
        peer.send(&self.head[..byte_count]);
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        let Some(frame_bytes) = self.cut(peer.number).checked_sub(self.head.len()) else {
            return Next::Leave;
        };
        if !peer.is_open() {
            return Next::Read;
        }
        peer.send(&self.frames[..frame_bytes]);
        Next::Leave
    }
}
