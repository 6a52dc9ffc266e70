//! A small matrix and what came of it, for the tests of everything that shows one.

use std::path::Path;

use super::matrix::Matrix;
use super::results::{Cell, Results, Round, Run};
use crate::machine::Machine;
use crate::report::Better;

const MATRIX: &str = r#"
repeats = 2
generator = "--cores 1"
floor = "bare"
[[server]]
name = "bare"
command = "bare {port}"
arguments = "--no-verify"
without = { fanout = "it has no <topics> | yet" }
[[server]]
name = "ours"
command = "ours {port}"
cores = "0"
path = "/topics/all"
[[server]]
name = "third"
command = "broken {port}"
[[workload]]
name = "echo 20 B"
arguments = "echo --size 20"
figure = "server_cpu_us_per_message"
also = ["messages_per_s"]
[[workload]]
name = "fan-out"
arguments = "fanout --rate 10"
figure = "delivery.p50"
needs = ["fanout"]
"#;

/// Three servers, two workloads.
pub(super) fn matrix() -> Matrix {
    let path = std::env::temp_dir().join(format!(
        "loadgen-matrix-{}-{:?}.toml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, MATRIX).unwrap();
    let matrix = Matrix::read(Path::new(&path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    matrix
}

/// Before anything was run.
pub(super) fn empty() -> Results {
    let mut results = Results::new(matrix());
    results.started_at = "2026-11-21T03:21:05Z".to_owned();
    results.machine = Machine {
        cpu: "Intel(R) Xeon(R) Processor".to_owned(),
        cores: 2,
        kernel: "6.18.44".to_owned(),
        memory_bytes: 25_276_502_016,
    };
    results
}

/// The second of two rounds at half the speed; a server with wrong answers and one that is broken.
pub(super) fn results() -> Results {
    let mut results = empty();
    let run = |value: f64| Run {
        value,
        also: vec![Some(1e6 / value)],
        mismatches: 0,
        errors: 0,
        error: None,
        was_limit: false,
    };
    results.rows[0].better = Better::Lower;
    results.rows[0].cells[0].rounds = vec![Round::Ran(run(4.0)), Round::Ran(run(8.0))];
    let doubtful = Run { mismatches: 3, was_limit: true, ..run(12.0) };
    results.rows[0].cells[1].rounds = vec![Round::Ran(run(6.0)), Round::Ran(doubtful)];
    let failed = Round::Failed("sh: broken: <not found>".to_owned());
    results.rows[0].cells[2].rounds = vec![failed.clone(), failed];
    let mut slow = run(1500.0);
    (slow.also, slow.errors, slow.error) = (Vec::new(), 1, Some("message 7 was lost".to_owned()));
    let cell = Cell { excused: None, rounds: vec![Round::Ran(slow)] };
    results.rows[1].cells[1] = cell;
    results.rows[1].better = Better::Lower;
    results.interrupted = true;
    results
}
