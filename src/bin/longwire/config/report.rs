//! `longwire config`: a file that is checked, and settings that are printed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Args, ConfigAction};

use super::knobs::Knob;
use super::setting::{Source, quoted, toml};
use super::{Configured, Refusal, check, named_by_variable};

/// Columns of a line of comment.
const COLUMNS: usize = 96;

/// Does what was asked for. The error is told by whoever tells that of other commands.
pub(crate) fn run(action: &ConfigAction) -> Result<ExitCode, Refusal> {
    match action {
        ConfigAction::Check { file } => check_file(file.clone()),
        ConfigAction::Print { default: true, .. } => print(&defaults()),
        ConfigAction::Print { default: false, flags } => {
            let mut words = vec![OsString::from("longwire"), "serve".into()];
            words.extend(flags.iter().cloned());
            let configured = Configured::load(words)?;
            configured.warn();
            print(&in_force(&configured))
        }
    }
}

fn check_file(file: Option<PathBuf>) -> Result<ExitCode, Refusal> {
    let file = file.or_else(named_by_variable);
    let Some(file) = file else {
        let advice = "name the file: longwire config check longwire.toml";
        return Err(Refusal::Unreadable(advice.to_owned()));
    };
    let mut flag = OsString::from("--config=");
    flag.push(&file);
    let faults = match Configured::read(vec!["longwire".into(), "serve".into(), flag]) {
        Err(Refusal::Faults(faults)) => faults,
        Err(refusal) => return Err(refusal),
        Ok((configured, mut faults)) => {
            configured.warn();
            faults.extend(check::complaints(&configured));
            if faults.is_empty() {
                let in_file = |source: &Source| matches!(source, Source::File { .. });
                let settings = &configured.settings;
                let count = settings.iter().filter(|setting| in_file(&setting.source)).count();
                println!("{}: {count} settings, all is well", file.display());
                return Ok(ExitCode::SUCCESS);
            }
            faults.sort();
            faults
        }
    };
    for fault in faults {
        eprintln!("longwire: {}", fault.text);
    }
    Ok(ExitCode::FAILURE)
}

/// Writes it all; a reader that has had enough is no fault.
fn print(text: &str) -> Result<ExitCode, Refusal> {
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

impl Configured {
    /// Says what may be looked at.
    fn warn(&self) {
        for warning in &self.warnings {
            eprintln!("longwire: warning: {warning}");
        }
    }
}

/// A file of all keys, each with what it is for.
fn defaults() -> String {
    let mut text = String::from(
        "# Configuration of `longwire serve`: all keys, each as it is by default.\n\
         # Take the `#` away from what you change. Sizes take K, M, G (of 1024): \"64K\". Times take ms, s,\n\
         # m, h: \"30s\". What may be given several times is a list. The flag --conns-max and the variable\n\
         # LONGWIRE_CONNS_MAX (lists with commas) are the key conns_max, and go over it.\n\
         # SIGHUP reads the file again; `longwire config check FILE` says what is wrong with it.\n",
    );
    let mut heading = "";
    let knobs = Knob::all(&Args::command(), "serve");
    for knob in &knobs {
        if knob.heading != heading {
            heading = &knob.heading;
            let _ = write!(text, "\n# ---- {heading} ----\n");
        }
        text.push('\n');
        for line in wrapped(&knob.help) {
            let _ = writeln!(text, "# {line}");
        }
        let value = toml(knob.kind, &knob.default).unwrap_or_else(|| quoted(&knob.value_name));
        let _ = writeln!(text, "#{} = {value}", knob.key);
    }
    text
}

/// All settings, those that nobody has set as comments: it is a file again.
fn in_force(configured: &Configured) -> String {
    let mut text = String::new();
    let mut heading = "";
    for setting in &configured.settings {
        if setting.heading != heading {
            let blank = if heading.is_empty() { "" } else { "\n" };
            heading = &setting.heading;
            let _ = writeln!(text, "{blank}# ---- {heading} ----");
        }
        let value = setting.toml();
        let source = match (&setting.source, &configured.file) {
            // What is then done is computed, and `config print --default` tells how.
            (Source::Default, _) if value.is_none() => "not set".to_owned(),
            (Source::Default, _) => "default".to_owned(),
            (Source::File { line }, Some(file)) => format!("{}:{line}", file.display()),
            (Source::File { line }, None) => format!("line {line}"),
            (Source::Variable, _) => setting.variable.clone(),
            (Source::Flag, _) => setting.flag.clone(),
        };
        let sign = if setting.source == Source::Default { "#" } else { "" };
        let value = value.unwrap_or_default();
        let assigned = format!("{sign}{} = {value}", setting.key);
        let _ = writeln!(text, "{assigned:<40} # {source}");
    }
    text
}

/// Lines of whole words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= COLUMNS {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::knobs::Kind;
    use super::*;

    /// What is printed is what is so: read back, each key has the value it has without it.
    #[test]
    fn printed_defaults_are_a_file_of_all_keys_and_equal_to_the_defaults() {
        let knobs = Knob::all(&Args::command(), "serve");
        let text = defaults();
        let commented = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let keys: Vec<&str> = text.lines().filter(commented).map(|line| &line[1..]).collect();
        assert_eq!(keys.len(), knobs.len());
        assert!(toml::de::DeTable::parse(&text).unwrap().get_ref().is_empty(), "nothing is set");
        for (line, knob) in keys.iter().zip(&knobs) {
            let table = toml::de::DeTable::parse(line).unwrap();
            let (key, value) = table.get_ref().iter().next().unwrap();
            assert_eq!(key.get_ref().as_ref(), knob.key);
            let value = value.get_ref();
            match (knob.kind, knob.default.as_slice()) {
                (Kind::Switch, _) => assert_eq!(value.as_bool(), Some(false), "{line}"),
                (Kind::One, []) => assert_eq!(value.as_str(), Some(&*knob.value_name), "{line}"),
                (Kind::One, default) => {
                    let number = value.as_integer().map(|number| number.as_str());
                    assert_eq!(value.as_str().or(number), Some(&*default[0]), "{line}");
                }
                (Kind::List, default) => {
                    let list = value.as_array().unwrap();
                    let texts: Vec<&str> =
                        list.iter().map(|one| one.get_ref().as_str().unwrap()).collect();
                    assert_eq!(texts, default, "{line}");
                }
            }
        }
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS + 2));
    }
}
