//! `loadgen bench`: many servers, many workloads, one report.
//!
//! It measures nothing itself. For each cell it runs this program again, as a user would type it,
//! with `--server` and `--json`, and reads the report; so a cell can be repeated by hand, and one
//! server's leftovers cannot reach another's figures.
//!
//! `matrix` is the file, `generator` runs one cell, `rounds` all of them in turns, `results` is what
//! came of it, `tables` what is shown of that, and `text`, `markdown`, `html` and `json` how.

mod args;
mod generator;
mod html;
mod json;
mod markdown;
mod matrix;
mod nearest;
mod results;
mod rounds;
mod tables;
mod text;

#[cfg(test)]
mod sample;

use std::path::Path;

pub(crate) use args::BenchArgs;
use generator::Program;
use matrix::Matrix;
use results::Results;

use crate::show;
use crate::signals::Signals;

/// How the run ended, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every answer was the right one.
    Right,
    /// A server answered something else than what was sent.
    Wrong,
}

/// Runs the matrix and shows what came of it. The error is one line for the user.
pub(crate) fn run(args: &BenchArgs) -> Result<Outcome, String> {
    let mut matrix = Matrix::read(&args.matrix)?;
    matrix.keep(&args.servers, &args.workloads)?;
    if let Some(repeats) = args.repeats {
        matrix.repeats = repeats;
    }
    check_outputs(args)?;
    let program = Program::this()?;
    let signals = Signals::new()?;
    let results = rounds::run(matrix, &program, &|| signals.is_interrupted(), args.quiet);
    write_outputs(args, &results)?;
    if !results.ran_any() {
        let reason = results.first_reason().unwrap_or("it was interrupted");
        return Err(format!("no cell could be run: {reason}"));
    }
    Ok(if results.mismatches() == 0 { Outcome::Right } else { Outcome::Wrong })
}

/// Half an hour of measuring must not end at a path that cannot be written.
fn check_outputs(args: &BenchArgs) -> Result<(), String> {
    if let Some(path) = &args.markdown {
        markdown::check(path)?;
    }
    [&args.json, &args.html].into_iter().flatten().try_for_each(|path| show::check_output(path))
}

fn write_outputs(args: &BenchArgs, results: &Results) -> Result<(), String> {
    let stdout = Some(Path::new("-"));
    let is_taken = [&args.json, &args.html, &args.markdown].map(|path| path.as_deref() == stdout);
    if !is_taken.contains(&true) {
        show::print(&text::render(results))?;
    }
    if let Some(path) = &args.json {
        show::write_output(path, &json::render(results)?)?;
    }
    if let Some(path) = &args.html {
        show::write_output(path, &html::render(results))?;
    }
    if let Some(path) = &args.markdown {
        markdown::write(path, &markdown::render(results))?;
    }
    Ok(())
}
