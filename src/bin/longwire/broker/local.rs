//! From the broker to the subscribers of this node.
//!
//! A core that has fallen behind does not keep the link from being read: what it does not take waits
//! here, and when that is too much, those are missed that have waited longest.
//!
//! INVARIANT: `bytes` is the cost of all that waits, at most `BYTES_MAX` after each call, except for
//! one message that alone is larger.

use std::collections::{HashMap, VecDeque};

use longwire::{Handle, MessageKind, Payload, PublishError};

const BYTES_MAX: usize = 16 << 20;
/// What a message costs beside its bytes.
const ENTRY_BYTES: usize = 96;

#[derive(Debug)]
pub(super) struct Local<P> {
    publisher: P,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    missed: HashMap<Box<str>, u64>,
}

#[derive(Debug)]
struct Waiting {
    topic: Box<str>,
    kind: MessageKind,
    payload: Box<[u8]>,
}

/// Who serves the subscribers.
pub(super) trait Publisher {
    /// False if it takes nothing now.
    fn publish(&self, topic: &str, payload: Payload<'_>) -> bool;
}

impl Publisher for Handle {
    fn publish(&self, topic: &str, payload: Payload<'_>) -> bool {
        // A name that no topic has is none that anybody here has subscribed to.
        !matches!(Self::publish(self, topic, payload), Err(PublishError::Busy))
    }
}

impl<P: Publisher> Local<P> {
    pub(super) fn new(publisher: P) -> Self {
        Self { publisher, waiting: VecDeque::new(), bytes: 0, missed: HashMap::new() }
    }

    /// Hands a message over, after all that came before it. False if text is none.
    pub(super) fn publish(&mut self, topic: &str, kind: MessageKind, payload: &[u8]) -> bool {
        let Some(whole) = read(kind, payload) else { return false };
        if self.waiting.is_empty() && self.publisher.publish(topic, whole) {
            return true;
        }
        let message = Waiting { topic: topic.into(), kind, payload: payload.into() };
        self.bytes += message.cost();
        self.waiting.push_back(message);
        while self.bytes > BYTES_MAX
            && self.waiting.len() > 1
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.bytes -= oldest.cost();
            *self.missed.entry(oldest.topic).or_default() += 1;
        }
        true
    }

    /// Tries again with what waits.
    pub(super) fn retry(&mut self) {
        while let Some(first) = self.waiting.front() {
            let payload = read(first.kind, &first.payload).expect("it was read before");
            if !self.publisher.publish(&first.topic, payload) {
                return;
            }
            self.bytes -= first.cost();
            self.waiting.pop_front();
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many messages were missed since the last call, by topic.
    pub(super) fn take_missed(&mut self) -> HashMap<Box<str>, u64> {
        std::mem::take(&mut self.missed)
    }
}

impl Waiting {
    fn cost(&self) -> usize {
        self.topic.len() + self.payload.len() + ENTRY_BYTES
    }
}

fn read(kind: MessageKind, payload: &[u8]) -> Option<Payload<'_>> {
    match kind {
        MessageKind::Text => str::from_utf8(payload).ok().map(Payload::from),
        MessageKind::Binary => Some(payload.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Takes so many messages.
    #[derive(Default)]
    struct Core {
        room: Cell<usize>,
        taken: RefCell<Vec<Vec<u8>>>,
    }

    impl Publisher for &Core {
        fn publish(&self, _topic: &str, payload: Payload<'_>) -> bool {
            let Some(left) = self.room.get().checked_sub(1) else { return false };
            self.room.set(left);
            self.taken.borrow_mut().push(payload.bytes().to_vec());
            true
        }
    }

    #[test]
    fn bk03_busy_core_is_waited_for_in_order_and_within_bounds() {
        let core = Core::default();
        let mut local = Local::new(&core);
        core.room.set(1);
        for text in ["1", "2", "3"] {
            assert!(local.publish("a", MessageKind::Text, text.as_bytes()));
        }
        core.room.set(1);
        local.retry();
        assert!(local.is_waiting());
        core.room.set(9);
        assert!(local.publish("a", MessageKind::Text, b"4"), "behind those that wait");
        local.retry();
        assert_eq!(*core.taken.borrow(), [b"1", b"2", b"3", b"4"]);
        assert!(!local.is_waiting() && local.bytes == 0);

        core.room.set(0);
        let large = vec![0; BYTES_MAX / 4];
        for topic in ["a", "a", "b", "c", "c"] {
            local.publish(topic, MessageKind::Binary, &large);
        }
        assert!(local.bytes <= BYTES_MAX);
        assert_eq!(local.take_missed(), HashMap::from([("a".into(), 2)]));
        assert_eq!(local.take_missed(), HashMap::new());
    }

    #[test]
    fn text_that_is_none_reaches_nobody() {
        let core = Core::default();
        core.room.set(1);
        assert!(!Local::new(&core).publish("a", MessageKind::Text, b"\xff"));
        assert!(core.taken.borrow().is_empty());
    }
}
