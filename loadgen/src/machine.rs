//! On what a run was made: a figure without its machine is worth nothing.
//!
//! It reads `/proc` once and never fails; what cannot be read is named as unknown.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine that the generator runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Name of the processor.
    pub(crate) cpu: String,
    /// Logical ones, whether or not this process may use them.
    pub(crate) cores: usize,
    /// Release of the kernel, such as `6.18.1`.
    pub(crate) kernel: String,
    /// Of the whole machine.
    pub(crate) memory_bytes: u64,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let uname = rustix::system::uname();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let architecture = uname.machine().to_string_lossy();
        Self {
            cpu: cpu_name(&cpuinfo)
                .unwrap_or_else(|| format!("unknown processor ({architecture})")),
            cores: core_count(&cpuinfo),
            kernel: uname.release().to_string_lossy().into_owned(),
            memory_bytes: memory_bytes(&meminfo).unwrap_or(0),
        }
    }
}

/// x86 names the model; most others, 64-bit ARM among them, do not.
fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn core_count(cpuinfo: &str) -> usize {
    match cpuinfo.lines().filter(|line| is_processor(line)).count() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// `processor\t: 0`, and not the `Processor : ARMv7 ...` of old kernels.
fn is_processor(line: &str) -> bool {
    line.split_once(':').is_some_and(|(key, _)| key.trim_end() == "processor")
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_cores_a_kernel_and_memory() {
        let machine = Machine::here();
        assert!(!machine.cpu.is_empty());
        assert!(machine.cores >= 1);
        assert!(machine.kernel.starts_with(|first: char| first.is_ascii_digit()), "{machine:?}");
        assert!(machine.memory_bytes > 16 << 20, "{machine:?}");
    }

    #[test]
    fn cpu_is_the_first_model_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\n\
                       model name\t: Other\n";
        assert_eq!(cpu_name(cpuinfo).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(core_count(cpuinfo), 2);
    }

    #[test]
    fn processor_without_a_model_name_is_counted_and_not_invented() {
        let cpuinfo = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_name(cpuinfo), None);
        assert_eq!(core_count(cpuinfo), 1);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
        assert_eq!(memory_bytes("MemTotal: many kB\n"), None);
    }
}
