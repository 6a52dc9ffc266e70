//! What was typed: scenarios, flags, their defaults and their help.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use longwire::BackendChoice;

use crate::compare::CompareArgs;
use crate::engine::payload::Kind;
use crate::expect::Condition;
use crate::units;

/// Drives any WebSocket server and tells the truth about it.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = HELP, subcommand_value_name = "SCENARIO", subcommand_help_heading = "Scenarios")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const HELP: &str = "\
`loadgen URL` alone is `loadgen echo URL`.

  loadgen ws://127.0.0.1:9001/echo
  loadgen echo ws://127.0.0.1:9001/echo --conns 1000 --rate 50000      latency, open loop
  loadgen idle ws://127.0.0.1:9001/echo --conns 10000 --pid $(pidof longwire)
  loadgen echo wss://localhost:9443/ --ca ca.pem --deflate --payload json --size 1K

Sizes take K, M (of 1024): 16K. Counts take K, M (of 1000): 10K. Times take us, ms, s, m, h: 30s.

Exit codes: 0 all is well; 1 the server did something wrong, or a --fail-if holds; 2 the run could
not be made: one line says why; 3 with --strict, the generator was the limit.";

/// A time, or none. Under this name, because an `Option` would make the flag itself optional.
pub(crate) type MaybeTime = Option<Duration>;

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Messages that the server sends back: throughput (closed loop) or latency (--rate).
    Echo(EchoArgs),
    /// Connections that are silent but for pings: memory, and CPU while nothing happens.
    Idle(IdleArgs),
    /// One publisher, many subscribers on one URL: loss, order and delay of each delivery.
    Fanout(FanoutArgs),
    /// Connections that open, say one thing and close, at a steady rate.
    Churn(ChurnArgs),
    /// All connections at once, as after a restart of the server.
    Storm(StormArgs),
    /// What readers that do not read do to the others.
    Slow(SlowArgs),
    Conform(crate::conform::ConformArgs),
    /// Compares servers: a matrix file of servers and workloads, in turns, in one report.
    Bench(crate::bench::BenchArgs),
    /// Compares reports: a figure of b over the same of a.
    Compare(CompareArgs),
}

/// Flags of every scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Where to connect, such as ws://127.0.0.1:9001/echo or wss://localhost:9443/.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Threads, each with its own event loop [default: one per core, less one for the server]
    #[arg(long, value_name = "N", help_heading = "Generator")]
    pub(crate) threads: Option<usize>,
    /// Cores to pin the threads to, such as 0-3,6 [default: the last ones this process may use]
    #[arg(long, value_name = "LIST", help_heading = "Generator")]
    pub(crate) cores: Option<String>,
    /// How to talk to the kernel: auto, io_uring or epoll.
    #[arg(long, value_name = "BACKEND", default_value = "auto", help_heading = "Generator")]
    pub(crate) backend: BackendChoice,
    /// Keep connections as io_uring direct descriptors: the descriptor limit then holds per thread.
    #[arg(long, help_heading = "Generator")]
    pub(crate) direct_descriptors: bool,
    /// Local addresses to connect from, by comma [default: on loopback as many as it takes]
    #[arg(long, value_name = "ADDRS", value_delimiter = ',', help_heading = "Generator")]
    pub(crate) source: Vec<IpAddr>,
    /// Handshakes in progress at one time, over all threads.
    #[arg(long, value_name = "N", default_value = "256", value_parser = units::parse_count, help_heading = "Generator")]
    pub(crate) handshakes: usize,
    /// From connecting to the end of the opening handshake, and from a Close to its answer.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration, help_heading = "Generator")]
    pub(crate) timeout: Duration,
    /// One more header of each request, as 'Name: value'. May be repeated.
    #[arg(long, value_name = "HEADER", value_parser = header, help_heading = "Generator")]
    pub(crate) header: Vec<(String, String)>,
    /// Sub-protocol to offer. May be repeated.
    #[arg(long, value_name = "NAME", help_heading = "Generator")]
    pub(crate) protocol: Vec<String>,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) deflate: DeflateArgs,

    /// Observe the server with this process id: CPU, memory, descriptors.
    #[arg(long, value_name = "PID", help_heading = "Server", conflicts_with = "server")]
    pub(crate) pid: Option<u32>,
    /// Start the server with this command, observe it, and stop it in the end.
    #[arg(long, value_name = "COMMAND", help_heading = "Server")]
    pub(crate) server: Option<String>,

    /// Write the report as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as one self-contained page.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) html: Option<PathBuf>,
    /// Exit with 1 if this holds, such as 'p99>5ms' or 'errors>0'. May be repeated.
    #[arg(long, value_name = "CONDITION", help_heading = "Results")]
    pub(crate) fail_if: Vec<Condition>,
    /// Exit with 3 if the generator was the limit.
    #[arg(long, help_heading = "Results")]
    pub(crate) strict: bool,
    /// Show no progress.
    #[arg(long, short, help_heading = "Results")]
    pub(crate) quiet: bool,
}

/// How a server of a wss:// URL has to prove who it is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS and compression")]
pub(crate) struct TlsArgs {
    /// Trust the authorities in this PEM file, and no others [default: those this system trusts]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The name to ask for (SNI) and to find in the certificate [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
}

