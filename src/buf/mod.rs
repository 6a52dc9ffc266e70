//! Memory of one core: blocks that are lent to the kernel and to connections, and the pool they
//! come from and return to.
//!
//! An owned [`Block`] has exactly one owner at a time (pool, driver, outbox, inbox), and ownership
//! moves by value. That is what lets the seam to the kernel be safe Rust: a buffer the kernel may
//! write to is a buffer nobody else has. Nothing here knows what the bytes mean.

mod block;
mod pool;
mod segment;

pub(crate) use block::{Block, Shared};
pub(crate) use pool::{Pool, PoolConfig};
pub(crate) use segment::Segment;

/// Bytes of a receive block: a 16 KiB message with its frame header, and a stride that does not
/// put the first line of every block into the same set of the L1 cache.
pub(crate) const RECEIVE_BLOCK_BYTES: usize = 16 * 1024 + 512;

/// Bytes kept free in front of a payload that is collected in a block, so that a reply can put its
/// frame header there and send from the same memory. The longest header has 14 bytes.
pub(crate) const HEADER_ROOM: usize = 16;
