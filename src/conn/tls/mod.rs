//! TLS of one connection: records in, plaintext out, and the other way round.
//!
//! Sits between the driver's bytes and the connection. rustls does the handshake (`session`); TLS
//! 1.3 goes on without it (`traffic`), in the blocks that records were received in and are sent
//! from. TLS 1.2 stays with rustls, whose plaintext goes to a block of the core. What is queued is
//! sealed when it is about to be sent, so the queue holds plaintext and an idle connection holds no
//! buffer at all, only keys. A record that was cut is the one thing kept, until it is whole.
//!
//! INVARIANT: `stash` starts where rustls has to go on, so it may hold several records of one
//! handshake message; outside of the handshake it holds less than two records.

mod content;
mod fault;
mod feed;
mod record;
mod session;
#[cfg(test)]
mod tests;
mod traffic;

use std::ops::Range;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::buf::{Block, Pool};

use record::CONTENT_BYTES_MAX;
use session::{Session, Sink, Writing};
use traffic::{End, Run};

/// More than any cipher suite adds to a record: header, explicit nonce, content type and tag.
const RECORD_OVERHEAD_BYTES_MAX: usize = 32;
/// Bytes of heap that a connection has for TLS while rustls speaks: what rustls keeps (1.1 KiB, and
/// 2.1 KiB behind it) and what is here.
const SESSION_BYTES: usize = 3500;
/// The same when it has handed over: two keys (1.1 KiB), and what later ones are made of. Measured
/// by the difference that TLS makes to an idle connection (`cargo bench --bench floor -- memory`).
const TRAFFIC_BYTES: usize = 2300;
/// More than a KeyUpdate takes, which may stand in front of plaintext (RFC 8446 §4.6.3).
const KEY_UPDATE_BYTES_MAX: usize = 64;
/// Plaintext that is sealed for one send.
pub(super) const SEAL_BYTES_MAX: usize =
    4 * (CONTENT_BYTES_MAX - RECORD_OVERHEAD_BYTES_MAX) - KEY_UPDATE_BYTES_MAX;

/// Room that sealing so much plaintext takes at most.
pub(super) fn sealed_bytes_max(plain_bytes: usize) -> usize {
    let record_count = plain_bytes.div_ceil(CONTENT_BYTES_MAX);
    plain_bytes + record_count * RECORD_OVERHEAD_BYTES_MAX + KEY_UPDATE_BYTES_MAX
}

/// The TLS side of one connection.
#[derive(Debug)]
pub(crate) struct Tls {
    session: Session,
    /// rustls gives keys away when the handshake is over.
    hands_over: bool,
    /// Received, and not yet taken by rustls.
    stash: Vec<u8>,
    /// Where in the stash its last record begins.
    last_record: usize,
    close_notify_sent: bool,
    /// The peer has sent its `close_notify`.
    peer_closed: bool,
    /// rustls holds plaintext for which there was no room.
    full: bool,
    /// Why TLS has failed.
    error: Option<Box<rustls::Error>>,
}

/// What opening records has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// All of the input is taken.
    All,
    /// There is plaintext to be dealt with before more is opened.
    Full,
    /// The peer will send no more (`close_notify`).
    PeerClosed,
    /// The peer broke the protocol; the alert that says so is in the output.
    Failed,
}

/// Where plaintext is.
#[derive(Debug)]
pub(crate) enum Plaintext {
    /// Where its records were received.
    Received(Range<usize>),
    /// In a block of its own.
    Apart(Block, Range<usize>),
}

