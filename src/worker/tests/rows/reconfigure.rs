//! New limits while connections are half-way: what holds at once, and whom it must not hurt.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::conn::{CloseCause, MessageKind};
use crate::io::sim::PeerId;
use crate::policy::{FlowLimits, Limits, RateMode, Timeouts};
use crate::proto::{CloseCode, Opcode};
use crate::pubsub::Order;

use super::super::client::{Client, Opening};
use super::super::payload::Command;
use super::super::rig::{Rig, seconds};
use super::{assert_served, limits, millis, open};

/// Gives the worker these limits, and lets it take them up.
fn reconfigure(rig: &mut Rig<false>, limits: Limits) {
    rig.shared.exchange.order_certainly(0, Order::Reconfigure(Box::new(limits)));
    rig.net.wake();
    while rig.turn() && (rig.worker.review.is_some() || !rig.worker.orders.is_empty()) {}
}

fn with_timeouts(adjust: fn(&mut Timeouts)) -> Limits {
    let idle = Some(seconds(24 * 3600));
    let mut timeouts = Timeouts { ping_interval: None, idle, ..Timeouts::default() };
    adjust(&mut timeouts);
    Limits { conns_max: 5000, timeouts, ..Limits::default() }
}

fn with_rate(messages: u32, mode: RateMode) -> Limits {
    let messages_per_second = NonZeroU32::new(messages);
    Limits {
        flow: Some(FlowLimits { messages_per_second, bytes_per_second: None, mode }),
        ..limits()
    }
}

fn closed(clients: &[(PeerId, Client)]) -> usize {
    clients.iter().filter(|(_, client)| client.close_code.is_some()).count()
}

/// Sends so many short messages at once.
fn flood(client: &mut Client, count: usize) {
    for _ in 0..count {
        client.say(MessageKind::Text, Command::Keep, 20, 1);
    }
}

/// Pings begin for all who are there already, spread like those of any others, and the worker looks at
/// no more connections in a turn than it has time for.
#[test]
fn pings_that_were_off_begin_for_all_that_are_open_without_a_stall() {
    let mut rig = Rig::new(with_timeouts(|_| {}));
    let mut clients = open(&mut rig, 2500);
    rig.run(Duration::from_secs(3600), &mut []);
    assert!(clients.iter().all(|(_, client)| client.pings_answered == 0));
    let on = with_timeouts(|times| times.ping_interval = Some(seconds(10)));
    rig.shared.exchange.order_certainly(0, Order::Reconfigure(Box::new(on)));
    rig.net.wake();
    let mut turns = 0;
    while turns == 0 || rig.worker.review.is_some() {
        assert!(rig.turn());
        turns += 1;
    }
    assert_eq!(turns, 3, "1024 of 2500 in a turn");
    rig.run(millis(7_800), &mut clients);
    assert!(clients.iter().all(|(_, client)| client.pings_answered == 0), "counted from now on");
    rig.run(millis(2_200), &mut clients);
    let early = clients.iter().filter(|(_, client)| client.pings_answered > 0).count();
    assert!((800..1700).contains(&early), "{early} in the first half of 8 to 12 s");
    rig.run(millis(2_500), &mut clients);
    assert!(clients.iter().all(|(_, client)| client.pings_answered == 1));
    let off = with_timeouts(|_| {});
    reconfigure(&mut rig, off);
    rig.run(Duration::from_secs(60), &mut clients);
    assert!(clients.iter().all(|(_, client)| client.pings_answered == 1), "and end again");
    assert_eq!(closed(&clients), 0);
    rig.finish();
}

#[test]
fn silence_is_counted_from_the_change_and_an_awaited_pong_is_still_owed() {
    let mut rig = Rig::new(with_timeouts(|times| times.ping_interval = Some(seconds(30))));
    let mut clients = open(&mut rig, 2);
    clients[0].1.answers = false;
    rig.run(Duration::from_secs(40), &mut clients);
    reconfigure(&mut rig, with_timeouts(|times| times.idle = Some(seconds(60))));
    rig.run(Duration::from_secs(15), &mut clients);
    let records = rig.worker.closes.newest(9);
    assert_eq!(records.len(), 1, "the one that owes a pong: {records:?}");
    assert_eq!(records[0].cause, CloseCause::PongTimeout);
    rig.run(Duration::from_secs(40), &mut clients);
    assert_eq!(rig.open_count(), 1, "55 s of 60");
    rig.run(Duration::from_secs(6), &mut clients);
    assert_eq!(clients[1].1.close_code, Some(CloseCode::GOING_AWAY));
    rig.finish();
}

