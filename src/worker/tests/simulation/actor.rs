//! One peer of a random run: a client with a character, and what must have become of it.
//!
//! All that an actor says after its handshake is made at once and leaves in pieces; what the
//! character decides is how it reads, and how it ends.

mod crime;

use std::time::Duration;

use crate::conn::{MessageKind, Side};
use crate::io::sim::{Net, PeerId};
use crate::proto::CloseCode;

use super::super::app::{self, Seen};
use super::super::client::{Client, Opening};
use super::super::payload::Command;
use super::setting::{Setting, pick};

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Talks, then closes.
    Polite,
    /// Talks, stays for long and only answers pings, then closes.
    Stayer,
    /// Talks, then asks the application to close.
    Dismissed,
    /// Talks, then makes the application panic.
    Panicker,
    /// Talks, then breaks a rule.
    Criminal,
    /// Talks, then sends FIN without a Close frame.
    HalfCloser,
    /// Makes the application fill its queue, and reads little.
    Hoarder,
    /// Reads little, late.
    Slow,
    /// Writes without end and does not read.
    Flooder,
    /// Does nothing more at some point, perhaps from the start.
    Vanisher,
    /// Resets at some point.
    Resetter,
    /// Sends no proper handshake.
    Stranger,
}

use Nature::{
    Criminal, Dismissed, Flooder, HalfCloser, Hoarder, Panicker, Polite, Resetter, Slow, Stayer,
    Stranger, Vanisher,
};

impl Nature {
    /// Reads what it gets, breaks a rule at most by its last word, and so must get all it is due.
    fn is_well_behaved(self) -> bool {
        match self {
            Polite | Stayer | Dismissed | Panicker | Criminal | HalfCloser => true,
            Hoarder | Slow | Flooder | Vanisher | Resetter | Stranger => false,
        }
    }
}

/// What an actor is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Knocking,
    Talking,
    /// Everything is said; the end is the character's.
    Staying {
        until: Duration,
    },
    /// Waits for the server to end it.
    Parting,
    Done,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) client: Client,
    /// When it acts next; never once it is done.
    pub(super) next_at: Option<Duration>,
    id: Option<PeerId>,
    nature: Nature,
    stage: Stage,
    rng: fastrand::Rng,
    /// Longest time between two steps.
    pace: Duration,
    /// It hangs up when the server does; else it stays on the line for ever.
    hangs_up: bool,
    fin_sent: bool,
    /// A peer that vanishes or resets does so then.
    leaves_at: Duration,
    /// Unreceived bytes above which it waits before it writes more.
    socket_bytes: usize,
    message_bytes_max: usize,
    patient: bool,
    lenient: bool,
    /// What must end it, if nothing else does.
    expected_code: Option<CloseCode>,
    said_sequence: usize,
    /// The worker was told to stop before this session was over.
    stopped: bool,
}

impl Actor {
    /// The peer of this number. It connects some time later.
    pub(super) fn new(index: usize, setting: &Setting) -> Self {
        let seed = setting.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index as u64;
        let mut rng = fastrand::Rng::with_seed(seed);
        let natures = [
            Polite, Polite, Polite, Stayer, Dismissed, Panicker, Criminal, Criminal, HalfCloser,
            Hoarder, Slow, Flooder, Vanisher, Resetter, Stranger,
        ];
        let nature = *pick(&mut rng, &natures);
        Self {
            client: Client::new(usize::MAX, seed),
            next_at: Some(Duration::from_micros(rng.u64(0..200_000))),
            id: None,
            nature,
            stage: Stage::Away,
            pace: Duration::from_millis(*pick(&mut rng, &[1, 5, 20])),
            hangs_up: rng.u8(0..4) > 0,
            fin_sent: false,
            leaves_at: Duration::from_millis(rng.u64(0..600)),
            socket_bytes: *pick(&mut rng, &[4 << 10, 32 << 10, 256 << 10]),
            message_bytes_max: setting.limits.message_bytes_max,
            patient: setting.patient,
            lenient: setting.is_lenient(),
            expected_code: None,
            said_sequence: 0,
            stopped: false,
            rng,
        }
    }

