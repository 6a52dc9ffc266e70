//! What is said of files that are no good: one line that names the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::rig::Rig;
use crate::tls::{ClientAuth, ClientTls, Tls, TlsError, TlsWarning};

/// The error of a pair of files, which has to be one line and name `file`.
fn error_of(certificate: &Path, key: &Path, file: &Path) -> TlsError {
    let error = Tls::from_files(certificate, key).unwrap_err();
    assert_one_line(&error, file);
    error
}

fn assert_one_line(error: &TlsError, file: &Path) {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    assert!(text.contains(file.to_str().unwrap()), "{text}");
}

#[test]
fn a_bad_file_is_named_in_one_line() {
    let rig = Rig::new();
    let (certificate, key) = rig.issue("good", &["example.org"]);
    let (other, other_key) = rig.issue("other", &["example.org"]);
    let pem = fs::read_to_string(&certificate).unwrap();

    let missing = rig.folder.path("missing.pem");
    let error = error_of(&missing, &key, &missing);
    assert!(matches!(error, TlsError::Unreadable { .. }), "{error}");
    let error = error_of(&certificate, &missing, &missing);
    assert!(matches!(error, TlsError::Unreadable { .. }), "{error}");

    let folder = rig.folder.path("");
    let error = error_of(&folder, &key, &folder);
    assert!(matches!(error, TlsError::Unreadable { .. }), "{error}");

    let empty = rig.folder.write("empty.pem", "\n");
    assert!(matches!(error_of(&empty, &key, &empty), TlsError::Empty { .. }));
    assert!(matches!(error_of(&certificate, &empty, &empty), TlsError::Empty { .. }));

    let cut = rig.folder.write("cut.pem", &pem[..pem.len() / 2]);
    assert!(matches!(error_of(&cut, &key, &cut), TlsError::MalformedPem { .. }));
    assert!(matches!(error_of(&certificate, &cut, &cut), TlsError::MalformedPem { .. }));

    let prose = rig.folder.write("prose.pem", "this is no certificate");
    let error = error_of(&prose, &key, &prose);
    assert!(matches!(error, TlsError::NoCertificate { holds_key: false, .. }), "{error}");
    let error = error_of(&certificate, &prose, &prose);
    assert!(matches!(error, TlsError::NoKey { holds_certificate: false, .. }), "{error}");

    let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let noise = rig.folder.write("noise.pem", noise);
    assert!(matches!(error_of(&noise, &key, &noise), TlsError::MalformedCertificate { .. }));
    let noise = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let noise = rig.folder.write("noise.key", noise);
    assert!(matches!(error_of(&certificate, &noise, &noise), TlsError::UnusableKey { .. }));

    let endless = Path::new("/dev/zero");
    assert!(matches!(error_of(endless, &key, endless), TlsError::TooLarge { .. }));

    let error = error_of(&certificate, &other_key, &other_key);
    assert!(matches!(error, TlsError::KeyMismatch { .. }), "{error}");
    assert_one_line(&error, &certificate);
    assert!(Tls::from_files(&other, &other_key).is_ok());
}

#[test]
fn swapped_files_and_encrypted_keys_are_told_apart() {
    let rig = Rig::new();
    let (certificate, key) = rig.issue("good", &["example.org"]);
    let error = error_of(&key, &certificate, &key);
    assert!(matches!(error, TlsError::NoCertificate { holds_key: true, .. }), "{error}");
    let error = error_of(&certificate, &certificate, &certificate);
    assert!(matches!(error, TlsError::NoKey { holds_certificate: true, .. }), "{error}");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                 DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    for text in [encrypted, older] {
        let file = rig.folder.write("encrypted.key", text);
        assert!(matches!(error_of(&certificate, &file, &file), TlsError::EncryptedKey { .. }));
    }
}

#[test]
fn one_file_may_hold_certificate_and_key() {
    let rig = Rig::new();
    let (certificate, key) = rig.authority.issue(&["example.org"]);
    let both = rig.folder.write("both.pem", &format!("{certificate}{key}"));
    assert!(Tls::from_files(&both, &both).is_ok());
}

#[test]
fn what_is_given_in_memory_is_named_so() {
    let rig = Rig::new();
    let (certificate, key) = rig.authority.issue(&["example.org"]);
    assert!(Tls::from_pem(certificate.as_bytes(), key.as_bytes()).is_ok());
    let error = Tls::from_pem(certificate.as_bytes(), b"").unwrap_err();
    assert_eq!(error.to_string(), "the key given in memory is empty; write it again");
}

#[test]
fn files_of_authorities_are_checked_alike() {
    let rig = Rig::new();
    let missing = rig.folder.path("missing.pem");
    let prose = rig.folder.write("prose.pem", "none here");
    for file in [&missing, &prose] {
        let error = rig.tls(&["a.example"]).client_auth(file, ClientAuth::Required).unwrap_err();
        assert_one_line(&error, file);
        assert_one_line(&ClientTls::with_ca_file(file).unwrap_err(), file);
    }
    let (_, key) = rig.issue("good", &["example.org"]);
    let error = ClientTls::with_ca_file(&key).unwrap_err();
    assert!(matches!(error, TlsError::NoCertificate { holds_key: true, .. }), "{error}");
}

#[test]
fn certificates_outside_their_time_are_used_and_warned_of() {
    let rig = Rig::new();
    let expired = rig.authority.issue_with(&["example.org"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2002, 3, 4);
    });
    let early = rig.authority.issue_with(&["example.org"], |params| {
        params.not_before = rcgen::date_time_ymd(2401, 2, 3);
        params.not_after = rcgen::date_time_ymd(2402, 3, 4);
    });
    for ((certificate, key), expected) in [
        (expired, "the certificate in FILE expired on 2002-03-04; renew it"),
        (
            early,
            "the certificate in FILE is valid from 2401-02-03 on; check the clock of this machine",
        ),
    ] {
        let (certificate, key) = rig.write_pair("odd", &certificate, &key);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let tls = Tls::from_files(&certificate, &key).unwrap();
        let warnings: Vec<_> = tls.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [expected.replace("FILE", certificate.to_str().unwrap())]);
    }
}

#[test]
fn a_key_everybody_may_read_is_warned_of() {
    let rig = Rig::new();
    let (certificate, key) = rig.issue("good", &["example.org"]);
    let place = key.display().to_string();
    for (mode, warnings) in
        [(0o644, &[TlsWarning::KeyReadableByAll { place }][..]), (0o640, &[]), (0o400, &[])]
    {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Tls::from_files(&certificate, &key).unwrap().warnings(), warnings);
    }
}

#[test]
fn a_name_no_certificate_can_have_is_refused() {
    for name in ["", " ", "exämple.org"] {
        let error = crate::tls::development::self_signed(&[name.to_owned()]).unwrap_err();
        assert!(matches!(error, TlsError::UnusableName { .. }), "{name}: {error}");
    }
}
