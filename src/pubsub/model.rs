//! A literal model of topics, and a run that holds [`Topics`] to it: for the tests here, and for the
//! fuzz target `topics`.
//!
//! Bytes say what happens: who subscribes, leaves and publishes, when a core takes its orders and
//! serves a few subscribers, and what these answer. For every subscription the model keeps a plain
//! list of what it must get. Each offer must be the start of that list; what may be passed over, by
//! the policy of the topic, must be counted as lost. In the end everybody has got everything, every
//! publisher knows what became of its messages, and nothing is left in memory.

mod core;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::conn::MessageKind;
use crate::io::wake::Wake;

use super::{
    Exchange, Order, Payload, PublishError, Receipt, SlowReaders, TopicPolicy, TopicSettings,
};
use core::Core;

const CORES: usize = 2;
const CONNS: u32 = 6;
/// Topics; the last byte of a name is its number.
const NAMES: [&str; 5] = ["t/0", "t/1", "t/2", "t/3", "t/4"];

/// What happened in a run, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) published: usize,
    pub(crate) busy: usize,
    pub(crate) delivered: usize,
    pub(crate) lost: usize,
    pub(crate) later: usize,
    pub(crate) refused: usize,
    pub(crate) from_history: usize,
}

impl Totals {
    /// Adds those of another run.
    #[cfg(test)]
    pub(super) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.busy += other.busy;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.later += other.later;
        self.refused += other.refused;
        self.from_history += other.from_history;
    }
}

/// What is left of the bytes. When they have run out every choice is the first.
#[derive(Debug)]
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |&byte| usize::from(byte) % count)
    }

    fn conn(&mut self) -> u32 {
        u32::try_from(self.below(CONNS as usize)).expect("there are few")
    }
}

/// A message that was published.
#[derive(Debug)]
struct Message {
    topic: usize,
    payload: Vec<u8>,
    receipt: Receipt,
    /// Connections that had subscribed before and were asked, by what they answered.
    queued: usize,
    refused: usize,
    /// Connections that have subscribed since and were sent it as history; whether these count
    /// depends on when they came.
    late: usize,
}

/// What all cores have in common.
#[derive(Debug)]
struct World {
    policies: [TopicPolicy; NAMES.len()],
    topics_max: usize,
    subscriptions_max: usize,
    inbox_orders_max: usize,
    /// By number, which is in the payload.
    messages: Vec<Message>,
    totals: Totals,
}

/// Compares topics with the model for as long as there are bytes.
pub(crate) fn play(bytes: &[u8]) -> Totals {
    let mut choices = Choices(bytes.iter());
    let policies = NAMES.map(|_| policy(&mut choices));
    let mut world = World {
        policies,
        topics_max: [NAMES.len(), 3][choices.below(2)],
        subscriptions_max: [NAMES.len(), 2][choices.below(2)],
        inbox_orders_max: [1000, 1, 3][choices.below(3)],
        messages: Vec::new(),
        totals: Totals::default(),
    };
    let settings = TopicSettings {
        policy: Arc::new(move |name| policies[topic_of(name)]),
        topics_max: world.topics_max,
        subscriptions_max: world.subscriptions_max,
        inbox_orders_max: world.inbox_orders_max,
        ..TopicSettings::default()
    };
    let wakes = [(); CORES].map(|()| Wake::new().expect("a descriptor is left"));
    let exchange = Arc::new(Exchange::new(&wakes, settings));
    let mut cores: Vec<Core> = (0..CORES).map(|core| Core::new(core, &exchange)).collect();
    while choices.0.len() > 0 {
        step(&mut cores, &mut world, &exchange, &mut choices);
    }
    finish(&mut cores, &mut world, &exchange);
    world.totals
}

/// One thing that happens.
fn step(cores: &mut [Core], world: &mut World, exchange: &Exchange, choices: &mut Choices<'_>) {
    let action = choices.below(32);
    let at = choices.below(CORES);
    let core = &mut cores[at];
    match action {
        0..6 => core.subscribe(world, choices.conn(), choices.below(NAMES.len())),
        6..8 => core.unsubscribe(choices.conn(), choices.below(NAMES.len())),
        8 => core.forget(choices.conn()),
        9..15 => {
            let (topic, count) = (choices.below(NAMES.len()), choices.below(5));
            let from = if choices.below(3) == 0 { None } else { Some(at) };
            for _ in 0..=count {
                let len = [4, 5, 200, 4][choices.below(4)];
                publish(cores, world, exchange, choices, (from, topic, len));
            }
        }
        15 => publish(cores, world, exchange, choices, (Some(at), 0, 100_000)),
        16..20 => core.take_orders(world, exchange),
        20..26 => core.serve(world, choices.below(7) + 1, choices),
        26 => core.serve(world, 1000, choices),
        27..30 => core.handle_idle(choices.conn()),
        30 => core.handle_second(world, 1),
        _ => core.handle_second(world, 61),
    }
    cores[at].check(world);
}

