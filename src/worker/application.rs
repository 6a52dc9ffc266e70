//! The two kinds of application a worker serves, behind one trait: a server's [`Handler`], whose
//! connections come, and a client's [`ClientHandler`], who makes them.

use std::time::Instant;

use crate::conn::{Close, ConnectError, Message};
use crate::decision::Decision;
use crate::dialer::{ClientHandler, Dialer};
use crate::handler::{Conn, Conns, Handler};
use crate::io::{Driver, Outgoing};
use crate::proto::handshake::Request;

use super::reach::Reach;

/// What a worker tells, over a driver that can do what the application needs.
pub(crate) trait Application<D: Driver> {
    /// The application's part of a connection.
    type State;

    /// What becomes of a request. Only in the server role.
    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Self::State>;

    fn open(&mut self, conn: &mut Conn<'_, Self::State>);

    fn message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>);

    fn writable(&mut self, conn: &mut Conn<'_, Self::State>);

    fn close(&mut self, conn: &mut Conn<'_, Self::State>, close: &Close);

    fn fail(&mut self, state: Self::State, error: &ConnectError);

    /// Returns when it wants to be called at the latest.
    fn turn(&mut self, reach: &mut Reach<'_, D, Self::State>) -> Option<Instant>;
}

/// An application in the server role.
#[derive(Debug)]
pub(crate) struct Served<H>(pub(crate) H);

impl<D: Driver, H: Handler> Application<D> for Served<H> {
    type State = H::State;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<H::State> {
        self.0.upgrade(request)
    }

    fn open(&mut self, conn: &mut Conn<'_, H::State>) {
        self.0.open(conn);
    }

    #[inline]
    fn message(&mut self, conn: &mut Conn<'_, H::State>, message: Message<'_>) {
        self.0.message(conn, message);
    }

    fn writable(&mut self, conn: &mut Conn<'_, H::State>) {
        self.0.writable(conn);
    }

    fn close(&mut self, conn: &mut Conn<'_, H::State>, close: &Close) {
        self.0.close(conn, close);
    }

    /// A server's application does not hear of connections that never opened.
    fn fail(&mut self, _: H::State, _: &ConnectError) {}

    #[inline]
    fn turn(&mut self, reach: &mut Reach<'_, D, H::State>) -> Option<Instant> {
        self.0.turn(&mut Conns { roster: reach })
    }
}

/// An application in the client role.
#[derive(Debug)]
pub(crate) struct Dialed<H>(pub(crate) H);

impl<D: Outgoing, H: ClientHandler> Application<D> for Dialed<H> {
    type State = H::State;

    fn upgrade(&mut self, _: &Request<'_>) -> Decision<H::State> {
        unreachable!("nobody connects to a client")
    }

    fn open(&mut self, conn: &mut Conn<'_, H::State>) {
        self.0.open(conn);
    }

    #[inline]
    fn message(&mut self, conn: &mut Conn<'_, H::State>, message: Message<'_>) {
        self.0.message(conn, message);
    }

    fn writable(&mut self, conn: &mut Conn<'_, H::State>) {
        self.0.writable(conn);
    }

    fn close(&mut self, conn: &mut Conn<'_, H::State>, close: &Close) {
        self.0.close(conn, close);
    }

    fn fail(&mut self, state: H::State, error: &ConnectError) {
        self.0.fail(state, error);
    }

    fn turn(&mut self, reach: &mut Reach<'_, D, H::State>) -> Option<Instant> {
        self.0.turn(&mut Dialer { dialing: reach })
    }
}
