//! One thread of the generator: opens its share of the connections, follows the orders of the
//! board, counts, and closes in good order. What is said on the connections is the script's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longwire::{
    ClientHandler, Close, CloseCode, Conn, ConnId, ConnectError, Dialer, Message, Target,
};

use super::board::{Board, Order};
use super::tally::Tally;
use super::trust;
use crate::preflight::SourceAddrs;

/// Connections started, or closed, in one turn: what has come in meanwhile waits as long.
const CONNS_PER_TURN_MAX: usize = 64;

/// How often a thread looks whether the others have started.
const READY_EVERY: Duration = Duration::from_millis(1);

/// What a scenario does on the connections of one thread.
pub(crate) trait Script {
    /// Kept for each connection.
    type State: Default;

    /// The connection is open.
    fn open(&mut self, desk: &mut Desk, conn: &mut Conn<'_, Link<Self::State>>) {
        let _ = (desk, conn);
    }

    /// A message has arrived.
    fn message(
        &mut self,
        desk: &mut Desk,
        conn: &mut Conn<'_, Link<Self::State>>,
        message: &Message<'_>,
    );

    /// An open connection has ended. Whether that was wanted is known to the script alone.
    fn close(&mut self, desk: &mut Desk, link: &mut Link<Self::State>, close: &Close) {
        let _ = link;
        desk.note_close(close);
    }

    /// The connection could not be opened; it is counted already.
    fn fail(&mut self, desk: &mut Desk, link: Link<Self::State>) {
        let _ = (desk, link);
    }

    /// The end of a turn while the order is `Open` to `Settle`. Returns when the next is due.
    fn turn(
        &mut self,
        desk: &mut Desk,
        dialer: &mut Dialer<'_, Link<Self::State>>,
        order: Order,
    ) -> Option<Instant> {
        let _ = (desk, dialer, order);
        None
    }

    /// The order `Close` has come: what is still owed on this open connection?
    fn settle(&mut self, desk: &mut Desk, link: &mut Link<Self::State>) {
        let _ = (desk, link);
    }
}

/// What is kept for each connection.
#[derive(Debug, Default)]
pub(crate) struct Link<S> {
    /// Which connection of this thread it is, from 0.
    pub(crate) number: u32,
    /// Attempts so far, beyond the first.
    pub(crate) retries: u32,
    /// When it was due to be opened.
    pub(crate) due: u64,
    pub(crate) script: S,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Dialing {
    pub(crate) target: Target,
    pub(crate) sources: Arc<SourceAddrs>,
    /// Connections of this thread.
    pub(crate) conns: u64,
    /// The number of the first of them among those of all threads.
    pub(crate) first: u64,
    /// Handshakes of this thread in progress at one time.
    pub(crate) handshakes: usize,
}

/// What a script works with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) board: Arc<Board>,
    pub(crate) tally: Tally,
    pub(crate) worker: usize,
    pub(crate) dialing: Dialing,
    /// All connections that have opened, in order; some may be gone.
    pub(crate) ids: Vec<ConnId>,
    /// Started, and neither open nor failed.
    pub(crate) opening: usize,
    /// Messages that this thread has published.
    pub(crate) published: u64,
}

/// A thread of the generator.
#[derive(Debug)]
pub(crate) struct Pilot<S> {
    script: S,
    desk: Desk,
    /// Whether connections are opened here, rather than by the script.
    opens: bool,
    is_ready: bool,
    started: u64,
    /// Of `desk.ids`, when closing.
    closed: usize,
    publish_every: Duration,
    publish_at: Instant,
}

impl Desk {
    pub(crate) fn new(board: Arc<Board>, worker: usize, dialing: Dialing) -> Self {
        let (tally, ids) = (Tally::default(), Vec::new());
        Self { board, tally, worker, dialing, ids, opening: 0, published: 0 }
    }

    /// Starts a connection that was due at `due`.
    pub(crate) fn connect<S: Default>(
        &mut self,
        dialer: &mut Dialer<'_, Link<S>>,
        number: u32,
        due: u64,
        retries: u32,
    ) -> Result<(), Link<S>> {
        let link = Link { number, retries, due, script: S::default() };
        let source: Option<IpAddr> =
            self.dialing.sources.source_of(self.dialing.first + u64::from(number));
        match dialer.connect(&self.dialing.target, source, link) {
            Ok(_) => {
                self.opening += 1;
                Ok(())
            }
            Err((link, error)) => {
                self.note_failure(&ConnectError::Connect(error));
                Err(link)
            }
        }
    }

