//! What the program says when it cannot start: one line, with what to do, and exit code 2.

use std::net::TcpListener;
use std::process::Command;

use crate::backends::skip;
use crate::client::Client;
use crate::process::{
    Program, echo_command, expect_refusal, has_io_uring, longwire, run, wait_until,
};

/// Every flag of `longwire echo`.
const FLAGS: &[&str] = &[
    "--config",
    "--listen",
    "--unix-mode",
    "--backend",
    "--workers",
    "--cores",
    "--direct-descriptors",
    "--backlog",
    "--conns-max",
    "--handshakes-max",
    "--message-bytes-max",
    "--frame-bytes-max",
    "--request-line-bytes-max",
    "--head-bytes-max",
    "--header-count-max",
    "--empty-fragments-max",
    "--control-frames-per-second",
    "--send-high-water-bytes",
    "--send-bytes-max",
    "--spare-bytes-max",
    "--receive-blocks-max",
    "--handshake-timeout",
    "--ping-interval",
    "--pong-timeout",
    "--idle-timeout",
    "--message-timeout",
    "--write-stall-timeout",
    "--close-timeout",
    "--stop-timeout",
    "--tls-cert",
    "--tls-key",
    "--tls-self-signed",
    "--listen-tls",
    "--tls-client-ca",
    "--tls-client-required",
    "--tls-handshakes-max",
    "--tls-handshake-timeout",
    "--origin",
    "--allow-any-origin",
    "--require-origin",
    "--protocol",
    "--conns-per-address-max",
    "--proxy-protocol",
    "--forwarded-header",
    "--trusted-proxy",
    "--deflate",
    "--deflate-takeover",
    "--deflate-level",
    "--deflate-window-bits",
    "--deflate-bytes-min",
    "--overflow",
    "--messages-per-second",
    "--bytes-per-second",
    "--rate-mode",
    "--lifetime-max",
    "--handshakes-per-second",
    "--drain-time",
    "--stuck-abort",
    "--memory-bytes-max",
    "--log",
    "--log-format",
    "--help",
    "--version",
];

fn help(args: &[&str]) -> String {
    let output = run(longwire(args));
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stderr.is_empty(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Flags of `longwire serve` beside these.
const SERVE_FLAGS: &[&str] = &[
    "--publish",
    "--latest",
    "--drop-oldest",
    "--history",
    "--topics-max",
    "--subscriptions-max",
    "--topic-bytes-max",
    "--inbox-orders-max",
    "--inbox-bytes-max",
    "--admin",
    "--admin-token",
    "--admin-host",
    "--closes-kept",
    "--broker",
    "--broker-ca",
    "--broker-prefix",
    "--broker-queue-bytes-max",
    "--broker-retry-max",
];

#[test]
fn help_names_every_flag_and_says_what_it_is_for() {
    expect_help("echo", FLAGS.to_vec());
    expect_help("serve", [FLAGS, SERVE_FLAGS].concat());
}

fn expect_help(command: &str, mut expected: Vec<&str>) {
    let help_text = help(&[command, "--help"]);
    let lines: Vec<&str> = help_text.lines().collect();
    let named = |line: &str| {
        line.split_whitespace()
            .map(|word| word.trim_end_matches(','))
            .find_map(|word| word.starts_with("--").then(|| word.to_owned()))
    };
    // Explanations name flags as well, and may begin a line with one, but further to the right.
    let starts_flag = |line: &&str| {
        let text = line.trim_start();
        text.starts_with('-') && line.len() - text.len() <= 6
    };
    let listed: Vec<String> = lines.iter().copied().filter(starts_flag).filter_map(named).collect();
    let mut found: Vec<&str> = listed.iter().map(String::as_str).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected, "the list of this test is that of {command}");
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| starts_flag(line)) {
        let text = format!("{line} {}", lines.get(at + 1).unwrap_or(&""));
        assert!(text.split_whitespace().count() >= 4, "{line} is explained");
    }
    for word in ["SIGTERM", "SIGINT", "1012", "1001", "Exit codes", "new WebSocket("] {
        assert!(help_text.contains(word), "{word}");
    }
}

#[test]
fn help_of_the_program_names_its_commands() {
    for args in [&["--help"][..], &["help"], &["-h"]] {
        let text = help(args);
        assert!(
            ["echo", "serve", "config", "doctor", "--log"].iter().all(|word| text.contains(word)),
            "{text}"
        );
    }
    assert_eq!(help(&["--version"]), format!("longwire {}\n", env!("CARGO_PKG_VERSION")));
    let output = run(longwire(&[]));
    assert_eq!(output.status.code(), Some(2), "nothing was asked for");
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage: longwire"));
}

#[test]
fn port_in_use_is_said() {
    let program = Program::start(&["--workers", "1"]);
    let mut client = Client::open(program.addr);
    let addr = program.addr.to_string();
    let words = [addr.as_str(), "in use", "choose another port"];
    expect_refusal(longwire(&["echo", "--listen", &addr]), &words);
    for backend in ["epoll", "auto"] {
        let command = longwire(&["echo", "--listen", &addr, "--backend", backend]);
        expect_refusal(command, &words);
    }
    client.echo("the first is not disturbed");

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap().to_string();
    expect_refusal(longwire(&["echo", "--listen", &addr]), &["in use", "choose another port"]);
}

#[test]
fn address_of_another_machine_is_said() {
    expect_refusal(longwire(&["echo", "--listen", "192.0.2.1:9001"]), &["192.0.2.1:9001", "not"]);
}

