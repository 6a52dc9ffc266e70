//! Who may connect to the program, what is agreed with them, and how fast they may go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{CLOSE, Client, REQUEST, TEXT, frame};
use crate::process::{Program, any_command, echo_command, expect_refusal, on_every_backend};

/// The request of the tests with this line in its head.
fn request_with(line: &str) -> String {
    REQUEST.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)
}

/// A client that has sent this, and the head that answers it.
fn ask(addr: SocketAddr, request: &str) -> (Client, String) {
    let mut client = Client::connect(addr);
    client.send_raw(request.as_bytes());
    let head = client.read_head();
    (client, head)
}

/// A client that has sent this, and the status that answers it.
fn admission(addr: SocketAddr, request: &str) -> (Client, u16) {
    let (client, head) = ask(addr, request);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (client, status.unwrap_or_else(|| panic!("{head}")))
}

fn status(addr: SocketAddr, request: &str) -> u16 {
    admission(addr, request).1
}

/// What a head says under this name.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[test]
fn scripts_of_other_sites_are_refused() {
    on_every_backend(|backend| {
        let sites = ["--origin", "https://good.example", "--origin", "http://localhost:8080"];
        let program =
            Program::start_by(any_command(&[&["--backend", backend], &sites[..]].concat()));
        for (origin, expected) in [
            ("https://good.example", 101),
            ("https://good.example:443", 101),
            ("http://localhost:8080", 101),
            ("http://good.example", 403),
            ("https://good.example:8443", 403),
            ("https://bad.example", 403),
            ("https://good.example.bad.example", 403),
            ("null", 403),
        ] {
            let request = request_with(&format!("Origin: {origin}"));
            assert_eq!(status(program.addr, &request), expected, "{origin}");
        }
        Client::open(program.addr).echo("who sends none is no browser");
    });
}

#[test]
fn origin_is_required_where_the_flag_says() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend, "--require-origin"]);
        assert_eq!(status(program.addr, REQUEST), 403);
        assert_eq!(status(program.addr, &request_with("Origin: https://any.example")), 101);
    });
}

#[test]
fn server_that_lets_in_scripts_of_any_site_says_so_once() {
    let errors_with = |flags: &[&str]| {
        let program = Program::start_by(any_command(flags));
        for site in ["https://a.example", "https://b.example"] {
            drop(ask(program.addr, &request_with(&format!("Origin: {site}"))));
        }
        program.signal(Signal::TERM);
        let (status, _, stderr) = program.wait();
        assert_eq!(status.code(), Some(0), "{flags:?}: {stderr}");
        stderr
    };
    let warning = errors_with(&[]);
    assert_eq!(warning.lines().count(), 1, "{warning}");
    for word in [" WARN ", "any site", "--origin https://", "--allow-any-origin"] {
        assert!(warning.contains(word), "{warning}");
    }
    assert!(!warning.contains('\u{1b}'), "no colours where nobody sees them: {warning:?}");
    // A browser of any site sends an origin, too.
    assert_eq!(errors_with(&["--require-origin"]).lines().count(), 1);
    assert_eq!(errors_with(&["--origin", "https://a.example"]), "");
    assert_eq!(errors_with(&["--allow-any-origin"]), "");
    assert_eq!(errors_with(&["--log", "error"]), "");
}

#[test]
fn sub_protocol_is_the_first_of_the_server_that_is_offered() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--protocol", "v2.chat", "--protocol", "v1.chat"];
        let program = Program::start(&flags);
        for (offered, chosen) in [
            ("v1.chat, v2.chat", Some("v2.chat")),
            ("v0.chat, v1.chat", Some("v1.chat")),
            ("v0.chat", None),
        ] {
            let (mut client, head) =
                ask(program.addr, &request_with(&format!("Sec-WebSocket-Protocol: {offered}")));
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert_eq!(header(&head, "Sec-WebSocket-Protocol"), chosen, "{offered}");
            client.echo(offered);
        }
    });
}

