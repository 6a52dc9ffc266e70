//! TLS 1.3 after the handshake: records opened and sealed where they lie, without rustls.
//!
//! rustls copies a record when it opens it and again when it seals one, for its callers may be
//! anyone. Here records are opened in the block they were received in, sealed in the block they
//! were put together in, and only what is cut is copied. rustls keeps the secrets behind the keys
//! (`KernelConnection`), and takes tickets.
//!
//! ```text
//! received    |hdr|content 1|t|tag||hdr|content 2|t|tag||hdr|cont    -> stash
//! plaintext       |content 1|content 2|                              one run, moved as it is opened
//! ```
//!
//! INVARIANT: the stash holds less than one record; `message` less than one message.

use std::fmt;
use std::ops::Range;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{
    AlertDescription, CipherSuite, Error, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite,
};

use crate::buf::{Block, Pool};

use super::content::{Content, KEY_UPDATE};
use super::fault::Fault;
use super::record::{
    ALERT, APPLICATION_DATA, CONTENT_BYTES_MAX, HANDSHAKE, OVERHEAD_BYTES, RECORD_HEADER_BYTES,
    RecordKey, record_bytes,
};

/// A KeyUpdate that asks for nothing in return (RFC 8446 §4.6.3).
const KEY_UPDATE_MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
/// Records that a key may have to seal beside data: a KeyUpdate and an alert.
const OTHER_RECORDS_MAX: u64 = 2;

/// An established connection of TLS 1.3.
pub(super) struct Traffic {
    pub(super) secrets: Secrets,
    pub(super) opener: RecordKey,
    sealer: RecordKey,
    /// So many records may be sealed with one key.
    records_max: u64,
    /// The peer has asked for our KeyUpdate. It goes before our next data (RFC 8446 §4.6.3), so
    /// however often the peer asks, it has one answer.
    pub(super) update_due: bool,
    /// Records since the last one with data.
    pub(super) dataless_count: u8,
    /// A handshake message of which more records are still to come.
    pub(super) message: Vec<u8>,
    /// The record that was cut, and how much of it is here.
    stash: Block,
    stashed: usize,
}

/// What later keys are made of.
pub(super) enum Secrets {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

/// What was opened.
#[derive(Debug)]
pub(super) struct Run {
    /// Where the plaintext is.
    pub(super) plain: Range<usize>,
    /// Bytes of records that are dealt with.
    taken: usize,
    pub(super) end: End,
}

/// Why no more was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    NoMore,
    CloseNotify,
    Failed(Fault),
}

impl Traffic {
    /// Whether a connection that has agreed on this can go on here.
    pub(super) fn takes(
        version: Option<ProtocolVersion>,
        suite: Option<SupportedCipherSuite>,
    ) -> bool {
        let known = |suite: SupportedCipherSuite| {
            matches!(
                suite.suite(),
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS13_AES_256_GCM_SHA384
                    | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            )
        };
        version == Some(ProtocolVersion::TLSv1_3) && suite.is_some_and(known)
    }

    /// Goes on where the handshake of a server has ended; rustls has nothing left to send, and was
    /// shown no record beyond the handshake.
    pub(super) fn of_server(session: UnbufferedServerConnection) -> Result<Self, Error> {
        let (keys, kernel) = session.dangerous_into_kernel_connection()?;
        let suite = kernel.negotiated_cipher_suite();
        Self::new(keys, suite, Secrets::Server(kernel))
    }

    /// The same of a client.
    pub(super) fn of_client(session: UnbufferedClientConnection) -> Result<Self, Error> {
        let (keys, kernel) = session.dangerous_into_kernel_connection()?;
        let suite = kernel.negotiated_cipher_suite();
        Self::new(keys, suite, Secrets::Client(kernel))
    }

    fn new(
        keys: ExtractedSecrets,
        suite: SupportedCipherSuite,
        secrets: Secrets,
    ) -> Result<Self, Error> {
        let suite = suite.tls13().ok_or_else(|| Fault::Internal.into_error())?;
        let key = |secrets| RecordKey::new(secrets).ok_or_else(|| Fault::Internal.into_error());
        Ok(Self {
            secrets,
            opener: key(keys.rx)?,
            sealer: key(keys.tx)?,
            records_max: suite.common.confidentiality_limit,
            update_due: false,
            dataless_count: 0,
            message: Vec::new(),
            stash: Block::empty(),
            stashed: 0,
        })
    }

