//! A process and its descendants in `/proc`: CPU time, memory, threads, descriptors.
//!
//! Parsers take text; the readers around them are thin. CPU time comes from the kernel's CPU clock
//! of the process, which counts nanoseconds and keeps the time of threads that have ended. The
//! files of `/proc` have only ticks of 10 ms or, in `schedstat`, forget ended threads.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// User and system time of its own, in ticks.
    pub(crate) own_ticks: u64,
    /// The same of all children that it has waited for.
    pub(crate) reaped_ticks: u64,
    pub(crate) threads: u64,
    /// Start, in ticks since boot: with the PID, the identity of the process.
    pub(crate) started_ticks: u64,
    pub(crate) rss_pages: u64,
}

/// What `/proc/PID/smaps_rollup` says of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rollup {
    pub(crate) rss_bytes: u64,
    pub(crate) pss_bytes: u64,
}

/// CPU time that a set of processes has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) total: Duration,
    /// Whether some of it came in ticks, for want of the CPU clock.
    pub(crate) in_ticks: bool,
}

/// Figures of a set of processes, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu: CpuTime,
    pub(crate) rss_bytes: u64,
    /// `None` where the kernel does not tell.
    pub(crate) pss_bytes: Option<u64>,
    pub(crate) threads: u64,
    /// `None` where the kernel does not tell.
    pub(crate) descriptors: Option<u64>,
    pub(crate) processes: usize,
}

/// Takes `/proc/PID/stat` apart.
pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold spaces and parentheses itself, so the last one ends it.
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // Numbered as in proc(5), where the state is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |index: usize| field(index)?.parse::<u64>().ok();
    // The kernel prints waited-for times as signed numbers.
    Some(Stat {
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        own_ticks: number(14)?.saturating_add(number(15)?),
        reaped_ticks: number(16)?.saturating_add(number(17)?),
        threads: number(20)?,
        started_ticks: number(22)?,
        rss_pages: number(24)?,
    })
}

/// Takes `/proc/PID/smaps_rollup` apart.
pub(crate) fn parse_rollup(text: &str) -> Option<Rollup> {
    Some(Rollup {
        rss_bytes: number_after(text, "Rss:")?.checked_mul(1024)?,
        pss_bytes: number_after(text, "Pss:")?.checked_mul(1024)?,
    })
}

/// The number of the line that begins with `key`, as in `Rss:  1744 kB`.
pub(crate) fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// `root`, its descendants and all of process group `group`, out of (PID, stat) of a whole machine.
pub(crate) fn family(all: &[(u32, Stat)], root: u32, group: Option<u32>) -> Vec<u32> {
    let mut found = vec![root];
    for (pid, stat) in all {
        if group == Some(stat.group) && !found.contains(pid) {
            found.push(*pid);
        }
    }
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        for (pid, stat) in all {
            if stat.parent == parent && !found.contains(pid) {
                found.push(*pid);
            }
        }
        next += 1;
    }
    found
}

/// Reads `/proc/PID/stat`.
pub(crate) fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has an unknown form"))
    })
}

/// PID and stat of each process this one may see.
pub(crate) fn all() -> io::Result<Vec<(u32, Stat)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while the list is read.
        if let Ok(stat) = stat(pid) {
            found.push((pid, stat));
        }
    }
    Ok(found)
}

/// Adds up the figures of processes. The first must be there; others may end meanwhile.
pub(crate) fn usage(pids: &[u32]) -> io::Result<Usage> {
    let mut sum = Usage {
        cpu: CpuTime::default(),
        rss_bytes: 0,
        pss_bytes: Some(0),
        threads: 0,
        descriptors: Some(0),
        processes: 0,
    };
    for (index, &pid) in pids.iter().enumerate() {
        let stat = match stat(pid) {
            Ok(stat) => stat,
            Err(error) if index == 0 => return Err(error),
            Err(_) => continue,
        };
        add_cpu(&mut sum.cpu, pid, &stat);
        sum.threads += stat.threads;
        sum.processes += 1;
        let rollup = rollup(pid);
        sum.rss_bytes += rollup.map_or_else(|| pages(stat.rss_pages), |rollup| rollup.rss_bytes);
        let pss_bytes = rollup.map(|rollup| rollup.pss_bytes);
        let descriptors = descriptors(pid);
        // A process that has ended meanwhile has no memory and no descriptors to tell of.
        let known = pss_bytes.is_some() && descriptors.is_some();
        if known || !has_ended(pid) {
            sum.pss_bytes = add(sum.pss_bytes, pss_bytes);
            sum.descriptors = add(sum.descriptors, descriptors);
        }
    }
    Ok(sum)
}

