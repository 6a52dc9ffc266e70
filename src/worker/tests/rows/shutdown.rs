//! How connections end by the server's will: a stop, a panic of the application, a full queue.

use std::time::Duration;

use crate::conn::{MessageKind, Side};
use crate::io::sim::{FaultConfig, SimDriver};
use crate::policy::{Limits, Timeouts};
use crate::proto::{CloseCode, Opcode};

use super::super::client::{Client, Opening};
use super::super::payload::Command;
use super::super::rig::{Rig, exchange, memory, seconds};
use super::{assert_served, limits, millis, open};
use crate::worker::StopOrder;

#[test]
fn lc01_stop_sends_what_is_queued_and_then_its_code() {
    for code in [CloseCode::SERVICE_RESTART, CloseCode::GOING_AWAY] {
        let faults = FaultConfig { window_bytes: 2000, ..FaultConfig::none() };
        let mut rig = Rig::with_faults(1, faults, limits());
        let mut clients = open(&mut rig, 8);
        for (id, client) in &mut clients {
            client.say(MessageKind::Binary, Command::Echo, 30_000, 1);
            rig.net.peer_write(*id, client.out.make_contiguous());
            client.out.clear();
        }
        rig.run(millis(10), &mut []);
        rig.stop(code, Duration::from_secs(10));
        let mut late = rig.connect(1);
        let told_at = rig.net.elapsed();
        while rig.turn() {
            rig.net.set_horizon(Some(rig.net.elapsed() + millis(1)));
            for (id, client) in clients.iter_mut().chain(&mut late) {
                exchange(&rig.net, *id, client);
                if rig.net.peer_sees_fin(*id) && !rig.net.is_closed(*id) {
                    rig.net.peer_shutdown(*id);
                }
            }
        }
        assert!(rig.net.elapsed() - told_at < Duration::from_secs(1), "nobody was waited for");
        for (_, client) in &clients {
            assert!(client.is_satisfied(), "what was queued went first");
            assert_eq!(client.close_code, Some(code));
        }
        assert_eq!(late[0].1.close_code, None, "nobody is let in any more");
        for seen in rig.log.borrow().peers.values() {
            assert_eq!(seen.closes, [(code, Side::Local)]);
        }
        rig.check_end();
    }
}

#[test]
fn lc01_drain_is_spread_evenly_sends_what_is_queued_and_serves_who_is_left() {
    const CLIENTS: usize = 400;
    const SECONDS: usize = 10;
    for handed_over in [false, true] {
        let mut rig = Rig::new(limits());
        let mut clients = open(&mut rig, CLIENTS);
        let order = StopOrder::at_once(CloseCode::SERVICE_RESTART, Duration::from_secs(5));
        let drain_time = Duration::from_secs(SECONDS as u64);
        rig.order(StopOrder { drain_time, handed_over, seed: 11, ..order });
        let mut told = [0; SECONDS + 1];
        let mut crossed = 0;
        let began = rig.net.elapsed();
        rig.turn();
        while !rig.worker.table.is_empty() {
            let second = usize::try_from((rig.net.elapsed() - began).as_secs()).unwrap();
            for (_, client) in clients.iter_mut().filter(|(_, client)| client.close_code.is_none())
            {
                assert!(client.is_satisfied(), "who has not been told is served");
                client.say(MessageKind::Text, Command::Echo, 300, 1);
            }
            // Not in step with the ticks, in which connections are told.
            rig.run(millis(97), &mut clients);
            clients.retain(|(id, client)| {
                let Some(code) = client.close_code else { return true };
                assert_eq!(code, CloseCode::SERVICE_RESTART);
                crossed += usize::from(!client.is_satisfied());
                rig.net.peer_shutdown(*id);
                told[second] += 1;
                false
            });
        }
        let mean = CLIENTS / SECONDS;
        assert!(told.iter().all(|count| *count <= 2 * mean), "{told:?}");
        assert!(told[..SECONDS].iter().all(|count| *count >= mean / 2), "{told:?}");
        // A message and our Close frame may meet on the way.
        assert!(crossed <= CLIENTS / 50, "{crossed} were told before they were answered");
        while rig.turn() {}
        rig.check_end();
    }
}

