//! A report as a real run leaves it, for the tests of everything that reads one.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::machine::Machine;
use crate::report::{
    Better, ErrorCount, Figure, Latency, LoopKind, Report, SCHEMA, Sample, Transport, Unit,
};

/// An open loop of 60 s on 1,000 connections; the server stalls for a second in its middle.
pub(crate) fn report() -> Report {
    Report {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        started_at: "2026-11-21T03:21:05Z".to_owned(),
        scenario: "echo".to_owned(),
        loop_kind: Some(LoopKind::Open { rate: 50_000.0 }),
        url: "ws://127.0.0.1:9001/echo?a=1&b=<2>".to_owned(),
        transport: Transport::Tcp,
        compression: None,
        settings: settings(),
        machine: Machine {
            cpu: "Intel(R) Xeon(R) Processor".to_owned(),
            cores: 2,
            kernel: "6.18.44".to_owned(),
            memory_bytes: 25_276_502_016,
        },
        backend: "io_uring".to_owned(),
        threads: 1,
        seconds: 60.0,
        figures: figures(),
        latencies: vec![
            Latency::of("echo", &latencies(120_000, 45_000.0)),
            Latency::of("connect", &latencies(1000, 120_000.0)),
        ],
        timeline: (1..=60).map(sample).collect(),
        errors: vec![ErrorCount {
            kind: "closed early".to_owned(),
            count: 3,
            example: "1011 \"internal <error>\" after 12 messages".to_owned(),
        }],
        mismatches: 0,
        notes: vec!["the generator was the limit: 97 % of its core".to_owned()],
    }
}

/// The same run with every figure and latency times `factor`.
pub(crate) fn scaled(factor: f64) -> Report {
    let mut report = report();
    for figure in &mut report.figures {
        figure.value *= factor;
    }
    for latency in &mut report.latencies {
        latency.mean_us *= factor;
        latency.p50_us *= factor;
        latency.p90_us *= factor;
        latency.p99_us *= factor;
        latency.p99_9_us *= factor;
        latency.p99_99_us *= factor;
        latency.max_us *= factor;
    }
    report
}

fn settings() -> BTreeMap<String, String> {
    [("conns", "1000"), ("size", "20"), ("rate", "50000"), ("duration", "60s"), ("pid", "4711")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn figures() -> Vec<Figure> {
    use Better::{Higher, Lower, Neither};
    [
        ("messages_per_s", 49_998.2, Unit::PerSecond, Higher),
        ("messages", 2_999_892.0, Unit::Count, Higher),
        ("bytes_per_s", 999_964.0, Unit::Bytes, Higher),
        ("opened", 1000.0, Unit::Count, Neither),
        ("server_cpu_us_per_message", 6.42, Unit::Micros, Lower),
        ("server_cpu_percent", 32.1, Unit::Percent, Lower),
        ("server_rss_bytes_per_conn", 126.5, Unit::Bytes, Lower),
        ("kernel_slab_bytes_per_conn", 8736.0, Unit::Bytes, Lower),
        ("generator_cpu_percent", 97.0, Unit::Percent, Lower),
        ("send_lag_p99_us", 84.2, Unit::Micros, Lower),
    ]
    .map(|(name, value, unit, better)| Figure { name: name.to_owned(), value, unit, better })
    .into()
}

/// A long tail without a random generator: the value grows with how rare its rank is.
fn latencies(count: u32, base_nanos: f64) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    for rank in 0..count {
        let left = f64::from(count - rank) / f64::from(count);
        let nanos = base_nanos * (1.0 + 0.8 * left.recip().powf(0.62));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and below a minute"
        )]
        histogram.record(nanos as u64).unwrap();
    }
    histogram
}

fn sample(second: u32) -> Sample {
    let at_s = f64::from(second);
    let wave = (at_s / 3.0).sin();
    let stalled = second == 31;
    Sample {
        at_s,
        open: u64::from(second.min(5) * 200),
        messages_per_s: if stalled { 4100.0 } else { 50_000.0 + 900.0 * wave },
        errors: if stalled { 3 } else { 0 },
        p50_us: Some(80.0 + 6.0 * wave),
        p99_us: Some(if stalled { 940_000.0 } else { 410.0 + 60.0 * wave }),
        max_us: Some(if stalled { 1_010_000.0 } else { 2200.0 + 900.0 * wave }),
        server_cpu_percent: Some(32.0 + 2.0 * wave),
        server_rss_bytes: Some(3_200_000 + u64::from(second.min(5)) * 25_300),
        generator_cpu_percent: 70.0 + 3.0 * wave,
    }
}
