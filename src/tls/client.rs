//! TLS of the client role: whom it believes, and what it shows of itself.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version};

use super::certificates::Certificate;
use super::error::TlsError;
use super::trust::read_roots;
use super::{ALPN, provider};

/// Servers whose tickets are remembered; each costs a few tickets of about 1 KiB.
const SERVERS_REMEMBERED: usize = 256;

/// TLS of a client: TLS 1.3 or 1.2, ALPN `http/1.1`, sessions resumed. A clone shares the memory
/// of sessions.
#[derive(Clone)]
#[must_use = "a client speaks TLS only if it is given this"]
pub struct ClientTls {
    pub(super) verifier: Arc<dyn ServerCertVerifier>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Believes the authorities this machine believes, from where its TLS library keeps them;
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise. Read once, now.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn with_system_roots() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Lists of systems hold certificates of the last century that no verifier takes.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let reason = match found.errors.first() {
                Some(error) => error.to_string().replace('\n', " "),
                None => "none is installed".to_owned(),
            };
            return Err(TlsError::NoSystemRoots { reason });
        }
        Self::with_roots(roots).ok_or_else(|| TlsError::NoSystemRoots { reason: "none".to_owned() })
    }

    /// Believes the authorities in a PEM file, and no others.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or holds no certificate of an authority.
    pub fn with_ca_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        let (roots, _) = read_roots(path)?;
        let place = || path.display().to_string();
        Self::with_roots(roots).ok_or_else(|| TlsError::UnusableAuthority { place: place() })
    }

    /// Believes every server, whoever it is: for tests and load generation alone. Whoever sits
    /// between the two reads and changes all. The server still has to prove that it has the key of
    /// the certificate it shows.
    pub fn insecure() -> Self {
        Self::with_verifier(Arc::new(AnyServer { provider: provider() }))
    }

    /// Shows a certificate to servers that ask for one, read as
    /// [`Tls::from_files`](crate::Tls::from_files) does. Default: none.
    ///
    /// # Errors
    ///
    /// As [`Tls::from_files`](crate::Tls::from_files).
    pub fn certificate_files(
        self,
        cert_chain_pem: impl AsRef<Path>,
        key_pem: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let certificate = Certificate::from_files(cert_chain_pem.as_ref(), key_pem.as_ref())?;
        // A session of before was opened under another name, so the memory of them begins anew.
        let config = client_config(&self.verifier, Some(&certificate.key));
        Ok(Self { verifier: self.verifier, config: Arc::new(config) })
    }

    /// What every connection of this client uses.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    fn with_roots(roots: RootCertStore) -> Option<Self> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        Some(Self::with_verifier(builder.build().ok()?))
    }

    fn with_verifier(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let config = Arc::new(client_config(&verifier, None));
        Self { verifier, config }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

fn client_config(
    verifier: &Arc<dyn ServerCertVerifier>,
    certificate: Option<&Arc<CertifiedKey>>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("ring has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier));
    let mut config = match certificate {
        Some(key) => {
            let shown = SingleCertAndKey::from(CertifiedKey::clone(key));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    // As in `server_config`.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::in_memory_sessions(SERVERS_REMEMBERED);
    config
}

/// Takes any certificate, but no signature that was not made with its key.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
