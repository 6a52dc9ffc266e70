//! Every knob of a server: meaning, unit, default, range, and what it costs at worst.
//!
//! Chained setters; everything is checked once, in [`Builder::build`].

mod check;
mod reconfigure;

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::buf::PoolConfig;
use crate::compression::Compression;
use crate::io::addr::ListenAddr;
use crate::io::backend::BackendChoice;
use crate::policy::{Limits, Overflow, RateMode};
use crate::proto::handshake::forwarded::ForwardedHeader;
use crate::pubsub::{TopicPolicy, TopicSettings};
use crate::tls::Tls;

pub(crate) use check::{Checked, at_least, at_most};
pub use reconfigure::Reconfigured;
pub(crate) use reconfigure::Settings;

/// Settings of a server. Start from [`Server::builder`](crate::Server::builder); the defaults
/// serve most.
///
/// Each setter gives the unit, the default and the range; [`build`](Self::build) answers a value
/// outside it with [`Error::Misuse`](crate::Error::Misuse), in a line that says what is wrong. Times
/// are kept in eighths of a second and never end early. Where a connection is closed or a request
/// refused, the number is the close code (RFC 6455 §7.4.1) or the HTTP status.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` or `run`"]
pub struct Builder {
    /// None yet means the default.
    listen: Vec<Entrance>,
    given: Vec<Arc<OwnedFd>>,
    given_are_owned: bool,
    unix_mode: Option<u32>,
    proxy_protocol: bool,
    trusted_proxies: Vec<String>,
    forwarded: Option<ForwardedHeader>,
    conns_per_address_max: Option<u32>,
    allowed_origins: Option<Vec<String>>,
    compression: Option<Compression>,
    messages_per_second: Option<u32>,
    bytes_per_second: Option<u64>,
    rate_mode: RateMode,
    memory_bytes_max: Option<usize>,
    pub(crate) topics: TopicSettings,
    pub(crate) backend: BackendChoice,
    pub(crate) workers: Option<usize>,
    pub(crate) cores: Option<Vec<usize>>,
    pub(crate) direct_descriptors: bool,
    pub(crate) backlog: u32,
    pub(crate) conns_max: Option<usize>,
    pub(crate) limits: Limits,
    pub(crate) memory: PoolConfig,
    pub(crate) timeouts: Durations,
    frame_bytes_max: Option<usize>,
    send_bytes_max: Option<usize>,
}

/// The timeouts as they were given.
#[derive(Clone, Debug)]
pub(crate) struct Durations {
    handshake: Duration,
    tls_handshake: Duration,
    close: Duration,
    write_stall: Duration,
    ping_interval: Option<Duration>,
    pong: Duration,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    message: Duration,
    pub(crate) stop: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            given: Vec::new(),
            given_are_owned: false,
            unix_mode: None,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            forwarded: None,
            conns_per_address_max: None,
            allowed_origins: None,
            compression: None,
            messages_per_second: None,
            bytes_per_second: None,
            rate_mode: RateMode::Close,
            memory_bytes_max: None,
            topics: TopicSettings::default(),
            backend: BackendChoice::Auto,
            workers: None,
            cores: None,
            direct_descriptors: false,
            backlog: 4096,
            conns_max: None,
            limits: Limits::default(),
            memory: PoolConfig { receive_blocks_max: 64, spare_bytes_max: 64 << 20 },
            timeouts: Durations::default(),
            frame_bytes_max: None,
            send_bytes_max: None,
        }
    }
}

impl Default for Durations {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            handshake: seconds(10),
            tls_handshake: seconds(5),
            close: seconds(5),
            write_stall: seconds(30),
            ping_interval: Some(seconds(30)),
            pong: seconds(20),
            idle: None,
            lifetime: None,
            message: seconds(60),
            stop: seconds(10),
        }
    }
}

impl Builder {
    /// An address to listen on. The first call takes the place of the default, `127.0.0.1:9001`;
    /// each further one adds an address, up to 64. Costs a descriptor per worker each.
    ///
    /// ```
    /// # fn main() -> Result<(), longwire::InvalidListenAddr> {
    /// let builder = longwire::Server::builder()
    ///     .listen("0.0.0.0:9001".parse()?)
    ///     .listen("[::]:9001".parse()?)
    ///     .listen("unix:/run/app.sock".parse()?);
    /// # drop(builder);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A socket file that a killed server has left is replaced; one at which somebody answers is
    /// an error. The file is removed when the server stops.
    pub fn listen(mut self, addr: ListenAddr) -> Self {
        self.listen.push(Entrance { addr, tls: None });
        self
    }

