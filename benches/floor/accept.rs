//! Server CPU per connection opened, longwire beside the bare server, round by round.
//!
//! For longwire the opening handshake is part of it: request in, answer out. The bare server
//! accepts and registers, and nothing is sent. Connections of a round are held until all are
//! open, then reset; closing them is not measured.

use std::io;

use crate::crowd::{self, Crowd, Manner};
use crate::options::{Backend, Options};
use crate::report::{Comparison, Verdict};
use crate::server::Server;
use crate::{core, report};

const ROUNDS_DEFAULT: usize = 3;
/// Largest acceptable ratio to the floor.
const BAR: f64 = 2.2;
/// Connections of the first round, which is not counted.
const WARM_UP_CONNS: usize = 1000;
/// More than is opened, so that a server that counts late refuses nobody.
const CONNS_SPARE: usize = 64;

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    core::pin(core::CLIENT)?;
    let count = crowd::affordable_count(options.conn_count)?;
    println!("{count} connections per round, opened in waves and held to the end of the round");
    report::print_comparison_head("connections", "us per connection");
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        let comparison = compare(options, backend, count)?;
        comparison.print(&count.to_string(), backend.name());
        verdict = verdict.and(comparison.verdict());
    }
    report::print_verdict(verdict);
    Ok(verdict)
}

fn compare(options: &Options, backend: Backend, count: usize) -> io::Result<Comparison> {
    // No message is sent, so the sizes do not matter.
    let floor = Server::bare(backend, 1, 1)?;
    let subject = Server::longwire(options, backend, 1 << 16, count + CONNS_SPARE)?;
    let warm_up_count = count.min(WARM_UP_CONNS);
    measure(&floor, warm_up_count, Manner::Bare)?;
    measure(&subject, warm_up_count, Manner::WebSocket)?;

    let mut comparison = Comparison::new(BAR);
    for round in 0..options.rounds.unwrap_or(ROUNDS_DEFAULT) {
        if round % 2 == 0 {
            let floor_us = measure(&floor, count, Manner::Bare)?;
            comparison.push(floor_us, measure(&subject, count, Manner::WebSocket)?);
        } else {
            let subject_us = measure(&subject, count, Manner::WebSocket)?;
            comparison.push(measure(&floor, count, Manner::Bare)?, subject_us);
        }
    }
    Ok(comparison)
}

/// Server CPU per connection of one round, in microseconds.
fn measure(server: &Server, count: usize, manner: Manner) -> io::Result<f64> {
    let before = server.stat.settled_cpu()?;
    let descriptors_before = server.stat.descriptor_count()?;
    let crowd = Crowd::open(server.addr(), count, manner)?;
    server.stat.wait_for_descriptors(|open| open >= descriptors_before + count)?;
    let cpu = server.stat.settled_cpu()? - before;
    crowd.reset()?;
    server.stat.wait_for_descriptors(|open| open <= descriptors_before)?;
    Ok(cpu.as_secs_f64() * 1e6 / count as f64)
}
