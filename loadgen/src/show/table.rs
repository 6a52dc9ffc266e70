//! The final table: what a person reads on the terminal when the run is over.
//!
//! Short, 80 columns, plain text unless stdout is a terminal. Figures carry the names that
//! `--fail-if` and `compare` know, so that a line read here can be typed there.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use crate::expect::Check;
use crate::report::{Latency, Report};
use crate::show::{figure_text, generator_text, loop_text, printable, transport_text};
use crate::units;

/// Columns of a terminal that nobody widened.
const WIDTH: usize = 80;

/// Before what belongs to the line above.
const INDENT: &str = "  ";

/// Marks with escape sequences, or without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing but text.
    Plain,
    /// Bold and red where it matters.
    Coloured,
}

impl Style {
    /// What suits stdout: colours on a terminal unless `NO_COLOR` is set.
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !refused { Self::Coloured } else { Self::Plain }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.marked("1", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.marked("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.marked("32", text)
    }

    fn marked(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// The whole table, ending in a line break.
pub(crate) fn render(report: &Report, checks: &[Check], style: Style) -> String {
    let mut text = head(report, style);
    push_figures(&mut text, report);
    push_latencies(&mut text, report, style);
    push_errors(&mut text, report, style);
    push_checks(&mut text, checks, style);
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        push_wrapped(&mut text, "note: ", &printable(note));
    }
    text
}

fn head(report: &Report, style: Style) -> String {
    let mut text = String::new();
    push_wrapped(&mut text, &format!("{}  ", report.scenario), &printable(&report.url));
    if let Some(kind) = report.loop_kind {
        push_wrapped(&mut text, INDENT, &loop_text(kind));
    }
    push_wrapped(&mut text, INDENT, &generator_text(report));
    push_wrapped(&mut text, INDENT, &transport_text(report));
    let settings: Vec<String> =
        report.settings.iter().map(|(name, value)| printable(&format!("{name} {value}"))).collect();
    if !settings.is_empty() {
        push_wrapped(&mut text, INDENT, &settings.join(", "));
    }
    text.replacen(report.scenario.as_str(), &style.bold(&report.scenario), 1)
}

fn push_figures(text: &mut String, report: &Report) {
    let rows: Vec<(&str, String)> = report
        .figures
        .iter()
        .map(|figure| {
            let text = figure_text(&figure.name, figure.value, figure.unit);
            (figure.name.as_str(), text)
        })
        .collect();
    let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    if !rows.is_empty() {
        text.push('\n');
    }
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<name_width$}  {value:>value_width$}");
    }
}

/// One row for each latency, with its percentiles side by side.
fn push_latencies(text: &mut String, report: &Report, style: Style) {
    if report.latencies.is_empty() {
        return;
    }
    let name_width =
        report.latencies.iter().map(|latency| latency.name.len()).max().unwrap_or(0).max(7);
    let columns = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let mut header = format!("{:<name_width$}", "latency");
    for column in columns {
        let _ = write!(header, " {column:>8}");
    }
    let _ = writeln!(text, "\n{}", style.bold(&format!("{header}  {:>11}", "count")));
    for latency in &report.latencies {
        let _ = write!(text, "{:<name_width$}", latency.name);
        for column in columns {
            let _ = write!(text, " {:>8}", cell(latency, column));
        }
        let _ = writeln!(text, "  {:>11}", units::count(latency.count));
    }
}

fn cell(latency: &Latency, column: &str) -> String {
    latency.statistic(column).map_or_else(|| "-".to_owned(), units::micros)
}

/// Said even if there are none: silence could also mean that nobody looked.
fn push_errors(text: &mut String, report: &Report, style: Style) {
    text.push('\n');
    let mismatches = match report.mismatches {
        0 => "no mismatches".to_owned(),
        1 => style.red("1 mismatch"),
        count => style.red(&format!("{} mismatches", units::count(count))),
    };
    if report.errors.is_empty() {
        let _ = writeln!(text, "no errors, {mismatches}");
        return;
    }
    let count = report.error_count();
    let errors = format!("{} error{}", units::count(count), if count == 1 { "" } else { "s" });
    let _ = writeln!(text, "{}, {mismatches}", style.red(&errors));
    for error in &report.errors {
        let words = printable(&format!("{}: {}", error.kind, error.example));
        push_wrapped(text, &format!("{INDENT}{}  ", units::count(error.count)), &words);
    }
}

fn push_checks(text: &mut String, checks: &[Check], style: Style) {
    if checks.is_empty() {
        return;
    }
    text.push('\n');
    let width = checks.iter().map(|check| check.condition.len()).max().unwrap_or(0);
    for check in checks {
        let verdict = if check.failed { style.red("FAILED") } else { style.green("ok    ") };
        let seen = check.seen.as_deref().map_or_else(
            || "this run has no such figure".to_owned(),
            |seen| format!("it was {seen}"),
        );
        let _ = writeln!(text, "{verdict}  fail if {:<width$}  {seen}", check.condition);
    }
}

