//! A peer that wants everything must leave something to the others.

use crate::conn::MessageKind;
use crate::io::sim::{FaultConfig, SimDriver};
use crate::policy::{Limits, Timeouts};
use crate::proto::Opcode;

use super::super::payload::Command;
use super::super::rig::{Rig, exchange, memory, seconds};
use super::{limits, millis, open};

/// Bytes of a flood that may be worked through before somebody else has his turn.
const FLOOD_BYTES_PER_TURN_MAX: u64 = 1 << 20;

#[test]
fn fr10_flood_of_tiny_messages_does_not_starve_a_second_connection() {
    for at_once in [false, true] {
        let driver = SimDriver::new(4, FaultConfig::none());
        if at_once {
            flood(Rig::over(driver.sending_at_once(), limits(), memory()));
        } else {
            flood(Rig::over(driver, limits(), memory()));
        }
    }
}

fn flood<const AT_ONCE: bool>(mut rig: Rig<AT_ONCE>) {
    let mut clients = open(&mut rig, 2);
    let flooder = clients[0].0;
    // One-byte messages; the queue must not fill, so the peer takes everything.
    rig.net.peer_window(flooder, 64 << 20);
    clients[0].1.frame(Opcode::Text, true, b"A");
    let frame: Vec<u8> = clients[0].1.out.drain(..).collect();
    rig.net.peer_write(flooder, &frame.repeat(600_000));
    let (id, client) = &mut clients[1];
    for _ in 0..5 {
        client.say(MessageKind::Text, Command::Echo, 20, 1);
        let before = rig.net.stats().received_bytes;
        while !client.is_satisfied() {
            exchange(&rig.net, *id, client);
            rig.turn();
            exchange(&rig.net, *id, client);
        }
        let between = rig.net.stats().received_bytes - before;
        assert!(between <= 2 * FLOOD_BYTES_PER_TURN_MAX, "{between} bytes of the flood between");
    }
    assert!(rig.net.peer_unreceived(flooder) > 0, "the flood goes on all the time");
    rig.finish();
}

#[test]
fn bp04_fast_writer_that_reads_is_slowed_down_and_not_cut() {
    let limits = Limits {
        message_bytes_max: 4000,
        send_high_water_bytes: 16 << 10,
        send_bytes_max: 700 << 10,
        ..limits()
    };
    let mut rig = Rig::new(limits);
    let mut clients = open(&mut rig, 1);
    let (_, client) = &mut clients[0];
    for _ in 0..1000 {
        client.say(MessageKind::Binary, Command::Echo, 3000, 1);
    }
    rig.run(millis(500), &mut clients);
    let (_, client) = &clients[0];
    assert_eq!(client.close_code, None);
    assert!(client.is_satisfied(), "{} is missing", client.next_expected());
    rig.finish();
}

#[test]
fn tc10_slow_reader_that_makes_progress_is_alive() {
    let timeouts = Timeouts {
        ping_interval: Some(seconds(5)),
        pong: seconds(5),
        write_stall: seconds(10),
        ..Timeouts::default()
    };
    let faults = FaultConfig { window_bytes: 4000, ..FaultConfig::none() };
    let limits = Limits { send_high_water_bytes: 8000, timeouts, ..limits() };
    let mut rig = Rig::with_faults(1, faults, limits);
    let mut clients = open(&mut rig, 1);
    let (id, client) = &mut clients[0];
    for _ in 0..4 {
        client.say(MessageKind::Binary, Command::Echo, 20_000, 1);
    }
    rig.net.peer_write(*id, client.out.make_contiguous());
    client.out.clear();
    // A kilobyte a second; the ping stands behind all of it.
    for _ in 0..90 {
        rig.run(millis(1000), &mut []);
        let mut bytes = Vec::new();
        rig.net.peer_read_some(*id, 1000, &mut bytes);
        client.handle_received(&bytes).unwrap();
        if !client.out.is_empty() {
            rig.net.peer_write(*id, client.out.make_contiguous());
            client.out.clear();
        }
    }
    assert!(client.is_satisfied(), "{} is missing", client.next_expected());
    assert!(!rig.net.is_closed(*id));
    rig.finish();
}
