//! Every scenario against good servers, and what a report has to be.

use std::fs;

use longwire::BackendChoice;

use crate::servers::{Delivery, Fault, Running, backends};
use crate::{figure, loadgen, micros, report};

/// Runs a scenario on each backend, of the generator and of the server; both must be clean.
fn clean(backend: BackendChoice, url: &str, args: &str) -> serde_json::Value {
    let (run, report) = report(&format!("{} --backend {backend}", args.replace("URL", url)));
    assert_eq!(run.code, 0, "{args}: {run:?}");
    assert_eq!(report["mismatches"], 0, "{args}: {report}");
    assert_eq!(report["errors"].as_array().unwrap().len(), 0, "{args}: {report}");
    assert_eq!(report["backend"], backend.to_string());
    report
}

#[test]
fn closed_loop_of_every_size_and_kind_comes_back_as_it_was_sent() {
    for backend in backends() {
        let server = Running::echo(backend, Fault::None);
        for size in ["0", "1", "15", "16", "17", "125", "126", "16K", "65535", "65536", "1M"] {
            // Twelve large messages take a busy machine more than the time of the others.
            let duration = if size == "1M" { "1s" } else { "150ms" };
            for kind in ["", "--text"] {
                let args = format!(
                    "echo URL --conns 4 --depth 3 --size {size} {kind} --duration {duration} \
                     --warmup 0s"
                );
                let report = clean(backend, &server.url(), &args);
                assert!(figure(&report, "messages") > 0.0, "{args}");
                assert_eq!(report["loop_kind"]["closed"]["depth"], 3);
            }
        }
    }
}

#[test]
fn open_loop_keeps_its_rate_and_leaves_nothing_out() {
    for backend in backends() {
        let server = Running::echo(backend, Fault::None);
        let args = "echo URL --conns 50 --rate 2000 --duration 2s --warmup 200ms";
        let report = clean(backend, &server.url(), args);
        let messages = figure(&report, "messages") + figure(&report, "unanswered");
        assert!((3990.0..=4010.0).contains(&messages), "{messages} were due, not 4,000");
        assert_eq!(report["loop_kind"]["open"]["rate"], 2000.0);
        assert_eq!(report["latencies"][0]["count"], messages);
    }
}

#[test]
fn idle_connections_are_opened_asked_and_held() {
    for backend in backends() {
        let server = Running::echo(backend, Fault::None);
        let args = "idle URL --conns 1000 --hold 500ms --ping 200ms";
        let report = clean(backend, &server.url(), args);
        assert_eq!(figure(&report, "opened"), 1000.0);
        assert_eq!(figure(&report, "open_at_end"), 1000.0);
        let notes = report["notes"].to_string();
        assert!(notes.contains("each connection answered a message"), "{notes}");
    }
}

#[test]
fn broadcast_reaches_every_subscriber_once_and_in_order() {
    for backend in backends() {
        let server = Running::broadcast(backend, Delivery::Whole);
        let args = "fanout URL --subscribers 200 --rate 100 --duration 1s";
        let report = clean(backend, &server.url(), args);
        let published = figure(&report, "published");
        assert!((99.0..=101.0).contains(&published), "{published}");
        assert_eq!(figure(&report, "messages"), published * 200.0);
        assert_eq!(figure(&report, "lost"), 0.0);
    }
}

#[test]
fn churn_opens_and_closes_at_its_rate() {
    for backend in backends() {
        let server = Running::echo(backend, Fault::None);
        let report = clean(backend, &server.url(), "churn URL --rate 200 --duration 1s");
        let opened = figure(&report, "opened");
        assert!((195.0..=320.0).contains(&opened), "{opened}");
        let rate = figure(&report, "opened_per_s");
        assert!((190.0..=205.0).contains(&rate), "{rate}");
    }
}

#[test]
fn storm_brings_all_at_once() {
    for backend in backends() {
        let server = Running::echo(backend, Fault::None);
        let report = clean(backend, &server.url(), "storm URL --conns 1000");
        assert_eq!(figure(&report, "open_at_end"), 1000.0);
        assert_eq!(report["latencies"][0]["name"], "connect");
        assert_eq!(report["latencies"][0]["count"], 1000);
    }
}

#[test]
fn slow_readers_do_not_stop_the_others() {
    for backend in backends() {
        let server = Running::echo(backend, Fault::None);
        let args = "slow URL --readers 10 --conns 10 --rate 200 --duration 1s";
        let report = clean(backend, &server.url(), args);
        assert_eq!(report["latencies"][1]["name"], "before");
        for place in [0, 1] {
            let count = report["latencies"][place]["count"].as_u64().unwrap();
            assert!((198..=202).contains(&count), "{count}");
        }
        assert_eq!(figure(&report, "unanswered"), 0.0);
    }
}

#[test]
fn open_loop_tells_of_a_stall_and_a_closed_loop_only_in_its_maximum() {
    let stalls = Fault::Stalls(std::time::Duration::from_secs(5));
    let server = Running::echo(BackendChoice::Auto, stalls);
    let open =
        format!("echo {} --conns 10 --rate 1000 --duration 10s --warmup 500ms", server.url());
    let (run, open) = report(&open);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(micros(&open, "p99") >= 900_000.0, "{}", micros(&open, "p99"));

    let server = Running::echo(BackendChoice::Auto, stalls);
    let closed = format!("echo {} --conns 10 --duration 10s --warmup 500ms", server.url());
    let (run, closed) = report(&closed);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(micros(&closed, "p99") < 900_000.0, "{}", micros(&closed, "p99"));
    assert!(micros(&closed, "max") >= 900_000.0, "{}", micros(&closed, "max"));
}

