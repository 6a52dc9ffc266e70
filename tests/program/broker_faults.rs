//! Brokers that are none, that are slow, or that are not the ones that were meant.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{figure, node_with, state, wait_until_linked, wait_until_subscribed};
use crate::brokers::{Broker, Software, greet_as_nats, pretend, with_each_broker};
use crate::certificates::Authority;
use crate::client::Client;
use crate::http::get;
use crate::process::wait_until;

#[test]
fn bk04_garbage_ends_the_link_and_nothing_else() {
    let info = format!("INFO {{\"max_payload\":1,\"x\":\"{}\"}}\r\n", "x".repeat(1 << 20));
    for (after_greeting, garbage) in [
        (false, "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned()),
        (false, info),
        (false, "INFO {}\r\n".to_owned()),
        (true, "MSG longwire.c 1 4000000000\r\n".to_owned()),
        (true, "MSG longwire.c 1 18446744073709551610\r\n".to_owned()),
        (true, "HMSG longwire.c 1 5 5\r\nhello\r\n".to_owned()),
        (true, "x".repeat(1 << 20)),
    ] {
        let shown: String = garbage.chars().take(40).collect();
        let addr = pretend(move |mut stream| {
            if after_greeting && greet_as_nats(&mut stream).is_err() {
                return;
            }
            let _ = stream.write_all(garbage.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let node = node_with(&format!("nats://{addr}"), &["--workers", "1"]);
        let mut client = Client::open_at(node.addr, "/topics/a");
        let garbage_count = || state(&node)["failures"]["garbage"].as_u64().unwrap_or(0);
        wait_until(&shown, || garbage_count() >= 2, || state(&node).to_string());
        client.echo("not disturbed");
        assert!(node.resident_bytes() < 200 << 20, "{shown}");
        assert!(get(node.admin(), "/metrics").body.contains("cause=\"garbage\""));
    }
}

#[test]
fn bk04_words_of_a_broker_are_shown_without_what_could_harm() {
    let addr = pretend(|mut stream| {
        let _ = stream.write_all(b"-ERR '\x1b[31mno\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let node = node_with(&format!("nats://secret@{addr}"), &["--workers", "1"]);
    let why = || state(&node)["why"].as_str().unwrap_or_default().to_owned();
    wait_until("its words", || why() == "the broker refused: ?[31mno", why);
    assert!(!get(node.admin(), "/stats.json").body.contains("secret"));
    assert!(!node.announcement.iter().any(|line| line.contains("secret")));
}

#[test]
fn bk05_broker_with_a_certificate_for_another_name_is_refused() {
    with_each_broker(|software| {
        let authority = Authority::new();
        let issued = authority.issue("broker", &["localhost"]);
        let broker = Broker::start_with_tls(software, &issued.certificate_file, &issued.key_file);
        let port = broker.addr.port();
        let ca = authority.file();
        let flags = ["--workers", "1", "--broker-ca", ca.to_str().unwrap()];
        let url = |host: &str| format!("{}://{host}:{port}", software.scheme(true));
        let right = node_with(&url("localhost"), &flags);
        wait_until_linked(&right);
        let untrusted = node_with(&url("localhost"), &["--workers", "1"]);
        // The same place by another name.
        let wrong = node_with(&url("127.0.0.1"), &flags);
        for node in [&wrong, &untrusted] {
            let refusals = || state(node)["failures"]["tls"].as_u64().unwrap_or(0);
            wait_until("a refusal", || refusals() >= 1, || state(node).to_string());
            assert_eq!(state(node)["state"], "degraded");
        }
        let mut client = Client::open_at(right.addr, "/topics/a");
        wait_until_subscribed(&right, 1);
        client.echo("over TLS");
        wait_until("the broker", || figure(&right, "sent") == 1, || state(&right).to_string());
    });
}

#[test]
fn bk03_link_is_read_while_clients_and_workers_stand_still() {
    const MESSAGES: usize = 100_000;
    let answered = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&answered);
    let go = Arc::new(AtomicBool::new(false));
    let may_go = Arc::clone(&go);
    let addr = pretend(move |mut stream| {
        if greet_as_nats(&mut stream).is_err() {
            return;
        }
        let mut out = stream.try_clone().unwrap();
        let (may_go, answer) = (Arc::clone(&may_go), Arc::clone(&answer));
        thread::spawn(move || {
            while !may_go.load(Ordering::Relaxed) {
                let _ = out.write_all(b"PONG\r\n");
                thread::sleep(Duration::from_millis(10));
            }
            let mut bytes = Vec::new();
            for number in 0..MESSAGES as u64 {
                let payload = [7; 500];
                write!(bytes, "MSG longwire.t.a 2 {}\r\n", 30 + payload.len()).unwrap();
                bytes.extend([1, 0]);
                for word in [77, 0, number] {
                    bytes.extend(u64::to_be_bytes(word));
                }
                bytes.extend([0; 4]);
                bytes.extend(payload);
                bytes.extend(b"\r\n");
            }
            let began = Instant::now();
            out.write_all(&bytes).unwrap();
            *answer.lock().unwrap() = Some(began.elapsed());
        });
        let _ = stream.read_to_end(&mut Vec::new());
    });
    // Its worker takes few messages, and its client reads none.
    let flags = ["--workers", "1", "--inbox-orders-max", "16"];
    let node = node_with(&format!("nats://{addr}"), &flags);
    let stalled = Client::open_at(node.addr, "/topics/a");
    wait_until_subscribed(&node, 1);
    go.store(true, Ordering::Relaxed);
    let is_read = || answered.lock().unwrap().is_some();
    wait_until("the link to be read", is_read, || state(&node).to_string());
    let received = || figure(&node, "received");
    wait_until("all of it", || received() == MESSAGES as u64, || state(&node).to_string());
    assert_eq!(figure(&node, "links"), 1);
    assert!(node.resident_bytes() < 300 << 20);
    drop(stalled);
}

#[test]
fn bk04_pings_of_a_broker_that_reads_nothing_cost_no_memory() {
    const BYTES: usize = 128 << 20;
    let go = Arc::new(AtomicBool::new(false));
    let may_go = Arc::clone(&go);
    let is_done = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&is_done);
    let addr = pretend(move |mut stream| {
        if greet_as_nats(&mut stream).is_err() {
            return;
        }
        stream.write_all(b"PONG\r\n").unwrap();
        while !may_go.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        let pings = b"PING\r\n".repeat(1 << 14);
        for _ in 0..BYTES / pings.len() {
            stream.write_all(&pings).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        thread::sleep(Duration::from_secs(1));
    });
    let node = node_with(&format!("nats://{addr}"), &["--workers", "1"]);
    wait_until_linked(&node);
    let bytes_before = node.resident_bytes();
    go.store(true, Ordering::Relaxed);
    wait_until("pings", || is_done.load(Ordering::Relaxed), || state(&node).to_string());
    let more_bytes = node.resident_bytes().saturating_sub(bytes_before);
    assert!(more_bytes < 32 << 20, "{more_bytes}");
    assert_eq!(figure(&node, "links"), 1);
}

#[test]
fn bk07_topics_are_asked_for_as_fast_as_the_broker_takes_them() {
    const TOPICS: usize = 2200;
    let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
    let batches = Arc::clone(&asked);
    let addr = pretend(move |mut stream| {
        if greet_as_nats(&mut stream).is_err() {
            return;
        }
        let mut heard = Vec::new();
        let mut bytes = [0; 4096];
        let mut count = 0;
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            heard.extend_from_slice(&bytes[..read]);
            while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = heard.drain(..=end).collect();
                if line.starts_with(b"SUB longwire.t.") {
                    count += 1;
                } else if line == b"PING\r\n" {
                    if count > 0 {
                        batches.lock().unwrap().push(count);
                        // A broker that is busy; meanwhile nothing more may come.
                        thread::sleep(Duration::from_millis(50));
                    }
                    count = 0;
                    let _ = stream.write_all(b"PONG\r\n");
                }
            }
        }
    });
    let node = node_with(&format!("nats://{addr}"), &["--workers", "1"]);
    let open = |number| Client::open_at(node.addr, &format!("/topics/{number}"));
    let clients: Vec<Client> = (0..TOPICS).map(open).collect();
    let total = || asked.lock().unwrap().iter().sum::<usize>();
    wait_until("subscriptions", || total() == TOPICS, || format!("{:?}", asked.lock().unwrap()));
    assert!(asked.lock().unwrap().iter().all(|batch| *batch <= 1000));
    assert_eq!(clients.len(), TOPICS);
}

#[test]
fn login_is_shown_to_the_broker_and_a_wrong_one_is_refused() {
    with_each_broker(|software| {
        let (flags, right, wrong) = match software {
            Software::Nats => ("--user me --pass p@ss", "me:p%40ss@", "me:pass@"),
            Software::Redis => ("--requirepass p@ss", ":p%40ss@", ":pass@"),
        };
        let flags = flags.split(' ').map(str::to_owned).collect();
        let broker = Broker::start_with(software, |_| flags);
        let url = |login| format!("{}://{login}{}", software.scheme(false), broker.addr);
        let node = |login| node_with(&url(login), &["--workers", "1"]);
        wait_until_linked(&node(right));
        for refused in [node(wrong), node("")] {
            let count = || state(&refused)["failures"]["refused"].as_u64().unwrap_or(0);
            wait_until("a refusal", || count() > 0, || state(&refused).to_string());
            assert_eq!(state(&refused)["links"], 0);
        }
    });
}
