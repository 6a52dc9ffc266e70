//! Flags about the broker that joins several nodes.

use std::path::PathBuf;
use std::time::Duration;

use super::{size, time};

/// Flags about other nodes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Beyond one machine")]
pub(crate) struct BrokerArgs {
    /// Broker through which topics reach the subscribers of other nodes: nats://HOST:4222, tls://HOST:4222 (NATS over TLS), redis://HOST:6379 or rediss://HOST:6379 (over TLS), with USER:PASSWORD@ before the host if need be [default: topics are of this process alone]. Other users can read flags: prefer the variable.
    #[arg(
        id = "broker_url",
        long = "broker",
        value_name = "URL",
        env = "LONGWIRE_BROKER",
        hide_env_values = true
    )]
    pub(crate) url: Option<String>,
    /// Certificates that sign those of the broker, in PEM [default: those that the system believes]
    #[arg(id = "broker_ca", long = "broker-ca", value_name = "FILE", requires = "broker_url")]
    pub(crate) ca: Option<PathBuf>,
    /// How the names begin that topics have at the broker; all nodes of a cluster have the same.
    #[arg(
        id = "broker_prefix",
        long = "broker-prefix",
        value_name = "WORDS",
        default_value = "longwire"
    )]
    pub(crate) prefix: String,
    /// Bytes of messages that may wait for the broker, for each worker; the oldest are dropped for more.
    #[arg(
        id = "broker_queue_bytes_max",
        long = "broker-queue-bytes-max",
        value_name = "SIZE",
        default_value = "16M",
        value_parser = size
    )]
    pub(crate) queue_bytes_max: usize,
    /// Longest time between two attempts to reach the broker, from 100ms on; never more than 500ms in the first ten minutes.
    #[arg(
        id = "broker_retry_max",
        long = "broker-retry-max",
        value_name = "TIME",
        default_value = "30s",
        value_parser = retry
    )]
    pub(crate) retry_max: Duration,
}

fn retry(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    let range = Duration::from_millis(100)..=Duration::from_secs(30);
    if range.contains(&time) { Ok(time) } else { Err("give 100ms to 30s".to_owned()) }
}
