//! Topics on three workers that share nothing but the exchange, stepped in an order that a seed
//! decides: with and without faults of the network.
//!
//! The application subscribes, leaves, publishes and closes in every callback. Each message says
//! whose it is and which of those to its topic; so every client sees by itself whether it comes in
//! order and once.

mod hub;
mod peer;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::io::sim::{FaultConfig, Net, SeedOnPanic, SimDriver};
use crate::io::wake::Wake;
use crate::metrics::Metrics;
use crate::policy::Limits;
use crate::pubsub::{SlowReaders, TopicPolicy, TopicSettings};
use crate::worker::{Post, Served, Shared, StopOrder, Worker};

use super::rig::{memory, shared_by};
use hub::{Hub, Ledger};
use peer::Peer;

const CORES: usize = 3;
/// Topics by policy; the last keeps a history.
const TOPICS: usize = 4;
const HISTORY: usize = 3;
/// Turns in which everything that was published must have arrived.
const TURNS_MAX: usize = 100_000;

/// Three workers and their peers.
struct Run<const AT_ONCE: bool> {
    workers: Vec<Worker<SimDriver<AT_ONCE>, Served<Hub>>>,
    nets: Vec<Net>,
    peers: Vec<Peer>,
    shared: Arc<Shared>,
    ledger: Rc<RefCell<Ledger>>,
    rng: fastrand::Rng,
}

fn policy(topic: &str) -> TopicPolicy {
    let policy = TopicPolicy::new();
    match topic {
        "0" => policy,
        "1" => policy.slow_readers(SlowReaders::DropOldest(3)),
        "2" => policy.slow_readers(SlowReaders::Latest),
        _ => policy.history(2),
    }
}

impl<const AT_ONCE: bool> Run<AT_ONCE> {
    fn new(
        seed: u64,
        faults: &FaultConfig,
        inbox_orders_max: usize,
        finish: fn(SimDriver) -> SimDriver<AT_ONCE>,
    ) -> Self {
        let wakes = [(); CORES].map(|()| Wake::new().unwrap());
        let settings =
            TopicSettings { policy: Arc::new(policy), inbox_orders_max, ..Default::default() };
        let shared = shared_by(&wakes, settings);
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        let (mut workers, mut nets) = (Vec::new(), Vec::new());
        for (number, wake) in wakes.into_iter().enumerate() {
            let seed = seed * CORES as u64 + number as u64;
            let driver = finish(SimDriver::new(seed, faults.clone()).with_wake(wake));
            nets.push(driver.net());
            let hub = Served(Hub::new(&ledger, seed, inbox_orders_max < 1000));
            let post = Post { number, metrics: Arc::new(Metrics::default()), doors: Vec::new() };
            let limits = Limits { conns_max: 64, ..Limits::default() };
            workers.push(Worker::new(driver, hub, limits, memory(), post, Arc::clone(&shared)));
        }
        let rng = fastrand::Rng::with_seed(seed);
        Self { workers, nets, peers: Vec::new(), shared, ledger, rng }
    }

    /// One turn of one of the workers.
    fn turn(&mut self) -> bool {
        let core = self.rng.usize(0..CORES);
        let net = &self.nets[core];
        net.set_horizon(Some(net.elapsed() + Duration::from_micros(self.rng.u64(1..3000))));
        self.workers[core].turn().unwrap()
    }

    fn connect(&mut self, core: usize, target: &str) {
        self.peers.push(Peer::connect(&self.nets[core], target));
    }

