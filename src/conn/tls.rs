//! TLS of one connection: records in, plaintext out, and the other way round.
//!
//! Sits between the driver's bytes and the connection. Records are opened where they were received
//! and the plaintext goes to a block of the core; what is queued is sealed when it is about to be
//! sent, so the queue holds plaintext and an idle connection holds no buffer at all: only the keys
//! and what rustls keeps with them. A record that was cut is the one thing kept, until it is whole.
//!
//! ```text
//! received   |rec|ord 1|record 2  |rec|         rec -> stash, completed by the next bytes
//! plaintext  |....||.........|                  to `poll_event`, as if it had been received
//! ```
//!
//! INVARIANT: `stash` starts where rustls has to go on, so it may hold several records of one
//! handshake message; outside of the handshake it holds less than two records.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, ServerConfig};

/// The header of a record: type, version, length (RFC 8446 §5.1).
const RECORD_HEADER_BYTES: usize = 5;
/// Largest plaintext of a record (RFC 8446 §5.1).
const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;
/// More than any cipher suite adds to a record: header, explicit nonce, content type and tag.
const RECORD_OVERHEAD_BYTES_MAX: usize = 32;
/// What is kept of a handshake that is cut: rustls takes messages of up to 64 KiB, to which the
/// last receive may add a block.
const STASH_BYTES_MAX: usize = 96 * 1024;
/// Bytes of heap that one connection has for TLS when it is idle: what rustls keeps (1.1 KiB, and
/// 2.1 KiB behind it) and what is here.
pub(super) const HELD_BYTES: usize = 3500;
/// More than a KeyUpdate takes, with which rustls answers one of the peer in front of plaintext
/// (RFC 8446 §4.6.3).
const KEY_UPDATE_BYTES_MAX: usize = 64;
/// Plaintext that is sealed for one send.
pub(super) const SEAL_BYTES_MAX: usize =
    4 * (RECORD_PLAIN_BYTES_MAX - RECORD_OVERHEAD_BYTES_MAX) - KEY_UPDATE_BYTES_MAX;

/// Room that sealing so much plaintext takes at most.
pub(super) fn sealed_bytes_max(plain_bytes: usize) -> usize {
    let record_count = plain_bytes.div_ceil(RECORD_PLAIN_BYTES_MAX);
    plain_bytes + record_count * RECORD_OVERHEAD_BYTES_MAX + KEY_UPDATE_BYTES_MAX
}

/// The TLS side of one connection.
#[derive(Debug)]
pub(crate) struct Tls {
    session: Session,
    /// Received, and not yet taken by rustls.
    stash: Vec<u8>,
    close_notify_sent: bool,
    /// The peer has sent its `close_notify`.
    peer_closed: bool,
    /// rustls holds plaintext for which there was no room.
    full: bool,
    /// Why TLS has failed.
    error: Option<Box<rustls::Error>>,
}

/// Boxed, because rustls keeps more than a kilobyte in it, and a connection that says nothing has
/// not earned that.
enum Session {
    /// A server's, before the first byte.
    Waiting(Arc<ServerConfig>),
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        })
    }
}

/// What opening records has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// All of the input is taken.
    All,
    /// The room for plaintext is full, and there is more.
    Full,
    /// The peer will send no more (`close_notify`).
    PeerClosed,
    /// The peer broke the protocol; the alert that says so is in the output.
    Failed,
}

/// Where plaintext goes, and what TLS itself has to say.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    /// Room for plaintext.
    room: &'a mut [u8],
    /// Bytes of it that are filled.
    pub(super) filled: usize,
    /// Records to send: handshake messages, tickets, alerts.
    output: &'a mut Vec<u8>,
    /// What is to be sealed as soon as rustls takes it.
    writing: Option<Writing<'a>>,
}

/// What this side has to say.
#[derive(Debug)]
enum Writing<'a> {
    Plaintext(&'a [u8], &'a mut [u8]),
    CloseNotify(&'a mut [u8]),
}

/// What one step of rustls asks for.
enum Next {
    Again,
    MoreInput,
    Full,
    PeerClosed,
    Failed(rustls::Error),
    /// So many bytes were sealed.
    Written(usize),
}

impl<'a> Sink<'a> {
    /// Plaintext goes to `room`, and records that are to be sent to `output`.
    pub(super) fn new(room: &'a mut [u8], output: &'a mut Vec<u8>) -> Self {
        Self { room, filled: 0, output, writing: None }
    }
}

