//! Several listeners of one driver, and Unix sockets among them, also shared by two drivers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::rig::{Knobs, Make, Rig, name, on_every_driver, token};
use crate::io::addr::{ListenAddr, PeerAddr};
use crate::io::lease::Lease;
use crate::io::listeners::{ListenOptions, listen};
use crate::io::socket::Listener;
use crate::io::unix::tests::Folder;
use crate::io::{Closing, Completion, Driver, Patience};

on_every_driver! {
    peers_of_two_listeners_are_told_apart,
    pausing_and_closing_is_for_all_listeners,
    lc02_released_listeners_go_on_for_who_has_them,
    lc02_peer_that_has_woken_who_lets_go_is_accepted,
    peers_of_every_listener_are_shed,
    unix_peer_is_served,
    drivers_that_share_a_unix_socket_all_accept,
    driver_that_pauses_leaves_peers_to_those_it_shares_with,
}

mod with_descriptors {
    use super::{on_every_driver, tc14_unix_peer_is_named_by_the_kernel};

    on_every_driver! {
        but slots,
        tc14_unix_peer_is_named_by_the_kernel,
    }
}

/// A TCP listener on loopback, and where it is.
fn tcp() -> (Listener, SocketAddr) {
    let listener = crate::io::socket::listen("127.0.0.1:0".parse().unwrap(), 64).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A Unix socket, for as many drivers.
fn unix(folder: &Folder, drivers: usize) -> (Vec<Listener>, PathBuf) {
    let path = folder.path("s");
    let options = ListenOptions { backlog: 64, unix_mode: None };
    let (listeners, _) = listen(&ListenAddr::Unix(path.clone()), options, drivers).unwrap();
    (listeners, path)
}

fn connect(path: &Path) -> UnixStream {
    let peer = UnixStream::connect(path).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    peer
}

fn peers_of_two_listeners_are_told_apart<D: Driver>(make: Make<D>) {
    let (second, addr) = tcp();
    let Some(mut rig) = Rig::listening(make, Knobs::default(), vec![second]) else { return };
    for (index, number) in (0u32..).zip([0, 1, 1, 0, 1, 0]) {
        let mut peer = TcpStream::connect(if number == 0 { rig.addr } else { addr }).unwrap();
        let socket = rig.accept(number);
        rig.driver.attach(token(index), socket).unwrap();
        peer.write_all(b"hello").unwrap();
        assert_eq!(rig.receive(token(index), 5), b"hello");
        rig.close(token(index), Closing::Orderly);
    }
}

fn pausing_and_closing_is_for_all_listeners<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (second, addr) = tcp();
    let (third, path) = unix(&folder, 1);
    let more = vec![second].into_iter().chain(third).collect();
    let Some(mut rig) = Rig::listening(make, Knobs::default(), more) else { return };
    rig.assert_silent();
    rig.driver.pause_accept();
    rig.assert_silent();
    let _peers = [TcpStream::connect(rig.addr).unwrap(), TcpStream::connect(addr).unwrap()];
    let _peer = connect(&path);
    rig.assert_silent();
    rig.driver.resume_accept();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let Completion::Accepted { listener, .. } = rig.next() else { panic!("three wait") };
        numbers.push(listener);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    rig.driver.close_listeners();
    assert!(TcpStream::connect(rig.addr).is_err());
    assert!(TcpStream::connect(addr).is_err());
    assert!(UnixStream::connect(&path).is_err());
    assert!(!path.exists(), "its file is gone");
    rig.driver.resume_accept();
    rig.assert_silent();
}

