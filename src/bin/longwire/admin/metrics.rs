//! `/metrics`: the figures of each core in the text format of Prometheus (OpenMetrics 1.0).
//!
//! Labels are numbers of cores, close codes, and reasons that are constants of the program: nothing
//! that a peer has said stands in one, so peers cannot make the series grow (row HP05).

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use longwire::Stats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::{Admin, answer, broker, closes, fault, resident_bytes};
use crate::broker::Figures;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of the classes of [`Stats::turns`], in seconds.
const TURN_BOUNDS: [f64; 5] = [0.0001, 0.001, 0.01, 0.1, f64::MAX];

/// Name, explanation, and the figure of a core.
type Figure = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTERS: &[Figure] = &[
    ("longwire_connections_accepted", "Connections accepted", |stats| stats.accepted),
    ("longwire_connections_opened", "Handshakes that succeeded", |stats| stats.opened),
    ("longwire_connections_closed", "Open connections that ended", |stats| stats.closed),
    ("longwire_connections_shed", "Connections dropped for lack of resources", |stats| stats.shed),
    ("longwire_messages_received", "Messages received", |stats| stats.messages),
    ("longwire_received_bytes", "Payload bytes received", |stats| stats.message_bytes),
    ("longwire_messages_sent", "Messages queued for peers", |stats| stats.sent_messages),
    ("longwire_sent_bytes", "Payload bytes queued for peers", |stats| stats.sent_bytes),
    ("longwire_messages_dropped", "Messages dropped for slow readers", |stats| stats.dropped),
    ("longwire_messages_published", "Messages of topics taken up", |stats| stats.published),
    ("longwire_waits", "Calls of io_uring_enter or epoll_wait", |stats| stats.waits),
    ("longwire_ring_submissions", "Operations that the kernel took from the ring", |stats| {
        stats.submissions
    }),
    ("longwire_ring_completion_overflows", "Completions had no room in the ring", |stats| {
        stats.completion_overflows
    }),
    ("longwire_ring_submission_stalls", "An operation had no room in the ring", |stats| {
        stats.submission_stalls
    }),
    ("longwire_receives_parked", "A receive had to wait for a free block", |stats| {
        stats.receives_parked
    }),
];

const GAUGES: &[Figure] = &[
    ("longwire_connections_open", "Connections open", |stats| {
        stats.opened.saturating_sub(stats.closed)
    }),
    ("longwire_topics", "Topics", |stats| stats.topics),
    ("longwire_subscriptions", "Subscriptions", |stats| stats.subscriptions),
    ("longwire_queue_bytes", "Bytes queued for peers", |stats| stats.queued_bytes),
    ("longwire_receive_blocks_lent", "Receive blocks in use", |stats| stats.receive_blocks_lent),
    ("longwire_receive_blocks_free", "Receive blocks left", |stats| stats.receive_blocks_free),
    ("longwire_pool_bytes", "Bytes of all blocks", |stats| stats.pool_bytes),
    ("longwire_pool_spare_bytes", "Bytes of free blocks for messages", |stats| stats.spare_bytes),
    ("longwire_held_bytes", "Heap held for connections and topics", |stats| stats.held_bytes),
];

pub(super) async fn scrape(State(admin): State<Arc<Admin>>) -> Response {
    let mut registry = Registry::default();
    let about = [("version", env!("CARGO_PKG_VERSION")), ("backend", &admin.facts.backend)];
    let about = about.map(|(name, value)| (name.to_owned(), value.to_owned()));
    registry.register("longwire", "The program", Info::new(Vec::from(about)));
    registry.register_collector(Box::new(Scrape {
        cores: admin.cores(),
        uptime_seconds: admin.uptime().as_secs_f64(),
        is_ready: admin.stage.is_serving(),
        conns_max: level(admin.handle.conns_max() as u64),
        memory_bytes_max: level(admin.handle.memory_bytes_max() as u64),
        stuck_seconds: admin.stage.stuck().as_secs_f64(),
        broker: admin.broker.as_ref().map(|(broker, _)| broker.report().figures()),
        resident_bytes: resident_bytes().unwrap_or_default(),
    }));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => answer(StatusCode::OK, CONTENT_TYPE, text),
        Err(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be written"),
    }
}