impl Tls {
    /// The server's side; nothing is allocated for it before the first byte comes.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Self {
        Self::new(Session::Waiting(config))
    }

    /// The client's side.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let session = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::new(Session::Client(Box::new(session))))
    }

    fn new(session: Session) -> Self {
        let (close_notify_sent, peer_closed, full) = (false, false, false);
        Self { session, stash: Vec::new(), close_notify_sent, peer_closed, full, error: None }
    }

    /// Takes input until there is plaintext for all of the room, or no more input. Returns how much
    /// was taken and what it has come to.
    pub(super) fn open(&mut self, input: &mut [u8], sink: &mut Sink<'_>) -> (usize, Opened) {
        if self.peer_closed {
            return (input.len(), Opened::PeerClosed);
        }
        if self.error.is_some() || !self.begin() {
            return (input.len(), Opened::Failed);
        }
        let mut taken = 0;
        while !self.stash.is_empty() {
            let missing = self.missing_bytes(input.len() - taken);
            self.stash.extend_from_slice(&input[taken..taken + missing]);
            taken += missing;
            let mut stash = std::mem::take(&mut self.stash);
            let (used, opened) = self.process(&mut stash, sink);
            stash.drain(..used);
            // Nothing is kept between two receives that does not have to be.
            self.stash = if stash.is_empty() { Vec::new() } else { stash };
            if opened != Opened::All {
                return (taken, opened);
            }
            if taken == input.len() {
                return (taken, self.kept());
            }
        }
        let (used, opened) = self.process(&mut input[taken..], sink);
        taken += used;
        if opened == Opened::All {
            self.stash.extend_from_slice(&input[taken..]);
            return (input.len(), self.kept());
        }
        (taken, opened)
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
        self.write(output, Writing::Plaintext(plain, out))
    }

    /// Appends the `close_notify` that ends our side (RFC 8446 §6.1), once.
    pub(super) fn close(&mut self, output: &mut Vec<u8>) {
        // rustls asserts that nothing follows a fatal alert.
        if std::mem::replace(&mut self.close_notify_sent, true) || self.error.is_some() {
            return;
        }
        let mut alert = [0; 64];
        let written = self.write(output, Writing::CloseNotify(&mut alert));
        output.extend_from_slice(&alert[..written.unwrap_or(0)]);
    }

    /// Whether the TLS handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.session {
            Session::Waiting(_) => true,
            Session::Server(session) => session.is_handshaking(),
            Session::Client(session) => session.is_handshaking(),
        }
    }

    /// Whether there is something to be had from [`open`](Self::open) without more input.
    pub(super) fn has_more(&self) -> bool {
        self.full || self.peer_closed || self.error.is_some()
    }

    /// Why TLS has failed, if it has.
    pub(super) fn error(&self) -> Option<&rustls::Error> {
        self.error.as_deref()
    }

    /// Bytes kept of a record or handshake message that is not whole.
    #[cfg(test)]
    pub(crate) fn stashed_bytes(&self) -> usize {
        self.stash.capacity()
    }

    /// What is left of the input is kept; too much of it is nothing a peer needs to send.
    fn kept(&mut self) -> Opened {
        if self.stash.len() <= STASH_BYTES_MAX {
            return Opened::All;
        }
        self.stash = Vec::new();
        self.error = Some(Box::new(rustls::Error::General("too much of a handshake".to_owned())));
        Opened::Failed
    }

    /// Makes the session of a server when its first bytes are here.
    fn begin(&mut self) -> bool {
        let Session::Waiting(config) = &self.session else { return true };
        match UnbufferedServerConnection::new(Arc::clone(config)) {
            Ok(session) => {
                self.session = Session::Server(Box::new(session));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the TLS configuration cannot be used");
                self.error = Some(Box::new(error));
                false
            }
        }
    }

    /// How many of the next bytes complete what is stashed: all of them while the handshake goes
    /// on, whose messages may span records.
    fn missing_bytes(&self, available: usize) -> usize {
        let stashed = self.stash.len();
        if self.is_handshaking() {
            return available;
        }
        let whole = match self.stash.get(3..RECORD_HEADER_BYTES) {
            Some(&[high, low]) => {
                RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]))
            }
            _ => RECORD_HEADER_BYTES,
        };
        if whole <= stashed { available } else { available.min(whole - stashed) }
    }

    fn process(&mut self, input: &mut [u8], sink: &mut Sink<'_>) -> (usize, Opened) {
        let mut used = 0;
        self.full = false;
        loop {
            match self.step(input, &mut used, sink) {
                Next::Again => {}
                Next::MoreInput | Next::Written(_) => return (used, Opened::All),
                Next::Full => {
                    self.full = true;
                    return (used, Opened::Full);
                }
                Next::PeerClosed => {
                    self.peer_closed = true;
                    return (used, Opened::PeerClosed);
                }
                Next::Failed(error) => {
                    self.error = Some(Box::new(error));
                    // The alert that tells the peer, if there is one. rustls still knows places in
                    // the input, so it has to be there.
                    while self.has_output()
                        && matches!(self.step(input, &mut used, sink), Next::Again)
                    {
                    }
                    return (input.len(), Opened::Failed);
                }
            }
        }
    }

    /// Writes once rustls takes plaintext; `None` if it does not (yet).
    fn write(&mut self, output: &mut Vec<u8>, writing: Writing<'_>) -> Option<usize> {
        if self.error.is_some() {
            return None;
        }
        let mut stash = std::mem::take(&mut self.stash);
        let mut used = 0;
        let mut sink = Sink { room: &mut [], filled: 0, output, writing: Some(writing) };
        let written = loop {
            match self.step(&mut stash, &mut used, &mut sink) {
                Next::Again => {}
                Next::Written(bytes) => break Some(bytes),
                Next::MoreInput | Next::Full | Next::PeerClosed | Next::Failed(_) => break None,
            }
        };
        stash.drain(..used);
        self.stash = stash;
        written
    }

    fn has_output(&self) -> bool {
        match &self.session {
            Session::Waiting(_) => false,
            Session::Server(session) => session.wants_write(),
            Session::Client(session) => session.wants_write(),
        }
    }

    fn step(&mut self, input: &mut [u8], used: &mut usize, sink: &mut Sink<'_>) -> Next {
        let input = &mut input[*used..];
        let (discard, next) = match &mut self.session {
            Session::Waiting(_) => return Next::MoreInput,
            Session::Server(session) => answer(session.process_tls_records(input), sink),
            Session::Client(session) => answer(session.process_tls_records(input), sink),
        };
        *used += discard;
        next
    }
}

