//! `longwire tap`: frames of connections as they come and go.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{BINARY, CONTINUATION, Client, PING, TEXT};
use crate::http::get;
use crate::process::{Program, expect_refusal, longwire, on_every_backend, run, wait_until};

/// A running `longwire tap --json`.
struct Tap {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Tap {
    fn start(program: &Program, flags: &[&str]) -> Self {
        let url = format!("http://{}", program.admin());
        let mut command = longwire(&["tap", "--json", "--admin", &url]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that is no sign of life.
    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            let event: Value = serde_json::from_str(&line).expect("a line, not the end");
            if event["event"] != "idle" {
                return event;
            }
        }
    }

    /// The next frame, in short.
    fn frame(&mut self) -> String {
        let event = self.next();
        assert_eq!(event["event"], "frame", "{event}");
        let text = |field: &str| event[field].as_str().unwrap_or("-").to_owned();
        let mut frame = format!(
            "{} {} {} {}",
            text("direction"),
            text("opcode"),
            event["bytes"],
            text("payload")
        );
        for (field, is_usual) in [("fin", true), ("compressed", false), ("assembled", false)] {
            if event[field] != is_usual {
                frame += &format!(" {field}={}", event[field]);
            }
        }
        assert!(event["time"].as_f64().unwrap() > 1.7e9, "{event}");
        frame
    }

    fn exit_code(mut self) -> Option<i32> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "nothing follows");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of the open connections.
fn ids(program: &Program) -> Vec<String> {
    let list = get(program.admin(), "/connections").json();
    list.as_array().unwrap().iter().map(|conn| conn["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn frames_of_a_connection_are_shown_in_order_until_it_ends() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let mut shown = Client::open_at(program.addr, "/echo");
        shown.echo("before");
        let id = ids(&program).remove(0);
        let mut hidden = Client::open_at(program.addr, "/echo");
        let mut tap = Tap::start(&program, &["--conn", &id, "--payload"]);
        let watching = tap.next();
        assert_eq!(watching["event"], "watching");
        assert_eq!((&watching["id"], &watching["address"]), (&id.into(), &"127.0.0.1".into()));
        hidden.echo("not to be seen");
        shown.send_frame(true, BINARY, b"\x00\xff\x1b[2J");
        shown.read_frame();
        shown.send_frame(true, PING, b"are you there");
        shown.read_frame();
        shown.send_frame(false, TEXT, b"one ");
        shown.send_frame(true, CONTINUATION, b"two");
        assert_eq!(shown.read_text(), "one two");
        shown.close(4001);
        for expected in [
            "in binary 6 \\0\\xff\\u{1b}[2J",
            "out binary 6 \\0\\xff\\u{1b}[2J",
            "in ping 13 are you there",
            "out pong 13 are you there",
            "in text 4 - fin=false",
            "in continuation 3 -",
            "in text 7 one two assembled=true",
            "out text 7 one two",
            "in close 2 \\u{f}\\xa1",
            "out close 2 \\u{f}\\xa1",
        ] {
            assert_eq!(tap.frame(), expected);
        }
        let ended = tap.next();
        assert_eq!((&ended["event"], &ended["code"]), (&"ended".into(), &4001.into()), "{ended}");
        assert_eq!(ended["cause"], "peer");
        assert_eq!(tap.exit_code(), Some(0));
    });
}

#[test]
fn frames_of_subscribers_are_shown_without_payload_unless_it_is_asked_for() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "1"]);
        let mut guest = Client::open_at(program.addr, "/topics/a&b");
        let mut stranger = Client::open_at(program.addr, "/topics/c");
        guest.echo("ready");
        let mut tap = Tap::start(&program, &["--topic", "a&b", "--count", "2"]);
        assert_eq!(tap.next()["event"], "watching");
        stranger.echo("hello");
        guest.echo("hello");
        assert_eq!(tap.frame(), "in text 5 -");
        assert_eq!(tap.frame(), "out text 5 -");
        assert_eq!(tap.exit_code(), Some(0), "two frames were asked for");
        guest.echo("and nobody watches");
    });
}

#[test]
fn connections_of_an_address_are_shown_as_they_come() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let _old = Client::open_at(program.addr, "/echo");
        let mut tap = Tap::start(&program, &["--addr", "127.0.0.1", "--payload"]);
        let first = tap.next();
        assert_eq!(first["event"], "watching", "{first}");
        let mut new = Client::open_at(program.addr, "/echo");
        new.echo("hello");
        let second = tap.next();
        assert_eq!(second["event"], "watching", "{second}");
        assert_ne!(first["id"], second["id"]);
        assert_eq!(tap.frame(), "in text 5 hello");
        assert_eq!(tap.frame(), "out text 5 hello");
        new.reset();
        assert_eq!(tap.next()["cause"], "reset");
        drop(program);
        assert_eq!(tap.exit_code(), Some(0), "with the server, the tap ends");
    });
}

