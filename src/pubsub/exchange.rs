//! What the cores of a server have in common for topics: how a message gets from one to the others.
//!
//! Each core has an inbox, which any thread fills and only the core empties. Whoever fills an empty
//! one wakes the core, so a batch costs one wake. An inbox has so many places, and room for so many bytes:
//! when one is full, the publisher is told, and nobody is sent the message; nothing is lost in silence.
//!
//! Cores without subscribers are skipped. Each counts its topics in a table of few thousand places,
//! by hash; a place that two topics share costs a message for nothing and no more.
//!
//! A core that ends closes its inbox: what is in it then, or put into it later, is let go, so that
//! nobody waits for what never comes.
//!
//! INVARIANT: `reserved` and `reserved_bytes` of an inbox are the orders that are in it, or about to
//! be, and the bytes of their payloads.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::close_record::CloseRecord;
use crate::conn::MessageKind;
use crate::conn_info::{ConnId, ConnInfo};
use crate::policy::Limits;
use crate::proto::CloseCode;
use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, Wake};
use crate::tap::TapOrder;

use super::{InvalidTopic, Payload, Publication, PublishError, Receipt, TopicPolicy, name};

#[cfg(all(test, loom))]
mod loom_tests;

/// Places of the table in which a core counts its topics. `loom` wants every run to touch the same,
/// and Miri walks over them for very long.
const PRESENCE_SLOTS: usize = if cfg!(any(loom, miri)) { 1 } else { 4096 };

/// What other threads ask of a core.
#[derive(Debug)]
pub(crate) enum Order {
    Publish(Arc<Publication>),
    Send { id: ConnId, kind: MessageKind, payload: Box<[u8]> },
    Close { id: ConnId, code: CloseCode, reason: Box<str> },
    List(Listing),
    ListCloses(ClosesListing),
    Tap(Box<TapOrder>),
    Reconfigure(Box<Limits>),
}

/// Asks a core for some of its connections.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) conns_max: usize,
    pub(crate) answer: Sender<Vec<ConnInfo>>,
}

/// Asks a core for the newest of its connections that have ended.
#[derive(Debug)]
pub(crate) struct ClosesListing {
    pub(crate) records_max: usize,
    pub(crate) answer: Sender<Vec<CloseRecord>>,
}

/// Chooses the policy of a topic.
type ChoosePolicy = dyn Fn(&str) -> TopicPolicy + Send + Sync;

/// What topics are like, and how many there may be.
#[derive(Clone)]
pub(crate) struct TopicSettings {
    /// How the topic of this name treats its subscribers.
    pub(crate) policy: Arc<ChoosePolicy>,
    /// Bytes of a name.
    pub(crate) topic_bytes_max: usize,
    /// Topics of a core.
    pub(crate) topics_max: usize,
    /// Subscriptions of a connection.
    pub(crate) subscriptions_max: usize,
    /// Orders that may wait for a core.
    pub(crate) inbox_orders_max: usize,
    /// Bytes of their payloads from which no more are taken.
    pub(crate) inbox_bytes_max: usize,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            policy: Arc::new(|_| TopicPolicy::default()),
            topic_bytes_max: name::TOPIC_BYTES_MAX,
            topics_max: 1 << 20,
            subscriptions_max: 256,
            inbox_orders_max: 1 << 16,
            inbox_bytes_max: 64 << 20,
        }
    }
}

impl std::fmt::Debug for TopicSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicSettings")
            .field("topic_bytes_max", &self.topic_bytes_max)
            .field("topics_max", &self.topics_max)
            .field("subscriptions_max", &self.subscriptions_max)
            .field("inbox_orders_max", &self.inbox_orders_max)
            .field("inbox_bytes_max", &self.inbox_bytes_max)
            .finish_non_exhaustive()
    }
}

/// Shared by all cores and handles.
pub(crate) struct Exchange {
    ports: Vec<Port>,
    hasher: RandomState,
    pub(super) settings: TopicSettings,
}

/// One core, seen from the others.
struct Port {
    inbox: Inbox,
    presence: Box<[AtomicU32]>,
}

