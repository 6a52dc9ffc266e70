//! Which core does what. Server and client never share one, so neither pays for the other.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the server under test, and of the bare servers.
pub(crate) const SERVER: usize = 0;
/// The core of the client.
pub(crate) const CLIENT: usize = 1;

/// Pins the calling thread to one core.
pub(crate) fn pin(core_index: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core_index);
    sched_setaffinity(None, &cores).map_err(|error| {
        io::Error::other(format!(
            "cannot run on core {core_index}: {error}; cores {SERVER} and {CLIENT} are both needed"
        ))
    })
}

/// Lets the calling thread run on every core again.
///
/// A process inherits the mask of the thread that starts it, and a server that finds itself
/// confined to the client's core would rightly refuse to use its own.
pub(crate) fn unpin() -> io::Result<()> {
    let mut cores = CpuSet::new();
    // The kernel takes away those that do not exist or are not ours.
    for core_index in 0..CpuSet::MAX_CPU {
        cores.set(core_index);
    }
    Ok(sched_setaffinity(None, &cores)?)
}
