//! One topic of one core: its subscribers, and how far each has been served.
//!
//! Subscribers stand in a dense array. To serve them, a pass goes over it from the end to the start,
//! in slices, and gives each what it has not been given yet. Whoever comes stands behind the pass.
//! The gap of one who leaves is filled from its own side of the cursor, so that nobody is left out
//! and nobody asked twice, whatever happens between two slices (row PS07).
//!
//! ```text
//!   |a |b |c |d |e |f |
//!            ^ cursor: d, e, f have been served in this pass
//! ```

use std::cell::Cell;
use std::rc::Rc;

use super::log::{Log, precedes};
use super::{Offer, SlowReaders, Taken, TopicPolicy, make_room};

/// A topic with subscribers on this core, or with a history.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Box<str>,
    pub(super) hash: u64,
    pub(super) policy: TopicPolicy,
    pub(super) members: Vec<Member>,
    pub(super) log: Log,
    pass: Option<Pass>,
    /// One past the number of the last message for which there was a pass.
    passed: u32,
    /// Stands in the line of topics that have something to send.
    pub(super) is_in_line: bool,
    /// Seconds for which it has had neither a subscriber nor a message.
    pub(super) idle_seconds: u32,
}

/// A connection's place in a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Slot of the connection.
    pub(super) conn: u32,
    /// Place in the list of all subscriptions.
    pub(super) subscription: u32,
    /// The number of the first message that it has not been given.
    pub(super) next: u32,
}

const _: () = assert!(size_of::<Member>() == 12, "every subscription pays for it");

/// A walk over all subscribers, with the messages from `begin` to `end`.
#[derive(Debug)]
struct Pass {
    begin: u32,
    end: u32,
    /// Subscribers before this one have not been served.
    cursor: usize,
    /// Of those that were, how many took all of it; others are counted as they are served.
    queued: usize,
}

impl Topic {
    pub(super) fn new(
        name: &str,
        hash: u64,
        policy: TopicPolicy,
        alive_bytes: &Rc<Cell<usize>>,
    ) -> Self {
        let log = Log::new(alive_bytes);
        let passed = log.sealed();
        Self {
            name: name.into(),
            hash,
            policy,
            members: Vec::new(),
            log,
            pass: None,
            passed,
            is_in_line: false,
            idle_seconds: 0,
        }
    }

    /// Adds a subscriber; returns its place, and whether there is a history to send it.
    pub(super) fn join(&mut self, conn: u32, subscription: u32) -> (u32, bool) {
        let end = self.log.end();
        let kept = end.wrapping_sub(self.log.first()) as usize;
        let wanted =
            u32::try_from(self.policy.history_count().min(kept)).expect("it is at most `kept`");
        let next = end.wrapping_sub(wanted);
        let position = u32::try_from(self.members.len()).expect("connections fit 32 bits");
        make_room(&mut self.members, position as usize + 1);
        self.members.push(Member { conn, subscription, next });
        self.idle_seconds = 0;
        (position, wanted > 0)
    }

    /// Removes the subscriber at a place. Tells `moved` which subscriptions stand where now.
    pub(super) fn leave(&mut self, position: u32, mut moved: impl FnMut(u32, u32)) {
        let mut gap = position as usize;
        if let Some(pass) = &mut self.pass
            && gap < pass.cursor
        {
            // One that has been asked already must not come to stand before the cursor.
            pass.cursor -= 1;
            self.members.swap(gap, pass.cursor);
            gap = pass.cursor;
            moved(self.members[position as usize].subscription, position);
        }
        self.members.swap_remove(gap);
        if let Some(member) = self.members.get(gap) {
            moved(member.subscription, u32::try_from(gap).expect("connections fit 32 bits"));
        }
    }

    /// Whether somebody is still to be served.
    pub(super) fn has_work(&self) -> bool {
        self.pass.is_some() || self.log.has_open() || self.log.sealed() != self.passed
    }