    /// Peers come, say what they want done, read a little, and go.
    fn act_at_random(&mut self) {
        if self.peers.len() < 20 && self.rng.u8(0..8) == 0 {
            let core = self.rng.usize(0..CORES);
            let target = format!("/{}", self.rng.usize(0..TOPICS));
            self.connect(core, &target);
        }
        if self.peers.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.peers.len());
        let peer = &mut self.peers[at];
        let topic = self.rng.usize(0..TOPICS);
        match self.rng.u8(0..40) {
            0..6 => peer.say(&format!("subscribe {topic}")),
            6..8 => peer.say(&format!("unsubscribe {topic}")),
            8..16 => peer.say(&format!("publish {topic} {}", self.rng.usize(1..20))),
            16 => peer.say("close"),
            17 => peer.reset(),
            18..30 => peer.read(self.rng.usize(1..5000)),
            _ => peer.read(usize::MAX),
        }
    }

    /// Everything ends, and nothing is left.
    fn finish(mut self) {
        self.shared.stop.give(StopOrder::cut_off());
        for (worker, net) in self.workers.iter_mut().zip(&self.nets) {
            net.set_horizon(None);
            net.wake();
            let mut turns = 0;
            while worker.turn().unwrap() {
                turns += 1;
                assert!(turns < TURNS_MAX, "a stop without grace ends");
            }
            assert_eq!(worker.topics.subscription_count(), 0, "subscriptions end with connections");
            assert_eq!(worker.core.pool.lent_count(), 0, "every block is back");
            net.assert_quiescent();
        }
        let ledger = self.ledger.borrow();
        assert!(ledger.faults.is_empty(), "the application saw {:#?}", ledger.faults);
        // Whatever still waits for a worker that has ended is let go.
        drop(self.workers);
    }
}

fn wander<const AT_ONCE: bool>(seed: u64, finish: fn(SimDriver) -> SimDriver<AT_ONCE>) -> usize {
    let faults = FaultConfig { window_bytes: 6000, ..FaultConfig::from_seed(seed) };
    let mut run = Run::new(seed, &faults, 20, finish);
    for _ in 0..1500 {
        run.act_at_random();
        run.turn();
    }
    let read = run.peers.iter().map(|peer| peer.read_count).sum();
    run.finish();
    read
}

#[test]
fn ps07_clients_of_three_cores_get_messages_once_and_in_order_whatever_fails() {
    let mut read = 0;
    for seed in 0..150 {
        let _seed = SeedOnPanic(seed);
        read += if seed % 2 == 0 {
            wander(seed, |driver| driver)
        } else {
            wander(seed, SimDriver::sending_at_once)
        };
    }
    println!("{read} messages arrived");
    assert!(read > 5000, "only {read} messages arrived");
}

/// All connect, publish at the same time from every core, and read at once.
fn reach_all<const AT_ONCE: bool>(seed: u64, finish: fn(SimDriver) -> SimDriver<AT_ONCE>) {
    let faults = FaultConfig { reorder: 300, delay: 200, short_send: 300, ..FaultConfig::none() };
    let mut run = Run::new(seed, &faults, 1 << 16, finish);
    for core in 0..CORES {
        for topic in ["/0", "/3", "/0"] {
            run.connect(core, topic);
        }
    }
    let are_open = |run: &Run<AT_ONCE>| run.peers.iter().all(|peer| peer.is_subscribed);
    for _ in 0..TURNS_MAX {
        run.turn();
        run.peers.iter_mut().for_each(|peer| peer.read(usize::MAX));
        if are_open(&run) {
            break;
        }
    }
    assert!(are_open(&run), "all are let in");
    for _ in 0..200 {
        let at = run.rng.usize(0..run.peers.len());
        let topic = [0, HISTORY][run.rng.usize(0..2)];
        let count = run.rng.usize(1..10);
        run.peers[at].say(&format!("publish {topic} {count}"));
        run.turn();
        run.peers[at].read(usize::MAX);
    }
    let mut quiet = 0;
    while quiet < 500 {
        let before: usize = run.peers.iter().map(|peer| peer.read_count).sum();
        run.turn();
        run.peers.iter_mut().for_each(|peer| peer.read(usize::MAX));
        let after: usize = run.peers.iter().map(|peer| peer.read_count).sum();
        quiet = if before == after { quiet + 1 } else { 0 };
    }
    let ledger = run.ledger.borrow();
    assert!(ledger.published() > 500, "{}", ledger.published());
    for peer in &run.peers {
        assert_eq!(peer.last, ledger.last_of(peer.topic), "{peer:?} has got all of its topic");
        assert!(peer.skipped == 0, "and none is missing in between");
    }
    drop(ledger);
    run.finish();
}

#[test]
fn messages_of_one_core_reach_the_subscribers_of_all_three_once_and_in_order() {
    for seed in 0..20 {
        let _seed = SeedOnPanic(seed);
        if seed % 2 == 0 {
            reach_all(seed, |driver| driver);
        } else {
            reach_all(seed, SimDriver::sending_at_once);
        }
    }
}
