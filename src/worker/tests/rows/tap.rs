//! Taps in a worker: what they find, what they show, and that nothing of them stays behind.

use std::time::Duration;

use crate::conn::{CloseCause, MessageKind};
use crate::conn_info::ConnId;
use crate::io::sim::PeerId;
use crate::pubsub::Order;
use crate::tap::{Tap, TapDirection, TapEvent, TapOrder, TapTarget};

use super::super::client::Client;
use super::super::payload::Command;
use super::super::rig::Rig;
use super::{limits, millis, open};

fn tap(rig: &mut Rig<false>, target: TapTarget) -> Tap {
    let (order, tap) = TapOrder::new(target, 64);
    rig.shared.exchange.order(0, Order::Tap(Box::new(order)));
    rig.net.wake();
    tap
}

fn name(rig: &Rig<false>, id: PeerId) -> ConnId {
    ConnId::new(0, rig.net.token_of(id).unwrap())
}

fn events(tap: &mut Tap) -> Vec<TapEvent> {
    std::iter::from_fn(|| tap.try_next()).collect()
}

fn echo(rig: &mut Rig<false>, clients: &mut [(PeerId, Client)]) {
    for (_, client) in &mut *clients {
        client.say(MessageKind::Text, Command::Echo, 40, 1);
    }
    rig.run(millis(50), clients);
}

#[test]
fn one_connection_is_shown_and_no_other() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 5);
    let id = name(&rig, clients[2].0);
    let mut tap = tap(&mut rig, TapTarget::Conn(id));
    rig.turn();
    echo(&mut rig, &mut clients);
    let shown = events(&mut tap);
    assert!(matches!(shown[0], TapEvent::Watching { id: of, .. } if of == id), "{shown:?}");
    let directions: Vec<TapDirection> = shown[1..]
        .iter()
        .map(|event| {
            let TapEvent::Frame(frame) = event else { panic!("{event:?}") };
            assert_eq!((frame.id, frame.opcode, frame.payload_bytes), (id, "text", 40));
            assert!(frame.payload.as_ref().unwrap().len() <= 64);
            frame.direction
        })
        .collect();
    assert_eq!(directions, [TapDirection::In, TapDirection::Out]);
    rig.net.peer_reset(clients[2].0);
    rig.run(millis(50), &mut clients);
    let cause = CloseCause::Reset.name();
    let ended = events(&mut tap);
    assert!(matches!(ended[..], [TapEvent::Ended { cause: c, .. }] if c == cause), "{ended:?}");
    assert!(tap.is_over(), "there is nothing more to show");
    assert!(rig.worker.core.taps.is_none());
    rig.finish();
}

#[test]
fn connection_that_is_not_there_is_missing() {
    let mut rig = Rig::new(limits());
    let clients = open(&mut rig, 1);
    let token = rig.net.token_of(clients[0].0).unwrap();
    let former = crate::io::Token { generation: token.generation + 1, ..token };
    for id in [ConnId::new(0, former), ConnId::new(1, token)] {
        let mut tap = tap(&mut rig, TapTarget::Conn(id));
        rig.turn();
        assert_eq!(events(&mut tap), [TapEvent::Missing]);
        assert!(tap.is_over());
    }
    assert!(rig.worker.core.taps.is_none());
    rig.finish();
}

#[test]
fn address_is_found_among_many_and_when_it_comes() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 700);
    // Peer n has the address 10.0.0.n, and so on; see the simulated driver.
    let number = u32::try_from(clients[650].0.index()).unwrap();
    let [_, a, b, c] = number.to_be_bytes();
    let mut of_old = tap(&mut rig, TapTarget::Addr([10, a, b, c].into()));
    let [_, a, b, c] = 700_u32.to_be_bytes();
    let mut of_new = tap(&mut rig, TapTarget::Addr([10, a, b, c].into()));
    rig.run(millis(50), &mut clients);
    let id = name(&rig, clients[650].0);
    let found = events(&mut of_old);
    assert!(matches!(found[..], [TapEvent::Watching { id: of, .. }] if of == id), "{found:?}");
    assert_eq!(events(&mut of_new), []);
    assert!(!rig.worker.is_searching_for_taps(), "the search has an end");
    let mut late = rig.connect(1);
    rig.run(millis(50), &mut late);
    assert!(matches!(events(&mut of_new)[0], TapEvent::Watching { .. }));
    rig.finish();
}

#[test]
fn tap_that_nobody_keeps_is_gone_within_a_second() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 3);
    let id = name(&rig, clients[0].0);
    let mut kept = tap(&mut rig, TapTarget::Conn(id));
    let dropped = tap(&mut rig, TapTarget::Conn(id));
    rig.turn();
    drop(dropped);
    rig.run(Duration::from_millis(1500), &mut clients);
    events(&mut kept);
    echo(&mut rig, &mut clients);
    assert_eq!(events(&mut kept).len(), 2, "the other goes on");
    drop(kept);
    rig.run(Duration::from_millis(1500), &mut clients);
    assert!(rig.worker.core.taps.is_none());
    echo(&mut rig, &mut clients);
    rig.finish();
}

#[test]
fn ninth_tap_is_over_at_once_and_what_is_not_fetched_is_counted() {
    let mut rig = Rig::new(limits());
    let mut clients = open(&mut rig, 1);
    let id = name(&rig, clients[0].0);
    let mut taps: Vec<Tap> = (0..9).map(|_| tap(&mut rig, TapTarget::Conn(id))).collect();
    rig.turn();
    let mut ninth = taps.pop().unwrap();
    assert_eq!(events(&mut ninth), []);
    assert!(ninth.is_over());
    for _ in 0..60 {
        for _ in 0..10 {
            echo(&mut rig, &mut clients);
        }
    }
    assert_eq!(events(&mut taps[0]).len(), 1024);
    assert_eq!(taps[0].take_skipped(), 1 + 1200 - 1024);
    assert_eq!(taps[0].take_skipped(), 0, "they are told once");
    rig.finish();
}
