//! A certificate that vouches for itself, so that wss can be tried in one command.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};

use super::error::TlsError;

const NAMES_DEFAULT: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Characters of Base64 in a line of PEM (RFC 7468 §2).
const LINE_CHARS: usize = 64;

/// Makes a certificate for development and its ECDSA P-256 key, both in PEM, in this order. `names`
/// are DNS names and addresses; if there are none, `localhost`, `127.0.0.1` and `::1`.
///
/// Nobody vouches for it, so clients have to be told to believe it. Each call makes another.
///
/// # Errors
///
/// If a name is none, or the kernel gives no random bytes.
pub fn self_signed(names: &[String]) -> Result<(String, String), TlsError> {
    let names = match names {
        [] => NAMES_DEFAULT.map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    for name in &names {
        if CertificateParams::new(vec![name.clone()]).is_err() || name.trim().is_empty() {
            return Err(TlsError::UnusableName { name: name.clone() });
        }
    }
    let mut params = CertificateParams::new(names.clone())
        .map_err(|_| TlsError::UnusableName { name: names.join(", ") })?;
    params.distinguished_name.push(DnType::CommonName, "longwire development certificate");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(|_| TlsError::NoRandomness)?;
    let certificate = params.self_signed(&key).map_err(|_| TlsError::NoRandomness)?;
    Ok((pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der())))
}

/// DER as PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for start in (0..base64.len()).step_by(LINE_CHARS) {
        let end = base64.len().min(start + LINE_CHARS);
        text.push_str(&base64[start..end]);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
