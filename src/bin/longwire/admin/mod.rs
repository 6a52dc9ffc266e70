//! The administration port: a thread beside the workers, which speaks to them only by a `Handle`.
//!
//! It holds few connections, each for a bounded time, with a bounded head and a bounded body. Who may
//! ask for what is decided in [`guard`] alone, before anything else is looked at.

mod broker;
mod closes;
mod connections;
mod guard;
mod metrics;
mod page;
mod stats;
mod tap;
mod topics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use longwire::{Error, Handle, ListenAddr, Stats};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::args::{AdminAddr, AdminArgs};
use crate::broker::{Broker, Port};
use crate::life::Stage;
use crate::topic::TopicRules;
use guard::Guard;
use tap::{Lease, UNREAD_MAX};

/// Connections at one time; more wait to be accepted. The server leaves 64 descriptors to the process.
const CONNS_MAX: usize = 32;
/// For a request head, from the end of the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADER_COUNT_MAX: usize = 64;
/// After it a connection ends with the answer that is due, which must leave within the grace.
const LIFETIME_MAX: Duration = Duration::from_secs(300);
const LIFETIME_GRACE: Duration = Duration::from_secs(10);
/// How often one looks whether a connection has had its time.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);
/// How long accepting rests when descriptors have run out.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The port, before anybody is served.
pub(crate) struct Door {
    listener: TcpListener,
    addr: SocketAddr,
    guard: Guard,
}

/// What does not change while a server runs.
pub(crate) struct Facts {
    pub(crate) backend: String,
    /// Where WebSockets are opened.
    pub(crate) urls: Vec<String>,
}

/// What is looked after, as requests see it.
pub(crate) struct Admin {
    handle: Handle,
    stage: Stage,
    rules: Arc<TopicRules>,
    facts: Facts,
    /// With a way to it of its own.
    broker: Option<(Broker, Port)>,
    began: Instant,
    /// Taps that may still begin.
    taps: Arc<Semaphore>,
}

/// Whether the administration can be as it is asked for.
pub(crate) fn check(args: &AdminArgs) -> Result<(), Error> {
    match args.addr {
        AdminAddr::Nowhere => Ok(()),
        AdminAddr::Tcp(addr) => guard_of(args, addr).map(drop),
    }
}

fn guard_of(args: &AdminArgs, addr: SocketAddr) -> Result<Guard, Error> {
    if !addr.ip().to_canonical().is_loopback() && args.token.is_none() {
        return Err(Error::Misuse(format!(
            "--admin {addr} can be reached from other machines and needs a token: \
             --admin-token or LONGWIRE_ADMIN_TOKEN"
        )));
    }
    Guard::new(args.token.as_deref(), &args.hosts)
}

impl Door {
    /// Listens, if it was asked for: at a socket that this process was given, if it was.
    pub(crate) fn open(args: &AdminArgs, given: Option<OwnedFd>) -> Result<Option<Self>, Error> {
        let AdminAddr::Tcp(addr) = args.addr else { return Ok(None) };
        let given = given.map(TcpListener::from);
        let addr = given.as_ref().map_or(Ok(addr), TcpListener::local_addr).unwrap_or(addr);
        let guard = guard_of(args, addr)?;
        let failed = |source| Error::Listen { addr: ListenAddr::Tcp(addr), source };
        let listener = given.map_or_else(|| TcpListener::bind(addr), Ok).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Some(Self { listener, addr, guard }))
    }

    /// Its socket, for a process that goes on with it.
    pub(crate) fn socket(&self) -> Result<OwnedFd, Error> {
        let failed = |source| Error::Listen { addr: ListenAddr::Tcp(self.addr), source };
        self.listener.as_fd().try_clone_to_owned().map_err(failed)
    }

    /// Where it listens, with the port that the kernel has chosen if it was asked to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves from a thread of its own until the process ends; no new connections when another
    /// process goes on with the port.
    pub(crate) fn serve(self, admin: Admin) -> Result<(), Error> {
        let failed = |source| Error::Worker { worker: 0, source };
        let Self { listener, guard, .. } = self;
        let stage = admin.stage.clone();
        let router = router(Arc::new(admin), Arc::new(guard));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // For lists of connections, which are waited for.
            .max_blocking_threads(2)
            .build()
            .map_err(failed)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let serve = move || {
            runtime.block_on(async {
                // Until then a predecessor answers at the port.
                stage.began().await;
                let accepting = tokio::spawn(accept(listener, router));
                stage.handed_over().await;
                accepting.abort();
                std::future::pending::<()>().await;
            });
        };
        thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(failed)?;
        Ok(())
    }
}

impl Admin {
    pub(crate) fn new(
        handle: Handle,
        stage: Stage,
        rules: Arc<TopicRules>,
        facts: Facts,
        broker: Option<Broker>,
    ) -> Self {
        let broker = broker.map(|broker| (broker.clone(), broker.port()));
        let taps = Arc::new(Semaphore::new(tap::TAPS_MAX));
        Self { handle, stage, rules, facts, broker, began: Instant::now(), taps }
    }

    /// What each worker has done.
    fn cores(&self) -> Vec<Stats> {
        self.handle.core_stats()
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

fn router(admin: Arc<Admin>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/", get(page::show))
        .route("/healthz", get(broker::health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::scrape))
        .route("/stats.json", get(stats::show))
        .route("/connections", get(connections::list))
        .route("/tap", get(tap::watch))
        .route("/gaps", get(broker::gaps))
        .route("/topics/", post(topics::publish))
        .route("/topics/{*name}", post(topics::publish))
        .fallback(|| async { fault(StatusCode::NOT_FOUND, "there is no such page") })
        .method_not_allowed_fallback(|| async {
            fault(StatusCode::METHOD_NOT_ALLOWED, "the Allow header names the methods")
        })
        .layer(axum::middleware::from_fn_with_state(guard, guard::check))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.stage.is_serving() {
        text(StatusCode::OK, "ready\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "not accepting connections\n")
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let seats = Arc::new(Semaphore::new(CONNS_MAX));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await;
        let seat = seat.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, router.clone(), seat))),
            Err(error) => {
                tracing::debug!("administration: accept: {error}");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// One connection, until it ends or its time is over.
async fn converse(stream: TcpStream, router: Router, _seat: OwnedSemaphorePermit) {
    // Answers are whole writes; waiting for more of them gains nothing.
    let _ = stream.set_nodelay(true);
    let mut settings = http1::Builder::new();
    settings
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADER_COUNT_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let lease = Lease::default();
    let service = TowerToHyperService::new(router.layer(Extension(lease.clone())));
    let mut conn = pin!(settings.serve_connection(TokioIo::new(stream), service));
    // How a connection fails is its client's to know.
    let began = Instant::now();
    while timeout(REVIEW_INTERVAL, conn.as_mut()).await.is_err() {
        match lease.unread_since() {
            Some(since) if since.elapsed() >= UNREAD_MAX => return,
            None if began.elapsed() >= LIFETIME_MAX => {
                conn.as_mut().graceful_shutdown();
                let _ = timeout(LIFETIME_GRACE, conn).await;
                return;
            }
            Some(_) | None => {}
        }
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn text(status: StatusCode, text: &'static str) -> Response {
    answer(status, "text/plain; charset=utf-8", text)
}

fn show(status: StatusCode, value: &Value) -> Response {
    answer(status, "application/json", value.to_string())
}

/// What is wrong, for a program and for who reads its log.
fn fault(status: StatusCode, what: &str) -> Response {
    show(status, &json!({ "error": what }))
}

/// Bytes of memory that the process has.
fn resident_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or_default() * 1024)
}
