//! Single cases: limits, slices, and what once went wrong.

use std::sync::Arc;

use crate::io::wake::Wake;
use crate::pubsub::{
    Delivery, Exchange, IDLE_SECONDS_MAX, Offer, Order, PublishError, SLICE_LEN, SlowReaders,
    SubscribeError, Taken, TopicPolicy, TopicSettings, Topics,
};

/// Topics of the only core, all of this policy.
fn topics(policy: TopicPolicy) -> Topics {
    topics_with(TopicSettings { policy: Arc::new(move |_| policy), ..TopicSettings::default() })
}

fn topics_with(settings: TopicSettings) -> Topics {
    let wakes = [Wake::new().unwrap()];
    Topics::new(0, Arc::new(Exchange::new(&wakes, settings)))
}

fn slow(slow_readers: SlowReaders) -> TopicPolicy {
    TopicPolicy::new().slow_readers(slow_readers)
}

/// What is offered, as text.
fn texts(mut offer: Offer<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    offer.share.each_message(|publication| {
        texts.push(String::from_utf8(publication.payload.to_vec()).unwrap());
    });
    texts
}

/// Serves all that are due; who was offered what.
fn serve_all(topics: &mut Topics, taken: Taken) -> Vec<(u32, Vec<String>)> {
    let mut offers = Vec::new();
    while topics.has_work() {
        topics.serve(3, |conn, offer| {
            offers.push((conn, texts(offer)));
            taken
        });
    }
    offers
}

/// Takes up what was published elsewhere.
fn take_orders(exchange: &Exchange, topics: &mut Topics) {
    let mut orders = Vec::new();
    exchange.take_orders(topics.core(), &mut orders);
    for order in orders {
        let Order::Publish(publication) = order else { panic!("nothing else was ordered") };
        topics.accept(&publication);
    }
}

#[test]
fn ps01_connection_has_so_many_subscriptions_and_asks_for_more_a_hundred_times_a_second() {
    let mut topics = topics_with(TopicSettings { subscriptions_max: 3, ..Default::default() });
    for name in ["a", "b", "c"] {
        assert_eq!(topics.subscribe(7, name), Ok(true));
    }
    for second in 0..3 {
        for _ in 0..100 {
            assert_eq!(topics.subscribe(7, "d"), Err(SubscribeError::TooMany));
        }
        assert!(!topics.is_unruly(7), "a hundred in second {second}");
        topics.handle_second();
    }
    assert_eq!(topics.subscribe(7, "a"), Ok(false), "that is no more than it has");
    for _ in 0..101 {
        assert_eq!(topics.subscribe(7, "d"), Err(SubscribeError::TooMany));
    }
    assert!(topics.is_unruly(7));
    assert!(!topics.is_unruly(8));
    assert_eq!(topics.topic_count(), 3, "what is refused leaves no topic");
    for _ in 0..1000 {
        let _ = topics.subscribe(7, "d");
    }
    assert!(topics.is_unruly(7), "the count has no end to go past");
    topics.forget(7);
    assert!(!topics.is_unruly(7), "the next connection of the slot begins anew");
    assert_eq!(topics.subscribe(7, "d"), Ok(true));
}

#[test]
fn ps02_names_come_and_go_without_a_trace() {
    const COUNT: u32 = if cfg!(miri) { 30 } else { 100_000 };
    let mut topics = topics(TopicPolicy::new());
    for n in 0..COUNT {
        let name = format!("one_of_many_{n}");
        assert_eq!(topics.subscribe(n % 50, &name), Ok(true));
        assert_eq!(topics.topic_count(), 1);
        topics.publish(&name, "x".into()).map(drop).unwrap();
        if n % 2 == 0 {
            assert_eq!(serve_all(&mut topics, Taken::Queued).len(), 1);
        }
        topics.forget(n % 50);
        let _ = serve_all(&mut topics, Taken::Queued);
        assert_eq!(topics.topic_count(), 0);
    }
    assert!(topics.subscriptions.len() <= 1 && topics.topics.capacity() <= 8, "places are reused");
    topics.handle_second();
    assert_eq!(topics.held_bytes(), 0);
    assert_eq!(topics.exchange.presence_total(0), 0);
    let left = [topics.names.capacity(), topics.pairs.capacity(), topics.topics.capacity()];
    assert_eq!(left, [0; 3], "tables are freed");
    assert_eq!(topics.conns.capacity() + topics.subscriptions.capacity(), 0);
}

