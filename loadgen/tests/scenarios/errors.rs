//! What a user meets when a run cannot be made: one line on standard error, exit code 2.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use longwire::BackendChoice;

use crate::servers::{Fault, Running};
use crate::{command, loadgen};

/// Runs it; the only line on standard error has to hold all of `wanted`.
pub(crate) fn fails(args: &str, wanted: &[&str]) {
    let run = loadgen(args);
    assert_eq!(run.code, 2, "{args}: {run:?}");
    assert_eq!(run.stdout, "", "{args}");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{args}: {run:?}");
    for part in wanted {
        assert!(lines[0].contains(part), "{args}: {part} in {}", lines[0]);
    }
}

/// A server that answers each connection with these bytes, and closes it.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.unwrap();
            let _ = peer.read(&mut [0; 4096]);
            let _ = peer.write_all(answer);
        }
    });
    url
}

#[test]
fn refused_connection_is_one_line() {
    let closed = crate::free_addr();
    for scenario in ["echo", "idle", "fanout", "churn --duration 300ms", "storm --within 1s"] {
        fails(&format!("{scenario} ws://{closed}/ -q"), &["refused", &closed.to_string()]);
    }
}

#[test]
fn server_that_is_none_is_one_line() {
    fails(
        &format!("echo {} -q", answering(b"HTTP/1.1 404 Not Found\r\n\r\n")),
        &["HTTP status 404"],
    );
    fails(&format!("echo {} -q", answering(b"SSH-2.0-x\r\n")), &["not a WebSocket server"]);
    fails(&format!("echo {} -q", answering(b"")), &["closed before it answered"]);
    let url = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").replace("ws://", "wss://");
    fails(&format!("echo {url} -q --insecure"), &["no TLS connection", "use ws://"]);
}

#[test]
fn unknown_host_and_wrong_url_are_one_line() {
    fails("ws://no-such-host.invalid/ -q", &["no-such-host.invalid"]);
    fails("http://127.0.0.1/ -q", &["ws://"]);
    fails("echo 127.0.0.1:9001 -q", &["ws://"]);
}

#[test]
fn usage_errors_name_the_flag() {
    for (args, wanted) in [
        ("echo ws://127.0.0.1:1/ --dept 2", "--depth"),
        ("echo ws://127.0.0.1:1/ --size many", "--size"),
        ("echo ws://127.0.0.1:1/ --rate 5 --depth 2", "--depth"),
        ("echo ws://127.0.0.1:1/ --fail-if p98>5ms", "p99"),
        ("echo", "URL"),
        ("frobnicate ws://127.0.0.1:1/", "frobnicate"),
    ] {
        let run = loadgen(args);
        assert_eq!(run.code, 2, "{args}: {run:?}");
        assert!(run.stderr.contains(wanted), "{args}: {}", run.stderr);
    }
}

#[test]
fn run_that_does_not_fit_is_not_started() {
    let server = Running::echo(BackendChoice::Auto, Fault::None);
    let run = loadgen(&format!("idle {} --conns 900M -q", server.url()));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("limit:"), "{}", run.stderr);
}

#[test]
fn process_that_is_not_there_is_one_line() {
    let server = Running::echo(BackendChoice::Auto, Fault::None);
    fails(&format!("echo {} -q --pid 999999999", server.url()), &["999999999", "--pid"]);
    fails("echo ws://127.0.0.1:9/ -q --server no-such-program", &["no-such-program"]);
}

#[test]
fn interrupted_run_shows_what_it_has() {
    let server = Running::echo(BackendChoice::Auto, Fault::None);
    let args = format!("echo {} --duration 60s --warmup 0s -q", server.url());
    let child = command(&args).stderr(Stdio::inherit()).spawn().unwrap();
    thread::sleep(Duration::from_millis(1500));
    let pid = rustix::process::Pid::from_child(&child);
    let interrupted = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(interrupted.elapsed() < Duration::from_secs(20));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("interrupted") && stdout.contains("messages_per_s"), "{stdout}");
}
