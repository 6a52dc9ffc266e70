//! The scenarios: what each says on its connections, and what it makes of what came of it.

pub(crate) mod churn;
pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod slow;
pub(crate) mod storm;

use std::collections::BTreeMap;

use longwire::Conn;

use crate::args::Common;
use crate::engine::payload::{Kind, Payload};
use crate::engine::pilot::Desk;
use crate::engine::{Conductor, Measured};
use crate::observe::{Work, memory_figures, remarks, work_figures};
use crate::report::{
    Better, Compression, Figure, Latency, LoopKind, Report, SCHEMA, Transport, Unit, count_as_f64,
    utc_now,
};

/// Bytes of the one message of a connection that has one thing to say.
const WORD_BYTES: usize = 20;
/// The same where compression was offered: most servers send less than that as it is.
const DEFLATED_WORD_BYTES: usize = 1024;

/// What a scenario found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// The generator was the limit.
    pub(crate) was_limit: bool,
}

/// Settings for the report, by the names of their flags.
pub(crate) fn settings(common: &Common, own: &[(&str, String)]) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> =
        own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for (name, on) in [
        ("direct-descriptors", common.direct_descriptors),
        ("insecure", common.tls.insecure),
        ("deflate", common.deflate.deflate),
        ("deflate-takeover", common.deflate.deflate_takeover),
    ] {
        if on {
            settings.insert(name.to_owned(), "yes".to_owned());
        }
    }
    if let Some(file) = &common.tls.ca {
        settings.insert("ca".to_owned(), file.display().to_string());
    }
    if let Some(name) = &common.tls.tls_name {
        settings.insert("tls-name".to_owned(), name.clone());
    }
    settings.insert("handshakes".to_owned(), common.handshakes.to_string());
    if let Some(command) = &common.server {
        settings.insert("server".to_owned(), command.clone());
    }
    if let Some(pid) = common.pid {
        settings.insert("pid".to_owned(), pid.to_string());
    }
    settings
}

/// A report with what is the same for all scenarios; the figures are still to come.
pub(crate) fn report(
    conductor: &Conductor,
    scenario: &str,
    loop_kind: Option<LoopKind>,
    seconds: f64,
) -> Report {
    let setup = &conductor.setup;
    let mut notes = setup.notes.clone();
    if conductor.signals.is_interrupted() {
        notes.push("interrupted: the figures are of the part that was run".to_owned());
    }
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: utc_now(),
        scenario: scenario.to_owned(),
        loop_kind,
        url: setup.url.text.clone(),
        transport: if setup.url.tls { Transport::Tls } else { Transport::Tcp },
        compression: compression(conductor),
        settings: setup.settings.clone(),
        machine: crate::machine::Machine::here(),
        backend: setup.backend.clone(),
        threads: setup.threads,
        seconds,
        figures: Vec::new(),
        latencies: Vec::new(),
        timeline: conductor.timeline.clone(),
        errors: conductor.total.errors(),
        mismatches: conductor.total.counts.mismatches,
        notes,
    }
}

/// What came of the offer to compress, if it was made.
fn compression(conductor: &Conductor) -> Option<Compression> {
    let counts = &conductor.total.counts;
    let (opened_conns, agreed_conns) = (counts.opened, counts.compressed);
    conductor.setup.offers_compression().then_some(Compression { opened_conns, agreed_conns })
}

/// What a connection says that has one thing to say: short, but long enough to be compressed where
/// that was offered.
fn word(common: &Common) -> Payload {
    if common.deflate.deflate {
        return Payload::new(DEFLATED_WORD_BYTES, Kind::Json);
    }
    Payload::new(WORD_BYTES, Kind::Binary)
}

/// Sends the message of this connection.
fn say<S>(
    payload: &mut Payload,
    desk: &mut Desk,
    conn: &mut Conn<'_, S>,
    number: u32,
    sequence: u32,
) -> bool {
    let is_text = payload.is_text();
    let message = payload.stamped(number, sequence);
    let sent = if is_text {
        // It was made as text, with a stamp of digits.
        conn.send_text(std::str::from_utf8(message).unwrap_or_default())
    } else {
        conn.send_binary(message)
    };
    if let Err(error) = &sent {
        desk.tally.error("cannot send", || error.to_string());
    }
    sent.is_ok()
}

/// A figure.
pub(crate) fn figure(name: &str, value: f64, unit: Unit, better: Better) -> Figure {
    Figure { name: name.to_owned(), value, unit, better }
}

/// A figure that counts.
pub(crate) fn counted(name: &str, count: u64, better: Better) -> Figure {
    figure(name, count_as_f64(count), Unit::Count, better)
}

impl Report {
    /// Adds what the server and the generator spent in a window.
    pub(crate) fn add_work(&mut self, measured: &Measured, work: Work) {
        if let Some((before, after)) = &measured.server {
            self.figures.extend(work_figures(before, after, work));
        }
        let Some(own) = &measured.own else { return };
        let percent = own.cpu_percent;
        self.figures.push(figure("generator_cpu_percent", percent, Unit::Percent, Better::Neither));
        if work.messages > 0 {
            let micros = own.cpu.as_secs_f64() * 1e6 / count_as_f64(work.messages);
            let name = "generator_cpu_us_per_message";
            self.figures.push(figure(name, micros, Unit::Micros, Better::Lower));
        }
    }

    /// Adds what connections cost in memory, from before the first to now.
    pub(crate) fn add_memory(&mut self, conductor: &Conductor) {
        let open = conductor.total.counts.open();
        let now = conductor.server.as_ref().and_then(|server| server.snapshot().ok());
        if let (Some(empty), Some(full)) = (&conductor.empty, &now) {
            self.figures.extend(memory_figures(empty, full, open));
            self.notes.extend(remarks(empty, full, conductor.setup.is_here));
        }
        if open > 0 {
            let own = count_as_f64(conductor.own_growth_bytes()) / count_as_f64(open);
            let name = "generator_rss_bytes_per_conn";
            self.figures.push(figure(name, own, Unit::Bytes, Better::Lower));
        }
    }

    /// Adds a latency, if any was recorded.
    pub(crate) fn add_latency(&mut self, name: &str, nanos: &hdrhistogram::Histogram<u64>) {
        if !nanos.is_empty() {
            self.latencies.push(Latency::of(name, nanos));
        }
    }
}