#[test]
fn ps02_core_has_so_many_topics() {
    let mut topics = topics_with(TopicSettings { topics_max: 2, ..Default::default() });
    assert_eq!(topics.subscribe(0, "a"), Ok(true));
    assert_eq!(topics.subscribe(0, "b"), Ok(true));
    assert_eq!(topics.subscribe(1, "c"), Err(SubscribeError::TooManyTopics));
    assert_eq!(topics.subscribe(1, "b"), Ok(true), "those that are there are open to all");
    assert!(topics.unsubscribe(0, "a"));
    assert_eq!(topics.subscribe(1, "c"), Ok(true), "there is room again");
}

#[test]
fn ps05_each_server_hashes_names_with_a_key_of_its_own() {
    let [one, other] = [topics(TopicPolicy::new()), topics(TopicPolicy::new())];
    let hashes = |topics: &Topics| ["a", "b", "c"].map(|name| topics.exchange.hash(name));
    assert_eq!(hashes(&one), hashes(&one));
    assert_ne!(hashes(&one), hashes(&other), "nobody can choose names that collide");
}

#[test]
fn ps06_small_topic_waits_for_one_slice_of_a_large_one() {
    const LARGE: u32 = if cfg!(miri) { 300 } else { 10_000 };
    let mut topics = topics(TopicPolicy::new());
    for conn in 0..LARGE {
        topics.subscribe(conn, "large").unwrap();
    }
    topics.subscribe(LARGE, "small").unwrap();
    for budget in [7, 64, 1024, 1 << 20] {
        for name in ["large", "small"] {
            topics.publish(name, "x".into()).map(drop).unwrap();
        }
        let (mut before, mut small) = (0, None);
        while topics.has_work() {
            topics.serve(budget, |conn, _| {
                if conn == LARGE {
                    small = Some(before);
                }
                before += 1;
                Taken::Queued
            });
        }
        assert_eq!(before, LARGE as usize + 1);
        let waited = small.expect("it is served");
        assert!(waited <= SLICE_LEN.min(budget), "{waited} come before it");
    }
}

#[test]
fn ps07_connection_that_waits_is_counted_once_wherever_it_is_moved() {
    let mut topics = topics(slow(SlowReaders::DropOldest(4)));
    for conn in 0..3 {
        topics.subscribe(conn, "a").unwrap();
    }
    let receipt = topics.publish("a", "x".into()).unwrap();
    topics.serve(1, |conn, _| {
        assert_eq!(conn, 2);
        Taken::Later
    });
    // Nobody who was asked may stand where others are still to be asked.
    topics.forget(0);
    let asked = serve_all(&mut topics, Taken::Queued);
    assert_eq!(asked, [(1, vec!["x".to_owned()])]);
    assert_eq!(receipt.delivery().map(|told| told.queued), Some(2));
    topics.handle_idle(2);
    assert_eq!(serve_all(&mut topics, Taken::Queued), [(2, vec!["x".to_owned()])]);
}

