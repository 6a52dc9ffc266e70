//! From settings to running workers in the client role: one pinned thread, one event loop each,
//! and no listener.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::compression::Compression;
use crate::config::{self, Checked};
use crate::dialer::ClientHandler;
use crate::error::Error;
use crate::io::Outgoing;
use crate::io::backend::{self, Backend, BackendChoice, DriverSetup};
use crate::io::epoll::EpollDriver;
use crate::io::uring::UringDriver;
use crate::io::wake::Wake;
use crate::metrics::{Metrics, Stats};
use crate::policy::budget::Budget;
use crate::pubsub::TopicSettings;
use crate::threads::{self, Seat};
use crate::worker::{Access, Dialed, Post, Shared, StopOrder, Worker};

/// Settings of a [`Client`]. Start from [`Client::builder`]; the defaults serve most.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    settings: config::Builder,
}

impl Builder {
    /// How to talk to the kernel. Default [`BackendChoice::Auto`]: io_uring if it works here,
    /// else epoll.
    pub fn backend(mut self, backend: BackendChoice) -> Self {
        self.settings = self.settings.backend(backend);
        self
    }

    /// Number of workers, each with a thread and a handler of its own. Default: one for each core
    /// in the list of [`cores`](Self::cores). From 1 to 1024; more workers than cores share these.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings = self.settings.workers(workers);
        self
    }

    /// Cores to pin the workers to, in turn. Default: all that the process may use.
    pub fn cores(mut self, cores: Vec<usize>) -> Self {
        self.settings = self.settings.cores(cores);
        self
    }

    /// Whether io_uring keeps connections as direct descriptors, which do not count against the
    /// descriptor limit: a worker holds at most as many as that says; the process, that times its
    /// workers. Default off. Needs the io_uring backend.
    pub fn direct_descriptors(mut self, on: bool) -> Self {
        self.settings = self.settings.direct_descriptors(on);
        self
    }

    /// Connections of one worker at one time. Default: what the descriptor limit of the process
    /// allows in total. From 1. Costs nothing until they are made.
    pub fn conns_max(mut self, conns: usize) -> Self {
        self.settings = self.settings.conns_max(conns);
        self
    }

    /// Payload bytes of one message or frame that is taken, from 125; a larger one closes the
    /// connection with 1009. Default 64 KiB.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.settings = self.settings.message_bytes_max(bytes);
        self
    }

    /// Bytes queued for a connection above which it takes no more messages and is closed with
    /// 1013. Default 1 MiB, or room for two of the largest messages if that is more.
    pub fn send_bytes_max(mut self, bytes: usize) -> Self {
        self.settings = self.settings.send_bytes_max(bytes);
        self
    }

    /// Bytes queued for a connection above which it is not read, until half of them have left.
    /// Default 64 KiB.
    pub fn send_high_water_bytes(mut self, bytes: usize) -> Self {
        self.settings = self.settings.send_high_water_bytes(bytes);
        self
    }

    /// Whether to offer compression of messages, and how to compress (permessage-deflate,
    /// RFC 7692). Default `None`: it is not offered.
    pub fn compression(mut self, compression: Option<Compression>) -> Self {
        self.settings = self.settings.compression(compression);
        self
    }

    /// From the start of connecting to the end of the answer's head. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.handshake_timeout(timeout);
        self
    }

    /// Silence of the server after which it is sent a ping; 80 % to 120 % of this, spread over the
    /// connections. Default 30 s; `None` sends none.
    pub fn ping_interval(mut self, interval: Option<Duration>) -> Self {
        self.settings = self.settings.ping_interval(interval);
        self
    }

    /// From a ping to any sign of life, after which the connection is dropped. Default 20 s.
    pub fn pong_timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.pong_timeout(timeout);
        self
    }

    /// Time in which the server must take at least 64 bytes of what is queued for it, or the
    /// connection is dropped. Default 30 s.
    pub fn write_stall_timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.write_stall_timeout(timeout);
        self
    }

    /// From our Close frame to the server's, after which the connection is dropped. Default 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.close_timeout(timeout);
        self
    }

    /// Checks the settings and chooses the backend.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for settings that make no sense, [`Error::Backend`] if the backend that
    /// was asked for is not available.
    pub fn build(self) -> Result<Client, Error> {
        let mut checked = self.settings.checked()?;
        // A handler bounds its own handshakes; nobody else makes any.
        checked.limits.handshakes_max = usize::MAX;
        // There is nobody who could ask for them.
        checked.limits.closes_kept = 0;
        let (backend, backend_reason) = self.settings.chosen_backend()?;
        let direct_descriptors = self.settings.direct_descriptors;
        Ok(Client { checked, direct_descriptors, backend, backend_reason })
    }
}

