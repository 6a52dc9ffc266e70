//! The model of one core, beside the real thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::conn::SharedForm;
use crate::proto::{Header, Role};
use crate::pubsub::{IDLE_SECONDS_MAX, Offer, Share, SubscribeError, Taken, Topics};

use super::{
    CONNS, Choices, Exchange, MessageKind, NAMES, Order, SlowReaders, VecDeque, World, id_of,
    topic_of,
};

/// One core: its topics, and what they must do.
#[derive(Debug)]
pub(super) struct Core {
    at: usize,
    pub(super) topics: Topics,
    /// Numbers of messages for this core, and whether it must be handed them: if it has no
    /// subscriber, it may be.
    pub(super) inbox: VecDeque<(usize, bool)>,
    /// By topic, if it is there.
    pub(super) logs: [Option<Log>; NAMES.len()],
    /// By topic and connection.
    subscriptions: BTreeMap<(usize, u32), VecDeque<Due>>,
    conns: [Conn; CONNS as usize],
}

/// A topic that is there.
#[derive(Debug, Default)]
pub(super) struct Log {
    accepted: Vec<usize>,
    idle_seconds: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Conn {
    /// It takes nothing more.
    is_over: bool,
    /// It has said that it takes more later.
    is_behind: bool,
}

/// A message that a subscriber must get.
#[derive(Clone, Copy, Debug)]
struct Due {
    id: usize,
    /// It was published before the subscription.
    is_history: bool,
    /// The connection was asked.
    was_asked: bool,
}

impl Core {
    pub(super) fn new(at: usize, exchange: &Arc<Exchange>) -> Self {
        Self {
            at,
            topics: Topics::new(at, Arc::clone(exchange)),
            inbox: VecDeque::new(),
            logs: [const { None }; NAMES.len()],
            subscriptions: BTreeMap::new(),
            conns: [Conn::default(); CONNS as usize],
        }
    }

    pub(super) fn subscribe(&mut self, world: &World, conn: u32, topic: usize) {
        if self.conns[conn as usize].is_over {
            return;
        }
        let log_count = self.logs.iter().flatten().count();
        let of_conn = self.subscriptions.keys().filter(|(_, other)| *other == conn).count();
        let expected = if self.subscriptions.contains_key(&(topic, conn)) {
            Ok(false)
        } else if of_conn >= world.subscriptions_max {
            Err(SubscribeError::TooMany)
        } else if self.logs[topic].is_none() && log_count >= world.topics_max {
            Err(SubscribeError::TooManyTopics)
        } else {
            Ok(true)
        };
        assert_eq!(self.topics.subscribe(conn, NAMES[topic]), expected);
        if expected != Ok(true) {
            return;
        }
        let log = self.logs[topic].get_or_insert_default();
        log.idle_seconds = 0;
        let skipped = log.accepted.len().saturating_sub(world.policies[topic].history_count());
        let due = |&id: &usize| Due { id, is_history: true, was_asked: false };
        let history = log.accepted[skipped..].iter().map(due).collect();
        self.subscriptions.insert((topic, conn), history);
    }

    pub(super) fn unsubscribe(&mut self, conn: u32, topic: usize) {
        let expected = self.subscriptions.remove(&(topic, conn)).is_some();
        assert_eq!(self.topics.unsubscribe(conn, NAMES[topic]), expected);
    }

    /// The connection has ended, and another has its place.
    pub(super) fn forget(&mut self, conn: u32) {
        self.topics.forget(conn);
        self.subscriptions.retain(|(_, other), _| *other != conn);
        self.conns[conn as usize] = Conn::default();
    }

