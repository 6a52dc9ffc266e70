//! Picks the kernel this CPU can run: the only place of the protocol code that calls functions
//! compiled for CPU features, and so the only one with `unsafe`.
//!
//! What a kernel computes is its own file's business. Each has a portable sibling with the same
//! answers, which other CPUs and Miri run. A test is one load of what the standard library cached.

use super::mask;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::utf8_wide;

/// Unmasks a payload of at least two lanes, and returns the OR of its bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "the dispatch to a kernel with CPU features")]
#[inline]
pub(super) fn unmask_wide(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the kernel's only precondition is a CPU with AVX2, and the line above tested it.
        return unsafe { mask::unmask_wide_avx2(bytes, key) };
    }
    mask::unmask_wide_portable(bytes, key)
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub(super) fn unmask_wide(bytes: &mut [u8], key: [u8; 4]) -> u8 {
    mask::unmask_wide_portable(bytes, key)
}

/// Whether the bytes are UTF-8, and end with a whole character.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "the dispatch to a kernel with CPU features")]
#[inline]
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    if bytes.len() >= utf8_wide::LEN_MIN && has_avx512() {
        // SAFETY: the kernel's only precondition is a CPU with the features it is compiled for,
        // and the line above tested them.
        return unsafe { utf8_wide::is_utf8(bytes) };
    }
    is_utf8_portable(bytes)
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    is_utf8_portable(bytes)
}

/// As [`is_utf8`], on every CPU: `simdutf8` picks for itself among what it has.
#[inline]
pub(super) fn is_utf8_portable(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Whether this CPU has what `utf8_wide` is compiled for. VBMI came after the CPUs that slow down
/// for wide registers, so nothing is lost by using it where it is.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vbmi")
}