/// Makes very many connections to WebSocket servers: the same event loops as the server's, in the
/// client role.
///
/// ```no_run
/// use std::time::Instant;
///
/// use longwire::{Client, ClientHandler, Conn, Dialer, Message, Target};
///
/// struct Hello(Option<Target>);
///
/// impl ClientHandler for Hello {
///     type State = ();
///
///     fn turn(&mut self, dialer: &mut Dialer<'_, ()>) -> Option<Instant> {
///         match self.0.take() {
///             Some(target) => drop(dialer.connect(&target, None, ())),
///             None if dialer.conn_count() == 0 => dialer.stop(),
///             None => {}
///         }
///         None
///     }
///
///     fn open(&mut self, conn: &mut Conn<'_, ()>) {
///         let _ = conn.send_text("hello");
///     }
///
///     fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
///         println!("{:?}", message.text());
///         conn.close(longwire::CloseCode::NORMAL, "");
///     }
/// }
///
/// let target = Target::new("127.0.0.1:9001".parse().unwrap(), "127.0.0.1:9001", "/");
/// Client::builder().workers(1).build()?.run(|_worker| Hello(Some(target.clone())))?;
/// # Ok::<(), longwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Client {
    checked: Checked,
    direct_descriptors: bool,
    backend: Backend,
    backend_reason: String,
}

impl Client {
    /// The settings of a client, all at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs until each worker was stopped by its handler ([`Dialer::stop`](crate::Dialer::stop)):
    /// starts a thread for each, pins it to its core and calls `handlers` there, with the worker's
    /// number from 0. Returns what the client has done.
    ///
    /// # Errors
    ///
    /// [`Error::Worker`] if a worker cannot start, its event loop fails, or its handler panics in
    /// `turn`. The others are stopped at once: what they have open is cut off.
    pub fn run<H, F>(self, handlers: F) -> Result<Stats, Error>
    where
        H: ClientHandler,
        F: Fn(usize) -> H + Send + Sync,
    {
        let metrics: Vec<Arc<Metrics>> =
            self.checked.cores.iter().map(|_| Arc::default()).collect();
        let seats = self.seats()?;
        let wakes: Vec<Wake> = seats.iter().map(|seat| seat.setup.wake.clone()).collect();
        let topics = TopicSettings::default();
        let shared = Shared::new(&wakes, Access::default(), Budget::default(), topics);
        let shared = Arc::new(shared);
        let work = |worker: usize, setup| {
            let metrics = Arc::clone(&metrics[worker]);
            let post = Post { number: worker, metrics, doors: Vec::new() };
            let shared = Arc::clone(&shared);
            match self.backend {
                Backend::IoUring => {
                    self.turn(UringDriver::new(setup)?, post, shared, handlers(worker))
                }
                Backend::Epoll => {
                    self.turn(EpollDriver::new(setup)?, post, shared, handlers(worker))
                }
            }
        };
        let stop_others = || {
            shared.stop.give(StopOrder::cut_off());
            wakes.iter().for_each(Wake::wake);
        };
        threads::run_pinned("client", seats, work, stop_others)?;
        let mut stats = Stats::default();
        for metrics in &metrics {
            stats.add(metrics);
        }
        Ok(stats)
    }

    /// How the client talks to the kernel.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why that backend, in one line.
    pub fn backend_reason(&self) -> &str {
        &self.backend_reason
    }

    /// The cores the workers are pinned to, one for each.
    pub fn cores(&self) -> &[usize] {
        &self.checked.cores
    }

    /// A seat for each worker. The wakes are made before any worker runs, so that one that fails
    /// reaches even those that have not begun.
    fn seats(&self) -> Result<Vec<Seat>, Error> {
        let seat = |(worker, core): (usize, &usize)| {
            let wake = Wake::new().map_err(|source| Error::Worker { worker, source })?;
            let setup = DriverSetup {
                listeners: Vec::new(),
                wake,
                conns_max: u32::try_from(self.checked.limits.conns_max).unwrap_or(u32::MAX),
                direct_descriptors: self.direct_descriptors,
                ring_entries: backend::RING_ENTRIES,
            };
            Ok(Seat { core: *core, setup })
        };
        self.checked.cores.iter().enumerate().map(seat).collect()
    }

    fn turn<D: Outgoing, H: ClientHandler>(
        &self,
        driver: D,
        post: Post,
        shared: Arc<Shared>,
        handler: H,
    ) -> io::Result<()> {
        let limits = self.checked.limits.clone();
        let application = Dialed(handler);
        let memory = self.checked.memory;
        Worker::new(driver, application, limits, memory, post, shared).run()
    }
}
