//! Connections that open, say one thing and close, at a steady rate: an open loop, in which the
//! time to open counts from when the connection was due.

use std::time::{Duration, Instant};

use longwire::{Close, CloseCode, Conn, Dialer, Message};

use super::echo::Schedule;
use super::{Outcome, counted, figure, report, say, settings, word};
use crate::args::ChurnArgs;
use crate::engine::Conductor;
use crate::engine::board::Order;
use crate::engine::payload::Payload;
use crate::engine::pilot::{Desk, Link, Script};
use crate::engine::setup::Setup;
use crate::observe::Work;
use crate::report::{Better, Unit, count_as_f64};
use crate::units;

/// Connections started in one turn, if it is behind.
const STARTS_PER_TURN_MAX: usize = 256;
/// Part of a second in which connections may be open at one time: above this the server is behind,
/// and starting more would measure the generator's memory.
const OPEN_SECONDS_MAX: f64 = 10.0;
/// How long the last ones have to open, talk and close.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A port rests so long after its connection was closed.
const PORT_REST_SECONDS: f64 = 60.0;

/// The passing connections of one thread.
#[derive(Debug)]
struct Churn {
    payload: Payload,
    schedule: Schedule,
    conns_max: usize,
}

/// What is kept for each connection.
#[derive(Debug, Default)]
struct Visit {
    answered: bool,
}

impl Script for Churn {
    type State = Visit;

    fn open(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Visit>>) {
        let number = conn.state().number;
        say(&mut self.payload, desk, conn, number, 0);
    }

    fn message(
        &mut self,
        desk: &mut Desk,
        conn: &mut Conn<'_, Link<Visit>>,
        message: &Message<'_>,
    ) {
        let link = conn.state();
        if !self.payload.is_echo(message.payload(), link.number, 0) {
            desk.tally.counts.mismatches += 1;
            desk.tally.error("wrong echo", || "what came back is not what was sent".to_owned());
        }
        link.script.answered = true;
        conn.close(CloseCode::NORMAL, "");
    }

    fn close(&mut self, desk: &mut Desk, link: &mut Link<Visit>, close: &Close) {
        if !link.script.answered {
            desk.note_close(close);
            return;
        }
        desk.tally.counts.closed += 1;
        if close.code() != CloseCode::NORMAL {
            let code = close.code().as_u16();
            desk.tally.error("unclean close", || format!("closed with {code}, not 1000"));
        } else if desk.board.is_measured(link.due) {
            desk.tally.counts.messages += 1;
            let now = desk.board.now();
            desk.tally.latency.saturating_record(now - link.due);
        }
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Visit>>,
        order: Order,
    ) -> Option<Instant> {
        if order != Order::Run {
            return None;
        }
        let start = desk.board.run_at();
        for _ in 0..STARTS_PER_TURN_MAX {
            let due = start + self.schedule.due();
            if due > desk.board.now() {
                return Some(desk.board.instant(due));
            }
            let number = u32::try_from(self.schedule.advance() & 0xffff_ffff).unwrap_or_default();
            if dialer.conn_count() >= self.conns_max {
                desk.tally.counts.failed += 1;
                let max = self.conns_max;
                desk.tally.error("too many open", || {
                    format!("{max} connections of one thread had not closed when more were due")
                });
                continue;
            }
            let _ = desk.connect(dialer, number, due, 0);
        }
        Some(dialer.now())
    }
}

/// Runs it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate times seconds, never negative"
)]
pub(crate) fn run(args: &ChurnArgs) -> Result<Outcome, String> {
    let (common, rate) = (&args.common, args.rate);
    let settings = settings(common, &[("duration", units::duration(args.duration))]);
    let conns = ((rate * OPEN_SECONDS_MAX) as usize).clamp(64, 10_000);
    let passing = (rate * PORT_REST_SECONDS) as usize;
    let setup = Setup::new(common, conns, passing, settings)?;
    let threads = setup.threads as u64;
    let payload = word(common);
    let mut conductor = Conductor::start(setup, false, move |worker, dialing| Churn {
        payload: payload.clone(),
        schedule: Schedule::new(rate, 1, threads, worker as u64),
        conns_max: usize::try_from(dialing.conns).unwrap_or(usize::MAX),
    })?;
    conductor.board.give(Order::Run);
    let measured = conductor.measure(args.duration)?;
    conductor.board.give(Order::Settle);
    conductor
        .wait("waiting for the last", Some(SETTLE_TIMEOUT), |total| total.counts.open() == 0)?;
    let seconds = measured.seconds;
    conductor.finish()?;
    let total = &conductor.total;
    let counts = total.counts;
    if counts.opened == 0 {
        let errors = total.errors();
        let example = errors.first().map_or("no connection could be opened", |e| &e.example);
        return Err(format!("{}: {example}", conductor.setup.url.text));
    }
    let mut report = report(&conductor, "churn", None, seconds);
    let per_second = count_as_f64(counts.messages) / seconds.max(1e-9);
    report.figures.push(figure("opened_per_s", per_second, Unit::PerSecond, Better::Higher));
    report.figures.push(counted("opened", counts.opened, Better::Neither));
    report.add_work(&measured, Work { messages: 0, conns: counts.messages });
    report.add_latency("connect", &total.connect);
    report.add_latency("echo", &total.latency);
    report.notes.push(format!(
        "open loop: {} connections were due each second, and are timed from when each was due: \
         `connect` until it was open, `echo` until it had said its word and closed again",
        units::rate(rate)
    ));
    let busy = conductor.busy_note(&measured);
    let was_limit = busy.is_some();
    report.notes.extend(busy);
    Ok(Outcome { report, was_limit })
}
