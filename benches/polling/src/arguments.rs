//! The command line: what is typed, and its checks.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use longwire::BackendChoice;

use crate::clock;
use crate::crowd::Headers;
use crate::measure::Settings;
use crate::serve::Order;
use crate::way::Way;

/// One small update for each of very many clients, three ways: HTTP polling, long polling (both
/// against a plain axum server) and longwire push over a WebSocket. Prints bytes on the wire, server
/// CPU and the delay until a client has the update.
#[derive(Debug, Parser)]
#[command(name = "longwire-polling", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 all updates arrived once and in order; 1 some did not; \
    2 nothing was measured, and why.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// What this program does when it starts itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Serves one way; used by the program itself.
    #[command(hide = true)]
    Serve(Serve),
}

/// A measurement.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Clients, each with a connection of its own
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = whole())]
    clients: u64,
    /// From one update of a client to its next
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    interval: Duration,
    /// Time that is measured, once all clients are connected
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    duration: Duration,
    /// From one poll of a client to its next
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = time)]
    poll: Duration,
    /// Ways to measure, one after another
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Way::Poll, Way::LongPoll, Way::Push])]
    pub(crate) ways: Vec<Way>,
    /// Send no header lines but those that are required, instead of a browser's
    #[arg(long)]
    pub(crate) minimal_headers: bool,
    /// How longwire talks to the kernel: auto, io_uring or epoll
    #[arg(long, default_value = "auto", value_name = "NAME", value_parser = backend)]
    backend: BackendChoice,
    /// Cores of the server and of the clients
    #[arg(long, default_value = "0,1", value_name = "SERVER,CLIENTS", value_parser = cores)]
    cores: (usize, usize),
    /// Print the table as Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Also write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Run {
    pub(crate) fn order(&self, way: Way) -> Order {
        Order {
            way,
            core: self.cores.0,
            client_count: self.clients,
            interval_ns: clock::ns(self.interval),
            duration_ns: clock::ns(self.duration),
            backend: self.backend,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        let headers = if self.minimal_headers { Headers::Minimal } else { Headers::Browser };
        Settings { headers, poll_period: self.poll, client_core: self.cores.1 }
    }

    /// What was asked for, in one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} clients, an update of {} bytes for each every {:?}, measured for {:?}; polls every \
             {:?}; {} headers",
            self.clients,
            crate::update::UPDATE_BYTES,
            self.interval,
            self.duration,
            self.poll,
            if self.minimal_headers { "minimal" } else { "a browser's" },
        )
    }
}

/// The server's part of a measurement.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    way: Way,
    #[arg(long)]
    core: usize,
    #[arg(long, value_parser = whole())]
    clients: u64,
    #[arg(long, value_parser = whole())]
    interval_ns: u64,
    #[arg(long, value_parser = whole())]
    duration_ns: u64,
    #[arg(long, value_parser = backend)]
    backend: BackendChoice,
}

impl Serve {
    pub(crate) fn order(&self) -> Order {
        Order {
            way: self.way,
            core: self.core,
            client_count: self.clients,
            interval_ns: self.interval_ns,
            duration_ns: self.duration_ns,
            backend: self.backend,
        }
    }
}

/// A whole number above zero.
fn whole() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

/// `10s`, `500ms`, or seconds without a unit; from a millisecond to a day.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time from 1ms to 86400s; write 10s or 500ms");
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * scale;
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

fn backend(name: &str) -> Result<BackendChoice, String> {
    name.parse().map_err(|_| "write auto, io_uring or epoll".to_owned())
}

fn cores(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(',');
    pair.and_then(|(server, clients)| Some((server.parse().ok()?, clients.parse().ok()?)))
        .ok_or_else(|| "write two core numbers, as in 0,1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        assert_eq!(time("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(time("2.5"), Ok(Duration::from_millis(2_500)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "s", "0", "-1s", "NaN", "1h", "1e9"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cores_are_a_pair() {
        assert_eq!(cores("0,1"), Ok((0, 1)));
        assert!(cores("0").is_err());
        assert!(cores("0,x").is_err());
    }
}
