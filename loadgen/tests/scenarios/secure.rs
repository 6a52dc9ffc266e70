//! Scenarios over TLS and with compression, and what is said where one of the two fails.

use longwire::BackendChoice;
use serde_json::Value;

use crate::authority::Authority;
use crate::errors::fails;
use crate::servers::{Delivery, Fault, Running, Speech, backends};
use crate::{figure, loadgen, report};

const TLS: Speech = Speech { tls: true, deflate: false };
const DEFLATE: Speech = Speech { tls: false, deflate: true };
const BOTH: Speech = Speech { tls: true, deflate: true };

/// Runs a scenario with the flags of this speech; it must be clean, and the report must name the
/// transport and what became of the offer to compress.
fn clean(backend: BackendChoice, server: &Running, speech: Speech, args: &str) -> Value {
    let mut line = format!("{} --backend {backend}", args.replace("URL", &server.url()));
    if speech.tls {
        line += " ";
        line += &Authority::of_tests().flags();
    }
    if speech.deflate {
        line += " --deflate";
    }
    let (run, report) = report(&line);
    assert_eq!(run.code, 0, "{line}: {run:?}");
    assert_eq!(report["mismatches"], 0, "{line}: {report}");
    assert_eq!(report["errors"].as_array().unwrap().len(), 0, "{line}: {report}");
    assert_eq!(report["transport"], if speech.tls { "tls" } else { "tcp" });
    let compression = &report["compression"];
    if speech.deflate {
        assert_eq!(compression["agreed_conns"], compression["opened_conns"], "{compression}");
        assert_ne!(compression["agreed_conns"], 0);
    } else {
        assert!(compression.is_null(), "{compression}");
    }
    report
}

/// Runs it on every backend and in every speech, on an echo server.
fn clean_echoes(args: &str, judge: impl Fn(&Value)) {
    for backend in backends() {
        for speech in [TLS, DEFLATE, BOTH] {
            let server = Running::echo_that_speaks(backend, Fault::None, speech);
            judge(&clean(backend, &server, speech, args));
        }
    }
}

#[test]
fn closed_loop_comes_back_through_tls_and_compression() {
    for size in ["0", "255", "1K", "100K"] {
        for kind in ["binary", "json"] {
            let args = format!(
                "echo URL --conns 4 --depth 3 --size {size} --payload {kind} --duration 300ms --warmup 0s"
            );
            clean_echoes(&args, |report| {
                assert!(figure(report, "messages") > 0.0, "{args}: {report}")
            });
        }
    }
}

#[test]
fn open_loop_keeps_its_rate_through_tls_and_compression() {
    let args = "echo URL --conns 20 --rate 500 --duration 1s --size 1K --payload json";
    clean_echoes(args, |report| {
        let messages = figure(report, "messages") + figure(report, "unanswered");
        assert!((498.0..=502.0).contains(&messages), "{messages} were due, not 500");
    });
}

#[test]
fn idle_connections_are_held_through_tls_and_compression() {
    clean_echoes("idle URL --conns 200 --hold 300ms --ping 100ms", |report| {
        assert_eq!(figure(report, "open_at_end"), 200.0);
        assert!(report["notes"].to_string().contains("each connection answered a message"));
    });
}

#[test]
fn broadcast_reaches_every_subscriber_through_tls_and_compression() {
    for backend in backends() {
        for speech in [TLS, DEFLATE, BOTH] {
            let server = Running::broadcast_that_speaks(backend, Delivery::Whole, speech);
            let args = "fanout URL --subscribers 50 --rate 50 --duration 500ms --size 1K";
            let report = clean(backend, &server, speech, &format!("{args} --payload json"));
            assert_eq!(figure(&report, "messages"), figure(&report, "published") * 50.0);
            assert!(figure(&report, "published") > 20.0);
        }
    }
}

