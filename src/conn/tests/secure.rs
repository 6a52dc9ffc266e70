//! Connections over TLS. What is the same as without it is tested in `pair`, which runs every
//! second of its sessions over TLS.

use std::sync::{Arc, LazyLock};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::conn::{CloseCause, ClosedBy, MessageKind, Tls};
use crate::policy::Limits;

use super::rig::{Rig, echo, listen};

/// Configurations that trust each other, of both sides.
static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let certificate = certified.cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    server.enable_secret_extraction = true;
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
});

pub(super) fn server() -> Tls {
    Tls::server(Arc::clone(&CONFIGS.0))
}

pub(super) fn client() -> Tls {
    client_of("localhost")
}

fn client_of(name: &'static str) -> Tls {
    Tls::client(Arc::clone(&CONFIGS.1), ServerName::try_from(name).unwrap()).unwrap()
}

/// Carries everything both ways, `piece` bytes at a time, until nothing is left.
fn exchange(client: &mut Rig, server: &mut Rig, piece: usize) {
    loop {
        client.act(|_, _| ());
        server.act(|_, _| ());
        let up = std::mem::take(&mut client.output);
        let down = std::mem::take(&mut server.output);
        if up.is_empty() && down.is_empty() {
            return;
        }
        for bytes in up.chunks(piece) {
            if server.closed.is_none() {
                server.receive(bytes);
            }
        }
        for bytes in down.chunks(piece) {
            if client.closed.is_none() {
                client.receive(bytes);
            }
        }
    }
}

/// Lengths of the TLS records in `bytes`, without their headers.
fn record_lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(header) = bytes.get(..5) {
        lengths.push(usize::from(u16::from_be_bytes([header[3], header[4]])));
        bytes = &bytes[5 + lengths.last().unwrap()..];
    }
    lengths
}

fn pair() -> (Rig, Rig) {
    let client = Rig::dialling(listen).over(client());
    let server = Rig::accepted(echo, Limits::default()).over(server());
    (client, server)
}

fn open_pair() -> (Rig, Rig) {
    let (mut client, mut server) = pair();
    exchange(&mut client, &mut server, usize::MAX);
    assert!(client.opened && server.opened);
    (client, server)
}

#[test]
fn tl02_handshake_in_single_bytes_opens_the_connection() {
    let (mut client, mut server) = pair();
    exchange(&mut client, &mut server, 1);
    assert!(client.opened && server.opened);
    client.act(|c, core| c.send(MessageKind::Text, b"hello", core)).unwrap();
    exchange(&mut client, &mut server, 1);
    assert_eq!(client.messages, [(MessageKind::Text, b"hello".to_vec())]);
    client.release();
    server.release();
}

#[test]
fn idle_connection_over_tls_holds_no_buffer() {
    let (mut client, mut server) = open_pair();
    client.act(|c, core| c.send(MessageKind::Binary, &[7; 60_000], core)).unwrap();
    exchange(&mut client, &mut server, 1000);
    assert_eq!(client.messages, [(MessageKind::Binary, vec![7; 60_000])]);
    for rig in [&client, &server] {
        assert_eq!(rig.core.pool.lent_count(), 0);
        assert!(rig.connection.inbox.is_none() && rig.connection.outbox.is_none());
        let tls = rig.connection.tls().unwrap();
        assert_eq!(tls.stashed_bytes(), 0);
        assert_eq!(rig.core.attached_bytes, tls.own_bytes());
        assert!(tls.own_bytes() < 2500, "rustls has handed over, and its memory is free");
    }
    assert_eq!(client.release().1.attached_bytes, 0);
    assert_eq!(server.release().1.attached_bytes, 0);
}

#[test]
fn tl01_plain_http_on_a_tls_port_gets_an_alert_and_nothing_else() {
    let mut server = Rig::accepted(echo, Limits::default()).over(server());
    server.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let alert = &server.output;
    assert_eq!((alert[0], alert.len()), (21, 7), "one alert record: {alert:x?}");
    assert!(server.shut && !server.opened);
    server.receive_end();
    server.release();
}

#[test]
fn tl08_end_of_stream_without_close_notify_is_no_clean_close() {
    let (client, mut server) = open_pair();
    server.receive_end();
    assert_eq!(server.closes[0].code().as_u16(), 1006);
    client.release();
    server.release();
}

