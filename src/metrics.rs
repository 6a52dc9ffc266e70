//! Counters of one core, and their sum over all cores.
//!
//! Each core writes its own and nobody else's, so a count is a plain load and store, no locked
//! instruction and no shared cache line. Reading them from elsewhere gives recent values.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of the classes in which turns are counted.
pub(crate) const TURN_BOUNDS: [Duration; 4] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
];

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
    /// Messages dropped because a queue was full, or its reader slow.
    pub(crate) dropped: Counter,
    /// Messages queued for peers.
    pub(crate) sent_messages: Counter,
    /// Payload bytes of these.
    pub(crate) sent_bytes: Counter,
    /// Messages published for this core's subscribers.
    pub(crate) published: Counter,
    /// Topics, subscriptions, and bytes held, as of the last second.
    pub(crate) topics: Counter,
    pub(crate) subscriptions: Counter,
    pub(crate) held_bytes: Counter,
    /// Memory of the pool and queues shared with the kernel, as of the last second.
    pub(crate) receive_blocks_lent: Counter,
    pub(crate) receive_blocks_free: Counter,
    pub(crate) pool_bytes: Counter,
    pub(crate) spare_bytes: Counter,
    pub(crate) waits: Counter,
    pub(crate) submissions: Counter,
    pub(crate) completion_overflows: Counter,
    pub(crate) submission_stalls: Counter,
    pub(crate) receives_parked: Counter,
    /// Bytes in the queues of connections, as of the last turn.
    pub(crate) queued_bytes: Counter,
    /// Beginnings and ends of turns; odd while one is under way.
    turn_marks: Counter,
    /// Turns by their length, and the length of all.
    turns: [Counter; TURN_BOUNDS.len() + 1],
    turn_nanos: Counter,
    /// Handshakes refused, by class. Rare enough for a lock.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections ended by the server, by close code.
    failures: Mutex<BTreeMap<u16, u64>>,
    /// Open connections that ended, by who ended them and close code, and by cause.
    closes: Mutex<Closes>,
}

/// Ends of connections that were open. Peers choose codes, so all but the well-known ones are
/// counted as one (row HP05).
#[derive(Debug, Default)]
struct Closes {
    by_code: BTreeMap<(&'static str, Option<u16>), u64>,
    by_cause: BTreeMap<&'static str, u64>,
}

/// A count that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count; only its own core does.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets what is no count but a level.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
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

    /// Counts messages that were queued for a peer.
    pub(crate) fn count_sent(&self, messages: usize, bytes: usize) {
        self.sent_messages.add(messages as u64);
        self.sent_bytes.add(bytes as u64);
    }

    /// A turn of the event loop begins.
    pub(crate) fn begin_turn(&self) {
        self.turn_marks.add(1);
    }

    /// A number of the turn that is under way, if one is.
    pub(crate) fn turn_under_way(&self) -> Option<u64> {
        Some(self.turn_marks.value()).filter(|mark| mark % 2 == 1)
    }

