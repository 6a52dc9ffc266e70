//! Counters of one core, and their sum over all cores.
//!
//! Each core writes its own and nobody else's, so a count is a plain load and store, no locked
//! instruction and no shared cache line. Reading them from elsewhere gives recent values.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Metrics {
    /// Connections accepted.
    pub(crate) accepted: Counter,
    /// Connections whose handshake succeeded.
    pub(crate) opened: Counter,
    /// Open connections that ended.
    pub(crate) closed: Counter,
    /// Connections dropped because descriptors or memory had run out.
    pub(crate) shed: Counter,
    /// Messages received.
    pub(crate) messages: Counter,
    /// Payload bytes of these.
    pub(crate) message_bytes: Counter,
    /// Messages dropped because a queue was full.
    pub(crate) dropped: Counter,
    /// Handshakes refused, by class. Rare enough for a lock.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections ended by the server, by close code.
    failures: Mutex<BTreeMap<u16, u64>>,
}

/// A count that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count; only its own core does.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Counts a refused handshake.
    pub(crate) fn count_refusal(&self, class: &'static str) {
        *lock(&self.refusals).entry(class).or_default() += 1;
    }

    /// Counts a connection that this server ended.
    pub(crate) fn count_failure(&self, code: u16) {
        *lock(&self.failures).entry(code).or_default() += 1;
    }
}

/// What a server has done since it started, summed over its cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted, refused ones included.
    pub accepted: u64,
    /// Connections whose handshake succeeded.
    pub opened: u64,
    /// Opened connections that have ended. `opened - closed` are open now.
    pub closed: u64,
    /// Connections dropped unanswered because descriptors or memory had run out.
    pub shed: u64,
    /// Messages received.
    pub messages: u64,
    /// Payload bytes of these messages.
    pub message_bytes: u64,
    /// Messages that were not sent because the queue of their connection was full
    /// ([`Overflow::Drop`](crate::Overflow::Drop)).
    pub dropped: u64,
    /// Handshakes refused, by class of reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Connections that this server ended, by close code.
    pub failures: BTreeMap<u16, u64>,
}

impl Stats {
    pub(crate) fn add(&mut self, core: &Metrics) {
        self.accepted += core.accepted.value();
        self.opened += core.opened.value();
        self.closed += core.closed.value();
        self.shed += core.shed.value();
        self.messages += core.messages.value();
        self.message_bytes += core.message_bytes.value();
        self.dropped += core.dropped.value();
        for (class, count) in lock(&core.refusals).iter() {
            *self.refusals.entry(class).or_default() += count;
        }
        for (code, count) in lock(&core.failures).iter() {
            *self.failures.entry(*code).or_default() += count;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A map of counts is sound whatever a panicking thread left in it.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
