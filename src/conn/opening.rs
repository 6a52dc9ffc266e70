//! The opening handshake of a connection (RFC 6455 §4): accept, or refuse and part.

use crate::policy::Tick;
use crate::proto::Role;
use crate::proto::handshake::Upgrade;
use crate::proto::handshake::response::{self, ACCEPT_RESPONSE_BYTES_MAX};
use crate::proto::handshake::{Refusal, Request};

use super::head::HeadInbox;
use super::{ConnectError, Connection, Core, Phase};

impl Connection {
    /// A connection in the client role: `request` is the upgrade request, whose answer must match
    /// `upgrade`.
    pub(crate) fn client(request: &[u8], upgrade: Upgrade, spread: u8, core: &mut Core) -> Self {
        let mut connection = Self::new(Role::Client, spread, core);
        connection.head = Some(Box::new(HeadInbox::for_client(upgrade)));
        connection.outbox_mut(&mut core.outboxes).push_bytes(request, &mut core.pool);
        connection
    }

    /// Answers a whole head. The connection is open if there is a request to show.
    pub(crate) fn upgrade<'h>(&mut self, head: &'h [u8], core: &mut Core) -> Option<Request<'h>> {
        match Request::parse(head, &core.limits.head) {
            Ok(request) => {
                let mut answer = [0; ACCEPT_RESPONSE_BYTES_MAX];
                let len = response::write_accept(&request, None, &mut answer);
                self.outbox_mut(&mut core.outboxes).push_bytes(&answer[..len], &mut core.pool);
                self.open(core);
                Some(request)
            }
            Err(refusal) => {
                self.refuse(refusal, core);
                None
            }
        }
    }

    /// Answers with an HTTP error; nothing that follows is parsed (row R5).
    pub(crate) fn refuse(&mut self, refusal: Refusal, core: &mut Core) {
        core.refused(refusal);
        let mut answer = Vec::new();
        refusal.write_response(&mut answer);
        self.head = None;
        self.outbox_mut(&mut core.outboxes).push_bytes(&answer, &mut core.pool);
        self.drain(core.limits.timeouts.linger, core);
    }

    /// Messages may flow.
    pub(super) fn open(&mut self, core: &Core) {
        self.phase = Phase::Open;
        self.heard_at = core.now;
        self.deadline = Tick::NEVER;
    }

    /// A peer that began to speak hears why it was dropped (row HD03); a silent one does not. A
    /// client that waits in vain has refused nobody.
    pub(super) fn handle_handshake_timeout(&mut self, core: &mut Core) {
        match self.role {
            Role::Server if self.head.is_some() => self.refuse(Refusal::Timeout, core),
            Role::Server => {
                core.refused(Refusal::Timeout);
                self.never_open(ConnectError::Timeout);
            }
            Role::Client => self.never_open(ConnectError::Timeout),
        }
    }
}
