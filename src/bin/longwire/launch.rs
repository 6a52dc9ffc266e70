//! From flags to a running server: what all commands that serve have in common.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use longwire::{
    Builder, Compression, Error, Handler, ListenAddr, Request, Server, Tls, TlsWatcher, parse_cores,
};

use crate::args::{Command, DeflateArgs, ServerArgs};
use crate::config::{Configured, Reload};
use crate::life::{Given, Life, Plan, Predecessor, Stage};
use crate::say::say;
use crate::topic::TopicRules;
use crate::{echo, limits, secure, serve};

/// A server that listens, with all that it takes to run it.
pub(crate) struct Launch {
    args: ServerArgs,
    server: Server,
    tls: Option<Tls>,
    is_activated: bool,
    reload: Reload,
    predecessor: Predecessor,
    /// Takes up new certificates for as long as it is there.
    _watcher: Option<TlsWatcher>,
}

/// What a command has to say beside what all of them say when they are ready.
pub(crate) struct Words {
    /// Further places where the process listens, a line for each.
    pub(crate) places: Vec<String>,
    /// How to try it, in one line.
    pub(crate) how_to_try: String,
}

impl Launch {
    /// Listens as the flags say, or as this process was given sockets; `adjust` adds what the
    /// command has settings of its own for.
    pub(crate) fn new(
        args: &ServerArgs,
        configured: &Configured,
        given: Given,
        adjust: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self, Error> {
        limits::raise_descriptor_limit();
        let mut args = args.clone();
        given.apply(&mut args)?;
        let tls = secure::tls(&args.tls)?;
        let is_activated = given.is_activated();
        let (builder, predecessor) = given.give(adjust(builder(&args, tls.as_ref())?));
        let watcher = tls.as_ref().map(secure::watch).transpose()?;
        let server = builder.build()?;
        let reload = Reload::new(configured, &args, tls.clone(), is_activated);
        if args.access.origin.is_empty() && !args.access.allow_any_origin {
            tracing::warn!(
                "scripts of any site may connect; --origin https://example.org lets in only those \
                 of that site, --allow-any-origin says that it is meant"
            );
        }
        Ok(Self { args, server, tls, is_activated, reload, predecessor, _watcher: watcher })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Where WebSockets are opened by TCP, such as `wss://127.0.0.1:9001`.
    pub(crate) fn urls(&self) -> Vec<String> {
        let places = self.server.local_addrs().iter().enumerate();
        let tcp = places.filter(|(_, addr)| matches!(addr, ListenAddr::Tcp(_)));
        tcp.map(|(index, addr)| {
            format!("{}://{addr}", if self.is_tls(index) { "wss" } else { "ws" })
        })
        .collect()
    }

    /// How to try it without a browser, where there are Unix sockets alone.
    pub(crate) fn how_to_try_by_shell(&self) -> String {
        let flag = match self.server.local_addrs().first() {
            Some(ListenAddr::Unix(path)) => format!("--unix-socket '{}'", path.display()),
            Some(ListenAddr::Abstract(name)) => format!("--abstract-unix-socket '{name}'"),
            _ => String::new(),
        };
        // Its certificate may be one that it has made itself.
        let url = if self.is_tls(0) { "-k https://localhost/" } else { "http://localhost/" };
        format!("in a shell (426 means that it is there):  curl -i {flag} {url}")
    }

    /// Serves until a signal stops it.
    pub(crate) fn run<H: Handler>(
        self,
        words: &Words,
        stage: &Stage,
        admin: Option<OwnedFd>,
        handler: impl Fn() -> H + Send + Sync,
    ) -> Result<(), Error> {
        let announcement = self.announcement(words);
        let places = self.server.local_addrs().iter().enumerate();
        let tls_places = places.filter(|(index, _)| self.is_tls(*index));
        let tls_places = tls_places.map(|(_, addr)| addr.clone()).collect();
        let Self { server, tls, is_activated, reload, predecessor, _watcher, .. } = self;
        let (handle, stage) = (server.handle(), stage.clone());
        let (serving, stopping) = (stage.clone(), handle.clone());
        let life =
            Life::begin(Plan { handle, stage, tls, reload, tls_places, admin, is_activated })?;
        // A worker asks for its handler when it is ready, so the last to ask makes the server ready.
        let waiting_count = AtomicUsize::new(server.cores().len());
        let stats = server.run(|_worker| {
            if waiting_count.fetch_sub(1, Ordering::Relaxed) == 1 {
                if serving.serve() {
                    say(&announcement);
                    life.ready();
                    predecessor.tell_ready();
                } else {
                    // Before the server takes the sockets over: who lends them goes on.
                    stopping.stop_now();
                }
            }
            handler()
        })?;
        say(format_args!("stopped: {} connections, {} messages", stats.opened, stats.messages));
        Ok(())
    }

    /// Whether the address of this number is one for TLS: as `listen` has ordered them.
    fn is_tls(&self, index: usize) -> bool {
        let addr = &self.server.local_addrs()[index];
        let is_first = index < self.args.listen.len();
        self.tls.is_some() && if is_first { takes_tls(&self.args, addr) } else { true }
    }

    /// What it runs on, and how to try it.
    fn announcement(&self, words: &Words) -> String {
        let server = &self.server;
        let cores: BTreeSet<usize> = server.cores().iter().copied().collect();
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let places = server.local_addrs().iter().enumerate();
        let mut listening: Vec<String> = places
            .map(|(index, addr)| {
                format!("listening on {addr}{}", if self.is_tls(index) { " (TLS)" } else { "" })
            })
            .collect();
        listening.extend(words.places.iter().cloned());
        format!(
            "longwire {version}
  backend  {backend}
  workers  {workers}, pinned to core {cores}
  limits   {conns} connections, messages of {message_bytes} bytes (--help lists all)
{listening}
try it, {how_to_try}",
            version = env!("CARGO_PKG_VERSION"),
            backend = server.backend_reason(),
            workers = server.cores().len(),
            cores = cores.join(", "),
            conns = server.conns_max(),
            message_bytes = server.message_bytes_max(),
            listening = listening.join("\n"),
            how_to_try = words.how_to_try,
        )
    }
}

/// The sub-protocol to answer with, of those that `--protocol` names.
pub(crate) fn protocol<'p>(request: &Request<'_>, spoken: &'p [String]) -> Option<&'p str> {
    let spoken: Vec<&str> = spoken.iter().map(String::as_str).collect();
    request.select_protocol(&spoken)
}

/// The settings of the server that a command would run.
pub(crate) fn builder_of(command: &Command, tls: Option<&Tls>) -> Result<Builder, Error> {
    let server = command.server().expect("it runs a server");
    let builder = builder(server, tls)?;
    if let Command::Serve(args) = command {
        let rules = TopicRules::new(&args.topics)?;
        Ok(serve::set_up(args, &rules, builder))
    } else {
        Ok(echo::set_up(builder))
    }
}

fn builder(args: &ServerArgs, tls: Option<&Tls>) -> Result<Builder, Error> {
    let mut builder = Server::builder()
        .backend(args.backend)
        .direct_descriptors(args.direct_descriptors)
        .backlog(args.backlog)
        .handshakes_max(args.handshakes_max)
        .handshakes_per_second(args.handshakes_per_second)
        .message_bytes_max(args.message_bytes_max)
        .request_line_bytes_max(args.request_line_bytes_max)
        .head_bytes_max(args.head_bytes_max)
        .header_count_max(args.header_count_max)
        .empty_fragments_max(args.empty_fragments_max)
        .control_frames_per_second(args.control_frames_per_second)
        .send_high_water_bytes(args.send_high_water_bytes)
        .spare_bytes_max(args.spare_bytes_max)
        .receive_blocks_max(args.receive_blocks_max)
        .handshake_timeout(args.handshake_timeout)
        .ping_interval(args.ping_interval.0)
        .pong_timeout(args.pong_timeout)
        .idle_timeout(args.idle_timeout.0)
        .message_timeout(args.message_timeout)
        .write_stall_timeout(args.write_stall_timeout)
        .close_timeout(args.close_timeout)
        .stop_timeout(args.stop_timeout)
        .tls_handshakes_max(args.tls.tls_handshakes_max)
        .tls_handshake_timeout(args.tls.tls_handshake_timeout)
        .require_origin(args.access.require_origin)
        .conns_per_address_max(args.access.conns_per_address_max)
        .proxy_protocol(args.access.proxy_protocol)
        .forwarded_header(args.access.forwarded_header)
        .trusted_proxies(&args.access.trusted_proxy)
        .overflow(args.flow.overflow)
        .messages_per_second(args.flow.messages_per_second)
        .bytes_per_second(args.flow.bytes_per_second.map(|bytes| bytes as u64))
        .rate_mode(args.flow.rate_mode)
        .lifetime_max(args.flow.lifetime_max.0)
        .compression(args.deflate.deflate.then(|| compression(&args.deflate)));
    builder = listen(builder, args, tls);
    if !args.access.origin.is_empty() {
        builder = builder.allowed_origins(&args.access.origin);
    }
    if let Some(bytes) = args.flow.memory_bytes_max {
        builder = builder.memory_bytes_max(bytes);
    }
    if let Some(mode) = args.unix_mode {
        builder = builder.unix_mode(mode);
    }
    if let Some(bytes) = args.frame_bytes_max {
        builder = builder.frame_bytes_max(bytes);
    }
    if let Some(bytes) = args.send_bytes_max {
        builder = builder.send_bytes_max(bytes);
    }
    if let Some(conns) = args.conns_max {
        builder = builder.conns_max(conns);
    }
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    if let Some(cores) = &args.cores {
        builder = builder.cores(parse_cores(cores).map_err(Error::Misuse)?);
    }
    Ok(builder)
}

/// Where to listen. With a certificate and no addresses of its own for TLS, all of TCP is for TLS.
fn listen(mut builder: Builder, args: &ServerArgs, tls: Option<&Tls>) -> Builder {
    for addr in &args.listen {
        builder = match tls {
            Some(tls) if takes_tls(args, addr) => builder.listen_tls(addr.clone(), tls.clone()),
            Some(_) | None => builder.listen(addr.clone()),
        };
    }
    if let Some(tls) = tls {
        for addr in &args.tls.listen_tls {
            builder = builder.listen_tls(addr.clone(), tls.clone());
        }
    }
    builder
}

/// Whether a certificate is for this address of `--listen` as well.
fn takes_tls(args: &ServerArgs, addr: &ListenAddr) -> bool {
    args.tls.listen_tls.is_empty() && matches!(addr, ListenAddr::Tcp(_))
}

fn compression(args: &DeflateArgs) -> Compression {
    Compression::new()
        .context_takeover(args.deflate_takeover)
        .level(args.deflate_level)
        .window_bits(args.deflate_window_bits)
        .message_bytes_min(args.deflate_bytes_min)
}