    /// Completes the record that was cut by bytes of `input`. Returns how many that took, and the
    /// block with the record if it is whole now.
    pub(super) fn complete(
        &mut self,
        input: &[u8],
        pool: &mut Pool,
    ) -> Result<(usize, Option<(Block, usize)>), Fault> {
        let mut taken = 0;
        while self.stashed > 0 {
            let whole = record_bytes(&self.stash.bytes()[..self.stashed])?;
            if whole == Some(self.stashed) {
                let block = std::mem::replace(&mut self.stash, Block::empty());
                return Ok((taken, Some((block, std::mem::take(&mut self.stashed)))));
            }
            let missing = whole.unwrap_or(RECORD_HEADER_BYTES) - self.stashed;
            let bytes = &input[taken..][..missing.min(input.len() - taken)];
            if bytes.is_empty() {
                break;
            }
            let start = self.stashed;
            self.stashed += bytes.len();
            taken += bytes.len();
            pool.grow(&mut self.stash, self.stashed, usize::MAX);
            self.stash.bytes_mut()[start..self.stashed].copy_from_slice(bytes);
        }
        Ok((taken, None))
    }

    /// Opens the records in `bytes` where they lie. One that is cut at the end is kept.
    pub(super) fn open(&mut self, bytes: &mut [u8], pool: &mut Pool) -> Run {
        let run = self.open_run(bytes);
        let cut = &bytes[run.taken..];
        if run.end == End::NoMore && !cut.is_empty() {
            // As with messages: an announcement may take a free block, it never allocates one.
            let whole = record_bytes(cut).ok().flatten().unwrap_or(cut.len());
            self.stash = pool.take_spare(whole).unwrap_or_else(|| pool.take(cut.len()));
            self.stash.bytes_mut()[..cut.len()].copy_from_slice(cut);
            self.stashed = cut.len();
        }
        run
    }

    /// Seals plaintext into `out`, and returns the bytes of the records. What has to be sent
    /// before them is appended to `output`.
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        out: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Option<usize> {
        let sealed_bytes = self.prepare(plain.len(), output)?;
        let records = out.get_mut(..sealed_bytes)?;
        let contents = plain.chunks(CONTENT_BYTES_MAX);
        for (record, content) in
            records.chunks_mut(CONTENT_BYTES_MAX + OVERHEAD_BYTES).zip(contents)
        {
            record[RECORD_HEADER_BYTES..][..content.len()].copy_from_slice(content);
            self.sealer.seal(record, APPLICATION_DATA)?;
        }
        Some(sealed_bytes)
    }

    /// Seals plaintext where it lies, if there is room around it, and returns where the records
    /// are. Only what follows the first record has to be moved.
    pub(super) fn seal_in_place(
        &mut self,
        memory: &mut [u8],
        plain: Range<usize>,
        output: &mut Vec<u8>,
    ) -> Option<Range<usize>> {
        let start = plain.start.saturating_sub(RECORD_HEADER_BYTES);
        let end = start + sealed_bytes(plain.len());
        if end > memory.len() {
            return None;
        }
        self.prepare(plain.len(), output)?;
        let records = &mut memory[start..end];
        let contents = (0..plain.len()).step_by(CONTENT_BYTES_MAX).enumerate();
        // The last first: each moves towards the end, over what has moved already.
        for (index, offset) in contents.rev() {
            let from = plain.start - start + offset;
            let to = RECORD_HEADER_BYTES + offset + index * OVERHEAD_BYTES;
            let content_bytes = CONTENT_BYTES_MAX.min(plain.len() - offset);
            if from != to {
                records.copy_within(from..from + content_bytes, to);
            }
        }
        for record in records.chunks_mut(CONTENT_BYTES_MAX + OVERHEAD_BYTES) {
            self.sealer.seal(record, APPLICATION_DATA)?;
        }
        Some(start..end)
    }

    /// Appends the `close_notify` that ends our side (RFC 8446 §6.1).
    pub(super) fn close(&mut self, output: &mut Vec<u8>) {
        self.push_alert(1, AlertDescription::CloseNotify, output);
    }

    /// Appends the alert that tells the peer why we give up, if there is one. Nothing may follow.
    pub(super) fn fail(&mut self, fault: Fault, output: &mut Vec<u8>) {
        if let Some(description) = fault.alert() {
            self.push_alert(2, description, output);
        }
    }

