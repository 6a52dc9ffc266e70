//! Against rustls: both roles, all suites, every way of cutting.

use rustls::{CipherSuite, Connection, HandshakeKind, version};

use crate::conn::tls::{Opened, Tls};

use super::rig::{
    Configs, Ours, SUITES, holds_nothing, peer_output, peer_receive, peer_send, shake_hands,
};

/// Bytes that show where they were.
fn pattern(rng: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut pattern = vec![0; bytes];
    rng.fill(&mut pattern);
    pattern
}

/// Bytes of a message of any size.
fn size(rng: &mut fastrand::Rng) -> usize {
    match rng.u8(..8) {
        0 => rng.usize(1..65_345),
        1 => 16_384 * rng.usize(1..4) + rng.usize(..3) - 1,
        2 | 3 => rng.usize(1..20_000),
        _ => rng.usize(1..300),
    }
}

fn receive_cut(ours: &mut Ours, bytes: &[u8], rng: &mut fastrand::Rng) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let bytes_max = if rng.bool() { 16_896 } else { 40 };
        let (piece, behind) = rest.split_at(rng.usize(1..=rest.len().min(bytes_max)));
        ours.receive(piece);
        rest = behind;
    }
}

/// Messages both ways, keys updated by the peer in between.
fn converse(mut ours: Ours, mut peer: Connection, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..12 {
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        for _ in 0..rng.usize(..6) {
            if rng.u8(..4) == 0 {
                peer.refresh_traffic_keys().unwrap();
            }
            let message_bytes = size(&mut rng);
            let message = pattern(&mut rng, message_bytes);
            bytes.extend(peer_send(&mut peer, &message));
            sent.extend(message);
        }
        receive_cut(&mut ours, &bytes, &mut rng);
        assert!(ours.ended.is_none(), "seed {seed}: {:?}", ours.tls.error());
        assert!(std::mem::take(&mut ours.plain) == sent, "seed {seed}");
        assert!(holds_nothing(&ours), "seed {seed}");
        let mut said = Vec::new();
        for _ in 0..rng.usize(..6) {
            let message_bytes = size(&mut rng);
            let message = pattern(&mut rng, message_bytes);
            ours.send(&message, rng.usize(..12), rng.usize(..100));
            said.extend(message);
        }
        let records = ours.take_output();
        assert!(peer_receive(&mut peer, &records) == said, "seed {seed}");
    }
    peer.send_close_notify();
    ours.receive(&peer_output(&mut peer));
    assert_eq!(ours.ended, Some(Opened::PeerClosed));
    ours.tls.close(&mut ours.output);
    let close = ours.take_output();
    peer_receive(&mut peer, &close);
    assert!(peer.process_new_packets().unwrap().peer_has_closed());
    ours.release();
}

#[test]
fn messages_pass_both_ways_with_every_suite_however_they_are_cut() {
    for suite in SUITES {
        for seed in 0..30 {
            let (mut ours, mut peer) = match seed % 2 {
                0 => Configs::of(suite).our_server(),
                _ => Configs::of(suite).our_client(),
            };
            shake_hands(&mut ours, &mut peer);
            assert!(ours.tls.is_handed_over());
            converse(ours, peer, seed);
        }
    }
}

#[test]
fn tls_1_2_and_a_configuration_that_keeps_its_keys_stay_with_rustls() {
    let old = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    for seed in 0..10 {
        let (mut ours, mut peer) = match seed % 2 {
            0 => Configs::with(old, &version::TLS12).our_server(),
            _ => Configs::with(old, &version::TLS12).our_client(),
        };
        shake_hands(&mut ours, &mut peer);
        assert!(!ours.tls.is_handed_over());
        let mut rng = fastrand::Rng::with_seed(seed);
        let message = pattern(&mut rng, 50_000);
        let records = peer_send(&mut peer, &message);
        receive_cut(&mut ours, &records, &mut rng);
        assert!(ours.plain == message, "seed {seed}");
        ours.send(&message, 5, 100);
        let records = ours.take_output();
        assert!(peer_receive(&mut peer, &records) == message);
    }
    let mut configs = Configs::of(SUITES[0]);
    configs.server.enable_secret_extraction = false;
    let (mut ours, mut peer) = configs.our_server();
    shake_hands(&mut ours, &mut peer);
    assert!(!ours.tls.is_handed_over());
    converse(ours, peer, 1);
}

