//! A report as one HTML file: no script, no other file, readable in print and on a phone.
//!
//! Every text that is not from this folder goes through [`escape`]; the page also forbids itself to
//! load anything, so that a hostile error text could not even if it tried.

use std::fmt::Write as _;
use std::path::Path;

use crate::expect::Check;
use crate::report::{Latency, Report, STATISTICS, Sample, Unit, count_as_f64};
use crate::show::chart::{Chart, Series, XAxis};
use crate::show::{
    figure_text, generator_text, loop_text, printable, transport_text, write_output,
};
use crate::units;

const TEMPLATE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");

/// Writes the page to a file, or to stdout if `path` is `-`.
pub(crate) fn write(report: &Report, checks: &[Check], path: &Path) -> Result<(), String> {
    write_output(path, &render(report, checks))
}

/// The whole page.
pub(crate) fn render(report: &Report, checks: &[Check]) -> String {
    let heading = format!("{} {}", report.scenario, report.url);
    fill(&[
        ("title", escape(&format!("loadgen: {heading}"))),
        ("style", STYLE.to_owned()),
        ("heading", escape(&heading)),
        ("summary", summary(report)),
        ("notes", notes(report)),
        ("figures", figures(report)),
        ("checks", check_table(checks)),
        ("latencies", latencies(report)),
        ("errors", errors(report)),
        ("charts", charts(report)),
        ("settings", settings(report)),
        ("machine", machine(report)),
    ])
}

/// The text with the five characters of HTML replaced, good for elements and quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// The template with its slots filled in one pass: a slot inside a filled text stays text.
fn fill(slots: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the template closes every slot");
        let slot = slots.iter().find(|(known, _)| *known == name);
        page.push_str(before);
        page.push_str(&slot.expect("the template names only slots that are filled").1);
        rest = after;
    }
    page + rest
}

fn summary(report: &Report) -> String {
    let mut html = String::new();
    if let Some(kind) = report.loop_kind {
        let _ = writeln!(html, "<p class=\"loop\">{}</p>", escape(&loop_text(kind)));
    }
    let text = format!(
        "{}. {}. Started {}; loadgen {}.",
        generator_text(report),
        transport_text(report),
        report.started_at,
        report.version
    );
    let _ = writeln!(html, "<p class=\"faint\">{}</p>", escape(&text));
    html
}

fn notes(report: &Report) -> String {
    report.notes.iter().fold(String::new(), |mut html, note| {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
        html
    })
}

fn figures(report: &Report) -> String {
    let rows = report.figures.iter().map(|figure| {
        let text = figure_text(&figure.name, figure.value, figure.unit);
        [name_cell(&figure.name), number_cell(&text)].concat()
    });
    table("", rows)
}

fn check_table(checks: &[Check]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let head = "<th>result</th><th>fails if</th><th class=\"number\">it was</th>";
    let rows = checks.iter().map(|check| {
        let verdict = if check.failed {
            "<td class=\"bad\">failed</td>"
        } else {
            "<td class=\"good\">ok</td>"
        };
        let seen = check.seen.as_deref().unwrap_or("no such figure");
        [verdict.to_owned(), name_cell(&check.condition), number_cell(seen)].concat()
    });
    format!("<h2>Conditions</h2>\n{}", table(head, rows))
}

/// Percentiles run downwards: beside each other they are wider than a phone.
fn latencies(report: &Report) -> String {
    if report.latencies.is_empty() {
        return String::new();
    }
    let mut head = "<th></th>".to_owned();
    for latency in &report.latencies {
        let _ = write!(head, "<th class=\"number\">{}</th>", escape(&latency.name));
    }
    let percentiles = STATISTICS.into_iter().map(|statistic| {
        let row = name_cell(statistic);
        report.latencies.iter().fold(row, |row, latency| {
            let value = latency.statistic(statistic).map_or_else(|| "-".to_owned(), units::micros);
            row + &number_cell(&value)
        })
    });
    let counts = report
        .latencies
        .iter()
        .fold(name_cell("count"), |row, latency| row + &number_cell(&units::count(latency.count)));
    let chart = percentile_chart(&report.latencies).unwrap_or_default();
    format!("<h2>Latency</h2>\n{chart}{}", table(&head, percentiles.chain([counts])))
}

