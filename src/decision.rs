//! What an application decides about an opening handshake, at once or later from another thread.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::io::Token;
use crate::io::wake::Wake;
use crate::proto::handshake::response::PROTOCOL_BYTES_MAX;
use crate::proto::handshake::{Response, append_header, is_token};

/// What becomes of a request; returned by [`Handler::upgrade`](crate::Handler::upgrade).
#[derive(Debug)]
pub struct Decision<S>(pub(crate) Verdict<S>);

/// Now or later.
pub(crate) enum Verdict<S> {
    Settled(Outcome<S>),
    Defer(Box<dyn FnOnce(Deferral<S>)>),
}

/// The kinds of decision. It may come from another thread, so nothing in it is bound to one.
#[derive(Debug)]
pub(crate) enum Outcome<S> {
    Accept(Accept<S>),
    Reject(Response),
    Answer(Response),
}

impl<S> Decision<S> {
    /// Opens the connection, with `state` as its [`State`](crate::Handler::State). To choose a
    /// sub-protocol or to add headers to the 101, see [`Accept`].
    ///
    /// A request that is no upgrade ([`Request::is_upgrade`](crate::Request::is_upgrade)) is answered with 426 (Upgrade
    /// Required) instead.
    #[must_use]
    pub fn accept(state: S) -> Self {
        Accept::new(state).into()
    }

    /// Answers with an HTTP error, and counts the handshake as refused.
    #[must_use]
    pub fn reject(response: Response) -> Self {
        Self(Verdict::Settled(Outcome::Reject(response)))
    }

    /// Answers a plain HTTP request, such as one for `/healthz`. The connection is closed after the
    /// response; nothing is counted as refused.
    #[must_use]
    pub fn answer(response: Response) -> Self {
        Self(Verdict::Settled(Outcome::Answer(response)))
    }

    /// Decides later: `start` is given a [`Deferral`], to be handed to another thread or task.
    /// Until that decides, the connection waits under the handshake timeout and holds no buffer.
    #[must_use]
    pub fn defer(start: impl FnOnce(Deferral<S>) + 'static) -> Self {
        Self(Verdict::Defer(Box::new(start)))
    }
}

impl<S> From<Accept<S>> for Decision<S> {
    fn from(accept: Accept<S>) -> Self {
        Self(Verdict::Settled(Outcome::Accept(accept)))
    }
}

impl<S: fmt::Debug> fmt::Debug for Verdict<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled(outcome) => outcome.fmt(f),
            Self::Defer(_) => f.write_str("Defer"),
        }
    }
}

/// How a connection is opened.
#[derive(Clone, Debug)]
pub struct Accept<S> {
    pub(crate) state: S,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<u8>,
    pub(crate) compression: bool,
}

impl<S> Accept<S> {
    /// Opens the connection with this state, without a sub-protocol.
    #[must_use]
    pub fn new(state: S) -> Self {
        Self { state, protocol: None, headers: Vec::new(), compression: true }
    }

    /// Answers with this sub-protocol (RFC 6455 section 1.9), which must be one the client offers:
    /// see [`Request::select_protocol`](crate::Request::select_protocol). `None` selects none.
    ///
    /// # Panics
    ///
    /// If the name is no token of at most 256 bytes.
    #[must_use]
    pub fn protocol(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name {
            assert!(is_token(name.as_bytes()), "{name:?} is no name of a sub-protocol");
            assert!(name.len() <= PROTOCOL_BYTES_MAX, "a sub-protocol has a short name");
        }
        self.protocol = name.map(str::to_owned);
        self
    }

    /// One more header of the 101, such as `Set-Cookie`.
    ///
    /// # Panics
    ///
    /// If the name is no token, begins with `Sec-WebSocket-`, or is `Upgrade` or `Connection`; or
    /// if the value has a control byte.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        let ours =
            lower.starts_with("sec-websocket-") || lower == "upgrade" || lower == "connection";
        assert!(!ours, "{name} is longwire's to set");
        append_header(&mut self.headers, name, value);
        self
    }

    /// Whether this connection may compress its messages (RFC 7692), if the server is set to and
    /// the client offers it. Default true. Say no where secrets and text of strangers stand in one
    /// message: the size of what is compressed tells of both (CRIME, BREACH).
    #[must_use]
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = on;
        self
    }
}

/// A handshake that waits for its decision: give it to the thread or task that will make it. It is
/// `Send` if the state is.
///
/// Dropped without a decision, it refuses the connection with 503. If the client has gone away, or
/// the handshake timeout has passed, a decision does nothing.
pub struct Deferral<S> {
    mailbox: Arc<Mailbox<S>>,
    token: Token,
    decided: bool,
}

impl<S> Deferral<S> {
    pub(crate) fn new(mailbox: Arc<Mailbox<S>>, token: Token) -> Self {
        Self { mailbox, token, decided: false }
    }

    /// Decides. To defer once more is to refuse with 503.
    pub fn decide(mut self, decision: Decision<S>) {
        self.decided = true;
        let outcome = match decision.0 {
            Verdict::Settled(outcome) => Some(outcome),
            Verdict::Defer(_) => None,
        };
        self.mailbox.put(self.token, outcome);
    }
}

impl<S> Drop for Deferral<S> {
    fn drop(&mut self) {
        if !self.decided {
            self.mailbox.put(self.token, None);
        }
    }
}

impl<S> fmt::Debug for Deferral<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferral").field("token", &self.token).finish_non_exhaustive()
    }
}

/// What was decided about which connection; `None` if whoever should decide has given up.
type Letter<S> = (Token, Option<Outcome<S>>);

/// Where decisions of other threads reach a worker. Bounded by the handshakes that wait, each of
/// which is decided once.
pub(crate) struct Mailbox<S> {
    letters: Mutex<Vec<Letter<S>>>,
    wake: Wake,
}

impl<S> Mailbox<S> {
    /// An empty mailbox of the worker that `wake` wakes.
    pub(crate) fn new(wake: Wake) -> Self {
        Self { letters: Mutex::new(Vec::new()), wake }
    }

    /// What has come since the last call.
    pub(crate) fn take(&self) -> Vec<Letter<S>> {
        std::mem::take(&mut *self.lock())
    }

    fn put(&self, token: Token, outcome: Option<Outcome<S>>) {
        let mut letters = self.lock();
        letters.push((token, outcome));
        let first = letters.len() == 1;
        drop(letters);
        // Those that follow are found by the same look.
        if first {
            self.wake.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Letter<S>>> {
        self.letters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for Mailbox<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}
