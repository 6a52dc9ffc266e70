//! Makes a ring: its flags, its size, and what it is allowed to do.
//!
//! A ring belongs to the thread that makes it. It starts disabled, is restricted to the operations
//! this driver uses, and is enabled then: a fault in another operation of the kernel is out of
//! reach of whoever might take this process over.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};
use rustix::process::{Resource, getrlimit};

/// Entries of the smallest ring that is tried when memory is short.
const ENTRIES_MIN: u32 = 64;
/// Completions per submission: a turn's receives, sends, polls and accepts together.
const COMPLETIONS_PER_ENTRY: u32 = 4;
/// `IORING_REGISTER_FILES_UPDATE`: how an open socket gets into the file table.
const REGISTER_FILES_UPDATE: u8 = 6;
/// Slots of a file table that the kernel allows at most.
pub(super) const FILE_SLOTS_MAX: u32 = 1 << 20;

/// A ring of `entries` submissions, or fewer where memory is short. With `file_slots`, it has a
/// table for that many direct descriptors.
pub(super) fn build(entries: u32, file_slots: Option<u32>) -> io::Result<IoUring> {
    let ring = build_largest(entries)?;
    if let Some(slots) = file_slots {
        ring.submitter()
            .register_files_sparse(clamp_slots(slots))
            .map_err(|error| named("io_uring_register(FILES2)", &error))?;
    }
    ring.submitter()
        .register_restrictions(&mut restrictions(file_slots.is_some()))
        .map_err(|error| named("io_uring_register(RESTRICTIONS)", &error))?;
    ring.submitter()
        .register_enable_rings()
        .map_err(|error| named("io_uring_register(ENABLE_RINGS)", &error))?;
    Ok(ring)
}

fn build_largest(entries: u32) -> io::Result<IoUring> {
    let mut entries = entries;
    loop {
        match build_disabled(entries) {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory && entries > ENTRIES_MIN => {
                entries = (entries / 2).max(ENTRIES_MIN);
            }
            Err(error) => {
                let text = format!("{error}{}", advice(error.kind(), entries));
                return Err(named("io_uring_setup", &io::Error::new(error.kind(), text)));
            }
            Ok(ring)
                if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() =>
            {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "io_uring lacks waits with a time limit, or drops completions",
                ));
            }
            Ok(ring) => return Ok(ring),
        }
    }
}

fn build_disabled(entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .dontfork()
        .setup_cqsize(entries * COMPLETIONS_PER_ENTRY)
        .setup_single_issuer()
        .setup_defer_taskrun()
        // Tells in shared memory whether there is work that only an enter would run.
        .setup_taskrun_flag()
        // One operation that is refused does not hold up those behind it.
        .setup_submit_all()
        .setup_r_disabled()
        .build(entries)
}

fn restrictions(direct: bool) -> Vec<Restriction> {
    let always = [
        opcode::AcceptMulti::CODE,
        opcode::PollAdd::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::AsyncCancel::CODE,
    ];
    // Without a descriptor there is no system call for these.
    let for_slots = [opcode::Close::CODE, opcode::Shutdown::CODE, opcode::SetSockOpt::CODE];
    let codes = always.iter().chain(if direct { &for_slots[..] } else { &[] });
    let mut list: Vec<_> = codes.map(|code| Restriction::sqe_op(*code)).collect();
    let flags = if direct { Flags::FIXED_FILE | Flags::SKIP_SUCCESS } else { Flags::SKIP_SUCCESS };
    list.push(Restriction::sqe_flags_allowed(flags.bits()));
    if direct {
        list.push(Restriction::register_op(REGISTER_FILES_UPDATE));
    }
    list
}

/// No more slots than the kernel would give: it counts them against the descriptor limit.
fn clamp_slots(slots: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    slots.min(FILE_SLOTS_MAX).min(u32::try_from(limit).unwrap_or(u32::MAX))
}

fn advice(kind: io::ErrorKind, entries: u32) -> String {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "; forbidden by seccomp or by kernel.io_uring_disabled".to_owned()
        }
        io::ErrorKind::Unsupported => "; this kernel is built without it".to_owned(),
        io::ErrorKind::InvalidInput => "; it takes Linux 6.1 or later".to_owned(),
        io::ErrorKind::OutOfMemory => {
            let kib = ring_bytes(entries).div_ceil(1024);
            format!("; raise the memory or memlock limit: {kib} KiB per core are the least")
        }
        _ => String::new(),
    }
}

/// Memory of a ring: 64 bytes per submission, 4 for its place in line, 16 per completion.
fn ring_bytes(entries: u32) -> u64 {
    u64::from(entries) * (64 + 4 + 16 * u64::from(COMPLETIONS_PER_ENTRY))
}

fn named(operation: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u01_reason_names_what_to_change() {
        assert!(advice(io::ErrorKind::PermissionDenied, 64).contains("seccomp"));
        assert!(advice(io::ErrorKind::InvalidInput, 64).contains("6.1"));
    }

    #[test]
    fn u17_lack_of_memory_names_the_memory_needed() {
        assert!(advice(io::ErrorKind::OutOfMemory, ENTRIES_MIN).contains("9 KiB"));
    }

    #[test]
    fn u20_ring_refuses_an_operation_that_is_not_in_use() {
        let Ok(mut ring) = build(64, None) else { return };
        let nop = opcode::Nop::new().build().user_data(1);
        // SAFETY: a NOP refers to no memory.
        #[expect(unsafe_code, reason = "the test writes to the ring itself")]
        unsafe { ring.submission().push(&nop) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        let refused = ring.completion().next().unwrap().result();
        assert_eq!(refused, -rustix::io::Errno::ACCESS.raw_os_error());
    }

    #[test]
    fn completions_have_four_times_the_room_of_submissions() {
        let Ok(ring) = build(128, Some(16)) else { return };
        assert_eq!((ring.params().sq_entries(), ring.params().cq_entries()), (128, 512));
    }
}
