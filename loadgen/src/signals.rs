//! Ctrl-C and SIGTERM: the first ends the measurement early, the second does not wait for
//! connections to close.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

/// Counts the signals that ask for an end.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    count: Arc<AtomicUsize>,
}

impl Signals {
    /// From now on these signals are counted, and do not end the process.
    pub(crate) fn new() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot watch for signals: {error}");
        let mut incoming = Incoming::new([SIGINT, SIGTERM]).map_err(failed)?;
        let signals = Self { count: Arc::default() };
        let count = Arc::clone(&signals.count);
        let watch = move || {
            for _ in &mut incoming {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
        Ok(signals)
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.count() > 0
    }
}
