//! From a completion to its connection, and from there to the application.
//!
//! A completion whose token names a connection that is gone is dropped, and its block goes back
//! (row U10). Blocks are lent to a connection for the call and settled at its end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::buf::Block;
use crate::conn::{
    CloseCause, Collected, Core, Ending, Event, Input, Message, Phase, Plaintext, Source,
};
use crate::handler::Conn;
use crate::io::{Completion, Driver, Token};
use crate::proto::CloseCode;

use super::{Application, Entry, Worker};

impl<D: Driver, A: Application<D>> Worker<D, A> {
    pub(super) fn dispatch(&mut self, completion: Completion<D::Socket>) {
        match completion {
            Completion::Received { token, block, len } => self.handle_received(token, block, len),
            Completion::ReceivedInto { token, block, len } => {
                self.handle_received_into(token, block, len);
            }
            Completion::Sent { token, segment, sent } => match self.live(token) {
                Some((entry, core)) => {
                    entry.connection.handle_sent(segment, sent, core);
                    let is_idle = entry.connection.queued_bytes() == 0;
                    if entry.connection.poll_writable(core) {
                        self.tell_writable(token);
                    }
                    if is_idle {
                        self.topics.handle_idle(token.index);
                    }
                    self.mark(token.index);
                }
                None => self.core.pool.give(segment.block),
            },
            Completion::PeerClosed { token } => {
                if let Some((entry, core)) = self.live(token) {
                    entry.connection.handle_peer_closed(core);
                    self.tell_ending(token.index);
                    self.mark(token.index);
                }
            }
            Completion::Failed { token, error } => {
                if self.live(token).is_some() && self.log.broke.take(self.core.now) {
                    tracing::debug!(conn = token.index, %error, "connection broke");
                }
                if let Some((entry, core)) = self.live(token) {
                    entry.connection.handle_failed(error, core);
                    self.tell_ending(token.index);
                    self.mark(token.index);
                }
            }
            Completion::Closed { token } => {
                if self.live(token).is_some() {
                    self.tell_ending(token.index);
                    self.forget(token.index);
                }
            }
            Completion::Accepted { socket, listener } => self.insert(socket, listener),
            Completion::AcceptFailed { error, exhausted } => {
                if self.log.accept_failed.take(self.core.now) {
                    tracing::debug!(%error, exhausted, "accept failed");
                }
                if exhausted {
                    self.rest_accepting();
                }
            }
            Completion::Woken => {
                self.handle_woken();
                self.handle_decisions();
                self.handle_orders();
            }
        }
    }

    /// The connection that a token names, if it is still there.
    pub(super) fn live(&mut self, token: Token) -> Option<(&mut Entry<A::State>, &mut Core)> {
        let entry = self.table.get_mut(token.index as usize)?;
        (entry.generation == token.generation).then_some((entry, &mut self.core))
    }

    fn handle_received(&mut self, token: Token, block: Block, len: usize) {
        let Some((entry, core)) = self.live(token) else {
            self.core.pool.give(block);
            return;
        };
        entry.connection.handle_heard(len, core);
        let (is_secure, is_proxied) =
            (entry.connection.is_secure(), entry.connection.awaits_proxy_header());
        let mut input = Input::new(len);
        if is_proxied && !self.handle_proxy_header(token, &block, &mut input) {
            self.core.pool.give(block);
        } else if is_secure {
            self.handle_records(token, block, input);
        } else {
            self.handle_plaintext(token, block, input);
        }
        self.tell_ending(token.index);
        self.mark(token.index);
    }

    fn handle_records(&mut self, token: Token, mut records: Block, mut input: Input) {
        while let Some((entry, core)) = self.live(token)
            && let Some(plaintext) = entry.connection.poll_plaintext(&mut records, &mut input, core)
        {
            let (block, range) = match plaintext {
                Plaintext::Received(range) => {
                    input = Input::new(0);
                    (std::mem::replace(&mut records, Block::empty()), range)
                }
                Plaintext::Apart(block, range) => (block, range),
            };
            self.handle_plaintext(token, block, Input::within(range));
        }
        self.core.pool.give(records);
    }

    fn handle_plaintext(&mut self, token: Token, mut block: Block, mut input: Input) {
        if self.live(token).is_some_and(|(entry, _)| entry.connection.phase() == Phase::Handshake) {
            self.handle_head(token, &block, &mut input);
        }
        while let Some(event) = self.poll_event(token, &mut block, &mut input) {
            match event {
                Event::Message { kind, start, end } => {
                    let memory = &mut block.bytes_mut()[..end];
                    self.tell_message(token, Message::new(kind, memory, start, Source::Received));
                }
                Event::Collected(collected) => self.tell_collected(token, collected),
            }
        }
        if let Some((entry, core)) = self.live(token) {
            entry.connection.settle(block, Source::Received, core);
        }
    }

