//! What the benchmarks share: which kernels run here, what they hash, and the check that comes before
//! the clock starts. A benchmark of wrong digests is worth nothing, so a mismatch panics.

use otedama_core::scan::{Attempt, Hasher, Kernel, Setup, kernels};
use otedama_core::{Algorithm, Digest};

/// The kernels of an algorithm that this CPU can run. The others are named as skipped.
pub fn runnable(algorithm: Algorithm, setup: &Setup) -> Vec<&'static Kernel> {
    let (runnable, absent): (Vec<_>, Vec<_>) = kernels(algorithm).partition(|k| k.runs_on(&setup.cpu));
    for kernel in absent {
        let needs = kernel.needs().map_or("something else", |isa| isa.name());
        println!("SKIPPED: {} needs {needs}, which this CPU does not offer", kernel.name());
    }
    runnable
}

/// Different headers, as many as wanted, always the same ones.
pub fn headers(count: usize) -> Vec<[u8; 80]> {
    // SplitMix64's increment and first multiplier: cheap, and no two headers alike.
    let byte = |i: usize, j: usize| {
        let mixed = ((i * 80 + j) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
    };
    (0..count).map(|i| std::array::from_fn(|j| byte(i, j))).collect()
}

/// A kernel's hasher, its digests of these headers checked against the oracle's.
///
/// # Panics
/// If it cannot be made, or one digest differs.
pub fn checked_hasher(
    kernel: &'static Kernel,
    setup: &Setup,
    headers: &[[u8; 80]],
    oracle: impl Fn(&[u8; 80]) -> [u8; 32],
) -> Box<dyn Hasher> {
    let mut hasher = kernel.hasher(setup).unwrap_or_else(|error| panic!("{error}"));
    let mut digests = vec![Digest::plain([0; 32]); headers.len()];
    hasher.hash_many(&attempts(headers), None, &mut digests).unwrap_or_else(|error| panic!("{error}"));
    for (header, digest) in headers.iter().zip(&digests) {
        assert_eq!(digest.pow.as_raw(), &oracle(header), "{} is wrong", kernel.name());
    }
    hasher
}

/// The headers as a hasher takes them.
pub fn attempts(headers: &[[u8; 80]]) -> Vec<Attempt<'_>> {
    headers.iter().map(|header| Attempt::Bytes(header)).collect()
}
