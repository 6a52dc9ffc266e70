//! Machines of all kinds, as files, and what is said of them.

use std::collections::BTreeMap;
use std::path::Path;

use super::limits::{Key, Start};
use super::machine::{Machine, Probed};
use super::verdict::Verdict;
use super::words::{bytes, grouped};
use super::{json, report};

const CAPS_ALL: &str = "000001ffffffffff";
const CAPS_OF_DOCKER: &str = "00000000a80425fb";
const CAPS_NONE: &str = "0000000000000000";
const FORBIDDEN: &str = "io_uring_setup: Operation not permitted (os error 1)";
const DEFAULT: Start = Start { direct_descriptors: false, workers: 4 };

/// Files of a machine: a large server with nothing in the way of a million, of systemd, used by root.
struct Fixture {
    files: BTreeMap<&'static str, String>,
    probed: Probed,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self {
            files: BTreeMap::new(),
            probed: Probed { io_uring: Ok(()), direct_descriptors: Ok(()), tracks: false },
        };
        for (path, text) in [
            ("/proc/meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 31457280 kB\n"),
            ("/proc/sys/kernel/osrelease", "6.12.0\n"),
            ("/sys/devices/system/cpu/online", "0-3\n"),
            ("/proc/sys/fs/nr_open", "1073741816\n"),
            ("/proc/sys/fs/file-max", "9223372036854775807\n"),
            ("/proc/sys/fs/file-nr", "2000\t0\t9223372036854775807\n"),
            ("/proc/sys/net/core/somaxconn", "4096\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "1024\t65535\n"),
            ("/proc/sys/net/ipv4/tcp_mem", "377586\t503450\t755172\n"),
            ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ("/proc/sys/kernel/io_uring_disabled", "0\n"),
            ("/proc/1/comm", "systemd\n"),
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", CGROUP_MOUNT),
        ] {
            fixture.files.insert(path, text.to_owned());
        }
        fixture.nofile("1024", "2000000").status("0", CAPS_ALL, CAPS_ALL)
    }

    fn with(mut self, path: &'static str, text: &str) -> Self {
        self.files.insert(path, format!("{text}\n"));
        self
    }

    fn nofile(self, soft: &str, hard: &str) -> Self {
        let limits = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            {soft:<21}{hard:<21}files     \n\
             Max locked memory         8388608              unlimited            bytes     "
        );
        self.with("/proc/self/limits", &limits)
    }

    fn status(self, uid: &str, effective: &str, bounding: &str) -> Self {
        let status = format!(
            "Name:\tlongwire\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{effective}\n\
             CapBnd:\t{bounding}\nSeccomp:\t0\nCpus_allowed_list:\t0-127"
        );
        self.with("/proc/self/status", &status)
    }

    /// A container: root without power, no systemd, `/proc/sys` read-only.
    fn contained(self) -> Self {
        let mounts = format!("{CGROUP_MOUNT}\n40 30 0:5 /sys /proc/sys ro,nosuid - proc proc rw");
        self.status("0", CAPS_OF_DOCKER, CAPS_OF_DOCKER)
            .with("/proc/self/mountinfo", &mounts)
            .with("/proc/1/comm", "longwire")
    }

    fn without_io_uring(mut self) -> Self {
        self.probed.io_uring = Err(FORBIDDEN.to_owned());
        self.probed.direct_descriptors = Err(FORBIDDEN.to_owned());
        self
    }

    fn tracking(mut self, count: &str, max: &str) -> Self {
        self.probed.tracks = true;
        self.with("/proc/sys/net/netfilter/nf_conntrack_count", count)
            .with("/proc/sys/net/netfilter/nf_conntrack_max", max)
    }

    fn machine(&self) -> Machine {
        let read = |path: &Path| self.files.get(path.to_str().unwrap()).cloned();
        Machine::read(read, self.probed.clone()).unwrap()
    }

    fn judge(&self, conns: u64) -> Judged {
        self.judge_started(DEFAULT, conns)
    }

    fn judge_started(&self, start: Start, conns: u64) -> Judged {
        let machine = self.machine();
        let verdict = Verdict::of(&machine, start, Some(conns), false);
        let text = report::text(&machine, &verdict);
        Judged { verdict, text, machine }
    }
}

