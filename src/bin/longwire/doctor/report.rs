//! The verdict in words, for people.

use std::fmt::Write as _;

use super::limits::{Limit, Start};
use super::machine::Machine;
use super::mends::{Sysctl, Wish, sudo};
use super::verdict::Verdict;
use super::words::{bytes, grouped, wrapped};

const COLUMNS: usize = 100;
const SYSCTL_FILE: &str = "/etc/sysctl.d/60-longwire.conf";

/// All there is to say, in lines.
pub(super) fn text(machine: &Machine, verdict: &Verdict) -> String {
    let mut out = String::new();
    facts(&mut out, machine);
    table(&mut out, verdict);
    outcome(&mut out, verdict);
    obstacles(&mut out, machine, verdict);
    advice(&mut out, machine, verdict);
    out
}

/// The command that starts a server so.
pub(super) fn command(start: Start, wish: Wish) -> String {
    let tls = if wish.tls { " --tls-cert FILE --tls-key FILE" } else { "" };
    format!("longwire serve --conns-max {}{}{tls}", wish.conns, flags(start))
}

/// The command that judges a server that is started so.
pub(super) fn check(start: Start, wish: Wish) -> String {
    let tls = if wish.tls { " --tls" } else { "" };
    format!("longwire doctor --connections {}{}{tls}", wish.conns, flags(start))
}

/// The commands that set these now and at each start of the machine.
pub(super) fn sysctl_commands(machine: &Machine, sysctls: &[&Sysctl]) -> Vec<String> {
    if sysctls.is_empty() {
        return Vec::new();
    }
    let sudo = sudo(machine);
    let set = sysctls.iter().map(|sysctl| match sysctl.value.contains(' ') {
        true => format!("{sudo}sysctl -w {}='{}'", sysctl.name, sysctl.value),
        false => format!("{sudo}sysctl -w {}={}", sysctl.name, sysctl.value),
    });
    let lines: Vec<String> =
        sysctls.iter().map(|sysctl| format!("'{} = {}'", sysctl.name, sysctl.value)).collect();
    let keep = format!("printf '%s\\n' {} | {sudo}tee -a {SYSCTL_FILE}", lines.join(" "));
    set.chain([keep]).collect()
}

fn flags(start: Start) -> String {
    if start.direct_descriptors {
        format!(" --direct-descriptors --workers {}", start.workers)
    } else {
        String::new()
    }
}

fn facts(out: &mut String, machine: &Machine) {
    let hidden = || "not visible here".to_owned();
    let optional = |number: Option<u64>| number.map_or_else(hidden, grouped);
    let buffer = |max: Option<u64>| max.map_or_else(hidden, bytes);
    let works = |probe: &Result<(), String>| match probe {
        Ok(()) => "works".to_owned(),
        Err(reason) => reason.clone(),
    };
    let limit = |number: u64| if number == u64::MAX { "unlimited".into() } else { grouped(number) };
    let seccomp = ["none", "strict", "a filter"];
    let seccomp = usize::try_from(machine.seccomp).ok().and_then(|mode| seccomp.get(mode));
    let conntrack = machine.conntrack.map(|table| {
        let state = if table.tracks { "" } else { ", nothing is tracked" };
        format!("{} of {} used{state}", grouped(table.count), grouped(table.max))
    });
    let conntrack = conntrack.unwrap_or_else(|| "not loaded".to_owned());
    let pages = machine.tcp_pages.map(|pages| pages.saturating_mul(4096));
    let ports = machine.ports.map(|(first, last)| format!("{first} to {last}"));
    let rows = [
        ("kernel", machine.kernel.clone()),
        ("cores", format!("{} of {} may be used", machine.cores, machine.cores_online)),
        (
            "memory",
            format!(
                "{}, {} available",
                bytes(machine.memory_bytes),
                bytes(machine.memory_available)
            ),
        ),
        ("io_uring", works(&machine.probed.io_uring)),
        ("direct descriptors", works(&machine.probed.direct_descriptors)),
        ("io_uring_disabled", optional(machine.io_uring_disabled)),
        ("seccomp", (*seccomp.unwrap_or(&"unknown")).to_owned()),
        (
            "RLIMIT_NOFILE",
            format!("soft {}, hard {}", limit(machine.nofile.soft), limit(machine.nofile.hard)),
        ),
        ("fs.nr_open", optional(machine.nr_open)),
        ("RLIMIT_MEMLOCK", bytes(machine.memlock.soft)),
        ("somaxconn", optional(machine.somaxconn)),
        ("ports of clients", ports.unwrap_or_else(hidden)),
        ("tcp_mem", buffer(pages)),
        (
            "tcp_rmem, tcp_wmem",
            format!("{}, {}", buffer(machine.receive_bytes_max), buffer(machine.send_bytes_max)),
        ),
        ("nf_conntrack", conntrack),
    ];
    out.push_str("this machine\n");
    for (name, value) in rows {
        let _ = writeln!(out, "  {name:<20}{value}");
    }
}

