//! Random sessions under random faults, each decided by one seed: `make sim`.
//!
//! A seed picks the limits, the faults of the network, and what a dozen peers do (`actor`): talk,
//! read slowly, flood, break rules, vanish. The application echoes, speaks up, closes, panics. What
//! must hold is checked by those who can see it: the driver (its contract), the rig (after each
//! turn, and when the worker has stopped), the application (order of its calls), the clients
//! (nothing foreign, nothing out of order, well-formed), and here: everything ends in time, and who
//! had no bad luck got all of what was due.
//!
//! `SIM_SEEDS=n` runs so many seeds (300 otherwise), `SIM_SEED=n` replays one with its trace.

mod actor;
mod setting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::io::sim::{Net, SeedOnPanic, SimDriver};
use crate::policy::{Tick, Ticks};

use super::rig::Rig;
use actor::Actor;
use setting::Setting;

/// Seeds of an ordinary test run.
const SEEDS_DEFAULT: u64 = 300;
/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 2000;
/// Seeds that may fail before the search ends.
const FAILURES_MAX: usize = 8;
/// A run that takes more turns than this does not end.
const TURNS_MAX: u64 = 400_000;

/// What happened in all runs, in numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    sessions: u64,
    /// Peers whose session had to go well, and did.
    undisturbed: u64,
    messages: u64,
    completions: u64,
    broken: u64,
    starved: u64,
    skips: u64,
    late: u64,
    accepts_failed: u64,
}

/// One run.
struct Run<const AT_ONCE: bool> {
    rig: Rig<AT_ONCE>,
    setting: Setting,
    actors: Vec<Actor>,
    stopped_at: Option<Tick>,
    /// There was no connection when it was told to stop: such a worker counts no time.
    stopped_idle: bool,
    /// When the last actor was done.
    quiet_at: Option<Tick>,
}

