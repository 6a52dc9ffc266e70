//! Flags of `longwire serve`: topics, and the administration port.

use std::net::SocketAddr;
use std::str::FromStr;

use super::{BrokerArgs, ServerArgs, size};

/// What follows the list of flags.
pub(super) const HELP: &str = "\
Sizes take K, M, G (of 1024): 64K. Times take ms, s, m, h: 30s. `none` switches off where it says so. A PREFIX is how the names of topics begin; of several that fit, the longest decides.

Try it:  longwire serve
         open http://127.0.0.1:9002/, or enter in a browser's console:
         ws = new WebSocket('ws://127.0.0.1:9001/topics/lobby'); ws.onmessage = e => console.log(e.data);
         ws.onopen = () => ws.send('hello')
         and in a shell: curl -d 'hello, all' http://127.0.0.1:9002/topics/lobby

On --listen:  /topics/NAME (what is sent there is sent to all who are there), /echo, /healthz
On --admin:   / (a page), POST /topics/NAME, /metrics, /stats.json, /connections?limit=N, /connections?closed&limit=N, /tap, /gaps?after=N, /healthz, /readyz

Prices, of which only the last counts, from a server that alone may publish:
         longwire serve --publish none --latest prices/ --history prices/=1

On several machines, each with the same broker (NATS or Redis); clients may connect to any of them:
         longwire serve --broker nats://broker.example:4222

Each flag is also a variable (LONGWIRE_CONNS_MAX) and a key of the file of --config (conns_max); flags win over variables, and these over the file. `longwire config` checks and prints.

SIGHUP reads the file and the certificates again. SIGTERM drains (close code 1012, will be back), SIGINT too (1001); a second signal stops at once. `longwire upgrade` replaces it. Sockets of systemd (LISTEN_FDS) take the place of --listen, those named tls of --listen-tls, and admin of --admin.
Exit codes: 0 stopped as asked, 2 it could not start or run; one line says why.";

/// Flags of `longwire serve`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) topics: TopicArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags about topics.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Topics")]
pub(crate) struct TopicArgs {
    /// Topics to which WebSocket clients may publish: any, none, or the prefixes of their names. Who publishes elsewhere is closed with 1008.
    #[arg(long, value_name = "PREFIX", default_value = "any", num_args = 1.., value_parser = publish)]
    pub(crate) publish: Vec<PublishArg>,
    /// Topics of which only the last message counts: slow readers are not sent what has been replaced. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) latest: Vec<String>,
    /// Topics of which slow readers miss all but the last N messages, instead of being closed with 1013. May be given several times.
    #[arg(long, value_name = "PREFIX=N")]
    pub(crate) drop_oldest: Vec<TopicCount>,
    /// Topics of which a new subscriber is sent the last N messages (of --latest topics, the last one). May be given several times.
    #[arg(long, value_name = "PREFIX=N")]
    pub(crate) history: Vec<TopicCount>,
    /// Topics at one time, per worker; connections to others are closed with 1013.
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub(crate) topics_max: usize,
    /// Subscriptions of a connection.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) subscriptions_max: usize,
    /// Bytes of the name of a topic; longer ones are answered with 400.
    #[arg(long, value_name = "SIZE", default_value = "255", value_parser = size)]
    pub(crate) topic_bytes_max: usize,
    /// Messages that may wait for a worker; who publishes more is closed with 1013, or answered with 503.
    #[arg(long, value_name = "N", default_value_t = 1 << 16)]
    pub(crate) inbox_orders_max: usize,
    /// Bytes of the messages that may wait for a worker; more are answered in the same way.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    pub(crate) inbox_bytes_max: usize,
}

/// Flags about administration.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Administration")]
pub(crate) struct AdminArgs {
    /// Where to listen for administration: a TCP address, or none.
    #[arg(
        id = "admin_addr",
        long = "admin",
        value_name = "ADDR",
        default_value = "127.0.0.1:9002"
    )]
    pub(crate) addr: AdminAddr,
    /// What every request for administration must show, as `Authorization: Bearer TOKEN` or as the password that a browser asks for; only /healthz and /readyz are free. Required where others than this machine can connect. Other users can read flags: prefer the variable.
    #[arg(
        id = "admin_token",
        long = "admin-token",
        value_name = "TOKEN",
        env = "LONGWIRE_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// Name by which browsers may ask for it, beside localhost and IP addresses. May be given several times.
    #[arg(id = "admin_host", long = "admin-host", value_name = "NAME", value_parser = host)]
    pub(crate) hosts: Vec<String>,
    /// Connections that have ended of which each worker keeps a record for /connections?closed; 0 keeps none.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) closes_kept: usize,
}

/// A value of `--publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublishArg {
    Any,
    None,
    Prefix(String),
}

/// How the names of topics begin, and a number of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicCount {
    pub(crate) prefix: String,
    pub(crate) count: usize,
}

/// Where to listen for administration, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddr {
    Nowhere,
    Tcp(SocketAddr),
}

fn publish(text: &str) -> Result<PublishArg, String> {
    match text {
        "any" => Ok(PublishArg::Any),
        "none" => Ok(PublishArg::None),
        "" => Err("give any, none, or how the names of topics begin".to_owned()),
        prefix => Ok(PublishArg::Prefix(prefix.to_owned())),
    }
}

impl FromStr for TopicCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "give how the names begin and a number of messages, at least 1: prices/=10";
        let (prefix, count) = text.rsplit_once('=').ok_or(advice)?;
        let count: usize = count.parse().map_err(|_| advice)?;
        if count == 0 {
            return Err(advice.to_owned());
        }
        Ok(Self { prefix: prefix.to_owned(), count })
    }
}

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Nowhere);
        }
        let addr = text.parse();
        addr.map(Self::Tcp).map_err(|_| "give 127.0.0.1:9002, [::1]:9002 or none".to_owned())
    }
}

fn host(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    if text.is_empty() || !text.chars().all(is_name) {
        return Err("give a name without a port: admin.example.org".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_behind_the_last_equals_sign() {
        let parsed = |text: &str| text.parse::<TopicCount>().ok().map(|t| (t.prefix, t.count));
        assert_eq!(parsed("prices/=10"), Some(("prices/".to_owned(), 10)));
        assert_eq!(parsed("a=b=1"), Some(("a=b".to_owned(), 1)));
        assert_eq!(parsed("=3"), Some((String::new(), 3)), "all topics");
        for wrong in ["prices/", "prices/=", "prices/=0", "prices/=-1", "prices/=x"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_are_names_without_a_port() {
        assert_eq!(host("Admin.Example"), Ok("admin.example".to_owned()));
        for wrong in ["", "a:80", "http://a", "a/b"] {
            assert!(host(wrong).is_err(), "{wrong:?}");
        }
    }
}
