//! The closing handshake, and failing (rows CL and R6).

use crate::conn::{CloseCause, MessageKind, Phase, SendError, Side};

use super::rig::{Rig, Window, echo, listen};
use super::ways::{assert_fails, echoed};
use super::wire::{
    CLOSE, PING, TEXT, TEXT_PART, close_payload, masked, masked_close, plain, plain_close,
};

/// Ticks of a second.
const SECOND: u32 = 8;

fn closing() -> Rig {
    let mut rig = Rig::open(echo);
    rig.act(|connection, core| connection.close(1001.into(), "bye", core));
    assert_eq!(std::mem::take(&mut rig.output), plain(CLOSE, &close_payload(1001, "bye")));
    rig
}

#[test]
fn cl01_close_frame_with_half_a_code_fails() {
    assert_fails(&masked(CLOSE, b"\x03"), 1002, &[]);
}

#[test]
fn cl02_every_code_is_echoed_or_fails() {
    let mut rig = Rig::open(listen);
    // Miri has time for the edges of what is valid.
    let edges = [0, 999, 1000, 1004, 1014, 1016, 2999, 3000, 4999, 5000];
    let codes = if cfg!(miri) { edges.to_vec() } else { (0..=u16::MAX).collect() };
    for code in codes {
        rig.receive(&masked_close(code));
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let expected = if valid { code } else { 1002 };
        assert_eq!(rig.output, plain_close(expected), "{code}");
        assert_eq!(rig.closes[0].code().as_u16(), expected);
        let side = if valid { Side::Peer } else { Side::Local };
        assert_eq!(rig.closes[0].side(), side);
        rig = rig.reopen();
    }
    rig.release();
}

#[test]
fn cl03_reason_that_is_not_utf8_fails() {
    assert_fails(&masked(CLOSE, b"\x03\xe8bad \xff"), 1007, &[]);
    assert_fails(&masked(CLOSE, b"\x03\xe8cut \xe2\x82"), 1007, &[]);
}

#[test]
fn cl04_close_frame_is_answered_once_with_its_code_and_then_our_side_is_shut() {
    let long = "r".repeat(123);
    for reason in ["", "grüße", &long] {
        let payload = close_payload(3001, reason);
        let outcome = echoed(&masked(CLOSE, &payload));
        assert_eq!(outcome.output, plain(CLOSE, &payload));
        assert_eq!((outcome.phase, outcome.shut, outcome.closed), (Phase::Lingering, true, None));
        let close = outcome.close.unwrap();
        assert_eq!(
            (close.code().as_u16(), close.reason(), close.side()),
            (3001, reason, Side::Peer)
        );
    }
}

#[test]
fn cl04_close_frame_without_code_is_answered_by_one_without_code() {
    let outcome = echoed(&masked(CLOSE, b""));
    assert_eq!(outcome.output, plain(CLOSE, b""));
    assert_eq!(outcome.close.unwrap().code().as_u16(), 1005);
}

#[test]
fn cl04_end_of_stream_after_the_closing_handshake_closes_in_order() {
    let mut rig = Rig::open(listen);
    rig.receive(&masked_close(1000));
    rig.receive_end();
    assert_eq!(rig.closed, Some(false));
    rig.release();
}

#[test]
fn cl05_peer_that_never_answers_our_close_is_reset_in_time() {
    let mut rig = closing();
    rig.sleep(5 * SECOND);
    assert_eq!(rig.closed, None);
    rig.sleep(SECOND);
    assert_eq!(rig.closed, Some(true));
    let close = &rig.release().0[0];
    assert_eq!((close.code().as_u16(), close.side()), (1006, Side::Local));
}

#[test]
fn cl05_peer_that_keeps_sending_after_our_close_is_reset_in_time_and_nothing_is_kept() {
    let mut rig = closing();
    let message = [masked(TEXT, &[b'x'; 1000]), masked(TEXT_PART, &[b'x'; 30_000])].concat();
    for _ in 0..6 * SECOND {
        rig.receive(&message);
        assert_eq!(rig.core.pool.lent_count(), 0);
        rig.sleep(1);
    }
    assert_eq!(rig.closed, Some(true));
    assert!(rig.messages.is_empty() && rig.output.is_empty());
    rig.release();
}

#[test]
fn cl05_message_that_is_unfinished_when_we_close_is_dropped() {
    let mut rig = Rig::open(echo);
    let message = masked(TEXT, &[b'x'; 60_000]);
    rig.receive(&message[..40_000]);
    rig.act(|connection, core| connection.close(1000.into(), "", core));
    rig.receive(&message[40_000..]);
    assert_eq!(rig.core.pool.lent_count(), 0);
    rig.receive(&masked_close(1000));
    assert_eq!((rig.output.clone(), rig.shut), (plain_close(1000), true));
    assert!(rig.messages.is_empty());
    rig.release();
}

#[test]
fn cl06_two_close_frames_are_one_close() {
    let outcome = echoed(&[masked_close(1000), masked_close(1001)].concat());
    assert_eq!(outcome.output, plain_close(1000));
    assert_eq!(outcome.close.unwrap().code().as_u16(), 1000);
}

