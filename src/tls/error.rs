//! What can be wrong with certificates, keys and authorities. Each is one line that names the
//! file and says what to do.

use std::fmt;
use std::io;

use super::validity::Date;

/// Why a TLS configuration could not be made or read again.
///
/// `place` is the path of a file, or says what was given in memory.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The file is missing, or the process may not read it. Correct the path or the permissions.
    Unreadable {
        /// Which.
        place: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Nothing is in it. It may just be being written; else write it again.
    Empty {
        /// Which.
        place: String,
    },
    /// It is too large for what it should be. Name another file.
    TooLarge {
        /// Which.
        place: String,
        /// The most that is read.
        bytes_max: u64,
    },
    /// It holds no certificate in PEM. Name the file that does.
    NoCertificate {
        /// Which.
        place: String,
        /// It holds a key instead, as when the two files are swapped.
        holds_key: bool,
    },
    /// It holds no private key in PEM. Name the file that does.
    NoKey {
        /// Which.
        place: String,
        /// It holds a certificate instead, as when the two files are swapped.
        holds_certificate: bool,
    },
    /// The key needs a pass phrase, which a server without an operator cannot type. Decrypt it.
    EncryptedKey {
        /// Which.
        place: String,
    },
    /// It is not PEM, or was cut while it was written. Write it again.
    MalformedPem {
        /// Which.
        place: String,
    },
    /// The PEM is sound, but what it holds is no X.509 certificate. Ask the authority for another.
    MalformedCertificate {
        /// Which.
        place: String,
    },
    /// The key is damaged or of a kind that cannot be used. Use ECDSA P-256 or P-384, Ed25519, or
    /// RSA of 2048 to 8192 bits.
    UnusableKey {
        /// Which.
        place: String,
    },
    /// The key belongs to another certificate. Name the two files that belong together.
    KeyMismatch {
        /// The certificate.
        certificate: String,
        /// The key.
        key: String,
    },
    /// The certificate is not one an authority can have. Name the file of the authority.
    UnusableAuthority {
        /// Which.
        place: String,
    },
    /// The machine has no list of authorities that could be read. Install the package
    /// `ca-certificates`, or name a file.
    NoSystemRoots {
        /// What reading it came to.
        reason: String,
    },
    /// The kernel gave no random bytes for keys.
    NoRandomness,
    /// A certificate cannot be made for this name. Use DNS names and addresses.
    UnusableName {
        /// The name.
        name: String,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { place, source } => {
                write!(f, "cannot read {place}: {source}{}", unreadable_hint(source))
            }
            Self::Empty { place } => write!(f, "{place} is empty; write it again"),
            Self::TooLarge { place, bytes_max } => {
                write!(f, "{place} is larger than {bytes_max} bytes; name a PEM file")
            }
            Self::NoCertificate { place, holds_key: false } => {
                write!(f, "{place} holds no certificate in PEM; name the file that does")
            }
            Self::NoCertificate { place, holds_key: true } => write!(
                f,
                "{place} holds a key and no certificate; certificate and key may be swapped"
            ),
            Self::NoKey { place, holds_certificate: false } => {
                write!(f, "{place} holds no private key in PEM; name the file that does")
            }
            Self::NoKey { place, holds_certificate: true } => write!(
                f,
                "{place} holds a certificate and no private key; certificate and key may be swapped"
            ),
            Self::EncryptedKey { place } => write!(
                f,
                "the key in {place} needs a pass phrase; decrypt it with `openssl pkey -in` and \
                 protect the file by its permissions"
            ),
            Self::MalformedPem { place } => {
                write!(f, "{place} is damaged or cut off; write it again")
            }
            Self::MalformedCertificate { place } => write!(
                f,
                "{place} holds no valid X.509 certificate of version 3; ask its authority for \
                 another"
            ),
            Self::UnusableKey { place } => write!(
                f,
                "the key in {place} cannot be used; make one of ECDSA P-256 or P-384, Ed25519, or \
                 RSA of at least 2048 bits"
            ),
            Self::KeyMismatch { certificate, key } => write!(
                f,
                "the key in {key} is not the one of the certificate in {certificate}; name the \
                 two that belong together"
            ),
            Self::UnusableAuthority { place } => write!(
                f,
                "a certificate in {place} cannot be that of an authority; name the file of the \
                 authority that issues the certificates"
            ),
            Self::NoSystemRoots { reason } => write!(
                f,
                "this machine has no list of authorities ({reason}); install ca-certificates or \
                 name a file"
            ),
            Self::NoRandomness => f.write_str("the kernel gave no random bytes for keys"),
            Self::UnusableName { name } => {
                write!(f, "no certificate can be made for {name:?}; use DNS names and IP addresses")
            }
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn unreadable_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; correct the path",
        io::ErrorKind::PermissionDenied => "; let the user of the server read it",
        io::ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    }
}

/// What is odd about a certificate, though it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsWarning {
    /// Its last day has passed: clients whose clocks are right refuse it. Renew it.
    Expired {
        /// The file.
        place: String,
        /// The day, as `2031-12-24`.
        date: String,
    },
    /// Its first day has not come: clients whose clocks are right refuse it. Correct the clock.
    NotYetValid {
        /// The file.
        place: String,
        /// The day, as `2031-12-24`.
        date: String,
    },
    /// It has no DNS name and is not the first, so nobody is shown it. Remove it or put it first.
    ChosenByNoName {
        /// The file.
        place: String,
    },
    /// Every user of the machine may read the key. Change its permissions.
    KeyReadableByAll {
        /// The file.
        place: String,
    },
}

impl TlsWarning {
    pub(super) fn expired(place: String, date: Date) -> Self {
        Self::Expired { place, date: date.to_string() }
    }

    pub(super) fn not_yet_valid(place: String, date: Date) -> Self {
        Self::NotYetValid { place, date: date.to_string() }
    }
}

impl fmt::Display for TlsWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { place, date } => {
                write!(f, "the certificate in {place} expired on {date}; renew it")
            }
            Self::NotYetValid { place, date } => write!(
                f,
                "the certificate in {place} is valid from {date} on; check the clock of this machine"
            ),
            Self::ChosenByNoName { place } => write!(
                f,
                "the certificate in {place} has no DNS name and is shown to nobody; remove it or \
                 put it first"
            ),
            Self::KeyReadableByAll { place } => {
                write!(f, "everybody on this machine may read the key in {place}; chmod 600 it")
            }
        }
    }
}
