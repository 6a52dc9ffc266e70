//! Why WebSocket at all, measured: one small update for each of very many clients, by HTTP polling,
//! by long polling and by longwire push.
//!
//! The server of a way is this program again, as a child process on a core of its own; the clients
//! are this process, on another. Both read the same clock, so the delay of an update is simply the
//! difference of two instants. `docs/BENCHMARKS.md` says how to read the figures.

mod arguments;
mod clock;
mod crowd;
#[path = "../../floor/machine.rs"]
mod machine;
mod measure;
mod process;
mod report;
mod schedule;
mod serve;
mod serve_http;
mod serve_push;
mod server;
mod update;
mod way;

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Role, Run};
use report::Report;

/// How this program ends.
mod exit {
    /// Updates were lost, came twice or in the wrong order.
    pub(super) const WRONG: u8 = 1;
    /// The measurement could not be made.
    pub(super) const FAILED: u8 = 2;
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.role {
        Some(Role::Serve(serve)) => serve::run(&serve.order()).map(|()| true),
        None => run(&arguments.run),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::WRONG),
        Err(error) => {
            eprintln!("longwire-polling: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Measures each way in turn. False if an update did not arrive as it should.
fn run(run: &Run) -> io::Result<bool> {
    let machine = machine::line();
    let settings = run.settings();
    process::pin(settings.client_core)?;
    let mut ways = Vec::with_capacity(run.ways.len());
    for &way in &run.ways {
        eprintln!("{} ...", way.title());
        let order = run.order(way);
        process::raise_descriptor_limit(order.client_count)?;
        let figures = measure::measure(&order, &settings)
            .map_err(|error| io::Error::other(format!("{}: {error}", way.title())))?;
        ways.push(figures);
    }
    let report = Report::new(machine, run.line(), ways);
    if let Some(path) = &run.json {
        let json = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
        fs::write(path, json + "\n").map_err(|error| {
            io::Error::other(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    let text = if run.markdown { report.markdown() } else { report.table() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(report.ways.iter().all(measure::Figures::is_clean))
}
