//! Messages that the server sends back.
//!
//! Closed loop: each answer is followed by the next message, so what is found is throughput, and a
//! server that stops is not sent anything. Open loop: the clock says when a message is due, and its
//! latency counts from then, whether it could be sent or not; nothing is left out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use longwire::{Conn, Dialer, Message, MessageKind};

use super::{Outcome, counted, figure, report, say, settings};
use crate::args::EchoArgs;
use crate::engine::Conductor;
use crate::engine::board::Order;
use crate::engine::payload::Payload;
use crate::engine::pilot::{Desk, Dialing, Link, Script};
use crate::engine::setup::Setup;
use crate::observe::Work;
use crate::report::{Better, LoopKind, Unit, count_as_f64};
use crate::units;

/// Connections whose first messages are sent in one turn.
const STARTS_PER_TURN_MAX: usize = 64;
/// Messages of an open loop sent in one turn, if it is behind.
const SENDS_PER_TURN_MAX: usize = 4096;
/// How long answers are waited for when an open loop has ended.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The echo talk of one thread.
#[derive(Debug)]
pub(crate) struct Echo {
    payload: Payload,
    verifies: bool,
    pace: Pace,
    conns: u32,
}

/// Who decides when the next message leaves.
#[derive(Debug)]
enum Pace {
    Closed { depth: usize, started: usize },
    Open(Schedule),
}

/// When messages are due, and on which connection.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// Nanoseconds between two messages of this thread.
    interval: f64,
    /// Of the first, after the start.
    offset: f64,
    sent: u64,
}

/// What is kept for each connection.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    sent: u32,
    received: u32,
    /// When those that are not answered yet were sent, or due.
    times: VecDeque<u64>,
}

impl Schedule {
    /// This thread's part of `rate` messages a second: as much of it as it has of the connections.
    /// Threads are offset against each other, so that together they are even.
    pub(crate) fn new(rate: f64, own_conns: u64, all_conns: u64, first_conn: u64) -> Self {
        let share = count_as_f64(own_conns) / count_as_f64(all_conns.max(1));
        let interval = 1e9 / (rate * share).max(1e-9);
        let offset = interval * count_as_f64(first_conn) / count_as_f64(all_conns.max(1));
        Self { interval, offset, sent: 0 }
    }

    /// When the next message is due, after the start.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time within years, and never negative"
    )]
    pub(crate) fn due(&self) -> u64 {
        (self.offset + self.interval * count_as_f64(self.sent)) as u64
    }

    /// The place of the next message among all of this thread.
    pub(crate) fn advance(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }
}

impl Echo {
    pub(crate) fn closed(
        payload: Payload,
        verifies: bool,
        depth: usize,
        dialing: &Dialing,
    ) -> Self {
        let pace = Pace::Closed { depth, started: 0 };
        Self { payload, verifies, pace, conns: first(dialing) }
    }

    pub(crate) fn open(
        payload: Payload,
        verifies: bool,
        rate: f64,
        all_conns: u64,
        dialing: &Dialing,
    ) -> Self {
        let schedule = Schedule::new(rate, dialing.conns, all_conns, dialing.first);
        Self { payload, verifies, pace: Pace::Open(schedule), conns: first(dialing) }
    }

    /// Sends the next message of a connection, which counts from `time`.
    fn send(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Talk>>, time: u64) {
        let link = conn.state();
        let number = self.conns.wrapping_add(link.number);
        let sequence = link.script.sent;
        if say(&mut self.payload, desk, conn, number, sequence) {
            let talk = &mut conn.state().script;
            talk.sent = talk.sent.wrapping_add(1);
            talk.times.push_back(time);
        }
    }

    /// Sends what is due of an open loop.
    fn send_due(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Talk>>,
    ) -> Option<Instant> {
        let start = desk.board.run_at();
        let mut now = desk.board.now();
        for sent in 0..SENDS_PER_TURN_MAX {
            let Pace::Open(schedule) = &mut self.pace else { return None };
            let due = start + schedule.due();
            if due > now || sent + 1 == SENDS_PER_TURN_MAX {
                return Some(desk.board.instant(due));
            }
            let place = schedule.advance();
            if desk.board.is_measured(due) {
                desk.tally.lag.saturating_record(now - due);
            }
            if !self.send_on_next(desk, dialer, place, due) {
                return None;
            }
            now = desk.board.now();
        }
        None
    }

