//! The certificates of the tests: an authority of their own, and what it vouches for.

use std::path::PathBuf;
use std::sync::OnceLock;

use longwire::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// An authority, and the server it vouches for.
#[derive(Debug)]
pub(crate) struct Authority {
    /// The authority's certificate.
    pub(crate) file: PathBuf,
    certificate: String,
    key: String,
}

impl Authority {
    /// The one of this process, which vouches for `server.test` alone.
    pub(crate) fn of_tests() -> &'static Self {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        AUTHORITY.get_or_init(Self::new)
    }

    /// TLS of the server.
    pub(crate) fn tls(&self) -> Tls {
        Tls::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).unwrap()
    }

    /// The flags with which its server is believed, though it is reached by address.
    pub(crate) fn flags(&self) -> String {
        format!("--ca {} --tls-name server.test", self.file.display())
    }

    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let own_key = KeyPair::generate().unwrap();
        let own = params.self_signed(&own_key).unwrap();
        let issuer = Issuer::new(params, own_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["server.test".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let name = format!("loadgen-test-ca-{}.pem", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, own.pem()).unwrap();
        Self { file, certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
