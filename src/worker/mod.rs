//! One core, one loop.
//!
//! A worker owns everything its connections need: driver, table, memory, deadlines, handler. It
//! shares nothing on the path of a message. A turn is always the same:
//!
//! 1. wait: submit what is queued, sleep until something happens or is due,
//! 2. read the clock, once,
//! 3. take the completions, in order, each to its connection and on to the handler (`dispatch`),
//! 4. let the application act of its own accord (`Handler::turn`),
//! 5. queue published messages for their subscribers (`fanout`),
//! 6. do what the connections ask for: one send each for all that a turn produced,
//! 7. look after deadlines and a stop in progress.
//!
//! With a driver that sends at once (epoll), step 6 also follows each completion, while the
//! bytes are still in the first-level cache.

mod admit;
mod application;
mod arrival;
mod clock;
mod closes;
mod deadlines;
mod dispatch;
mod drain;
mod fanout;
mod levels;
mod memory;
mod reach;
mod reconfigure;
mod stop;
mod tapping;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::buf::{Pool, PoolConfig};
use crate::conn::{Connection, Core, Engines, MaskKeys, Phase, Step};
use crate::decision::Mailbox;
use crate::io::wake::Wake;
use crate::io::{Closing, Completion, Driver, Patience, Token};
use crate::metrics::Metrics;
use crate::policy::admission::HandshakeRate;
use crate::policy::budget::Budget;
use crate::policy::{Limits, LogRate, Tick, Ticks};
use crate::pubsub::{Exchange, Order, TopicSettings, Topics};

pub(crate) use application::{Application, Dialed, Served};
pub(crate) use arrival::{Access, Door};
use clock::Clock;
use closes::Closes;
use deadlines::{Deadlines, SweepBudget};
use memory::MemoryShare;
use reach::Reach;
use reconfigure::Review;
pub(crate) use stop::StopOrder;
use stop::{Stop, StopSwitch};

/// Completions taken in one turn, so that deadlines are looked at under any load.
const COMPLETIONS_PER_TURN_MAX: usize = 4096;
/// Received bytes after which a turn ends: a flood must not keep the answers of others waiting
/// (row FR10). Some ten milliseconds of the smallest messages.
const RECEIVED_BYTES_PER_TURN_MAX: usize = 512 * 1024;
/// Places for peers that come when the table is full, to be told so.
pub(crate) const REFUSAL_SLOTS: usize = 64;
/// How long accepting rests when descriptors have run out.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Peers dropped before each rest, so that they are not left hanging in the backlog.
const SHED_PER_REST_MAX: usize = 64;
/// The longest wait while there are connections: so long a stop of the process is told from sleep.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the workers of a server or a client have in common. None of it is touched by messages.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Connections of all workers.
    pub(crate) conn_count: AtomicUsize,
    /// How and when to stop.
    pub(crate) stop: StopSwitch,
    /// Who may connect, and from where.
    pub(crate) access: Access,
    /// Memory of all workers.
    pub(crate) budget: Arc<Budget>,
    /// How messages get from one worker to another.
    pub(crate) exchange: Arc<Exchange>,
}

impl Shared {
    /// For the workers that these wake.
    pub(crate) fn new(
        wakes: &[Wake],
        access: Access,
        budget: Budget,
        topics: TopicSettings,
    ) -> Self {
        let exchange = Arc::new(Exchange::new(wakes, topics));
        let (conn_count, stop) = (AtomicUsize::new(0), StopSwitch::default());
        Self { conn_count, stop, access, budget: Arc::new(budget), exchange }
    }
}

/// What is a worker's own.
#[derive(Debug)]
pub(crate) struct Post {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// What it counts.
    pub(crate) metrics: Arc<Metrics>,
    /// One for each of its listeners.
    pub(crate) doors: Vec<Door>,
}

