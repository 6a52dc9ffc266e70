//! Clients behind a proxy: whose address a connection has, who may say so, and how many connections
//! one address may have.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::time::{Duration, Instant};

use longwire::{
    BackendChoice, Builder, Conn, Decision, ForwardedHeader, Handler, ListenAddr, Message, Request,
};
use socket2::{Domain, Socket, Type};

use crate::certificates::Authority;
use crate::client::{Client, REQUEST};
use crate::secure::{secure_addr, secured};
use crate::server::{Running, builder, on_every_backend};

const TIMEOUT: Duration = Duration::from_millis(600);

/// Keeps the client's address from the request, and sends it with that of the connection.
struct Clients;

impl Handler for Clients {
    type State = Option<IpAddr>;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Option<IpAddr>> {
        Decision::accept(request.client_addr())
    }

    fn message(&mut self, conn: &mut Conn<'_, Option<IpAddr>>, _message: Message<'_>) {
        let at_upgrade = *conn.state();
        let answer = match (at_upgrade, conn.client_addr()) {
            (Some(early), Some(late)) if early == late => early.to_string(),
            other => format!("{other:?}"),
        };
        conn.send_text(&answer).unwrap();
    }
}

fn start(backend: BackendChoice, settings: Builder) -> Running {
    Running::serve(backend, settings, |_| Clients)
}

/// Believes proxies on 127.0.0.1, and no others.
fn behind_proxy(backend: BackendChoice) -> Builder {
    builder(backend).proxy_protocol(true).trusted_proxies(&["127.0.0.1"])
}

/// A connection from this address of the loopback network.
fn connect_from(source: [u8; 4], addr: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    Client::over(socket.into())
}

/// A header of version 1.
fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.99 5555 80\r\n").into_bytes()
}

/// A header of version 2 with this command, family and address block.
fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let [.., high, low] = addresses.len().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family, high, low][..], addresses].concat()
}

/// The address block of version 2 for IPv4.
fn v2_addresses(client: [u8; 4]) -> Vec<u8> {
    [&client[..], &[192, 0, 2, 99], &[0x15, 0xb3, 0, 80]].concat()
}

/// Whom the application takes this client for.
fn who(client: &mut Client) -> String {
    client.send_text("who");
    client.read_text()
}

/// Who is at the other end of a connection that begins with this header.
fn who_after(addr: SocketAddr, header: &[u8]) -> String {
    let mut client = Client::connect(addr);
    client.send_raw(&[header, REQUEST.as_bytes()].concat());
    client.finish_handshake();
    who(&mut client)
}

/// The connection ends without a byte.
fn assert_silent_end(client: &mut Client, why: &str) {
    loop {
        match client.stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
fn px03_headers_of_either_version_tell_the_client() {
    on_every_backend(|backend| {
        let server = start(backend, behind_proxy(backend));
        let six = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[1, 2, 3, 4]].concat();
        let with_tlv = [v2_addresses([203, 0, 113, 9]), vec![4, 0, 3, 1, 2, 3]].concat();
        for (header, client) in [
            (v1("203.0.113.7"), "203.0.113.7"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::99 5555 80\r\n".to_vec(), "2001:db8::7"),
            (v2(1, 0x11, &v2_addresses([203, 0, 113, 8])), "203.0.113.8"),
            (v2(1, 0x21, &six), "2001:db8::7"),
            (v2(1, 0x11, &with_tlv), "203.0.113.9"),
            // The proxy's own checks, and what it has no address for: the socket's stays.
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), "127.0.0.1"),
            (v2(0, 0, &[]), "127.0.0.1"),
            (v2(0, 0x11, &v2_addresses([203, 0, 113, 8])), "127.0.0.1"),
            (v2(1, 0, &[1, 2, 3]), "127.0.0.1"),
        ] {
            assert_eq!(who_after(server.addr, &header), client, "{header:?}");
        }
    });
}

