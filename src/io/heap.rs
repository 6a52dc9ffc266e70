//! Freed memory goes back to the kernel.
//!
//! The allocator keeps what is freed between blocks that are still in use, however much it is. After
//! a peak that is the size of the peak, for as long as the process lives.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "an extension of the C library")
)]

/// Gives whole free pages back. Takes milliseconds for each hundred megabytes there are, so it is
/// for after a peak. Does nothing with C libraries that do not offer it.
pub(crate) fn release_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it takes no memory of ours, only the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
