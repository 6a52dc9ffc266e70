//! The file: flat TOML, read into values as they would be typed, each with its line. Whether a
//! value is a good one is judged later, in the same way for all sources.
//!
//! All faults are found in one go: who has to correct three lines shall not start three times.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;
use super::knobs::{Kind, Knob, nearest};
use super::setting::Source;

/// No configuration is this long; what is never ends.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a key that is none that are shown.
const KEY_BYTES_MAX: usize = 64;

/// A key that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// As on the command line; `true` or `false` for a switch.
    pub(super) values: Vec<String>,
    pub(super) line: usize,
}

/// What is wrong, and on which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    line: usize,
    text: String,
}

impl Wrong {
    pub(super) fn in_file(self, path: &Path) -> Fault {
        let Self { line, text } = self;
        let text = format!("{}:{line}: {text}", path.display());
        Fault { source: Source::File { line }, text }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    /// Anybody may read it, too.
    pub(super) is_public: bool,
}

impl Text {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        // To open a pipe waits for who writes into it, which may be nobody.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let is_public = found.mode() & 0o004 != 0;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("it is longer than 1 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            io::Error::other(format!("line {line} is not UTF-8, as TOML is"))
        })?;
        Ok(Self { text, is_public })
    }

    /// What is set, and all that is wrong. `elsewhere` are the keys of other commands.
    pub(super) fn entries(&self, knobs: &[Knob], elsewhere: &[Knob]) -> (Vec<Entry>, Vec<Wrong>) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            return (Vec::new(), self.syntax_faults(&errors));
        }
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        for (key, value) in table.get_ref() {
            let line = self.line(key.span().start);
            let fault = |text: String| Wrong { line, text };
            let name = key.get_ref().as_ref();
            if let DeValue::Table(_) = value.get_ref() {
                faults.push(fault(format!(
                    "`{}` is a table; there are none: all keys stand by themselves, without [...]",
                    shown(name)
                )));
                continue;
            }
            let Some(knob) = knobs.iter().find(|knob| knob.key == name) else {
                faults.push(fault(unknown(name, knobs, elsewhere)));
                continue;
            };
            match values(knob.kind, value) {
                Ok(values) => entries.push(Entry { key: name.to_owned(), values, line }),
                Err((at, advice)) => {
                    let line = at.map_or(line, |at| self.line(at));
                    faults.push(Wrong { line, text: format!("{name}: {advice}") });
                }
            }
        }
        entries.sort_by_key(|entry| entry.line);
        faults.sort_by_key(|fault| fault.line);
        (entries, faults)
    }

    /// The first fault of each line: what follows there follows from it.
    fn syntax_faults(&self, errors: &[toml::de::Error]) -> Vec<Wrong> {
        let mut faults: Vec<Wrong> = Vec::new();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let line = self.line(at);
            if faults.iter().any(|fault| fault.line == line) {
                continue;
            }
            let words: Vec<&str> = error.message().lines().map(str::trim).collect();
            let column = self.text[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
            faults.push(Wrong { line, text: format!("column {column}: {}", words.join("; ")) });
        }
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }
}

fn unknown(name: &str, knobs: &[Knob], elsewhere: &[Knob]) -> String {
    let shown = shown(name);
    if elsewhere.iter().any(|knob| knob.key == name) {
        return format!("`{shown}` is a key of `longwire serve` alone");
    }
    match nearest(name, knobs) {
        Some(near) => format!("unknown key `{shown}`; did you mean `{near}`?"),
        None => {
            format!("unknown key `{shown}`; `longwire config print --default` lists what there is")
        }
    }
}

/// A key that may be anything, on one line.
fn shown(name: &str) -> String {
    let end = name.char_indices().map(|(at, _)| at).find(|at| *at >= KEY_BYTES_MAX);
    name[..end.unwrap_or(name.len())].escape_debug().to_string()
}

