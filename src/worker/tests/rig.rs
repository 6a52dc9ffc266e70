//! A worker over the simulated driver, the application's log, and what must hold after each turn.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::buf::PoolConfig;
use crate::conn::Phase;
use crate::io::sim::{FaultConfig, Net, PeerId, SimDriver};
use crate::io::wake::Wake;
use crate::metrics::{Metrics, Stats};
use crate::policy::budget::Budget;
use crate::policy::{Limits, Tick, Ticks};
use crate::proto::CloseCode;
use crate::pubsub::TopicSettings;
use crate::worker::{Access, Handshake, Post, Served, Shared, StopOrder, Worker};

use super::app::{App, Log, Waiting, decide};
use super::client::Client;

/// Turns in a row that may get nothing and not wait.
const SPINS_MAX: u64 = 4;

/// A worker, its network, and what it told the application.
#[derive(Debug)]
pub(super) struct Rig<const AT_ONCE: bool> {
    pub(super) worker: Worker<SimDriver<AT_ONCE>, Served<App>>,
    pub(super) net: Net,
    pub(super) log: Rc<RefCell<Log>>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    deferred: Rc<RefCell<Waiting>>,
    running: bool,
}

impl Rig<false> {
    /// A worker that sends at the end of the turn, in a network without faults.
    pub(super) fn new(limits: Limits) -> Self {
        Self::with_faults(1, FaultConfig::none(), limits)
    }

    /// The same in a network with faults.
    pub(super) fn with_faults(seed: u64, faults: FaultConfig, limits: Limits) -> Self {
        Self::over(SimDriver::new(seed, faults), limits, memory())
    }
}

/// What the workers of a test have in common: one of them.
pub(super) fn shared() -> Arc<Shared> {
    shared_by(&[Wake::new().expect("a descriptor is left")], TopicSettings::default())
}

/// The same for one worker for each of `wakes`.
pub(super) fn shared_by(wakes: &[Wake], topics: TopicSettings) -> Arc<Shared> {
    Arc::new(Shared::new(wakes, Access::default(), Budget::default(), topics))
}

impl<const AT_ONCE: bool> Rig<AT_ONCE> {
    /// A worker over this driver.
    pub(super) fn over(driver: SimDriver<AT_ONCE>, limits: Limits, memory: PoolConfig) -> Self {
        let net = driver.net();
        let app = App::default();
        let (log, deferred) = (Rc::clone(&app.log), Rc::clone(&app.deferred));
        let metrics = Arc::new(Metrics::default());
        let shared = shared();
        let post = Post { number: 0, metrics: Arc::clone(&metrics), doors: Vec::new() };
        let common = Arc::clone(&shared);
        let worker = Worker::new(driver, Served(app), limits, memory, post, common);
        Self { worker, net, log, shared, metrics, deferred, running: true }
    }

    /// One turn, and the checks. False once the worker has stopped.
    pub(super) fn turn(&mut self) -> bool {
        self.running = self.worker.turn().expect("the simulated wait never fails");
        if decide(&self.deferred) {
            self.net.wake();
        }
        self.check_turn();
        self.running
    }

    /// Turns for `time` of virtual time, and lets the clients act in between.
    pub(super) fn run(&mut self, time: Duration, clients: &mut [(PeerId, Client)]) {
        let end = self.net.elapsed() + time;
        let pace = (time / 200).max(Duration::from_micros(50));
        while self.running && self.net.elapsed() < end {
            for (id, client) in &mut *clients {
                exchange(&self.net, *id, client);
            }
            let next = if clients.is_empty() { end } else { self.net.elapsed() + pace };
            self.net.set_horizon(Some(next.min(end)));
            self.turn();
        }
        self.net.set_horizon(None);
        for (id, client) in clients {
            exchange(&self.net, *id, client);
        }
    }

    /// Connects `count` clients that ask to be let in.
    pub(super) fn connect(&self, count: usize) -> Vec<(PeerId, Client)> {
        let connect = |_| {
            let id = self.net.connect();
            (id, Client::knocking(id.index(), 7))
        };
        (0..count).map(connect).collect()
    }

    /// Tells the worker to stop.
    pub(super) fn stop(&self, code: CloseCode, grace: Duration) {
        self.order(StopOrder::at_once(code, grace));
    }

    /// Tells the worker to stop in this way.
    pub(super) fn order(&self, order: StopOrder) {
        self.shared.stop.give(order);
        self.net.wake();
    }

    /// Stops without grace and checks that nothing is left.
    pub(super) fn finish(mut self) {
        self.stop(CloseCode::GOING_AWAY, Duration::ZERO);
        let end = self.net.elapsed() + Duration::from_secs(600);
        while self.running && self.turn() {
            assert!(self.net.elapsed() < end, "a stop without grace ends");
        }
        self.check_end();
    }