    /// Counts a connection that could not be opened.
    pub(crate) fn note_failure(&mut self, error: &ConnectError) {
        self.tally.counts.failed += 1;
        let kind = match error {
            ConnectError::Connect(error) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused",
                std::io::ErrorKind::ConnectionReset => "reset while connecting",
                std::io::ErrorKind::TimedOut => "connect timeout",
                std::io::ErrorKind::AddrNotAvailable => "no local port left",
                _ => "cannot connect",
            },
            ConnectError::Tls(_) => "no TLS connection",
            ConnectError::Refused { .. } => "upgrade refused",
            ConnectError::NotWebSocket(_) => "not a WebSocket server",
            ConnectError::Timeout => "handshake timeout",
            _ => "closed before the handshake",
        };
        self.tally.error(kind, || match error {
            ConnectError::Tls(why) => format!("{error}{}", trust::advice(why)),
            _ => error.to_string(),
        });
    }

    /// Counts the end of an open connection, as an error unless it was asked for.
    pub(crate) fn note_close(&mut self, close: &Close) {
        self.tally.counts.closed += 1;
        if self.board.order() >= Order::Close {
            return;
        }
        self.tally.error("closed by the server", || {
            let (code, reason) = (close.code().as_u16(), close.reason());
            match reason {
                "" => format!("closed during the run with code {code}"),
                reason => format!("closed during the run with code {code}: {reason}"),
            }
        });
    }
}

impl<S: Script> Pilot<S> {
    /// The thread with this number.
    pub(crate) fn new(
        script: S,
        board: Arc<Board>,
        worker: usize,
        workers: usize,
        dialing: Dialing,
        opens: bool,
    ) -> Self {
        let desk = Desk::new(board, worker, dialing);
        // Many threads share few cores; being woken to report is then most of what they do.
        let publish_every = Duration::from_millis(if workers > 8 { 1000 } else { 100 });
        let publish_at = Instant::now();
        Self {
            script,
            desk,
            opens,
            is_ready: false,
            started: 0,
            closed: 0,
            publish_every,
            publish_at,
        }
    }

    /// Starts as many connections as may be in progress.
    fn open_some(&mut self, dialer: &mut Dialer<'_, Link<S::State>>) -> Option<Instant> {
        for _ in 0..CONNS_PER_TURN_MAX {
            let Desk { dialing, opening, .. } = &self.desk;
            if self.started == dialing.conns || *opening >= dialing.handshakes {
                return None;
            }
            let due = self.desk.board.now();
            let number = u32::try_from(self.started).unwrap_or(u32::MAX);
            self.started += 1;
            let _ = self.desk.connect(dialer, number, due, 0);
        }
        Some(dialer.now())
    }

    /// Closes some connections; ends the thread when none is left.
    fn close_some(&mut self, dialer: &mut Dialer<'_, Link<S::State>>) -> Option<Instant> {
        let last = (self.closed + CONNS_PER_TURN_MAX).min(self.desk.ids.len());
        for place in self.closed..last {
            if let Some(mut conn) = dialer.conn(self.desk.ids[place]) {
                self.script.settle(&mut self.desk, conn.state());
                conn.resume_receive();
                conn.close(CloseCode::NORMAL, "");
            }
        }
        self.closed = last;
        if dialer.conn_count() == 0 {
            self.publish();
            dialer.stop();
        }
        (last < self.desk.ids.len()).then(|| dialer.now())
    }

    fn publish(&mut self) {
        let Desk { board, tally, worker, .. } = &mut self.desk;
        board.tally(*worker).take(tally);
    }
}

impl<S: Script> ClientHandler for Pilot<S> {
    type State = Link<S::State>;

    fn turn(&mut self, dialer: &mut Dialer<'_, Self::State>) -> Option<Instant> {
        let order = self.desk.board.order();
        let due = match order {
            Order::Wait => {
                if !std::mem::replace(&mut self.is_ready, true) {
                    self.desk.board.note_ready();
                }
                Some(dialer.now() + READY_EVERY)
            }
            Order::Stop => {
                self.publish();
                dialer.stop();
                return None;
            }
            Order::Close => self.close_some(dialer),
            _ => {
                let opening = if self.opens { self.open_some(dialer) } else { None };
                let script = self.script.turn(&mut self.desk, dialer, order);
                [opening, script].into_iter().flatten().min()
            }
        };
        if dialer.now() >= self.publish_at {
            self.publish();
            self.publish_at = dialer.now() + self.publish_every;
        }
        Some(due.map_or(self.publish_at, |due| due.min(self.publish_at)))
    }

    fn open(&mut self, conn: &mut Conn<'_, Self::State>) {
        self.desk.opening -= 1;
        self.desk.tally.counts.opened += 1;
        self.desk.tally.counts.compressed += u64::from(conn.compression_agreed());
        let waited = self.desk.board.now().saturating_sub(conn.state().due);
        self.desk.tally.connect.saturating_record(waited);
        if self.opens {
            self.desk.ids.push(conn.id());
        }
        self.script.open(&mut self.desk, conn);
    }

    fn message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>) {
        self.script.message(&mut self.desk, conn, &message);
    }

    fn close(&mut self, conn: &mut Conn<'_, Self::State>, close: &Close) {
        self.script.close(&mut self.desk, conn.state(), close);
    }

    fn fail(&mut self, link: Self::State, error: &ConnectError) {
        self.desk.opening -= 1;
        self.desk.note_failure(error);
        self.script.fail(&mut self.desk, link);
    }
}
