//! As much of PromQL as tells which metrics and labels a query names. Whether it is a query at all is
//! for `promtool` to say.

use std::collections::BTreeSet;

/// Words that stand before a list of labels.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Metrics, each with the labels by which it is chosen.
    pub(crate) metrics: Vec<(String, BTreeSet<String>)>,
    /// Labels by which it is grouped.
    pub(crate) groups: BTreeSet<String>,
}

/// Reads a query from its beginning to its end.
pub(crate) fn names(query: &str) -> Names {
    let mut names = Names::default();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '[') {
        if rest[start..].starts_with('[') {
            // A span of time has units, which are no names.
            rest = rest[start..].split_once(']').expect("a span ends").1;
            continue;
        }
        // What follows a digit is the unit of a time or the exponent of a number.
        let is_unit = rest[..start].ends_with(|c: char| c.is_ascii_digit());
        let (word, after) = split_word(&rest[start..]);
        rest = after;
        if is_unit || OPERATORS.contains(&word) {
            continue;
        }
        let next = after.trim_start();
        if GROUPINGS.contains(&word) {
            let list = next.strip_prefix('(').expect("labels in parentheses");
            let (list, after) = list.split_once(')').expect("a list ends");
            names.groups.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if let Some(chosen) = next.strip_prefix('{') {
            let (labels, after) = matchers(chosen);
            names.metrics.push((word.to_owned(), labels));
            rest = after;
        } else if !next.starts_with('(') && !is_grouped(next) {
            names.metrics.push((word.to_owned(), BTreeSet::new()));
        }
    }
    names.groups.remove("");
    names
}

/// Whether this is how an aggregation goes on that says first what it groups by.
fn is_grouped(next: &str) -> bool {
    ["by", "without"].contains(&split_word(next).0)
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// The labels of `name="value", other=~"value"}`, and what follows.
fn matchers(text: &str) -> (BTreeSet<String>, &str) {
    let mut labels = BTreeSet::new();
    let mut rest = text.trim_start();
    while !rest.starts_with('}') {
        let (label, value) = split_word(rest);
        labels.insert(label.to_owned());
        let value = value.split_once('"').expect("a value in quotes").1;
        let after = value.split_once('"').expect("quotes are closed").1;
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    (labels, &rest[1..])
}

#[test]
fn names_of_a_query_are_found() {
    let of = |query: &str| {
        let names = names(query);
        let metrics = names.metrics.into_iter().map(|(name, labels)| {
            format!("{name}{{{}}}", labels.into_iter().collect::<Vec<_>>().join(","))
        });
        (metrics.collect::<Vec<_>>().join(" "), names.groups.into_iter().collect::<Vec<_>>())
    };
    let query = r#"sum by (side, code) (rate(a_total{job=~"$job", core!="1"}[5m])) > 0.5"#;
    assert_eq!(of(query), ("a_total{core,job}".to_owned(), vec!["code".into(), "side".into()]));
    assert_eq!(of("max(a / on (x) group_right () b{}) or vector(0)").0, "a{} b{}");
    assert_eq!(of("a offset 10m unless 1e3 * b == 0").0, "a{} b{}");
}
