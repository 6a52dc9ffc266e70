//! A server under a dozen attacks at once, in little memory, beside a client that behaves.
//!
//! The server is a process of its own, confined to 512 MiB and to core 0. Core 1 has the attackers,
//! at low priority and bounded rates, and a good client that measures how long echoes take before
//! the attack and during it. Held are four bars: the same process serves to the end; the good client
//! loses nothing and waits less than five times as long; every attack gets the answers that
//! `docs/HOSTILE-INPUTS.md` names and no others; and what the attack has taken is given back.
//!
//! What this does not measure is how much traffic a core can take: rates are bounded so that the
//! attackers' core is not what is measured.

mod answer;
mod attack;
mod attacks;
mod confine;
#[path = "../floor/core.rs"]
mod core;
mod good;
mod ground;
mod latency;
#[path = "../floor/machine.rs"]
mod machine;
mod options;
mod peer;
mod report;
mod run;
mod server;
mod watch;
mod wire;

use std::io;
use std::process::ExitCode;

use options::Options;

/// How this program ends.
mod exit {
    /// A bar is missed.
    pub(super) const MISSED: u8 = 1;
    /// The attack could not be made.
    pub(super) const FAILED: u8 = 2;
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == server::LAUNCH) {
        eprintln!("attack: {}", server::launch(std::env::args_os().skip(2)));
        return ExitCode::from(exit::FAILED);
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("attack: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    match attack_each_backend(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("attack: {missed} missed");
            ExitCode::from(exit::MISSED)
        }
        Err(error) => {
            eprintln!("attack: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// How many bars were missed, on all backends together.
fn attack_each_backend(options: &Options) -> io::Result<usize> {
    println!("{}", machine::line());
    let mut missed = 0;
    for backend in &options.backends {
        missed += run::run(options, backend)?;
    }
    Ok(missed)
}
