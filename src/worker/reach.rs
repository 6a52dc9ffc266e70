//! What an application can reach at the end of a turn: every connection of its worker, and, in the
//! client role, new ones.
//!
//! INVARIANT: a connection that was lent stands in `lent`, and is looked after before the wait.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use slab::Slab;

use crate::conn::{Connection, Core, Phase};
use crate::conn_info::ConnId;
use crate::dialer::{Dialing, Target};
use crate::handler::{Conn, Roster};
use crate::io::{Driver, Outgoing, Token, socket};
use crate::pubsub::{Payload, PublishError, Receipt, Topics};

use super::{Entry, Shared, Tally};

/// The parts of a worker that its application may reach.
#[derive(Debug)]
pub(crate) struct Reach<'w, D: Driver, S> {
    pub(super) driver: &'w mut D,
    pub(super) table: &'w mut Slab<Entry<S>>,
    pub(super) core: &'w mut Core,
    pub(super) topics: &'w mut Topics,
    pub(super) tally: &'w mut Tally,
    pub(super) shared: &'w Shared,
    /// Connections the application has had its hands on; one may stand here more than once.
    pub(super) lent: &'w mut Vec<u32>,
    pub(super) now: Instant,
    /// The application has had enough.
    pub(super) stopped: bool,
}

/// Notes that a connection is to be looked after.
fn note(lent: &mut Vec<u32>, index: u32) {
    // Most applications do all they have to do with one connection before they go to the next.
    if lent.last() != Some(&index) {
        lent.push(index);
    }
}

impl<D: Driver, S> Roster<S> for Reach<'_, D, S> {
    fn now(&self) -> Instant {
        self.now
    }

    fn conn(&mut self, id: ConnId) -> Option<Conn<'_, S>> {
        let token = id.token_at(self.topics.core())?;
        let entry = self.table.get_mut(token.index as usize)?;
        if entry.generation != token.generation || entry.connection.phase() != Phase::Open {
            return None;
        }
        note(self.lent, token.index);
        let (core, topics, peer) = (&mut *self.core, &mut *self.topics, &*self.driver);
        let state = entry.state.as_mut()?;
        Some(Conn { token, connection: &mut entry.connection, core, topics, state, peer })
    }

    fn conn_count(&self) -> usize {
        self.table.len()
    }

    fn publish(&mut self, topic: &str, payload: Payload<'_>) -> Result<Receipt, PublishError> {
        self.topics.publish(topic, payload)
    }
}

impl<D: Outgoing, S> Dialing<S> for Reach<'_, D, S> {
    fn connect(
        &mut self,
        target: &Target,
        source: Option<IpAddr>,
        state: S,
    ) -> Result<ConnId, (S, io::Error)> {
        if self.table.len() >= self.core.limits.conns_max {
            return Err((state, io::Error::other("the limit of connections is reached")));
        }
        let socket = match socket::connect(target.addr(), source) {
            Ok(socket) => socket,
            Err(error) => return Err((state, error)),
        };
        let tls = match target.tls_session() {
            Ok(tls) => tls,
            Err(error) => return Err((state, error)),
        };
        let deflate = self.core.limits.compression.map(|compression| compression.policy);
        let (request, upgrade) = target.upgrade(self.core.keys.next_nonce(), deflate);
        let generation = self.tally.next_generation();
        let spread = Tally::spread(generation);
        let mut connection = Connection::client(&request, upgrade, spread, self.core);
        if let Some(tls) = tls {
            connection.secure(tls, self.core);
        }
        let index = self.table.insert(Entry::new(connection, generation, Some(state)));
        let token =
            Token { index: u32::try_from(index).expect("conns_max fits a token"), generation };
        if let Err(error) = self.driver.attach_outgoing(token, socket) {
            let mut entry = self.table.remove(index);
            entry.connection.release(self.core);
            let state = entry.state.take().expect("it was inserted with one");
            return Err((state, error));
        }
        self.tally.handshakes += 1;
        self.shared.conn_count.fetch_add(1, Ordering::Relaxed);
        note(self.lent, token.index);
        Ok(ConnId::new(self.topics.core(), token))
    }

    fn abort(&mut self, id: ConnId) {
        let Some(token) = id.token_at(self.topics.core()) else { return };
        if let Some(entry) = self.table.get_mut(token.index as usize)
            && entry.generation == token.generation
        {
            entry.connection.abort(self.core);
            note(self.lent, token.index);
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}