/// CPU time and resident bytes only: cheap for us, and without a walk through the server's pages,
/// which `smaps_rollup` makes under a lock that the server needs.
pub(crate) fn light_usage(pids: &[u32]) -> io::Result<(CpuTime, u64)> {
    let mut cpu = CpuTime::default();
    let mut rss_bytes = 0;
    for (index, &pid) in pids.iter().enumerate() {
        match stat(pid) {
            Ok(stat) => {
                add_cpu(&mut cpu, pid, &stat);
                rss_bytes += pages(stat.rss_pages);
            }
            Err(error) if index == 0 => return Err(error),
            Err(_) => {}
        }
    }
    Ok((cpu, rss_bytes))
}

/// CPU time of one process from its CPU clock, which any user may read.
pub(crate) fn cpu_clock(pid: u32) -> Option<Duration> {
    let pid = i32::try_from(pid).ok()?;
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok()?.now().ok()?;
    Some(Duration::from(time))
}

/// Number of open descriptors.
pub(crate) fn descriptors(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    // From Linux 6.2 the size of the folder is the count. Listing it instead makes the kernel
    // create an inode and a directory entry for each descriptor, some 900 bytes, which would show
    // up as kernel memory of the connections.
    match fs::metadata(&folder) {
        Ok(metadata) if metadata.size() > 0 => Some(metadata.size()),
        _ => Some(fs::read_dir(&folder).ok()?.count() as u64),
    }
}

/// CPU time of a process, with that of the children it has waited for: when a worker process ends,
/// its time moves there and the sum over the family stays.
fn add_cpu(sum: &mut CpuTime, pid: u32, stat: &Stat) {
    let own = cpu_clock(pid).unwrap_or_else(|| {
        sum.in_ticks = true;
        ticks(stat.own_ticks)
    });
    sum.total += own + ticks(stat.reaped_ticks);
}

fn has_ended(pid: u32) -> bool {
    stat(pid).map_or(true, |stat| matches!(stat.state, 'Z' | 'X'))
}

