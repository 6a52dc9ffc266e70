//! One run: a server, a calm stretch, the attack, and what is left of it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attack::{self, Attack, Plan, Tally};
use crate::attacks;
use crate::confine::Cage;
use crate::core;
use crate::good::{self, CONNS_EACH, Experience, Phase, Stage, Visits};
use crate::ground::{Ground, Identity};
use crate::options::Options;
use crate::report;
use crate::server::Server;
use crate::watch::{Look, Share, Watch};

/// Until connections are open and caches are warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the calm before the attack is measured: this part of the attack's length.
const CALM_PART: u32 = 6;
const CALM_MIN: Duration = Duration::from_secs(4);
/// Within this after the attack everything has to be given back.
const RECOVERY_MAX: Duration = Duration::from_secs(15);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// What allocators keep, and blocks that wait for the next large message.
const RESIDENT_SLACK_BYTES: u64 = 32 << 20;

/// What was seen of the server from outside.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) before: Look,
    pub(crate) peak: Look,
    pub(crate) after: Look,
    /// None if it was not over in time.
    pub(crate) recovered_after: Option<Duration>,
    /// Of its core, in the calm and in the attack.
    pub(crate) calm_share: Share,
    pub(crate) attack_share: Share,
    /// Why the server could not be looked at any longer.
    pub(crate) lost: Option<String>,
}

/// Everything that came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seen: Seen,
    pub(crate) attacks: Vec<(Plan, Tally)>,
    /// Plain, then over TLS.
    pub(crate) experiences: [Experience; 2],
    pub(crate) visits: [Visits; 2],
    /// What ended the server, if it was not asked to end.
    pub(crate) died: Option<String>,
    /// What was wrong with its end, when it was asked.
    pub(crate) stopped_badly: Option<String>,
    pub(crate) line_count: usize,
    pub(crate) last_lines: Vec<String>,
    pub(crate) kill_count: Option<u64>,
    pub(crate) cage_peak_bytes: Option<u64>,
}

/// Attacks a server on this backend, prints what came of it, and returns how many bars were missed.
pub(crate) fn run(options: &Options, backend: &str) -> io::Result<usize> {
    let identity = Identity::new()?;
    let cage = Cage::new();
    let mut server =
        Server::start(options, backend, &cage, &identity.certificate_pem, &identity.key_pem)?;
    report::print_setting(options, &server, &cage);
    let ground = Ground {
        plain: server.plain,
        secure: server.secure,
        tls: identity.tls,
        timeouts: options.timeouts(),
    };
    let outcome = attack(options, &ground, &mut server, &cage)?;
    drop(server);
    Ok(report::print(options, &outcome))
}

fn attack(
    options: &Options,
    ground: &Ground,
    server: &mut Server,
    cage: &Cage,
) -> io::Result<Outcome> {
    let watch = Watch::new(server.pid());
    let stage = Stage::new();
    let (seen, attacks, experiences, visits) = thread::scope(|scope| {
        let stage = &stage;
        let stays = [false, true].map(|secure| {
            let stay = || scope.spawn(move || good::stay(ground, secure, stage));
            (0..CONNS_EACH).map(|_| stay()).collect::<Vec<_>>()
        });
        let visitor = scope.spawn(move || good::visit(ground, stage));
        // This thread only waits and looks; it must not take the server's core for that.
        let directed =
            core::pin(core::CLIENT).and_then(|()| direct(options, ground, &watch, stage));
        // Whatever happened, nobody waits for ever.
        stage.set(Phase::Over);
        let experiences = stays.map(|threads| {
            let mut all = Experience::default();
            for thread in threads {
                all.append(thread.join().expect("the good client does not panic"));
            }
            all
        });
        let visits = visitor.join().expect("visitors do not panic")?;
        let (seen, attacks) = directed?;
        io::Result::Ok((seen, attacks, experiences, visits))
    })?;
    let died = server.ended()?.map(|status| status.to_string());
    let stopped_badly = match (&died, died.is_none().then(|| server.stop()).transpose()?) {
        (Some(_), _) | (_, None) => None,
        (None, Some(None)) => Some("it did not stop when asked, and was killed".to_owned()),
        (None, Some(Some(status))) => (!status.success()).then(|| status.to_string()),
    };
    // What was said last is read by a thread of its own.
    thread::sleep(Duration::from_millis(100));
    let (line_count, last_lines) = server.said();
    Ok(Outcome {
        seen,
        attacks,
        experiences,
        visits,
        died,
        stopped_badly,
        line_count,
        last_lines,
        kill_count: cage.kill_count(),
        cage_peak_bytes: cage.peak_bytes(),
    })
}

