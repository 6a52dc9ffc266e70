//! Server CPU per message, longwire beside the bare server, slice by slice.
//!
//! Both servers run for the whole of a cell, and only one of them is talked to at a time. The
//! order within a pair changes from round to round, so that a drift within a pair cancels out.

use std::io;
use std::time::Duration;

use crate::cell::{CONN_COUNT_MAX, Cell, PAYLOAD_BYTES_MAX};
use crate::crowd::{self, Manner};
use crate::load::Load;
use crate::options::{Backend, Options};
use crate::report::{Comparison, Verdict};
use crate::server::Server;
use crate::{core, frame, report};

const ROUNDS_DEFAULT: usize = 7;

/// A server and the connections to it.
struct Side {
    server: Server,
    load: Load,
}

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    core::pin(core::CLIENT)?;
    crowd::affordable_count(2 * CONN_COUNT_MAX)?;
    report::print_comparison_head("cell", "us per message");
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        for cell in &options.cells {
            let comparison = compare(options, backend, cell)
                .map_err(|error| io::Error::other(format!("{}: {error}", cell.name)))?;
            comparison.print(cell.name, backend.name());
            verdict = verdict.and(comparison.verdict());
        }
    }
    report::print_verdict(verdict);
    Ok(verdict)
}

fn compare(options: &Options, backend: Backend, cell: &Cell) -> io::Result<Comparison> {
    let message_bytes = frame::client_frame(cell).len();
    let reply_bytes = frame::server_frame(cell).len();
    let bare = Server::bare(backend, message_bytes, reply_bytes)?;
    let conns_max = 2 * CONN_COUNT_MAX;
    let longwire = Server::longwire(options, backend, PAYLOAD_BYTES_MAX, conns_max)?;
    let mut floor = Side::connect(bare, cell, Manner::Bare)?;
    let mut subject = Side::connect(longwire, cell, Manner::WebSocket)?;
    floor.load.run(options.slice / 2)?;
    subject.load.run(options.slice / 2)?;

    let mut comparison = Comparison::new(cell.bar);
    for round in 0..options.rounds.unwrap_or(ROUNDS_DEFAULT) {
        if round % 2 == 0 {
            let floor_us = floor.measure(options.slice)?;
            comparison.push(floor_us, subject.measure(options.slice)?);
        } else {
            let subject_us = subject.measure(options.slice)?;
            comparison.push(floor.measure(options.slice)?, subject_us);
        }
    }
    Ok(comparison)
}

impl Side {
    fn connect(server: Server, cell: &Cell, manner: Manner) -> io::Result<Self> {
        let load = Load::connect(server.addr(), cell, manner)?;
        Ok(Self { server, load })
    }

    /// Server CPU per message over one slice, in microseconds.
    fn measure(&mut self, slice: Duration) -> io::Result<f64> {
        let before = self.server.stat.settled_cpu()?;
        let message_count = self.load.run(slice)?;
        let cpu = self.server.stat.settled_cpu()? - before;
        Ok(cpu.as_secs_f64() * 1e6 / message_count as f64)
    }
}
