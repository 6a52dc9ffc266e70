//! All connections at once, as after a restart of the server.
//!
//! Every connection is started at the same instant, and is tried again after a growing pause, as a
//! well-made client does. With a server that is ours to start, all are opened first; then it is
//! stopped and started again, and what is timed is their return, from when it accepts again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use longwire::{Close, Conn, Dialer, Message};

use super::{Outcome, counted, figure, report, settings};
use crate::args::StormArgs;
use crate::engine::Conductor;
use crate::engine::board::Order;
use crate::engine::pilot::{Desk, Link, Script};
use crate::engine::setup::Setup;
use crate::observe::Server;
use crate::report::{Better, Unit, count_as_f64};
use crate::units;

/// Connections started in one turn: handshakes that have come in meanwhile wait as long.
const STARTS_PER_TURN_MAX: usize = 256;
/// The first pause before another attempt; each next one is twice as long, up to the last.
const PAUSE_MIN_MS: u64 = 100;
const PAUSE_MAX_MS: u64 = 5_000;

/// What is kept for each connection.
#[derive(Debug, Default)]
struct Opened {
    at: u64,
}

/// One thread's part of the storm.
#[derive(Debug)]
struct Storm {
    /// When to try which connection again, and how often it was tried.
    waiting: BinaryHeap<Reverse<(u64, u32, u32)>>,
    started: u64,
    /// For the jitter of pauses.
    seed: u64,
    returns: bool,
}

impl Storm {
    /// Half of the pause to all of it, so that not all come again at once.
    fn pause(&mut self, retries: u32) -> Duration {
        let whole = (PAUSE_MIN_MS << retries.min(10)).min(PAUSE_MAX_MS);
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_millis(whole / 2 + (self.seed >> 33) % (whole / 2 + 1))
    }

    /// Whether a connection that has ended was one of the server that is stopped. The kernel may
    /// tell of that late: it takes apart the sockets of a process after its end, and a server that
    /// has come back accepts meanwhile.
    fn was_before_the_restart(&self, desk: &Desk, link: &Link<Opened>) -> bool {
        self.returns
            && (Order::Run..=Order::Second).contains(&desk.board.order())
            && link.script.at < desk.board.second_at()
    }

    fn try_later(&mut self, desk: &mut Desk, number: u32, retries: u32) {
        let pause = u64::try_from(self.pause(retries).as_nanos()).unwrap_or(u64::MAX);
        self.waiting.push(Reverse((desk.board.now() + pause, number, retries + 1)));
    }
}

impl Script for Storm {
    type State = Opened;

    fn open(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Opened>>) {
        desk.ids.push(conn.id());
        let now = desk.board.now();
        conn.state().script.at = now;
        if desk.board.order() >= Order::Run {
            // Until the server is known to be back, it has just come back.
            let back_at = desk.board.second_at().min(now);
            let since = if self.returns { back_at } else { conn.state().due };
            desk.tally.counts.messages += 1;
            desk.tally.latency.saturating_record(now.saturating_sub(since));
        }
    }

    fn message(&mut self, _: &mut Desk, _: &mut Conn<'_, Link<Opened>>, _: &Message<'_>) {}

    fn fail(&mut self, desk: &mut Desk, link: Link<Opened>) {
        if desk.board.order() < Order::Close {
            self.try_later(desk, link.number, link.retries);
        }
    }

    fn close(&mut self, desk: &mut Desk, link: &mut Link<Opened>, close: &Close) {
        if self.was_before_the_restart(desk, link) {
            desk.tally.counts.closed += 1;
            self.try_later(desk, link.number, 0);
        } else {
            desk.note_close(close);
        }
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Opened>>,
        order: Order,
    ) -> Option<Instant> {
        if order == Order::Settle {
            return None;
        }
        // A first opening before the restart is not the storm; it goes gently.
        let is_gentle = order == Order::Open;
        if is_gentle && !self.returns {
            return None;
        }
        let start = if is_gentle { desk.board.now() } else { desk.board.run_at() };
        for _ in 0..STARTS_PER_TURN_MAX {
            if is_gentle && desk.opening >= desk.dialing.handshakes {
                return None;
            }
            let (number, retries) = if self.started < desk.dialing.conns {
                self.started += 1;
                (u32::try_from(self.started - 1).unwrap_or(u32::MAX), 0)
            } else {
                match self.waiting.peek().copied() {
                    Some(Reverse((at, ..))) if at > desk.board.now() => {
                        return Some(desk.board.instant(at));
                    }
                    Some(Reverse((_, number, retries))) => {
                        self.waiting.pop();
                        desk.tally.counts.retried += 1;
                        (number, retries)
                    }
                    None => return None,
                }
            };
            if let Err(link) = desk.connect(dialer, number, start, retries) {
                self.try_later(desk, link.number, link.retries);
            }
        }
        Some(dialer.now())
    }
}

/// Runs it.
pub(crate) fn run(args: &StormArgs) -> Result<Outcome, String> {
    let common = &args.common;
    if args.conns == 0 {
        return Err("--conns must be at least 1".to_owned());
    }
    let settings = settings(
        common,
        &[("conns", args.conns.to_string()), ("within", units::duration(args.within))],
    );
    let setup = Setup::new(common, args.conns, args.conns, settings)?;
    let conns = setup.conns;
    let command = setup.server_command().map(str::to_owned);
    let addr = setup.addr;
    let returns = command.is_some();
    let mut conductor = Conductor::start(setup, false, move |worker, _| Storm {
        waiting: BinaryHeap::new(),
        started: 0,
        seed: worker as u64 + 1,
        returns,
    })?;
    if let Some(command) = command {
        conductor.ramp()?;
        conductor.board.give(Order::Run);
        // The old one first: both would listen on the same port.
        conductor.server = None;
        let server = Server::start(&command, addr).map_err(|error| error.to_string())?;
        conductor.server = Some(server);
        conductor.board.give(Order::Second);
    } else {
        conductor.board.give(Order::Run);
    }
    let start = Instant::now();
    conductor.board.open_window(args.within);
    conductor.wait("returning", Some(args.within), |total| {
        // One may have come back to the server that was about to stop, and have to come again.
        let all_open = !returns || total.counts.open() >= conns;
        total.counts.messages >= conns && all_open
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if conductor.total.counts.opened == 0 {
        let errors = conductor.total.errors();
        let example = errors.first().map_or("no connection could be opened", |e| &e.example);
        return Err(format!("{}: {example}", conductor.setup.url.text));
    }
    let mut report = report(&conductor, "storm", None, seconds);
    let total = &conductor.total;
    let open = total.counts.open();
    let per_second = count_as_f64(total.counts.messages) / seconds.max(1e-9);
    report.figures = vec![
        counted("open_at_end", open, Better::Higher),
        figure("opened_per_s", per_second, Unit::PerSecond, Better::Higher),
        counted("retried", total.counts.retried, Better::Lower),
    ];
    report.add_latency("connect", &total.latency);
    if returns {
        report.notes.push(
            "connect: from when the restarted server accepted until the connection was open again; \
             errors are attempts made while it was away"
                .to_owned(),
        );
    }
    if open < conns {
        let missing = conns.saturating_sub(open);
        report.mismatches += missing;
        report.notes.push(format!(
            "{} connections were not open after {}",
            units::count(missing),
            units::duration(args.within)
        ));
    }
    conductor.finish()?;
    Ok(Outcome { report, was_limit: false })
}
