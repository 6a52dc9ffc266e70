//! The table for a terminal: one line per section, and below it one per case that is not OK.

use std::fmt::Write as _;

use super::{CaseReport, Report};
use crate::conform::case::{Case, Grade};
use crate::conform::cases;

/// The whole report.
pub(crate) fn write(report: &Report) -> String {
    let mut out = String::new();
    write_into(&mut out, report);
    out
}

// Writing into a string cannot fail.
fn write_into(out: &mut String, report: &Report) {
    let server = report.server.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let _ = writeln!(out, "{}{server}\n", report.url);
    let _ = writeln!(
        out,
        "{:>3}  {:34} {:>5} {:>5} {:>10} {:>13} {:>13} {:>6}",
        "", "section", "cases", "OK", "non-strict", "informational", "unimplemented", "failed"
    );
    for section in report.sections() {
        let counts = GRADES.map(|grade| section.count(grade));
        write_row(out, &section.number.to_string(), section.name, section.cases.len(), counts);
    }
    let counts = GRADES.map(|grade| report.count(grade));
    write_row(out, "", "all", report.cases.len(), counts);
    write_cases(out, report, Grade::NonStrict);
    write_cases(out, report, Grade::Failed);
    let failed = report.count(Grade::Failed);
    let mut verdict =
        if failed == 0 { "no case failed".to_owned() } else { format!("{failed} failed") };
    let lacking = report.count(Grade::Unimplemented);
    if lacking > 0 {
        // One line each would bury what failed.
        let _ = writeln!(
            out,
            "\nUNIMPLEMENTED: {lacking} cases need permessage-deflate, which the server did not agree \
             on; --require deflate makes that a failure"
        );
        let _ = write!(verdict, ", {lacking} unimplemented");
    }
    let count = report.cases.len();
    let _ = writeln!(out, "\n{count} cases in {:.1} s: {verdict}", report.took.as_secs_f64());
}

const GRADES: [Grade; 5] =
    [Grade::Ok, Grade::NonStrict, Grade::Informational, Grade::Unimplemented, Grade::Failed];

fn write_row(out: &mut String, number: &str, name: &str, cases: usize, counts: [usize; 5]) {
    let [ok, non_strict, informational, unimplemented, failed] =
        counts.map(|count| if count == 0 { "-".to_owned() } else { count.to_string() });
    let _ = writeln!(
        out,
        "{number:>3}  {name:34} {cases:>5} {ok:>5} {non_strict:>10} {informational:>13} \
         {unimplemented:>13} {failed:>6}"
    );
}

fn write_cases(out: &mut String, report: &Report, grade: Grade) {
    let mut cases = report.cases.iter().filter(|case| case.verdict.grade == grade).peekable();
    if cases.peek().is_some() {
        out.push('\n');
    }
    for case in cases {
        let _ = writeln!(out, "{}", line(case));
    }
}

fn line(case: &CaseReport) -> String {
    let CaseReport { id, title, expected, verdict, .. } = case;
    format!("{} {id}: {title}. Expected: {expected}. Seen: {}", verdict.grade.name(), verdict.seen)
}

/// The cases with what they send and expect.
pub(crate) fn list(cases: &[Case]) -> String {
    let mut out = String::new();
    let mut section = 0;
    for case in cases {
        if case.id.section() != section {
            section = case.id.section();
            let _ = writeln!(out, "{section} {}", cases::section_name(section));
        }
        let _ = writeln!(out, "  {}: {}. Expected: {}", case.id, case.title, case.expected);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_counts_by_section_and_names_what_is_not_ok() {
        let text = write(&super::super::sample::report());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ws://127.0.0.1:9001/ (example)");
        let row = |start: &str| {
            let line = lines.iter().find(|line| line.trim_start().starts_with(start)).unwrap();
            line.split_whitespace().rev().take(6).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("6  UTF-8"), ["1", "-", "-", "1", "-", "2"]);
        assert_eq!(row("all"), ["1", "1", "1", "1", "1", "5"]);
        assert!(
            text.contains("\nFAILED 6.3.1: text with <angles> & more. Expected: nothing comes")
        );
        assert!(text.contains("Seen: text of 20 bytes; <b>late</b>\n"));
        assert!(text.contains("\nNON-STRICT 6.3.2: ") && !text.contains("1.1.1"));
        assert!(text.contains("\nUNIMPLEMENTED: 1 cases need permessage-deflate"));
        assert!(text.ends_with("\n5 cases in 3.5 s: 1 failed, 1 unimplemented\n"));
    }
}
