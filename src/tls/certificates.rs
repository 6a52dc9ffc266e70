//! A certificate with its key, read from PEM and found to be whole.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::error::{TlsError, TlsWarning};
use super::provider;
use super::reload::Stamp;
use super::validity::{Date, Validity};

/// A list of all public authorities is a quarter of this; a device that never ends is not read.
const PEM_BYTES_MAX: u64 = 1 << 20;

const KEY_IN_MEMORY: &str = "the key given in memory";
const CERTIFICATE_IN_MEMORY: &str = "the certificate given in memory";

/// A certificate that can be shown, and what is said of it.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names in lower case, with a possible `*.` in front.
    pub(super) names: Vec<String>,
    pub(super) validity: Validity,
    /// Certificate and key, in this order; none if it was given in memory.
    pub(super) files: Vec<ReadFile>,
    key_readable_by_all: bool,
}

/// A file as it was when it was read.
#[derive(Clone, Debug)]
pub(super) struct ReadFile {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

impl Certificate {
    pub(super) fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificate_pem, certificate_file, _) = read_file(certificate)?;
        let (key_pem, key_file, key_metadata) = read_file(key)?;
        let certificate_place = certificate.display().to_string();
        let key_place = key.display().to_string();
        let mut this = Self::parse(&certificate_pem, certificate_place, &key_pem, key_place)?;
        this.files = vec![certificate_file, key_file];
        this.key_readable_by_all = key_metadata.mode() & 0o004 != 0;
        Ok(this)
    }

    pub(super) fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::parse(certificate, CERTIFICATE_IN_MEMORY.to_owned(), key, KEY_IN_MEMORY.to_owned())
    }

    /// The same files as they are now. What was given in memory stays as it is.
    pub(super) fn read_again(this: &Arc<Self>) -> Result<Arc<Self>, TlsError> {
        match this.files.as_slice() {
            [certificate, key] => Self::from_files(&certificate.path, &key.path).map(Arc::new),
            _ => Ok(Arc::clone(this)),
        }
    }

    /// Where it comes from, for people.
    pub(super) fn place(&self) -> String {
        match self.files.first() {
            Some(file) => file.path.display().to_string(),
            None => CERTIFICATE_IN_MEMORY.to_owned(),
        }
    }

    /// The wall clock is asked, as certificates name calendar dates; at start and at a reload only.
    pub(super) fn warnings(&self) -> Vec<TlsWarning> {
        let now = Date(i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX));
        let mut warnings = Vec::new();
        if now < self.validity.not_before {
            warnings.push(TlsWarning::not_yet_valid(self.place(), self.validity.not_before));
        }
        if now > self.validity.not_after {
            warnings.push(TlsWarning::expired(self.place(), self.validity.not_after));
        }
        if let [_, key] = self.files.as_slice()
            && self.key_readable_by_all
        {
            let place = key.path.display().to_string();
            warnings.push(TlsWarning::KeyReadableByAll { place });
        }
        warnings
    }

    fn parse(
        certificate_pem: &[u8],
        certificate_place: String,
        key_pem: &[u8],
        key_place: String,
    ) -> Result<Self, TlsError> {
        let chain = read_chain(certificate_pem, &certificate_place)?;
        let key = read_key(key_pem, &key_place)?;
        let place = certificate_place.clone();
        let (names, validity) =
            describe(&chain[0]).ok_or(TlsError::MalformedCertificate { place })?;
        let Ok(key) = provider().key_provider.load_private_key(key) else {
            return Err(TlsError::UnusableKey { place: key_place });
        };
        let key = CertifiedKey::new(chain, key);
        if key.keys_match().is_err() {
            return Err(TlsError::KeyMismatch { certificate: certificate_place, key: key_place });
        }
        let key = Arc::new(key);
        Ok(Self { key, names, validity, files: Vec::new(), key_readable_by_all: false })
    }
}

/// The certificates of a PEM text, at least one.
pub(super) fn read_chain(
    text: &[u8],
    place: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let place = || place.to_owned();
    if text.trim_ascii().is_empty() {
        return Err(TlsError::Empty { place: place() });
    }
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| TlsError::MalformedPem { place: place() })?;
    if chain.is_empty() {
        let holds_key = contains(text, b"PRIVATE KEY-----");
        return Err(TlsError::NoCertificate { place: place(), holds_key });
    }
    Ok(chain)
}

/// The first private key of a PEM text.
pub(super) fn read_key(text: &[u8], place: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let place = || place.to_owned();
    if text.trim_ascii().is_empty() {
        return Err(TlsError::Empty { place: place() });
    }
    // The older form keeps the usual label and says so in a header, which no PEM parser here reads.
    if contains(text, b"ENCRYPTED PRIVATE KEY-----") || contains(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::EncryptedKey { place: place() });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey {
            place: place(),
            holds_certificate: contains(text, b"CERTIFICATE-----"),
        },
        _ => TlsError::MalformedPem { place: place() },
    })
}

/// All of a file, and how it was when reading began: what changes meanwhile differs from that.
pub(super) fn read_file(path: &Path) -> Result<(Vec<u8>, ReadFile, Metadata), TlsError> {
    let place = || path.display().to_string();
    let unreadable = |source| TlsError::Unreadable { place: place(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > PEM_BYTES_MAX {
        return Err(TlsError::TooLarge { place: place(), bytes_max: PEM_BYTES_MAX });
    }
    let read = ReadFile { path: path.to_owned(), stamp: Stamp::of(&metadata) };
    Ok((text, read, metadata))
}

fn describe(certificate: &CertificateDer<'_>) -> Option<(Vec<String>, Validity)> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    Some((names, Validity::of(certificate)?))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