fn table(out: &mut String, verdict: &Verdict) {
    let narrowest = [false, true].map(|tls| verdict.narrowest(tls).key);
    let wide = |limit: &Limit| limit.has.len();
    let width = verdict.limits.iter().map(wide).max().unwrap_or(0).max(12) + 2;
    let _ = writeln!(out, "\n{:<18}{:<width$}{:>12}{:>12}", "limit", "has", "plain", "TLS");
    for limit in &verdict.limits {
        let mark = match narrowest.map(|key| key == limit.key) {
            [true, true] => "  <- narrowest",
            [true, false] => "  <- narrowest for plain",
            [false, true] => "  <- narrowest for TLS",
            [false, false] => "",
        };
        let _ = writeln!(
            out,
            "{:<18}{:<width$}{:>12}{:>12}{mark}",
            limit.key.name(),
            limit.has,
            grouped(limit.plain),
            grouped(limit.tls)
        );
    }
}

fn outcome(out: &mut String, verdict: &Verdict) {
    let kind = if verdict.wish.tls { "over TLS" } else { "plain" };
    let how = match verdict.start.direct_descriptors {
        true => format!(", started with{}", flags(verdict.start)),
        false => String::new(),
    };
    let _ = writeln!(
        out,
        "\nlongwire holds {} connections here, or {} over TLS{how}.",
        grouped(verdict.holds(false)),
        grouped(verdict.holds(true))
    );
    let wanted = grouped(verdict.wish.conns);
    if verdict.asked {
        let taken = bytes(verdict.taken_bytes);
        let _ = writeln!(
            out,
            "{wanted} {kind} take {taken} while they are idle, the kernel's included."
        );
    }
    if !verdict.asked {
        if !verdict.fits() {
            let _ = writeln!(out, "There is memory for {wanted} {kind}.");
        }
    } else if verdict.fits() {
        let _ = writeln!(out, "{wanted} {kind} fit:\n    {}", command(verdict.start, verdict.wish));
    } else {
        let narrowest = verdict.narrowest(verdict.wish.tls).key.name();
        let _ = writeln!(out, "{wanted} {kind} do not fit; the narrowest limit is {narrowest}.");
    }
}

fn obstacles(out: &mut String, machine: &Machine, verdict: &Verdict) {
    if verdict.obstacles.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nin the way of {}:", grouped(verdict.wish.conns));
    for obstacle in &verdict.obstacles {
        let (name, holds) = (obstacle.key.name(), grouped(obstacle.holds));
        let text = format!("{name}, which holds {holds}. {}.", obstacle.mend.text);
        paragraph(out, &text);
        for command in &obstacle.mend.commands {
            let _ = writeln!(out, "    {command}");
        }
    }
    sysctls(out, machine, &verdict.sysctls());
    match verdict.then {
        Some(start) => {
            let _ = writeln!(
                out,
                "\nthen it fits; the first of these commands says so, the second starts it:\n    {}\n    {}",
                check(start, verdict.wish),
                command(start, verdict.wish)
            );
        }
        None => out.push_str("\nThat cannot all be mended from here.\n"),
    }
}

fn advice(out: &mut String, machine: &Machine, verdict: &Verdict) {
    if verdict.advice.is_empty() {
        return;
    }
    out.push_str("\nworth knowing\n");
    for advice in &verdict.advice {
        paragraph(out, &format!("{}: {}.", advice.about, advice.text));
    }
    let known = verdict.sysctls();
    let all = verdict.advice.iter().flat_map(|advice| &advice.sysctls);
    let left: Vec<&Sysctl> = all.filter(|sysctl| !known.contains(sysctl)).collect();
    sysctls(out, machine, &left);
}

fn paragraph(out: &mut String, text: &str) {
    let _ = writeln!(out, "  {}", wrapped(text, COLUMNS - 2, "    "));
}

fn sysctls(out: &mut String, machine: &Machine, sysctls: &[&Sysctl]) {
    if sysctls.is_empty() {
        return;
    }
    let place = if machine.power.sysctl { "" } else { " on the host, not in this container" };
    let _ = writeln!(out, "  settings of the kernel{place}:");
    for command in sysctl_commands(machine, sysctls) {
        let _ = writeln!(out, "    {command}");
    }
}