fn rollup(pid: u32) -> Option<Rollup> {
    parse_rollup(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn add(sum: Option<u64>, part: Option<u64>) -> Option<u64> {
    Some(sum? + part?)
}

fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(count.saturating_mul(1_000_000) / per_second)
}

fn pages(count: u64) -> u64 {
    count * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    const STAT: &str = "29704 (cat) R 29699 29690 27356 0 -1 4194304 105 0 3 0 11 22 33 44 20 0 7 \
        0 1405908 3133440 427 18446744073709551615 94375853723648 94375853743529 140729285158304 0 \
        0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 94375853759536 94375853761152 94376463233024 0 0 0 0 0\n";

    /// Stops the child when the test ends, however it ends.
    struct Guard(Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn spawn(program: &str, args: &[&str]) -> Guard {
        Guard(Command::new(program).args(args).spawn().unwrap())
    }

    fn stat_of(parent: u32, group: u32) -> Stat {
        Stat { parent, group, ..parse_stat(STAT).unwrap() }
    }

    #[test]
    fn stat_gives_each_field_its_place() {
        let expected = Stat {
            state: 'R',
            parent: 29699,
            group: 29690,
            own_ticks: 33,
            reaped_ticks: 77,
            threads: 7,
            started_ticks: 1_405_908,
            rss_pages: 427,
        };
        assert_eq!(parse_stat(STAT), Some(expected));
    }

    #[test]
    fn name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let strange = STAT.replace("(cat)", "(a) S 1 (b c) )");
        assert_eq!(parse_stat(&strange), parse_stat(STAT));
    }

    #[test]
    fn stat_of_an_old_kernel_with_fewer_fields_is_understood() {
        let old: Vec<&str> = STAT.split_ascii_whitespace().take(24).collect();
        assert_eq!(parse_stat(&old.join(" ")), parse_stat(STAT));
    }

    #[test]
    fn broken_stat_is_refused() {
        for text in ["", "1 (sh", "1 (sh) S", "1 (sh) S x 1 1 0 -1 0 0 0 0 0 0 0 0 0 0 0 1 0 5 6 7"]
        {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }

    #[test]
    fn rollup_takes_pss_and_not_its_relatives() {
        let text = "55-7f ---p 00000000 00:00 0  [rollup]\nRss:  1744 kB\nPss:   322 kB\n\
                    Pss_Dirty:  112 kB\nPss_Anon: 112 kB\nSwapPss:  9 kB\n";
        let expected = Rollup { rss_bytes: 1744 * 1024, pss_bytes: 322 * 1024 };
        assert_eq!(parse_rollup(text), Some(expected));
        assert_eq!(parse_rollup("Rss: 1 kB\nSwapPss: 9 kB\n"), None);
    }

    #[test]
    fn family_is_root_descendants_and_group_but_no_strangers() {
        let all = [
            (30, stat_of(20, 5)),
            (1, stat_of(0, 1)),
            (10, stat_of(1, 10)),
            (20, stat_of(10, 10)),
            (40, stat_of(1, 10)),
            (50, stat_of(40, 50)),
            (60, stat_of(1, 60)),
        ];
        assert_eq!(family(&all, 10, None), [10, 20, 30]);
        assert_eq!(family(&all, 10, Some(10)), [10, 20, 40, 30, 50]);
        assert_eq!(family(&all, 99, None), [99]);
    }

    #[test]
    fn family_ends_even_if_parents_go_round_in_a_circle() {
        let all = [(2, stat_of(3, 1)), (3, stat_of(2, 1))];
        assert_eq!(family(&all, 2, None), [2, 3]);
    }

    #[test]
    fn own_cpu_clock_counts_what_is_burnt_and_little_more() {
        let me = std::process::id();
        let ticks_before = ticks(stat(me).unwrap().own_ticks);
        let before = cpu_clock(me).unwrap();
        assert!(before + Duration::from_millis(20) >= ticks_before);
        while cpu_clock(me).unwrap() < before + Duration::from_millis(3) {
            std::hint::black_box(0);
        }
        let usage = usage(&[me]).unwrap();
        assert!(usage.cpu.total >= before + Duration::from_millis(3) && !usage.cpu.in_ticks);
    }

    #[test]
    fn cpu_time_of_an_ended_thread_is_kept() {
        let me = std::process::id();
        let before = cpu_clock(me).unwrap();
        let burnt = std::thread::spawn(|| {
            let tid = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            while super::super::own::thread_clock(tid).unwrap() < Duration::from_millis(8) {}
        });
        burnt.join().unwrap();
        assert!(cpu_clock(me).unwrap() - before >= Duration::from_millis(8));
    }

    #[test]
    fn own_usage_is_plausible_and_follows_what_is_allocated() {
        let me = std::process::id();
        let before = usage(&[me]).unwrap();
        let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = usage(&[me]).unwrap();
        // Other tests run at the same time, hence the room.
        assert!(after.rss_bytes >= before.rss_bytes + (48 << 20));
        assert!(after.pss_bytes.unwrap() <= after.rss_bytes);
        assert!(light_usage(&[me]).unwrap().1 >= 48 << 20);
        assert!(after.threads >= 2 && after.processes == 1);
        drop(memory);
    }

    #[test]
    fn descriptors_of_a_child_are_counted_exactly() {
        let count = |script: &str| {
            let child = spawn("sh", &["-c", script]);
            std::thread::sleep(Duration::from_millis(100));
            descriptors(child.0.id()).unwrap()
        };
        let few = count("exec sleep 30");
        let more = count("exec 5</dev/null 6</dev/null 7</dev/null; exec sleep 30");
        assert_eq!(more, few + 3);
    }

    #[test]
    fn sleeping_child_uses_memory_and_almost_no_cpu() {
        let child = spawn("sleep", &["30"]);
        std::thread::sleep(Duration::from_millis(100));
        let usage = usage(&[child.0.id()]).unwrap();
        assert_eq!((usage.threads, usage.processes), (1, 1));
        assert!(usage.rss_bytes > 100 << 10 && usage.cpu.total < Duration::from_millis(80));
        assert!(usage.descriptors.unwrap() >= 3);
    }

    #[test]
    fn grandchild_behind_a_shell_is_found() {
        let child = spawn("sh", &["-c", "sleep 30 & wait"]);
        std::thread::sleep(Duration::from_millis(100));
        let pids = family(&all().unwrap(), child.0.id(), None);
        let found = usage(&pids).unwrap().processes;
        for pid in &pids[1..] {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        assert_eq!((pids.len(), found), (2, 2));
    }

    #[test]
    fn cpu_time_of_a_waited_for_child_stays_in_the_sum() {
        let loops = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        let child = spawn("sh", &["-c", &format!("sh -c '{loops}'; sleep 30")]);
        let pid = child.0.id();
        let mut most = Duration::ZERO;
        loop {
            std::thread::sleep(Duration::from_millis(5));
            let pids = family(&all().unwrap(), pid, None);
            let used = usage(&pids).unwrap().cpu.total;
            most = most.max(used);
            let name = pids.get(1).map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")));
            if matches!(name, Some(Ok(name)) if name == "sleep\n") {
                for pid in &pids[1..] {
                    let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                assert!(most > Duration::from_millis(30), "{most:?}");
                assert!(used + Duration::from_millis(30) >= most, "{used:?} after {most:?}");
                return;
            }
        }
    }

    #[test]
    fn zombie_neither_adds_memory_nor_hides_that_of_the_others() {
        let mut child = spawn("sh", &["-c", "exit 0"]);
        while !has_ended(child.0.id()) {}
        let usage = usage(&[std::process::id(), child.0.id()]).unwrap();
        assert_eq!(usage.processes, 2);
        assert!(usage.pss_bytes.unwrap() > 0 && usage.descriptors.unwrap() > 0);
        assert!(!has_ended(std::process::id()));
        child.0.wait().unwrap();
        assert!(has_ended(child.0.id()));
    }

    #[test]
    fn process_that_is_gone_is_an_error_only_as_the_first() {
        let pid = {
            let child = spawn("true", &[]);
            child.0.id()
        };
        assert!(usage(&[pid]).is_err());
        assert_eq!(usage(&[std::process::id(), pid]).unwrap().processes, 1);
    }
}