/// Leads through the phases, and looks at the server meanwhile.
fn direct(
    options: &Options,
    ground: &Ground,
    watch: &Watch,
    stage: &Stage,
) -> io::Result<(Seen, Vec<(Plan, Tally)>)> {
    let mut seen = Seen::default();
    thread::sleep(WARM_UP);
    let calm = (options.length / CALM_PART).max(CALM_MIN);
    let work = watch.work()?;
    stage.set(Phase::Calm);
    // A visitor may be there now and then, so the fewest of several looks are the connections that
    // stay.
    seen.before = watch.look()?;
    let calm_until = Instant::now() + calm;
    while Instant::now() < calm_until {
        thread::sleep(LOOK_INTERVAL);
        let look = watch.look()?;
        seen.before = Look {
            descriptor_count: seen.before.descriptor_count.min(look.descriptor_count),
            ..look
        };
    }
    seen.calm_share = watch.work()?.since(work, calm);
    seen.peak = seen.before;

    let work = watch.work()?;
    let began_at = Instant::now();
    stage.set(Phase::Attack);
    let attacks = attack_for(options, ground, watch, &mut seen)?;
    stage.set(Phase::After);
    if let Ok(now) = watch.work() {
        seen.attack_share = now.since(work, began_at.elapsed());
    }
    if seen.lost.is_none() {
        recover(watch, &mut seen);
    }
    Ok((seen, attacks))
}

/// Lets all attacks loose for the time that was asked for.
fn attack_for(
    options: &Options,
    ground: &Ground,
    watch: &Watch,
    seen: &mut Seen,
) -> io::Result<Vec<(Plan, Tally)>> {
    let is_wanted = |attack: &dyn Attack| {
        let name = attack.plan().name;
        options.only.is_empty() || options.only.iter().any(|only| name.starts_with(only.as_str()))
    };
    let mut attacks = attacks::all(ground);
    attacks.retain(|attack| is_wanted(attack.as_ref()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = attacks
            .iter_mut()
            .map(|attack| {
                let stop = &stop;
                scope.spawn(move || {
                    let plan = attack.plan();
                    attack::drive(attack.as_mut(), ground, options.rate, stop)
                        .map(|tally| (plan, tally))
                })
            })
            .collect();
        let until = Instant::now() + options.length;
        while Instant::now() < until {
            thread::sleep(LOOK_INTERVAL);
            match watch.look() {
                Ok(look) => seen.peak = seen.peak.max(look),
                Err(error) => {
                    seen.lost = Some(error.to_string());
                    break;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().expect("attackers do not panic")
        };
        threads.into_iter().map(join).collect()
    })
}

/// Waits until the server has given back what the attack has taken.
fn recover(watch: &Watch, seen: &mut Seen) {
    let began_at = Instant::now();
    while began_at.elapsed() < RECOVERY_MAX {
        match watch.look() {
            Ok(look) => seen.after = look,
            Err(error) => {
                seen.lost = Some(error.to_string());
                return;
            }
        }
        let is_over = seen.after.descriptor_count <= seen.before.descriptor_count
            && seen.after.resident_bytes <= seen.before.resident_bytes + RESIDENT_SLACK_BYTES;
        if is_over {
            seen.recovered_after = Some(began_at.elapsed());
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}
