//! From settings to running workers: a listener for each address, one pinned thread, one event
//! loop per core.

mod reconfigure;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::close_record::CloseRecord;
use crate::config::{Builder, Checked, Entrance, Settings};
use crate::conn_info::{ConnId, ConnInfo};
use crate::error::Error;
use crate::handler::Handler;
use crate::io::Driver;
use crate::io::addr::ListenAddr;
use crate::io::backend::{self, Backend, DriverSetup};
use crate::io::epoll::EpollDriver;
use crate::io::lease::Claim;
use crate::io::listeners::{LISTENERS_MAX, listen};
use crate::io::socket::Listener;
use crate::io::uring::UringDriver;
use crate::io::wake::Wake;
use crate::metrics::{Metrics, Stats};
use crate::policy::budget::Budget;
use crate::proto::CloseCode;
use crate::pubsub::{ClosesListing, Exchange, Listing, Order, Payload, PublishError, Receipt};
use crate::tap::{Tap, TapEvent, TapOrder, TapTarget};
use crate::threads::{self, Seat};
use crate::turn_watch::TurnWatch;
use crate::worker::{Post, REFUSAL_SLOTS, Served, Shared, StopOrder, Worker};

/// How long a killed server may take to let go of an address.
const PREDECESSOR_TIME_MAX: Duration = Duration::from_secs(1);
const LISTEN_PAUSE: Duration = Duration::from_millis(20);

/// For handshakes that have begun when the sockets are handed over.
const HAND_OVER_TIME_MIN: Duration = Duration::from_secs(1);

/// A server that listens, and runs once it is given its handlers.
///
/// ```no_run
/// use longwire::{Conn, Handler, Message, Server};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type State = ();
///     fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
///         let _ = conn.echo(message);
///     }
/// }
///
/// Server::builder().run(|_core| Echo)?;
/// # Ok::<(), longwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Server {
    checked: Checked,
    builder: Builder,
    backend: Backend,
    backend_reason: String,
    /// Of each worker.
    listeners: Vec<Vec<Place>>,
    /// To the sockets of a predecessor.
    claim: Option<Claim>,
    addrs: Vec<ListenAddr>,
    handle: Handle,
    inboxes: Inboxes,
}

/// A listener of a worker, and the number of its address.
#[derive(Debug)]
struct Place {
    entrance: usize,
    listener: Listener,
}

/// Where a server listens.
struct Listening {
    /// Of each worker.
    listeners: Vec<Vec<Place>>,
    addrs: Vec<ListenAddr>,
    claim: Option<Claim>,
}

/// Closes the inboxes of all workers when the server has ended, or is dropped before it runs: a
/// worker that never came to its first turn closes none.
#[derive(Debug)]
struct Inboxes(Arc<Exchange>);

impl Drop for Inboxes {
    fn drop(&mut self) {
        self.0.close_all();
    }
}

impl Builder {
    /// Checks the settings, chooses the backend and listens. Connections are accepted once the
    /// server runs.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for settings that make no sense, [`Error::Backend`] if the backend that
    /// was asked for is not available, [`Error::Listen`] if an address is not.
    pub fn build(mut self) -> Result<Server, Error> {
        let checked = self.checked()?;
        let (backend, backend_reason) = self.chosen_backend()?;
        let Listening { listeners, addrs, claim } = self.listen_all(&checked)?;
        let handle = Handle::new(&checked, &self, &listeners)?;
        let inboxes = Inboxes(Arc::clone(&handle.inner.shared.exchange));
        let builder = self;
        Ok(Server {
            checked,
            builder,
            backend,
            backend_reason,
            listeners,
            claim,
            addrs,
            handle,
            inboxes,
        })
    }

    /// Builds the server and runs it: [`build`](Self::build), then [`Server::run`].
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub fn run<H, F>(self, handlers: F) -> Result<Stats, Error>
    where
        H: Handler,
        F: Fn(usize) -> H + Send + Sync,
    {
        self.build()?.run(handlers)
    }