    /// Sends on the connection whose turn it is, or on the next that is still open.
    fn send_on_next(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Talk>>,
        place: u64,
        due: u64,
    ) -> bool {
        let count = desk.ids.len();
        for step in 0..count {
            let index = usize::try_from(place).unwrap_or(0).wrapping_add(step) % count;
            if let Some(mut conn) = dialer.conn(desk.ids[index]) {
                self.send(desk, &mut conn, due);
                return true;
            }
        }
        false
    }

    /// Sends the first messages of a closed loop.
    fn start_some(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Talk>>,
    ) -> Option<Instant> {
        let Pace::Closed { depth, started } = self.pace else { return None };
        let last = (started + STARTS_PER_TURN_MAX).min(desk.ids.len());
        for place in started..last {
            let id = desk.ids[place];
            for _ in 0..depth {
                let now = desk.board.now();
                if let Some(mut conn) = dialer.conn(id) {
                    self.send(desk, &mut conn, now);
                }
            }
        }
        self.pace = Pace::Closed { depth, started: last };
        (last < desk.ids.len()).then(|| dialer.now())
    }

    fn is_echo(&self, link: &Link<Talk>, message: &Message<'_>) -> bool {
        let kind = if self.payload.is_text() { MessageKind::Text } else { MessageKind::Binary };
        let number = self.conns.wrapping_add(link.number);
        message.kind() == kind
            && self.payload.is_echo(message.payload(), number, link.script.received)
    }
}

impl Script for Echo {
    type State = Talk;

    fn message(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Talk>>, message: &Message<'_>) {
        let now = desk.board.now();
        let is_right = !self.verifies || self.is_echo(conn.state(), message);
        let talk = &mut conn.state().script;
        talk.received = talk.received.wrapping_add(1);
        let Some(time) = talk.times.pop_front() else {
            desk.tally.counts.mismatches += 1;
            desk.tally.error("unasked message", || "the server sent what nobody asked for".into());
            return;
        };
        if !is_right {
            desk.tally.counts.mismatches += 1;
            desk.tally.error("wrong echo", || {
                format!("{} bytes came back that are not what was sent", message.payload().len())
            });
        }
        let is_closed_loop = matches!(self.pace, Pace::Closed { .. });
        // An open loop is asked what became of each message that was due in the window, whenever
        // that was; a closed one, how many came in it.
        if desk.board.is_measured(if is_closed_loop { now } else { time }) {
            desk.tally.counts.messages += 1;
            desk.tally.counts.bytes += message.payload().len() as u64;
            desk.tally.latency.saturating_record(now - time);
        }
        if is_closed_loop && desk.board.order() < Order::Settle {
            self.send(desk, conn, now);
        }
    }

    fn close(&mut self, desk: &mut Desk, link: &mut Link<Talk>, close: &longwire::Close) {
        self.settle(desk, link);
        desk.note_close(close);
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Talk>>,
        order: Order,
    ) -> Option<Instant> {
        match (order, &self.pace) {
            (Order::Run | Order::Second, Pace::Closed { .. }) => self.start_some(desk, dialer),
            (Order::Run | Order::Second, Pace::Open(_)) => self.send_due(desk, dialer),
            _ => None,
        }
    }

    /// What has no answer has waited so long at least, and counts.
    fn settle(&mut self, desk: &mut Desk, link: &mut Link<Talk>) {
        let now = desk.board.now();
        if matches!(self.pace, Pace::Closed { .. }) {
            return;
        }
        for time in link.script.times.drain(..) {
            if desk.board.is_measured(time) {
                desk.tally.counts.unanswered += 1;
                desk.tally.latency.saturating_record(now.saturating_sub(time));
            }
        }
    }
}

/// The number of a thread's first connection.
fn first(dialing: &Dialing) -> u32 {
    u32::try_from(dialing.first).unwrap_or(u32::MAX)
}

