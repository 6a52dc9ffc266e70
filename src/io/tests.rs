//! The contract, tested on both real drivers with ordinary sockets as peers.
//!
//! Each test is generic and runs once per driver. Where io_uring is forbidden its runs end at
//! once with a note. Tests that change or count what belongs to the whole process run in a child.

mod listening;
mod outgoing;
mod process;
mod rig;
mod transfer;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rig::{Knobs, Make, Rig, on_every_driver, token};

use super::addr::PeerAddr;
use super::{Closing, Completion, Driver, Patience};

on_every_driver! {
    peer_is_accepted_and_its_bytes_arrive,
    accepting_pauses_and_resumes,
    closed_listener_refuses_peers,
    wakes_between_two_turns_are_one_completion,
    wait_ends_in_time,
    peer_closed_comes_after_the_last_bytes,
    tc07_reset_is_one_failure,
    failed_send_is_one_failure,
    write_side_shuts_while_bytes_arrive,
    paused_connection_is_silent_until_resumed,
    u09_close_with_everything_in_flight_gives_all_blocks_back,
    u09_orderly_close_delivers_what_was_sent,
    reset_close_resets_the_peer,
    u10_reused_slot_sees_only_its_own_bytes,
    dropped_driver_closes_every_connection,
}

mod with_descriptors {
    use super::{address_of_the_peer_is_known, on_every_driver};

    on_every_driver! {
        but slots,
        address_of_the_peer_is_known,
    }
}

#[test]
fn tc02_full_file_table_pauses_accepting_until_a_slot_is_free() {
    let slots = 8;
    let Some(mut rig) = Rig::with(rig::with_slots, Knobs { conns_max: slots, ..Knobs::default() })
    else {
        return;
    };
    let mut peers: Vec<_> = (0..slots).map(|index| rig.connect(token(index))).collect();
    // The kernel accepts before it looks for a slot: this peer is lost, and learns it at once.
    let mut lost = TcpStream::connect(rig.addr).unwrap();
    let Completion::AcceptFailed { exhausted: true, .. } = rig.next() else { panic!("no slot") };
    assert_eq!(lost.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut refused = TcpStream::connect(rig.addr).unwrap();
    rig.assert_silent();
    peers[0].write_all(b"still served").unwrap();
    assert_eq!(rig.receive(token(0), 12), b"still served");
    rig.close(token(3), Closing::Orderly);
    rig.driver.resume_accept();
    let Completion::Accepted { socket, .. } = rig.next() else { panic!("a slot is free") };
    // Dropped instead of attached, it frees the slot again.
    drop(socket);
    rig.assert_silent();
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0);
    let _peer = TcpStream::connect(rig.addr).unwrap();
    assert!(matches!(rig.next(), Completion::Accepted { .. }));
}

#[test]
fn direct_descriptors_have_no_address() {
    let Some(mut rig) = Rig::new(rig::with_slots) else { return };
    let _peer = rig.connect(token(0));
    let error = rig.driver.peer_addr(token(0)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

fn peer_is_accepted_and_its_bytes_arrive<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(7));
    peer.write_all(b"hello").unwrap();
    assert_eq!(rig.receive(token(7), 5), b"hello");
    peer.write_all(b"again").unwrap();
    assert_eq!(rig.receive(token(7), 5), b"again");
    rig.assert_silent();
}

fn accepting_pauses_and_resumes<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    rig.assert_silent();
    rig.driver.pause_accept();
    rig.assert_silent();
    let _peer = TcpStream::connect(rig.addr).unwrap();
    rig.assert_silent();
    rig.driver.resume_accept();
    assert!(matches!(rig.next(), Completion::Accepted { .. }));
}

fn closed_listener_refuses_peers<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    rig.driver.close_listeners();
    assert!(TcpStream::connect(rig.addr).is_err(), "nobody listens any more");
    peer.write_all(b"still here").unwrap();
    assert_eq!(rig.receive(token(0), 10), b"still here");
    rig.assert_silent();
    rig.driver.resume_accept();
    assert!(!rig.driver.shed_one());
    rig.assert_silent();
}

fn address_of_the_peer_is_known<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let peer = rig.connect(token(3));
    let addr = PeerAddr::Tcp(peer.local_addr().unwrap());
    assert_eq!(rig.driver.peer_addr(token(3)).unwrap(), addr);
    assert!(rig.driver.peer_addr(token(4)).is_err());
}

fn wakes_between_two_turns_are_one_completion<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    for _ in 0..3 {
        let wake = rig.wake.clone();
        let begin = Instant::now();
        let waker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            (0..10).for_each(|_| wake.wake());
        });
        assert!(matches!(rig.next(), Completion::Woken));
        assert!(begin.elapsed() >= Duration::from_millis(15), "nothing woke it before");
        waker.join().unwrap();
        // Wakes that came after the first was told are one more completion at most.
        let mut more = 0;
        while let Some(completion) = rig.poll_for(Duration::from_millis(30)) {
            assert!(matches!(completion, Completion::Woken));
            more += 1;
        }
        assert!(more < 10, "a wake is one completion at most");
    }
}

fn wait_ends_in_time<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    rig.assert_silent();
    let begin = Instant::now();
    rig.driver.wait(Some(Duration::from_millis(40))).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(39), "{:?}", begin.elapsed());
    let begin = Instant::now();
    rig.driver.wait(Some(Duration::ZERO)).unwrap();
    assert!(begin.elapsed() < Duration::from_millis(30), "{:?}", begin.elapsed());
}

