//! `longwire serve` as WebSocket clients see it: topics, who may publish, and paths that are none.

use crate::client::{BINARY, CLOSE, Client, Frame, REQUEST, TEXT, frame};
use crate::http::{ask, get, post};
use crate::process::{Program, expect_refusal, longwire, on_every_backend, serve_command};

#[test]
fn clients_of_a_topic_hear_each_other_and_themselves() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let mut guests: Vec<Client> =
            (0..4).map(|_| Client::open_at(program.addr, "/topics/lobby")).collect();
        let mut stranger = Client::open_at(program.addr, "/topics/kitchen");
        for (from, text) in ["hello", "how are you", "fine"].into_iter().enumerate() {
            guests[from].send_text(text);
            for guest in &mut guests {
                assert_eq!(guest.read_text(), text);
            }
        }
        guests[3].send_frame(true, BINARY, b"\0\xff");
        for guest in &mut guests {
            assert_eq!(guest.read_frame(), Frame::new(BINARY, b"\0\xff"));
        }
        stranger.echo("alone in here");
        Client::open_at(program.addr, "/echo").echo("no topic at all");
    });
}

#[test]
fn names_in_paths_are_decoded_once_and_the_same_on_both_ports() {
    let program = Program::serve(&["--workers", "1"]);
    let mut guest = Client::open_at(program.addr, "/topics/r%C3%A4ume%2Fk%252e");
    let mut same = Client::open_at(program.addr, "/topics/r%c3%a4ume/%6b%252e");
    same.send_text("spelled otherwise");
    assert_eq!(guest.read_text(), "spelled otherwise");
    let answer = post(program.admin(), "/topics/r%C3%A4ume%2Fk%252e", &[], b"from outside");
    assert_eq!(answer.json()["queued"], 2);
    assert_eq!(guest.read_text(), "from outside");
}

#[test]
fn paths_that_lead_nowhere_are_answered() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--topic-bytes-max", "16"]);
        for (path, status) in [
            ("/", 404),
            ("/topics", 404),
            ("/Topics/a", 404),
            ("/echo/", 404),
            ("/topics/", 400),
            ("/topics/%", 400),
            ("/topics/%zz", 400),
            ("/topics/%ff", 400),
            ("/topics/a%20b", 400),
            ("/topics/a%00", 400),
            ("/topics/a%0d%0aSet-Cookie:x", 400),
            ("/topics/prices/*", 400),
            ("/topics/12345678901234567", 400),
        ] {
            let plain = get(program.addr, path);
            assert_eq!(plain.status, status, "{path}: {plain:?}");
            let upgrade = REQUEST.replacen("GET / ", &format!("GET {path} "), 1);
            let refused = ask(program.addr, upgrade.as_bytes());
            assert_eq!(refused.status, status, "{path}: {refused:?}");
        }
        assert_eq!(get(program.addr, "/topics/a").status, 426, "this one is for WebSockets");
        let healthy = get(program.addr, "/healthz");
        assert_eq!((healthy.status, healthy.body.as_str()), (200, "ok\n"));
    });
}

#[test]
fn ps09_publishing_without_permission_closes_and_reaches_nobody() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--publish", "open/", "chat"];
        let program = Program::serve(&flags);
        let mut reader = Client::open_at(program.addr, "/topics/closed/a");
        let mut writer = Client::open_at(program.addr, "/topics/closed/a");
        writer.send_text("let me in");
        let (code, reason) = writer.read_close();
        assert_eq!(code, 1008);
        assert!(reason.contains("may not publish"), "{reason}");
        let answer = post(program.admin(), "/topics/closed/a", &[], b"from who may");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(reader.read_text(), "from who may", "and nothing before it");
        for topic in ["/topics/open/a", "/topics/chat", "/topics/chatter", "/echo"] {
            Client::open_at(program.addr, topic).echo("where it is allowed");
        }
    });
    let program = Program::serve(&["--publish", "none", "--workers", "1"]);
    let mut client = Client::open_at(program.addr, "/topics/any");
    client.send_text("no");
    assert_eq!(client.read_close().0, 1008);
}

#[test]
fn history_is_sent_to_who_comes_late() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--history", "news/=2", "--workers", "2"];
        let program = Program::serve(&flags);
        let mut first = Client::open_at(program.addr, "/topics/news/a");
        let mut elsewhere = Client::open_at(program.addr, "/topics/old");
        for text in ["one", "two", "three"] {
            first.echo(text);
            elsewhere.echo(text);
        }
        // So many that some of them are on the other core.
        for _ in 0..12 {
            let mut late = Client::open_at(program.addr, "/topics/news/a");
            assert_eq!([late.read_text(), late.read_text()], ["two", "three"]);
        }
        Client::open_at(program.addr, "/topics/old").echo("without a history this comes first");
    });
}

#[test]
fn topic_beyond_the_limit_closes_with_1013() {
    on_every_backend(|backend| {
        let program =
            Program::serve(&["--backend", backend, "--topics-max", "1", "--workers", "1"]);
        let mut first = Client::open_at(program.addr, "/topics/a");
        let mut second = Client::open_at(program.addr, "/topics/b");
        let (code, reason) = second.read_close();
        assert_eq!((code, reason.as_str()), (1013, "there are too many topics"));
        first.echo("not disturbed");
    });
}

