//! The model of a run's result: what every scenario fills in, and every display reads.
//!
//! It is plain data. It measures nothing and prints nothing; its JSON form, `schema` 1, is what
//! `--json` writes and `loadgen compare` reads. Whatever can be judged or compared has a name in one
//! flat namespace, which [`Report::figure`] answers for and [`unit_of`] knows before a run.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize};

use crate::machine::Machine;

/// The only schema this version writes and reads.
pub(crate) const SCHEMA: u32 = 1;

/// Points of a latency curve between its ends: more than a screen has use for.
const CURVE_STEPS: u32 = 100;

/// All that is known of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Of loadgen.
    pub(crate) version: String,
    /// RFC 3339, UTC, as [`utc_now`] makes it.
    pub(crate) started_at: String,
    /// "echo", "idle" and so on.
    pub(crate) scenario: String,
    /// None where neither kind applies.
    pub(crate) loop_kind: Option<LoopKind>,
    /// Of the server.
    pub(crate) url: String,
    /// What is under the WebSocket. Reports of before there was a choice do not name it.
    #[serde(default)]
    pub(crate) transport: Transport,
    /// None if it was not offered.
    #[serde(default)]
    pub(crate) compression: Option<Compression>,
    /// The flags that shape the run, defaults included.
    pub(crate) settings: BTreeMap<String, String>,
    /// Of the generator, and of the server too if that is local.
    pub(crate) machine: Machine,
    /// Of the generator: `io_uring` or `epoll`.
    pub(crate) backend: String,
    /// Of the generator.
    pub(crate) threads: usize,
    /// The measured part, without ramp.
    pub(crate) seconds: f64,
    /// In order of importance.
    pub(crate) figures: Vec<Figure>,
    /// The first is the one that bare names such as `p99` speak of.
    pub(crate) latencies: Vec<Latency>,
    /// In order of time.
    pub(crate) timeline: Vec<Sample>,
    /// One for each kind seen.
    pub(crate) errors: Vec<ErrorCount>,
    /// Answers that were not what was sent.
    pub(crate) mismatches: u64,
    /// Honest remarks, such as "the generator was the limit: 97 % of its core".
    pub(crate) notes: Vec<String>,
}

/// Who decides when the next message leaves; the two are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoopKind {
    /// The answer to the last one does.
    Closed {
        /// Messages in flight on each connection.
        depth: usize,
    },
    /// The clock does, whatever the server answers.
    Open {
        /// Messages per second over all connections.
        rate: f64,
    },
}

/// What is under the WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    /// `ws://`
    #[default]
    Tcp,
    /// `wss://`
    Tls,
}

/// What came of offering permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compression {
    /// Connections that opened, each of which offered it.
    pub(crate) opened_conns: u64,
    /// Those of them on which the server agreed.
    pub(crate) agreed_conns: u64,
}

/// One number that can be judged by `--fail-if` and compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// One of the names that [`unit_of`] knows.
    pub(crate) name: String,
    /// In `unit`; not finite where nothing could be measured.
    #[serde(deserialize_with = "null_is_nan")]
    pub(crate) value: f64,
    /// What `value` counts.
    pub(crate) unit: Unit,
    /// Which direction is an improvement.
    pub(crate) better: Better,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Events per second.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
    /// A number of things.
    Count,
    /// Of two like things; 1 is equal.
    Ratio,
    /// 0 to 100; for CPU, 100 is one whole core.
    Percent,
    /// Seconds.
    Seconds,
}

/// Which direction of a figure is an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// It says nothing about quality.
    Neither,
}

/// The distribution of one kind of latency.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// "echo", "connect", "delivery"; without a dot.
    pub(crate) name: String,
    /// Of values recorded. If 0, no other field means anything.
    pub(crate) count: u64,
    /// The arithmetic mean.
    pub(crate) mean_us: f64,
    /// The median.
    pub(crate) p50_us: f64,
    /// One in 10 is slower.
    pub(crate) p90_us: f64,
    /// One in 100 is slower.
    pub(crate) p99_us: f64,
    /// One in 1,000 is slower.
    pub(crate) p99_9_us: f64,
    /// One in 10,000 is slower.
    pub(crate) p99_99_us: f64,
    /// The slowest of all.
    pub(crate) max_us: f64,
    /// (percentile from 0 to 100, microseconds), evenly spaced on a log scale of 1 / (1 - p).
    pub(crate) curve: Vec<(f64, f64)>,
}

