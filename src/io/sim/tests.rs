//! The simulated driver under a small echo server: order, conservation and repeatability under
//! every fault. What the server does with each fault is tested where the worker is. What single operations do, and what the driver refuses, is in `tests/contract.rs`.

mod contract;

use std::time::Duration;

use super::world::Stats;
use super::{FaultConfig, Net, PeerId, SeedOnPanic, SimDriver, SimSocket};
use crate::buf::{Block, Pool, PoolConfig, Segment};
use crate::io::{Closing, Completion, Driver, Patience, Token};

const BYTES_PER_PEER: usize = 3000;
const PEER_COUNT: usize = 6;
/// Queued echo above which the server reads no more.
const QUEUE_BYTES_MAX: usize = 512;

/// One connection of the echo server.
#[derive(Debug, Default)]
struct Conn {
    generation: u32,
    open: bool,
    sending: bool,
    paused: bool,
    ended: bool,
    given_up: bool,
    impatient: bool,
    queue: Vec<u8>,
}

/// An echo server in a hundred lines, as rough with the driver as the contract allows.
#[derive(Debug)]
struct Echo {
    driver: SimDriver,
    pool: Pool,
    conns: Vec<Conn>,
    closed_count: u64,
    /// Whether it gives some connections up in mid-flight.
    hangs_up: bool,
    /// When to accept again after descriptors had run out.
    retry_accept_at: Option<Duration>,
}

impl Echo {
    fn new(seed: u64, config: FaultConfig, receive_blocks_max: usize) -> Self {
        Self {
            driver: SimDriver::new(seed, config),
            pool: Pool::new(PoolConfig { receive_blocks_max, spare_bytes_max: 1 << 20 }),
            conns: Vec::new(),
            closed_count: 0,
            hangs_up: false,
            retry_accept_at: None,
        }
    }

    fn turn(&mut self) {
        while let Some(completion) = self.driver.poll_completion(&mut self.pool) {
            self.handle(completion);
        }
        for index in 0..self.conns.len() {
            self.flush(index);
        }
        let now = self.driver.net().elapsed();
        if self.retry_accept_at.take_if(|at| *at <= now).is_some() {
            self.driver.resume_accept();
        }
        self.driver.wait(Some(Duration::from_millis(100))).unwrap();
    }

    fn handle(&mut self, completion: Completion<SimSocket>) {
        match completion {
            Completion::Accepted { socket, .. } => self.accept(socket),
            Completion::AcceptFailed { exhausted, .. } => {
                let retry_at = self.driver.net().elapsed() + Duration::from_millis(100);
                self.retry_accept_at = exhausted.then_some(retry_at).or(self.retry_accept_at);
            }
            Completion::Received { token, block, len } => self.receive(token, block, 0, len),
            Completion::ReceivedInto { token, block, len } => self.receive(token, block, 7, len),
            Completion::PeerClosed { token } => {
                let conn = self.conn(token);
                assert!(!conn.ended, "a stream ends once");
                conn.ended = true;
            }
            Completion::Failed { token, .. } => {
                let conn = self.conn(token);
                assert!(!conn.given_up, "a connection fails once, and not after it is closed");
                conn.given_up = true;
                self.driver.submit_close(token, Closing::Reset);
            }
            Completion::Sent { token, segment, sent } => {
                assert!(sent <= segment.len());
                let conn = self.conn(token);
                assert!(conn.sending, "a send is answered once");
                assert!(conn.impatient || sent > 0, "`Wait` takes at least one byte");
                conn.sending = false;
                conn.impatient = sent > 0;
                conn.queue.drain(..sent);
                self.pool.give(segment.block);
            }
            Completion::Closed { token } => {
                let conn = self.conn(token);
                assert!(conn.given_up, "nothing closes that was not given up");
                conn.open = false;
                self.closed_count += 1;
            }
            Completion::Woken => {}
        }
    }

    fn accept(&mut self, socket: SimSocket) {
        let index = self.conns.iter().position(|conn| !conn.open).unwrap_or(self.conns.len());
        if index == self.conns.len() {
            self.conns.push(Conn::default());
        }
        let generation = Token::next_generation(self.conns[index].generation);
        let conn = Conn { generation, open: true, impatient: true, ..Conn::default() };
        self.conns[index] = conn;
        let token = Token { index: u32::try_from(index).unwrap(), generation };
        if self.driver.attach(token, socket).is_err() {
            self.conns[index].open = false;
        }
    }

