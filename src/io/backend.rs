//! Which driver a process runs on, and what a driver is made from.
//!
//! The choice is made once, at start, by running what the io_uring driver needs: kernels, seccomp
//! profiles and sysctls forbid and lack so many parts of it that a version number says little.

use std::fmt;
#[cfg(test)]
use std::io;
use std::str::FromStr;

use super::socket::Listener;
use super::uring;
use super::wake::Wake;

/// How a server talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Operations are handed over and answered in batches, through memory shared with the kernel.
    IoUring,
    /// A system call for each receive and send. Works everywhere.
    Epoll,
}

/// Which [`Backend`] a server shall use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring if all that is needed of it works here, otherwise epoll.
    #[default]
    Auto,
    /// io_uring, or fail with the reason why it does not work here.
    IoUring,
    /// epoll.
    Epoll,
}

/// What a driver is made from.
#[derive(Debug)]
pub(crate) struct DriverSetup {
    /// Where peers connect; none if this process does all the connecting.
    pub(crate) listeners: Vec<Listener>,
    /// How other threads end a wait.
    pub(crate) wake: Wake,
    /// Connections there is room for without growing. Address space, not memory.
    pub(crate) conns_max: u32,
    /// io_uring only: keep connections in a file table of the ring.
    pub(crate) direct_descriptors: bool,
    /// io_uring only: operations submitted at once; completions have four times as many.
    pub(crate) ring_entries: u32,
}

/// Entries of a worker's ring: more than are ready in a busy turn. With the completions 160 KiB.
pub(crate) const RING_ENTRIES: u32 = 1024;

/// The backend for `choice`, and why, in one line.
///
/// Fails, with the reason, if io_uring was asked for and does not work here.
pub(crate) fn choose(choice: BackendChoice) -> Result<(Backend, String), String> {
    choose_by(choice, || uring::probe::probe(false))
}

fn choose_by(
    choice: BackendChoice,
    probe: impl FnOnce() -> Result<(), uring::probe::ProbeError>,
) -> Result<(Backend, String), String> {
    if choice == BackendChoice::Epoll {
        return Ok((Backend::Epoll, "epoll: as configured".to_owned()));
    }
    match (probe(), choice) {
        (Ok(()), _) => {
            let why = format!("io_uring: kernel {}, all operations probed", kernel_release());
            Ok((Backend::IoUring, why))
        }
        (Err(error), BackendChoice::Auto) => Ok((Backend::Epoll, format!("epoll: {error}"))),
        (Err(error), BackendChoice::IoUring | BackendChoice::Epoll) => {
            Err(format!("io_uring does not work here: {error}; use epoll, or auto"))
        }
    }
}

impl Backend {
    /// Its name, as in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// Whether it works here, found out as a server does at its start: by using it. With
    /// `direct_descriptors`, connections are kept in the file table of a ring meanwhile, and the
    /// table is as large as a worker's can be.
    ///
    /// # Errors
    ///
    /// The reason why it does not, in one line.
    pub fn probe(self, direct_descriptors: bool) -> Result<(), String> {
        match self {
            Self::IoUring => uring::probe::probe(direct_descriptors).map_err(|e| e.to_string()),
            Self::Epoll if direct_descriptors => Err("epoll has no direct descriptors".to_owned()),
            Self::Epoll => Ok(()),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BackendChoice {
    type Err = UnknownBackend;

    /// Reads `auto`, `io_uring` or `epoll`.
    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        match name {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(UnknownBackend(())),
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::IoUring => Backend::IoUring.name(),
            Self::Epoll => Backend::Epoll.name(),
        })
    }
}

/// A name that is none of a [`BackendChoice`]. Write `auto`, `io_uring` or `epoll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBackend(());

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a backend is one of auto, io_uring and epoll")
    }
}

impl std::error::Error for UnknownBackend {}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::uring::probe::ProbeError;

    fn forbidden() -> Result<(), ProbeError> {
        Err(ProbeError::Setup(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "io_uring_setup: Operation not permitted",
        )))
    }

    #[test]
    fn u01_auto_takes_epoll_where_io_uring_is_forbidden_and_says_why() {
        let (backend, why) = choose_by(BackendChoice::Auto, forbidden).unwrap();
        assert_eq!(backend, Backend::Epoll);
        assert_eq!(why, "epoll: io_uring_setup: Operation not permitted");
        assert!(!why.contains('\n'));
    }

    #[test]
    fn u01_io_uring_that_was_asked_for_and_is_forbidden_is_an_error() {
        let why = choose_by(BackendChoice::IoUring, forbidden).unwrap_err();
        assert!(why.contains("Operation not permitted"), "{why}");
    }

    #[test]
    fn auto_takes_io_uring_where_it_works() {
        let (backend, why) = choose_by(BackendChoice::Auto, || Ok(())).unwrap();
        assert_eq!(backend, Backend::IoUring);
        assert!(why.starts_with("io_uring: kernel "), "{why}");
    }

    #[test]
    fn epoll_that_was_asked_for_is_taken_without_a_probe() {
        let probe = || panic!("nobody asked for io_uring");
        assert_eq!(choose_by(BackendChoice::Epoll, probe).unwrap().0, Backend::Epoll);
    }

    #[test]
    fn u02_probe_uses_every_operation() {
        for direct_descriptors in [false, true] {
            match uring::probe::probe(direct_descriptors) {
                Ok(()) => {}
                Err(ProbeError::Setup(error)) => eprintln!("not run: {error}"),
                Err(error) => panic!("{direct_descriptors}: {error}"),
            }
        }
    }

    #[test]
    fn choice_is_read_as_it_is_written() {
        for choice in [BackendChoice::Auto, BackendChoice::IoUring, BackendChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("uring".parse::<BackendChoice>().is_err());
    }
}
