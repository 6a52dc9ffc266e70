//! What was typed: commands, flags, their defaults and their help.

mod access;
mod broker;
mod config;
mod doctor;
mod manual;
mod secure;
mod serve;
mod tap;
mod upgrade;

pub(crate) use access::{AccessArgs, DeflateArgs, FlowArgs};
pub(crate) use broker::BrokerArgs;
pub(crate) use config::{ConfigAction, ConfigArgs};
pub(crate) use doctor::DoctorArgs;
pub(crate) use manual::{CompletionsArgs, ManArgs, Shell};
pub(crate) use secure::TlsArgs;
pub(crate) use serve::{AdminAddr, AdminArgs, PublishArg, ServeArgs, TopicArgs};
pub(crate) use tap::TapArgs;
pub(crate) use upgrade::UpgradeArgs;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use longwire::{BackendChoice, ListenAddr};
use tracing_subscriber::EnvFilter;

/// A WebSocket server for very many long-lived connections.
#[derive(Clone, Debug, Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to log: error, warn, info, debug, trace, or a filter such as `longwire=debug`.
    #[arg(
        long,
        global = true,
        env = "LONGWIRE_LOG",
        default_value = "info",
        value_name = "FILTER",
        value_parser = filter
    )]
    pub(crate) log: String,
    /// How to write the log: text, or json (an object on each line). `--log info,closes=debug` adds a line for each connection that ends and why, at most ten a second from each worker.
    #[arg(
        long,
        global = true,
        env = "LONGWIRE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A value of `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What to run.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Topics for plain WebSocket clients, and a port to look after them with a browser.
    #[command(after_help = serve::HELP)]
    Serve(Box<ServeArgs>),
    /// Sends each message back, text as text and binary as binary, on any path.
    #[command(after_help = ECHO_HELP)]
    Echo(Box<ServerArgs>),
    /// Replaces a running server by the program as it is now; no connect is refused.
    #[command(after_help = upgrade::HELP)]
    Upgrade(UpgradeArgs),
    /// Checks a configuration file, or prints the settings: by default, or those that are in force.
    #[command(after_help = config::HELP)]
    Config(ConfigArgs),
    /// How many connections this machine holds, what is in the way of more, and the commands that help.
    #[command(after_help = doctor::HELP)]
    Doctor(DoctorArgs),
    /// Shows the frames of connections live: time, direction, opcode, size, and with --payload what they carry.
    #[command(after_help = tap::HELP)]
    Tap(TapArgs),
    /// Writes the manual pages: one to standard output, or all to a directory.
    #[command(after_help = manual::MAN_HELP)]
    Man(ManArgs),
    /// Writes what a shell needs to complete commands and flags.
    #[command(after_help = manual::COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
}

impl Command {
    /// The flags of the server that it runs, if it runs one.
    pub(crate) fn server(&self) -> Option<&ServerArgs> {
        if let Self::Serve(args) = self {
            Some(&args.server)
        } else if let Self::Echo(args) = self {
            Some(args)
        } else {
            None
        }
    }

    /// The same, to change them.
    pub(crate) fn server_mut(&mut self) -> Option<&mut ServerArgs> {
        if let Self::Serve(args) = self {
            Some(&mut args.server)
        } else if let Self::Echo(args) = self {
            Some(args)
        } else {
            None
        }
    }
}

const ECHO_HELP: &str = "\
Sizes take K, M, G (of 1024): 64K. Times take ms, s, m, h: 30s. `none` switches off where it says so.

Try it:  longwire echo --listen 127.0.0.1:9001
         then, in a browser's console:
         ws = new WebSocket('ws://127.0.0.1:9001'); ws.onmessage = e => console.log(e.data);
         ws.onopen = () => ws.send('hello')

Over TLS: longwire echo --tls-self-signed
         open https://127.0.0.1:9001 once to accept the certificate, then new WebSocket('wss://127.0.0.1:9001')