#[test]
fn url_alone_runs_an_echo_and_prints_a_table_that_names_the_loop() {
    let server = Running::echo(BackendChoice::Auto, Fault::None);
    let run = loadgen(&format!("{} --duration 300ms --warmup 0s", server.url()));
    assert_eq!(run.code, 0, "{run:?}");
    for wanted in ["closed loop, 1 in flight", "messages_per_s", "p99.9", "no errors"] {
        assert!(run.stdout.contains(wanted), "{wanted}: {}", run.stdout);
    }
}

#[test]
fn report_is_written_where_it_was_asked_for_and_can_be_compared() {
    let server = Running::echo(BackendChoice::Auto, Fault::None);
    let folder = std::env::temp_dir().join(format!("loadgen-test-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["a", "b"] {
        let (json, html) = (path(&format!("{name}.json")), path("page.html"));
        let url = server.url();
        let args = format!("echo {url} --duration 300ms --warmup 0s --json {json} --html {html}");
        let run = loadgen(&args);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("messages_per_s"), "the table is shown as well");
    }
    let page = fs::read_to_string(path("page.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("<script src"), "one page, self-contained");
    let compared = loadgen(&format!("compare {} {}", path("a.json"), path("b.json")));
    assert_eq!(compared.code, 0, "{compared:?}");
    assert!(compared.stdout.contains("messages_per_s"), "{}", compared.stdout);
    fs::remove_dir_all(folder).unwrap();
}

/// A server whose connections outlive it by a second and a half: a child of its own holds them. Told
/// to stop, it ends every second one first, and takes whoever comes back within half a second.
const OUTLIVED: &str = r#"
import base64, contextlib, hashlib, os, signal, socket, sys, threading, time

held = []

def take():
    conn, _ = listener.accept()
    held.append(conn)
    threading.Thread(target=serve, args=(conn,), daemon=True).start()

def stop(*_):
    for conn in held[::2]:
        with contextlib.suppress(OSError):
            conn.shutdown(socket.SHUT_RDWR)
    listener.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            take()
    listener.close()
    if os.fork() == 0:
        os.setsid()
        time.sleep(1.5)
    os._exit(0)

def serve(conn):
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        more = conn.recv(4096)
        if not more:
            return
        request += more
    fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if line)
    key = {name.lower(): value for name, value in fields.items()}[b"sec-websocket-key"]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + base64.b64encode(digest)
        + b"\r\n\r\n")
    conn.recv(4096)
    conn.close()

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
signal.signal(signal.SIGTERM, stop)
while True:
    take()
"#;

#[test]
fn storm_brings_those_back_that_learn_late_of_the_restart() {
    let addr = crate::free_addr();
    let name = format!("loadgen-outlived-{}.py", std::process::id());
    let script = std::env::temp_dir().join(name);
    fs::write(&script, OUTLIVED).unwrap();
    let server = format!("exec python3 {} {}", script.display(), addr.port());
    let url = format!("ws://{addr}/");
    let output = crate::command("storm --conns 20 --within 20s --quiet --json -")
        .args([&url, "--server", &server])
        .output()
        .unwrap();
    fs::remove_file(script).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!(figure(&report, "open_at_end"), 20.0);
    assert_eq!(figure(&report, "retried"), 30.0, "half of them came back to the old one first");
    assert_eq!(report["errors"].as_array().unwrap().len(), 0, "{report}");
    // Each was told a second and more after the new server accepted.
    assert!(micros(&report, "p50") >= 500_000.0, "{report}");
}

#[test]
fn server_is_started_observed_restarted_and_stopped() {
    let addr = crate::free_addr();
    let loadgen = |scenario: &str| {
        let own = env!("CARGO_BIN_EXE_loadgen");
        let server = std::path::Path::new(own).with_file_name("longwire");
        if !server.exists() {
            assert!(std::env::var_os("CI").is_none(), "CI is set, and longwire is not built");
            eprintln!("SKIPPED: longwire is not built; `cargo build` does that");
            return None;
        }
        let command = format!("{} echo --listen {addr} --workers 1", server.display());
        let output = std::process::Command::new(own)
            .args(scenario.split_whitespace())
            .args([&format!("ws://{addr}/"), "--quiet", "--json", "-", "--server", &command])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let Some(echo) = loadgen("echo --duration 500ms") else { return };
    assert!(figure(&echo, "server_cpu_us_per_message") > 0.0);
    assert!(figure(&echo, "server_threads") >= 1.0);
    let Some(storm) = loadgen("storm --conns 500") else { return };
    assert_eq!(figure(&storm, "open_at_end"), 500.0);
    assert!(figure(&storm, "retried") >= 500.0, "each has lost its connection once");
    assert!(std::net::TcpStream::connect(addr).is_err(), "the server is stopped in the end");
}
