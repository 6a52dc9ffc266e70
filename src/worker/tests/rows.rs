//! Single rows of the threat list, each in a network that does just what the row is about.

mod accept;
mod closes;
mod fairness;
mod kernel;
mod reconfigure;
mod shutdown;
mod tap;

use std::time::Duration;

use crate::conn::MessageKind;
use crate::io::sim::PeerId;
use crate::policy::Limits;

use super::client::{Client, Opening};
use super::payload::Command;
use super::rig::Rig;

/// Clients with a session in progress, after their handshakes.
fn open<const AT_ONCE: bool>(rig: &mut Rig<AT_ONCE>, count: usize) -> Vec<(PeerId, Client)> {
    let mut clients = rig.connect(count);
    rig.run(Duration::from_millis(200), &mut clients);
    for (_, client) in &clients {
        assert_eq!(client.opening, Opening::Open, "peer {} is let in", client.peer);
    }
    clients
}

/// Every client says something and gets it back.
fn assert_served<const AT_ONCE: bool>(rig: &mut Rig<AT_ONCE>, clients: &mut [(PeerId, Client)]) {
    for (_, client) in &mut *clients {
        client.say(MessageKind::Text, Command::Twice, 300, 2);
    }
    rig.run(Duration::from_millis(200), clients);
    for (_, client) in clients {
        assert!(client.is_satisfied(), "peer {} misses {}", client.peer, client.next_expected());
        assert_eq!(client.close_code, None, "peer {} is connected", client.peer);
    }
}

/// The defaults, for a table that is gone through quickly.
fn limits() -> Limits {
    Limits { conns_max: 1000, ..Limits::default() }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
