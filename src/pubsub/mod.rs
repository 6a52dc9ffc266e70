//! Topics: a message for one is sent to all connections that subscribe to it, on every core.
//!
//! Each core keeps the topics of its own connections ([`Topics`]) and serves them itself; a message
//! that is published on one core reaches the others through their inboxes ([`exchange`]). It is
//! encoded once on each core and sent from there to every subscriber ([`log`]); a core serves its
//! subscribers in slices, so that a large topic keeps nobody waiting ([`topic`]).
//!
//! What is promised: the messages of one publisher to one topic reach each subscriber in their order,
//! and each of them at most once. What is lost on the way to a slow reader is counted.

mod exchange;
mod log;
#[cfg(any(test, fuzzing))]
pub(crate) mod model;
mod name;
mod offer;
mod payload;
mod policy;
mod publication;
#[cfg(test)]
mod tests;
mod topic;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

pub(crate) use exchange::{ClosesListing, Exchange, Listing, Order, TopicSettings};
#[cfg(any(test, fuzzing))]
pub(crate) use log::Share;
pub use name::InvalidTopic;
pub(crate) use offer::{Offer, Taken};
pub use payload::Payload;
pub use policy::{SlowReaders, TopicPolicy};
pub(crate) use publication::Publication;
pub use publication::{Delivery, Receipt};
use topic::Topic;

/// Subscribers served of one topic before it is another's turn.
const SLICE_LEN: usize = 256;
/// How long a core keeps a history from the last message on, or when its last subscriber has left.
const IDLE_SECONDS_MAX: u32 = 60;
/// Ends the list of a connection's subscriptions.
const NONE: u32 = u32::MAX;

/// Why a connection was not subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The connection is closing or closed.
    Closed,
    /// No topic has such a name.
    Invalid(InvalidTopic),
    /// The connection has as many subscriptions as it may have
    /// ([`subscriptions_max`](crate::Builder::subscriptions_max)). One that goes on asking for more,
    /// over a hundred times a second, is closed with 1008.
    TooMany,
    /// The core has as many topics as it may have ([`topics_max`](crate::Builder::topics_max)).
    TooManyTopics,
}

/// Why nothing was published. Nobody has been sent the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// No topic has such a name.
    Invalid(InvalidTopic),
    /// A core that may have subscribers has as many orders waiting as it may have
    /// ([`inbox_orders_max`](crate::Builder::inbox_orders_max)), or as many bytes of them
    /// ([`inbox_bytes_max`](crate::Builder::inbox_bytes_max)): try again in a moment. No core has
    /// been handed the message.
    Busy,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
            Self::Invalid(error) => error.fmt(f),
            Self::TooMany => f.write_str("the connection has too many subscriptions"),
            Self::TooManyTopics => f.write_str("there are too many topics"),
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Busy => f.write_str("too many messages wait to be delivered; try again later"),
        }
    }
}

impl std::error::Error for SubscribeError {}
impl std::error::Error for PublishError {}

impl From<InvalidTopic> for SubscribeError {
    fn from(error: InvalidTopic) -> Self {
        Self::Invalid(error)
    }
}

impl From<InvalidTopic> for PublishError {
    fn from(error: InvalidTopic) -> Self {
        Self::Invalid(error)
    }
}

/// The topics of one core, and who subscribes to them.
///
/// ```text
/// names   "prices" -> 3        topics[3].members   |conn 7, sub 0|conn 9, sub 2|
/// pairs   (3, conn 9) -> 2     subscriptions[2]    topic 3, position 1, next of conn 9
/// conns   [9].first -> 2
/// ```
///
/// INVARIANT: a subscription and its member name each other; the subscriptions of a connection are a
/// list in both directions; `pairs` has each of them once; a topic is in `line` if `is_in_line`.
pub(crate) struct Topics {
    core: usize,
    exchange: Arc<Exchange>,
    names: HashTable<u32>,
    topics: Slab<Topic>,
    pairs: HashTable<u32>,
    pair_hasher: DefaultHashBuilder,
    subscriptions: Vec<Subscription>,
    /// Places of `subscriptions` that are not in use.
    free: Vec<u32>,
    /// By slot of the connection; only as long as there were subscribers.
    conns: Vec<Subscriber>,
    /// Topics with messages that are still to be sent.
    line: VecDeque<u32>,
    /// Connections that may take what they have not been given yet.
    ready: Vec<u32>,
    /// Memory of messages that are sent, or kept.
    alive_bytes: Rc<Cell<usize>>,
    /// Messages taken up so far.
    published_count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    topic: u32,
    /// Its place among the members of the topic.
    position: u32,
    /// The connection's subscriptions after and before this one.
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy, Debug)]
struct Subscriber {
    first: u32,
    count: u16,
    /// Asked for more than it may have, in this second.
    refused_count: u8,
    /// Has not been given something that it can be given later.
    is_behind: bool,
}

