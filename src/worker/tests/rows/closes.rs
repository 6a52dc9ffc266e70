//! Why connections end: each cause in a network that brings it about, and one record for each end.

use std::time::Duration;

use crate::close_record::CloseRecord;
use crate::conn::{CloseCause, ClosedBy, MessageKind};
use crate::io::sim::{FaultConfig, PeerId};
use crate::policy::{FlowLimits, Limits, RateMode, Timeouts};
use crate::proto::{CloseCode, LimitExceeded, Opcode, Violation};

use super::super::client::Client;
use super::super::payload::Command;
use super::super::rig::{Rig, seconds};
use super::{limits, millis, open};

/// What one client and the server do, so that the connection ends.
type Play = fn(&mut Rig<false>, PeerId, &mut Client);

/// The record of the one connection that this ends.
fn end_by(limits: Limits, play: Play) -> CloseRecord {
    let mut rig = Rig::with_faults(1, FaultConfig::none(), limits);
    let mut clients = open(&mut rig, 1);
    let (id, client) = &mut clients[0];
    play(&mut rig, *id, client);
    rig.run(Duration::from_secs(150), &mut clients);
    let records = rig.worker.closes.newest(9);
    assert_eq!(records.len(), 1, "one record for one end: {records:?}");
    rig.finish();
    records.into_iter().next().unwrap()
}

/// Goes on until the connection has ended, while the client hears nothing.
fn ignore(rig: &mut Rig<false>, time: Duration) {
    rig.run(time, &mut []);
}

fn timeouts(adjust: fn(&mut Timeouts)) -> Limits {
    let mut timeouts =
        Timeouts { ping_interval: None, idle: Some(seconds(600)), ..Timeouts::default() };
    adjust(&mut timeouts);
    Limits { timeouts, ..limits() }
}

const NOTHING: fn(&mut Timeouts) = |_| {};

/// What happens, who ends the connection by it, with which code, and why.
const WAYS: [(&str, Play, ClosedBy, u16, CloseCause); 10] = [
    (
        "a Close frame of the peer",
        |_, _, client| client.close(CloseCode::new(3001), "bye"),
        ClosedBy::Peer,
        3001,
        CloseCause::Peer,
    ),
    (
        "the application closes",
        |_, _, client| client.say(MessageKind::Text, Command::Close, 30, 1),
        ClosedBy::Local,
        4000,
        CloseCause::Application,
    ),
    (
        "the application closes, and the peer hangs up",
        |rig, id, client| {
            client.answers = false;
            client.say(MessageKind::Text, Command::Close, 30, 1);
            rig.net.peer_write(id, client.out.make_contiguous());
            client.out.clear();
            ignore(rig, millis(100));
            rig.net.peer_shutdown(id);
        },
        ClosedBy::Local,
        1006,
        CloseCause::Application,
    ),
    (
        "the application panics",
        |_, _, client| client.say(MessageKind::Text, Command::Panic, 30, 1),
        ClosedBy::Local,
        1011,
        CloseCause::Panic,
    ),
    (
        "a frame that is not masked",
        |_, _, client| client.out.extend(*b"\x81\x01x"),
        ClosedBy::Local,
        1002,
        CloseCause::Violation(Violation::UnmaskedFrame),
    ),
    (
        "a queue that nobody reads",
        |_, _, client| client.say(MessageKind::Binary, Command::Burst, 60_000, 1),
        ClosedBy::Local,
        1013,
        CloseCause::Limit(LimitExceeded::SendQueueFull),
    ),
    (
        "FIN without a Close frame",
        |rig, id, _| rig.net.peer_shutdown(id),
        ClosedBy::Network,
        1006,
        CloseCause::Eof,
    ),
    ("RST", |rig, id, _| rig.net.peer_reset(id), ClosedBy::Network, 1006, CloseCause::Reset),
    (
        "the server stops",
        |rig, _, _| rig.stop(CloseCode::SERVICE_RESTART, Duration::from_secs(9)),
        ClosedBy::Local,
        1012,
        CloseCause::Shutdown,
    ),
    (
        "the server stops at once",
        |rig, _, _| rig.stop(CloseCode::SERVICE_RESTART, Duration::ZERO),
        ClosedBy::Local,
        1006,
        CloseCause::Shutdown,
    ),
];

