//! The system calls that the container's profile permits: the program lives under it from its start
//! to its end, and the service's unit permits the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use serde_json::Value;
use syscalls::Sysno;

use crate::certificates::Authority;
use crate::client::{Client, REQUEST};
use crate::http::get;
use crate::process::{Program, longwire, on_every_backend, run, serve_command, wait_until};
use crate::tools::{Folder, text, tool};

/// What a runtime does before the program; a service manager does it before its filter.
const OF_THE_RUNTIME: &str = "what a container runtime does";
const OF_RINGS: &str = "io_uring,";

/// An entry of the profile.
struct Entry {
    comment: String,
    names: Vec<String>,
    is_permitted: bool,
    condition: Option<SeccompCondition>,
}

fn profile() -> Vec<Entry> {
    let profile: Value = serde_json::from_str(&text("contrib/docker/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let entries = profile["syscalls"].as_array().unwrap().iter().map(|entry| {
        let names = entry["names"].as_array().unwrap().iter();
        Entry {
            comment: entry["comment"].as_str().unwrap().to_owned(),
            names: names.map(|name| name.as_str().unwrap().to_owned()).collect(),
            is_permitted: entry["action"] == "SCMP_ACT_ALLOW",
            condition: entry["args"].as_array().map(|args| condition(args)),
        }
    });
    entries.collect()
}

/// What an argument has to be.
fn condition(args: &[Value]) -> SeccompCondition {
    assert_eq!(args.len(), 1);
    let number = |name: &str| args[0][name].as_u64().unwrap();
    let index = u8::try_from(number("index")).unwrap();
    let (op, value) = match args[0]["op"].as_str().unwrap() {
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, number("value")),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(number("value")), number("valueTwo")),
        other => panic!("{other}"),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value).unwrap()
}

/// The profile as the kernel takes it: what it permits is done, `otherwise` happens to the rest.
fn compile(entries: &[Entry], otherwise: SeccompAction) -> Vec<BpfProgram> {
    let mut permitted: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut missing: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for entry in entries {
        // Names of other architectures are passed over, as runtimes do.
        for number in entry.names.iter().filter_map(|name| name.parse::<Sysno>().ok()) {
            let rules = permitted.entry(i64::from(number.id())).or_default();
            if let Some(condition) = &entry.condition {
                rules.push(SeccompRule::new(vec![condition.clone()]).unwrap());
            }
            if !entry.is_permitted {
                missing.entry(i64::from(number.id())).or_default();
            }
        }
    }
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let permit = SeccompFilter::new(permitted, otherwise, SeccompAction::Allow, arch).unwrap();
    // Of several filters the kernel takes the strictest answer.
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let refuse = SeccompFilter::new(missing, SeccompAction::Allow, absent, arch).unwrap();
    // That one first: the other does not permit that a filter is added.
    [refuse, permit].map(|filter| filter.try_into().unwrap()).into()
}

/// Starts something under filters, which what it starts inherits.
fn under<T: Send>(filters: &[BpfProgram], start: impl FnOnce() -> T + Send) -> T {
    let confined = || {
        for filter in filters {
            apply_filter(filter).unwrap();
        }
        start()
    };
    thread::scope(|scope| scope.spawn(confined).join().unwrap())
}

fn is_confined(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    status.lines().any(|line| line == "Seccomp:\t2")
}

/// Whether a process is gone, or only its parent has not taken notice.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

/// The process that goes on after an upgrade. Killed when it is dropped: it is no child of the test.
struct Successor(Pid);

