//! The tables as one HTML file: no script, no other file, readable in print and on a phone.
//!
//! It has the looks of the report of a single run. Every text that is not from this file goes
//! through [`escape`].

use std::fmt::Write as _;

use super::results::Results;
use super::tables::{self, Line, State, Table};
use crate::show::html::escape;

/// Up to the style.
const HEAD: &str = include_str!("bench.html");
const STYLE: &str = concat!(include_str!("../show/report.css"), include_str!("bench.css"));

/// The whole page.
pub(super) fn render(results: &Results) -> String {
    let tables = tables::all(results);
    let mut page = format!(
        "{HEAD}{STYLE}</style>\n</head>\n\
         <body>\n<header>\n<h1>Servers compared</h1>\n<p class=\"faint\">{}</p>\n<p>{}</p>\n\
         </header>\n<main>\n",
        escape(&tables::place(results)),
        escape(&tables::method(results))
    );
    for table in &tables {
        push_table(&mut page, table);
    }
    push_servers(&mut page, results);
    page + "</main>\n</body>\n</html>\n"
}

fn push_table(page: &mut String, table: &Table) {
    let _ = writeln!(
        page,
        "<section>\n<h2>{}</h2>\n<p>{}</p>\n<p class=\"faint\"><code>loadgen {}</code></p>",
        escape(&table.name),
        escape(&table.meaning),
        escape(&table.arguments)
    );
    page.push_str("<div class=\"scroll\"><table class=\"bench\"><thead><tr><th></th><th></th>");
    for head in &table.heads {
        let _ = write!(page, "<th class=\"number\">{}</th>", escape(head));
    }
    page.push_str("<th></th></tr></thead><tbody>\n");
    for line in &table.lines {
        push_line(page, line, table.heads.len());
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

fn push_line(page: &mut String, line: &Line, columns: usize) {
    let _ = write!(page, "<tr><th>{}</th>", escape(&line.server));
    let remark = escape(&line.remark);
    if line.texts.is_empty() {
        let class = if line.state == State::Excused { "faint" } else { "bad" };
        let columns = columns + 2;
        let _ = writeln!(page, "<td class=\"{class}\" colspan=\"{columns}\">{remark}</td></tr>");
        return;
    }
    // A drawing and not a styled box: it is there in print, too.
    let _ = write!(
        page,
        "<td><svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\"><rect width=\"{:.1}\" height=\"10\"/></svg></td>",
        line.share * 100.0
    );
    for text in &line.texts {
        let _ = write!(page, "<td class=\"number\">{}</td>", escape(text));
    }
    let class = if line.state == State::Doubtful { "bad" } else { "faint" };
    let _ = writeln!(page, "<td class=\"{class}\">{remark}</td></tr>");
}

fn push_servers(page: &mut String, results: &Results) {
    page.push_str("<section>\n<h2>Servers</h2>\n<div class=\"scroll\"><table><tbody>\n");
    for server in &results.matrix.servers {
        let cores = server.cores.as_deref().map(|cores| format!("cores {cores}"));
        let _ = writeln!(
            page,
            "<tr><th>{}</th><td><code>{}</code></td><td>{}</td></tr>",
            escape(&server.name),
            escape(&server.command),
            escape(&cores.unwrap_or_default())
        );
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn page_is_one_file_without_scripts_that_loads_nothing() {
        let page = render(&sample::results());
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for part in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import"] {
            assert!(!page.contains(part), "{part}");
        }
        assert!(page.contains("@media print") && page.contains("name=\"viewport\""));
    }

    #[test]
    fn page_shows_every_server_and_every_reason_escaped() {
        let page = render(&sample::results());
        for part in [
            "<th>ours</th>",
            "<td class=\"number\">6.00 us</td>",
            "WRONG ANSWERS: 3",
            "could not be run: sh: broken: &lt;not found&gt;",
            "n/a: it has no &lt;topics&gt; | yet",
            "<rect width=\"66.7\"",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("<topics>"));
    }
}
