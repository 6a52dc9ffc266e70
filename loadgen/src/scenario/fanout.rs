//! One publisher, many subscribers: whatever a connection of this URL sends, all of them get.
//!
//! Each message carries the time at which it was due and its number, so every subscriber tells by
//! itself what was lost, doubled or out of order, and how late each delivery was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use longwire::{Conn, Dialer, Message};

use super::echo::Schedule;
use super::{Outcome, counted, figure, report, settings};
use crate::args::FanoutArgs;
use crate::engine::Conductor;
use crate::engine::board::Order;
use crate::engine::payload::filler;
use crate::engine::pilot::{Desk, Link, Script};
use crate::engine::setup::Setup;
use crate::observe::Work;
use crate::report::{Better, LoopKind, Unit, count_as_f64};
use crate::units;

/// What a message of ours begins with; others on the same URL are not counted.
const MARK: &[u8; 8] = b"loadgen\x01";
/// Bytes of mark, number and time.
const HEADER_BYTES: usize = 24;
/// How long the last deliveries may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to make a new connection a subscriber.
const JOIN_TIME: Duration = Duration::from_millis(500);

/// The subscribers of one thread; the first thread has the publisher, too.
#[derive(Debug)]
struct Fanout {
    /// Only the publisher's thread sends.
    schedule: Option<Schedule>,
    message: Vec<u8>,
}

/// What is kept for each subscriber.
#[derive(Debug, Default)]
struct Subscriber {
    /// Number of the next message in order.
    next: u64,
    /// Those before it that have not come.
    missing: BTreeSet<u64>,
}

impl Subscriber {
    /// Notes the arrival of a message. Returns whether it is the first of its number.
    fn take(&mut self, number: u64, desk: &mut Desk) -> bool {
        if number >= self.next {
            if number > self.next {
                self.missing.extend(self.next..number);
            }
            self.next = number + 1;
            return true;
        }
        let was_missing = self.missing.remove(&number);
        let counts = &mut desk.tally.counts;
        if was_missing {
            counts.reordered += 1;
            desk.tally.error("out of order", || format!("message {number} came late"));
        } else {
            counts.duplicates += 1;
            desk.tally.error("duplicate", || format!("message {number} came twice"));
        }
        was_missing
    }
}

impl Fanout {
    /// The number of our own message, and when it was due.
    fn read(message: &[u8]) -> Option<(u64, u64)> {
        let (mark, rest) = message.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let time = rest.first_chunk::<8>()?;
        (mark == MARK).then(|| (u64::from_le_bytes(*number), u64::from_le_bytes(*time)))
    }

    fn publish(&mut self, conn: &mut Conn<'_, Link<Subscriber>>, desk: &mut Desk, due: u64) {
        let number = desk.published;
        desk.published += 1;
        desk.tally.counts.published += 1;
        self.message[8..16].copy_from_slice(&number.to_le_bytes());
        self.message[16..24].copy_from_slice(&due.to_le_bytes());
        if let Err(error) = conn.send_binary(&self.message) {
            desk.tally.error("cannot send", || error.to_string());
        }
    }
}

impl Script for Fanout {
    type State = Subscriber;

    fn message(
        &mut self,
        desk: &mut Desk,
        conn: &mut Conn<'_, Link<Subscriber>>,
        message: &Message<'_>,
    ) {
        let now = desk.board.now();
        let Some((number, due)) = Self::read(message.payload()) else { return };
        if message.payload().len() != self.message.len()
            || message.payload()[HEADER_BYTES..] != self.message[HEADER_BYTES..]
        {
            desk.tally.counts.mismatches += 1;
            desk.tally.error("wrong content", || format!("message {number} was changed"));
        }
        if conn.state().script.take(number, desk) {
            desk.tally.counts.messages += 1;
            desk.tally.counts.bytes += message.payload().len() as u64;
            desk.tally.latency.saturating_record(now.saturating_sub(due));
        }
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Subscriber>>,
        order: Order,
    ) -> Option<Instant> {
        if order != Order::Run {
            return None;
        }
        let start = desk.board.window_start();
        loop {
            let Some(due) = start.checked_add(self.schedule.as_ref()?.due()) else {
                // The window is about to be opened.
                return Some(dialer.now() + Duration::from_millis(1));
            };
            if desk.board.is_over(due) {
                return None;
            }
            let now = desk.board.now();
            if due > now {
                return Some(desk.board.instant(due));
            }
            desk.tally.lag.saturating_record(now - due);
            self.schedule.as_mut()?.advance();
            match desk.ids.first().and_then(|id| dialer.conn(*id)) {
                Some(mut conn) => self.publish(&mut conn, desk, due),
                None => {
                    desk.tally.error("publisher lost", || "its connection is closed".to_owned());
                    self.schedule = None;
                }
            }
        }
    }

