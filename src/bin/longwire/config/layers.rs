//! Flags over variables over the file over defaults, without a second reading of what a value may
//! be: what variables and the file say is given to the command line's own parser, as flags in front of
//! those that were typed, unless the same was typed.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use crate::args::Args;

use super::file::Entry;
use super::knobs::{Kind, Knob};
use super::setting::{Setting, Source};
use super::{Fault, Refusal};

/// Commands that can be configured.
const COMMANDS: [&str; 2] = ["serve", "echo"];
/// Flags of the program itself that have a value, which is no command.
const GLOBAL_FLAGS: [&str; 2] = ["--log", "--log-format"];
/// Asked for help, nobody wants to hear of a file.
const HELP: [&str; 4] = ["--help", "-h", "--version", "-V"];

/// A command line that can be configured.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    words: Vec<OsString>,
    /// Which of them is the command.
    at: usize,
    /// Keys that were typed as flags.
    keys: BTreeSet<String>,
    config: Option<PathBuf>,
}

impl Typed {
    /// None if it is of another command, or wants help.
    pub(super) fn of(words: &[OsString]) -> Option<Self> {
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        let is_value = |at: usize| GLOBAL_FLAGS.contains(&text(&words[at - 1]).as_str());
        let is_command = |at: &usize| !text(&words[*at]).starts_with('-') && !is_value(*at);
        let at = (1..words.len()).find(is_command)?;
        if !COMMANDS.contains(&text(&words[at]).as_str()) {
            return None;
        }
        let texts: Vec<String> = words.iter().map(text).collect();
        if texts.iter().any(|word| HELP.contains(&word.as_str())) {
            return None;
        }
        let flags = texts.iter().filter_map(|word| word.strip_prefix("--"));
        let names = flags.map(|flag| flag.split('=').next().unwrap_or(flag).replace('-', "_"));
        let keys = names.collect();
        let config = |(at, word): (usize, &OsString)| {
            let bytes = word.as_encoded_bytes();
            match bytes.strip_prefix(b"--config=") {
                Some(_) => text(word).strip_prefix("--config=").map(PathBuf::from),
                None if bytes == b"--config" => words.get(at + 1).map(PathBuf::from),
                None => None,
            }
        };
        let config = words.iter().enumerate().filter_map(config).next_back();
        Some(Self { words: words.to_vec(), at, keys, config })
    }

    pub(super) fn command(&self) -> &str {
        self.words[self.at].to_str().unwrap_or_default()
    }

    /// The file that was asked for by a flag.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// What a variable or the file sets.
#[derive(Clone, Debug)]
struct Given {
    knob: usize,
    values: Vec<OsString>,
    source: Source,
}

impl Given {
    /// Whether it is more than the word that it is not.
    fn is_active(&self) -> bool {
        !self.values.is_empty() && self.values != ["false"]
    }
}

/// All that was said, by whom.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    typed: Typed,
    knobs: Vec<Knob>,
    given: Vec<Given>,
    file: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) args: Args,
    pub(super) settings: Vec<Setting>,
    /// What was left out, and why.
    pub(super) faults: Vec<Fault>,
}

/// What is to be done with something that was given.
enum Verdict {
    Holds,
    /// A stronger word turned off what it is about.
    Idle,
}

/// Something that is left out because of what it contradicts.
struct Weaker {
    knob: usize,
    /// Why, if it has as much to say.
    fault: Option<Fault>,
}

impl Layers {
    pub(super) fn new(typed: Typed, line: &Command) -> Self {
        let knobs = Knob::all(line, typed.command());
        Self { typed, knobs, given: Vec::new(), file: None }
    }

    /// Adds what these variables say. Call it before the file is added, which they go over.
    pub(super) fn add_variables(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        for (index, knob) in self.knobs.iter().enumerate() {
            let Some(value) = variable(&knob.variable()) else { continue };
            if self.typed.keys.contains(&knob.key) {
                continue;
            }
            let values = match (knob.kind, value.to_str()) {
                (Kind::List, Some(text)) => text.split(',').map(OsString::from).collect(),
                (Kind::Switch, Some(text)) => vec![switch(text)],
                (Kind::One, _) | (_, None) => vec![value],
            };
            self.given.push(Given { knob: index, values, source: Source::Variable });
        }
    }

