//! Every knob of a server: meaning, unit, default, range, and what it costs at worst.
//!
//! Chained setters; everything is checked once, in [`Builder::build`].

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::buf::PoolConfig;
use crate::error::Error;
use crate::io::addr::ListenAddr;
use crate::io::affinity;
use crate::io::backend::{self, Backend, BackendChoice};
use crate::io::listeners::ListenOptions;
use crate::policy::{Limits, Ticks};

/// Descriptors a process needs beside its connections and those of its workers.
const DESCRIPTORS_RESERVED: usize = 64;
/// Descriptors of a worker beside its listeners: ring or epoll, wake handle, one in reserve.
const DESCRIPTORS_PER_WORKER: usize = 3;

/// Addresses of a server. A worker has a listener for each.
const ADDRESSES_MAX: usize = 64;

/// Workers of a process; each has a thread and a ring.
const WORKERS_MAX: usize = 1024;

/// Settings of a server. Start from [`Server::builder`](crate::Server::builder); the defaults
/// serve most.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` or `run`"]
pub struct Builder {
    /// None yet means the default.
    listen: Vec<ListenAddr>,
    unix_mode: Option<u32>,
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
    close: Duration,
    write_stall: Duration,
    ping_interval: Option<Duration>,
    pong: Duration,
    idle: Option<Duration>,
    message: Duration,
    pub(crate) stop: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            unix_mode: None,
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
            close: seconds(5),
            write_stall: seconds(30),
            ping_interval: Some(seconds(30)),
            pong: seconds(20),
            idle: None,
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
        self.listen.push(addr);
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
    /// the kernel cuts it to `net.core.somaxconn`. Default 4096.
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
    /// Default 4096. Worst case of memory: this × 2 × (`head_bytes_max` +
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

