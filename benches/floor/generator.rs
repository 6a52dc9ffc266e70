//! CPU of the load generator per message, beside that of the bare server it drives.
//!
//! A generator that costs more than the server it measures finds its own limit, not the server's.
//! Both have a core to themselves and do the same system calls, so their CPU times for the same
//! messages can be compared directly, without slices.

use std::io;

use crate::loadgen::Loadgen;
use crate::options::{Backend, Options};
use crate::report::{self, Comparison, Verdict};
use crate::server::Server;

const ROUNDS_DEFAULT: usize = 3;
const PAYLOAD_BYTES: usize = 20;
const CONN_COUNT: usize = 64;
/// Largest acceptable ratio of the generator's CPU to the bare server's.
const BAR: f64 = 1.1;

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    let loadgen = Loadgen::find()?;
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
fn measure(options: &Options, loadgen: &Loadgen, backend: Backend) -> io::Result<(f64, f64)> {
    // What the server sends back is as long as an echo, and is none: nobody compares it.
    let server = Server::bare_that_speaks(PAYLOAD_BYTES + 6, PAYLOAD_BYTES + 2)?;
    let flags = format!(
        "--no-verify --conns {CONN_COUNT} --size {PAYLOAD_BYTES} --backend {} --duration {}ms",
        backend.name(),
        (options.slice * 4).as_millis()
    );
    let findings = loadgen.run("echo", "ws", &server, &flags)?;
    Ok((
        findings.figure("server_cpu_us_per_message")?,
        findings.figure("generator_cpu_us_per_message")?,
    ))
}
