//! Several nodes with one broker: what is published on one reaches all, once; what does not is
//! counted; a broker that is gone harms nobody. The brokers are real ones, at ports of loopback.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::brokers::{Broker, Way, with_each_broker};
use crate::client::{BINARY, Client, Frame};
use crate::http::{get, post};
use crate::process::{Program, expect_refusal, serve_command, wait_until};

/// A broker is to be of use again so soon after it is back.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(2);

pub(crate) fn node_with(url: &str, flags: &[&str]) -> Program {
    let mut command = serve_command(flags);
    command.args(["--ping-interval", "none"]);
    command.env("LONGWIRE_BROKER", url);
    Program::start_by(command)
}

pub(crate) fn node(url: &str) -> Program {
    let node = node_with(url, &["--workers", "2"]);
    wait_until_linked(&node);
    node
}

pub(crate) fn state(node: &Program) -> Value {
    get(node.admin(), "/stats.json").json()["broker"].clone()
}

pub(crate) fn figure(node: &Program, name: &str) -> u64 {
    state(node)[name].as_u64().unwrap()
}

pub(crate) fn wait_until_linked(node: &Program) {
    wait_until("the broker", || state(node)["state"] == "up", || state(node).to_string());
}

pub(crate) fn wait_until_subscribed(node: &Program, topics: u64) {
    let count = || figure(node, "subscriptions");
    wait_until("subscriptions", || count() == topics, || state(node).to_string());
    // The count is of those that are wanted; the broker has been told within this time.
    thread::sleep(Duration::from_millis(200));
}

/// All that a node says to have missed of a topic.
pub(crate) fn missed(node: &Program) -> Vec<(String, u64)> {
    let gaps = get(node.admin(), "/gaps").json()["gaps"].clone();
    let gaps = gaps.as_array().unwrap().iter();
    gaps.map(|gap| (gap["topic"].as_str().unwrap().to_owned(), gap["missed"].as_u64().unwrap()))
        .collect()
}

#[test]
fn bk06_messages_reach_each_node_once_and_do_not_come_back() {
    with_each_broker(|software| {
        let broker = Broker::start(software);
        let nodes = [node(&broker.url()), node(&broker.url())];
        for path in ["/topics/lobby", "/topics/a.b%2F%24SYS.r%C3%A4ume"] {
            let mut here = Client::open_at(nodes[0].addr, path);
            let mut there = Client::open_at(nodes[1].addr, path);
            let mut stranger = Client::open_at(nodes[1].addr, "/topics/elsewhere");
            wait_until_subscribed(&nodes[0], if path.ends_with("lobby") { 1 } else { 2 });
            wait_until_subscribed(&nodes[1], if path.ends_with("lobby") { 2 } else { 3 });
            here.echo("from here");
            assert_eq!(there.read_text(), "from here");
            there.send_frame(true, BINARY, b"\0\xff");
            let binary = Frame::new(BINARY, b"\0\xff");
            assert_eq!(
                (there.read_frame(), here.read_frame()),
                (binary, Frame::new(BINARY, b"\0\xff"))
            );
            let posted = post(nodes[1].admin(), path, &[], b"from outside");
            assert_eq!(posted.json()["queued"], 1, "of this node");
            assert_eq!([here.read_text(), there.read_text()], ["from outside", "from outside"]);
            // What came twice would stand before these.
            here.echo("last");
            assert_eq!(there.read_text(), "last");
            stranger.echo("not disturbed");
        }
        for node in &nodes {
            let state = state(node);
            let counts =
                ["duplicates", "strays", "missed"].map(|name| state[name].as_u64().unwrap());
            assert_eq!(counts, [0, 0, 0], "{state}");
        }
        assert_eq!((figure(&nodes[0], "received"), figure(&nodes[1], "received")), (4, 4));
    });
}

