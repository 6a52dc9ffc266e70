//! A run of bytes on its way out, and the block that holds it.

use super::Block;

/// The bytes `start..end` of a block, still to be sent.
///
/// INVARIANT: `start <= end <= block.len()`, except while `block` is lent elsewhere and stands
/// empty here (see `conn::outbox`).
#[derive(Debug)]
pub(crate) struct Segment {
    /// The memory that holds the bytes.
    pub(crate) block: Block,
    /// First byte not yet sent.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
}

impl Segment {
    /// The bytes `start..end` of `block`.
    pub(crate) fn new(block: Block, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= block.len(), "a segment lies within its block");
        Self { block, start, end }
    }

    /// Bytes still to be sent.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The bytes still to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.block.bytes()[self.start..self.end]
    }
}
