//! The program at several addresses, and what it leaves of its socket files.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{Client, REQUEST};
use crate::process::{Program, longwire, on_every_backend, run, wait_until};

/// Row LC06 allows a second; a machine busy with other tests adds to that.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A path that nothing else uses; what is there is removed at the end.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let name = format!("longwire-program-{}-{name}.sock", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn flag(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    fn echo(&self, text: &str) {
        let mut client = Client::over(UnixStream::connect(&self.0).unwrap().into());
        client.send_raw(REQUEST.as_bytes());
        client.finish_handshake();
        client.echo(text);
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn program_listens_at_each_address_and_removes_its_file_when_it_stops() {
    on_every_backend(|backend| {
        let path = SocketPath::new(&format!("stops-{backend}"));
        let flag = path.flag();
        let flags = ["--backend", backend, "--listen", &flag, "--unix-mode", "600"];
        let program = Program::start(&flags);
        let line = format!("listening on {flag}");
        assert!(program.announcement.contains(&line), "{:?}", program.announcement);
        assert_eq!(program.announcement.len(), 7);
        path.echo("by its file");
        Client::open(program.addr).echo("and by its port");
        program.signal(Signal::TERM);
        let (status, _, stderr) = program.wait();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
        assert!(!path.0.exists());
    });
}

#[test]
fn lc06_killed_program_leaves_no_port_and_no_file_in_the_way_of_the_next() {
    let path = SocketPath::new("killed");
    let flag = path.flag();
    let killed = Program::start(&["--workers", "1", "--listen", &flag]);
    let second = run(longwire(&["echo", "--listen", &flag]));
    assert_eq!(second.status.code(), Some(2), "the first is there");
    let why = String::from_utf8(second.stderr).unwrap();
    assert!(why.contains(&flag) && why.contains("in use"), "{why}");
    let mut client = Client::open(killed.addr);
    client.echo("before");
    let addr = killed.addr;
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(path.0.exists(), "nobody could remove it");
    let begin = Instant::now();
    // The kernel takes the ring of a killed process apart on a thread of its own, and until then
    // the ring's accepts keep the sockets listening.
    let is_free = || TcpListener::bind(addr).is_ok() && UnixStream::connect(&path.0).is_err();
    wait_until("the addresses to be let go", is_free, String::new);
    let command = longwire(&["echo", "--listen", &addr.to_string(), "--listen", &flag]);
    let next = Program::start_by(command);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    path.echo("by the same file");
    assert_eq!(next.addr, addr);
    Client::open(addr).echo("and by the same port");
}