#[test]
fn lc02_peer_that_was_accepted_before_a_hand_over_is_served() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 1);
    // Its request comes when the sockets are another process's.
    let id = rig.net.connect();
    let late = Client::knocking(id.index(), 7);
    rig.turn();
    let order = StopOrder::at_once(CloseCode::SERVICE_RESTART, Duration::from_secs(5));
    let drain_time = Duration::from_secs(2);
    rig.order(StopOrder { drain_time, handed_over: true, seed: 1, ..order });
    rig.run(millis(50), &mut []);
    clients.push((id, late));
    rig.run(millis(50), &mut clients);
    clients[1].1.say(MessageKind::Text, Command::Echo, 300, 1);
    rig.run(millis(50), &mut clients);
    let (_, late) = &clients[1];
    assert_eq!((late.opening, late.is_satisfied()), (Opening::Open, true));
    rig.run(Duration::from_secs(3), &mut clients);
    for (id, client) in &clients {
        assert_eq!(client.close_code, Some(CloseCode::SERVICE_RESTART));
        rig.net.peer_shutdown(*id);
    }
    while rig.turn() {}
    rig.check_end();
}

#[test]
fn lc04_stop_at_once_ends_a_drain() {
    let mut rig = Rig::new(limits());
    open(&mut rig, 50);
    let order = StopOrder::at_once(CloseCode::SERVICE_RESTART, Duration::from_secs(600));
    rig.order(StopOrder { drain_time: Duration::from_secs(600), ..order });
    rig.run(Duration::from_secs(5), &mut []);
    assert!(rig.worker.table.len() >= 45, "it takes its time");
    rig.order(StopOrder::cut_off());
    let told_at = rig.net.elapsed();
    while rig.turn() {}
    assert!(rig.net.elapsed() - told_at < Duration::from_secs(1));
    rig.check_end();
}

#[test]
fn lc01_peers_that_do_not_answer_are_cut_off_when_the_grace_ends() {
    let timeouts = Timeouts { close: seconds(60), ..Timeouts::default() };
    let mut rig = Rig::new(Limits { timeouts, ..limits() });
    let clients = open(&mut rig, 5);
    rig.connect(2);
    rig.turn();
    rig.stop(CloseCode::SERVICE_RESTART, Duration::from_secs(3));
    let told_at = rig.net.elapsed();
    rig.net.set_horizon(None);
    while rig.turn() {}
    let took = rig.net.elapsed() - told_at;
    assert!(took >= Duration::from_secs(3), "they had their time: {took:?}");
    assert!(took <= millis(3500), "a stop has an end: {took:?}");
    for (id, _) in &clients {
        assert_eq!(rig.log.borrow().peers[&id.index()].closes.len(), 1);
    }
    rig.check_end();
}

#[test]
fn lc04_second_stop_without_grace_ends_the_first() {
    let timeouts = Timeouts { close: seconds(60), ..Timeouts::default() };
    let mut rig = Rig::new(Limits { timeouts, ..limits() });
    open(&mut rig, 5);
    rig.stop(CloseCode::SERVICE_RESTART, Duration::from_secs(600));
    rig.run(Duration::from_secs(5), &mut []);
    assert_eq!(rig.worker.table.len(), 5, "the grace is long");
    rig.stop(CloseCode::GOING_AWAY, Duration::ZERO);
    let told_at = rig.net.elapsed();
    while rig.turn() {}
    assert!(rig.net.elapsed() - told_at < Duration::from_secs(1));
    rig.check_end();
}

#[test]
fn r1_panic_of_the_application_ends_one_connection_with_1011() {
    for at_once in [false, true] {
        let driver = SimDriver::new(2, FaultConfig::none());
        if at_once {
            panic_once(Rig::over(driver.sending_at_once(), limits(), memory()));
        } else {
            panic_once(Rig::over(driver, limits(), memory()));
        }
    }
}

fn panic_once<const AT_ONCE: bool>(mut rig: Rig<AT_ONCE>) {
    let mut clients = open(&mut rig, 4);
    let (id, client) = &mut clients[1];
    client.say(MessageKind::Text, Command::Echo, 5000, 1);
    client.say(MessageKind::Text, Command::Panic, 50, 1);
    client.frame(Opcode::Text, true, b"is not looked at");
    let id = *id;
    rig.run(millis(20), &mut clients);
    let (_, client) = clients.remove(1);
    assert!(client.is_satisfied(), "what came before the panic is answered");
    assert_eq!(client.close_code, Some(CloseCode::INTERNAL_ERROR));
    let closes = rig.log.borrow().peers[&id.index()].closes.clone();
    assert_eq!(closes, [(CloseCode::INTERNAL_ERROR, Side::Local)]);
    assert_eq!(rig.stats().failures.get(&1011), Some(&1));
    assert_served(&mut rig, &mut clients);
    rig.finish();
}