#[test]
fn px03_header_cut_in_every_way_is_read_as_if_whole() {
    on_every_backend(|backend| {
        let server = start(backend, behind_proxy(backend));
        for header in [v1("203.0.113.7"), v2(1, 0x11, &v2_addresses([203, 0, 113, 7]))] {
            let all = [&header[..], REQUEST.as_bytes()].concat();
            for cut in [1, 4, 5, 11, 12, 15, 16, header.len() - 1, header.len(), header.len() + 9] {
                let mut client = Client::connect(server.addr);
                client.send_raw(&all[..cut]);
                std::thread::sleep(Duration::from_millis(5));
                client.send_raw(&all[cut..]);
                client.finish_handshake();
                assert_eq!(who(&mut client), "203.0.113.7", "cut at {cut}");
            }
            let mut client = Client::connect(server.addr);
            for byte in &all {
                client.send_raw(&[*byte]);
            }
            client.finish_handshake();
            assert_eq!(who(&mut client), "203.0.113.7", "byte by byte");
        }
    });
}

#[test]
fn px03_anything_but_a_header_is_closed_without_an_answer() {
    on_every_backend(|backend| {
        let server = start(backend, behind_proxy(backend));
        let long_v1 = format!("PROXY TCP4 {} 192.0.2.99 5555 80\r\n", "1".repeat(100));
        let faults: Vec<Vec<u8>> = vec![
            REQUEST.as_bytes().to_vec(),
            long_v1.into_bytes(),
            b"PROXY TCP4 203.0.113.7 192.0.2.99 5555 80\n".to_vec(),
            b"PROXY TCP4 203.0.113.256 192.0.2.99 5555 80\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 192.0.2.99 5555 65536\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.7 192.0.2.99 5555 80\r\n".to_vec(),
            b"PROXY  TCP4 203.0.113.7 192.0.2.99 5555 80\r\n".to_vec(),
            b"proxy TCP4 203.0.113.7 192.0.2.99 5555 80\r\n".to_vec(),
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x2f, 0x11, 0, 12], &[0; 12]].concat(),
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0x11, 0xff, 0xff], &[0; 5000]].concat(),
            v2(1, 0x11, &[203, 0, 113, 7]),
            // The length of a TLV leads out of the header.
            v2(1, 0x11, &[v2_addresses([203, 0, 113, 9]), vec![4, 1, 0, 1, 2, 3]].concat()),
        ];
        for fault in &faults {
            let mut client = Client::connect(server.addr);
            let began = Instant::now();
            client.send_raw(&[&fault[..], REQUEST.as_bytes()].concat());
            assert_silent_end(&mut client, &String::from_utf8_lossy(fault));
            assert!(began.elapsed() < Duration::from_secs(5), "at once");
        }
        let stats = server.stop();
        assert_eq!((stats.opened, stats.refusals["proxy_header"]), (0, faults.len() as u64));
    });
}

#[test]
fn px03_header_that_does_not_end_is_closed_at_the_handshake_timeout() {
    on_every_backend(|backend| {
        let server = start(backend, behind_proxy(backend).handshake_timeout(TIMEOUT));
        let whole = v1("203.0.113.7");
        let part = &v2(1, 0x11, &[0; 12])[..20];
        // A client that says nothing hears nothing, with or without a proxy.
        for start in [&b"P"[..], b"PROXY TCP4 203.0.113.7", part, &whole] {
            let mut client = Client::connect(server.addr);
            let began = Instant::now();
            client.send_raw(start);
            assert_silent_end(&mut client, "a header that does not end");
            assert!(began.elapsed() >= TIMEOUT, "{:?}", began.elapsed());
        }
        assert_eq!(server.stop().refusals["timeout"], 4);
    });
}

#[test]
fn px02_header_of_an_address_that_is_not_trusted_is_closed_without_an_answer() {
    on_every_backend(|backend| {
        let server = start(backend, behind_proxy(backend));
        for start in [v1("203.0.113.7"), v2(1, 0x11, &v2_addresses([127, 0, 0, 1]))] {
            let mut client = connect_from([127, 0, 0, 2], server.addr);
            client.send_raw(&[&start[..], REQUEST.as_bytes()].concat());
            assert_silent_end(&mut client, "a stranger");
        }
        assert_eq!(who_after(server.addr, &v1("203.0.113.7")), "203.0.113.7");
        let stats = server.stop();
        assert_eq!((stats.opened, stats.refusals["untrusted_proxy"]), (1, 2));
    });
}