Each flag is also a variable (LONGWIRE_CONNS_MAX) and a key of the file of --config (conns_max); flags win over variables, and these over the file. `longwire config` checks and prints.

SIGHUP reads the file and the certificates again. SIGTERM drains (close code 1012, will be back), SIGINT too (1001); a second signal stops at once. `longwire upgrade` replaces it. Sockets of systemd (LISTEN_FDS) take the place of --listen, those named tls of --listen-tls.
Exit codes: 0 stopped as asked, 2 it could not start or run; one line says why.";

/// Flags of every server; those of `longwire echo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// File of settings, in TOML; `longwire config print --default` prints one to begin with. Also by LONGWIRE_CONFIG [default: none is read]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen: 127.0.0.1:9001, [::1]:9001, unix:/run/app.sock or unix:@name. May be given several times; port 0 lets the kernel choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    pub(crate) listen: Vec<ListenAddr>,
    /// Permissions of socket files, such as 660: who may write may connect [default: what the umask leaves]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) unix_mode: Option<u32>,
    /// How to talk to the kernel: auto, io_uring or epoll. `auto` takes io_uring if it works here.
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    pub(crate) backend: BackendChoice,
    /// Number of workers, from 1 to 1024; more than cores share these [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Cores to pin the workers to, such as 0-3,6 [default: all the process may use]
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<String>,
    /// Keep connections as io_uring direct descriptors, outside the descriptor limit.
    #[arg(long)]
    pub(crate) direct_descriptors: bool,
    /// Connections that may wait to be accepted at an address, per worker.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(crate) backlog: u32,

    /// Connections at one time; more are answered with 503 [default: what the descriptor limit allows]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) conns_max: Option<usize>,
    /// Handshakes in progress at one time, per worker; more are answered with 503.
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Limits")]
    pub(crate) handshakes_max: usize,
    /// Handshakes that begin per second, of all workers together; more are answered with 503, to come back after 2 to 10 s [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) handshakes_per_second: Option<NonZeroU32>,
    /// Bytes of a message; larger ones close the connection with 1009.
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = size, help_heading = "Limits")]
    pub(crate) message_bytes_max: usize,
    /// Bytes of a frame [default: as --message-bytes-max]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Limits")]
    pub(crate) frame_bytes_max: Option<usize>,
    /// Bytes of a request line; longer ones are answered with 414.
    #[arg(long, value_name = "SIZE", default_value = "8K", value_parser = size, help_heading = "Limits")]
    pub(crate) request_line_bytes_max: usize,
    /// Bytes of all header lines; more are answered with 431.
    #[arg(long, value_name = "SIZE", default_value = "16K", value_parser = size, help_heading = "Limits")]
    pub(crate) head_bytes_max: usize,
    /// Header lines; more are answered with 431.
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Limits")]
    pub(crate) header_count_max: usize,
    /// Fragments without payload in a row; more close the connection with 1008.
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Limits")]
    pub(crate) empty_fragments_max: u16,
    /// Pings and pongs a peer may send per second, beyond a burst of twice as many; more close the connection with 1008.
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Limits")]
    pub(crate) control_frames_per_second: u16,

    /// Bytes queued for a connection above which it is not read.
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = size, help_heading = "Memory")]
    pub(crate) send_high_water_bytes: usize,
    /// Bytes queued for a connection above which it is closed with 1013 [default: 1M, or two of the largest messages]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Memory")]
    pub(crate) send_bytes_max: Option<usize>,
    /// Bytes of free blocks a worker keeps for the next large messages.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size, help_heading = "Memory")]
    pub(crate) spare_bytes_max: usize,
    /// Receive blocks of a worker, 16.5 KiB each; together they should fit the L2 cache.
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Memory")]
    pub(crate) receive_blocks_max: usize,

    /// From accept to the end of the request head.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) handshake_timeout: Duration,
    /// Silence after which a peer is sent a ping, or none.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = maybe_time, help_heading = "Timeouts")]
    pub(crate) ping_interval: MaybeTime,
    /// From a ping to any sign of life.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) pong_timeout: Duration,
    /// Silence after which a connection is closed with 1001, or none.
    #[arg(long, value_name = "TIME", default_value = "none", value_parser = maybe_time, help_heading = "Timeouts")]
    pub(crate) idle_timeout: MaybeTime,
    /// From the first byte of an unfinished message to its last.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) message_timeout: Duration,
    /// Time in which a peer must take at least 64 bytes of what is queued.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) write_stall_timeout: Duration,
    /// From our Close frame to the peer's.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) close_timeout: Duration,
    /// Time over which SIGTERM, SIGINT and an upgrade spread the closing of connections; 0s closes all at once.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) drain_time: Duration,
    /// From the end of --drain-time to the end of all connections.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time, help_heading = "Timeouts")]
    pub(crate) stop_timeout: Duration,
    /// Abort, for the service manager to restart, when a worker is stuck at one turn for so long, or none. From 1 s on it is logged.
    #[arg(long, value_name = "TIME", default_value = "none", value_parser = maybe_time, help_heading = "Timeouts")]
    pub(crate) stuck_abort: MaybeTime,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) deflate: DeflateArgs,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
}