#[test]
fn causes_of_peers_and_applications_are_told_apart() {
    for (what, play, by, code, cause) in WAYS {
        let record = end_by(timeouts(NOTHING), play);
        assert_eq!((record.by, record.code.as_u16(), record.cause), (by, code, cause), "{what}");
        let errno = matches!(cause, CloseCause::Reset).then_some(104);
        assert_eq!(record.os_error, errno, "{what}");
        assert_eq!(record.round_trip, Some(millis(20)), "{what}: asked while it was there");
        assert!(record.client_addr.is_some(), "{what}");
    }
}

#[test]
fn causes_of_limits_are_told_apart() {
    let flow = FlowLimits {
        messages_per_second: Some(2.try_into().unwrap()),
        bytes_per_second: None,
        mode: RateMode::Close,
    };
    let small = Limits { frame_bytes_max: 500, message_bytes_max: 1000, ..timeouts(NOTHING) };
    let few = Limits { empty_fragments_max: 2, control_frames_burst: 4, ..timeouts(NOTHING) };
    let cases: [(Limits, Play, u16, LimitExceeded); 5] = [
        (
            small.clone(),
            |_, _, client| client.frame(Opcode::Binary, true, &[0; 501]),
            1009,
            LimitExceeded::FrameTooBig,
        ),
        (
            small,
            |_, _, client| {
                client.frame(Opcode::Binary, false, &[0; 500]);
                client.frame(Opcode::Continuation, false, &[0; 500]);
                client.frame(Opcode::Continuation, true, &[0; 1]);
            },
            1009,
            LimitExceeded::MessageTooBig,
        ),
        (
            few.clone(),
            |_, _, client| {
                client.frame(Opcode::Binary, false, &[]);
                for _ in 0..3 {
                    client.frame(Opcode::Continuation, false, &[]);
                }
            },
            1008,
            LimitExceeded::TooManyEmptyFragments,
        ),
        (
            few,
            |_, _, client| {
                for _ in 0..5 {
                    client.frame(Opcode::Pong, true, &[]);
                }
            },
            1008,
            LimitExceeded::TooManyControlFrames,
        ),
        (
            Limits { flow: Some(flow), ..timeouts(NOTHING) },
            |_, _, client| {
                for _ in 0..9 {
                    client.say(MessageKind::Text, Command::Keep, 20, 1);
                }
            },
            1008,
            LimitExceeded::RateExceeded,
        ),
    ];
    for (limits, play, code, limit) in cases {
        let record = end_by(limits, play);
        let cause = CloseCause::Limit(limit);
        assert_eq!((record.by, record.cause), (ClosedBy::Local, cause));
        assert_eq!(record.code.as_u16(), code, "{limit}");
    }
}

#[test]
fn causes_of_time_are_told_apart() {
    let silent: Play = |rig, _, client| {
        client.answers = false;
        ignore(rig, Duration::from_secs(120));
    };
    let cases: [(Limits, Play, u16, CloseCause); 6] = [
        (
            timeouts(|timeouts| timeouts.ping_interval = Some(seconds(10))),
            silent,
            1006,
            CloseCause::PongTimeout,
        ),
        (
            timeouts(|timeouts| timeouts.idle = Some(seconds(5))),
            silent,
            1001,
            CloseCause::IdleTimeout,
        ),
        (
            timeouts(|timeouts| timeouts.lifetime = Some(seconds(5))),
            |_, _, _| {},
            1001,
            CloseCause::Lifetime,
        ),
        (
            timeouts(|timeouts| timeouts.message = seconds(5)),
            |_, _, client| client.frame(Opcode::Binary, false, b"and"),
            1008,
            CloseCause::Limit(LimitExceeded::MessageTimeout),
        ),
        (
            timeouts(NOTHING),
            |rig, id, client| {
                client.answers = false;
                client.say(MessageKind::Text, Command::Close, 30, 1);
                rig.net.peer_write(id, client.out.make_contiguous());
                ignore(rig, Duration::from_secs(60));
            },
            1006,
            CloseCause::CloseTimeout,
        ),
        (
            timeouts(NOTHING),
            |rig, id, client| {
                rig.net.peer_window(id, 100);
                client.say(MessageKind::Binary, Command::Echo, 50_000, 1);
                rig.net.peer_write(id, client.out.make_contiguous());
                ignore(rig, Duration::from_secs(60));
            },
            1006,
            CloseCause::WriteStall,
        ),
    ];
    for (limits, play, code, cause) in cases {
        let mut rig = Rig::new(limits);
        let mut clients = open(&mut rig, 1);
        let (id, client) = &mut clients[0];
        play(&mut rig, *id, client);
        if rig.worker.closes.newest(1).is_empty() {
            rig.run(Duration::from_secs(60), &mut clients);
        }
        let [record] = &rig.worker.closes.newest(9)[..] else { panic!("one record for {cause}") };
        assert_eq!((record.by, record.code.as_u16()), (ClosedBy::Local, code), "{cause}");
        assert_eq!(record.cause, cause);
        let is_stalled = cause == CloseCause::WriteStall;
        assert_eq!(record.queued_bytes > 10_000, is_stalled, "{cause}: {}", record.queued_bytes);
        assert!(record.age >= Duration::from_secs(4), "{cause}: {:?}", record.age);
        rig.finish();
    }
}

