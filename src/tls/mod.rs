//! TLS as it is configured: certificates and who is shown which, client certificates, protocol
//! versions, session tickets, and how all of it is exchanged while the server runs.
//!
//! Nothing here sees a byte of a connection. A worker asks a [`Follower`] for the newest
//! configuration when a connection begins, and that connection keeps what it got until it ends.
//!
//! INVARIANT: the configuration in use was whole when it was made. A reload replaces all of it
//! or none of it.

mod certificates;
mod client;
#[cfg(any(test, feature = "cli"))]
mod development;
mod error;
mod reload;
mod resolver;
mod trust;
mod validity;

#[cfg(test)]
mod tests;

pub use client::ClientTls;
#[cfg(feature = "cli")]
pub use development::self_signed;
pub use error::{TlsError, TlsWarning};
pub use reload::{Reloaded, TlsWatcher};
pub use trust::ClientAuth;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig, WebPkiClientVerifier};
use rustls::{CipherSuite, version};

use certificates::{Certificate, ReadFile};
use resolver::BySni;
use trust::Authority;

/// The only protocol spoken here: a WebSocket begins as a request of HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// A browser opens one connection and comes back later, so one ticket is enough; each more costs
/// a sealing and about 250 bytes on every new connection.
const TICKETS_DEFAULT: usize = 1;

/// A client that wants to come back over more connections than this at once does full handshakes.
const TICKETS_MAX: usize = 8;

/// TLS of a server: one certificate or several, chosen by the name a client asks for.
///
/// TLS 1.3 and 1.2 are spoken, with the suites of rustls; nothing weaker can be turned on. ALPN
/// offers `http/1.1` alone. Early data is refused, because whoever records it can send it again.
/// Sessions resume by tickets, whose keys stay in this process and change every six hours.
///
/// A clone is another handle to the same configuration: [`reload`](Self::reload) on one is seen
/// by all. A setter makes a configuration of its own.
///
/// ```no_run
/// use longwire::{ClientAuth, Tls};
///
/// let tls = Tls::from_files("example.org.pem", "example.org.key")?
///     .add_certificate_files("example.net.pem", "example.net.key")?
///     .client_auth("clients.pem", ClientAuth::Optional)?;
/// for warning in tls.warnings() {
///     eprintln!("{warning}");
/// }
/// # Ok::<(), longwire::TlsError>(())
/// ```
#[derive(Clone)]
#[must_use = "a server speaks TLS only if it is given this"]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    current: Mutex<Current>,
    /// INVARIANT: counts the configurations `current` has held; written under its lock, so that
    /// whoever reads a new number there also reads the configuration that goes with it.
    generation: AtomicU64,
    /// Held for the whole of a reload: two at once could bring back the older files.
    reloading: Mutex<()>,
}

#[derive(Clone)]
struct Current {
    parts: Parts,
    config: Arc<ServerConfig>,
}

/// What a configuration is made of.
#[derive(Clone)]
struct Parts {
    /// INVARIANT: never empty; the first is the default.
    certificates: Vec<Arc<Certificate>>,
    authority: Option<Authority>,
    ticketer: Arc<dyn ProducesTickets>,
    tickets: usize,
}

impl Tls {
    /// Shows the certificate of one PEM file, with the key of another. The first file holds the
    /// server's own certificate, then those that lead from it to the authority. One file may hold
    /// both and be named twice.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, holds something else, or the key is not the certificate's. A
    /// certificate that has expired is no error: see [`warnings`](Self::warnings).
    pub fn from_files(
        cert_chain_pem: impl AsRef<Path>,
        key_pem: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        Self::with_certificate(Certificate::from_files(cert_chain_pem.as_ref(), key_pem.as_ref())?)
    }

    /// Shows a certificate that is in memory, in PEM as [`from_files`](Self::from_files) reads it.
    /// A reload leaves it as it is.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files).
    pub fn from_pem(cert_chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        Self::with_certificate(Certificate::from_pem(cert_chain_pem, key_pem)?)
    }

    /// Adds a certificate for other names. A client that asks for a DNS name of it is shown it;
    /// `*.example.org` stands for one label. The first certificate of all is shown to clients that
    /// ask for no name or an unknown one. Where several have a name, the first whose key the client
    /// can check is shown, so that an ECDSA certificate may stand before an RSA one.
    ///
    /// Default: none added. Each costs its own size in memory, once.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files).
    pub fn add_certificate_files(
        self,
        cert_chain_pem: impl AsRef<Path>,
        key_pem: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let mut parts = self.parts();
        let certificate = Certificate::from_files(cert_chain_pem.as_ref(), key_pem.as_ref())?;
        parts.certificates.push(Arc::new(certificate));
        Ok(Self::with_parts(parts))
    }

    /// Asks clients for a certificate of the authorities in a PEM file. Whether one is asked for
    /// cannot depend on the name of the server.
    ///
    /// Default: none is asked for. Costs a chain of certificates per connection that shows one, at
    /// most 64 KiB, which the library bounds.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or holds no certificate of an authority.
    pub fn client_auth(
        self,
        ca_file: impl AsRef<Path>,
        mode: ClientAuth,
    ) -> Result<Self, TlsError> {
        let mut parts = self.parts();
        parts.authority = Some(Authority::from_file(ca_file.as_ref(), mode)?);
        parts.ticketer = new_ticketer()?;
        Ok(Self::with_parts(parts))
    }

