//! Servers that do one thing wrong: the run must find it, and fail.

use longwire::BackendChoice;

use crate::servers::{Delivery, Fault, Running};
use crate::{figure, loadgen, report};

fn echo(fault: Fault, args: &str) -> (crate::Run, serde_json::Value) {
    let server = Running::echo(BackendChoice::Auto, fault);
    report(&format!("echo {} --conns 8 --warmup 0s --duration {args}", server.url()))
}

#[test]
fn wrong_byte_in_a_short_echo_is_found() {
    let (run, report) = echo(Fault::Corrupts, "500ms --size 16");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(report["mismatches"].as_u64().unwrap() > 0);
    assert_eq!(report["errors"][0]["kind"], "wrong echo");
}

#[test]
fn wrong_byte_far_behind_is_found_by_the_sample() {
    let (run, report) = echo(Fault::Corrupts, "3s --size 2000");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(report["mismatches"].as_u64().unwrap() > 0);
}

#[test]
fn wrong_kind_is_found() {
    let (run, report) = echo(Fault::ChangesKind, "500ms");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(report["mismatches"].as_u64().unwrap() > 0);
}

#[test]
fn message_that_nobody_asked_for_is_found() {
    let (run, report) = echo(Fault::Doubles, "500ms");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(report["mismatches"].as_u64().unwrap() > 0);
}

#[test]
fn nothing_is_compared_where_that_was_asked_for() {
    let (run, report) = echo(Fault::Corrupts, "500ms --no-verify");
    assert_eq!((run.code, report["mismatches"].as_u64()), (0, Some(0)), "{run:?}");
}

#[test]
fn connection_that_the_server_closes_is_an_error_with_code_and_reason() {
    let (run, report) = echo(Fault::Closes(4321), "500ms --fail-if errors>0");
    assert_eq!(run.code, 1, "{run:?}");
    let error = &report["errors"][0];
    assert_eq!(error["kind"], "closed by the server");
    assert_eq!(error["count"], 8);
    let example = error["example"].as_str().unwrap();
    assert!(example.contains("4321") && example.contains("that is enough"), "{example}");
}

#[test]
fn lost_doubled_and_reordered_deliveries_are_told_apart() {
    for (delivery, figure_name, per_ten) in [
        (Delivery::Loses, "lost", 1.0),
        (Delivery::Doubles, "duplicates", 20.0),
        (Delivery::Reorders, "reordered", 20.0),
    ] {
        let server = Running::broadcast(BackendChoice::Auto, delivery);
        let args = "--subscribers 20 --rate 200 --duration 1s";
        let (run, report) = report(&format!("fanout {} {args}", server.url()));
        assert_eq!(run.code, 1, "{delivery:?}: {run:?}");
        // The last of them may have been held back for good.
        let tens = (figure(&report, "published") / 10.0).floor();
        let found = figure(&report, figure_name) / per_ten;
        assert!((tens - 1.0..=tens).contains(&found), "{delivery:?}: {found} of {tens}");
        for other in ["lost", "duplicates", "reordered"] {
            let slack = if other == "lost" { 20.0 } else { 0.0 };
            assert!(other == figure_name || figure(&report, other) <= slack, "{other}: {report}");
        }
    }
}

#[test]
fn condition_that_holds_fails_the_run_and_is_shown() {
    let server = Running::echo(BackendChoice::Auto, Fault::None);
    let args = format!("echo {} --duration 300ms --warmup 0s --quiet", server.url());
    let run = loadgen(&format!("{args} --fail-if p50>1lightyear"));
    assert_eq!(run.code, 2, "a unit that is none is a usage error: {run:?}");
    let run = loadgen(&format!("{args} --fail-if p50>1us"));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stdout.contains("FAILED") && run.stdout.contains("p50 > 1.00 us"),
        "{}",
        run.stdout
    );
    let run = loadgen(&format!("{args} --fail-if p50>100s --fail-if errors>0"));
    assert_eq!(run.code, 0, "{run:?}");
}
