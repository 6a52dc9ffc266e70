//! Readers that do not read, and what they do to the others.
//!
//! Connections that behave talk in an open loop all the time: first alone, then beside slow ones,
//! which ask for echoes as fast as they are taken and never read one. What they ask for piles up in
//! the kernel, then in the server, until it stops reading them or closes them.

use std::time::{Duration, Instant};

use longwire::{Close, Conn, ConnId, Dialer, Message};

use super::echo::{Echo, Talk};
use super::{Outcome, counted, figure, report, say, settings};
use crate::args::SlowArgs;
use crate::engine::Conductor;
use crate::engine::board::Order;
use crate::engine::payload::Payload;
use crate::engine::pilot::{Desk, Dialing, Link, Script};
use crate::engine::setup::Setup;
use crate::observe::Work;
use crate::report::{Better, LoopKind, Unit, count_as_f64};
use crate::units;

/// Bytes a slow reader may have queued on this side: enough to always have something to send.
const QUEUED_BYTES_MAX: usize = 256 * 1024;
/// What is not measured at first.
const WARMUP: Duration = Duration::from_millis(500);
/// How long answers of those that behave are waited for in the end.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// How often slow readers are given more to send.
const PUSH_EVERY: Duration = Duration::from_millis(10);

/// Both kinds, on one thread.
#[derive(Debug)]
struct Slow {
    echo: Echo,
    /// Connections of this thread with this number and above are slow.
    good: u32,
    message: Payload,
    slow_ids: Vec<ConnId>,
    push_at: Instant,
    /// Given up by us.
    aborted: bool,
}

impl Slow {
    /// A thread's share of `good` connections that talk at `rate`, and of `readers` that do not
    /// read; what rounding leaves over is good.
    fn new(message: Payload, rate: f64, good: u64, readers: u64, dialing: &Dialing) -> Self {
        let slow_before = |conn: u64| conn * readers / (good + readers);
        let slow = slow_before(dialing.first + dialing.conns) - slow_before(dialing.first);
        let own_good = dialing.conns - slow;
        let share = Dialing { conns: own_good, ..dialing.clone() };
        Self {
            echo: Echo::open(message.clone(), true, rate, good, &share),
            good: u32::try_from(own_good).unwrap_or(u32::MAX),
            message,
            slow_ids: Vec::new(),
            push_at: Instant::now(),
            aborted: false,
        }
    }

    /// Gives slow readers more to send.
    fn push(&mut self, desk: &mut Desk, dialer: &mut Dialer<'_, Link<Talk>>) {
        for id in &self.slow_ids {
            let Some(mut conn) = dialer.conn(*id) else { continue };
            conn.pause_receive();
            while conn.queued_bytes() < QUEUED_BYTES_MAX
                && say(&mut self.message, desk, &mut conn, 0, 0)
            {}
        }
    }
}

impl Script for Slow {
    type State = Talk;

    fn open(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Talk>>) {
        if conn.state().number >= self.good {
            self.slow_ids.extend(desk.ids.pop());
        }
    }

    fn message(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Talk>>, message: &Message<'_>) {
        // Slow ones may still be handed what had come before they stopped reading.
        if conn.state().number < self.good {
            self.echo.message(desk, conn, message);
        }
    }

    fn close(&mut self, desk: &mut Desk, link: &mut Link<Talk>, close: &Close) {
        if link.number < self.good {
            self.echo.close(desk, link, close);
            return;
        }
        desk.tally.counts.closed += 1;
        if !self.aborted {
            desk.tally.counts.slow_closed += 1;
        }
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Talk>>,
        order: Order,
    ) -> Option<Instant> {
        let echo = self.echo.turn(desk, dialer, order);
        match order {
            Order::Second => {
                if dialer.now() >= self.push_at {
                    self.push_at = dialer.now() + PUSH_EVERY;
                    self.push(desk, dialer);
                }
                Some(echo.map_or(self.push_at, |echo| echo.min(self.push_at)))
            }
            Order::Settle if !self.aborted => {
                self.aborted = true;
                self.slow_ids.drain(..).for_each(|id| dialer.abort(id));
                echo
            }
            _ => echo,
        }
    }

    fn settle(&mut self, desk: &mut Desk, link: &mut Link<Talk>) {
        self.echo.settle(desk, link);
    }
}

/// Runs it.
pub(crate) fn run(args: &SlowArgs) -> Result<Outcome, String> {
    let (common, rate, size, kind) = (&args.common, args.rate, args.size, args.payload);
    let (good, readers) = (args.conns as u64, args.readers as u64);
    if good == 0 || readers == 0 {
        return Err("--conns and --readers must be at least 1".to_owned());
    }
    let settings = settings(
        common,
        &[
            ("conns", args.conns.to_string()),
            ("readers", args.readers.to_string()),
            ("size", size.to_string()),
            ("kind", kind.to_string()),
            ("duration", units::duration(args.duration)),
        ],
    );
    let setup = Setup::new(common, args.conns + args.readers, 0, settings)?;
    let mut conductor = Conductor::start(setup, true, move |_, dialing| {
        Slow::new(Payload::new(size, kind), rate, good, readers, dialing)
    })?;
    conductor.ramp()?;
    conductor.go_on(Order::Run, WARMUP)?;
    let alone = conductor.measure(args.duration)?;
    let rss_before = conductor.server_rss();
    conductor.total.before = std::mem::replace(
        &mut conductor.total.latency,
        hdrhistogram::Histogram::new_from(&conductor.total.before),
    );
    conductor.board.give(Order::Second);
    let measured = conductor.measure(args.duration)?;
    let rss_during = conductor.server_rss();
    conductor.board.give(Order::Settle);
    conductor.wait("waiting for answers", Some(SETTLE_TIME), |_| false)?;
    conductor.finish()?;
    let loop_kind = Some(LoopKind::Open { rate });
    let mut report = report(&conductor, "slow", loop_kind, measured.seconds);
    let total = &conductor.total;
    let per_second = count_as_f64(measured.messages) / measured.seconds.max(1e-9);
    report.figures = vec![
        figure("messages_per_s", per_second, Unit::PerSecond, Better::Higher),
        counted("messages", measured.messages, Better::Neither),
        counted("unanswered", total.counts.unanswered, Better::Lower),
        counted("slow_closed", total.counts.slow_closed, Better::Neither),
    ];
    report.add_work(&measured, Work { messages: measured.messages, conns: 0 });
    report.add_latency("echo", &total.latency);
    report.add_latency("before", &total.before);
    report.notes.push(format!(
        "`before` is the same load without slow readers, {} messages; of {} slow readers the \
         server closed {}",
        units::count(alone.messages),
        units::count(readers),
        units::count(total.counts.slow_closed),
    ));
    if let Some((before, during)) = rss_before.zip(rss_during) {
        let (before, during) = (count_as_f64(before), count_as_f64(during));
        report.notes.push(format!(
            "resident memory of the server: {} without slow readers, {} at the end with them",
            units::bytes(before),
            units::bytes(during)
        ));
    }
    let busy = conductor.busy_note(&measured);
    let was_limit = busy.is_some();
    report.notes.extend(busy);
    Ok(Outcome { report, was_limit })
}
