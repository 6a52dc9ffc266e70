//! The figures of a run as a table for people, as Markdown, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measure::Figures;

/// Of its core that the clients may use before they count as the limit.
const CLIENT_CPU_PERCENT_MAX: f64 = 80.0;
/// Of the time that server or clients may have had to wait for their core.
const WAITED_PERCENT_MAX: f64 = 2.0;
/// How late updates may be published before that is worth a word.
const LATE_MS_MAX: f64 = 20.0;

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) machine: String,
    pub(crate) settings: String,
    pub(crate) ways: Vec<Figures>,
    pub(crate) notes: Vec<String>,
}

/// A line of the table.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// Digits after the point.
    digits: usize,
    /// NaN for what is not known.
    value: fn(&Figures) -> f64,
}

const fn row(
    name: &'static str,
    unit: &'static str,
    digits: usize,
    value: fn(&Figures) -> f64,
) -> Row {
    Row { name, unit, digits, value }
}

const KB: f64 = 1000.0;
const MIB: f64 = 1_048_576.0;

const ROWS: &[Row] = &[
    row("delay, p50", "ms", 2, |way| way.delay_p50_ms),
    row("delay, p99", "ms", 2, |way| way.delay_p99_ms),
    row("delay, max", "ms", 2, |way| way.delay_max_ms),
    row("server CPU", "% of a core", 2, |way| way.server_cpu_percent),
    row("server CPU per client", "µs/s", 2, |way| way.server_cpu_us_per_client_s),
    row("server CPU per update", "µs", 1, |way| way.server_cpu_us_per_update),
    row("TCP payload, total", "kB/s", 1, |way| {
        (way.sent_bytes_per_s + way.received_bytes_per_s) / KB
    }),
    row("  clients to server", "kB/s", 1, |way| way.sent_bytes_per_s / KB),
    row("  server to clients", "kB/s", 1, |way| way.received_bytes_per_s / KB),
    row("TCP payload per client", "B/s", 1, |way| way.bytes_per_client_s),
    row("TCP payload per update", "B", 0, |way| way.bytes_per_update),
    row("packets (estimate)", "per s", 0, |way| way.packets_per_s.unwrap_or(f64::NAN)),
    row("with TCP/IP headers (estimate)", "kB/s", 1, |way| {
        way.packet_bytes_per_s.map_or(f64::NAN, |bytes| bytes / KB)
    }),
    row("requests", "per s", 0, |way| way.requests_per_s),
    row("answers without an update", "per s", 0, |way| way.empty_answers_per_s),
    row("server memory (RSS)", "MiB", 1, |way| way.server_rss_bytes as f64 / MIB),
    row("server memory per client", "B", 0, |way| way.server_rss_bytes_per_client),
    row("a request, or the handshake", "B", 0, |way| way.request_bytes as f64),
    row("opening a connection, once", "B", 0, |way| way.opening_bytes_per_client),
    row("updates published", "", 0, |way| way.published as f64),
    row("updates lost", "", 0, |way| way.lost as f64),
    row("updates repeated, out of order", "", 0, |way| way.repeated as f64),
    row("updates at the wrong client", "", 0, |way| way.misdelivered as f64),
    row("published late, p99", "ms", 2, |way| way.published_late_p99_ms),
    row("server waited for its core", "% of time", 2, |way| way.server_waited_percent),
    row("clients waited for their core", "% of time", 2, |way| way.client_waited_percent),
    row("clients' CPU", "% of a core", 1, |way| way.client_cpu_percent),
];

impl Report {
    pub(crate) fn new(machine: String, settings: String, ways: Vec<Figures>) -> Self {
        let notes = ways.iter().flat_map(remarks).collect();
        Self { schema: 1, machine, settings, ways, notes }
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n{}\n\n{:<44}", self.machine, self.settings, "");
        for way in &self.ways {
            // Writing to a string does not fail, here and below.
            let _ = write!(text, "{:>15}", way.title);
        }
        text.push('\n');
        for row in ROWS {
            let _ = write!(text, "{:<32}{:<12}", row.name, row.unit);
            for way in &self.ways {
                let _ = write!(text, "{:>15}", number((row.value)(way), row.digits));
            }
            text.push('\n');
        }
        text.push('\n');
        self.push_servers(&mut text, "");
        text
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}  \n{}\n\n| |", self.machine, self.settings);
        for way in &self.ways {
            let _ = write!(text, " {} |", way.title);
        }
        text.push_str("\n|---|");
        text.push_str(&"---:|".repeat(self.ways.len()));
        text.push('\n');
        for row in ROWS {
            let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
            let _ = write!(text, "| {}{unit} |", row.name.trim_start());
            for way in &self.ways {
                let _ = write!(text, " {} |", number((row.value)(way), row.digits));
            }
            text.push('\n');
        }
        text.push('\n');
        self.push_servers(&mut text, "- ");
        text
    }

    fn push_servers(&self, text: &mut String, mark: &str) {
        for way in &self.ways {
            let _ = writeln!(text, "{mark}{}: {}", way.title, way.server);
        }
        for note in &self.notes {
            let _ = writeln!(text, "{mark}note: {note}");
        }
    }
}

/// What whoever reads the figures of a way must know.
fn remarks(way: &Figures) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |text: String| notes.push(format!("{}: {text}", way.title));
    if way.client_cpu_percent > CLIENT_CPU_PERCENT_MAX {
        note(format!(
            "the clients were the limit, at {:.0} % of their core; the delay is theirs too",
            way.client_cpu_percent
        ));
    }
    let waited = [("server", way.server_waited_percent), ("clients", way.client_waited_percent)];
    for (who, percent) in waited {
        if percent > WAITED_PERCENT_MAX {
            note(format!(
                "something else ran on the core of the {who}: {percent:.1} % of the time went by \
                 waiting for it, and the delay is longer for it"
            ));
        }
    }
    if way.published_late_p99_ms > LATE_MS_MAX {
        note("updates were published late, which the delay does not show".to_owned());
    }
    if way.packets_per_s.is_none() {
        note("something else on this machine used TCP, so packets are not told".to_owned());
    }
    if way.polls_skipped > 0 {
        note(format!(
            "{} polls were left out because the one before had no answer yet",
            way.polls_skipped
        ));
    }
    notes
}

/// With commas between the thousands; a dash for what is not known.
fn number(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    let plain = format!("{value:.digits$}");
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(number(0.0, 0), "0");
        assert_eq!(number(999.96, 1), "1,000.0");
        assert_eq!(number(1_234_567.891, 2), "1,234,567.89");
        assert_eq!(number(12.0, 0), "12");
        assert_eq!(number(f64::NAN, 1), "-");
    }
}
