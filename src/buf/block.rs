//! One owned piece of memory.
//!
//! Blocks are always initialised: they start as zero pages (which cost nothing until touched) and
//! later hold whatever was received last, so no code path can read memory that was never written.

use std::fmt;

/// An owned piece of memory of fixed size. `Block::empty()` owns nothing and allocates nothing.
pub(crate) struct Block(Box<[u8]>);

impl Block {
    /// A block of `bytes` zero bytes. Large ones are fresh zero pages, resident once touched.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        Self(vec![0; bytes].into_boxed_slice())
    }

    /// The block that owns no memory.
    pub(crate) fn empty() -> Self {
        Self(Box::default())
    }

    /// Makes the block larger, where it lies if the allocator can; what is new is zero.
    pub(super) fn grow(&mut self, bytes: usize) {
        let mut memory = std::mem::take(&mut self.0).into_vec();
        memory.reserve_exact(bytes - memory.len());
        memory.resize(bytes, 0);
        self.0 = memory.into_boxed_slice();
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the block that owns no memory.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All bytes, to write to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}