#[test]
fn message_that_has_begun_is_judged_by_the_next_of_its_frames() {
    let sized =
        |bytes: usize| Limits { message_bytes_max: bytes, frame_bytes_max: bytes, ..limits() };
    for (first, second, end) in [(900, 100, None), (900, 101, Some(1009)), (1500, 1, Some(1009))] {
        let mut rig = Rig::new(sized(2000));
        let mut clients = open(&mut rig, 2);
        let bytes = vec![b'a'; first];
        clients[0].1.frame(Opcode::Binary, false, &bytes);
        rig.run(millis(50), &mut clients);
        reconfigure(&mut rig, sized(1000));
        clients[0].1.frame(Opcode::Continuation, true, &vec![b'a'; second]);
        // A frame that was admitted is taken to its end.
        clients[1].1.say(MessageKind::Text, Command::Echo, 1000, 1);
        let (id, client) = &mut clients[0];
        let sent: Vec<u8> = client.out.drain(..).collect();
        rig.net.peer_write(*id, &sent);
        rig.run(millis(50), &mut clients[1..]);
        assert!(clients[1].1.is_satisfied(), "another is served");
        let records = rig.worker.closes.newest(9);
        assert_eq!(records.first().map(|record| record.code.as_u16()), end, "{first} + {second}");
        let taken = usize::from(end.is_none());
        assert_eq!(rig.log.borrow().peers[&0].messages, taken);
        rig.log.borrow_mut().faults.clear();
        rig.finish();
    }
}

#[test]
fn frame_under_way_is_taken_to_its_end_when_the_limit_falls_below_it() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 1);
    let (id, client) = &mut clients[0];
    client.say(MessageKind::Binary, Command::Echo, 60_000, 1);
    let sent: Vec<u8> = client.out.drain(..).collect();
    rig.net.peer_write(*id, &sent[..30_000]);
    rig.run(millis(50), &mut []);
    reconfigure(&mut rig, Limits { message_bytes_max: 125, frame_bytes_max: 125, ..limits() });
    rig.net.peer_write(*id, &sent[30_000..]);
    rig.run(millis(50), &mut clients);
    assert!(clients[0].1.is_satisfied());
    clients[0].1.say(MessageKind::Binary, Command::Echo, 126, 1);
    rig.run(millis(50), &mut clients);
    assert_eq!(clients[0].1.close_code.map(CloseCode::as_u16), Some(1009), "the next is not");
    rig.finish();
}

#[test]
fn rate_that_comes_is_counted_from_then_on() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 2);
    flood(&mut clients[0].1, 200);
    rig.run(millis(50), &mut clients);
    reconfigure(&mut rig, with_rate(50, RateMode::Close));
    flood(&mut clients[0].1, 50);
    flood(&mut clients[1].1, 51);
    rig.run(millis(50), &mut clients);
    assert_eq!(clients[0].1.close_code, None, "what it sent before does not count");
    assert_eq!(clients[1].1.close_code, Some(CloseCode::POLICY_VIOLATION));
    rig.finish();
}

/// Both ways out of throttling: no rate at all, and one that closes.
#[test]
fn peer_that_is_throttled_is_let_go_on_when_its_rate_is_gone() {
    for other in [limits(), with_rate(4, RateMode::Close)] {
        let mut rig = Rig::new(with_rate(4, RateMode::Throttle));
        let mut clients = open(&mut rig, 1);
        flood(&mut clients[0].1, 400);
        rig.run(millis(50), &mut clients);
        assert_eq!(rig.log.borrow().messages, 400, "read before it was too much");
        clients[0].1.say(MessageKind::Text, Command::Echo, 20, 1);
        rig.run(Duration::from_secs(10), &mut clients);
        assert!(!clients[0].1.is_satisfied(), "it is not read for 99 s");
        reconfigure(&mut rig, other);
        rig.run(millis(50), &mut clients);
        assert!(clients[0].1.is_satisfied());
        assert_eq!(clients[0].1.close_code, None);
        rig.finish();
    }
}

#[test]
fn fewer_connections_than_there_are_turn_new_ones_away_and_nobody_out() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 10);
    rig.worker.core.limits.conns_max = 10;
    let mut fewer = rig.worker.core.limits.clone();
    fewer.conns_max = 3;
    // The rig holds the worker to its limit in every turn; here there are more from before.
    rig.shared.exchange.order_certainly(0, Order::Reconfigure(Box::new(fewer)));
    rig.net.wake();
    rig.worker.turn().unwrap();
    let (late, mut knocking) = (rig.net.connect(), Client::knocking(90, 7));
    super::super::rig::exchange(&rig.net, late, &mut knocking);
    for _ in 0..50 {
        rig.net.set_horizon(Some(rig.net.elapsed() + millis(1)));
        rig.worker.turn().unwrap();
        super::super::rig::exchange(&rig.net, late, &mut knocking);
    }
    rig.net.set_horizon(None);
    assert_eq!(knocking.opening, Opening::Refused(503));
    assert_eq!(rig.open_count(), 10);
    rig.worker.reconfigure(limits());
    assert_served(&mut rig, &mut clients);
    clients.extend(open(&mut rig, 1));
    rig.finish();
}

