//! From what was typed, variables and a file to what is run: flags win over variables, these over
//! the file, and that over defaults.
//!
//! INVARIANT: each setting has one name, and the command line alone says what it may be.

mod check;
mod file;
mod knobs;
mod layers;
mod reload;
mod report;
mod setting;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use crate::args::Args;
use file::Text;
use knobs::{Knob, VARIABLE_PREFIX};
use layers::{Layers, Settled, Typed};
use setting::{Setting, Source};

pub(crate) use reload::Reload;
pub(crate) use report::run;

/// Names the file if no flag does.
const FILE_VARIABLE: &str = "LONGWIRE_CONFIG";
/// Variables of ours that are no settings: the unit has flags in the second, and an upgrade uses the
/// third.
const OTHER_VARIABLES: [&str; 3] = [FILE_VARIABLE, "LONGWIRE_FLAGS", "LONGWIRE_TAKE_OVER"];

/// A command and all that it was told.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    pub(crate) args: Args,
    /// What may be looked at, though nothing is wrong.
    pub(crate) warnings: Vec<String>,
    settings: Vec<Setting>,
    /// None for commands that are not configured.
    layers: Option<Layers>,
    file: Option<PathBuf>,
    words: Vec<OsString>,
}

/// Something that is wrong in a variable or the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    source: Source,
    /// All there is to say, on one line.
    pub(crate) text: String,
}

/// Why nothing can be run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A mistake on the command line, or help that was asked for.
    Usage(clap::Error),
    /// Mistakes in variables and the file.
    Faults(Vec<Fault>),
    /// The file cannot be read.
    Unreadable(String),
}

impl Configured {
    /// What these words of a command line, the environment and the file come to.
    pub(crate) fn load(words: Vec<OsString>) -> Result<Self, Refusal> {
        let (configured, faults) = Self::read(words)?;
        if faults.is_empty() { Ok(configured) } else { Err(faults.into()) }
    }

    /// The same without what is wrong in variables and the file.
    fn read(words: Vec<OsString>) -> Result<(Self, Vec<Fault>), Refusal> {
        let Some(typed) = Typed::of(&words) else {
            let args = Args::try_parse_from(&words).map_err(Refusal::Usage)?;
            let (warnings, settings) = (Vec::new(), Vec::new());
            let configured = Self { args, warnings, settings, layers: None, file: None, words };
            return Ok((configured, Vec::new()));
        };
        let variable = |name: &str| std::env::var_os(name);
        let file = typed.config().map(Path::to_owned);
        let file = file.or_else(named_by_variable);
        let line = Args::command();
        let mut layers = Layers::new(typed, &line);
        layers.add_variables(variable);
        let (mut faults, mut is_public) = (Vec::new(), false);
        if let Some(path) = &file {
            let text = Text::read(path).map_err(|error| unreadable(path, &error))?;
            is_public = text.is_public;
            let (entries, wrong) = text.entries(layers.knobs(), &Knob::all(&line, "serve"));
            faults.extend(wrong.into_iter().map(|wrong| wrong.in_file(path)));
            layers.add_file(path, entries);
        }
        let Settled { args, settings, faults: more } = match layers.settle() {
            Ok(settled) => settled,
            Err(_) if !faults.is_empty() => return Err(faults.into()),
            Err(refusal) => return Err(refusal),
        };
        faults.extend(more);
        faults.sort();
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let warnings = misspelt(names, &Knob::all(&line, "serve"));
        let layers = Some(layers);
        let mut configured = Self { args, warnings, settings, layers, file, words };
        if is_public {
            configured.warn_of_secrets();
        }
        Ok((configured, faults))
    }

    /// Puts where a setting stands in front of what is said of it, if that is in the file.
    pub(crate) fn attribute(&self, complaint: &str) -> String {
        let place = self.setting_of(complaint).zip(self.layers.as_ref());
        let place = place.map(|(setting, layers)| layers.place(&setting.source));
        place.unwrap_or_default() + complaint
    }

    /// The setting in the file that a sentence is about: it names its key, its flag, or what it is
    /// set to.
    fn setting_of(&self, complaint: &str) -> Option<&Setting> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut words = complaint.split(|c| !is_part(c)).map(|word| match word {
            "trusted_proxies" => "trusted_proxy".to_owned(),
            "allowed_origins" => "origin".to_owned(),
            word => word.trim_start_matches("--").replace('-', "_"),
        });
        let in_file = || {
            let is_it = |setting: &&Setting| matches!(setting.source, Source::File { .. });
            self.settings.iter().filter(is_it)
        };
        let named = words.find_map(|word| in_file().find(|setting| setting.key == word));
        let mut quoted = complaint.split('`').skip(1).step_by(2);
        // A place is the surer sign: what is said of it may have the name of another setting in it.
        let place = in_file().find(|setting| setting.names_place_of(complaint));
        place
            .or(named)
            .or_else(|| quoted.find_map(|value| in_file().find(|setting| setting.is(value))))
    }

    fn warn_of_secrets(&mut self) {
        let Some(layers) = &self.layers else { return };
        for setting in &self.settings {
            if setting.is_secret() && matches!(setting.source, Source::File { .. }) {
                self.warnings.push(format!(
                    "{}{}: other users can read it there; chmod o-r the file, or use {}",
                    layers.place(&setting.source),
                    setting.key,
                    setting.variable
                ));
            }
        }
    }
}

impl From<Vec<Fault>> for Refusal {
    fn from(faults: Vec<Fault>) -> Self {
        Self::Faults(faults)
    }
}

/// Variables that look like misspelt ones of ours. Others may be there for reasons of their own, as
/// those by which Kubernetes tells of a service of our name.
fn misspelt(names: impl Iterator<Item = String>, knobs: &[Knob]) -> Vec<String> {
    let warning = |name: String| {
        let key = name.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase();
        let is_known = OTHER_VARIABLES.contains(&name.as_str());
        if is_known || knobs.iter().any(|knob| knob.key == key) {
            return None;
        }
        let meant = knobs::nearest(&key, knobs)?.to_ascii_uppercase();
        Some(format!("{name} is no variable of longwire; did you mean {VARIABLE_PREFIX}{meant}?"))
    };
    names.filter_map(warning).collect()
}

/// An empty name is none: so a variable is taken back where it cannot be unset.
fn named_by_variable() -> Option<PathBuf> {
    std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::Unreadable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_variables_are_told_and_those_of_others_are_not() {
        let knobs = Knob::all(&Args::command(), "serve");
        let warnings = |names: &[&str]| misspelt(names.iter().map(|&n| n.to_owned()), &knobs);
        let fine = ["LONGWIRE_CONNS_MAX", "LONGWIRE_FLAGS", "LONGWIRE_CONFIG", "CONN_MAX", "HOME"];
        assert!(warnings(&fine).is_empty());
        let kubernetes = ["LONGWIRE_PORT", "LONGWIRE_SERVICE_HOST", "LONGWIRE_PORT_9001_TCP_ADDR"];
        assert_eq!(warnings(&kubernetes), Vec::<String>::new());
        assert_eq!(
            warnings(&["LONGWIRE_CONN_MAX"]),
            ["LONGWIRE_CONN_MAX is no variable of longwire; did you mean LONGWIRE_CONNS_MAX?"]
        );
    }
}
