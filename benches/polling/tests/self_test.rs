//! The program as it is run, small: every update arrives once and in order, whichever way it goes.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the program has failed")]

use std::process::{Command, Output};

use serde_json::Value;

/// Clients, seconds and updates per second and client.
const SMALL: [&str; 6] = ["--clients", "50", "--duration", "2s", "--interval", "500ms"];
const UPDATES: u64 = 50 * 4;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_longwire-polling"))
}

/// The figures of one way, after a run that found nothing wrong.
fn measured(way: &str, more: &[&str]) -> Value {
    let path = std::env::temp_dir().join(format!("polling-{way}-{}.json", std::process::id()));
    let output =
        program().args(SMALL).args(["--ways", way]).arg("--json").arg(&path).args(more).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", String::from_utf8_lossy(&output.stdout));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    report["ways"][0].clone()
}

fn assert_complete(way: &Value) {
    assert_eq!(way["published"], UPDATES);
    assert_eq!(way["arrived"], UPDATES);
    for fault in ["lost", "repeated", "misdelivered"] {
        assert_eq!(way[fault], 0, "{fault}");
    }
    assert!(way["delay_max_ms"].as_f64().unwrap() > 0.0);
    assert!(way["server_cpu_percent"].as_f64().unwrap() > 0.0);
    assert!(way["server_rss_bytes"].as_u64().unwrap() > 0);
}

fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn polling_delivers_every_update_once_within_a_poll() {
    let way = measured("poll", &["--poll", "200ms"]);
    assert_complete(&way);
    // 5 polls per second of each of 50 clients, most of them for nothing.
    let requests = way["requests_per_s"].as_f64().unwrap();
    assert!((200.0..=260.0).contains(&requests), "{requests}");
    assert!(way["empty_answers_per_s"].as_f64().unwrap() > 100.0);
    // Anything from nothing to the period; half of it in the middle.
    assert!(way["delay_p50_ms"].as_f64().unwrap() > 30.0);
}

#[test]
fn polling_that_is_slower_than_the_updates_still_delivers_them_in_order() {
    let way = measured("poll", &["--poll", "600ms"]);
    assert_complete(&way);
}

#[test]
fn long_polling_delivers_every_update_once() {
    let way = measured("long-poll", &[]);
    assert_complete(&way);
    assert_eq!(way["empty_answers_per_s"], 0.0);
}

#[test]
fn push_delivers_every_update_once_on_each_backend() {
    for backend in ["epoll", "io_uring"] {
        let way = measured("push", &["--backend", backend]);
        assert_complete(&way);
        assert_eq!(way["requests_per_s"], 0.0);
        assert!(way["server"].as_str().unwrap().contains(backend));
        // Two bytes of head and 64 of text: nothing else is on the wire.
        assert_eq!(way["bytes_per_update"], 66.0);
    }
}

#[test]
fn minimal_headers_make_smaller_requests() {
    let bytes = |more: &[&str]| measured("poll", more)["request_bytes"].as_u64().unwrap();
    assert!(bytes(&["--minimal-headers"]) < 100);
    assert!(bytes(&[]) > 400);
}

#[test]
fn more_clients_than_descriptors_are_refused_with_the_way_out() {
    let output = program().args(["--clients", "1000000000"]).output().unwrap();
    let error = failed(&output, 2);
    assert!(error.contains("--clients") && error.contains("ulimit"), "{error}");
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    for (arguments, named) in [
        (["--interval", "0"], "1ms"),
        (["--backend", "kqueue"], "io_uring"),
        (["--cores", "0"], "0,1"),
        (["--cores", "0,100000"], "--cores"),
        (["--clients", "0"], "--clients"),
    ] {
        let output = program().args(arguments).output().unwrap();
        let error = failed(&output, 2);
        assert!(error.contains(named), "{arguments:?}: {error}");
    }
}

#[test]
fn table_and_markdown_name_the_ways() {
    let run = |more: &[&str]| {
        let arguments = ["--clients", "5", "--duration", "100ms", "--interval", "100ms"];
        let output = program().args(arguments).args(["--poll", "50ms"]).args(more).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let table = run(&[]);
    assert!(table.contains("longwire push") && table.contains("delay, p99"), "{table}");
    let markdown = run(&["--markdown"]);
    assert!(markdown.contains("| | HTTP polling | long polling | longwire push |"), "{markdown}");
}