/// Where orders for a core wait.
pub(crate) struct Inbox {
    /// None once it is closed.
    orders: Mutex<Option<Vec<Order>>>,
    reserved: AtomicUsize,
    reserved_bytes: AtomicUsize,
    orders_max: usize,
    bytes_max: usize,
    wake: Wake,
}

impl Exchange {
    /// One core for each of `wakes`.
    pub(crate) fn new<W: Clone + Into<Wake>>(wakes: &[W], settings: TopicSettings) -> Self {
        let port = |wake: &W| Port {
            inbox: Inbox::new(wake.clone().into(), &settings),
            presence: (0..PRESENCE_SLOTS).map(|_| AtomicU32::new(0)).collect(),
        };
        let ports = wakes.iter().map(port).collect();
        Self { ports, hasher: RandomState::new(), settings }
    }

    /// The hash of a topic's name. Its key is random, so nobody can choose names that collide
    /// (row PS05).
    pub(super) fn hash(&self, topic: &str) -> u64 {
        self.hasher.hash_one(topic)
    }

    /// How a topic treats its subscribers.
    pub(super) fn policy(&self, topic: &str) -> TopicPolicy {
        (self.settings.policy)(topic)
    }

    /// A message that may be published.
    pub(super) fn publication(
        &self,
        topic: &str,
        payload: Payload<'_>,
    ) -> Result<Arc<Publication>, InvalidTopic> {
        name::check(topic, self.settings.topic_bytes_max)?;
        Ok(Arc::new(Publication::new(topic, self.hash(topic), payload)))
    }

    /// Hands a message to every core that may have subscribers: by its inbox, or if it is `own`, by
    /// returning true. All of them have room, or none is handed anything.
    pub(super) fn publish(
        &self,
        publication: &Arc<Publication>,
        own: Option<usize>,
    ) -> Result<bool, PublishError> {
        let keeps_history = self.policy(&publication.topic).history > 0;
        let is_concerned =
            |core: usize| keeps_history || self.ports[core].has_topic(publication.hash);
        let others: Vec<&Inbox> = (0..self.ports.len())
            .filter(|&core| Some(core) != own && is_concerned(core))
            .map(|core| &self.ports[core].inbox)
            .collect();
        let bytes = publication.payload.len();
        for (count, inbox) in others.iter().enumerate() {
            if !inbox.reserve(bytes) {
                for inbox in &others[..count] {
                    inbox.release(1, bytes);
                }
                return Err(PublishError::Busy);
            }
        }
        let own = own.is_some_and(is_concerned);
        publication.expect_cores(others.len() + usize::from(own));
        for inbox in others {
            inbox.put(Order::Publish(Arc::clone(publication)));
        }
        Ok(own)
    }

    /// Publishes from a thread that is no core's.
    pub(crate) fn publish_from_outside(
        &self,
        topic: &str,
        payload: Payload<'_>,
    ) -> Result<Receipt, PublishError> {
        let publication = self.publication(topic, payload)?;
        self.publish(&publication, None)?;
        Ok(Receipt::new(publication))
    }

    /// Gives an order to the core of a connection. False if it has no room, or there is no such
    /// core.
    pub(crate) fn order(&self, core: usize, order: Order) -> bool {
        let Some(port) = self.ports.get(core) else { return false };
        let has_room = port.inbox.reserve(order.payload_bytes());
        if has_room {
            port.inbox.put(order);
        }
        has_room
    }

    /// Gives an order to a core even if its inbox is full. For what comes seldom and must not be lost.
    pub(crate) fn order_certainly(&self, core: usize, order: Order) {
        let inbox = &self.ports[core].inbox;
        inbox.reserve_beyond(order.payload_bytes());
        inbox.put(order);
    }

    /// Moves the orders for a core to `orders`, which is empty.
    pub(crate) fn take_orders(&self, core: usize, orders: &mut Vec<Order>) {
        self.ports[core].inbox.take(orders);
    }

    /// Bytes of the payloads that wait for a core.
    pub(super) fn inbox_bytes(&self, core: usize) -> usize {
        self.ports[core].inbox.reserved_bytes.load(Ordering::Relaxed)
    }

    /// A core has ended: orders for it are let go from now on.
    pub(crate) fn close(&self, core: usize) {
        self.ports[core].inbox.close();
    }