    /// An address to listen on over TLS (`wss`), beside others. Costs at most 4 KiB of memory per
    /// open connection more than without.
    pub fn listen_tls(mut self, addr: ListenAddr, tls: Tls) -> Self {
        self.listen.push(Entrance { addr, tls: Some(tls) });
        self
    }

    /// Sockets that listen already, made by a service manager ([`listen_fds`](crate::listen_fds)),
    /// for the addresses of [`listen`](Self::listen) that they are at; the others are opened as ever. They stay open
    /// when the server stops: peers wait there for the next one. Fewer than workers are shared by
    /// these, or joined by more if they have `SO_REUSEPORT` and the user is the same.
    pub fn inherit(mut self, sockets: Vec<OwnedFd>) -> Self {
        self.given = sockets.into_iter().map(Arc::new).collect();
        self.given_are_owned = false;
        self
    }

    /// The same with the sockets of a server that this one replaces
    /// ([`Handle::listening_sockets`](crate::Handle::listening_sockets)): they are this server's,
    /// with the files of Unix sockets, once all its workers have their handlers, and get its
    /// [`backlog`](Self::backlog) and [`unix_mode`](Self::unix_mode) then. If it fails or is stopped
    /// before, the other server goes on with them as if nothing had happened.
    pub fn take_over(mut self, sockets: Vec<OwnedFd>) -> Self {
        self.given = sockets.into_iter().map(Arc::new).collect();
        self.given_are_owned = true;
        self
    }

    /// Whether each TCP connection begins with a header of the PROXY protocol (that of HAProxy),
    /// version 1 or 2, in which a proxy tells the address of its client. One without it, or from an address that is
    /// not among the [`trusted_proxies`](Self::trusted_proxies), is closed without an answer.
    /// Default off.
    pub fn proxy_protocol(mut self, on: bool) -> Self {
        self.proxy_protocol = on;
        self
    }

    /// Networks whose proxies are believed what they say about their clients, such as `10.0.0.0/8`
    /// or `2001:db8::7`. Default: nobody is. Needed by [`proxy_protocol`](Self::proxy_protocol) and
    /// [`forwarded_header`](Self::forwarded_header).
    pub fn trusted_proxies<T: AsRef<str>>(mut self, networks: &[T]) -> Self {
        self.trusted_proxies = networks.iter().map(|network| network.as_ref().to_owned()).collect();
        self
    }

    /// The header in which trusted proxies tell the address of a client. Default `None`: no header
    /// is read. Name the one that your proxy sets or overwrites; any other is the client's to forge.
    pub fn forwarded_header(mut self, header: Option<ForwardedHeader>) -> Self {
        self.forwarded = header;
        self
    }

    /// Connections of one client address; more are answered with 429, or closed before the TLS
    /// handshake. Addresses of IPv6 count by their /64. Default `None`: no limit. From 1. Behind
    /// a proxy it counts clients only if that tells their addresses (see
    /// [`trusted_proxies`](Self::trusted_proxies)), else the proxy itself.
    pub fn conns_per_address_max(mut self, conns: Option<u32>) -> Self {
        self.conns_per_address_max = conns;
        self
    }

    /// Handshakes that begin per second, of all workers together, beyond a burst of a quarter of a
    /// second's; more are answered with 503 and a `Retry-After` of 2 to 10 s, drawn by lot, before
    /// their request is read, or closed before the TLS handshake. So clients that all come back at
    /// once are let in at a rate that the server, and what stands behind it, can take. Default
    /// `None`: no limit. At least one for each worker.
    pub fn handshakes_per_second(mut self, handshakes: Option<NonZeroU32>) -> Self {
        self.limits.handshakes_per_second = handshakes;
        self
    }

    /// Connections of one worker whose TLS handshake is not complete; more are closed. Bounds what
    /// a flood of handshakes costs. Default 256. From 1.
    pub fn tls_handshakes_max(mut self, conns: usize) -> Self {
        self.limits.tls_handshakes_max = conns;
        self
    }

