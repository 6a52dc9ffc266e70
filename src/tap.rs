//! Frames of single connections, shown live to somebody who looks for a fault.
//!
//! A core without a tap has an empty `Option`, which is looked at once for each frame; that is all it
//! costs. With one, events go through a bounded channel: a worker never waits for whoever watches,
//! what does not fit is counted.
//!
//! INVARIANT: a connection is marked as tapped exactly while some tap of its core has it in its list.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

use crate::conn_info::ConnId;
use crate::legible::legible_bytes;
use crate::proto::{CloseCode, Opcode};

/// Events that wait for whoever watches.
const EVENTS_MAX: usize = 1024;
/// Bytes of a payload that are shown at most, whatever was asked for.
const PAYLOAD_BYTES_MAX: usize = 4096;
/// Connections of a core that one tap shows.
const CONNS_MAX: usize = 16;
/// Taps of a core.
const TAPS_MAX: usize = 8;

/// Which connections to show; see [`Handle::tap`](crate::Handle::tap).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapTarget {
    /// This one.
    Conn(ConnId),
    /// Those that subscribe to this topic, up to 16 of each core.
    Topic(String),
    /// Those of this client address, up to 16 of each core; also those that come later.
    Addr(IpAddr),
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapDirection {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// A frame that was received, or queued to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TapFrame {
    /// Whose frame.
    pub id: ConnId,
    /// The beginning of the turn that received or queued it.
    pub at: Instant,
    /// Which way it went.
    pub direction: TapDirection,
    /// `text`, `binary`, `continuation`, `close`, `ping` or `pong`.
    pub opcode: &'static str,
    /// The last of its message.
    pub fin: bool,
    /// Received compressed.
    pub compressed: bool,
    /// No frame, but the message that was made of fragments, or inflated: it follows its frames.
    pub assembled: bool,
    /// Bytes of the payload; of what is sent, before it is compressed.
    pub payload_bytes: u64,
    /// The payload as far as it was asked for, in one line: control characters and bytes that are no
    /// text are escaped. None if it was not asked for, or comes with the assembled message.
    pub payload: Option<String>,
}

/// What a tap shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TapEvent {
    /// From now on the frames of this connection are shown.
    Watching {
        /// Its name.
        id: ConnId,
        /// The client's address.
        client_addr: Option<IpAddr>,
    },
    /// A frame.
    Frame(TapFrame),
    /// A connection that was shown has ended.
    Ended {
        /// Its name.
        id: ConnId,
        /// Who ended it: [`ClosedBy::name`](crate::ClosedBy::name).
        by: &'static str,
        /// The close code.
        code: CloseCode,
        /// Why: [`CloseCause::name`](crate::CloseCause::name).
        cause: &'static str,
    },
    /// There is no such connection.
    Missing,
}

/// A look at connections, for as long as it is kept; see [`Handle::tap`](crate::Handle::tap).
#[derive(Debug)]
pub struct Tap {
    events: Receiver<TapEvent>,
    state: Arc<TapState>,
    over: bool,
}

#[derive(Debug, Default)]
struct TapState {
    /// Nobody watches any more.
    dropped: AtomicBool,
    /// Events that found no room.
    skipped: AtomicU64,
}

impl Tap {
    /// The next event, if there is one. Does not wait: ask again some milliseconds later.
    pub fn try_next(&mut self) -> Option<TapEvent> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(error) => {
                self.over |= error == TryRecvError::Disconnected;
                None
            }
        }
    }

    /// Whether there will be no more events: the connection has ended, there is none, the server has
    /// stopped, or too many others watch.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Events that were left out since the last call, because they were not fetched fast enough.
    pub fn take_skipped(&self) -> u64 {
        self.state.skipped.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.state.dropped.store(true, Ordering::Relaxed);
    }
}

/// Asks a core for a tap.
#[derive(Clone, Debug)]
pub(crate) struct TapOrder {
    pub(crate) target: TapTarget,
    payload_bytes_max: usize,
    sender: SyncSender<TapEvent>,
    state: Arc<TapState>,
}

impl TapOrder {
    /// A tap, and what the cores are given for it. 0 shows no payloads.
    pub(crate) fn new(target: TapTarget, payload_bytes_max: usize) -> (Self, Tap) {
        let (sender, events) = sync_channel(EVENTS_MAX);
        let state = Arc::<TapState>::default();
        let payload_bytes_max = payload_bytes_max.min(PAYLOAD_BYTES_MAX);
        let order = Self { target, payload_bytes_max, sender, state: Arc::clone(&state) };
        (order, Tap { events, state, over: false })
    }

    /// Tells whoever watches, if there is room.
    pub(crate) fn tell(&self, event: TapEvent) {
        // Nobody listens, or not fast enough; the former is found by `is_dropped`.
        if self.sender.try_send(event).is_err() {
            self.state.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_dropped(&self) -> bool {
        self.state.dropped.load(Ordering::Relaxed)
    }
}

/// A frame as a connection shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'p> {
    pub(crate) direction: TapDirection,
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    pub(crate) compressed: bool,
    pub(crate) assembled: bool,
    pub(crate) payload_bytes: u64,
    pub(crate) payload: Option<&'p [u8]>,
}

impl<'p> Shown<'p> {
    /// A whole frame from the peer.
    pub(crate) fn received(opcode: Opcode, payload: &'p [u8]) -> Self {
        Self { direction: TapDirection::In, ..Self::sent(opcode, payload) }
    }