/// A slot of the connection table.
#[derive(Debug)]
struct Entry<S> {
    connection: Connection,
    generation: u32,
    /// In the list of connections to look after at the end of the turn.
    dirty: bool,
    /// Came when there was no room.
    refused: bool,
    /// Which handshake it is counted for.
    handshake: Handshake,
    /// The application's; there from `open` to `close`.
    state: Option<S>,
}

impl<S> Entry<S> {
    /// A connection whose handshake begins.
    fn new(connection: Connection, generation: u32, state: Option<S>) -> Self {
        Self {
            connection,
            generation,
            dirty: false,
            refused: false,
            handshake: Handshake::Http,
            state,
        }
    }
}

/// The handshake that a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// TLS; the other follows.
    Tls,
    /// The opening handshake of WebSocket.
    Http,
    /// Complete, or given up.
    Done,
}

/// What is logged of peers is bounded (row R8): they choose how often it happens.
#[derive(Debug)]
struct LogRates {
    broke: LogRate,
    accept_failed: LogRate,
}

/// What a worker counts of its connections.
#[derive(Debug, Default)]
struct Tally {
    next_generation: u32,
    /// Handshakes in progress, of either kind.
    handshakes: usize,
    /// Of these, handshakes of TLS.
    tls_handshakes: usize,
    /// Connections that are only told that there is no room.
    refused: usize,
}

impl Tally {
    fn next_generation(&mut self) -> u32 {
        let generation = self.next_generation;
        self.next_generation = Token::next_generation(generation);
        generation
    }

    /// Counts a handshake that begins, or has gone on.
    fn follow<S>(&mut self, entry: &mut Entry<S>) {
        let now = if entry.connection.phase() != Phase::Handshake {
            Handshake::Done
        } else if entry.connection.is_tls_handshaking() {
            Handshake::Tls
        } else {
            Handshake::Http
        };
        self.leave(entry.handshake);
        self.handshakes += usize::from(now != Handshake::Done);
        self.tls_handshakes += usize::from(now == Handshake::Tls);
        entry.handshake = now;
    }

    /// A connection is no longer at this handshake.
    fn leave(&mut self, handshake: Handshake) {
        self.handshakes -= usize::from(handshake != Handshake::Done);
        self.tls_handshakes -= usize::from(handshake == Handshake::Tls);
    }

    /// Spreads the pings of connections that were opened one after another.
    fn spread(generation: u32) -> u8 {
        let [.., high] = generation.wrapping_mul(0x9E37_79B1).to_le_bytes();
        high
    }
}

// The table has one for every connection; with no state of the application's it adds 8 bytes.
const _: () = assert!(size_of::<Entry<()>>() <= size_of::<Connection>() + 8);

