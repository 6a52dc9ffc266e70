//! What a run must not do: `--fail-if 'p99>5ms'`.
//!
//! A condition names a figure, an operator and a value with its unit. Names and units are checked
//! when it is parsed, before a long run is spent on a typing error. A figure that the run could not
//! give fails its condition: what nobody saw has not passed.

use std::fmt;
use std::str::FromStr;

use crate::report::{FIGURE_UNITS, LATENCY_NAMES, Report, STATISTICS, Unit, unit_of};
use crate::show::figure_text;
use crate::units;

/// Names offered in place of one that does not exist.
const SUGGESTIONS: usize = 3;

/// One `--fail-if`, parsed; the run fails if it is true.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    name: String,
    operator: Operator,
    /// In `unit`.
    value: f64,
    unit: Unit,
}

/// How the value seen is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    Different,
}

/// A condition and what the run showed.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// As in `p99 > 5.00 ms`.
    pub(crate) condition: String,
    /// Written out with its unit; None if the run has no such figure.
    pub(crate) seen: Option<String>,
    /// True if the condition is true or cannot be judged.
    pub(crate) failed: bool,
}

/// Judges every condition, in the order given.
pub(crate) fn check(conditions: &[Condition], report: &Report) -> Vec<Check> {
    conditions
        .iter()
        .map(|condition| {
            let seen = report.figure(&condition.name);
            Check {
                condition: condition.to_string(),
                seen: seen.map(|value| figure_text(&condition.name, value, condition.unit)),
                failed: seen.is_none_or(|value| condition.operator.holds(value, condition.value)),
            }
        })
        .collect()
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, operator, value_text) = split(text).ok_or_else(|| {
            format!("`{text}` is no condition: write NAME OPERATOR VALUE, such as 'p99>5ms'")
        })?;
        let unit = unit_of(name).ok_or_else(|| {
            format!("no figure is named `{name}`; the nearest are {}", nearest(name).join(", "))
        })?;
        let value = units::parse_value(value_text, unit).ok_or_else(|| {
            format!("`{value_text}` does not fit {name}, which is {}", wanted(unit))
        })?;
        // A percentile does not say its unit, so 5 could be meant as 5 ms and would be 5 us.
        let is_bare = value_text.ends_with(|last: char| last.is_ascii_digit());
        if unit == Unit::Micros && is_bare && value != 0.0 && !name.contains("_us") {
            return Err(format!(
                "{name} is a time: write {value_text}us, {value_text}ms or {value_text}s"
            ));
        }
        Ok(Self { name: name.to_owned(), operator, value, unit })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = figure_text(&self.name, self.value, self.unit);
        write!(f, "{} {} {value}", self.name, self.operator.symbol())
    }
}

impl Operator {
    /// Two characters before one: `>` is the beginning of `>=`.
    const ALL: [Self; 6] =
        [Self::AtLeast, Self::AtMost, Self::Equal, Self::Different, Self::Above, Self::Below];

    fn symbol(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::Different => "!=",
        }
    }

    fn holds(self, seen: f64, value: f64) -> bool {
        match self {
            Self::Above => seen > value,
            Self::AtLeast => seen >= value,
            Self::Below => seen < value,
            Self::AtMost => seen <= value,
            Self::Equal => seen == value,
            Self::Different => seen != value,
        }
    }
}

/// Name, operator and the text of the value; None if one is missing.
fn split(text: &str) -> Option<(&str, Operator, &str)> {
    let at = text.find(['>', '<', '=', '!'])?;
    let (name, rest) = text.split_at(at);
    let operator =
        Operator::ALL.into_iter().find(|operator| rest.starts_with(operator.symbol()))?;
    let value = rest[operator.symbol().len()..].trim();
    let name = name.trim();
    (!name.is_empty() && !value.is_empty()).then_some((name, operator, value))
}

fn wanted(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "a rate per second: write 50000 or 50K",
        Unit::Micros => "a time: write 250us, 5ms or 1s",
        Unit::Bytes => "a number of bytes: write 4096 or 4K",
        Unit::Count => "a count: write 0, 1000 or 1K",
        Unit::Ratio => "a ratio: write 1.1 or 110%",
        Unit::Percent => "a percentage: write 80 or 80%",
        Unit::Seconds => "a time in seconds: write 10 or 10s",
    }
}

