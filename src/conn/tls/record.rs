//! One direction of the record layer of TLS 1.3: a key, and the number of the next record.
//!
//! Seals and opens where the bytes lie. What a record means, and what a peer may send when, is
//! told in `traffic`.
//!
//! ```text
//! |type|version|length|   content   |type|zeros|  tag  |      RFC 8446 §5.2
//! |<- header: 5, AAD->|<------ ciphertext ---->|<- 16 >|
//! ```
//!
//! INVARIANT: no two records of a key have the same number, hence no two the same nonce.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use super::fault::Fault;

/// The header of a record: type, version, length (RFC 8446 §5.1).
pub(super) const RECORD_HEADER_BYTES: usize = 5;
/// Largest content of a record (RFC 8446 §5.1).
pub(super) const CONTENT_BYTES_MAX: usize = 16 * 1024;
/// What may follow the header (RFC 8446 §5.2).
const CIPHERTEXT_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;
/// Authentication tag, the same for all suites of TLS 1.3 that are known here.
const TAG_BYTES: usize = 16;
/// What sealing adds behind the content: its type and the tag.
const TRAILER_BYTES: usize = 1 + TAG_BYTES;
/// What sealing adds in all.
pub(super) const OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + TRAILER_BYTES;

/// Types of content (RFC 8446 §5.1).
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// What the first bytes of a record announce: its size, header included, or `None` if the header
/// is cut.
pub(super) fn record_bytes(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    // RFC 8446 §5: after the handshake nothing comes but protected records, and a
    // change_cipher_spec is no exception any more.
    if bytes.first().is_some_and(|&outer_type| outer_type != APPLICATION_DATA) {
        return Err(Fault::UnexpectedMessage);
    }
    // The version is not looked at (RFC 8446 §5.1), but authenticated like all of the header.
    let Some(&[_, _, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    let ciphertext_bytes = usize::from(u16::from_be_bytes([high, low]));
    if ciphertext_bytes > CIPHERTEXT_BYTES_MAX {
        return Err(Fault::RecordOverflow);
    }
    Ok(Some(RECORD_HEADER_BYTES + ciphertext_bytes))
}

/// A key of one direction.
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// Number of the next record.
    sequence: u64,
}

impl RecordKey {
    /// `None` if the suite is not known here.
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        let (algorithm, key, iv): (_, AeadKey, Iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        Self::of(algorithm, key.as_ref(), iv.as_ref(), sequence)
    }

    pub(super) fn of(
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: &[u8],
        sequence: u64,
    ) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self { key, iv: iv.try_into().ok()?, sequence })
    }

    /// Records that this key has protected.
    pub(super) fn record_count(&self) -> u64 {
        self.sequence
    }

    /// Opens what `memory` has from `ciphertext_start` to its end, which followed `header`. The
    /// content goes to the front of `memory`, over what was there. Returns its type and length.
    pub(super) fn open(
        &mut self,
        header: [u8; RECORD_HEADER_BYTES],
        memory: &mut [u8],
        ciphertext_start: usize,
    ) -> Result<(u8, usize), Fault> {
        let nonce = self.next_nonce().ok_or(Fault::Internal)?;
        let inner = self
            .key
            .open_within(nonce, Aad::from(header), memory, ciphertext_start..)
            .map_err(|_| Fault::BadRecordMac)?;
        if inner.len() > CONTENT_BYTES_MAX + 1 {
            return Err(Fault::RecordOverflow);
        }
        // RFC 8446 §5.4: the type is the last byte that is not zero.
        let type_index = inner.iter().rposition(|&byte| byte != 0);
        let type_index = type_index.ok_or(Fault::UnexpectedMessage)?;
        Ok((inner[type_index], type_index))
    }

    /// Seals the content that lies in `record`, with room for a header before it and for the rest
    /// of [`OVERHEAD_BYTES`] behind it. `None` if no record can be sealed with this key any more.
    pub(super) fn seal(&mut self, record: &mut [u8], content_type: u8) -> Option<()> {
        let (header, body) = record.split_first_chunk_mut::<RECORD_HEADER_BYTES>()?;
        let ciphertext_bytes = u16::try_from(body.len()).ok()?;
        let [high, low] = ciphertext_bytes.to_be_bytes();
        *header = [APPLICATION_DATA, 3, 3, high, low];
        let (inner, tag) = body.split_at_mut(body.len().checked_sub(TAG_BYTES)?);
        *inner.last_mut()? = content_type;
        let nonce = self.next_nonce()?;
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(*header), inner).ok()?;
        tag.copy_from_slice(sealed.as_ref());
        Some(())
    }

    /// RFC 8446 §5.3. The number must not wrap: `None` rather than a nonce for the second time.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let number = self.sequence;
        self.sequence = number.checked_add(1)?;
        let mut nonce = self.iv;
        for (byte, number_byte) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number_byte;
        }
        Some(Nonce::assume_unique_for_key(nonce))
    }
}
