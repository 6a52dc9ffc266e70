//! Three nodes with many subscribers, and all that is published on each: nothing is lost while the
//! broker is up, and what is lost when it is killed is told exactly.
//!
//! `LONGWIRE_BROKERS=full` makes these as long as `tests/run-brokers` wants them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::audience::{Audience, Shape, Subscriber, topic_name};
use crate::broker::{
    RECOVERY_MAX, figure, missed, node_with, state, wait_until_linked, wait_until_subscribed,
};
use crate::brokers::{Broker, Software, with_each_broker};
use crate::client::Client;
use crate::http::post;
use crate::process::Program;

fn is_full() -> bool {
    std::env::var_os("LONGWIRE_BROKERS").is_some_and(|value| value == "full")
}

/// Three nodes with their subscribers.
fn open_cluster(broker: &Broker, shape: Shape, flags: &[&str]) -> (Vec<Program>, Audience) {
    let flags = [&["--workers", "2"], flags].concat();
    let nodes: Vec<Program> = (0..3).map(|_| node_with(&broker.url(), &flags)).collect();
    nodes.iter().for_each(wait_until_linked);
    let addrs: Vec<SocketAddr> = nodes.iter().map(|node| node.addr).collect();
    let audience = Audience::open(&addrs, shape);
    nodes.iter().for_each(|node| wait_until_subscribed(node, shape.topics as u64));
    (nodes, audience)
}

#[test]
fn bk06_nothing_is_lost_or_repeated_while_the_broker_is_up() {
    with_each_broker(|software| {
        let (shape, messages, pause) = if is_full() {
            (Shape { topics: 100, subscribers: 10 }, 100_000, Duration::from_millis(8))
        } else {
            (Shape { topics: 10, subscribers: 5 }, 3_000, Duration::from_millis(2))
        };
        let broker = Broker::start(software);
        let (nodes, audience) = open_cluster(&broker, shape, &[]);
        let publishers = audience.publisher_count();
        for number in 0..messages {
            audience.publish(number % publishers);
            if number % 100 == 0 {
                thread::sleep(pause);
            }
        }
        audience.settle(Some((messages * nodes.len() * shape.subscribers) as u64));
        let (sent, subscribers) = audience.end();
        assert_eq!(subscribers.len(), nodes.len() * shape.topics * shape.subscribers);
        for subscriber in &subscribers {
            for (publisher, sent) in sent.iter().enumerate() {
                let seen = subscriber.seen.get(&publisher).map_or(0, |seen| seen.count);
                let expected = if publisher % shape.topics == subscriber.topic { *sent } else { 0 };
                assert_eq!(seen, expected, "node {} of {publisher}", subscriber.node);
            }
        }
        for node in &nodes {
            assert_eq!((figure(node, "missed"), figure(node, "duplicates")), (0, 0));
        }
    });
}

#[test]
fn bk01_broker_that_is_killed_again_and_again_costs_what_is_counted_and_no_more() {
    with_each_broker(|software| {
        let (shape, kills) = if is_full() {
            (Shape { topics: 10, subscribers: 20 }, 20)
        } else {
            (Shape { topics: 4, subscribers: 3 }, 3)
        };
        let mut broker = Broker::start(software);
        // So little room that some of what is said meanwhile is lost for sure.
        let (nodes, audience) = open_cluster(&broker, shape, &["--broker-queue-bytes-max", "4K"]);
        let mut probe = Probe::open(&nodes);
        // All have heard of all.
        (0..audience.publisher_count()).for_each(|publisher| audience.publish(publisher));
        audience.settle(None);
        let is_over = AtomicBool::new(false);
        let is_resting = AtomicBool::new(false);
        let ticker = AtomicUsize::new(0);
        let mut slowest = Duration::ZERO;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if !is_resting.load(Ordering::Relaxed) {
                        let number = ticker.fetch_add(1, Ordering::Relaxed);
                        audience.publish(number % audience.publisher_count());
                    }
                    thread::sleep(Duration::from_micros(500));
                }
            });
            for round in 0..kills {
                thread::sleep(Duration::from_millis(300));
                broker.kill();
                // Every other time nobody says anything from then on: marks alone can tell.
                is_resting.store(round % 2 == 1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(700));
                broker.restart();
                let back = Instant::now();
                probe.cross();
                let time = back.elapsed();
                assert!(time < RECOVERY_MAX, "{software:?}, {round}: {time:?}");
                slowest = slowest.max(time);
                thread::sleep(Duration::from_millis(300));
                is_resting.store(false, Ordering::Relaxed);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        audience.settle(None);
        println!("{software:?}: {kills} kills, back in use after {slowest:?} at most");
        account(&nodes, audience, shape, software);
    });
}