    /// What the subscriber lacks of all that was published is known to the conductor.
    fn settle(&mut self, desk: &mut Desk, link: &mut Link<Subscriber>) {
        let missing = link.script.missing.len() as u64;
        let received = link.script.next - missing;
        desk.tally.counts.delivered += received;
    }
}

/// Runs it.
pub(crate) fn run(args: &FanoutArgs) -> Result<Outcome, String> {
    let (common, rate, size, kind) = (&args.common, args.rate, args.size, args.payload);
    if size < HEADER_BYTES {
        return Err(format!("--size is {size}; it must be at least {HEADER_BYTES}"));
    }
    if args.subscribers == 0 {
        return Err("--subscribers must be at least 1".to_owned());
    }
    let settings = settings(
        common,
        &[
            ("subscribers", args.subscribers.to_string()),
            ("size", size.to_string()),
            ("kind", kind.to_string()),
            ("duration", units::duration(args.duration)),
        ],
    );
    let setup = Setup::new(common, args.subscribers, 0, settings)?;
    let mut conductor = Conductor::start(setup, true, move |worker, _| {
        let mut message = MARK.to_vec();
        message.resize(HEADER_BYTES, 0);
        message.extend(filler(size - HEADER_BYTES, kind));
        Fanout { schedule: (worker == 0).then(|| Schedule::new(rate, 1, 1, 0)), message }
    })?;
    conductor.ramp()?;
    let subscribers = conductor.total.counts.open();
    conductor.wait("letting all join", Some(JOIN_TIME), |_| false)?;
    conductor.board.give(Order::Run);
    let measured = conductor.measure(args.duration)?;
    conductor.board.give(Order::Settle);
    let due = conductor.total.counts.published * subscribers;
    conductor.wait("waiting for deliveries", Some(SETTLE_TIMEOUT), |total| {
        total.counts.messages >= due
    })?;
    let loop_kind = Some(LoopKind::Open { rate });
    let mut report = report(&conductor, "fanout", loop_kind, measured.seconds);
    report.add_memory(&conductor);
    let memory = std::mem::take(&mut report.figures);
    conductor.finish()?;
    let total = &conductor.total;
    let counts = total.counts;
    let due = counts.published * subscribers;
    let lost = due.saturating_sub(counts.delivered);
    let per_second = count_as_f64(counts.messages) / measured.seconds.max(1e-9);
    report.figures = vec![
        figure("messages_per_s", per_second, Unit::PerSecond, Better::Higher),
        counted("published", counts.published, Better::Neither),
        counted("messages", counts.messages, Better::Neither),
        counted("lost", lost, Better::Lower),
        counted("duplicates", counts.duplicates, Better::Lower),
        counted("reordered", counts.reordered, Better::Lower),
    ];
    report.add_work(&measured, Work { messages: counts.messages, conns: 0 });
    report.figures.extend(memory);
    report.add_latency("delivery", &total.latency);
    report.add_latency("connect", &total.connect);
    report.errors = total.errors();
    report.mismatches = counts.mismatches + lost + counts.duplicates + counts.reordered;
    if counts.published > 0 && counts.messages == 0 {
        report.notes.push(
            "nothing was delivered: the server must send what one connection of this URL says to \
             all of them, the sender included"
                .to_owned(),
        );
    }
    let busy = conductor.busy_note(&measured);
    let was_limit = busy.is_some();
    report.notes.extend(busy);
    Ok(Outcome { report, was_limit })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longwire::Target;

    use super::*;
    use crate::engine::board::Board;
    use crate::engine::pilot::Dialing;
    use crate::preflight::SourceAddrs;

    fn desk() -> Desk {
        let addr = "127.0.0.1:1".parse().unwrap();
        let dialing = Dialing {
            target: Target::new(addr, "x", "/"),
            sources: Arc::new(SourceAddrs::new(addr, 1, &[], 1).unwrap()),
            conns: 1,
            first: 0,
            handshakes: 1,
        };
        Desk::new(Arc::new(Board::new(1)), 0, dialing)
    }

    #[test]
    fn loss_doubles_and_disorder_are_told_apart() {
        let (mut desk, mut subscriber) = (desk(), Subscriber::default());
        for number in [0, 1, 3, 2, 3, 7] {
            subscriber.take(number, &mut desk);
        }
        let counts = desk.tally.counts;
        assert_eq!((counts.reordered, counts.duplicates), (1, 1));
        assert_eq!(subscriber.missing.into_iter().collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(subscriber.next, 8);
    }

    #[test]
    fn foreign_messages_are_told_from_ours() {
        let mut ours = MARK.to_vec();
        ours.extend(7u64.to_le_bytes());
        ours.extend(9u64.to_le_bytes());
        assert_eq!(Fanout::read(&ours), Some((7, 9)));
        assert_eq!(Fanout::read(&ours[..23]), None);
        ours[0] ^= 1;
        assert_eq!(Fanout::read(&ours), None);
    }
}