#[test]
fn tl02_what_follows_the_handshake_in_the_same_receive_is_not_lost() {
    for (tickets, cut) in (0..3).flat_map(|tickets| [1, 7, 100, 20_000].map(|cut| (tickets, cut))) {
        let mut configs = Configs::of(SUITES[0]);
        configs.server.send_tls13_tickets = tickets;
        let (mut ours, mut peer) = configs.our_server();
        ours.receive(&peer_output(&mut peer));
        let flight = ours.take_output();
        peer_receive(&mut peer, &flight);
        let mut bytes = peer_output(&mut peer);
        bytes.extend(peer_send(&mut peer, b"first"));
        peer.refresh_traffic_keys().unwrap();
        bytes.extend(peer_send(&mut peer, &[7; 20_000]));
        for piece in bytes.chunks(cut) {
            ours.receive(piece);
        }
        assert!(ours.tls.is_handed_over());
        assert_eq!(ours.plain[..5], *b"first");
        assert_eq!(ours.plain[5..], [7; 20_000]);
        ours.send(b"answer", 0, 0);
        let records = ours.take_output();
        assert_eq!(peer_receive(&mut peer, &records), b"answer");
        ours.release();
    }
}

#[test]
fn client_resumes_with_a_ticket_that_came_after_the_handshake() {
    let Configs { server, client } = Configs::of(SUITES[0]);
    let (server, client) = (std::sync::Arc::new(server), std::sync::Arc::new(client));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let name = "localhost".try_into().unwrap();
        let mut ours = Ours::new(Tls::client(client.clone(), name).unwrap());
        let mut peer = rustls::ServerConnection::new(server.clone()).unwrap().into();
        shake_hands(&mut ours, &mut peer);
        kinds.push(peer.handshake_kind().unwrap());
        ours.release();
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[test]
fn plaintext_is_sealed_where_it_lies_if_there_is_room_around_it() {
    let (mut ours, mut peer) = Configs::of(SUITES[0]).our_server();
    shake_hands(&mut ours, &mut peer);
    // Two records, of which the second is a few bytes: an echo of 16 KiB with its header.
    let plain = 16_388;
    for (lead, room, records) in [
        (9, 39, Some(4..4 + plain + 44)),
        (9, 38, None),
        (5, 39, Some(0..plain + 44)),
        (2, 42, Some(0..plain + 44)),
        (0, 44, Some(0..plain + 44)),
        (0, 43, None),
    ] {
        let mut memory = vec![7; lead + plain + room];
        let mut first = Vec::new();
        let sealed = ours.tls.seal_in_place(&mut memory, lead..lead + plain, &mut first);
        assert_eq!(sealed, records, "{lead} before, {room} behind");
        assert!(first.is_empty());
        if let Some(records) = sealed {
            assert!(peer_receive(&mut peer, &memory[records]) == vec![7; plain]);
        }
    }
}

#[test]
fn whole_records_are_opened_where_they_lie_and_a_cut_one_apart() {
    let (mut ours, mut peer) = Configs::of(SUITES[0]).our_server();
    shake_hands(&mut ours, &mut peer);
    let bytes = [peer_send(&mut peer, &[1; 300]), peer_send(&mut peer, &[2; 300])].concat();
    ours.receive(&bytes);
    assert_eq!((ours.plain.len(), ours.apart_bytes), (600, 0));
    ours.receive(&peer_send(&mut peer, &[3; 300])[..200]);
    assert!(ours.tls.stashed_bytes() < 512, "no more than what has come");
    assert!(!holds_nothing(&ours));
    ours.release();
}