/// Where in the text a value is not what it should be, if not where its key is; and what to write.
type Misplaced = (Option<usize>, &'static str);

fn values(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Misplaced> {
    match (kind, value.get_ref()) {
        (Kind::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
        (Kind::Switch, _) => Err((None, "give true or false, without quotes")),
        (Kind::One, DeValue::Array(_)) => Err((None, "give one value, not a list")),
        (Kind::One, one) => text(one).map(|text| vec![text]).map_err(|advice| (None, advice)),
        (Kind::List, DeValue::Array(list)) => {
            let each = list
                .iter()
                .map(|one| text(one.get_ref()).map_err(|advice| (Some(one.span().start), advice)));
            each.collect()
        }
        (Kind::List, one) => text(one).map(|text| vec![text]).map_err(|advice| (None, advice)),
    }
}

/// A value as it would be typed.
fn text(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        // A mode such as 0o660 would become another number.
        DeValue::Integer(number) if number.radix() != 10 => {
            Err("write the number in decimal digits, or as text in quotes")
        }
        DeValue::Integer(number) => Ok(number.as_str().trim_start_matches('+').to_owned()),
        DeValue::Float(_) => Err("give a whole number, or text in quotes"),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err("give text in quotes, or a number")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::args::Args;

    use super::*;

    fn read(text: &str) -> (Vec<Entry>, Vec<String>) {
        let knobs = Knob::all(&Args::command(), "serve");
        let text = Text { text: text.to_owned(), is_public: false };
        let (entries, faults) = text.entries(&knobs, &[]);
        let shown = |fault: Wrong| format!("{}: {}", fault.line, fault.text);
        (entries, faults.into_iter().map(shown).collect())
    }

    #[test]
    fn values_become_what_would_be_typed() {
        let (entries, faults) = read(
            "# all kinds\nmessage_bytes_max = \"1M\"\nbacklog = 1_024\ndeflate = true\n\
             origin = [\n  \"https://a.example\",\n  'https://b.example',\n]\nlisten = '[::1]:9'\n\
             latest = []\nunix_mode = 660\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        let shown: Vec<String> = entries
            .iter()
            .map(|entry| format!("{} {} {}", entry.line, entry.key, entry.values.join("|")))
            .collect();
        let expected = [
            "2 message_bytes_max 1M",
            "3 backlog 1024",
            "4 deflate true",
            "5 origin https://a.example|https://b.example",
            "9 listen [::1]:9",
            "10 latest ",
            "11 unix_mode 660",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn lc03_every_fault_of_a_file_is_told_with_its_line() {
        let (_, faults) = read(
            "conn_max = 1\nbacklog = 1.5\ndeflate = \"yes\"\n\norigin = [\n  \"a\",\n  true,\n]\n\
             workers = [1]\nunix_mode = 0o660\n[limits]\nbacklog = 5\n",
        );
        let expected = [
            "1: unknown key `conn_max`; did you mean `conns_max`?",
            "2: backlog: give a whole number, or text in quotes",
            "3: deflate: give true or false, without quotes",
            "7: origin: give text in quotes, or a number",
            "9: workers: give one value, not a list",
            "10: unix_mode: write the number in decimal digits, or as text in quotes",
            "11: `limits` is a table; there are none: all keys stand by themselves, without [...]",
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn lc03_what_is_no_toml_is_told_with_line_and_column() {
        for (text, place) in [
            ("backlog = \n", "1: column"),
            ("backlog = 1\nbacklog = 2\n", "2: column 1: duplicate key"),
            ("backlog = 1\n\n  nonsense\n", "3: column"),
            ("log = \"info\nbacklog = 1\n", "1: column"),
            ("= 1\n", "1: column"),
            ("\u{0}\u{1b}[31m", "1: column"),
            ("a.b = 1\na = 2\n", "2: column"),
        ] {
            let (entries, faults) = read(text);
            assert_eq!(entries, []);
            assert!(faults[0].starts_with(place), "{text:?}: {faults:?}");
            let plain = |fault: &String| !fault.contains(|c: char| c.is_control());
            assert!(faults.iter().all(plain), "one line each: {faults:?}");
        }
    }

    /// Nothing that a key is made of gets to a terminal as it is.
    #[test]
    fn lc07_keys_are_shown_on_one_line_and_not_for_ever() {
        let (_, faults) = read(&format!("\"a\\n\\u001b[31m\" = 1\n{} = 1\n", "a".repeat(500)));
        assert!(faults[0].contains("`a\\n\\u{1b}[31m`"), "{faults:?}");
        assert!(faults[1].len() < 200, "{faults:?}");
    }
}