#[test]
fn compression_is_agreed_as_the_flags_say() {
    on_every_backend(|backend| {
        let offer = request_with("Sec-WebSocket-Extensions: permessage-deflate");
        for (flags, agreed, not_agreed) in [
            (&[][..], "", "permessage-deflate"),
            (&["--deflate"], "permessage-deflate; server_no_context_takeover", "window_bits"),
            (
                &["--deflate", "--deflate-takeover", "--deflate-level", "9"],
                "permessage-deflate",
                "takeover",
            ),
            (&["--deflate", "--deflate-window-bits", "9"], "server_max_window_bits=9", "=15"),
        ] {
            let program = Program::start(&[&["--backend", backend], flags].concat());
            let (mut client, head) = ask(program.addr, &offer);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let answer = header(&head, "Sec-WebSocket-Extensions").unwrap_or_default();
            assert!(answer.contains(agreed) && !answer.contains(not_agreed), "{flags:?}: {answer}");
            client.echo("what is not compressed may come all the same");
            if !answer.is_empty() {
                // RFC 7692 §7.2.3.1: "Hello". It is too short to come back compressed.
                let mut hello = frame(true, TEXT, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
                hello[0] |= 0x40;
                client.send_raw(&hello);
                assert_eq!(client.read_text(), "Hello");
            }
            assert_eq!(header(&ask(program.addr, REQUEST).1, "Sec-WebSocket-Extensions"), None);
        }
    });
}

/// Asks until there is room again.
fn await_room(addr: SocketAddr, request: &str) {
    let end = Instant::now() + Duration::from_secs(15);
    while status(addr, request) != 101 {
        assert!(Instant::now() < end, "the place of who has left stays taken");
    }
}

#[test]
fn one_address_has_no_more_connections_than_the_flag_says() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend, "--conns-per-address-max", "2"]);
        let (first, mut second) = (Client::open(program.addr), Client::open(program.addr));
        assert_eq!(status(program.addr, REQUEST), 429);
        second.echo("who is in is not disturbed");
        first.close(1000);
        await_room(program.addr, REQUEST);
    });
}

#[test]
fn trusted_proxies_tell_the_client_by_the_header_of_the_flag() {
    on_every_backend(|backend| {
        // Each client has one connection, so who counts as one client shows whom it takes it for.
        for (name, field, prefix) in [
            ("x-forwarded-for", "X-Forwarded-For", "198.51.100.1, "),
            ("forwarded", "Forwarded", "for="),
            ("x-real-ip", "X-Real-IP", ""),
        ] {
            let start = |proxy| {
                let flags = ["--backend", backend, "--conns-per-address-max", "1"];
                let proxies = ["--forwarded-header", name, "--trusted-proxy", proxy];
                Program::start(&[&flags[..], &proxies].concat())
            };
            let request = |client| request_with(&format!("{field}: {prefix}{client}"));
            let (seven, eight) = (request("203.0.113.7"), request("203.0.113.8"));

            let trusting = start("127.0.0.0/8");
            let (_held, first) = admission(trusting.addr, &seven);
            assert_eq!(first, 101);
            assert_eq!(status(trusting.addr, &seven), 429, "{name}: the same again");
            assert_eq!(status(trusting.addr, &eight), 101, "{name}: another");

            let doubting = start("192.0.2.0/24");
            let (_held, first) = admission(doubting.addr, &seven);
            assert_eq!(first, 101);
            assert_eq!(status(doubting.addr, &eight), 429, "{name}: all are 127.0.0.1");
        }
    });
}

#[test]
fn trusted_proxies_tell_the_client_by_the_proxy_protocol() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--conns-per-address-max", "1"];
        let proxies = ["--proxy-protocol", "--trusted-proxy", "127.0.0.1"];
        let program = Program::start(&[&flags[..], &proxies].concat());
        let from = |client: &str| format!("PROXY TCP4 {client} 192.0.2.99 5555 80\r\n{REQUEST}");
        let (mut held, first) = admission(program.addr, &from("203.0.113.7"));
        assert_eq!(first, 101);
        assert_eq!(status(program.addr, &from("203.0.113.7")), 429, "the same again");
        assert_eq!(status(program.addr, &from("203.0.113.8")), 101, "another");
        held.echo("by way of a proxy");
        let mut headless = Client::connect(program.addr);
        headless.send_raw(REQUEST.as_bytes());
        let read = headless.try_read(&mut [0; 64]);
        assert!(read.is_err() || read.is_ok_and(|bytes| bytes == 0), "no header, no answer");
    });
}

/// The close code that this peer comes to by sending.
fn code_after(client: &mut Client, messages: usize) -> u16 {
    for _ in 0..messages {
        if client.try_send_raw(&frame(true, TEXT, &[b'x'; 1000])).is_err() {
            break;
        }
    }
    loop {
        let frame = client.read_frame();
        if frame.opcode == CLOSE {
            return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
        }
    }
}

