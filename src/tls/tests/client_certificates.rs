//! Clients that show a certificate, and what is asked of those that do not.

use rustls::HandshakeKind;

use super::rig::{Authority, Pair, Rig};
use crate::tls::{ClientAuth, ClientTls, Tls};

const NAME: &str = "example.org";

/// Three clients: with no certificate, with a good one, with one of a stranger.
fn clients(rig: &Rig) -> [ClientTls; 3] {
    let good = rig.issue("good-client", &["client.example"]);
    let (certificate, key) = Authority::new().issue(&["client.example"]);
    let bad = rig.write_pair("bad-client", &certificate, &key);
    [
        rig.client(),
        rig.client().certificate_files(good.0, good.1).unwrap(),
        rig.client().certificate_files(bad.0, bad.1).unwrap(),
    ]
}

/// Whether each client is served, and whether the server then knows a certificate of it.
fn outcomes(tls: &Tls, rig: &Rig) -> [Option<bool>; 3] {
    clients(rig).map(|client| {
        let pair = Pair::connect(tls.server_config(), client.client_config(), NAME).ok()?;
        Some(pair.server.peer_certificates().is_some())
    })
}

#[test]
fn tl11_no_client_certificate_is_asked_for_by_default() {
    let rig = Rig::new();
    assert_eq!(outcomes(&rig.tls(&[NAME]), &rig), [Some(false), Some(false), Some(false)]);
}

#[test]
fn tl11_an_optional_client_certificate_may_be_missing_but_not_wrong() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]).client_auth(rig.ca_file(), ClientAuth::Optional).unwrap();
    assert_eq!(outcomes(&tls, &rig), [Some(false), Some(true), None]);
}

#[test]
fn tl11_a_required_client_certificate_must_be_there_and_right() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]).client_auth(rig.ca_file(), ClientAuth::Required).unwrap();
    assert_eq!(outcomes(&tls, &rig), [None, Some(true), None]);
}

#[test]
fn tl11_a_client_certificate_behind_a_very_long_chain_is_refused() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]).client_auth(rig.ca_file(), ClientAuth::Required).unwrap();
    let (certificate, key) = Authority::new().issue(&["client.example"]);
    let mut chain = certificate;
    for _ in 0..60 {
        chain.push_str(&Authority::new().pem);
    }
    let (chain, key) = rig.write_pair("long-chain", &chain, &key);
    let client = rig.client().certificate_files(chain, key).unwrap();
    let failed = Pair::connect(tls.server_config(), client.client_config(), NAME).unwrap_err();
    assert!(failed.server.is_some());
}

#[test]
fn tl12_a_session_of_a_client_does_not_outlive_its_authority() {
    let rig = Rig::new();
    let clients_file = rig.folder.write("clients.pem", &rig.authority.pem);
    let tls = rig.tls(&[NAME]).client_auth(&clients_file, ClientAuth::Required).unwrap();
    let [_, good, _] = clients(&rig);
    let connect = || Pair::connect(tls.server_config(), good.client_config(), NAME);
    connect().unwrap();
    assert_eq!(connect().unwrap().server.handshake_kind(), Some(HandshakeKind::Resumed));

    rig.folder.write("clients.pem", &Authority::new().pem);
    tls.reload().unwrap();
    assert!(connect().unwrap_err().server.is_some());
}
