//! `longwire doctor`: how many connections this machine holds, and what to do for more.
//!
//! `machine` reads, `limits` counts, `mends` knows what helps, `verdict` judges; `report` and `json`
//! say it. Nothing is changed on the machine.

mod costs;
mod json;
mod limits;
mod machine;
mod mends;
mod report;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use crate::EXIT_USAGE;
use crate::args::DoctorArgs;
use limits::Start;
use machine::Machine;
use verdict::Verdict;

/// Exit code for connections that do not fit.
const EXIT_DOES_NOT_FIT: u8 = 1;

/// Reads this machine and says what it is fit for.
pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    let machine = match Machine::this() {
        Ok(machine) => machine,
        Err(reason) => {
            eprintln!("longwire: {reason}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let start = Start {
        direct_descriptors: args.direct_descriptors,
        workers: args.workers.unwrap_or(machine.cores as u64),
    };
    let verdict = Verdict::of(&machine, start, args.connections, args.tls);
    let mut text = if args.json {
        format!("{:#}\n", json::value(&machine, &verdict))
    } else {
        report::text(&machine, &verdict)
    };
    if !args.json {
        text.insert_str(0, &format!("longwire {}\n\n", env!("CARGO_PKG_VERSION")));
    }
    // Whoever reads only the beginning still wants the exit code.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if verdict.asked && !verdict.fits() {
        return ExitCode::from(EXIT_DOES_NOT_FIT);
    }
    ExitCode::SUCCESS
}
