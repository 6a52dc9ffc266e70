//! Waits and their ends (rows TC08 to TC10, pings, idle connections).

use crate::conn::{Connection, MessageKind, Phase, Side};
use crate::policy::{Limits, Ticks, Timeouts};

use super::rig::{Rig, Window, core, listen};
use super::wire::{PING, PONG, TEXT, TEXT_PART, masked, plain, plain_close};

/// Ticks of a second.
const SECOND: u32 = 8;

fn send(rig: &mut Rig, bytes: usize) {
    rig.act(|connection, core| connection.send(MessageKind::Binary, &vec![0; bytes], core))
        .unwrap();
}

#[test]
fn tc08_end_of_stream_without_close_frame_is_1006_and_what_is_queued_still_leaves() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(10);
    send(&mut rig, 1000);
    rig.receive_end();
    assert_eq!((rig.closes[0].code().as_u16(), rig.closes[0].side()), (1006, Side::Peer));
    assert_eq!(rig.closed, None, "the peer may still read");
    rig.give_room(2000);
    assert_eq!((rig.output.len(), rig.closed), (1004, Some(false)));
    rig.release();
}

#[test]
fn tc08_peer_that_has_closed_its_side_and_does_not_read_is_reset_in_time() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(10);
    send(&mut rig, 1000);
    rig.receive_end();
    rig.sleep(5 * SECOND);
    assert_eq!(rig.closed, None);
    rig.sleep(2);
    assert_eq!(rig.closed, Some(true));
    rig.release();
}

#[test]
fn tc08_end_of_stream_inside_a_message_is_1006() {
    let message = masked(TEXT, &[b'x'; 50_000]);
    for bytes in [1, 5, 6, 300, 20_000, 49_000] {
        let mut rig = Rig::open(listen);
        rig.receive(&message[..bytes]);
        rig.receive_end();
        assert_eq!((rig.closes[0].code().as_u16(), rig.closed), (1006, Some(false)));
        assert!(rig.release().0.len() == 1);
    }
}

#[test]
fn tc09_peer_that_is_gone_is_reset_after_ping_interval_and_pong_timeout() {
    let mut rig = Rig::open(listen);
    let begun = rig.core.now.0;
    rig.sleep(100 * SECOND);
    assert_eq!(rig.output, plain(PING, b""), "it was asked once");
    assert_eq!(rig.closed, Some(true));
    let waited = rig.core.now.0 - begun;
    // The spread of this connection is the shortest: 80 % of 30 s, then 20 s.
    assert!((44 * SECOND - 2..=45 * SECOND).contains(&waited), "{waited} ticks");
    let close = &rig.release().0[0];
    assert_eq!((close.code().as_u16(), close.side()), (1006, Side::Local));
}

#[test]
fn tc09_any_byte_of_the_peer_answers_a_ping() {
    let text = masked(TEXT, b"x");
    for (answer, pieces) in [(masked(PONG, b"wrong"), 1), (text.clone(), 1), (text, 7)] {
        let mut rig = Rig::open(listen);
        let piece_bytes = answer.len().div_ceil(pieces);
        // All pieces in turn, more than once; under Miri once, for each is a minute of ticks.
        let rounds = if cfg!(miri) { pieces } else { 21 };
        for piece in answer.chunks(piece_bytes).cycle().take(rounds) {
            while rig.output.is_empty() {
                rig.sleep(1);
                assert_eq!(rig.closed, None);
            }
            assert_eq!(std::mem::take(&mut rig.output), plain(PING, b""));
            rig.sleep(19 * SECOND);
            rig.receive(piece);
        }
        assert_eq!(rig.connection.phase(), Phase::Open);
        rig.release();
    }
}

#[test]
fn tc09_slow_reader_whose_pongs_we_do_not_read_is_not_taken_for_dead() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(0);
    send(&mut rig, 100_000);
    assert!(rig.paused);
    for second in 0..200 {
        rig.give_room(500);
        rig.receive(&masked(PONG, b""));
        rig.sleep(SECOND);
        assert_eq!(rig.closed, None, "after {second} s of steady reading");
    }
    assert!(!rig.paused);
    rig.release();
}

