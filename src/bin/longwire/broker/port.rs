//! Where a core meets the side thread: messages on their way out, and which topics have subscribers.
//!
//! A core takes a lock that only the side thread takes beside it, for moments, and wakes that thread
//! once for all it has for it. Nothing here waits for the broker.
//!
//! INVARIANT: `Outbox::bytes` is the cost of all that is in its queue, at most `bytes_max` after
//! each push, except for one message that alone is larger.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire::MessageKind;
use tokio::sync::Notify;

/// What a message costs in the queue beside its bytes.
const ENTRY_BYTES: usize = 64;
/// Topics whose dropped messages are counted by themselves.
const DROPPED_TOPICS_MAX: usize = 1 << 16;

/// Topics that are looked at before the lock is let go for the core.
const CHANGES_PER_LOCK: usize = 256;

/// A message on its way out. The name of the topic stands before the payload.
#[derive(Debug)]
pub(super) struct Outgoing {
    topic_len: usize,
    pub(super) kind: MessageKind,
    bytes: Box<[u8]>,
}

/// One core's side.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    lane: Arc<Lane>,
    alarm: Arc<Alarm>,
}

/// What a core and the side thread share.
#[derive(Debug)]
pub(super) struct Lane {
    outbox: Mutex<Outbox>,
    audience: Mutex<Audience>,
}

/// Wakes the side thread, once until it has looked.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    is_raised: AtomicBool,
    notify: Notify,
}

#[derive(Debug)]
struct Outbox {
    queue: VecDeque<Outgoing>,
    bytes: usize,
    bytes_max: usize,
    dropped: Dropped,
}

/// What was dropped since the side thread last looked.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) count: u64,
    pub(super) by_topic: HashMap<Box<str>, u64>,
}

/// Subscribers of each topic on this core.
#[derive(Debug, Default)]
struct Audience {
    topics: HashMap<Box<str>, Presence>,
    /// Topics about which the side thread may have to be told something.
    changed: Vec<Box<str>>,
}

#[derive(Debug, Default)]
struct Presence {
    count: usize,
    /// What the side thread believes.
    is_told: bool,
    /// Whether it is among those that changed.
    is_listed: bool,
}

impl Outgoing {
    fn new(topic: &str, kind: MessageKind, payload: &[u8]) -> Self {
        let bytes = [topic.as_bytes(), payload].concat().into_boxed_slice();
        Self { topic_len: topic.len(), kind, bytes }
    }

    pub(super) fn topic(&self) -> &str {
        str::from_utf8(&self.bytes[..self.topic_len]).expect("it was made of a string")
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[self.topic_len..]
    }

    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

impl Port {
    pub(super) fn new(lane: Arc<Lane>, alarm: Arc<Alarm>) -> Self {
        Self { lane, alarm }
    }

    /// Hands a copy of a message over. If there is no room, those go that have waited longest.
    pub(crate) fn publish(&self, topic: &str, kind: MessageKind, payload: &[u8]) {
        let message = Outgoing::new(topic, kind, payload);
        lock(&self.lane.outbox).push(message);
        self.alarm.raise();
    }

    /// A connection of this core has subscribed.
    pub(crate) fn enter(&self, topic: &str) {
        if lock(&self.lane.audience).count(topic, |count| count + 1) {
            self.alarm.raise();
        }
    }

    /// It has left.
    pub(crate) fn leave(&self, topic: &str) {
        if lock(&self.lane.audience).count(topic, |count| count.saturating_sub(1)) {
            self.alarm.raise();
        }
    }
}

impl Lane {
    pub(super) fn new(bytes_max: usize) -> Self {
        let outbox =
            Outbox { queue: VecDeque::new(), bytes: 0, bytes_max, dropped: Dropped::default() };
        Self { outbox: Mutex::new(outbox), audience: Mutex::default() }
    }

    /// What was dropped since the last call; it stood before all that is still there.
    pub(super) fn take_dropped(&self) -> Dropped {
        std::mem::take(&mut lock(&self.outbox).dropped)
    }

    /// The messages that have waited longest, up to some bytes, and at least one if there is one.
    /// What was dropped before them comes first.
    pub(super) fn take(&self, bytes_max: usize) -> (Dropped, Vec<Outgoing>) {
        let mut outbox = lock(&self.outbox);
        let mut taken_bytes = 0;
        let mut taken = Vec::new();
        while taken_bytes < bytes_max
            && let Some(message) = outbox.queue.pop_front()
        {
            taken_bytes += message.cost();
            taken.push(message);
        }
        outbox.bytes -= taken_bytes;
        (std::mem::take(&mut outbox.dropped), taken)
    }

    /// Messages that wait, and what they cost.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let outbox = lock(&self.outbox);
        (outbox.queue.len(), outbox.bytes)
    }

    /// Calls back for each topic that has found subscribers on this core, or lost the last.
    /// Meanwhile the core is never kept waiting: the lock is held for a part of them at a time, and
    /// not while it calls back.
    pub(super) fn take_changes(&self, mut each: impl FnMut(&str, bool)) {
        let changed = std::mem::take(&mut lock(&self.audience).changed);
        for topics in changed.chunks(CHANGES_PER_LOCK) {
            let told = lock(&self.audience).tell(topics);
            for (topic, is_there) in told {
                each(topic, is_there);
            }
        }
    }
}

