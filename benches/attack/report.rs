//! What is printed: the setting, what each attack did and got, what the good client noticed, and
//! which bars are held.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::answer::Answer;
use crate::attack::{Plan, Tally};
use crate::confine::{Cage, MEMORY_BYTES};
use crate::good::{CONNS_EACH, Experience, INTERVAL, Visits};
use crate::options::Options;
use crate::run::{Outcome, Seen};
use crate::server::Server;

const TRANSPORTS: [&str; 2] = ["ws", "wss"];
/// Work of others above which the figures say more about the machine.
const QUIET_LOAD_MAX: f64 = 0.3;
/// What the server may lose of its core to others if a short attack is to judge its times. One part
/// in a hundred is all that a 99th percentile needs.
const IN_LINE_MAX: f64 = 0.01;

/// Under which conditions the attack takes place.
pub(crate) fn print_setting(options: &Options, server: &Server, cage: &Cage) {
    println!("\nlongwire echo {}", server.flags);
    println!("  memory    {}", cage.describe());
    println!("  core 0    the server, one worker");
    println!(
        "  core 1    a good client of {CONNS_EACH} connections over ws and {CONNS_EACH} over wss, an \
         echo each {} ms, less what it stood in line for the core; and the attackers at nice 15, \
         {} s, rates times {}",
        INTERVAL.as_millis(),
        options.length.as_secs(),
        options.rate
    );
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    if let Some(load) = load.filter(|&load| load > QUIET_LOAD_MAX) {
        println!("  NOT QUIET the load was {load} before it began: times are not worth noting");
    }
}

/// Prints what came of it; how many bars were missed.
pub(crate) fn print(options: &Options, outcome: &Outcome) -> usize {
    print_attacks(&outcome.attacks);
    print_experiences(&outcome.experiences);
    print_visits(&outcome.visits);
    print_server(&outcome.seen, outcome.cage_peak_bytes);
    let mut bars = Bars::default();
    judge_server(outcome, &mut bars);
    judge_good_client(options, outcome, &mut bars);
    judge_answers(outcome, &mut bars);
    if bars.missed > 0 && !outcome.last_lines.is_empty() {
        println!("  the server said last, of {} lines:", outcome.line_count);
        for line in &outcome.last_lines {
            println!("  | {line}");
        }
    }
    bars.missed
}

fn print_attacks(attacks: &[(Plan, Tally)]) {
    println!(
        "\n{:<20} {:<20} {:>6} {:>7} {:>6} {:>6} {:>9} {:>9}  answers",
        "attack", "rows", "per s", "opened", "failed", "held", "sent", "received"
    );
    for (plan, tally) in attacks {
        println!(
            "{:<20} {:<20} {:>6.0} {:>7} {:>6} {:>6} {:>9} {:>9}  {}{}",
            plan.name,
            plan.rows,
            plan.per_second,
            tally.opened,
            tally.failed,
            tally.held_peak,
            bytes(tally.sent_bytes),
            bytes(tally.received_bytes),
            list(&tally.answers),
            if tally.wrong.is_empty() {
                String::new()
            } else {
                format!("  WRONG: {}", list(&tally.wrong))
            },
        );
    }
}

fn print_experiences(experiences: &[Experience; 2]) {
    println!(
        "\n{:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>5}",
        "good client, echo",
        "calm p50",
        "p99",
        "attack p50",
        "p99",
        "p99.9",
        "echoes",
        "p99 x",
        "lost"
    );
    for (transport, experience) in TRANSPORTS.iter().zip(experiences) {
        let (mut calm, mut attack) = (experience.calm.clone(), experience.attack.clone());
        println!(
            "{transport:<20} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9} {:>7} {:>5}",
            time(calm.per_mille(500)),
            time(calm.per_mille(990)),
            time(attack.per_mille(500)),
            time(attack.per_mille(990)),
            time(attack.per_mille(999)),
            attack.count(),
            ratio(experience).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            experience.lost.len(),
        );
    }
}

fn print_visits(visits: &[Visits; 2]) {
    println!(
        "\n{:<20} {:>9} {:>9} {:>12} {:>12}  {:>6}",
        "opened in the attack", "served", "retries", "1st echo p50", "p99", "failed"
    );
    for (transport, visits) in TRANSPORTS.iter().zip(visits) {
        let mut waits = visits.waits.clone();
        println!(
            "{transport:<20} {:>9} {:>9} {:>12} {:>12}  {:>6}",
            visits.served,
            visits.retries,
            time(waits.per_mille(500)),
            time(waits.per_mille(990)),
            visits.failed.len(),
        );
    }
}

fn print_server(seen: &Seen, cage_peak_bytes: Option<u64>) {
    println!(
        "\n{:<20} {:>11} {:>9} {:>13} {:>12} {:>18}",
        "server", "descriptors", "resident", "address space", "of its core", "in line for it"
    );
    let looks = [
        ("before", seen.before, Some(seen.calm_share)),
        ("peak in the attack", seen.peak, Some(seen.attack_share)),
        ("after it", seen.after, None),
    ];
    for (when, look, share) in looks {
        println!(
            "{when:<20} {:>11} {:>9} {:>13} {:>12} {:>18}",
            look.descriptor_count,
            bytes(look.resident_bytes),
            bytes(look.virtual_bytes),
            percent(share.map(|share| share.ran)),
            percent(share.map(|share| share.stood_in_line)),
        );
    }
    if let Some(peak) = cage_peak_bytes {
        println!("peak of the cgroup, the kernel's memory for sockets included: {}", bytes(peak));
    }
    println!();
}