    /// Serves up to `budget` subscribers, of one pass.
    pub(super) fn serve_slice(
        &mut self,
        budget: &mut usize,
        lost: &mut usize,
        offer: &mut impl FnMut(u32, Offer<'_>) -> Taken,
    ) {
        let mut pass = self.pass.take().unwrap_or_else(|| {
            self.log.seal();
            let (begin, end, cursor) = (self.passed, self.log.sealed(), self.members.len());
            Pass { begin, end, cursor, queued: 0 }
        });
        while pass.cursor > 0 && *budget > 0 {
            pass.cursor -= 1;
            *budget -= 1;
            self.serve_in(&mut pass, lost, offer);
        }
        if pass.cursor > 0 {
            self.pass = Some(pass);
            return;
        }
        let Pass { begin, end, queued, .. } = pass;
        self.log.count(begin..end, queued, 0);
        self.log.finish(begin, end, self.policy.kept_count());
        self.passed = end;
    }

    /// Serves the subscriber at the cursor, and counts it for the publishers.
    fn serve_in(
        &mut self,
        pass: &mut Pass,
        lost: &mut usize,
        offer: &mut impl FnMut(u32, Offer<'_>) -> Taken,
    ) {
        let next = self.members[pass.cursor].next;
        let Some(refused) = self.serve(pass.cursor, pass.end, lost, offer) else { return };
        if refused == pass.end && !precedes(pass.begin, next) {
            pass.queued += 1;
            return;
        }
        // It came when some of these were published already, or had no room for all.
        let begin = later(pass.begin, next);
        let refused = later(begin, refused);
        self.log.count(begin..refused, 1, 0);
        self.log.count(refused..pass.end, 0, 1);
    }

    /// Serves one subscriber that was left behind, or has come since, as far as others are.
    pub(super) fn catch_up(
        &mut self,
        position: u32,
        lost: &mut usize,
        offer: &mut impl FnMut(u32, Offer<'_>) -> Taken,
    ) {
        let position = position as usize;
        let end = match &self.pass {
            Some(pass) if position >= pass.cursor => pass.end,
            _ => self.passed,
        };
        self.serve(position, end, lost, offer);
    }

    /// Gives one subscriber what it has not been given before `end`. Returns from where on it was
    /// refused: `end` if it was not. None if there was nothing to give, or nobody to give it to.
    fn serve(
        &mut self,
        position: usize,
        end: u32,
        lost: &mut usize,
        offer: &mut impl FnMut(u32, Offer<'_>) -> Taken,
    ) -> Option<u32> {
        let Member { conn, next, .. } = self.members[position];
        if !precedes(next, end) {
            return None;
        }
        let latest_only = self.policy.slow_readers == SlowReaders::Latest;
        let from = if latest_only { end.wrapping_sub(1) } else { next };
        let share = self.log.share(from, end);
        let start = share.first();
        let only_if_idle = self.policy.slow_readers != SlowReaders::Close;
        let taken = offer(conn, Offer { share, only_if_idle });
        if taken != Taken::Gone {
            *lost += start.wrapping_sub(next) as usize;
        }
        // One that takes nothing for very long does not fall behind by half of all numbers.
        self.members[position].next = if taken == Taken::Later { start } else { end };
        match taken {
            Taken::Queued | Taken::Later => Some(end),
            Taken::Refused { taken } => {
                let taken = u32::try_from(taken).expect("it is less than the share has");
                Some(start.wrapping_add(taken))
            }
            Taken::Gone => None,
        }
    }
}

/// The one of two numbers that comes after the other.
fn later(a: u32, b: u32) -> u32 {
    if precedes(a, b) { b } else { a }
}

impl Drop for Topic {
    /// Those who were served are counted, though the pass does not come to its end.
    fn drop(&mut self) {
        if let Some(Pass { begin, end, queued, .. }) = self.pass.take() {
            self.log.count(begin..end, queued, 0);
        }
    }
}
