//! Several listeners of one server: IPv4, IPv6 and Unix sockets, and the life of socket files.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use longwire::{Backend, BackendChoice, Builder, Error, ListenAddr, Server};
use socket2::{Domain, Socket, Type};

use crate::app::{App, Event};
use crate::client::{Client, REQUEST};
use crate::server::{Running, builder, on_every_backend, usable_cores};

/// A path that nothing else uses; what is there is removed at the end.
#[derive(Debug)]
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("longwire-e2e-{}-{number}.sock", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn addr(&self) -> ListenAddr {
        ListenAddr::Unix(self.0.clone())
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.0).unwrap()
    }

    /// An open WebSocket connection by this path.
    fn open(&self) -> Client {
        open(self.connect())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn open(stream: UnixStream) -> Client {
    let mut client = Client::over(stream.into());
    client.send_raw(REQUEST.as_bytes());
    client.finish_handshake();
    client
}

/// Whether there is an IPv6 loopback here. Where there is none, the test says so.
fn has_ipv6() -> bool {
    match TcpListener::bind("[::1]:0") {
        Ok(_) => true,
        Err(why_not) => {
            // Not by a macro: the output of tests that succeed is not shown.
            let _ = writeln!(std::io::stderr(), "SKIPPED IPv6: {why_not}");
            false
        }
    }
}

/// Where a server listens by TCP, in order.
fn tcp_addrs(addrs: &[ListenAddr]) -> Vec<SocketAddr> {
    let tcp = |addr: &ListenAddr| match addr {
        ListenAddr::Tcp(addr) => Some(*addr),
        _ => None,
    };
    addrs.iter().filter_map(tcp).collect()
}

fn refusal(builder: Builder) -> String {
    builder.build().unwrap_err().to_string()
}

#[test]
fn messages_come_back_over_ipv6() {
    if !has_ipv6() {
        return;
    }
    on_every_backend(|backend| {
        let settings = builder(backend).listen("[::1]:0".parse().unwrap());
        let server = Running::start_with(backend, settings);
        let addrs = tcp_addrs(&server.addrs);
        assert!(addrs[0].is_ipv4() && addrs[1].is_ipv6());
        let mut client = Client::open(addrs[1]);
        client.echo("by way of IPv6");
        client.send_text("/addr");
        assert_eq!(client.read_text(), client.stream.local_addr().unwrap().to_string());
        client.close(1000);
    });
}

#[test]
fn ipv6_and_ipv4_have_the_same_port_side_by_side() {
    if !has_ipv6() {
        return;
    }
    on_every_backend(|backend| {
        // A port that is free in both is found by trying.
        let server = (0..20).find_map(|_| {
            let six =
                Running::try_start(backend, builder(backend).listen("[::]:0".parse().unwrap()));
            let port = tcp_addrs(&six.unwrap().addrs)[1].port();
            let both = builder(backend)
                .listen(format!("[::]:{port}").parse().unwrap())
                .listen(format!("0.0.0.0:{port}").parse().unwrap());
            Running::try_start(backend, both).ok()
        });
        let server = server.expect("a port free in both");
        let port = tcp_addrs(&server.addrs)[1].port();
        for (addr, shown) in [("[::1]", "[::1]:"), ("127.0.0.1", "127.0.0.1:")] {
            let mut client = Client::open(format!("{addr}:{port}").parse().unwrap());
            client.send_text("/addr");
            assert!(client.read_text().starts_with(shown), "no address is mapped into the other");
        }
    });
}

#[test]
fn messages_come_back_over_a_unix_socket() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let server = Running::start_with(backend, builder(backend).listen(path.addr()));
        let mut client = path.open();
        for bytes in [0, 1, 125, 126, 20_000, 60_000] {
            client.echo(&"x".repeat(bytes));
        }
        client.close(1000);
        let mut failing = path.open();
        failing.send_raw(&[0xff, 0x80, 0, 0, 0, 0]);
        failing.expect_failure(1002);
        let lost = path.open();
        server.await_stats("three", |stats| stats.opened == 3);
        drop(lost);
        server.await_stats("their end", |stats| stats.closed == 3);
    });
}

#[test]
fn messages_come_back_over_an_abstract_socket() {
    on_every_backend(|backend| {
        let name = format!("longwire-e2e-{}-{backend}", std::process::id());
        let addr = format!("unix:@{name}");
        let settings = builder(backend).listen(addr.parse().unwrap());
        let server = Running::start_with(backend, settings);
        assert_eq!(server.addrs[1].to_string(), addr);
        let name = UnixAddr::from_abstract_name(&name).unwrap();
        let mut client = open(UnixStream::connect_addr(&name).unwrap());
        client.echo("by a name alone");
        client.close(1000);
        let error = refusal(builder(backend).listen(addr.parse().unwrap()));
        assert!(error.contains("in use") && error.contains("another name"), "{error}");
        server.stop();
        assert!(UnixStream::connect_addr(&name).is_err());
    });
}

