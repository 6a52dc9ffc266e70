//! PD01, PD03: little that inflates to much, in one frame and over fragments, and what is no
//! compressed data. 1009 at the first byte too many, 1007 for what is none.

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;
use crate::wire;

const SMALL: u32 = 0;
const LARGE: u32 = 1;
const NESTED: u32 = 2;
const KINDS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Bombs {
    /// 1 KiB for 1 MiB.
    small: Vec<u8>,
    /// 58 KiB, which the limit lets pass, for 60 MiB.
    large: Vec<u8>,
    /// The same bomb in fragments of 16 bytes.
    nested: Vec<u8>,
    broken: Vec<u8>,
}

impl Bombs {
    pub(crate) fn new() -> Self {
        let small = wire::compressed_zeros(1 << 20);
        let mut nested = wire::frame(wire::BINARY_PART | wire::COMPRESSED, b"");
        for piece in small.chunks(16) {
            wire::push_frame(&mut nested, wire::PART, piece);
        }
        let large = wire::compressed_zeros(60 << 20);
        assert!(large.len() < wire::MESSAGE_BYTES_MAX, "the limit lets it pass");
        Self {
            small: wire::frame(wire::BINARY | wire::COMPRESSED, &small),
            large: wire::frame(wire::BINARY | wire::COMPRESSED, &large),
            nested,
            // RFC 1951 §3.2.3: a block of the type that is reserved.
            broken: wire::frame(wire::BINARY | wire::COMPRESSED, &[0xFF; 64]),
        }
    }
}

impl Attack for Bombs {
    fn plan(&self) -> Plan {
        Plan { secure_every: 10, ..Plan::new("deflate bombs", "PD01 PD03", 40) }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        match number % KINDS {
            SMALL | LARGE | NESTED => &[Answer::Close(1009)],
            _ => &[Answer::Close(1007)],
        }
    }

    fn greet(&mut self, peer: &mut Peer) {
        peer.send(&wire::upgrade(wire::DEFLATE_OFFER));
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        if peer.is_open() && peer.step == 0 {
            peer.send(match peer.number % KINDS {
                SMALL => &self.small,
                LARGE => &self.large,
                NESTED => &self.nested,
                _ => &self.broken,
            });
            peer.step = 1;
        }
        Next::Read
    }
}
