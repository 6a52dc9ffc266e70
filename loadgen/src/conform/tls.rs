//! TLS of the runner: whom it trusts, and the session it opens for each connection.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// How a server proves who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// By a certificate that this system trusts.
    System,
    /// By one that a certificate in this file has signed, or that is in it.
    File(&'a Path),
    /// Not at all.
    Anybody,
}

/// What is needed to open TLS sessions with a server.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secure {
    /// The error is one line for the user.
    pub(crate) fn new(host: &str, trust: Trust<'_>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("`{host}` is no name that a certificate could have"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        let mut config = match trust {
            Trust::System => builder.with_root_certificates(of_the_system()?),
            Trust::File(path) => builder.with_root_certificates(of_file(path)?),
            Trust::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    pub(crate) fn connection(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)
    }
}

fn of_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system trusts no certificate; use --ca FILE or --insecure".to_owned());
    }
    Ok(roots)
}

fn of_file(path: &Path) -> Result<RootCertStore, String> {
    let fail = |why: String| format!("`{}` cannot be used: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("it holds no certificate in PEM form".to_owned()));
    }
    Ok(roots)
}

/// Takes any certificate, as `--insecure` asks; that its owner holds the key is still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_one_line_with_their_name() {
        for (name, text) in [("empty", ""), ("no-pem", "hello\n"), ("cut", "-----BEGIN CERT")] {
            let path = std::env::temp_dir()
                .join(format!("loadgen-conform-ca-{name}-{}.pem", std::process::id()));
            std::fs::write(&path, text).unwrap();
            let line = Secure::new("localhost", Trust::File(&path)).unwrap_err();
            let _ = std::fs::remove_file(&path);
            assert!(line.contains(name) && !line.contains('\n'), "{line}");
        }
        let line = Secure::new("localhost", Trust::File(Path::new("/no/such/file"))).unwrap_err();
        assert!(line.contains("`/no/such/file` cannot be used"), "{line}");
    }

    #[test]
    fn names_and_addresses_can_be_asked_for_and_nonsense_cannot() {
        for host in ["localhost", "127.0.0.1", "::1", "a.example"] {
            assert!(Secure::new(host, Trust::Anybody).is_ok(), "{host}");
        }
        assert!(Secure::new("a b", Trust::Anybody).unwrap_err().contains("`a b` is no name"));
    }
}
