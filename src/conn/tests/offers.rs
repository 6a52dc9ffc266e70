//! Messages of topics that are offered to a connection: what it takes, and what is counted.

use std::sync::Arc;

use crate::conn::MessageKind;
use crate::io::wake::Wake;
use crate::metrics::Stats;
use crate::policy::{Limits, Overflow};
use crate::pubsub::{Delivery, Exchange, TopicSettings, Topics};

use super::rig::{Rig, Window, listen};
use super::wire::ANSWER;

/// Queues so many bytes at most, and drops what is beyond them.
fn limits() -> Limits {
    Limits { send_bytes_max: 1000, overflow: Overflow::Drop, ..Limits::default() }
}

/// Publishes messages of this many bytes to a connection that subscribes; what became of each.
fn offer(rig: &mut Rig, messages: &[usize]) -> Vec<Delivery> {
    let exchange = Exchange::new(&[Wake::new().unwrap()], TopicSettings::default());
    let mut topics = Topics::new(0, Arc::new(exchange));
    topics.subscribe(0, "a").unwrap();
    let publish = |&bytes: &usize| topics.publish("a", "x".repeat(bytes).as_str().into()).unwrap();
    let receipts: Vec<_> = messages.iter().map(publish).collect();
    topics.serve(1, |_, offer| rig.act(|connection, core| offer.make(connection, core)));
    receipts.iter().map(|receipt| receipt.delivery().expect("all have been served")).collect()
}

fn stats(rig: &Rig) -> Stats {
    let mut stats = Stats::default();
    stats.add(&rig.core.metrics);
    stats
}

const QUEUED: Delivery = Delivery { queued: 1, refused: 0 };
const REFUSED: Delivery = Delivery { queued: 0, refused: 1 };

#[test]
fn bp01_each_message_that_a_full_queue_refuses_is_counted_as_dropped() {
    let mut rig = Rig::open_within(listen, limits());
    rig.window = Window::Room(0);
    rig.act(|c, core| c.send(MessageKind::Binary, &[0; 2000], core)).unwrap();
    assert_eq!(offer(&mut rig, &[10, 20, 30]), [REFUSED; 3]);
    let stats = stats(&rig);
    assert_eq!((stats.dropped, stats.sent_messages), (3, 1));
    rig.release();
}

#[test]
fn bp01_messages_that_a_queue_takes_before_it_is_full_are_told_from_those_it_does_not() {
    // A client masks each message for itself, so it is given them one by one.
    let mut rig = Rig::dialling_within(listen, limits());
    rig.act(|_, _| {});
    rig.receive(ANSWER);
    rig.window = Window::Room(0);
    let told = offer(&mut rig, &[600, 500, 10, 10, 10]);
    assert_eq!(told, [QUEUED, QUEUED, REFUSED, REFUSED, REFUSED]);
    let stats = stats(&rig);
    assert_eq!((stats.dropped, stats.sent_messages, stats.sent_bytes), (3, 2, 1100));
    rig.release();
}