impl Successor {
    /// That of which `longwire upgrade` says that it serves.
    fn named_in(said: &str) -> Self {
        let number = said.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self(Pid::from_raw(number).unwrap())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !has_ended(self.0) {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

/// Every way in, once: an echo over each, and what the administration port has to show.
fn use_all(program: &Program, socket: &Path, authority: &Authority) -> Vec<Client> {
    let [plain, secure] = program.addrs()[..] else { panic!("{:?}", program.announcement) };
    let request = REQUEST.replacen("GET / ", "GET /echo ", 1);
    let mut clients = vec![
        Client::connect(plain),
        Client::over(UnixStream::connect(socket).unwrap().into()),
        Client::connect_secure(secure, &authority.client(), "localhost"),
    ];
    for client in &mut clients {
        client.send_raw(request.as_bytes());
        client.finish_handshake();
        for text in ["hello", &"x".repeat(60_000)] {
            client.echo(text);
        }
    }
    for target in
        ["/metrics", "/stats.json", "/connections?closed", "/connections", "/healthz", "/"]
    {
        assert_eq!(get(program.admin(), target).status, 200, "{target}");
    }
    clients
}

#[test]
fn program_lives_under_the_profile_from_its_start_to_its_end() {
    on_every_backend(|backend| {
        // Whatever is not permitted would end the process, so nothing is refused in silence.
        let filters = compile(&profile(), SeccompAction::KillProcess);
        let authority = Authority::new();
        let issued = authority.issue("server", &["localhost"]);
        let folder = Folder::new();
        let socket = folder.0.join("longwire.sock");
        let flags = format!(
            "--backend {backend} --workers 2 --deflate --drain-time 1s --broker redis://localhost:9 \
             --listen unix:{} --unix-mode 600 --listen-tls 127.0.0.1:0 --tls-cert {} --tls-key {}",
            socket.display(),
            issued.certificate_file.display(),
            issued.key_file.display()
        );
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let program = under(&filters, || Program::start_by(serve_command(&flags)));
        assert!(program.announced("backend").starts_with(backend), "{:?}", program.announcement);
        assert!(is_confined(program.pid()));
        let clients = use_all(&program, &socket, &authority);
        program.signal(Signal::HUP);
        let metrics = || get(program.admin(), "/metrics").body;
        let has_tried = || metrics().contains("longwire_broker_failures_total{");
        wait_until("an attempt to reach the broker", has_tried, metrics);

        let pid = program.pid().as_raw_nonzero().to_string();
        let output = under(&filters, || run(longwire(&["upgrade", "--pid", &pid])));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
        let successor = Successor::named_in(&said);
        assert!(is_confined(successor.0));
        drop(clients);
        wait_until("the end of the first process", || has_ended(program.pid()), String::new);
        drop(use_all(&program, &socket, &authority));
        kill_process(successor.0, Signal::TERM).unwrap();
        wait_until("the end of the second process", || has_ended(successor.0), String::new);
        let (status, ..) = program.wait();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn other_commands_live_under_the_profile() {
    let filters = compile(&profile(), SeccompAction::KillProcess);
    for args in [&["doctor"][..], &["man", "serve"], &["completions", "bash"], &["--help"]] {
        let output = under(&filters, || run(longwire(args)));
        assert!(output.status.success(), "{args:?}: {}", output.status);
    }
}

#[test]
fn u01_without_its_three_calls_the_profile_leaves_epoll() {
    let mut entries = profile();
    entries.retain(|entry| !entry.comment.starts_with(OF_RINGS));
    assert_eq!(entries.len() + 1, profile().len());
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filters = compile(&entries, denied);
    let program = under(&filters, || Program::serve(&["--workers", "1"]));
    let backend = program.announced("backend");
    assert!(backend.starts_with("epoll: ") && backend.contains("seccomp"), "{backend}");
    Client::open_at(program.addr, "/echo").echo("as ever");
}

#[test]
fn profile_permits_nothing_that_leads_out_of_a_container() {
    let entries = profile();
    let names: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| entry.is_permitted)
        .flat_map(|entry| entry.names.iter().map(String::as_str))
        .collect();
    for name in [
        "add_key",
        "bpf",
        "clone3",
        "delete_module",
        "finit_module",
        "init_module",
        "kexec_load",
        "keyctl",
        "mount",
        "move_mount",
        "name_to_handle_at",
        "open_by_handle_at",
        "perf_event_open",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "reboot",
        "request_key",
        "setns",
        "swapon",
        "syslog",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        assert!(!names.contains(name), "{name}");
    }
    // A name without a condition would undo those with one.
    for name in ["socket", "clone"] {
        let of_name = entries.iter().filter(|entry| entry.names.iter().any(|one| one == name));
        assert!(of_name.clone().all(|entry| entry.condition.is_some()), "{name}");
        assert!(of_name.count() > 0, "{name}");
    }
    let unknown: Vec<&&str> = names.iter().filter(|name| name.parse::<Sysno>().is_err()).collect();
    assert!(unknown.is_empty() || cfg!(not(target_arch = "x86_64")), "{unknown:?}");
}

/// All that systemd permits by these settings, group by group.
fn permitted_by_unit(unit: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut permitted = BTreeSet::new();
    let settings = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    for setting in std::iter::once("@default").chain(settings) {
        let (is_denied, list) = match setting.strip_prefix('~') {
            Some(list) => (true, list),
            None => (false, setting),
        };
        let mut open: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        while let Some(name) = open.pop() {
            if name.starts_with('@') {
                open.extend(groups[&name].iter().cloned());
            } else if is_denied {
                permitted.remove(&name);
            } else {
                permitted.insert(name);
            }
        }
    }
    permitted
}

/// The groups of system calls that this systemd knows.
fn groups(listing: &str) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in listing.lines() {
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        if line.starts_with('@') {
            group = name.to_owned();
            groups.entry(group.clone()).or_default();
        } else if line.starts_with(' ') {
            groups.get_mut(&group).unwrap().push(name.to_owned());
        }
    }
    groups
}

#[test]
fn unit_of_the_service_permits_what_the_profile_does() {
    let Some(systemd) = tool("systemd-analyze") else { return };
    let mut command = Command::new(systemd);
    command.args(["syscall-filter", "--no-pager"]);
    let listing = String::from_utf8(run(command).stdout).unwrap();
    let groups = groups(&listing);
    let unit = text("contrib/longwire.service");
    let permitted = permitted_by_unit(&unit, &groups);
    assert!(permitted.contains("io_uring_setup") && !permitted.contains("mount"), "{permitted:?}");
    let entries = profile();
    let wanted = entries.iter().filter(|entry| !entry.comment.starts_with(OF_THE_RUNTIME));
    let missing: Vec<&String> =
        wanted.flat_map(|entry| &entry.names).filter(|name| !permitted.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(unit.contains("\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n"));
    assert!(unit.contains("\nRestrictNamespaces=yes\n"));
}
