//! From the flags that all scenarios have to what a run starts from: the address, the server to
//! observe, the sources, the settings of the client; and the limits in the way, before anything is
//! opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longwire::{Client, Compression, Target, parse_cores};

use super::pilot::Dialing;
use super::trust;
use crate::args::Common;
use crate::observe::Server;
use crate::preflight::limits::nofile_of;
use crate::preflight::{Limits, Plan, SourceAddrs, check, is_here};
use crate::signals::Signals;
use crate::url::Url;

/// Messages of a server above this are refused.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Room beside the connections wanted, for those that come while others go.
const CONNS_SPARE: usize = 64;

/// What a run starts from.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) url: Url,
    pub(crate) addr: SocketAddr,
    pub(crate) server: Option<Server>,
    pub(crate) signals: Signals,
    pub(crate) is_here: bool,
    /// Connections of all threads.
    pub(crate) conns: u64,
    pub(crate) quiet: bool,
    pub(crate) settings: BTreeMap<String, String>,
    /// Remarks made before the run.
    pub(crate) notes: Vec<String>,
    pub(crate) backend: String,
    pub(crate) threads: usize,
    common: Common,
    /// What each connection is made from.
    target: Target,
    sources: Arc<SourceAddrs>,
    ping: Option<Duration>,
}

impl Setup {
    /// Looks up the address, starts or finds the server, and makes sure that `conns` connections
    /// fit; `passing` more use a port for a while.
    pub(crate) fn new(
        common: &Common,
        conns: usize,
        passing: usize,
        settings: BTreeMap<String, String>,
    ) -> Result<Self, String> {
        // Before the server is started: whoever ends this program early must not leave it behind.
        let signals = Signals::new()?;
        let mut url = Url::parse(&common.url).map_err(|error| error.to_string())?;
        url.resolve().map_err(|error| error.to_string())?;
        let addr = pick(&url.addrs, common.server.is_some());
        let target = target(common, &url, addr)?;
        for file in [&common.json, &common.html].into_iter().flatten() {
            crate::show::check_output(file)?;
        }
        let limits = Limits::read();
        let conns = conns as u64;
        let ports = conns.saturating_add(passing as u64);
        let sources = SourceAddrs::new(addr, ports, &common.source, limits.ports_per_source())
            .map_err(|error| error.to_string())?;
        let threads = threads(common)?;
        let server = match (&common.server, common.pid) {
            (Some(command), _) => Some(Server::start(command, addr)),
            (None, Some(pid)) => Some(Server::of_pid(pid)),
            (None, None) => None,
        };
        let server = server.transpose().map_err(|error| error.to_string())?;
        let plan = Plan {
            conns,
            threads: threads as u64,
            target: addr,
            sources: &sources,
            direct_descriptors: common.direct_descriptors,
            tls: url.tls,
            deflate_takeover: common.deflate.deflate_takeover,
            target_is_here: is_here(addr),
            server_nofile: server.as_ref().and_then(|server| nofile_of(server.pid())),
        };
        let obstacles = check(&plan, &limits);
        for obstacle in &obstacles {
            eprintln!("{} {obstacle}", if obstacle.fatal { "limit:" } else { "note:" });
        }
        if obstacles.iter().any(|obstacle| obstacle.fatal) {
            return Err(format!("{conns} connections do not fit; see above for what to do"));
        }
        let notes = server.as_ref().and_then(|server| server.doubt(addr)).into_iter().collect();
        let is_here = plan.target_is_here;
        let mut setup = Self {
            url,
            addr,
            server,
            signals,
            is_here,
            conns,
            quiet: common.quiet,
            settings,
            notes,
            backend: String::new(),
            threads,
            common: common.clone(),
            target,
            sources: Arc::new(sources),
            ping: None,
        };
        setup.backend = setup.client()?.backend().name().to_owned();
        Ok(setup)
    }

    /// Silence after which a connection sends a ping; none by default.
    pub(crate) fn ping(mut self, interval: Option<Duration>) -> Self {
        self.ping = interval;
        self
    }

