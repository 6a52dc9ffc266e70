//! 10,000 subscribers of a hot topic that never read, beside 100 that do.
//!
//! How late the 100 are served is measured three times: by themselves, beside 10,000 that read, and
//! beside 10,000 that do not. A topic of 10,100 cannot be served as fast as one of 100, so those who
//! do not read are held against as many who do: they must not cost the others more than twice the
//! time. And the server must hold less memory for them than what it is configured to queue for each.
//!
//! The 100 come first and are served last, so their time is that of a whole pass. The stalled ones
//! offer a window of one small segment, so that the kernel takes little for them and the server's
//! own queues fill up within the measurement.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::Socket;

use crate::cell::{Cell, Payload};
use crate::crowd::{self, Crowd, Manner};
use crate::options::{Backend, Options};
use crate::report::{self, Verdict};
use crate::server::Server;
use crate::{core, frame};

const GOOD_COUNT: usize = 100;
const CROWD_COUNT: usize = 10_000;
/// Messages published before it is looked at the server again.
const ROUND_LEN: usize = 50;
/// By then those who do not read must have been closed.
const ROUNDS_MAX: usize = 12;
/// So that no message shares a turn with the one before it.
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);
/// What the server may queue for one connection.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Largest acceptable ratio of the delivery times.
const BAR: f64 = 2.0;

const CELL: Cell = Cell {
    name: "stalled",
    description: "",
    payload: Payload::Binary,
    payload_bytes: 1024,
    conn_count: 0,
    depth: 1,
    bar: BAR,
};

/// Those who read, of whom the first publishes.
struct Good {
    sockets: Vec<Socket>,
    message: Vec<u8>,
    due_bytes: usize,
    read: Vec<u8>,
}

/// What one backend has shown.
struct Findings {
    alone: Duration,
    beside_readers: Duration,
    beside_stalled: Duration,
    /// Messages that were published beside each crowd.
    message_count: usize,
    /// Closed by the server.
    closed_count: usize,
    resident_before: u64,
    resident_peak: u64,
}

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    core::pin(core::CLIENT)?;
    crowd::affordable_count(CROWD_COUNT + GOOD_COUNT)?;
    println!(
        "{} B to {GOOD_COUNT} subscribers beside {CROWD_COUNT} others; {SEND_BYTES_MAX} B queued \
         for each at most",
        CELL.payload_bytes
    );
    println!(
        "{:<9} {:>8} {:>9} {:>9} {:>9} {:>6} {:>5}      {:>7} {:>9} {:>9} {:>9}",
        "backend",
        "messages",
        "alone",
        "readers",
        "stalled",
        "ratio",
        "bar",
        "closed",
        "before",
        "peak",
        "bar"
    );
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        verdict = verdict.and(measure(backend)?.print(backend));
    }
    println!(
        "p99 of the delivery to the {GOOD_COUNT} in us: alone, beside {CROWD_COUNT} readers, \
         beside {CROWD_COUNT} stalled;\nresident MiB of the server before these came and at its \
         peak, bar: {CROWD_COUNT} x {SEND_BYTES_MAX} B more"
    );
    report::print_verdict(verdict);
    Ok(verdict)
}

fn measure(backend: Backend) -> io::Result<Findings> {
    let server = Server::topics(backend, &[core::SERVER], Some(SEND_BYTES_MAX))?;
    let mut good = Good::connect(&server)?;
    let others_count = server.stat.descriptor_count()?;
    good.publish_round(&[])?;
    let resident_before = server.stat.memory()?.resident_bytes;
    server.stat.reset_resident_peak()?;
    let stalled = Crowd::open(server.addr(), CROWD_COUNT, Manner::Stalled)?;
    let (mut times, mut left_count, mut rounds) = (Vec::new(), CROWD_COUNT, 0);
    while left_count > 0 && rounds < ROUNDS_MAX {
        times.extend(good.publish_round(&[])?);
        left_count = server.stat.descriptor_count()?.saturating_sub(others_count);
        rounds += 1;
    }
    let beside_stalled = p99(times);
    let resident_peak = server.stat.resident_peak_bytes()?;
    stalled.reset()?;
    server.stat.wait_for_descriptors(|count| count <= others_count)?;
    // As many messages as before: the rarest delays need as much time to show.
    let alone = p99(good.publish_rounds(rounds, &[])?);
    let readers = Crowd::open(server.addr(), CROWD_COUNT, Manner::WebSocket)?.into_sockets();
    let beside_readers = p99(good.publish_rounds(rounds, &readers)?);
    Crowd::of(readers).reset()?;
    Ok(Findings {
        alone,
        beside_readers,
        beside_stalled,
        message_count: rounds * ROUND_LEN,
        closed_count: CROWD_COUNT.saturating_sub(left_count),
        resident_before,
        resident_peak,
    })
}

