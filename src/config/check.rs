//! Whether settings make sense, alone, together and on this machine.

use std::net::Ipv4Addr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use crate::buf::PoolConfig;
use crate::error::Error;
use crate::io::addr::ListenAddr;
use crate::io::backend::{self, Backend};
use crate::io::lease::{Claim, Lease};
use crate::io::listeners::{Given, ListenOptions};
use crate::io::{affinity, memory_limit};
use crate::policy::admission::{HandshakeRate, PerAddress};
use crate::policy::trusted::TrustedProxies;
use crate::policy::{FlowLimits, Limits, Origins, RateMode, Ticks};
use crate::tls::Tls;
use crate::worker::{Access, Door};

use super::{Builder, Durations, Entrance};

/// Descriptors a process needs beside its connections and those of its workers.
const DESCRIPTORS_RESERVED: usize = 64;
/// Descriptors of a worker beside its listeners: ring or epoll, wake handle, one in reserve.
const DESCRIPTORS_PER_WORKER: usize = 3;

/// Addresses of a server. A worker has a listener for each.
const ADDRESSES_MAX: usize = 64;

/// Workers of a process; each has a thread and a ring.
const WORKERS_MAX: usize = 1024;

impl Builder {
    /// Checks the settings as [`build`](Self::build) does, alone, together and on this machine, without
    /// listening.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for settings that make no sense, [`Error::Backend`] if the backend that
    /// was asked for is not available.
    pub fn check(&self) -> Result<(), Error> {
        self.checked()?;
        self.access()?;
        self.chosen_backend().map(drop)
    }

    /// The settings as a worker needs them, if they make sense.
    pub(crate) fn checked(&self) -> Result<Checked, Error> {
        self.checked_on(affinity::usable_cores())
    }

