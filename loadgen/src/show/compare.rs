//! A comparison as a table: one line for each figure, warnings before it where nobody misses them.

use std::fmt::Write as _;

use crate::compare::{Comparison, Row, Side, Verdict};
use crate::show::table::{Style, push_wrapped};
use crate::show::{figure_text, printable};
use crate::spread::Spread;
use crate::units;

/// The whole table, ending in a line break.
pub(crate) fn render(comparison: &Comparison, style: Style) -> String {
    let mut text = String::new();
    for (label, side) in [("a  ", &comparison.a), ("b  ", &comparison.b)] {
        push_wrapped(&mut text, label, &side_text(side));
    }
    for warning in &comparison.warnings {
        push_wrapped(&mut text, "warning: ", &printable(warning));
    }
    text.push('\n');
    let lines: Vec<[String; 5]> = comparison.figures.iter().map(cells).collect();
    let header = ["figure", "a", "b", "b / a", ""].map(str::to_owned);
    let widths = [0, 1, 2, 3].map(|column| {
        lines.iter().chain([&header]).map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let _ = writeln!(text, "{}", style.bold(aligned(&header, widths).trim_end()));
    for (line, row) in lines.iter().zip(&comparison.figures) {
        let verdict = match row.verdict {
            Verdict::Better => style.green(&line[4]),
            Verdict::Worse => style.red(&line[4]),
            Verdict::Different | Verdict::WithinNoise | Verdict::Equal | Verdict::OneSided => {
                line[4].clone()
            }
        };
        let _ = writeln!(text, "{}  {verdict}", aligned(line, widths));
    }
    text
}

fn side_text(side: &Side) -> String {
    let runs = if side.runs == 1 { "run" } else { "runs" };
    printable(&format!("{} {}, {} {runs}", side.scenario, side.url, side.runs))
}

/// Name, a, b, ratio, verdict.
fn cells(row: &Row) -> [String; 5] {
    let value = |side: Option<Spread>| {
        side.map_or_else(
            || "-".to_owned(),
            |spread| figure_text(&row.name, spread.median, row.unit),
        )
    };
    let ratio = row.ratio.map_or_else(|| "-".to_owned(), ratio_text);
    let verdict = match row.verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Different => "different",
        Verdict::WithinNoise => "within noise",
        Verdict::Equal => "equal",
        Verdict::OneSided if row.a.is_some() => "only in a",
        Verdict::OneSided => "only in b",
    };
    [row.name.clone(), value(row.a), value(row.b), ratio, verdict.to_owned()]
}

/// `1.02 [0.98..1.07]`, or `1.02` where there is one run on each side.
fn ratio_text(ratio: Spread) -> String {
    let median = short(ratio.median);
    if ratio.is_point() {
        return median;
    }
    format!("{median} [{}..{}]", short(ratio.lowest), short(ratio.highest))
}

/// Two digits behind the point, unless the ratio is so far from 1 that they say nothing or too much.
fn short(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 99.95 => units::number(ratio.round()),
        _ if ratio >= 9.995 => format!("{ratio:.1}"),
        _ if ratio >= 0.0995 => format!("{ratio:.2}"),
        _ => format!("{ratio:.4}"),
    }
}

fn aligned(cells: &[String; 5], [name, a, b, ratio]: [usize; 4]) -> String {
    format!("{:<name$}  {:>a$}  {:>b$}  {:<ratio$}", cells[0], cells[1], cells[2], cells[3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::sample;

    fn table(a: &[f64], b: &[f64]) -> String {
        let side =
            |factors: &[f64]| factors.iter().copied().map(sample::scaled).collect::<Vec<_>>();
        render(&Comparison::of(&side(a), &side(b)).unwrap(), Style::Plain)
    }

    fn line_with<'a>(text: &'a str, part: &str) -> &'a str {
        text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}:\n{text}"))
    }

    #[test]
    fn each_figure_is_a_line_with_both_medians_the_ratio_and_its_spread() {
        let text = table(&[0.9, 1.0, 1.1], &[1.8, 2.0, 2.2]);
        let line = line_with(&text, "server_cpu_us_per_message");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "server_cpu_us_per_message",
                "6.42",
                "us",
                "12.8",
                "us",
                "2.00",
                "[1.64..2.44]",
                "worse"
            ]
        );
        assert!(line_with(&text, "messages_per_s ").ends_with("better"), "{text}");
    }

    #[test]
    fn single_runs_show_a_ratio_without_a_spread_and_say_that_noise_is_unknown() {
        let text = table(&[1.0], &[0.5]);
        assert!(line_with(&text, "echo.p99.9 ").contains("  0.50  "), "{text}");
        line_with(&text, "warning: side a is one run, so its noise is not known");
    }

    #[test]
    fn lines_stay_within_84_columns() {
        let text = table(&[0.9, 1.0, 1.1], &[0.8, 0.95, 2.2]);
        // The longest name and the longest verdict together need four more.
        for line in text.lines() {
            assert!(line.trim_end().chars().count() <= 84, "{line}");
        }
        assert!(line_with(&text, "echo.p50").ends_with("within noise"));
    }

    #[test]
    fn figure_of_one_side_is_shown_and_named_so() {
        let (mut a, b) = (sample::report(), sample::report());
        a.figures.retain(|figure| figure.name != "server_cpu_percent");
        let text = render(&Comparison::of(&[a], &[b]).unwrap(), Style::Plain);
        let line = line_with(&text, "server_cpu_percent");
        assert!(line.ends_with("only in b") && line.contains(" - "), "{line}");
    }
}
