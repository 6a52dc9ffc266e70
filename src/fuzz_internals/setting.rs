//! How a connection of a rig is set up, and the core it lives on.

use std::sync::Arc;

use crate::buf::{Pool, PoolConfig};
use crate::conn::{Core, Engines, MaskKeys};
use crate::metrics::Metrics;
use crate::policy::{CompressionLimits, Limits, Tick, Ticks};
use crate::proto::handshake::extensions::DeflatePolicy;

/// Blocks to receive into.
pub(super) const RECEIVE_BLOCKS_MAX: usize = 2;

/// What the application does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// Nothing.
    Listen,
    /// Sends it back from where it lies.
    Echo,
    /// Sends a copy back, and closes with 4000 if the message begins with `!`.
    Copy,
}

/// What is agreed about compression.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    pub context_takeover: bool,
    pub window_bits_max: u8,
    pub message_bytes_min: usize,
}

/// How a connection is set up. Spans are ticks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub client: bool,
    pub app: App,
    pub compression: Option<Compression>,
    pub frame_bytes_max: usize,
    pub message_bytes_max: usize,
    pub empty_fragments_max: u16,
    /// Given back at one each tick.
    pub control_frames_burst: u16,
    pub pongs_queued_max: u16,
    pub send_high_water_bytes: usize,
    pub send_bytes_max: usize,
    pub ping_interval: u32,
    pub pong: u32,
    pub message: u32,
    pub close: u32,
    pub linger: u32,
}

/// A core that keeps little memory, so that blocks are moved as often as can be.
pub(super) fn core(options: &Options) -> Core {
    let mut limits = Limits {
        frame_bytes_max: options.frame_bytes_max,
        message_bytes_max: options.message_bytes_max,
        empty_fragments_max: options.empty_fragments_max,
        control_frames_per_second: 8,
        control_frames_burst: options.control_frames_burst,
        pongs_queued_max: options.pongs_queued_max,
        send_high_water_bytes: options.send_high_water_bytes,
        send_bytes_max: options.send_bytes_max,
        compression: options.compression.map(|compression| CompressionLimits {
            policy: DeflatePolicy {
                context_takeover: compression.context_takeover,
                window_bits_max: compression.window_bits_max,
            },
            level: 1,
            message_bytes_min: compression.message_bytes_min,
        }),
        ..Limits::default()
    };
    limits.timeouts.ping_interval = Some(Ticks(options.ping_interval));
    limits.timeouts.pong = Ticks(options.pong);
    limits.timeouts.message = Ticks(options.message);
    limits.timeouts.close = Ticks(options.close);
    limits.timeouts.linger = Ticks(options.linger);
    // The peer of a model may stand still for as long as it likes.
    limits.timeouts.write_stall = Ticks(u32::MAX);
    Core {
        pool: Pool::new(PoolConfig {
            receive_blocks_max: RECEIVE_BLOCKS_MAX,
            spare_bytes_max: 1 << 17,
        }),
        outboxes: Vec::new(),
        engines: Engines::default(),
        scratch: Vec::new(),
        attached_bytes: 0,
        queued_bytes: 0,
        is_pressed: false,
        limits,
        now: Tick(1000),
        keys: MaskKeys::default(),
        taps: None,
        metrics: Arc::new(Metrics::default()),
    }
}