/// A time, or `none`. A type of its own, because an `Option` would make the flag optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeTime(pub(crate) Option<Duration>);

fn maybe_time(text: &str) -> Result<MaybeTime, String> {
    if text == "none" {
        return Ok(MaybeTime(None));
    }
    let time = time(text).map_err(|advice| format!("{advice}; or `none`"))?;
    Ok(MaybeTime(Some(time)))
}

fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("give a whole number and a unit: 500ms, 30s, 5m, 1h".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "give a whole number and a unit: 30s".to_owned())?;
    let millis = number.checked_mul(millis).ok_or_else(|| "too long".to_owned())?;
    Ok(Duration::from_millis(millis))
}

/// A filter of the log. A word that is no level is the name of a part to log, of which there are few: any
/// other is a slip that would log nothing at all.
fn filter(text: &str) -> Result<String, String> {
    const ADVICE: &str = "give error, warn, info, debug, trace, or a filter such as longwire=debug";
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const PARTS: [&str; 2] = ["longwire", "closes"];
    let is_known = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || PARTS.contains(&word)
            || word.contains(['=', ':', '['])
    };
    if let Some(word) = text.split(',').map(str::trim).find(|word| !is_known(word)) {
        return Err(format!("`{word}` is no level; {ADVICE}"));
    }
    let mut parts = text.split(',').filter_map(|word| Some(word.split_once('=')?.0.trim()));
    let near =
        |part: &str| PARTS.iter().find(|own| matches!(strsim::levenshtein(own, part), 1..=2));
    if let Some((part, own)) = parts.find_map(|part| Some((part, near(part)?))) {
        return Err(format!("`{part}` is no part of the log; did you mean `{own}`?"));
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| ADVICE.to_owned())
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("give the octal digits of chmod: 600, 660, 666".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("give bytes, or K, M, G of them: 65536, 64K, 16M".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "give bytes: 65536, 64K, 16M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("16M"), Ok(16 << 20));
        assert!(size("K").is_err());
        assert!(size("64KB").is_err());
        assert!(size("99999999999G").is_err());
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(mode("660"), Ok(0o660));
        for wrong in ["1000", "rw-", "0x1ff", "680", ""] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert!(time("30").is_err());
        assert!(time("s").is_err());
        assert_eq!(maybe_time("none"), Ok(MaybeTime(None)));
    }

    #[test]
    fn filters_of_the_log_that_would_log_nothing_are_refused() {
        for fine in
            ["info", "OFF", "info,closes=debug", "longwire=debug", "warn,rustls=info", "closes"]
        {
            assert_eq!(filter(fine), Ok(fine.to_owned()));
        }
        for wrong in ["", "inof", "info,", "info,closed=debug", "longwires=info", "longwire=loud"] {
            assert!(filter(wrong).is_err(), "{wrong:?}");
        }
    }
}