    /// Acts, and decides when to act again.
    pub(super) fn step(&mut self, net: &Net, now: Duration) {
        let id = match self.id {
            Some(id) => id,
            None => self.connect(net),
        };
        if matches!(self.nature, Vanisher | Resetter) && self.leaves_at <= now {
            self.leave(net, id);
            return;
        }
        self.read(net, id);
        self.think(net, id, now);
        self.write(net, id);
        self.notice_end(net, id);
        let pace = match self.stage {
            Stage::Staying { .. } if !self.client.is_satisfied() => self.pace,
            Stage::Staying { .. } if self.patient => Duration::from_secs(2),
            Stage::Staying { .. } => Duration::from_millis(300),
            // Whoever is still here waits for a timeout.
            _ if now > Duration::from_secs(3) && !self.nature.is_well_behaved() => {
                Duration::from_millis(200)
            }
            _ => self.pace,
        };
        let micros = u64::try_from(pace.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(self.rng.u64(1..=micros));
        self.next_at = (self.stage != Stage::Done).then(|| now + delay);
    }

    /// Whatever still lies at the peer is read, so that it can be judged.
    pub(super) fn read_rest(&mut self, net: &Net) {
        let Some(id) = self.id else { return };
        if !matches!(self.nature, Vanisher | Resetter) {
            self.client.answers = false;
            self.receive(net, id, usize::MAX);
        }
    }

    /// The worker is told to stop; what is not over yet may be cut short.
    pub(super) fn handle_stop(&mut self) {
        self.stopped = self.stage != Stage::Done;
    }

    /// Judges how the session went. True if it had to go well, and did.
    pub(super) fn check(&self, net: &Net, seen: Option<&Seen>, may_be_refused: bool) -> bool {
        let Some(id) = self.id else { return false };
        let who = format!("peer {} ({:?})", self.client.peer, self.nature);
        let client = &self.client;
        let is_reset = net.peer_sees_reset(id);
        if net.peer_sees_fin(id) && !matches!(self.nature, Vanisher | Resetter) {
            assert!(client.is_at_boundary(), "{who}: the stream ends behind a whole frame");
        }
        let went_as_said = self.expected_code.is_some() && client.close_code == self.expected_code;
        if went_as_said {
            // The answer to the last word: whatever was said before has been dealt with.
            let missing = client.next_expected();
            assert!(client.is_satisfied() || !self.lenient, "{who}: {missing} is missing");
            if self.lenient && !self.stopped && !net.was_broken(id) {
                self.check_close(seen, &who);
            }
        }
        let is_refused = may_be_refused && client.opening != Opening::Open;
        let is_excused = is_refused || self.stopped || net.was_broken(id) || !self.lenient;
        if !self.nature.is_well_behaved() || is_excused {
            return false;
        }
        assert_eq!(client.opening, Opening::Open, "{who}: it was let in");
        if self.nature == HalfCloser {
            let missing = client.next_expected();
            assert!(client.is_satisfied() && !is_reset, "{who}: {missing} is missing");
            assert_eq!(client.close_code, None, "{who}: no Close answers a FIN");
        } else {
            let (code, expected) = (client.close_code, self.expected_code);
            assert!(went_as_said, "{who}: ended by {code:?}, not by {expected:?}");
        }
        self.check_close(seen, &who);
        true
    }

    /// The application heard of the end as it was.
    fn check_close(&self, seen: Option<&Seen>, who: &str) {
        let side = match self.nature {
            Dismissed | Panicker | Criminal => Side::Local,
            _ => Side::Peer,
        };
        let code = self.expected_code.unwrap_or(CloseCode::ABNORMAL);
        let closes = seen.map(|seen| seen.closes.clone()).unwrap_or_default();
        assert_eq!(closes, [(code, side)], "{who}: what the application heard of the end");
    }

    fn connect(&mut self, net: &Net) -> PeerId {
        let id = net.connect();
        self.id = Some(id);
        let seed = self.rng.u64(..);
        self.client = Client::new(id.index(), seed);
        self.stage = Stage::Knocking;
        match self.nature {
            Stranger => crime::knock_badly(&mut self.client, &mut self.rng),
            Vanisher | Flooder if self.rng.u8(0..4) == 0 => {}
            _ => self.client.knock(),
        }
        if self.nature == Slow {
            net.peer_window(id, self.rng.usize(1..2000));
        }
        id
    }

    fn leave(&mut self, net: &Net, id: PeerId) {
        if self.nature == Resetter {
            net.peer_reset(id);
        }
        self.stage = Stage::Done;
        self.next_at = None;
    }

    fn read(&mut self, net: &Net, id: PeerId) {
        match self.nature {
            Flooder => {}
            Slow | Hoarder => {
                let bytes_max = self.rng.usize(0..400);
                self.receive(net, id, bytes_max);
            }
            _ => self.receive(net, id, usize::MAX),
        }
    }

    fn receive(&mut self, net: &Net, id: PeerId, bytes_max: usize) {
        let mut bytes = Vec::new();
        if net.peer_read_some(id, bytes_max, &mut bytes) > 0
            && let Err(error) = self.client.handle_received(&bytes)
        {
            panic!("peer {} ({:?}): {error}", self.client.peer, self.nature);
        }
    }

    /// Goes on with the session once what was said before has left.
    fn think(&mut self, net: &Net, id: PeerId, now: Duration) {
        let is_open = self.client.opening == Opening::Open;
        match self.stage {
            Stage::Knocking if is_open => {
                self.talk();
                self.stage = Stage::Talking;
            }
            Stage::Talking if self.client.out.is_empty() => {
                self.stage = Stage::Parting;
                let ticks = self.rng.u32(1..=if self.patient { 120 } else { 10 });
                match self.nature {
                    Stayer => {
                        self.stage = Stage::Staying { until: now + Duration::from_secs(1) * ticks }
                    }
                    Polite | Slow => self.close(),
                    HalfCloser => self.hang_up(net, id),
                    Flooder => self.talk_and_stay(),
                    _ => {}
                }
            }
            Stage::Staying { until } if until <= now => {
                self.stage = Stage::Parting;
                self.close();
            }
            _ => {}
        }
    }

    /// Says a number of things, and what the end of them is.
    fn talk(&mut self) {
        let mut budget = *pick(&mut self.rng, &[500, 5000, 40_000, 80_000, 400_000]);
        for _ in 0..self.rng.usize(0..100) {
            if budget == 0 {
                break;
            }
            let len = self.message_len().min(budget);
            budget = budget.saturating_sub(len + 20);
            self.say(len);
            if self.rng.u8(0..10) == 0 {
                let payload: Vec<u8> =
                    (0..self.rng.usize(0..=125)).map(|_| self.rng.u8(..)).collect();
                self.client.ping(&payload);
            }
        }
        if self.nature == Slow {
            // More than are answered one by one while the queue does not move (row CT02).
            for number in 0..self.rng.usize(0..60) {
                let payload = [b"ping of ", self.client.peer.to_string().as_bytes()].concat();
                self.client.ping(&[&payload[..], &number.to_string().into_bytes()].concat());
            }
        }
        let tagged = self.message_bytes_max.min(100);
        match self.nature {
            Dismissed => {
                self.client.say(MessageKind::Text, Command::Close, tagged, 1);
                self.expected_code = Some(app::close_code(self.said_sequence));
            }
            Panicker => {
                self.client.say(MessageKind::Binary, Command::Panic, tagged, 1);
                self.expected_code = Some(CloseCode::INTERNAL_ERROR);
            }
            Hoarder => self.client.say(MessageKind::Binary, Command::Burst, tagged, 1),
            Criminal => {
                let code = crime::commit(&mut self.client, &mut self.rng, self.message_bytes_max);
                self.expected_code = Some(code);
            }
            _ => {}
        }
    }

    fn talk_and_stay(&mut self) {
        // For ever, or until the server has had enough.
        self.stage = Stage::Talking;
        if self.client.out.len() < 4 * self.socket_bytes && self.client.returned == 0 {
            self.say(1000);
        }
    }

    fn say(&mut self, len: usize) {
        let kind = if self.rng.bool() { MessageKind::Text } else { MessageKind::Binary };
        let commands = [
            Command::Echo,
            Command::Echo,
            Command::Copy,
            Command::Twice,
            Command::Note,
            Command::Keep,
        ];
        let command = *pick(&mut self.rng, &commands);
        let fragments = if self.rng.u8(0..5) == 0 { self.rng.usize(2..6) } else { 1 };
        let len = len.min(self.message_bytes_max);
        self.client.say(kind, command, len, fragments);
        self.said_sequence += usize::from(len >= super::super::payload::PREFIX_BYTES);
    }

    fn message_len(&mut self) -> usize {
        let edges = [0, 1, 9, 10, 125, 126, 4095, 4096, 16_379, 16_896, 65_535, 65_536];
        match self.rng.u8(0..8) {
            0..=3 => self.rng.usize(0..200),
            4 => *pick(&mut self.rng, &edges),
            5 | 6 => self.rng.usize(0..20_000),
            _ => self.rng.usize(0..200_000),
        }
    }

    fn close(&mut self) {
        let code = CloseCode::new(*pick(&mut self.rng, &[1000, 3000, 3999]));
        self.client.close(code, "done \u{20ac}");
        self.expected_code = Some(code);
        // Frames behind a Close frame are nobody's (row FR13).
        if self.rng.u8(0..6) == 0 {
            self.client.say(MessageKind::Text, Command::Echo, 50, 1);
        }
    }

    fn hang_up(&mut self, net: &Net, id: PeerId) {
        if !self.fin_sent {
            self.fin_sent = true;
            net.peer_shutdown(id);
        }
    }

    /// Sends some of what waits to be sent.
    fn write(&mut self, net: &Net, id: PeerId) {
        let client = &mut self.client;
        if self.fin_sent || client.out.is_empty() {
            return;
        }
        let is_full = net.peer_unreceived(id) >= self.socket_bytes;
        if is_full && self.nature != Flooder {
            return;
        }
        let all = client.out.len();
        let len = match self.rng.u8(0..4) {
            0 => self.rng.usize(1..=all),
            1 => self.rng.usize(1..=all.min(20)),
            _ => all,
        };
        let len = len.min(self.socket_bytes);
        let bytes: Vec<u8> = client.out.drain(..len).collect();
        net.peer_write(id, &bytes);
    }

    /// The server has ended the connection: so does the peer, or it never does.
    fn notice_end(&mut self, net: &Net, id: PeerId) {
        let is_gone = net.peer_sees_reset(id) || net.is_closed(id);
        if net.peer_sees_fin(id) || is_gone {
            if self.hangs_up && !net.peer_sees_reset(id) && self.client.out.is_empty() {
                self.hang_up(net, id);
            }
            if !self.hangs_up || self.fin_sent || is_gone {
                self.stage = Stage::Done;
            }
        }
    }
}
