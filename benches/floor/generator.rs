//! CPU of the load generator per message, beside that of the bare server it drives.
//!
//! A generator that costs more than the server it measures finds its own limit, not the server's.
//! Both have a core to themselves and do the same system calls, so their CPU times for the same
//! messages can be compared directly, without slices.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::core;
use crate::options::{Backend, Options};
use crate::report::{self, Comparison, Verdict};
use crate::server::Server;

const ROUNDS_DEFAULT: usize = 3;
const PAYLOAD_BYTES: usize = 20;
const CONN_COUNT: usize = 64;
/// Largest acceptable ratio of the generator's CPU to the bare server's.
const BAR: f64 = 1.1;

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    let loadgen = loadgen_path()?;
    report::print_comparison_head("generator", "us per message");
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        let mut comparison = Comparison::new(BAR);
        for _ in 0..options.rounds.unwrap_or(ROUNDS_DEFAULT) {
            let (server_us, generator_us) = measure(options, &loadgen, backend)?;
            comparison.push(server_us, generator_us);
        }
        comparison.print("20B-64", backend.name());
        verdict = verdict.and(comparison.verdict());
    }
    println!("floor: the bare epoll server's CPU; longwire: loadgen's, on the backend named");
    report::print_verdict(verdict);
    Ok(verdict)
}

/// Microseconds of CPU per message: of the bare server, and of the generator that drove it.
fn measure(options: &Options, loadgen: &PathBuf, backend: Backend) -> io::Result<(f64, f64)> {
    // What the server sends back is as long as an echo, and is none: nobody compares it.
    let server = Server::bare_that_speaks(PAYLOAD_BYTES + 6, PAYLOAD_BYTES + 2)?;
    let output = Command::new(loadgen)
        .args(["echo", &format!("ws://{}/", server.addr()), "--no-verify", "--quiet"])
        .args(["--conns", &CONN_COUNT.to_string(), "--size", &PAYLOAD_BYTES.to_string()])
        .args(["--threads", "1", "--cores", &core::CLIENT.to_string()])
        .args(["--backend", backend.name(), "--pid", &server.pid().to_string()])
        .args(["--duration", &format!("{}ms", (options.slice * 4).as_millis()), "--json", "-"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("loadgen: {}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok((
        figure(&text, "server_cpu_us_per_message")?,
        figure(&text, "generator_cpu_us_per_message")?,
    ))
}

/// The generator, built beside this program.
fn loadgen_path() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().and_then(|deps| deps.parent()).map(|dir| dir.join("loadgen"));
    path.filter(|path| path.exists()).ok_or_else(|| {
        io::Error::other("loadgen is not built; `cargo build --release -p loadgen` does that")
    })
}

/// A figure of a report in JSON.
fn figure(report: &str, name: &str) -> io::Result<f64> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    let figures = report["figures"].as_array().into_iter().flatten();
    figures
        .filter(|figure| figure["name"] == name)
        .find_map(|figure| figure["value"].as_f64())
        .ok_or_else(|| io::Error::other(format!("loadgen's report lacks {name}")))
}
