//! Real brokers for the tests, and what stands in for them: a way that can be cut, and a listener
//! that says what it is told to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::backends::skip;

/// Longer than a broker takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Software {
    Nats,
    Redis,
}

/// A real broker on loopback, at a port that it keeps; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    software: Software,
    program: PathBuf,
    flags: Vec<String>,
    pub(crate) addr: SocketAddr,
    child: Option<Child>,
}

/// Runs `check` with each broker that this machine has, at the same time.
pub(crate) fn with_each_broker(check: fn(Software)) {
    thread::scope(|scope| {
        for software in [Software::Nats, Software::Redis] {
            match software.program() {
                Some(_) => drop(scope.spawn(move || check(software))),
                None => skip(software.name(), "not found; run tests/setup brokers"),
            }
        }
    });
}

impl Software {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats-server",
            Self::Redis => "redis-server",
        }
    }

    pub(crate) fn scheme(self, is_tls: bool) -> &'static str {
        match (self, is_tls) {
            (Self::Nats, false) => "nats",
            (Self::Nats, true) => "tls",
            (Self::Redis, false) => "redis",
            (Self::Redis, true) => "rediss",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        folders.map(|folder| folder.join(self.name())).find(|program| program.is_file())
    }
}

impl Broker {
    pub(crate) fn start(software: Software) -> Self {
        Self::start_with(software, |_| Vec::new())
    }

    /// Starts it with further flags, which may depend on its port.
    pub(crate) fn start_with(software: Software, flags: impl FnOnce(u16) -> Vec<String>) -> Self {
        let addr = free_addr();
        let port = addr.port();
        let own = match software {
            Software::Nats => format!("-a 127.0.0.1 -p {port}"),
            Software::Redis => {
                format!("--bind 127.0.0.1 --port {port} --appendonly no --loglevel warning")
            }
        };
        let mut all: Vec<String> = own.split(' ').map(str::to_owned).collect();
        if software == Software::Redis {
            all.extend(["--save".to_owned(), String::new()]);
        }
        all.extend(flags(port));
        let program = software.program().unwrap();
        let mut broker = Self { software, program, flags: all, addr, child: None };
        broker.restart();
        broker
    }

    /// Starts with a certificate that is for `localhost` alone.
    pub(crate) fn start_with_tls(software: Software, certificate: &Path, key: &Path) -> Self {
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        Self::start_with(software, |port| {
            let flags = match software {
                Software::Nats => format!("--tls --tlscert {certificate} --tlskey {key}"),
                Software::Redis => format!(
                    "--port 0 --tls-port {port} --tls-cert-file {certificate} \
                     --tls-key-file {key} --tls-ca-cert-file {certificate} --tls-auth-clients no"
                ),
            };
            flags.split_whitespace().map(str::to_owned).collect()
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.software.scheme(false), self.addr)
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again at the same port, and returns when it listens.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(&self.program);
        // Whatever it would write goes where nobody looks.
        command.args(&self.flags).current_dir(std::env::temp_dir());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.addr).is_err() {
            assert!(Instant::now() < end, "{} does not listen", self.software.name());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A way to a broker that can be cut: connections through it end, and no new ones come to be.
pub(crate) struct Way {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<WayState>>,
}

#[derive(Default)]
struct WayState {
    is_cut: bool,
    ends: Vec<TcpStream>,
}

impl Way {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state: Arc<Mutex<WayState>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                let mut state = shared.lock().unwrap();
                if state.is_cut {
                    continue;
                }
                for (mut from, mut to) in [(clone(&near), clone(&far)), (clone(&far), clone(&near))]
                {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                state.ends.extend([near, far]);
            }
        });
        Self { addr, state }
    }

    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        for end in state.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().is_cut = false;
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().unwrap()
}

/// Listens as a broker would; what becomes of each connection is up to `serve`.
pub(crate) fn pretend(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

/// The greeting of a NATS server, up to where a client may ask for topics.
pub(crate) fn greet_as_nats(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"INFO {\"max_payload\":1048576}\r\n")?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"PING\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        heard.push(byte[0]);
    }
    stream.write_all(b"PONG\r\n")
}
