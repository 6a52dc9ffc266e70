//! Connections that this process opens: watched from the start, and received from when there is
//! something.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::rig::{Make, Rig, on_every_driver, token};
use crate::io::{Closing, Completion, Outgoing, Patience, socket};

on_every_driver! {
    outgoing_connection_talks_and_listens,
    new_connection_is_not_received_from_before_something_has_come,
    bytes_that_came_before_the_connection_was_watched_arrive,
    close_of_a_new_connection_is_told,
    connection_that_takes_its_time_talks_once_it_is_made,
    tc07_connection_that_is_not_made_is_one_failure,
}

/// A rig without a listener: with direct descriptors a ring either accepts or connects.
fn rig<D: Outgoing>(make: Make<D>) -> Option<Rig<D>> {
    let mut rig = Rig::new(make)?;
    rig.driver.close_listeners();
    rig.assert_silent();
    Some(rig)
}

fn connect<D: Outgoing>(rig: &mut Rig<D>, index: u32, listener: &TcpListener) {
    let socket = socket::connect(listener.local_addr().unwrap(), None).unwrap();
    rig.driver.attach_outgoing(token(index), socket).unwrap();
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A listener whose queue is full, so that it does not answer the next to connect, and the one that
/// fills it.
fn busy_listener() -> (TcpListener, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let addr: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&addr.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}

fn outgoing_connection_talks_and_listens<D: Outgoing>(make: Make<D>) {
    let Some(mut rig) = rig(make) else { return };
    let listener = listener();
    connect(&mut rig, 3, &listener);
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(rig.send(token(3), b"request", Patience::Wait), 7);
    let mut request = [0; 7];
    peer.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"request");
    for answer in [&b"answer"[..], b"and more"] {
        peer.write_all(answer).unwrap();
        assert_eq!(rig.receive(token(3), answer.len()), answer);
    }
    drop(peer);
    assert!(matches!(rig.next(), Completion::PeerClosed { token: t } if t == token(3)));
    rig.close(token(3), Closing::Orderly);
    assert_eq!(rig.pool.lent_count(), 0);
}

fn new_connection_is_not_received_from_before_something_has_come<D: Outgoing>(make: Make<D>) {
    let Some(mut rig) = rig(make) else { return };
    let listener = listener();
    connect(&mut rig, 0, &listener);
    // A connection that stands in line for a receive would end the wait.
    let begin = Instant::now();
    rig.driver.wait(Some(Duration::from_millis(40))).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(39), "{:?}", begin.elapsed());
    rig.assert_silent();
}

fn bytes_that_came_before_the_connection_was_watched_arrive<D: Outgoing>(make: Make<D>) {
    let Some(mut rig) = rig(make) else { return };
    let listener = listener();
    let socket = socket::connect(listener.local_addr().unwrap(), None).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"early").unwrap();
    drop(peer);
    std::thread::sleep(Duration::from_millis(20));
    rig.driver.attach_outgoing(token(1), socket).unwrap();
    assert_eq!(rig.receive(token(1), 5), b"early");
    assert!(matches!(rig.next(), Completion::PeerClosed { token: t } if t == token(1)));
    rig.assert_silent();
}

fn close_of_a_new_connection_is_told<D: Outgoing>(make: Make<D>) {
    let Some(mut rig) = rig(make) else { return };
    let listener = listener();
    let mut name = token(0);
    for closing in [Closing::Orderly, Closing::Reset].into_iter().cycle().take(20) {
        let socket = socket::connect(listener.local_addr().unwrap(), None).unwrap();
        rig.driver.attach_outgoing(name, socket).unwrap();
        rig.close(name, closing);
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(peer.read(&mut [0; 1]).unwrap_or(0), 0, "the socket is closed");
        name.generation = crate::io::Token::next_generation(name.generation);
    }
    rig.assert_silent();
}

fn connection_that_takes_its_time_talks_once_it_is_made<D: Outgoing>(make: Make<D>) {
    let Some(mut rig) = rig(make) else { return };
    let (listener, _first) = busy_listener();
    connect(&mut rig, 0, &listener);
    rig.submit_send(token(0), b"request", Patience::Wait);
    rig.assert_silent();
    drop(listener.accept().unwrap());
    let Completion::Sent { segment, sent: 7, .. } = rig.next() else { panic!("it is sent") };
    rig.pool.give(segment.block);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"answer").unwrap();
    assert_eq!(rig.receive(token(0), 6), b"answer");
    rig.assert_silent();
}

fn tc07_connection_that_is_not_made_is_one_failure<D: Outgoing>(make: Make<D>) {
    let Some(mut rig) = rig(make) else { return };
    let (listener, _first) = busy_listener();
    connect(&mut rig, 0, &listener);
    rig.assert_silent();
    drop(listener);
    let Completion::Failed { token: failed, error } = rig.next() else { panic!("a failure") };
    assert_eq!((failed, error.kind()), (token(0), std::io::ErrorKind::ConnectionRefused));
    rig.assert_silent();
    rig.close(token(0), Closing::Orderly);
    assert_eq!(rig.pool.lent_count(), 0);
}
