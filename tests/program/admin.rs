//! The administration port: publishing, figures, probes, and who may ask for them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{BINARY, Client, Frame, REQUEST};
use crate::http::{answer, ask, get, post, request};
use crate::process::{Program, on_every_backend, serve_command, wait_until};

#[test]
fn post_publishes_and_tells_the_counts() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let admin = program.admin();
        let mut guests: Vec<Client> =
            (0..5).map(|_| Client::open_at(program.addr, "/topics/lobby")).collect();
        for headers in [
            &[][..],
            &["Content-Type: text/plain; charset=utf-8"],
            &["Content-Type: application/json"],
            &["Content-Type: application/x-www-form-urlencoded"],
        ] {
            let answer = post(admin, "/topics/lobby", headers, "grüße".as_bytes());
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json(), json!({ "queued": 5, "refused": 0 }));
            for guest in &mut guests {
                assert_eq!(guest.read_text(), "grüße");
            }
        }
        let headers = ["Content-Type: application/octet-stream"];
        let answer = post(admin, "/topics/lobby", &headers, b"\xff\0");
        assert_eq!(answer.json(), json!({ "queued": 5, "refused": 0 }));
        for guest in &mut guests {
            assert_eq!(guest.read_frame(), Frame::new(BINARY, b"\xff\0"));
        }
        let nobody = post(admin, "/topics/empty", &[], b"");
        assert_eq!(nobody.json(), json!({ "queued": 0, "refused": 0 }));
    });
}

#[test]
fn hp06_publishing_has_the_limits_of_the_websocket_side() {
    let flags = ["--message-bytes-max", "1000", "--topic-bytes-max", "16", "--workers", "1"];
    let program = Program::serve(&flags);
    let admin = program.admin();
    let mut guest = Client::open_at(program.addr, "/topics/a");
    let long = vec![b'x'; 1001];
    let huge = vec![b'x'; 3 << 20];
    for (target, headers, body, status) in [
        ("/topics/a", &[][..], &long[..], 413),
        ("/topics/a", &[], &huge, 413),
        ("/topics/a", &["Expect: 100-continue"], &long, 413),
        ("/topics/a", &[], b"\xff", 400),
        ("/topics/a", &["Content-Type: image/png"], b"x", 415),
        ("/topics/a", &["Content-Encoding: gzip"], b"x", 415),
        ("/topics/", &[], b"x", 400),
        ("/topics/a%20b", &[], b"x", 400),
        ("/topics/%", &[], b"x", 400),
        ("/topics/*", &[], b"x", 400),
        ("/topics/12345678901234567", &[], b"x", 400),
    ] {
        let mut client = Client::connect(admin);
        // A body that is far too large is not read to its end.
        let _ = client.try_send_raw(&request(admin, "POST", target, headers, body));
        if body.len() > 2 << 20 {
            continue;
        }
        let answer = answer(&mut client);
        assert_eq!(answer.status, status, "{target} {headers:?}: {answer:?}");
        assert!(answer.json()["error"].is_string(), "{answer:?}");
    }
    let chunked = format!(
        "POST /topics/a HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1001)
    );
    assert_eq!(ask(admin, chunked.as_bytes()).status, 413);
    let header = format!("X-Long: {}", "x".repeat(32 << 10));
    assert_eq!(post(admin, "/topics/a", &[&header], b"x").status, 431);
    assert_eq!(post(admin, "/topics/a", &[], &long[1..]).status, 200, "the largest there may be");
    assert_eq!(guest.read_text().len(), 1000, "and nothing before it");
}

#[test]
fn hp06_slow_bodies_and_heads_are_given_up() {
    let program = Program::serve(&["--workers", "1"]);
    let admin = program.admin();
    let began = Instant::now();
    let mut slow_body = Client::connect(admin);
    let whole = request(admin, "POST", "/topics/a", &[], b"hello");
    slow_body.send_raw(&whole[..whole.len() - 1]);
    let mut slow_head = Client::connect(admin);
    slow_head.send_raw(&whole[..20]);
    assert_eq!(answer(&mut slow_body).status, 408);
    let rest = slow_head.read_response();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    assert!(began.elapsed() > Duration::from_secs(5), "they had time");
    assert_eq!(get(admin, "/healthz").status, 200);
}

