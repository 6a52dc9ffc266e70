//! Flags about TLS.

use std::path::PathBuf;
use std::time::Duration;

use longwire::ListenAddr;

use super::time;

/// Flags about TLS.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Certificate chain in PEM, the server's own first. With further pairs of --tls-cert and --tls-key, clients are shown the one of the name they ask for. Changed files are taken up within seconds, or on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Vec<PathBuf>,
    /// Private key in PEM, one for each --tls-cert, in the same order.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Vec<PathBuf>,
    /// Make a certificate for localhost that nobody vouches for, to try wss with.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub(crate) tls_self_signed: bool,
    /// Where to listen over TLS, like --listen. May be given several times [default: with a certificate, every TCP address of --listen speaks TLS]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen_tls: Vec<ListenAddr>,
    /// Ask clients for a certificate of the authorities in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Refuse clients that show no certificate.
    #[arg(long, requires = "tls_client_ca")]
    pub(crate) tls_client_required: bool,
    /// TLS handshakes in progress at one time, per worker; more are closed.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) tls_handshakes_max: usize,
    /// From accept to the end of the TLS handshake.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) tls_handshake_timeout: Duration,
}
