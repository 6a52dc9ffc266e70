//! Black-box tests of `loadgen`: the real program against servers that run in this process, good
//! ones on every backend and ones that do a single thing wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

#[path = "scenarios/authority.rs"]
mod authority;
#[path = "scenarios/errors.rs"]
mod errors;
#[path = "scenarios/good.rs"]
mod good;
#[path = "scenarios/secure.rs"]
mod secure;
#[path = "scenarios/servers.rs"]
mod servers;
#[path = "scenarios/wrong.rs"]
mod wrong;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What a run of the program came to.
#[derive(Debug)]
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program with these arguments, separated by spaces.
fn loadgen(args: &str) -> Run {
    let Output { status, stdout, stderr } = command(args).output().unwrap();
    Run {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

fn command(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split_whitespace()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program and reads its report.
fn report(args: &str) -> (Run, Value) {
    let run = loadgen(&format!("{args} --quiet --json -"));
    let report = serde_json::from_str(&run.stdout).unwrap_or(Value::Null);
    (run, report)
}

/// An address where nobody listens.
fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A figure of a report.
fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let found = figures.iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))["value"].as_f64().unwrap()
}

/// A percentile of the first latency of a report, in microseconds.
fn micros(report: &Value, statistic: &str) -> f64 {
    report["latencies"][0][format!("{statistic}_us")].as_f64().unwrap()
}