    pub(super) fn take_orders(&mut self, world: &mut World, exchange: &Exchange) {
        let mut orders = Vec::new();
        exchange.take_orders(self.at, &mut orders);
        assert!(orders.len() <= world.inbox_orders_max, "an inbox has its limit");
        for order in orders {
            let Order::Publish(publication) = order else { panic!("nothing else was ordered") };
            let id = id_of(&publication.payload);
            while let Some((next, is_due)) = self.inbox.pop_front()
                && next != id
            {
                assert!(!is_due, "{next} comes before {id}");
            }
            self.topics.accept(&publication);
            self.note_accepted(world, id);
        }
        assert!(self.inbox.drain(..).all(|(_, is_due)| !is_due), "all have come");
    }

    /// A message that this core has published itself.
    pub(super) fn accept(&mut self, world: &World, id: usize) {
        self.note_accepted(world, id);
    }

    fn note_accepted(&mut self, world: &World, id: usize) {
        let topic = world.messages[id].topic;
        if self.logs[topic].is_none() {
            let has_room = self.logs.iter().flatten().count() < world.topics_max;
            if world.policies[topic].history == 0 || !has_room {
                return;
            }
        }
        let log = self.logs[topic].get_or_insert_default();
        log.accepted.push(id);
        log.idle_seconds = 0;
        for ((_, _), due) in self.subscriptions.iter_mut().filter(|((of, _), _)| *of == topic) {
            due.push_back(Due { id, is_history: false, was_asked: false });
        }
    }

    pub(super) fn serve(&mut self, world: &mut World, budget: usize, choices: &mut Choices<'_>) {
        let Self { topics, logs, subscriptions, conns, .. } = self;
        let nobody_is_ready = topics.ready.is_empty();
        let (mut offers, mut expected_lost) = (0, 0);
        let lost = topics.serve(budget, |conn, offer| {
            offers += 1;
            let mut asked = Asked { logs, subscriptions, conn: &mut conns[conn as usize], world };
            asked.answer(conn, offer, choices, &mut expected_lost)
        });
        assert_eq!(lost, expected_lost, "what is lost is counted");
        assert!(offers <= budget || !nobody_is_ready, "{offers} were asked, of {budget}");
        world.totals.lost += lost;
    }

    pub(super) fn serve_all(&mut self, world: &mut World, choices: &mut Choices<'_>) {
        while self.topics.has_work() {
            self.serve(world, 5, choices);
        }
    }

    pub(super) fn handle_idle(&mut self, conn: u32) {
        let is_behind = std::mem::take(&mut self.conns[conn as usize].is_behind);
        // One without subscriptions has nothing to wait for.
        let subscribes = self.subscriptions.keys().any(|(_, other)| *other == conn);
        assert!(!subscribes || self.topics.conns[conn as usize].is_behind == is_behind);
        self.topics.handle_idle(conn);
    }

    pub(super) fn handle_second(&mut self, world: &World, seconds: usize) {
        for _ in 0..seconds {
            self.topics.handle_second();
            for topic in 0..NAMES.len() {
                let is_idle = !self.has_subscribers(topic);
                if let Some(log) = &mut self.logs[topic] {
                    log.idle_seconds = if is_idle { log.idle_seconds + 1 } else { 0 };
                }
            }
            self.follow(world);
        }
    }

    /// What must hold at any time.
    pub(super) fn check(&mut self, world: &World) {
        self.follow(world);
        let topics = &self.topics;
        let log_count = self.logs.iter().flatten().count();
        assert_eq!(topics.topic_count(), log_count);
        assert_eq!(topics.subscription_count(), self.subscriptions.len());
        for conn in 0..CONNS {
            let mut names = topics.of_conn(conn, usize::MAX);
            names.sort();
            let of_conn = self.subscriptions.keys().filter(|(_, other)| *other == conn);
            let expected: Vec<&str> = of_conn.map(|(topic, _)| NAMES[*topic]).collect();
            assert_eq!(names, expected);
        }
        let keeps_none = world.policies.iter().all(|policy| policy.kept_count() == 0);
        if !topics.has_work() && keeps_none {
            let waiting_bytes = topics.exchange.inbox_bytes(self.at);
            assert_eq!(topics.held_bytes(), waiting_bytes, "what all have been sent is freed");
        }
    }

