//! Accepting: peers that come when there is no room, go before they are in, or come and go.

use std::time::Duration;

use crate::conn::MessageKind;
use crate::io::sim::{FaultConfig, PeerId, SimDriver};
use crate::policy::Limits;
use crate::proto::CloseCode;

use super::super::client::{Client, Opening};
use super::super::payload::Command;
use super::super::rig::{Rig, exchange, memory};
use super::{assert_served, limits, millis, open};

#[test]
fn tc01_exhausted_descriptors_rest_accepting_and_nothing_else() {
    for seed in 0..20 {
        let faults = FaultConfig { exhausted: 500, keep_trace: true, ..FaultConfig::none() };
        let mut rig = Rig::with_faults(seed, faults, limits());
        let mut clients = Vec::new();
        for _ in 0..60 {
            clients.append(&mut rig.connect(1));
            rig.run(millis(50), &mut clients);
            clients.retain(|(id, _)| !rig.net.is_closed(*id));
            assert_served(&mut rig, &mut clients);
        }
        let failed: Vec<Duration> = rig
            .net
            .trace()
            .into_iter()
            .filter(|entry| entry.name == "AcceptFailed")
            .map(|entry| entry.at)
            .collect();
        assert!(failed.len() > 5, "seed {seed}: the fault struck");
        for pair in failed.windows(2) {
            assert!(pair[1] - pair[0] >= millis(100), "seed {seed}: accepting rests");
        }
        assert!(!clients.is_empty(), "seed {seed}: accepting goes on");
        assert_eq!(rig.stats().shed + clients.len() as u64, 60, "seed {seed}: shed or served");
        rig.finish();
    }
}

#[test]
fn tc01_accepting_goes_on_as_soon_as_a_descriptor_is_free() {
    let faults = FaultConfig { exhausted: 400, keep_trace: true, ..FaultConfig::none() };
    let mut rig = Rig::with_faults(3, faults, limits());
    let mut clients = Vec::new();
    while clients.is_empty() {
        clients = rig.connect(1);
        rig.run(millis(700), &mut clients);
        clients.retain(|(id, _)| !rig.net.is_closed(*id));
    }
    let shed = rig.stats().shed;
    while rig.stats().shed == shed {
        rig.connect(1);
        rig.turn();
    }
    let (id, _) = clients[0];
    let rests_since = rig.net.elapsed();
    rig.net.peer_reset(id);
    while rig.worker.accept_resumes_at.is_some() {
        rig.turn();
    }
    assert!(rig.net.elapsed() - rests_since < millis(100), "before its rest is over");
    rig.finish();
}

#[test]
fn tc03_error_of_one_peer_does_not_hold_up_the_next() {
    for seed in 0..20 {
        let faults = FaultConfig { aborted: 500, ..FaultConfig::none() };
        let mut rig = Rig::with_faults(seed, faults, limits());
        let mut clients = rig.connect(40);
        rig.run(millis(1), &mut clients);
        assert!(rig.worker.accept_resumes_at.is_none(), "no rest for the error of one peer");
        clients.retain(|(id, _)| !rig.net.was_broken(*id));
        assert!((1..40).contains(&clients.len()), "seed {seed}: {} are left", clients.len());
        assert_served(&mut rig, &mut clients);
        rig.finish();
    }
}

#[test]
fn tc06_exactly_conns_max_are_held_and_others_are_told() {
    let limits = Limits { conns_max: 5, ..limits() };
    let mut rig = Rig::new(limits);
    let mut held = open(&mut rig, 5);
    let mut others = rig.connect(7);
    rig.run(millis(10), &mut others);
    assert!(others.iter().all(|(_, client)| client.opening == Opening::Refused(503)));
    assert_eq!(rig.open_count(), 5);
    // More than there are places to be told at: they are closed without a word.
    let mut crowd = rig.connect(100);
    rig.run(millis(10), &mut crowd);
    let told = crowd.iter().filter(|(_, client)| client.opening == Opening::Refused(503)).count();
    let dropped = crowd.iter().filter(|(id, _)| rig.net.is_closed(*id)).count();
    assert_eq!((told, dropped), (64 - 7, 100 - (64 - 7)));
    assert_served(&mut rig, &mut held);
    rig.run(Duration::from_secs(3), &mut held);
    assert_eq!(rig.worker.table.len(), 5, "who was told is gone, whatever it does");
    rig.finish();
}

