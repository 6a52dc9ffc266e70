//! A report as JSON: one line, so that it appends to a log and `jq` reads it.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::report::{Report, SCHEMA};
use crate::show;

/// The report on one line, with its end.
pub(crate) fn render(report: &Report) -> Result<String, String> {
    serde_json::to_string(report)
        .map(|json| json + "\n")
        .map_err(|error| format!("the report cannot be written as JSON: {error}"))
}

/// Writes the report to a file, or to stdout if `path` is `-`.
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), String> {
    show::write_output(path, &render(report)?)
}

/// Reads a report that [`write()`] wrote.
pub(crate) fn read(path: &Path) -> Result<Report, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The schema is judged first: a newer one fails by its number, not by a missing field.
fn parse(text: &str) -> Result<Report, String> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let no_report = |error: serde_json::Error| {
        format!("not a report of loadgen ({error}); `--json FILE` writes one")
    };
    let head: Head = serde_json::from_str(text).map_err(no_report)?;
    if head.schema != SCHEMA {
        return Err(format!(
            "schema {} is not {SCHEMA}, which this version reads; use the loadgen that wrote it",
            head.schema
        ));
    }
    serde_json::from_str(text).map_err(no_report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::sample;

    #[test]
    fn report_is_one_line_that_reads_back() {
        let report = sample::report();
        let json = render(&report).unwrap();
        assert_eq!(json.matches('\n').count(), 1);
        let back = parse(&json).unwrap();
        assert_eq!(back.url, report.url);
        assert_eq!(back.figure("p99"), report.figure("p99"));
        assert_eq!(back.loop_kind, report.loop_kind);
    }

    #[test]
    fn file_of_another_schema_is_refused_by_its_number() {
        let error = parse(r#"{"schema":2,"all":"new"}"#).unwrap_err();
        assert!(error.contains("schema 2 is not 1"), "{error}");
    }

    #[test]
    fn file_that_is_no_report_is_refused_with_what_to_do() {
        for text in ["", "{}", "[1]", r#"{"schema":1}"#] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("`--json FILE` writes one"), "{error}");
        }
        let error = read(Path::new("/nonexistent.json")).unwrap_err();
        assert!(error.starts_with("cannot read /nonexistent.json: "), "{error}");
    }
}
