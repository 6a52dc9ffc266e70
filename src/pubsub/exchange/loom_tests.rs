//! The inbox of a core, under every order in which publishers and the core may take their steps:
//! `make loom`.
//!
//! A lost wake-up shows as a deadlock, which `loom` reports.

use loom::thread;

use super::*;
use crate::pubsub::Delivery;

/// Steps at which a thread may be interrupted; more find nothing new and take minutes.
const INTERRUPTIONS_MAX: usize = 3;

fn explore(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS_MAX);
    builder.check(run);
}

/// Cores with a topic each, whose inboxes have so many places.
fn exchange(wakes: &[Wake], inbox_orders_max: usize) -> Arc<Exchange> {
    let settings = TopicSettings { inbox_orders_max, ..TopicSettings::default() };
    let exchange = Exchange::new(wakes, settings);
    for core in 0..wakes.len() {
        exchange.note_topic(core, exchange.hash("topic"), true);
    }
    Arc::new(exchange)
}

fn publish(exchange: &Exchange, text: &str) -> bool {
    exchange.publish_from_outside("topic", text.into()).is_ok()
}

/// What a core is handed now.
fn take(exchange: &Exchange, core: usize) -> Vec<String> {
    let mut orders = Vec::new();
    exchange.take_orders(core, &mut orders);
    let text = |order| match order {
        Order::Publish(publication) => String::from_utf8(publication.payload.to_vec()).unwrap(),
        other => panic!("nobody has given {other:?}"),
    };
    orders.into_iter().map(text).collect()
}

fn reserved(exchange: &Exchange, core: usize) -> usize {
    exchange.ports[core].inbox.reserved.load(Ordering::Acquire)
}

#[test]
fn core_that_waits_for_wakes_gets_all_orders_once_and_those_of_each_publisher_in_order() {
    explore(|| {
        let wake = Wake::new();
        let exchange = exchange(std::slice::from_ref(&wake), 8);
        let publishers = ["a", "b"].map(|name| {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                for number in 0..2 {
                    assert!(publish(&exchange, &format!("{name}{number}")), "there is room");
                }
            })
        });
        let mut taken = Vec::new();
        while taken.len() < 4 {
            wake.wait();
            taken.extend(take(&exchange, 0));
        }
        for name in ["a", "b"] {
            let own: Vec<&String> = taken.iter().filter(|text| text.starts_with(name)).collect();
            assert_eq!(own, [&format!("{name}0"), &format!("{name}1")], "{taken:?}");
        }
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert_eq!(take(&exchange, 0), [""; 0]);
        assert_eq!(reserved(&exchange, 0), 0);
    });
}

#[test]
fn inbox_takes_no_more_than_it_has_places_for_and_loses_nothing_it_took() {
    explore(|| {
        let exchange = exchange(&[Wake::new()], 1);
        let publishers = ["a", "b"].map(|name| {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || publish(&exchange, name).then_some(name))
        });
        let mut taken = take(&exchange, 0);
        assert!(taken.len() <= 1, "{taken:?}");
        let accepted = publishers.map(|publisher| publisher.join().unwrap());
        let rest = take(&exchange, 0);
        assert!(rest.len() <= 1, "{rest:?}");
        taken.extend(rest);
        taken.sort();
        assert_eq!(taken, accepted.into_iter().flatten().collect::<Vec<_>>());
        assert!(!taken.is_empty(), "the first had room");
        assert_eq!(reserved(&exchange, 0), 0);
        assert!(publish(&exchange, "c"), "there is room again");
    });
}

#[test]
fn message_for_two_cores_is_handed_to_both_or_to_none() {
    explore(|| {
        let exchange = exchange(&[Wake::new(), Wake::new()], 1);
        let publishers = ["a", "b"].map(|name| {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || publish(&exchange, name).then_some(name))
        });
        let mut taken = [take(&exchange, 0), Vec::new()];
        let accepted = publishers.map(|publisher| publisher.join().unwrap());
        for (core, taken) in taken.iter_mut().enumerate() {
            taken.extend(take(&exchange, core));
            taken.sort();
            let accepted: Vec<&str> = accepted.into_iter().flatten().collect();
            assert_eq!(*taken, accepted, "core {core}");
            assert_eq!(reserved(&exchange, core), 0);
        }
    });
}

#[test]
fn publisher_is_told_of_every_message_when_the_core_ends_as_it_publishes() {
    explore(|| {
        let exchange = exchange(&[Wake::new()], 8);
        let publishers = ["a", "b"].map(|name| {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || exchange.publish_from_outside("topic", name.into()).unwrap())
        });
        exchange.close(0);
        for publisher in publishers {
            let receipt = publisher.join().unwrap();
            assert_eq!(receipt.delivery(), Some(Delivery::default()));
        }
        assert_eq!(take(&exchange, 0), [""; 0]);
        assert_eq!(reserved(&exchange, 0), 0);
    });
}
