//! Starts servers for the tests, on every backend, and hears what they report.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use longwire::{
    Backend, BackendChoice, Builder, CloseCode, ConnId, Error, Handle, Handler, ListenAddr, Server,
    Side, Stats,
};

use crate::app::{App, Call, Event};
use crate::backends;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server that runs in this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    /// The first TCP address.
    pub(crate) addr: SocketAddr,
    pub(crate) addrs: Vec<ListenAddr>,
    pub(crate) handle: Handle,
    calls: Receiver<Call>,
    thread: Option<JoinHandle<Result<Stats, Error>>>,
}

/// Runs `check` on each backend that this machine has, on all of them at the same time.
pub(crate) fn on_every_backend(check: fn(BackendChoice)) {
    let io_uring = has_io_uring().then_some(BackendChoice::IoUring);
    backends::run_on_each(BackendChoice::Epoll, io_uring, check);
}

/// Whether io_uring may be used here. Where it may not, the test says so, and fails if `CI` is set.
pub(crate) fn has_io_uring() -> bool {
    backends::has_io_uring(|| {
        let settings = Server::builder().listen(loopback().into()).backend(BackendChoice::IoUring);
        settings.build().err().map(|error| error.to_string())
    })
}

/// A server on `backend` with one worker and a port of its own, all else at its default.
pub(crate) fn builder(backend: BackendChoice) -> Builder {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // The servers of all tests would sit on the first core.
    let cores = usable_cores();
    let core = cores[NEXT.fetch_add(1, Ordering::Relaxed) % cores.len()];
    Server::builder().listen(loopback().into()).backend(backend).cores(vec![core])
}

/// The cores this process may use.
pub(crate) fn usable_cores() -> Vec<usize> {
    let server = Server::builder().listen(loopback().into()).backend(BackendChoice::Epoll).build();
    server.unwrap().cores().to_vec()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Running {
    /// A server at its defaults.
    pub(crate) fn start(backend: BackendChoice) -> Self {
        Self::start_with(backend, builder(backend))
    }

    pub(crate) fn start_with(backend: BackendChoice, builder: Builder) -> Self {
        Self::try_start(backend, builder).unwrap()
    }

    pub(crate) fn try_start(backend: BackendChoice, builder: Builder) -> Result<Self, Error> {
        let (sender, calls) = channel();
        let app = move |worker| App { worker, calls: sender.clone() };
        let mut running = Self::try_serve(backend, builder, app)?;
        running.calls = calls;
        Ok(running)
    }

    /// A server of another application, whose calls are its own affair.
    pub(crate) fn serve<H: Handler>(
        backend: BackendChoice,
        builder: Builder,
        handlers: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Self {
        Self::try_serve(backend, builder, handlers).unwrap()
    }

    fn try_serve<H: Handler>(
        backend: BackendChoice,
        builder: Builder,
        handlers: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let server = builder.build()?;
        let expected = match backend {
            BackendChoice::IoUring => Backend::IoUring,
            BackendChoice::Epoll | BackendChoice::Auto => Backend::Epoll,
        };
        assert_eq!(server.backend(), expected);
        let (addr, handle) = (server.local_addr().expect("one of TCP"), server.handle());
        let addrs = server.local_addrs().to_vec();
        let (_, calls) = channel();
        let run = move || server.run(handlers);
        let thread = thread::Builder::new().name(format!("{backend} server"));
        let thread = Some(thread.spawn(run).unwrap());
        Ok(Self { addr, addrs, handle, calls, thread })
    }

    /// The next call of the application.
    pub(crate) fn next_call(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a call of the application")
    }

    /// The next call, which has to be a `close`; of which connection, and how it ended.
    pub(crate) fn next_close(&self) -> (ConnId, u16, Side) {
        loop {
            let Call { conn, event, .. } = self.next_call();
            if let Event::Close { code, side, .. } = event {
                return (conn, code, side);
            }
        }
    }

    /// The calls that have come and were not asked for.
    pub(crate) fn other_calls(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }

    /// Waits until the counters say so.
    pub(crate) fn await_stats(&self, what: &str, is_so: impl Fn(&Stats) -> bool) {
        wait_until(what, || is_so(&self.handle.stats()), || format!("{:?}", self.handle.stats()));
    }

    /// Stops it in order; what it has done.
    pub(crate) fn stop(mut self) -> Stats {
        self.handle.stop(CloseCode::GOING_AWAY);
        self.join()
    }

    /// Waits for its end, once it was told to stop.
    pub(crate) fn join(&mut self) -> Stats {
        let thread = self.thread.take().expect("joined once");
        wait_until("the server to end", || thread.is_finished(), String::new);
        thread.join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop_now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Polls until it is so; tells the `state` if it does not come to that.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool, state: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what} {}", state());
        thread::sleep(Duration::from_millis(2));
    }
}
