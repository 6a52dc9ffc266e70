//! Where the attack takes place: the server's addresses, its certificate, and what it waits for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::options::Timeouts;

/// What every attack and the good client know of the server.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) timeouts: Timeouts,
}

/// A certificate for `localhost`, its key, and a client that trusts it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Identity {
    pub(crate) fn new() -> io::Result<Self> {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).map_err(io::Error::other)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            certificate_pem: pem("CERTIFICATE", certified.cert.der()),
            key_pem: pem("PRIVATE KEY", &certified.signing_key.serialize_der()),
            tls: Arc::new(tls),
        })
    }
}

impl Ground {
    /// The first flight of a TLS handshake, whole.
    pub(crate) fn client_hello(&self) -> Vec<u8> {
        let name = "localhost".try_into().expect("it is a DNS name");
        let session = ClientConnection::new(Arc::clone(&self.tls), name);
        let mut hello = Vec::new();
        session
            .expect("the configuration is whole")
            .write_tls(&mut hello)
            .expect("memory takes every byte");
        hello
    }
}

/// RFC 7468, but for the length of lines, which no reader minds.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
