//! The JSON form, for programs. Its `schema` is 1; fields are only added under the same number.
//!
//! | field | meaning |
//! |---|---|
//! | `schema`, `version` | 1, and the version of loadgen |
//! | `url`, `server` | what was checked, and its `Server` header or null |
//! | `started_at`, `seconds` | RFC 3339 in UTC, and how long the run took |
//! | `totals` | number of cases by verdict: `cases`, `ok`, `non_strict`, `informational`, `unimplemented`, `failed` |
//! | `sections[]` | `number`, `name`, and the same counts |
//! | `cases[]` | one object per case, in the order of their numbers |
//!
//! A case has `id`, `sent`, `expected` and `seen` in words, `verdict` (`OK`, `NON-STRICT`,
//! `INFORMATIONAL`, `UNIMPLEMENTED`, `FAILED`), and the parts of which that is the worst: `behavior` on what came
//! back, `ending` on how the connection ended (the Autobahn TestSuite's `behaviorClose`: `OK`,
//! `INFORMATIONAL`, `FAILED`, `UNCLEAN`, `WRONG CODE`, `FAILED BY CLIENT`), `code` on a close code
//! that is missing. `close_code` is the code of the server's Close frame or null, `millis` the time.

use serde::Serialize;

use super::{CaseReport, Report};
use crate::conform::case::Grade;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    url: &'a str,
    server: Option<&'a str>,
    started_at: String,
    seconds: f64,
    totals: Counts,
    sections: Vec<Section<'a>>,
    cases: Vec<Case<'a>>,
}

#[derive(Serialize)]
struct Counts {
    cases: usize,
    ok: usize,
    non_strict: usize,
    informational: usize,
    unimplemented: usize,
    failed: usize,
}

#[derive(Serialize)]
struct Section<'a> {
    number: u16,
    name: &'a str,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Case<'a> {
    id: String,
    sent: &'a str,
    expected: &'a str,
    seen: &'a str,
    verdict: &'static str,
    behavior: &'static str,
    ending: &'static str,
    code: &'static str,
    close_code: Option<u16>,
    millis: u128,
}

/// The whole report as text.
pub(crate) fn write(report: &Report) -> Result<String, String> {
    let sections = report.sections().map(|section| Section {
        number: section.number,
        name: section.name,
        counts: counts(section.cases.len(), |grade| section.count(grade)),
    });
    let document = Document {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        url: &report.url,
        server: report.server.as_deref(),
        started_at: report.started_at(),
        seconds: report.took.as_secs_f64(),
        totals: counts(report.cases.len(), |grade| report.count(grade)),
        sections: sections.collect(),
        cases: report.cases.iter().map(case).collect(),
    };
    let text = serde_json::to_string_pretty(&document);
    text.map(|text| text + "\n").map_err(|error| format!("cannot write JSON: {error}"))
}

fn counts(cases: usize, count: impl Fn(Grade) -> usize) -> Counts {
    Counts {
        cases,
        ok: count(Grade::Ok),
        non_strict: count(Grade::NonStrict),
        informational: count(Grade::Informational),
        unimplemented: count(Grade::Unimplemented),
        failed: count(Grade::Failed),
    }
}

fn case(case: &CaseReport) -> Case<'_> {
    Case {
        id: case.id.to_string(),
        sent: &case.title,
        expected: &case.expected,
        seen: &case.verdict.seen,
        verdict: case.verdict.grade.name(),
        behavior: case.verdict.behavior.name(),
        ending: case.verdict.ending.name(),
        code: case.verdict.code.name(),
        close_code: case.verdict.close_code,
        millis: case.took.as_millis(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn json_holds_counts_and_every_case() {
        let text = super::write(&super::super::sample::report()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["started_at"], "2023-11-14T22:13:20Z");
        let totals = json!(
            {"cases": 5, "ok": 1, "non_strict": 1, "informational": 1, "unimplemented": 1, "failed": 1});
        assert_eq!(value["totals"], totals);
        assert_eq!(value["sections"][1]["number"], 6);
        assert_eq!(value["sections"][1]["failed"], 1);
        let case = &value["cases"][1];
        assert_eq!(case["id"], "6.3.1");
        assert_eq!(case["verdict"], "FAILED");
        assert_eq!(case["ending"], "FAILED");
        assert_eq!(case["close_code"], 1007);
    }
}
