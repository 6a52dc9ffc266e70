//! Listening sockets, connecting ones, and the few things done to either outside a driver.
//!
//! Options that every connection needs are set on the listening socket, from which Linux copies
//! them to accepted ones: no system call per connection.

#![expect(unsafe_code, reason = "socket options that no crate of ours knows")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

use super::addr::{PeerAddr, UnixCredentials};
use super::lease::Lease;
use super::unix::SocketFile;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Before the descriptor, because fields are dropped in this order and the file goes first.
    file: Option<Arc<SocketFile>>,
    fd: Arc<OwnedFd>,
    /// Other workers may accept from the same socket.
    is_shared: bool,
    /// Who made it may go on with it when this process ends.
    lease: Lease,
}

/// Listens at `addr`, together with every other listener at the same address: the kernel spreads
/// connections among them. Port 0 lets the kernel choose; see `Listener::local_addr`.
pub(crate) fn listen(addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
    let socket = open(addr)?;
    socket.set_reuse_port(true)?;
    set_inherited_options(&SockRef::from(&socket))?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let fd = Arc::new(socket.into());
    Ok(Listener { file: None, fd, is_shared: false, lease: Lease::none() })
}

/// Options that accepted sockets have from the one that listens.
fn set_inherited_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Urgent data is ordinary data to us. Taken out of line, its byte would be lost.
    socket.set_out_of_band_inline(true)
}

/// Makes sure that nobody listens at `addr`: not even a server that would share the address,
/// because with that one this server would share its peers, too.
pub(crate) fn ensure_free(addr: SocketAddr) -> io::Result<()> {
    open(addr)?.bind(&addr.into())
}

impl Listener {
    /// A Unix socket that listens, and the file by which it is found, if any.
    pub(super) fn unix(fd: OwnedFd, file: Option<Arc<SocketFile>>) -> Self {
        Self { file, fd: Arc::new(fd), is_shared: true, lease: Lease::none() }
    }

    /// A socket that listens already, made by another process.
    pub(super) fn adopt(fd: Arc<OwnedFd>, lease: Lease) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        let addr = socket.local_addr()?;
        if addr.as_socket().is_some() {
            set_inherited_options(&socket)?;
            let listener = Self { file: None, fd, is_shared: false, lease };
            listener.await_first_bytes()?;
            return Ok(listener);
        }
        // Without its file nobody finds it any more, but those who wait are served.
        let file = addr.as_pathname().and_then(|path| SocketFile::of(path, lease.clone()).ok());
        Ok(Self { file: file.map(Arc::new), fd, is_shared: true, lease })
    }

    /// The same socket for another worker.
    pub(super) fn share(&mut self) -> Self {
        self.is_shared = true;
        let (file, fd) = (self.file.clone(), Arc::clone(&self.fd));
        Self { file, fd, is_shared: true, lease: self.lease.clone() }
    }

    /// Whether it must stay as it is when this process stops listening.
    pub(super) fn is_lent(&self) -> bool {
        self.lease.is_lent()
    }

    /// The file by which it is found.
    pub(super) fn file(&self) -> Option<&Arc<SocketFile>> {
        self.file.as_ref()
    }

    /// Whether further sockets may listen at the same address.
    pub(super) fn is_joinable(&self) -> bool {
        let socket = SockRef::from(&self.fd);
        self.file.is_none() && socket.reuse_port().unwrap_or(false) && self.local_addr().is_ok()
    }

    /// The socket, for who wants to hand it to another process while it is open here.
    pub(crate) fn socket(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.fd)
    }

    /// The socket, for tests that hand it over.
    #[cfg(test)]
    pub(super) fn socket_now(self) -> Arc<OwnedFd> {
        self.fd
    }

    /// Another process removes the socket file.
    pub(super) fn keep_file(&self) {
        if let Some(file) = &self.file {
            file.keep();
        }
    }

    /// Whether other workers may accept from the same socket.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Has the kernel keep a new connection to itself until its first bytes are here, for a second.
    ///
    /// The client speaks first, so the server then accepts, receives and answers in one go instead
    /// of being woken twice; and who only connects takes no descriptor for that time.
    pub(crate) fn await_first_bytes(&self) -> io::Result<()> {
        let seconds = 1;
        set_option(&self.fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
    }

    /// The next waiting peer, or none. The socket is non-blocking and close-on-exec.
    pub(super) fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        match accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a peer waits to be accepted.
    pub(super) fn has_peer(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready_count| ready_count > 0)
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(&self.fd).local_addr()?;
        addr.as_socket().ok_or_else(|| io::Error::other("the listening socket has no IP address"))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that is connecting to `addr`, or connected already; non-blocking, close-on-exec. From
/// `source`, or from the address and port that the kernel chooses.
pub(crate) fn connect(addr: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    if let Some(source) = source {
        // The port is chosen when the destination is known, so that it need only be unique
        // together with that.
        set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        Err(_) | Ok(()) => Ok(socket.into()),
    }
}

/// Undoes that the socket is non-blocking.
pub(super) fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, false)?)
}

/// Sets an option that is an integer.
fn set_option(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    let place = std::ptr::from_ref(&value).cast();
    // SAFETY: the socket is open for the call, and `place` points to the `len` bytes of `value`,
    // which the kernel only reads.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, place, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether accepting has to pause: descriptors or memory have run out, or the listening socket
/// itself is of no use. All other errors concern one peer, which is gone.
pub(super) fn pauses_accept(errno: Errno) -> bool {
    is_exhausted(errno)
        || matches!(errno, Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)
}

/// Whether descriptors or memory have run out.
fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// Makes the close of a connection drop what is queued and reset it.
pub(super) fn reset_on_close(fd: BorrowedFd<'_>) {
    // It fails only for what is no socket. The close that follows is then an orderly one.
    let _ = sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO));
}

