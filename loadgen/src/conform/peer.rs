//! A raw client on a blocking socket: it sends any bytes, and reads in a thread of its own, so that a
//! server which answers early never waits for us to have sent everything.

use std::io::{self, BufReader, Cursor, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::answer::{Answer, Head};
use super::deflate::{EXTENSIONS, Inflater, NAME, Params};
use super::frame::{self, Incoming, Mask, ReadEnd, Reader, Violation};
use super::request::{Request, Target};
use super::wire::Wire;

/// Between two writes that must not leave in one segment. The kernel makes some 60 us of it.
const WRITE_GAP: Duration = Duration::from_micros(10);
/// The same where a message is cut into single bytes or small frames. It is more, so that a server
/// which answers from a task of its own gets round to it before the next byte; and there are few.
const SMALL_WRITE_GAP: Duration = Duration::from_micros(200);
const SMALL_WRITE_BYTES: usize = 32;
const READ_BLOCK_BYTES: usize = 64 << 10;

/// How long a server may take for what it has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// For a reaction: an answer, an echo, a Close frame, the end of the connection.
    pub(crate) reaction: Duration,
    /// For the next byte of a large transfer.
    pub(crate) stall: Duration,
    /// For a large transfer as a whole.
    pub(crate) transfer: Duration,
}

impl Timing {
    pub(crate) fn new(reaction: Duration) -> Self {
        Self { reaction, stall: reaction * 5, transfer: reaction * 50 }
    }
}

/// What came from the server.
#[derive(Debug)]
pub(crate) enum Arrival {
    Incoming(Incoming),
    Violation(Violation),
    /// The stream has ended or was reset; nothing follows.
    Gone(io::ErrorKind),
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Peer {
    wire: Wire,
    agreed: Option<Params>,
    arrivals: Receiver<Arrival>,
    received_bytes: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

/// What came of opening a connection.
#[derive(Debug)]
pub(crate) enum Opened {
    Peer(Peer),
    /// It was opened, but without the extension that was asked for, so it was closed.
    Declined,
}

/// A connection to the server, with its timeouts set; inside TLS if the target wants it.
pub(crate) fn connect(target: &Target, timing: Timing) -> io::Result<Wire> {
    let stream = TcpStream::connect_timeout(&target.addr, timing.stall)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(timing.stall))?;
    match &target.secure {
        None => Ok(stream.into()),
        Some(secure) => Wire::secured(stream, secure, timing.stall),
    }
}

/// Sends a request in pieces of at most `chop` bytes and reads the answer.
pub(crate) fn ask(stream: &Wire, request: &[u8], chop: usize, patience: Duration) -> Answer {
    let mut stream_to = stream;
    for piece in request.chunks(chop.max(1)) {
        // A server that has refused already need not read the rest; its answer counts.
        if stream_to.write_all(piece).is_err() {
            break;
        }
        if chop < request.len() {
            thread::sleep(gap(chop));
        }
    }
    Answer::read(stream, patience)
}

impl Peer {
    /// Connects and shakes hands, with an offer of extensions if the case needs one. The error says in
    /// words why there is no connection.
    pub(crate) fn open(
        target: &Target,
        timing: Timing,
        seed: u32,
        offer: Option<&str>,
    ) -> Result<Opened, String> {
        let wire = connect(target, timing).map_err(|error| format!("no connection: {error}"))?;
        let plain = Request::plain(target, seed);
        let request =
            offer.into_iter().fold(plain, |request, offer| request.with(EXTENSIONS, offer));
        // Connections wait in the backlog of a busy server, so this may take more than a reaction.
        let head = match ask(&wire, &request.bytes(), usize::MAX, timing.stall) {
            Answer::Head(head) => head,
            other => return Err(other.describe()),
        };
        let extensions = if offer.is_some() { &[NAME][..] } else { &[] };
        let fault = head.fault_of_accept(&request.key);
        if let Some(fault) = fault.or_else(|| head.fault_of_choice(&[], extensions)) {
            return Err(fault);
        }
        let offers: Vec<&str> = offer.into_iter().flat_map(|text| text.split(", ")).collect();
        let agreed = Params::agreed(&head, &offers)?;
        if offer.is_some() && agreed.is_none() {
            let mut close = Vec::new();
            let head =
                frame::Head { mask: Mask::Key([1, 2, 3, 4]), ..frame::Head::of(frame::CLOSE) };
            frame::write_frame(head, &1000_u16.to_be_bytes(), [0; 4], &mut close);
            // Out of courtesy; nothing depends on it.
            let _ = (&wire).write_all(&close);
            wire.shutdown();
            return Ok(Opened::Declined);
        }
        Self::agreed(wire, head, agreed).map(Opened::Peer).map_err(|error| error.to_string())
    }

    /// Takes over a connection whose answer has been read, with what was agreed on about compression.
    pub(crate) fn agreed(wire: Wire, head: Head, agreed: Option<Params>) -> io::Result<Self> {
        wire.set_read_timeout(None)?;
        let counted = Counted { wire: wire.clone(), bytes: Arc::default() };
        let received_bytes = Arc::clone(&counted.bytes);
        let source =
            BufReader::with_capacity(READ_BLOCK_BYTES, Cursor::new(head.rest).chain(counted));
        let reader = Reader::new(source, agreed.as_ref().map(Inflater::new));
        let (sender, arrivals) = channel();
        let reader = thread::Builder::new().spawn(move || read_all(reader, &sender))?;
        Ok(Self { wire, agreed, arrivals, received_bytes, reader: Some(reader) })
    }

    /// What was agreed on about compression.
    pub(crate) fn params(&self) -> Option<Params> {
        self.agreed
    }

    /// Sends bytes by one write. That the server reads no more is no error here; how it ended the
    /// connection is told by what arrives.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = (&self.wire).write_all(bytes);
    }

    /// Sends bytes in writes of `chop` bytes, each for itself.
    pub(crate) fn send_chopped(&mut self, bytes: &[u8], chop: usize) {
        for piece in bytes.chunks(chop) {
            thread::sleep(gap(chop));
            if (&self.wire).write_all(piece).is_err() {
                return;
            }
        }
        thread::sleep(gap(chop));
    }

    /// The next arrival, if there is one before the deadline.
    pub(crate) fn next_before(&self, deadline: Instant) -> Option<Arrival> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.arrivals.recv_timeout(left) {
            Ok(arrival) => Some(arrival),
            Err(RecvTimeoutError::Timeout) => None,
            // The reader always says why it ends; behind that nothing is asked of it.
            Err(RecvTimeoutError::Disconnected) => Some(Arrival::Gone(io::ErrorKind::NotConnected)),
        }
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Wakes the reader, which may sit in a read.
        self.wire.shutdown();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn gap(chop: usize) -> Duration {
    if chop <= SMALL_WRITE_BYTES { SMALL_WRITE_GAP } else { WRITE_GAP }
}

fn read_all(mut reader: Reader<impl Read>, sender: &Sender<Arrival>) {
    loop {
        let (arrival, is_last) = match reader.next() {
            Ok(incoming) => (Arrival::Incoming(incoming), false),
            Err(ReadEnd::Gone(kind)) => (Arrival::Gone(kind), true),
            Err(ReadEnd::Violation(violation)) => (Arrival::Violation(violation), true),
        };
        if sender.send(arrival).is_err() || is_last {
            return;
        }
    }
}

/// Counts what a stream delivers, so that a slow transfer can be told from a stalled one.
#[derive(Debug)]
struct Counted {
    wire: Wire,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.wire).read(buffer)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
