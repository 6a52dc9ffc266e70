//! Which settings a running server takes up, and which need a restart.
//!
//! INVARIANT: what `Settings` says to be in force is what the workers were told last.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::error::Error;
use crate::policy::{FlowLimits, Limits};

use super::{Builder, Checked};

/// What became of new settings; names are those of the setters of [`Builder`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconfigured {
    /// What has changed and holds from now on, with what follows from it: the largest frame, say, if
    /// it is the largest message.
    pub changed: Vec<&'static str>,
    /// What differs from the settings the server runs with and stays as it is until a restart.
    pub needs_restart: Vec<&'static str>,
}

/// The settings of a server that runs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// As the server was built.
    start: Builder,
    /// What the table of connections has room for.
    conns_max_start: usize,
    /// In force.
    checked: Checked,
    conns_per_address_max: Option<u32>,
    stop_timeout: Duration,
}

/// A setting, and whether it differs.
type Compared = (&'static str, bool);

impl Settings {
    /// Those that a server is built with.
    pub(crate) fn new(start: &Builder, checked: &Checked) -> Self {
        Self {
            start: start.clone(),
            conns_max_start: checked.limits.conns_max,
            checked: checked.clone(),
            conns_per_address_max: start.conns_per_address_max,
            stop_timeout: start.timeouts.stop,
        }
    }

    /// What is in force.
    pub(crate) fn checked(&self) -> &Checked {
        &self.checked
    }

    /// From a stop to the end of all connections.
    pub(crate) fn stop_timeout(&self) -> Duration {
        self.stop_timeout
    }

    /// Connections of one address, if they were counted from the start.
    pub(crate) fn conns_per_address_max(&self) -> Option<NonZeroU32> {
        self.conns_per_address_max.and_then(NonZeroU32::new)
    }

    /// Takes up what a running server can, and tells of the rest. Changes nothing if there is
    /// something wrong with the new settings.
    pub(crate) fn take_up(&mut self, new: &Builder) -> Result<Reconfigured, Error> {
        let mut wanted = new.checked_on(self.checked.usable_cores().to_vec())?;
        new.access()?;
        let mut needs_restart = self.fixed(new, &wanted);
        if wanted.limits.conns_max > self.conns_max_start {
            needs_restart.push(("conns_max", true));
            wanted.limits.conns_max = self.checked.limits.conns_max;
        }
        let in_force = &self.checked.limits;
        wanted.limits.closes_kept = in_force.closes_kept;
        wanted.limits.compression = in_force.compression;
        let counts_addresses = self.start.conns_per_address_max.is_some();
        let per_address = ("conns_per_address_max", self.differs_per_address(new));
        if !counts_addresses {
            needs_restart.push(per_address);
        }
        let mut changed = sizes(in_force, &wanted.limits).to_vec();
        changed.extend(counts(in_force, &wanted.limits));
        changed.extend(times(in_force, &wanted.limits));
        changed.extend([
            ("stop_timeout", self.stop_timeout != new.timeouts.stop),
            ("memory_bytes_max", self.checked.memory_bytes_max != wanted.memory_bytes_max),
        ]);
        if counts_addresses {
            changed.push(per_address);
            self.conns_per_address_max = new.conns_per_address_max;
        }
        self.stop_timeout = new.timeouts.stop;
        self.checked.memory_bytes_max = wanted.memory_bytes_max;
        self.checked.limits = wanted.limits;
        Ok(Reconfigured { changed: names(&changed), needs_restart: names(&needs_restart) })
    }

    fn differs_per_address(&self, new: &Builder) -> bool {
        self.conns_per_address_max != new.conns_per_address_max
    }

    /// What was built once: sockets, threads, memory, and what all workers read without a lock.
    fn fixed(&self, new: &Builder, wanted: &Checked) -> Vec<Compared> {
        let Self { start, checked: Checked { limits, .. }, .. } = self;
        let topics = &start.topics;
        let places = |checked: &Checked| -> Vec<_> {
            let places = checked.entrances.iter();
            places.map(|place| (place.addr.clone(), place.tls.is_some())).collect()
        };
        vec![
            ("listen", places(&self.checked) != places(wanted)),
            ("unix_mode", start.unix_mode != new.unix_mode),
            ("backend", start.backend != new.backend),
            ("workers", self.checked.cores.len() != wanted.cores.len()),
            ("cores", start.cores != new.cores),
            ("direct_descriptors", start.direct_descriptors != new.direct_descriptors),
            ("backlog", start.backlog != new.backlog),
            ("proxy_protocol", start.proxy_protocol != new.proxy_protocol),
            ("trusted_proxies", start.trusted_proxies != new.trusted_proxies),
            ("forwarded_header", start.forwarded != new.forwarded),
            ("compression", limits.compression != wanted.limits.compression),
            ("closes_kept", limits.closes_kept != wanted.limits.closes_kept),
            (
                "receive_blocks_max",
                start.memory.receive_blocks_max != new.memory.receive_blocks_max,
            ),
            ("spare_bytes_max", start.memory.spare_bytes_max != new.memory.spare_bytes_max),
            ("topic_bytes_max", topics.topic_bytes_max != new.topics.topic_bytes_max),
            ("topics_max", topics.topics_max != new.topics.topics_max),
            ("subscriptions_max", topics.subscriptions_max != new.topics.subscriptions_max),
            ("inbox_orders_max", topics.inbox_orders_max != new.topics.inbox_orders_max),
            ("inbox_bytes_max", topics.inbox_bytes_max != new.topics.inbox_bytes_max),
        ]
    }
}

fn sizes(old: &Limits, new: &Limits) -> [Compared; 8] {
    [
        ("message_bytes_max", old.message_bytes_max != new.message_bytes_max),
        ("frame_bytes_max", old.frame_bytes_max != new.frame_bytes_max),
        (
            "request_line_bytes_max",
            old.head.request_line_bytes_max != new.head.request_line_bytes_max,
        ),
        ("head_bytes_max", old.head.head_bytes_max != new.head.head_bytes_max),
        ("header_count_max", old.head.header_count_max != new.head.header_count_max),
        ("send_high_water_bytes", old.send_high_water_bytes != new.send_high_water_bytes),
        ("send_bytes_max", old.send_bytes_max != new.send_bytes_max),
        ("overflow", old.overflow != new.overflow),
    ]
}

fn counts(old: &Limits, new: &Limits) -> [Compared; 11] {
    let mode = |limits: &Limits| limits.flow.map(|flow| flow.mode);
    let flow = |limits: &Limits| {
        let FlowLimits { messages_per_second, bytes_per_second, .. } = limits.flow?;
        Some((messages_per_second, bytes_per_second))
    };
    let (old_flow, new_flow) = (flow(old).unwrap_or_default(), flow(new).unwrap_or_default());
    [
        ("conns_max", old.conns_max != new.conns_max),
        ("handshakes_max", old.handshakes_max != new.handshakes_max),
        ("tls_handshakes_max", old.tls_handshakes_max != new.tls_handshakes_max),
        ("handshakes_per_second", old.handshakes_per_second != new.handshakes_per_second),
        ("empty_fragments_max", old.empty_fragments_max != new.empty_fragments_max),
        (
            "control_frames_per_second",
            old.control_frames_per_second != new.control_frames_per_second,
        ),
        ("messages_per_second", old_flow.0 != new_flow.0),
        ("bytes_per_second", old_flow.1 != new_flow.1),
        // Without a rate there is nothing that it could be about.
        ("rate_mode", mode(old).zip(mode(new)).is_some_and(|(old, new)| old != new)),
        ("allowed_origins", old.origins != new.origins),
        ("require_origin", old.require_origin != new.require_origin),
    ]
}

fn times(old: &Limits, new: &Limits) -> [Compared; 9] {
    let (old, new) = (&old.timeouts, &new.timeouts);
    [
        ("handshake_timeout", old.handshake != new.handshake),
        ("tls_handshake_timeout", old.tls_handshake != new.tls_handshake),
        ("close_timeout", old.close != new.close),
        ("write_stall_timeout", old.write_stall != new.write_stall),
        ("ping_interval", old.ping_interval != new.ping_interval),
        ("pong_timeout", old.pong != new.pong),
        ("idle_timeout", old.idle != new.idle),
        ("lifetime_max", old.lifetime != new.lifetime),
        ("message_timeout", old.message != new.message),
    ]
}

fn names(compared: &[Compared]) -> Vec<&'static str> {
    compared.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use crate::compression::Compression;
    use crate::io::backend::BackendChoice;
    use crate::policy::{Overflow, RateMode};
    use crate::proto::handshake::forwarded::ForwardedHeader;

    use super::*;

    fn settings(builder: &Builder) -> Settings {
        Settings::new(builder, &builder.checked().unwrap())
    }

    /// What a running server can take up, all of it other than by default.
    fn other_limits(builder: Builder) -> Builder {
        let seconds = Duration::from_secs;
        builder
            .message_bytes_max(2000)
            .frame_bytes_max(1000)
            .request_line_bytes_max(100)
            .head_bytes_max(1000)
            .header_count_max(20)
            .send_high_water_bytes(10_000)
            .send_bytes_max(20_000)
            .overflow(Overflow::Drop)
            .conns_max(7)
            .handshakes_max(7)
            .tls_handshakes_max(7)
            .handshakes_per_second(NonZeroU32::new(70_000))
            .empty_fragments_max(7)
            .control_frames_per_second(7)
            .messages_per_second(Some(7))
            .bytes_per_second(Some(7000))
            .rate_mode(RateMode::Throttle)
            .allowed_origins(&["https://a.example"])
            .require_origin(true)
            .handshake_timeout(seconds(7))
            .tls_handshake_timeout(seconds(7))
            .close_timeout(seconds(7))
            .write_stall_timeout(seconds(7))
            .ping_interval(None)
            .pong_timeout(seconds(7))
            .idle_timeout(Some(seconds(7)))
            .lifetime_max(Some(seconds(7)))
            .message_timeout(seconds(7))
            .stop_timeout(seconds(7))
            .memory_bytes_max(7 << 20)
    }

    const LIVE: [&str; 29] = [
        "message_bytes_max",
        "frame_bytes_max",
        "request_line_bytes_max",
        "head_bytes_max",
        "header_count_max",
        "send_high_water_bytes",
        "send_bytes_max",
        "overflow",
        "conns_max",
        "handshakes_max",
        "tls_handshakes_max",
        "handshakes_per_second",
        "empty_fragments_max",
        "control_frames_per_second",
        "messages_per_second",
        "bytes_per_second",
        "allowed_origins",
        "require_origin",
        "handshake_timeout",
        "tls_handshake_timeout",
        "close_timeout",
        "write_stall_timeout",
        "ping_interval",
        "pong_timeout",
        "idle_timeout",
        "lifetime_max",
        "message_timeout",
        "stop_timeout",
        "memory_bytes_max",
    ];

    #[test]
    fn every_limit_is_taken_up_once_and_can_be_taken_back() {
        let start = Builder::default();
        let mut settings = settings(&start);
        let outcome = settings.take_up(&other_limits(start.clone())).unwrap();
        assert_eq!(outcome.changed, LIVE);
        assert_eq!(outcome.needs_restart, [""; 0]);
        let again = settings.take_up(&other_limits(start.clone())).unwrap();
        assert_eq!(again, Reconfigured::default());
        assert_eq!(settings.checked().limits.conns_max, 7);
        assert_eq!(settings.stop_timeout(), Duration::from_secs(7));
        assert_eq!(settings.take_up(&start).unwrap().changed, LIVE);
        let as_built = settings.checked().limits.conns_max;
        assert_eq!(as_built, start.checked().unwrap().limits.conns_max);
    }

    #[test]
    fn mode_of_a_rate_is_told_where_there_is_a_rate() {
        let rated = |mode| Builder::default().messages_per_second(Some(7)).rate_mode(mode);
        let mut settings = settings(&rated(RateMode::Close));
        let outcome = settings.take_up(&rated(RateMode::Throttle)).unwrap();
        assert_eq!(outcome.changed, ["rate_mode"]);
    }

    #[test]
    fn what_is_built_at_the_start_stays_and_is_named() {
        let start = Builder::default().conns_max(100).workers(1);
        let mut settings = settings(&start);
        let other = Builder::default()
            .listen(([127, 0, 0, 1], 9).into())
            .unix_mode(0o600)
            .backend(BackendChoice::Epoll)
            .workers(2)
            .cores(settings.checked().usable_cores().to_vec())
            .direct_descriptors(true)
            .backlog(7)
            .proxy_protocol(true)
            .trusted_proxies(&["10.0.0.0/8"])
            .forwarded_header(Some(ForwardedHeader::XForwardedFor))
            .compression(Some(Compression::new()))
            .closes_kept(7)
            .receive_blocks_max(7)
            .spare_bytes_max(7)
            .topic_bytes_max(7)
            .topics_max(7)
            .subscriptions_max(7)
            .inbox_orders_max(7)
            .inbox_bytes_max(7)
            .conns_max(101)
            .conns_per_address_max(Some(7));
        let expected = [
            "listen",
            "unix_mode",
            "backend",
            "workers",
            "cores",
            "direct_descriptors",
            "backlog",
            "proxy_protocol",
            "trusted_proxies",
            "forwarded_header",
            "compression",
            "closes_kept",
            "receive_blocks_max",
            "spare_bytes_max",
            "topic_bytes_max",
            "topics_max",
            "subscriptions_max",
            "inbox_orders_max",
            "inbox_bytes_max",
            "conns_max",
            "conns_per_address_max",
        ];
        for _ in 0..2 {
            let outcome = settings.take_up(&other).unwrap();
            assert_eq!(outcome.needs_restart, expected, "until there is one");
            assert_eq!(outcome.changed, [""; 0]);
        }
        let limits = &settings.checked().limits;
        assert_eq!((limits.conns_max, limits.closes_kept), (100, 256));
        assert!(limits.compression.is_none());
        assert_eq!(settings.take_up(&start).unwrap(), Reconfigured::default());
    }

    #[test]
    fn connections_may_be_fewer_and_then_as_many_as_at_the_start() {
        let with = |conns| Builder::default().conns_max(conns);
        let mut settings = settings(&with(100));
        for (conns, in_force) in [(10, 10), (101, 10), (100, 100), (50, 50)] {
            settings.take_up(&with(conns)).unwrap();
            assert_eq!(settings.checked().limits.conns_max, in_force, "{conns} were asked for");
        }
    }

    #[test]
    fn connections_of_an_address_change_where_they_are_counted() {
        let with = |conns| Builder::default().conns_per_address_max(conns);
        let mut settings = settings(&with(Some(3)));
        for conns in [Some(5), None, Some(1)] {
            let outcome = settings.take_up(&with(conns)).unwrap();
            assert_eq!(outcome.changed, ["conns_per_address_max"]);
            assert_eq!(settings.conns_per_address_max().map(NonZeroU32::get), conns);
        }
    }

    #[test]
    fn settings_that_make_no_sense_change_nothing() {
        let start = Builder::default();
        let mut settings = settings(&start);
        for wrong in [
            start.clone().stop_timeout(Duration::ZERO).message_bytes_max(1),
            start.clone().message_bytes_max(1000).conns_per_address_max(Some(0)),
            start.clone().message_bytes_max(1000).proxy_protocol(true),
            start.clone().message_bytes_max(1000).allowed_origins(&["example"]),
        ] {
            settings.take_up(&wrong).unwrap_err();
        }
        assert_eq!(settings.take_up(&start).unwrap(), Reconfigured::default());
    }
}