/// Whether messages are compressed.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS and compression")]
pub(crate) struct DeflateArgs {
    /// Offer permessage-deflate (RFC 7692); the report says whether the server agreed. Messages
    /// under 256 bytes are sent as they are.
    #[arg(long)]
    pub(crate) deflate: bool,
    /// Let messages refer to earlier ones. Those of a run resemble each other closely: this is the
    /// best case.
    #[arg(long, requires = "deflate")]
    pub(crate) deflate_takeover: bool,
}

/// What messages are like.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Messages {
    /// Bytes of a message.
    #[arg(long, value_name = "SIZE", default_value = "20", value_parser = units::parse_size)]
    pub(crate) size: usize,
    /// What they are: binary, text in mixed scripts, or JSON as services send it (for --deflate).
    #[arg(long, value_name = "KIND", default_value = "binary")]
    pub(crate) payload: Kind,
    /// The same as --payload text.
    #[arg(long, conflicts_with = "payload")]
    pub(crate) text: bool,
    /// Do not compare what comes back.
    #[arg(long)]
    pub(crate) no_verify: bool,
}

impl Messages {
    /// The kind of the two flags.
    pub(crate) fn kind(&self) -> Kind {
        if self.text { Kind::Text } else { self.payload }
    }
}

/// Flags of `loadgen echo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) messages: Messages,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "64", value_parser = units::parse_count)]
    pub(crate) conns: usize,
    /// Closed loop: messages in flight on each connection [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    pub(crate) depth: Option<usize>,
    /// Open loop: messages per second over all connections, timed from when each was due.
    #[arg(long, value_name = "N", value_parser = units::parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Length of the measurement.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub(crate) duration: Duration,
    /// Length of what comes before, which is not measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::parse_duration)]
    pub(crate) warmup: Duration,
}

/// Flags of `loadgen idle`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::parse_count)]
    pub(crate) conns: usize,
    /// How long they are held, once all are open.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub(crate) hold: Duration,
    /// Silence after which a connection sends a ping, or none.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::parse_duration_or_none)]
    pub(crate) ping: MaybeTime,
    /// Do not have each connection answer one message when all are open (for servers that do not echo).
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// Flags of `loadgen fanout`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections that receive.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::parse_count)]
    pub(crate) subscribers: usize,
    /// Bytes of a message, at least 24.
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = units::parse_size)]
    pub(crate) size: usize,
    /// What follows the first 24 bytes: binary, text or json (for --deflate).
    #[arg(long, value_name = "KIND", default_value = "binary")]
    pub(crate) payload: Kind,
    /// Messages published per second.
    #[arg(long, value_name = "N", default_value = "10", value_parser = units::parse_rate)]
    pub(crate) rate: f64,
    /// Length of the measurement.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub(crate) duration: Duration,
}

/// Flags of `loadgen churn`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections opened per second.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::parse_rate)]
    pub(crate) rate: f64,
    /// Length of the measurement.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub(crate) duration: Duration,
}

/// Flags of `loadgen storm`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections. With --server they are opened first, the server is restarted, and what is
    /// measured is their return.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::parse_count)]
    pub(crate) conns: usize,
    /// How long it may take until all are open.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::parse_duration)]
    pub(crate) within: Duration,
}

/// Flags of `loadgen slow`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SlowArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections that ask for echoes and never read them.
    #[arg(long, value_name = "N", default_value = "100", value_parser = units::parse_count)]
    pub(crate) readers: usize,
    /// Connections that behave, and whose latency is measured.
    #[arg(long, value_name = "N", default_value = "64", value_parser = units::parse_count)]
    pub(crate) conns: usize,
    /// Bytes of each message.
    #[arg(long, value_name = "SIZE", default_value = "1K", value_parser = units::parse_size)]
    pub(crate) size: usize,
    /// What messages are: binary, text or json (for --deflate).
    #[arg(long, value_name = "KIND", default_value = "binary")]
    pub(crate) payload: Kind,
    /// Messages per second over those that behave.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::parse_rate)]
    pub(crate) rate: f64,
    /// Length of the measurement; before it, as long without slow readers.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub(crate) duration: Duration,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) || value.contains(['\r', '\n']) {
        return Err("a name of letters, digits and dashes, a colon, a value on one line".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn closed_and_open_loop_are_never_mixed() {
        let typed = ["loadgen", "echo", "ws://x", "--depth", "2", "--rate", "5"];
        assert!(Args::try_parse_from(typed).is_err());
    }

    #[test]
    fn flags_of_tls_and_compression_that_contradict_each_other_are_refused() {
        for flags in ["--ca x --insecure", "--deflate-takeover", "--text --payload json"] {
            let typed = ["loadgen", "echo", "wss://x"].into_iter().chain(flags.split(' '));
            assert!(Args::try_parse_from(typed).is_err(), "{flags}");
        }
    }

    #[test]
    fn header_is_a_name_and_a_value_on_one_line() {
        assert_eq!(header("X-A:  b: c "), Ok(("X-A".to_owned(), "b: c".to_owned())));
        for wrong in ["", "no colon", ": x", "a b: c", "a: b\r\nc: d"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }
}
