//! Server CPU per delivery of a published message, beside a loop of `send` of the same bytes.
//!
//! Both servers stay up, and one of them at a time is talked to; each is asked for one message in a
//! turn and for sixteen. Sixteen leave in one send to each subscriber, on both sides, so that the
//! second bar holds longwire to itself: sixteen in a turn are to make at least five times as many
//! deliveries of a CPU second as one.

use std::io;
use std::time::Duration;

use crate::audience::Audience;
use crate::crowd::{self, Manner};
use crate::options::{Backend, Options};
use crate::report::{self, Comparison, Verdict};
use crate::server::Server;

const ROUNDS_DEFAULT: usize = 5;
const SUBSCRIBER_COUNTS: [usize; 2] = [1000, 10_000];
pub(crate) const PAYLOAD_BYTES: usize = 64;
/// Messages that are published in one write.
pub(crate) const BATCH_LEN: usize = 16;
/// Largest acceptable ratio of a delivery to a bare send.
const BAR: f64 = 1.15;
/// Largest acceptable ratio of a delivery of a batch to one alone.
const BATCH_BAR: f64 = 0.2;

/// A server and its subscribers, which are a process of their own: with those of the other server
/// they would be more than one may have descriptors for.
struct Side {
    server: Server,
    audience: Audience,
    subscriber_count: usize,
}

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    crowd::affordable_count(SUBSCRIBER_COUNTS[1])?;
    println!("{PAYLOAD_BYTES} B to each subscriber; floor: send, one subscriber after the other");
    report::print_comparison_head("subscribers", "us per delivery");
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        for count in SUBSCRIBER_COUNTS {
            verdict = verdict.and(compare(options, backend, count)?);
        }
    }
    println!("xN: messages in a turn; the floor of the rows `of 1` is longwire with one in a turn");
    report::print_verdict(verdict);
    Ok(verdict)
}

fn compare(options: &Options, backend: Backend, count: usize) -> io::Result<Verdict> {
    let mut floor = Side::start(Server::bare_fanout(count)?, count, Manner::Bare)?;
    let server = Server::topics(backend, &[crate::core::SERVER], None)?;
    let mut subject = Side::start(server, count, Manner::WebSocket)?;
    for side in [&mut floor, &mut subject] {
        side.measure(1, options.slice / 2)?;
    }
    let mut one = Comparison::new(BAR);
    let mut many = Comparison::new(BAR);
    let mut batch = Comparison::new(BATCH_BAR);
    for round in 0..options.rounds.unwrap_or(ROUNDS_DEFAULT) {
        let (floor_one, subject_one) = in_turn(round, 1, options, &mut floor, &mut subject)?;
        let (floor_many, subject_many) =
            in_turn(round, BATCH_LEN, options, &mut floor, &mut subject)?;
        one.push(floor_one, subject_one);
        many.push(floor_many, subject_many);
        batch.push(subject_one, subject_many);
    }
    one.print(&format!("{count} x1"), backend.name());
    many.print(&format!("{count} x{BATCH_LEN}"), backend.name());
    batch.print(&format!("{count} of 1"), backend.name());
    println!(
        "  deliveries per second of server CPU: {:.0} with one in a turn, {:.0} with {BATCH_LEN}",
        1e6 / one.subject_median(),
        1e6 / batch.subject_median(),
    );
    Ok(one.verdict().and(many.verdict()).and(batch.verdict()))
}

/// Both, in an order that changes from round to round, so that a drift cancels out.
fn in_turn(
    round: usize,
    messages_per_turn: usize,
    options: &Options,
    floor: &mut Side,
    subject: &mut Side,
) -> io::Result<(f64, f64)> {
    if round.is_multiple_of(2) {
        let floor_us = floor.measure(messages_per_turn, options.slice)?;
        return Ok((floor_us, subject.measure(messages_per_turn, options.slice)?));
    }
    let subject_us = subject.measure(messages_per_turn, options.slice)?;
    Ok((floor.measure(messages_per_turn, options.slice)?, subject_us))
}

impl Side {
    fn start(server: Server, subscriber_count: usize, manner: Manner) -> io::Result<Self> {
        let audience = Audience::start(server.addr(), subscriber_count, manner)?;
        Ok(Self { server, audience, subscriber_count })
    }

    /// Server CPU per delivery over one slice, in microseconds.
    fn measure(&mut self, messages_per_turn: usize, slice: Duration) -> io::Result<f64> {
        let before = self.server.stat.settled_cpu()?;
        let message_count = self.audience.run(messages_per_turn, slice)?;
        let cpu = self.server.stat.settled_cpu()? - before;
        Ok(cpu.as_secs_f64() * 1e6 / (message_count * self.subscriber_count) as f64)
    }
}