    fn listen_all(&mut self, checked: &Checked) -> Result<Listening, Error> {
        let mut of_workers: Vec<Vec<Place>> = checked.cores.iter().map(|_| Vec::new()).collect();
        let mut addrs = Vec::new();
        let mut given = self.take_given();
        let mut claim = self.claim_to(&given);
        let patience = Instant::now() + PREDECESSOR_TIME_MAX;
        for (entrance, Entrance { addr, .. }) in checked.entrances.iter().enumerate() {
            let fault = |source| Error::Listen { addr: addr.clone(), source };
            let here = given.take(addr).map_err(fault)?;
            let (listeners, bound) = if here.sockets.is_empty() {
                let opened = self.listen_at(addr, of_workers.len(), patience).map_err(fault)?;
                (opened.0.into_iter().map(|listener| vec![listener]).collect(), opened.1)
            } else {
                here.spread(self.backlog, of_workers.len()).map_err(fault)?
            };
            for (of_worker, listeners) in of_workers.iter_mut().zip(listeners) {
                let place = |listener| Place { entrance, listener };
                of_worker.extend(listeners.into_iter().map(place));
            }
            addrs.push(bound);
        }
        if !given.sockets.is_empty() {
            let count = given.sockets.len();
            tracing::warn!("{count} sockets are at no address that is listened on, and are closed");
        }
        for places in &of_workers {
            if places.len() > LISTENERS_MAX {
                return Err(Error::Misuse(format!(
                    "there are {} sockets for each worker to accept from, and {LISTENERS_MAX} are the \
                     most; use more workers, or fewer sockets",
                    places.len()
                )));
            }
            if let Some(claim) = &mut claim {
                places.iter().for_each(|place| claim.add(&place.listener));
            }
        }
        Ok(Listening { listeners: of_workers, addrs, claim })
    }

    /// Opens listeners. The kernel takes apart what a killed server has left on a thread of its
    /// own, and until then its rings go on listening (row LC06).
    fn listen_at(
        &self,
        addr: &ListenAddr,
        workers: usize,
        patience: Instant,
    ) -> io::Result<(Vec<Listener>, ListenAddr)> {
        loop {
            match listen(addr, self.listen_options(), workers) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < patience =>
                {
                    thread::sleep(LISTEN_PAUSE);
                }
                listened => return listened,
            }
        }
    }
}

impl Server {
    /// The settings of a server, all at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs until [`Handle::stop`] is called: starts a thread for each worker, pins it to its core
    /// and, once it can serve, calls `handlers` there, with the worker's number from 0, for the
    /// handler of that core.
    /// Returns what the server has done when the last connection is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Worker`] if a worker cannot start or its event loop fails; the others are stopped.
    pub fn run<H, F>(self, handlers: F) -> Result<Stats, Error>
    where
        H: Handler,
        F: Fn(usize) -> H + Send + Sync,
    {
        let Self { checked, builder, backend, listeners, claim, handle, inboxes: _inboxes, .. } =
            self;
        let waiting_count = AtomicUsize::new(checked.cores.len());
        let handlers = |worker| {
            let handler = handlers(worker);
            let is_last = waiting_count.fetch_sub(1, Ordering::AcqRel) == 1;
            // One that was told to stop first leaves the sockets to who has lent them.
            if let (true, Some(claim)) = (is_last && !handle.is_stopping(), &claim) {
                claim.make();
            }
            handler
        };
        let entrances: Vec<Vec<usize>> = listeners
            .iter()
            .map(|places| places.iter().map(|place| place.entrance).collect())
            .collect();
        let seat = |(worker, places): (usize, Vec<Place>)| {
            let listeners = places.into_iter().map(|place| place.listener).collect();
            let conns_max = checked.limits.conns_max + REFUSAL_SLOTS;
            let setup = DriverSetup {
                listeners,
                wake: handle.inner.wakes[worker].clone(),
                conns_max: u32::try_from(conns_max).unwrap_or(u32::MAX),
                direct_descriptors: builder.direct_descriptors,
                ring_entries: backend::RING_ENTRIES,
            };
            Seat { core: checked.cores[worker], setup }
        };
        let seats = listeners.into_iter().enumerate().map(seat).collect();
        let work = |worker, setup| match backend {
            Backend::IoUring => {
                let post = handle.post(worker, &entrances[worker], &checked);
                turn_until_stopped(UringDriver::new(setup)?, post, &checked, &handle, &handlers)
            }
            Backend::Epoll => {
                let post = handle.post(worker, &entrances[worker], &checked);
                turn_until_stopped(EpollDriver::new(setup)?, post, &checked, &handle, &handlers)
            }
        };
        threads::run_pinned("longwire", seats, work, || handle.stop_now())?;
        Ok(handle.stats())
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The first TCP address that is listened on, with the port the kernel chose if it was asked
    /// to. None if there are Unix sockets alone.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addrs.iter().find_map(|addr| match addr {
            ListenAddr::Tcp(addr) => Some(*addr),
            ListenAddr::Unix(_) | ListenAddr::Abstract(_) => None,
        })
    }

    /// All addresses that are listened on, in the order in which they were given.
    pub fn local_addrs(&self) -> &[ListenAddr] {
        &self.addrs
    }

    /// How the server talks to the kernel.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why that backend, in one line.
    pub fn backend_reason(&self) -> &str {
        &self.backend_reason
    }

    /// The cores the workers are pinned to.
    pub fn cores(&self) -> &[usize] {
        &self.checked.cores
    }

    /// Connections that are taken at one time.
    pub fn conns_max(&self) -> usize {
        self.handle.conns_max()
    }

    /// Bytes that connections may make the whole server hold.
    pub fn memory_bytes_max(&self) -> usize {
        self.handle.memory_bytes_max()
    }

    /// Payload bytes of the largest message that is taken.
    pub fn message_bytes_max(&self) -> usize {
        self.handle.message_bytes_max()
    }
}

