//! From an address to listening sockets for every worker, and how one worker takes turns among its
//! own.
//!
//! Each worker has a TCP listener of its own at a shared address (`SO_REUSEPORT`), among which the
//! kernel spreads connections. Unix sockets have no such thing: all workers hold the same socket,
//! and who accepts first has the connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::addr::ListenAddr;
use super::lease::Lease;
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

impl ListenOptions {
    /// The backlog as the kernel wants it.
    pub(super) fn backlog(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

/// Sockets that listen already, made by whoever started this process.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    pub(crate) lease: Lease,
}

impl Given {
    /// Takes those out that listen at `addr`; with port 0, those at the first port there is.
    pub(crate) fn take(&mut self, addr: &ListenAddr) -> io::Result<Self> {
        let mut wanted = addr.clone();
        let (mut sockets, mut others) = (Vec::new(), Vec::new());
        for socket in self.sockets.drain(..) {
            let bound = ListenAddr::of(&socket)?;
            if let (ListenAddr::Tcp(any), ListenAddr::Tcp(one)) = (&wanted, &bound)
                && any.port() == 0
                && any.ip() == one.ip()
            {
                wanted = bound.clone();
            }
            if bound == wanted { sockets.push(socket) } else { others.push(socket) }
        }
        self.sockets = others;
        Ok(Self { sockets, lease: self.lease.clone() })
    }

    /// Listeners of each worker. One that is given more sockets than there are workers has all of
    /// them served: closing one would reset the peers that wait there (`SO_REUSEPORT`). With fewer,
    /// more are made beside them if they permit it, and else workers share them.
    pub(crate) fn spread(
        self,
        backlog: u32,
        workers: usize,
    ) -> io::Result<(Vec<Vec<Listener>>, ListenAddr)> {
        let first = self.sockets.first().ok_or(io::ErrorKind::NotFound)?;
        let addr = ListenAddr::of(first)?;
        let mut of_workers: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
        let count = self.sockets.len();
        for (number, socket) in self.sockets.into_iter().enumerate() {
            of_workers[number % workers].push(Listener::adopt(socket, self.lease.clone())?);
        }
        for worker in count..workers {
            let model = &mut of_workers[worker % count][0];
            let listener = match &addr {
                ListenAddr::Tcp(addr) if model.is_joinable() => join(*addr, backlog).ok(),
                _ => None,
            };
            let listener = listener.unwrap_or_else(|| model.share());
            of_workers[worker].push(listener);
        }
        Ok((of_workers, addr))
    }
}

/// A listener beside others at the same address.
fn join(addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
    let listener = socket::listen(addr, backlog)?;
    listener.await_first_bytes()?;
    Ok(listener)
}

/// A listener at `addr` for each of `workers`, and the address with the port that the kernel chose
/// if it was asked to.
pub(crate) fn listen(
    addr: &ListenAddr,
    options: ListenOptions,
    workers: usize,
) -> io::Result<(Vec<Listener>, ListenAddr)> {
    let backlog = options.backlog();
    let mut first = match addr {
        ListenAddr::Tcp(addr) => {
            let mut addr = *addr;
            if addr.port() != 0 {
                socket::ensure_free(addr)?;
            }
            let mut listeners = Vec::with_capacity(workers);
            for _ in 0..workers {
                let listener = join(addr, options.backlog)?;
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
    let mut listeners: Vec<Listener> = (1..workers).map(|_| first.share()).collect();
    listeners.insert(0, first);
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

    /// Their socket files stay where they are: another process goes on.
    pub(super) fn keep_files(&self) {
        for listener in &self.list {
            listener.keep_file();
        }
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
    use std::net::{TcpListener, TcpStream};
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

    /// Sockets at one address, as another process hands them over.
    fn given(count: usize, joinable: bool) -> (Given, ListenAddr) {
        let first = if joinable {
            socket::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap().socket_now()
        } else {
            Arc::new(OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()))
        };
        let ListenAddr::Tcp(addr) = ListenAddr::of(&first).unwrap() else { panic!("it is TCP") };
        let mut sockets = vec![first];
        sockets.extend((1..count).map(|_| socket::listen(addr, 16).unwrap().socket_now()));
        (Given { sockets, lease: Lease::lent() }, addr.into())
    }

    fn counts(listeners: &[Vec<Listener>]) -> Vec<usize> {
        listeners.iter().map(Vec::len).collect()
    }

    #[test]
    fn lc02_every_socket_that_is_given_is_served_and_every_worker_has_one() {
        for (sockets, workers, expected) in
            [(2, 2, vec![1, 1]), (5, 2, vec![3, 2]), (2, 5, vec![1; 5]), (1, 1, vec![1])]
        {
            let (given, addr) = given(sockets, true);
            let (listeners, bound) = given.spread(16, workers).unwrap();
            assert_eq!((counts(&listeners), bound), (expected, addr));
            let shared = listeners.iter().flatten().filter(|listener| listener.is_shared());
            assert_eq!(shared.count(), 0, "more are made beside them");
        }
    }

    #[test]
    fn socket_that_permits_no_other_beside_it_is_shared() {
        let (given, addr) = given(1, false);
        let (listeners, _) = given.spread(16, 3).unwrap();
        assert_eq!(counts(&listeners), [1, 1, 1]);
        assert!(listeners.iter().flatten().all(Listener::is_shared));
        let ListenAddr::Tcp(addr) = addr else { panic!("{addr}") };
        let mut peer = TcpStream::connect(addr).unwrap();
        io::Write::write_all(&mut peer, b"hello").unwrap();
        assert!(listeners[2][0].accept().unwrap().is_some(), "whoever asks");
    }

    #[test]
    fn sockets_are_found_by_their_address_and_by_port_0() {
        let ((one, addr), (two, other)) = (given(2, true), given(1, true));
        let sockets = one.sockets.into_iter().chain(two.sockets).collect();
        let mut all = Given { sockets, lease: Lease::lent() };
        assert_eq!(all.take(&([127, 0, 0, 1], 1).into()).unwrap().sockets.len(), 0);
        let found = all.take(&([127, 0, 0, 1], 0).into()).unwrap();
        assert_eq!(found.sockets.len(), 2, "all at the first port there is");
        assert_eq!(ListenAddr::of(&found.sockets[1]).unwrap(), addr);
        assert_eq!(all.take(&other).unwrap().sockets.len(), 1);
        assert!(all.sockets.is_empty());
    }

    #[test]
    fn what_does_not_listen_is_not_taken() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut given = Given { sockets: vec![Arc::new(file.into())], lease: Lease::lent() };
        assert!(given.take(&([127, 0, 0, 1], 0).into()).is_err());
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
