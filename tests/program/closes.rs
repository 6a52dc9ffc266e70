//! Why connections ended, as the administration port and the log tell it.

use std::time::Duration;

use serde_json::Value;

use crate::client::{CLOSE, Client};
use crate::http::get;
use crate::process::{Program, on_every_backend, wait_until};

/// The records, newest first.
fn closed(program: &Program) -> Vec<Value> {
    get(program.admin(), "/connections?closed").json().as_array().unwrap().clone()
}

fn wait_for_closes(program: &Program, count: usize) {
    let seen = || closed(program);
    wait_until("the records", || seen().len() >= count, || format!("{:?}", seen()));
}

#[test]
fn closes_are_told_newest_first_with_their_causes() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "2"]);
        let mut plain = Client::open_at(program.addr, "/echo");
        let mut said = 3001_u16.to_be_bytes().to_vec();
        said.extend_from_slice("bye\u{1b}[2J\n".as_bytes());
        plain.send_frame(true, CLOSE, &said);
        plain.read_close();
        wait_for_closes(&program, 1);
        let mut wrong = Client::open_at(program.addr, "/echo");
        wrong.send_raw(b"\x81\x05plain");
        wrong.expect_failure(1002);
        wait_for_closes(&program, 2);
        let mut gone = Client::open_at(program.addr, "/echo");
        gone.echo("a round trip");
        gone.reset();
        wait_for_closes(&program, 3);
        let mut ended = Client::open_at(program.addr, "/topics/lobby");
        ended.half_close();
        wait_for_closes(&program, 4);

        let records = closed(&program);
        let told = |field: &str| -> Vec<Value> {
            records.iter().map(|record| record[field].clone()).collect()
        };
        assert_eq!(told("cause"), ["eof", "reset", "protocol_error", "peer"]);
        assert_eq!(told("side"), ["network", "network", "server", "client"]);
        assert_eq!(told("code"), [1006, 1006, 1002, 3001]);
        assert_eq!(told("errno"), [Value::Null, 104.into(), Value::Null, Value::Null]);
        assert_eq!(told("detail")[2], "frame of a client without masking key");
        assert_eq!(told("reason")[3], "bye\\u{1b}[2J\\n", "it cannot move a cursor (LC07)");
        for record in &records {
            assert_eq!(record["address"], "127.0.0.1", "{record}");
            let round_trip = record["round_trip_seconds"].as_f64().unwrap();
            assert!(round_trip > 0.0 && round_trip < 5.0, "{record}");
            assert!(record["ago_seconds"].as_f64().unwrap() < 60.0, "{record}");
            assert!(record["closed_at"].as_f64().unwrap() > 1.7e9, "{record}");
            assert!(record["queued_bytes"].as_u64().unwrap() < 200, "{record}");
        }
        let some = get(program.admin(), "/connections?limit=1&closed").json();
        assert_eq!(some.as_array().unwrap().len(), 1);
        assert_eq!(some[0]["id"], records[0]["id"]);
    });
}

#[test]
fn closes_are_counted_by_side_code_and_cause() {
    on_every_backend(|backend| {
        let program = Program::serve(&["--backend", backend, "--workers", "1"]);
        Client::open_at(program.addr, "/echo").close(1000);
        Client::open_at(program.addr, "/echo").close(4321);
        Client::open_at(program.addr, "/echo").close(3999);
        wait_for_closes(&program, 3);
        let metrics = get(program.admin(), "/metrics").body;
        for line in [
            "longwire_closes_total{core=\"0\",side=\"client\",code=\"1000\"} 1",
            "longwire_closes_total{core=\"0\",side=\"client\",code=\"other\"} 2",
            "longwire_close_causes_total{core=\"0\",cause=\"peer\"} 3",
            "# HELP longwire_ring_completion_overflows ",
            "# HELP longwire_receives_parked ",
        ] {
            assert!(metrics.lines().any(|told| told.starts_with(line)), "{line} in {metrics}");
        }
        let totals = get(program.admin(), "/stats.json").json()["totals"].clone();
        assert_eq!(totals["closes"]["client"]["other"], 2, "{totals}");
        assert_eq!(totals["close_causes"]["peer"], 3, "{totals}");
    });
}