const NO_SUBSCRIBER: Subscriber =
    Subscriber { first: NONE, count: 0, refused_count: 0, is_behind: false };
/// What a connection may ask for in vain in a second before it is closed (row PS01).
const REFUSED_PER_SECOND_MAX: u8 = 100;

const _: () = assert!(size_of::<Subscription>() == 16 && size_of::<Subscriber>() == 8);

impl Topics {
    /// No topics, on this core.
    pub(crate) fn new(core: usize, exchange: Arc<Exchange>) -> Self {
        Self {
            core,
            exchange,
            names: HashTable::new(),
            topics: Slab::new(),
            pairs: HashTable::new(),
            pair_hasher: DefaultHashBuilder::default(),
            subscriptions: Vec::new(),
            free: Vec::new(),
            conns: Vec::new(),
            line: VecDeque::new(),
            ready: Vec::new(),
            alive_bytes: Rc::default(),
            published_count: 0,
        }
    }

    /// The number of this core.
    pub(crate) fn core(&self) -> usize {
        self.core
    }

    /// Subscribes a connection. False if it was subscribed already.
    pub(crate) fn subscribe(&mut self, conn: u32, name: &str) -> Result<bool, SubscribeError> {
        let settings = &self.exchange.settings;
        name::check(name, settings.topic_bytes_max)?;
        let hash = self.exchange.hash(name);
        let found = self.find(name, hash);
        if let Some(topic) = found
            && self.find_pair(topic, conn).is_some()
        {
            return Ok(false);
        }
        let index = conn as usize;
        if index >= self.conns.len() {
            make_room(&mut self.conns, index + 1);
            self.conns.resize(index + 1, NO_SUBSCRIBER);
        }
        let subscriber = &mut self.conns[index];
        if usize::from(subscriber.count) >= settings.subscriptions_max {
            subscriber.refused_count = subscriber.refused_count.saturating_add(1);
            return Err(SubscribeError::TooMany);
        }
        let topic =
            found.or_else(|| self.create(name, hash)).ok_or(SubscribeError::TooManyTopics)?;
        let has_history = self.link(topic, conn);
        if has_history {
            self.ready.push(conn);
        }
        Ok(true)
    }

    /// Ends a subscription. False if there is none.
    pub(crate) fn unsubscribe(&mut self, conn: u32, name: &str) -> bool {
        let topic = self.find(name, self.exchange.hash(name));
        let Some(subscription) = topic.and_then(|topic| self.find_pair(topic, conn)) else {
            return false;
        };
        self.unlink(conn, subscription);
        true
    }

    /// Ends all subscriptions of a connection.
    pub(crate) fn forget(&mut self, conn: u32) {
        while let Some(&Subscriber { first, .. }) = self.conns.get(conn as usize)
            && first != NONE
        {
            self.unlink(conn, first);
        }
        if let Some(subscriber) = self.conns.get_mut(conn as usize) {
            *subscriber = NO_SUBSCRIBER;
        }
    }

    /// Whether a connection has asked for more subscriptions than it may have, again and again.
    pub(crate) fn is_unruly(&self, conn: u32) -> bool {
        self.conns
            .get(conn as usize)
            .is_some_and(|subscriber| subscriber.refused_count > REFUSED_PER_SECOND_MAX)
    }

    /// Names of the topics of a connection, up to so many.
    pub(crate) fn of_conn(&self, conn: u32, count_max: usize) -> Vec<String> {
        let first = self.conns.get(conn as usize).map_or(NONE, |subscriber| subscriber.first);
        let place = |at: u32| (at != NONE).then(|| (at, self.subscriptions[at as usize]));
        std::iter::successors(place(first), |(_, subscription)| place(subscription.next))
            .take(count_max)
            .map(|(_, subscription)| self.topics[subscription.topic as usize].name.to_string())
            .collect()
    }

    /// Publishes a message from this core.
    pub(crate) fn publish(
        &mut self,
        name: &str,
        payload: Payload<'_>,
    ) -> Result<Receipt, PublishError> {
        let publication = self.exchange.publication(name, payload)?;
        if self.exchange.publish(&publication, Some(self.core))? {
            self.accept(&publication);
        }
        Ok(Receipt::new(publication))
    }

    /// Takes up a message for the subscribers of this core.
    pub(crate) fn accept(&mut self, publication: &Arc<Publication>) {
        let found = self.find(&publication.topic, publication.hash);
        let Some(index) = found.or_else(|| self.create_for_history(publication)) else {
            publication.finish_core();
            return;
        };
        self.published_count += 1;
        let topic = &mut self.topics[index as usize];
        topic.log.push(publication);
        topic.idle_seconds = 0;
        if !std::mem::replace(&mut topic.is_in_line, true) {
            self.line.push_back(index);
        }
    }

