//! One piece of memory: owned, or shared by many who only read it.
//!
//! Owned blocks are always initialised: they start as zero pages (which cost nothing until touched)
//! and later hold whatever was received last, so no code path can read memory that was never
//! written. A shared block is what a published message becomes: written once, then sent to many.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// A piece of memory of fixed size. `Block::empty()` owns nothing and allocates nothing.
pub(crate) struct Block(Memory);

enum Memory {
    Owned(Box<[u8]>),
    Shared(Rc<Shared>),
}

const _: () = assert!(size_of::<Block>() == 16, "every queued segment has one");

/// Memory that many queues of a core send from.
pub(crate) struct Shared {
    bytes: Vec<u8>,
    /// Counts the bytes of all that are alive.
    alive_bytes: Rc<Cell<usize>>,
}

impl Shared {
    /// Memory that counts in `alive_bytes` until the last who sends from it is done.
    pub(crate) fn new(bytes: Vec<u8>, alive_bytes: &Rc<Cell<usize>>) -> Rc<Self> {
        alive_bytes.set(alive_bytes.get() + bytes.capacity());
        Rc::new(Self { bytes, alive_bytes: Rc::clone(alive_bytes) })
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.alive_bytes.set(self.alive_bytes.get() - self.bytes.capacity());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} bytes)", self.bytes.len())
    }
}

impl Block {
    /// A block of `bytes` zero bytes. Large ones are fresh zero pages, resident once touched.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        Self(Memory::Owned(vec![0; bytes].into_boxed_slice()))
    }

    /// The block that owns no memory.
    pub(crate) fn empty() -> Self {
        Self(Memory::Owned(Box::default()))
    }

    /// One more reader of shared memory.
    pub(crate) fn shared(memory: &Rc<Shared>) -> Self {
        Self(Memory::Shared(Rc::clone(memory)))
    }

    /// Whether others may read this memory, too, so that it is never written to.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.0, Memory::Shared(_))
    }

    /// Makes the block larger, where it lies if the allocator can; what is new is zero.
    pub(super) fn grow(&mut self, bytes: usize) {
        let Memory::Owned(memory) = &mut self.0 else { unreachable!("shared memory is full") };
        let mut grown = std::mem::take(memory).into_vec();
        grown.reserve_exact(bytes - grown.len());
        grown.resize(bytes, 0);
        *memory = grown.into_boxed_slice();
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether this is the block that owns no memory.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Memory::Owned(bytes) => bytes,
            Memory::Shared(shared) => shared.bytes(),
        }
    }

    /// All bytes, to write to. The memory must not be shared.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Owned(bytes) => bytes,
            Memory::Shared(_) => unreachable!("shared memory is only read"),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}
