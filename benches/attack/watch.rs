//! What the kernel says about the server while it is attacked: descriptors, memory, CPU time.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A process that is looked at from outside.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    folder: PathBuf,
}

/// What it has at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    pub(crate) descriptor_count: usize,
    pub(crate) resident_bytes: u64,
    /// Address space, reserved or used.
    pub(crate) virtual_bytes: u64,
}

impl Look {
    /// The larger of each figure.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            descriptor_count: self.descriptor_count.max(other.descriptor_count),
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
            virtual_bytes: self.virtual_bytes.max(other.virtual_bytes),
        }
    }
}

impl Watch {
    pub(crate) fn new(pid: u32) -> Self {
        Self { folder: PathBuf::from(format!("/proc/{pid}")) }
    }

    pub(crate) fn look(&self) -> io::Result<Look> {
        let status = fs::read_to_string(self.folder.join("status"))?;
        let bytes = |name: &str| {
            let kib = status.lines().find_map(|line| {
                line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok()
            });
            // A process that has ended but was not waited for has no memory.
            kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("the server has ended"))
        };
        Ok(Look {
            descriptor_count: fs::read_dir(self.folder.join("fd"))?.count(),
            resident_bytes: bytes("VmRSS:")?,
            virtual_bytes: bytes("VmSize:")?,
        })
    }

    /// What its threads had of the CPU so far.
    pub(crate) fn work(&self) -> io::Result<Work> {
        let mut work = Work::default();
        for task in fs::read_dir(self.folder.join("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let mut nanos = text.split_whitespace().map(|field| field.parse().unwrap_or_default());
            work.ran += Duration::from_nanos(nanos.next().unwrap_or_default());
            work.stood_in_line += Duration::from_nanos(nanos.next().unwrap_or_default());
        }
        Ok(work)
    }
}

/// Time of all threads of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) ran: Duration,
    /// Ready to run while the core ran something else.
    pub(crate) stood_in_line: Duration,
}

impl Work {
    /// What came to it since then, in parts of that time.
    pub(crate) fn since(self, before: Self, time: Duration) -> Share {
        let share =
            |now: Duration, before: Duration| (now - before).as_secs_f64() / time.as_secs_f64();
        Share {
            ran: share(self.ran, before.ran),
            stood_in_line: share(self.stood_in_line, before.stood_in_line),
        }
    }
}

/// Parts of a stretch of time; 1 is all of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) ran: f64,
    pub(crate) stood_in_line: f64,
}
