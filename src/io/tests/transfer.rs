//! Bytes in quantity: order, places, short sends, starving pools and greedy peers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::rig::{Knobs, Make, Rig, name, on_every_driver, token};
use crate::buf::RECEIVE_BLOCK_BYTES;
use crate::io::{Closing, Completion, Driver, Patience, Token};

on_every_driver! {
    large_stream_arrives_in_order,
    bytes_go_to_the_place_that_was_named,
    place_that_waits_is_returned_when_the_stream_ends,
    place_named_late_still_gets_the_next_bytes,
    urgent_data_is_ordinary_data,
    waiting_send_completes_when_the_peer_reads,
    u03_two_blocks_serve_fifty_peers,
    u03_starved_peers_go_on_when_blocks_return,
    u05_u06_tiny_queues_lose_nothing,
    u18_greedy_peer_does_not_hold_up_others,
    accept_storm_is_taken_whole,
}

/// Bytes that differ from one place of a stream to the next, and from stream to stream.
fn pattern(stream: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(stream) << 32 | 1;
    let step = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(step).collect()
}

fn large_stream_arrives_in_order<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    let bytes = pattern(1, 3_000_000);
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer).unwrap());
    assert!(rig.receive(token(0), bytes.len()) == bytes, "the same bytes in the same order");
    drop(writer.join().unwrap());
    assert!(matches!(rig.next(), Completion::PeerClosed { .. }));
    assert_eq!(rig.pool.lent_count(), 0);
}

fn bytes_go_to_the_place_that_was_named<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    let bytes = pattern(2, RECEIVE_BLOCK_BYTES + 100_000 + 10);
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer).unwrap());
    let mut arrived = Vec::new();
    while arrived.len() < RECEIVE_BLOCK_BYTES {
        let Completion::Received { block, len, .. } = rig.next() else { panic!("bytes") };
        arrived.extend_from_slice(&block.bytes()[..len]);
        rig.pool.give(block);
    }
    // The rest of 100,000 bytes is collected in one place, however they come; 10 are left over.
    let (start, end) = (16, 16 + RECEIVE_BLOCK_BYTES + 100_000 - arrived.len());
    let mut filled = start;
    let mut block = rig.pool.take(end - start);
    while filled < end {
        rig.driver.submit_receive_into(token(0), block, filled, end);
        match rig.next() {
            Completion::ReceivedInto { token: from, block: back, len } => {
                assert_eq!(from, token(0));
                filled += len;
                block = back;
            }
            other => panic!("bytes belong into the place, but {}", name(&other)),
        }
    }
    assert_eq!(filled, end);
    arrived.extend_from_slice(&block.bytes()[start..end]);
    rig.pool.give(block);
    arrived.extend(rig.receive(token(0), 10));
    assert!(arrived == bytes, "the same bytes in the same order");
    drop(writer.join().unwrap());
}

fn place_that_waits_is_returned_when_the_stream_ends<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let peer = rig.connect(token(0));
    let block = rig.pool.take(1000);
    rig.driver.submit_receive_into(token(0), block, 0, 1000);
    rig.assert_silent();
    drop(peer);
    assert!(matches!(rig.next(), Completion::PeerClosed { .. }));
    rig.assert_silent();
    assert_eq!(rig.pool.lent_count(), 0);
}

fn place_named_late_still_gets_the_next_bytes<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut first = rig.connect(token(0));
    let mut second = rig.connect(token(1));
    rig.assert_silent();
    // Both receives are under way when the first is told; then the second names its place.
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    std::thread::sleep(Duration::from_millis(10));
    let Completion::Received { token: told, block, .. } = rig.next() else { panic!("bytes") };
    rig.pool.give(block);
    let (other, bytes) = if told == token(0) { (1, "second") } else { (0, "first") };
    let place = rig.pool.take(4);
    rig.driver.submit_receive_into(token(other), place, 3, 7);
    match rig.next() {
        Completion::ReceivedInto { token: from, block, len } => {
            assert_eq!((from, len), (token(other), 4));
            assert_eq!(&block.bytes()[3..7], &bytes.as_bytes()[..4]);
            rig.pool.give(block);
        }
        other => panic!("bytes belong into the place, but {}", name(&other)),
    }
    assert_eq!(rig.receive(token(other), bytes.len() - 4), &bytes.as_bytes()[4..]);
    rig.assert_silent();
    assert_eq!(rig.pool.lent_count(), 0);
}

fn urgent_data_is_ordinary_data<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    rig.assert_silent();
    for _ in 0..20 {
        peer.write_all(b"abc").unwrap();
        socket2::SockRef::from(&peer).send_out_of_band(b"d").unwrap();
        peer.write_all(b"efg").unwrap();
        assert_eq!(rig.receive(token(0), 7), b"abcdefg");
    }
}

fn waiting_send_completes_when_the_peer_reads<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    rig.fill_socket(token(0));
    rig.submit_send(token(0), &[b'w'; 50_000], Patience::Wait);
    rig.assert_silent();
    let reader = std::thread::spawn(move || {
        let mut tail = Vec::new();
        peer.read_to_end(&mut tail).unwrap();
        tail.iter().filter(|byte| **byte == b'w').count()
    });
    let Completion::Sent { segment, sent, .. } = rig.next() else { panic!("the answer") };
    assert!(sent > 0, "it waited for at least one byte");
    rig.pool.give(segment.block);
    rig.close(token(0), Closing::Orderly);
    assert_eq!(reader.join().unwrap(), sent);
}

