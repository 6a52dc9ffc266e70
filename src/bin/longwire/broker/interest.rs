//! Which topics this node hears, and what it has heard of each.
//!
//! A topic is subscribed to at the broker while it has subscribers on this node, and a moment longer,
//! so that those who come and go are not felt there. Of each node that publishes to it the number of
//! its next message is known: a lower one has been here already, a higher one tells how many were
//! missed.
//!
//! INVARIANT: of a topic at most `SOURCES_MAX` nodes are known, and at most `BATCH_MAX` more than twice
//! as many topics wait to be asked for as there were when the last was added.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::envelope::{Place, Saying};
use super::names::Subjects;

/// How long a topic without subscribers is kept.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// Topics that are asked for at once. The next follow when the broker has dealt with these, so its
/// own speed bounds how fast nodes subscribe (row BK07).
const BATCH_MAX: usize = 1000;
/// Nodes that publish to a topic; every start of one makes a new one of it.
const SOURCES_MAX: usize = 256;
/// What a message may take from node to node, in telling whether a topic began before we listened.
const TRANSIT_MAX: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Interest {
    subjects: Subjects,
    /// By subject.
    topics: HashMap<Arc<str>, Topic>,
    /// Topics that are still to be asked for, and some that were given up since.
    to_subscribe: VecDeque<Arc<str>>,
    /// The batch that the broker has not dealt with yet.
    asked: Vec<Arc<str>>,
    /// Topics without subscribers, the oldest first; some have found new ones since.
    idle: VecDeque<(Instant, Arc<str>)>,
    last_number: u64,
}

#[derive(Debug)]
struct Topic {
    name: Box<str>,
    /// Cores that have subscribers.
    core_count: usize,
    idle_since: Option<Instant>,
    /// What NATS calls the subscription.
    number: u64,
    /// Whether this link was asked for it.
    is_asked: bool,
    /// When a broker first said that it sends us all there is.
    heard_since: Option<Instant>,
    sources: Vec<Source>,
}

/// A node that publishes to a topic.
#[derive(Debug)]
struct Source {
    node: u64,
    /// The number of its next message.
    next: u64,
    heard: Instant,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival<'a> {
    pub(super) topic: &'a str,
    /// Messages before it that have not come and will not.
    pub(super) missed: u64,
    /// Whether it is one that has been here, or stands before one that was.
    pub(super) is_old: bool,
}

impl Interest {
    pub(super) fn new(subjects: Subjects) -> Self {
        Self {
            subjects,
            topics: HashMap::new(),
            to_subscribe: VecDeque::new(),
            asked: Vec::new(),
            idle: VecDeque::new(),
            last_number: 1,
        }
    }

    /// A core has found its first subscriber of a topic, or lost its last.
    pub(super) fn handle_change(&mut self, name: &str, is_there: bool, now: Instant) {
        let subject = self.subjects.of(name);
        if let Some(topic) = self.topics.get_mut(subject.as_str()) {
            if is_there {
                topic.core_count += 1;
                topic.idle_since = None;
                return;
            }
            topic.core_count = topic.core_count.saturating_sub(1);
            if topic.core_count == 0 {
                topic.idle_since = Some(now);
                self.idle.push_back((now, subject.into()));
            }
            return;
        }
        if is_there {
            let subject: Arc<str> = subject.into();
            self.last_number += 1;
            let topic = Topic::new(name, self.last_number);
            self.topics.insert(Arc::clone(&subject), topic);
            self.to_subscribe.push_back(subject);
            self.forget_given_up();
        }
    }

    /// While no broker takes what is to be asked for, clients come and go. What they have given up is
    /// left out as soon as it is the larger part, which costs each topic a look or two.
    fn forget_given_up(&mut self) {
        if self.to_subscribe.len() <= 2 * self.topics.len() + BATCH_MAX {
            return;
        }
        // Of one that was given up and has come back only the younger entry counts.
        let topics = &self.topics;
        self.to_subscribe.retain(|subject| {
            topics.get_key_value(subject).is_some_and(|(known, _)| Arc::ptr_eq(known, subject))
        });
    }

    /// A link is there, and has been asked for nothing.
    pub(super) fn handle_link(&mut self) {
        self.asked.clear();
        for topic in self.topics.values_mut() {
            topic.is_asked = false;
        }
        self.to_subscribe = self.topics.keys().map(Arc::clone).collect();
    }