    /// Tickets a client gets in a handshake of TLS 1.3, each good for one quicker handshake later.
    ///
    /// Default 1. From 0 to 8; more than 8 are taken as 8. With 0 no session resumes, in TLS 1.2
    /// neither. Costs nothing here: the client keeps them.
    pub fn session_tickets(self, count: usize) -> Self {
        let mut parts = self.parts();
        parts.tickets = count.min(TICKETS_MAX);
        Self::with_parts(parts)
    }

    /// What is odd about the certificates in use but does not keep the server from starting, as
    /// the clock of this machine may be the one that is wrong.
    pub fn warnings(&self) -> Vec<TlsWarning> {
        self.current().parts.warnings()
    }

    /// The configuration for new handshakes, to keep as long as one wishes.
    #[cfg(test)]
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current().config)
    }

    /// A worker's own view, which costs one atomic load per handshake.
    pub(crate) fn follower(&self) -> Follower {
        let (generation, config) = self.newest();
        Follower { tls: self.clone(), generation, config }
    }

    fn with_certificate(certificate: Certificate) -> Result<Self, TlsError> {
        Ok(Self::with_parts(Parts {
            certificates: vec![Arc::new(certificate)],
            authority: None,
            ticketer: new_ticketer()?,
            tickets: TICKETS_DEFAULT,
        }))
    }

    fn with_parts(parts: Parts) -> Self {
        let config = Arc::new(parts.server_config());
        let shared = Shared {
            current: Mutex::new(Current { parts, config }),
            generation: AtomicU64::new(1),
            reloading: Mutex::new(()),
        };
        Self { shared: Arc::new(shared) }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        lock(&self.shared.current)
    }

    fn parts(&self) -> Parts {
        self.current().parts.clone()
    }

    fn newest(&self) -> (u64, Arc<ServerConfig>) {
        let current = self.current();
        (self.shared.generation.load(Ordering::Acquire), Arc::clone(&current.config))
    }

    fn replace(&self, parts: Parts) -> u64 {
        let config = Arc::new(parts.server_config());
        let mut current = self.current();
        *current = Current { parts, config };
        self.shared.generation.fetch_add(1, Ordering::Release) + 1
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("Tls")
            .field("certificates", &current.parts.certificates)
            .field("authority", &current.parts.authority)
            .field("tickets", &current.parts.tickets)
            .field("generation", &self.shared.generation)
            .finish_non_exhaustive()
    }
}

impl Parts {
    /// All of it once more, as it is on disk now.
    fn read_again(&self) -> Result<Self, TlsError> {
        let certificates =
            self.certificates.iter().map(Certificate::read_again).collect::<Result<_, _>>()?;
        let authority = self.authority.as_ref().map(Authority::read_again).transpose()?;
        // A ticket vouches for the client certificate it was given for. The authorities may have
        // changed, so tickets of the old ones must not be taken; without them the keys stay, and
        // a reload does not cause a wave of full handshakes.
        let ticketer = match authority {
            Some(_) => new_ticketer()?,
            None => Arc::clone(&self.ticketer),
        };
        Ok(Self { certificates, authority, ticketer, tickets: self.tickets })
    }

    fn server_config(&self) -> ServerConfig {
        let verifier = match &self.authority {
            Some(authority) => authority.verifier(),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring has suites for both versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(BySni::new(&self.certificates)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        // After the handshake records are opened and sealed by connections themselves.
        config.enable_secret_extraction = true;
        // Sessions kept here would be memory that strangers fill and a lock that all cores share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = self.tickets;
        if self.tickets > 0 {
            config.ticketer = Arc::clone(&self.ticketer);
        }
        config
    }

    fn warnings(&self) -> Vec<TlsWarning> {
        let mut warnings = Vec::new();
        for (index, certificate) in self.certificates.iter().enumerate() {
            warnings.extend(certificate.warnings());
            if index > 0 && certificate.names.is_empty() {
                warnings.push(TlsWarning::ChosenByNoName { place: certificate.place() });
            }
        }
        warnings
    }

    /// All that is read again by a reload.
    fn files(&self) -> impl Iterator<Item = &ReadFile> {
        let certificates = self.certificates.iter().flat_map(|certificate| &certificate.files);
        certificates.chain(self.authority.iter().map(|authority| &authority.file))
    }
}

/// A worker's view of a [`Tls`]: the newest configuration, without a lock until it changes.
#[derive(Debug)]
pub(crate) struct Follower {
    tls: Tls,
    generation: u64,
    config: Arc<ServerConfig>,
}

impl Follower {
    /// What the next handshake uses. Connections that have begun keep what they were given.
    pub(crate) fn newest(&mut self) -> &Arc<ServerConfig> {
        if self.tls.shared.generation.load(Ordering::Acquire) != self.generation {
            (self.generation, self.config) = self.tls.newest();
        }
        &self.config
    }
}

/// The suites and groups of ring, AES-128 first: it needs the fewest rounds, and its keys the
/// least memory. A server follows the client's order, so this is what our own clients ask for.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let first = matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        );
        !first
    });
    Arc::new(provider)
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ticketer::new().map_err(|_| TlsError::NoRandomness)
}

/// A thread that panicked with one of these locks held had not begun to change what it guards.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