/// Said even if there are none, as in the table on the terminal.
fn errors(report: &Report) -> String {
    let mismatches = match report.mismatches {
        0 => "<span class=\"good\">No mismatches.</span>".to_owned(),
        count => format!("<span class=\"bad\">Mismatches: {}.</span>", units::count(count)),
    };
    if report.errors.is_empty() {
        return format!("<p><span class=\"good\">No errors.</span> {mismatches}</p>\n");
    }
    let head = "<th>kind</th><th class=\"number\">count</th><th>for example</th>";
    let rows = report.errors.iter().map(|error| {
        let count = number_cell(&units::count(error.count));
        format!("<td>{}</td>{count}<td>{}</td>", escape(&error.kind), escape(&error.example))
    });
    format!("<p>{mismatches}</p>\n{}", table(head, rows))
}

fn settings(report: &Report) -> String {
    let rows = report
        .settings
        .iter()
        .map(|(name, value)| format!("{}<td>{}</td>", name_cell(name), escape(value)));
    table("", rows)
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let rows = [
        ("processor", machine.cpu.clone()),
        ("cores", machine.cores.to_string()),
        ("memory", units::bytes(count_as_f64(machine.memory_bytes))),
        ("kernel", format!("Linux {}", machine.kernel)),
        ("backend", report.backend.clone()),
        ("threads", report.threads.to_string()),
    ];
    table("", rows.iter().map(|(name, value)| format!("<th>{name}</th><td>{}</td>", escape(value))))
}

fn charts(report: &Report) -> String {
    let drawn: String = [
        throughput_chart(report),
        timeline(
            report,
            "Latency over time",
            ("latency", Unit::Micros),
            &[
                ("p50", &|sample| sample.p50_us),
                ("p99", &|sample| sample.p99_us),
                ("max", &|sample| sample.max_us),
            ],
        ),
        timeline(
            report,
            "Connections",
            ("connections", Unit::Count),
            &[("open", &|sample| Some(count_as_f64(sample.open)))],
        ),
        timeline(
            report,
            "Memory of the server",
            ("resident memory", Unit::Bytes),
            &[("server", &|sample| sample.server_rss_bytes.map(count_as_f64))],
        ),
        timeline(
            report,
            "CPU",
            ("CPU (100 % is one core)", Unit::Percent),
            &[
                ("generator", &|sample| Some(sample.generator_cpu_percent)),
                ("server", &|sample| sample.server_cpu_percent),
            ],
        ),
        error_chart(report),
    ]
    .into_iter()
    .flatten()
    .collect();
    if drawn.is_empty() {
        return String::new();
    }
    format!("<h2>Over the run</h2>\n<div class=\"charts\">\n{drawn}</div>\n")
}

/// None for a run without messages, such as one that only holds connections.
fn throughput_chart(report: &Report) -> Option<String> {
    if report.timeline.iter().all(|sample| sample.messages_per_s == 0.0) {
        return None;
    }
    let messages: Reading<'_> = &|sample| Some(sample.messages_per_s);
    let y = ("messages per second", Unit::PerSecond);
    timeline(report, "Throughput", y, &[("answered or delivered", messages)])
}

fn percentile_chart(latencies: &[Latency]) -> Option<String> {
    let series = latencies
        .iter()
        .filter(|latency| !latency.curve.is_empty())
        .map(|latency| Series {
            name: &latency.name,
            points: latency.curve.iter().map(|(x, y)| (*x, Some(*y))).collect(),
        })
        .collect();
    Chart {
        title: "Latency by percentile",
        x: XAxis::Percentile,
        y_unit: Unit::Micros,
        y_label: "latency",
        series,
    }
    .render()
}

fn error_chart(report: &Report) -> Option<String> {
    if report.timeline.iter().all(|sample| sample.errors == 0) {
        return None;
    }
    let errors: Reading<'_> = &|sample| Some(count_as_f64(sample.errors));
    timeline(report, "Errors", ("errors in the interval", Unit::Count), &[("all kinds", errors)])
}

/// What to read from each sample for one line.
type Reading<'a> = &'a dyn Fn(&Sample) -> Option<f64>;