/// Finds out when messages go from each node to the next again.
struct Probe {
    /// By node: where to publish, and who reads what comes from the node before.
    ends: Vec<(SocketAddr, Client)>,
}

impl Probe {
    fn open(nodes: &[Program]) -> Self {
        let open = |(index, node): (usize, &Program)| {
            let reader = Client::open_at(node.addr, &format!("/topics/probe{index}"));
            reader.stream.set_nonblocking(true).unwrap();
            (node.admin(), reader)
        };
        Self { ends: nodes.iter().enumerate().map(open).collect() }
    }

    /// Publishes until something has come over each way.
    fn cross(&mut self) {
        let mut bytes = [0; 4096];
        let end = Instant::now() + 5 * RECOVERY_MAX;
        let mut waiting: Vec<usize> = (0..self.ends.len()).collect();
        // What has come of the time before.
        for (_, reader) in &mut self.ends {
            while reader.try_read(&mut bytes).is_ok() {}
        }
        while !waiting.is_empty() {
            assert!(Instant::now() < end, "nothing comes over {waiting:?}");
            for index in &waiting {
                let before = (index + self.ends.len() - 1) % self.ends.len();
                let topic = format!("/topics/probe{index}");
                assert_eq!(post(self.ends[before].0, &topic, &[], b"?").status, 200);
            }
            thread::sleep(Duration::from_millis(20));
            waiting.retain(|index| self.ends[*index].1.try_read(&mut bytes).is_err());
        }
    }
}

/// What came and what was missed is together what was sent, of each topic on each node.
fn account(nodes: &[Program], audience: Audience, shape: Shape, software: Software) {
    let places: Vec<(usize, usize)> =
        (0..audience.publisher_count()).map(|publisher| audience.place(publisher)).collect();
    let (sent, subscribers) = audience.end();
    let mut missed_of_all = 0;
    for (index, node) in nodes.iter().enumerate() {
        let gaps = missed(node);
        assert!(gaps.len() < 1000, "all gaps are still listed");
        for topic in 0..shape.topics {
            let name = topic_name(topic);
            let missed: u64 =
                gaps.iter().filter(|(of, _)| *of == name).map(|(_, missed)| missed).sum();
            missed_of_all += missed;
            let is_there = |s: &&Subscriber| s.node == index && s.topic == topic;
            for subscriber in subscribers.iter().filter(is_there) {
                let (mut expected, mut came) = (0, 0);
                for (publisher, sent) in sent.iter().enumerate() {
                    let (at, of) = places[publisher];
                    let seen = subscriber.seen.get(&publisher).map_or(0, |seen| seen.count);
                    if at == index && of == topic {
                        assert_eq!(seen, *sent, "local delivery goes on");
                    } else if of == topic {
                        expected += sent;
                        came += seen;
                    }
                }
                let state = state(node);
                assert_eq!(came + missed, expected, "{software:?} {index} {name}: {state}");
            }
        }
    }
    assert!(missed_of_all > 0, "there was something to count");
    let total: u64 = sent.iter().sum();
    println!("{software:?}: {total} messages, {missed_of_all} missed and told");
}
