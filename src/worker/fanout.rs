//! What comes to connections from elsewhere: messages of topics, and orders of other threads.

use crate::conn::{Connection, Core, Phase};
use crate::conn_info::{ConnId, ConnInfo};
use crate::io::{Driver, Token};
use crate::pubsub::{Listing, Order, Taken};

use super::{Application, Entry, Worker};

/// Subscribers served in one turn: a few milliseconds of sending (row PS06).
const DELIVERIES_PER_TURN_MAX: usize = 1024;
/// Topics of a connection that are told of.
const TOPICS_LISTED_MAX: usize = 16;
/// Subscribers served before their messages are sent, so that their queues are still in the cache.
const DELIVERIES_AT_ONCE: usize = 64;

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Queues published messages for their subscribers.
    pub(super) fn fan_out(&mut self) {
        for _ in 0..DELIVERIES_PER_TURN_MAX / DELIVERIES_AT_ONCE {
            if !self.topics.has_work() {
                return;
            }
            let Self { topics, table, core, lent, .. } = self;
            let lost = topics.serve(DELIVERIES_AT_ONCE, |conn, offer| {
                let Some(entry) = table.get_mut(conn as usize) else { return Taken::Gone };
                let taken = offer.make(&mut entry.connection, core);
                if taken != Taken::Later {
                    lent.push(conn);
                }
                taken
            });
            core.metrics.dropped.add(lost as u64);
            self.look_after_lent();
        }
    }

    /// Does what other threads ask for.
    pub(super) fn handle_orders(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        self.shared.exchange.take_orders(self.topics.core(), &mut orders);
        for order in orders.drain(..) {
            match order {
                Order::Publish(publication) => self.topics.accept(&publication),
                Order::List(listing) => self.list(&listing),
                Order::ListCloses(listing) => self.list_closes(&listing),
                Order::Tap(order) => self.begin_tap(*order),
                Order::Reconfigure(limits) => self.reconfigure(*limits),
                Order::Send { id, kind, payload } => self.with_connection(id, |conn, core| {
                    // Whoever asked is not here to be told; what is lost is counted.
                    let _ = conn.send(kind, &payload, core);
                }),
                Order::Close { id, code, reason } => {
                    self.with_connection(id, |conn, core| conn.close(code, &reason, core));
                }
            }
        }
        self.orders = orders;
    }

    /// Tells of some connections.
    fn list(&self, listing: &Listing) {
        let core = self.topics.core();
        let open = self.table.iter().filter(|(_, entry)| entry.connection.phase() == Phase::Open);
        let tell = |(index, entry): (usize, &Entry<A::State>)| {
            let index = u32::try_from(index).expect("conns_max fits a token");
            let token = Token { index, generation: entry.generation };
            let peer = || self.driver.peer_addr(token).ok().and_then(|peer| peer.ip());
            ConnInfo {
                id: ConnId::new(core, token),
                core,
                client_addr: entry.connection.client_addr().or_else(peer),
                age: self.core.now.elapsed().saturating_sub(entry.connection.since().elapsed()),
                topics: self.topics.of_conn(index, TOPICS_LISTED_MAX),
                queued_bytes: entry.connection.queued_bytes(),
            }
        };
        let conns = open.take(listing.conns_max).map(tell).collect();
        // Whoever has asked may have stopped waiting.
        let _ = listing.answer.send(conns);
    }

    fn with_connection(&mut self, id: ConnId, act: impl FnOnce(&mut Connection, &mut Core)) {
        let Some(token) = id.token_at(self.topics.core()) else { return };
        let Some((entry, core)) = self.live(token) else { return };
        act(&mut entry.connection, core);
        self.tell_ending(token.index);
        self.mark(token.index);
    }
}