#[test]
fn what_is_not_fetched_in_time_is_counted_and_holds_nobody_up() {
    let program = Program::serve(&["--workers", "1"]);
    let mut client = Client::open_at(program.addr, "/echo");
    client.echo("ready");
    let id = ids(&program).remove(0);
    let mut tap = Tap::start(&program, &["--conn", &id]);
    assert_eq!(tap.next()["event"], "watching");
    let mut frames = Vec::new();
    for _ in 0..200 {
        for _ in 0..200 {
            frames.extend(crate::client::frame(true, TEXT, b"x"));
        }
    }
    let count = 40_000;
    std::thread::scope(|scope| {
        let stream = &mut client;
        scope.spawn(move || {
            for part in frames.chunks(64 * 1024) {
                stream.send_raw(part);
                // The echoes are left to the kernel, as far as it takes them.
            }
        });
    });
    for _ in 0..count {
        client.read_frame();
    }
    client.close(1000);
    let (mut shown, mut skipped) = (0, 0);
    loop {
        let event = tap.next();
        match event["event"].as_str().unwrap() {
            "frame" => shown += 1,
            "skipped" => skipped += event["count"].as_u64().unwrap(),
            "ended" => break,
            _ => panic!("{event}"),
        }
        // The end of the connection may be among what was left out.
        if shown + skipped >= 2 * count + 3 {
            break;
        }
    }
    assert!(skipped > 0 && shown > 100, "{shown} shown, {skipped} left out");
    assert!(shown + skipped >= 2 * count, "each is one or the other: {shown} and {skipped}");
}

#[test]
fn taps_end_with_their_viewers_and_leave_their_places() {
    let program = Program::serve(&["--workers", "1"]);
    let mut client = Client::open_at(program.addr, "/echo");
    client.echo("ready");
    let id = ids(&program).remove(0);
    for _ in 0..3 {
        let mut taps: Vec<Tap> = (0..4).map(|_| Tap::start(&program, &["--conn", &id])).collect();
        for tap in &mut taps {
            assert_eq!(tap.next()["event"], "watching");
        }
        let target = format!("/tap?conn={id}");
        let fifth = get(program.admin(), &target);
        assert_eq!(fifth.status, 503, "{fifth:?}");
        drop(taps);
        // Of the server, a probe with a bad name never begins a tap.
        let places_are_free = || {
            let url = format!("http://{}", program.admin());
            run(longwire(&["tap", "--admin", &url, "--conn", "ffffff"])).status.code() == Some(1)
        };
        wait_until("places", places_are_free, String::new);
        client.echo("goes on");
        std::thread::sleep(Duration::from_millis(1300));
    }
}

#[test]
fn viewers_that_read_no_more_leave_their_places() {
    let program = Program::serve(&["--workers", "1"]);
    let mut client = Client::open_at(program.addr, "/echo");
    client.echo("ready");
    let id = ids(&program).remove(0);
    let request =
        format!("GET /tap?conn={id}&payload HTTP/1.1\r\nHost: {}\r\n\r\n", program.admin());
    let viewers: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut viewer = TcpStream::connect(program.admin()).unwrap();
            viewer.write_all(request.as_bytes()).unwrap();
            let mut head = [0; 12];
            viewer.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
            viewer
        })
        .collect();
    let target = format!("/tap?conn={id}");
    assert_eq!(get(program.admin(), &target).status, 503);
    let text = "x".repeat(1000);
    let end = Instant::now() + Duration::from_secs(40);
    let has_place = || {
        let url = format!("http://{}", program.admin());
        run(longwire(&["tap", "--admin", &url, "--conn", "ffffff"])).status.code() == Some(1)
    };
    while !has_place() {
        assert!(Instant::now() < end, "they still have their places");
        for _ in 0..2000 {
            client.echo(&text);
        }
    }
    let mut tap = Tap::start(&program, &["--conn", &id]);
    assert_eq!(tap.next()["event"], "watching");
    drop(viewers);
}

#[test]
fn tap_says_what_is_wrong() {
    let program = Program::serve(&["--workers", "1", "--admin-token", "s3cr3t"]);
    let url = format!("http://{}", program.admin());
    let tap = |flags: &[&str]| {
        let mut command = longwire(&["tap", "--admin", &url]);
        command.args(flags);
        command
    };
    expect_refusal(tap(&["--conn", "1"]), &["LONGWIRE_ADMIN_TOKEN"]);
    expect_refusal(tap(&["--conn", "xyz"]), &["--conn", "hexadecimal"]);
    expect_refusal(tap(&["--addr", "localhost"]), &["--addr"]);
    expect_refusal(tap(&[]), &["--conn"]);
    expect_refusal(tap(&["--conn", "1", "--topic", "a"]), &["--conn", "--topic"]);
    expect_refusal(longwire(&["tap", "--conn", "1", "--admin", "127.0.0.1"]), &["http://"]);
    let nowhere = longwire(&["tap", "--conn", "1", "--admin", "http://127.0.0.1:1"]);
    expect_refusal(nowhere, &["http://127.0.0.1:1", "longwire serve"]);
    let mut wrong_topic = tap(&["--topic", "a b"]);
    wrong_topic.env("LONGWIRE_ADMIN_TOKEN", "s3cr3t");
    expect_refusal(wrong_topic, &["400", "white space"]);
    let mut missing = tap(&["--conn", "3fffffff"]);
    missing.env("LONGWIRE_ADMIN_TOKEN", "s3cr3t");
    let output = run(missing);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no such connection"), "{stderr}");
}
