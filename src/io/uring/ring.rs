//! The two queues shared with the kernel: nothing submitted is dropped, nothing completed is lost.
//!
//! It knows of entries and counts, not of what they mean.
//!
//! INVARIANT: operations reach the kernel in the order of `push`, and completions are handed out
//! in the order the kernel posted them.

#![expect(unsafe_code, reason = "an entry of the ring may refer to memory")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use rustix::io::Errno;

use crate::io::Health;

/// How often an enter is tried that the kernel turns away for lack of room, before the operations
/// are left for the next turn.
const ATTEMPTS_MAX: usize = 4;

/// A ring, and what does not fit into its queues.
pub(super) struct Ring {
    ring: IoUring,
    /// Operations that found the queue full and the kernel unwilling.
    unsubmitted: VecDeque<squeue::Entry>,
    /// Completions that were taken out, so that the kernel has room for more.
    backlog: VecDeque<cqueue::Entry>,
    health: Health,
}

impl Ring {
    pub(super) fn new(ring: IoUring) -> Self {
        let (unsubmitted, backlog) = (VecDeque::new(), VecDeque::new());
        Self { ring, unsubmitted, backlog, health: Health::default() }
    }

    /// Adds an operation.
    ///
    /// # Safety
    ///
    /// Memory that `entry` refers to must stay where it is, and be touched by nobody else, until
    /// the completion of the operation was handed out.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.unsubmitted.push_back(entry);
        if self.fill() {
            return;
        }
        self.health.submission_stalls += 1;
        // The error, if it lasts, is the next wait's to report: the operation is kept.
        let _ = self.submit();
    }

    /// Hands everything to the kernel, and does not wait.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enter(0, Some(Duration::ZERO))
    }

    /// Hands everything to the kernel, and waits until it has `want` completions, `timeout` at
    /// most.
    pub(super) fn submit_and_wait(
        &mut self,
        want: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.enter(want, timeout)
    }

    /// The next completion.
    pub(super) fn next_completion(&mut self) -> Option<cqueue::Entry> {
        if let Some(completion) = self.backlog.pop_front() {
            return Some(completion);
        }
        if let Some(completion) = self.ring.completion().next() {
            return Some(completion);
        }
        if !self.ring.submission().cq_overflow() {
            return None;
        }
        // The kernel keeps more than there was room for. An enter moves them over.
        self.health.completion_overflows += 1;
        let count = self.health.completion_overflows;
        tracing::debug!(count, "the ring has had more completions than room");
        let _ = self.ring.submitter().submit_with_args(0, &SubmitArgs::new());
        self.ring.completion().next()
    }

    /// Fills a slot of the file table, at once.
    pub(super) fn update_slot(&self, slot: u32, fd: RawFd) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[fd]).map(|_| ())
    }

    /// What was counted so far; it knows nothing of receives.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Whether `next_completion` has something.
    pub(super) fn has_completion(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.completion().is_empty()
    }

    /// Whether an enter that does not wait would do anything.
    pub(super) fn needs_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !self.unsubmitted.is_empty()
    }

    /// Moves operations into the queue. Returns whether all are in.
    fn fill(&mut self) -> bool {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.unsubmitted.front() {
            // SAFETY: whoever pushed the entry vouches for the memory it refers to.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.unsubmitted.pop_front();
        }
        true
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS_MAX {
            // Waiting is for when all is submitted: an operation left behind might be the one
            // whose completion is waited for.
            let want = if self.fill() { want } else { 0 };
            result = self.enter_once(want, timeout);
            match result.as_ref().map_err(io::Error::raw_os_error) {
                Ok(()) if self.unsubmitted.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(Some(code)) if is_lack_of_room(Errno::from_raw_os_error(code)) => {
                    self.make_room();
                }
                Err(_) => return result,
            }
        }
        match result {
            // What is left is tried again with the next enter.
            Err(error) if !error.raw_os_error().is_some_and(is_busy) => Err(error),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    fn enter_once(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let entered = match timeout.filter(|_| want > 0) {
            None => submitter.submit_with_args(want, &SubmitArgs::new()),
            Some(timeout) => {
                let limit = Timespec::from(timeout);
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&limit))
            }
        };
        self.health.waits += 1;
        match entered {
            Ok(submitted) => {
                self.health.submissions += submitted as u64;
                Ok(())
            }
            Err(error) if is_end_of_wait(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The kernel refuses work while it has more completions than room: takes them out.
    fn make_room(&mut self) {
        self.backlog.extend(self.ring.completion());
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} unsubmitted, {} in backlog)", self.unsubmitted.len(), self.backlog.len())
    }
}

fn is_lack_of_room(errno: Errno) -> bool {
    matches!(errno, Errno::BUSY | Errno::AGAIN)
}

fn is_busy(code: i32) -> bool {
    is_lack_of_room(Errno::from_raw_os_error(code))
}

/// Time is up, or a signal came: either way the worker shall turn.
fn is_end_of_wait(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::TIME | Errno::INTR))
}
