//! Which connections of a worker are tapped: found when a tap begins, and as they come and go.
//!
//! Nothing here is called while there is no tap, save for a look at the empty `Option` once in a turn.

use std::net::IpAddr;

use crate::conn::{Close, Phase};
use crate::conn_info::ConnId;
use crate::io::{Driver, Token};
use crate::tap::{TapEvent, TapOrder, TapTarget, Taps};

use super::{Application, Worker};

/// Slots looked at in one turn for an address: each may cost a system call.
const SLOTS_PER_TURN_MAX: usize = 512;
/// Subscribers looked at to find some that can be shown.
const SUBSCRIBERS_MAX: usize = 64;

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Somebody wants to see frames.
    pub(super) fn begin_tap(&mut self, order: TapOrder) {
        let named = match &order.target {
            TapTarget::Conn(id) => Some(self.named(*id)),
            TapTarget::Topic(_) | TapTarget::Addr(_) => None,
        };
        if named == Some(None) {
            order.tell(TapEvent::Missing);
            return;
        }
        let now = self.clock.now();
        let taps = self.core.taps.get_or_insert_with(|| Box::new(Taps::new(now)));
        let Some(tap) = taps.add(order) else { return };
        if let Some(Some(token)) = named {
            self.watch(tap, token);
        }
        self.find_subscribers();
    }

    /// Looks for connections that are to be shown. Call it once in a turn if there are taps.
    #[cold]
    pub(super) fn look_after_taps(&mut self) {
        let Some(taps) = &mut self.core.taps else { return };
        taps.now = self.clock.now();
        let (count, slot_count) = (taps.len(), self.deadlines.slot_count());
        for tap in 0..count {
            let Some(taps) = &mut self.core.taps else { return };
            for index in taps.search(tap, SLOTS_PER_TURN_MAX, slot_count) {
                let Ok(index) = u32::try_from(index) else { break };
                if let Some(token) = self.open_token(index) {
                    self.watch_if_of_address(tap, token);
                }
            }
        }
    }

    /// Whether there is something to look for without waiting.
    #[inline]
    pub(super) fn is_searching_for_taps(&self) -> bool {
        self.core.taps.as_ref().is_some_and(|taps| taps.is_searching())
    }

    /// Ends taps that nobody watches any more. Call it about once a second.
    pub(super) fn trim_taps(&mut self) {
        let Some(taps) = &mut self.core.taps else { return };
        for index in taps.drop_unwatched() {
            if let Some(entry) = self.table.get_mut(index as usize) {
                entry.connection.set_tapped(None);
            }
        }
        self.drop_empty_taps();
        self.find_subscribers();
    }

    /// A connection has opened.
    pub(super) fn tap_opened(&mut self, token: Token) {
        let count = self.core.taps.as_ref().map_or(0, |taps| taps.len());
        for tap in 0..count {
            self.watch_if_of_address(tap, token);
        }
    }

    /// A connection has ended.
    pub(super) fn tap_ended(&mut self, token: Token, close: &Close) {
        let Some(taps) = &mut self.core.taps else { return };
        let id = ConnId::new(self.topics.core(), token);
        let (by, code, cause) = (close.by().name(), close.code(), close.cause().name());
        taps.end(token.index, &TapEvent::Ended { id, by, code, cause });
        // Its Close frame may still leave; what is shown has an end.
        if let Some(entry) = self.table.get_mut(token.index as usize) {
            entry.connection.set_tapped(None);
        }
        self.drop_empty_taps();
    }

    fn drop_empty_taps(&mut self) {
        if self.core.taps.as_ref().is_some_and(|taps| taps.is_empty()) {
            self.core.taps = None;
        }
    }

    /// Finds connections that subscribe to the topics of taps.
    fn find_subscribers(&mut self) {
        let count = self.core.taps.as_ref().map_or(0, |taps| taps.len());
        for tap in 0..count {
            let Some(taps) = &self.core.taps else { return };
            let TapTarget::Topic(topic) = taps.target(tap) else { continue };
            for index in self.topics.subscribers(topic, SUBSCRIBERS_MAX) {
                if let Some(token) = self.open_token(index) {
                    self.watch(tap, token);
                }
            }
        }
    }

    fn watch_if_of_address(&mut self, tap: usize, token: Token) {
        let wanted = match self.core.taps.as_ref().map(|taps| taps.target(tap)) {
            Some(TapTarget::Addr(addr)) => addr.to_canonical(),
            Some(TapTarget::Conn(_) | TapTarget::Topic(_)) | None => return,
        };
        if self.client_addr(token).is_some_and(|addr| addr.to_canonical() == wanted) {
            self.watch(tap, token);
        }
    }

    /// Shows a connection from now on.
    fn watch(&mut self, tap: usize, token: Token) {
        let addr = self.client_addr(token);
        let id = ConnId::new(self.topics.core(), token);
        let Some(taps) = &mut self.core.taps else { return };
        if taps.watch(tap, token.index, id, addr)
            && let Some(entry) = self.table.get_mut(token.index as usize)
        {
            entry.connection.set_tapped(Some(token.index));
        }
    }

    /// The connection of this name, if it is open here.
    fn named(&self, id: ConnId) -> Option<Token> {
        let token = id.token_at(self.topics.core())?;
        (self.open_token(token.index)? == token).then_some(token)
    }

    fn open_token(&self, index: u32) -> Option<Token> {
        let entry = self.table.get(index as usize)?;
        let is_open = matches!(entry.connection.phase(), Phase::Open | Phase::Closing);
        is_open.then_some(Token { index, generation: entry.generation })
    }

    /// The client's address, as the application would hear it.
    pub(super) fn client_addr(&self, token: Token) -> Option<IpAddr> {
        let entry = self.table.get(token.index as usize)?;
        let peer = || self.driver.peer_addr(token).ok()?.ip();
        entry.connection.client_addr().or_else(peer)
    }
}
