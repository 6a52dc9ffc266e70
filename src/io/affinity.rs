//! Cores: which there are, how a list of them is written, and keeping a thread on one.
//!
//! It decides nothing: how many workers there are, and on which cores, is the server's affair.

use std::collections::BTreeSet;
use std::io;

use core_affinity::CoreId;

/// Largest core number in a list: Linux has no more, and core_affinity's masks hold 1024.
const CORE_MAX: usize = 1023;

/// The cores named by a list of numbers and ranges such as `0-3,6`, in ascending order, each once.
///
/// Whether there are such cores is not looked at here; [`Server`](crate::Server) does when it is
/// built.
///
/// # Errors
///
/// A sentence that names the part of the list which is neither a number nor a range.
pub fn parse_cores(list: &str) -> Result<Vec<usize>, String> {
    let mut cores = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        let malformed =
            || format!("`{part}` is not a list of cores: write numbers and ranges, such as 0-3,6");
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first = parse_core(first).ok_or_else(malformed)?;
        let last = parse_core(last).ok_or_else(malformed)?;
        if first > last {
            return Err(malformed());
        }
        cores.extend(first..=last);
    }
    Ok(cores.into_iter().collect())
}

/// The cores this process may run on, in ascending order; at least one.
///
/// What `taskset`, a cgroup's cpuset or a container leave over. If the kernel does not tell, as
/// many as there is parallelism, counted from 0.
pub(crate) fn usable_cores() -> Vec<usize> {
    let told = core_affinity::get_core_ids().filter(|ids| !ids.is_empty());
    let mut cores: Vec<usize> = match told {
        Some(ids) => ids.into_iter().map(|id| id.id).collect(),
        None => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    };
    cores.sort_unstable();
    cores
}

/// Keeps the calling thread on `core`.
pub(crate) fn pin_current(core: usize) -> io::Result<()> {
    if core_affinity::set_for_current(CoreId { id: core }) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends the process when the thread that holds it panics: the event loop itself, that is, for the
/// application's panics are caught.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// The list that `parse_cores` would read.
pub(crate) fn format_cores(cores: &[usize]) -> String {
    let runs = cores.chunk_by(|left, right| left + 1 == *right);
    let parts = runs.filter_map(|run| match run {
        [] => None,
        [core] => Some(core.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn parse_core(text: &str) -> Option<usize> {
    // `parse` would take a sign.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|core| is_number && *core <= CORE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_list_is_read() {
        for (list, cores) in [
            ("0", vec![0]),
            ("0-3,6", vec![0, 1, 2, 3, 6]),
            (" 4 , 2-2,4", vec![2, 4]),
            ("1023", vec![1023]),
        ] {
            assert_eq!(parse_cores(list).unwrap(), cores, "{list}");
        }
    }

    #[test]
    fn malformed_core_list_is_refused_with_the_part_named() {
        for (list, part) in [
            ("", ""),
            ("0,,1", ""),
            ("a", "a"),
            ("0,3-1", "3-1"),
            ("1-", "1-"),
            ("-1", "-1"),
            ("+1", "+1"),
            ("1-2-3", "1-2-3"),
            ("1024", "1024"),
            ("99999999999999999999", "99999999999999999999"),
        ] {
            let error = parse_cores(list).unwrap_err();
            assert!(error.starts_with(&format!("`{part}` is not")), "{error}");
        }
    }

    #[test]
    fn cores_are_written_as_they_are_read() {
        assert_eq!(format_cores(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(format_cores(&[]), "");
    }

    #[test]
    fn pinned_thread_may_run_on_one_core_only() {
        let core = *usable_cores().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_current(core).unwrap();
            usable_cores()
        });
        assert_eq!(pinned.join().unwrap(), [core]);
        assert!(pin_current(CORE_MAX).is_err(), "there is no such core");
    }
}