impl Tls {
    /// The server's side; nothing is allocated for it before the first byte comes.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Self {
        let hands_over = config.enable_secret_extraction;
        Self::new(Session::Waiting(config), hands_over)
    }

    /// The client's side.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let hands_over = config.enable_secret_extraction;
        let session = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::new(Session::Client(Box::new(session)), hands_over))
    }

    fn new(session: Session, hands_over: bool) -> Self {
        Self {
            session,
            hands_over,
            stash: Vec::new(),
            last_record: 0,
            close_notify_sent: false,
            peer_closed: false,
            full: false,
            error: None,
        }
    }

    /// Takes input until there is plaintext to be dealt with, or no more input. Returns how much
    /// was taken, the plaintext, and what it has come to; what it has come to beside plaintext is
    /// told again by the next call. What TLS has to say is appended to `output`.
    pub(super) fn open(
        &mut self,
        input: &mut [u8],
        pool: &mut Pool,
        output: &mut Vec<u8>,
    ) -> (usize, Option<Plaintext>, Opened) {
        if self.peer_closed {
            return (input.len(), None, Opened::PeerClosed);
        }
        if self.error.is_some() || !self.begin() {
            return (input.len(), None, Opened::Failed);
        }
        let mut start = 0;
        if !self.is_handed_over() {
            let mut block = pool.take_receive_always();
            let mut sink = Sink::new(block.bytes_mut(), output);
            let (mut taken, opened) = self.open_session(input, &mut sink);
            let filled = sink.filled;
            if matches!(opened, Opened::PeerClosed | Opened::Failed) {
                // Nobody reads what is behind.
                taken = input.len();
            }
            if filled > 0 {
                return (taken, Some(Plaintext::Apart(block, 0..filled)), opened);
            }
            pool.give(block);
            if opened != Opened::All || taken == input.len() {
                return (taken, None, opened);
            }
            start = taken;
        }
        let (taken, plaintext, opened) = self.open_traffic(&mut input[start..], pool, output);
        let plaintext = plaintext.map(|plaintext| plaintext.behind(start));
        (start + taken, plaintext, opened)
    }

    /// Seals plaintext into `out`, which has room for [`sealed_bytes_max`]. Returns how many bytes
    /// that took, or `None` if it cannot be done (yet). What TLS has to say first is appended to
    /// `output`, and is to be sent first.
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        out: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Option<usize> {
        match &mut self.session {
            Session::Traffic(traffic) if self.error.is_none() => traffic.seal(plain, out, output),
            Session::Traffic(_) => None,
            _ => self.write(output, Writing::Plaintext(plain, out)),
        }
    }

    /// Seals plaintext where it lies, if that can be done. Returns where the records are.
    pub(super) fn seal_in_place(
        &mut self,
        memory: &mut [u8],
        plain: Range<usize>,
        output: &mut Vec<u8>,
    ) -> Option<Range<usize>> {
        match &mut self.session {
            Session::Traffic(traffic) if self.error.is_none() => {
                traffic.seal_in_place(memory, plain, output)
            }
            _ => None,
        }
    }

    /// Appends the `close_notify` that ends our side (RFC 8446 §6.1), once.
    pub(super) fn close(&mut self, output: &mut Vec<u8>) {
        // Nothing follows a fatal alert; rustls asserts that.
        if std::mem::replace(&mut self.close_notify_sent, true) || self.error.is_some() {
            return;
        }
        if let Session::Traffic(traffic) = &mut self.session {
            traffic.close(output);
            return;
        }
        let mut alert = [0; 64];
        let written = self.write(output, Writing::CloseNotify(&mut alert));
        output.extend_from_slice(&alert[..written.unwrap_or(0)]);
    }

    /// Gives back the memory of the core.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        if let Session::Traffic(traffic) = &mut self.session {
            traffic.release(pool);
        }
    }

    /// Whether the TLS handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether there is something to be had from [`open`](Self::open) without more input.
    pub(super) fn has_more(&self) -> bool {
        self.full || self.peer_closed || self.error.is_some()
    }

    /// Why TLS has failed, if it has.
    pub(super) fn error(&self) -> Option<&rustls::Error> {
        self.error.as_deref()
    }

    /// Bytes of heap that are this connection's for as long as it lives.
    pub(super) fn own_bytes(&self) -> usize {
        if self.is_handed_over() { TRAFFIC_BYTES } else { SESSION_BYTES }
    }

    /// Bytes kept of what has come and is not whole.
    pub(super) fn stashed_bytes(&self) -> usize {
        let cut = match &self.session {
            Session::Traffic(traffic) => traffic.held_bytes(),
            Session::Waiting(_) | Session::Server(_) | Session::Client(_) | Session::Lost => 0,
        };
        self.stash.capacity() + cut
    }

    /// Whether rustls is no more asked about records.
    fn is_handed_over(&self) -> bool {
        matches!(self.session, Session::Traffic(_))
    }

    /// Bounds the records of one key more narrowly than its suite does.
    #[cfg(test)]
    pub(super) fn set_records_max(&mut self, records_max: u64) {
        let Session::Traffic(traffic) = &mut self.session else { panic!("rustls counts itself") };
        traffic.set_records_max(records_max);
    }

    fn open_traffic(
        &mut self,
        input: &mut [u8],
        pool: &mut Pool,
        output: &mut Vec<u8>,
    ) -> (usize, Option<Plaintext>, Opened) {
        let Session::Traffic(traffic) = &mut self.session else { return (0, None, Opened::All) };
        let (start, cut) = match traffic.complete(input, pool) {
            Ok(completed) => completed,
            Err(fault) => return (input.len(), None, self.end(End::Failed(fault), output)),
        };
        if let Some((mut block, filled)) = cut {
            let Run { plain, end, .. } = traffic.open_run(&mut block.bytes_mut()[..filled]);
            if !plain.is_empty() {
                let opened = if end == End::NoMore { Opened::Full } else { self.end(end, output) };
                return (start, Some(Plaintext::Apart(block, plain)), opened);
            }
            pool.give(block);
            if end != End::NoMore {
                return (input.len(), None, self.end(end, output));
            }
        }
        let Run { plain, end, .. } = traffic.open(&mut input[start..], pool);
        let plaintext = Plaintext::Received(plain.clone()).behind(start);
        let opened = self.end(end, output);
        (input.len(), Some(plaintext).filter(|_| !plain.is_empty()), opened)
    }

    /// Notes how opening has ended, and tells the peer if it has failed.
    fn end(&mut self, end: End, output: &mut Vec<u8>) -> Opened {
        match end {
            End::NoMore => Opened::All,
            End::CloseNotify => {
                self.peer_closed = true;
                Opened::PeerClosed
            }
            End::Failed(fault) => {
                if let Session::Traffic(traffic) = &mut self.session
                    && !self.close_notify_sent
                {
                    traffic.fail(fault, output);
                }
                self.error = Some(Box::new(fault.into_error()));
                Opened::Failed
            }
        }
    }
}

impl Plaintext {
    /// The same, in memory of which the input is what follows so many bytes.
    pub(super) fn behind(self, bytes: usize) -> Self {
        match self {
            Self::Received(range) => Self::Received(range.start + bytes..range.end + bytes),
            Self::Apart(..) => self,
        }
    }
}