    /// A frame to the peer; this side sends no fragments.
    pub(crate) fn sent(opcode: Opcode, payload: &'p [u8]) -> Self {
        Self {
            direction: TapDirection::Out,
            opcode,
            fin: true,
            compressed: false,
            assembled: false,
            payload_bytes: payload.len() as u64,
            payload: Some(payload),
        }
    }
}

/// The taps of one core; there is at least one.
#[derive(Debug)]
pub(crate) struct Taps {
    /// When this turn began.
    pub(crate) now: Instant,
    taps: Vec<CoreTap>,
}

/// One tap, on one core.
#[derive(Debug)]
struct CoreTap {
    order: TapOrder,
    /// Slots and names of the connections it shows.
    conns: Vec<(u32, ConnId)>,
    /// Slots that are still to be looked at, to find those of an address.
    next_slot: Option<usize>,
}

impl Taps {
    /// No taps yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { now, taps: Vec::new() }
    }

    /// Adds a tap; returns its place. None if there are too many.
    pub(crate) fn add(&mut self, order: TapOrder) -> Option<usize> {
        if self.taps.len() == TAPS_MAX {
            return None;
        }
        let next_slot = matches!(order.target, TapTarget::Addr(_)).then_some(0);
        self.taps.push(CoreTap { order, conns: Vec::new(), next_slot });
        Some(self.taps.len() - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.taps.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    pub(crate) fn target(&self, tap: usize) -> &TapTarget {
        &self.taps[tap].order.target
    }

    /// Whether a tap looks for connections.
    pub(crate) fn is_searching(&self) -> bool {
        self.taps.iter().any(|tap| tap.next_slot.is_some())
    }

    /// The next slots to look at for a tap, of `slot_count`.
    pub(crate) fn search(
        &mut self,
        tap: usize,
        slice: usize,
        slot_count: usize,
    ) -> std::ops::Range<usize> {
        let tap = &mut self.taps[tap];
        let Some(first) = tap.next_slot else { return 0..0 };
        let last = first.saturating_add(slice).min(slot_count);
        let goes_on = last < slot_count && tap.conns.len() < CONNS_MAX;
        tap.next_slot = goes_on.then_some(last);
        first.min(last)..last
    }

    /// A tap shows this connection from now on, if it has room and does not show it already.
    pub(crate) fn watch(
        &mut self,
        tap: usize,
        index: u32,
        id: ConnId,
        client_addr: Option<IpAddr>,
    ) -> bool {
        let tap = &mut self.taps[tap];
        if tap.conns.len() >= CONNS_MAX || tap.conns.contains(&(index, id)) {
            return false;
        }
        tap.conns.push((index, id));
        tap.order.tell(TapEvent::Watching { id, client_addr });
        true
    }

    /// Shows a frame.
    pub(crate) fn show(&self, index: u32, shown: &Shown<'_>) {
        for tap in &self.taps {
            let Some((_, id)) = tap.conns.iter().find(|(conn, _)| *conn == index) else { continue };
            let payload_bytes_max = tap.order.payload_bytes_max;
            let wanted = shown.payload.filter(|_| payload_bytes_max > 0);
            tap.order.tell(TapEvent::Frame(TapFrame {
                id: *id,
                at: self.now,
                direction: shown.direction,
                opcode: name(shown.opcode),
                fin: shown.fin,
                compressed: shown.compressed,
                assembled: shown.assembled,
                payload_bytes: shown.payload_bytes,
                payload: wanted.map(|payload| legible_bytes(payload, payload_bytes_max)),
            }));
        }
    }

    /// A connection that is shown has ended.
    pub(crate) fn end(&mut self, index: u32, event: &TapEvent) {
        for tap in &mut self.taps {
            if let Some(at) = tap.conns.iter().position(|(conn, _)| *conn == index) {
                tap.conns.swap_remove(at);
                tap.order.tell(event.clone());
            }
        }
        // One that was to show this connection has nothing more to show.
        self.taps
            .retain(|tap| !matches!(tap.order.target, TapTarget::Conn(_)) || !tap.conns.is_empty());
    }

    /// Forgets taps that nobody watches any more; returns connections that are no longer shown.
    pub(crate) fn drop_unwatched(&mut self) -> Vec<u32> {
        let dropped: Vec<CoreTap> =
            self.taps.extract_if(.., |tap| tap.order.is_dropped()).collect();
        let is_shown = |index: &u32| {
            self.taps.iter().any(|tap| tap.conns.iter().any(|(conn, _)| conn == index))
        };
        let conns = dropped.iter().flat_map(|tap| tap.conns.iter().map(|(index, _)| *index));
        conns.filter(|index| !is_shown(index)).collect()
    }
}

fn name(opcode: Opcode) -> &'static str {
    match opcode {
        Opcode::Continuation => "continuation",
        Opcode::Text => "text",
        Opcode::Binary => "binary",
        Opcode::Close => "close",
        Opcode::Ping => "ping",
        Opcode::Pong => "pong",
    }
}
