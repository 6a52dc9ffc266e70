//! Which backends this machine has, and a check on each; for the tests of the program, too.

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};

/// Runs `check` on `epoll` and, where it may be used, on `io_uring`, at the same time.
pub(crate) fn run_on_each<B>(epoll: B, io_uring: Option<B>, check: fn(B))
where
    B: Copy + Display + Send + 'static,
{
    let start = |backend: B| {
        thread::Builder::new().name(backend.to_string()).spawn(move || check(backend)).unwrap()
    };
    let runs: Vec<_> = [Some(epoll), io_uring].into_iter().flatten().map(start).collect();
    // All are awaited before one may fail the test, so that its output is whole.
    let results: Vec<_> = runs.into_iter().map(JoinHandle::join).collect();
    for result in results {
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Whether io_uring may be used here; `ask` is asked once, and tells why not. Where it may not, the
/// test says so, and fails if `CI` is set.
pub(crate) fn has_io_uring(ask: fn() -> Option<String>) -> bool {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(ask);
    if let Some(why_not) = why_not {
        skip("io_uring", why_not);
    }
    why_not.is_none()
}

/// Says that something cannot be tested here, and fails where that must not be.
pub(crate) fn skip(what: &str, why: &str) {
    // Not by a macro: the output of tests that succeed is not shown.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
    assert!(std::env::var_os("CI").is_none(), "CI is set, and there is no {what}");
}