/// Lines of which no sample has a value are left out, and so is a chart without lines.
fn timeline(
    report: &Report,
    title: &str,
    (y_label, y_unit): (&str, Unit),
    lines: &[(&str, Reading<'_>)],
) -> Option<String> {
    let series = lines
        .iter()
        .map(|(name, read)| Series {
            name,
            points: report.timeline.iter().map(|sample| (sample.at_s, read(sample))).collect(),
        })
        .filter(|series| series.points.iter().any(|point| point.1.is_some()))
        .collect();
    Chart { title, x: XAxis::Time, y_unit, y_label, series }.render()
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    let mut html = "<div class=\"scroll\"><table>".to_owned();
    if !head.is_empty() {
        let _ = write!(html, "<thead><tr>{head}</tr></thead>");
    }
    html.push_str("<tbody>\n");
    for row in rows {
        let _ = writeln!(html, "<tr>{row}</tr>");
    }
    html + "</tbody></table></div>\n"
}

fn name_cell(name: &str) -> String {
    format!("<th class=\"name\">{}</th>", escape(name))
}

fn number_cell(number: &str) -> String {
    format!("<td class=\"number\">{}</td>", escape(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect;
    use crate::show::sample;

    fn page(change: impl FnOnce(&mut Report)) -> String {
        let mut report = sample::report();
        change(&mut report);
        render(&report, &[])
    }

    fn titles(page: &str) -> Vec<&str> {
        page.split("<figcaption>").skip(1).map(|part| part.split('<').next().unwrap()).collect()
    }

    #[test]
    fn page_is_one_file_without_scripts_that_loads_nothing() {
        let page = page(|_| {});
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for part in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "{{"] {
            assert!(!page.contains(part), "{part}");
        }
        for part in ["name=\"viewport\"", "@media print", "prefers-color-scheme: dark", "viewBox"] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn page_holds_every_chart_that_the_run_has_data_for() {
        let all = page(|_| {});
        assert_eq!(
            titles(&all),
            [
                "Latency by percentile",
                "Throughput",
                "Latency over time",
                "Connections",
                "Memory of the server",
                "CPU",
                "Errors"
            ]
        );
        let unobserved = page(|report| {
            report.latencies.clear();
            for sample in &mut report.timeline {
                sample.server_rss_bytes = None;
                sample.server_cpu_percent = None;
                sample.messages_per_s = 0.0;
                sample.errors = 0;
                sample.p50_us = None;
                sample.p99_us = None;
                sample.max_us = None;
            }
        });
        assert_eq!(titles(&unobserved), ["Connections", "CPU"]);
        assert!(!unobserved.contains("</svg>server"), "a legend without a line");
        assert!(titles(&page(|report| report.timeline.clear())).len() == 1);
    }

    #[test]
    fn page_says_loop_kind_figures_settings_machine_and_errors() {
        let page = page(|_| {});
        for part in [
            "open loop, 50,000 messages/s: latency from the intended instant",
            "<th class=\"name\">bytes_per_s</th><td class=\"number\">977 KiB/s</td>",
            "<th class=\"name\">p99.9</th><td class=\"number\">2.64 ms</td>",
            "<th class=\"name\">rate</th><td>50000</td>",
            "Intel(R) Xeon(R) Processor",
            "the generator was the limit: 97 % of its core",
            "<td>closed early</td><td class=\"number\">3</td>",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn text_of_a_peer_cannot_become_markup_or_a_slot() {
        let hostile = "<script>alert('x')</script>{{style}}\u{1b}";
        let page = page(|report| {
            report.errors[0].example = hostile.to_owned();
            report.errors[0].kind = hostile.to_owned();
            report.url = hostile.to_owned();
            report.scenario = hostile.to_owned();
            report.notes = vec![hostile.to_owned()];
            report.settings.insert(hostile.to_owned(), hostile.to_owned());
            report.machine.cpu = hostile.to_owned();
            report.latencies[0].name = hostile.to_owned();
            report.figures[0].name = hostile.to_owned();
        });
        assert!(!page.contains("<script") && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{style}}"));
        assert_eq!(page.matches(":root").count(), STYLE.matches(":root").count());
    }

    #[test]
    fn conditions_are_shown_with_their_result_and_left_out_if_none_were_given() {
        let report = sample::report();
        let conditions = ["errors>0", "p99>5ms"].map(|text| text.parse().unwrap());
        let page = render(&report, &expect::check(&conditions, &report));
        assert!(page.contains("<td class=\"bad\">failed</td><th class=\"name\">errors &gt; 0"));
        assert!(page.contains("<td class=\"good\">ok</td><th class=\"name\">p99 &gt; 5.00 ms"));
        assert!(!render(&report, &[]).contains("Conditions"));
    }

    #[test]
    fn absence_of_errors_is_said() {
        let page = page(|report| report.errors.clear());
        assert!(page.contains("No errors.") && page.contains("No mismatches."));
    }
}
