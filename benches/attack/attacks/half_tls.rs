//! TL01, TL05: handshakes of TLS that go no further than half a greeting or a whole one, and what is
//! none at all.
//!
//! The rate is such that more of them are under way than `tls_handshakes_max` lets be.

use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::ground::Ground;
use crate::peer::Peer;

const NO_TLS: u32 = 0;
const HALF: u32 = 1;
const KINDS: u32 = 6;

/// The default of `tls_handshakes_max`.
const HANDSHAKES_MAX: f64 = 256.0;

#[derive(Debug)]
pub(crate) struct HalfTls {
    hello: Vec<u8>,
    handshake_timeout: Duration,
}

impl HalfTls {
    pub(crate) fn new(ground: &Ground) -> Self {
        Self { hello: ground.client_hello(), handshake_timeout: ground.timeouts.tls_handshake }
    }
}

impl Attack for HalfTls {
    fn plan(&self) -> Plan {
        // A sixth is refused at once, and of the others a tenth finds no room.
        let per_second = 1.3 * HANDSHAKES_MAX / self.handshake_timeout.as_secs_f64();
        Plan {
            per_second,
            visit_interval: Duration::from_millis(200),
            life_max: self.handshake_timeout + Duration::from_secs(5),
            knocks_on_tls: true,
            ..Plan::new("half TLS handshakes", "TL01 TL05", 1)
        }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        match number % KINDS {
            // Closed or reset: there was no room.
            NO_TLS => &[Answer::Alert, Answer::Closed, Answer::Reset],
            _ => &[Answer::Closed, Answer::Reset],
        }
    }

    fn greet(&mut self, peer: &mut Peer) {
        match peer.number % KINDS {
            NO_TLS => peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            HALF => peer.send(&self.hello[..self.hello.len() / 2]),
            _ => peer.send(&self.hello),
        }
    }

    fn visit(&mut self, _peer: &mut Peer) -> Next {
        Next::Read
    }
}
