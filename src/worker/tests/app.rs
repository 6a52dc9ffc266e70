//! The application of the tests: does what each message tells it, and keeps a log.
//!
//! It checks what it can see by itself: that its calls come in the promised order, that what it is
//! handed is its peer's own and in order, and that nothing but its own panics unwinds through it.
//! What is wrong goes to the log, because an assertion in here would only end one connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::conn::{Close, Message, MessageKind, Side};
use crate::decision::{Decision, Deferral};
use crate::handler::{Conn, Handler};
use crate::io::addr::PeerAddr;
use crate::proto::CloseCode;
use crate::proto::handshake::Request;

use super::payload::{self, Command};

/// What the application saw of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) opens: usize,
    pub(super) messages: usize,
    pub(super) closes: Vec<(CloseCode, Side)>,
}

/// What the application saw, by peer.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) peers: BTreeMap<usize, Seen>,
    pub(super) messages: u64,
    /// What was wrong.
    pub(super) faults: Vec<String>,
}

/// The application.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) log: Rc<RefCell<Log>>,
    /// Handshakes it has not decided about.
    pub(super) deferred: Rc<RefCell<Waiting>>,
}

/// Handshakes that are not decided, with the number of the peer.
pub(super) type Waiting = Vec<(usize, Deferral<State>)>;

/// Lets in those that were not decided about. Returns whether there were any.
pub(super) fn decide(deferred: &RefCell<Waiting>) -> bool {
    let waiting = std::mem::take(&mut *deferred.borrow_mut());
    let any = !waiting.is_empty();
    for (peer, deferral) in waiting {
        deferral.decide(Decision::accept(State::of(peer)));
    }
    any
}

/// What is kept for each connection.
#[derive(Debug, Default)]
pub(super) struct State {
    peer: Option<usize>,
    next_sequence: usize,
    opened: bool,
    closed: bool,
}

impl State {
    pub(super) fn of(peer: usize) -> Self {
        Self { peer: Some(peer), ..Self::default() }
    }
}

/// Panics with this are meant.
struct Meant;

/// Enters a panic that nobody meant into the log.
struct Watch<'a> {
    log: &'a RefCell<Log>,
    call: &'static str,
    meant: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.meant {
            self.log.borrow_mut().faults.push(format!("{} panicked", self.call));
        }
    }
}

impl App {
    fn fault(&self, text: String) {
        self.log.borrow_mut().faults.push(text);
    }

    fn watch(&self, call: &'static str) -> Watch<'_> {
        Watch { log: &self.log, call, meant: false }
    }

    /// Checks that a message is the next of this peer, and says what to do with it.
    fn judge(&self, state: &mut State, message: &Message<'_>) -> Command {
        let peer = state.peer.unwrap_or(usize::MAX);
        if state.peer.is_none() || state.closed {
            self.fault(format!("peer {peer}: a message before `open` or after `close`"));
        }
        if message.kind() == MessageKind::Text && message.text().is_none() {
            self.fault(format!("peer {peer}: text that is none"));
        }
        let bytes = message.payload();
        if bytes.len() < payload::PREFIX_BYTES {
            if bytes.iter().any(|&byte| byte != payload::letter(peer)) {
                self.fault(format!("peer {peer} seems to have sent {bytes:?}"));
            }
            return Command::Echo;
        }
        let Some((from, sequence, command)) = payload::read(bytes) else {
            self.fault(format!("peer {peer}: a payload without prefix"));
            return Command::Keep;
        };
        let len = bytes.len();
        let spec = payload::Spec { kind: message.kind(), peer: from, sequence, command, len };
        if from != peer % 1000 || sequence < state.next_sequence || !spec.matches(bytes) {
            let next = state.next_sequence;
            self.fault(format!("peer {peer}, message {next}: got {sequence} of peer {from}"));
        }
        state.next_sequence = sequence + 1;
        command
    }
}

impl Handler for App {
    type State = State;

    /// Every third peer is let in later, when the test says so.
    fn upgrade(&mut self, request: &Request<'_>) -> Decision<State> {
        let _watch = self.watch("upgrade");
        let peer = request.path().trim_start_matches('/').parse().unwrap_or(usize::MAX);
        if peer % 3 != 2 {
            return Decision::accept(State::of(peer));
        }
        let deferred = Rc::clone(&self.deferred);
        Decision::defer(move |deferral| deferred.borrow_mut().push((peer, deferral)))
    }

    fn open(&mut self, conn: &mut Conn<'_, State>) {
        let _watch = self.watch("open");
        let state = conn.state();
        let peer = state.peer.unwrap_or(usize::MAX);
        if std::mem::replace(&mut state.opened, true) {
            self.fault(format!("peer {peer}: opened with the state of another"));
        }
        if let Ok(PeerAddr::Tcp(SocketAddr::V4(addr))) = conn.peer_addr()
            && let [10, a, b, c] = addr.ip().octets()
            && u32::from_be_bytes([0, a, b, c]) as usize != peer
        {
            self.fault(format!("peer {peer}: its handshake came from {addr}"));
        }
        self.log.borrow_mut().peers.entry(peer).or_default().opens += 1;
    }

    fn message(&mut self, conn: &mut Conn<'_, State>, message: Message<'_>) {
        let command = self.judge(conn.state(), &message);
        let (peer, sequence) =
            (conn.state().peer.unwrap_or(0), conn.state().next_sequence.saturating_sub(1));
        let log = Rc::clone(&self.log);
        log.borrow_mut().messages += 1;
        log.borrow_mut().peers.entry(peer).or_default().messages += 1;
        let mut watch = self.watch("message");
        // That a send fails shows at the peer.
        match command {
            Command::Echo => drop(conn.echo(message)),
            Command::Copy => drop(copy(conn, &message)),
            Command::Twice => {
                let _ = copy(conn, &message);
                let _ = conn.echo(message);
            }
            Command::Note => {
                let _ = conn.send_binary(&payload::note(peer, sequence));
                let _ = conn.echo(message);
            }
            Command::Keep => {}
            Command::Close => {
                let _ = conn.echo(message);
                conn.close(close_code(sequence), "as you wish");
            }
            Command::Panic => {
                watch.meant = true;
                std::panic::resume_unwind(Box::new(Meant));
            }
            Command::Burst => while copy(conn, &message).is_ok() {},
        }
        drop(watch);
    }

    fn close(&mut self, conn: &mut Conn<'_, State>, close: &Close) {
        let _watch = self.watch("close");
        let state = conn.state();
        let peer = state.peer.unwrap_or(usize::MAX);
        let closed_before = std::mem::replace(&mut state.closed, true);
        if closed_before || peer == usize::MAX {
            self.fault(format!("peer {peer}: closed twice, or never opened"));
        }
        if conn.send_text("too late").is_ok() {
            self.fault(format!("peer {peer}: a send after the end"));
        }
        let mut log = self.log.borrow_mut();
        log.peers.entry(peer).or_default().closes.push((close.code(), close.side()));
    }
}

/// The code that `Command::Close` closes with.
pub(super) fn close_code(sequence: usize) -> CloseCode {
    CloseCode::new(4000 + u16::try_from(sequence % 100).unwrap_or(0))
}

fn copy(
    conn: &mut Conn<'_, State>,
    message: &Message<'_>,
) -> Result<crate::conn::SendStatus, crate::conn::SendError> {
    match message.kind() {
        MessageKind::Text => conn.send_text(message.text().unwrap_or_default()),
        MessageKind::Binary => conn.send_binary(message.payload()),
    }
}
