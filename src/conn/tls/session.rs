//! TLS as rustls does it: the handshake, and all of TLS 1.2.
//!
//! rustls is asked again and again what it wants, until it wants more input. It copies each record
//! when it opens it; what is faster and can do without it goes on in `traffic`.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic,
};

use super::traffic::Traffic;

/// Who speaks TLS at present. Boxed, because rustls keeps more than a kilobyte in it, and a
/// connection that says nothing has not earned that.
pub(super) enum Session {
    /// A server's, before the first byte.
    Waiting(Arc<ServerConfig>),
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// The handshake is over, and rustls has handed the keys over.
    Traffic(Box<Traffic>),
    /// Handing over has failed, which is the end.
    Lost,
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
    pub(super) writing: Option<Writing<'a>>,
}

/// What this side has to say.
#[derive(Debug)]
pub(super) enum Writing<'a> {
    Plaintext(&'a [u8], &'a mut [u8]),
    CloseNotify(&'a mut [u8]),
}

/// What one step of rustls asks for.
pub(super) enum Next {
    Again,
    MoreInput,
    Full,
    PeerClosed,
    Failed(rustls::Error),
    /// So many bytes were sealed.
    Written(usize),
}

impl Session {
    /// Lets rustls have `input` from `used` on, and moves `used` on.
    pub(super) fn step(&mut self, input: &mut [u8], used: &mut usize, sink: &mut Sink<'_>) -> Next {
        let input = &mut input[*used..];
        let (discard, next) = match self {
            Self::Waiting(_) | Self::Traffic(_) | Self::Lost => return Next::MoreInput,
            Self::Server(session) => answer(session.process_tls_records(input), sink),
            Self::Client(session) => answer(session.process_tls_records(input), sink),
        };
        *used += discard;
        next
    }

    /// Hands an established connection over, if that is not to stay here. False if nobody speaks
    /// TLS any more.
    pub(super) fn hand_over(&mut self) -> Result<(), rustls::Error> {
        let takes = match self {
            Self::Server(session) => {
                Traffic::takes(session.protocol_version(), session.negotiated_cipher_suite())
            }
            Self::Client(session) => {
                Traffic::takes(session.protocol_version(), session.negotiated_cipher_suite())
            }
            Self::Waiting(_) | Self::Traffic(_) | Self::Lost => false,
        };
        if !takes {
            return Ok(());
        }
        let traffic = match std::mem::replace(self, Self::Lost) {
            Self::Server(session) => Traffic::of_server(*session)?,
            Self::Client(session) => Traffic::of_client(*session)?,
            Self::Waiting(_) | Self::Traffic(_) | Self::Lost => unreachable!("rustls has it"),
        };
        *self = Self::Traffic(Box::new(traffic));
        Ok(())
    }

    /// Whether the handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Waiting(_) => true,
            Self::Server(session) => session.is_handshaking(),
            Self::Client(session) => session.is_handshaking(),
            Self::Traffic(_) | Self::Lost => false,
        }
    }

    /// Whether rustls has something to send.
    pub(super) fn has_output(&self) -> bool {
        match self {
            Self::Server(session) => session.wants_write(),
            Self::Client(session) => session.wants_write(),
            Self::Waiting(_) | Self::Traffic(_) | Self::Lost => false,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
            Self::Traffic(_) => "Traffic",
            Self::Lost => "Lost",
        })
    }
}

impl<'a> Sink<'a> {
    /// Plaintext goes to `room`, and records that are to be sent to `output`.
    pub(super) fn new(room: &'a mut [u8], output: &'a mut Vec<u8>) -> Self {
        Self { room, filled: 0, output, writing: None }
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
