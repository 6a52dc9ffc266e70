//! What a connection and a worker take, in one place, as measured: `docs/MEMORY.md` and
//! `docs/BENCHMARKS.md` say how.

/// Memory of the kernel for an accepted socket that nothing is sent on: half of the 8,736 bytes of
/// slab objects for both ends of a connection on io_uring (`make bench-memory`). Some 3,830 of them
/// are the socket; 256 are a multishot poll, in place of which epoll has 208.
const KERNEL_BYTES: u64 = 4_368;
/// Of the process for an idle connection: 168.4 bytes with a million over 55 workers, the most that
/// was measured (`make c1m`); 95 to 127 with one worker (`make bench-memory`).
const PLAIN_BYTES: u64 = 169;
/// The same over TLS 1.3: 2.5 KiB with 15,000 connections, of which 2.3 KiB are keys.
const TLS_BYTES: u64 = 2_611;
/// An entry of connection tracking, with its place in the hash table.
const TRACKED_BYTES: u64 = 320;

/// What a worker owns, whatever it holds: receive blocks of 1,056 KiB, a ring of 160 KiB, a stack.
pub(super) const WORKER_BYTES: u64 = 1_536 << 10;
/// Memory of a worker's ring, which users without `CAP_IPC_LOCK` have to be allowed to lock.
pub(super) const RING_BYTES: u64 = 160 << 10;
/// What the process owns before its first connection.
pub(super) const PROCESS_BYTES: u64 = 16 << 20;
/// Part of the memory that is not planned for: messages on their way, queues, the rest of the
/// machine.
pub(super) const SPARE_PERCENT: u64 = 10;

/// Descriptors of a process beside its connections and workers.
const PROCESS_DESCRIPTORS: u64 = 64;
/// Descriptors of a worker: ring or epoll, wake handle, one in reserve, and a listener.
const WORKER_DESCRIPTORS: u64 = 4;
/// Slots of the file table of a ring that the kernel allows at most.
pub(super) const RING_SLOTS_MAX: u64 = 1 << 20;
/// Workers that a server may have.
pub(super) const WORKERS_MAX: u64 = 1024;

/// Connections of one worker that may wait to be accepted: the default of `--backlog`.
pub(super) const BACKLOG: u64 = 4096;

/// Bytes of an idle connection, in the process and in the kernel.
pub(super) fn conn_bytes(tls: bool, tracked: bool) -> u64 {
    let kernel = KERNEL_BYTES + if tracked { TRACKED_BYTES } else { 0 };
    kernel + if tls { TLS_BYTES } else { PLAIN_BYTES }
}

/// Bytes of a server without connections.
pub(super) fn server_bytes(workers: u64) -> u64 {
    PROCESS_BYTES + workers * WORKER_BYTES
}

/// Descriptors of a server without connections.
pub(super) fn server_descriptors(workers: u64) -> u64 {
    PROCESS_DESCRIPTORS + workers * WORKER_DESCRIPTORS
}

/// Connections to plan for so many rings that hold `slots` each.
///
/// The kernel spreads connections over the workers by a hash, so some get more than others. The
/// fullest of a thousand is within six deviations of the mean; a tenth less than full leaves room
/// for clients that hash worse than chance.
pub(super) fn planned(rings: u64, slots: u64) -> u64 {
    let by_chance = slots.saturating_sub(6 * slots.isqrt());
    (rings * by_chance).min(rings * slots * 10 / 11)
}