/// What one interval of the run looked like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// End of the interval, since the start of the run.
    pub(crate) at_s: f64,
    /// Connections open.
    pub(crate) open: u64,
    /// Answered or delivered in the interval.
    pub(crate) messages_per_s: f64,
    /// In the interval.
    pub(crate) errors: u64,
    /// Of the first latency, in the interval.
    pub(crate) p50_us: Option<f64>,
    /// Of the first latency, in the interval.
    pub(crate) p99_us: Option<f64>,
    /// Of the first latency, in the interval.
    pub(crate) max_us: Option<f64>,
    /// 100 is one whole core; None if the server is not observed.
    pub(crate) server_cpu_percent: Option<f64>,
    /// Resident; None if the server is not observed.
    pub(crate) server_rss_bytes: Option<u64>,
    /// 100 is one whole core.
    pub(crate) generator_cpu_percent: f64,
}

/// How often one kind of error was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ErrorCount {
    /// Short, such as "refused".
    pub(crate) kind: String,
    /// How often.
    pub(crate) count: u64,
    /// The text of one of them.
    pub(crate) example: String,
}

impl Report {
    /// The value of a figure by its name; None if this run has no such figure or could not tell.
    ///
    /// Beside the figures it knows `errors`, `mismatches`, each latency L as `L.p50`, `L.p99.9`,
    /// `L.max` and so on, and the same without `L.` for the first latency.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        if let Some(figure) = self.figures.iter().find(|figure| figure.name == name) {
            return Some(figure.value).filter(|value| value.is_finite());
        }
        match name {
            "errors" => return Some(count_as_f64(self.error_count())),
            "mismatches" => return Some(count_as_f64(self.mismatches)),
            _ => {}
        }
        let own = self.latencies.iter().find_map(|latency| {
            latency.statistic(name.strip_prefix(latency.name.as_str())?.strip_prefix('.')?)
        });
        own.or_else(|| self.latencies.first()?.statistic(name))
    }

    /// Errors of all kinds.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.iter().map(|error| error.count).sum()
    }

    /// Everything that can be compared, in the order to show it: the figures, then each latency,
    /// then `errors` and `mismatches`.
    pub(crate) fn all_figures(&self) -> Vec<Figure> {
        let mut all: Vec<Figure> =
            self.figures.iter().filter(|figure| figure.value.is_finite()).cloned().collect();
        for latency in &self.latencies {
            for statistic in STATISTICS {
                if let Some(value) = latency.statistic(statistic) {
                    let name = format!("{}.{statistic}", latency.name);
                    all.push(Figure { name, value, unit: Unit::Micros, better: Better::Lower });
                }
            }
        }
        for (name, count) in [("errors", self.error_count()), ("mismatches", self.mismatches)] {
            if !all.iter().any(|figure| figure.name == name) {
                all.push(Figure {
                    name: name.to_owned(),
                    value: count_as_f64(count),
                    unit: Unit::Count,
                    better: Better::Lower,
                });
            }
        }
        all
    }
}

impl Latency {
    /// Reads the percentiles out of a histogram of nanoseconds.
    pub(crate) fn of(name: &str, nanos: &Histogram<u64>) -> Self {
        let micros_at = |quantile: f64| micros(count_as_f64(nanos.value_at_quantile(quantile)));
        Self {
            name: name.to_owned(),
            count: nanos.len(),
            mean_us: micros(nanos.mean()),
            p50_us: micros_at(0.5),
            p90_us: micros_at(0.9),
            p99_us: micros_at(0.99),
            p99_9_us: micros_at(0.999),
            p99_99_us: micros_at(0.9999),
            max_us: micros(count_as_f64(nanos.max())),
            curve: curve(nanos),
        }
    }