/// `label` and the words after it, later lines indented to the first word. A word that is too long
/// for a line is cut, because an address may be longer than any terminal.
pub(crate) fn push_wrapped(text: &mut String, label: &str, words: &str) {
    let indent_width = label.chars().count().min(WIDTH / 2);
    let mut line = label.to_owned();
    let mut is_fresh = true;
    for word in words.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let used = line.chars().count() + usize::from(!is_fresh);
            let is_too_long = rest.len() > WIDTH - indent_width;
            if used + rest.len() > WIDTH && !(is_fresh && is_too_long) {
                let _ = writeln!(text, "{}", line.trim_end());
                line = " ".repeat(indent_width);
                is_fresh = true;
                continue;
            }
            if !is_fresh {
                line.push(' ');
            }
            let room = WIDTH.saturating_sub(line.chars().count()).max(1);
            line.extend(rest.drain(..room.min(rest.len())));
            is_fresh = false;
        }
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect;
    use crate::report::LoopKind;
    use crate::show::sample;

    fn plain(report: &Report) -> String {
        render(report, &[], Style::Plain)
    }

    fn line_with<'a>(text: &'a str, part: &str) -> &'a str {
        text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}:\n{text}"))
    }

    #[test]
    fn table_names_scenario_address_and_what_the_loop_kind_means() {
        let mut report = sample::report();
        let open = plain(&report);
        assert!(open.starts_with("echo  ws://127.0.0.1:9001/echo"), "{open}");
        line_with(&open, "open loop, 50,000 messages/s: latency from the intended instant");
        report.loop_kind = Some(LoopKind::Closed { depth: 16 });
        line_with(
            &plain(&report),
            "closed loop, 16 in flight per connection: throughput, not latency under load",
        );
    }

    #[test]
    fn figures_stand_under_the_names_that_conditions_use() {
        let text = plain(&sample::report());
        let rate = line_with(&text, "messages_per_s");
        assert!(rate.ends_with(" 49,998/s"), "{rate}");
        assert!(line_with(&text, "bytes_per_s  ").ends_with(" 977 KiB/s"));
        assert!(line_with(&text, "kernel_slab_bytes_per_conn").ends_with(" 8.5 KiB"));
        let right_edges: Vec<usize> =
            ["messages_per_s", "send_lag_p99_us"].map(|name| line_with(&text, name).len()).into();
        assert_eq!(right_edges[0], right_edges[1]);
    }

    #[test]
    fn each_latency_is_one_row_with_all_its_percentiles() {
        let report = sample::report();
        let text = plain(&report);
        let header: Vec<&str> = line_with(&text, "p99.99").split_whitespace().collect();
        assert_eq!(header, ["latency", "p50", "p90", "p99", "p99.9", "p99.99", "max", "count"]);
        let row = text.lines().find(|line| line.starts_with("echo ") && line.contains(" ms"));
        let row = row.unwrap();
        for value in ["100 us", "671 us", "10.4 ms", "50.8 ms", "120,000"] {
            assert!(row.contains(value), "{value} in {row}");
        }
    }

    #[test]
    fn latency_without_values_shows_dashes_and_not_zero() {
        let mut report = sample::report();
        report.latencies[1].count = 0;
        let text = plain(&report);
        let row = line_with(&text, "connect ");
        assert_eq!(row.matches(" -").count(), 6, "{row}");
    }

    #[test]
    fn absence_of_errors_is_said() {
        let mut report = sample::report();
        line_with(&plain(&report), "3 errors, no mismatches");
        line_with(&plain(&report), "  3  closed early: 1011 \"internal <error>\" after");
        report.errors.clear();
        line_with(&plain(&report), "no errors, no mismatches");
        report.mismatches = 2;
        line_with(&plain(&report), "no errors, 2 mismatches");
    }

    #[test]
    fn conditions_are_listed_with_the_value_seen() {
        let report = sample::report();
        let conditions = ["p99>5ms", "errors>0", "lost>0"].map(|text| text.parse().unwrap());
        let text = render(&report, &expect::check(&conditions, &report), Style::Plain);
        line_with(&text, "ok      fail if p99 > 5.00 ms  it was 671 us");
        line_with(&text, "FAILED  fail if errors > 0     it was 3");
        line_with(&text, "FAILED  fail if lost > 0       this run has no such figure");
    }

    #[test]
    fn no_line_is_wider_than_80_columns() {
        let mut report = sample::report();
        report.url = format!("ws://host/{}", "long".repeat(60));
        report.notes.push("word ".repeat(50));
        report.errors[0].kind = "kind".repeat(30);
        report.latencies[0].count = 12_345_678_901;
        let text = plain(&report);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        let unwrapped: String = text.split_whitespace().collect();
        assert!(unwrapped.contains(&report.url), "{text}");
    }

    #[test]
    fn plain_text_has_no_escape_sequences_even_if_the_peer_sent_some() {
        let mut report = sample::report();
        report.errors[0].example = "\u{1b}[31mred".to_owned();
        assert!(!plain(&report).contains('\u{1b}'));
        report.errors.clear();
        assert!(render(&report, &[], Style::Coloured).contains("\u{1b}[1mecho\u{1b}[0m"));
    }
}