/// What waits at a socket that somebody else has, too, is theirs (row LC02).
fn lc02_released_listeners_go_on_for_who_has_them<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (second, addr) = tcp();
    let (mut more, path) = unix(&folder, 1);
    more.insert(0, second);
    let theirs: Vec<_> = more.iter().map(|listener| listener.socket().upgrade().unwrap()).collect();
    let Some(mut rig) = Rig::listening(make, Knobs::default(), more) else { return };
    rig.assert_silent();
    rig.driver.release_listeners();
    rig.assert_silent();
    assert!(TcpStream::connect(rig.addr).is_err(), "nobody else has the first");
    let _peers = (TcpStream::connect(addr).unwrap(), connect(&path));
    rig.assert_silent();
    for socket in theirs {
        let listener = Listener::adopt(socket, Lease::none()).unwrap();
        let accepted = loop {
            match listener.accept().unwrap() {
                Some(accepted) => break accepted,
                // The kernel waits for the first bytes of a peer, for a second.
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        drop(accepted);
    }
    assert!(!path.exists(), "whoever took the socket over removes its file");
}

/// The kernel wakes one of those who wait at a socket. If that one lets go before it has looked, the
/// others must not wait for the next peer (row LC02).
fn lc02_peer_that_has_woken_who_lets_go_is_accepted<D: Driver>(make: Make<D>) {
    for _ in 0..20 {
        let (listener, addr) = tcp();
        let socket = listener.socket().upgrade().unwrap();
        let theirs = Listener::adopt(socket, Lease::none()).unwrap();
        let Some(mut old) = Rig::listening(make, Knobs::default(), vec![listener]) else { return };
        assert!(!accepts(&mut old, &mut 0));
        let Some(mut new) = Rig::listening(make, Knobs::default(), vec![theirs]) else { return };
        assert!(!accepts(&mut new, &mut 0));
        let mut peer = TcpStream::connect(addr).unwrap();
        peer.write_all(b"hello").unwrap();
        old.driver.release_listeners();
        let end = Instant::now() + Duration::from_secs(5);
        while !accepts(&mut old, &mut 0) && !accepts(&mut new, &mut 0) {
            assert!(Instant::now() < end, "nobody accepts");
        }
    }
}

fn peers_of_every_listener_are_shed<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (second, path) = unix(&folder, 1);
    let Some(mut rig) = Rig::listening(make, Knobs::default(), second) else { return };
    rig.driver.pause_accept();
    rig.assert_silent();
    let mut tcp = TcpStream::connect(rig.addr).unwrap();
    let mut unix = connect(&path);
    assert!(rig.driver.shed_one());
    assert!(rig.driver.shed_one());
    assert!(!rig.driver.shed_one());
    assert_eq!(tcp.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(unix.read(&mut [0; 1]).unwrap(), 0);
}

fn unix_peer_is_served<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (second, path) = unix(&folder, 1);
    let Some(mut rig) = Rig::listening(make, Knobs::default(), second) else { return };
    for round in 0u32..50 {
        let mut peer = connect(&path);
        if round % 2 == 0 {
            peer.write_all(b"early").unwrap();
        }
        let socket = rig.accept(1);
        rig.driver.attach(token(round), socket).unwrap();
        if round % 2 == 1 {
            rig.assert_silent();
            peer.write_all(b"later").unwrap();
        }
        assert_eq!(rig.receive(token(round), 5).len(), 5);
        peer.write_all(&[7; 50_000]).unwrap();
        assert_eq!(rig.receive(token(round), 50_000).len(), 50_000);
        rig.send(token(round), b"answer", Patience::Wait);
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(rig.next(), Completion::PeerClosed { .. }));
        rig.fill_socket(token(round));
        rig.close(token(round), if round % 3 == 0 { Closing::Reset } else { Closing::Orderly });
    }
    assert_eq!(rig.pool.lent_count(), 0);
}

fn tc14_unix_peer_is_named_by_the_kernel<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (second, path) = unix(&folder, 1);
    let Some(mut rig) = Rig::listening(make, Knobs::default(), second) else { return };
    let mut peer = connect(&path);
    peer.write_all(b"uid=0").unwrap();
    let socket = rig.accept(1);
    rig.driver.attach(token(3), socket).unwrap();
    assert_eq!(rig.receive(token(3), 5), b"uid=0");
    let PeerAddr::Unix(who) = rig.driver.peer_addr(token(3)).unwrap() else { panic!("a process") };
    assert_eq!(who.pid, Some(std::process::id()));
    assert_eq!(who.uid, rustix::process::geteuid().as_raw());
    assert_eq!(who.gid, rustix::process::getegid().as_raw());
}

fn drivers_that_share_a_unix_socket_all_accept<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (listeners, path) = unix(&folder, 3);
    let mut sharing = Vec::new();
    for listener in listeners {
        let Some(mut rig) = Rig::listening(make, Knobs::default(), vec![listener]) else { return };
        rig.assert_silent();
        sharing.push((rig, 0));
    }
    for _ in 0..30 {
        let _peer = connect(&path);
        let end = Instant::now() + Duration::from_secs(10);
        while !sharing.iter_mut().any(|(rig, accepted_count)| accepts(rig, accepted_count)) {
            assert!(Instant::now() < end, "nobody accepts");
        }
        // With epoll it is who looks first; let each be that.
        sharing.rotate_left(1);
    }
    let counts: Vec<u32> = sharing.iter().map(|(_, count)| *count).collect();
    assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
}

fn accepts<D: Driver>(rig: &mut Rig<D>, accepted_count: &mut u32) -> bool {
    match rig.poll_for(Duration::from_millis(2)) {
        None => return false,
        Some(Completion::Accepted { listener: 1, .. }) => {}
        Some(other) => panic!("a peer should come, but {}", name(&other)),
    }
    *accepted_count += 1;
    true
}

fn driver_that_pauses_leaves_peers_to_those_it_shares_with<D: Driver>(make: Make<D>) {
    let folder = Folder::new();
    let (mut listeners, path) = unix(&folder, 2);
    let more = listeners.split_off(1);
    let Some(mut pausing) = Rig::listening(make, Knobs::default(), listeners) else { return };
    let Some(mut other) = Rig::listening(make, Knobs::default(), more) else { return };
    pausing.assert_silent();
    other.assert_silent();
    pausing.driver.pause_accept();
    pausing.assert_silent();
    let _peers = [connect(&path), connect(&path), connect(&path)];
    pausing.assert_silent();
    for _ in 0..3 {
        drop(other.accept(1));
    }
    drop(pausing);
    let _peer = connect(&path);
    drop(other.accept(1));
}
