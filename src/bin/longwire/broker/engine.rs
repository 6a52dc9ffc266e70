//! The side thread: one link to the broker after another, and all that goes over it.
//!
//! Reading never waits: not for what is still to be written, and not for the workers, for `local`
//! keeps what they do not take. What is written has its bound; messages wait in the queues of the
//! cores until there is room. A link that ends takes with it what was written and not sent; the
//! numbers of the messages tell the other nodes.
//!
//! After a time without a link nodes may have missed the last messages of a topic without hearing a
//! later one. So who is back asks all others for marks, and each says of all its topics how far it is.
//! And what has waited for the broker waits a little longer, until those are back who were there
//! before: what is sent to a broker that has just started is lost for those it does not know yet.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longwire::Handle;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, sleep_until};

use super::Shared;
use super::connect::{self, Down, Opened};
use super::envelope::{Envelope, HEADER_BYTES, Place, Saying};
use super::interest::Interest;
use super::link::{Link, READ_BYTES, push};
use super::local::Local;
use super::port::{Dropped, Lane, Outgoing};
use super::report::GapCause;
use super::retry::Retry;
use super::streams::Streams;
use super::wire::{self, Frame};

/// Bytes taken from the queue of a core before the next core has its turn.
const SHARE_BYTES: usize = 64 << 10;
const TICK: Duration = Duration::from_millis(100);
/// When messages wait for a worker.
const TICK_BUSY: Duration = Duration::from_millis(2);
/// From being asked for marks to sending them, for more may ask; a part of it is left to chance.
const SWEEP_DELAY: Duration = Duration::from_millis(100);
/// From dropping messages ourselves to saying so; more may follow them.
const SWEEP_DELAY_AFTER_DROPS: Duration = Duration::from_secs(1);
/// How long messages wait for other nodes to be back.
const HOLD_MAX: Duration = Duration::from_secs(1);
/// After so long on a link all nodes that are there have been heard.
const INTRODUCTIONS: Duration = Duration::from_secs(5);
/// Nodes that are waited for.
const PEERS_MAX: usize = 1024;
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What outlives links.
pub(super) struct Engine {
    shared: Arc<Shared>,
    /// Names this start of this process among all nodes.
    node: u64,
    lanes: Vec<Arc<Lane>>,
    streams: Streams,
    interest: Interest,
    local: Local<Handle>,
    handle: Handle,
    /// Bytes of the largest message that was ever taken from clients.
    message_bytes_max: usize,
    retry: Retry,
    /// Topics of which marks are still to be sent.
    sweep: Vec<Arc<str>>,
    /// When to send marks of all.
    sweep_at: Option<Instant>,
    /// Nodes that were there on the last links.
    peers: HashSet<u64>,
    /// Missed messages that were logged.
    logged_missed: u64,
    logged_at: Instant,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, handle: Handle) -> Self {
        Self {
            node: shared.node,
            lanes: Vec::new(),
            streams: Streams::new(shared.subjects.clone()),
            interest: Interest::new(shared.subjects.clone()),
            local: Local::new(handle.clone()),
            message_bytes_max: handle.message_bytes_max(),
            handle,
            retry: Retry::new(shared.retry_max),
            sweep: Vec::new(),
            sweep_at: None,
            peers: HashSet::new(),
            logged_missed: 0,
            logged_at: Instant::now(),
            shared,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let down = match connect::open(&self.shared.address, self.shared.tls.as_ref()).await {
                Ok(opened) => {
                    self.retry.handle_link(Instant::now());
                    self.shared.report.count(|figures| figures.links += 1);
                    self.serve(opened).await
                }
                Err(down) => down,
            };
            let why = down.why();
            if self.shared.report.down(down.cause(), why.clone()) {
                tracing::warn!(
                    "{}: {why}; topics do not span nodes until it is back",
                    self.shared.address
                );
            } else {
                tracing::debug!("{}: {why}", self.shared.address);
            }
            let now = Instant::now();
            let delay = self.retry.handle_down(now, chance());
            self.rest(now + delay).await;
        }
    }

    /// Without a link: what has come before still goes to the workers.
    async fn rest(&mut self, until: Instant) {
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            sleep(left.min(if self.local.is_waiting() { TICK_BUSY } else { TICK })).await;
            self.handle_time(None);
        }
    }

    /// Uses a link until it ends.
    async fn serve(&mut self, opened: Opened) -> Down {
        let mut link = Link::new(self.shared.address.kind, &opened);
        link.input = opened.input;
        self.interest.handle_link();
        self.sweep.clear();
        link.restored = self.interest.len();
        let (mut reader, mut writer) = tokio::io::split(opened.stream);
        let control = self.shared.control.as_str();
        wire::subscribe(link.kind, &mut link.out, &[(control, 1)]);
        link.ping();
        let mut ticked_at = Instant::now();
        let shared = Arc::clone(&self.shared);
        loop {
            shared.alarm.lower();
            self.collect(&mut link);
            let tick = if self.local.is_waiting() { TICK_BUSY } else { TICK };
            link.input.reserve(READ_BYTES);
            let outcome = tokio::select! {
                read = reader.read_buf(&mut link.input) => match read {
                    Ok(0) => Err(Down::Closed(io::ErrorKind::UnexpectedEof.into())),
                    Ok(_) => self.handle_input(&mut link),
                    Err(error) => Err(error.into()),
                },
                pushed = push(&mut writer, &link.out[link.sent..], link.must_flush), if link.has_output() => {
                    pushed.map(|sent| link.handle_sent(sent)).map_err(Down::from)
                }
                () = shared.alarm.raised() => Ok(()),
                () = sleep_until((ticked_at + tick).into()) => {
                    let passed = ticked_at.elapsed();
                    ticked_at = Instant::now();
                    // A time in which the whole process stood still is nobody's silence.
                    self.handle_tick(&mut link, passed.min(2 * TICK))
                }
            };
            if let Err(down) = outcome {
                self.handle_end(link);
                return down;
            }
        }
    }

    /// Who was there on this link is waited for on the next. On one that was short not all have
    /// been heard, so those count as well who were there before.
    fn handle_end(&mut self, link: Link) {
        if link.began.elapsed() >= INTRODUCTIONS {
            self.peers = link.peers;
        } else {
            self.peers.extend(link.peers);
            while self.peers.len() > PEERS_MAX
                && let Some(node) = self.peers.iter().next().copied()
            {
                self.peers.remove(&node);
            }
        }
    }

    /// Takes what the cores have, as far as there is room.
    fn collect(&mut self, link: &mut Link) {
        let now = Instant::now();
        self.take_changes(now);
        link.pong();
        if let Some(batch) = self.interest.poll_batch() {
            let batch: Vec<(&str, u64)> = batch.iter().map(|(s, number)| (&**s, *number)).collect();
            wire::subscribe(link.kind, &mut link.out, &batch);
            link.ping();
            link.batch_ping = Some(link.ping_count);
        }
        self.settle(link, now);
        let mut sent = 0;
        let mut is_more = self.may_send(link, now);
        while is_more && link.has_room() {
            is_more = false;
            for index in 0..self.lanes.len() {
                let (dropped, messages) = self.lanes[index].take(SHARE_BYTES);
                self.handle_dropped(dropped, now);
                is_more |= !messages.is_empty();
                for message in messages {
                    sent += u64::from(self.send(link, &message, now));
                }
            }
        }
        while link.has_room()
            && let Some(topic) = self.sweep.pop()
        {
            if let Some((subject, place)) = self.streams.mark(&topic, now) {
                let header = Envelope { saying: Saying::Mark, node: self.node, place }.header();
                wire::publish(link.kind, &mut link.out, subject, [&header, b""]);
            }
        }
        if sent > 0 {
            self.shared.report.count(|figures| figures.sent += sent);
        }
    }

    /// Whether the nodes are back that were there before, or have had their time.
    fn may_send(&self, link: &mut Link, now: Instant) -> bool {
        let are_back = || self.peers.iter().all(|node| link.peers.contains(node));
        link.is_released = link.is_released
            || now.saturating_duration_since(link.began) >= HOLD_MAX
            || (link.is_up && are_back());
        link.is_released
    }

    /// Gives a message its number and writes it. False if the broker would not take it.
    fn send(&mut self, link: &mut Link, message: &Outgoing, now: Instant) -> bool {
        if message.payload().len() + HEADER_BYTES > link.payload_bytes_max {
            self.streams.skip(message.topic(), 1, now);
            self.sweep_at.get_or_insert(now + SWEEP_DELAY_AFTER_DROPS);
            self.shared.report.count(|figures| figures.too_large += 1);
            return false;
        }
        let (subject, place) = self.streams.stamp(message.topic(), now);
        let saying = Saying::Message(message.kind);
        let header = Envelope { saying, node: self.node, place }.header();
        wire::publish(link.kind, &mut link.out, subject, [&header, message.payload()]);
        true
    }

    /// When all topics are subscribed to, the link is up, and the others are asked what was missed.
    fn settle(&mut self, link: &mut Link, now: Instant) {
        if link.is_up || link.pong_count == 0 || !self.interest.is_settled() {
            return;
        }
        link.is_up = true;
        self.say(link, Saying::Ask);
        self.sweep_at = Some(now + SWEEP_DELAY);
        self.shared.report.up();
        tracing::info!("{}: linked, with {} topics", self.shared.address, link.restored);
    }

    /// Says something to all nodes.
    fn say(&self, link: &mut Link, saying: Saying) {
        let header = Envelope { saying, node: self.node, place: Place::default() }.header();
        wire::publish(link.kind, &mut link.out, &self.shared.control, [&header, b""]);
    }

    fn handle_input(&mut self, link: &mut Link) -> Result<(), Down> {
        let now = Instant::now();
        link.handle_received();
        let mut start = 0;
        // Where a limit was lowered, other nodes may still have the larger one.
        self.message_bytes_max = self.message_bytes_max.max(self.handle.message_bytes_max());
        let payload_bytes_max = self.message_bytes_max + HEADER_BYTES;
        let input = std::mem::take(&mut link.input);
        while let Some((frame, length)) =
            wire::decode(link.kind, &input[start..], payload_bytes_max)?
        {
            start += length;
            match frame {
                Frame::Message { subject, payload } => {
                    if let Some(node) = self.handle_message(subject, payload, now)
                        && link.peers.len() < PEERS_MAX
                    {
                        link.peers.insert(node);
                    }
                }
                Frame::Ping => link.handle_ping(),
                Frame::Pong => self.handle_pong(link, now),
                Frame::Refused(words) => return Err(Down::refused(words)),
                Frame::Info(_) | Frame::Other => {}
            }
        }
        link.input = input;
        link.input.drain(..start);
        // The memory of a large message is not kept.
        if link.input.capacity() > 4 * READ_BYTES {
            link.input.shrink_to(READ_BYTES);
        }
        Ok(())
    }

    fn handle_pong(&mut self, link: &mut Link, now: Instant) {
        link.pong_count += 1;
        if link.batch_ping.is_some_and(|ping| link.pong_count >= ping) {
            link.batch_ping = None;
            self.interest.handle_batch_done(now);
        }
    }

    /// The node that it is of, if that is another one.
    fn handle_message(&mut self, subject: &str, payload: &[u8], now: Instant) -> Option<u64> {
        let report = &self.shared.report;
        let Some((envelope, payload)) = Envelope::open(payload) else {
            report.count(|figures| figures.strays += 1);
            return None;
        };
        let Envelope { saying, node, place } = envelope;
        if node == self.node {
            // Redis sends everybody everything.
            return None;
        }
        match saying {
            Saying::Ask => {
                let delay = SWEEP_DELAY + SWEEP_DELAY.mul_f64(chance());
                self.sweep_at.get_or_insert(now + delay);
                return Some(node);
            }
            Saying::Here => return Some(node),
            Saying::Message(_) | Saying::Mark => {}
        }
        let Some(arrival) = self.interest.handle_arrival(subject, (node, saying, place), now)
        else {
            report.count(|figures| figures.strays += 1);
            return Some(node);
        };
        if arrival.missed > 0 {
            report.gap(arrival.topic, arrival.missed, GapCause::Link(node));
        }
        if let Saying::Message(kind) = saying {
            if arrival.is_old {
                report.count(|figures| figures.duplicates += 1);
                return Some(node);
            }
            let is_sound = self.local.publish(arrival.topic, kind, payload);
            report.count(|figures| {
                figures.received += u64::from(is_sound);
                figures.strays += u64::from(!is_sound);
            });
        }
        Some(node)
    }

    /// What is due after some time on a link.
    fn handle_tick(&mut self, link: &mut Link, passed: Duration) -> Result<(), Down> {
        self.handle_time(Some(link));
        if self.sweep_at.is_some_and(|at| Instant::now() >= at) {
            self.sweep_at = None;
            self.say(link, Saying::Here);
            self.sweep = self.streams.topics();
        }
        link.handle_time(passed)
    }

    /// What is due after some time, with or without a link.
    fn handle_time(&mut self, mut link: Option<&mut Link>) {
        let now = Instant::now();
        self.local.retry();
        self.take_changes(now);
        for index in 0..self.lanes.len() {
            let dropped = self.lanes[index].take_dropped();
            self.handle_dropped(dropped, now);
        }
        while let Some((subject, number, is_asked)) = self.interest.poll_expired(now) {
            if let Some(link) = &mut link
                && is_asked
            {
                wire::unsubscribe(link.kind, &mut link.out, &subject, number);
            }
        }
        self.tell(now);
    }

    /// What has changed on the cores; also finds cores that are new.
    fn take_changes(&mut self, now: Instant) {
        self.shared.lanes_into(&mut self.lanes);
        for lane in &self.lanes {
            lane.take_changes(|topic, is_there| self.interest.handle_change(topic, is_there, now));
        }
    }

    /// Messages that found no room: others shall know.
    fn handle_dropped(&mut self, dropped: Dropped, now: Instant) {
        if dropped.count == 0 {
            return;
        }
        self.shared.report.count(|figures| figures.queue_dropped += dropped.count);
        for (topic, count) in dropped.by_topic {
            self.streams.skip(&topic, count, now);
        }
        self.sweep_at.get_or_insert(now + SWEEP_DELAY_AFTER_DROPS);
    }

    /// Brings levels up to date, and logs what was missed, at most once a second.
    fn tell(&mut self, now: Instant) {
        let waiting = self.lanes.iter().map(|lane| lane.waiting());
        let (messages, bytes) = waiting.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let mut missed = 0;
        self.shared.report.count(|figures| {
            figures.subscriptions = self.interest.len();
            (figures.queue_messages, figures.queue_bytes) = (messages, bytes);
            missed = figures.missed;
        });
        if now.saturating_duration_since(self.logged_at) < LOG_INTERVAL {
            return;
        }
        self.logged_at = now;
        for (topic, count) in self.local.take_missed() {
            self.shared.report.gap(&topic, count, GapCause::Busy);
            missed += count;
        }
        if missed > self.logged_missed {
            let more = missed - self.logged_missed;
            tracing::warn!(
                "{}: missed {more} messages of other nodes; GET /gaps lists them",
                self.shared.address
            );
            self.logged_missed = missed;
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without chance nodes come together, which is worse and no more.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}
