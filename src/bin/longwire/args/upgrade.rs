//! Flags of `longwire upgrade`.

/// What follows the list of flags.
pub(super) const HELP: &str = "\
Put the new program in the place of the old one first (rename it there, as package managers do), then:  longwire upgrade

The running server starts the program that lies where its own was started from, with the flags it was started with, and hands it the listening sockets: no connect is refused or reset. When all workers of the new process serve, the old one is no longer ready, serves the connections it has, closes them with 1012 spread over its --drain-time, and ends. If the new one does not come to serve, the old one goes on as if nothing had happened. Files that flags name (configuration, certificates) are read again; flags themselves change with a restart alone.

It is told by the user of the server, or root, on the same machine and in the same network namespace.
Exit codes: 0 the new process serves; 1 it does not, and the old one goes on; 2 there is no such server, or several; one line says why.";

/// Flags of `longwire upgrade`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UpgradeArgs {
    /// Process to replace [default: the one that runs here, if there is one]
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
}