#[test]
fn connections_beyond_the_cap_wait_until_another_ends() {
    const CONNS_MAX: usize = 32;
    let program = Program::serve(&["--workers", "1"]);
    let admin = program.admin();
    let probe = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let ask = || {
        let mut client = Client::connect(admin);
        client.send_raw(probe.as_bytes());
        client
    };
    let mut served: Vec<Client> = (0..CONNS_MAX).map(|_| ask()).collect();
    for client in &mut served {
        assert!(client.read_head().starts_with("HTTP/1.1 200"), "it is served, and stays");
    }
    let mut late = ask();
    let patience = late.stream.read_timeout().unwrap();
    late.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waits = late.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock, "nobody answers");
    Client::open_at(program.addr, "/echo").echo("the other port is not disturbed");
    late.stream.set_read_timeout(patience).unwrap();
    drop(served.pop());
    assert!(late.read_head().starts_with("HTTP/1.1 200"), "now there is room");
}

/// The samples of a scrape, by name and labels.
fn scrape(program: &Program) -> Vec<(String, f64)> {
    let answer = get(program.admin(), "/metrics");
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type").unwrap();
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(answer.body.ends_with("# EOF\n"), "it is whole");
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The sum over all cores.
fn sum(samples: &[(String, f64)], name: &str) -> f64 {
    let of_name = |sample: &&(String, f64)| sample.0.split('{').next() == Some(name);
    assert!(samples.iter().any(|sample| of_name(&sample)), "{name}");
    samples.iter().filter(of_name).map(|(_, value)| value).sum()
}

#[test]
fn metrics_count_what_happens() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let before = scrape(&program);
        for (name, _) in &before {
            let process_wide = [
                "longwire_info{",
                "longwire_uptime",
                "longwire_ready",
                "longwire_connections_max",
                "longwire_memory_max",
                "longwire_stuck",
                "process_",
            ];
            let is_of_core = name.contains("core=\"0\"") || name.contains("core=\"1\"");
            assert!(is_of_core || process_wide.iter().any(|p| name.starts_with(p)), "{name}");
        }
        let mut guests: Vec<Client> =
            (0..3).map(|_| Client::open_at(program.addr, "/topics/lobby")).collect();
        guests[0].send_text("hello");
        for guest in &mut guests {
            assert_eq!(guest.read_text(), "hello");
        }
        guests.pop().unwrap().close(1000);
        let mut wrong = Client::open_at(program.addr, "/echo");
        wrong.send_raw(b"\x81\x05plain");
        wrong.expect_failure(1002);
        let bad = REQUEST.replacen("GET / ", "GET /nowhere ", 1);
        assert_eq!(ask(program.addr, bad.as_bytes()).status, 404);
        let expected = [
            ("longwire_connections_opened_total", 4.0),
            ("longwire_connections_closed_total", 2.0),
            ("longwire_connections_open", 2.0),
            ("longwire_connections_accepted_total", 5.0),
            ("longwire_messages_received_total", 1.0),
            ("longwire_received_bytes_total", 5.0),
            ("longwire_messages_sent_total", 3.0),
            ("longwire_sent_bytes_total", 15.0),
            ("longwire_handshakes_refused_total", 1.0),
            ("longwire_failures_total", 1.0),
            ("longwire_subscriptions", 2.0),
            ("longwire_messages_dropped_total", 0.0),
            ("longwire_queue_bytes", 0.0),
            ("longwire_ready", 1.0),
        ];
        let seen = || {
            let samples = scrape(&program);
            expected.map(|(name, _)| {
                // These two have no sample before there is something to count.
                let is_rare = name.contains("refused") || name.contains("failures");
                let is_there = samples.iter().any(|(sample, _)| sample.starts_with(name));
                if is_rare && !is_there { (name, 0.0) } else { (name, sum(&samples, name)) }
            })
        };
        // Levels are as of the last second.
        wait_until("the figures", || seen() == expected, || format!("{:?}", seen()));
        let samples = scrape(&program);
        assert!(sum(&samples, "process_resident_memory_bytes") > 1e6);
        assert!(sum(&samples, "longwire_turn_seconds_count") > 0.0);
        assert!(samples.iter().any(|(name, _)| name.contains("code=\"1002\"")));
    });
}

