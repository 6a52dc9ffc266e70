//! What can go wrong before a server runs. Each error is one line that says what to do next.

use std::fmt;
use std::io;

use crate::io::addr::ListenAddr;

/// Why a server could not be built or had to stop.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense, alone or on this machine. Correct it as the text says.
    Misuse(String),
    /// An address cannot be listened on: it is in use, not of this machine, or not permitted.
    Listen {
        /// The address.
        addr: ListenAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The backend that was asked for is not available here. Use another, or `auto`.
    Backend(String),
    /// A worker could not start, or its event loop failed.
    Worker {
        /// Which of the workers, from 0.
        worker: usize,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(text) | Self::Backend(text) => f.write_str(text),
            Self::Listen { addr, source } => {
                write!(f, "cannot listen on {addr}: {source}{}", listen_hint(addr, source))
            }
            Self::Worker { worker, source } => write!(f, "worker {worker}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Misuse(_) | Self::Backend(_) => None,
            Self::Listen { source, .. } | Self::Worker { source, .. } => Some(source),
        }
    }
}

fn listen_hint(addr: &ListenAddr, source: &io::Error) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, AlreadyExists, NotFound, PermissionDenied};
    match (addr, source.kind()) {
        (ListenAddr::Tcp(_), AddrInUse) => "; stop what listens there, or choose another port",
        (ListenAddr::Tcp(_), AddrNotAvailable) => "; that address is not one of this machine's",
        (ListenAddr::Tcp(_), PermissionDenied) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, or choose a higher one"
        }
        (ListenAddr::Unix(_) | ListenAddr::Abstract(_), AddrInUse) => {
            "; stop what listens there, or choose another name"
        }
        (ListenAddr::Unix(_), AlreadyExists) => "; remove it, or choose another path",
        (ListenAddr::Unix(_), NotFound) => "; make its folder first",
        (ListenAddr::Unix(_), PermissionDenied) => {
            "; the server must be allowed to write to the folder, and to a file that is there"
        }
        _ => "",
    }
}