#[test]
fn causes_that_a_worker_finds_by_itself_are_told_apart() {
    for (cause, code) in [
        (CloseCause::Limit(LimitExceeded::MemoryScarce), CloseCode::TRY_AGAIN_LATER),
        (CloseCause::TooManySubscriptions, CloseCode::POLICY_VIOLATION),
    ] {
        let mut rig = Rig::new(limits());
        let clients = open(&mut rig, 1);
        let token = rig.net.token_of(clients[0].0).unwrap();
        let (entry, core) = rig.worker.live(token).unwrap();
        entry.connection.fail(code, cause, core);
        rig.worker.tell_ending(token.index);
        rig.worker.tell_ending(token.index);
        let records = rig.worker.closes.newest(9);
        assert_eq!(records.len(), 1, "told twice, recorded once");
        assert_eq!((records[0].cause, records[0].code), (cause, code));
        rig.worker.look_after(token.index);
        rig.finish();
    }
}

#[test]
fn network_that_breaks_is_told_with_the_error_of_the_system() {
    let mut seen = [0; 2];
    for seed in 0..40 {
        let faults = FaultConfig { reset: 300, ..FaultConfig::none() };
        let mut rig = Rig::with_faults(seed, faults, timeouts(NOTHING));
        let mut clients = rig.connect(8);
        rig.run(millis(50), &mut clients);
        for (_, client) in &mut clients {
            client.say(MessageKind::Text, Command::Echo, 30, 1);
        }
        rig.run(millis(50), &mut clients);
        for record in rig.worker.closes.newest(99) {
            let errno = record.os_error.unwrap();
            let is_reset = matches!(errno, 104 | 32);
            let cause = if is_reset { CloseCause::Reset } else { CloseCause::Broken };
            assert_eq!((record.by, record.cause), (ClosedBy::Network, cause), "errno {errno}");
            seen[usize::from(is_reset)] += 1;
        }
        rig.finish();
    }
    assert!(seen.iter().all(|&count| count > 3), "both happened: {seen:?}");
}

#[test]
fn hp05_codes_of_peers_do_not_make_counters() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 40);
    for (number, (_, client)) in (0..).zip(&mut clients) {
        client.close(CloseCode::new(4000 + number), "\u{1b}[2J");
    }
    rig.run(millis(200), &mut clients);
    let stats = rig.stats();
    assert_eq!(stats.closes.iter().collect::<Vec<_>>(), [(&("peer", None), &40)]);
    assert_eq!(stats.close_causes.iter().collect::<Vec<_>>(), [(&"peer", &40)]);
    let codes: Vec<u16> = rig.worker.closes.newest(99).iter().map(|r| r.code.as_u16()).collect();
    assert!(codes.iter().all(|code| (4000..4040).contains(code)), "the records have them");
    assert_eq!(rig.worker.closes.newest(1)[0].reason, "\\u{1b}[2J");
    rig.finish();
}

#[test]
fn without_records_the_ends_are_still_counted() {
    let mut rig = Rig::new(Limits { closes_kept: 0, ..limits() });
    let mut clients = open(&mut rig, 3);
    for (_, client) in &mut clients {
        client.close(CloseCode::NORMAL, "");
    }
    rig.run(millis(200), &mut clients);
    assert!(rig.worker.closes.newest(9).is_empty());
    assert_eq!(rig.stats().closes[&("peer", Some(1000))], 3);
    rig.finish();
}
