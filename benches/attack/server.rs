//! The server under attack: a process of its own, confined, watched, and stopped in order.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, PipeReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::confine::{self, Cage};
use crate::core;
use crate::options::{Options, Timeouts};

/// First argument of this program when it is to become another one; see [`launch`].
pub(crate) const LAUNCH: &str = "launch";

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than `stop_timeout`, which is 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const LISTENING: &str = "listening on ";
/// Lines of output kept to be shown if the server does not live.
const LAST_LINES_MAX: usize = 12;

/// What connections may make the server hold. The rest of its memory is for the program, its tables
/// and its stacks, and for what allocators lose.
const MEMORY_BYTES_MAX: &str = "256M";
/// Tables are reserved for so many connections, and count as address space.
const CONNS_MAX: &str = "10000";

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    last_lines: VecDeque<String>,
    line_count: usize,
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    pub(crate) flags: String,
    _files: CertificateFiles,
}

impl Server {
    /// Starts it with the certificate that is given, and waits until it listens.
    pub(crate) fn start(
        options: &Options,
        backend: &str,
        cage: &Cage,
        certificate_pem: &str,
        key_pem: &str,
    ) -> io::Result<Self> {
        let files = CertificateFiles::write(certificate_pem, key_pem)?;
        let flags = flags(backend, options.timeouts());
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(LAUNCH).arg(cage.argument()).arg(&options.server).arg("echo").args(&flags);
        command.args(["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(files.certificate());
        command.arg("--tls-key").arg(files.key());
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        command.env("NO_COLOR", "1").env_remove("LONGWIRE_LOG");
        let child = command.spawn()?;
        // The command holds the writing end; while it lives the output never ends.
        drop(command);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            child,
            lines: read_lines(reader),
            last_lines: VecDeque::new(),
            line_count: 0,
            plain: nowhere,
            secure: nowhere,
            flags: flags.join(" "),
            _files: files,
        };
        server.wait_until_listening()?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to stop; how it ended, or none if it had to be killed.
    pub(crate) fn stop(&mut self) -> io::Result<Option<ExitStatus>> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    /// What it said last, and how many lines it said in all since it listens.
    pub(crate) fn said(&mut self) -> (usize, Vec<String>) {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(line);
        }
        (self.line_count, self.last_lines.iter().cloned().collect())
    }

    fn wait_until_listening(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut addrs = Vec::new();
        while addrs.len() < 2 {
            let patience = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(patience) else {
                let said =
                    self.last_lines.iter().fold(String::new(), |text, line| text + "\n  | " + line);
                return Err(io::Error::other(format!("the server does not start{said}")));
            };
            addrs.extend(listening_addr(&line));
            self.keep(line);
        }
        (self.plain, self.secure) = (addrs[0], addrs[1]);
        self.line_count = 0;
        Ok(())
    }

    fn keep(&mut self, line: String) {
        self.line_count += 1;
        if self.last_lines.len() == LAST_LINES_MAX {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the program that `arguments` name, behind the cage it is to run in. Returns only if that
/// is not possible.
pub(crate) fn launch(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let (Some(cage), Some(program)) = (arguments.next(), arguments.next()) else {
        return io::Error::other("launch needs a cage and a program");
    };
    let prepared = set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .and_then(|()| core::unpin())
        .and_then(|()| confine::enter(&cage.to_string_lossy()));
    if let Err(error) = prepared {
        return error;
    }
    let error = Command::new(&program).args(arguments).exec();
    io::Error::other(format!("cannot run {}: {error}", program.display()))
}

fn flags(backend: &str, timeouts: Timeouts) -> Vec<String> {
    let time = |time: Duration| format!("{}ms", time.as_millis());
    [
        "--backend",
        backend,
        "--workers",
        "1",
        "--cores",
        &core::SERVER.to_string(),
        "--deflate",
        "--drain-time",
        "0s",
        "--memory-bytes-max",
        MEMORY_BYTES_MAX,
        "--conns-max",
        CONNS_MAX,
        "--handshake-timeout",
        &time(timeouts.handshake),
        "--tls-handshake-timeout",
        &time(timeouts.tls_handshake),
        "--close-timeout",
        &time(timeouts.close),
        "--write-stall-timeout",
        &time(timeouts.write_stall),
    ]
    .map(str::to_owned)
    .into()
}

/// Reads the output to its end, so that the server never waits for a full pipe.
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
    line.trim_start().strip_prefix(LISTENING)?.split_whitespace().next()?.parse().ok()
}

/// The server's certificate and key as it wants them: in files, removed when dropped.
#[derive(Debug)]
struct CertificateFiles {
    folder: PathBuf,
}

impl CertificateFiles {
    fn write(certificate_pem: &str, key_pem: &str) -> io::Result<Self> {
        let name = format!("longwire-attack-{}", std::process::id());
        let files = Self { folder: std::env::temp_dir().join(name) };
        fs::create_dir_all(&files.folder)?;
        fs::write(files.certificate(), certificate_pem)?;
        fs::write(files.key(), key_pem)?;
        // The server warns of a key that everybody may read.
        fs::set_permissions(files.key(), Permissions::from_mode(0o600))?;
        Ok(files)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

impl Drop for CertificateFiles {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
