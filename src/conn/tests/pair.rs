//! A client against a server, through a pipe that cuts as it likes.

use crate::conn::{MessageKind, Phase, Side};
use crate::policy::Limits;

use super::rig::{Rig, Window, echo, listen};
use super::ways::repeat;
use super::wire::read;

/// Bytes of the largest messages; under Miri, which makes them byte by byte, beyond
/// what one byte can tell.
const LARGE_BYTES: usize = if cfg!(miri) { 2_000 } else { 60_000 };

/// Both ends of one connection.
struct Pair {
    client: Rig,
    server: Rig,
    rng: fastrand::Rng,
    seed: u64,
}

impl Pair {
    /// A connection whose handshake is under way. One of four is plain; the others compress their
    /// messages, are over TLS, or both.
    fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let compression = match seed % 4 {
            _ if cfg!(miri) => None,
            2 => Some(super::compress::limits(false)),
            3 => Some(super::compress::limits(true)),
            _ => None,
        };
        let limits = Limits { compression, ..Limits::default() };
        let mut client = Rig::dialling_within(listen, limits.clone());
        let mut server = Rig::accepted(echo, limits);
        if seed % 2 == 1 && !cfg!(miri) {
            // Miri cannot run the assembly of the ciphers.
            client = client.over(super::secure::client());
            server = server.over(super::secure::server());
        }
        client.window = Window::Random(fastrand::Rng::with_seed(seed ^ 1));
        server.window = Window::Random(fastrand::Rng::with_seed(seed ^ 2));
        Self { client, server, rng, seed }
    }

    fn open(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.settle();
        assert!(pair.client.opened && pair.server.opened, "seed {seed}");
        pair
    }

    /// Carries bytes both ways until there are none, a random number of them at a time.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 20 {
            let (from, to) = if self.rng.bool() {
                (&mut self.client, &mut self.server)
            } else {
                (&mut self.server, &mut self.client)
            };
            from.act(|_, _| ());
            let count = self.rng.usize(0..=from.output.len());
            let bytes: Vec<u8> = from.output.drain(..count).collect();
            let ended = from.output.is_empty() && (from.shut || from.closed.is_some());
            if to.closed.is_none() {
                to.receive(&bytes);
                if ended && to.closed.is_none() && !to.connection.peer_done {
                    to.receive_end();
                }
            }
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
        }
    }

    fn is_quiet(&self) -> bool {
        [&self.client, &self.server].iter().all(|rig| {
            rig.output.is_empty() && (rig.closed.is_some() || rig.connection.queued_bytes() == 0)
        })
    }

    /// Asserts how it ended on both sides: code and, seen from the server, who began.
    fn assert_closed(self, code: u16, side: Side) {
        let seed = self.seed;
        let (server, client) = (self.server, self.client);
        assert_eq!((client.closed, server.closed), (Some(false), Some(false)), "seed {seed}");
        let (server, client) = (server.release().0, client.release().0);
        assert_eq!(server[0].code().as_u16(), code, "seed {seed}");
        assert_eq!(client[0].code().as_u16(), code, "seed {seed}");
        assert_eq!(server[0].side(), side, "seed {seed}");
    }
}

#[test]
fn messages_of_all_sizes_come_back_from_an_echo_server() {
    for seed in 0..u64::from(repeat(100)) {
        let mut pair = Pair::open(seed);
        let mut sent = Vec::new();
        for _ in 0..pair.rng.usize(1..if cfg!(miri) { 8 } else { 30 }) {
            let len = match pair.rng.u8(0..4) {
                0 => pair.rng.usize(0..LARGE_BYTES),
                1 => pair.rng.usize(0..3),
                _ => pair.rng.usize(0..400),
            };
            let kind = if pair.rng.bool() { MessageKind::Text } else { MessageKind::Binary };
            let payload: Vec<u8> = (0..len).map(|_| pair.rng.u8(..128)).collect();
            let limit = pair.client.core.limits.send_bytes_max;
            if pair.client.connection.queued_bytes() + len < limit {
                pair.client.act(|c, core| c.send(kind, &payload, core)).unwrap();
                sent.push((kind, payload));
            }
            if pair.rng.bool() {
                pair.settle();
            }
        }
        pair.settle();
        assert!(pair.client.messages == sent && pair.server.messages == sent, "seed {seed}");
        pair.client.act(|c, core| c.close(1000.into(), "", core));
        pair.settle();
        pair.assert_closed(1000, Side::Peer);
    }
}

#[test]
fn either_side_may_close() {
    for seed in 0..u64::from(repeat(100)) {
        let mut pair = Pair::open(seed);
        pair.server.act(|c, core| c.close(4001.into(), "enough", core));
        pair.settle();
        assert_eq!(pair.client.closes[0].reason(), "enough");
        assert_eq!(pair.client.closes[0].side(), Side::Peer);
        pair.assert_closed(4001, Side::Local);

        let mut pair = Pair::open(seed);
        pair.client.act(|c, core| c.close(4002.into(), "done", core));
        pair.settle();
        assert_eq!(pair.server.closes[0].reason(), "done");
        pair.assert_closed(4002, Side::Peer);
    }
}

#[test]
fn cl06_closes_that_cross_end_both_sides_once() {
    for seed in 0..u64::from(repeat(100)) {
        let mut pair = Pair::open(seed);
        pair.client.act(|c, core| c.close(4001.into(), "", core));
        pair.server.act(|c, core| c.close(4002.into(), "", core));
        pair.settle();
        assert_eq!(pair.server.closes[0].code().as_u16(), 4001, "each hears the other's code");
        assert_eq!(pair.client.closes[0].code().as_u16(), 4002);
        pair.client.release();
        pair.server.release();
    }
}

#[test]
fn connection_cut_off_at_any_time_ends_once_on_both_sides() {
    for seed in 0..u64::from(repeat(200)) {
        let mut pair = Pair::new(seed);
        if pair.rng.bool() {
            pair.settle();
            for _ in 0..5 {
                pair.client.act(|c, core| c.send(MessageKind::Text, &[b'x'; 300], core)).unwrap();
            }
        }
        let count = pair.rng.usize(0..=pair.client.output.len());
        let bytes: Vec<u8> = pair.client.output.drain(..count).collect();
        pair.server.receive(&bytes);
        if pair.rng.bool() {
            pair.server.break_off();
            pair.client.receive_end();
        } else {
            pair.client.break_off();
            pair.server.receive_end();
        }
        assert!(
            pair.client.closes.iter().chain(&pair.server.closes).all(|c| c.code().as_u16() == 1006)
        );
        pair.client.release();
        pair.server.release();
    }
}

#[test]
fn pings_of_both_sides_keep_a_silent_pair_open() {
    let mut pair = Pair::open(4);
    (pair.client.window, pair.server.window) = (Window::Wide, Window::Wide);
    for _ in 0..repeat(600) {
        pair.client.sleep(8);
        pair.server.sleep(8);
        let frames = [&pair.client.output, &pair.server.output].map(|output| read(output).len());
        assert!(frames.iter().all(|count| *count <= 2));
        pair.settle();
        let phases = (pair.client.connection.phase(), pair.server.connection.phase());
        assert_eq!(phases, (Phase::Open, Phase::Open));
    }
    pair.client.release();
    pair.server.release();
}