    /// The next topics to ask for, if the broker has dealt with those before.
    pub(super) fn poll_batch(&mut self) -> Option<Vec<(Arc<str>, u64)>> {
        if !self.asked.is_empty() {
            return None;
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Some(subject) = self.to_subscribe.pop_front()
        {
            let Some(topic) = self.topics.get_mut(&subject) else { continue };
            if !std::mem::replace(&mut topic.is_asked, true) {
                self.asked.push(Arc::clone(&subject));
                batch.push((subject, topic.number));
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// The broker has dealt with what it was last asked for.
    pub(super) fn handle_batch_done(&mut self, now: Instant) {
        for subject in std::mem::take(&mut self.asked) {
            if let Some(topic) = self.topics.get_mut(&subject) {
                topic.heard_since.get_or_insert(now);
            }
        }
    }

    /// Whether the broker has been asked for all, and has dealt with it.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_empty() && self.to_subscribe.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// A topic that nobody has wanted for long enough; the flag tells whether the broker was asked
    /// for it.
    pub(super) fn poll_expired(&mut self, now: Instant) -> Option<(Arc<str>, u64, bool)> {
        while let Some((since, _)) = self.idle.front()
            && now.saturating_duration_since(*since) >= LINGER
        {
            let (since, subject) = self.idle.pop_front().expect("it has a front");
            // Whoever has come back has left a younger entry, or none.
            if self.topics.get(&subject).is_some_and(|topic| topic.idle_since == Some(since)) {
                let topic = self.topics.remove(&subject).expect("it was there just now");
                return Some((subject, topic.number, topic.is_asked));
            }
        }
        None
    }

    /// A message or mark of a node has come; `None` if its subject was not asked for.
    pub(super) fn handle_arrival(
        &mut self,
        subject: &str,
        (node, saying, place): (u64, Saying, Place),
        now: Instant,
    ) -> Option<Arrival<'_>> {
        let topic = self.topics.get_mut(subject)?;
        let is_message = matches!(saying, Saying::Message(_));
        let next = place.number + u64::from(is_message);
        let (missed, is_old) = match topic.sources.iter_mut().find(|source| source.node == node) {
            Some(source) => {
                source.heard = now;
                if place.number < source.next {
                    (0, true)
                } else {
                    let missed = place.number - source.next.max(place.base);
                    source.next = next;
                    (missed, false)
                }
            }
            None => {
                // Without us there at its beginning nothing is known of what was before.
                let began_after = topic.heard_since.is_some_and(|since| {
                    let age = Duration::from_millis(place.age_millis.into());
                    now.saturating_duration_since(since) > age + TRANSIT_MAX
                });
                topic.add_source(Source { node, next, heard: now });
                (if began_after { place.number - place.base } else { 0 }, false)
            }
        };
        // Of what nobody here wanted at the time nobody is told.
        let missed = if topic.core_count > 0 { missed } else { 0 };
        Some(Arrival { topic: &topic.name, missed, is_old })
    }
}

impl Topic {
    fn new(name: &str, number: u64) -> Self {
        Self {
            name: name.into(),
            core_count: 1,
            idle_since: None,
            number,
            is_asked: false,
            heard_since: None,
            sources: Vec::new(),
        }
    }

    fn add_source(&mut self, source: Source) {
        if self.sources.len() >= SOURCES_MAX {
            let ages = self.sources.iter().enumerate();
            let oldest = ages.min_by_key(|(_, source)| source.heard).map(|(index, _)| index);
            self.sources.swap_remove(oldest.expect("there are many"));
        }
        self.sources.push(source);
    }
}

#[cfg(test)]
mod tests {
    use longwire::MessageKind;

    use super::*;

    const MESSAGE: Saying = Saying::Message(MessageKind::Text);

    fn interest() -> Interest {
        Interest::new(Subjects::new("p").unwrap())
    }

    fn subscribed(now: Instant) -> Interest {
        let mut interest = interest();
        interest.handle_change("a", true, now);
        assert_eq!(interest.poll_batch().unwrap().len(), 1);
        interest.handle_batch_done(now);
        interest
    }

    fn place(base: u64, number: u64, age_millis: u32) -> Place {
        Place { base, number, age_millis }
    }

    fn arrive(interest: &mut Interest, said: (u64, Saying, Place), now: Instant) -> (u64, bool) {
        let arrival = interest.handle_arrival("p.t.a", said, now).unwrap();
        assert_eq!(arrival.topic, "a");
        (arrival.missed, arrival.is_old)
    }

    #[test]
    fn bk02_jumps_are_counted_and_repetitions_dropped() {
        let now = Instant::now();
        let mut interest = subscribed(now);
        let long = u32::MAX;
        for (node, saying, at, expected) in [
            (1, MESSAGE, place(0, 5, long), (0, false)),
            (1, MESSAGE, place(0, 6, long), (0, false)),
            (1, MESSAGE, place(0, 6, long), (0, true)),
            (1, MESSAGE, place(0, 2, long), (0, true)),
            (1, MESSAGE, place(0, 10, long), (3, false)),
            (2, MESSAGE, place(0, 3, long), (0, false)),
            (1, Saying::Mark, place(0, 11, long), (0, false)),
            (1, Saying::Mark, place(0, 13, long), (2, false)),
            (1, Saying::Mark, place(0, 12, long), (0, true)),
            (1, MESSAGE, place(0, 13, long), (0, false)),
            // It was forgotten there and has begun anew: what was before is not missed.
            (1, MESSAGE, place(100, 102, 0), (2, false)),
        ] {
            assert_eq!(arrive(&mut interest, (node, saying, at), now), expected, "{at:?}");
        }
        let other = interest.handle_arrival("p.t.b", (1, MESSAGE, place(0, 1, 0)), now);
        assert_eq!(other, None, "it was not asked for");
    }

    #[test]
    fn bk02_first_messages_are_missed_only_by_who_was_there() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        for (age_millis, missed) in [(1000, 4), (9000, 4), (10_000, 0), (60_000, 0)] {
            let mut interest = subscribed(now);
            let said = (1, Saying::Mark, place(3, 7, age_millis));
            assert_eq!(arrive(&mut interest, said, later), (missed, false), "{age_millis}");
        }
    }

    #[test]
    fn bk07_topics_are_asked_for_in_batches() {
        let now = Instant::now();
        let mut interest = interest();
        for number in 0..2500 {
            interest.handle_change(&format!("t{number}"), true, now);
        }
        let mut sizes = Vec::new();
        for _ in 0..2 {
            interest.handle_link();
            while let Some(batch) = interest.poll_batch() {
                assert_eq!(interest.poll_batch(), None, "one at a time");
                assert!(!interest.is_settled());
                sizes.push(batch.len());
                interest.handle_batch_done(now);
            }
            assert!(interest.is_settled());
        }
        assert_eq!(sizes, [1000, 1000, 500, 1000, 1000, 500]);
    }

    #[test]
    fn topic_lingers_before_it_is_given_up() {
        let now = Instant::now();
        let mut interest = subscribed(now);
        interest.handle_change("a", true, now);
        interest.handle_change("a", false, now);
        assert_eq!(interest.poll_expired(now + 9 * LINGER), None, "another core has it");
        interest.handle_change("a", false, now);
        assert_eq!(interest.poll_expired(now + LINGER / 2), None);
        interest.handle_change("a", true, now + LINGER / 2);
        assert_eq!(interest.poll_expired(now + 9 * LINGER), None, "somebody has come back");
        interest.handle_change("a", false, now + 9 * LINGER);
        let (subject, _, is_asked) = interest.poll_expired(now + 10 * LINGER).unwrap();
        assert_eq!((&*subject, is_asked), ("p.t.a", true));
        assert_eq!((interest.len(), interest.poll_expired(now + 99 * LINGER)), (0, None));
    }

    #[test]
    fn bk01_topics_that_come_and_go_without_a_broker_leave_nothing_behind() {
        let mut now = Instant::now();
        let mut interest = interest();
        interest.handle_change("stays", true, now);
        for number in 0..20 * BATCH_MAX {
            let name = format!("t{}", number % (7 * BATCH_MAX));
            interest.handle_change(&name, true, now);
            interest.handle_change(&name, false, now);
            now += LINGER / 100;
            while interest.poll_expired(now).is_some() {}
        }
        assert!(interest.len() <= 102, "{}", interest.len());
        let waiting = interest.to_subscribe.len();
        assert!(waiting <= 2 * interest.len() + BATCH_MAX + 1, "{waiting}");
        let batch = interest.poll_batch().unwrap();
        assert_eq!(&*batch[0].0, "p.t.stays", "the others are behind it");
        assert_eq!(batch.len(), interest.len());
    }

    #[test]
    fn nodes_of_a_topic_are_bounded() {
        let now = Instant::now();
        let mut interest = subscribed(now);
        for node in 0..3 * SOURCES_MAX as u64 {
            arrive(&mut interest, (node, MESSAGE, place(0, 1, 0)), now + Duration::from_secs(node));
        }
        assert_eq!(interest.topics["p.t.a"].sources.len(), SOURCES_MAX);
    }
}
