//! From an address to listening sockets for every worker, and how one worker takes turns among its
//! own.
//!
//! Each worker has a TCP listener of its own at a shared address (`SO_REUSEPORT`), among which the
//! kernel spreads connections. Unix sockets have no such thing: all workers hold the same socket,
//! and who accepts first has the connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::addr::ListenAddr;
use super::socket::{self, Listener};
use super::unix;

/// Listeners of one worker: their numbers are of 8 bits.
pub(crate) const LISTENERS_MAX: usize = 256;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenOptions {
    /// Connections that may wait to be accepted: of each worker, or all of a Unix socket.
    pub(crate) backlog: u32,
    /// Permissions of a socket file; the umask decides if there are none.
    pub(crate) unix_mode: Option<u32>,
}

/// A listener at `addr` for each of `workers`, and the address with the port that the kernel chose
/// if it was asked to.
pub(crate) fn listen(
    addr: &ListenAddr,
    options: ListenOptions,
    workers: usize,
) -> io::Result<(Vec<Listener>, ListenAddr)> {
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    let first = match addr {
        ListenAddr::Tcp(addr) => {
            let mut addr = *addr;
            if addr.port() != 0 {
                socket::ensure_free(addr)?;
            }
            let mut listeners = Vec::with_capacity(workers);
            for _ in 0..workers {
                let listener = socket::listen(addr, options.backlog)?;
                listener.await_first_bytes()?;
                // With port 0 the kernel chooses for the first; the others join it.
                addr = listener.local_addr()?;
                listeners.push(listener);
            }
            return Ok((listeners, addr.into()));
        }
        ListenAddr::Unix(path) => {
            let (socket, file) = unix::listen_at(path, options.unix_mode, backlog)?;
            Listener::unix(socket.into(), Some(Arc::new(file)))
        }
        ListenAddr::Abstract(name) => {
            Listener::unix(unix::listen_abstract(name, backlog)?.into(), None)
        }
    };
    let mut listeners = vec![first];
    while listeners.len() < workers {
        listeners.push(listeners[0].share()?);
    }
    Ok((listeners, addr.clone()))
}

/// The listeners of one worker, and a descriptor in reserve for the day when none is left.
#[derive(Debug)]
pub(super) struct Listeners {
    list: Vec<Listener>,
    /// Which may have a peer to accept; for those who ask with `accept`.
    ready: Vec<bool>,
    /// Whose turn it is, so that peers of one cannot keep those of another waiting.
    next: usize,
    reserve: Option<OwnedFd>,
}

impl Listeners {
    /// Any of them may have a peer waiting.
    pub(super) fn new(list: Vec<Listener>) -> Self {
        assert!(list.len() <= LISTENERS_MAX, "a number of 8 bits for each");
        let reserve = if list.is_empty() { None } else { open_reserve().ok() };
        Self { ready: vec![true; list.len()], list, next: 0, reserve }
    }

    pub(super) fn set_ready(&mut self, number: usize) {
        if let Some(ready) = self.ready.get_mut(number) {
            *ready = true;
        }
    }

    /// Accepts a peer of the next listener that has one; which, and what came of it.
    pub(super) fn accept(&mut self) -> Option<(u8, Result<OwnedFd, Errno>)> {
        for number in self.in_turn() {
            if !self.ready[number] {
                continue;
            }
            let accepted = match self.list[number].accept() {
                Ok(Some(socket)) => Ok(socket),
                Ok(None) => {
                    self.ready[number] = false;
                    continue;
                }
                Err(errno) => Err(errno),
            };
            self.next = number + 1;
            return Some((narrow(number), accepted));
        }
        None
    }

    /// Accepts one waiting peer by means of the reserve descriptor and closes it. Returns whether
    /// there was one.
    ///
    /// Without it a peer in the backlog would wait for an answer as long as no descriptor is free.
    pub(super) fn shed_one(&mut self) -> bool {
        drop(self.reserve.take());
        let shed = self.in_turn().find(|number| matches!(self.list[*number].accept(), Ok(Some(_))));
        if let Some(number) = shed {
            self.next = number + 1;
        }
        // Another thread may have been quicker; then the next call tries again.
        self.reserve = if self.list.is_empty() { None } else { open_reserve().ok() };
        shed.is_some()
    }