/// The known names that take the fewest edits to reach from this one, nearest first.
fn nearest(name: &str) -> Vec<String> {
    let figures = FIGURE_UNITS.iter().map(|(known, _)| (*known).to_owned());
    let bare = STATISTICS.iter().map(|statistic| (*statistic).to_owned());
    let of_latency = LATENCY_NAMES.iter().flat_map(|latency| {
        STATISTICS.iter().map(move |statistic| format!("{latency}.{statistic}"))
    });
    let mut known: Vec<(usize, String)> = bare
        .chain(figures)
        .chain(of_latency)
        .map(|known| (edits_to_reach(name, &known), known))
        .collect();
    known.sort_by_key(|(distance, _)| *distance);
    known.into_iter().take(SUGGESTIONS).map(|(_, known)| known).collect()
}

/// Insertions, deletions and replacements; a name that is part of the other counts as one edit,
/// because people shorten `server_cpu_us_per_message` more often than they mistype it.
fn edits_to_reach(typed: &str, known: &str) -> usize {
    let typed = typed.to_ascii_lowercase();
    if typed.len() >= 3 && known.contains(&typed) {
        return 1;
    }
    let known: Vec<char> = known.chars().collect();
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (typed_index, typed_char) in typed.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = typed_index + 1;
        for (index, known_char) in known.iter().enumerate() {
            let replaced = diagonal + usize::from(typed_char != *known_char);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(row[index] + 1).min(diagonal + 1);
        }
    }
    row[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::sample;

    fn judge(text: &str) -> Check {
        check(&[text.parse().unwrap()], &sample::report()).remove(0)
    }

    fn refusal(text: &str) -> String {
        text.parse::<Condition>().unwrap_err()
    }

    #[test]
    fn condition_that_is_true_fails_the_run_and_shows_the_value_seen() {
        let check = judge("errors>0");
        assert!(check.failed);
        assert_eq!(check.condition, "errors > 0");
        assert_eq!(check.seen.as_deref(), Some("3"));
    }

    #[test]
    fn every_operator_compares_as_it_reads() {
        for (text, failed) in [
            ("errors>2", true),
            ("errors>3", false),
            ("errors>=3", true),
            ("errors<3", false),
            ("errors<=3", true),
            ("errors==3", true),
            ("errors != 3", false),
            ("errors!=0", true),
        ] {
            assert_eq!(judge(text).failed, failed, "{text}");
        }
    }

    #[test]
    fn value_is_read_in_the_unit_of_the_figure() {
        // The sample has p99 at 671 us, CPU 6.42 us per message, slab 8736 bytes per connection.
        for (text, failed) in [
            ("p99>5ms", false),
            ("p99>0.6ms", true),
            ("echo.p99>600us", true),
            ("p99<1s", true),
            ("server_cpu_us_per_message>=6.42", true),
            ("kernel_slab_bytes_per_conn>8K", true),
            ("kernel_slab_bytes_per_conn>9K", false),
            ("messages_per_s<50K", true),
            ("generator_cpu_percent>80%", true),
        ] {
            assert_eq!(judge(text).failed, failed, "{text}");
        }
    }

    #[test]
    fn figure_that_was_not_measured_fails_its_condition() {
        let check = judge("server_pss_bytes_per_conn>1");
        assert!(check.failed);
        assert_eq!(check.seen, None);
        assert!(judge("delivery.p99>5s").failed);
    }

    #[test]
    fn unknown_name_is_refused_with_the_nearest_known_ones() {
        assert!(refusal("p98>5ms").contains("p99"), "{}", refusal("p98>5ms"));
        assert!(refusal("error>0").contains("are errors"), "{}", refusal("error>0"));
        assert!(refusal("cpu>3").contains("server_cpu_us_per_message"), "{}", refusal("cpu>3"));
        assert!(refusal("mesages_per_s<1").contains("are messages_per_s"));
    }

    #[test]
    fn text_that_is_no_condition_is_refused_with_an_example() {
        for text in ["", "p99", "p99>", ">5ms", "p99=5ms", "p99 5ms", "errors!0"] {
            assert!(refusal(text).contains("'p99>5ms'"), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn value_of_another_unit_is_refused() {
        assert!(refusal("errors>5ms").contains("a count"));
        assert!(refusal("p99>5%").contains("a time"));
        assert!(refusal("p99>5").contains("5us, 5ms or 5s"));
        assert!(refusal("messages_per_s<fast").contains("a rate"));
    }
}
