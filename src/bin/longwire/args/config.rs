//! Flags of `longwire config`.

use std::ffi::OsString;
use std::path::PathBuf;

/// What follows the list of flags of `longwire config`.
pub(super) const HELP: &str = "\
A setting has one name: the flag --conns-max is the variable LONGWIRE_CONNS_MAX and the key conns_max of a file, which is flat TOML. Flags win over variables, variables over the file, and the file over the defaults. A file is read if --config or LONGWIRE_CONFIG names it.

Try it:  longwire config print --default > longwire.toml
         longwire config check longwire.toml
         longwire serve --config longwire.toml

SIGHUP has the server read the file again: limits, timeouts, origins, certificates and the log level change without a restart, and it says which changes need one.";

/// What follows the list of flags of `longwire config check`.
pub(super) const CHECK_HELP: &str = "\
It is read as `longwire serve --config FILE` would here, with the variables over it, and nothing is listened on: keys and values, ranges, certificates, the URL of the broker, limits of this machine.
Exit codes: 0 all is well, 1 it is not, with a line for each fault, 2 there is no such file; one line says why.";

/// What follows the list of flags of `longwire config print`.
pub(super) const PRINT_HELP: &str = "\
Try it:  longwire config print --config longwire.toml --conns-max 5000

What is not said anywhere has its default, and is shown as a comment. Secrets are hidden.
Exit codes: 0 it was printed, 2 something is wrong; a line for each fault says what.";

/// Flags of `longwire config`.
#[derive(Clone, Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

/// What to do with a configuration.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum ConfigAction {
    /// Says all that is wrong with a file, without serving.
    #[command(after_help = CHECK_HELP)]
    Check {
        /// The file [default: the one that LONGWIRE_CONFIG names]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Prints what `longwire serve` would run with, and where each value comes from.
    #[command(after_help = PRINT_HELP)]
    Print {
        /// Print a file of all keys with their defaults instead, to begin with.
        #[arg(long, exclusive = true)]
        default: bool,
        /// Flags of `longwire serve`, --config among them.
        #[arg(
            value_name = "FLAGS",
            trailing_var_arg = true,
            allow_hyphen_values = true,
            num_args = 0..
        )]
        flags: Vec<OsString>,
    },
}
