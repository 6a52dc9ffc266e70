//! Sockets that a service manager has opened for this process (`sd_listen_fds(3)`).
//!
//! They are the descriptors from 3 on; how many, for which process, and what they are called stands
//! in the environment.

#![expect(unsafe_code, reason = "what is inherited comes as a number")]

use std::env;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first descriptor that is handed to a process beside its standard ones.
const FIRST: RawFd = 3;
/// More than any service has.
const COUNT_MAX: RawFd = 4096;

/// Sockets that systemd, or whoever keeps its protocol, has opened for this process
/// (`LISTEN_FDS`), each with its name (`LISTEN_FDNAMES`, `FileDescriptorName=` of the socket unit).
/// None if there are none, or they are for another process. The first call takes them; later
/// ones find none. For [`Builder::inherit`](crate::Builder::inherit).
///
/// # Errors
///
/// The environment promises descriptors that are not open.
pub fn listen_fds() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let value = |name| env::var(name).unwrap_or_default();
    let count = promised(&value("LISTEN_PID"), &value("LISTEN_FDS"), std::process::id());
    if count == 0 || TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let names = value("LISTEN_FDNAMES");
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    let fds = FIRST..FIRST + count;
    for fd in fds.clone() {
        // SAFETY: it is only asked about; the kernel says EBADF if nothing is open there.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // A child of this process is not meant.
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    // SAFETY: it is open, as was just seen; whoever started this process has made it for nobody
    // else, says the environment; and `TAKEN` sees to it that there is one owner.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(names.zip(fds.map(own)).collect())
}

/// How many descriptors are promised to the process of this number.
fn promised(pid: &str, count: &str, own_pid: u32) -> RawFd {
    if pid.parse() != Ok(own_pid) {
        return 0;
    }
    count.parse().unwrap_or(0).clamp(0, COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_another_process_are_not_taken() {
        assert_eq!(promised("7", "2", 7), 2);
        for (pid, count) in [("8", "2"), ("", "2"), ("7", ""), ("7", "-1"), ("7", "x"), ("x", "2")]
        {
            assert_eq!(promised(pid, count, 7), 0, "{pid}, {count}");
        }
        assert_eq!(promised("7", "99999999", 7), COUNT_MAX);
    }
}
