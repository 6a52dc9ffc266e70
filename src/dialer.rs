//! All that an application in the client role sees: the trait it implements, and what it connects
//! with. Connections are the same as on a server.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rustls::pki_types::ServerName;

use crate::conn::{Close, ConnectError, Message, Tls};
use crate::conn_info::ConnId;
use crate::error::Error;
use crate::handler::{Conn, Roster};
use crate::proto::handshake::Upgrade;
use crate::proto::handshake::extensions::DeflatePolicy;
use crate::tls::ClientTls;

/// What an application does with connections it has asked for. One value of it lives on each
/// worker's thread and is called only there, so it needs no lock, no `Arc` and no `Send`.
///
/// A call must not block: every other connection of the worker waits for it. A panic in a call ends
/// that one connection with close code 1011; one in [`turn`](Self::turn) ends the client.
///
/// For one connection the calls are either `fail`, once, or `open`, any number of `message`, and
/// `close`, once.
pub trait ClientHandler {
    /// What is kept for each connection, inline in the connection table. It is handed to
    /// [`Dialer::connect`] and dropped after `close`. Use `()` for nothing.
    type State;

    /// Called once at the start, then at the end of each turn of the event loop, and at the instant
    /// that the last call returned. Connections are made here, and what nobody asked for is sent
    /// here.
    fn turn(&mut self, dialer: &mut Dialer<'_, Self::State>) -> Option<Instant>;

    /// The opening handshake is complete.
    fn open(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// A message has arrived, whole.
    fn message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>);

    /// The queue of a connection has drained, after a send was told that it waits
    /// ([`SendStatus::Queued`](crate::SendStatus::Queued)) or that the queue is full: less than
    /// half of the high-water mark is left in it.
    fn writable(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// The connection has ended, or is about to: nothing more can be sent.
    fn close(&mut self, conn: &mut Conn<'_, Self::State>, close: &Close) {
        let _ = (conn, close);
    }

    /// The connection never opened.
    fn fail(&mut self, state: Self::State, error: &ConnectError) {
        let _ = (state, error);
    }
}

/// Where to connect, and what to ask for there.
#[derive(Clone, Debug)]
pub struct Target {
    addr: SocketAddr,
    host: String,
    path: String,
    protocols: Vec<String>,
    headers: Vec<(String, String)>,
    tls: Option<(ClientTls, ServerName<'static>)>,
}

impl Target {
    /// The server at `addr`, asked for `path` (with its query; it begins with a slash) under the
    /// name `host`, which has the port where that is not 80.
    pub fn new(addr: SocketAddr, host: &str, path: &str) -> Self {
        let (host, path) = (host.to_owned(), path.to_owned());
        Self { addr, host, path, protocols: Vec::new(), headers: Vec::new(), tls: None }
    }

    /// Sub-protocols to offer, in order of preference (RFC 6455 §1.9).
    #[must_use]
    pub fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(ToString::to_string).collect();
        self
    }

    /// One more header of the request. It is sent as it is.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects over TLS (`wss`) to the server of this name, which is a DNS name or an IP address
    /// without a port, and has to stand in its certificate.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if it is neither.
    pub fn tls(mut self, tls: &ClientTls, name: &str) -> Result<Self, Error> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            Error::Misuse(format!("`{name}` is neither a DNS name nor an IP address"))
        })?;
        self.tls = Some((tls.clone(), name));
        Ok(self)
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The TLS of a new connection.
    pub(crate) fn tls_session(&self) -> io::Result<Option<Tls>> {
        let Some((tls, name)) = &self.tls else { return Ok(None) };
        Tls::client(tls.client_config(), name.clone()).map(Some).map_err(io::Error::other)
    }

    /// The upgrade request, and what its answer has to match.
    pub(crate) fn upgrade(
        &self,
        nonce: [u8; 16],
        deflate: Option<DeflatePolicy>,
    ) -> (Vec<u8>, Upgrade) {
        let mut upgrade = Upgrade::new(nonce);
        if let Some(policy) = deflate {
            upgrade.offer_deflate(policy);
        }
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = upgrade.request_bytes(&self.host, &self.path, &protocols, &headers);
        (request, upgrade)
    }
}

/// The connections of one worker, and the means to make more, for the length of one call.
pub struct Dialer<'a, S> {
    pub(crate) dialing: &'a mut dyn Dialing<S>,
}

/// What a worker can do beside showing its table, if its driver connects.
pub(crate) trait Dialing<S>: Roster<S> {
    fn connect(
        &mut self,
        target: &Target,
        source: Option<IpAddr>,
        state: S,
    ) -> Result<ConnId, (S, io::Error)>;
    fn abort(&mut self, id: ConnId);
    fn stop(&mut self);
}

impl<S> Dialer<'_, S> {
    /// When this turn began.
    pub fn now(&self) -> Instant {
        self.dialing.now()
    }

    /// Starts to connect, from `source` or from the address the kernel chooses. `open` or `fail`
    /// tells what came of it.
    ///
    /// # Errors
    ///
    /// What the kernel knows at once: no descriptor, port or address is left, or nobody listens
    /// there (on the same machine). The state comes back, and nothing more is told.
    pub fn connect(
        &mut self,
        target: &Target,
        source: Option<IpAddr>,
        state: S,
    ) -> Result<ConnId, (S, io::Error)> {
        self.dialing.connect(target, source, state)
    }

    /// The connection of this name, while it is open.
    pub fn conn(&mut self, id: ConnId) -> Option<Conn<'_, S>> {
        self.dialing.conn(id)
    }

    /// Connections of this worker, those included that are opening or closing.
    pub fn conn_count(&self) -> usize {
        self.dialing.conn_count()
    }

    /// Resets a connection, open or not, without a closing handshake.
    pub fn abort(&mut self, id: ConnId) {
        self.dialing.abort(id);
    }

    /// Ends this worker: what is still open is cut off, with `close` for each, and what has not
    /// opened yet is dropped in silence. `turn` is not called again.
    pub fn stop(&mut self) {
        self.dialing.stop();
    }
}

impl<S> fmt::Debug for Dialer<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("conn_count", &self.conn_count()).finish()
    }
}
