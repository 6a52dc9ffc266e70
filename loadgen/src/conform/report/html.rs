//! The HTML form: one page that needs nothing else, readable on a phone, on paper, and in the dark.

use std::fmt::Write as _;

use super::{CaseReport, Report, Section};
use crate::conform::case::Grade;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(crate) fn write(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Conformance of {url}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>WebSocket conformance</h1>\n<p class=\"what\">{url}{server}<br>{at}, {seconds:.1} s, \
         loadgen {version}</p>\n",
        url = escape(&report.url),
        server =
            report.server.as_deref().map(|name| format!(", {}", escape(name))).unwrap_or_default(),
        at = report.started_at(),
        seconds = report.took.as_secs_f64(),
        version = env!("CARGO_PKG_VERSION"),
    );
    write_summary(&mut out, report);
    write_faults(&mut out, report);
    for section in report.sections() {
        write_section(&mut out, section);
    }
    out.push_str(
        "<p class=\"note\">Sections 1 to 13 are numbered as in the Autobahn TestSuite. NON-STRICT: \
         allowed, but not what the RFC prefers. INFORMATIONAL: the RFC leaves it open. \
         UNIMPLEMENTED: the server did not agree on permessage-deflate.</p>\n\
         </body>\n</html>\n",
    );
    out
}

fn write_summary(out: &mut String, report: &Report) {
    out.push_str(
        "<div class=\"scroll\"><table class=\"summary\">\n<thead><tr><th>Section</th><th>Cases</th>\
         <th>OK</th><th>Non-strict</th><th>Inform.</th><th>Unimpl.</th><th>Failed</th></tr></thead>\n<tbody>\n",
    );
    for section in report.sections() {
        let name = format!("<a href=\"#s{0}\">{0} {1}</a>", section.number, escape(section.name));
        write_row(out, &name, section.cases.len(), |grade| section.count(grade));
    }
    out.push_str("</tbody>\n<tfoot>\n");
    write_row(out, "All", report.cases.len(), |grade| report.count(grade));
    out.push_str("</tfoot>\n</table></div>\n");
}

fn write_row(out: &mut String, name: &str, cases: usize, count: impl Fn(Grade) -> usize) {
    let _ = write!(out, "<tr><th scope=\"row\">{name}</th><td>{cases}</td>");
    for grade in
        [Grade::Ok, Grade::NonStrict, Grade::Informational, Grade::Unimplemented, Grade::Failed]
    {
        match count(grade) {
            0 => out.push_str("<td class=\"none\">0</td>"),
            count => {
                let _ = write!(out, "<td class=\"{}\">{count}</td>", class(grade));
            }
        }
    }
    out.push_str("</tr>\n");
}

/// What is not as it should be, open and in front of all sections.
fn write_faults(out: &mut String, report: &Report) {
    let is_fault = |case: &&CaseReport| case.verdict.grade >= Grade::NonStrict;
    let mut faults: Vec<&CaseReport> = report.cases.iter().filter(is_fault).collect();
    // Stable, so that the order of the numbers stays.
    faults.sort_by_key(|case| std::cmp::Reverse(case.verdict.grade));
    if faults.is_empty() {
        out.push_str("<p class=\"ok\">No case failed, and none is non-strict.</p>\n");
    } else {
        write_details(out, " id=\"faults\" open", "Failed and non-strict", &faults);
    }
}

fn write_section(out: &mut String, section: Section<'_>) {
    let cases: Vec<&CaseReport> = section.cases.iter().collect();
    let title = format!("{} {}", section.number, section.name);
    write_details(out, &format!(" id=\"s{}\"", section.number), &title, &cases);
}

fn write_details(out: &mut String, attributes: &str, title: &str, cases: &[&CaseReport]) {
    let _ = writeln!(
        out,
        "<details{attributes}><summary>{title}</summary>\n\
         <div class=\"scroll\"><table class=\"cases\">\n<thead><tr><th>Case</th><th>Verdict</th>\
         <th>Sent</th><th>Expected</th><th>Seen</th></tr></thead>\n<tbody>",
        title = escape(title),
    );
    for case in cases {
        write_case(out, case);
    }
    out.push_str("</tbody>\n</table></div>\n</details>\n");
}

fn write_case(out: &mut String, case: &CaseReport) {
    let verdict = &case.verdict;
    let _ = writeln!(
        out,
        "<tr><th scope=\"row\">{}</th><td><span class=\"{}\">{}</span></td>\
         <td data-name=\"Sent\">{}</td><td data-name=\"Expected\">{}</td>\
         <td data-name=\"Seen\">{}</td></tr>",
        case.id,
        class(verdict.grade),
        verdict.grade.name(),
        escape(&case.title),
        escape(&case.expected),
        escape(&verdict.seen),
    );
}

fn class(grade: Grade) -> &'static str {
    match grade {
        Grade::Ok => "ok",
        Grade::NonStrict => "nonstrict",
        Grade::Informational | Grade::Unimplemented => "info",
        Grade::Failed => "failed",
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_whole_and_needs_nothing_from_outside() {
        let page = write(&super::super::sample::report());
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for outside in ["src=", "<link", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        for tag in ["table", "details", "tr", "td", "div", "tbody"] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn text_of_others_cannot_become_markup() {
        let page = write(&super::super::sample::report());
        assert!(page.contains("&lt;b&gt;late&lt;/b&gt;") && !page.contains("<b>late"));
        assert!(page.contains("text with &lt;angles&gt; &amp; more"));
    }

    #[test]
    fn what_is_not_ok_stands_first_with_the_failed_ahead() {
        let page = write(&super::super::sample::report());
        let place = |text: &str| page.find(text).unwrap();
        let faults = place("<details id=\"faults\" open>");
        let ids = ["6.3.1", "6.3.2"].map(|id| place(&format!("<th scope=\"row\">{id}</th>")));
        assert!(faults < ids[0] && ids[0] < ids[1] && ids[1] < place("<details id=\"s1\">"));
        let mut fine = super::super::sample::report();
        fine.cases.truncate(1);
        assert!(write(&fine).contains("No case failed") && !write(&fine).contains("id=\"faults\""));
    }
}
