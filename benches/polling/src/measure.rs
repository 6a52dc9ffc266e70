//! One way, measured: a server, its clients, a time in which everything is counted, and a verdict.
//!
//! What is counted lies between the first instant of publishing and the last. Connecting is before
//! it, and updates still under way at its end are waited for after it.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{self, SECOND_NS};
use crate::crowd::{Crowd, Faults, Headers, Traffic, quantile};
use crate::process::{self, Cpu};
use crate::schedule::Schedule;
use crate::serve::Order;
use crate::server::Server;

/// From all clients being connected to the first update: long enough for every first poll or
/// waiting request.
const LEAD_NS: u64 = 3 * SECOND_NS / 2;
/// How long updates may be under way after the last was published, beyond one poll.
const DRAIN_NS: u64 = 3 * SECOND_NS;
/// For what must not come any more when all has arrived.
const SETTLE_NS: u64 = SECOND_NS / 5;
/// Of an IPv4 packet with a TCP segment that carries a time stamp: 20 + 20 + 12.
const PACKET_HEAD_BYTES: f64 = 52.0;

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) headers: Headers,
    pub(crate) poll_period: Duration,
    pub(crate) client_core: usize,
}

/// The figures of one way. Bytes without the word packet are TCP payload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// As on the command line.
    pub(crate) way: &'static str,
    #[serde(skip)]
    pub(crate) title: &'static str,
    pub(crate) server: String,
    pub(crate) clients: u64,
    pub(crate) seconds: f64,
    pub(crate) published: u64,
    pub(crate) arrived: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) misdelivered: u64,
    pub(crate) requests_per_s: f64,
    pub(crate) empty_answers_per_s: f64,
    pub(crate) polls_skipped: u64,
    pub(crate) pings: u64,
    pub(crate) sent_bytes_per_s: f64,
    pub(crate) received_bytes_per_s: f64,
    pub(crate) bytes_per_client_s: f64,
    pub(crate) bytes_per_update: f64,
    /// None when somebody else used TCP meanwhile, whose packets cannot be told apart.
    pub(crate) packets_per_s: Option<f64>,
    /// With the heads of TCP and IP.
    pub(crate) packet_bytes_per_s: Option<f64>,
    pub(crate) opening_bytes_per_client: f64,
    /// Of a request; of the opening handshake for the push, which makes no other.
    pub(crate) request_bytes: usize,
    pub(crate) server_cpu_percent: f64,
    pub(crate) server_cpu_us_per_client_s: f64,
    pub(crate) server_cpu_us_per_update: f64,
    /// It wanted to run but something else had its core.
    pub(crate) server_waited_percent: f64,
    pub(crate) server_rss_bytes: u64,
    pub(crate) server_rss_bytes_per_client: f64,
    pub(crate) delay_p50_ms: f64,
    pub(crate) delay_p99_ms: f64,
    pub(crate) delay_max_ms: f64,
    /// After the schedule; not part of the delay.
    pub(crate) published_late_p99_ms: f64,
    pub(crate) client_cpu_percent: f64,
    pub(crate) client_waited_percent: f64,
}

impl Figures {
    /// Every update arrived once, in order, at its client.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.misdelivered == 0
    }
}

/// What is read at the beginning and at the end.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at_ns: u64,
    traffic: Traffic,
    server: Cpu,
    own: Cpu,
    segments: u64,
}

impl Reading {
    fn take(server: &Server, crowd: &Crowd) -> io::Result<Self> {
        Ok(Self {
            at_ns: clock::now_ns(),
            traffic: crowd.traffic(),
            server: process::cpu(server.pid())?,
            own: process::cpu(std::process::id())?,
            segments: process::tcp_segments()?,
        })
    }
}

/// Starts the server and the clients of a way, and measures them.
pub(crate) fn measure(order: &Order, settings: &Settings) -> io::Result<Figures> {
    let mut server = Server::start(order)?;
    let empty_bytes = process::resident_bytes(server.pid())?;
    let clients = usize::try_from(order.client_count).map_err(io::Error::other)?;
    let mut crowd = Crowd::open(order.way, settings.headers, server.addr(), clients)?;
    let opening = crowd.traffic();

    let schedule = order.schedule(clock::now_ns() + LEAD_NS);
    server.publish_from(schedule.start_ns)?;
    let poll_period_ns = clock::ns(settings.poll_period);
    crowd.begin(poll_period_ns)?;
    crowd.run_until(schedule.start_ns, |_| false)?;
    let before = Reading::take(&server, &crowd)?;
    crowd.run_until(schedule.end_ns(), |_| false)?;
    let after = Reading::take(&server, &crowd)?;
    let rss_bytes = process::resident_bytes(server.pid())?;

    let drained_ns = schedule.end_ns() + DRAIN_NS + poll_period_ns;
    let expected = schedule.update_count();
    crowd.run_until(drained_ns, |crowd| crowd.ledger().arrived() >= expected)?;
    crowd.run_until(clock::now_ns() + SETTLE_NS, |_| false)?;
    let rest = Rest { opening, empty_bytes, rss_bytes };
    Ok(figures(order, &schedule, &server, &crowd, (before, after), &rest))
}

