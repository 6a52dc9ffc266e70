//! Against a peer that has the keys and says what it must not say.

use rustls::AlertDescription;

use crate::conn::tls::Opened;
use crate::conn::tls::record::{ALERT, APPLICATION_DATA, HANDSHAKE};

use super::rig::{Forger, Ours};

/// How the bytes of a peer are made.
type Forge = fn(&mut Forger) -> Vec<u8>;

/// Asserts that our side has failed, has told the peer why, and says no more.
fn assert_failed(mut ours: Ours, forger: &mut Forger, alert: AlertDescription, what: &str) {
    assert_eq!(ours.ended, Some(Opened::Failed), "{what}");
    let error = ours.tls.error().unwrap().to_string();
    assert!(!error.is_empty());
    let output = ours.take_output();
    assert_eq!(forger.read(&output), [(ALERT, vec![2, alert.into()])], "{what}: {error}");
    ours.tls.close(&mut ours.output);
    let mut memory = [0; 100];
    assert!(ours.tls.seal(b"more", &mut memory, &mut Vec::new()).is_none());
    assert!(ours.tls.seal_in_place(&mut memory, 10..20, &mut Vec::new()).is_none());
    ours.receive(&forger.record(APPLICATION_DATA, b"more"));
    assert!(ours.output.is_empty() && ours.plain.is_empty(), "{what}: nothing follows an alert");
    ours.release();
}

/// Records with one byte changed.
fn damaged(forger: &mut Forger, index: usize) -> Vec<u8> {
    let mut record = forger.record(APPLICATION_DATA, b"hello");
    let index = if index == usize::MAX { record.len() - 1 } else { index };
    record[index] ^= 1;
    record
}

fn on_both_sides(alert: AlertDescription, cases: &[(&str, Forge)]) {
    for (what, forge) in cases {
        for make in [Forger::of_our_server, Forger::of_our_client] {
            for piece in [1, usize::MAX] {
                let (mut ours, mut forger) = make();
                let bytes = forge(&mut forger);
                bytes.chunks(piece.min(bytes.len())).for_each(|piece| ours.receive(piece));
                assert_failed(ours, &mut forger, alert, what);
            }
        }
    }
}

#[test]
fn record_that_was_changed_is_answered_by_bad_record_mac() {
    on_both_sides(
        AlertDescription::BadRecordMac,
        &[
            ("its version", |forger| damaged(forger, 2)),
            ("its content", |forger| damaged(forger, 5)),
            ("its tag", |forger| damaged(forger, usize::MAX)),
            ("no content", |_| vec![23, 3, 3, 0, 0]),
            ("less than a tag", |_| [&[23, 3, 3, 0, 15][..], &[0; 15]].concat()),
            ("played again", |forger| {
                let record = forger.record(HANDSHAKE, &[24, 0, 0, 1, 0]);
                [record.clone(), record].concat()
            }),
        ],
    );
}

#[test]
fn record_that_is_too_large_is_answered_by_record_overflow() {
    on_both_sides(
        AlertDescription::RecordOverflow,
        &[
            ("seen in the header", |_| vec![23, 3, 3, 0x41, 0x01]),
            ("content", |forger| forger.record(APPLICATION_DATA, &[7; 16_385])),
            ("content and padding", |forger| {
                forger.inner(&[&[7; 16_000][..], &[APPLICATION_DATA], &[0; 400]].concat())
            }),
        ],
    );
}

#[test]
fn what_must_not_come_is_answered_by_unexpected_message() {
    on_both_sides(
        AlertDescription::UnexpectedMessage,
        &[
            ("plain change_cipher_spec", |_| vec![20, 3, 3, 0, 1, 1]),
            ("plain alert", |_| vec![21, 3, 3, 0, 2, 1, 0]),
            ("nothing but zeros", |forger| forger.inner(&[0; 30])),
            ("protected change_cipher_spec", |forger| forger.record(20, &[1])),
            ("unknown type", |forger| forger.record(99, &[1])),
            ("empty handshake record", |forger| forger.record(HANDSHAKE, &[])),
            ("empty alert", |forger| forger.record(ALERT, &[])),
            ("renegotiation", |forger| forger.record(HANDSHAKE, &[1, 0, 0, 0])),
            ("hello request", |forger| forger.record(HANDSHAKE, &[0, 0, 0, 0])),
            ("finished", |forger| forger.record(HANDSHAKE, &[20, 0, 0, 32])),
            ("data inside of a message", |forger| {
                let part = forger.record(HANDSHAKE, &[24, 0, 0]);
                [part, forger.record(APPLICATION_DATA, b"hello")].concat()
            }),
            ("alert inside of a message", |forger| {
                let part = forger.record(HANDSHAKE, &[24]);
                [part, forger.record(ALERT, &[1, 0])].concat()
            }),
            ("message behind a KeyUpdate", |forger| {
                forger.record(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0])
            }),
        ],
    );
}