    /// The value of `p50`, `p90`, `p99`, `p99.9`, `p99.99`, `max` or `mean`; None if nothing was
    /// recorded, so that a run without answers never looks like a fast one.
    pub(crate) fn statistic(&self, name: &str) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        match name {
            "mean" => Some(self.mean_us),
            "p50" => Some(self.p50_us),
            "p90" => Some(self.p90_us),
            "p99" => Some(self.p99_us),
            "p99.9" => Some(self.p99_9_us),
            "p99.99" => Some(self.p99_99_us),
            "max" => Some(self.max_us),
            _ => None,
        }
    }
}

/// What can be asked of a latency, as in `echo.p99`.
pub(crate) const STATISTICS: [&str; 7] = ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// Names of the latencies that scenarios record.
pub(crate) const LATENCY_NAMES: [&str; 4] = ["echo", "connect", "delivery", "before"];

/// Names of the figures that scenarios and the observation of the server give, and their units.
pub(crate) const FIGURE_UNITS: [(&str, Unit); 28] = [
    ("messages_per_s", Unit::PerSecond),
    ("messages", Unit::Count),
    ("unanswered", Unit::Count),
    ("published", Unit::Count),
    ("retried", Unit::Count),
    ("slow_closed", Unit::Count),
    ("opened", Unit::Count),
    ("opened_per_s", Unit::PerSecond),
    ("open_at_end", Unit::Count),
    ("lost", Unit::Count),
    ("duplicates", Unit::Count),
    ("reordered", Unit::Count),
    ("errors", Unit::Count),
    ("mismatches", Unit::Count),
    ("bytes_per_s", Unit::Bytes),
    ("server_cpu_us_per_message", Unit::Micros),
    ("server_cpu_us_per_conn", Unit::Micros),
    ("server_cpu_percent", Unit::Percent),
    ("server_rss_bytes_per_conn", Unit::Bytes),
    ("server_pss_bytes_per_conn", Unit::Bytes),
    ("kernel_slab_bytes_per_conn", Unit::Bytes),
    ("kernel_sock_bytes_per_conn", Unit::Bytes),
    ("server_threads", Unit::Count),
    ("server_descriptors", Unit::Count),
    ("generator_cpu_percent", Unit::Percent),
    ("generator_cpu_us_per_message", Unit::Micros),
    ("generator_rss_bytes_per_conn", Unit::Bytes),
    ("send_lag_p99_us", Unit::Micros),
];

/// The unit a figure of this name has in any run; None if no run has such a figure.
pub(crate) fn unit_of(name: &str) -> Option<Unit> {
    if let Some((_, unit)) = FIGURE_UNITS.iter().find(|(known, _)| *known == name) {
        return Some(*unit);
    }
    let statistic = LATENCY_NAMES
        .iter()
        .find_map(|latency| name.strip_prefix(latency)?.strip_prefix('.'))
        .unwrap_or(name);
    STATISTICS.contains(&statistic).then_some(Unit::Micros)
}

/// Now, as `Report::started_at` wants it.
pub(crate) fn utc_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Evenly spaced in log10(1 / (1 - p)) up to one in `count`; the maximum closes it at 100.
fn curve(nanos: &Histogram<u64>) -> Vec<(f64, f64)> {
    if nanos.is_empty() {
        return Vec::new();
    }
    let decades = count_as_f64(nanos.len()).log10();
    let step_count = if decades > 0.0 { CURVE_STEPS } else { 0 };
    let mut points: Vec<(f64, f64)> = (0..=step_count)
        .map(|step| {
            let exponent = decades * f64::from(step) / f64::from(CURVE_STEPS);
            let quantile = 1.0 - 10_f64.powf(-exponent);
            let value = count_as_f64(nanos.value_at_quantile(quantile));
            (quantile * 100.0, micros(value))
        })
        .collect();
    points.push((100.0, micros(count_as_f64(nanos.max()))));
    points
}

