//! Which certificate is shown for which name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::rig::{Pair, Rig, certificate_in};
use crate::tls::development::{pem, self_signed};
use crate::tls::{ClientTls, Tls, TlsWarning};

fn shown(tls: &Tls, client: &Arc<ClientConfig>, name: &str) -> String {
    Pair::connect(tls.server_config(), Arc::clone(client), name).unwrap().shown()
}

#[test]
fn tl10_the_certificate_is_the_one_of_the_name_or_the_first() {
    let rig = Rig::new();
    let files = [
        rig.issue("first", &["example.org", "www.example.org"]),
        rig.issue("wild", &["*.example.org", "*.deep.example.net"]),
        rig.issue("upper", &["Exact.Wild.EXAMPLE", "b.example.org"]),
        rig.issue("second-of-a-name", &["example.org", "only.example"]),
    ];
    let mut tls = Tls::from_files(&files[0].0, &files[0].1).unwrap();
    for (certificate, key) in &files[1..] {
        tls = tls.add_certificate_files(certificate, key).unwrap();
    }
    let client = ClientTls::insecure().client_config();
    for (name, expected) in [
        ("example.org", 0),
        ("EXAMPLE.ORG", 0),
        ("www.example.org", 0),
        ("WWW.Example.org", 0),
        ("a.example.org", 1),
        ("A.EXAMPLE.ORG", 1),
        ("b.example.org", 2),
        ("a.b.example.org", 0),
        ("x.deep.example.net", 1),
        ("deep.example.net", 0),
        ("x.y.deep.example.net", 0),
        ("exact.wild.example", 2),
        ("only.example", 3),
        ("unknown.example", 0),
        ("org", 0),
        // An address is no name: none is sent.
        ("192.0.2.1", 0),
        ("2001:db8::1", 0),
    ] {
        let expected = certificate_in(&files[expected].0);
        assert!(shown(&tls, &client, name) == expected, "{name}");
    }
    let silent = rig.changed_client(|config| config.enable_sni = false);
    assert!(shown(&tls, &silent, "www.example.org") == certificate_in(&files[0].0));
}

#[test]
fn tl10_the_longest_name_there_is_gets_the_first_certificate() {
    let rig = Rig::new();
    let tls = rig.tls(&["example.org"]);
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name.len(), 253);
    let client = ClientTls::insecure().client_config();
    let expected = certificate_in(&rig.folder.path("server.pem"));
    assert!(shown(&tls, &client, &name) == expected);
}

#[test]
fn of_two_certificates_of_a_name_the_one_the_client_can_check_is_shown() {
    let rig = Rig::new();
    let p256 = rig.issue("p256", &["example.org"]);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let ed25519 = rig.write_pair(
        "ed25519",
        &pem("CERTIFICATE", certificate.der()),
        &pem("PRIVATE KEY", &key.serialize_der()),
    );
    let tls = Tls::from_files(&ed25519.0, &ed25519.1).unwrap();
    let tls = tls.add_certificate_files(&p256.0, &p256.1).unwrap();

    let client = ClientTls::insecure();
    assert!(shown(&tls, &client.client_config(), "example.org") == certificate_in(&ed25519.0));
    let careful = rig.changed_client(|config| {
        let verifier = OnlyEcdsa(Arc::clone(&client.verifier));
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
    });
    assert!(shown(&tls, &careful, "example.org") == certificate_in(&p256.0));
}

#[test]
fn a_further_certificate_without_a_dns_name_is_warned_of() {
    let rig = Rig::new();
    let (certificate, key) = rig.issue("nameless", &["192.0.2.1"]);
    let tls = rig.tls(&["example.org"]).add_certificate_files(&certificate, &key).unwrap();
    let place = certificate.display().to_string();
    assert!(tls.warnings().contains(&TlsWarning::ChosenByNoName { place: place.clone() }));
    let first = Tls::from_files(&certificate, &key).unwrap();
    assert!(!first.warnings().contains(&TlsWarning::ChosenByNoName { place }));
}

#[test]
fn a_development_certificate_is_good_for_this_machine_and_for_names_that_are_given() {
    let rig = Rig::new();
    for (given, good) in [
        (&[][..], &["localhost", "127.0.0.1", "::1"][..]),
        (&["dev.example", "192.0.2.7"], &["dev.example", "192.0.2.7"]),
    ] {
        let given: Vec<_> = given.iter().map(|&name: &&str| name.to_owned()).collect();
        let (certificate, key) = self_signed(&given).unwrap();
        let tls = Tls::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(tls.warnings(), []);
        let file = rig.folder.write("self-signed.pem", &certificate);
        let client = ClientTls::with_ca_file(file).unwrap().client_config();
        for name in good {
            assert!(shown(&tls, &client, name) == certificate, "{name}");
        }
        let failed = Pair::connect(tls.server_config(), client, "elsewhere.example").unwrap_err();
        assert!(failed.client.is_some());
    }
}

/// A client that checks signatures of ECDSA alone.
#[derive(Debug)]
struct OnlyEcdsa(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for OnlyEcdsa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