    /// The same on these cores. The thread that asks may be kept on one of them.
    pub(crate) fn checked_on(&self, usable: Vec<usize>) -> Result<Checked, Error> {
        let cores = self.checked_cores(&usable)?;
        let entrances = self.checked_entrances()?;
        let conns_max = self.checked_conns(cores.len(), entrances.len())?;
        let mut limits = self.limits.clone();
        limits.conns_max = conns_max;
        limits.frame_bytes_max = self.frame_bytes_max.unwrap_or(limits.message_bytes_max);
        limits.send_bytes_max = self.send_bytes_max.unwrap_or_else(|| {
            limits.send_bytes_max.max(limits.message_bytes_max.saturating_mul(2))
        });
        limits.timeouts.handshake = Ticks::at_least(self.timeouts.handshake);
        limits.timeouts.tls_handshake = Ticks::at_least(self.timeouts.tls_handshake);
        limits.timeouts.lifetime = self.timeouts.lifetime.map(Ticks::at_least);
        limits.compression = self.compression.map(|c| c.checked()).transpose()?;
        limits.flow = self.checked_flow(limits.message_bytes_max)?;
        limits.origins = Arc::new(self.checked_origins()?);
        limits.timeouts.close = Ticks::at_least(self.timeouts.close);
        limits.timeouts.write_stall = Ticks::at_least(self.timeouts.write_stall);
        limits.timeouts.ping_interval = self.timeouts.ping_interval.map(Ticks::at_least);
        limits.timeouts.pong = Ticks::at_least(self.timeouts.pong);
        limits.timeouts.idle = self.timeouts.idle.map(Ticks::at_least);
        limits.timeouts.message = Ticks::at_least(self.timeouts.message);
        self.timeouts.check()?;
        at_least("message_bytes_max", limits.message_bytes_max, 125)?;
        at_least("frame_bytes_max", limits.frame_bytes_max, 125)?;
        at_least("request_line_bytes_max", limits.head.request_line_bytes_max, 16)?;
        at_least("head_bytes_max", limits.head.head_bytes_max, 256)?;
        at_least("header_count_max", limits.head.header_count_max, 5)?;
        at_most("header_count_max", limits.head.header_count_max, 256)?;
        at_least("handshakes_max", limits.handshakes_max, 1)?;
        at_least("tls_handshakes_max", limits.tls_handshakes_max, 1)?;
        at_least("send_bytes_max", limits.send_bytes_max, limits.send_high_water_bytes)?;
        at_least("control_frames_per_second", limits.control_frames_per_second.into(), 1)?;
        at_most("control_frames_per_second", limits.control_frames_per_second.into(), 32_767)?;
        at_least("receive_blocks_max", self.memory.receive_blocks_max, 1)?;
        at_least("backlog", self.backlog as usize, 1)?;
        let memory_bytes_max = self.memory_bytes_max.unwrap_or_else(memory_limit::default_limit);
        at_least("memory_bytes_max", memory_bytes_max, 1 << 20)?;
        at_least("topic_bytes_max", self.topics.topic_bytes_max, 1)?;
        at_most("topic_bytes_max", self.topics.topic_bytes_max, 65_535)?;
        at_least("topics_max", self.topics.topics_max, 1)?;
        at_least("subscriptions_max", self.topics.subscriptions_max, 1)?;
        at_most("subscriptions_max", self.topics.subscriptions_max, 65_535)?;
        at_least("inbox_orders_max", self.topics.inbox_orders_max, 1)?;
        at_least("inbox_bytes_max", self.topics.inbox_bytes_max, 1)?;
        at_most("closes_kept", limits.closes_kept, 65_536)?;
        if let Some(rate) = self.limits.handshakes_per_second {
            at_least("handshakes_per_second", rate.get() as usize, cores.len())?;
        }
        let proxy_header = self.proxy_protocol;
        let memory = self.memory;
        Ok(Checked { entrances, proxy_header, limits, cores, usable, memory, memory_bytes_max })
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

    fn checked_cores(&self, usable: &[usize]) -> Result<Vec<usize>, Error> {
        let cores = self.cores.clone().unwrap_or_else(|| usable.to_vec());
        if cores.is_empty() {
            return Err(Error::Misuse("the list of cores is empty".to_owned()));
        }
        for (position, core) in cores.iter().enumerate() {
            if !usable.contains(core) {
                return Err(Error::Misuse(format!(
                    "core {core} is not one this process may use; choose from {}",
                    affinity::format_cores(usable)
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
    fn checked_entrances(&self) -> Result<Vec<Entrance>, Error> {
        if self.listen.is_empty() {
            return Ok(vec![Entrance { addr: (Ipv4Addr::LOCALHOST, 9001).into(), tls: None }]);
        }
        at_most("the number of addresses", self.listen.len(), ADDRESSES_MAX)?;
        if let Some(mode) = self.unix_mode.filter(|mode| *mode > 0o777) {
            return Err(Error::Misuse(format!("unix_mode is {mode:o}; it must be at most 777")));
        }
        for (position, Entrance { addr, .. }) in self.listen.iter().enumerate() {
            if let Some(advice) = addr.fault() {
                return Err(Error::Misuse(format!("{addr} cannot be listened on: {advice}")));
            }
            let is_fixed = !matches!(addr, ListenAddr::Tcp(addr) if addr.port() == 0);
            if is_fixed && self.listen[..position].iter().any(|earlier| earlier.addr == *addr) {
                return Err(Error::Misuse(format!("{addr} is to be listened on twice")));
            }
        }
        Ok(self.listen.clone())
    }

    fn checked_origins(&self) -> Result<Origins, Error> {
        match &self.allowed_origins {
            None => Ok(Origins::Any),
            Some(list) => Origins::listed(list.iter().map(String::as_str)).map_err(Error::Misuse),
        }
    }

    fn checked_flow(&self, message_bytes_max: usize) -> Result<Option<FlowLimits>, Error> {
        if self.messages_per_second.is_none() && self.bytes_per_second.is_none() {
            return Ok(None);
        }
        let messages = self.messages_per_second.map(|messages| messages as usize);
        if let Some(messages) = messages {
            at_least("messages_per_second", messages, 1)?;
            let max = FlowLimits::MESSAGES_PER_SECOND_MAX as usize;
            at_most("messages_per_second", messages, max)?;
        }
        if let Some(bytes) = self.bytes_per_second {
            let close = self.rate_mode == RateMode::Close;
            let min = if close { message_bytes_max } else { 1 };
            at_least("bytes_per_second", usize::try_from(bytes).unwrap_or(usize::MAX), min)?;
        }
        Ok(Some(FlowLimits {
            messages_per_second: self.messages_per_second.and_then(NonZeroU32::new),
            bytes_per_second: self.bytes_per_second.and_then(NonZeroU64::new),
            mode: self.rate_mode,
        }))
    }

    /// Who may connect, and who is believed to speak for whom.
    pub(crate) fn access(&self) -> Result<Access, Error> {
        let networks = self.trusted_proxies.iter().map(String::as_str);
        let trusted = TrustedProxies::parse(networks).map_err(Error::Misuse)?;
        if trusted.is_empty() && (self.proxy_protocol || self.forwarded.is_some()) {
            return Err(Error::Misuse(
                "nobody is trusted to tell the address of a client; name the networks of your \
                 proxies (trusted_proxies), such as 10.0.0.0/8"
                    .to_owned(),
            ));
        }
        let per_address = match self.conns_per_address_max {
            None => None,
            Some(conns) => Some(PerAddress::new(NonZeroU32::new(conns).ok_or_else(|| {
                Error::Misuse("conns_per_address_max is 0; it must be at least 1".to_owned())
            })?)),
        };
        Ok(Access { trusted, forwarded: self.forwarded, per_address })
    }

    /// The sockets that listen already.
    pub(crate) fn take_given(&mut self) -> Given {
        Given { sockets: std::mem::take(&mut self.given), lease: Lease::lent() }
    }

    /// What is to be done to them once the server serves, if they are to be its own.
    pub(crate) fn claim_to(&self, given: &Given) -> Option<Claim> {
        self.given_are_owned.then(|| Claim::new(given.lease.clone(), self.listen_options()))
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

impl Durations {
    /// No time at all would end each connection at once.
    fn check(&self) -> Result<(), Error> {
        let times = [
            ("handshake_timeout", Some(self.handshake)),
            ("tls_handshake_timeout", Some(self.tls_handshake)),
            ("write_stall_timeout", Some(self.write_stall)),
            ("ping_interval", self.ping_interval),
            ("pong_timeout", Some(self.pong)),
            ("idle_timeout", self.idle),
            ("lifetime_max", self.lifetime),
            ("message_timeout", Some(self.message)),
        ];
        match times.into_iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            Some((name, _)) => Err(Error::Misuse(format!("{name} is 0; it must be longer"))),
            None => Ok(()),
        }
    }
}

/// Settings that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) entrances: Vec<Entrance>,
    proxy_header: bool,
    pub(crate) memory_bytes_max: usize,
    pub(crate) limits: Limits,
    /// One for each worker.
    pub(crate) cores: Vec<usize>,
    /// Those of which they were chosen.
    usable: Vec<usize>,
    pub(crate) memory: PoolConfig,
}

impl Checked {
    /// The limits of a worker: what is counted per second is shared among all.
    pub(crate) fn limits_of(&self, worker: usize) -> Limits {
        let rate = self.limits.handshakes_per_second;
        let share = |rate| HandshakeRate::share(rate, worker, self.cores.len());
        Limits { handshakes_per_second: rate.map(share), ..self.limits.clone() }
    }

    /// The cores of which those of the workers were chosen.
    pub(crate) fn usable_cores(&self) -> &[usize] {
        &self.usable
    }

    /// What a worker asks of the connections of a listener at the entrance of this number.
    pub(crate) fn door(&self, entrance: usize) -> Door {
        let Entrance { addr, tls } = &self.entrances[entrance];
        Door {
            tls: tls.as_ref().map(Tls::follower),
            proxy_header: self.proxy_header && matches!(addr, ListenAddr::Tcp(_)),
        }
    }
}

/// Descriptors the process may have open.
pub(crate) fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX))
}

pub(crate) fn at_least(name: &str, value: usize, min: usize) -> Result<(), Error> {
    if value >= min {
        return Ok(());
    }
    Err(Error::Misuse(format!("{name} is {value}; it must be at least {min}")))
}

pub(crate) fn at_most(name: &str, value: usize, max: usize) -> Result<(), Error> {
    if value <= max {
        return Ok(());
    }
    Err(Error::Misuse(format!("{name} is {value}; it must be at most {max}")))
}
