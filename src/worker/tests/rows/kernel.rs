//! What a kernel may do to a worker: too few blocks, short sends, late completions, lost time.

use std::io::ErrorKind;
use std::time::Duration;

use crate::buf::{PoolConfig, Segment};
use crate::conn::MessageKind;
use crate::io::Completion;
use crate::io::sim::{FaultConfig, SimDriver};
use crate::policy::{Limits, Timeouts};
use crate::proto::CloseCode;

use super::super::payload::Command;
use super::super::rig::{Rig, seconds};
use super::{assert_served, limits, millis, open};

#[test]
fn u03_one_block_is_enough_for_everybody() {
    let faults = FaultConfig { shortage: 300, ..FaultConfig::none() };
    let memory = PoolConfig { receive_blocks_max: 1, spare_bytes_max: 0 };
    let driver = SimDriver::new(1, faults);
    let mut rig = Rig::over(driver, limits(), memory);
    let mut clients = open(&mut rig, 20);
    for _ in 0..20 {
        for (_, client) in &mut clients {
            client.say(MessageKind::Binary, Command::Echo, 40_000, 1);
        }
        rig.run(millis(100), &mut clients);
    }
    rig.run(millis(500), &mut clients);
    assert_served(&mut rig, &mut clients);
    assert!(rig.net.stats().starved > 20, "blocks were short");
    rig.run(Duration::from_secs(2), &mut clients);
    assert!(rig.stats().receives_parked > 20, "and that is counted");
    rig.finish();
}

#[test]
fn u07_rest_of_a_short_send_goes_before_anything_else() {
    for seed in 0..20 {
        let faults = FaultConfig {
            short_send: 900,
            refused_try: 300,
            window_bytes: 900,
            ..FaultConfig::none()
        };
        let mut rig = Rig::with_faults(seed, faults, limits());
        let mut clients = open(&mut rig, 3);
        for (_, client) in &mut clients {
            for len in [20, 5000, 0, 17_000, 126, 60_000, 9] {
                client.say(MessageKind::Binary, Command::Note, len, 1);
                client.ping(&[1, 2, 3]);
            }
        }
        rig.run(Duration::from_secs(1), &mut clients);
        assert_served(&mut rig, &mut clients);
        assert!(rig.net.stats().short_sends > 100, "seed {seed}: sends were short");
        rig.finish();
    }
}

#[test]
fn u08_one_send_is_in_flight_however_much_is_queued() {
    // The driver asserts it; a window of one byte keeps a send in flight nearly always.
    let faults = FaultConfig { delay: 800, window_bytes: 1, ..FaultConfig::none() };
    let mut rig = Rig::with_faults(5, faults, limits());
    let mut clients = rig.connect(2);
    rig.run(Duration::from_secs(3), &mut clients);
    for (id, client) in &mut clients {
        rig.net.peer_window(*id, 40);
        for _ in 0..10 {
            client.say(MessageKind::Text, Command::Twice, 100, 1);
        }
    }
    rig.run(Duration::from_secs(3), &mut clients);
    for (_, client) in &clients {
        assert!(client.is_satisfied(), "{}", client.next_expected());
        assert_eq!(client.returned, 20);
    }
    rig.finish();
}

#[test]
fn u10_late_completion_of_a_slot_that_is_used_again_reaches_nobody() {
    for seed in 0..30 {
        let faults = FaultConfig {
            duplicate: 300,
            late: 900,
            delay: 500,
            reorder: 500,
            ..FaultConfig::none()
        };
        let mut rig = Rig::with_faults(seed, faults, limits());
        let mut served = open(&mut rig, 1);
        for _ in 0..20 {
            let mut clients = rig.connect(4);
            rig.run(millis(20), &mut clients);
            for (_, client) in &mut clients {
                client.say(MessageKind::Text, Command::Twice, 500, 1);
            }
            rig.run(millis(1), &mut clients);
            for (id, _) in &clients {
                rig.net.peer_reset(*id);
            }
            rig.run(millis(3), &mut served);
        }
        assert_served(&mut rig, &mut served);
        let stats = rig.net.stats();
        assert!(stats.stale > 0, "seed {seed}: {stats:?}");
        rig.finish();
    }
}

