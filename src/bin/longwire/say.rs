//! What a server says on its standard streams while it runs.
//!
//! Whoever reads them may be gone: a pager that was left, a collector of logs that restarts. The
//! macros of the standard library panic then, and would take the thread with them that heeds signals.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Says a line on standard output, if somebody listens.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says on standard error what went wrong, if somebody listens.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "longwire: {line}");
}