#[test]
fn ps07_latest_message_is_kept_though_newer_ones_are_about_to_be_sent() {
    let large = "y".repeat(100_000);
    let mut topics = topics(slow(SlowReaders::Latest));
    for conn in 0..2 {
        topics.subscribe(conn, "a").unwrap();
    }
    topics.publish("a", "x".into()).map(drop).unwrap();
    topics.serve(1, |_, _| Taken::Later);
    // So much that it takes more than one batch.
    for _ in 0..4 {
        topics.publish("a", large.as_str().into()).map(drop).unwrap();
    }
    topics.serve(1, |_, _| Taken::Queued);
    topics.handle_idle(1);
    topics.serve(1, |conn, offer| {
        assert_eq!((conn, texts(offer)), (1, vec!["x".to_owned()]));
        Taken::Queued
    });
    let rest = serve_all(&mut topics, Taken::Queued);
    assert_eq!(rest, [(1, vec![large.clone()]), (0, vec![large])]);
}

#[test]
fn ps07_connection_that_ends_before_it_can_be_given_more_is_forgotten() {
    let mut topics = topics(slow(SlowReaders::Latest));
    topics.subscribe(9, "a").unwrap();
    topics.publish("a", "x".into()).map(drop).unwrap();
    assert_eq!(serve_all(&mut topics, Taken::Later).len(), 1);
    topics.handle_idle(9);
    topics.forget(9);
    topics.handle_second();
    assert_eq!(serve_all(&mut topics, Taken::Queued), []);
    assert_eq!(topics.subscribe(0, "a"), Ok(true));
}

#[test]
fn publisher_is_told_of_messages_for_a_core_that_ends_before_or_after_they_are_sent() {
    const ORDERS_MAX: usize = 20;
    let policy = Arc::new(|_: &str| TopicPolicy::new().history(1));
    let settings =
        TopicSettings { policy, inbox_orders_max: ORDERS_MAX, ..TopicSettings::default() };
    let wakes = [(); 2].map(|()| Wake::new().unwrap());
    let exchange = Arc::new(Exchange::new(&wakes, settings));
    let [mut own, mut other] = [0, 1].map(|core| Topics::new(core, Arc::clone(&exchange)));
    other.subscribe(7, "a").unwrap();
    let before = [own.publish("a", "x".into()), exchange.publish_from_outside("a", "y".into())];
    take_orders(&exchange, &mut own);
    let _ = serve_all(&mut own, Taken::Queued);
    let before = before.map(|receipt| receipt.unwrap());
    assert!(before.iter().all(|receipt| receipt.delivery().is_none()), "a core has them");
    drop(other);
    let after = own.publish("a", "z".into()).unwrap();
    let _ = serve_all(&mut own, Taken::Queued);
    for receipt in before.iter().chain([&after]) {
        assert_eq!(receipt.delivery(), Some(Delivery::default()), "nobody was reached");
    }
    for _ in 0..2 * ORDERS_MAX {
        let receipt = own.publish("a", "more".into());
        assert!(receipt.is_ok(), "a core that has ended is never full");
        let _ = serve_all(&mut own, Taken::Queued);
    }
}

#[test]
fn inbox_is_bounded_by_bytes_and_takes_any_message_when_it_is_empty() {
    let settings = TopicSettings { inbox_bytes_max: 10, ..TopicSettings::default() };
    let exchange = Arc::new(Exchange::new(&[Wake::new().unwrap(), Wake::new().unwrap()], settings));
    let mut own = Topics::new(0, Arc::clone(&exchange));
    let mut other = Topics::new(1, Arc::clone(&exchange));
    other.subscribe(7, "a").unwrap();
    let mut publish = |bytes: usize| own.publish("a", (&vec![b'x'; bytes]).into()).map(drop);
    assert_eq!(publish(100), Ok(()), "it is empty");
    assert_eq!(other.held_bytes(), 100, "what waits is memory of the core");
    assert_eq!(publish(0), Err(PublishError::Busy));
    take_orders(&exchange, &mut other);
    assert_eq!(
        [publish(4), publish(4), publish(4)],
        [Ok(()); 3],
        "the last has room for two bytes"
    );
    assert_eq!(publish(1), Err(PublishError::Busy));
    drop(other);
    assert_eq!(exchange.inbox_bytes(1), 0);
    assert_eq!(publish(100), Ok(()), "what nobody takes waits for nobody");
    assert_eq!(exchange.inbox_bytes(1), 0);
}

