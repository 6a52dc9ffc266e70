//! What the kernel says about a server process: CPU time, memory, descriptors; and about itself.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A process that is looked at from outside.
#[derive(Debug)]
pub(crate) struct ProcessStat {
    dir: PathBuf,
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident bytes, shared pages counted whole.
    pub(crate) resident_bytes: u64,
    /// Resident bytes, shared pages divided by those who share them.
    pub(crate) proportional_bytes: u64,
}

impl ProcessStat {
    pub(crate) fn new(pid: u32) -> Self {
        Self { dir: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// CPU time of all its threads so far.
    ///
    /// The kernel brings the figure of a running thread up to date only once per tick: ask when
    /// the server is asleep, and it is exact.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(self.dir.join("task"))? {
            let path = task?.path().join("schedstat");
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                // A thread that ended between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let field = text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
            nanos += field.ok_or_else(|| malformed(&path.display().to_string()))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Waits until the server has slept for a moment, then returns its CPU time.
    pub(crate) fn settled_cpu(&self) -> io::Result<Duration> {
        const CALM: Duration = Duration::from_millis(20);
        // A server's own clock may tick now and then; that is not work left over.
        const TICKS_MAX: Duration = Duration::from_micros(200);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut before = self.cpu()?;
        loop {
            std::thread::sleep(CALM);
            let now = self.cpu()?;
            if now - before <= TICKS_MAX {
                return Ok(now);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the server is busy although nobody talks to it"));
            }
            before = now;
        }
    }

    /// Open descriptors.
    pub(crate) fn descriptor_count(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.dir.join("fd"))?.count())
    }

    /// Waits until `holds` is true of the number of descriptors.
    pub(crate) fn wait_for_descriptors(&self, holds: impl Fn(usize) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let count = self.descriptor_count()?;
            if holds(count) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "the server still holds {count} descriptors: it did not accept all \
                     connections, or did not close those that ended"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Forgets how much was resident at its peak.
    pub(crate) fn reset_resident_peak(&self) -> io::Result<()> {
        // proc(5): 5 resets the peak to what is resident now.
        fs::write(self.dir.join("clear_refs"), "5")
    }

    /// How much was resident at its peak, since it was reset.
    pub(crate) fn resident_peak_bytes(&self) -> io::Result<u64> {
        let path = self.dir.join("status");
        let text = fs::read_to_string(&path)?;
        text.lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
            .map(|kib: u64| kib * 1024)
            .ok_or_else(|| malformed(&path.display().to_string()))
    }

    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let path = self.dir.join("smaps_rollup");
        let text = fs::read_to_string(&path)?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
                .map(|kib: u64| kib * 1024)
                .ok_or_else(|| malformed(&path.display().to_string()))
        };
        Ok(Memory { resident_bytes: field("Rss:")?, proportional_bytes: field("Pss:")? })
    }
}

/// Bytes of all live objects of the kernel's slab caches; none where that is not readable.
///
/// The whole machine's, both ends of each loopback connection included.
pub(crate) fn kernel_slab_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let mut bytes = 0;
    // Two lines of heading, then: name active_objs num_objs objsize ...
    for line in text.lines().skip(2) {
        let mut fields = line.split_whitespace().skip(1);
        let active_count: u64 = fields.next()?.parse().ok()?;
        let object_bytes: u64 = fields.nth(1)?.parse().ok()?;
        bytes += active_count * object_bytes;
    }
    Some(bytes)
}

fn malformed(path: &str) -> io::Error {
    io::Error::other(format!("{path} does not look as expected"))
}