#[test]
fn handshakes_beyond_their_rate_are_told_to_come_back_and_others_are_let_in() {
    let rate = std::num::NonZeroU32::new(40);
    let mut rig = Rig::new(Limits { handshakes_per_second: rate, ..limits() });
    let mut let_in = 0;
    for second in 0..5 {
        let mut wave = Vec::new();
        for _ in 0..20 {
            wave.append(&mut rig.connect(10));
            rig.run(millis(50), &mut wave);
        }
        let opened = |(_, client): &&(PeerId, Client)| client.opening == Opening::Open;
        let now = wave.iter().filter(opened).count();
        assert!((35..=55).contains(&now), "{now} in second {second}");
        for (_, client) in &wave {
            assert!(matches!(client.opening, Opening::Open | Opening::Refused(503)));
        }
        let_in += now;
    }
    assert_eq!(rig.stats().refusals["handshake_rate"], 1000 - let_in as u64);
    rig.finish();
}

#[test]
fn tc06_place_that_is_left_is_free_although_refused_peers_linger() {
    let limits = Limits { conns_max: 5, ..limits() };
    let mut rig = Rig::new(limits);
    let mut held = open(&mut rig, 5);
    let mut refused = rig.connect(7);
    rig.run(millis(10), &mut refused);
    let (id, _) = held.remove(0);
    rig.net.peer_reset(id);
    rig.run(millis(10), &mut held);
    held.append(&mut open(&mut rig, 1));
    assert_served(&mut rig, &mut held);
    rig.finish();
}

#[test]
fn tc07_reset_at_every_byte_of_a_session_frees_the_slot_once() {
    for at_once in [false, true] {
        let driver = SimDriver::new(9, FaultConfig::none());
        if at_once {
            reset_everywhere(Rig::over(driver.sending_at_once(), limits(), memory()));
        } else {
            reset_everywhere(Rig::over(driver, limits(), memory()));
        }
    }
}

fn reset_everywhere<const AT_ONCE: bool>(mut rig: Rig<AT_ONCE>) {
    let mut cut = 0;
    for round in 0.. {
        let id = rig.net.connect();
        let mut client = Client::knocking(id.index(), 7);
        if round % 2 == 0 {
            rig.turn();
        }
        let head_bytes = client.out.len();
        let mut session = Vec::new();
        if cut > head_bytes {
            let mut own = [(id, client)];
            rig.run(millis(1), &mut own);
            let [(_, opened)] = own;
            client = opened;
            client.say(MessageKind::Text, Command::Twice, 40, 3);
            client.close(CloseCode::NORMAL, "");
            session.extend(client.out.drain(..));
        } else {
            session.extend(client.out.drain(..));
        }
        let base = if cut > head_bytes { head_bytes } else { 0 };
        let len = (cut - base).min(session.len());
        let is_last = cut > head_bytes && len == session.len();
        rig.net.peer_write(id, &session[..len]);
        if round % 3 == 0 {
            rig.turn();
        }
        rig.net.peer_reset(id);
        rig.run(millis(1), &mut []);
        assert!(rig.net.is_closed(id), "reset at byte {cut}");
        assert!(rig.worker.table.is_empty(), "reset at byte {cut}");
        cut += usize::from(round % 6 == 5);
        if is_last && round % 6 == 5 {
            break;
        }
    }
    assert!(cut > 200, "the whole session was cut");
    rig.finish();
}

#[test]
fn tc12_everything_is_as_before_after_many_opens_and_closes() {
    let mut rig = Rig::new(limits());
    let mut baseline = None;
    for round in 0..300 {
        let mut clients = rig.connect(4);
        rig.net.peer_reset(clients[0].0);
        rig.net.peer_shutdown(clients[1].0);
        clients.remove(1);
        rig.run(millis(1), &mut clients[1..]);
        for (_, client) in &mut clients[1..] {
            client.say(MessageKind::Binary, Command::Echo, 20_000, 1);
            client.close(CloseCode::NORMAL, "");
        }
        rig.run(millis(1), &mut clients[1..]);
        for (id, client) in &mut clients[1..] {
            exchange(&rig.net, *id, client);
            assert!(client.is_satisfied() && rig.net.peer_sees_fin(*id));
            rig.net.peer_shutdown(*id);
        }
        rig.run(millis(1), &mut []);
        let core = &rig.worker.core;
        let now = (
            rig.worker.table.len(),
            core.pool.lent_count(),
            rig.worker.tally.handshakes,
            rig.worker.deadlines.next_due().0.min(1),
        );
        assert_eq!((now.0, now.1, now.2), (0, 0, 0), "round {round}");
        assert!(core.outboxes.len() <= 4, "as many queues as were in use at one time");
        if round > 10 {
            let slots = (rig.worker.table.capacity(), core.outboxes.len());
            assert_eq!(*baseline.get_or_insert(slots), slots, "round {round}");
        }
    }
    rig.finish();
}