#[test]
fn peers_faster_than_the_flags_allow_are_closed_or_slowed_down() {
    on_every_backend(|backend| {
        let small = ["--message-bytes-max", "1000"];
        for (flag, rate) in [("--messages-per-second", "10"), ("--bytes-per-second", "10000")] {
            let flags = [&["--backend", backend, flag, rate][..], &small].concat();
            let closing = Program::start(&flags);
            assert_eq!(code_after(&mut Client::open(closing.addr), 100), 1008, "{flag}");
            let slowing = Program::start(&[&flags[..], &["--rate-mode", "throttle"]].concat());
            let mut client = Client::open(slowing.addr);
            let began = Instant::now();
            for _ in 0..25 {
                client.echo(&"x".repeat(1000));
            }
            // At ten a second, but for the first ten.
            assert!(began.elapsed() > Duration::from_secs(1), "{flag}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn connections_last_as_long_as_the_flag_says() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend, "--lifetime-max", "900ms"]);
        let began = Instant::now();
        let mut client = Client::open(program.addr);
        while began.elapsed() < Duration::from_millis(200) {
            client.echo("busy to the end");
        }
        assert_eq!(client.read_close().0, 1001);
        // A little earlier than the flag says, by which connections are spread.
        assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    });
}

#[test]
fn flags_about_access_that_make_no_sense_are_said_with_what_would() {
    let site = "https://good.example";
    for (flags, words) in [
        (&["--origin", "good.example"][..], &["good.example", "origin", "https://"][..]),
        (&["--origin", "https://good.example/chat"], &["/chat", "origin", "without a slash"]),
        (&["--origin", "*"], &["`*`", "origin", "allow_any_origin"]),
        (&["--origin", site, "--allow-any-origin"], &["--origin", "--allow-any-origin"]),
    ] {
        expect_refusal(any_command(flags), words);
    }
    for (flags, words) in [
        (&["--trusted-proxy", "nonsense"][..], &["nonsense", "trusted proxy", "10.0.0.0/8"][..]),
        (&["--trusted-proxy", "10.0.0.1/8"], &["10.0.0.1/8", "10.0.0.0/8 for the network"]),
        (&["--proxy-protocol"], &["missing --trusted-proxy", "--proxy-protocol"]),
        (&["--forwarded-header", "via"], &["--forwarded-header", "x-forwarded-for, forwarded or"]),
        (&["--forwarded-header", "forwarded"], &["missing --trusted-proxy", "--forwarded-header"]),
        (&["--conns-per-address-max", "0"], &["conns_per_address_max", "at least 1"]),
        (&["--protocol", "chat v2"], &["--protocol", "chat v2", "one name of letters"]),
        (&["--protocol", ""], &["--protocol", "one name of letters"]),
        (&["--deflate", "--deflate-level", "0"], &["--deflate-level", "'0'", "1..=9"]),
        (&["--deflate", "--deflate-level", "10"], &["--deflate-level", "'10'", "1..=9"]),
        (&["--deflate", "--deflate-window-bits", "8"], &["--deflate-window-bits", "9..=15"]),
        (&["--deflate", "--deflate-window-bits", "16"], &["--deflate-window-bits", "9..=15"]),
        (&["--deflate", "--deflate-bytes-min", "x"], &["--deflate-bytes-min", "64K"]),
        (&["--deflate-takeover"], &["missing --deflate;", "--deflate-takeover"]),
        (&["--deflate-level", "5"], &["missing --deflate;", "--deflate-level"]),
        (&["--overflow", "nonsense"], &["--overflow", "nonsense", "close or drop"]),
        (&["--rate-mode", "nonsense"], &["--rate-mode", "nonsense", "close or throttle"]),
        (&["--messages-per-second", "0"], &["messages_per_second is 0", "at least 1"]),
        (&["--messages-per-second", "300000000"], &["messages_per_second", "at most 268435455"]),
        (&["--bytes-per-second", "64"], &["bytes_per_second is 64", "at least 65536"]),
        (&["--bytes-per-second", "fast"], &["--bytes-per-second", "64K"]),
        (&["--memory-bytes-max", "4K"], &["memory_bytes_max is 4096", "at least 1048576"]),
        (&["--lifetime-max", "long"], &["--lifetime-max", "long", "5m", "none"]),
    ] {
        expect_refusal(echo_command(flags), words);
    }
}