/// The kernel's smoothed estimate of the round trip, if this is TCP and there was a trip.
pub(super) fn round_trip(fd: BorrowedFd<'_>) -> Option<std::time::Duration> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).expect("some hundred bytes");
    let (level, name, place) = (libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast());
    // SAFETY: the socket is open for the call, `place` points to the `len` bytes of `info`, and
    // `len` outlives the call.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, &raw mut len) };
    if result != 0 {
        return None;
    }
    // SAFETY: it was zeroed, and its fields are numbers, so it is valid however much the kernel
    // has written.
    let info = unsafe { info.assume_init() };
    (info.tcpi_rtt > 0).then(|| std::time::Duration::from_micros(info.tcpi_rtt.into()))
}

/// The address of the peer of a connection, or who the peer is.
pub(super) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<PeerAddr> {
    let addr = match SockRef::from(&fd).peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => former_peer(fd)?,
        other => other?,
    };
    if let Some(addr) = addr.as_socket() {
        return Ok(PeerAddr::Tcp(addr));
    }
    if addr.domain() == Domain::UNIX {
        return credentials(fd).map(PeerAddr::Unix);
    }
    Err(io::Error::other("the peer has no address"))
}

/// The address of a peer that is gone: the socket still knows it, although `getpeername` does not
/// tell.
fn former_peer(fd: BorrowedFd<'_>) -> io::Result<SockAddr> {
    // This option wants to be asked for no more bytes than the address has.
    former_peer_of(fd, size_of::<libc::sockaddr_in6>())
        .or_else(|_| former_peer_of(fd, size_of::<libc::sockaddr_in>()))
}

fn former_peer_of(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<SockAddr> {
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERNAME);
    let mut asked = libc::socklen_t::try_from(bytes).expect("an address is short");
    let ask = |place: *mut SockAddrStorage, len: *mut libc::socklen_t| {
        // SAFETY: the socket is open for the call, and `place` has room for any address, so for the
        // `asked` bytes that the kernel may write.
        let result =
            unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place.cast(), &raw mut asked) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `try_init` lends a place for the length.
        unsafe { *len = asked };
        Ok(())
    };
    // SAFETY: where `ask` succeeds, the kernel has written an address of that length.
    let ((), addr) = unsafe { SockAddr::try_init(ask) }?;
    Ok(addr)
}

/// Who connected to a Unix socket.
pub(super) fn credentials(fd: BorrowedFd<'_>) -> io::Result<UnixCredentials> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of_val(&who)).expect("twelve bytes");
    let place = std::ptr::from_mut(&mut who).cast();
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: the socket is open for the call, `place` points to the `len` bytes of `who`, which
    // are valid whatever the kernel writes there, and `len` outlives the call.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, &raw mut len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // The kernel says 0 for a process of a namespace that is not seen from here.
    let pid = u32::try_from(who.pid).ok().filter(|pid| *pid != 0);
    Ok(UnixCredentials { pid, uid: who.uid, gid: who.gid })
}

/// A socket that is to listen. Connections of a former server that linger do not keep it from it.
fn open(addr: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // `[::]` must not take IPv4 along, whatever the system's default is: `0.0.0.0` may be
        // listened on as well, and peers have addresses of the family they use.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:0";

    #[test]
    fn listeners_share_an_address() {
        let first = listen(LOOPBACK.parse().unwrap(), 16).unwrap();
        let second = listen(first.local_addr().unwrap(), 16).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }

    #[test]
    fn address_of_another_server_is_in_use() {
        let taken = TcpListener::bind(LOOPBACK).unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(listen(addr, 16).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let shared = listen(LOOPBACK.parse().unwrap(), 16).unwrap();
        let addr = shared.local_addr().unwrap();
        assert_eq!(ensure_free(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(shared);
        ensure_free(addr).unwrap();
    }

    #[test]
    fn accepted_socket_inherits_the_options() {
        let listener = listen(LOOPBACK.parse().unwrap(), 16).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().unwrap();
        let socket_ref = SockRef::from(&socket);
        assert!(socket_ref.tcp_nodelay().unwrap());
        assert!(socket_ref.out_of_band_inline().unwrap());
        assert!(rustix::io::fcntl_getfd(&socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let addr = PeerAddr::Tcp(peer.local_addr().unwrap());
        assert_eq!(peer_addr(socket.as_fd()).unwrap(), addr);
    }

    #[test]
    fn ipv6_and_ipv4_are_listened_on_side_by_side() {
        let Ok(six) = listen("[::]:0".parse().unwrap(), 16) else {
            eprintln!("not run: no IPv6 here");
            return;
        };
        let port = six.local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "IPv6 alone");
        let four = SocketAddr::from(([0, 0, 0, 0], port));
        ensure_free(four).unwrap();
        let _four = listen(four, 16).unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(
            ensure_free(six.local_addr().unwrap()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn tc14_credentials_of_a_unix_peer_are_those_of_its_process() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let expected = UnixCredentials { pid: Some(std::process::id()), uid, gid };
        assert_eq!(peer_addr(ours.as_fd()).unwrap(), PeerAddr::Unix(expected));
    }

    #[test]
    fn tc04_lack_of_memory_pauses_accepting() {
        for errno in [Errno::NOBUFS, Errno::NOMEM, Errno::MFILE, Errno::NFILE] {
            assert!(pauses_accept(errno), "{errno}");
        }
    }

    #[test]
    fn tc03_errors_of_one_peer_do_not_pause_accepting() {
        for errno in [
            Errno::CONNABORTED,
            Errno::PROTO,
            Errno::PERM,
            Errno::INTR,
            Errno::NETDOWN,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
        ] {
            assert!(!pauses_accept(errno), "{errno}");
        }
    }
}
