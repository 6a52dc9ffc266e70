//! Resident bytes per idle connection, of the server process and of the kernel beside it.
//!
//! The process is looked at twice: after one connection came and went, and with all connections
//! open, upgraded and silent. The difference is divided by their number, so what a server owns
//! once does not count, and pages of its table count as they are touched.

use std::io;
use std::time::Duration;

use crate::crowd::{self, Crowd, Manner};
use crate::options::{Backend, Options};
use crate::process_stat::{Memory, kernel_slab_bytes};
use crate::report::{self, MemoryRow, Verdict};
use crate::server::Server;
use crate::{core, idle};

/// Largest acceptable resident bytes per idle connection.
const BAR_BYTES: f64 = 160.0;
/// More than is opened, so that a server that counts late refuses nobody.
const CONNS_SPARE: usize = 64;
/// For what the kernel frees later, and for what the server does a moment after the last upgrade.
const REST: Duration = Duration::from_millis(500);

struct Snapshot {
    memory: Memory,
    slab_bytes: Option<u64>,
}

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    core::pin(core::CLIENT)?;
    let count = crowd::affordable_count(options.conn_count)?;
    report::print_memory_head(count);
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        let row = measure(options, backend, count)?;
        row.print(backend.name());
        verdict = verdict.and(row.verdict());
    }
    report::print_memory_notes();
    verdict = verdict.and(idle::run(options, count)?);
    report::print_verdict(verdict);
    Ok(verdict)
}

fn measure(options: &Options, backend: Backend, count: usize) -> io::Result<MemoryRow> {
    let server = Server::longwire(options, backend, 1 << 16, count + CONNS_SPARE)?;
    let descriptors_before = server.stat.descriptor_count()?;
    Crowd::open(server.addr(), 1, Manner::WebSocket)?.reset()?;
    server.stat.wait_for_descriptors(|open| open <= descriptors_before)?;
    let before = Snapshot::take(&server)?;
    let crowd = Crowd::open(server.addr(), count, Manner::WebSocket)?;
    server.stat.wait_for_descriptors(|open| open >= descriptors_before + count)?;
    let after = Snapshot::take(&server)?;
    crowd.reset()?;

    let share = |before: u64, after: u64| (after as f64 - before as f64) / count as f64;
    Ok(MemoryRow {
        resident_bytes: share(before.memory.resident_bytes, after.memory.resident_bytes),
        proportional_bytes: share(
            before.memory.proportional_bytes,
            after.memory.proportional_bytes,
        ),
        slab_bytes: before.slab_bytes.zip(after.slab_bytes).map(|(a, b)| share(a, b)),
        bar_bytes: BAR_BYTES,
    })
}

impl Snapshot {
    fn take(server: &Server) -> io::Result<Self> {
        std::thread::sleep(REST);
        server.stat.settled_cpu()?;
        Ok(Self { memory: server.stat.memory()?, slab_bytes: kernel_slab_bytes() })
    }
}