#[test]
fn history_and_latest_value_are_of_what_a_node_has_heard() {
    with_each_broker(|software| {
        let broker = Broker::start(software);
        let flags = ["--workers", "1", "--latest", "prices/"];
        let flags = [&flags[..], &["--history", "news/=2", "--history", "prices/=1"]].concat();
        let nodes = [0, 1].map(|_| node_with(&broker.url(), &flags));
        nodes.iter().for_each(wait_until_linked);
        for (path, last) in
            [("/topics/news/a", &["two", "three"][..]), ("/topics/prices/a", &["three"])]
        {
            let mut first = Client::open_at(nodes[1].addr, path);
            wait_until_subscribed(&nodes[1], if path.contains("news") { 1 } else { 2 });
            for text in ["one", "two", "three"] {
                assert_eq!(post(nodes[0].admin(), path, &[], text.as_bytes()).status, 200);
                assert_eq!(first.read_text(), text);
            }
            let mut late = Client::open_at(nodes[1].addr, path);
            for text in last {
                assert_eq!(late.read_text(), *text);
            }
        }
    });
}

#[test]
fn bk02_what_a_node_missed_while_it_was_cut_off_is_told_exactly() {
    with_each_broker(|software| {
        let broker = Broker::start(software);
        let way = Way::to(broker.addr);
        let near = node(&broker.url());
        let far = node(&format!("{}://{}", software.scheme(false), way.addr));
        let mut local = Client::open_at(far.addr, "/topics/a");
        let mut reader = Client::open_at(far.addr, "/topics/a");
        let mut quiet = Client::open_at(far.addr, "/topics/quiet");
        wait_until_subscribed(&far, 2);
        // Longer than what is forgiven to messages under way.
        thread::sleep(Duration::from_millis(300));
        let send = |topic: &str, text: &str| {
            assert_eq!(post(near.admin(), topic, &[], text.as_bytes()).status, 200);
        };
        send("/topics/a", "before");
        assert_eq!([local.read_text(), reader.read_text()], ["before", "before"]);

        way.cut();
        wait_until("the cut", || state(&far)["state"] == "degraded", || state(&far).to_string());
        for number in 0..7 {
            send("/topics/a", &number.to_string());
        }
        send("/topics/quiet", "the first of all, and the last");
        local.echo("local delivery goes on");
        assert_eq!(reader.read_text(), "local delivery goes on");
        let health = get(far.admin(), "/healthz");
        assert_eq!(health.status, 200);
        assert!(health.body.starts_with("ok\ndegraded: "), "{health:?}");
        assert_eq!(get(far.admin(), "/readyz").status, 200);
        assert!(get(far.admin(), "/metrics").body.contains("longwire_broker_up 0"));

        way.mend();
        let mended = Instant::now();
        wait_until_linked(&far);
        assert!(mended.elapsed() < RECOVERY_MAX, "{:?}", mended.elapsed());
        assert_eq!(get(far.admin(), "/healthz").body, "ok\n");
        // By marks alone: nothing was published since.
        wait_until("marks", || figure(&far, "missed") == 8, || state(&far).to_string());
        let mut gaps = missed(&far);
        gaps.sort();
        assert_eq!(gaps, [("a".to_owned(), 7), ("quiet".to_owned(), 1)]);
        assert!(get(far.admin(), "/gaps?after=2").json()["gaps"].as_array().unwrap().is_empty());
        send("/topics/a", "after");
        assert_eq!([local.read_text(), reader.read_text()], ["after", "after"]);
        send("/topics/quiet", "after");
        assert_eq!(quiet.read_text(), "after");
        assert_eq!((figure(&far, "missed"), figure(&near, "missed")), (8, 0));
    });
}

#[test]
fn bk01_what_is_said_while_the_broker_restarts_waits_for_all_nodes() {
    with_each_broker(|software| {
        let mut broker = Broker::start(software);
        let nodes: Vec<Program> = (0..4).map(|_| node(&broker.url())).collect();
        let mut readers: Vec<Client> =
            nodes.iter().map(|node| Client::open_at(node.addr, "/topics/a")).collect();
        nodes.iter().for_each(|node| wait_until_subscribed(node, 1));
        let mut say = |from: usize, text: &str| {
            assert_eq!(post(nodes[from].admin(), "/topics/a", &[], text.as_bytes()).status, 200);
            readers.iter_mut().for_each(|reader| assert_eq!(reader.read_text(), text));
        };
        (0..nodes.len()).for_each(|from| say(from, "all have heard of all"));
        for round in 0..3 {
            broker.kill();
            for node in &nodes {
                let is_degraded = || state(node)["state"] == "degraded";
                wait_until("the end", is_degraded, || state(node).to_string());
            }
            let text = format!("meanwhile {round}");
            assert_eq!(post(nodes[round].admin(), "/topics/a", &[], text.as_bytes()).status, 200);
            thread::sleep(Duration::from_millis(500));
            broker.restart();
            for reader in &mut readers {
                assert_eq!(reader.read_text(), text);
            }
        }
        assert!(nodes.iter().all(|node| figure(node, "missed") == 0));
    });
}

