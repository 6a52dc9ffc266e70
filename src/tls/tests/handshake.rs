//! What client and server agree on: version, protocol, resumption.

use std::io::Write;
use std::sync::Arc;

use rustls::{
    AlertDescription, CipherSuite, ClientConfig, Error, HandshakeKind, ProtocolVersion, version,
};

use super::rig::{Pair, Rig, certificate_in};
use crate::tls::certificates::{read_chain, read_key};
use crate::tls::{ClientTls, TlsError, provider};

const NAME: &str = "example.org";

/// A client that believes everybody and speaks TLS 1.2 alone.
fn old_client() -> Arc<ClientConfig> {
    let verifier = Arc::clone(&ClientTls::insecure().verifier);
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn version_1_3_and_the_lightest_suite_are_agreed_on() {
    let rig = Rig::new();
    let server = rig.tls(&[NAME]).server_config();
    let pair = Pair::connect(server, rig.client().client_config(), NAME).unwrap();
    assert_eq!(pair.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let suite = pair.server.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(pair.server.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn version_1_2_is_spoken_and_resumes_by_its_ticket() {
    let rig = Rig::new();
    let server = rig.tls(&[NAME]).server_config();
    let client = old_client();
    let first = Pair::connect(Arc::clone(&server), Arc::clone(&client), NAME).unwrap();
    assert_eq!(first.server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
    let second = Pair::connect(server, client, NAME).unwrap();
    assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn tl10_a_client_that_speaks_only_other_protocols_gets_the_alert() {
    let rig = Rig::new();
    let server = rig.tls(&[NAME]).server_config();
    for (offered, agreed) in [
        (&[&b"h2"[..]][..], None),
        (&[b"h2", b"http/1.0"], None),
        (&[b"h2", b"http/1.1"], Some(Some(&b"http/1.1"[..]))),
        (&[b"http/1.1"], Some(Some(b"http/1.1"))),
        (&[], Some(None)),
    ] {
        let client = rig.changed_client(|config| {
            config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        });
        match (Pair::connect(Arc::clone(&server), client, NAME), agreed) {
            (Ok(pair), Some(agreed)) => assert_eq!(pair.server.alpn_protocol(), agreed),
            (Err(failed), None) => {
                assert_eq!(failed.server, Some(Error::NoApplicationProtocol));
                let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
                assert_eq!(failed.client, Some(alert));
            }
            (result, _) => panic!("{offered:?}: {:?}", result.err()),
        }
    }
}

#[test]
fn tickets_are_sent_as_many_as_asked_for_and_resume() {
    let rig = Rig::new();
    for (asked, sent) in [(0, 0), (1, 1), (3, 3), (100, 8)] {
        let server = rig.tls(&[NAME]).session_tickets(asked).server_config();
        let client = rig.client().client_config();
        let mut first = Pair::connect(Arc::clone(&server), Arc::clone(&client), NAME).unwrap();
        assert_eq!(first.client.tls13_tickets_received(), sent);
        first.finish().unwrap();
        let second = Pair::connect(server, client, NAME).unwrap();
        let expected = if sent == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(second.server.handshake_kind(), Some(expected), "{asked} tickets");
    }
    let default = rig.tls(&[NAME]).server_config();
    let pair = Pair::connect(default, rig.client().client_config(), NAME).unwrap();
    assert_eq!(pair.client.tls13_tickets_received(), 1);
}

#[test]
fn a_server_without_tickets_keeps_no_session_of_version_1_2_either() {
    let rig = Rig::new();
    let server = rig.tls(&[NAME]).session_tickets(0).server_config();
    let client = old_client();
    for _ in 0..2 {
        let pair = Pair::connect(Arc::clone(&server), Arc::clone(&client), NAME).unwrap();
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// Makes no tickets.
#[derive(Debug)]
struct Never;

impl rustls::server::ProducesTickets for Never {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn tl06_early_data_is_refused() {
    let rig = Rig::new();
    let client = rig.changed_client(|config| config.enable_early_data = true);

    // A server that would take it, so that the client is known to try. It keeps its sessions, as
    // the library takes no early data with tickets.
    let tls = rig.tls(&[NAME]);
    let mut lenient = rustls::ServerConfig::clone(&tls.server_config());
    lenient.max_early_data_size = 1000;
    lenient.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    lenient.ticketer = Arc::new(Never);
    let lenient = Arc::new(lenient);
    assert_eq!(tls.server_config().max_early_data_size, 0);
    Pair::connect(Arc::clone(&lenient), Arc::clone(&client), NAME).unwrap();
    for (server, accepted) in [(lenient, true), (tls.server_config(), false)] {
        let mut pair = Pair::begin(server, Arc::clone(&client), NAME);
        pair.client.early_data().unwrap().write_all(b"GET /pay HTTP/1.1\r\n").unwrap();
        pair.finish().unwrap();
        assert_eq!(pair.client.is_early_data_accepted(), accepted);
        assert_eq!(pair.server.early_data().is_some(), accepted);
    }

    // With a ticket of this server there is nothing to try.
    let mut pair = Pair::begin(tls.server_config(), client, NAME);
    assert!(pair.client.early_data().is_none());
    pair.finish().unwrap();
}

#[test]
fn an_insecure_client_believes_a_server_nobody_vouches_for_and_others_do_not() {
    let rig = Rig::new();
    let stranger = Rig::new();
    let server = stranger.tls(&[NAME]).server_config();
    let insecure = ClientTls::insecure().client_config();
    Pair::connect(Arc::clone(&server), insecure, "another.example").unwrap();
    let careful = rig.client().client_config();
    let failed = Pair::connect(server, careful, NAME).unwrap_err();
    assert!(matches!(failed.client, Some(Error::InvalidCertificate(_))), "{failed:?}");
}

#[test]
fn the_authorities_of_the_machine_do_not_vouch_for_one_made_a_moment_ago() {
    let rig = Rig::new();
    let server = rig.tls(&[NAME]).server_config();
    match ClientTls::with_system_roots() {
        Ok(client) => {
            let failed = Pair::connect(server, client.client_config(), NAME).unwrap_err();
            assert!(matches!(failed.client, Some(Error::InvalidCertificate(_))), "{failed:?}");
        }
        // A machine without any says so in one line.
        Err(error) => {
            assert!(matches!(error, TlsError::NoSystemRoots { .. }), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

#[test]
fn an_insecure_client_still_wants_a_signature_of_the_key_it_is_shown() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let (_, other_key) = rig.authority.issue(&[NAME]);
    let mut forged = rustls::ServerConfig::clone(&tls.server_config());
    let chain =
        read_chain(certificate_in(&rig.folder.path("server.pem")).as_bytes(), "certificate");
    let key = read_key(other_key.as_bytes(), "key").unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(chain.unwrap(), key);
    forged.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    let insecure = ClientTls::insecure().client_config();
    Pair::connect(Arc::new(forged), insecure, NAME).unwrap_err();
}