#[test]
fn cl06_close_frames_that_cross_are_one_close_each_way() {
    let bytes = [masked(TEXT, b"late"), masked(PING, b"late"), masked_close(3000)].concat();
    let outcome = super::ways::every_way(closing, &bytes);
    assert!(outcome.output.is_empty() && outcome.messages.is_empty());
    let close = outcome.close.unwrap();
    assert_eq!((close.code().as_u16(), close.side()), (3000, Side::Local));
    assert_eq!((outcome.phase, outcome.shut), (Phase::Lingering, true));
}

#[test]
fn cl06_violation_after_our_close_says_nothing_more() {
    let outcome = super::ways::every_way(closing, &[0xff; 3]);
    assert!(outcome.output.is_empty() && outcome.shut);
    assert_eq!(outcome.close.unwrap().code().as_u16(), 1002);
}

#[test]
fn cl07_long_reason_is_cut_at_a_character() {
    for lead in 0..4 {
        let reason = format!("{}{}", "-".repeat(lead), "€".repeat(60));
        let mut rig = Rig::open(listen);
        rig.act(|connection, core| connection.close(4000.into(), &reason, core));
        let sent = std::str::from_utf8(&rig.output[4..]).expect("cut at a character");
        assert!(reason.starts_with(sent) && (121..=123).contains(&sent.len()), "{sent}");
        rig.release();
    }
}

#[test]
fn cl08_reading_goes_on_after_a_failure_so_that_no_reset_destroys_the_close_frame() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(10);
    rig.act(|connection, core| connection.send(MessageKind::Binary, &[0; 100_000], core)).unwrap();
    assert!(rig.paused);
    rig.act(|connection, core| connection.fail(1011.into(), CloseCause::Panic, core));
    rig.receive(&masked(TEXT, b"unread"));
    rig.window = Window::Wide;
    rig.act(|_, _| ());
    assert!(rig.output.ends_with(&plain_close(1011)) && rig.shut);
    assert!(!rig.paused, "what the peer has sent is drained");
    rig.receive_end();
    assert_eq!(rig.closed, Some(false));
    rig.release();
}

#[test]
fn cl09_calls_after_the_end_say_so_and_do_nothing() {
    let ends: [fn(&mut Rig); 4] = [
        |rig| rig.act(|connection, core| connection.close(1000.into(), "", core)),
        |rig| rig.receive(&masked_close(1000)),
        |rig| rig.receive_end(),
        |rig| rig.break_off(),
    ];
    for end in ends {
        let mut rig = Rig::open(listen);
        end(&mut rig);
        let output = rig.output.clone();
        let phase = rig.connection.phase();
        let sent = rig.act(|connection, core| connection.send(MessageKind::Text, b"x", core));
        assert_eq!(sent, Err(SendError::Closed));
        rig.act(|connection, core| connection.close(1001.into(), "again", core));
        if phase != Phase::Closing {
            rig.act(|connection, core| connection.fail(1011.into(), CloseCause::Panic, core));
        }
        assert_eq!((&rig.output, rig.connection.phase()), (&output, phase));
        rig.release();
    }
}

#[test]
fn r1_panic_of_the_application_ends_the_connection_with_1011() {
    let mut rig = Rig::open(listen);
    rig.act(|connection, core| connection.fail(1011.into(), CloseCause::Panic, core));
    assert_eq!((&rig.output, rig.shut), (&plain_close(1011), true));
    let close = &rig.release().0[0];
    assert_eq!((close.code().as_u16(), close.side()), (1011, Side::Local));
}

#[test]
fn r6_close_frame_that_cannot_leave_is_given_up_after_a_second() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(0);
    rig.act(|connection, core| connection.send(MessageKind::Binary, &[0; 1000], core)).unwrap();
    rig.receive(&[0xff]);
    rig.sleep(SECOND);
    assert_eq!(rig.closed, None);
    rig.sleep(2);
    assert_eq!(rig.closed, Some(true));
    assert!(rig.output.is_empty());
    assert_eq!(rig.release().0[0].code().as_u16(), 1002);
}

#[test]
fn r6_peer_that_lingers_is_read_for_a_second() {
    let mut rig = Rig::open(listen);
    rig.receive(&[0xff]);
    assert_eq!(rig.output, plain_close(1002));
    rig.sleep(SECOND);
    assert_eq!(rig.closed, None);
    rig.sleep(2);
    assert_eq!(rig.closed, Some(false));
    rig.release();
}

#[test]
fn r6_peer_that_lingers_is_read_for_64_kib() {
    for piece in [1000, 4096, 20_000] {
        let mut rig = Rig::open(listen);
        rig.receive(&[0xff]);
        let mut sent = 0;
        while rig.closed.is_none() {
            rig.receive(&vec![0xff; piece]);
            sent += piece;
            assert!(sent <= 64 * 1024 + piece);
        }
        assert!(sent >= 64 * 1024 - piece);
        rig.release();
    }
}

#[test]
fn peer_that_goes_away_instead_of_answering_our_close_did_not_begin_it() {
    for end in [Rig::receive_end, Rig::break_off] {
        let mut rig = closing();
        end(&mut rig);
        let close = &rig.release().0[0];
        assert_eq!((close.code().as_u16(), close.side()), (1006, Side::Local));
    }
}
