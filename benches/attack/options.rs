//! The command line: how long, how hard, on which backends, and how strict the bars are.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
A dozen attacks at once on a server in 512 MiB, and what a good client notices of them.

  cargo bench --bench attack

Options
  --seconds S        length of the attack (default: 60)
  --backend NAME     epoll, io_uring or both (default: both)
  --rate F           all rates of all attacks times this (default: 1)
  --only A,B,...     only the attacks whose names begin so
  --short            10 seconds, and five times the margin: for machines that do other things, too
  --server PATH      attack this program instead of the longwire built with the benchmark
  --help             this text

Exit codes: 0 every bar is held, 1 one is missed, 2 the attack could not be made.
";

/// Attacks of at least this length leave the timeouts of the server at their defaults.
const WHOLE_TIMEOUTS: Duration = Duration::from_secs(45);

/// What was typed, with the defaults filled in.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) length: Duration,
    pub(crate) backends: Vec<String>,
    pub(crate) rate: f64,
    pub(crate) only: Vec<String>,
    pub(crate) short: bool,
    pub(crate) server: PathBuf,
}

/// Those timeouts of the server that attacks run into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Duration,
    pub(crate) tls_handshake: Duration,
    pub(crate) close: Duration,
    pub(crate) write_stall: Duration,
}

impl Options {
    /// None if help was asked for.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            length: Duration::from_secs(60),
            backends: vec!["epoll".to_owned(), "io_uring".to_owned()],
            rate: 1.0,
            only: Vec::new(),
            short: false,
            server: PathBuf::from(env!("CARGO_BIN_EXE_longwire")),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-h" | "--help" | "help" => return Ok(None),
                "--short" => {
                    options.short = true;
                    options.length = Duration::from_secs(10);
                }
                // Cargo adds it to whatever it runs as a benchmark.
                "--bench" => {}
                name => {
                    let value = args.next().ok_or_else(|| {
                        format!("`{name}` is not an option, or needs a value; see --help")
                    })?;
                    options.set(name, &value)?;
                }
            }
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--seconds" => {
                let seconds = value.parse().ok().filter(|&seconds| seconds >= 5);
                let seconds = seconds.ok_or("--seconds is a whole number from 5")?;
                self.length = Duration::from_secs(seconds);
            }
            "--backend" => match value {
                "both" => {}
                "epoll" | "io_uring" => self.backends = vec![value.to_owned()],
                _ => return Err("--backend is epoll, io_uring or both".to_owned()),
            },
            "--rate" => {
                let rate = value.parse().ok().filter(|rate| (0.01..=100.0).contains(rate));
                self.rate = rate.ok_or("--rate is a number from 0.01 to 100")?;
            }
            "--only" => self.only = value.split(',').map(str::to_owned).collect(),
            "--server" => self.server = PathBuf::from(value),
            _ => return Err(format!("`{name}` is not an option; see --help")),
        }
        Ok(())
    }

    /// The timeouts the server is given: in a short attack shorter ones than the defaults, so that
    /// peers run into them before it is over.
    pub(crate) fn timeouts(&self) -> Timeouts {
        let seconds = Duration::from_secs;
        if self.length >= WHOLE_TIMEOUTS {
            Timeouts {
                handshake: seconds(10),
                tls_handshake: seconds(5),
                close: seconds(5),
                write_stall: seconds(30),
            }
        } else {
            Timeouts {
                handshake: seconds(3),
                tls_handshake: seconds(2),
                close: seconds(2),
                write_stall: seconds(3),
            }
        }
    }

    /// How many times as long as before the attack an echo may take.
    pub(crate) fn slower_max(&self) -> f64 {
        if self.short { 25.0 } else { 5.0 }
    }
}