/// Echoes to `count` peers, each of which sends `rounds` messages, until all have left.
fn echo_to_peers<D: Driver>(rig: &mut Rig<D>, count: u32, rounds: u32) {
    let addr = rig.addr;
    let talk = move |peer_index: u32| {
        let mut peer = TcpStream::connect(addr).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for round in 0..rounds {
            let bytes = pattern(peer_index << 8 | round, 100 + (round as usize % 3) * 9000);
            peer.write_all(&bytes).unwrap();
            let mut echo = vec![0; bytes.len()];
            peer.read_exact(&mut echo).unwrap();
            assert!(echo == bytes, "no byte of one peer reaches another");
        }
    };
    let peers: Vec<_> = (0..count).map(|index| std::thread::spawn(move || talk(index))).collect();
    let (mut attached, mut closed) = (0, 0);
    let mut unsent: std::collections::HashMap<Token, Vec<u8>> = Default::default();
    while closed < count {
        match rig.next() {
            Completion::Accepted { socket, .. } => {
                rig.driver.attach(token(attached), socket).unwrap();
                attached += 1;
            }
            Completion::Received { token, block, len } => {
                let bytes = &block.bytes()[..len];
                match unsent.get_mut(&token) {
                    Some(queued) => queued.extend_from_slice(bytes),
                    None => {
                        unsent.insert(token, bytes.to_vec());
                        rig.submit_send(token, &block.bytes()[..len], Patience::Wait);
                    }
                }
                rig.pool.give(block);
            }
            Completion::Sent { token, segment, sent } => {
                rig.pool.give(segment.block);
                let mut queued = unsent.remove(&token).unwrap();
                queued.drain(..sent);
                if !queued.is_empty() {
                    rig.submit_send(token, &queued, Patience::Wait);
                    unsent.insert(token, queued);
                }
            }
            Completion::PeerClosed { token } => {
                rig.driver.submit_close(token, Closing::Orderly);
            }
            Completion::Closed { .. } => closed += 1,
            other => panic!("an echo has no {}", name(&other)),
        }
    }
    peers.into_iter().for_each(|peer| peer.join().unwrap());
    assert_eq!(rig.pool.lent_count(), 0);
}

fn u03_two_blocks_serve_fifty_peers<D: Driver>(make: Make<D>) {
    let knobs = Knobs { receive_blocks_max: 2, ..Knobs::default() };
    let Some(mut rig) = Rig::with(make, knobs) else { return };
    echo_to_peers(&mut rig, 50, 20);
}

fn u03_starved_peers_go_on_when_blocks_return<D: Driver>(make: Make<D>) {
    let knobs = Knobs { receive_blocks_max: 1, ..Knobs::default() };
    let Some(mut rig) = Rig::with(make, knobs) else { return };
    let mut peers = [rig.connect(token(0)), rig.connect(token(1))];
    rig.assert_silent();
    for peer in &mut peers {
        peer.write_all(b"abc").unwrap();
    }
    let Completion::Received { token: first, block, .. } = rig.next() else { panic!("bytes") };
    rig.assert_silent();
    rig.pool.give(block);
    let second = if first == token(0) { token(1) } else { token(0) };
    assert_eq!(rig.receive(second, 3), b"abc");
}

fn u05_u06_tiny_queues_lose_nothing<D: Driver>(make: Make<D>) {
    let knobs = Knobs { ring_entries: 4, receive_blocks_max: 64, ..Knobs::default() };
    let Some(mut rig) = Rig::with(make, knobs) else { return };
    echo_to_peers(&mut rig, 64, 12);
    let health = rig.driver.health();
    assert!(health.waits > 0);
    // epoll has no queues that could be too small.
    assert_eq!(health.submission_stalls > 0, health.submissions > 0, "{health:?}");
}

fn u18_greedy_peer_does_not_hold_up_others<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut greedy = rig.connect(token(0));
    let mut modest = rig.connect(token(1));
    rig.assert_silent();
    let writer = std::thread::spawn(move || while greedy.write_all(&[0; 100_000]).is_ok() {});
    for _ in 0..20 {
        modest.write_all(b"please").unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let mut blocks = 0;
        loop {
            let Completion::Received { token: from, block, .. } = rig.next() else { panic!() };
            rig.pool.give(block);
            blocks += 1;
            if from == token(1) {
                break;
            }
        }
        // It was ready before, so at most the rounds up to the next look at the sockets pass.
        assert!(blocks <= 1100, "{blocks} blocks of the greedy peer came first");
    }
    // However much there is, the worker gets a chance to flush.
    let mut polls = 0;
    while let Some(completion) = rig.driver.poll_completion(&mut rig.pool) {
        let Completion::Received { block, .. } = completion else { panic!("bytes") };
        rig.pool.give(block);
        polls += 1;
        assert!(polls <= 1100, "a poll has to come to an end");
    }
    rig.close(token(0), Closing::Reset);
    writer.join().unwrap();
}

fn accept_storm_is_taken_whole<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let peers: Vec<_> = (0..300).map(|_| TcpStream::connect(rig.addr).unwrap()).collect();
    for index in 0..300 {
        let Completion::Accepted { socket, .. } = rig.next() else { panic!("a peer") };
        rig.driver.attach(token(index), socket).unwrap();
    }
    rig.assert_silent();
    drop(peers);
    let (mut ended, mut closed) = (0, 0);
    while closed < 300 {
        match rig.next() {
            Completion::PeerClosed { token } => {
                rig.driver.submit_close(token, Closing::Orderly);
                ended += 1;
            }
            Completion::Closed { .. } => closed += 1,
            other => panic!("all leave, but {}", name(&other)),
        }
    }
    assert_eq!(ended, 300);
}