#[test]
fn px01_header_where_it_is_off_is_a_malformed_request() {
    on_every_backend(|backend| {
        let server = start(backend, builder(backend));
        for header in [v1("203.0.113.7"), v2(1, 0x11, &v2_addresses([203, 0, 113, 7]))] {
            let mut client = Client::connect(server.addr);
            client.send_raw(&[&header[..], REQUEST.as_bytes()].concat());
            let response = client.read_response();
            assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        }
        assert_eq!(server.stop().opened, 0);
    });
}

/// The upgrade request with one more header line.
fn request_with(line: &str) -> String {
    REQUEST.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)
}

/// Whom the application takes a client for that comes from `source` and says this.
fn who_says(server: &Running, source: [u8; 4], line: &str) -> String {
    let mut client = connect_from(source, server.addr);
    client.send_raw(request_with(line).as_bytes());
    client.finish_handshake();
    who(&mut client)
}

#[test]
fn px04_forwarded_header_of_a_stranger_is_ignored() {
    on_every_backend(|backend| {
        for (header, line) in [
            (ForwardedHeader::XForwardedFor, "X-Forwarded-For: 203.0.113.7"),
            (ForwardedHeader::Forwarded, "Forwarded: for=203.0.113.7"),
            (ForwardedHeader::XRealIp, "X-Real-IP: 203.0.113.7"),
        ] {
            let settings =
                builder(backend).trusted_proxies(&["127.0.0.1"]).forwarded_header(Some(header));
            let server = start(backend, settings);
            assert_eq!(who_says(&server, [127, 0, 0, 2], line), "127.0.0.2");
            assert_eq!(who_says(&server, [127, 0, 0, 1], line), "203.0.113.7");
        }
        // Without the setting nobody is believed.
        let server = start(backend, builder(backend).trusted_proxies(&["127.0.0.1"]));
        assert_eq!(who_says(&server, [127, 0, 0, 1], "X-Forwarded-For: 203.0.113.7"), "127.0.0.1");
    });
}

#[test]
fn px05_right_most_address_that_is_no_proxy_is_the_client() {
    on_every_backend(|backend| {
        let settings = builder(backend)
            .trusted_proxies(&["127.0.0.1", "10.0.0.0/8"])
            .forwarded_header(Some(ForwardedHeader::XForwardedFor));
        let server = start(backend, settings);
        let many = format!("X-Forwarded-For: {}", ["203.0.113.7"; 33].join(", "));
        for (line, client) in [
            ("X-Forwarded-For: 1.1.1.1, 203.0.113.7", "203.0.113.7"),
            ("X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
            ("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.7", "203.0.113.7"),
            ("X-Forwarded-For: junk, 203.0.113.7", "203.0.113.7"),
            ("X-Forwarded-For: 203.0.113.7, junk", "127.0.0.1"),
            ("X-Forwarded-For:", "127.0.0.1"),
            ("X-Forwarded-For: 2001:db8::7", "2001:db8::7"),
            ("X-Real-IP: 203.0.113.7", "127.0.0.1"),
            (&many, "127.0.0.1"),
        ] {
            assert_eq!(who_says(&server, [127, 0, 0, 1], line), client, "{line}");
        }
    });
}

/// Asks for a connection; the status of the answer.
fn status_of(client: &mut Client) -> u16 {
    let head = client.read_head();
    let status = head.split(' ').nth(1).expect("a status");
    status.parse().unwrap()
}

/// Takes `max` connections made by `connect`, is refused more, and gets as many again once those
/// are gone, in whatever way they end.
fn assert_limited(server: &Running, max: usize, connect: impl Fn() -> Client) {
    for round in 0..4 {
        let mut held: Vec<Client> = (0..max).map(|_| until_let_in(&connect)).collect();
        for _ in 0..3 {
            let mut client = connect();
            assert_eq!(status_of(&mut client), 429);
            client.read_response();
        }
        for client in &mut held {
            who(client);
        }
        for (number, client) in held.into_iter().enumerate() {
            client.end((number + round) % 4);
        }
        server.await_stats("the ends", |stats| stats.opened == stats.closed);
    }
    assert_eq!(server.handle.stats().opened, 4 * max as u64, "no more than that at any time");
}

/// Asks again while it is told that there are too many: an end is counted when the kernel has let
/// go of the socket.
fn until_let_in(connect: impl Fn() -> Client) -> Client {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let mut client = connect();
        match status_of(&mut client) {
            101 => return client,
            429 => assert!(Instant::now() < end, "the count does not return to zero"),
            status => panic!("status {status}"),
        }
    }
}

