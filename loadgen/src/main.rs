//! Drives any WebSocket server and tells the truth about it.
//!
//! `args` is what was typed, `scenario` what is done, `engine` the threads that do it, `observe`
//! the view of the server from outside, `show` what is made of the result.

mod args;
mod bench;
mod compare;
mod conform;
mod engine;
mod expect;
mod machine;
mod observe;
mod preflight;
mod report;
mod scenario;
mod show;
mod signals;
mod spread;
mod units;
mod url;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, Common};
use scenario::Outcome;
use show::table::Style;

/// How this program ends.
mod exit {
    /// The server did something wrong, or a condition of `--fail-if` holds.
    pub(super) const WRONG: u8 = 1;
    /// The run could not be made.
    pub(super) const FAILED: u8 = 2;
    /// The generator was the limit, with `--strict`.
    pub(super) const LIMIT: u8 = 3;
}

fn main() -> ExitCode {
    let args = Args::parse_from(with_scenario(std::env::args_os().collect()));
    run(&args.command).unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        ExitCode::from(exit::FAILED)
    })
}

/// A URL alone means `echo`.
fn with_scenario(mut typed: Vec<OsString>) -> Vec<OsString> {
    if typed.get(1).and_then(|arg| arg.to_str()).is_some_and(|arg| arg.contains("://")) {
        typed.insert(1, "echo".into());
    }
    typed
}

fn run(command: &Command) -> Result<ExitCode, String> {
    match command {
        Command::Echo(args) => finish(&args.common, &scenario::echo::run(args)?),
        Command::Idle(args) => finish(&args.common, &scenario::idle::run(args)?),
        Command::Fanout(args) => finish(&args.common, &scenario::fanout::run(args)?),
        Command::Churn(args) => finish(&args.common, &scenario::churn::run(args)?),
        Command::Storm(args) => finish(&args.common, &scenario::storm::run(args)?),
        Command::Slow(args) => finish(&args.common, &scenario::slow::run(args)?),
        Command::Conform(args) => conform::run(args).map(|outcome| match outcome {
            conform::Outcome::Conforms => ExitCode::SUCCESS,
            conform::Outcome::Fails => ExitCode::from(exit::WRONG),
        }),
        Command::Bench(args) => bench::run(args).map(|outcome| match outcome {
            bench::Outcome::Right => ExitCode::SUCCESS,
            bench::Outcome::Wrong => ExitCode::from(exit::WRONG),
        }),
        Command::Compare(args) => compare::run(args).map(|()| ExitCode::SUCCESS),
    }
}

/// Shows the result, writes it, and judges it.
fn finish(common: &Common, outcome: &Outcome) -> Result<ExitCode, String> {
    let report = &outcome.report;
    let checks = expect::check(&common.fail_if, report);
    // Standard output belongs to the JSON if that was asked for.
    if common.json.as_deref() != Some(Path::new("-")) {
        show::print(&show::table::render(report, &checks, Style::of_stdout()))?;
    }
    if let Some(path) = &common.json {
        show::json::write(report, path)?;
    }
    if let Some(path) = &common.html {
        show::html::write(report, &checks, path)?;
    }
    let is_wrong = report.mismatches > 0 || checks.iter().any(|check| check.failed);
    Ok(match (is_wrong, outcome.was_limit && common.strict) {
        (true, _) => ExitCode::from(exit::WRONG),
        (false, true) => ExitCode::from(exit::LIMIT),
        (false, false) => ExitCode::SUCCESS,
    })
}
