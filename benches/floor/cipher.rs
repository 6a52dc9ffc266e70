//! What AES-128-GCM alone takes: opening a record and sealing one, as an echo over TLS must.

use std::io;
use std::time::{Duration, Instant};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::core;

/// Between two looks at the clock.
const PAIRS_PER_BATCH: u32 = 64;

/// A key and a record.
#[derive(Debug)]
pub(crate) struct Cipher {
    key: LessSafeKey,
    bytes: Vec<u8>,
    plain_bytes: usize,
}

impl Cipher {
    /// For records of so many bytes.
    pub(crate) fn new(plain_bytes: usize) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_128_GCM, &[0x42; 16]).map_err(failed)?;
        let key = LessSafeKey::new(key);
        Ok(Self { key, bytes: vec![0x17; plain_bytes], plain_bytes })
    }

    /// Microseconds that sealing and opening one take on the server's core.
    ///
    /// The fastest batch of `slice` counts: others may have been interrupted, which the CPU time of
    /// the servers leaves out.
    pub(crate) fn measure(&mut self, slice: Duration) -> io::Result<f64> {
        core::pin(core::SERVER)?;
        let deadline = Instant::now() + slice;
        let mut fastest = Duration::MAX;
        while Instant::now() < deadline {
            let begun = Instant::now();
            for _ in 0..PAIRS_PER_BATCH {
                self.seal_and_open()?;
            }
            fastest = fastest.min(begun.elapsed());
        }
        core::pin(core::CLIENT)?;
        Ok(fastest.as_secs_f64() * 1e6 / f64::from(PAIRS_PER_BATCH))
    }

    fn seal_and_open(&mut self) -> io::Result<()> {
        // A nonce must never be used twice for what is secret; nothing here is.
        let nonce = || Nonce::assume_unique_for_key([7; 12]);
        let (key, bytes) = (&self.key, &mut self.bytes);
        key.seal_in_place_append_tag(nonce(), Aad::empty(), bytes).map_err(failed)?;
        key.open_in_place(nonce(), Aad::empty(), bytes).map_err(failed)?;
        bytes.truncate(self.plain_bytes);
        Ok(())
    }
}

fn failed(_: ring::error::Unspecified) -> io::Error {
    io::Error::other("AES-128-GCM does not work here")
}
