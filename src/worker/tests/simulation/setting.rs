//! What a seed decides before anything happens: limits, memory, faults, when to stop.

use std::time::Duration;

use crate::buf::PoolConfig;
use crate::io::sim::FaultConfig;
use crate::policy::{Limits, Ticks, Timeouts};
use crate::proto::CloseCode;

/// One run, as its seed decides it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    pub(super) traced: bool,
    pub(super) sends_at_once: bool,
    pub(super) faults: FaultConfig,
    pub(super) limits: Limits,
    pub(super) memory: PoolConfig,
    pub(super) peers: usize,
    /// Timeouts are so long that no jump of the clock excuses a lost connection (row TM01).
    pub(super) patient: bool,
    /// Whether the worker is told to stop in the middle of things.
    pub(super) stop_at: Option<Duration>,
    pub(super) stop_code: CloseCode,
    pub(super) grace: Duration,
}

impl Setting {
    /// What this seed decides.
    pub(super) fn from_seed(seed: u64, traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x005E_771E);
        let faults = FaultConfig {
            keep_trace: traced,
            window_bytes: *pick(&mut rng, &[4 << 10, 32 << 10, 256 << 10]),
            ..FaultConfig::from_seed(seed)
        };
        let patient = rng.bool();
        let peers = rng.usize(1..=12);
        let limits = limits(&mut rng, peers, patient);
        let memory = PoolConfig {
            receive_blocks_max: *pick(&mut rng, &[1, 2, 3, 8, 64]),
            spare_bytes_max: *pick(&mut rng, &[0, 64 << 10, 1 << 20]),
        };
        let stops = rng.u8(0..4) == 0;
        Self {
            seed,
            traced,
            sends_at_once: rng.bool(),
            faults,
            limits,
            memory,
            peers,
            patient,
            stop_at: stops.then(|| Duration::from_millis(rng.u64(0..2000))),
            stop_code: *pick(&mut rng, &[CloseCode::GOING_AWAY, CloseCode::SERVICE_RESTART]),
            grace: Duration::from_millis(*pick(&mut rng, &[0, 300, 3000, 20_000])),
        }
    }

    /// Whether no peer may be refused for lack of room.
    pub(super) fn all_fit(&self) -> bool {
        self.limits.conns_max >= self.peers && self.limits.handshakes_max >= self.peers
    }

    /// Whether a peer that does nothing wrong has no time limit to fear.
    pub(super) fn is_lenient(&self) -> bool {
        self.patient || self.faults.skip == 0
    }

    /// How long a connection can last whose peer does nothing more: one wait after the other.
    pub(super) fn longest_end(&self) -> Ticks {
        let Timeouts { handshake, close, write_stall, pong, message, linger, .. } =
            self.limits.timeouts;
        let ping = self.limits.timeouts.ping_interval.map_or(0, |interval| interval.0 * 6 / 5);
        let waits = [handshake, close, write_stall, pong, message, linger, linger];
        Ticks(waits.iter().map(|wait| wait.0).sum::<u32>() + ping)
    }

    /// How much later than due the worker may be: what is under way takes a while, and of a jump
    /// of the clock up to five seconds count as time that has passed.
    pub(super) fn slack(&self) -> Ticks {
        Ticks::at_least(Duration::from_secs(if self.faults.skip > 0 { 15 } else { 1 }))
    }
}

/// One of these.
pub(super) fn pick<'a, T>(rng: &mut fastrand::Rng, choice: &'a [T]) -> &'a T {
    &choice[rng.usize(0..choice.len())]
}

fn limits(rng: &mut fastrand::Rng, peers: usize, patient: bool) -> Limits {
    let message_bytes_max = *pick(rng, &[125, 1000, 20_000, 64 << 10, 256 << 10]);
    let send_high_water_bytes = *pick(rng, &[1 << 10, 8 << 10, 64 << 10]);
    let conns_max = *pick(rng, &[peers, peers, 64, 1, 3]);
    Limits {
        message_bytes_max,
        frame_bytes_max: message_bytes_max,
        send_high_water_bytes,
        // What one block of requests can make of replies, on top of a queue at high water.
        send_bytes_max: send_high_water_bytes + 3 * message_bytes_max + (80 << 10),
        conns_max,
        handshakes_max: *pick(rng, &[64, 64, 64, 2]),
        timeouts: timeouts(rng, patient),
        ..Limits::default()
    }
}

fn timeouts(rng: &mut fastrand::Rng, patient: bool) -> Timeouts {
    let mut wait = || {
        let millis = if patient { rng.u64(30_000..60_000) } else { rng.u64(1000..3000) };
        Ticks::at_least(Duration::from_millis(millis))
    };
    Timeouts {
        handshake: wait(),
        tls_handshake: wait(),
        close: wait(),
        write_stall: wait(),
        ping_interval: Some(wait()),
        pong: wait(),
        idle: (!patient && rng.u8(0..4) == 0).then(|| Ticks::at_least(Duration::from_secs(6))),
        lifetime: None,
        message: Ticks::at_least(Duration::from_secs(if patient { 60 } else { 3 })),
        linger: Ticks::at_least(Duration::from_secs(if patient { 30 } else { 1 })),
    }
}
