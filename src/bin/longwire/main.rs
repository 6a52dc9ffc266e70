//! The server program. Uses the library's public API and nothing else.
//!
//! Two layers: `args` is what was typed, `echo` and `serve` are what is run; both are started by
//! `launch`, and looked after by `life`. `config` joins what was typed, variables and a file. `admin` shows a server from a thread of its own, `broker`
//! joins it to others. `doctor` serves nobody.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod broker;
mod config;
mod doctor;
mod echo;
mod launch;
mod life;
mod limits;
mod log;
mod manual;
mod say;
mod secure;
mod serve;
mod tap;
mod topic;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use longwire::Error;

use args::Command;
use config::{Configured, Refusal};

/// Exit code for a mistake of the user's: an unknown flag, a port in use, a limit too high.
const EXIT_USAGE: u8 = 2;

/// What precedes the usage in an error of clap's.
const USAGE: &str = "Usage:";

fn main() -> ExitCode {
    let configured = match Configured::load(std::env::args_os().collect()) {
        Ok(configured) => configured,
        Err(refusal) => return refuse(refusal),
    };
    log::begin(&configured.args);
    for warning in &configured.warnings {
        tracing::warn!("{warning}");
    }
    let outcome = match &configured.args.command {
        Command::Serve(args) => serve::run(args, &configured),
        Command::Echo(args) => echo::run(args, &configured),
        Command::Config(args) => return config::run(&args.action).unwrap_or_else(refuse),
        Command::Doctor(args) => return doctor::run(args),
        Command::Tap(args) => return finish(tap::run(args)),
        Command::Upgrade(args) => return life::run_upgrade(args),
        Command::Man(args) => return finish(manual::write_pages(args)),
        Command::Completions(args) => return finish(manual::write_completions(args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            life::tell_failure(&error);
            eprintln!("longwire: {}", configured.attribute(&error.to_string()));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The exit code of a command that knows its own, or the line that says why there is none.
fn finish(outcome: Result<ExitCode, String>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("longwire: {error}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// Says why nothing is run, a line for each mistake.
fn refuse(refusal: Refusal) -> ExitCode {
    let faults = match refusal {
        Refusal::Usage(error) => return refuse_usage(&error),
        Refusal::Faults(faults) => faults.into_iter().map(|fault| fault.text).collect(),
        Refusal::Unreadable(fault) => vec![fault],
    };
    if let Some(first) = faults.first() {
        life::tell_failure(&Error::Misuse(first.clone()));
    }
    for fault in faults {
        eprintln!("longwire: {fault}");
    }
    ExitCode::from(EXIT_USAGE)
}

/// Help and version as they are asked for; a mistake in one line, as all other errors.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        error.exit();
    }
    eprintln!("longwire: {}; --help lists what there is", one_line(error));
    ExitCode::from(EXIT_USAGE)
}

/// A mistake on the command line, as all other errors are told.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    missing(error, &text).unwrap_or_else(|| {
        let parts: Vec<&str> = text
            .lines()
            .map(|line| line.trim().trim_start_matches("error: "))
            // What follows is the same for every mistake.
            .take_while(|line| {
                !line.starts_with(USAGE) && !line.starts_with("For more information")
            })
            .filter(|line| !line.is_empty())
            .collect();
        parts.join("; ")
    })
}

/// A flag without the one it needs. Its usage is the only place where both are named.
fn missing(error: &clap::Error, text: &str) -> Option<String> {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let Some(ContextValue::Strings(flags)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let usage = text.lines().find_map(|line| line.trim().strip_prefix(USAGE))?;
    Some(format!("missing {}; write `{}`", flags.join(" and "), usage.trim()))
}
