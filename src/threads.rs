//! The threads of a run, server or client: one for each worker, pinned to its core. What a worker
//! does there is its owner's affair; so is how the others are stopped when one fails.

use std::sync::mpsc;
use std::{io, thread};

use crate::error::Error;
use crate::io::affinity;
use crate::io::backend::DriverSetup;

/// Where a worker sits: its core, and its end of the kernel.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) core: usize,
    pub(crate) setup: DriverSetup,
}

/// Starts a thread for each seat, named by `prefix` and the worker's number, and waits until all
/// have ended. Calls `stop_others` for each that fails, and returns the first of the failures.
///
/// The process ends if `work` panics: the kernel may hold memory of a loop that unwinds.
pub(crate) fn run_pinned(
    prefix: &str,
    seats: Vec<Seat>,
    work: impl Fn(usize, DriverSetup) -> io::Result<()> + Sync,
    stop_others: impl Fn(),
) -> Result<(), Error> {
    let (report, reports) = mpsc::channel();
    thread::scope(|scope| {
        for (worker, seat) in seats.into_iter().enumerate() {
            let (reporter, work) = (report.clone(), &work);
            let thread = thread::Builder::new().name(format!("{prefix}-{worker}"));
            let spawned = thread.spawn_scoped(scope, move || {
                let _ = reporter.send((worker, seat.run(worker, work)));
            });
            if let Err(source) = spawned {
                let _ = report.send((worker, Err(source)));
            }
        }
        drop(report);
        let mut result = Ok(());
        for (worker, ended) in reports {
            if let Err(source) = ended {
                stop_others();
                result = result.and(Err(Error::Worker { worker, source }));
            }
        }
        result
    })
}

impl Seat {
    fn run(
        self,
        worker: usize,
        work: impl Fn(usize, DriverSetup) -> io::Result<()>,
    ) -> io::Result<()> {
        let _guard = affinity::AbortOnPanic;
        if let Err(error) = affinity::pin_current(self.core) {
            tracing::warn!(core = self.core, %error, "worker is not pinned");
        }
        work(worker, self.setup)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::io::wake::Wake;

    fn seats(count: usize) -> Vec<Seat> {
        let core = affinity::usable_cores()[0];
        let seat = |_| {
            let wake = Wake::new().unwrap();
            let setup = DriverSetup {
                listeners: Vec::new(),
                wake,
                conns_max: 1,
                direct_descriptors: false,
                ring_entries: 1,
            };
            Seat { core, setup }
        };
        (0..count).map(seat).collect()
    }

    #[test]
    fn first_failure_is_returned_and_each_one_stops_the_others() {
        let stops = AtomicUsize::new(0);
        let work = |worker, _| match worker {
            // It fails once the other has, and was told to stop because of it.
            1 => {
                while stops.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                Err(io::Error::other("late"))
            }
            2 => Err(io::Error::other("early")),
            _ => Ok(()),
        };
        let stop_others = || {
            stops.fetch_add(1, Ordering::Release);
        };
        let error = run_pinned("test", seats(4), work, stop_others).unwrap_err();
        assert_eq!(error.to_string(), "worker 2: early");
        assert_eq!(stops.load(Ordering::Acquire), 2);
    }

    #[test]
    fn each_worker_runs_on_its_core_in_a_thread_of_its_name() {
        let (seen, all_seen) = mpsc::channel();
        let work = |worker, _| {
            let name = thread::current().name().map(str::to_owned);
            seen.send((worker, name, affinity::usable_cores())).map_err(io::Error::other)
        };
        run_pinned("test", seats(2), work, || unreachable!("nobody fails")).unwrap();
        let core = affinity::usable_cores()[0];
        let mut all_seen: Vec<_> = all_seen.try_iter().collect();
        all_seen.sort_unstable();
        let expected = |worker| (worker, Some(format!("test-{worker}")), vec![core]);
        assert_eq!(all_seen, [expected(0), expected(1)]);
    }
}