#[test]
fn stats_are_of_each_core_and_of_all() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let mut guest = Client::open_at(program.addr, "/topics/lobby");
        guest.echo("hello");
        let stats = get(program.admin(), "/stats.json").json();
        assert_eq!(stats["backend"], backend);
        assert_eq!(stats["urls"], json!([format!("ws://{}", program.addr)]));
        assert!(stats["uptime_seconds"].as_f64().unwrap() > 0.0);
        assert!(stats["rss_bytes"].as_u64().unwrap() > 1_000_000);
        assert_eq!(stats["ready"], true);
        let totals = &stats["totals"];
        let figures = ["open", "messages", "message_bytes", "sent_messages", "sent_bytes"];
        assert_eq!(figures.map(|name| totals[name].as_u64().unwrap()), [1, 1, 5, 1, 5]);
        let cores = stats["cores"].as_array().unwrap();
        assert_eq!(cores.len(), 2);
        for (name, total) in totals.as_object().unwrap() {
            let Some(total) = total.as_u64() else { continue };
            let of_cores = cores.iter().map(|core| core[name].as_u64().unwrap());
            assert_eq!(of_cores.sum::<u64>(), total, "{name}");
        }
    });
}

#[test]
fn connections_are_listed_up_to_a_limit() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let guests: Vec<Client> =
            (0..4).map(|_| Client::open_at(program.addr, "/topics/lobby")).collect();
        let list = get(program.admin(), "/connections").json();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), guests.len());
        for conn in list {
            assert_eq!(conn["address"], "127.0.0.1");
            assert_eq!(conn["topics"], json!(["lobby"]));
            assert_eq!(conn["queued_bytes"], 0);
            assert!(conn["age_seconds"].as_f64().unwrap() < 60.0);
            assert!(conn["core"].as_u64().unwrap() < 2);
        }
        let mut ids: Vec<&str> = list.iter().map(|conn| conn["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), guests.len());
        let some = get(program.admin(), "/connections?limit=3").json();
        assert_eq!(some.as_array().unwrap().len(), 3);
        assert_eq!(get(program.admin(), "/connections?limit=1001").status, 400);
    });
}