#[test]
fn unix_sockets_are_served_with_direct_descriptors() {
    if !crate::server::has_io_uring() {
        return;
    }
    let path = SocketPath::new();
    let backend = BackendChoice::IoUring;
    let settings = builder(backend).listen(path.addr()).direct_descriptors(true);
    let server = Running::start_with(backend, settings);
    let mut clients = [path.open(), Client::open(server.addr), path.open()];
    for client in &mut clients {
        client.echo("in the ring's own table");
        client.send_text("/addr");
        assert_eq!(client.read_text(), "Unsupported");
    }
}

#[test]
fn three_listeners_are_served_at_once_by_every_worker() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let settings = builder(backend)
            .listen(path.addr())
            .listen(([127, 0, 0, 1], 0).into())
            .cores(usable_cores())
            .workers(3);
        let server = Running::start_with(backend, settings);
        assert_eq!(server.addrs[1], path.addr());
        let addrs = tcp_addrs(&server.addrs);
        assert_eq!((addrs.len(), addrs[0]), (2, server.addr));
        let mut clients = Vec::new();
        for _ in 0..30 {
            clients.extend([Client::open(addrs[0]), path.open(), Client::open(addrs[1])]);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.send_text(&format!("message {number}"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_text(), format!("message {number}"));
        }
        let mut workers: Vec<usize> = server
            .other_calls()
            .into_iter()
            .filter(|call| matches!(call.event, Event::Open { .. }))
            .map(|call| call.worker)
            .collect();
        assert_eq!(workers.len(), 90);
        workers.sort_unstable();
        workers.dedup();
        assert_eq!(workers, [0, 1, 2]);
        drop(clients);
        assert_eq!(server.stop().opened, 90);
    });
}

/// What a peer says of itself is no credential.
#[test]
fn tc14_unix_peer_is_who_the_kernel_says_it_is() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let server = Running::start_with(backend, builder(backend).listen(path.addr()));
        let liar = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n\
            X-Uid: 0\r\nRemote-User: root\r\n\r\n";
        let mut client = Client::over(path.connect().into());
        client.send_raw(REQUEST.replacen("\r\n\r\n", &format!("\r\n{liar}"), 1).as_bytes());
        client.finish_handshake();
        client.send_text("/addr");
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let pid = std::process::id();
        assert_eq!(client.read_text(), format!("unix:pid={pid},uid={uid},gid={gid}"));
        drop(server);
    });
}

#[test]
fn socket_file_is_there_as_long_as_the_server_listens() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let mut server = Running::start_with(
            backend,
            builder(backend).listen(path.addr()).cores(usable_cores()).workers(2),
        );
        let mut client = path.open();
        client.echo("while it runs");
        server.handle.stop(longwire::CloseCode::GOING_AWAY);
        assert_eq!(client.read_close().0, 1001);
        client.send_close(1001);
        client.read_end();
        server.join();
        assert!(!path.0.exists(), "a server that stops removes it");

        let unused = builder(backend).listen(path.addr()).build().unwrap();
        assert!(fs::metadata(&path.0).unwrap().file_type().is_socket());
        drop(unused);
        assert!(!path.0.exists(), "and so does one that never runs");
    });
}

#[test]
fn socket_file_of_another_server_survives_the_stop() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let server = Running::start_with(backend, builder(backend).listen(path.addr()));
        fs::remove_file(&path.0).unwrap();
        let next = UnixListener::bind(&path.0).unwrap();
        server.stop();
        path.connect();
        drop(next);
    });
}

#[test]
fn stale_socket_file_is_replaced() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        drop(UnixListener::bind(&path.0).unwrap());
        assert!(path.0.exists(), "as a server leaves it that was killed");
        let _server = Running::start_with(backend, builder(backend).listen(path.addr()));
        path.open().echo("by the same path");
    });
}

