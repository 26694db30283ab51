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
mod params;

pub use cache::{Report, build_cache};
pub use dataset::{Dataset, Full, Item, Light, Page};
pub use hash::{Attempt, Outcome, final_hash, hash, seal};
pub use params::{
    ETCHASH, ETHASH, EpochRangeError, EthashEpoch, ITEM_BYTES, KAWPOW, LAST_EPOCH, PAGE_BYTES, Params,
    SeedFinder,
};

/// FNV's multiplier for 32 bits.
const FNV_PRIME: u32 = 0x0100_0193;

/// The family's mixing function: FNV's step (multiply, then xor) on whole words instead of bytes.
#[inline(always)]
pub fn fnv(a: u32, b: u32) -> u32 {
    a.wrapping_mul(FNV_PRIME) ^ b
}