impl Findings {
    fn print(&self, backend: Backend) -> Verdict {
        let ratio = self.beside_stalled.as_secs_f64() / self.beside_readers.as_secs_f64();
        let grown = self.resident_peak.saturating_sub(self.resident_before) as f64;
        let bound = (CROWD_COUNT * SEND_BYTES_MAX) as f64;
        let (in_time, in_bounds) = (Verdict::of(ratio, BAR), Verdict::of(grown, bound));
        let all_closed = Verdict::of((CROWD_COUNT - self.closed_count) as f64, 0.0);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{:<9} {:>8} {:>9} {:>9} {:>9} {ratio:>6.3} {BAR:>5.2}  {:<4} {:>6} {:>9.1} {:>9.1} {:>9.1}  {}",
            backend.name(),
            self.message_count,
            self.alone.as_micros(),
            self.beside_readers.as_micros(),
            self.beside_stalled.as_micros(),
            in_time.word(),
            self.closed_count,
            mib(self.resident_before),
            mib(self.resident_peak),
            mib(self.resident_before) + bound / f64::from(1 << 20),
            in_bounds.and(all_closed).word(),
        );
        in_time.and(in_bounds).and(all_closed)
    }
}

impl Good {
    fn connect(server: &Server) -> io::Result<Self> {
        let sockets = Crowd::open(server.addr(), GOOD_COUNT, Manner::WebSocket)?.into_sockets();
        let due_bytes = frame::server_frame(&CELL).len();
        Ok(Self {
            sockets,
            message: frame::client_frame(&CELL),
            due_bytes,
            read: vec![0; due_bytes],
        })
    }

    fn publish_rounds(&mut self, rounds: usize, readers: &[Socket]) -> io::Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.extend(self.publish_round(readers)?);
        }
        Ok(times)
    }

    /// Publishes one message after the other; `readers` are emptied in between. Returns how long
    /// each delivery took.
    fn publish_round(&mut self, readers: &[Socket]) -> io::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(ROUND_LEN * GOOD_COUNT);
        for _ in 0..ROUND_LEN {
            let start = Instant::now();
            (&self.sockets[0]).write_all(&self.message)?;
            let Self { sockets, due_bytes, read, .. } = self;
            wait_for_all(sockets, *due_bytes, read, || times.push(start.elapsed()))?;
            wait_for_all(readers, *due_bytes, read, || ())?;
            std::thread::sleep(PAUSE);
        }
        Ok(times)
    }
}

/// The time in which 99 of 100 are through.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Looks at all of them again and again until each has so many bytes; tells of each that has.
fn wait_for_all(
    sockets: &[Socket],
    due_bytes: usize,
    read: &mut [u8],
    mut arrived: impl FnMut(),
) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut waiting: Vec<(&Socket, usize)> = sockets.iter().map(|socket| (socket, 0)).collect();
    while !waiting.is_empty() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{} have not got it", waiting.len())));
        }
        let mut failure = None;
        waiting.retain_mut(|(socket, received)| {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match recv(&**socket, &mut read[*received..due_bytes], flags) {
                Ok((_, 0)) => failure = Some(Errno::CONNRESET),
                Ok((_, len)) => *received += len,
                Err(Errno::AGAIN) => {}
                Err(error) => failure = Some(error),
            }
            if *received == due_bytes {
                arrived();
            }
            *received < due_bytes
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
    }
    Ok(())
}