fn peer_closed_comes_after_the_last_bytes<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    for bytes in [1, 20_000, 200_000] {
        let mut peer = rig.connect(token(1));
        let writer = std::thread::spawn(move || {
            peer.write_all(&vec![b'x'; bytes]).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            peer
        });
        assert_eq!(rig.receive(token(1), bytes).len(), bytes);
        assert!(matches!(rig.next(), Completion::PeerClosed { token: t } if t == token(1)));
        rig.assert_silent();
        let mut peer = writer.join().unwrap();
        rig.send(token(1), b"bye", Patience::Wait);
        rig.close(token(1), Closing::Orderly);
        assert_eq!(read_all(&mut peer), b"bye");
    }
}

fn tc07_reset_is_one_failure<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let peer = rig.connect(token(2));
    rig.assert_silent();
    reset(peer);
    let Completion::Failed { token: failed, .. } = rig.next() else { panic!("a failure") };
    assert_eq!(failed, token(2));
    rig.submit_send(token(2), b"into the void", Patience::Wait);
    rig.assert_silent();
    rig.close(token(2), Closing::Orderly);
    assert_eq!(rig.pool.lent_count(), 0);
}

fn failed_send_is_one_failure<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let peer = rig.connect(token(2));
    rig.assert_silent();
    rig.driver.pause_receive(token(2));
    reset(peer);
    std::thread::sleep(Duration::from_millis(20));
    rig.submit_send(token(2), b"into the void", Patience::Try);
    assert!(matches!(rig.next(), Completion::Failed { token: t, .. } if t == token(2)));
    rig.driver.resume_receive(token(2));
    rig.assert_silent();
    assert_eq!(rig.pool.lent_count(), 0);
    rig.close(token(2), Closing::Orderly);
}

fn write_side_shuts_while_bytes_arrive<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    rig.send(token(0), b"last words", Patience::Wait);
    rig.driver.shutdown_write(token(0));
    rig.assert_silent();
    assert_eq!(read_all(&mut peer), b"last words");
    peer.write_all(b"answer").unwrap();
    assert_eq!(rig.receive(token(0), 6), b"answer");
}

fn paused_connection_is_silent_until_resumed<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(5));
    rig.assert_silent();
    rig.driver.pause_receive(token(5));
    peer.write_all(b"one").unwrap();
    rig.assert_silent();
    rig.driver.resume_receive(token(5));
    assert_eq!(rig.receive(token(5), 3), b"one");
    rig.driver.pause_receive(token(5));
    peer.write_all(b"two").unwrap();
    drop(peer);
    rig.assert_silent();
    rig.driver.resume_receive(token(5));
    assert_eq!(rig.receive(token(5), 3), b"two");
    assert!(matches!(rig.next(), Completion::PeerClosed { .. }));
}

fn u09_close_with_everything_in_flight_gives_all_blocks_back<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    for closing in [Closing::Orderly, Closing::Reset] {
        let mut peer = rig.connect(token(9));
        rig.fill_socket(token(9));
        rig.submit_send(token(9), &[0; 4096], Patience::Wait);
        let block = rig.pool.take(1000);
        rig.driver.submit_receive_into(token(9), block, 0, 1000);
        rig.assert_silent();
        peer.write_all(b"unheard").unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.pool.lent_count(), 2);
        rig.close(token(9), closing);
        assert_eq!(rig.pool.lent_count(), 0);
        rig.assert_silent();
        let begin = Instant::now();
        while peer.read(&mut [0; 65_536]).is_ok_and(|len| len > 0) {}
        assert!(begin.elapsed() < Duration::from_secs(1), "the peer learns of it");
    }
}

fn u09_orderly_close_delivers_what_was_sent<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    let mut sent_total = 0;
    while sent_total < 100_000 {
        sent_total += rig.send(token(0), &[b'x'; 10_000], Patience::Wait);
    }
    rig.close(token(0), Closing::Orderly);
    assert_eq!(read_all(&mut peer).len(), sent_total);
}

fn reset_close_resets_the_peer<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut peer = rig.connect(token(0));
    rig.close(token(0), Closing::Reset);
    let error = peer.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

fn u10_reused_slot_sees_only_its_own_bytes<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut token = token(0);
    for round in 0u32..300 {
        let mut peer = rig.connect(token);
        peer.write_all(&round.to_ne_bytes()).unwrap();
        assert_eq!(rig.receive(token, 4), round.to_ne_bytes());
        // Bytes that nobody asks for any more are on their way while the slot changes hands.
        peer.write_all(&[0xff; 64]).unwrap();
        rig.close(token, Closing::Orderly);
        token.generation = super::Token::next_generation(token.generation);
    }
    assert_eq!(rig.pool.lent_count(), 0);
}

fn dropped_driver_closes_every_connection<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut idle = rig.connect(token(0));
    let mut blocked = rig.connect(token(1));
    rig.fill_socket(token(1));
    rig.submit_send(token(1), &[0; 4096], Patience::Wait);
    rig.assert_silent();
    let mut waiting = TcpStream::connect(rig.addr).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    drop(rig);
    for peer in [&mut idle, &mut blocked, &mut waiting] {
        peer.set_read_timeout(None).unwrap();
        // An end or a reset, but no peer is left hanging.
        let _ = std::io::copy(peer, &mut std::io::sink());
    }
}

fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Closes with a reset instead of an end of stream.
fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}
