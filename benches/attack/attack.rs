//! What an attack is, and how all of them are driven.
//!
//! Each attack has a thread of low priority on the attackers' core. It opens connections at a steady
//! rate up to a bound, and comes back to each at a steady interval; nothing it does blocks. So what an
//! attack sends in a second has a bound that is written in its plan.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::core;
use crate::ground::Ground;
use crate::peer::{Manner, Peer};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(10);
/// Connections opened in one tick at most: who was held up does not make up for it at one stroke.
const OPENS_PER_TICK_MAX: u32 = 20;
/// The good client comes first wherever both want the core, as it has a core of its own elsewhere.
const NICENESS: i32 = 15;

/// How often an attack does what, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Rows of `docs/HOSTILE-INPUTS.md`.
    pub(crate) rows: &'static str,
    /// Connections opened per second.
    pub(crate) per_second: f64,
    /// Connections held at one time at most.
    pub(crate) held_max: usize,
    /// Between two visits to a connection.
    pub(crate) visit_interval: Duration,
    /// Connections that have not ended by then are left.
    pub(crate) life_max: Duration,
    /// One of so many connections speaks TLS; with 0 none does.
    pub(crate) secure_every: u32,
    /// The TLS port is attacked, by what speaks no TLS.
    pub(crate) knocks_on_tls: bool,
    pub(crate) receive_bytes: Option<usize>,
    pub(crate) leaves_by_reset: bool,
}

impl Plan {
    /// A modest attack on the plain port.
    pub(crate) fn new(name: &'static str, rows: &'static str, per_second: u32) -> Self {
        Self {
            name,
            rows,
            per_second: f64::from(per_second),
            held_max: 1000,
            visit_interval: TICK,
            life_max: Duration::from_secs(10),
            secure_every: 0,
            knocks_on_tls: false,
            receive_bytes: None,
            leaves_by_reset: false,
        }
    }

    fn target(&self, ground: &Ground, number: u32) -> (SocketAddr, Manner) {
        let is_secure = self.secure_every > 0 && number.is_multiple_of(self.secure_every);
        let addr = if is_secure || self.knocks_on_tls { ground.secure } else { ground.plain };
        let manner = Manner {
            tls: is_secure.then(|| Arc::clone(&ground.tls)),
            hears_records: self.knocks_on_tls,
            receive_bytes: self.receive_bytes,
            leaves_by_reset: self.leaves_by_reset,
        };
        (addr, manner)
    }
}

/// What an attack does after a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Reads what has come.
    Read,
    /// Reads so many bytes at most.
    ReadBytes(usize),
    /// Reads nothing.
    Ignore,
    /// Leaves.
    Leave,
}

/// One kind of hostile client.
pub(crate) trait Attack: Send {
    fn plan(&self) -> Plan;

    /// How the server may take leave of this connection.
    fn allowed(&self, number: u32) -> &'static [Answer];

    /// What it says first.
    fn greet(&mut self, peer: &mut Peer);

    /// What it does each time it comes back.
    fn visit(&mut self, peer: &mut Peer) -> Next;
}

/// What came of an attack.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) opened: u64,
    /// Connects that failed.
    pub(crate) failed: u64,
    pub(crate) held_peak: usize,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// Answers that the row names, and answers that are allowed to any.
    pub(crate) answers: BTreeMap<Answer, u64>,
    /// All others.
    pub(crate) wrong: BTreeMap<Answer, u64>,
    /// Connections still held when time was up.
    pub(crate) left_over: usize,
}

impl Tally {
    fn count(&mut self, peer: &Peer, allowed: &[Answer]) {
        self.sent_bytes += peer.sent_bytes;
        self.received_bytes += peer.received_bytes;
        let answer = peer.verdict();
        let is_right = answer.is_among(allowed) || is_lack_of_room(answer);
        let answers = if is_right { &mut self.answers } else { &mut self.wrong };
        *answers.entry(answer).or_default() += 1;
    }

    /// Answers that are about what was sent, and not about lack of room.
    pub(crate) fn met(&self) -> u64 {
        let met = self.answers.iter().filter(|&(&answer, _)| !is_lack_of_room(answer));
        met.map(|(_, count)| count).sum()
    }
}

/// What a server under attack may say to anybody who comes.
fn is_lack_of_room(answer: Answer) -> bool {
    matches!(answer, Answer::Status(503) | Answer::TurnedAway)
}

/// Attacks until told to stop.
pub(crate) fn drive(
    attack: &mut dyn Attack,
    ground: &Ground,
    rate: f64,
    stop: &AtomicBool,
) -> io::Result<Tally> {
    core::pin(core::CLIENT)?;
    rustix::process::setpriority_process(None, NICENESS)?;
    let plan = attack.plan();
    let opening = Duration::from_secs_f64(1.0 / (plan.per_second * rate));
    let mut tally = Tally::default();
    let mut crowd: VecDeque<(Instant, Peer)> = VecDeque::new();
    let mut open_at = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        for _ in 0..OPENS_PER_TICK_MAX {
            if open_at > now || crowd.len() >= plan.held_max {
                break;
            }
            open_at += opening;
            let (addr, manner) = plan.target(ground, number);
            match Peer::connect(addr, &manner, number) {
                Ok(mut peer) => {
                    tally.opened += 1;
                    attack.greet(&mut peer);
                    crowd.push_back((now + plan.visit_interval, peer));
                }
                Err(_) => tally.failed += 1,
            }
            number += 1;
        }
        open_at = open_at.max(now);
        tally.held_peak = tally.held_peak.max(crowd.len());
        visit_all(attack, &plan, &mut crowd, &mut tally);
        std::thread::sleep(TICK);
    }
    tally.left_over = crowd.len();
    for (_, peer) in &crowd {
        tally.sent_bytes += peer.sent_bytes;
        tally.received_bytes += peer.received_bytes;
    }
    Ok(tally)
}

/// Comes back to those that are due. All are visited at one interval, so who was visited longest ago
/// stands in front.
fn visit_all(
    attack: &mut dyn Attack,
    plan: &Plan,
    crowd: &mut VecDeque<(Instant, Peer)>,
    tally: &mut Tally,
) {
    for _ in 0..crowd.len() {
        let now = Instant::now();
        if crowd.front().is_none_or(|(due_at, _)| *due_at > now) {
            return;
        }
        let Some((_, mut peer)) = crowd.pop_front() else { return };
        peer.flush();
        let next = attack.visit(&mut peer);
        match next {
            Next::Read => peer.receive(usize::MAX),
            Next::ReadBytes(count) => {
                peer.look_for_reset();
                peer.receive(count);
            }
            Next::Ignore => peer.look_for_reset(),
            Next::Leave => {}
        }
        let over = peer.has_ended() || now - peer.opened_at > plan.life_max || next == Next::Leave;
        if over {
            tally.count(&peer, attack.allowed(peer.number));
        } else {
            crowd.push_back((now + plan.visit_interval, peer));
        }
    }
}