#[test]
fn connections_served_before_their_core_ends_are_counted() {
    let mut topics = topics(TopicPolicy::new());
    for conn in 0..3 {
        topics.subscribe(conn, "a").unwrap();
    }
    let receipt = topics.publish("a", "x".into()).unwrap();
    topics.serve(1, |_, _| Taken::Queued);
    assert_eq!(receipt.delivery(), None);
    drop(topics);
    assert_eq!(receipt.delivery(), Some(Delivery { queued: 1, refused: 0 }));
}

#[test]
fn publishers_are_told_which_messages_of_a_share_had_no_room() {
    let mut topics = topics(TopicPolicy::new());
    let mut receipts = Vec::new();
    for conn in 0..4 {
        topics.subscribe(conn, "a").unwrap();
        // The last to come have missed one message more.
        receipts.push(topics.publish("a", "x".into()).unwrap());
    }
    topics.serve(10, |conn, offer| match conn {
        0 => Taken::Refused { taken: 3 },
        1 => Taken::Refused { taken: 1 },
        2 => Taken::Refused { taken: 0 },
        _ => {
            assert_eq!(offer.share.len(), 1);
            Taken::Queued
        }
    });
    let told: Vec<_> = receipts.iter().map(|receipt| receipt.delivery().unwrap()).collect();
    let expected = [(1, 0), (2, 0), (1, 2), (1, 3)];
    assert_eq!(told, expected.map(|(queued, refused)| Delivery { queued, refused }));
}

#[test]
fn history_is_on_every_core_for_a_minute_after_the_last_message() {
    for cores in [2, 3] {
        let policy = TopicPolicy::new().history(2);
        let policy = Arc::new(move |_: &str| policy);
        let settings = TopicSettings { policy, topics_max: 1, ..TopicSettings::default() };
        let wakes: Vec<Wake> = (0..cores).map(|_| Wake::new().unwrap()).collect();
        let exchange = Arc::new(Exchange::new(&wakes, settings));
        let topics = |core| Topics::new(core, Arc::clone(&exchange));
        let mut all: Vec<Topics> = (0..cores).map(topics).collect();
        all[0].subscribe(0, "a").unwrap();
        for number in 0..6 {
            let receipt = all[0].publish("a", number.to_string().as_str().into()).unwrap();
            // There is no room for a second topic.
            let beside = all[0].publish("b", "x".into()).unwrap();
            for topics in &mut all {
                take_orders(&exchange, topics);
                let _ = serve_all(topics, Taken::Queued);
                (0..IDLE_SECONDS_MAX).for_each(|_| topics.handle_second());
            }
            assert_eq!(receipt.delivery(), Some(Delivery { queued: 1, refused: 0 }));
            assert_eq!(beside.delivery(), Some(Delivery::default()));
        }
        for topics in &mut all {
            topics.subscribe(1, "a").unwrap();
            let expected = ["4", "5"].map(str::to_owned).to_vec();
            assert_eq!(serve_all(topics, Taken::Queued), [(1, expected)], "of {cores}");
            assert_eq!(topics.topic_count(), 1);
            topics.forget(0);
            topics.forget(1);
            (0..=IDLE_SECONDS_MAX).for_each(|_| topics.handle_second());
            assert_eq!((topics.topic_count(), topics.held_bytes()), (0, 0), "then it is freed");
        }
    }
}

#[test]
fn topic_with_messages_to_send_is_not_freed_however_long_nobody_was_there() {
    let mut topics = topics(TopicPolicy::new().history(2));
    let receipt = topics.publish("a", "x".into()).unwrap();
    for _ in 0..=2 * IDLE_SECONDS_MAX {
        topics.handle_second();
    }
    assert_eq!(topics.topic_count(), 1);
    assert_eq!(serve_all(&mut topics, Taken::Queued), []);
    assert!(receipt.delivery().is_some());
    topics.handle_second();
    assert_eq!((topics.topic_count(), topics.held_bytes()), (0, 0));
}

