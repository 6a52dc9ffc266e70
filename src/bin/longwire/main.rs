//! The server program. Uses the library's public API and nothing else.
//!
//! Two layers: `args` is what was typed, `echo` and `serve` are what is run; both are started by
//! `launch`, and looked after by `life`. `admin` shows a server from a thread of its own, `broker`
//! joins it to others. `doctor` serves nobody.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod broker;
mod doctor;
mod echo;
mod launch;
mod life;
mod limits;
mod secure;
mod serve;
mod tap;
mod topic;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use args::{Args, Command, LogFormat};

/// Exit code for a mistake of the user's: an unknown flag, a port in use, a limit too high.
const EXIT_USAGE: u8 = 2;

/// What precedes the usage in an error of clap's.
const USAGE: &str = "Usage:";

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    log(&args);
    let outcome = match args.command {
        Command::Serve(args) => serve::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::Doctor(args) => return doctor::run(&args),
        Command::Tap(args) => return finish(tap::run(&args)),
        Command::Upgrade(args) => return life::run_upgrade(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            life::tell_failure(&error);
            eprintln!("longwire: {error}");
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

/// Has standard error take the log.
fn log(args: &Args) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(&args.log)
        .with_target(false)
        .with_writer(std::io::stderr)
        // Escapes are for eyes; a journal or a file would keep them.
        .with_ansi(is_for_eyes());
    match args.log_format {
        LogFormat::Text => log.init(),
        // Programs choose by the target, and find all fields in one object.
        LogFormat::Json => log.json().flatten_event(true).with_target(true).init(),
    }
}

/// Whether what is logged is shown on a terminal, and may be coloured (<https://no-color.org>).
fn is_for_eyes() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// Help and version as they are asked for; a mistake in one line, as all other errors.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        error.exit();
    }
    let text = error.to_string();
    let fault = missing(error, &text).unwrap_or_else(|| {
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
    });
    eprintln!("longwire: {fault}; --help lists what there is");
    ExitCode::from(EXIT_USAGE)
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
