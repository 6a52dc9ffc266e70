//! HP01, HS09, HS10: requests that are no upgrade, twenty in a row. Those that come all at once are
//! answered with 400; of those that follow a first one, that is answered with 426. The others are not
//! even read as requests.

use crate::answer::Answer;
use crate::attack::{Attack, Next, Plan};
use crate::peer::Peer;

const REQUESTS: usize = 20;

#[derive(Debug)]
pub(crate) struct PlainHttp {
    request: Vec<u8>,
    requests: Vec<u8>,
}

impl PlainHttp {
    pub(crate) fn new() -> Self {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
        Self { requests: request.repeat(REQUESTS), request }
    }
}

impl Attack for PlainHttp {
    fn plan(&self) -> Plan {
        Plan { secure_every: 25, ..Plan::new("plain HTTP", "HP01 HS09 HS10", 100) }
    }

    fn allowed(&self, number: u32) -> &'static [Answer] {
        if number.is_multiple_of(2) { &[Answer::Status(400)] } else { &[Answer::Status(426)] }
    }

    fn greet(&mut self, peer: &mut Peer) {
        let at_once = peer.number.is_multiple_of(2);
        peer.send(if at_once { &self.requests } else { &self.request });
    }

    fn visit(&mut self, peer: &mut Peer) -> Next {
        // Without the answer to the first it could be that both are read at once.
        if !peer.number.is_multiple_of(2) && peer.step == 0 && peer.has_answer() {
            peer.send(&self.requests);
            peer.step = 1;
        }
        Next::Read
    }
}