#[test]
fn history_is_kept_for_a_minute_after_the_last_subscriber() {
    let mut topics = topics(TopicPolicy::new().history(2));
    for conn in 0..3 {
        for text in ["1", "2", "3"] {
            topics.publish("a", text.into()).map(drop).unwrap();
        }
        let _ = serve_all(&mut topics, Taken::Queued);
        (0..IDLE_SECONDS_MAX).for_each(|_| topics.handle_second());
        // The minute begins anew, even if it leaves within the second.
        topics.subscribe(conn, "a").unwrap();
        let expected = ["2", "3"].map(str::to_owned).to_vec();
        assert_eq!(serve_all(&mut topics, Taken::Queued), [(conn, expected)]);
        topics.forget(conn);
    }
    (0..=IDLE_SECONDS_MAX).for_each(|_| topics.handle_second());
    assert_eq!(topics.topic_count(), 0);
}

#[test]
fn history_of_a_topic_of_which_the_latest_message_counts_is_that_message() {
    let mut topics = topics(slow(SlowReaders::Latest).history(5));
    for text in ["1", "2", "3"] {
        topics.publish("a", text.into()).map(drop).unwrap();
        let _ = serve_all(&mut topics, Taken::Queued);
    }
    topics.subscribe(0, "a").unwrap();
    let mut offered = Vec::new();
    let lost = topics.serve(10, |_, offer| {
        offered.push(texts(offer));
        Taken::Queued
    });
    assert_eq!((offered, lost), (vec![vec!["3".to_owned()]], 0), "who comes late loses nothing");
}

#[test]
fn what_a_stalled_reader_loses_is_counted_while_it_stalls() {
    for (slow_readers, kept) in [(SlowReaders::DropOldest(3), 3), (SlowReaders::Latest, 1)] {
        let mut topics = topics(slow(slow_readers));
        topics.subscribe(0, "a").unwrap();
        let mut lost = 0;
        for n in 0..100 {
            topics.publish("a", n.to_string().as_str().into()).map(drop).unwrap();
            lost += topics.serve(10, |_, _| Taken::Later);
        }
        // The last pass was offered one more than it will leave.
        assert!((100 - kept - 1..=100 - kept).contains(&lost), "{slow_readers:?}: {lost}");
        topics.handle_idle(0);
        let mut got = Vec::new();
        lost += topics.serve(10, |_, offer| {
            got = texts(offer);
            Taken::Queued
        });
        let expected: Vec<String> = (100 - kept..100).map(|n| n.to_string()).collect();
        assert_eq!((got, lost), (expected, 100 - kept));
    }
}

#[test]
fn subscription_costs_64_bytes_of_memory_at_most() {
    let mut topics = topics(TopicPolicy::new());
    let mut largest = 0;
    for conn in 0..40_000 {
        topics.subscribe(conn, "a").unwrap();
        let count = conn as usize + 1;
        let members = &topics.topics[0].members;
        let bytes = members.capacity() * size_of_val(&members[0])
            + topics.subscriptions.capacity() * size_of_val(&topics.subscriptions[0])
            + topics.conns.capacity() * size_of_val(&topics.conns[0])
            + topics.free.capacity() * size_of::<u32>()
            + topics.pairs.allocation_size();
        if count >= 1000 {
            largest = largest.max(bytes.div_ceil(count));
        }
        if [1000, 10_000, 19_000, 40_000].contains(&count) {
            println!("{count} subscriptions: {:.1} bytes each", bytes as f64 / count as f64);
        }
    }
    println!("at most {largest} bytes");
    assert!(largest <= 64, "{largest} bytes");
}