#[test]
fn churn_and_storm_open_through_tls_and_compression() {
    clean_echoes("churn URL --rate 50 --duration 1s", |report| {
        assert!(figure(report, "opened_per_s") >= 45.0, "{report}");
    });
    clean_echoes("storm URL --conns 200", |report| {
        assert_eq!(figure(report, "open_at_end"), 200.0);
    });
}

#[test]
fn slow_readers_do_not_stop_the_others_behind_tls_and_compression() {
    clean_echoes(
        "slow URL --readers 5 --conns 5 --rate 100 --duration 500ms --payload json",
        |report| {
            assert_eq!(figure(report, "unanswered"), 0.0);
        },
    );
}

#[test]
fn wrong_byte_is_found_behind_tls_and_compression() {
    let server = Running::echo_that_speaks(BackendChoice::Auto, Fault::Corrupts, BOTH);
    let args = "--conns 8 --warmup 0s --duration 500ms --deflate --insecure --size 16";
    let (run, report) = report(&format!("echo {} {args}", server.url()));
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(report["errors"][0]["kind"], "wrong echo");
}

#[test]
fn offer_that_is_declined_is_told_and_no_error() {
    let server = Running::echo_that_speaks(BackendChoice::Auto, Fault::None, TLS);
    let args = format!("echo {} --insecure --deflate --duration 200ms --warmup 0s", server.url());
    let (run, report) = report(&args);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(report["compression"]["agreed_conns"], 0);
    let run = loadgen(&format!("{args} -q"));
    let words = "TLS; compression offered, and declined by the server";
    assert!(run.stdout.contains(words), "{}", run.stdout);
}

#[test]
fn takeover_is_agreed_on_where_the_server_keeps_it() {
    let server = Running::echo_that_speaks(BackendChoice::Auto, Fault::None, BOTH);
    let args = "--deflate-takeover --size 1K --payload json --duration 200ms --warmup 0s";
    let report = clean(BackendChoice::Auto, &server, BOTH, &format!("echo URL {args}"));
    assert_eq!(report["settings"]["deflate-takeover"], "yes");
}

#[test]
fn server_that_nobody_vouches_for_is_one_line_that_says_what_to_do() {
    let server = Running::echo_that_speaks(BackendChoice::Auto, Fault::None, TLS);
    let url = server.url();
    for scenario in ["echo", "idle", "churn --duration 300ms", "storm --within 1s"] {
        fails(&format!("{scenario} {url} -q"), &["UnknownIssuer", "--ca", "--insecure"]);
    }
    let ca = Authority::of_tests().file.display().to_string();
    fails(&format!("echo {url} -q --ca {ca}"), &["127.0.0.1", "--tls-name", "--insecure"]);
    fails(&format!("echo {url} -q --ca {ca} --tls-name other.test"), &["--tls-name"]);
}

#[test]
fn tls_flags_that_make_no_sense_are_one_line() {
    for flag in ["--insecure", "--ca ca.pem", "--tls-name x"] {
        let name = flag.split(' ').next().unwrap();
        fails(&format!("echo ws://127.0.0.1:9/ -q {flag}"), &[name, "wss://"]);
    }
    fails("echo wss://127.0.0.1:9/ -q --ca /no/such.pem", &["/no/such.pem"]);
    fails("echo wss://127.0.0.1:9/ -q --insecure --tls-name a@b", &["`a@b`"]);
}

#[test]
fn limits_in_the_way_are_found_before_a_secure_run() {
    let server = Running::echo_that_speaks(BackendChoice::Auto, Fault::None, TLS);
    let run = loadgen(&format!("idle {} --insecure --conns 900M -q", server.url()));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("limit:"), "{}", run.stderr);
}

#[test]
fn process_behind_tls_is_observed() {
    let server = Running::echo_that_speaks(BackendChoice::Auto, Fault::None, TLS);
    let (own, url) = (std::process::id(), server.url());
    let (run, report) =
        report(&format!("echo {url} --insecure --pid {own} --duration 300ms --warmup 0s"));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(figure(&report, "server_cpu_us_per_message") > 0.0);
}
