//! The command line of `loadgen conform`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::selection::Selection;
use crate::units;

/// An extension that the server has to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Required {
    /// permessage-deflate (RFC 7692).
    Deflate,
}

/// Checks a WebSocket server against RFC 6455 and RFC 7692, case by case
///
/// The server must echo: text as text, binary as binary, whole. Sections 1 to 13 are numbered as in
/// the Autobahn TestSuite and send the same bytes, other data of the same sizes in 12 and 13; their
/// verdicts mean the same, and three things are stricter: large messages are compared to the last
/// byte, a close code that is missing where the RFC wants one is NON-STRICT, and what a server
/// agrees on about compression must fit the offer, as must what it then sends. Sections 20 to 25 are
/// about the opening handshake, negotiation, masks and lengths, 26 and 27 about offers of
/// permessage-deflate and compressed data.
///
/// A case is OK, NON-STRICT (allowed, but not what the RFC prefers), INFORMATIONAL (the RFC leaves
/// it open), UNIMPLEMENTED (the server did not agree on permessage-deflate, which nobody has to) or
/// FAILED. Status 0: nothing failed. 1: a case failed, or was not implemented although `--require`
/// says so. 2: there is no WebSocket server, or a flag is wrong.
///
/// Section 9 sends messages of up to 16 MiB; a server with a lower limit fails there. For longwire:
/// `longwire echo --message-bytes-max 17M`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  loadgen conform ws://127.0.0.1:9001/
  loadgen conform ws://127.0.0.1:9001/ --cases '6.*,7.*' --json verdicts.json
  loadgen conform ws://127.0.0.1:9001/ --cases 9.1.6 --timeout 10s
  loadgen conform wss://localhost:9443/ --ca ca.pem --cases 12,13,26,27 --require deflate
  loadgen conform --list")]
pub(crate) struct ConformArgs {
    /// The echo server, as ws://HOST:PORT/PATH or wss://HOST:PORT/PATH
    #[arg(required_unless_present = "list")]
    pub(crate) url: Option<String>,

    /// Only these cases, as numbers or beginnings of numbers, with commas between: `1.*,6.4.2,20`
    #[arg(long, value_name = "CASES", default_value = "", hide_default_value = true)]
    pub(crate) cases: Selection,

    /// What the server has to speak; cases that it does not implement then count as failed
    #[arg(long, value_name = "EXTENSION")]
    pub(crate) require: Option<Required>,

    /// Trusts the certificates in this PEM file, and no others
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,

    /// Takes any certificate
    #[arg(long)]
    pub(crate) insecure: bool,

    /// How many cases run at the same time; those with large messages run two at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,

    /// How long the server may take to react; five times that between two bytes of large messages
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_duration)]
    pub(crate) timeout: Duration,

    /// Writes every verdict to this file, as JSON; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Writes a report to this file, as one HTML page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Lists the cases with what they send and expect, and runs none
    #[arg(long)]
    pub(crate) list: bool,
}