    /// Whether somebody can be served now.
    pub(crate) fn has_work(&self) -> bool {
        !self.line.is_empty() || !self.ready.is_empty()
    }

    /// A connection has sent all that was queued. Cheap, for it is asked after every send.
    #[inline]
    pub(crate) fn handle_idle(&mut self, conn: u32) {
        if let Some(subscriber) = self.conns.get_mut(conn as usize)
            && subscriber.is_behind
        {
            subscriber.is_behind = false;
            self.ready.push(conn);
        }
    }

    /// Offers messages to up to `budget` subscribers. Returns how many messages were given up for
    /// those that read slowly.
    pub(crate) fn serve(
        &mut self,
        budget: usize,
        mut offer: impl FnMut(u32, Offer<'_>) -> Taken,
    ) -> usize {
        let Self { conns, topics, line, ready, subscriptions, .. } = self;
        let (mut budget, mut lost) = (budget, 0);
        let ready_count = ready.len().min(budget);
        budget -= ready_count;
        for conn in ready.drain(..ready_count) {
            let mut at = conns[conn as usize].first;
            let mut offer = |conn, asked: Offer<'_>| note(conns, conn, offer(conn, asked));
            while at != NONE {
                let Subscription { topic, position, next, .. } = subscriptions[at as usize];
                topics[topic as usize].catch_up(position, &mut lost, &mut offer);
                at = next;
            }
        }
        let mut emptied = Vec::new();
        let mut offer = |conn, asked: Offer<'_>| note(conns, conn, offer(conn, asked));
        while budget > 0
            && let Some(index) = line.pop_front()
        {
            let topic = &mut topics[index as usize];
            let slice = budget.min(SLICE_LEN);
            let mut left = slice;
            topic.serve_slice(&mut left, &mut lost, &mut offer);
            budget -= slice - left;
            topic.is_in_line = topic.has_work();
            if topic.is_in_line {
                line.push_back(index);
            } else if topic.members.is_empty() {
                emptied.push(index);
            }
        }
        for index in emptied {
            self.free_if_unused(index);
        }
        lost
    }

    /// A second has passed: topics that nobody needs are freed.
    pub(crate) fn handle_second(&mut self) {
        for subscriber in &mut self.conns {
            subscriber.refused_count = 0;
        }
        let idle = |(index, topic): (usize, &mut Topic)| {
            topic.idle_seconds =
                if topic.members.is_empty() { topic.idle_seconds.saturating_add(1) } else { 0 };
            (topic.idle_seconds > IDLE_SECONDS_MAX && !topic.is_in_line).then_some(index)
        };
        let idle: Vec<usize> = self.topics.iter_mut().filter_map(idle).collect();
        for index in idle {
            self.free(index);
        }
        if self.topics.is_empty() {
            // After a peak its memory goes back.
            self.names.shrink_to(0, |_| 0);
            self.pairs.shrink_to(0, |_| 0);
            self.topics.shrink_to_fit();
            (self.subscriptions, self.free, self.conns) = (Vec::new(), Vec::new(), Vec::new());
            // Those who were are no subscribers any more.
            self.ready = Vec::new();
        }
    }

    /// Some of the subscribers of a topic.
    pub(crate) fn subscribers(&self, name: &str, count_max: usize) -> Vec<u32> {
        let Some(topic) = self.find(name, self.exchange.hash(name)) else { return Vec::new() };
        let members = self.topics[topic as usize].members.iter();
        members.take(count_max).map(|member| member.conn).collect()
    }

    /// Messages that were taken up for subscribers of this core.
    pub(crate) fn published_count(&self) -> u64 {
        self.published_count
    }

    /// Topics of this core.
    pub(crate) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Subscriptions of this core.
    pub(crate) fn subscription_count(&self) -> usize {
        self.pairs.len()
    }

    /// Bytes of the messages that are being sent or kept, or wait for this core.
    pub(crate) fn held_bytes(&self) -> usize {
        self.alive_bytes.get() + self.exchange.inbox_bytes(self.core)
    }

    fn find(&self, name: &str, hash: u64) -> Option<u32> {
        let is_it = |&index: &u32| *self.topics[index as usize].name == *name;
        self.names.find(hash, is_it).copied()
    }

    fn find_pair(&self, topic: u32, conn: u32) -> Option<u32> {
        let is_it = |&at: &u32| self.pair_at(at) == (topic, conn);
        self.pairs.find(self.pair_hasher.hash_one((topic, conn)), is_it).copied()
    }

    fn pair_at(&self, subscription: u32) -> (u32, u32) {
        pair_of(&self.topics, &self.subscriptions, subscription)
    }

    fn create(&mut self, name: &str, hash: u64) -> Option<u32> {
        if self.topics.len() >= self.exchange.settings.topics_max {
            return None;
        }
        let policy = self.exchange.policy(name);
        let topic = Topic::new(name, hash, policy, &self.alive_bytes);
        let index = u32::try_from(self.topics.insert(topic)).ok()?;
        let topics = &self.topics;
        self.names.insert_unique(hash, index, |&index| topics[index as usize].hash);
        self.exchange.note_topic(self.core, hash, true);
        Some(index)
    }

    /// A topic without subscribers here, whose messages are kept for those to come.
    fn create_for_history(&mut self, publication: &Publication) -> Option<u32> {
        let Publication { topic, hash, .. } = publication;
        let keeps_history = self.exchange.policy(topic).history > 0;
        keeps_history.then(|| self.create(topic, *hash)).flatten()
    }

    /// Makes a subscription. True if there is a history to be sent.
    fn link(&mut self, topic: u32, conn: u32) -> bool {
        let subscriber = &mut self.conns[conn as usize];
        let at = self.free.pop().unwrap_or_else(|| {
            u32::try_from(self.subscriptions.len()).expect("subscriptions fit 32 bits")
        });
        let (position, has_history) = self.topics[topic as usize].join(conn, at);
        let next = std::mem::replace(&mut subscriber.first, at);
        subscriber.count += 1;
        if next != NONE {
            self.subscriptions[next as usize].previous = at;
        }
        let subscription = Subscription { topic, position, next, previous: NONE };
        match self.subscriptions.get_mut(at as usize) {
            Some(place) => *place = subscription,
            None => {
                make_room(&mut self.subscriptions, at as usize + 1);
                self.subscriptions.push(subscription);
            }
        }
        let (topics, subscriptions, hasher) =
            (&self.topics, &self.subscriptions, &self.pair_hasher);
        let hash_at = |&at: &u32| hasher.hash_one(pair_of(topics, subscriptions, at));
        self.pairs.insert_unique(hasher.hash_one((topic, conn)), at, hash_at);
        has_history
    }

    fn unlink(&mut self, conn: u32, at: u32) {
        let Subscription { topic, position, next, previous } = self.subscriptions[at as usize];
        let hash = self.pair_hasher.hash_one((topic, conn));
        if let Ok(pair) = self.pairs.find_entry(hash, |&other| other == at) {
            pair.remove();
        }
        let subscriber = &mut self.conns[conn as usize];
        subscriber.count -= 1;
        match previous {
            NONE => subscriber.first = next,
            previous => self.subscriptions[previous as usize].next = next,
        }
        if next != NONE {
            self.subscriptions[next as usize].previous = previous;
        }
        self.free.push(at);
        let subscriptions = &mut self.subscriptions;
        self.topics[topic as usize]
            .leave(position, |moved, position| subscriptions[moved as usize].position = position);
        self.free_if_unused(topic);
    }

    /// Frees a topic without subscribers, unless it keeps a history or stands in line.
    fn free_if_unused(&mut self, index: u32) {
        let topic = &self.topics[index as usize];
        if topic.members.is_empty() && !topic.is_in_line && topic.policy.history == 0 {
            self.free(index as usize);
        }
    }

    fn free(&mut self, index: usize) {
        let Topic { hash, .. } = self.topics[index];
        if let Ok(name) = self.names.find_entry(hash, |&other| other as usize == index) {
            name.remove();
        }
        self.topics.remove(index);
        self.exchange.note_topic(self.core, hash, false);
    }
}

impl Drop for Topics {
    /// The core serves nobody any more.
    fn drop(&mut self) {
        for (_, topic) in &self.topics {
            self.exchange.note_topic(self.core, topic.hash, false);
        }
        self.exchange.close(self.core);
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topics, subscriptions) = (self.topic_count(), self.subscription_count());
        write!(f, "Topics({topics} topics, {subscriptions} subscriptions)")
    }
}

/// The topic and the connection of a subscription.
fn pair_of(topics: &Slab<Topic>, subscriptions: &[Subscription], at: u32) -> (u32, u32) {
    let Subscription { topic, position, .. } = subscriptions[at as usize];
    (topic, topics[topic as usize].members[position as usize].conn)
}

/// Makes room for so many, and a quarter more: twice as many would cost a connection more memory than
/// a subscription may.
fn make_room<T>(places: &mut Vec<T>, count: usize) {
    if count > places.capacity() {
        let wanted = count.max(places.len() + places.len() / 4 + 4);
        places.reserve_exact(wanted - places.len());
    }
}

/// Remembers who is to be asked again.
fn note(conns: &mut [Subscriber], conn: u32, taken: Taken) -> Taken {
    if taken == Taken::Later {
        conns[conn as usize].is_behind = true;
    }
    taken
}