#[test]
fn px06_connections_of_an_address_are_limited() {
    on_every_backend(|backend| {
        let server = start(backend, builder(backend).conns_per_address_max(Some(3)));
        let connect_as = |source: [u8; 4]| {
            let mut client = connect_from(source, server.addr);
            client.send_raw(REQUEST.as_bytes());
            client
        };
        assert_limited(&server, 3, || connect_as([127, 0, 0, 1]));
        let mut held: Vec<Client> =
            (0..3).map(|_| until_let_in(|| connect_as([127, 0, 0, 1]))).collect();
        assert_eq!(status_of(&mut connect_as([127, 0, 0, 1])), 429);
        // Another address has a share of its own, and a header changes nothing.
        assert_eq!(status_of(&mut connect_as([127, 0, 0, 2])), 101);
        let mut forged = Client::connect(server.addr);
        forged.send_raw(request_with("X-Forwarded-For: 203.0.113.7").as_bytes());
        assert_eq!(status_of(&mut forged), 429);
        who(&mut held[0]);
    });
}

#[test]
fn px06_one_too_many_over_tls_is_closed_before_the_handshake() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let settings = secured(builder(backend), authority.tls()).conns_per_address_max(Some(1));
        let server = start(backend, settings);
        let config = authority.client();
        for round in 1..4 {
            let client = Client::open_secure(secure_addr(&server), &config);
            for _ in 0..3 {
                let mut one_more =
                    Client::connect_secure(secure_addr(&server), &config, "localhost");
                one_more.flush_tls();
                assert_silent_end(&mut one_more, "one too many");
            }
            client.close(1000);
            server.await_stats("the end", |stats| stats.closed == round);
            // It is counted until the kernel has let go of the socket.
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(server.stop().refusals.values().sum::<u64>(), 9);
    });
}

#[test]
fn px06_clients_behind_a_proxy_are_counted_one_by_one() {
    on_every_backend(|backend| {
        let server = start(backend, behind_proxy(backend).conns_per_address_max(Some(2)));
        let connect_as = |header: Vec<u8>| {
            let mut client = Client::connect(server.addr);
            client.send_raw(&[&header[..], REQUEST.as_bytes()].concat());
            client
        };
        assert_limited(&server, 2, || connect_as(v1("203.0.113.7")));
        let _held: Vec<Client> =
            (0..2).map(|_| until_let_in(|| connect_as(v1("203.0.113.7")))).collect();
        for header in [v1("203.0.113.7"), v2(1, 0x11, &v2_addresses([203, 0, 113, 7]))] {
            assert_eq!(status_of(&mut connect_as(header)), 429, "in either version");
        }
        assert_eq!(status_of(&mut connect_as(v1("203.0.113.8"))), 101);
        // The proxy's own checks count for nobody.
        let mut checks: Vec<Client> =
            (0..5).map(|_| connect_as(b"PROXY UNKNOWN\r\n".to_vec())).collect();
        assert!(checks.iter_mut().all(|check| status_of(check) == 101));
    });
}