    /// Bytes of a request line; longer ones are answered with 414. Default 8 KiB.
    pub fn request_line_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.head.request_line_bytes_max = bytes;
        self
    }

    /// Bytes of all header lines of a request; more are answered with 431. Default 16 KiB.
    pub fn head_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.head.head_bytes_max = bytes;
        self
    }

    /// Header lines of a request; more are answered with 431. Default 100, at most 256.
    pub fn header_count_max(mut self, count: usize) -> Self {
        self.limits.head.header_count_max = count;
        self
    }

    /// Fragments without payload in a row; one more closes the connection with 1008. Default 64.
    pub fn empty_fragments_max(mut self, count: u16) -> Self {
        self.limits.empty_fragments_max = count;
        self
    }

    /// Pings and pongs a peer may send per second, beyond a burst of twice as many; more close the
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

    /// From accept to the end of the request head. Default 10 s.
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

    /// From the first byte of an unfinished message to its last; then 1008. Default 60 s.
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

    /// From our Close frame to the peer's, after which the connection is dropped. Default 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.close = timeout;
        self
    }

    /// From a stop of the server to the end of all connections, whether they have answered or
    /// not. Default 10 s.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.stop = timeout;
        self
    }

    /// The settings as a worker needs them, if they make sense.
    pub(crate) fn checked(&self) -> Result<Checked, Error> {
        let cores = self.checked_cores()?;
        let addrs = self.checked_addrs()?;
        let conns_max = self.checked_conns(cores.len(), addrs.len())?;
        let mut limits = self.limits.clone();
        limits.conns_max = conns_max;
        limits.frame_bytes_max = self.frame_bytes_max.unwrap_or(limits.message_bytes_max);
        limits.send_bytes_max = self.send_bytes_max.unwrap_or_else(|| {
            limits.send_bytes_max.max(limits.message_bytes_max.saturating_mul(2))
        });
        limits.timeouts.handshake = Ticks::at_least(self.timeouts.handshake);
        limits.timeouts.close = Ticks::at_least(self.timeouts.close);
        limits.timeouts.write_stall = Ticks::at_least(self.timeouts.write_stall);
        limits.timeouts.ping_interval = self.timeouts.ping_interval.map(Ticks::at_least);
        limits.timeouts.pong = Ticks::at_least(self.timeouts.pong);
        limits.timeouts.idle = self.timeouts.idle.map(Ticks::at_least);
        limits.timeouts.message = Ticks::at_least(self.timeouts.message);
        at_least("message_bytes_max", limits.message_bytes_max, 125)?;
        at_least("frame_bytes_max", limits.frame_bytes_max, 125)?;
        at_least("request_line_bytes_max", limits.head.request_line_bytes_max, 16)?;
        at_least("head_bytes_max", limits.head.head_bytes_max, 256)?;
        at_least("header_count_max", limits.head.header_count_max, 5)?;
        at_most("header_count_max", limits.head.header_count_max, 256)?;
        at_least("handshakes_max", limits.handshakes_max, 1)?;
        at_least("send_bytes_max", limits.send_bytes_max, limits.send_high_water_bytes)?;
        at_least("control_frames_per_second", limits.control_frames_per_second.into(), 1)?;
        at_most("control_frames_per_second", limits.control_frames_per_second.into(), 32_767)?;
        at_least("receive_blocks_max", self.memory.receive_blocks_max, 1)?;
        at_least("backlog", self.backlog as usize, 1)?;
        Ok(Checked { addrs, limits, cores, memory: self.memory })
    }

    /// The backend, and why, in one line.
    pub(crate) fn chosen_backend(&self) -> Result<(Backend, String), Error> {
        let (backend, reason) = backend::choose(self.backend).map_err(Error::Backend)?;
        if self.direct_descriptors && backend != Backend::IoUring {
            return Err(Error::Misuse(format!(
                "direct descriptors need io_uring, but the backend is {reason}"
            )));
        }
        Ok((backend, reason))
    }

    fn checked_cores(&self) -> Result<Vec<usize>, Error> {
        let usable = affinity::usable_cores();
        let cores = self.cores.clone().unwrap_or_else(|| usable.clone());
        if cores.is_empty() {
            return Err(Error::Misuse("the list of cores is empty".to_owned()));
        }
        for (position, core) in cores.iter().enumerate() {
            if !usable.contains(core) {
                return Err(Error::Misuse(format!(
                    "core {core} is not one this process may use; choose from {}",
                    affinity::format_cores(&usable)
                )));
            }
            if cores[..position].contains(core) {
                return Err(Error::Misuse(format!("core {core} is named twice")));
            }
        }
        let workers = self.workers.unwrap_or(cores.len());
        at_least("workers", workers, 1)?;
        at_most("workers", workers, WORKERS_MAX)?;
        Ok(cores.iter().copied().cycle().take(workers).collect())
    }

    /// Where to listen: no address twice, unless the kernel chooses the port.
    fn checked_addrs(&self) -> Result<Vec<ListenAddr>, Error> {
        if self.listen.is_empty() {
            return Ok(vec![(Ipv4Addr::LOCALHOST, 9001).into()]);
        }
        at_most("the number of addresses", self.listen.len(), ADDRESSES_MAX)?;
        if let Some(mode) = self.unix_mode.filter(|mode| *mode > 0o777) {
            return Err(Error::Misuse(format!("unix_mode is {mode:o}; it must be at most 777")));
        }
        for (position, addr) in self.listen.iter().enumerate() {
            if let Some(advice) = addr.fault() {
                return Err(Error::Misuse(format!("{addr} cannot be listened on: {advice}")));
            }
            let is_fixed = !matches!(addr, ListenAddr::Tcp(addr) if addr.port() == 0);
            if is_fixed && self.listen[..position].contains(addr) {
                return Err(Error::Misuse(format!("{addr} is to be listened on twice")));
            }
        }
        Ok(self.listen.clone())
    }

    /// How to listen there.
    pub(crate) fn listen_options(&self) -> ListenOptions {
        ListenOptions { backlog: self.backlog, unix_mode: self.unix_mode }
    }

    fn checked_conns(&self, workers: usize, listeners: usize) -> Result<usize, Error> {
        // Direct descriptors have a table per ring, of at most this size each.
        let descriptors = descriptor_limit();
        let reserved = DESCRIPTORS_RESERVED + (DESCRIPTORS_PER_WORKER + listeners) * workers;
        let room = if self.direct_descriptors {
            descriptors.saturating_mul(workers)
        } else {
            descriptors.saturating_sub(reserved)
        };
        let conns = self.conns_max.unwrap_or_else(|| room.min(Limits::default().conns_max));
        at_least("conns_max", conns, 1)?;
        if conns > room {
            return Err(Error::Misuse(format!(
                "{conns} connections do not fit the descriptor limit of {descriptors}; {}, or set \
                 conns_max to {room} or less",
                if self.direct_descriptors {
                    format!(
                        "each worker holds that many: use {} workers",
                        conns.div_ceil(descriptors)
                    )
                } else {
                    let needed = conns.saturating_add(reserved);
                    format!("raise it (ulimit -n {needed})")
                }
            )));
        }
        Ok(conns)
    }
}

/// Settings that make sense together.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) addrs: Vec<ListenAddr>,
    pub(crate) limits: Limits,
    /// One for each worker.
    pub(crate) cores: Vec<usize>,
    pub(crate) memory: PoolConfig,
}

/// Descriptors the process may have open.
pub(crate) fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX))
}

fn at_least(name: &str, value: usize, min: usize) -> Result<(), Error> {
    if value >= min {
        return Ok(());
    }
    Err(Error::Misuse(format!("{name} is {value}; it must be at least {min}")))
}

fn at_most(name: &str, value: usize, max: usize) -> Result<(), Error> {
    if value <= max {
        return Ok(());
    }
    Err(Error::Misuse(format!("{name} is {value}; it must be at most {max}")))
}