#[test]
fn message_of_a_wrong_form_is_answered_by_decode_error() {
    on_both_sides(
        AlertDescription::DecodeError,
        &[
            ("alert of one byte", |forger| forger.record(ALERT, &[2])),
            ("two alerts", |forger| forger.record(ALERT, &[1, 90, 1, 90])),
            ("KeyUpdate of no bytes", |forger| forger.record(HANDSHAKE, &[24, 0, 0, 0])),
            ("KeyUpdate of two bytes", |forger| forger.record(HANDSHAKE, &[24, 0, 0, 2, 0, 0])),
        ],
    );
    for ticket in [&[4, 1, 0, 0][..], &[4, 0, 0, 3, 1, 2, 3]] {
        let (mut ours, mut forger) = Forger::of_our_client();
        ours.receive(&forger.record(HANDSHAKE, ticket));
        assert_failed(ours, &mut forger, AlertDescription::DecodeError, "ticket");
    }
}

#[test]
fn key_update_that_asks_for_something_else_is_answered_by_illegal_parameter() {
    on_both_sides(
        AlertDescription::IllegalParameter,
        &[("2", |forger| forger.record(HANDSHAKE, &[24, 0, 0, 1, 2]))],
    );
}

#[test]
fn ticket_for_a_server_is_answered_by_unexpected_message() {
    let (mut ours, mut forger) = Forger::of_our_server();
    ours.receive(&forger.record(HANDSHAKE, &[4]));
    assert_failed(ours, &mut forger, AlertDescription::UnexpectedMessage, "ticket");
}

#[test]
fn alert_of_the_peer_ends_the_connection_without_an_answer() {
    for level in [1, 2] {
        let (mut ours, mut forger) = Forger::of_our_server();
        ours.receive(&forger.record(ALERT, &[level, AlertDescription::InternalError.into()]));
        assert_eq!(ours.ended, Some(Opened::Failed));
        ours.tls.close(&mut ours.output);
        assert!(ours.output.is_empty());
        assert!(ours.tls.error().unwrap().to_string().contains("InternalError"));
    }
}

#[test]
fn data_before_the_end_is_handed_on_and_data_behind_it_is_not() {
    let ends: [(Forge, Opened); 2] = [
        (|forger| forger.record(ALERT, &[1, 0]), Opened::PeerClosed),
        (|forger| damaged(forger, 9), Opened::Failed),
    ];
    for (end, opened) in ends {
        for cut in [1, 30, usize::MAX] {
            let (mut ours, mut forger) = Forger::of_our_server();
            let before = forger.record(APPLICATION_DATA, b"before");
            let bytes =
                [before, end(&mut forger), forger.record(APPLICATION_DATA, b"behind")].concat();
            for piece in bytes.chunks(cut.min(bytes.len())) {
                ours.receive(piece);
            }
            assert_eq!(ours.plain, b"before");
            assert_eq!(ours.ended.as_ref(), Some(&opened));
            ours.release();
        }
    }
}

#[test]
fn close_notify_is_sent_once() {
    let (mut ours, mut forger) = Forger::of_our_server();
    ours.tls.close(&mut ours.output);
    ours.tls.close(&mut ours.output);
    let output = ours.take_output();
    assert_eq!(forger.read(&output), [(ALERT, vec![1, 0])]);
    ours.receive(&damaged(&mut forger, 7));
    assert!(ours.output.is_empty(), "not even an alert follows it");
}

#[test]
fn padding_is_taken_off_and_user_canceled_is_nothing() {
    let (mut ours, mut forger) = Forger::of_our_server();
    ours.receive(&forger.inner(&[&b"padded"[..], &[APPLICATION_DATA], &[0; 500]].concat()));
    ours.receive(&forger.record(ALERT, &[1, 90]));
    ours.receive(&forger.inner(&[&b"\0\0"[..], &[APPLICATION_DATA], &[0; 3]].concat()));
    ours.receive(&forger.record(APPLICATION_DATA, &[9; 16_384]));
    assert_eq!(ours.plain[..8], *b"padded\0\0");
    assert_eq!(ours.plain[8..], [9; 16_384]);
    assert!(ours.ended.is_none() && ours.output.is_empty());
}

#[test]
fn tl03_records_without_data_are_taken_32_times_in_a_row() {
    let kinds: [Forge; 2] =
        [|forger| forger.record(APPLICATION_DATA, &[]), |forger| forger.record(ALERT, &[1, 90])];
    for record in kinds {
        let (mut ours, mut forger) = Forger::of_our_server();
        for _ in 0..3 {
            for _ in 0..32 {
                ours.receive(&record(&mut forger));
            }
            ours.receive(&forger.record(APPLICATION_DATA, b"x"));
        }
        assert_eq!(ours.plain, b"xxx");
        ours.plain.clear();
        let flood: Vec<u8> = (0..1000).flat_map(|_| record(&mut forger)).collect();
        ours.receive(&flood);
        assert_failed(ours, &mut forger, AlertDescription::UnexpectedMessage, "flood");
    }
}
