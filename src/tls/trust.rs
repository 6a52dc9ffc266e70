//! Whose certificates are believed: authorities read from a file, and what a server asks of its
//! clients.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::certificates::{ReadFile, read_chain, read_file};
use super::error::TlsError;
use super::provider;

/// What a server does with clients that show no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are served. One that shows a certificate of another authority is still refused.
    Optional,
    /// Their handshake fails.
    Required,
}

/// The authorities that vouch for clients.
#[derive(Clone)]
pub(super) struct Authority {
    pub(super) file: ReadFile,
    mode: ClientAuth,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    pub(super) fn from_file(path: &Path, mode: ClientAuth) -> Result<Self, TlsError> {
        let (roots, file) = read_roots(path)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = match mode {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let verifier = builder
            .build()
            .map_err(|_| TlsError::UnusableAuthority { place: path.display().to_string() })?;
        Ok(Self { file, mode, verifier })
    }

    pub(super) fn read_again(&self) -> Result<Self, TlsError> {
        Self::from_file(&self.file.path, self.mode)
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut this = f.debug_struct("Authority");
        this.field("file", &self.file).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// The authorities in a PEM file, at least one.
pub(super) fn read_roots(path: &Path) -> Result<(RootCertStore, ReadFile), TlsError> {
    let (text, file, _) = read_file(path)?;
    let place = path.display().to_string();
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(&text, &place)? {
        if roots.add(certificate).is_err() {
            return Err(TlsError::UnusableAuthority { place });
        }
    }
    Ok((roots, file))
}
