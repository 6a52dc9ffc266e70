//! One setting as it is in force: its value, who said so, and how it is shown. Secrets are not.

use super::knobs::{Kind, Knob};

/// Who said so; each goes over those before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Default,
    File { line: usize },
    Variable,
    Flag,
}

impl Source {
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable => 2,
            Self::Flag => 3,
        }
    }
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(super) key: String,
    pub(super) heading: String,
    pub(super) flag: String,
    pub(super) variable: String,
    pub(super) source: Source,
    kind: Kind,
    values: Vec<String>,
}

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

impl Setting {
    pub(super) fn new(knob: &Knob, values: Vec<String>, source: Source) -> Self {
        Self {
            key: knob.key.clone(),
            heading: knob.heading.clone(),
            flag: knob.flag(),
            variable: knob.variable(),
            source,
            kind: knob.kind,
            values,
        }
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// Whether this is one of its values.
    pub(super) fn is(&self, value: &str) -> bool {
        self.values.iter().any(|own| own == value)
    }

    /// Whether it is set to a file or an address that this is about.
    pub(super) fn names_place_of(&self, complaint: &str) -> bool {
        let is_place = |value: &&String| value.len() > 3 && value.contains(['/', ':', '.']);
        let mut words = complaint.split([' ', ',', ';']).map(|word| word.trim_end_matches(':'));
        words.any(|word| self.values.iter().filter(is_place).any(|own| own == word))
    }

    /// Whether it is to be known to nobody else.
    pub(super) fn is_secret(&self) -> bool {
        match self.key.as_str() {
            "admin_token" => !self.values.is_empty(),
            // What stands before it is a login.
            "broker" => self.values.iter().any(|url| url.contains('@')),
            _ => false,
        }
    }

    /// For a line of the log.
    pub(super) fn plain(&self) -> String {
        if self.is_secret() {
            return HIDDEN.to_owned();
        }
        let values: Vec<String> =
            self.values.iter().map(|value| value.escape_debug().to_string()).collect();
        if values.is_empty() { "default".to_owned() } else { values.join(",") }
    }

    /// As it stands in a file. `None` if it has no value.
    pub(super) fn toml(&self) -> Option<String> {
        if self.is_secret() {
            return Some(quoted(HIDDEN));
        }
        toml(self.kind, &self.values)
    }
}

/// Values as they stand in a file; `None` if there are none to show.
pub(super) fn toml(kind: Kind, values: &[String]) -> Option<String> {
    let text = |value: &String| {
        let is_number = value.parse::<u32>().is_ok_and(|number| number.to_string() == *value);
        if is_number { value.clone() } else { quoted(value) }
    };
    match kind {
        Kind::Switch => values.first().cloned(),
        Kind::One => values.first().map(text),
        Kind::List => {
            let texts: Vec<String> = values.iter().map(text).collect();
            Some(format!("[{}]", texts.join(", ")))
        }
    }
}

/// The strings of JSON are those of TOML, save for one character that TOML wants escaped.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