#[test]
fn tc10_peer_that_takes_nothing_is_reset_after_the_write_stall_timeout() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(100);
    send(&mut rig, 1000);
    let begun = rig.core.now.0;
    while rig.closed.is_none() {
        rig.sleep(SECOND);
        rig.receive(&masked(PONG, b""));
    }
    let waited = rig.core.now.0 - begun;
    assert!((30 * SECOND..=31 * SECOND).contains(&waited), "{waited} ticks");
    assert_eq!(rig.closed, Some(true));
    assert_eq!(rig.release().0[0].code().as_u16(), 1006);
}

#[test]
fn tc10_one_byte_now_and_then_is_no_progress() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(100);
    send(&mut rig, 1000);
    let begun = rig.core.now.0;
    while rig.closed.is_none() {
        rig.sleep(SECOND);
        rig.give_room(1);
        rig.receive(&masked(PONG, b""));
    }
    let waited = rig.core.now.0 - begun;
    assert!((30 * SECOND..=31 * SECOND).contains(&waited), "{waited} ticks");
    rig.release();
}

#[test]
fn tc10_slow_reader_that_keeps_reading_is_served() {
    let mut rig = Rig::open(listen);
    rig.window = Window::Room(0);
    send(&mut rig, 1000);
    while rig.connection.queued_bytes() > 0 {
        rig.sleep(20 * SECOND);
        rig.give_room(70);
        rig.receive(&masked(PONG, b""));
        assert_eq!(rig.closed, None);
    }
    // The memory of one stall is no part of the next.
    send(&mut rig, 1000);
    rig.sleep(10 * SECOND);
    assert_eq!(rig.closed, None);
    rig.release();
}

#[test]
fn tm03_pings_of_connections_opened_together_are_spread_over_80_to_120_percent() {
    let mut due: Vec<u32> = (0..=255)
        .map(|spread| {
            let mut core = core(Limits::default());
            let mut connection = Connection::server(spread, &core);
            connection.open(&core);
            let due = connection.next_deadline(&core).0 - core.now.0;
            core.now.0 += due;
            connection.handle_deadline(&mut core);
            assert!(connection.queued_bytes() == 2, "a ping is queued when it is due");
            connection.release(&mut core);
            due
        })
        .collect();
    let interval = Timeouts::default().ping_interval.unwrap().0;
    let (first, last) = (due[0], due[255]);
    assert_eq!((first, last), (interval * 80 / 100, interval * 120 / 100));
    due.dedup();
    assert!(due.is_sorted());
    assert_eq!(due.len(), (last - first + 1) as usize, "every tick in between is used");
}

#[test]
fn silent_connection_is_closed_when_idle_for_too_long() {
    let timeouts = Timeouts { idle: Some(Ticks(10 * SECOND)), ..Timeouts::default() };
    let mut rig = Rig::open_within(listen, Limits { timeouts, ..Limits::default() });
    rig.sleep(9 * SECOND);
    rig.receive(&masked(TEXT, b"x"));
    rig.sleep(10 * SECOND - 1);
    assert_eq!((rig.connection.phase(), rig.output.len()), (Phase::Open, 0));
    rig.sleep(1);
    assert_eq!(rig.output, plain_close(1001));
    assert_eq!(rig.release().0[0].code().as_u16(), 1001);
}

#[test]
fn connection_without_pings_or_idle_timeout_waits_for_ever() {
    let timeouts = Timeouts { ping_interval: None, ..Timeouts::default() };
    let mut rig = Rig::open_within(listen, Limits { timeouts, ..Limits::default() });
    assert_eq!(rig.connection.next_deadline(&rig.core), crate::policy::Tick::NEVER);
    // Longer than any deadline there is; Miri looks at each tick for a long time.
    rig.sleep(if cfg!(miri) { 2_000 } else { 100_000 });
    assert_eq!((rig.closed, rig.output.len()), (None, 0));
    rig.release();
}

#[test]
fn message_timeout_counts_from_the_first_fragment_whatever_follows() {
    let mut rig = Rig::open(listen);
    rig.receive(&masked(TEXT_PART, b"begin"));
    let begun = rig.core.now.0;
    while rig.output.is_empty() {
        rig.sleep(SECOND);
        rig.receive(&masked(0x00, b"more"));
    }
    let waited = rig.core.now.0 - begun;
    assert!((60 * SECOND..=61 * SECOND).contains(&waited), "{waited} ticks");
    assert_eq!(rig.output, plain_close(1008));
    rig.release();
}