#[test]
fn px06_clients_of_a_forwarded_header_are_counted_one_by_one() {
    on_every_backend(|backend| {
        let settings = builder(backend)
            .trusted_proxies(&["127.0.0.1"])
            .forwarded_header(Some(ForwardedHeader::XForwardedFor))
            .conns_per_address_max(Some(2));
        let server = start(backend, settings);
        let connect_as = |client: &str| {
            let line = format!("X-Forwarded-For: {client}");
            let mut connection = Client::connect(server.addr);
            connection.send_raw(request_with(&line).as_bytes());
            connection
        };
        assert_limited(&server, 2, || connect_as("203.0.113.7"));
        let _held: Vec<Client> =
            (0..2).map(|_| until_let_in(|| connect_as("9.9.9.9, 203.0.113.7"))).collect();
        assert_eq!(status_of(&mut connect_as("203.0.113.7")), 429);
        assert_eq!(status_of(&mut connect_as("203.0.113.7, 203.0.113.8")), 101);
        // One /64 is one customer.
        let mut neighbours: Vec<Client> =
            ["1", "2", "3"].iter().map(|host| connect_as(&format!("2001:db8::{host}"))).collect();
        let statuses: Vec<u16> = neighbours.iter_mut().map(status_of).collect();
        assert_eq!(statuses, [101, 101, 429]);
    });
}

#[test]
fn px03_every_kind_of_listener_takes_its_headers_beside_the_others() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let name = format!("longwire-e2e-proxied-{}-{backend}", std::process::id());
        let mut settings = behind_proxy(backend)
            .trusted_proxies(&["127.0.0.1", "::1"])
            .listen_tls("127.0.0.1:0".parse().unwrap(), authority.tls())
            .listen(ListenAddr::Abstract(name.clone()));
        let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
        if has_ipv6 {
            settings = settings.listen("[::1]:0".parse().unwrap());
        }
        let server = start(backend, settings);
        let ListenAddr::Tcp(secure) = server.addrs[1] else { panic!("it is of TCP") };
        let config = authority.client();
        for pieces in [1, 7, 1000] {
            let mut client = Client::connect(secure);
            for piece in v1("203.0.113.7").chunks(pieces) {
                client.send_raw(piece);
            }
            client.begin_tls(&config, "localhost");
            client.send_raw(REQUEST.as_bytes());
            client.finish_handshake();
            assert_eq!(who(&mut client), "203.0.113.7");
            client.close(1000);
        }
        // In one write with the first bytes of TLS.
        let mut client = Client::connect(secure);
        client.begin_tls(&config, "localhost");
        let mut first = v2(1, 0x11, &v2_addresses([203, 0, 113, 7]));
        client.tls().write_tls(&mut first).unwrap();
        std::io::Write::write_all(&mut client.stream, &first).unwrap();
        client.send_raw(REQUEST.as_bytes());
        client.finish_handshake();
        assert_eq!(who(&mut client), "203.0.113.7");

        let unix = UnixAddr::from_abstract_name(&name).unwrap();
        let stream = UnixStream::connect_addr(&unix).unwrap();
        let mut client = Client::over(stream.into());
        client.send_raw(REQUEST.as_bytes());
        client.finish_handshake();
        assert_eq!(who(&mut client), "(None, None)", "a Unix socket has no such header");

        if has_ipv6 {
            let ListenAddr::Tcp(six) = server.addrs[3] else { panic!("it is of TCP") };
            assert_eq!(who_after(six, &v1("203.0.113.7")), "203.0.113.7");
            assert_eq!(who_after(six, b"PROXY UNKNOWN\r\n"), "::1");
        }
        assert_eq!(who_after(server.addr, &v1("203.0.113.7")), "203.0.113.7");
    });
}

#[test]
fn addresses_of_either_family_are_known_without_a_proxy() {
    on_every_backend(|backend| {
        let server = start(backend, builder(backend));
        let mut client = connect_from([127, 0, 0, 3], server.addr);
        client.send_raw(REQUEST.as_bytes());
        client.finish_handshake();
        assert_eq!(who(&mut client), Ipv4Addr::new(127, 0, 0, 3).to_string());
    });
}
