//! Unix sockets that listen: the file by which they are found, and its life.
//!
//! A file outlives the server that made it when that one was killed, so one that nobody answers at
//! is replaced. One that somebody answers at is not ours to take: the caller gets `AddrInUse`.
//!
//! INVARIANT: a file is removed only while the socket it was made for is open. Until then its inode
//! is not used again, so that equal inodes mean the same file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::lease::Lease;

/// How often, and after what time, the lock of a folder is tried again.
const LOCK_ATTEMPTS_MAX: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The file of a listening socket. Removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    lease: Lease,
    /// Another process goes on with the socket, and removes the file when it is done.
    is_kept: AtomicBool,
}

/// Listens at `path`, in the place of a server that is gone if need be. `mode` are the permissions
/// of the file; without, the umask decides.
pub(super) fn listen_at(
    path: &Path,
    mode: Option<u32>,
    backlog: i32,
) -> io::Result<(Socket, SocketFile)> {
    // Held until the socket listens: in between, another server that starts would take it for one
    // that nobody answers at.
    let _lock = lock_folder(path);
    let addr = SockAddr::unix(path)?;
    let mut socket = open()?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &addr)?;
            // A socket that could not be bound may be tried again, but a fresh one is surely clean.
            socket = open()?;
            socket.bind(&addr)?;
        }
        bound => bound?,
    }
    let file = SocketFile::of(path, Lease::none())?;
    if let Some(mode) = mode {
        // Nobody can connect before the socket listens, so nobody profits from the old mode.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// Listens at an abstract name, which is gone by itself with the last descriptor.
pub(super) fn listen_abstract(name: &str, backlog: i32) -> io::Result<Socket> {
    let socket = open()?;
    // A leading NUL is how the kernel tells a name from a path.
    socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
    socket.listen(backlog)?;
    Ok(socket)
}

impl SocketFile {
    /// The file that is there now, of a socket that is open. As long as it is lent, another process
    /// removes it.
    pub(super) fn of(path: &Path, lease: Lease) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let (path, is_kept) = (path.to_owned(), AtomicBool::new(false));
        Ok(Self { path, device: found.dev(), inode: found.ino(), lease, is_kept })
    }

    /// It is no longer this process that removes it.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Release);
    }

    /// Changes its permissions, if it is still the same.
    pub(super) fn set_mode(&self, mode: u32) {
        let _lock = lock_folder(&self.path);
        if self.is_still_there()
            && let Err(error) = fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket file keeps its mode");
        }
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_kept.load(Ordering::Acquire) || self.lease.is_lent() {
            return;
        }
        let _lock = lock_folder(&self.path);
        if self.is_still_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays");
        }
    }
}

fn open() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
}

/// Removes a socket file at which nobody answers. Everything else is in use.
fn remove_stale(path: &Path, addr: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let text = "a file that is no socket is in the way";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    match open()?.connect(addr) {
        // Somebody answers, has no time to, or speaks in datagrams.
        Ok(()) => return Err(Errno::ADDRINUSE.into()),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::CONNREFUSED) => {}
            Some(Errno::NOENT) => return Ok(()),
            Some(Errno::AGAIN | Errno::PROTOTYPE) => return Err(Errno::ADDRINUSE.into()),
            _ => return Err(error),
        },
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Keeps other servers that start and stop from the files of a folder, for an instant. The lock is
/// on the folder itself, so that no lock file is left lying about.
///
/// None if it cannot be had in time: whoever holds it for so long is no server, and shall not keep
/// this one from its work.
fn lock_folder(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path.parent()?, flags, Mode::empty()).ok()?;
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::AGAIN) => std::thread::sleep(LOCK_PAUSE),
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
pub(in crate::io) mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// A folder of its own, removed with what is in it.
    #[derive(Debug)]
    pub(in crate::io) struct Folder(PathBuf);

    impl Folder {
        pub(in crate::io) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("longwire-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(in crate::io) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kind_of(listened: io::Result<(Socket, SocketFile)>) -> io::ErrorKind {
        listened.unwrap_err().kind()
    }

    #[test]
    fn file_is_there_while_the_socket_listens() {
        let folder = Folder::new();
        let path = folder.path("s");
        let (socket, file) = listen_at(&path, None, 8).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
        drop(socket);
        assert_eq!(kind_of(listen_at(&folder.path("no/s"), None, 8)), io::ErrorKind::NotFound);
    }

    #[test]
    fn mode_of_the_file_is_what_was_asked_for() {
        let folder = Folder::new();
        for mode in [0o600, 0o666, 0o660] {
            let (_socket, file) = listen_at(&folder.path("s"), Some(mode), 8).unwrap();
            assert_eq!(fs::metadata(&file.path).unwrap().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn file_at_which_nobody_answers_is_replaced() {
        let folder = Folder::new();
        let path = folder.path("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a killed server leaves it");
        let (_socket, _file) = listen_at(&path, None, 8).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn file_at_which_somebody_answers_is_in_use() {
        let folder = Folder::new();
        let live = UnixListener::bind(folder.path("live")).unwrap();
        assert_eq!(kind_of(listen_at(&folder.path("live"), None, 8)), io::ErrorKind::AddrInUse);
        drop(live);
        let _datagrams = UnixDatagram::bind(folder.path("datagrams")).unwrap();
        let listened = listen_at(&folder.path("datagrams"), None, 8);
        assert_eq!(kind_of(listened), io::ErrorKind::AddrInUse);
        let (_socket, _file) = listen_at(&folder.path("ours"), None, 8).unwrap();
        assert_eq!(kind_of(listen_at(&folder.path("ours"), None, 8)), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn file_that_is_no_socket_is_left_alone() {
        let folder = Folder::new();
        let path = folder.path("notes");
        fs::write(&path, "dear diary").unwrap();
        assert_eq!(kind_of(listen_at(&path, None, 8)), io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink(folder.path("nowhere"), folder.path("link")).unwrap();
        let listened = listen_at(&folder.path("link"), None, 8);
        assert_eq!(kind_of(listened), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary");
    }

    #[test]
    fn file_of_the_next_server_is_not_removed() {
        let folder = Folder::new();
        let path = folder.path("s");
        let (_socket, file) = listen_at(&path, None, 8).unwrap();
        fs::remove_file(&path).unwrap();
        let next = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "it is another file of the same name");
        drop(next);
    }

    #[test]
    fn of_servers_that_start_at_once_one_listens() {
        let folder = Folder::new();
        let path = folder.path("s");
        for _ in 0..20 {
            drop(UnixListener::bind(&path).unwrap());
            let starts: Vec<_> = (0..4)
                .map(|_| {
                    let path = path.clone();
                    std::thread::spawn(move || listen_at(&path, None, 8))
                })
                .collect();
            let results: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
            assert_eq!(results.iter().filter(|listened| listened.is_ok()).count(), 1);
            UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn server_between_bind_and_listen_is_not_taken_for_a_stale_one() {
        let folder = Folder::new();
        let path = folder.path("s");
        let lock = lock_folder(&path);
        assert!(lock.is_some());
        let first = open().unwrap();
        first.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        let second = {
            let path = path.clone();
            std::thread::spawn(move || listen_at(&path, None, 8))
        };
        std::thread::sleep(Duration::from_millis(20));
        first.listen(8).unwrap();
        drop(lock);
        assert_eq!(kind_of(second.join().unwrap()), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn abstract_name_has_no_file_and_one_owner() {
        let name = format!("longwire-test-{}", std::process::id());
        let first = listen_abstract(&name, 8).unwrap();
        let error = listen_abstract(&name, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen_abstract(&name, 8).unwrap();
    }
}