    /// Gives memory back that is not the connection's own.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        self.stashed = 0;
        pool.give(std::mem::replace(&mut self.stash, Block::empty()));
    }

    /// Bytes that are kept of a record and of a message that are not whole.
    pub(super) fn held_bytes(&self) -> usize {
        self.stash.len() + self.message.capacity()
    }

    /// Bounds the records of one key more narrowly than its suite does.
    #[cfg(test)]
    pub(crate) fn set_records_max(&mut self, records_max: u64) {
        self.records_max = records_max;
    }

    /// Opens what is whole, each content behind the one before.
    pub(super) fn open_run(&mut self, bytes: &mut [u8]) -> Run {
        // The first content stays where it is.
        let start = RECORD_HEADER_BYTES.min(bytes.len());
        let mut run = Run { plain: start..start, taken: 0, end: End::NoMore };
        while run.end == End::NoMore {
            let left = &bytes[run.taken..];
            let Some(&header) = left.first_chunk() else { break };
            let end = match record_bytes(left) {
                Ok(Some(record_bytes)) if record_bytes <= left.len() => run.taken + record_bytes,
                Ok(_) => break,
                Err(fault) => {
                    run.end = End::Failed(fault);
                    break;
                }
            };
            let memory = &mut bytes[run.plain.end..end];
            let ciphertext_start = run.taken + RECORD_HEADER_BYTES - run.plain.end;
            run.taken = end;
            let opened = self.opener.open(header, memory, ciphertext_start);
            let content = opened.and_then(|(content_type, content_bytes)| {
                Ok((self.handle_content(content_type, &memory[..content_bytes])?, content_bytes))
            });
            match content {
                Ok((Content::Data, content_bytes)) => run.plain.end += content_bytes,
                Ok((Content::Other, _)) => {}
                Ok((Content::CloseNotify, _)) => run.end = End::CloseNotify,
                Err(fault) => run.end = End::Failed(fault),
            }
        }
        run
    }

    /// Sees to it that so much plaintext can be sealed with the key. Returns what it comes to.
    fn prepare(&mut self, plain_bytes: usize, output: &mut Vec<u8>) -> Option<usize> {
        let records = record_count(plain_bytes) as u64 + OTHER_RECORDS_MAX;
        if self.update_due || self.sealer.record_count().saturating_add(records) > self.records_max
        {
            self.update_key(output)?;
        }
        Some(sealed_bytes(plain_bytes))
    }

    /// Goes on with the next key (RFC 8446 §4.6.3), and tells the peer so.
    fn update_key(&mut self, output: &mut Vec<u8>) -> Option<()> {
        self.push_record(HANDSHAKE, &KEY_UPDATE_MESSAGE, output)?;
        let next = match &mut self.secrets {
            Secrets::Server(kernel) => kernel.update_tx_secret(),
            Secrets::Client(kernel) => kernel.update_tx_secret(),
        };
        self.sealer = RecordKey::new(next.ok()?)?;
        self.update_due = false;
        Some(())
    }

    fn push_alert(&mut self, level: u8, description: AlertDescription, output: &mut Vec<u8>) {
        // Without a number there is no record, and the connection ends without the alert.
        let _ = self.push_record(ALERT, &[level, description.into()], output);
    }

    fn push_record(
        &mut self,
        content_type: u8,
        content: &[u8],
        output: &mut Vec<u8>,
    ) -> Option<()> {
        let start = output.len();
        output.resize(start + RECORD_HEADER_BYTES, 0);
        output.extend_from_slice(content);
        output.resize(start + content.len() + OVERHEAD_BYTES, 0);
        let sealed = self.sealer.seal(&mut output[start..], content_type);
        if sealed.is_none() {
            output.truncate(start);
        }
        sealed
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic")
            .field("update_due", &self.update_due)
            .field("stashed", &self.stashed)
            .finish_non_exhaustive()
    }
}

// Each connection has one as long as it lives.
const _: () = assert!(size_of::<Traffic>() <= 1800);

fn record_count(plain_bytes: usize) -> usize {
    plain_bytes.div_ceil(CONTENT_BYTES_MAX)
}

fn sealed_bytes(plain_bytes: usize) -> usize {
    plain_bytes + record_count(plain_bytes) * OVERHEAD_BYTES
}
