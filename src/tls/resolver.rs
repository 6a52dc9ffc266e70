//! Which certificate a client is shown: the one for the name it asks for.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::Certificate;

/// Certificates by the names they are for.
#[derive(Debug)]
pub(super) struct BySni {
    default: Arc<CertifiedKey>,
    /// Names in lower case, `*.` in front of those that stand for one more label.
    ///
    /// INVARIANT: no list is empty; each is in the order in which the certificates were given.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl BySni {
    /// The first certificate is the default.
    pub(super) fn new(certificates: &[Arc<Certificate>]) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_default().push(Arc::clone(&certificate.key));
            }
        }
        let first = certificates.first().expect("a configuration has a certificate");
        Self { default: Arc::clone(&first.key), by_name }
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        let Some(candidates) = name.and_then(|name| self.candidates(name)) else {
            return &self.default;
        };
        candidates
            .iter()
            .find(|candidate| candidate.key.choose_scheme(schemes).is_some())
            .unwrap_or(&candidates[0])
    }

    /// RFC 6125 §6.4.3: a wildcard stands for the leftmost label, and for one label only.
    fn candidates(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(exact) = self.by_name.get(&name) {
            return Some(exact);
        }
        let (label, parent) = name.split_once('.')?;
        if label.is_empty() {
            return None;
        }
        self.by_name.get(&format!("*.{parent}"))
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.choose(hello.server_name(), hello.signature_schemes())))
    }
}