#[test]
fn live_socket_file_is_an_error_and_stays() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let server = Running::start_with(backend, builder(backend).listen(path.addr()));
        let mut client = path.open();
        let error = builder(backend).listen(path.addr()).build().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("in use") && text.contains("another name"), "{text}");
        let Error::Listen { addr, source } = error else { panic!("{text}") };
        assert_eq!((addr, source.kind()), (path.addr(), ErrorKind::AddrInUse));
        client.echo("not disturbed");
        path.open().echo("nor is who comes later");
        drop(server);
        fs::write(&path.0, "no socket").unwrap();
        let text = refusal(builder(backend).listen(path.addr()));
        assert!(text.contains("no socket") && text.contains("remove it"), "{text}");
        assert_eq!(fs::read_to_string(&path.0).unwrap(), "no socket");
    });
}

#[test]
fn unix_mode_is_the_mode_of_the_file() {
    for mode in [0o600, 0o666] {
        let path = SocketPath::new();
        let settings = builder(BackendChoice::Epoll).listen(path.addr()).unix_mode(mode);
        let _server = settings.build().unwrap();
        assert_eq!(fs::metadata(&path.0).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn addresses_that_make_no_sense_together_are_refused() {
    let path = SocketPath::new();
    let settings = || builder(BackendChoice::Epoll);
    for (wrong, word) in [
        (settings().listen(path.addr()).listen(path.addr()), "twice"),
        (settings().listen(ListenAddr::Unix("relative".into())), "whole path"),
        (settings().listen(ListenAddr::Abstract(String::new())), "give the name"),
        (settings().unix_mode(0o1000), "unix_mode is 1000"),
        (settings().listen(ListenAddr::Unix("/nowhere/at/all".into())), "make its folder"),
        ((0..64).fold(settings(), |all, _| all.listen(([127, 0, 0, 1], 0).into())), "at most 64"),
    ] {
        let error = refusal(wrong);
        assert!(error.contains(word), "{error}");
    }
    assert!(!path.0.exists());
}

#[test]
fn one_address_that_cannot_be_had_leaves_nothing_behind() {
    let path = SocketPath::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = TcpListener::bind(taken).unwrap();
    let settings = Server::builder().listen(taken.into()).backend(BackendChoice::Epoll);
    refusal(builder(BackendChoice::Epoll).listen(path.addr()).listen(taken.into()));
    assert!(!path.0.exists(), "the file is gone with the server that was not to be");
    drop(held);
    let server = settings.build().unwrap();
    assert_eq!(server.backend(), Backend::Epoll);
    assert_eq!(server.local_addrs(), [taken.into()], "the default is replaced, not added to");
    TcpStream::connect(taken).unwrap();
}

#[test]
fn server_of_unix_sockets_alone_has_no_tcp_address() {
    let path = SocketPath::new();
    let server =
        Server::builder().listen(path.addr()).backend(BackendChoice::Epoll).build().unwrap();
    assert_eq!(server.local_addr(), None);
    assert_eq!(server.local_addrs(), [path.addr()]);
}

/// Whatever keeps it from serving: it fails before it runs, or is stopped before its workers are up.
#[test]
fn lc02_successor_that_does_not_come_to_serve_leaves_the_sockets_to_its_predecessor() {
    on_every_backend(|backend| {
        let path = SocketPath::new();
        let running = Running::start_with(backend, builder(backend).listen(path.addr()));
        let successor = || {
            let sockets = running.handle.listening_sockets().unwrap();
            assert_eq!(sockets.len(), 2);
            builder(backend).listen(path.addr()).take_over(sockets).build().unwrap()
        };
        let served = |when: &str| {
            assert!(path.0.exists(), "{when}");
            path.open().echo(when);
            Client::open(running.addr).echo(when);
        };
        drop(successor());
        served("after one that never ran");
        let stopped = successor();
        stopped.handle().stop_now();
        stopped.run(|_| App { worker: 0, calls: std::sync::mpsc::channel().0 }).unwrap();
        served("after one that was stopped before it served");
    });
}

#[test]
fn more_sockets_than_a_worker_can_tell_apart_are_an_error() {
    let sockets = || {
        let first = reusable(([127, 0, 0, 1], 0).into());
        let addr = first.local_addr().unwrap();
        let others = (1..257).map(|_| reusable(addr));
        std::iter::once(first).chain(others).map(Into::into).collect::<Vec<_>>()
    };
    let one = || builder(BackendChoice::Epoll);
    for builder in [one().inherit(sockets()), one().take_over(sockets())] {
        let text = refusal(builder);
        assert!(text.contains("257 sockets") && text.contains("more workers"), "{text}");
    }
    let two = Server::builder().listen(([127, 0, 0, 1], 0).into()).workers(2);
    two.backend(BackendChoice::Epoll).inherit(sockets()).build().unwrap();
}

/// A listener that permits others at its address.
fn reusable(addr: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}
