//! The opening handshake of a connection (RFC 6455 §4): accept, or refuse and part.

use crate::policy::{Limits, Tick};
use crate::proto::Role;
use crate::proto::handshake::extensions::{self, Acceptance, DeflateParams};
use crate::proto::handshake::response::{self, ACCEPT_KEY_CHARS, AcceptParts};
use crate::proto::handshake::{Refusal, Request, Response, Upgrade};

use super::compress::Agreement;
use super::head::HeadInbox;
use super::{ConnectError, Connection, Core, Phase};

/// A client that is turned away for now is told to come back after at least so many seconds, and
/// at most eight more, drawn by lot: those that are turned away together shall not come back together.
const RETRY_SECONDS_MIN: u8 = 2;
const RETRY_SECONDS: u8 = 9;

/// What is needed of a request to answer it with 101.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acceptable {
    accept_key: [u8; ACCEPT_KEY_CHARS],
    /// The offer of compression that would be taken.
    deflate: Option<Acceptance>,
}

/// A request that the application has not decided about yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deferred {
    /// A refusal if the request is no upgrade.
    pub(crate) acceptable: Result<Acceptable, Refusal>,
    /// Whether an HTTP answer has no body.
    pub(crate) is_head: bool,
}

/// On what terms a connection is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// The sub-protocol.
    pub(crate) protocol: Option<&'a str>,
    /// More header lines of the 101.
    pub(crate) headers: &'a [u8],
    /// Whether messages may be compressed.
    pub(crate) compression: bool,
}

impl Connection {
    /// A connection in the client role: `request` is the upgrade request, whose answer must match
    /// `upgrade`.
    pub(crate) fn client(request: &[u8], upgrade: Upgrade, spread: u8, core: &mut Core) -> Self {
        let mut connection = Self::new(Role::Client, spread, core);
        connection.head = Some(Box::new(HeadInbox::for_client(upgrade)));
        connection.outbox_mut(&mut core.outboxes).push_bytes(request, &mut core.pool);
        connection
    }

    /// Judges a whole head. Answers it at once if there is nothing for the application to decide.
    pub(crate) fn judge<'h>(&mut self, head: &'h [u8], core: &mut Core) -> Option<Request<'h>> {
        match Request::parse(head) {
            Ok(request) if request.is_upgrade() && !admits_origin(&request, &core.limits) => {
                self.refuse(Refusal::ForeignOrigin, core);
                None
            }
            Ok(request) => Some(request),
            Err(refusal) => {
                self.refuse(refusal, core);
                None
            }
        }
    }

    /// What is needed of a request to accept it; a refusal if it is no upgrade.
    pub(crate) fn acceptable(
        request: &Request<'_>,
        limits: &Limits,
    ) -> Result<Acceptable, Refusal> {
        let accept_key = response::accept_key(request.upgrade_key()?);
        let deflate = limits.compression.and_then(|compression| {
            extensions::accept_offer(request.extension_lines(), &compression.policy)
        });
        Ok(Acceptable { accept_key, deflate })
    }

    /// Waits for the application to decide; nothing of the request is kept but what a 101 needs.
    pub(crate) fn defer(&mut self, deferred: Deferred) {
        self.head = Some(Box::new(HeadInbox::deferred(deferred)));
    }

    /// What was deferred, if something is: it is decided now.
    pub(crate) fn take_deferred(&mut self) -> Option<Deferred> {
        if self.phase != Phase::Handshake {
            return None;
        }
        let deferred = self.head.as_mut()?.take_deferred()?;
        self.head = None;
        Some(deferred)
    }

    /// Answers with 101 (RFC 6455 §4.2.2): the connection is open.
    pub(crate) fn accept(&mut self, request: &Acceptable, terms: &Terms<'_>, core: &mut Core) {
        let deflate = request.deflate.filter(|_| terms.compression);
        self.agree(deflate.map(|deflate| deflate.params));
        let mut extensions = [0; extensions::ANSWER_BYTES_MAX];
        let extension_bytes = deflate.map_or(0, |deflate| deflate.write_answer(&mut extensions));
        let parts = AcceptParts {
            accept_key: request.accept_key,
            protocol: terms.protocol,
            extensions: &extensions[..extension_bytes],
            headers: terms.headers,
        };
        let mut answer = std::mem::take(&mut core.scratch);
        response::write_accept(&parts, &mut answer);
        self.push_answer(answer, core);
        self.open(core);
    }

    /// Answers with HTTP, and parts.
    pub(crate) fn answer(&mut self, response: &Response, to_head: bool, core: &mut Core) {
        let mut answer = std::mem::take(&mut core.scratch);
        response.write(to_head, &mut answer);
        self.head = None;
        self.push_answer(answer, core);
        self.drain(core.limits.timeouts.linger, core);
    }

    /// Answers with an HTTP error; nothing that follows is parsed (row R5).
    pub(crate) fn refuse(&mut self, refusal: Refusal, core: &mut Core) {
        core.refused(refusal);
        let mut answer = std::mem::take(&mut core.scratch);
        refusal.write_response_with(RETRY_SECONDS_MIN + self.spread % RETRY_SECONDS, &mut answer);
        self.head = None;
        self.push_answer(answer, core);
        self.drain(core.limits.timeouts.linger, core);
    }

    /// What was agreed about compression.
    pub(super) fn agree(&mut self, params: Option<DeflateParams>) {
        self.compression = params.map(|params| Agreement::of(params, self.role));
        if self.compression.is_some_and(|agreement| agreement.keeps_context()) {
            // Where the engines will be kept.
            self.extras_mut();
        }
    }

    fn push_answer(&mut self, mut answer: Vec<u8>, core: &mut Core) {
        self.outbox_mut(&mut core.outboxes).push_bytes(&answer, &mut core.pool);
        answer.clear();
        core.scratch = answer;
    }

    /// Messages may flow.
    pub(super) fn open(&mut self, core: &Core) {
        self.phase = Phase::Open;
        self.heard_at = core.now;
        if let Some(lifetime) = core.limits.timeouts.lifetime {
            let expires_at = core.now.after(self.shorten(lifetime));
            self.extras_mut().expires_at = Some(expires_at);
        }
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

/// RFC 6455 §10.2: a server can tell whose script it speaks to, and should refuse strangers.
fn admits_origin(request: &Request<'_>, limits: &Limits) -> bool {
    limits.origins.admits(request.origin(), limits.require_origin)
}
