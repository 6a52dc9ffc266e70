//! All that an application sees: the trait it implements, and the connection it is handed.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use crate::conn::{
    Close, CloseCause, Connection, Core, Message, MessageKind, Phase, SendError, SendStatus,
};
use crate::conn_info::ConnId;
use crate::decision::Decision;
use crate::io::Token;
use crate::io::addr::PeerAddr;
use crate::proto::CloseCode;
use crate::proto::handshake::Request;
use crate::pubsub::{Payload, PublishError, Receipt, SubscribeError, Topics};

/// What an application does with connections. One value of it lives on each core and is called
/// only there, so it needs no lock, no `Arc` and no `Send`.
///
/// A call must not block: every other connection of the core waits for it. A panic in a call ends
/// that one connection with close code 1011 (internal error, RFC 6455 §7.4.1) and the handler lives
/// on; one in [`turn`](Self::turn), which is about no connection, ends the server.
///
/// For one connection the calls are `upgrade`, `open`, any number of `message` and `writable`,
/// `close`, in that order; each connection that saw `open` sees `close` exactly once.
pub trait Handler {
    /// What is kept for each connection, inline in the connection table: made by
    /// [`upgrade`](Self::upgrade), by default with `default()`, and dropped after `close`. Use `()`
    /// for nothing.
    type State: Default;

    /// A request has come: the opening handshake of a WebSocket, or plain HTTP. By default every
    /// WebSocket is opened, with `State::default()`, and plain HTTP is answered with 426.
    ///
    /// What the connection will need of the request goes into its state: the request itself is gone
    /// after this call. A panic refuses the request with 500.
    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Self::State> {
        let _ = request;
        Decision::accept(Self::State::default())
    }

    /// The opening handshake is complete.
    fn open(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// A message has arrived, whole: unmasked, all its fragments, inflated, and valid UTF-8 if it is
    /// text (RFC 6455 §5.4, §8.1). It is there for the call; copy what must outlive it.
    fn message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>);

    /// The queue of a connection has drained, after a send was told that it waits
    /// ([`SendStatus::Queued`]) or that the queue is full: less than
    /// half of the high-water mark is left in it.
    fn writable(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// The connection has ended, or is about to: nothing more can be sent to it. It can still
    /// publish; its subscriptions end after this call.
    fn close(&mut self, conn: &mut Conn<'_, Self::State>, close: &Close) {
        let _ = (conn, close);
    }

    /// The end of a turn of the event loop: what came in has been dealt with. The place to act on
    /// connections without being asked, at a time of your own or because of what the turn brought.
    ///
    /// Called after each turn, and at the instant that the last call returned; with `None` only
    /// when something else happens. Not called while the server stops. Must be quick: it runs
    /// thousands of times a second. A panic stops the server with
    /// [`Error::Worker`](crate::Error::Worker).
    fn turn(&mut self, conns: &mut Conns<'_, Self::State>) -> Option<Instant> {
        let _ = conns;
        None
    }
}

/// Tells the address of a peer; a driver, seen from the application.
pub(crate) trait PeerAddress {
    fn peer_addr(&self, token: Token) -> io::Result<PeerAddr>;
}

impl<D: crate::io::Driver> PeerAddress for D {
    fn peer_addr(&self, token: Token) -> io::Result<PeerAddr> {
        crate::io::Driver::peer_addr(self, token)
    }
}

/// A connection, for the length of one call.
///
/// What is sent is queued, and leaves at the end of the turn in as few system calls as possible;
/// sending never blocks.
pub struct Conn<'a, S> {
    pub(crate) token: Token,
    pub(crate) connection: &'a mut Connection,
    pub(crate) core: &'a mut Core,
    pub(crate) topics: &'a mut Topics,
    pub(crate) state: &'a mut S,
    pub(crate) peer: &'a dyn PeerAddress,
}

impl<S> Conn<'_, S> {
    /// Sends a message: text of a string, binary of bytes, and a received [`Message`] as what it was.
    /// It is one frame (RFC 6455 §6.1), and its size has no limit of its own.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    pub fn send<'p>(&mut self, payload: impl Into<Payload<'p>>) -> Result<SendStatus, SendError> {
        let Payload { kind, bytes } = payload.into();
        self.connection.send(kind, bytes, self.core)
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the connection is closing; [`SendError::QueueFull`] if
    /// [`send_bytes_max`](crate::Builder::send_bytes_max) bytes are queued already, in which case the
    /// connection is being closed with 1013 (try again later), unless
    /// [`overflow`](crate::Builder::overflow) says otherwise.
    pub fn send_text(&mut self, text: &str) -> Result<SendStatus, SendError> {
        self.connection.send(MessageKind::Text, text.as_bytes(), self.core)
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    pub fn send_binary(&mut self, payload: &[u8]) -> Result<SendStatus, SendError> {
        self.connection.send(MessageKind::Binary, payload, self.core)
    }

    /// Sends a received message back as it is. Nothing is copied: the reply leaves from the memory
    /// the message was received into.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    pub fn echo(&mut self, message: Message<'_>) -> Result<SendStatus, SendError> {
        let (kind, place) = message.into_parts();
        self.connection.send_in_place(kind, place, self.core)
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2) with a code and a reason, which is cut at a
    /// character edge to fit 123 bytes. Later calls do nothing.
    ///
    /// Codes that must not stand in a Close frame (RFC 6455 §7.4.1: 1005, 1006, 1015, and what is
    /// not assigned) are sent as 1000.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let code = if code.is_sendable() { code } else { CloseCode::NORMAL };
        self.connection.close(code, reason, self.core);
    }

    /// What is kept for this connection.
    pub fn state(&mut self) -> &mut S {
        self.state
    }

    /// The name of this connection.
    pub fn id(&self) -> ConnId {
        ConnId::new(self.topics.core(), self.token)
    }

    /// Bytes queued for this connection that the kernel has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        self.connection.queued_bytes()
    }

    /// Whether both sides have agreed on permessage-deflate (RFC 7692). Which messages are then
    /// compressed is up to each side.
    pub fn compression_agreed(&self) -> bool {
        self.connection.compression_agreed()
    }

    /// The client's address: what a trusted proxy has told, or else what the kernel knows of the
    /// peer. `None` for a peer of a Unix socket, or one that is gone already.
    pub fn client_addr(&self) -> Option<IpAddr> {
        self.connection.client_addr().or_else(|| self.peer_addr().ok()?.ip())
    }

    /// Where the peer comes from, asked of the kernel: its address, or on a Unix socket the process
    /// that connected. No header of the request has a say in it.
    ///
    /// # Errors
    ///
    /// The kernel's, if the peer is gone already; `Unsupported` with direct descriptors, for which
    /// the kernel cannot tell.
    pub fn peer_addr(&self) -> io::Result<PeerAddr> {
        self.peer.peer_addr(self.token)
    }
}

