//! What is logged, and how it is written. The level can be changed while the program runs.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::args::{Args, LogFormat};

/// Exchanges what is logged.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Has standard error take the log.
pub(crate) fn begin(args: &Args) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(&args.log)
        .with_target(false)
        .with_writer(std::io::stderr)
        // A line that could not be written would be told by a macro that panics, see `say`.
        .log_internal_errors(false)
        // Escapes are for eyes; a journal or a file would keep them.
        .with_ansi(is_for_eyes());
    match args.log_format {
        LogFormat::Text => {
            let log = log.with_filter_reloading();
            let handle = log.reload_handle();
            keep(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            log.init();
        }
        // Programs choose by the target, and find all fields in one object.
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_target(true).with_filter_reloading();
            let handle = log.reload_handle();
            keep(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            log.init();
        }
    }
}

/// Logs this from now on.
pub(crate) fn set(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    SET_FILTER.get().map_or(Ok(()), |set| set(filter))
}

fn keep(set: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) {
    // The log begins once in a process.
    let _ = SET_FILTER.set(Box::new(set));
}

/// Whether what is logged is shown on a terminal, and may be coloured (<https://no-color.org>).
fn is_for_eyes() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}