#[test]
fn queue_above_a_lowered_mark_pauses_its_peer_and_goes_on_when_it_is_raised() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 1);
    let id = clients[0].0;
    rig.net.peer_window(id, 100);
    clients[0].1.say(MessageKind::Binary, Command::Echo, 20_000, 1);
    let sent: Vec<u8> = clients[0].1.out.drain(..).collect();
    rig.net.peer_write(id, &sent);
    rig.run(millis(50), &mut []);
    let paused = |rig: &mut Rig<false>| {
        rig.net.peer_write(id, &[0x8A, 0x80, 0, 0, 0, 0]);
        rig.run(millis(50), &mut []);
        rig.net.peer_unreceived(id) > 0
    };
    assert!(!paused(&mut rig));
    reconfigure(&mut rig, Limits { send_high_water_bytes: 5_000, ..limits() });
    assert!(paused(&mut rig));
    reconfigure(&mut rig, limits());
    assert!(!paused(&mut rig));
    rig.net.peer_window(id, 1 << 20);
    rig.run(millis(50), &mut clients);
    assert!(clients[0].1.is_satisfied());
    rig.finish();
}

#[test]
fn hd02_head_that_has_begun_is_judged_by_the_limits_of_its_next_byte() {
    let request = |lines: usize| {
        let lines: String = (0..lines).map(|line| format!("X-{line}: 1\r\n")).collect();
        format!(
            "GET /0 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
    };
    let mut few = limits();
    few.head.header_count_max = 10;
    let mut short = limits();
    short.head.request_line_bytes_max = 16;
    short.head.head_bytes_max = 300;
    // Lines, how many bytes come before the change, what holds then, and the answer.
    for (lines, before, limits_then, answer) in [
        (30, 250, few.clone(), "431"),
        (4, 150, few.clone(), "101"),
        (30, 250, short.clone(), "431"),
        // The request line was longer than it may be now, but it is over; so is what was counted.
        (4, 150, short, "101"),
        (30, request(30).len() - 2, few, "101"),
    ] {
        let mut rig = Rig::new(limits());
        let id = rig.net.connect();
        let head = request(lines);
        rig.net.peer_write(id, &head.as_bytes()[..before]);
        rig.run(millis(10), &mut []);
        reconfigure(&mut rig, limits_then);
        rig.net.peer_write(id, &head.as_bytes()[before..]);
        rig.run(millis(10), &mut []);
        let status = String::from_utf8(rig.net.peer_read(id)).unwrap();
        assert_eq!(status.split(' ').nth(1), Some(answer), "{lines} lines, {before} bytes before");
        rig.finish();
    }
}

#[test]
fn rate_of_handshakes_is_made_anew_only_if_it_is_another() {
    let rated = |rate| Limits { handshakes_per_second: NonZeroU32::new(rate), ..limits() };
    let mut rig = Rig::new(rated(40));
    let admitted = |rig: &mut Rig<false>| {
        let mut clients = rig.connect(30);
        rig.run(millis(20), &mut clients);
        clients.iter().filter(|(_, client)| client.opening == Opening::Open).count()
    };
    assert_eq!(admitted(&mut rig), 10, "a quarter of a second's");
    reconfigure(&mut rig, rated(40));
    assert_eq!(admitted(&mut rig), 0, "not another burst for the same rate");
    reconfigure(&mut rig, rated(80));
    assert_eq!(admitted(&mut rig), 20);
    reconfigure(&mut rig, limits());
    assert_eq!(admitted(&mut rig), 30);
    rig.finish();
}

/// A second change while connections are still looked at for the first: both reach all of them.
#[test]
fn change_upon_change_reaches_every_connection() {
    let mut rig = Rig::new(with_timeouts(|_| {}));
    let mut clients = open(&mut rig, 2500);
    rig.run(Duration::from_secs(600), &mut []);
    for adjust in [(|times| times.idle = Some(seconds(20))) as fn(&mut Timeouts), |times| {
        times.idle = Some(seconds(20));
        times.message = seconds(7);
    }] {
        let order = Order::Reconfigure(Box::new(with_timeouts(adjust)));
        rig.shared.exchange.order_certainly(0, order);
        rig.net.wake();
        rig.turn();
    }
    assert!(rig.worker.review.is_some(), "a part of them is still to come");
    rig.run(Duration::from_secs(19), &mut clients);
    assert_eq!(closed(&clients), 0, "silence counts from the change");
    rig.run(Duration::from_secs(3), &mut clients);
    assert_eq!(closed(&clients), 2500);
    rig.finish();
}

#[test]
fn full_inbox_takes_new_limits() {
    let mut rig = Rig::new(limits());
    let clients = open(&mut rig, 1);
    let exchange = &rig.shared.exchange;
    let id = crate::conn_info::ConnId::new(0, rig.net.token_of(clients[0].0).unwrap());
    let filler = || Order::Send { id, kind: MessageKind::Text, payload: Box::default() };
    while exchange.order(0, filler()) {}
    reconfigure(&mut rig, Limits { message_bytes_max: 125, frame_bytes_max: 125, ..limits() });
    assert_eq!(rig.worker.core.limits.message_bytes_max, 125);
    assert!(rig.shared.exchange.order(0, filler()), "and has all its places again");
    rig.finish();
}