/// The figures of one moment.
#[derive(Debug)]
struct Scrape {
    cores: Vec<Stats>,
    uptime_seconds: f64,
    is_ready: bool,
    conns_max: i64,
    memory_bytes_max: i64,
    stuck_seconds: f64,
    broker: Option<Figures>,
    resident_bytes: u64,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for &(name, help, figure) in COUNTERS {
            let count = |stats: &Stats| ConstCounter::new(figure(stats));
            self.encode_cores(&mut encoder, name, help, MetricType::Counter, count)?;
        }
        for &(name, help, figure) in GAUGES {
            let level = |stats: &Stats| ConstGauge::new(level(figure(stats)));
            self.encode_cores(&mut encoder, name, help, MetricType::Gauge, level)?;
        }
        self.encode_by_label(
            &mut encoder,
            ("longwire_handshakes_refused", "Handshakes refused", "reason"),
            |stats| stats.refusals.iter().map(|(why, n)| ((*why).to_owned(), *n)).collect(),
        )?;
        self.encode_by_label(
            &mut encoder,
            ("longwire_failures", "Connections that the server ended", "code"),
            |stats| stats.failures.iter().map(|(code, n)| (code.to_string(), *n)).collect(),
        )?;
        self.encode_by_label(
            &mut encoder,
            ("longwire_close_causes", "Open connections that ended, by cause", "cause"),
            |stats| stats.close_causes.iter().map(|(why, n)| ((*why).to_owned(), *n)).collect(),
        )?;
        self.encode_closes(&mut encoder)?;
        self.encode_turns(&mut encoder)?;
        gauge(&mut encoder, "longwire_uptime_seconds", "Since the start", self.uptime_seconds)?;
        if let Some(figures) = &self.broker {
            broker::encode(&mut encoder, figures)?;
        }
        let ready = i64::from(self.is_ready);
        gauge(&mut encoder, "longwire_ready", "Whether connections are accepted", ready)?;
        let (name, help) = ("longwire_connections_max", "Connections that there may be");
        gauge(&mut encoder, name, help, self.conns_max)?;
        let (name, help) = ("longwire_memory_max_bytes", "Bytes that connections may hold");
        gauge(&mut encoder, name, help, self.memory_bytes_max)?;
        let (name, help) = ("longwire_stuck_seconds", "Time that a worker is stuck at one turn");
        gauge(&mut encoder, name, help, self.stuck_seconds)?;
        let resident = level(self.resident_bytes);
        gauge(&mut encoder, "process_resident_memory_bytes", "Memory of the process", resident)
    }
}

impl Scrape {
    /// One figure of each core.
    fn encode_cores<M: EncodeMetric>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        metric: impl Fn(&Stats) -> M,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (core, stats) in self.cores.iter().enumerate() {
            metric(stats).encode(family.encode_family(&[("core", core)])?)?;
        }
        Ok(())
    }

    /// A count of each core, taken apart by one more label.
    fn encode_by_label(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, label): (&str, &str, &str),
        counts: impl Fn(&Stats) -> Vec<(String, u64)>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (core, stats) in self.cores.iter().enumerate() {
            for (value, count) in counts(stats) {
                let labels = [("core", core.to_string()), (label, value)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// Who closed, and with which code.
    fn encode_closes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("longwire_closes", "Open connections that ended, by side and code");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (core, stats) in self.cores.iter().enumerate() {
            for ((by, code), count) in &stats.closes {
                let side = closes::side(by).to_owned();
                let code = closes::code_label(*code);
                let labels = [("core", core.to_string()), ("side", side), ("code", code)];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// How long the turns of each core took.
    fn encode_turns(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("longwire_turn_seconds", "Turns of the event loop by their length");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (core, stats) in self.cores.iter().enumerate() {
            let buckets: Vec<(f64, u64)> = TURN_BOUNDS.into_iter().zip(stats.turns).collect();
            let (sum, count) = (stats.turn_time.as_secs_f64(), stats.turns.iter().sum());
            let labels = [("core", core)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

pub(super) fn gauge<V>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: V,
) -> fmt::Result
where
    ConstGauge<V>: EncodeMetric,
{
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// Levels are signed in this format.
pub(super) fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