    /// All cores have ended.
    pub(crate) fn close_all(&self) {
        self.ports.iter().for_each(|port| port.inbox.close());
    }

    /// Topics that a core has counted.
    #[cfg(any(test, fuzzing))]
    pub(super) fn presence_total(&self, core: usize) -> u32 {
        self.ports[core].presence.iter().map(|slot| slot.load(Ordering::Acquire)).sum()
    }

    /// A core has one more topic, or one less.
    pub(super) fn note_topic(&self, core: usize, hash: u64, is_there: bool) {
        let slot = &self.ports[core].presence[slot_of(hash)];
        if is_there {
            slot.fetch_add(1, Ordering::AcqRel);
        } else {
            slot.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("cores", &self.ports.len()).finish_non_exhaustive()
    }
}

impl Port {
    /// Whether the core may have this topic.
    fn has_topic(&self, hash: u64) -> bool {
        self.presence[slot_of(hash)].load(Ordering::Acquire) > 0
    }
}

impl Inbox {
    fn new(wake: Wake, settings: &TopicSettings) -> Self {
        Self {
            orders: Mutex::new(Some(Vec::new())),
            reserved: AtomicUsize::new(0),
            reserved_bytes: AtomicUsize::new(0),
            orders_max: settings.inbox_orders_max,
            bytes_max: settings.inbox_bytes_max,
            wake,
        }
    }

    /// Reserves a place for an order with a payload of so many bytes; false if there is none. As long
    /// as there is room for one byte there is for all of them: every message fits an empty inbox.
    fn reserve(&self, bytes: usize) -> bool {
        let has_place = self.reserved.fetch_add(1, Ordering::AcqRel) < self.orders_max;
        let has_bytes = self.reserved_bytes.fetch_add(bytes, Ordering::AcqRel) < self.bytes_max;
        let has_room = has_place && has_bytes;
        if !has_room {
            self.release(1, bytes);
        }
        has_room
    }

    /// Reserves a place whether there is one or not.
    fn reserve_beyond(&self, bytes: usize) {
        self.reserved.fetch_add(1, Ordering::AcqRel);
        self.reserved_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn release(&self, count: usize, bytes: usize) {
        self.reserved.fetch_sub(count, Ordering::AcqRel);
        self.reserved_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn release_all(&self, orders: &[Order]) {
        self.release(orders.len(), orders.iter().map(Order::payload_bytes).sum());
    }

    /// Fills a place that is reserved.
    fn put(&self, order: Order) {
        let mut orders = crate::sync::lock(&self.orders);
        let Some(open) = &mut *orders else {
            drop(orders);
            self.release(1, order.payload_bytes());
            order.let_go();
            return;
        };
        open.push(order);
        let is_first = open.len() == 1;
        drop(orders);
        // Those that follow are found by the same look.
        if is_first {
            self.wake.wake();
        }
    }

    fn take(&self, orders: &mut Vec<Order>) {
        debug_assert!(orders.is_empty(), "what was taken before has been dealt with");
        if let Some(open) = &mut *crate::sync::lock(&self.orders) {
            std::mem::swap(open, orders);
        }
        self.release_all(orders);
    }

    fn close(&self) {
        let orders = crate::sync::lock(&self.orders).take().unwrap_or_default();
        self.release_all(&orders);
        orders.into_iter().for_each(Order::let_go);
    }
}

impl Order {
    /// Bytes that it holds beside its place.
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Publish(publication) => publication.payload.len(),
            Self::Send { payload, .. } => payload.len(),
            Self::Close { reason, .. } => reason.len(),
            Self::List(_) | Self::ListCloses(_) | Self::Tap(_) | Self::Reconfigure(_) => 0,
        }
    }

    /// Nobody will carry it out.
    fn let_go(self) {
        match self {
            Self::Publish(publication) => publication.finish_core(),
            // Whoever listens for an answer hears that there is none.
            Self::Send { .. }
            | Self::Close { .. }
            | Self::List(_)
            | Self::ListCloses(_)
            | Self::Tap(_)
            | Self::Reconfigure(_) => {}
        }
    }
}

fn slot_of(hash: u64) -> usize {
    // The low bits choose places of the core's own tables, too.
    (hash >> 40) as usize % PRESENCE_SLOTS
}
