//! Where the blocks of one core come from and return to.
//!
//! Two kinds of memory. *Receive blocks* are few, all of one size, and together fit the L2 cache:
//! every byte that arrives passes through them, so they had better be hot. When all are lent,
//! receiving waits until one returns. *Sized blocks* hold what outlives a turn: unfinished
//! messages, output of slow readers. They come in powers of two, so that a block is never twice
//! what it has to hold, and a bounded number of free ones is kept, because a fresh megabyte costs
//! 256 page faults, more than sending it.
//!
//! INVARIANT: `receive_lent + receive_free.len() <= receive_blocks_max`, save for the one block
//! beyond it that `take_receive_always` lends now and then;
//! `spare_bytes` is the sum of the free sized blocks and at most `spare_bytes_max`.

use super::{Block, HEADER_ROOM, RECEIVE_BLOCK_BYTES};

/// Payload bytes of the smallest sized block.
const CLASS_BYTES_MIN: usize = 256;
/// Sized blocks of this many classes are kept when free: 256 B, 512 B, ... 16 MiB.
const CLASS_COUNT: usize = 17;

/// How much memory a core keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolConfig {
    /// Receive blocks that may be lent at one time.
    pub(crate) receive_blocks_max: usize,
    /// Free sized blocks that are kept for the next message, in bytes.
    pub(crate) spare_bytes_max: usize,
}

/// The blocks of one core.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    receive_free: Vec<Block>,
    receive_lent: usize,
    classes: [Class; CLASS_COUNT],
    spare_bytes: usize,
    sized_lent: usize,
    sized_lent_bytes: usize,
}

/// Free blocks of one size.
#[derive(Debug, Default)]
struct Class {
    free: Vec<Block>,
    /// The fewest free blocks since the last trim: that many were not needed.
    idle_count: usize,
}

impl Pool {
    /// An empty pool; memory is allocated as it is first needed.
    pub(crate) fn new(config: PoolConfig) -> Self {
        assert!(config.receive_blocks_max > 0, "a core receives into at least one block");
        Self {
            config,
            receive_free: Vec::new(),
            receive_lent: 0,
            classes: Default::default(),
            spare_bytes: 0,
            sized_lent: 0,
            sized_lent_bytes: 0,
        }
    }

    /// A receive block, or none when all of them are lent.
    pub(crate) fn take_receive(&mut self) -> Option<Block> {
        (self.receive_lent < self.config.receive_blocks_max).then(|| self.take_receive_always())
    }

    /// A receive block even if all of them are lent, for what is made of the content of one that
    /// is given back soon.
    pub(crate) fn take_receive_always(&mut self) -> Block {
        self.receive_lent += 1;
        self.receive_free.pop().unwrap_or_else(|| Block::zeroed(RECEIVE_BLOCK_BYTES))
    }

    /// A block with room for `payload_bytes` behind [`HEADER_ROOM`].
    pub(crate) fn take(&mut self, payload_bytes: usize) -> Block {
        let class_index = class_of(payload_bytes);
        self.sized_lent += 1;
        self.sized_lent_bytes += class_bytes(class_index);
        if let Some(block) = self.pop_spare(class_index) {
            return block;
        }
        Block::zeroed(class_bytes(class_index))
    }

    /// Makes room for `payload_bytes` in a sized block, of which there will never be more than
    /// `payload_bytes_max`. It moves to a free block, or else grows where it lies: a second block is
    /// never made for it.
    pub(crate) fn grow(
        &mut self,
        block: &mut Block,
        payload_bytes: usize,
        payload_bytes_max: usize,
    ) {
        if block.is_empty() {
            *block = self.take(payload_bytes.min(payload_bytes_max));
        }
        let class_payload_bytes = class_bytes(class_of(payload_bytes)) - HEADER_ROOM;
        let mut bytes = class_payload_bytes.min(payload_bytes_max) + HEADER_ROOM;
        if bytes == RECEIVE_BLOCK_BYTES {
            bytes += 1;
        }
        if bytes <= block.len() {
            return;
        }
        // Else each such message would leave one free block more behind: it is taken from one class
        // and given back to another.
        if bytes == class_payload_bytes + HEADER_ROOM
            && let Some(mut spare) = self.take_spare(payload_bytes)
        {
            spare.bytes_mut()[..block.len()].copy_from_slice(block.bytes());
            self.give(std::mem::replace(block, spare));
            return;
        }
        self.sized_lent_bytes += bytes - block.len();
        block.grow(bytes);
    }

