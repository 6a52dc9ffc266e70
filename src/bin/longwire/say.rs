//! What a server says on its standard streams while it runs.
//!
//! Whoever reads them may be gone: a pager that was left, a collector of logs that restarts. The
//! macros of the standard library panic then, and would take the thread with them that heeds signals.
//! Or they are there and do not read, and who writes into a full pipe waits for them: a line for which
//! there is no room soon is left out.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a line waits for room.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Says a line on standard output, if somebody listens.
pub(crate) fn say(line: impl Display) {
    if has_room(io::stdout()) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Says on standard error what went wrong, if somebody listens.
pub(crate) fn complain(line: impl Display) {
    if has_room(io::stderr()) {
        let _ = writeln!(io::stderr(), "longwire: {line}");
    }
}

/// Whether a line can be written without waiting: a pipe that has room has it for a page.
fn has_room(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&stream, PollFlags::OUT)];
    poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready_count| ready_count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_pipe_has_no_room_and_one_that_nobody_reads_does_not_wait() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(has_room(&writer));
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while writer.write(&[b'x'; 4096]).is_ok() {}
        assert!(!has_room(&writer));
        drop(reader);
        assert!(has_room(&writer), "to be told that it is in vain");
    }
}