    fn receive(&mut self, token: Token, block: Block, start: usize, len: usize) {
        assert!(len > 0);
        let conn = self.conn(token);
        assert!(!conn.ended, "nothing is received after the end");
        conn.queue.extend_from_slice(&block.bytes()[start..start + len]);
        let wants_more = !conn.given_up && len.is_multiple_of(3);
        let fills_up = !conn.given_up && !conn.paused && conn.queue.len() > QUEUE_BYTES_MAX;
        conn.paused |= fills_up;
        self.pool.give(block);
        if fills_up {
            self.driver.pause_receive(token);
        } else if wants_more && start == 0 {
            let block = self.pool.take(1000);
            self.driver.submit_receive_into(token, block, 7, 600);
        }
    }

    fn flush(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let token = Token { index: u32::try_from(index).unwrap(), generation: conn.generation };
        if !conn.open || conn.given_up || conn.sending {
            return;
        }
        if !conn.queue.is_empty() {
            let mut block = self.pool.take(conn.queue.len());
            block.bytes_mut()[..conn.queue.len()].copy_from_slice(&conn.queue);
            conn.sending = true;
            let patience = if conn.impatient { Patience::Try } else { Patience::Wait };
            let segment = Segment::new(block, 0, conn.queue.len());
            self.driver.submit_send(token, segment, patience);
            if self.hangs_up && conn.queue.len() % 40 == 3 {
                conn.given_up = true;
                self.driver.submit_close(token, Closing::Orderly);
            }
        } else if conn.ended {
            conn.given_up = true;
            self.driver.shutdown_write(token);
            self.driver.submit_close(token, Closing::Orderly);
        }
        if conn.paused && conn.queue.len() <= QUEUE_BYTES_MAX && !conn.given_up {
            conn.paused = false;
            self.driver.resume_receive(token);
        }
    }

    fn conn(&mut self, token: Token) -> &mut Conn {
        let conn = &mut self.conns[token.index as usize];
        assert!(conn.open && conn.generation == token.generation, "{token:?} is not open");
        conn
    }
}

/// A peer's script and what came of it.
struct Client {
    id: PeerId,
    written: Vec<u8>,
    read: Vec<u8>,
    finished: bool,
}

impl Client {
    fn new(net: &Net) -> Self {
        Self { id: net.connect(), written: Vec::new(), read: Vec::new(), finished: false }
    }

    /// Writes a piece that only this peer would write, or reads one, or hangs up.
    fn act(&mut self, net: &Net, rng: &mut fastrand::Rng) {
        if rng.bool() {
            net.peer_read_some(self.id, rng.usize(1..700), &mut self.read);
        } else if self.written.len() < BYTES_PER_PEER {
            let start = self.written.len();
            let id = self.id;
            self.written.extend((start..start + rng.usize(1..400)).map(|at| byte_at(id, at)));
            net.peer_write(self.id, &self.written[start..]);
        } else if !self.finished {
            self.finished = true;
            net.peer_shutdown(self.id);
        }
    }

    fn check(&self) {
        let is_prefix = self.written.starts_with(&self.read);
        assert!(is_prefix, "peer {} read what it did not write", self.id.index());
    }
}

/// What a peer has at a place of its stream, and no other peer has there.
fn byte_at(id: PeerId, at: usize) -> u8 {
    let mixed = (at * 31 + at / 256 * 7 + id.index() * 101) % 251;
    u8::try_from(mixed).unwrap()
}

struct Outcome {
    hash: u64,
    stats: Stats,
    reset_count: usize,
    /// Peers that read all they wrote.
    whole_count: usize,
}

/// Lets all peers run their scripts to the end, and checks everything on the way.
fn run(seed: u64, config: FaultConfig, receive_blocks_max: usize) -> Outcome {
    run_echo(seed, Echo::new(seed, config, receive_blocks_max))
}