#[test]
fn tl08_session_cut_at_any_byte_ends_once() {
    let record = {
        let (mut client, mut server) = open_pair();
        client.act(|c, core| c.send(MessageKind::Text, &[b'x'; 40], core)).unwrap();
        let bytes = std::mem::take(&mut client.output);
        client.release();
        server.receive_end();
        server.release();
        bytes.len()
    };
    for cut in 0..record {
        let (mut client, mut server) = open_pair();
        client.act(|c, core| c.send(MessageKind::Text, &[b'x'; 40], core)).unwrap();
        server.receive(&client.output[..cut]);
        server.receive_end();
        assert!(server.messages.is_empty(), "no part of a record is handed on");
        assert_eq!(server.closes[0].code().as_u16(), 1006);
        client.release();
        server.release();
    }
}

#[test]
fn tl09_close_frame_leaves_before_close_notify_and_that_before_the_fin() {
    let (mut client, mut server) = open_pair();
    client.act(|c, core| c.close(4000.into(), "bye", core));
    server.receive(&std::mem::take(&mut client.output));
    let records = record_lengths(&server.output);
    // A Close frame of seven bytes, then an alert of two; the type of the content and the tag add 17.
    assert_eq!(records, [7 + 17, 2 + 17]);
    assert!(server.shut, "the FIN follows");
    client.receive(&server.output.clone());
    assert_eq!(client.closes[0].code().as_u16(), 4000);
    client.receive_end();
    server.receive_end();
    client.release();
    server.release();
}

#[test]
fn damaged_record_ends_the_connection_with_an_alert() {
    let (mut client, mut server) = open_pair();
    client.act(|c, core| c.send(MessageKind::Text, b"hello", core)).unwrap();
    let mut bytes = std::mem::take(&mut client.output);
    *bytes.last_mut().unwrap() ^= 1;
    server.receive(&bytes);
    assert!(server.messages.is_empty());
    assert_eq!(server.closes[0].code().as_u16(), 1006);
    let (by, cause) = (server.closes[0].by(), server.closes[0].cause());
    assert_eq!((by, cause), (ClosedBy::Network, CloseCause::Tls));
    client.receive(&server.output.clone());
    assert_eq!(client.closes[0].code().as_u16(), 1006);
    server.receive_end();
    client.receive_end();
    client.release();
    server.release();
}

#[test]
fn client_refuses_a_certificate_of_another_name() {
    let mut client = Rig::dialling(listen).over(client_of("example.org"));
    let mut server = Rig::accepted(echo, Limits::default()).over(server());
    exchange(&mut client, &mut server, usize::MAX);
    assert!(!client.opened && !server.opened);
    let error = client.never_opened.as_ref().unwrap().to_string();
    assert!(error.contains("certificate"), "{error}");
    client.receive_end();
    server.receive_end();
    client.release();
    server.release();
}

#[test]
fn tl02_tls_handshake_has_a_deadline_of_its_own() {
    let mut server = Rig::accepted(echo, Limits::default()).over(server());
    server.receive(&[22, 3, 1, 0, 200, 1]);
    server.sleep(5 * 8 + 2);
    assert_eq!(server.closed, Some(false), "5 s, where a whole handshake has 10 s");
    server.release();
}

#[test]
fn tl04_handshake_message_that_is_too_long_fails_at_its_header() {
    let mut server = Rig::accepted(echo, Limits::default()).over(server());
    // A ClientHello that announces 128 KiB.
    server.receive(&[22, 3, 1, 0x40, 0, 1, 2, 0, 0]);
    server.receive(&[0; 17_000]);
    assert!(server.shut && !server.opened, "given up before the message is whole");
    server.receive_end();
    server.release();
}

#[test]
fn large_messages_pass_sealed_in_several_records() {
    let (mut client, mut server) = open_pair();
    for len in [16_383, 16_384, 16_385, 65_000] {
        let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        client.act(|c, core| c.send(MessageKind::Binary, &payload, core)).unwrap();
        exchange(&mut client, &mut server, 16_896);
        assert_eq!(client.messages.pop(), Some((MessageKind::Binary, payload)), "{len}");
    }
    client.release();
    server.release();
}
