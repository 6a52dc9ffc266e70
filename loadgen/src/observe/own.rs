//! The generator's own process: how busy its threads are, and how much memory it takes.
//!
//! A generator that is at its limit measures itself, so this is asked all through a run. A share
//! is of one core, and that of the busiest thread counts: seven idle threads do not help the
//! eighth.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::time::ClockId;

use super::process;

/// Watches this process from one sample to the next.
#[derive(Debug)]
pub(crate) struct Own {
    at: Instant,
    process: Duration,
    threads: BTreeMap<u32, Duration>,
}

/// What happened since the sample before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OwnSample {
    /// CPU time of the whole process over time passed; 100 is one core.
    pub(crate) cpu_percent: f64,
    /// The same of the thread that used most; 100 is a core without rest.
    pub(crate) busiest_percent: f64,
    /// CPU time of the whole process.
    pub(crate) cpu: Duration,
    /// Resident bytes now.
    pub(crate) rss_bytes: u64,
    /// Share of each thread that ran all the time, by thread id.
    pub(crate) threads: Vec<(u32, f64)>,
}

impl Own {
    /// Begins to watch.
    pub(crate) fn new() -> io::Result<Self> {
        let pid = std::process::id();
        let process = process::cpu_clock(pid).map_or_else(|| process_time(pid), Ok)?;
        Ok(Self { at: Instant::now(), process, threads: thread_times()? })
    }

    /// What the process did since the last call, and begins anew.
    pub(crate) fn sample(&mut self) -> io::Result<OwnSample> {
        let now = Self::new()?;
        let seconds = now.at.duration_since(self.at).as_secs_f64().max(1e-9);
        let percent = |used: Duration| 100.0 * used.as_secs_f64() / seconds;
        let cpu = now.process.saturating_sub(self.process);
        let mut threads = Vec::with_capacity(now.threads.len());
        for (tid, time) in &now.threads {
            // A thread that began in between has used all it has in between.
            let before = self.threads.get(tid).copied().unwrap_or_default();
            threads.push((*tid, percent(time.saturating_sub(before))));
        }
        let busiest_percent = threads.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        let rss_bytes = process::light_usage(&[std::process::id()])?.1;
        *self = now;
        Ok(OwnSample { cpu_percent: percent(cpu), busiest_percent, cpu, rss_bytes, threads })
    }
}

/// Resident bytes of this process, to the page; takes a walk through its page tables.
pub(crate) fn rss_bytes() -> io::Result<u64> {
    Ok(process::usage(&[std::process::id()])?.rss_bytes)
}

/// CPU time of a thread of this process, in nanoseconds from its CPU clock.
pub(crate) fn thread_clock(tid: u32) -> Option<Duration> {
    // The kernel's encoding of a thread's clock: the inverted id, then "per thread" (4) and
    // "scheduler time" (2). It is part of the ABI: C libraries build the same number.
    let tid = i32::try_from(tid).ok()?;
    let time = ClockId::from_raw((!tid << 3) | 6).now().ok()?;
    Some(Duration::from(time))
}

fn thread_times() -> io::Result<BTreeMap<u32, Duration>> {
    let mut times = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let Some(tid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A thread may end while the list is read.
        if let Some(time) = thread_clock(tid) {
            times.insert(tid, time);
        }
    }
    Ok(times)
}

fn process_time(pid: u32) -> io::Result<Duration> {
    Ok(process::light_usage(&[pid])?.0.total)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn spinning_thread_shows_as_the_busiest_with_its_share() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        let spinner = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            while !STOP.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let tid = u32::try_from(told.recv().unwrap()).unwrap();
        let slept = Duration::from_millis(300);
        let began = Instant::now();
        let mut own = Own::new().unwrap();
        std::thread::sleep(slept);
        let sample = own.sample().unwrap();
        let late = began.elapsed() - slept;
        STOP.store(true, Ordering::Relaxed);
        spinner.join().unwrap();
        let share = sample.threads.iter().find(|(id, _)| *id == tid).unwrap().1;
        // The clocks of the process, the wall and the threads are read one after the other, and on
        // a busy machine others run in between. The thread may spin meanwhile, and then its clock
        // is ahead of the other two: at most by all the time that was not slept.
        let ahead = 100.0 * late.as_secs_f64() / slept.as_secs_f64();
        // Cores are shared with other tests, so it may get little, but never more than one.
        assert!((1.0..=101.0 + ahead).contains(&share), "{ahead}: {sample:?}");
        assert!(sample.busiest_percent >= share, "{sample:?}");
        // Where the clock of the process cannot be read its time is in ticks of 10 ms, of which
        // both readings may be one off; that is 7 % of this time.
        assert!(sample.cpu_percent + ahead + 7.0 >= share, "{ahead}: {sample:?}");
        assert!(sample.rss_bytes > 1 << 20);
    }

    #[test]
    fn second_sample_counts_from_the_first() {
        let mut own = Own::new().unwrap();
        let me = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let begin = thread_clock(me).unwrap();
        while thread_clock(me).unwrap() < begin + Duration::from_millis(60) {}
        let first = own.sample().unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let second = own.sample().unwrap();
        let share = |sample: &OwnSample| {
            sample.threads.iter().find(|(id, _)| *id == me).map_or(0.0, |(_, share)| *share)
        };
        assert!(first.cpu >= Duration::from_millis(60));
        assert!(share(&first) > share(&second), "{first:?} {second:?}");
        assert!(share(&second) < 15.0, "the time before the first sample counts twice");
    }

    #[test]
    fn clock_of_a_strange_thread_is_not_read() {
        assert_eq!(thread_clock(1), None);
        assert_eq!(thread_clock(u32::MAX), None);
    }
}