/// One core's event loop.
#[derive(Debug)]
pub(crate) struct Worker<D: Driver, A: Application<D>> {
    driver: D,
    application: A,
    table: Slab<Entry<A::State>>,
    core: Core,
    deadlines: Deadlines,
    clock: Clock,
    dirty: Vec<u32>,
    /// Connections that something was done with beside what they received; empty between turns.
    lent: Vec<u32>,
    tally: Tally,
    /// When the application wants its next turn.
    application_due: Option<Instant>,
    handshake_rate: Option<HandshakeRate>,
    /// Connections are being looked at by new limits.
    review: Option<Review>,
    /// Accepting rests until then.
    accept_resumes_at: Option<Tick>,
    trimmed_at: Tick,
    stop: Stop,
    log: LogRates,
    closes: Closes,
    mailbox: Arc<Mailbox<A::State>>,
    topics: Topics,
    /// Of other threads; empty between turns.
    orders: Vec<Order>,
    /// One for each listener.
    doors: Vec<Door>,
    memory: MemoryShare,
    shared: Arc<Shared>,
}

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// A worker without connections.
    pub(crate) fn new(
        driver: D,
        application: A,
        limits: Limits,
        memory: PoolConfig,
        post: Post,
        shared: Arc<Shared>,
    ) -> Self {
        let clock = Clock::new(driver.now());
        // Reserved whole: untouched pages cost nothing, and growing a table of a million
        // connections would stall the loop while it is copied.
        let table = Slab::with_capacity(limits.conns_max + REFUSAL_SLOTS);
        let handshake_rate =
            limits.handshakes_per_second.map(|rate| HandshakeRate::new(rate, Tick(0)));
        let core = Core {
            pool: Pool::new(memory),
            outboxes: Vec::new(),
            engines: Engines::default(),
            scratch: Vec::new(),
            attached_bytes: 0,
            queued_bytes: 0,
            is_pressed: false,
            limits,
            now: Tick(0),
            keys: MaskKeys::default(),
            taps: None,
            metrics: post.metrics,
        };
        let closes = Closes::new(core.limits.closes_kept);
        let topics = Topics::new(post.number, Arc::clone(&shared.exchange));
        let mailbox = Arc::new(Mailbox::new(driver.wake_handle()));
        Self {
            driver,
            application,
            table,
            core,
            deadlines: Deadlines::new(),
            clock,
            dirty: Vec::new(),
            lent: Vec::new(),
            tally: Tally::default(),
            application_due: None,
            handshake_rate,
            review: None,
            accept_resumes_at: None,
            trimmed_at: Tick(0),
            stop: Stop::default(),
            log: LogRates { broke: LogRate::new(Tick(0)), accept_failed: LogRate::new(Tick(0)) },
            closes,
            mailbox,
            topics,
            orders: Vec::new(),
            doors: post.doors,
            memory: MemoryShare::new(Arc::clone(&shared.budget)),
            shared,
        }
    }

    /// Turns until the server stops.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.application_turn()?;
        self.look_after_dirty();
        while self.turn()? {}
        Ok(())
    }

    /// One turn. False once the worker has stopped and every connection is closed.
    pub(crate) fn turn(&mut self) -> io::Result<bool> {
        let timeout = self.wait_timeout();
        self.driver.wait(timeout)?;
        self.core.metrics.begin_turn();
        self.core.now = self.clock.advance(self.driver.now(), timeout);
        if self.core.taps.is_some() {
            self.look_after_taps();
        }
        let mut received_bytes = 0;
        for _ in 0..COMPLETIONS_PER_TURN_MAX {
            let Some(completion) = self.driver.poll_completion(&mut self.core.pool) else { break };
            if let Completion::Received { len, .. } | Completion::ReceivedInto { len, .. } =
                &completion
            {
                received_bytes += len;
            }
            self.dispatch(completion);
            if received_bytes >= RECEIVED_BYTES_PER_TURN_MAX {
                break;
            }
        }
        self.application_turn()?;
        self.fan_out();
        self.look_after_dirty();
        if self.review.is_some() {
            self.advance_review();
        }
        self.look_after_deadlines();
        self.look_after_memory();
        self.report();
        Ok(self.advance_stop())
    }

    /// Lets the application act of its own accord.
    fn application_turn(&mut self) -> io::Result<()> {
        if self.stop.is_final() {
            self.application_due = None;
            return Ok(());
        }
        let mut reach = Reach {
            now: self.clock.now(),
            driver: &mut self.driver,
            table: &mut self.table,
            core: &mut self.core,
            topics: &mut self.topics,
            tally: &mut self.tally,
            shared: &self.shared,
            lent: &mut self.lent,
            stopped: false,
        };
        let application = &mut self.application;
        let turn = catch_unwind(AssertUnwindSafe(|| application.turn(&mut reach)));
        let stopped = reach.stopped;
        self.application_due =
            turn.map_err(|_| io::Error::other("the handler panicked in `turn`"))?;
        self.look_after_lent();
        if stopped {
            self.begin_stop(StopOrder::cut_off());
        }
        Ok(())
    }

    fn look_after_lent(&mut self) {
        let mut lent = std::mem::take(&mut self.lent);
        for index in lent.drain(..) {
            self.tell_ending(index);
            self.mark(index);
        }
        self.lent = lent;
    }

    /// Until something is due, at most.
    fn wait_timeout(&self) -> Option<Duration> {
        if self.topics.has_work() || self.is_searching_for_taps() || self.review.is_some() {
            return Some(Duration::ZERO);
        }
        let mut due = self.deadlines.next_due().min(self.stop.next_due(self.core.now));
        if let Some(tick) = self.accept_resumes_at {
            due = due.min(tick);
        }
        let idle = self.table.is_empty() && !self.core.has_spare();
        // Deadlines are coarse; whole milliseconds are what every driver waits for most cheaply.
        let timeout = match due {
            Tick::NEVER if idle => None,
            Tick::NEVER => Some(WAIT_MAX),
            due => Some(whole_millis(self.clock.until(due)).min(WAIT_MAX)),
        };
        let Some(due) = self.application_due else { return timeout };
        let until = due.saturating_duration_since(self.driver.now());
        Some(timeout.map_or(until, |timeout| timeout.min(until)))
    }

    /// The connection has changed: it is looked after at the end of the turn, or right away.
    fn mark(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index as usize) else { return };
        // A large body is to go on to its final place, so that place cannot wait. Nor can a pause
        // of reading: until then each completion of this turn adds to the queue.
        let queue_is_high =
            entry.connection.queued_bytes() > self.core.limits.send_high_water_bytes;
        if D::SENDS_AT_ONCE || queue_is_high || entry.connection.wants_direct() {
            self.look_after(index);
        } else if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(index);
        }
    }

    fn look_after_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.look_after(index);
        }
        self.dirty = dirty;
    }

    /// Does what the connection asks for, until it asks for nothing.
    fn look_after(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index as usize) else { return };
        entry.dirty = false;
        if entry.handshake != Handshake::Done {
            self.tally.follow(entry);
        }
        let token = Token { index, generation: entry.generation };
        while let Some(step) = entry.connection.poll_step(&mut self.core) {
            match step {
                Step::Send { segment, wait } => {
                    let patience = if wait { Patience::Wait } else { Patience::Try };
                    self.driver.submit_send(token, segment, patience);
                }
                Step::ReceiveInto(room) => {
                    self.driver.submit_receive_into(token, room.block, room.start, room.end);
                }
                Step::PauseReceive => self.driver.pause_receive(token),
                Step::ResumeReceive => self.driver.resume_receive(token),
                Step::ShutdownWrite => self.driver.shutdown_write(token),
                Step::Close { reset } => {
                    let closing = if reset { Closing::Reset } else { Closing::Orderly };
                    self.driver.submit_close(token, closing);
                }
            }
        }
        entry.connection.report_queue(&mut self.core);
        self.deadlines.lower(index, entry.connection.next_deadline(&self.core));
    }

    fn look_after_deadlines(&mut self) {
        let mut budget = SweepBudget::new();
        while let Some(index) = self.deadlines.poll_due(self.core.now, &mut budget) {
            if let Some(entry) = self.table.get_mut(index as usize) {
                entry.connection.handle_deadline(&mut self.core);
                self.tell_ending(index);
                self.look_after(index);
            }
        }
        if self.accept_resumes_at.is_some_and(|at| at <= self.core.now) {
            self.accept_resumes_at = None;
            self.driver.resume_accept();
        }
        if self.trimmed_at.after(Ticks::at_least(WAIT_MAX)) <= self.core.now {
            self.trimmed_at = self.core.now;
            self.trim_memory();
            self.topics.handle_second();
            self.trim_taps();
            self.report_levels();
        }
    }

    /// Lets accepting rest: descriptors have run out (rows TC01, TC02, TC04).
    fn rest_accepting(&mut self) {
        for _ in 0..SHED_PER_REST_MAX {
            if !self.driver.shed_one() {
                break;
            }
            self.core.metrics.shed.add(1);
        }
        self.accept_resumes_at = Some(self.core.now.after(Ticks::at_least(ACCEPT_REST)));
    }
}

/// Rounded up.
fn whole_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
