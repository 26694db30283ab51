//! Ethash and its family: a light cache, a dataset made of it, and a hash that reads the dataset at random
//! (Ethash specification, revision 23: <https://ethereum.org/developers/docs/consensus-mechanisms/pow/mining/mining-algorithms/ethash>).
//!
//! ```text
//! seed -- Keccak-512 chain, three rounds of RandMemoHash --> light cache, 16 MiB and growing
//! item i of the dataset: one item of the cache, mixed with 256 others that it chooses on the way
//! hash: 64 pages (two items each) of the dataset, each chosen by what was read before
//! ```
//!
//! With the dataset in memory a hash takes 64 reads; with the light cache alone it computes 128 items, of
//! 256 reads each. Verifying takes the cache, searching the dataset.
//!
//! Numbers are little-endian in all memory here, so that a part of an epoch is the same bytes everywhere.

mod cache;
mod dataset;
mod hash;
#[cfg(target_arch = "x86_64")]
mod keccak_lanes;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod params;
mod portable;

use std::ops::ControlFlow;

pub use cache::{Report, build_cache};
pub use dataset::{Dataset, Full, Item, Light, Page};
pub use hash::{Attempt, Outcome, final_hash, hash, seal};
#[cfg(target_arch = "x86_64")]
pub use lanes::LanesKernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use lanes::Remainder;
pub use params::{
    ETCHASH, ETHASH, EpochRangeError, EthashEpoch, Growth, ITEM_BYTES, KAWPOW, LAST_EPOCH, PAGE_BYTES,
    Params, SeedFinder,
};
pub use portable::Portable;

/// FNV's multiplier for 32 bits.
const FNV_PRIME: u32 = 0x0100_0193;

/// The family's mixing function: FNV's step (multiply, then xor) on whole words instead of bytes.
#[inline(always)]
pub fn fnv(a: u32, b: u32) -> u32 {
    a.wrapping_mul(FNV_PRIME) ^ b
}

/// One way to compute everything that the family needs, a thread's worth of it at a time. What it works
/// on is handed in; it keeps nothing between calls and allocates nothing.
pub trait Kernel: Send + Sync {
    /// The name in reports and arguments.
    fn name(&self) -> &'static str;

    /// Calls work on this many hashes at a time: any other count is right, multiples of it are fast.
    fn lanes(&self) -> usize;

    /// Fills a light cache: see [`build_cache()`].
    fn build_cache(&self, seed: &[u8; 32], cache: &mut [u8], report: Report<'_>) -> ControlFlow<()>;

    /// Computes the dataset's items from `first` on.
    fn items(&self, light: &Light<'_>, first: u32, out: &mut [Item]);

    /// Computes the items of the dataset that have these indices, each into the place beside it.
    ///
    /// # Panics
    /// If there are more or fewer places than indices.
    fn items_at(&self, light: &Light<'_>, indices: &[u32], out: &mut [Item]);

    /// Hashes each attempt into the outcome beside it, with pages computed from the light cache.
    ///
    /// # Panics
    /// If there are more or fewer outcomes than attempts.
    fn hash_light(&self, light: &Light<'_>, attempts: &[Attempt], out: &mut [Outcome]);

    /// Hashes each attempt into the outcome beside it, with pages from memory.
    ///
    /// # Panics
    /// If there are more or fewer outcomes than attempts.
    fn hash_full(&self, full: &Full<'_>, attempts: &[Attempt], out: &mut [Outcome]);
}