#[test]
fn publisher_whose_message_another_worker_cannot_take_is_closed_with_1013() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--workers", "2", "--inbox-orders-max", "1"];
        // With a history all workers are concerned, whoever subscribes where.
        let program = Program::serve(&[&flags[..], &["--history", "a=1"]].concat());
        let mut bystander = Client::open_at(program.addr, "/echo");
        let mut publisher = Client::open_at(program.addr, "/topics/a");
        // Faster than the other worker wakes up.
        let burst = frame(true, TEXT, b"x").repeat(20_000);
        let _ = publisher.try_send_raw(&burst);
        let closed = loop {
            let read = publisher.read_frame();
            if read.opcode == CLOSE {
                break read;
            }
            assert_eq!(read, Frame::new(TEXT, b"x"), "what was taken before");
        };
        assert_eq!(closed.payload[..2], 1013u16.to_be_bytes());
        let reason = String::from_utf8_lossy(&closed.payload[2..]);
        assert!(reason.contains("try again later"), "{reason}");
        bystander.echo("not disturbed");
    });
}

#[test]
fn sub_protocol_is_chosen_in_topics_as_well() {
    let program = Program::serve(&["--protocol", "v2.chat", "--workers", "1"]);
    let mut client = Client::connect(program.addr);
    let asks = "Upgrade: websocket\r\nSec-WebSocket-Protocol: v1.chat, v2.chat";
    client.send_raw(
        REQUEST
            .replacen("GET / ", "GET /topics/a ", 1)
            .replace("Upgrade: websocket", asks)
            .as_bytes(),
    );
    let head = client.read_head();
    assert!(head.contains("Sec-WebSocket-Protocol: v2.chat"), "{head}");
    client.send_frame(true, TEXT, b"hello");
    assert_eq!(client.read_text(), "hello");
}

#[test]
fn announcement_names_both_ports_and_a_topic_to_try() {
    let program = Program::serve(&["--workers", "1"]);
    let lines = &program.announcement;
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines[5], format!("administration on http://{}/", program.admin()));
    assert!(lines[6].contains(&format!("open http://{}/", program.admin())), "{lines:?}");
    let url = format!("new WebSocket('ws://{}/topics/lobby')", program.addr);
    assert!(lines[6].contains(&url), "{lines:?}");

    let without = Program::serve(&["--workers", "1", "--admin", "none"]);
    assert_eq!(without.announcement.len(), 6, "{:?}", without.announcement);
}

#[test]
fn flags_of_topics_and_administration_that_make_no_sense_are_said() {
    for (flags, words) in [
        (
            &["--admin", "0.0.0.0:0"][..],
            &["0.0.0.0:0", "--admin-token", "LONGWIRE_ADMIN_TOKEN"][..],
        ),
        (&["--admin", "[::]:0"], &["[::]:0", "--admin-token"]),
        (&["--admin", "localhost"], &["--admin", "127.0.0.1:9002", "none"]),
        (&["--admin", "unix:@admin"], &["--admin", "127.0.0.1:9002"]),
        (&["--admin-token", ""], &["--admin-token", "visible ASCII"]),
        (&["--admin-host", "http://a"], &["--admin-host", "without a port"]),
        (&["--publish", "any", "none"], &["--publish", "not several"]),
        (&["--publish", "a", "--publish", "none"], &["--publish", "not several"]),
        (&["--latest", "a", "--drop-oldest", "a=1"], &["`a`", "--latest or --drop-oldest"]),
        (&["--history", "a=1", "--history", "a=2"], &["`a`", "--history"]),
        (&["--history", "a"], &["--history", "prices/=10"]),
        (&["--drop-oldest", "a=0"], &["--drop-oldest", "at least 1"]),
        (&["--topics-max", "0"], &["topics_max", "at least 1"]),
        (&["--subscriptions-max", "0"], &["subscriptions_max", "1"]),
        (&["--topic-bytes-max", "1M"], &["topic_bytes_max", "65535"]),
        (&["--inbox-orders-max", "0"], &["inbox_orders_max", "at least 1"]),
        (&["--inbox-bytes-max", "0"], &["inbox_bytes_max", "at least 1"]),
        (&["--workers", "0"], &["workers is 0"]),
    ] {
        expect_refusal(serve_command(flags), words);
    }
    let mut with_variable = serve_command(&["--admin", "0.0.0.0:0"]);
    with_variable.env("LONGWIRE_ADMIN_TOKEN", "");
    expect_refusal(with_variable, &["visible ASCII"]);
}

#[test]
fn port_of_administration_in_use_is_said() {
    let program = Program::serve(&["--workers", "1"]);
    let addr = program.admin().to_string();
    let command = longwire(&["serve", "--listen", "127.0.0.1:0", "--admin", &addr]);
    expect_refusal(command, &[&addr, "in use", "choose another port"]);
}