    /// From accept to the end of the TLS handshake. Default 5 s.
    pub fn tls_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.tls_handshake = timeout;
        self
    }

    /// Sites whose scripts may connect, such as `https://example.org`: scheme, host and port are
    /// compared exactly. Others are answered with 403, and a browser's script of another site
    /// cannot use the visitor's cookies here (RFC 6455 section 10.2). Default: any may.
    pub fn allowed_origins<T: AsRef<str>>(mut self, origins: &[T]) -> Self {
        self.allowed_origins =
            Some(origins.iter().map(|origin| origin.as_ref().to_owned()).collect());
        self
    }

    /// Lets scripts of any site connect. This is the default; write it out where it is meant.
    pub fn allow_any_origin(mut self) -> Self {
        self.allowed_origins = None;
        self
    }

    /// Whether a handshake without `Origin`, which browsers always send, is answered with 403.
    /// Default off.
    pub fn require_origin(mut self, on: bool) -> Self {
        self.limits.require_origin = on;
        self
    }

    /// Whether and how messages are compressed with clients that offer it (permessage-deflate,
    /// RFC 7692). Default `None`: never. Compression without takeover of contexts costs an idle
    /// connection nothing.
    pub fn compression(mut self, compression: Option<Compression>) -> Self {
        self.compression = compression;
        self
    }

    /// What becomes of a message for a connection whose queue is full. Default
    /// [`Overflow::Close`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Messages that a peer may send per second, beyond a burst of one second's; more close the
    /// connection with 1008, or make it wait ([`rate_mode`](Self::rate_mode)). Default `None`: no
    /// limit. From 1 to 268 million.
    pub fn messages_per_second(mut self, messages: Option<u32>) -> Self {
        self.messages_per_second = messages;
        self
    }

    /// Bytes that a peer may send per second, beyond a burst of one second's, headers of frames
    /// and TLS included. Default `None`: no limit. From 1; with [`RateMode::Close`] at least one of
    /// the largest messages.
    pub fn bytes_per_second(mut self, bytes: Option<u64>) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// What becomes of a peer that sends faster than it may. Default [`RateMode::Close`].
    pub fn rate_mode(mut self, mode: RateMode) -> Self {
        self.rate_mode = mode;
        self
    }

    /// Bytes that connections may make the whole server hold: queues, unfinished messages, TLS,
    /// engines of compression. At 80 % new connections are refused with 503, at 90 % peers with
    /// anything queued are not read, at 95 % those with the largest queues are closed with 1013.
    /// Default: 80 % of the memory that the machine or the container lets the process have. From
    /// 1 MiB.
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.memory_bytes_max = Some(bytes);
        self
    }

    /// How a topic treats those who come late and those who read slowly, by its name. Called when a
    /// topic comes to be on a core, and for each message that is published, by any thread: it should
    /// be quick, say the same each time, and not panic, which may end the process. Default:
    /// [`TopicPolicy::default`] for all. A topic that keeps messages does so on each core.
    ///
    /// ```
    /// use longwire::{Server, SlowReaders, TopicPolicy};
    ///
    /// let builder = Server::builder().topic_policy(|name| match name.split('/').next() {
    ///     Some("prices") => TopicPolicy::new().slow_readers(SlowReaders::Latest).history(1),
    ///     _ => TopicPolicy::new(),
    /// });
    /// # drop(builder);
    /// ```
    pub fn topic_policy(
        mut self,
        policy: impl Fn(&str) -> TopicPolicy + Send + Sync + 'static,
    ) -> Self {
        self.topics.policy = Arc::new(policy);
        self
    }

    /// Bytes of the longest name of a topic, in UTF-8; longer ones are
    /// [`InvalidTopic::TooLong`](crate::InvalidTopic::TooLong). Default 255, from 1 to 65,535.
    pub fn topic_bytes_max(mut self, bytes: usize) -> Self {
        self.topics.topic_bytes_max = bytes;
        self
    }

    /// Topics of a core, with those that are kept for their history alone; more are refused
    /// ([`SubscribeError::TooManyTopics`](crate::SubscribeError::TooManyTopics)). Default 1,048,576,
    /// from 1. Each takes some 300 bytes and its name.
    pub fn topics_max(mut self, topics: usize) -> Self {
        self.topics.topics_max = topics;
        self
    }

    /// Subscriptions of a connection; more are refused
    /// ([`SubscribeError::TooMany`](crate::SubscribeError::TooMany)), and one that asks for more over
    /// a hundred times in a second is closed with 1008. Default 256, from 1 to 65,535. Each takes at
    /// most 64 bytes.
    pub fn subscriptions_max(mut self, subscriptions: usize) -> Self {
        self.topics.subscriptions_max = subscriptions;
        self
    }

    /// Messages and other orders of other threads and cores that may wait for a core. With as many
    /// waiting, a message is refused ([`PublishError::Busy`](crate::PublishError::Busy)), and
    /// [`Handle::send`](crate::Handle::send) is false. Default 65,536, from 1.
    pub fn inbox_orders_max(mut self, orders: usize) -> Self {
        self.topics.inbox_orders_max = orders;
        self
    }

    /// Bytes of the messages that may wait for a core: with as many waiting, the next is refused as
    /// above. One more fits as long as there is room for its first byte. Default 64 MiB, from 1. What
    /// waits counts for [`memory_bytes_max`](Self::memory_bytes_max); all cores share one copy.
    pub fn inbox_bytes_max(mut self, bytes: usize) -> Self {
        self.topics.inbox_bytes_max = bytes;
        self
    }

    /// From the opening of a connection to its end: then it is closed with 1001, a little earlier
    /// for most, so that those that opened together do not come back together. Default `None`:
    /// never.
    pub fn lifetime_max(mut self, time: Option<Duration>) -> Self {
        self.timeouts.lifetime = time;
        self
    }

    /// Permissions of the socket files, such as `0o660`: who may write to the file may connect.
    /// Default: what the umask leaves, usually the user alone. At most `0o777`.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = Some(mode);
        self
    }

    /// How to talk to the kernel. Default [`BackendChoice::Auto`]: io_uring if it works here,
    /// else epoll.
    pub fn backend(mut self, backend: BackendChoice) -> Self {
        self.backend = backend;
        self
    }

    /// Number of workers, each with a thread, listeners and a handler of its own. Default: one
    /// for each core in the list of [`cores`](Self::cores). From 1 to 1024. More workers than cores
    /// share these in turn, which only pays for [`direct_descriptors`](Self::direct_descriptors).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Cores to pin the workers to, in order. Default: all that the process may use.
    pub fn cores(mut self, cores: Vec<usize>) -> Self {
        self.cores = Some(cores);
        self
    }

    /// Whether io_uring keeps connections as direct descriptors: they do not count against the
    /// descriptor limit, but have no peer address and are invisible to `ss -p` and `lsof`. A worker
    /// holds at most as many as the descriptor limit says; the process, that times its workers.
    /// Default off. Needs the io_uring backend.
    pub fn direct_descriptors(mut self, on: bool) -> Self {
        self.direct_descriptors = on;
        self
    }

    /// Connections that may wait to be accepted at an address, per worker, or all of a Unix socket;
    /// the kernel cuts it to `net.core.somaxconn`. Default 4096. From 1.
    pub fn backlog(mut self, conns: u32) -> Self {
        self.backlog = conns;
        self
    }

    /// Connections of the whole server; more are answered with 503. Default: what the descriptor
    /// limit of the process allows. From 1. Costs nothing until they come.
    pub fn conns_max(mut self, conns: usize) -> Self {
        self.conns_max = Some(conns);
        self
    }

    /// Connections of one worker whose handshake is not complete; more are answered with 503.
    /// Default 4096. From 1. Worst case of memory: this × 2 × (`head_bytes_max` +
    /// `request_line_bytes_max`).
    pub fn handshakes_max(mut self, conns: usize) -> Self {
        self.limits.handshakes_max = conns;
        self
    }

    /// Payload bytes of one message, from 125; a larger one closes the connection with 1009.
    /// Default 64 KiB. A connection holds less than twice what it has received of a message.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.message_bytes_max = bytes;
        self
    }

    /// Payload bytes of one frame, from 125; a larger one closes the connection with 1009.
    /// Default: as `message_bytes_max`.
    pub fn frame_bytes_max(mut self, bytes: usize) -> Self {
        self.frame_bytes_max = Some(bytes);
        self
    }

    /// Bytes of a request line; longer ones are answered with 414. Default 8 KiB. From 16.
    pub fn request_line_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.head.request_line_bytes_max = bytes;
        self
    }

    /// Bytes of all header lines of a request; more are answered with 431. Default 16 KiB. From 256.
    pub fn head_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.head.head_bytes_max = bytes;
        self
    }

    /// Header lines of a request; more are answered with 431. Default 100, from 5 to 256.
    pub fn header_count_max(mut self, count: usize) -> Self {
        self.limits.head.header_count_max = count;
        self
    }

    /// Fragments without payload in a row (RFC 6455 §5.4); one more closes the connection with 1008.
    /// Default 64. From 0.
    pub fn empty_fragments_max(mut self, count: u16) -> Self {
        self.limits.empty_fragments_max = count;
        self
    }

    /// Pings and pongs (RFC 6455 §5.5) a peer may send per second, beyond a burst of twice as many; more close the
    /// connection with 1008. Default 128. From 1 to 32,767.
    pub fn control_frames_per_second(mut self, count: u16) -> Self {
        self.limits.control_frames_per_second = count;
        self.limits.control_frames_burst = count.saturating_mul(2);
        self
    }

    /// Bytes queued for a connection above which it is not read, until half of them have left.
    /// Default 64 KiB.
    pub fn send_high_water_bytes(mut self, bytes: usize) -> Self {
        self.limits.send_high_water_bytes = bytes;
        self
    }

    /// Bytes queued for a connection above which it takes no more messages and is closed with
    /// 1013. Default 1 MiB, or room for two of the largest messages if that is more. At least
    /// `send_high_water_bytes`. A connection's worst case is this and one message, in blocks of at
    /// most twice the size.
    pub fn send_bytes_max(mut self, bytes: usize) -> Self {
        self.send_bytes_max = Some(bytes);
        self
    }

    /// Bytes of free blocks a worker keeps for the next large messages; unused ones are given
    /// back within seconds. Default 64 MiB. 0 keeps none.
    pub fn spare_bytes_max(mut self, bytes: usize) -> Self {
        self.memory.spare_bytes_max = bytes;
        self
    }

    /// Receive blocks of a worker, 16.5 KiB each; together they should fit the L2 cache.
    /// Default 64. From 1.
    pub fn receive_blocks_max(mut self, blocks: usize) -> Self {
        self.memory.receive_blocks_max = blocks;
        self
    }

    /// Connections that have ended of which each worker keeps a record for
    /// [`Handle::closes`](crate::Handle::closes): who closed, why, and how it stood. Default 256, at
    /// most 65,536; 0 keeps none. Costs up to 300 bytes each, and two system calls for each close.
    pub fn closes_kept(mut self, records: usize) -> Self {
        self.limits.closes_kept = records;
        self
    }

    /// From accept to the end of the request head, and of a [`Deferral`](crate::Deferral); then 408,
    /// or nothing if the peer said nothing. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.handshake = timeout;
        self
    }

    /// Silence of a peer after which it is sent a ping; 80 % to 120 % of this, spread over the
    /// connections. Default 30 s; `None` sends none, and then a peer that vanished is not noticed
    /// unless there is an [`idle_timeout`](Self::idle_timeout).
    pub fn ping_interval(mut self, interval: Option<Duration>) -> Self {
        self.timeouts.ping_interval = interval;
        self
    }

    /// From a ping to any sign of life, after which the connection is dropped. Default 20 s.
    pub fn pong_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.pong = timeout;
        self
    }

    /// Silence of a peer after which it is closed with 1001. Default `None`: never. Pongs are no
    /// silence: with a shorter ping interval only a peer that does not answer is ever idle.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeouts.idle = timeout;
        self
    }

    /// From the first byte of an unfinished message to its last; then 1008. Default 60 s. Bounds how
    /// long a peer can make the server hold what it has sent of one.
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.message = timeout;
        self
    }

    /// Time in which a peer must take at least 64 bytes of what is queued for it, or be dropped.
    /// Default 30 s.
    pub fn write_stall_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.write_stall = timeout;
        self
    }

    /// From our Close frame to the peer's (RFC 6455 §7.1.1), after which the connection is dropped.
    /// Default 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.close = timeout;
        self
    }

    /// From a stop of the server, or the end of a [drain](crate::Handle::drain), to the end of all
    /// connections, whether they have answered or not. Default 10 s.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.stop = timeout;
        self
    }
}

/// An address to listen on, and what is spoken there.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    pub(crate) addr: ListenAddr,
    pub(crate) tls: Option<Tls>,
}
