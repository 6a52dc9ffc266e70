//! Connections kept as direct descriptors: slots of the ring's file table, outside the descriptor
//! table of the process.
//!
//! There is no system call on a slot, so closing it, shutting it down and making it reset are
//! operations of the ring. `shutdown` there runs on a thread of the kernel: that is the price.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use super::UringDriver;
use super::user_data::{NOBODY, Op};
use crate::io::Token;
use crate::io::table::SHUTTING;

/// `struct linger` of a close that resets. Static, because the kernel reads it later.
static RESET: [i32; 2] = [1, 0];
/// `SOL_SOCKET`, `SO_LINGER` and `SHUT_WR` of Linux.
const SOL_SOCKET: u32 = 1;
const SO_LINGER: u32 = 13;
const SHUT_WR: i32 = 1;

/// An accepted socket that is not attached yet. Dropping it closes it.
#[derive(Debug)]
pub(crate) enum Socket {
    /// A descriptor of the process.
    Descriptor(OwnedFd),
    /// A slot of the ring.
    Slot(SlotGuard),
}

/// Owns a slot. The ring closes it at the next wait after this is dropped.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    slot: u32,
    dropped: Rc<RefCell<Vec<u32>>>,
}

/// The file table of a ring.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Slots of sockets that were dropped instead of attached.
    dropped: Rc<RefCell<Vec<u32>>>,
}

impl Slots {
    /// The owner of a slot the kernel has just filled.
    pub(super) fn own(&self, slot: u32) -> Socket {
        Socket::Slot(SlotGuard { slot, dropped: Rc::clone(&self.dropped) })
    }
}

impl Socket {
    /// The descriptor or the slot, owned by the caller from here on.
    pub(super) fn into_raw(self) -> RawFd {
        match self {
            Self::Descriptor(fd) => fd.into_raw_fd(),
            Self::Slot(mut guard) => {
                // What is left of the guard is dropped without a slot to close.
                let slot = std::mem::replace(&mut guard.slot, u32::MAX);
                RawFd::try_from(slot).expect("a table has at most 2^20 slots")
            }
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if self.slot != u32::MAX {
            self.dropped.borrow_mut().push(self.slot);
        }
    }
}

impl UringDriver {
    /// Submits the close of a slot; its completion is what `Closed` waits for.
    pub(super) fn close_slot(&mut self, token: Token) {
        if let Some(slot) = self.table.take_raw(token).and_then(|slot| u32::try_from(slot).ok()) {
            self.push(opcode::Close::new(types::Fixed(slot)).build(), Op::Close, token);
        }
    }

    /// Takes in a socket of this process, in the file table instead of the descriptor table.
    ///
    /// Its slot is the index of the token, which is in use by one connection at a time. A ring
    /// either accepts or connects, so the kernel never chooses the slot of another.
    pub(super) fn insert_slot(&mut self, token: Token, socket: BorrowedFd<'_>) -> io::Result<()> {
        assert!(
            self.accepting.listeners.is_empty(),
            "the kernel chooses the slots of what it accepts"
        );
        self.ring.update_slot(token.index, socket.as_raw_fd())?;
        let slot = RawFd::try_from(token.index).expect("a table has at most 2^20 slots");
        self.table.insert_raw(token, slot);
        Ok(())
    }

    /// Submits the closes of sockets that were not attached.
    pub(super) fn close_dropped_slots(&mut self) {
        let Some(slots) = &self.slots else { return };
        for slot in slots.dropped.take() {
            self.push(opcode::Close::new(types::Fixed(slot)).build(), Op::Unattended, NOBODY);
        }
    }

    /// Submits a shutdown of the write side.
    ///
    /// The close of the slot waits for it: the kernel's thread looks the slot up when it runs, and
    /// would shut down the connection of the next owner.
    pub(super) fn shutdown_slot(&mut self, token: Token) {
        let Some(entry) = self.table.find_open(token).filter(|entry| !entry.has(SHUTTING)) else {
            return;
        };
        entry.flags |= SHUTTING;
        let shutdown = opcode::Shutdown::new(types::Fd(entry.fd), SHUT_WR).build();
        self.push_for_conn(shutdown, Op::Shutdown, token);
    }

    /// Makes the close of a slot drop what is queued and reset. Linux before 6.7 cannot, and
    /// closes in an orderly way.
    pub(super) fn reset_slot_on_close(&mut self, token: Token) {
        let Some(fd) = self.table.find(token).map(|entry| entry.fd) else { return };
        let value = RESET.as_ptr().cast();
        let bytes = u32::try_from(size_of_val(&RESET)).expect("8 bytes");
        let option =
            opcode::SetSockOpt::new(types::Fd(fd), SOL_SOCKET, SO_LINGER, value, bytes).build();
        self.push(option.flags(Flags::FIXED_FILE), Op::Unattended, token);
    }
}
