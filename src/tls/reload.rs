//! Exchanges the configuration while the server runs: on demand, or when the files have changed.
//!
//! INVARIANT: a reload that fails changes nothing. Those who renew certificates write files one
//! after the other, so a watcher acts only on files that stayed as they are for one interval.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::{TlsError, TlsWarning};
use super::validity::Date;
use super::{Parts, Tls, lock};

const WATCH_INTERVAL_DEFAULT: Duration = Duration::from_secs(2);
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What a reload brought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Number of the configuration now in use; the first has 1.
    pub generation: u64,
    /// How many certificates it has.
    pub certificates: usize,
    /// What is odd about them.
    pub warnings: Vec<TlsWarning>,
    valid_until: Date,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificates = if self.certificates == 1 { "certificate" } else { "certificates" };
        write!(f, "{} {certificates}, valid until {}", self.certificates, self.valid_until)
    }
}

impl Tls {
    /// Reads all files again. Handshakes that begin from now on use what they hold; connections
    /// and handshakes under way keep what they began with. It is done by whoever calls: give it a
    /// thread that may wait for a disk.
    ///
    /// With client certificates, sessions from before do not resume; without, they do.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files); then everything stays as it was.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let _one_at_a_time = lock(&self.shared.reloading);
        let parts = self.parts().read_again()?;
        let certificates = parts.certificates.len();
        let warnings = parts.warnings();
        let valid_until = parts.valid_until();
        let generation = self.replace(parts);
        Ok(Reloaded { generation, certificates, warnings, valid_until })
    }

    /// Whether a file differs from what is in use, by its time of change, length or inode.
    pub fn changed_on_disk(&self) -> bool {
        let parts = self.parts();
        parts.reading() != parts.reading_in_use()
    }
}

impl Parts {
    fn valid_until(&self) -> Date {
        let dates = self.certificates.iter().map(|certificate| certificate.validity.not_after);
        dates.min().expect("a configuration has a certificate")
    }

    fn reading(&self) -> Reading {
        let stamps = self.files().map(|file| fs::metadata(&file.path).ok().map(|m| Stamp::of(&m)));
        Reading(stamps.collect())
    }

    fn reading_in_use(&self) -> Reading {
        Reading(self.files().map(|file| Some(file.stamp)).collect())
    }
}

/// What tells a file from another, or from itself after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// All files at one time; `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading(Vec<Option<Stamp>>);

/// Reloads a [`Tls`] when its files change, from a thread of its own, and logs what came of it.
///
/// Stops when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct TlsWatcher {
    /// Dropped to wake the thread and end it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsWatcher {
    /// Looks at the files every two seconds. New files are in use two to four seconds after the
    /// last change to one of them.
    ///
    /// # Errors
    ///
    /// If the kernel gives no thread.
    pub fn start(tls: &Tls) -> io::Result<Self> {
        Self::start_every(tls, WATCH_INTERVAL_DEFAULT)
    }

    /// The same with another interval, of at least 10 ms.
    ///
    /// # Errors
    ///
    /// If the kernel gives no thread.
    pub fn start_every(tls: &Tls, interval: Duration) -> io::Result<Self> {
        let interval = interval.max(WATCH_INTERVAL_MIN);
        let tls = tls.clone();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("longwire-tls".to_owned())
            .spawn(move || watch(&tls, interval, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for TlsWatcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(tls: &Tls, interval: Duration, stopped: &Receiver<()>) {
    let mut watch = Watch::new(tls.parts().reading_in_use());
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        if !watch.handle_reading(tls.parts().reading()) {
            continue;
        }
        if !tls.changed_on_disk() {
            // Somebody else has reloaded meanwhile.
            continue;
        }
        match tls.reload() {
            Ok(reloaded) => {
                tracing::info!("TLS files changed and are in use: {reloaded}");
                for warning in &reloaded.warnings {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => tracing::error!("TLS files changed, the old ones stay in use: {error}"),
        }
    }
}

/// Decides when files are worth reading.
#[derive(Debug)]
struct Watch {
    /// What was last acted on, whatever came of it: a bad file is reported once.
    acted_on: Reading,
    last: Reading,
}

impl Watch {
    fn new(in_use: Reading) -> Self {
        Self { acted_on: in_use.clone(), last: in_use }
    }

    /// Whether to reload: two readings in a row are equal, and not what was acted on before.
    fn handle_reading(&mut self, reading: Reading) -> bool {
        let settled = reading == self.last;
        self.last = reading;
        if !settled || self.last == self.acted_on {
            return false;
        }
        self.acted_on = self.last.clone();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(len: u64) -> Reading {
        Reading(vec![Some(Stamp { device: 1, inode: 2, len, modified: (3, 4) }), None])
    }

    #[test]
    fn a_file_is_read_when_it_has_stayed_the_same_and_only_once() {
        let mut watch = Watch::new(reading(0));
        let lens = [0, 1, 2, 2, 2, 3, 2, 2, 0, 0, 0];
        let expected = [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0];
        for (len, expected) in lens.into_iter().zip(expected) {
            assert_eq!(watch.handle_reading(reading(len)), expected == 1, "length {len}");
        }
    }
}
