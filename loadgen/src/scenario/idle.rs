//! Connections that are silent but for pings.
//!
//! When all are open, each says one thing and must get it back: a connection that the server has
//! lost would otherwise look like one that is cheap. Memory is read after that, at the end of a
//! hold in which nothing but pings is sent.

use std::time::{Duration, Instant};

use longwire::{Conn, Dialer, Message};

use super::{Outcome, counted, figure, report, say, settings, word};
use crate::args::IdleArgs;
use crate::engine::Conductor;
use crate::engine::board::Order;
use crate::engine::payload::Payload;
use crate::engine::pilot::{Desk, Link, Script};
use crate::engine::setup::Setup;
use crate::observe::Work;
use crate::report::{Better, Unit, count_as_f64};
use crate::units;

/// Connections that are asked in one turn; the next turn is a moment later, for the answers.
const ASKED_PER_TURN_MAX: usize = 256;
/// Between two turns of asking.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How long answers are waited for, beyond 50 us for each connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The silent connections of one thread.
#[derive(Debug)]
struct Idle {
    payload: Payload,
    asked: usize,
}

impl Script for Idle {
    type State = ();

    fn message(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<()>>, message: &Message<'_>) {
        let number = conn.state().number;
        if self.payload.is_echo(message.payload(), number, 0) {
            desk.tally.counts.published += 1;
        } else {
            desk.tally.counts.mismatches += 1;
            desk.tally.error("wrong echo", || "what came back is not what was sent".to_owned());
        }
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<()>>,
        order: Order,
    ) -> Option<Instant> {
        if order != Order::Run || self.asked == desk.ids.len() {
            return None;
        }
        let last = (self.asked + ASKED_PER_TURN_MAX).min(desk.ids.len());
        for place in self.asked..last {
            if let Some(mut conn) = dialer.conn(desk.ids[place]) {
                let number = conn.state().number;
                say(&mut self.payload, desk, &mut conn, number, 0);
            }
        }
        self.asked = last;
        Some(dialer.now() + ASK_EVERY)
    }
}

/// Runs it.
pub(crate) fn run(args: &IdleArgs) -> Result<Outcome, String> {
    let common = &args.common;
    if args.conns == 0 {
        return Err("--conns must be at least 1".to_owned());
    }
    let ping = args.ping.map_or_else(|| "none".to_owned(), units::duration);
    let settings = settings(
        common,
        &[
            ("conns", args.conns.to_string()),
            ("hold", units::duration(args.hold)),
            ("ping", ping),
            ("verify", if args.no_verify { "no" } else { "yes" }.to_owned()),
        ],
    );
    let setup = Setup::new(common, args.conns, 0, settings)?.ping(args.ping);
    let payload = word(common);
    let mut conductor =
        Conductor::start(setup, true, move |_, _| Idle { payload: payload.clone(), asked: 0 })?;
    let ramp_seconds = conductor.ramp()?;
    let opened = conductor.total.counts.opened;
    let mut answered = None;
    if !args.no_verify {
        conductor.go_on(Order::Run, Duration::ZERO)?;
        let patience = ANSWER_TIMEOUT + Duration::from_micros(50 * opened);
        conductor.wait("asking each", Some(patience), |total| {
            let counts = &total.counts;
            counts.published + counts.mismatches + counts.closed >= opened
        })?;
        answered = Some(conductor.total.counts.published);
    }
    conductor.board.give(Order::Settle);
    let measured = conductor.measure(args.hold)?;
    let mut report = report(&conductor, "idle", None, measured.seconds);
    let counts = conductor.total.counts;
    let per_second = count_as_f64(opened) / ramp_seconds.max(1e-9);
    report.figures.push(counted("opened", opened, Better::Higher));
    report.figures.push(figure("opened_per_s", per_second, Unit::PerSecond, Better::Higher));
    report.figures.push(counted("open_at_end", counts.open(), Better::Higher));
    report.add_memory(&conductor);
    report.add_work(&measured, Work::default());
    report.add_latency("connect", &conductor.total.connect);
    match answered {
        Some(answered) if answered < opened => {
            let missing = opened - answered;
            report.mismatches += missing;
            report.notes.push(format!(
                "{} connections did not answer what they were asked when all were open",
                units::count(missing)
            ));
        }
        Some(_) => {
            report.notes.push("each connection answered a message when all were open".into())
        }
        None => {}
    }
    conductor.finish()?;
    report.errors = conductor.total.errors();
    Ok(Outcome { report, was_limit: false })
}
