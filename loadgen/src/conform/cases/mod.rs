//! All cases, in order. Sections 1 to 7, 9, 10, 12 and 13 are numbered as in the Autobahn TestSuite, and each
//! case there sends the same bytes in the same pieces, or data of the same length where it is compressed;
//! sections from 20 on are our own.

mod closing;
mod compressed_data;
mod compression;
mod fragments;
mod framing;
mod limits;
mod masking;
mod negotiation;
mod offers;
mod opcodes;
mod ping_pong;
mod requests;
mod reserved;
mod upgrade;
mod utf8;
mod utf8_table;

use super::case::{Case, CaseId, Compressed, Script, Session};
use super::upgrade::{Rule, Upgrade};
use super::verdict;
use crate::conform::request::Request;

/// Number and name of each section.
const SECTIONS: &[(u16, &str)] = &[
    (1, "Framing"),
    (2, "Pings and pongs"),
    (3, "Reserved bits"),
    (4, "Opcodes"),
    (5, "Fragments"),
    (6, "UTF-8"),
    (7, "Closing"),
    (9, "Limits and large messages"),
    (10, "Automatic fragments"),
    (12, "Compression: kinds of data"),
    (13, "Compression: parameters"),
    (20, "Upgrade: valid requests"),
    (21, "Upgrade: request line and headers"),
    (22, "Upgrade: key and version"),
    (23, "Negotiation"),
    (24, "Upgrade: bytes on the wire"),
    (25, "Masks and lengths"),
    (26, "Compression: offers"),
    (27, "Compression: data on the wire"),
];

/// Name of a section.
pub(crate) fn section_name(section: u16) -> &'static str {
    SECTIONS.iter().find(|(number, _)| *number == section).map_or("", |(_, name)| name)
}

/// Every case there is.
pub(crate) fn all() -> Vec<Case> {
    let mut list = List { cases: Vec::new() };
    framing::add(&mut list);
    ping_pong::add(&mut list);
    reserved::add(&mut list);
    opcodes::add(&mut list);
    fragments::add(&mut list);
    utf8::add(&mut list);
    closing::add(&mut list);
    limits::add(&mut list);
    upgrade::add(&mut list);
    requests::add(&mut list);
    negotiation::add(&mut list);
    masking::add(&mut list);
    compression::add(&mut list);
    offers::add(&mut list);
    compressed_data::add(&mut list);
    list.cases.sort_by(|left, right| left.id.cmp(&right.id));
    list.cases
}

/// A case of the opening handshake: what is changed, how it must be answered, and the change.
type Row = (&'static str, Rule, fn(Request) -> Request);

/// Where the sections put their cases.
#[derive(Debug)]
struct List {
    cases: Vec<Case>,
}

impl List {
    /// A case of frames.
    fn session(&mut self, id: &[u16], title: impl Into<String>, session: Session) {
        let expected = verdict::describe_expected(&session);
        self.push(id, title, expected, Script::Session(session));
    }

    /// Messages one by one.
    fn round_trips(&mut self, id: &[u16], binary: bool, bytes: usize, count: usize) {
        let kind = if binary { "binary" } else { "text" };
        let title = format!("{count} {kind} messages of {bytes} bytes, one by one");
        let expected = "each comes back; then our Close frame is answered".to_owned();
        self.push(id, title, expected, Script::RoundTrips { binary, bytes, count });
    }

    /// Compressed messages one by one.
    fn compressed(&mut self, id: &[u16], case: Compressed) {
        let units = if case.kind.is_binary() { "bytes" } else { "characters" };
        let frames = match case.fragment_bytes {
            Some(bytes) => format!("frames of {bytes} bytes"),
            None => "one frame".to_owned(),
        };
        let (count, len, kind) = (case.count, case.len, case.kind.name());
        let title =
            format!("{count} messages of {len} {units} of {kind}, compressed, each in {frames}");
        let expected = format!("agreement on `{}`; each message comes back", case.offer);
        self.push(id, title, expected, Script::Compressed(case));
    }

    /// A case of the opening handshake.
    fn upgrade(&mut self, id: &[u16], title: &str, rule: Rule, change: fn(Request) -> Request) {
        let upgrade = Upgrade { change, chop: None, rule };
        self.push(id, title, rule.describe(), Script::Upgrade(upgrade));
    }

    /// The same in pieces of `chop` bytes.
    fn chopped_upgrade(&mut self, id: &[u16], title: &str, chop: usize) {
        let rule = super::upgrade::ACCEPT;
        let upgrade = Upgrade { change: |request| request, chop: Some(chop), rule };
        self.push(id, title, rule.describe(), Script::Upgrade(upgrade));
    }

    fn push(&mut self, id: &[u16], title: impl Into<String>, expected: String, script: Script) {
        self.cases.push(Case { id: CaseId(id.to_vec()), title: title.into(), expected, script });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_section_has_the_cases_of_the_suite() {
        let mut counts = BTreeMap::<u16, usize>::new();
        for case in all() {
            *counts.entry(case.id.section()).or_default() += 1;
        }
        let of_the_suite: Vec<(u16, usize)> = counts
            .iter()
            .map(|(section, count)| (*section, *count))
            .filter(|(s, _)| *s < 20)
            .collect();
        let expected = [
            (1, 16),
            (2, 11),
            (3, 7),
            (4, 10),
            (5, 20),
            (6, 145),
            (7, 37),
            (9, 54),
            (10, 1),
            (12, 90),
            (13, 126),
        ];
        assert_eq!(of_the_suite, expected);
        assert!(counts.keys().all(|section| !section_name(*section).is_empty()));
        assert_eq!(counts.len(), SECTIONS.len());
    }

    #[test]
    fn numbers_are_unique_and_without_gaps() {
        let cases = all();
        for pair in cases.windows(2) {
            let (left, right) = (&pair[0].id.0, &pair[1].id.0);
            assert!(left < right, "{left:?} {right:?}");
            let (last, head) = right.split_last().unwrap();
            let follows = left.len() == right.len() && left[..left.len() - 1] == *head;
            // The suite itself leaves out 7.2, 7.4 and others, but no number inside a group.
            assert!(
                if follows { left[left.len() - 1] + 1 == *last } else { *last == 1 },
                "{right:?}"
            );
        }
    }

    #[test]
    fn every_case_says_what_it_sends_and_expects_in_one_line() {
        for case in all() {
            assert!(!case.title.is_empty() && !case.expected.is_empty(), "{}", case.id);
            assert!(!case.title.contains('\n') && !case.expected.contains('\n'), "{}", case.id);
            assert!(case.title.len() < 160, "{}: {}", case.id, case.title);
        }
    }
}