    /// A free block with room for `payload_bytes`, only if the core has one at hand.
    ///
    /// This is how a peer that announces a large message gets its final place at once without an
    /// announcement ever allocating anything.
    pub(crate) fn take_spare(&mut self, payload_bytes: usize) -> Option<Block> {
        let block = self.pop_spare(class_of(payload_bytes))?;
        self.sized_lent += 1;
        self.sized_lent_bytes += block.len();
        Some(block)
    }

    /// Takes any block back. Returns whether receiving may go on that had to wait.
    pub(crate) fn give(&mut self, block: Block) {
        if block.is_shared() || block.is_empty() {
            return;
        }
        if block.len() == RECEIVE_BLOCK_BYTES {
            self.receive_lent -= 1;
            if self.receive_lent + self.receive_free.len() < self.config.receive_blocks_max {
                self.receive_free.push(block);
            }
            return;
        }
        self.sized_lent -= 1;
        self.sized_lent_bytes -= block.len();
        let class_index = class_of(block.len() - HEADER_ROOM);
        // One that grew up to a limit has no class.
        let of_class = class_bytes(class_index) == block.len();
        if !of_class || self.spare_bytes + block.len() > self.config.spare_bytes_max {
            return;
        }
        if let Some(class) = self.classes.get_mut(class_index) {
            self.spare_bytes += block.len();
            class.free.push(block);
        }
    }

    /// Frees half of what was not needed since the last call. Call it about once a second.
    pub(crate) fn trim(&mut self) {
        for class in &mut self.classes {
            let excess = class.idle_count.div_ceil(2);
            for block in class.free.drain(..excess) {
                self.spare_bytes -= block.len();
            }
            class.idle_count = class.free.len();
        }
    }

    /// Frees all sized blocks that are not lent: memory is scarce.
    pub(crate) fn release_spare(&mut self) {
        for class in &mut self.classes {
            *class = Class::default();
        }
        self.spare_bytes = 0;
    }

    /// Whether `trim` still has something to free.
    pub(crate) fn has_spare(&self) -> bool {
        self.spare_bytes > 0
    }

    /// Bytes of all blocks, lent or free.
    pub(crate) fn held_bytes(&self) -> usize {
        let receive_count = self.receive_lent + self.receive_free.len();
        receive_count * RECEIVE_BLOCK_BYTES + self.sized_lent_bytes + self.spare_bytes
    }

    /// Bytes of the free sized blocks.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.spare_bytes
    }

    /// Receive blocks that are not in the pool.
    pub(crate) fn receive_lent(&self) -> usize {
        self.receive_lent
    }

    /// Receive blocks that may still be taken.
    pub(crate) fn receive_available(&self) -> usize {
        self.config.receive_blocks_max.saturating_sub(self.receive_lent)
    }

    /// Blocks of either kind that are not in the pool.
    #[cfg(test)]
    pub(crate) fn lent_count(&self) -> usize {
        self.receive_lent + self.sized_lent
    }

    /// Bytes of the sized blocks that are not in the pool: what peers make the core hold.
    #[cfg(test)]
    pub(crate) fn sized_lent_bytes(&self) -> usize {
        self.sized_lent_bytes
    }

    fn pop_spare(&mut self, class_index: usize) -> Option<Block> {
        let class = self.classes.get_mut(class_index)?;
        let block = class.free.pop()?;
        class.idle_count = class.idle_count.min(class.free.len());
        self.spare_bytes -= block.len();
        Some(block)
    }
}

/// The smallest class with room for `payload_bytes`.
fn class_of(payload_bytes: usize) -> usize {
    let rounded = payload_bytes.max(CLASS_BYTES_MIN).next_power_of_two();
    (rounded / CLASS_BYTES_MIN).trailing_zeros() as usize
}