impl<S> Conn<'_, S> {
    /// Sends a ping (RFC 6455 §5.5.2) with up to 125 bytes of payload; more are left out. The answer
    /// only shows that the peer lives, which [`pong_timeout`](crate::Builder::pong_timeout) sees to by itself.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.connection.ping(payload, self.core)
    }

    /// Receives nothing from this peer until [`resume_receive`](Self::resume_receive): what it
    /// sends stays with the kernel, and soon with the peer. What has been received already is
    /// still handed over. Until then silence does not count against the peer.
    pub fn pause_receive(&mut self) {
        self.connection.hold(true);
    }

    /// Undoes [`pause_receive`](Self::pause_receive).
    pub fn resume_receive(&mut self) {
        self.connection.hold(false);
    }
}

impl<S> Conn<'_, S> {
    /// Subscribes this connection to a topic: from now on it is sent what is published there, and
    /// first the last messages, if the topic keeps a [history](crate::TopicPolicy::history). False if it was
    /// subscribed already. Its subscriptions end with the connection. Takes at most 64 bytes.
    ///
    /// A topic is there as long as it has subscribers. Its name is 1 to 255 bytes
    /// ([`topic_bytes_max`](crate::Builder::topic_bytes_max)) of UTF-8 without white space, control
    /// characters, `*` and `>`. Who may subscribe is the handler's to say.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] says what is wrong with the name, or which limit is reached.
    pub fn subscribe(&mut self, topic: &str) -> Result<bool, SubscribeError> {
        if self.connection.phase() != Phase::Open {
            return Err(SubscribeError::Closed);
        }
        let subscribed = self.topics.subscribe(self.token.index, topic);
        if subscribed == Err(SubscribeError::TooMany) && self.topics.is_unruly(self.token.index) {
            let cause = CloseCause::TooManySubscriptions;
            self.connection.fail(CloseCode::POLICY_VIOLATION, cause, self.core);
        }
        subscribed
    }

    /// Ends a subscription: what is published from now on is not sent to this connection, nor what
    /// was published in this turn. False if it was not subscribed.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.topics.unsubscribe(self.token.index, topic)
    }

    /// Publishes a message to all subscribers of a topic, on every core; to this connection, too, if
    /// it is one. It leaves at the end of the turn, after what was sent to the connections
    /// themselves. What one connection publishes to one topic reaches each subscriber in that order.
    ///
    /// The [`Receipt`] tells how many connections it was queued for; drop it if that is of no
    /// interest.
    ///
    /// # Errors
    ///
    /// [`PublishError`], and then nobody is sent the message: no topic has such a name, or another
    /// core has fallen so far behind that it takes no more.
    pub fn publish<'p>(
        &mut self,
        topic: &str,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Receipt, PublishError> {
        self.topics.publish(topic, payload.into())
    }
}

impl<S: fmt::Debug> fmt::Debug for Conn<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("id", &self.id()).field("state", &self.state).finish()
    }
}

/// The connections of one core, for the length of one call.
pub struct Conns<'a, S> {
    pub(crate) roster: &'a mut dyn Roster<S>,
}

/// What a worker shows of its table.
pub(crate) trait Roster<S> {
    fn now(&self) -> Instant;
    fn conn(&mut self, id: ConnId) -> Option<Conn<'_, S>>;
    fn conn_count(&self) -> usize;
    fn publish(&mut self, topic: &str, payload: Payload<'_>) -> Result<Receipt, PublishError>;
}

impl<S> Conns<'_, S> {
    /// When this turn began.
    pub fn now(&self) -> Instant {
        self.roster.now()
    }

    /// The connection of this name, while it is open.
    pub fn conn(&mut self, id: ConnId) -> Option<Conn<'_, S>> {
        self.roster.conn(id)
    }

    /// Publishes a message, as [`Conn::publish`] does.
    ///
    /// # Errors
    ///
    /// As [`Conn::publish`].
    pub fn publish<'p>(
        &mut self,
        topic: &str,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Receipt, PublishError> {
        self.roster.publish(topic, payload.into())
    }

    /// Connections of this core, those included that are opening or closing.
    pub fn conn_count(&self) -> usize {
        self.roster.conn_count()
    }
}

impl<S> fmt::Debug for Conns<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conns").field("conn_count", &self.conn_count()).finish()
    }
}