fn run_echo(seed: u64, mut echo: Echo) -> Outcome {
    let _guard = SeedOnPanic(seed);
    let net = echo.driver.net();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut clients: Vec<Client> = Vec::new();
    let mut turn_count = 0u32;
    loop {
        if clients.len() < PEER_COUNT && turn_count % 8 == 1 {
            clients.push(Client::new(&net));
        }
        for client in &mut clients {
            client.act(&net, &mut rng);
        }
        net.set_horizon(Some(net.elapsed() + Duration::from_micros(300)));
        echo.turn();
        turn_count += 1;
        assert!(turn_count < 20_000, "seed {seed}: the peers are never done");
        let is_done = |client: &Client| net.is_closed(client.id);
        if clients.len() == PEER_COUNT && clients.iter().all(is_done) {
            break;
        }
    }
    for client in &mut clients {
        net.peer_read_into(client.id, &mut client.read);
        client.check();
    }
    net.assert_quiescent();
    assert_eq!(echo.pool.lent_count(), 0, "seed {seed}: every block is back");
    assert_eq!(echo.closed_count, net.stats().attached, "seed {seed}: one `Closed` each");
    let reset_count = clients.iter().filter(|client| net.peer_sees_reset(client.id)).count();
    let whole_count = clients.iter().filter(|client| client.read == client.written).count();
    Outcome { whole_count, hash: net.trace_hash(), stats: net.stats(), reset_count }
}

/// Every fault but those that may end a connection.
fn harmless() -> FaultConfig {
    FaultConfig {
        short_receive: 300,
        short_send: 300,
        refused_try: 200,
        reorder: 300,
        delay: 300,
        shortage: 50,
        exhausted: 100,
        spurious_wake: 50,
        duplicate: 100,
        late: 500,
        cut_round: 100,
        skip: 5,
        window_bytes: 300,
        ..FaultConfig::none()
    }
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let first = run(seed, FaultConfig::from_seed(seed), 4);
        let again = run(seed, FaultConfig::from_seed(seed), 4);
        assert_eq!(first.hash, again.hash, "seed {seed}");
        assert_eq!(first.stats, again.stats, "seed {seed}");
    }
    assert_ne!(run(1, harmless(), 4).hash, run(2, harmless(), 4).hash);
}

#[test]
fn echo_is_whole_when_no_fault_ends_connections() {
    for seed in 0..50 {
        let outcome = run(seed, harmless(), 4);
        assert_eq!(outcome.reset_count, 0, "seed {seed}");
        assert_eq!(outcome.whole_count, PEER_COUNT, "seed {seed}");
        assert_eq!(outcome.stats.received_bytes, outcome.stats.sent_bytes, "seed {seed}");
    }
}

#[test]
fn everything_closes_and_returns_under_all_faults() {
    let mut total = Stats::default();
    for seed in 0..300 {
        let mut echo = Echo::new(seed, FaultConfig::from_seed(seed), 3);
        echo.hangs_up = seed % 2 == 0;
        let stats = run_echo(seed, echo).stats;
        total.broken += stats.broken;
        total.late += stats.late;
        total.stale += stats.stale;
        total.skips += stats.skips;
        total.starved += stats.starved;
        total.accepts_aborted += stats.accepts_aborted;
        total.accepts_exhausted += stats.accepts_exhausted;
        total.accepted += stats.accepted - stats.attached;
        total.short_sends += stats.short_sends;
        assert!(stats.completions > 0 && stats.turns > 0);
    }
    assert!(total.broken > 0 && total.late > 0 && total.stale > 0 && total.skips > 0, "{total:?}");
    assert!(total.starved > 0 && total.short_sends > 0 && total.accepted > 0, "{total:?}");
    assert!(total.accepts_aborted > 0 && total.accepts_exhausted > 0, "{total:?}");
}

#[test]
fn one_block_serves_all_peers_without_loss_or_spin() {
    let config = FaultConfig { shortage: 300, window_bytes: 64, ..FaultConfig::none() };
    for seed in 0..20 {
        let outcome = run(seed, config.clone(), 1);
        assert!(outcome.stats.starved > 0, "seed {seed}: there was a shortage");
        assert_eq!(outcome.whole_count, PEER_COUNT, "seed {seed}");
        assert_eq!(outcome.stats.spin_longest, 0, "seed {seed}");
    }
}