/// Size of the blocks of a class, the room for a frame header included.
fn class_bytes(class_index: usize) -> usize {
    (CLASS_BYTES_MIN << class_index) + HEADER_ROOM
}

const _: () = assert!(
    !(RECEIVE_BLOCK_BYTES - HEADER_ROOM).is_power_of_two(),
    "the size of a block tells which kind it is"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(PoolConfig { receive_blocks_max: 2, spare_bytes_max: 1 << 20 })
    }

    #[test]
    fn receive_blocks_are_bounded_and_return() {
        let mut pool = pool();
        let first = pool.take_receive().unwrap();
        let _second = pool.take_receive().unwrap();
        assert!(pool.take_receive().is_none());
        pool.give(first);
        assert_eq!(pool.lent_count(), 1);
        assert!(pool.take_receive().is_some());
    }

    #[test]
    fn growing_blocks_leave_no_more_free_ones_behind_than_were_in_use() {
        let mut pool = pool();
        for round in 0..if cfg!(miri) { 10 } else { 100 } {
            let mut block = Block::empty();
            for payload_bytes in [200, 700, 2000] {
                pool.grow(&mut block, payload_bytes, 1 << 16);
                assert!(block.len() >= payload_bytes + HEADER_ROOM);
                let written = [0, 200, 700].iter().rev().find(|&&bytes| bytes < payload_bytes);
                let room = &mut block.bytes_mut()[..payload_bytes];
                assert!(room[..*written.unwrap()].iter().all(|&byte| byte == round));
                room.fill(round);
            }
            pool.give(block);
            assert!(pool.held_bytes() <= 3 * 4096, "{} bytes in round {round}", pool.held_bytes());
        }
        assert_eq!(pool.lent_count(), 0);
    }

    #[test]
    fn sized_block_is_less_than_twice_what_it_holds() {
        let mut pool = pool();
        for bytes in [0, 1, 256, 257, 4096, 5000, 65_536, 65_537, 1 << 20, (1 << 25) + 1] {
            let block = pool.take(bytes);
            assert!(block.len() >= bytes + HEADER_ROOM);
            assert!(block.len() < (2 * bytes).max(CLASS_BYTES_MIN + 1) + HEADER_ROOM, "{bytes}");
            pool.give(block);
        }
        assert_eq!(pool.lent_count(), 0);
    }

    #[test]
    fn block_grows_by_classes_up_to_its_bound() {
        let mut pool = pool();
        let mut block = Block::empty();
        pool.grow(&mut block, 300, 100_000);
        assert_eq!(block.len(), 512 + HEADER_ROOM);
        block.bytes_mut()[500] = 7;
        pool.grow(&mut block, 80_000, 100_000);
        assert_eq!((block.len(), block.bytes()[500]), (100_000 + HEADER_ROOM, 7));
        assert_eq!(pool.sized_lent_bytes(), block.len());
        pool.give(block);
        assert_eq!((pool.sized_lent_bytes(), pool.lent_count()), (0, 0));
        let mut block = Block::empty();
        pool.grow(&mut block, 16_000, RECEIVE_BLOCK_BYTES - HEADER_ROOM);
        pool.grow(&mut block, 16_880, RECEIVE_BLOCK_BYTES - HEADER_ROOM);
        assert_ne!(block.len(), RECEIVE_BLOCK_BYTES, "it is not taken for a receive block");
        pool.give(block);
        assert_eq!(pool.lent_count(), 0);
    }

    #[test]
    fn spare_blocks_are_reused_bounded_and_trimmed() {
        let mut pool = pool();
        assert!(pool.take_spare(5000).is_none(), "an announcement allocates nothing");
        let block = pool.take(5000);
        pool.give(block);
        let block = pool.take_spare(5000).unwrap();
        pool.give(block);
        pool.trim();
        assert!(pool.has_spare(), "it was needed since the last trim");
        pool.trim();
        assert!(!pool.has_spare());
        let large = pool.take(2 << 20);
        pool.give(large);
        assert!(!pool.has_spare(), "larger than all that may be kept");
    }
}
