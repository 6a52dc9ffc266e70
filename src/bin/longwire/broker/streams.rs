//! What this node publishes: a number for each message to each topic.
//!
//! The numbers of a topic go up by one for each message, lost ones included, so that others see from
//! a jump how many they have missed. Topics that have been silent for longest are forgotten when
//! there are too many. One that comes back begins at a number that is above all it had.
//!
//! INVARIANT: no stream has a `next` above `count`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::envelope::Place;
use super::names::Subjects;

/// Topics of each of two generations.
const TOPICS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Streams {
    subjects: Subjects,
    /// Topics that were published to since the generations were last changed.
    young: HashMap<Arc<str>, Stream>,
    old: HashMap<Arc<str>, Stream>,
    topics_max: usize,
    /// All numbers given so far.
    count: u64,
}

#[derive(Debug)]
struct Stream {
    subject: Box<str>,
    base: u64,
    next: u64,
    born: Instant,
}

impl Streams {
    pub(super) fn new(subjects: Subjects) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { subjects, young, old, topics_max: TOPICS_MAX, count: 0 }
    }

    /// The place of the next message to a topic, and what the topic is called at the broker.
    pub(super) fn stamp(&mut self, topic: &str, now: Instant) -> (&str, Place) {
        self.count += 1;
        let stream = self.stream(topic, 1, now);
        let place = stream.place(now);
        stream.next += 1;
        (&stream.subject, place)
    }

    /// Messages to a topic have been lost before they had a number.
    pub(super) fn skip(&mut self, topic: &str, lost: u64, now: Instant) {
        self.count += lost;
        self.stream(topic, lost, now).next += lost;
    }

    /// The topics that are counted.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.young.keys().chain(self.old.keys()).map(Arc::clone).collect()
    }

    /// What others should have heard of a topic by now, if it is still counted.
    pub(super) fn mark(&self, topic: &str, now: Instant) -> Option<(&str, Place)> {
        let stream = self.young.get(topic).or_else(|| self.old.get(topic))?;
        Some((&stream.subject, stream.place(now)))
    }

    /// `taken` numbers have just been added to `count` for it.
    fn stream(&mut self, topic: &str, taken: u64, now: Instant) -> &mut Stream {
        if !self.young.contains_key(topic) {
            let (key, stream) = self.old.remove_entry(topic).unwrap_or_else(|| {
                let base = self.count - taken;
                let subject = self.subjects.of(topic).into_boxed_str();
                (topic.into(), Stream { subject, base, next: base, born: now })
            });
            if self.young.len() >= self.topics_max {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, stream);
        }
        self.young.get_mut(topic).expect("it is there, or was inserted")
    }
}

impl Stream {
    fn place(&self, now: Instant) -> Place {
        let age = now.saturating_duration_since(self.born).as_millis();
        let age_millis = u32::try_from(age).unwrap_or(u32::MAX);
        Place { base: self.base, number: self.next, age_millis }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn streams(topics_max: usize) -> Streams {
        Streams { topics_max, ..Streams::new(Subjects::new("p").unwrap()) }
    }

    #[test]
    fn each_topic_counts_by_itself() {
        let mut streams = streams(8);
        let now = Instant::now();
        let place = |base, number, age_millis| Place { base, number, age_millis };
        assert_eq!(streams.stamp("a", now), ("p.t.a", place(0, 0, 0)));
        let later = now + Duration::from_millis(5);
        assert_eq!(streams.stamp("a", later).1, place(0, 1, 5));
        assert_eq!(streams.stamp("b", later).1, place(2, 2, 0));
        streams.skip("a", 10, later);
        assert_eq!(streams.mark("a", later), Some(("p.t.a", place(0, 12, 5))));
        streams.skip("c", 3, later);
        assert_eq!(streams.mark("c", later).unwrap().1, place(13, 16, 0));
        assert_eq!(streams.mark("d", later), None);
    }

    #[test]
    fn forgotten_topic_comes_back_above_its_numbers() {
        let mut streams = streams(2);
        let now = Instant::now();
        streams.skip("a", 100, now);
        for topic in ["b", "c", "d", "e", "f"] {
            streams.stamp(topic, now);
        }
        assert_eq!(streams.mark("a", now), None);
        assert!(streams.topics().len() <= 4);
        let again = streams.stamp("a", now).1;
        assert!(again.base >= 100 && again.base == again.number, "{again:?}");
        // One that is used stays.
        for topic in ["g", "h", "a", "i", "j", "a"] {
            streams.stamp(topic, now);
        }
        assert_eq!(streams.stamp("a", now).1.base, again.base);
    }
}