#[test]
fn bk01_broker_that_stands_still_is_given_up_and_found_again() {
    with_each_broker(|software| {
        let broker = Broker::start(software);
        let nodes = [node(&broker.url()), node(&broker.url())];
        let mut reader = Client::open_at(nodes[1].addr, "/topics/a");
        wait_until_subscribed(&nodes[1], 1);
        broker.signal(Signal::STOP);
        let is_degraded = || state(&nodes[1])["state"] == "degraded";
        wait_until("silence to be noticed", is_degraded, || state(&nodes[1]).to_string());
        reader.echo("local delivery goes on");
        broker.signal(Signal::CONT);
        let back = Instant::now();
        nodes.iter().for_each(wait_until_linked);
        assert!(back.elapsed() < RECOVERY_MAX, "{:?}", back.elapsed());
        let failures = &state(&nodes[1])["failures"];
        assert!(failures["stalled"].as_u64().is_some(), "{failures}");
        thread::sleep(Duration::from_millis(300));
        assert_eq!(post(nodes[0].admin(), "/topics/a", &[], b"again").status, 200);
        assert_eq!(reader.read_text(), "again");
    });
}

#[test]
fn bk01_queue_to_a_broker_that_is_gone_is_bounded_and_what_was_dropped_is_told() {
    with_each_broker(|software| {
        let broker = Broker::start(software);
        let way = Way::to(broker.addr);
        let url = format!("{}://{}", software.scheme(false), way.addr);
        let near = node_with(&url, &["--workers", "1", "--broker-queue-bytes-max", "10K"]);
        let far = node(&broker.url());
        wait_until_linked(&near);
        let mut reader = Client::open_at(far.addr, "/topics/a");
        wait_until_subscribed(&far, 1);
        thread::sleep(Duration::from_millis(300));
        way.cut();
        wait_until("the cut", || state(&near)["state"] == "degraded", || state(&near).to_string());
        let body = |number: usize| format!("{number:01000}").into_bytes();
        for number in 0..30 {
            assert_eq!(post(near.admin(), "/topics/a", &[], &body(number)).status, 200);
        }
        let counted = || figure(&near, "queue_dropped") + figure(&near, "queue_messages");
        wait_until("drops", || counted() == 30, || state(&near).to_string());
        let dropped = figure(&near, "queue_dropped");
        assert!((18..30).contains(&dropped), "{dropped}");
        assert!(figure(&near, "queue_bytes") <= 10 << 10);
        way.mend();
        for number in usize::try_from(dropped).unwrap()..30 {
            assert_eq!(reader.read_text().into_bytes(), body(number));
        }
        wait_until("gaps", || figure(&far, "missed") == dropped, || state(&far).to_string());
    });
}

#[test]
fn flags_of_the_broker_that_make_no_sense_are_said() {
    for (flags, words) in [
        (&["--broker", "b:4222"][..], &["--broker", "nats://HOST:4222", "rediss://"][..]),
        (&["--broker", "nats://me:secret@b/x"], &["nothing may follow the port"]),
        (&["--broker", "nats://b", "--broker-prefix", "a.*"], &["--broker-prefix", "longwire"]),
        (&["--broker", "nats://b", "--broker-ca", "x.pem"], &["--broker-ca", "tls://"]),
        (&["--broker", "tls://b", "--broker-ca", "/nowhere.pem"], &["--broker-ca"]),
        (&["--broker-ca", "x.pem"], &["--broker"]),
        (&["--broker-retry-max", "1m"], &["100ms to 30s"]),
    ] {
        expect_refusal(serve_command(flags), words);
    }
}

#[test]
fn program_without_a_broker_has_no_gaps_and_one_line_less() {
    let node = Program::serve(&["--workers", "1"]);
    assert_eq!(get(node.admin(), "/gaps").status, 404);
    assert_eq!(state(&node), Value::Null);
    assert!(!get(node.admin(), "/metrics").body.contains("broker"));
}
