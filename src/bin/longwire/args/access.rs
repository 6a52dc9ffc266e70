//! Flags about who may connect, how fast they may go, and whom to believe.

use clap::builder::TypedValueParser;
use longwire::{ForwardedHeader, Overflow, RateMode};

use super::{MaybeTime, maybe_time, size};

/// Flags about who may connect, and whom to believe.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// Site whose scripts may connect, such as https://example.org; others are answered with 403. May be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Vec<String>,
    /// Let scripts of any site connect, without a warning.
    #[arg(long, conflicts_with = "origin")]
    pub(crate) allow_any_origin: bool,
    /// Answer requests without Origin, which browsers always send, with 403.
    #[arg(long)]
    pub(crate) require_origin: bool,
    /// Sub-protocol to speak if the client offers it; the first that fits is chosen. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    pub(crate) protocol: Vec<String>,
    /// Connections of one client address; more are answered with 429 [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) conns_per_address_max: Option<u32>,
    /// TCP connections begin with a header of the PROXY protocol, version 1 or 2.
    #[arg(long, requires = "trusted_proxy")]
    pub(crate) proxy_protocol: bool,
    /// Header in which trusted proxies tell the client's address: x-forwarded-for, forwarded or x-real-ip [default: none is read]
    #[arg(long, value_name = "HEADER", requires = "trusted_proxy")]
    pub(crate) forwarded_header: Option<ForwardedHeader>,
    /// Network of proxies to be believed, such as 10.0.0.0/8. May be given several times.
    #[arg(long, value_name = "NET")]
    pub(crate) trusted_proxy: Vec<String>,
}

/// Flags about compression.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Compression")]
pub(crate) struct DeflateArgs {
    /// Compress messages with clients that offer it (permessage-deflate).
    #[arg(long)]
    pub(crate) deflate: bool,
    /// Let messages refer to earlier ones: smaller messages, some 400 KiB for each connection.
    #[arg(long, requires = "deflate")]
    pub(crate) deflate_takeover: bool,
    /// From 1, fast, to 9, small.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = level(), requires = "deflate")]
    pub(crate) deflate_level: u8,
    /// How far a message may refer back, as a logarithm of bytes, from 9 to 15.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = window_bits(), requires = "deflate")]
    pub(crate) deflate_window_bits: u8,
    /// Messages of fewer bytes are sent as they are.
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = size, requires = "deflate")]
    pub(crate) deflate_bytes_min: usize,
}

/// Flags about how fast a connection may go, and how long it may last.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Flow")]
pub(crate) struct FlowArgs {
    /// What becomes of a message when the queue of its connection is full: close (with 1013) or drop.
    #[arg(long, value_name = "POLICY", default_value = "close")]
    pub(crate) overflow: Overflow,
    /// Messages a peer may send per second [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) messages_per_second: Option<u32>,
    /// Bytes a peer may send per second [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) bytes_per_second: Option<usize>,
    /// What becomes of a peer that is faster: close (with 1008) or throttle.
    #[arg(long, value_name = "MODE", default_value = "close")]
    pub(crate) rate_mode: RateMode,
    /// Time after which a connection is closed with 1001, or none.
    #[arg(long, value_name = "TIME", default_value = "none", value_parser = maybe_time)]
    pub(crate) lifetime_max: MaybeTime,
    /// Bytes that all connections together may make the server hold; new ones are refused at 80 % of it [default: 80 % of the memory of the machine or container]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory_bytes_max: Option<usize>,
}

fn level() -> impl TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(1..=9)
}

fn window_bits() -> impl TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(9..=15)
}

/// A token of HTTP (RFC 9110 §5.6.2); nothing else could be offered, so it would never be chosen.
fn protocol(text: &str) -> Result<String, String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(is_token) {
        return Err("give one name of letters, digits and !#$%&'*+-.^_`|~".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_protocols_are_tokens() {
        assert_eq!(protocol("v2.chat"), Ok("v2.chat".to_owned()));
        for wrong in ["", "a b", "a,b", "a/b", "\u{e9}", "a\r\nb"] {
            assert!(protocol(wrong).is_err(), "{wrong:?}");
        }
    }
}