    fn poll_event(&mut self, token: Token, block: &mut Block, input: &mut Input) -> Option<Event> {
        let (entry, core) = self.live(token)?;
        entry.connection.poll_event(block.bytes_mut(), input, core)
    }

    fn handle_received_into(&mut self, token: Token, block: Block, len: usize) {
        let Some((entry, core)) = self.live(token) else {
            self.core.pool.give(block);
            return;
        };
        entry.connection.handle_heard(len, core);
        if let Some(Event::Collected(collected)) =
            entry.connection.handle_received_into(block, len, core)
        {
            self.tell_collected(token, collected);
        }
        self.tell_ending(token.index);
        self.mark(token.index);
    }

    pub(super) fn tell_opened(&mut self, token: Token) {
        if self.core.taps.is_some() {
            self.tap_opened(token);
        }
        let Self { table, core, application, driver, topics, .. } = self;
        let Some(entry) = table.get_mut(token.index as usize) else { return };
        let Some(state) = &mut entry.state else { return };
        core.metrics.opened.add(1);
        let connection = &mut entry.connection;
        let mut conn = Conn { token, connection, core, topics, state, peer: driver };
        if catch_unwind(AssertUnwindSafe(|| application.open(&mut conn))).is_err() {
            entry.connection.fail(CloseCode::INTERNAL_ERROR, CloseCause::Panic, core);
        }
    }

    fn tell_writable(&mut self, token: Token) {
        let Self { table, core, application, driver, topics, .. } = self;
        let Some(entry) = table.get_mut(token.index as usize) else { return };
        let Some(state) = &mut entry.state else { return };
        let connection = &mut entry.connection;
        let mut conn = Conn { token, connection, core, topics, state, peer: driver };
        if catch_unwind(AssertUnwindSafe(|| application.writable(&mut conn))).is_err() {
            entry.connection.fail(CloseCode::INTERNAL_ERROR, CloseCause::Panic, core);
            self.tell_ending(token.index);
        }
    }

    #[inline]
    fn tell_message(&mut self, token: Token, message: Message<'_>) {
        let Self { table, core, application, driver, topics, .. } = self;
        let Some(entry) = table.get_mut(token.index as usize) else { return };
        let Some(state) = &mut entry.state else { return };
        core.metrics.messages.add(1);
        core.metrics.message_bytes.add(message.payload().len() as u64);
        let connection = &mut entry.connection;
        let mut conn = Conn { token, connection, core, topics, state, peer: driver };
        if catch_unwind(AssertUnwindSafe(|| application.message(&mut conn, message))).is_err() {
            entry.connection.fail(CloseCode::INTERNAL_ERROR, CloseCause::Panic, core);
        }
    }

    fn tell_collected(&mut self, token: Token, collected: Collected) {
        let Collected { kind, mut block, len, .. } = collected;
        let (start, end) = Collected::payload_range(len);
        let memory = block.bytes_mut().get_mut(..end);
        // A message of nothing but empty fragments never needed memory.
        let message = match memory {
            Some(memory) => Message::new(kind, memory, start, Source::Collected),
            None => Message::new(kind, &mut [], 0, Source::Collected),
        };
        self.tell_message(token, message);
        if let Some((entry, core)) = self.live(token) {
            entry.connection.settle(block, Source::Collected, core);
        }
    }

    /// Tells the application how a connection ended, if it has.
    pub(super) fn tell_ending(&mut self, index: u32) {
        let Self { table, application, .. } = self;
        let Some(entry) = table.get_mut(index as usize) else { return };
        let Some(ending) = entry.connection.poll_ending() else { return };
        let Some(mut state) = entry.state.take() else { return };
        let close = match ending {
            Ending::Closed(close) => close,
            Ending::NeverOpened(error) => {
                let _ = catch_unwind(AssertUnwindSafe(|| application.fail(state, &error)));
                return;
            }
        };
        let token = Token { index, generation: entry.generation };
        self.record_close(token, &close);
        let Self { table, core, application, driver, topics, .. } = self;
        let Some(entry) = table.get_mut(index as usize) else { return };
        let connection = &mut entry.connection;
        let mut conn = Conn { token, connection, core, topics, state: &mut state, peer: driver };
        // The connection is over; a panic has nothing more to end.
        let _ = catch_unwind(AssertUnwindSafe(|| application.close(&mut conn, &close)));
        topics.forget(index);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(state)));
    }
}