    /// The other cores know of this one's topics.
    pub(super) fn check_presence(&self, exchange: &Exchange) {
        let log_count = self.logs.iter().flatten().count();
        assert_eq!(exchange.presence_total(self.at) as usize, log_count);
    }

    /// Everybody has been asked: whoever has not got all waits for its queue to drain.
    pub(super) fn check_behind(&self) {
        for ((topic, conn), due) in &self.subscriptions {
            let Conn { is_over, is_behind } = self.conns[*conn as usize];
            assert!(due.is_empty() || is_over || is_behind, "{conn} misses {due:?} of {topic}");
        }
    }

    /// Everybody has got everything.
    pub(super) fn check_served(&self) {
        for ((topic, conn), due) in &self.subscriptions {
            let is_over = self.conns[*conn as usize].is_over;
            assert!(due.is_empty() || is_over, "{conn} misses {due:?} of {topic}");
        }
    }

    /// Topics that are freed are gone from the model, too, if they may be.
    fn follow(&mut self, world: &World) {
        for (topic, name) in NAMES.iter().enumerate() {
            let is_there = self.topics.find(name, self.topics.exchange.hash(name)).is_some();
            assert!(!is_there || self.logs[topic].is_some(), "nobody has asked for {name}");
            let keeps_history = world.policies[topic].history > 0;
            let is_needed = self.has_subscribers(topic);
            let Some(log) = &self.logs[topic] else { continue };
            let is_young = keeps_history && log.idle_seconds <= IDLE_SECONDS_MAX;
            assert!(is_there || !is_needed && !is_young, "{name} has been freed too early");
            let is_spare = !is_needed && !keeps_history && !self.topics.has_work();
            assert!(!is_there || !is_spare, "{name} goes with its last subscriber");
            if !is_there {
                self.logs[topic] = None;
            }
        }
    }

    fn has_subscribers(&self, topic: usize) -> bool {
        self.subscriptions.keys().any(|(of, _)| *of == topic)
    }
}

/// A connection that is offered something, and what the model knows of it.
struct Asked<'a> {
    logs: &'a [Option<Log>; NAMES.len()],
    subscriptions: &'a mut BTreeMap<(usize, u32), VecDeque<Due>>,
    conn: &'a mut Conn,
    world: &'a mut World,
}

