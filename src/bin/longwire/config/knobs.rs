//! What can be set: one name for a flag, a variable and a key of a file. All of it is read from the
//! definition of the command line, so a new flag is a new key.

use clap::{Arg, ArgAction, Command};

/// Flags that are no settings.
const NOT_SET: [&str; 3] = ["help", "version", "config"];
/// What stands in front of the name of a variable.
pub(super) const VARIABLE_PREFIX: &str = "LONGWIRE_";
/// Further away than this share of its length, another name is not what was meant.
const NEAR_SHARE: usize = 3;

/// How many values there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On or off.
    Switch,
    /// One.
    One,
    /// Any number.
    List,
}

/// One setting.
#[derive(Clone, Debug)]
pub(super) struct Knob {
    /// `conns_max`.
    pub(super) key: String,
    /// What the command line calls it inside.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Empty if there is none.
    pub(super) default: Vec<String>,
    pub(super) help: String,
    pub(super) heading: String,
    /// What a value stands for, such as `SIZE`.
    pub(super) value_name: String,
}

impl Knob {
    /// All that `longwire serve` or `longwire echo` can be set to, by sections.
    pub(super) fn all(line: &Command, command: &str) -> Vec<Self> {
        let mut line = line.clone();
        line.build();
        let command = line.find_subcommand(command).expect("it is a command of this program");
        let is_set = |arg: &&Arg| !NOT_SET.contains(&arg.get_id().as_str());
        let mut knobs: Vec<Self> =
            command.get_arguments().filter(is_set).filter_map(Self::of).collect();
        let mut headings: Vec<String> = Vec::new();
        for knob in &knobs {
            if !headings.contains(&knob.heading) {
                headings.push(knob.heading.clone());
            }
        }
        knobs.sort_by_key(|knob| headings.iter().position(|heading| *heading == knob.heading));
        knobs
    }

    fn of(arg: &Arg) -> Option<Self> {
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Append => Kind::List,
            _ => Kind::One,
        };
        let id = arg.get_id().as_str().to_owned();
        let default = arg.get_default_values().iter();
        let otherwise = if arg.is_global_set() { "Log" } else { "Listening" };
        let value_name = arg.get_value_names().and_then(<[_]>::first);
        Some(Self {
            key: arg.get_long()?.replace('-', "_"),
            id,
            kind,
            default: default.map(|value| value.to_string_lossy().into_owned()).collect(),
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            heading: arg.get_help_heading().unwrap_or(otherwise).to_owned(),
            value_name: value_name.map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// `--conns-max`.
    pub(super) fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// `LONGWIRE_CONNS_MAX`.
    pub(super) fn variable(&self) -> String {
        VARIABLE_PREFIX.to_owned() + &self.key.to_ascii_uppercase()
    }
}

/// The key that was probably meant.
pub(super) fn nearest<'k>(wrong: &str, knobs: &'k [Knob]) -> Option<&'k str> {
    let wrong = wrong.replace('-', "_").to_ascii_lowercase();
    let distance = |key: &str| strsim::damerau_levenshtein(&wrong, key);
    let nearest = knobs.iter().map(|knob| knob.key.as_str()).min_by_key(|key| distance(key))?;
    let far = wrong.chars().count().max(nearest.len()).div_ceil(NEAR_SHARE);
    (distance(nearest) < far.max(2)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::args::Args;

    use super::*;

    #[test]
    fn every_flag_of_serve_is_a_key_and_a_variable_of_its_own() {
        let mut line = Args::command();
        let knobs = Knob::all(&line, "serve");
        line.build();
        let serve = line.find_subcommand("serve").unwrap();
        let flags: Vec<&str> = serve.get_arguments().filter_map(Arg::get_long).collect();
        assert_eq!(knobs.len() + NOT_SET.len(), flags.len(), "{flags:?}");
        for knob in &knobs {
            assert!(flags.contains(&&knob.flag()[2..]), "{}", knob.flag());
            assert!(!knob.help.is_empty() && !knob.heading.is_empty(), "{}", knob.key);
            let same = knobs.iter().filter(|other| other.variable() == knob.variable());
            assert_eq!(same.count(), 1, "{}", knob.variable());
        }
        let of = |key: &str| knobs.iter().find(|knob| knob.key == key).unwrap();
        assert_eq!(of("message_bytes_max").default, ["64K"]);
        assert_eq!(of("message_bytes_max").variable(), "LONGWIRE_MESSAGE_BYTES_MAX");
        assert_eq!((of("deflate").kind, of("listen").kind), (Kind::Switch, Kind::List));
        assert_eq!((of("workers").kind, of("admin_token").kind), (Kind::One, Kind::One));
        assert_eq!(of("admin").default, ["127.0.0.1:9002"]);
        let echo: Vec<String> =
            Knob::all(&Args::command(), "echo").into_iter().map(|knob| knob.key).collect();
        assert!(echo.iter().all(|key| knobs.iter().any(|knob| knob.key == *key)));
        assert!(!echo.contains(&"publish".to_owned()));
    }

    #[test]
    fn what_is_nearly_a_key_is_told_and_what_is_not_near_is_not() {
        let knobs = Knob::all(&Args::command(), "serve");
        for (wrong, meant) in [
            ("conn_max", Some("conns_max")),
            ("conns-max", Some("conns_max")),
            ("CONNS_MAX", Some("conns_max")),
            ("cosn_max", Some("conns_max")),
            ("message_byte_max", Some("message_bytes_max")),
            ("max_message_size", None),
            ("origins", Some("origin")),
            ("tls_certificate", None),
            ("listn", Some("listen")),
            ("worker", Some("workers")),
            ("port", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, &knobs), meant, "{wrong}");
        }
    }
}
