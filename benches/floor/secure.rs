//! Server CPU per message over TLS, and with compression.
//!
//! TLS cannot cost less than its cipher. What is allowed is 1.25 times the CPU of the same echo
//! without TLS, and what opening and sealing the payload take by themselves; all three are measured
//! in turns. Compression is held against what others pay for it: `ws` under Node.js, at the same
//! level, likewise without context takeover.

use std::io;
use std::path::Path;

use crate::cipher::Cipher;
use crate::core;
use crate::loadgen::Loadgen;
use crate::options::{Backend, Options};
use crate::report::{self, Comparison, Verdict};
use crate::server::Server;

const ROUNDS_DEFAULT: usize = 3;
const CONN_COUNT: usize = 64;
/// As large as the plaintext of a record can be (RFC 8446 §5.1).
const TLS_PAYLOAD_BYTES: usize = 16 * 1024;
/// How much more than the plain echo TLS may cost beside its cipher.
const PLAIN_FACTOR: f64 = 1.25;
const TLS_BAR: f64 = 1.0;
const DEFLATE_PAYLOAD_BYTES: usize = 1024;
/// Twice as many messages for the same CPU.
const DEFLATE_BAR: f64 = 0.5;
const CONNS_MAX: usize = 1000;
const MESSAGE_BYTES_MAX: usize = 1 << 16;

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    core::pin(core::CLIENT)?;
    let loadgen = Loadgen::find()?;
    println!("16 KiB over TLS 1.3 with AES-128-GCM; floor: {PLAIN_FACTOR} x plain + cipher");
    report::print_comparison_head("echo", "us per message");
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        verdict = verdict.and(compare_tls(options, &loadgen, backend)?);
    }
    println!("1 KiB of JSON, inflated and compressed; floor: ws under Node.js");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/npm/ws.js");
    if !script.with_file_name("node_modules").join("ws").exists() {
        println!("SKIPPED compression: ws is not installed; benches/peers/setup does that");
        report::print_verdict(verdict);
        return Ok(verdict);
    }
    report::print_comparison_head("echo", "us per message");
    for &backend in &options.backends {
        verdict = verdict.and(compare_deflate(options, &loadgen, backend, &script)?);
    }
    report::print_verdict(verdict);
    Ok(verdict)
}

fn compare_tls(options: &Options, loadgen: &Loadgen, backend: Backend) -> io::Result<Verdict> {
    let plain = Server::longwire(options, backend, MESSAGE_BYTES_MAX, CONNS_MAX)?;
    let flags = ["--tls-self-signed"];
    let secure = Server::longwire_with(options, backend, MESSAGE_BYTES_MAX, CONNS_MAX, &flags)?;
    let mut cipher = Cipher::new(TLS_PAYLOAD_BYTES)?;
    let load = load(options, TLS_PAYLOAD_BYTES);
    let secure_load = format!("{load} --insecure");
    let mut comparison = Comparison::new(TLS_BAR);
    let (mut plains, mut ciphers) = (Vec::new(), Vec::new());
    for round in 0..options.rounds.unwrap_or(ROUNDS_DEFAULT) {
        let plain_cpu = || cpu_per_message(loadgen, "ws", &plain, &load);
        let secure_cpu = || cpu_per_message(loadgen, "wss", &secure, &secure_load);
        let (plain_us, secure_us) = in_turn(round, plain_cpu, secure_cpu)?;
        let cipher_us = cipher.measure(options.slice / 2)?;
        comparison.push(PLAIN_FACTOR * plain_us + cipher_us, secure_us);
        plains.push(plain_us);
        ciphers.push(cipher_us);
    }
    comparison.print("wss", backend.name());
    println!(
        "  of which plain {:.3} us, cipher {:.3} us",
        report::median(&plains),
        report::median(&ciphers)
    );
    Ok(comparison.verdict())
}

fn compare_deflate(
    options: &Options,
    loadgen: &Loadgen,
    backend: Backend,
    script: &Path,
) -> io::Result<Verdict> {
    let node = Server::node_with_deflate(script)?;
    let flags = ["--deflate"];
    let longwire = Server::longwire_with(options, backend, MESSAGE_BYTES_MAX, CONNS_MAX, &flags)?;
    let load = format!("{} --deflate --payload json", load(options, DEFLATE_PAYLOAD_BYTES));
    let mut comparison = Comparison::new(DEFLATE_BAR);
    let (mut nodes, mut longwires) = (Vec::new(), Vec::new());
    for round in 0..options.rounds.unwrap_or(ROUNDS_DEFAULT) {
        let node_cpu = || cpu_per_message(loadgen, "ws", &node, &load);
        let longwire_cpu = || cpu_per_message(loadgen, "ws", &longwire, &load);
        let (node_us, longwire_us) = in_turn(round, node_cpu, longwire_cpu)?;
        comparison.push(node_us, longwire_us);
        nodes.push(node_us);
        longwires.push(longwire_us);
    }
    comparison.print("deflate", backend.name());
    println!(
        "  messages per second of server CPU: ws {:.0}, longwire {:.0}",
        1e6 / report::median(&nodes),
        1e6 / report::median(&longwires)
    );
    Ok(comparison.verdict())
}

/// Both, in an order that changes from round to round, so that a drift cancels out.
fn in_turn(
    round: usize,
    floor: impl Fn() -> io::Result<f64>,
    subject: impl Fn() -> io::Result<f64>,
) -> io::Result<(f64, f64)> {
    if round.is_multiple_of(2) {
        return Ok((floor()?, subject()?));
    }
    let subject = subject()?;
    Ok((floor()?, subject))
}

/// The flags of loadgen, without those of the transport.
fn load(options: &Options, payload_bytes: usize) -> String {
    let duration = (options.slice * 2).as_millis();
    format!("--conns {CONN_COUNT} --size {payload_bytes} --duration {duration}ms --warmup 300ms")
}

/// Microseconds of the server's CPU per message.
fn cpu_per_message(
    loadgen: &Loadgen,
    scheme: &str,
    server: &Server,
    flags: &str,
) -> io::Result<f64> {
    loadgen.run("echo", scheme, server, flags)?.figure("server_cpu_us_per_message")
}
