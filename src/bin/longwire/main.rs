//! The server program. Uses the library's public API and nothing else.
//!
//! Two layers: `args` is what was typed, `echo` is what is run.

#![forbid(unsafe_code)]

mod args;
mod echo;
mod limits;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// Exit code for a mistake of the user's: an unknown flag, a port in use, a limit too high.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let level = args.log.clone();
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let outcome = match args.command {
        Command::Echo(args) => echo::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longwire: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
