//! Flags of `longwire tap`.

use std::net::IpAddr;

use longwire::ConnId;

/// What follows the list of flags.
pub(super) const HELP: &str = "\
Shows frames by the administration port of a running `longwire serve`. Names of connections are in /connections.

Try it:  longwire tap --topic lobby --payload
         1f watching 127.0.0.1
         12:03:07.581 1f in  text 5 bytes  hello
         12:03:07.581 1f out text 5 bytes  hello

A message of several frames, or a compressed one, follows its frames once more as `whole`. Payloads are cut at 1024 bytes; control characters, and bytes that are no text, are escaped. What this program does not take fast enough is left out, and counted.
A server that wants a token for administration is shown the one in LONGWIRE_ADMIN_TOKEN.

Exit codes: 0 the connection has ended, or --count is reached, 1 there is no such connection, 2 the server could not be asked; one line says why.";

/// Flags of `longwire tap`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("target").required(true).multiple(false))]
pub(crate) struct TapArgs {
    /// Show this connection, until it ends.
    #[arg(long, value_name = "ID", group = "target")]
    pub(crate) conn: Option<ConnId>,
    /// Show connections that subscribe to this topic, up to 16 of each worker.
    #[arg(long, value_name = "NAME", group = "target")]
    pub(crate) topic: Option<String>,
    /// Show connections of this client address, up to 16 of each worker; also those that come later.
    #[arg(long, value_name = "ADDRESS", group = "target")]
    pub(crate) addr: Option<IpAddr>,
    /// Show payloads as well. They may be confidential.
    #[arg(long)]
    pub(crate) payload: bool,
    /// Stop after so many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Write the lines of the server as they are, an object of JSON each.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the server listens for administration.
    #[arg(
        id = "admin_url",
        long = "admin",
        value_name = "URL",
        default_value = "http://127.0.0.1:9002"
    )]
    pub(crate) admin: String,
}