    pub(super) fn add_file(&mut self, path: &Path, entries: Vec<Entry>) {
        self.file = Some(path.to_owned());
        for Entry { key, values, line } in entries {
            let Some(knob) = self.knobs.iter().position(|knob| knob.key == key) else { continue };
            if self.typed.keys.contains(&key) || self.given.iter().any(|given| given.knob == knob) {
                continue;
            }
            let values = values.into_iter().map(OsString::from).collect();
            self.given.push(Given { knob, values, source: Source::File { line } });
        }
    }

    pub(super) fn knobs(&self) -> &[Knob] {
        &self.knobs
    }

    /// The same as if the file said nothing of this.
    pub(super) fn without(&self, key: &str) -> Self {
        let mut layers = self.clone();
        let is_other = |given: &Given| layers.knobs[given.knob].key != key;
        layers.given.retain(is_other);
        layers
    }

    /// Decides. What is wrong in variables and the file is told and left out.
    pub(super) fn settle(&self) -> Result<Settled, Refusal> {
        let mut line = Args::command();
        let mut faults = Vec::new();
        let mut given: Vec<&Given> = Vec::new();
        for one in &self.given {
            match self.judge(one, &mut line) {
                Ok(Verdict::Holds) => given.push(one),
                Ok(Verdict::Idle) => {}
                Err(advice) => faults.push(self.fault(one, &advice)),
            }
        }
        let matches = loop {
            let error = match line.try_get_matches_from_mut(self.words(&given)) {
                Ok(matches) => break matches,
                Err(error) => error,
            };
            let Some(Weaker { knob, fault }) = self.weaker(&error, &given) else {
                // With some of it left out, another fault may be but a consequence.
                return Err(if faults.is_empty() { Refusal::Usage(error) } else { faults.into() });
            };
            faults.extend(fault);
            given.retain(|given| given.knob != knob);
        };
        let args = Args::from_arg_matches(&matches).map_err(Refusal::Usage)?;
        Ok(Settled { args, settings: self.settings(&matches, &given), faults })
    }

    /// Whether something that was given is right by itself, and what it takes is there.
    fn judge(&self, given: &Given, line: &mut Command) -> Result<Verdict, String> {
        let knob = &self.knobs[given.knob];
        if knob.kind == Kind::List && given.values.is_empty() && !knob.default.is_empty() {
            return Err("the list is empty; leave it out for the default".to_owned());
        }
        if knob.kind == Kind::Switch && !["true", "false"].iter().any(|ok| given.values == [*ok]) {
            return Err("give true or false".to_owned());
        }
        let mut words = vec![OsString::from("longwire"), self.typed.command().into()];
        words.extend(self.flags(given));
        let Err(error) = line.try_get_matches_from_mut(words) else { return Ok(Verdict::Holds) };
        if error.kind() != ErrorKind::MissingRequiredArgument {
            return Err(advice(&error));
        }
        let is_there = |key: &str| {
            let is_it = |given: &&Given| self.knobs[given.knob].key == key && given.is_active();
            self.typed.keys.contains(key) || self.given.iter().any(|given| is_it(&given))
        };
        let is_turned_off = |key: &str| {
            let stronger = |other: &&Given| other.source.rank() > given.source.rank();
            let mut others = self.given.iter().filter(stronger);
            others.any(|other| self.knobs[other.knob].key == key && !other.is_active())
        };
        let needed = keys(&error, ContextKind::InvalidArg);
        match needed.iter().find(|key| !is_there(key)) {
            Some(key) if is_turned_off(key) => Ok(Verdict::Idle),
            Some(key) => Err(format!("it needs {key} as well")),
            None => Ok(Verdict::Holds),
        }
    }