#[test]
fn u10_worker_drops_a_stale_completion_and_takes_its_block_back() {
    // A driver that keeps its contract hands out none, so these are made by hand.
    let mut rig = Rig::new(limits());
    let gone = open(&mut rig, 1);
    let stale = rig.net.token_of(gone[0].0).unwrap();
    rig.net.peer_reset(gone[0].0);
    rig.run(millis(5), &mut []);
    let mut clients = open(&mut rig, 1);
    let token = rig.net.token_of(clients[0].0).unwrap();
    assert_eq!(token.index, stale.index, "the slot is used again");
    let worker = &mut rig.worker;
    let block = worker.core.pool.take_receive().unwrap();
    worker.dispatch(Completion::Received { token: stale, block, len: 100 });
    let block = worker.core.pool.take(1000);
    worker.dispatch(Completion::ReceivedInto { token: stale, block, len: 100 });
    let segment = Segment::new(worker.core.pool.take(1000), 0, 100);
    worker.dispatch(Completion::Sent { token: stale, segment, sent: 100 });
    worker.dispatch(Completion::PeerClosed { token: stale });
    worker.dispatch(Completion::Failed { token: stale, error: ErrorKind::BrokenPipe.into() });
    worker.dispatch(Completion::Closed { token: stale });
    assert_eq!(worker.core.pool.lent_count(), 0, "the blocks are back");
    assert_served(&mut rig, &mut clients);
    rig.finish();
}

#[test]
fn u12_blocks_come_back_however_a_connection_ends() {
    for seed in 0..30 {
        let faults =
            FaultConfig { delay: 500, late: 500, window_bytes: 500, ..FaultConfig::none() };
        let mut rig = Rig::with_faults(seed, faults, limits());
        let mut clients = open(&mut rig, 6);
        for (index, (id, client)) in clients.iter_mut().enumerate() {
            client.say(MessageKind::Binary, Command::Twice, 60_000, 1);
            client.out.truncate(client.out.len() - 1000 * index);
            rig.net.peer_write(*id, client.out.make_contiguous());
            client.out.clear();
        }
        rig.run(millis(seed + 1), &mut []);
        let held = rig.worker.core.pool.lent_count();
        rig.net.peer_reset(clients[0].0);
        rig.net.peer_shutdown(clients[1].0);
        assert!(held > 0, "seed {seed}: messages and queues hold blocks");
        // `finish` asserts that all of them are back.
        rig.finish();
    }
}

#[test]
fn tm01_clock_that_jumps_loses_no_live_peer() {
    let timeouts = Timeouts { pong: seconds(10), idle: Some(seconds(45)), ..Timeouts::default() };
    let mut rig = Rig::new(Limits { timeouts, ..limits() });
    let mut clients = open(&mut rig, 10);
    let silent = open(&mut rig, 1);
    for jump in [6, 60, 600, 86_400, 60] {
        // In the middle of pings that wait for their pongs, too.
        rig.run(Duration::from_secs(29), &mut clients);
        rig.net.advance(Duration::from_secs(jump));
        rig.turn();
    }
    rig.run(Duration::from_secs(40), &mut clients);
    assert!(clients.iter().all(|(_, client)| client.pings_answered >= 3));
    assert_served(&mut rig, &mut clients);
    let (id, _) = &silent[0];
    assert!(rig.net.is_closed(*id), "who answers no ping is lost all the same");
    assert_eq!(rig.log.borrow().peers[&id.index()].closes.len(), 1);
    rig.finish();
}

#[test]
fn tm01_jump_before_the_pong_was_read_loses_no_live_peer() {
    let timeouts = Timeouts { pong: seconds(10), ..Timeouts::default() };
    let mut rig = Rig::new(Limits { timeouts, ..limits() });
    let mut clients = open(&mut rig, 10);
    let answers_bytes = rig.net.stats().sent_bytes;
    while rig.net.stats().sent_bytes == answers_bytes {
        rig.turn();
    }
    // The pongs are at the server when it is stopped for a minute.
    for (id, client) in &mut clients {
        super::super::rig::exchange(&rig.net, *id, client);
    }
    rig.net.advance(Duration::from_secs(60));
    rig.turn();
    assert_served(&mut rig, &mut clients);
    assert!(clients.iter().all(|(_, client)| client.close_code != Some(CloseCode::GOING_AWAY)));
    rig.finish();
}