    /// What must hold when the worker has stopped.
    pub(super) fn check_end(&mut self) {
        assert!(self.worker.table.is_empty(), "no connection is left");
        assert_eq!(self.worker.core.pool.lent_count(), 0, "every block is back (U12)");
        assert_eq!(self.shared.conn_count.load(Ordering::Relaxed), 0);
        assert_eq!(self.worker.tally.handshakes, 0);
        self.net.assert_quiescent();
        assert!(self.net.stats().spin_longest <= SPINS_MAX, "the worker spins");
        let stats = self.stats();
        assert_eq!(stats.opened, stats.closed, "each open has its close");
        assert_eq!(stats.closes.values().sum::<u64>(), stats.closed, "each is counted once");
        assert_eq!(stats.close_causes.values().sum::<u64>(), stats.closed);
        self.check_records(&stats);
        let log = self.log.borrow();
        assert!(log.faults.is_empty(), "the application saw: {:#?}", log.faults);
        assert_eq!(log.messages, stats.messages);
        for (peer, seen) in &log.peers {
            assert_eq!(
                (seen.opens, seen.closes.len()),
                (1, 1),
                "peer {peer}: one end for one open"
            );
        }
        assert_eq!(log.peers.len() as u64, stats.opened);
    }

    /// One record for each end, and of the code that the application was told.
    fn check_records(&self, stats: &Stats) {
        let kept = self.worker.core.limits.closes_kept as u64;
        let records = self.worker.closes.newest(usize::MAX);
        assert_eq!(records.len() as u64, stats.closed.min(kept));
        if stats.closed > kept {
            return;
        }
        let mut names: Vec<_> = records.iter().map(|record| record.id).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), records.len(), "no connection ends twice");
        let log = self.log.borrow();
        let closes = log.peers.values().flat_map(|seen| &seen.closes);
        let mut told: Vec<_> = closes.map(|(code, _)| *code).collect();
        let mut recorded: Vec<_> = records.iter().map(|record| record.code).collect();
        told.sort_unstable();
        recorded.sort_unstable();
        assert_eq!(told, recorded, "what was told is what was recorded");
    }

    /// The worker's own time: without the stretches in which it was stopped.
    pub(super) fn tick(&self) -> Tick {
        self.worker.core.now
    }

    /// What the worker counted.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.add(&self.metrics);
        stats
    }

    /// Connections that are open to the application.
    pub(super) fn open_count(&self) -> usize {
        self.worker.table.iter().filter(|(_, entry)| entry.state.is_some()).count()
    }

    fn check_turn(&self) {
        let Self { worker, net, .. } = self;
        let (mut handshakes, mut served, mut queued_bytes) = (0, 0, 0);
        let limits = &worker.core.limits;
        // A queue takes one more message as long as it is below its limit, and control frames.
        let queue_bytes_max = limits.send_bytes_max + 2 * limits.message_bytes_max + 8 * 1024;
        for (index, entry) in &worker.table {
            let connection = &entry.connection;
            handshakes += usize::from(entry.handshake != Handshake::Done);
            queued_bytes += connection.queued_bytes();
            served += usize::from(matches!(connection.phase(), Phase::Open | Phase::Closing));
            assert!(
                connection.queued_bytes() <= queue_bytes_max,
                "slot {index}: a queue is bounded"
            );
            if connection.phase() == Phase::Ended {
                assert!(entry.state.is_none(), "slot {index}: the application knows of the end");
                continue;
            }
            let due = connection.next_deadline(&worker.core);
            // A queue on its way out has one as soon as the peer does not take it.
            let is_sending = connection.queued_bytes() > 0;
            let phase = connection.phase();
            assert!(due < Tick::NEVER || is_sending, "slot {index}: {phase:?} has a deadline");
            // By new limits it may be nearer, until they have come to this slot.
            let is_reviewed = worker.review.as_ref().is_none_or(|review| index < review.next_slot);
            let is_watched = worker.deadlines.next_due() <= due;
            assert!(is_watched || !is_reviewed, "slot {index}: its deadline is watched");
        }
        assert_eq!(worker.tally.handshakes, handshakes);
        assert!(worker.core.taps.as_ref().is_none_or(|taps| !taps.is_empty()), "off is off");
        assert_eq!(worker.core.queued_bytes, queued_bytes, "the sum of all queues is known");
        assert!(handshakes <= limits.handshakes_max);
        assert!(served <= limits.conns_max, "{served} connections are served");
        assert!(self.shared.conn_count.load(Ordering::Relaxed) <= worker.table.len());
        assert!(net.stats().spin_now <= SPINS_MAX, "the worker spins");
    }
}

/// Everything that waits in either direction is written and read.
pub(super) fn exchange(net: &Net, id: PeerId, client: &mut Client) {
    let mut bytes = Vec::new();
    if net.peer_read_into(id, &mut bytes) > 0 {
        client.handle_received(&bytes).unwrap();
    }
    if !client.out.is_empty() {
        net.peer_write(id, client.out.make_contiguous());
        client.out.clear();
    }
}

/// Memory for a few connections.
pub(super) fn memory() -> PoolConfig {
    PoolConfig { receive_blocks_max: 16, spare_bytes_max: 1 << 20 }
}

/// This many seconds, as the worker counts them.
pub(super) fn seconds(count: u64) -> Ticks {
    Ticks::at_least(Duration::from_secs(count))
}