/// Publishes from a core or from outside.
fn publish(
    cores: &mut [Core],
    world: &mut World,
    exchange: &Exchange,
    choices: &mut Choices<'_>,
    (from, topic, len): (Option<usize>, usize, usize),
) {
    let id = world.messages.len();
    let payload = payload(id, len);
    let text = str::from_utf8(&payload).expect("it is of ASCII");
    let sent = if choices.below(2) == 0 { text.into() } else { Payload::from(&payload[..]) };
    let published = match from {
        Some(core) => cores[core].topics.publish(NAMES[topic], sent),
        None => exchange.publish_from_outside(NAMES[topic], sent),
    };
    let receipt = match published {
        Ok(receipt) => receipt,
        Err(error) => {
            assert_eq!(error, PublishError::Busy);
            let is_full = |core: &Core| core.inbox.len() >= world.inbox_orders_max;
            let others = cores.iter().enumerate().filter(|(core, _)| Some(*core) != from);
            assert!(others.map(|(_, core)| core).any(is_full), "an inbox is full");
            world.totals.busy += 1;
            return;
        }
    };
    world.totals.published += 1;
    world.messages.push(Message { topic, payload, receipt, queued: 0, refused: 0, late: 0 });
    let keeps_history = world.policies[topic].history > 0;
    for (at, core) in cores.iter_mut().enumerate() {
        if Some(at) == from {
            core.accept(world, id);
        } else {
            core.inbox.push_back((id, keeps_history || core.logs[topic].is_some()));
        }
    }
}

/// Serves everybody, and checks what must hold then.
fn finish(cores: &mut [Core], world: &mut World, exchange: &Exchange) {
    // With no byte left, every answer is that it is queued.
    let mut choices = Choices([].iter());
    for core in &mut *cores {
        core.take_orders(world, exchange);
        core.serve_all(world, &mut choices);
        core.check(world);
        core.check_presence(exchange);
        core.check_behind();
        (0..CONNS).for_each(|conn| core.handle_idle(conn));
        core.serve_all(world, &mut choices);
        core.check_served();
    }
    for (id, message) in world.messages.iter().enumerate() {
        let delivery = message.receipt.delivery();
        let delivery = delivery.unwrap_or_else(|| panic!("{id}: the publisher is told"));
        let Message { queued, refused, late, .. } = *message;
        assert!((queued..=queued + late).contains(&delivery.queued), "{id}: {delivery:?} {queued}");
        assert!((refused..=refused + late).contains(&delivery.refused), "{id}: {delivery:?}");
    }
    for (at, core) in cores.iter_mut().enumerate() {
        (0..CONNS).for_each(|conn| core.forget(conn));
        core.handle_second(world, 62);
        assert_eq!((core.topics.topic_count(), core.topics.subscription_count()), (0, 0));
        assert_eq!(core.topics.held_bytes(), 0, "no message is kept");
        assert_eq!(exchange.presence_total(at), 0, "no topic is counted");
        assert!(!core.topics.has_work());
    }
}

fn policy(choices: &mut Choices<'_>) -> TopicPolicy {
    let slow_readers = match choices.below(6) {
        0..2 => SlowReaders::Close,
        2 => SlowReaders::DropOldest(1),
        3 => SlowReaders::DropOldest(4),
        4 => SlowReaders::DropOldest(9),
        _ => SlowReaders::Latest,
    };
    let history = [0, 0, 1, 5][choices.below(4)];
    TopicPolicy::new().slow_readers(slow_readers).history(history)
}

fn topic_of(name: &str) -> usize {
    NAMES.iter().position(|other| *other == name).expect("only these are in use")
}

/// The number, then its last digit again and again.
fn payload(id: usize, len: usize) -> Vec<u8> {
    let mut payload = format!("{id:04}").into_bytes();
    payload.resize(len.max(4), b'0' + u8::try_from(id % 10).expect("one digit"));
    payload
}

/// The number in a payload.
fn id_of(payload: &[u8]) -> usize {
    str::from_utf8(&payload[..4]).ok().and_then(|digits| digits.parse().ok()).expect("four digits")
}