const CGROUP_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";

struct Judged {
    verdict: Verdict,
    text: String,
    machine: Machine,
}

impl Judged {
    fn keys(&self) -> Vec<Key> {
        self.verdict.obstacles.iter().map(|obstacle| obstacle.key).collect()
    }

    #[track_caller]
    fn says(&self, words: &[&str]) -> &Self {
        // Where paragraphs are broken is of no interest; commands are not.
        let unbroken = self.text.replace("\n    ", " ");
        for word in words {
            assert!(
                self.text.contains(word) || unbroken.contains(word),
                "`{word}` is not in:\n{}",
                self.text
            );
        }
        self
    }
}

#[test]
fn table_of_sizes_in_the_documentation_is_what_is_said_here() {
    let page = include_str!("../../../../docs/OPERATING.md");
    let machine = Fixture::new().machine();
    for conns in [10_000, 100_000, 500_000, 1_000_000, 5_000_000] {
        let taken = [false, true].map(|tls| {
            let verdict = Verdict::of(&machine, DEFAULT, Some(conns), tls);
            let (text, taken) = (report::text(&machine, &verdict), bytes(verdict.taken_bytes));
            assert!(text.contains(&format!(" take {taken} while they are idle")), "{text}");
            taken
        });
        let row = format!("| {} | {} | {} |", grouped(conns), taken[0], taken[1]);
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn large_server_holds_a_million_as_it_is() {
    let judged = Fixture::new().judge(1_000_000);
    assert!(judged.verdict.fits() && judged.verdict.obstacles.is_empty());
    judged.says(&["1,000,000 plain fit", "longwire serve --conns-max 1000000\n"]);
    assert_eq!(judged.verdict.narrowest(false).key, Key::Descriptors);
    assert_eq!(judged.verdict.holds(false), 2_000_000 - 64 - 16);
}

#[test]
fn cores_are_those_that_are_allowed_and_there() {
    assert_eq!(Fixture::new().machine().cores, 4);
    let few = Fixture::new().with("/sys/devices/system/cpu/online", "120-200");
    assert_eq!((few.machine().cores, few.machine().cores_online), (8, 81));
}

/// What most distributions start services and shells with.
#[test]
fn hard_limit_of_a_distribution_is_raised_where_one_may() {
    let shell = Fixture::new().nofile("1024", "524288").with("/proc/sys/fs/nr_open", "1048576");
    let judged = shell.judge(1_000_000);
    assert!(!judged.verdict.fits());
    assert_eq!(judged.keys(), [Key::Descriptors]);
    judged.says(&["narrowest limit is RLIMIT_NOFILE", "ulimit -n 1000448", "LimitNOFILE=1000448"]);
    assert!(!judged.text.contains("sysctl -w"), "{}", judged.text);
    assert_eq!(judged.verdict.then, Some(DEFAULT));
    // The server raises the soft limit by itself.
    assert!(shell.judge(500_000).verdict.fits());

    let user = shell.status("1000", CAPS_NONE, CAPS_ALL).judge(1_000_000);
    user.says(&["sudo prlimit --pid $$ --nofile=1000448:1000448", "| sudo tee /etc/systemd"]);
}

#[test]
fn commands_for_descriptors_make_them_fit() {
    let judged = Fixture::new().nofile("1024", "4096").judge(60_000);
    let needed = judged.text.split("ulimit -n ").nth(1).unwrap();
    let needed = needed.split_whitespace().next().unwrap();
    assert!(Fixture::new().nofile(needed, needed).judge(60_000).verdict.fits());
}

#[test]
fn low_nr_open_is_raised_before_the_limit() {
    let judged = Fixture::new()
        .nofile("1024", "4096")
        .with("/proc/sys/fs/nr_open", "65536")
        .judge(1_000_000);
    judged.says(&["sysctl -w fs.nr_open=1000448", "'fs.nr_open = 1000448'", "ulimit -n 1000448"]);
    assert!(judged.verdict.then.is_some());
}

/// A hard limit of 20,000 that even root may not raise.
#[test]
fn direct_descriptors_go_around_a_limit_that_cannot_be_raised() {
    let machine = Fixture::new().contained().nofile("20000", "20000");
    let judged = machine.judge(1_000_000);
    assert_eq!(judged.keys(), [Key::Descriptors]);
    judged.says(&[
        "CAP_SYS_RESOURCE is missing",
        "longwire serve --conns-max 1000000 --direct-descriptors --workers 55\n",
        "longwire doctor --connections 1000000 --direct-descriptors --workers 55\n",
    ]);
    let then = judged.verdict.then.unwrap();
    assert!(machine.judge_started(then, 1_000_000).verdict.fits());
    let fewer = Start { workers: then.workers - 1, ..then };
    let too_few = machine.judge_started(fewer, 1_000_000);
    assert!(!too_few.verdict.fits());
    assert_eq!(too_few.verdict.then, Some(then));
}

#[test]
fn small_rings_are_planned_with_room_for_chance() {
    let judged = Fixture::new().contained().nofile("1024", "1024").judge(60_000);
    // 1024 - 6 x 32 of each; without that, 65 would do.
    assert_eq!(judged.verdict.then.map(|then| then.workers), Some(73));
    // 240 workers take all the descriptors there are.
    let judged = Fixture::new().contained().nofile("1024", "1024").judge(1_000_000);
    assert_eq!(judged.verdict.then, None);
    judged.says(&["do not help either", "--ulimit nofile=1000448:1000448"]);
}

#[test]
fn forbidden_io_uring_leaves_no_way_around() {
    let judged =
        Fixture::new().contained().without_io_uring().nofile("20000", "20000").judge(1_000_000);
    assert_eq!(judged.verdict.then, None);
    judged.says(&[FORBIDDEN, "docker run --ulimit", "That cannot all be mended from here"]);

    let disabled = Fixture::new()
        .status("0", CAPS_OF_DOCKER, CAPS_OF_DOCKER)
        .with("/proc/1/comm", "init")
        .with("/proc/sys/kernel/io_uring_disabled", "2")
        .without_io_uring()
        .nofile("20000", "20000")
        .judge(1_000_000);
    disabled.says(&["sysctl -w kernel.io_uring_disabled=0", "--direct-descriptors --workers 55"]);

    let filtered = Fixture::new().contained().without_io_uring();
    let status = filtered.files["/proc/self/status"].replace("Seccomp:\t0", "Seccomp:\t2");
    let filtered = filtered.with("/proc/self/status", &status).nofile("1000", "1000").judge(5_000);
    filtered.says(&["--security-opt seccomp=", "It runs on epoll"]);
}

/// Rings are counted against the locked memory of users.
#[test]
fn u17_locked_memory_of_users_is_counted_for_each_ring() {
    let user = || Fixture::new().status("1000", CAPS_NONE, CAPS_NONE).with("/proc/1/comm", "sh");
    let judged = user().nofile("20000", "20000").judge(1_500_000);
    // 83 rings of 160 KiB; 8 MiB are allowed.
    judged.says(&["RLIMIT_MEMLOCK: It is 8.0 MiB", "LimitMEMLOCK=13598720 for a service"]);
    assert!(!user().nofile("20000", "20000").judge(500_000).text.contains("LimitMEMLOCK"));
    let contained = Fixture::new().status("0", "4000", CAPS_NONE).nofile("20000", "20000");
    assert!(!contained.judge(1_500_000).text.contains("LimitMEMLOCK"), "CAP_IPC_LOCK");

    let mut none = user().without_io_uring();
    let limits = none.files["/proc/self/limits"].replace("8388608", "65536  ");
    none = none.with("/proc/self/limits", &limits);
    none.judge(10_000).says(&["RLIMIT_MEMLOCK is 64.0 KiB; LimitMEMLOCK=163840"]);
}

#[test]
fn direct_descriptors_that_do_not_work_hold_nothing() {
    let start = Start { direct_descriptors: true, workers: 55 };
    let judged = Fixture::new().without_io_uring().judge_started(start, 1_000);
    assert!(!judged.verdict.fits());
    assert_eq!(judged.verdict.holds(false), 0);
}

#[test]
fn container_with_little_memory_is_given_more_from_outside() {
    let judged = Fixture::new()
        .contained()
        .nofile("1048576", "1048576")
        .with("/sys/fs/cgroup/memory.max", "536870912")
        .with("/sys/fs/cgroup/memory.current", "104857600")
        .with(
            "/sys/fs/cgroup/memory.stat",
            "anon 1\ninactive_file 30000000\nactive_file 22428800\n",
        )
        .judge(1_000_000);
    assert_eq!(judged.keys(), [Key::GroupMemory]);
    let group = judged.machine.group.as_ref().unwrap();
    assert_eq!(group.used, 104_857_600 - 30_000_000 - 22_428_800, "files are given back");
    judged.says(&["narrowest limit is cgroup memory", "docker update --memory="]);
    // 90 % of 460 MiB, less 16 and four times 1.5, by 4,537 bytes each.
    assert_eq!(
        judged.verdict.holds(false),
        ((536_870_912 - 52_428_800) / 100 * 90 - (22 << 20)) / 4_537
    );
    assert!(judged.verdict.holds(true) * 3 / 2 < judged.verdict.holds(false));
}

#[test]
fn group_of_a_service_is_widened_by_systemd_and_then_fits() {
    let service = |max: &str| {
        Fixture::new()
            .with("/proc/self/cgroup", "0::/system.slice/longwire.service")
            .with("/sys/fs/cgroup/system.slice/longwire.service/memory.max", max)
            .judge(1_000_000)
    };
    let judged = service("1073741824");
    judged.says(&["systemctl set-property longwire.service MemoryMax="]);
    let needed = judged.text.split("MemoryMax=").nth(1).unwrap();
    assert!(service(needed.split_whitespace().next().unwrap()).verdict.fits());
}

#[test]
fn machine_with_too_little_memory_cannot_be_mended() {
    let meminfo = "MemTotal: 2000000 kB\nMemAvailable: 1000000 kB";
    let judged = Fixture::new().with("/proc/meminfo", meminfo).judge(1_000_000);
    assert_eq!(judged.keys(), [Key::Memory]);
    assert_eq!(judged.verdict.then, None);
    judged.says(&["a machine with more memory"]);
    let meminfo = "MemTotal: 8000000 kB\nMemAvailable: 1000000 kB";
    Fixture::new().with("/proc/meminfo", meminfo).judge(1_000_000).says(&["stop what else"]);
}

#[test]
fn full_firewall_counts_where_it_tracks() {
    let judged = Fixture::new().tracking("262000", "262144").judge(50_000);
    assert_eq!(judged.keys(), [Key::Conntrack]);
    assert_eq!(judged.verdict.holds(false), 144);
    judged.says(&["sysctl -w net.netfilter.nf_conntrack_max=390144", "nf_conntrack_buckets=97536"]);
    assert!(Fixture::new().tracking("262000", "390144").judge(50_000).verdict.fits());

    let mut loaded = Fixture::new().tracking("0", "262144");
    loaded.probed.tracks = false;
    let judged = loaded.judge(1_000_000);
    assert!(judged.verdict.fits());
    judged.says(&["no rule of the firewall tracks"]);
}

#[test]
fn files_of_the_machine_are_counted_with_those_of_others() {
    let judged = Fixture::new()
        .with("/proc/sys/fs/file-max", "800000")
        .with("/proc/sys/fs/file-nr", "300000 0 800000")
        .judge(1_000_000);
    assert_eq!(judged.keys(), [Key::FileMax]);
    assert_eq!(judged.verdict.holds(false), 500_000 - 80);
    judged.says(&["sysctl -w fs.file-max=1430528", "/etc/sysctl.d/60-longwire.conf"]);
}

#[test]
fn several_obstacles_are_named_with_the_narrowest_first() {
    let judged = Fixture::new()
        .tracking("0", "300000")
        .nofile("1024", "4096")
        .with("/proc/sys/fs/file-max", "100000")
        .judge(1_000_000);
    assert_eq!(judged.keys(), [Key::Descriptors, Key::FileMax, Key::Conntrack]);
    let contained = Fixture::new()
        .contained()
        .tracking("0", "300000")
        .nofile("20000", "20000")
        .judge(1_000_000);
    contained.says(&["on the host, not in this container", "That cannot all be mended"]);
}

#[test]
fn advice_does_not_keep_connections_from_fitting() {
    let judged = Fixture::new()
        .with("/proc/sys/net/core/somaxconn", "128")
        .with("/proc/sys/net/ipv4/tcp_mem", "9000 12000 18000")
        .with("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999")
        .judge(1_000_000);
    assert!(judged.verdict.fits());
    judged.says(&[
        "sysctl -w net.core.somaxconn=4096",
        "sysctl -w net.ipv4.tcp_mem='50000 75000 100000'",
        "28,232 ports",
    ]);
}

#[test]
fn without_a_number_it_judges_what_there_is_memory_for() {
    let fixture = Fixture::new().contained().nofile("20000", "20000");
    let machine = fixture.machine();
    let verdict = Verdict::of(&machine, DEFAULT, None, false);
    assert!(!verdict.asked);
    assert_eq!(verdict.wish.conns, 6_200_000, "of 30 GiB");
    let keys: Vec<Key> = verdict.obstacles.iter().map(|obstacle| obstacle.key).collect();
    assert_eq!(keys, [Key::Descriptors], "memory is not in the way of what fits it");
    assert_eq!(json::value(&machine, &verdict)["fits"], serde_json::Value::Null);
}

#[test]
fn unlimited_is_no_number() {
    let fixture = Fixture::new().nofile("unlimited", "unlimited");
    let judged = fixture.judge(1_000_000);
    assert!(judged.verdict.fits());
    judged.says(&["hard unlimited"]);
    let value = json::value(&judged.machine, &judged.verdict);
    assert_eq!(value["machine"]["nofile_hard"], serde_json::Value::Null);
    assert_eq!(value["fits"], true);
    assert_eq!(value["narrowest"]["plain"], "memory");
}

#[test]
fn json_says_what_the_text_says() {
    let judged = Fixture::new().nofile("1024", "4096").with("/proc/sys/fs/nr_open", "4096");
    let judged = judged.judge(1_000_000);
    let value = json::value(&judged.machine, &judged.verdict);
    assert_eq!(value["fits"], false);
    assert_eq!(value["narrowest"]["tls"], "RLIMIT_NOFILE");
    assert_eq!(value["obstacles"][0]["sysctl"]["fs.nr_open"], "1000448");
    let commands = value["obstacles"][0]["commands"].as_array().unwrap();
    assert!(commands.len() >= 3);
    for command in commands {
        judged.says(&[command.as_str().unwrap()]);
    }
    judged.says(&[value["then"]["command"].as_str().unwrap()]);
}

#[test]
fn machine_without_proc_cannot_be_judged() {
    let reason = Machine::read(|_: &Path| None, Fixture::new().probed).unwrap_err();
    assert!(reason.contains("/proc/self/limits"), "{reason}");
    for path in ["/proc/self/limits", "/proc/self/status", "/proc/meminfo"] {
        let mut fixture = Fixture::new();
        fixture.files.remove(path);
        let read = |path: &Path| fixture.files.get(path.to_str().unwrap()).cloned();
        let reason = Machine::read(read, fixture.probed.clone()).unwrap_err();
        assert!(reason.contains(path), "{reason}");
    }
}

/// What containers hide is taken to be no limit; nothing is made up for it.
#[test]
fn what_the_kernel_does_not_tell_bounds_nothing() {
    let mut fixture = Fixture::new();
    fixture.files.retain(|path, _| {
        ["/proc/self/limits", "/proc/self/status", "/proc/meminfo"].contains(path)
    });
    let judged = fixture.judge(1_000_000);
    assert!(judged.verdict.fits());
    judged.says(&["not visible here"]);
}