impl Asked<'_> {
    /// Checks an offer, and chooses the answer.
    fn answer(
        &mut self,
        conn: u32,
        offer: Offer<'_>,
        choices: &mut Choices<'_>,
        lost: &mut usize,
    ) -> Taken {
        let Offer { mut share, only_if_idle } = offer;
        let (topic, ids) = self.read(&mut share, choices);
        let policy = self.world.policies[topic].slow_readers;
        assert_eq!(only_if_idle, policy != SlowReaders::Close);
        let due = self.subscriptions.get_mut(&(topic, conn)).expect("only subscribers are asked");
        let skipped = due.iter().position(|due| due.id == ids[0]);
        let skipped = skipped.unwrap_or_else(|| panic!("{ids:?} are not of {due:?}"));
        let end = skipped + ids.len();
        let offered = due.iter().take(end).skip(skipped).map(|due| due.id);
        assert!(offered.eq(ids.iter().copied()), "{ids:?} stand together in {due:?}");
        let accepted = &self.logs[topic].as_ref().expect("it has a subscriber").accepted;
        check_skipped(policy, due, skipped, ids.len(), accepted);

        let taken = match choices.below(9) {
            _ if self.conn.is_over => Taken::Gone,
            5..8 if only_if_idle => Taken::Later,
            7 => Taken::Refused { taken: choices.below(ids.len()) },
            8 => Taken::Gone,
            _ => Taken::Queued,
        };
        let room = match taken {
            Taken::Refused { taken } => skipped + taken,
            Taken::Queued | Taken::Later | Taken::Gone => end,
        };
        for (at, due) in due.iter_mut().take(end).enumerate() {
            let message = &mut self.world.messages[due.id];
            if !std::mem::replace(&mut due.was_asked, true) {
                message.late += usize::from(due.is_history);
                let counts = !due.is_history && taken != Taken::Gone;
                message.queued += usize::from(counts && at < room);
                message.refused += usize::from(counts && at >= room);
            }
        }
        let totals = &mut self.world.totals;
        match taken {
            Taken::Queued => {
                *lost += skipped;
                totals.delivered += ids.len();
                totals.from_history += due.iter().take(end).filter(|due| due.is_history).count();
                due.drain(..end);
            }
            Taken::Later => {
                *lost += skipped;
                totals.later += 1;
                due.drain(..skipped);
                self.conn.is_behind = true;
            }
            Taken::Refused { .. } | Taken::Gone => {
                totals.refused += end - room;
                due.drain(..end);
                self.conn.is_over = true;
            }
        }
        taken
    }

    /// The topic of a share, and the numbers of its messages; its frames must say the same.
    fn read(&self, share: &mut Share<'_>, choices: &mut Choices<'_>) -> (usize, Vec<usize>) {
        let mut ids = Vec::new();
        let mut topic = None;
        share.each_message(|publication| {
            let of = topic_of(&publication.topic);
            assert_eq!(*topic.get_or_insert(of), of, "a share is of one topic");
            let id = id_of(&publication.payload);
            assert_eq!(*publication.payload, self.world.messages[id].payload);
            ids.push(id);
        });
        let topic = topic.expect("nobody is offered nothing");
        let form = if choices.below(3) == 2 { SharedForm::Deflated } else { SharedForm::Plain };
        if form == SharedForm::Deflated {
            share.deflate(squeeze);
        }
        let mut frames = Vec::new();
        share.each_run(form, |memory, range| frames.extend_from_slice(&memory.bytes()[range]));
        assert_eq!(read_frames(&frames, form), ids, "frames are those of the messages");
        (topic, ids)
    }
}

/// Whether the policy lets the first of what is due be passed over.
fn check_skipped(
    policy: SlowReaders,
    due: &VecDeque<Due>,
    skipped: usize,
    count: usize,
    accepted: &[usize],
) {
    match policy {
        SlowReaders::Close => assert_eq!(skipped, 0, "nothing is passed over"),
        SlowReaders::DropOldest(kept) => {
            let Some(last) = skipped.checked_sub(1) else { return };
            let place = accepted.iter().position(|id| *id == due[last].id);
            let newer = accepted.len() - 1 - place.expect("what is due was accepted");
            assert!(newer >= kept, "{kept} are kept, only {newer} are newer");
            let were_asked = due.iter().take(skipped).all(|due| due.was_asked);
            assert!(were_asked, "only those lose messages who did not take them");
        }
        SlowReaders::Latest => assert_eq!(count, 1, "only one counts"),
    }
}

/// In place of a compressor: payloads of even length grow shorter, others gain nothing.
fn squeeze(payload: &[u8], out: &mut Vec<u8>) -> bool {
    let pays = payload.len().is_multiple_of(2);
    if pays {
        out.extend_from_slice(&payload[..4]);
        out.push(b'~');
    }
    pays
}

/// The numbers of messages in frames.
fn read_frames(mut frames: &[u8], form: SharedForm) -> Vec<usize> {
    let mut ids = Vec::new();
    while !frames.is_empty() {
        let (header, start) = Header::decode(frames, Role::Client, true)
            .expect("it is well-formed")
            .expect("it is whole");
        let len = usize::try_from(header.payload_len).expect("it is in memory");
        let payload = &frames[start..start + len];
        assert!(header.fin && MessageKind::of(header.opcode).opcode() == header.opcode);
        assert_eq!(header.rsv1, payload.last() == Some(&b'~'), "RSV1 says what is compressed");
        assert!(form == SharedForm::Deflated || !header.rsv1);
        ids.push(id_of(payload));
        frames = &frames[start + len..];
    }
    ids
}