#[test]
fn sessions_under_faults_end_as_they_must() {
    if let Some(seed) = number_from("SIM_SEED") {
        let totals = run_seed(seed, true);
        println!("seed {seed}: {totals:?}");
        return;
    }
    let seeds = number_from("SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let started_at = Instant::now();
    let next = AtomicU64::new(0);
    let (totals, failed) = (Mutex::new(Totals::default()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run_seed(seed, false))) {
                        Ok(run) => totals.lock().unwrap().add(&run),
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                    if seed % PROGRESS_SEEDS == PROGRESS_SEEDS - 1 {
                        println!("{} seeds in {:.1?}", seed + 1, started_at.elapsed());
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    let command = |seed| format!("SIM_SEED={seed} cargo test --lib simulation -- --nocapture");
    let commands: Vec<String> = failed.into_iter().map(command).collect();
    assert!(commands.is_empty(), "replay with: {}", commands.join(" or "));
    let totals = totals.into_inner().unwrap();
    println!("{seeds} seeds in {:.1?}: {totals:#?}", started_at.elapsed());
}

#[test]
fn run_of_a_seed_can_be_repeated() {
    for seed in 0..10 {
        let (first, second) = (run_seed(seed, false), run_seed(seed, false));
        assert_eq!(first.completions, second.completions, "seed {seed}");
        assert_eq!(first.messages, second.messages, "seed {seed}");
    }
}

fn run_seed(seed: u64, traced: bool) -> Totals {
    let _seed = SeedOnPanic(seed);
    let setting = Setting::from_seed(seed, traced);
    let driver = SimDriver::new(seed, setting.faults.clone());
    if setting.sends_at_once {
        Run::new(driver.sending_at_once(), setting).play()
    } else {
        Run::new(driver, setting).play()
    }
}

impl<const AT_ONCE: bool> Run<AT_ONCE> {
    fn new(driver: SimDriver<AT_ONCE>, setting: Setting) -> Self {
        let rig = Rig::over(driver, setting.limits.clone(), setting.memory);
        let actors = (0..setting.peers).map(|index| Actor::new(index, &setting)).collect();
        Self { rig, setting, actors, stopped_at: None, stopped_idle: false, quiet_at: None }
    }

    fn play(mut self) -> Totals {
        let _trace = TraceOnDrop { net: self.rig.net.clone(), traced: self.setting.traced };
        if self.setting.traced {
            println!("{:#?}", self.setting);
        }
        let mut running = true;
        while running {
            self.act();
            running = self.rig.turn();
            self.check_pace();
        }
        self.check_stop();
        for actor in &mut self.actors {
            actor.read_rest(&self.rig.net);
        }
        self.rig.check_end();
        let mut totals = self.totals();
        let log = self.rig.log.borrow();
        let stats = self.rig.net.stats();
        let accept_trouble = stats.accepts_exhausted > 0 || self.setting.faults.unattachable > 0;
        for actor in self.actors {
            let may_be_refused = accept_trouble || !self.setting.all_fit();
            let seen = log.peers.get(&actor.client.peer);
            totals.undisturbed += u64::from(actor.check(&self.rig.net, seen, may_be_refused));
        }
        totals
    }

    /// Lets everybody act whose time has come, and says when the next one wants to.
    fn act(&mut self) {
        let now = self.rig.net.elapsed();
        let mut horizon: Option<Duration> = None;
        for actor in &mut self.actors {
            if actor.next_at.is_some_and(|at| at <= now) {
                actor.step(&self.rig.net, now);
            }
            horizon = [horizon, actor.next_at].into_iter().flatten().min();
        }
        let is_quiet = horizon.is_none();
        if is_quiet {
            self.quiet_at.get_or_insert_with(|| self.rig.tick());
        }
        let unstopped = self.stopped_at.is_none();
        let stop_at = self.setting.stop_at.filter(|_| unstopped);
        let is_over = is_quiet && self.rig.worker.table.is_empty();
        if unstopped && stop_at.map_or(is_over, |at| at <= now) {
            self.stopped_at = Some(self.rig.tick());
            self.stopped_idle = self.rig.worker.table.is_empty();
            self.rig.stop(self.setting.stop_code, self.setting.grace);
            for actor in &mut self.actors {
                actor.handle_stop();
            }
        }
        self.rig.net.set_horizon([horizon, stop_at].into_iter().flatten().min());
    }

    /// Everything ends: the run, and the connections of peers that do nothing more.
    fn check_pace(&self) {
        assert!(self.rig.net.stats().turns < TURNS_MAX, "the run ends");
        if let Some(quiet_at) = self.quiet_at
            && !self.rig.worker.table.is_empty()
        {
            let late = quiet_at.after(self.setting.longest_end()).after(self.setting.slack());
            assert!(self.rig.tick() <= late, "every connection ends within its timeouts");
        }
    }

    /// A stop ends within its grace.
    fn check_stop(&self) {
        let stopped_at = self.stopped_at.expect("a worker stops only when it is told to");
        let late =
            stopped_at.after(Ticks::at_least(self.setting.grace)).after(self.setting.slack());
        assert!(self.rig.tick() <= late || self.stopped_idle, "a stop ends within its grace");
    }

    fn totals(&self) -> Totals {
        let stats = self.rig.net.stats();
        Totals {
            sessions: self.actors.len() as u64,
            undisturbed: 0,
            messages: self.rig.stats().messages,
            completions: stats.completions,
            broken: stats.broken,
            starved: stats.starved,
            skips: stats.skips,
            late: stats.late,
            accepts_failed: stats.accepts_exhausted + stats.accepts_aborted,
        }
    }
}

impl Totals {
    fn add(&mut self, run: &Self) {
        self.sessions += run.sessions;
        self.undisturbed += run.undisturbed;
        self.messages += run.messages;
        self.completions += run.completions;
        self.broken += run.broken;
        self.starved += run.starved;
        self.skips += run.skips;
        self.late += run.late;
        self.accepts_failed += run.accepts_failed;
    }
}

/// Prints what happened, also when the run fails.
struct TraceOnDrop {
    net: Net,
    traced: bool,
}

impl Drop for TraceOnDrop {
    fn drop(&mut self) {
        if self.traced {
            for entry in self.net.trace() {
                println!("{:?} {} {:?} {}", entry.at, entry.name, entry.token, entry.len);
            }
        }
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value:?}")))
}