    /// Gives all of them away, for good.
    pub(super) fn take(&mut self) -> Vec<Listener> {
        self.reserve = None;
        self.ready.clear();
        std::mem::take(&mut self.list)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.contains(&true)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Listener> {
        self.list.get(number)
    }

    /// The numbers of all, from the one whose turn it is.
    fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, next) = (self.list.len(), self.next);
        (0..count).map(move |step| (next + step) % count)
    }
}

/// The number of a listener, as completions carry it.
pub(super) fn narrow(number: usize) -> u8 {
    u8::try_from(number).expect("there are LISTENERS_MAX at most")
}

fn open_reserve() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::io::unix::tests::Folder;

    const OPTIONS: ListenOptions = ListenOptions { backlog: 16, unix_mode: None };

    fn on_loopback() -> (Listener, SocketAddr) {
        let listener = socket::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    #[test]
    fn one_waiting_peer_is_shed_at_a_time_from_each_listener_in_turn() {
        let ((first, addr), (second, other)) = (on_loopback(), on_loopback());
        let mut listeners = Listeners::new(vec![first, second]);
        assert!(!listeners.shed_one());
        let mut peers = [addr, addr, addr, other].map(|addr| TcpStream::connect(addr).unwrap());
        assert!(listeners.shed_one());
        assert!(listeners.shed_one());
        let mut of_other = &peers[3];
        assert_eq!(io::Read::read(&mut of_other, &mut [0; 1]).unwrap(), 0, "its turn was second");
        assert!(listeners.shed_one());
        assert!(listeners.shed_one());
        assert!(!listeners.shed_one());
        for peer in &mut peers {
            assert_eq!(io::Read::read(peer, &mut [0; 1]).unwrap(), 0);
        }
        listeners.take();
        assert!(!listeners.shed_one());
    }

    #[test]
    fn listeners_accept_in_turn() {
        let ((first, addr), (second, other)) = (on_loopback(), on_loopback());
        let mut listeners = Listeners::new(vec![first, second]);
        let _peers = [addr, addr, addr, other].map(|addr| TcpStream::connect(addr).unwrap());
        let order: Vec<u8> =
            std::iter::from_fn(|| listeners.accept()).map(|(number, _)| number).collect();
        assert_eq!(order, [0, 1, 0, 0]);
        assert!(!listeners.has_ready());
        let _late = TcpStream::connect(other).unwrap();
        assert!(listeners.accept().is_none(), "nobody said that there is one");
        listeners.set_ready(1);
        listeners.set_ready(2);
        assert!(matches!(listeners.accept(), Some((1, Ok(_)))));
    }

    #[test]
    fn every_worker_has_a_listener_and_all_are_at_one_address() {
        let (listeners, addr) = listen(&([127, 0, 0, 1], 0).into(), OPTIONS, 3).unwrap();
        assert_eq!(listeners.len(), 3);
        let ListenAddr::Tcp(addr) = addr else { panic!("{addr}") };
        assert_ne!(addr.port(), 0);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (_held, _) = listen(&taken.into(), OPTIONS, 1).unwrap();
        let error = listen(&taken.into(), OPTIONS, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn workers_share_a_unix_socket_and_the_last_removes_its_file() {
        let folder = Folder::new();
        let path = folder.path("s");
        let (mut listeners, _) = listen(&ListenAddr::Unix(path.clone()), OPTIONS, 3).unwrap();
        for worker in 0..3 {
            UnixStream::connect(&path).unwrap();
            assert!(listeners[worker].accept().unwrap().is_some(), "whoever asks");
            assert!(listeners[(worker + 1) % 3].accept().unwrap().is_none());
        }
        listeners.truncate(1);
        assert!(path.exists());
        drop(listeners);
        assert!(!path.exists());
    }
}