    /// Of two that exclude each other, the one that has less to say. None if that is not what is
    /// wrong, or both were typed.
    fn weaker(&self, error: &clap::Error, given: &[&Given]) -> Option<Weaker> {
        if error.kind() != ErrorKind::ArgumentConflict {
            return None;
        }
        let mut parties = keys(error, ContextKind::InvalidArg);
        parties.extend(keys(error, ContextKind::PriorArg));
        let of_layer =
            |key: &String| given.iter().find(|given| self.knobs[given.knob].key == *key).copied();
        let rank = |key: &String| of_layer(key).map_or(&Source::Flag, |it| &it.source).rank();
        // Of two in the same layer, the latter.
        let weakest =
            parties.iter().rev().filter_map(of_layer).min_by_key(|it| it.source.rank())?;
        let strongest = parties.iter().map(rank).max()?;
        let key = &self.knobs[weakest.knob].key;
        let fault = (weakest.source.rank() == strongest).then(|| {
            let others = parties.iter().map(String::as_str).filter(|other| other != key);
            let others: Vec<&str> = others.collect();
            let advice = format!("it excludes {}; keep one of them", others.join(" and "));
            self.fault(weakest, &advice)
        });
        Some(Weaker { knob: weakest.knob, fault })
    }

    fn words(&self, given: &[&Given]) -> Vec<OsString> {
        let (before, after) = self.typed.words.split_at(self.typed.at + 1);
        let flags = given.iter().flat_map(|given| self.flags(given));
        before.iter().cloned().chain(flags).chain(after.iter().cloned()).collect()
    }

    /// As it would be typed.
    fn flags(&self, given: &Given) -> Vec<OsString> {
        let knob = &self.knobs[given.knob];
        if knob.kind == Kind::Switch {
            let flag = given.is_active().then(|| knob.flag().into());
            return flag.into_iter().collect();
        }
        let flag = |value: &OsString| {
            let mut flag = OsString::from(knob.flag() + "=");
            flag.push(value);
            flag
        };
        given.values.iter().map(flag).collect()
    }

    fn settings(&self, matches: &ArgMatches, given: &[&Given]) -> Vec<Setting> {
        let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
        let setting = |(index, knob): (usize, &Knob)| {
            let of_layer = given.iter().find(|given| given.knob == index);
            let source = match of_layer {
                _ if self.typed.keys.contains(&knob.key) => Source::Flag,
                Some(given) => given.source.clone(),
                None => Source::Default,
            };
            let values = match knob.kind {
                Kind::Switch => vec![matches.get_flag(&knob.id).to_string()],
                Kind::One | Kind::List => {
                    let raw = matches.get_raw(&knob.id).into_iter().flatten();
                    raw.map(|value| value.to_string_lossy().into_owned()).collect()
                }
            };
            Setting::new(knob, values, source)
        };
        self.knobs.iter().enumerate().map(setting).collect()
    }

    fn fault(&self, given: &Given, advice: &str) -> Fault {
        let (knob, source) = (&self.knobs[given.knob], given.source.clone());
        let text = match source {
            Source::File { .. } => format!("{}{}: {advice}", self.place(&source), knob.key),
            Source::Default | Source::Variable | Source::Flag => {
                format!("{}: {advice}", knob.variable())
            }
        };
        Fault { source, text }
    }

    /// What stands in front of a fault in the file.
    pub(super) fn place(&self, source: &Source) -> String {
        match (source, &self.file) {
            (Source::File { line }, Some(file)) => format!("{}:{line}: ", file.display()),
            _ => String::new(),
        }
    }
}

/// What people write in variables for on and off.
fn switch(text: &str) -> OsString {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => "true".into(),
        "false" | "0" | "no" | "off" => "false".into(),
        _ => OsStr::new(text).to_owned(),
    }
}

/// What to write instead, without what was written: it may be a secret.
fn advice(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        if source.is::<ParseIntError>() {
            return "give a whole number".to_owned();
        }
        return source.to_string();
    }
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) {
        return format!("give {}", values.join(" or "));
    }
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The keys that an error names.
fn keys(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    let names = match error.get(kind) {
        Some(ContextValue::Strings(names)) => names.clone(),
        Some(ContextValue::String(name)) => vec![name.clone()],
        _ => Vec::new(),
    };
    let key = |name: &String| {
        let name = name.trim_start_matches('-');
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
        name[..end].replace('-', "_")
    };
    names.iter().map(key).collect()
}