/// What is read once.
#[derive(Debug)]
struct Rest {
    opening: Traffic,
    /// Resident before the first client.
    empty_bytes: u64,
    rss_bytes: u64,
}

fn figures(
    order: &Order,
    schedule: &Schedule,
    server: &Server,
    crowd: &Crowd,
    (before, after): (Reading, Reading),
    rest: &Rest,
) -> Figures {
    let span_ns = (after.at_ns - before.at_ns) as f64;
    let seconds = span_ns / SECOND_NS as f64;
    let clients = order.client_count as f64;
    let traffic = after.traffic - before.traffic;
    let bytes = (traffic.sent_bytes + traffic.received_bytes) as f64;
    let packets = own_packets(after.segments.saturating_sub(before.segments), traffic);
    let cpu_ns = (after.server.run_ns - before.server.run_ns) as f64;
    let updates = traffic.updates.max(1) as f64;
    let ledger = crowd.ledger();
    let Faults { lost, repeated, misdelivered } = ledger.faults(schedule);
    let (delays, lags) = (ledger.delays(), ledger.publishing_lags(schedule));
    let percent = |before: u64, after: u64| (after - before) as f64 / span_ns * 100.0;
    let opening_bytes = (rest.opening.sent_bytes + rest.opening.received_bytes) as f64;
    Figures {
        way: order.way.name(),
        title: order.way.title(),
        server: server.what().to_owned(),
        clients: order.client_count,
        seconds,
        published: schedule.update_count(),
        arrived: ledger.arrived(),
        lost,
        repeated,
        misdelivered,
        requests_per_s: traffic.requests as f64 / seconds,
        empty_answers_per_s: traffic.empty as f64 / seconds,
        polls_skipped: traffic.skipped,
        pings: traffic.pings,
        sent_bytes_per_s: traffic.sent_bytes as f64 / seconds,
        received_bytes_per_s: traffic.received_bytes as f64 / seconds,
        bytes_per_client_s: bytes / seconds / clients,
        bytes_per_update: bytes / updates,
        packets_per_s: packets.map(|packets| packets / seconds),
        packet_bytes_per_s: packets.map(|packets| (bytes + packets * PACKET_HEAD_BYTES) / seconds),
        opening_bytes_per_client: opening_bytes / clients,
        request_bytes: crowd.request_bytes(),
        server_cpu_percent: cpu_ns / span_ns * 100.0,
        server_cpu_us_per_client_s: cpu_ns / 1000.0 / clients / seconds,
        server_cpu_us_per_update: cpu_ns / 1000.0 / updates,
        server_waited_percent: percent(before.server.waited_ns, after.server.waited_ns),
        server_rss_bytes: rest.rss_bytes,
        server_rss_bytes_per_client: rest.rss_bytes.saturating_sub(rest.empty_bytes) as f64
            / clients,
        delay_p50_ms: millis(quantile(&delays, 500)),
        delay_p99_ms: millis(quantile(&delays, 990)),
        delay_max_ms: millis(quantile(&delays, 1000)),
        published_late_p99_ms: millis(quantile(&lags, 990)),
        client_cpu_percent: percent(before.own.run_ns, after.own.run_ns),
        client_waited_percent: percent(before.own.waited_ns, after.own.waited_ns),
    }
}

/// The segments of the whole machine, if they can all have been ours: every message is so small that
/// it takes one, and at most one more to acknowledge it.
fn own_packets(segments: u64, traffic: Traffic) -> Option<f64> {
    let messages = traffic.requests + traffic.updates + traffic.empty + 2 * traffic.pings;
    // What was under way at either end of the time is counted on one side only.
    let slack = messages / 50 + 16;
    (segments <= 2 * messages + slack).then_some(segments as f64)
}

fn millis(span_ns: u64) -> f64 {
    span_ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_not_told_when_there_are_more_than_the_traffic_explains() {
        let traffic = Traffic { requests: 1000, updates: 100, empty: 900, ..Traffic::default() };
        assert_eq!(own_packets(3000, traffic), Some(3000.0));
        assert_eq!(own_packets(4000, traffic), Some(4000.0));
        assert_eq!(own_packets(4100, traffic), None);
        let pushed = Traffic { updates: 1000, pings: 100, ..Traffic::default() };
        assert_eq!(own_packets(2400, pushed), Some(2400.0));
        assert_eq!(own_packets(2500, pushed), None);
    }
}