/// Prints bars and counts those that are missed.
#[derive(Debug, Default)]
struct Bars {
    missed: usize,
}

impl Bars {
    fn hold(&mut self, is_held: bool, what: &str) {
        println!("  {:<6} {what}", if is_held { "held" } else { "MISSED" });
        self.missed += usize::from(!is_held);
    }
}

fn judge_server(outcome: &Outcome, bars: &mut Bars) {
    let seen = &outcome.seen;
    let died = outcome.died.clone().or_else(|| seen.lost.clone());
    let lived = died.is_none() && outcome.kill_count.unwrap_or(0) == 0;
    bars.hold(
        lived,
        &died.map_or_else(
            || format!("one process served to the end in {}", bytes(MEMORY_BYTES)),
            |died| format!("the server must live: {died}"),
        ),
    );
    let panicked = outcome.last_lines.iter().any(|line| line.contains("panicked"));
    let ended =
        if outcome.died.is_some() { "no panic" } else { "no panic, and it stopped when asked" };
    bars.hold(
        !panicked && outcome.stopped_badly.is_none(),
        &match &outcome.stopped_badly {
            Some(how) => format!("it must stop when asked: {how}"),
            None if panicked => "it panicked".to_owned(),
            None => ended.to_owned(),
        },
    );
    let recovered = seen.recovered_after;
    bars.hold(
        recovered.is_some(),
        &recovered.map_or_else(
            || {
                format!(
                    "descriptors {} and resident {} were {} and {} before, 15 s after the attack",
                    seen.after.descriptor_count,
                    bytes(seen.after.resident_bytes),
                    seen.before.descriptor_count,
                    bytes(seen.before.resident_bytes)
                )
            },
            |after| format!("descriptors and memory given back {:.1} s after", after.as_secs_f64()),
        ),
    );
}

fn judge_good_client(options: &Options, outcome: &Outcome, bars: &mut Bars) {
    let seen = &outcome.seen;
    let in_line = seen.calm_share.stood_in_line.max(seen.attack_share.stood_in_line);
    let is_judged = !options.short || in_line < IN_LINE_MAX;
    if !is_judged {
        println!(
            "  SKIPPED p99 of echoes: the server stood in line for its core for {} of the time, \
             behind others",
            percent(Some(in_line))
        );
    }
    for (transport, experience) in TRANSPORTS.iter().zip(&outcome.experiences) {
        if !is_judged {
            continue;
        }
        let ratio = ratio(experience);
        bars.hold(
            ratio.is_some_and(|ratio| ratio < options.slower_max()),
            &format!(
                "p99 of an echo over {transport} is {:.2} times that of the calm, under {}",
                ratio.unwrap_or(f64::NAN),
                options.slower_max()
            ),
        );
    }
    let lost = outcome.experiences.iter().flat_map(|experience| &experience.lost);
    let failed = outcome.visits.iter().flat_map(|visits| &visits.failed);
    let losses: Vec<&String> = lost.chain(failed).collect();
    bars.hold(
        losses.is_empty(),
        &losses.first().map_or_else(
            || "no good connection was lost, and no visitor went without an echo".to_owned(),
            |first| format!("{} good connections were lost, the first {first}", losses.len()),
        ),
    );
}

fn judge_answers(outcome: &Outcome, bars: &mut Bars) {
    let attacks = &outcome.attacks;
    let wrong: Vec<String> = attacks
        .iter()
        .filter(|(_, tally)| !tally.wrong.is_empty())
        .map(|(plan, tally)| format!("{}: {}", plan.name, list(&tally.wrong)))
        .collect();
    let right = format!("all {} attacks got the answers their rows name", attacks.len());
    bars.hold(wrong.is_empty(), &if wrong.is_empty() { right } else { wrong.join("; ") });
    // An attack that nobody answered was none.
    let idle: Vec<&str> =
        attacks.iter().filter(|(_, tally)| tally.met() == 0).map(|(plan, _)| plan.name).collect();
    if !idle.is_empty() {
        bars.hold(false, &format!("no connection of these came to its end: {}", idle.join(", ")));
    }
}

/// How many times as long the slowest hundredth took in the attack.
fn ratio(experience: &Experience) -> Option<f64> {
    let calm = experience.calm.clone().per_mille(990)?;
    let attack = experience.attack.clone().per_mille(990)?;
    Some(attack.as_secs_f64() / calm.as_secs_f64())
}

fn list(answers: &BTreeMap<Answer, u64>) -> String {
    let answers = answers.iter().map(|(answer, count)| format!("{answer} x {count}"));
    answers.collect::<Vec<_>>().join(", ")
}

fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{} us", time.as_micros()))
}

fn percent(part: Option<f64>) -> String {
    part.map(|part| format!("{:.1} %", part * 100.0)).unwrap_or_default()
}
