//! What a server process is told, and how it talks to the process that started it: it says where it
//! listens, is told when to start publishing, and ends with its standard input.

use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::thread;

use longwire::BackendChoice;

use crate::schedule::Schedule;
use crate::way::Way;
use crate::{process, serve_http, serve_push};

/// Before the address and a description, on the first line of output.
pub(crate) const LISTENING: &str = "listening on ";
/// Before the instant, on the first line of input.
pub(crate) const START: &str = "start at ";

/// What to serve.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) way: Way,
    pub(crate) core: usize,
    pub(crate) client_count: u64,
    pub(crate) interval_ns: u64,
    pub(crate) duration_ns: u64,
    /// Of longwire.
    pub(crate) backend: BackendChoice,
}

impl Order {
    pub(crate) fn schedule(&self, start_ns: u64) -> Schedule {
        let Self { interval_ns, duration_ns, client_count, .. } = *self;
        Schedule { start_ns, interval_ns, duration_ns, client_count }
    }
}

/// Serves on its core until the process that started it closes the standard input.
pub(crate) fn run(order: &Order) -> io::Result<()> {
    process::pin(order.core)?;
    process::raise_descriptor_limit(order.client_count)?;
    match order.way {
        Way::Poll | Way::LongPoll => serve_http::serve(order),
        Way::Push => serve_push::serve(order),
    }
}

/// Says that it listens, and listens for the start on a thread that sleeps otherwise.
pub(crate) fn announce(addr: SocketAddr, what: &str, start: impl FnOnce(u64) + Send + 'static) {
    println!("{LISTENING}{addr} {what}");
    // Who started this process has gone if it does not read; the end of the input will tell.
    let _ = io::stdout().flush();
    thread::spawn(move || {
        let mut start = Some(start);
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let instant = line.strip_prefix(START).and_then(|instant| instant.parse().ok());
            if let (Some(instant), Some(start)) = (instant, start.take()) {
                start(instant);
            }
        }
        std::process::exit(0);
    });
}