/// Runs it.
pub(crate) fn run(args: &EchoArgs) -> Result<Outcome, String> {
    let (common, messages) = (&args.common, &args.messages);
    let (rate, depth) = (args.rate, args.depth.unwrap_or(1));
    if args.conns == 0 || depth == 0 {
        return Err("--conns and --depth must be at least 1".to_owned());
    }
    let kind = messages.kind();
    let settings = settings(
        common,
        &[
            ("conns", args.conns.to_string()),
            ("size", messages.size.to_string()),
            ("kind", kind.to_string()),
            ("verify", if messages.no_verify { "no" } else { "yes" }.to_owned()),
            ("duration", units::duration(args.duration)),
            ("warmup", units::duration(args.warmup)),
        ],
    );
    let setup = Setup::new(common, args.conns, 0, settings)?;
    let all_conns = setup.conns;
    let (size, verifies) = (messages.size, !messages.no_verify);
    let mut conductor = Conductor::start(setup, true, move |_, dialing| {
        let payload = Payload::new(size, kind);
        match rate {
            Some(rate) => Echo::open(payload, verifies, rate, all_conns, dialing),
            None => Echo::closed(payload, verifies, depth, dialing),
        }
    })?;
    conductor.ramp()?;
    conductor.go_on(Order::Run, args.warmup)?;
    let measured = conductor.measure(args.duration)?;
    let loop_kind = rate.map_or(LoopKind::Closed { depth }, |rate| LoopKind::Open { rate });
    if rate.is_some() {
        conductor.go_on(Order::Settle, Duration::ZERO)?;
        let due = settled_count(rate.unwrap_or_default(), measured.seconds);
        conductor.wait("waiting for answers", Some(SETTLE_TIMEOUT), |total| {
            total.counts.messages >= due
        })?;
    }
    let mut report = report(&conductor, "echo", Some(loop_kind), measured.seconds);
    report.add_memory(&conductor);
    conductor.finish()?;
    finish_report(&mut report, &conductor, &measured, rate.is_some());
    let busy = conductor.busy_note(&measured);
    let was_limit = busy.is_some();
    report.notes.extend(busy);
    Ok(Outcome { report, was_limit })
}

/// Messages that were due in a window of so many seconds, surely.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count far below 2^53, and never negative"
)]
fn settled_count(rate: f64, seconds: f64) -> u64 {
    (rate * seconds).floor() as u64
}

fn finish_report(
    report: &mut crate::report::Report,
    conductor: &Conductor,
    measured: &crate::engine::Measured,
    is_open_loop: bool,
) {
    let total = &conductor.total;
    let counts = &total.counts;
    let memory = std::mem::take(&mut report.figures);
    let per_second = |count: u64| count_as_f64(count) / measured.seconds.max(1e-9);
    report.figures.push(figure(
        "messages_per_s",
        per_second(counts.messages),
        Unit::PerSecond,
        Better::Higher,
    ));
    report.figures.push(counted("messages", counts.messages, Better::Neither));
    let bytes = per_second(2 * counts.bytes);
    report.figures.push(figure("bytes_per_s", bytes, Unit::Bytes, Better::Higher));
    if is_open_loop {
        report.figures.push(counted("unanswered", counts.unanswered, Better::Lower));
        let lag = count_as_f64(total.lag.value_at_quantile(0.99)) / 1e3;
        report.figures.push(figure("send_lag_p99_us", lag, Unit::Micros, Better::Lower));
    }
    report.add_work(measured, Work { messages: counts.messages, conns: 0 });
    report.figures.extend(memory);
    report.add_latency("echo", &total.latency);
    report.add_latency("connect", &total.connect);
    report.errors = total.errors();
    report.mismatches = counts.mismatches;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_together_send_evenly_and_at_the_rate_that_was_asked_for() {
        let (conns, rate) = (10, 1000.0);
        let mut due = Vec::new();
        for (first, own) in [(0, 3), (3, 3), (6, 4)] {
            let mut schedule = Schedule::new(rate, own, conns, first);
            while schedule.due() < 1_000_000_000 {
                due.push(schedule.due());
                schedule.advance();
            }
        }
        due.sort_unstable();
        assert!((998..=1002).contains(&due.len()), "{}", due.len());
        let gaps = due.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max() <= Some(3_400_000), "no thread's pause is another's, too");
    }
}
