//! What rustls is given of what has come, and what is kept until there is more.
//!
//! During the handshake it is given record by record. Whatever it was shown it would open, but what
//! follows the handshake of TLS 1.3 is for `traffic`, which could not have it any more.
//!
//! ```text
//! received   |rec|ord 1|record 2  |rec|         rec -> stash, completed by the next bytes
//! ```

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;

use super::record::RECORD_HEADER_BYTES;
use super::session::{Next, Session, Sink, Writing};
use super::{Opened, Tls};

/// What is kept of a handshake that is cut: rustls takes messages of up to 64 KiB, to which the
/// last receive may add a block.
const STASH_BYTES_MAX: usize = 96 * 1024;

impl Tls {
    /// Lets rustls have the input, during the handshake record by record: those behind it are not
    /// for rustls.
    pub(super) fn open_session(
        &mut self,
        input: &mut [u8],
        sink: &mut Sink<'_>,
    ) -> (usize, Opened) {
        let mut taken = 0;
        loop {
            let piece = self.next_piece(&input[taken..]);
            if self.stash.is_empty() {
                let (used, opened) = self.process(&mut input[taken..taken + piece], sink);
                if opened != Opened::All {
                    return (taken + used, opened);
                }
                self.stash.extend_from_slice(&input[taken + used..taken + piece]);
                taken += piece;
            } else {
                self.stash.extend_from_slice(&input[taken..taken + piece]);
                taken += piece;
                let mut stash = std::mem::take(&mut self.stash);
                let (used, opened) = self.process(&mut stash, sink);
                stash.drain(..used);
                self.last_record = self.last_record.saturating_sub(used);
                // Nothing is kept between two receives that does not have to be.
                self.stash = if stash.is_empty() { Vec::new() } else { stash };
                if opened != Opened::All {
                    return (taken, opened);
                }
            }
            if let Err(error) = self.hand_over() {
                self.error = Some(Box::new(error));
                return (input.len(), Opened::Failed);
            }
            if taken == input.len() || self.is_handed_over() {
                return (taken, self.kept());
            }
        }
    }

    /// Hands the keys over as soon as rustls has nothing more to do.
    fn hand_over(&mut self) -> Result<(), rustls::Error> {
        let is_done = !self.session.is_handshaking() && !self.session.has_output();
        if !self.hands_over || !is_done || !self.stash.is_empty() {
            return Ok(());
        }
        self.session.hand_over()
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
    pub(super) fn begin(&mut self) -> bool {
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

    /// How many of the next bytes rustls is given, behind what is stashed: up to the end of the
    /// record they begin or complete. All of them if nothing is stashed of an established
    /// connection, which stays with rustls.
    fn next_piece(&mut self, bytes: &[u8]) -> usize {
        if self.stash.is_empty() {
            self.last_record = 0;
            if !self.session.is_handshaking() {
                return bytes.len();
            }
        }
        loop {
            // Of a record that has hardly begun the header is enough.
            let mut header = [0; RECORD_HEADER_BYTES];
            let stashed = &self.stash[self.last_record..];
            let known = stashed.iter().chain(bytes).take(RECORD_HEADER_BYTES);
            let known_bytes = header.iter_mut().zip(known).map(|(to, from)| *to = *from).count();
            if known_bytes < RECORD_HEADER_BYTES {
                return bytes.len();
            }
            let record_bytes =
                RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
            if record_bytes > stashed.len() {
                return bytes.len().min(record_bytes - stashed.len());
            }
            // It is whole and still there. Either its message is not whole, or there was no room.
            if self.full {
                return 0;
            }
            self.last_record += record_bytes;
        }
    }

    fn process(&mut self, input: &mut [u8], sink: &mut Sink<'_>) -> (usize, Opened) {
        let mut used = 0;
        self.full = false;
        loop {
            match self.session.step(input, &mut used, sink) {
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
                    while self.session.has_output()
                        && matches!(self.session.step(input, &mut used, sink), Next::Again)
                    {
                    }
                    return (input.len(), Opened::Failed);
                }
            }
        }
    }

    /// Writes once rustls takes plaintext; `None` if it does not (yet).
    pub(super) fn write(&mut self, output: &mut Vec<u8>, writing: Writing<'_>) -> Option<usize> {
        if self.error.is_some() {
            return None;
        }
        let mut stash = std::mem::take(&mut self.stash);
        let mut used = 0;
        let mut sink = Sink::new(&mut [], output);
        sink.writing = Some(writing);
        let written = loop {
            match self.session.step(&mut stash, &mut used, &mut sink) {
                Next::Again => {}
                Next::Written(bytes) => break Some(bytes),
                Next::MoreInput | Next::Full | Next::PeerClosed | Next::Failed(_) => break None,
            }
        };
        stash.drain(..used);
        self.last_record = self.last_record.saturating_sub(used);
        self.stash = stash;
        written
    }
}