    /// The client, ready to run.
    pub(crate) fn client(&self) -> Result<Client, String> {
        let common = &self.common;
        let conns = usize::try_from(self.conns).unwrap_or(usize::MAX);
        let mut builder = Client::builder()
            .backend(common.backend)
            .workers(self.threads)
            .cores(cores(common)?)
            .direct_descriptors(common.direct_descriptors)
            .message_bytes_max(MESSAGE_BYTES_MAX)
            .handshake_timeout(common.timeout)
            .close_timeout(common.timeout)
            .write_stall_timeout(Duration::from_secs(3600))
            .compression(self.compression())
            .ping_interval(self.ping);
        // A thread needs room for its own share only; with descriptors of the process the limit is
        // that of all threads.
        if common.direct_descriptors {
            builder = builder.conns_max(conns.div_ceil(self.threads) + CONNS_SPARE);
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// Each thread's share of the connections.
    pub(crate) fn dialing(&self, workers: usize) -> Vec<Dialing> {
        let workers = workers as u64;
        let start = |worker: u64| self.conns * worker / workers;
        let shares = (0..workers).map(|worker| Dialing {
            target: self.target.clone(),
            sources: Arc::clone(&self.sources),
            conns: start(worker + 1) - start(worker),
            first: start(worker),
            handshakes: self.common.handshakes.div_ceil(self.threads),
        });
        shares.collect()
    }

    /// The compression that is offered, if any.
    fn compression(&self) -> Option<Compression> {
        let deflate = &self.common.deflate;
        deflate.deflate.then(|| Compression::new().context_takeover(deflate.deflate_takeover))
    }

    /// Whether compression is offered.
    pub(crate) fn offers_compression(&self) -> bool {
        self.common.deflate.deflate
    }

    /// The command that starts the server, if it is ours to start.
    pub(crate) fn server_command(&self) -> Option<&str> {
        self.common.server.as_deref()
    }
}

/// Where to connect, whom to trust there, and what to ask for.
fn target(common: &Common, url: &Url, addr: SocketAddr) -> Result<Target, String> {
    let protocols: Vec<&str> = common.protocol.iter().map(String::as_str).collect();
    let mut target = Target::new(addr, &url.host, &url.path).protocols(&protocols);
    for (name, value) in &common.header {
        target = target.header(name, value);
    }
    trust::secured(target, url, &common.tls)
}

/// A server that is started here may listen on one of the addresses of a name only; most listen on
/// IPv4.
fn pick(addrs: &[SocketAddr], is_started_here: bool) -> SocketAddr {
    let listens = |addr: &&SocketAddr| {
        std::net::TcpStream::connect_timeout(addr, Duration::from_millis(500)).is_ok()
    };
    let first_v4 = addrs.iter().find(|addr| addr.is_ipv4());
    let found = if addrs.len() < 2 {
        None
    } else if is_started_here {
        first_v4
    } else {
        addrs.iter().find(listens)
    };
    *found.or_else(|| addrs.first()).expect("a resolved URL has an address")
}

fn usable_cores() -> Result<Vec<usize>, String> {
    let client = Client::builder().backend(longwire::BackendChoice::Epoll).build();
    client.map(|client| client.cores().to_vec()).map_err(|error| error.to_string())
}

/// One for each core, but one left for the server.
fn threads(common: &Common) -> Result<usize, String> {
    match (common.threads, &common.cores) {
        (Some(0), _) => Err("--threads is 0; it must be at least 1".to_owned()),
        (Some(threads), _) => Ok(threads),
        (None, Some(_)) => Ok(cores(common)?.len()),
        (None, None) => Ok((usable_cores()?.len() - 1).max(1)),
    }
}

/// The last cores, because a server with fewer threads than cores mostly takes the first.
fn cores(common: &Common) -> Result<Vec<usize>, String> {
    if let Some(list) = &common.cores {
        return parse_cores(list);
    }
    let usable = usable_cores()?;
    let first = if usable.len() > 1 { 1 } else { 0 };
    let mut cores = usable[first..].to_vec();
    cores.reverse();
    Ok(cores)
}