    /// Counts a turn of the event loop, which ends.
    pub(crate) fn count_turn(&self, length: Duration) {
        self.turn_marks.add(1);
        let class = TURN_BOUNDS.iter().take_while(|&&bound| length > bound).count();
        self.turns[class].add(1);
        self.turn_nanos.add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts the end of a connection that was open.
    pub(crate) fn count_close(&self, by: &'static str, code: u16, cause: &'static str) {
        // Those that the IANA has registered for the protocol itself.
        let known = Some(code).filter(|code| matches!(code, 1000..=1015));
        let mut closes = lock(&self.closes);
        *closes.by_code.entry((by, known)).or_default() += 1;
        *closes.by_cause.entry(cause).or_default() += 1;
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
    /// ([`Overflow::Drop`](crate::Overflow::Drop)), or because newer ones of their topic have taken
    /// their place ([`SlowReaders`](crate::SlowReaders)).
    pub dropped: u64,
    /// Messages queued for peers, each subscriber of a topic counted.
    pub sent_messages: u64,
    /// Payload bytes of these messages.
    pub sent_bytes: u64,
    /// Messages of topics that cores have taken up for their subscribers.
    pub published: u64,
    /// Topics that there are, on each core, as of the last second.
    pub topics: u64,
    /// Subscriptions that there are, as of the last second.
    pub subscriptions: u64,
    /// Bytes queued for peers.
    pub queued_bytes: u64,
    /// Bytes of heap held for connections and topics, as of the last second.
    pub held_bytes: u64,
    /// Receive blocks in use, as of the last second.
    pub receive_blocks_lent: u64,
    /// Receive blocks that may still be taken, as of the last second.
    pub receive_blocks_free: u64,
    /// Bytes of all blocks, in use or kept for the next messages, as of the last second.
    pub pool_bytes: u64,
    /// Of these, bytes of free blocks for messages.
    pub spare_bytes: u64,
    /// System calls that submit, or wait for something to happen: `io_uring_enter` or `epoll_wait`.
    pub waits: u64,
    /// Operations that the kernel has taken from the rings; 0 with epoll.
    pub submissions: u64,
    /// How often the kernel had more completions than room in a ring. Nothing is lost by it.
    pub completion_overflows: u64,
    /// How often a ring had no room for an operation, which then took a system call of its own.
    pub submission_stalls: u64,
    /// How often a receive had to wait for a free receive block; see
    /// [`receive_blocks_max`](crate::Builder::receive_blocks_max).
    pub receives_parked: u64,
    /// Turns of the event loops: how many took at most 0.1 ms, 1 ms, 10 ms, 100 ms, and more.
    pub turns: [u64; 5],
    /// The length of all turns together, without the waits between them.
    pub turn_time: Duration,
    /// Handshakes refused, by class of reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Connections that this server ended, by close code.
    pub failures: BTreeMap<u16, u64>,
    /// Opened connections that have ended, by who ended them ([`ClosedBy::name`](crate::ClosedBy::name))
    /// and close code. Codes that are not of the protocol itself (1000 to 1015) are counted together, as
    /// `None`.
    pub closes: BTreeMap<(&'static str, Option<u16>), u64>,
    /// The same by why they ended ([`CloseCause::name`](crate::CloseCause::name)).
    pub close_causes: BTreeMap<&'static str, u64>,
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
        self.sent_messages += core.sent_messages.value();
        self.sent_bytes += core.sent_bytes.value();
        self.published += core.published.value();
        self.topics += core.topics.value();
        self.subscriptions += core.subscriptions.value();
        self.queued_bytes += core.queued_bytes.value();
        self.held_bytes += core.held_bytes.value();
        self.receive_blocks_lent += core.receive_blocks_lent.value();
        self.receive_blocks_free += core.receive_blocks_free.value();
        self.pool_bytes += core.pool_bytes.value();
        self.spare_bytes += core.spare_bytes.value();
        self.waits += core.waits.value();
        self.submissions += core.submissions.value();
        self.completion_overflows += core.completion_overflows.value();
        self.submission_stalls += core.submission_stalls.value();
        self.receives_parked += core.receives_parked.value();
        for (sum, turns) in self.turns.iter_mut().zip(&core.turns) {
            *sum += turns.value();
        }
        self.turn_time += Duration::from_nanos(core.turn_nanos.value());
        for (class, count) in lock(&core.refusals).iter() {
            *self.refusals.entry(class).or_default() += count;
        }
        for (code, count) in lock(&core.failures).iter() {
            *self.failures.entry(*code).or_default() += count;
        }
        let closes = lock(&core.closes);
        for (key, count) in &closes.by_code {
            *self.closes.entry(*key).or_default() += count;
        }
        for (cause, count) in &closes.by_cause {
            *self.close_causes.entry(cause).or_default() += count;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A map of counts is sound whatever a panicking thread left in it.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
