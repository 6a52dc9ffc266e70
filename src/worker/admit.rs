//! From a request to its answer: the application decides, at once or later.
//!
//! INVARIANT: a request is answered once. A decision that comes for a connection that is gone, or
//! answered by its timeout, is dropped (rows HS19, HS20).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::buf::Block;
use crate::conn::{Connection, Deferred, HeadStatus, Input, Terms};
use crate::decision::{Accept, Decision, Deferral, Outcome, Verdict};
use crate::io::{Driver, Token};
use crate::proto::Role;
use crate::proto::handshake::{Refusal, Response};

use super::{Application, Worker};

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Bytes of an opening handshake, or of the answer to our own.
    pub(super) fn handle_head(&mut self, token: Token, block: &Block, input: &mut Input) {
        let Some((entry, core)) = self.live(token) else { return };
        if entry.connection.role() == Role::Client {
            if entry.connection.poll_answer(block.bytes(), input, core) {
                self.tell_opened(token);
            }
            return;
        }
        match entry.connection.poll_head(block.bytes(), input, core) {
            None => {}
            Some(HeadStatus::InBlock(head)) => self.handle_request(token, &block.bytes()[head]),
            Some(HeadStatus::Collected(bytes)) => self.handle_request(token, &bytes),
        }
    }

    /// Decisions of other threads.
    pub(super) fn handle_decisions(&mut self) {
        for (token, outcome) in self.mailbox.take() {
            let Some((entry, _)) = self.live(token) else { continue };
            let Some(deferred) = entry.connection.take_deferred() else { continue };
            match outcome {
                Some(outcome) => self.conclude(token, &deferred, outcome),
                None => self.refuse(token, Refusal::Overloaded),
            }
            self.tell_ending(token.index);
            self.mark(token.index);
        }
    }

    fn handle_request(&mut self, token: Token, head: &[u8]) {
        let Some((entry, core)) = self.live(token) else { return };
        let Some(request) = entry.connection.judge(head, core) else { return };
        if !self.admit_forwarded(token, &request) {
            return;
        }
        let Self { table, core, application, driver, .. } = self;
        let Some(entry) = table.get_mut(token.index as usize) else { return };
        let known = entry.connection.client_addr();
        let client = || known.or_else(|| driver.peer_addr(token).ok()?.ip());
        let request = request.with_client(&client);
        let decided = catch_unwind(AssertUnwindSafe(|| application.upgrade(&request)));
        let deferred = Deferred {
            acceptable: Connection::acceptable(&request, &core.limits),
            is_head: request.is_head(),
        };
        match decided {
            Ok(Decision(Verdict::Defer(start))) => {
                entry.connection.defer(deferred);
                let deferral = Deferral::new(Arc::clone(&self.mailbox), token);
                // What was moved into it is dropped by a panic, and so the deferral is decided.
                let _ = catch_unwind(AssertUnwindSafe(|| start(deferral)));
            }
            Ok(Decision(Verdict::Settled(outcome))) => self.conclude(token, &deferred, outcome),
            Err(_) => self.answer(token, &Response::new(500), deferred.is_head),
        }
    }

    fn conclude(&mut self, token: Token, request: &Deferred, outcome: Outcome<A::State>) {
        match (outcome, request.acceptable) {
            (Outcome::Accept(_), Err(refusal)) => self.refuse(token, refusal),
            (Outcome::Accept(accept), Ok(acceptable)) => {
                let Some((entry, core)) = self.live(token) else { return };
                let Accept { state, protocol, headers, compression } = accept;
                let protocol = protocol.as_deref();
                let terms = Terms { protocol, headers: &headers, compression };
                entry.connection.accept(&acceptable, &terms, core);
                entry.state = Some(state);
                self.tell_opened(token);
            }
            (Outcome::Reject(response), _) => {
                self.core.metrics.count_refusal("application");
                self.answer(token, &response, request.is_head);
            }
            (Outcome::Answer(response), _) => self.answer(token, &response, request.is_head),
        }
    }

    fn refuse(&mut self, token: Token, refusal: Refusal) {
        if let Some((entry, core)) = self.live(token) {
            entry.connection.refuse(refusal, core);
        }
    }

    fn answer(&mut self, token: Token, response: &Response, is_head: bool) {
        if let Some((entry, core)) = self.live(token) {
            entry.connection.answer(response, is_head, core);
        }
    }
}
