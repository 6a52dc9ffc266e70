//! The server under test where messages are published: one topic, which every connection subscribes
//! to, and whatever one of them says is published there. Ends only when its parent kills it.

use std::io;

use longwire::{
    BackendChoice, Conn, Decision, Handler, ListenAddr, Message, Request, Server as Longwire,
};

use crate::options::{Backend, Options};

const TOPIC: &str = "hot";
/// Of each worker.
const CONNS_MAX: usize = 12_000;

struct Hall;

impl Handler for Hall {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Decision<()> {
        Decision::accept(())
    }

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        if let Err(error) = conn.subscribe(TOPIC) {
            eprintln!("not subscribed: {error}");
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match conn.publish(TOPIC, &message) {
            Ok(receipt) => drop(receipt),
            // The client finds out, too: it counts what it is owed.
            Err(error) => eprintln!("not published: {error}"),
        }
    }
}

/// Serves until killed, with a worker on each of the cores.
pub(crate) fn serve(options: &Options) -> io::Result<()> {
    let backend = match options.backends.first() {
        Some(Backend::Epoll) => BackendChoice::Epoll,
        Some(Backend::IoUring) | None => BackendChoice::IoUring,
    };
    let mut builder = Longwire::builder()
        .listen(ListenAddr::Tcp(options.listen))
        .backend(backend)
        .workers(options.cores.len())
        .cores(options.cores.clone())
        .conns_max(CONNS_MAX)
        // Not every subscriber answers pings, and none expects them among what it counts.
        .ping_interval(None)
        .idle_timeout(None);
    if let Some(bytes) = options.send_bytes_max {
        builder = builder.send_bytes_max(bytes).send_high_water_bytes(bytes / 2);
    }
    let server = builder.build().map_err(io::Error::other)?;
    for addr in server.local_addrs() {
        println!("listening on {addr}");
    }
    server.run(|_core| Hall).map_err(io::Error::other)?;
    Ok(())
}
