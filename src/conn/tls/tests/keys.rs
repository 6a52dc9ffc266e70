//! Keys that are updated: when the peer asks, and before they have sealed too much.

use std::sync::Arc;

use rustls::{AlertDescription, Connection};

use crate::conn::tls::Tls;
use crate::conn::tls::record::{ALERT, APPLICATION_DATA, HANDSHAKE};

use super::rig::{
    Configs, Forger, Ours, SUITES, peer_output, peer_receive, peer_send, shake_hands,
};

fn established() -> (Ours, Connection) {
    let (mut ours, mut peer) = Configs::of(SUITES[0]).our_server();
    shake_hands(&mut ours, &mut peer);
    (ours, peer)
}

/// How many records there are in these bytes.
fn record_count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(&[_, _, _, high, low]) = bytes.first_chunk() {
        bytes = &bytes[5 + usize::from(u16::from_be_bytes([high, low]))..];
        count += 1;
    }
    count
}

#[test]
fn tl03_peer_that_asks_for_new_keys_again_and_again_has_one_answer() {
    let (mut ours, mut peer) = established();
    let mut bytes = Vec::new();
    for _ in 0..31 {
        peer.refresh_traffic_keys().unwrap();
        bytes.extend(peer_output(&mut peer));
    }
    ours.receive(&bytes);
    assert!(ours.output.is_empty(), "the answer goes before our next data");
    ours.receive(&peer_send(&mut peer, b"with the last key"));
    assert_eq!(ours.plain, b"with the last key");
    ours.send(b"one", 20, 100);
    let output = ours.take_output();
    assert_eq!(record_count(&output), 2, "a KeyUpdate and data");
    assert_eq!(peer_receive(&mut peer, &output), b"one");
    ours.send(b"two", 20, 100);
    let output = ours.take_output();
    assert_eq!(record_count(&output), 1, "it was answered");
    assert_eq!(peer_receive(&mut peer, &output), b"two");
}

#[test]
fn tl03_flood_of_key_updates_ends_the_connection() {
    let (mut ours, mut peer) = established();
    for _ in 0..40 {
        peer.refresh_traffic_keys().unwrap();
        ours.receive(&peer_output(&mut peer));
    }
    assert!(ours.ended.is_some());
    let mut output = &ours.take_output()[..];
    peer.read_tls(&mut output).unwrap();
    let error = peer.process_new_packets().unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::UnexpectedMessage));
}

#[test]
fn key_update_may_be_cut_into_records_and_asks_for_nothing() {
    let (mut ours, mut forger) = Forger::of_our_server();
    ours.receive(&forger.record(HANDSHAKE, &[24, 0]));
    ours.receive(&forger.record(HANDSHAKE, &[0, 1, 0]));
    assert!(ours.ended.is_none());
    ours.send(b"data", 0, 0);
    let output = ours.take_output();
    assert_eq!(forger.read(&output), [(APPLICATION_DATA, b"data".to_vec())]);
    // The forger goes on with the old key.
    ours.receive(&forger.record(APPLICATION_DATA, b"old"));
    let output = ours.take_output();
    let alert = AlertDescription::BadRecordMac.into();
    assert_eq!(forger.read(&output), [(ALERT, vec![2, alert])]);
}

#[test]
fn key_is_updated_before_it_has_sealed_too_much_on_either_side() {
    let Configs { server, client } = Configs::of(SUITES[0]);
    let name = "localhost".try_into().unwrap();
    let mut client = Ours::new(Tls::client(Arc::new(client), name).unwrap());
    let mut server = Ours::new(Tls::server(Arc::new(server)));
    client.tls.open(&mut [], &mut client.pool, &mut client.output);
    for _ in 0..3 {
        server.receive(&client.take_output());
        client.receive(&server.take_output());
    }
    assert!(client.tls.is_handed_over() && server.tls.is_handed_over());
    exceed_the_limit(&mut client, &mut server);
    exceed_the_limit(&mut server, &mut client);
}

/// Sends far more records than a key may seal.
fn exceed_the_limit(from: &mut Ours, to: &mut Ours) {
    const RECORDS_MAX: u64 = 12;
    from.tls.set_records_max(RECORDS_MAX);
    let mut rng = fastrand::Rng::with_seed(8);
    let (mut sealed_records, mut sent) = (0, 0);
    let mut updates = 0;
    for round in 0..200 {
        let message = vec![round; rng.usize(1..60_000)];
        from.send(&message, rng.usize(..8), rng.usize(..200));
        let output = from.take_output();
        let records = record_count(&output);
        let data_records = message.len().div_ceil(16_384);
        if records > data_records {
            updates += 1;
            assert!(sealed_records < RECORDS_MAX, "the KeyUpdate is one of the old key");
            sealed_records = 0;
        }
        sealed_records += data_records as u64;
        assert!(sealed_records <= RECORDS_MAX, "round {round}");
        sent += message.len();
        to.receive(&output);
        assert!(to.plain.iter().all(|&byte| byte == round));
        assert_eq!(to.plain.len(), message.len());
        to.plain.clear();
    }
    assert!(updates >= 20, "{updates} updates for {sent} bytes");
    assert!(to.ended.is_none() && to.output.is_empty());
}
