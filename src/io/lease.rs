//! To whom listening sockets belong that another process has made: to that one, until this one serves
//! in its place.
//!
//! INVARIANT: what is lent is neither shut down nor removed, whatever becomes of this process: who
//! lends it may go on listening there.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use socket2::SockRef;

use super::listeners::ListenOptions;
use super::socket::Listener;
use super::unix::SocketFile;

/// Whether sockets are lent; all that came together share one.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<AtomicBool>);

impl Lease {
    /// Of sockets that this process has made.
    pub(super) fn none() -> Self {
        Self(Arc::default())
    }

    /// Of sockets that another process has made.
    pub(crate) fn lent() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether another process goes on with them when this one ends.
    pub(super) fn is_lent(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Sockets of a predecessor that are this process's from the moment on in which it serves.
#[derive(Debug)]
pub(crate) struct Claim {
    lease: Lease,
    options: ListenOptions,
    places: Vec<(Weak<OwnedFd>, Option<Weak<SocketFile>>)>,
}

impl Claim {
    pub(crate) fn new(lease: Lease, options: ListenOptions) -> Self {
        Self { lease, options, places: Vec::new() }
    }

    /// One of them.
    pub(crate) fn add(&mut self, listener: &Listener) {
        if listener.is_lent() {
            self.places.push((listener.socket(), listener.file().map(Arc::downgrade)));
        }
    }

    /// Takes them: from now on they are as the settings of this process say, and end with it.
    pub(crate) fn make(&self) {
        self.lease.end();
        for (socket, file) in &self.places {
            // A worker that has failed by now has closed its own.
            let Some(socket) = socket.upgrade() else { continue };
            // Once more is how the length of the queue is changed; who waits there stays.
            if let Err(error) = SockRef::from(&socket).listen(self.options.backlog()) {
                tracing::warn!(%error, "a socket that was taken over keeps its backlog");
            }
            let file = file.as_ref().and_then(Weak::upgrade);
            if let (Some(file), Some(mode)) = (file, self.options.unix_mode) {
                file.set_mode(mode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;
    use crate::io::addr::ListenAddr;
    use crate::io::listeners::Given;
    use crate::io::unix::tests::Folder;

    /// Peers that wait at `path` until there is no room for another.
    fn fill(path: &Path) -> Vec<Socket> {
        let addr = SockAddr::unix(path).unwrap();
        let peer = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            socket.connect(&addr).is_ok().then_some(socket)
        };
        std::iter::from_fn(peer).collect()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn lc02_socket_of_a_predecessor_is_as_the_settings_say_once_it_is_claimed() {
        let folder = Folder::new();
        let path = folder.path("s");
        let socket = Arc::new(OwnedFd::from(UnixListener::bind(&path).unwrap()));
        SockRef::from(&socket).listen(1).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let options = ListenOptions { backlog: 16, unix_mode: Some(0o640) };
        let adopted = || {
            let (sockets, lease) = (vec![Arc::clone(&socket)], Lease::lent());
            let mut claim = Claim::new(lease.clone(), options);
            let (listeners, addr) = Given { sockets, lease }.spread(16, 2).unwrap();
            assert_eq!(addr, ListenAddr::Unix(path.clone()));
            listeners.iter().flatten().for_each(|listener| claim.add(listener));
            (listeners, claim)
        };
        drop(adopted());
        assert!(path.exists(), "it was lent");
        let mut waiting = fill(&path);
        assert_eq!((waiting.len(), mode(&path)), (2, 0o600));
        let (listeners, claim) = adopted();
        claim.make();
        waiting.extend(fill(&path));
        assert_eq!((waiting.len(), mode(&path)), (17, 0o640), "who waited is still there");
        assert!(listeners.iter().flatten().all(|listener| !listener.is_lent()));
        drop(listeners);
        assert!(!path.exists(), "it was owned");
    }
}