#[test]
fn cl08_close_frame_reaches_a_peer_whose_input_was_not_read_yet() {
    for seed in 0..1000 {
        let faults = FaultConfig { short_receive: 500, delay: 300, ..FaultConfig::none() };
        let mut rig = Rig::with_faults(seed, faults, limits());
        let mut clients = open(&mut rig, 1);
        let (id, client) = &mut clients[0];
        client.frame(Opcode::Text, true, b"\xFF");
        rig.net.peer_write(*id, client.out.make_contiguous());
        client.out.clear();
        for _ in 0..8 {
            rig.net.peer_write(*id, &[b'x'; 5000]);
            rig.turn();
        }
        rig.run(millis(40), &mut []);
        client.answers = false;
        exchange(&rig.net, *id, client);
        assert_eq!(client.close_code, Some(CloseCode::INVALID_PAYLOAD), "seed {seed}");
        assert!(rig.net.peer_sees_fin(*id), "seed {seed}");
        rig.finish();
    }
}

#[test]
fn cl08_close_frame_reaches_a_peer_that_was_not_read_because_it_did_not_read() {
    for seed in 0..100 {
        let faults = FaultConfig { window_bytes: 1000, ..FaultConfig::none() };
        let timeouts = Timeouts { message: seconds(2), ..Timeouts::default() };
        let limits = Limits { send_high_water_bytes: 12_000, timeouts, ..limits() };
        let mut rig = Rig::with_faults(seed, faults, limits);
        let mut clients = open(&mut rig, 1);
        let (id, client) = &mut clients[0];
        // One block: replies that stop the reading, and a message that is never finished.
        client.say(MessageKind::Binary, Command::Twice, 8000, 1);
        client.frame(Opcode::Text, false, b"A");
        for _ in 0..5 {
            client.frame(Opcode::Continuation, false, &[b'A'; 8000]);
        }
        rig.net.peer_write(*id, client.out.make_contiguous());
        client.out.clear();
        rig.run(millis(5), &mut []);
        assert!(rig.net.peer_unreceived(*id) > 20_000, "the server has stopped reading");
        while rig.log.borrow().peers[&id.index()].closes.is_empty() {
            rig.turn();
        }
        rig.run(millis(300), &mut clients);
        let (id, client) = &clients[0];
        assert_eq!(client.close_code, Some(CloseCode::POLICY_VIOLATION), "seed {seed}");
        rig.net.peer_shutdown(*id);
        rig.run(millis(10), &mut []);
        assert!(rig.net.is_closed(*id) && !rig.net.peer_sees_reset(*id), "seed {seed}");
        rig.finish();
    }
}

#[test]
fn bp01_queue_that_is_full_ends_its_connection_with_1013() {
    let faults = FaultConfig { window_bytes: 1000, ..FaultConfig::none() };
    let limits = Limits { send_bytes_max: 200_000, ..limits() };
    let mut rig = Rig::with_faults(1, faults, limits);
    let mut clients = open(&mut rig, 3);
    let (id, client) = &mut clients[0];
    client.say(MessageKind::Binary, Command::Burst, 1000, 1);
    rig.net.peer_write(*id, client.out.make_contiguous());
    client.out.clear();
    // The rig checks the bound of the queue after each turn.
    rig.run(millis(10), &mut []);
    let closes = rig.log.borrow().peers[&id.index()].closes.clone();
    assert_eq!(closes, [(CloseCode::TRY_AGAIN_LATER, Side::Local)]);
    assert_served(&mut rig, &mut clients[1..]);
    rig.run(millis(600), &mut clients);
    let (_, client) = clients.remove(0);
    assert_eq!(client.close_code, Some(CloseCode::TRY_AGAIN_LATER), "behind all that was queued");
    assert!((200..=202).contains(&client.returned), "{} copies", client.returned);
    rig.finish();
}

#[test]
fn bp01_peer_that_never_reads_again_is_given_up() {
    let faults = FaultConfig { window_bytes: 1000, ..FaultConfig::none() };
    let limits = Limits { send_bytes_max: 200_000, ..limits() };
    let mut rig = Rig::with_faults(1, faults, limits);
    let mut clients = open(&mut rig, 1);
    let (id, client) = &mut clients[0];
    client.say(MessageKind::Binary, Command::Burst, 1000, 1);
    rig.net.peer_write(*id, client.out.make_contiguous());
    rig.run(Duration::from_secs(3), &mut []);
    assert!(rig.net.is_closed(*id) && rig.net.peer_sees_reset(*id));
    rig.finish();
}
