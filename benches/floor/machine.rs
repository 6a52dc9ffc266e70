//! On what, and when: a figure without its machine is worth nothing.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Processor, cores, kernel and date, in one line.
pub(crate) fn line() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let core_count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cpu}, {core_count} cores; Linux {}; {}", kernel.trim(), date())
}

/// Today in UTC, as `2025-01-31`.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_from_days(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Walks the years, then the months: nobody waits for this, and it is plain to see that it holds.
fn civil_from_days(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in (1..).zip(months) {
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
    }
    (year, 12, days + 1)
}
