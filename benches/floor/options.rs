//! The command line: what is measured, on which backends, for how long.
//!
//! Parsed by hand because the benchmark must build without the program's own features. Every
//! mistake is answered by a sentence that says what would have been right.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cell::{CELLS, Cell};

pub(crate) const HELP: &str = "\
What longwire costs above the bare kernel.

  cargo bench --bench floor -- echo      server CPU per message, against a bare echo
  cargo bench --bench floor -- memory    resident bytes per idle connection
  cargo bench --bench floor -- secure    server CPU per message over TLS, and with compression
  cargo bench --bench floor -- accept    server CPU per connection opened
  cargo bench --bench floor -- generator CPU of loadgen per message, against the bare echo's
  cargo bench --bench floor -- fanout    server CPU per delivery of a topic, against bare sends
  cargo bench --bench floor -- delivery  whether 10,000 subscribers get all that is published
  cargo bench --bench floor -- stalled   10,000 subscribers that do not read, beside 100 that do

secure, generator, delivery, stalled and part of memory have loadgen as client: `cargo build --release -p loadgen`.

The server runs on core 0 and the client on core 1. The bare server makes the same system calls
as longwire for the same bytes, but knows no WebSocket: what longwire costs more is its own work.
A ratio of 1.10 means ten percent above the floor. Each ratio compares two neighbouring slices of
time, because the speed of most machines drifts by more than that within a minute; the median and
the range over all rounds are shown. Anything else that runs on the machine widens the range.

Options
  --backend NAME     epoll, io_uring or both (default: both)
  --cells A,B,...    echo: only these cells (default: all)
  --rounds N         pairs of slices per cell (default: 7; fanout: 5; the others: 3)
  --seconds S        echo, fanout: length of a slice (default: 0.7)
  --count N          memory, accept: connections (default: 19000, or what descriptors allow)
  --server PATH      measure this program instead of the longwire built with the benchmark
  --gate             exit with 1 if a median is over its bar; 2 always means 'not measured'
  --help             this text

Cells
";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Echo,
    Memory,
    Accept,
    Secure,
    Generator,
    Fanout,
    Delivery,
    Stalled,
    /// The bare server, as child process. Not for users.
    Bare,
    /// Children of a fan-out: the bare server, the one under test, the subscribers.
    BareFanout,
    Topics,
    Audience,
}

/// How a server talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Epoll,
    IoUring,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

/// What was typed, with the defaults filled in.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) command: Command,
    pub(crate) backends: Vec<Backend>,
    pub(crate) cells: Vec<&'static Cell>,
    /// None: the default of the command.
    pub(crate) rounds: Option<usize>,
    pub(crate) slice: Duration,
    pub(crate) conn_count: usize,
    pub(crate) server: PathBuf,
    pub(crate) gate: bool,
    /// Bare server only: bytes of a message and of its answer on the wire.
    pub(crate) message_bytes: usize,
    pub(crate) reply_bytes: usize,
    /// Bare server only: where to listen; port 0 is any that is free.
    pub(crate) listen: SocketAddr,
    /// Topic server only: the cores of its workers.
    pub(crate) cores: Vec<usize>,
    /// Topic server only: bytes queued for a connection at most.
    pub(crate) send_bytes_max: Option<usize>,
    /// Subscribers only: where the server is.
    pub(crate) connect: SocketAddr,
    /// Bare server: answer handshakes, and with frames. Subscribers: ask for a handshake.
    pub(crate) speaks: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "echo" => options.command = Command::Echo,
                "memory" => options.command = Command::Memory,
                "accept" => options.command = Command::Accept,
                "secure" => options.command = Command::Secure,
                "generator" => options.command = Command::Generator,
                "fanout" => options.command = Command::Fanout,
                "delivery" => options.command = Command::Delivery,
                "stalled" => options.command = Command::Stalled,
                "bare" => options.command = Command::Bare,
                "bare-fanout" => options.command = Command::BareFanout,
                "topics" => options.command = Command::Topics,
                "audience" => options.command = Command::Audience,
                "-h" | "--help" | "help" => {
                    options.command = Command::Help;
                    return Ok(options);
                }
                "--gate" => options.gate = true,
                "--speaks" => options.speaks = true,
                // Cargo adds it to whatever it runs as a benchmark.
                "--bench" => {}
                name if name.starts_with("--") => {
                    let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
                    options.set(name, &value)?;
                }
                other => {
                    return Err(format!(
                        "`{other}` is not one of echo, memory, accept, secure, generator, fanout, \
                         delivery, stalled, --help"
                    ));
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--backend" => self.backends = parse_backends(value)?,
            "--cells" => self.cells = parse_cells(value)?,
            "--rounds" => self.rounds = Some(parse_count(name, value)?),
            "--count" => self.conn_count = parse_count(name, value)?,
            "--message-bytes" => self.message_bytes = parse_count(name, value)?,
            "--reply-bytes" => self.reply_bytes = parse_count(name, value)?,
            "--listen" => self.listen = parse_addr(name, value)?,
            "--connect" => self.connect = parse_addr(name, value)?,
            "--cores" => self.cores = parse_cores(name, value)?,
            "--send-bytes-max" => self.send_bytes_max = Some(parse_count(name, value)?),
            "--server" => self.server = PathBuf::from(value),
            "--seconds" => {
                self.slice = value
                    .parse()
                    .ok()
                    .filter(|seconds| (0.01..=600.0).contains(seconds))
                    .map(Duration::from_secs_f64)
                    .ok_or_else(|| format!("--seconds takes 0.01 to 600, not `{value}`"))?;
            }
            _ => return Err(format!("{name} is not an option; --help lists them")),
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command: Command::Help,
            backends: vec![Backend::Epoll, Backend::IoUring],
            cells: CELLS.iter().collect(),
            rounds: None,
            slice: Duration::from_millis(700),
            conn_count: 19_000,
            server: PathBuf::from(env!("CARGO_BIN_EXE_longwire")),
            gate: false,
            message_bytes: 1,
            reply_bytes: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cores: vec![crate::core::SERVER],
            send_bytes_max: None,
            connect: SocketAddr::from(([127, 0, 0, 1], 0)),
            speaks: false,
        }
    }
}

fn parse_backends(value: &str) -> Result<Vec<Backend>, String> {
    match value {
        "epoll" => Ok(vec![Backend::Epoll]),
        "io_uring" => Ok(vec![Backend::IoUring]),
        "both" => Ok(vec![Backend::Epoll, Backend::IoUring]),
        _ => Err(format!("--backend takes epoll, io_uring or both, not `{value}`")),
    }
}

fn parse_cells(value: &str) -> Result<Vec<&'static Cell>, String> {
    value
        .split(',')
        .map(|name| {
            CELLS.iter().find(|cell| cell.name == name).ok_or_else(|| {
                let names: Vec<_> = CELLS.iter().map(|cell| cell.name).collect();
                format!("`{name}` is not a cell; there are {}", names.join(", "))
            })
        })
        .collect()
}

fn parse_addr(name: &str, value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| format!("{name} takes an address such as 127.0.0.1:9001, not `{value}`"))
}

fn parse_cores(name: &str, value: &str) -> Result<Vec<usize>, String> {
    value
        .split(',')
        .map(|core| core.parse().map_err(|_| format!("{name} takes numbers, not `{value}`")))
        .collect()
}

fn parse_count(name: &str, value: &str) -> Result<usize, String> {
    value
        .parse()
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(|| format!("{name} takes a whole number above zero, not `{value}`"))
}