#[test]
fn health_of_queues_and_blocks_is_told() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--workers", "1", "--receive-blocks-max", "8"];
        let program = Program::serve(&flags);
        let mut client = Client::open_at(program.addr, "/echo");
        let totals = || get(program.admin(), "/stats.json").json()["totals"].clone();
        let figure = |name: &str| totals()[name].as_u64().unwrap();
        for _ in 0..20 {
            client.echo("hello");
        }
        // Figures are as of the last second.
        wait_until("waits to be told", || figure("waits") > 20, || totals().to_string());
        assert_eq!(figure("submissions") > 20, backend == "io_uring", "{}", totals());
        assert!(figure("receive_blocks_lent") + figure("receive_blocks_free") == 8);
        assert!(figure("pool_bytes") > 16_384, "{}", totals());
        assert_eq!(figure("completion_overflows"), 0);
    });
}

#[test]
fn connections_tell_the_last_close_of_their_address() {
    let program = Program::serve(&["--workers", "2"]);
    let mut first = Client::open_at(program.addr, "/topics/lobby");
    first.echo("hello");
    let before = get(program.admin(), "/connections").json();
    assert_eq!(before[0]["last_close"], Value::Null);
    Client::open_at(program.addr, "/echo").close(1001);
    wait_for_closes(&program, 1);
    let after = get(program.admin(), "/connections").json();
    assert_eq!(after[0]["last_close"]["code"], 1001, "{after}");
    assert_eq!(after[0]["last_close"]["cause"], "peer", "{after}");
    assert_eq!(after[0]["last_close"]["side"], "client", "{after}");
}

#[test]
fn records_can_be_switched_off() {
    let program = Program::serve(&["--workers", "1", "--closes-kept", "0"]);
    Client::open_at(program.addr, "/echo").close(1000);
    let count = || get(program.admin(), "/stats.json").json()["totals"]["closed"].clone();
    wait_until("the count", || count() == 1, || count().to_string());
    assert_eq!(closed(&program), Vec::<Value>::new());
}

#[test]
fn lc07_log_of_closes_is_json_of_one_line_each_and_bounded() {
    let flags = ["--workers", "1", "--log", "info,closes=debug", "--log-format", "json"];
    let program = Program::serve(&flags);
    let lines = || -> Vec<Value> {
        let lines = program.errors();
        let parsed = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        parsed.filter(|line: &Value| line["target"] == "closes").collect()
    };
    let mut first = Client::open_at(program.addr, "/echo");
    let mut said = 4000_u16.to_be_bytes().to_vec();
    said.extend_from_slice("\u{1b}]0;owned\u{7}\r\n{\"level\":\"ERROR\"}".as_bytes());
    first.send_frame(true, CLOSE, &said);
    first.read_close();
    wait_until("a line", || !lines().is_empty(), || format!("{:?}", program.errors()));
    let line = &lines()[0];
    assert_eq!(line["message"], "closed", "{line}");
    assert_eq!(line["reason"], "\\u{1b}]0;owned\\u{7}\\r\\n{\"level\":\"ERROR\"}", "{line}");
    assert_eq!((&line["by"], &line["cause"]), (&"peer".into(), &"peer".into()), "{line}");
    assert_eq!((&line["code"], &line["address"]), (&4000.into(), &"127.0.0.1".into()), "{line}");
    assert!(line["round_trip_seconds"].as_f64().unwrap() > 0.0, "{line}");

    std::thread::sleep(Duration::from_millis(1200));
    for _ in 0..40 {
        Client::open_at(program.addr, "/echo").close(1000);
    }
    std::thread::sleep(Duration::from_millis(2200));
    Client::open_at(program.addr, "/echo").close(1000);
    let unlogged =
        || -> u64 { lines().iter().map(|line| line["unlogged_count"].as_u64().unwrap()).sum() };
    let is_whole = || lines().len() as u64 + unlogged() == 42;
    wait_until("the rest to be counted", is_whole, || format!("{:?}", lines()));
    // 40 ends take less than a second, or two.
    assert!(lines().len() < 40, "{} lines", lines().len());
}