/// Nanoseconds to microseconds, cut to what was measured: the rest is noise in the JSON.
fn micros(nanos: f64) -> f64 {
    nanos.round() / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds stay far below 2^53")]
pub(crate) fn count_as_f64(count: u64) -> f64 {
    count as f64
}

/// JSON has no NaN: it is written as null, and must come back.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::sample;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    fn close_to(actual: f64, expected: f64) -> bool {
        (actual - expected).abs() <= expected * 0.002
    }

    #[test]
    fn latency_reads_percentiles_in_microseconds() {
        let latency = Latency::of("echo", &histogram((1..=100_000).map(|micros| micros * 1000)));
        assert_eq!(latency.count, 100_000);
        for (actual, expected) in [
            (latency.p50_us, 50_000.0),
            (latency.p90_us, 90_000.0),
            (latency.p99_us, 99_000.0),
            (latency.p99_9_us, 99_900.0),
            (latency.p99_99_us, 99_990.0),
            (latency.max_us, 100_000.0),
            (latency.mean_us, 50_000.0),
        ] {
            assert!(close_to(actual, expected), "{actual} is not {expected}");
        }
    }

    #[test]
    fn curve_rises_from_the_fastest_to_the_slowest_and_spends_its_points_on_the_tail() {
        let curve =
            Latency::of("echo", &histogram((1..=100_000).map(|micros| micros * 1000))).curve;
        assert!((90..=110).contains(&curve.len()), "{}", curve.len());
        assert_eq!(curve.first().map(|point| point.0), Some(0.0));
        assert_eq!(curve.last().map(|point| point.0), Some(100.0));
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let in_tail = curve.iter().filter(|point| point.0 > 99.0).count();
        assert!(in_tail > curve.len() / 2, "{in_tail}");
    }

    #[test]
    fn latency_of_one_value_has_a_curve_of_its_two_ends() {
        let latency = Latency::of("connect", &histogram(std::iter::once(5_000)));
        assert_eq!(latency.curve.len(), 2);
        assert!(close_to(latency.p50_us, 5.0) && close_to(latency.max_us, 5.0));
    }

    #[test]
    fn latency_without_values_answers_no_name() {
        let mut report = sample::report();
        report.latencies = vec![Latency::of("echo", &histogram(std::iter::empty()))];
        assert_eq!(report.figure("p99"), None);
        assert_eq!(report.figure("echo.max"), None);
        assert!(report.latencies[0].curve.is_empty());
        assert!(!report.all_figures().iter().any(|figure| figure.name.starts_with("echo.")));
    }

    #[test]
    fn figure_finds_figures_errors_and_percentiles_by_one_name() {
        let report = sample::report();
        assert_eq!(report.figure("messages_per_s"), Some(49_998.2));
        assert_eq!(report.figure("errors"), Some(3.0));
        assert_eq!(report.figure("mismatches"), Some(0.0));
        assert_eq!(report.figure("p99"), Some(report.latencies[0].p99_us));
        assert_eq!(report.figure("echo.p99.9"), Some(report.latencies[0].p99_9_us));
        assert_eq!(report.figure("connect.max"), Some(report.latencies[1].max_us));
        assert_ne!(report.figure("connect.max"), report.figure("max"));
        assert_eq!(report.figure("p98"), None);
        assert_eq!(report.figure("delivery.p99"), None);
    }

    #[test]
    fn unit_is_known_before_a_run_for_every_name_a_run_answers_to() {
        let report = sample::report();
        for figure in report.all_figures() {
            assert_eq!(unit_of(&figure.name), Some(figure.unit), "{}", figure.name);
        }
        assert_eq!(unit_of("p99.99"), Some(Unit::Micros));
        assert_eq!(unit_of("delivery.p50"), Some(Unit::Micros));
        assert_eq!(unit_of("p98"), None);
        assert_eq!(unit_of("delivery"), None);
    }

    #[test]
    fn json_comes_back_as_it_was_written_even_where_nothing_was_measured() {
        let mut report = sample::report();
        report.figures[0].value = f64::NAN;
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""loop_kind":{"open":{"rate":50000.0}}"#), "{json}");
        let back: Report = serde_json::from_str(&json).unwrap();
        assert!(back.figures[0].value.is_nan());
        assert_eq!(back.figure("messages_per_s"), None);
        assert_eq!(back.settings, report.settings);
        assert_eq!(back.figure("echo.p99.9"), report.figure("echo.p99.9"));
        assert_eq!(back.timeline.len(), report.timeline.len());
    }

    #[test]
    fn start_is_written_in_utc() {
        let now = utc_now();
        assert!(now.len() == 20 && now.ends_with('Z') && now.as_bytes()[10] == b'T', "{now}");
    }
}