#[test]
fn flags_that_make_no_sense_are_said_with_what_would() {
    for (flags, words) in [
        (&["--prot", "9001"][..], &["--prot"][..]),
        (&["extra"], &["extra"]),
        (&["--cores", "0-"], &["`0-`", "0-3,6"]),
        (&["--cores", "9999"], &["`9999`", "0-3,6"]),
        (&["--cores", "x"], &["`x`", "0-3,6"]),
        (&["--cores", "1023"], &["core 1023", "choose from 0"]),
        (&["--workers", "0"], &["workers is 0", "at least 1"]),
        (&["--workers", "100000"], &["workers is 100000", "at most 1024"]),
        (&["--workers", "-1"], &["-1"]),
        (&["--conns-max", "0"], &["conns_max", "at least 1"]),
        (&["--conns-max", "99999999999"], &["descriptor limit", "ulimit -n 1000000", "or less"]),
        (&["--conns-max", "18446744073709551615"], &["descriptor limit", "or less"]),
        (&["--message-bytes-max", "12Q"], &["--message-bytes-max", "12Q", "64K"]),
        (&["--message-bytes-max", "99999999999G"], &["--message-bytes-max", "too large"]),
        (&["--message-bytes-max", "124"], &["message_bytes_max", "at least 125"]),
        (&["--send-bytes-max", "1K"], &["send_bytes_max", "at least 65536"]),
        (&["--header-count-max", "257"], &["header_count_max", "at most 256"]),
        (&["--control-frames-per-second", "40000"], &["control_frames", "at most 32767"]),
        (&["--handshakes-max", "0"], &["handshakes_max", "at least 1"]),
        (&["--handshake-timeout", "30"], &["--handshake-timeout", "30s"]),
        (&["--ping-interval", "soon"], &["--ping-interval", "500ms"]),
        (&["--stop-timeout", "99999999999999999h"], &["--stop-timeout", "too long"]),
        (&["--unix-mode", "999"], &["--unix-mode", "999", "660"]),
        (&["--listen", "unix:@twice", "--listen", "unix:@twice"], &["unix:@twice", "twice"]),
        (&["--backend", "kqueue"], &["--backend", "auto, io_uring and epoll"]),
        (&["--direct-descriptors", "--backend", "epoll"], &["direct descriptors need io_uring"]),
    ] {
        expect_refusal(echo_command(flags), words);
    }
    for (addr, word) in [
        ("localhost", "not looked up"),
        ("::1", "[::1]:9001"),
        ("unix:app.sock", "unix:/run/app.sock"),
    ] {
        expect_refusal(longwire(&["echo", "--listen", addr]), &["--listen", addr, word]);
    }
    expect_refusal(longwire(&["chat"]), &["chat"]);
}

/// The program with one system call failing: ptrace does what a seccomp profile would.
fn without_io_uring(error: &str, flags: &[&str]) -> Command {
    let mut command = Command::new("strace");
    // As a grandchild, so that the program is the child that gets the signals.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup"]);
    command.args(["-e", &format!("inject=io_uring_setup:error={error}")]);
    let program = echo_command(flags);
    command.arg(program.get_program()).args(program.get_args());
    command
}

fn has_strace() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let has = works.is_ok_and(|output| output.status.success());
    if !has {
        skip("strace", "it is not installed, or may not trace");
    }
    has
}

const ERRORS: [(&str, &str); 4] = [
    ("EPERM", "forbidden by seccomp or by kernel.io_uring_disabled"),
    ("ENOSYS", "this kernel is built without it"),
    ("ENOMEM", "raise the memory or memlock limit"),
    ("EINVAL", "it takes Linux 6.1 or later"),
];

#[test]
fn u01_auto_takes_epoll_and_says_why_where_io_uring_is_refused() {
    if !has_strace() {
        return;
    }
    for (error, advice) in ERRORS {
        let program = Program::start_by(without_io_uring(error, &["--workers", "1"]));
        let backend = program.announced("backend");
        assert!(backend.starts_with("epoll: io_uring_setup: "), "{error}: {backend}");
        assert!(backend.contains(advice), "{error}: {backend}");
        assert_eq!(program.announcement.len(), 6, "one line");
        Client::open(program.addr).echo("served all the same");
        program.signal(rustix::process::Signal::TERM);
        let (status, _, stderr) = program.wait();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn u01_io_uring_by_order_fails_with_the_reason_where_it_is_refused() {
    if !has_strace() {
        return;
    }
    for (error, advice) in ERRORS {
        let flags = ["--backend", "io_uring"];
        let words = ["io_uring does not work here", advice, "use epoll, or auto"];
        expect_refusal(without_io_uring(error, &flags), &words);
        expect_refusal(
            without_io_uring(error, &["--direct-descriptors"]),
            &["direct descriptors need io_uring", advice],
        );
    }
}

#[test]
fn direct_descriptors_are_taken_where_there_is_io_uring() {
    if !has_io_uring() {
        return;
    }
    let program = Program::start(&["--direct-descriptors", "--conns-max", "1000"]);
    let before = program.fd_count();
    let mut clients: Vec<Client> = (0..100).map(|_| Client::open(program.addr)).collect();
    for client in &mut clients {
        client.echo("in the ring's own table");
    }
    wait_until(
        "no more descriptors than before",
        || program.fd_count() == before,
        || program.fd_count().to_string(),
    );
}
