//! A server as a child process: started, waited for until it listens, killed when dropped.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};
use socket2::{Domain, Protocol, Socket, Type};

use crate::core;
use crate::options::{Backend, Options};
use crate::process_stat::ProcessStat;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const LISTENING: &str = "listening on ";
/// Lines of output that are shown when a server does not start.
const LAST_LINES_MAX: usize = 12;
/// Waiting peers; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// First argument of this program when it is to become another one; see [`launch`].
pub(crate) const LAUNCH: &str = "launch";

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    addr: SocketAddr,
    pub(crate) stat: ProcessStat,
}

impl Server {
    /// The program under test, as echo server.
    pub(crate) fn longwire(
        options: &Options,
        backend: Backend,
        message_bytes_max: usize,
        conns_max: usize,
    ) -> io::Result<Self> {
        Self::longwire_with(options, backend, message_bytes_max, conns_max, &[])
    }

    /// The same with more flags.
    pub(crate) fn longwire_with(
        options: &Options,
        backend: Backend,
        message_bytes_max: usize,
        conns_max: usize,
        flags: &[&str],
    ) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(LAUNCH).arg(&options.server);
        command.args(["echo", "--listen", "127.0.0.1:0", "--workers", "1"]);
        command.args(["--cores", &core::SERVER.to_string(), "--backend", backend.name()]);
        command.args(["--message-bytes-max", &message_bytes_max.to_string()]);
        command.args(["--conns-max", &conns_max.to_string()]).args(flags);
        Self::start(command, format!("longwire ({})", backend.name()))
    }

    /// The floor: this program again.
    pub(crate) fn bare(
        backend: Backend,
        message_bytes: usize,
        reply_bytes: usize,
    ) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--backend", backend.name()]);
        command.args(["--message-bytes", &message_bytes.to_string()]);
        command.args(["--reply-bytes", &reply_bytes.to_string()]);
        Self::start(command, format!("the bare server ({})", backend.name()))
    }

    /// The floor with epoll, for a client that insists on a handshake and on frames.
    pub(crate) fn bare_that_speaks(message_bytes: usize, reply_bytes: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--speaks", "--backend", Backend::Epoll.name()]);
        command.args(["--message-bytes", &message_bytes.to_string()]);
        command.args(["--reply-bytes", &reply_bytes.to_string()]);
        Self::start(command, "the bare server".to_owned())
    }

    /// The floor of a fan-out to so many.
    pub(crate) fn bare_fanout(conn_count: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare-fanout", "--count", &conn_count.to_string()]);
        Self::start(command, "the bare loop of sends".to_owned())
    }

    /// longwire with one topic, and a worker on each of these cores.
    pub(crate) fn topics(
        backend: Backend,
        cores: &[usize],
        send_bytes_max: Option<usize>,
    ) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let list: Vec<_> = cores.iter().map(usize::to_string).collect();
        command.arg(LAUNCH).arg(std::env::current_exe()?).arg("topics");
        command.args(["--backend", backend.name(), "--cores", &list.join(",")]);
        if let Some(bytes) = send_bytes_max {
            command.args(["--send-bytes-max", &bytes.to_string()]);
        }
        Self::start(command, format!("longwire with a topic ({})", backend.name()))
    }

    /// `ws` under Node.js with compression, confined to the server's core: it compresses on threads
    /// of its own.
    pub(crate) fn node_with_deflate(script: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([LAUNCH, "taskset", "--cpu-list", &core::SERVER.to_string(), "node"]);
        command.arg(script).args(["--listen", "127.0.0.1:0", "--mode", "echo", "--deflate"]);
        Self::start(command, "ws under Node.js".to_owned())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn start(mut command: Command, name: String) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        command.env("NO_COLOR", "1");
        let child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {name}: {error}")))?;
        // The command holds the writing end; while it lives the output never ends.
        drop(command);
        let stat = ProcessStat::new(child.id());
        let mut server = Self { child, name, addr: SocketAddr::from(([127, 0, 0, 1], 0)), stat };
        server.addr = server.wait_until_listening(&read_lines(reader))?;
        Ok(server)
    }

    fn wait_until_listening(&self, lines: &Receiver<String>) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut last_lines = VecDeque::new();
        loop {
            let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.not_started("did not say where it listens", &last_lines));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.not_started("ended at once", &last_lines));
                }
            };
            if let Some(addr) = listening_addr(&line) {
                return Ok(addr);
            }
            if last_lines.len() == LAST_LINES_MAX {
                last_lines.pop_front();
            }
            last_lines.push_back(line);
        }
    }

    fn not_started(&self, what: &str, last_lines: &VecDeque<String>) -> io::Error {
        let mut text = format!("{} {what}", self.name);
        for line in last_lines {
            text.push_str("\n  | ");
            text.push_str(line);
        }
        io::Error::other(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed rather than asked: what is measured is over, and a server that hangs must not
        // outlive its benchmark. Both calls fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the program that `arguments` name. Returns only if that is not possible.
///
/// What has to be arranged for a child before it starts is arranged here, by the child itself:
/// it dies with its parent, even one that is killed, and is not confined to the client's core.
pub(crate) fn launch(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let Some(program) = arguments.next() else {
        return io::Error::other("launch needs a program");
    };
    if let Err(error) = die_with_parent().and_then(|()| core::unpin()) {
        return error;
    }
    let error = Command::new(&program).args(arguments).exec();
    io::Error::other(format!("cannot run {}: {error}", program.display()))
}

/// The kernel kills this process when the thread that started it ends.
///
/// The parent kills its children when it ends by itself; this is for the end it did not choose.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// A listening socket with the options of longwire's.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Inherited by accepted sockets, so nobody has to set it on each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Reads the output to its end, so that the server never waits for a full pipe; lines nobody
/// asks for any more are dropped.
fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn listening_addr(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(LISTENING)?;
    let end = rest
        .find(|char: char| !(char.is_ascii_digit() || char == '.' || char == ':'))
        .unwrap_or(rest.len());
    rest.get(..end)?.trim_end_matches(['.', ':']).parse().ok()
}
