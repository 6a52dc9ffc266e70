//! `longwire echo`: sends each message back, and says what it runs on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use longwire::{CloseCode, Conn, Error, Handle, Handler, ListenAddr, Message, Server, parse_cores};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::EchoArgs;
use crate::limits;

/// Runs the server until a signal stops it.
pub(crate) fn run(args: &EchoArgs) -> Result<(), Error> {
    limits::raise_descriptor_limit();
    let server = build(args)?;
    stop_on_signals(server.handle())?;
    let announcement = announcement(&server);
    // A worker asks for its handler when it is ready, so the last to ask makes the server ready.
    let waiting_count = AtomicUsize::new(server.cores().len());
    let stats = server.run(|_worker| {
        if waiting_count.fetch_sub(1, Ordering::Relaxed) == 1 {
            println!("{announcement}");
        }
        Echo
    })?;
    println!("stopped: {} connections, {} messages", stats.opened, stats.messages);
    Ok(())
}

/// Sends each message back.
struct Echo;

impl Handler for Echo {
    type State = ();

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        // A connection that is closing takes no more; there is nobody to tell.
        let _ = conn.echo(message);
    }
}

fn build(args: &EchoArgs) -> Result<Server, Error> {
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
        .stop_timeout(args.stop_timeout);
    for addr in &args.listen {
        builder = builder.listen(addr.clone());
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

/// What it runs on, and how to try it.
fn announcement(server: &Server) -> String {
    let workers = server.cores().len();
    let cores: BTreeSet<usize> = server.cores().iter().copied().collect();
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let listening: Vec<String> =
        server.local_addrs().iter().map(|addr| format!("listening on {addr}")).collect();
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
        how_to_try = how_to_try(server),
    )
}

fn how_to_try(server: &Server) -> String {
    if let Some(addr) = server.local_addr() {
        return format!(
            "in a browser's console:  ws = new WebSocket('ws://{addr}'); \
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

/// The first signal stops the server in order, the second at once.
fn stop_on_signals(handle: Handle) -> Result<(), Error> {
    let failed = |source| Error::Worker { worker: 0, source };
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let watch = move || {
        let mut stopping = false;
        for signal in &mut signals {
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