#[test]
fn readyz_says_no_while_the_server_stops() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend]);
        let admin = program.admin();
        let mut guest = Client::open_at(program.addr, "/topics/lobby");
        assert_eq!(get(admin, "/readyz").status, 200);
        program.signal(Signal::TERM);
        // It does not answer, so the program has to wait for it.
        assert_eq!(guest.read_close().0, 1012);
        assert_eq!(get(admin, "/readyz").status, 503);
        assert_eq!(get(admin, "/healthz").status, 200);
        let refused = post(admin, "/topics/lobby", &[], b"too late");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        guest.send_close(1012);
        guest.read_end();
        let (status, stdout, stderr) = program.wait();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout.last().unwrap(), "stopped: 1 connections, 0 messages");
    });
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let program = Program::serve(&["--workers", "1"]);
    let admin = program.admin();
    for target in ["/nope", "/topics", "/metrics/", "/stats.json/x"] {
        let answer = get(admin, target);
        assert_eq!(answer.status, 404, "{target}");
        assert!(answer.json()["error"].is_string());
    }
    for (method, target, allowed) in [
        ("GET", "/topics/a", "POST"),
        ("DELETE", "/topics/a", "POST"),
        ("POST", "/metrics", "GET,HEAD"),
        ("PUT", "/", "GET,HEAD"),
    ] {
        let answer = ask(admin, &request(admin, method, target, &[], b""));
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{target}");
        assert!(answer.json()["error"].is_string());
    }
    let page = get(admin, "/");
    assert!(page.body.contains("stats.json") && page.body.trim_end().ends_with("</html>"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
}

#[test]
fn hp05_public_port_has_no_administration() {
    let program = Program::serve(&["--workers", "1"]);
    for target in ["/metrics", "/stats.json", "/connections", "/readyz", "/"] {
        assert_eq!(get(program.addr, target).status, 404, "{target}");
    }
    assert_eq!(post(program.addr, "/topics/a", &[], b"").status, 405, "WebSockets alone");
}

#[test]
fn hp05_token_is_needed_for_all_but_the_probes() {
    let flags = serve_command(&["--workers", "1", "--admin-token", "s3cr3t"]);
    let mut variable = serve_command(&["--workers", "1"]);
    variable.env("LONGWIRE_ADMIN_TOKEN", "s3cr3t");
    for command in [flags, variable] {
        let program = Program::start_by(command);
        let admin = program.admin();
        let ask = |method, target, headers: &[&str]| {
            ask(admin, &request(admin, method, target, headers, b""))
        };
        for target in ["/", "/metrics", "/stats.json", "/connections", "/nope"] {
            let refused = ask("GET", target, &[]);
            assert_eq!(refused.status, 401, "{target}");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
            assert!(!refused.body.contains("s3cr3t"));
            let wrong = ask("GET", target, &["Authorization: Bearer s3cr3x"]);
            assert_eq!(wrong.status, 401, "{target}");
            let right = ask("GET", target, &["Authorization: Bearer s3cr3t"]);
            assert_eq!(right.status, if target == "/nope" { 404 } else { 200 }, "{target}");
        }
        assert_eq!(ask("POST", "/topics/a", &[]).status, 401);
        assert_eq!(ask("POST", "/topics/a", &["Authorization: Bearer s3cr3t"]).status, 200);
        // As a browser shows what its user has typed: `me`, and the token.
        assert_eq!(ask("GET", "/", &["Authorization: Basic bWU6czNjcjN0"]).status, 200);
        for probe in ["/healthz", "/readyz"] {
            assert_eq!(ask("GET", probe, &[]).status, 200);
        }
    }
}

#[test]
fn hp05_pages_of_other_origins_and_names_of_strangers_are_refused() {
    let program = Program::serve(&["--workers", "1", "--admin-host", "admin.example"]);
    let admin = program.admin();
    let port = admin.port();
    let mut guest = Client::open_at(program.addr, "/topics/a");
    let own = format!("Origin: http://{admin}");
    let neighbour = format!("Origin: http://{}", program.addr);
    let localhost = format!("Host: localhost:{port}");
    let of_localhost = format!("Origin: http://localhost:{port}");
    let named = format!("Host: admin.example:{port}");
    let rebound = format!("Host: evil.example:{port}");
    for (headers, status) in [
        (&["Origin: https://evil.example"][..], 403),
        (&["Origin: null"], 403),
        (&[&neighbour], 403),
        (&[&localhost, &own], 403),
        (&[&rebound], 403),
        (&[&rebound, "Origin: http://evil.example"], 403),
        (&[&own], 200),
        (&[&localhost, &of_localhost], 200),
        (&[&named], 200),
    ] {
        let text = format!("{status} {headers:?}");
        let answer = post(admin, "/topics/a", headers, text.as_bytes());
        assert_eq!(answer.status, status, "{headers:?}");
        if status == 200 {
            assert_eq!(guest.read_text(), text, "and nothing of those that were refused");
        }
    }
    assert_eq!(ask(admin, b"GET /metrics HTTP/1.0\r\n\r\n").status, 400, "no host at all");
}

#[test]
fn hp05_labels_have_no_text_of_peers() {
    let program = Program::serve(&["--workers", "1"]);
    let mut guest = Client::open_at(program.addr, "/topics/zebra");
    guest.echo("zebra");
    guest.close(4321);
    for request in [
        REQUEST.replacen("GET / ", "GET /zebra ", 1),
        REQUEST.replacen("GET / ", "ZEBRA / ", 1),
        REQUEST.replacen("Version: 13", "Version: 4321", 1),
        REQUEST.replacen("Host: localhost", "Host: zebra zebra", 1),
    ] {
        let refused = ask(program.addr, request.as_bytes());
        assert!(refused.status >= 400, "{refused:?}");
    }
    let refusals = || -> Value { get(program.admin(), "/stats.json").json()["totals"].clone() };
    wait_until(
        "the refusals",
        || refusals()["refusals"].as_object().is_some_and(|by_reason| by_reason.len() >= 3),
        || refusals().to_string(),
    );
    let body = get(program.admin(), "/metrics").body.to_ascii_lowercase();
    assert!(!body.contains("zebra") && !body.contains("4321"), "{body}");
}
