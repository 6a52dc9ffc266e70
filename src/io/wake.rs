//! The handle by which other threads end a worker's wait.
//!
//! An eventfd rather than a message on the ring: a write to it works for every backend, from any
//! thread, and many writes between two turns are one event.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one worker. Clones wake the same worker.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    fd: Arc<OwnedFd>,
}

impl Wake {
    /// A new wake handle.
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Ends the current or the next wait of the worker.
    pub(crate) fn wake(&self) {
        // It fails only when the counter is full, and then the worker is about to wake anyway.
        let _ = rustix::io::write(&*self.fd, &1u64.to_ne_bytes());
    }

    /// Forgets the wakes so far. A driver calls it before it reports `Completion::Woken`.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.fd, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
