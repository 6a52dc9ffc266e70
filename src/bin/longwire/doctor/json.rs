//! The verdict for scripts.

use serde_json::{Value, json};

use super::limits::{Limit, Start};
use super::machine::Machine;
use super::mends::Sysctl;
use super::report::{check, command, sysctl_commands};
use super::verdict::Verdict;

/// All that the text says, under names that stay.
pub(super) fn value(machine: &Machine, verdict: &Verdict) -> Value {
    let wish = verdict.wish;
    json!({
        "fits": verdict.asked.then(|| verdict.fits()),
        "wanted": verdict.asked.then(|| json!({
            "connections": wish.conns,
            "tls": wish.tls,
            "idle_bytes": verdict.taken_bytes,
        })),
        "start": start(verdict.start),
        "holds": { "plain": verdict.holds(false), "tls": verdict.holds(true) },
        "narrowest": {
            "plain": verdict.narrowest(false).key.name(),
            "tls": verdict.narrowest(true).key.name(),
        },
        "limits": verdict.limits.iter().map(limit).collect::<Vec<_>>(),
        "obstacles": obstacles(machine, verdict),
        "then": verdict.then.map(|then| json!({
            "start": start(then),
            "check": check(then, wish),
            "command": command(then, wish),
        })),
        "advice": verdict.advice.iter().map(|advice| json!({
            "about": advice.about,
            "text": advice.text,
            "sysctl": sysctls(&advice.sysctls),
        })).collect::<Vec<_>>(),
        "machine": facts(machine),
    })
}

fn start(start: Start) -> Value {
    json!({ "direct_descriptors": start.direct_descriptors, "workers": start.workers })
}

fn limit(limit: &Limit) -> Value {
    json!({
        "name": limit.key.name(),
        "has": limit.has,
        "plain": limit.plain,
        "tls": limit.tls,
    })
}

fn obstacles(machine: &Machine, verdict: &Verdict) -> Vec<Value> {
    let obstacle = |obstacle: &super::verdict::Obstacle| {
        let mend = &obstacle.mend;
        let set = sysctl_commands(machine, &mend.sysctls.iter().collect::<Vec<_>>());
        json!({
            "limit": obstacle.key.name(),
            "holds": obstacle.holds,
            "text": mend.text,
            "possible": mend.possible,
            "sysctl": sysctls(&mend.sysctls),
            "commands": set.iter().chain(&mend.commands).collect::<Vec<_>>(),
        })
    };
    verdict.obstacles.iter().map(obstacle).collect()
}

fn sysctls(sysctls: &[Sysctl]) -> Value {
    let pairs = sysctls.iter().map(|sysctl| (sysctl.name.to_owned(), json!(sysctl.value)));
    Value::Object(pairs.collect())
}

fn facts(machine: &Machine) -> Value {
    // JSON has no number for "unlimited".
    let limited = |number: u64| (number != u64::MAX).then_some(number);
    let probed = &machine.probed;
    json!({
        "kernel": machine.kernel,
        "cores": machine.cores,
        "cores_online": machine.cores_online,
        "nofile_soft": limited(machine.nofile.soft),
        "nofile_hard": limited(machine.nofile.hard),
        "memlock_bytes": limited(machine.memlock.soft),
        "nr_open": machine.nr_open,
        "file_max": machine.file_max,
        "files_open": machine.files_open,
        "somaxconn": machine.somaxconn,
        "ports": machine.ports.map(|(first, last)| [first, last]),
        "tcp_mem_pages": machine.tcp_pages,
        "tcp_rmem_bytes": machine.receive_bytes_max,
        "tcp_wmem_bytes": machine.send_bytes_max,
        "conntrack": machine.conntrack.map(|table| json!({
            "max": table.max, "count": table.count, "tracks": table.tracks,
        })),
        "memory_bytes": machine.memory_bytes,
        "memory_available_bytes": machine.memory_available,
        "cgroup": machine.group.as_ref().map(|group| json!({
            "file": group.file, "bytes": group.bytes, "used_bytes": group.used,
        })),
        "io_uring": probed.io_uring.is_ok(),
        "io_uring_reason": probed.io_uring.as_ref().err(),
        "direct_descriptors": probed.direct_descriptors.is_ok(),
        "io_uring_disabled": machine.io_uring_disabled,
        "seccomp": machine.seccomp,
    })
}