/// Speaks to a running server from any thread or async runtime; clones speak to the same server. Made
/// by [`Server::handle`], also before the server runs.
///
/// No call waits for a worker, except [`connections`](Self::connections). Within callbacks of a
/// handler the others may be used, too, but a [`Conn`](crate::Conn) is cheaper, and one publisher
/// should not use both: between the two there is no order.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<HandleInner>,
}

#[derive(Debug)]
struct HandleInner {
    wakes: Vec<Wake>,
    metrics: Vec<Arc<Metrics>>,
    shared: Arc<Shared>,
    settings: Mutex<Settings>,
    /// Dead once no worker listens any more.
    listening: Vec<Weak<OwnedFd>>,
}

impl Handle {
    fn new(checked: &Checked, builder: &Builder, places: &[Vec<Place>]) -> Result<Self, Error> {
        let workers = checked.cores.len();
        let wakes: io::Result<Vec<Wake>> = (0..workers).map(|_| Wake::new()).collect();
        let wakes = wakes.map_err(|source| Error::Worker { worker: 0, source })?;
        let budget = Budget::new(checked.memory_bytes_max);
        let shared = Shared::new(&wakes, builder.access()?, budget, builder.topics.clone());
        let inner = HandleInner {
            wakes,
            metrics: (0..workers).map(|_| Arc::default()).collect(),
            shared: Arc::new(shared),
            settings: Mutex::new(Settings::new(builder, checked)),
            listening: places.iter().flatten().map(|place| place.listener.socket()).collect(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stops the server: no more connections are accepted, each peer gets a Close frame (RFC 6455
    /// §7.1.2) with `code` ([`CloseCode::GOING_AWAY`], or [`CloseCode::SERVICE_RESTART`] if it will be back),
    /// what is queued still leaves, and after the stop timeout what is left is cut off.
    pub fn stop(&self, code: CloseCode) {
        self.order(StopOrder::at_once(code, self.settings().stop_timeout()));
    }

    /// Stops the server without a storm: as [`stop`](Self::stop), but the connections are told one after
    /// another, spread evenly over `drain_time` and in an order that is drawn by lot; those that are
    /// left are served until then. What is still open [`stop_timeout`](Builder::stop_timeout) after
    /// `drain_time` is cut off. A later [`stop_now`](Self::stop_now) ends it at once.
    pub fn drain(&self, code: CloseCode, drain_time: Duration) {
        let order = StopOrder::at_once(code, self.settings().stop_timeout());
        self.order(StopOrder { drain_time, seed: seed(), ..order });
    }

    /// The same when another process listens on from now on
    /// ([`listening_sockets`](Self::listening_sockets)): the sockets stay open for it, who waits
    /// there is its own, and whoever this server has accepted by then is served. A drain time of less than a
    /// second counts as one.
    pub fn hand_over(&self, code: CloseCode, drain_time: Duration) {
        let drain_time = drain_time.max(HAND_OVER_TIME_MIN);
        let order = StopOrder::at_once(code, self.settings().stop_timeout());
        self.order(StopOrder { drain_time, seed: seed(), handed_over: true, ..order });
    }

    /// The sockets that this server listens on, each with a descriptor of its own, for the process that is to
    /// [take them over](Builder::take_over). They listen for as long as anybody has one open: drop
    /// them if nobody does take over. None once the server has stopped listening.
    ///
    /// # Errors
    ///
    /// There may be no descriptors left.
    pub fn listening_sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut open: Vec<Arc<OwnedFd>> = Vec::new();
        for socket in self.inner.listening.iter().filter_map(Weak::upgrade) {
            // Workers may share one.
            if !open.iter().any(|other| Arc::ptr_eq(other, &socket)) {
                open.push(socket);
            }
        }
        open.iter().map(|socket| socket.try_clone()).collect()
    }

    /// Stops the server at once: what is left is cut off.
    pub fn stop_now(&self) {
        self.order(StopOrder::cut_off());
    }

    /// Publishes a message to all subscribers of a topic, on every core. What one thread publishes
    /// to one topic reaches each subscriber in that order, and at most once.
    ///
    /// The [`Receipt`] is a future that tells how many connections it was queued for; drop it if
    /// that is of no interest.
    ///
    /// # Errors
    ///
    /// [`PublishError`], and then nobody is sent the message: no topic has such a name, or a core
    /// has fallen so far behind that it takes no more.
    pub fn publish<'p>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Receipt, PublishError> {
        self.inner.shared.exchange.publish_from_outside(topic, payload.into())
    }

    /// Sends a message to one connection. False if its core has fallen so far behind that it takes
    /// no more orders ([`inbox_orders_max`](Builder::inbox_orders_max)): try again in a moment. What one
    /// thread sends to a connection arrives in that order. True says nothing of the connection, which may be gone by then; to one that
    /// reads too slowly happens what would happen to it by [`Conn::send`](crate::Conn::send).
    pub fn send<'p>(&self, conn: ConnId, payload: impl Into<Payload<'p>>) -> bool {
        let Payload { kind, bytes } = payload.into();
        let order = Order::Send { id: conn, kind, payload: bytes.into() };
        self.inner.shared.exchange.order(conn.core(), order)
    }

    /// Closes a connection, as [`Conn::close`](crate::Conn::close) does, if it is still there. False
    /// if its core has fallen so far behind that it takes no more orders.
    pub fn close(&self, conn: ConnId, code: CloseCode, reason: &str) -> bool {
        let code = if code.is_sendable() { code } else { CloseCode::NORMAL };
        let order = Order::Close { id: conn, code, reason: reason.into() };
        self.inner.shared.exchange.order(conn.core(), order)
    }

    /// Stops the server, as [`stop`](Self::stop) does with [`CloseCode::SERVICE_RESTART`] (1012); what
    /// is left after `deadline` is cut off, instead of after
    /// [`stop_timeout`](Builder::stop_timeout). Returns at once; [`Server::run`] returns when all is
    /// closed.
    pub fn shutdown(&self, deadline: Duration) {
        self.order(StopOrder::at_once(CloseCode::SERVICE_RESTART, deadline));
    }

    /// What the server has done so far. Cheap enough to call every second.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for metrics in &self.inner.metrics {
            stats.add(metrics);
        }
        stats
    }

    /// The same, of each core by itself.
    pub fn core_stats(&self) -> Vec<Stats> {
        let of_core = |metrics: &Arc<Metrics>| {
            let mut stats = Stats::default();
            stats.add(metrics);
            stats
        };
        self.inner.metrics.iter().map(of_core).collect()
    }

    /// Tells, when it is asked again and again, for how long workers have been at one turn.
    pub fn turn_watch(&self) -> TurnWatch {
        TurnWatch::new(self.inner.metrics.clone())
    }

    /// Some of the open connections, at most `conns_max`. Blocks until all cores have answered, or
    /// `timeout` has passed; then those are missing that have not. Not for the thread of a worker,
    /// which would wait for itself.
    pub fn connections(&self, conns_max: usize, timeout: Duration) -> Vec<ConnInfo> {
        let order = |answer| Order::List(Listing { conns_max, answer });
        let mut conns = self.ask_all(order, timeout);
        conns.truncate(conns_max);
        conns
    }

    /// How the last connections ended, newest first, at most `records_max` of those that are kept
    /// ([`closes_kept`](crate::Builder::closes_kept)). Blocks as [`connections`](Self::connections)
    /// does.
    pub fn closes(&self, records_max: usize, timeout: Duration) -> Vec<CloseRecord> {
        let order = |answer| Order::ListCloses(ClosesListing { records_max, answer });
        let mut records: Vec<CloseRecord> = self.ask_all(order, timeout);
        records.sort_by_key(|record| std::cmp::Reverse(record.at));
        records.truncate(records_max);
        records
    }

    /// Shows the frames of some connections as they come and go, with up to `payload_bytes_max` bytes
    /// (4096 at most) of their payloads; 0 shows none. For people who look for a fault: up to eight taps
    /// at a time, and what is not fetched in time is left out and counted. Ends when the tap is dropped.
    pub fn tap(&self, target: TapTarget, payload_bytes_max: usize) -> Tap {
        let workers = match &target {
            TapTarget::Conn(id) => id.core()..id.core() + 1,
            TapTarget::Topic(_) | TapTarget::Addr(_) => 0..self.inner.wakes.len(),
        };
        let (order, tap) = TapOrder::new(target, payload_bytes_max);
        if workers.end > self.inner.wakes.len() {
            order.tell(TapEvent::Missing);
            return tap;
        }
        for worker in workers {
            // A full inbox takes it as well: where there is a fault, workers have fallen behind.
            let order = Order::Tap(Box::new(order.clone()));
            self.inner.shared.exchange.order_certainly(worker, order);
        }
        tap
    }

    /// Gives an order to each core, and waits for what they answer.
    fn ask_all<T>(&self, order: impl Fn(Sender<Vec<T>>) -> Order, timeout: Duration) -> Vec<T> {
        let (answer, answers) = mpsc::channel();
        for worker in 0..self.inner.wakes.len() {
            self.inner.shared.exchange.order(worker, order(answer.clone()));
        }
        drop(answer);
        let end = Instant::now() + timeout;
        let left = || end.saturating_duration_since(Instant::now());
        let mut all = Vec::new();
        while let Ok(more) = answers.recv_timeout(left()) {
            all.extend(more);
        }
        all
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.inner.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, worker: usize, entrances: &[usize], checked: &Checked) -> Post {
        let doors = entrances.iter().map(|entrance| checked.door(*entrance)).collect();
        Post { number: worker, metrics: Arc::clone(&self.inner.metrics[worker]), doors }
    }

    fn is_stopping(&self) -> bool {
        self.inner.shared.stop.is_given()
    }

    fn order(&self, order: StopOrder) {
        self.inner.shared.stop.give(order);
        for wake in &self.inner.wakes {
            wake.wake();
        }
    }
}

/// Another jitter for each drain. Nothing depends on its being a secret.
fn seed() -> u64 {
    RandomState::new().hash_one(())
}

fn turn_until_stopped<D: Driver, H: Handler>(
    driver: D,
    post: Post,
    checked: &Checked,
    handle: &Handle,
    handlers: &impl Fn(usize) -> H,
) -> io::Result<()> {
    let inner = &handle.inner;
    let handler = Served(handlers(post.number));
    let (limits, shared) = (checked.limits_of(post.number), Arc::clone(&inner.shared));
    Worker::new(driver, handler, limits, checked.memory, post, shared).run()
}