impl Alarm {
    pub(super) fn raise(&self) {
        if !self.is_raised.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Before one looks at what there is.
    pub(super) fn lower(&self) {
        self.is_raised.store(false, Ordering::Release);
    }

    pub(super) async fn raised(&self) {
        self.notify.notified().await;
    }
}

impl Outbox {
    fn push(&mut self, message: Outgoing) {
        self.bytes += message.cost();
        self.queue.push_back(message);
        while self.bytes > self.bytes_max
            && self.queue.len() > 1
            && let Some(oldest) = self.queue.pop_front()
        {
            self.bytes -= oldest.cost();
            self.dropped.count += 1;
            let by_topic = &mut self.dropped.by_topic;
            if let Some(count) = by_topic.get_mut(oldest.topic()) {
                *count += 1;
            } else if by_topic.len() < DROPPED_TOPICS_MAX {
                by_topic.insert(oldest.topic().into(), 1);
            }
        }
    }
}

impl Audience {
    /// Whether the side thread should look.
    fn count(&mut self, topic: &str, change: impl FnOnce(usize) -> usize) -> bool {
        let presence = match self.topics.get_mut(topic) {
            Some(presence) => presence,
            None => self.topics.entry(topic.into()).or_default(),
        };
        presence.count = change(presence.count);
        if presence.is_listed || (presence.count > 0) == presence.is_told {
            return false;
        }
        presence.is_listed = true;
        self.changed.push(topic.into());
        true
    }

    /// What the side thread is to be told of listed topics; from then on it knows.
    fn tell<'a>(&mut self, listed: &'a [Box<str>]) -> Vec<(&'a str, bool)> {
        let mut told = Vec::with_capacity(listed.len());
        for topic in listed {
            let presence = self.topics.get_mut(topic).expect("listed topics are kept");
            let is_there = presence.count > 0;
            presence.is_listed = false;
            if presence.is_told != is_there {
                presence.is_told = is_there;
                told.push((&**topic, is_there));
            }
            if !is_there {
                self.topics.remove(topic);
            }
        }
        told
    }
}

/// Nobody panics while holding one of these for long enough to leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(bytes_max: usize) -> Port {
        Port::new(Arc::new(Lane::new(bytes_max)), Arc::default())
    }

    fn changes(port: &Port) -> Vec<(String, bool)> {
        let mut changes = Vec::new();
        port.lane.take_changes(|topic, is_there| changes.push((topic.to_owned(), is_there)));
        changes
    }

    #[test]
    fn bk01_full_queue_drops_the_oldest_and_counts_them_by_topic() {
        let port = port(3 * (ENTRY_BYTES + 2));
        for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("c", "5")] {
            port.publish(topic, MessageKind::Text, payload.as_bytes());
        }
        let (dropped, taken) = port.lane.take(usize::MAX);
        assert_eq!(dropped.count, 2);
        assert_eq!((dropped.by_topic.get("a"), dropped.by_topic.get("b")), (Some(&1), Some(&1)));
        let taken: Vec<(&str, &[u8])> = taken.iter().map(|m| (m.topic(), m.payload())).collect();
        assert_eq!(taken, [("a", &b"3"[..]), ("a", b"4"), ("c", b"5")]);
        assert_eq!(port.lane.waiting(), (0, 0));
        assert_eq!(port.lane.take_dropped().count, 0);
        // One that alone is larger than all room goes out all the same.
        port.publish("a", MessageKind::Binary, &[0; 1000]);
        assert_eq!(port.lane.take(1).1.len(), 1);
    }

    #[test]
    fn topics_are_told_once_when_the_first_comes_and_the_last_goes() {
        let port = port(1);
        port.enter("a");
        port.enter("a");
        port.enter("b");
        port.leave("b");
        assert_eq!(changes(&port), [("a".to_owned(), true)]);
        port.leave("a");
        assert_eq!(changes(&port), []);
        port.leave("a");
        port.enter("a");
        port.enter("b");
        assert_eq!(changes(&port), [("b".to_owned(), true)], "it was never told that a is gone");
        port.leave("a");
        port.leave("b");
        assert_eq!(changes(&port), [("a".to_owned(), false), ("b".to_owned(), false)]);
        assert!(lock(&port.lane.audience).topics.is_empty());
    }

    #[test]
    fn core_may_enter_and_leave_while_changes_are_told() {
        let port = port(1);
        let topics: Vec<String> = (0..3 * CHANGES_PER_LOCK).map(|n| n.to_string()).collect();
        topics.iter().for_each(|topic| port.enter(topic));
        let mut told = Vec::new();
        port.lane.take_changes(|topic, is_there| {
            assert!(port.lane.audience.try_lock().is_ok(), "no core has to wait");
            if told.is_empty() {
                // This one has been told, and is changed again; the last is not told at all.
                port.leave("0");
                port.leave(topics.last().unwrap());
            }
            told.push((topic.to_owned(), is_there));
        });
        let (_, expected) = topics.split_last().unwrap();
        assert_eq!(told, expected.iter().map(|topic| (topic.clone(), true)).collect::<Vec<_>>());
        assert_eq!(changes(&port), [("0".to_owned(), false)]);
        assert_eq!(lock(&port.lane.audience).topics.len(), expected.len() - 1);
    }
}
