//! `longwire echo`: sends each message back, and says what it runs on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use longwire::{
    Accept, Builder, CloseCode, Compression, Conn, Decision, Error, Handle, Handler, ListenAddr,
    Message, Request, Server, Tls, parse_cores,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::{DeflateArgs, EchoArgs};
use crate::{limits, secure};

/// Runs the server until a signal stops it.
pub(crate) fn run(args: &EchoArgs) -> Result<(), Error> {
    limits::raise_descriptor_limit();
    let tls = secure::tls(&args.tls)?;
    let server = build(args, tls.as_ref())?;
    let _watcher = tls.as_ref().map(secure::watch).transpose()?;
    heed_signals(server.handle(), tls.clone())?;
    if args.access.origin.is_empty() && !args.access.allow_any_origin {
        tracing::warn!(
            "scripts of any site may connect; --origin https://example.org lets in only those of \
             that site, --allow-any-origin says that it is meant"
        );
    }
    let announcement = announcement(&server, args, tls.is_some());
    // A worker asks for its handler when it is ready, so the last to ask makes the server ready.
    let waiting_count = AtomicUsize::new(server.cores().len());
    let stats = server.run(|_worker| {
        if waiting_count.fetch_sub(1, Ordering::Relaxed) == 1 {
            println!("{announcement}");
        }
        Echo { protocols: args.access.protocol.clone() }
    })?;
    println!("stopped: {} connections, {} messages", stats.opened, stats.messages);
    Ok(())
}

/// Sends each message back.
struct Echo {
    /// Sub-protocols it speaks, the dearest first. What they mean is between the clients.
    protocols: Vec<String>,
}

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<()> {
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        Accept::new(()).protocol(request.select_protocol(&protocols)).into()
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        // A connection that is closing takes no more; there is nobody to tell.
        let _ = conn.echo(message);
    }
}

fn build(args: &EchoArgs, tls: Option<&Tls>) -> Result<Server, Error> {
    let mut builder = Server::builder()
        .backend(args.backend)
        .direct_descriptors(args.direct_descriptors)
        .backlog(args.backlog)
        .handshakes_max(args.handshakes_max)
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
    builder.build()
}

/// Where to listen. With a certificate and no addresses of its own for TLS, all of TCP is for TLS.
fn listen(mut builder: Builder, args: &EchoArgs, tls: Option<&Tls>) -> Builder {
    let all_tls = args.tls.listen_tls.is_empty();
    for addr in &args.listen {
        builder = match tls {
            Some(tls) if all_tls && matches!(addr, ListenAddr::Tcp(_)) => {
                builder.listen_tls(addr.clone(), tls.clone())
            }
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

fn compression(args: &DeflateArgs) -> Compression {
    Compression::new()
        .context_takeover(args.deflate_takeover)
        .level(args.deflate_level)
        .window_bits(args.deflate_window_bits)
        .message_bytes_min(args.deflate_bytes_min)
}

/// What it runs on, and how to try it.
fn announcement(server: &Server, args: &EchoArgs, has_tls: bool) -> String {
    let first_tls = if args.tls.listen_tls.is_empty() { 0 } else { args.listen.len() };
    let workers = server.cores().len();
    let cores: BTreeSet<usize> = server.cores().iter().copied().collect();
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let listening: Vec<String> = server
        .local_addrs()
        .iter()
        .enumerate()
        .map(|(index, addr)| {
            let is_tls = has_tls && index >= first_tls && matches!(addr, ListenAddr::Tcp(_));
            format!("listening on {addr}{}", if is_tls { " (TLS)" } else { "" })
        })
        .collect();
    format!(
        "longwire {version}
  backend  {backend}
  workers  {workers}, pinned to core {cores}
  limits   {conns} connections, messages of {message_bytes} bytes (--help lists all)
{listening}
try it, {how_to_try}",
        version = env!("CARGO_PKG_VERSION"),
        backend = server.backend_reason(),
        cores = cores.join(", "),
        conns = server.conns_max(),
        message_bytes = server.message_bytes_max(),
        listening = listening.join("\n"),
        how_to_try = how_to_try(server, has_tls && first_tls == 0),
    )
}

fn how_to_try(server: &Server, is_tls: bool) -> String {
    if let Some(addr) = server.local_addr() {
        let scheme = if is_tls { "wss" } else { "ws" };
        return format!(
            "in a browser's console:  ws = new WebSocket('{scheme}://{addr}'); \
             ws.onmessage = e => console.log(e.data); ws.onopen = () => ws.send('hello')"
        );
    }
    let flag = match server.local_addrs().first() {
        Some(ListenAddr::Unix(path)) => format!("--unix-socket '{}'", path.display()),
        Some(ListenAddr::Abstract(name)) => format!("--abstract-unix-socket '{name}'"),
        _ => String::new(),
    };
    format!("in a shell (426 means that it is there):  curl -i {flag} http://localhost/")
}

/// The first SIGTERM or SIGINT stops the server in order, the second at once; SIGHUP reads the
/// certificates again.
fn heed_signals(handle: Handle, tls: Option<Tls>) -> Result<(), Error> {
    let failed = |source| Error::Worker { worker: 0, source };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let watch = move || {
        let mut stopping = false;
        for signal in &mut signals {
            if signal == SIGHUP {
                match &tls {
                    Some(tls) => secure::reload(tls),
                    None => println!("there are no certificates to read again"),
                }
                continue;
            }
            if stopping {
                println!("stopping at once");
                handle.stop_now();
                continue;
            }
            stopping = true;
            println!("stopping; a second signal stops at once");
            let restarts = signal == SIGTERM;
            handle.stop(if restarts { CloseCode::SERVICE_RESTART } else { CloseCode::GOING_AWAY });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}
