//! What a conformance run found, and its three forms: a table, JSON, and one HTML page.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod table;

use std::time::{Duration, SystemTime};

use super::case::{CaseId, Grade};
use super::cases;
use super::verdict::Verdict;

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) url: String,
    /// What the server calls itself in its answer.
    pub(crate) server: Option<String>,
    pub(crate) started_at: SystemTime,
    pub(crate) took: Duration,
    /// In the order of their numbers.
    pub(crate) cases: Vec<CaseReport>,
}

/// One case of it.
#[derive(Clone, Debug)]
pub(crate) struct CaseReport {
    pub(crate) id: CaseId,
    pub(crate) title: String,
    pub(crate) expected: String,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
}

/// The cases of one section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) number: u16,
    pub(crate) name: &'static str,
    pub(crate) cases: &'a [CaseReport],
}

impl Report {
    pub(crate) fn count(&self, grade: Grade) -> usize {
        count(&self.cases, grade)
    }

    pub(crate) fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        let of_one =
            |left: &CaseReport, right: &CaseReport| left.id.section() == right.id.section();
        self.cases.chunk_by(of_one).map(|cases| {
            let number = cases[0].id.section();
            Section { number, name: cases::section_name(number), cases }
        })
    }

    /// `2026-01-31T12:00:00Z`.
    pub(crate) fn started_at(&self) -> String {
        humantime::format_rfc3339_seconds(self.started_at).to_string()
    }
}

impl Section<'_> {
    pub(crate) fn count(&self, grade: Grade) -> usize {
        count(self.cases, grade)
    }
}

fn count(cases: &[CaseReport], grade: Grade) -> usize {
    cases.iter().filter(|case| case.verdict.grade == grade).count()
}

#[cfg(test)]
pub(crate) mod sample {
    //! A small run for the tests of the three forms.

    use super::super::verdict::Ending;
    use super::*;

    pub(crate) fn report() -> Report {
        let case = |id: &[u16], grade, ending, seen: &str| CaseReport {
            id: CaseId(id.to_vec()),
            title: "text with <angles> & more".to_owned(),
            expected: "nothing comes back; then the server closes with 1007".to_owned(),
            took: Duration::from_millis(12),
            verdict: Verdict {
                grade,
                behavior: grade,
                ending,
                code: Grade::Ok,
                close_code: Some(1007),
                seen: seen.to_owned(),
            },
        };
        Report {
            url: "ws://127.0.0.1:9001/".to_owned(),
            server: Some("example".to_owned()),
            started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            took: Duration::from_millis(3_456),
            cases: vec![
                case(&[1, 1, 1], Grade::Ok, Ending::Ok, "text `a`; fine"),
                case(&[6, 3, 1], Grade::Failed, Ending::WrongSide, "text of 20 bytes; <b>late</b>"),
                case(&[6, 3, 2], Grade::NonStrict, Ending::Ok, "closed late"),
                case(&[7, 1, 6], Grade::Informational, Ending::Informational, "told"),
                case(&[12, 1, 1], Grade::Unimplemented, Ending::Ok, "the server did not agree"),
            ],
        }
    }
}
