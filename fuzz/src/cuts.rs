//! Ways to cut one run of bytes into reads.

/// Longest input that is also given byte by byte.
const SINGLE_BYTES_MAX: usize = 2048;

/// Places to cut `bytes` at, several ways: byte by byte, in two, and at random.
pub fn ways(bytes: &[u8]) -> Vec<Vec<usize>> {
    let mut random = random_of(bytes);
    let mut ways = Vec::new();
    if bytes.len() <= SINGLE_BYTES_MAX {
        ways.push((1..bytes.len()).collect());
    }
    ways.push(vec![random.usize(0..=bytes.len())]);
    for most in [4, 16] {
        ways.push(at_random(&mut random, bytes.len(), most));
    }
    ways
}

/// Up to `most` random places, which may be equal.
pub fn at_random(random: &mut fastrand::Rng, len: usize, most: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.usize(1..=most)).map(|_| random.usize(0..=len)).collect();
    cuts.sort_unstable();
    cuts
}

/// Chance that depends on the input and on nothing else (FNV-1a).
pub fn random_of(bytes: &[u8]) -> fastrand::Rng {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    fastrand::Rng::with_seed(hash)
}
