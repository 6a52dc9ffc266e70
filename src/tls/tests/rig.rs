//! An authority, a folder with what it issued, and two ends that shake hands in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::tls::development::pem;
use crate::tls::{ClientTls, Tls};

/// A folder of its own, gone with the value.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("longwire-tls-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Issues certificates.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of tests");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: pem("CERTIFICATE", certificate.der()), issuer: Issuer::new(params, key) }
    }

    /// Certificate and key.
    pub(super) fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_with(names, |_| ())
    }

    pub(super) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }
}

/// An authority and a folder that holds what it issued: `NAME.pem`, `NAME.key`, and its own
/// certificate in `ca.pem`.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) folder: Folder,
    pub(super) authority: Authority,
}

impl Rig {
    pub(super) fn new() -> Self {
        let rig = Self { folder: Folder::new(), authority: Authority::new() };
        rig.folder.write("ca.pem", &rig.authority.pem);
        rig
    }

    pub(super) fn issue(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.authority.issue(names);
        self.write_pair(file, &certificate, &key)
    }

    pub(super) fn write_pair(
        &self,
        file: &str,
        certificate: &str,
        key: &str,
    ) -> (PathBuf, PathBuf) {
        (
            self.folder.write(&format!("{file}.pem"), certificate),
            self.folder.write(&format!("{file}.key"), key),
        )
    }

    pub(super) fn tls(&self, names: &[&str]) -> Tls {
        let (certificate, key) = self.issue("server", names);
        Tls::from_files(certificate, key).unwrap()
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.path("ca.pem")
    }

    pub(super) fn client(&self) -> ClientTls {
        ClientTls::with_ca_file(self.ca_file()).unwrap()
    }

    /// The client's configuration, changed in ways the public type does not offer.
    pub(super) fn changed_client(
        &self,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.client().client_config());
        change(&mut config);
        Arc::new(config)
    }
}

/// Both ends of a connection whose handshake is over.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
}

/// Why a handshake failed, as each end sees it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) client: Option<rustls::Error>,
    pub(super) server: Option<rustls::Error>,
}

impl Pair {
    pub(super) fn begin(server: Arc<ServerConfig>, client: Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self {
            client: ClientConnection::new(client, name).unwrap(),
            server: ServerConnection::new(server).unwrap(),
        }
    }

    pub(super) fn connect(
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
        name: &str,
    ) -> Result<Self, Box<Failed>> {
        let mut pair = Self::begin(server, client, name);
        pair.finish().map(|()| pair)
    }

    /// Carries bytes both ways until none are left.
    pub(super) fn finish(&mut self) -> Result<(), Box<Failed>> {
        let mut failed = Failed { client: None, server: None };
        while self.client.wants_write() || self.server.wants_write() {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            if failed.server.is_none() {
                failed.server = deliver_to_server(&mut self.server, &wire);
            }
            wire.clear();
            while self.server.wants_write() {
                self.server.write_tls(&mut wire).unwrap();
            }
            if failed.client.is_none() {
                failed.client = deliver_to_client(&mut self.client, &wire);
            }
        }
        if failed.client.is_some() || failed.server.is_some() {
            return Err(Box::new(failed));
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(())
    }

    /// The certificate the client was shown.
    pub(super) fn shown(&self) -> String {
        pem("CERTIFICATE", &self.client.peer_certificates().unwrap()[0])
    }
}

fn deliver_to_server(server: &mut ServerConnection, mut wire: &[u8]) -> Option<rustls::Error> {
    while !wire.is_empty() {
        server.read_tls(&mut wire).unwrap();
        if let Err(error) = server.process_new_packets() {
            return Some(error);
        }
    }
    None
}

fn deliver_to_client(client: &mut ClientConnection, mut wire: &[u8]) -> Option<rustls::Error> {
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        if let Err(error) = client.process_new_packets() {
            return Some(error);
        }
    }
    None
}

/// The first certificate of a file.
pub(super) fn certificate_in(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