impl Writing<'_> {
    fn write<Data>(self, mut traffic: WriteTraffic<'_, Data>) -> Next {
        let written = match self {
            Self::Plaintext(plain, out) => traffic.encrypt(plain, out),
            Self::CloseNotify(out) => traffic.queue_close_notify(out),
        };
        match written {
            Ok(bytes) => Next::Written(bytes),
            Err(error) => Next::Failed(rustls::Error::General(error.to_string())),
        }
    }
}

/// Does what rustls asks for. Returns how much of the input it is done with, and what comes next.
fn answer<Data>(status: UnbufferedStatus<'_, '_, Data>, sink: &mut Sink<'_>) -> (usize, Next) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Next::Failed(error)),
    };
    let next = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            let Some(bytes) = traffic.peek_len() else { break Next::Again };
            let free = sink.filled..sink.filled + bytes.get();
            let Some(room) = sink.room.get_mut(free) else { break Next::Full };
            let record = match traffic.next_record() {
                Some(Ok(record)) => record,
                Some(Err(error)) => break Next::Failed(error),
                None => break Next::Again,
            };
            discard += record.discard;
            room.copy_from_slice(record.payload);
            sink.filled += bytes.get();
        },
        ConnectionState::EncodeTlsData(records) => encode(records, sink.output),
        ConnectionState::TransmitTlsData(records) => {
            // What was encoded is queued; the queue keeps its order.
            records.done();
            Next::Again
        }
        ConnectionState::PeerClosed => Next::PeerClosed,
        ConnectionState::WriteTraffic(traffic) => match sink.writing.take() {
            Some(writing) => writing.write(traffic),
            None => Next::MoreInput,
        },
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Next::MoreInput,
        // Early data is not accepted by our configuration (row TL06).
        _ => Next::Failed(rustls::Error::General("an unknown state of TLS".to_owned())),
    };
    (discard, next)
}

/// Appends what rustls has to say to `output`. Asked without room, it tells the size.
fn encode<Data>(mut records: EncodeTlsData<'_, Data>, output: &mut Vec<u8>) -> Next {
    let start = output.len();
    if let Err(EncodeError::InsufficientSize(size)) = records.encode(&mut []) {
        output.resize(start + size.required_size, 0);
        if let Err(error) = records.encode(&mut output[start..]) {
            return Next::Failed(rustls::Error::General(error.to_string()));
        }
    }
    Next::Again
}
