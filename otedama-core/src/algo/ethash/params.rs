//! Epochs of the family: their lengths, sizes and seeds (Ethash specification, revision 23; ECIP-1099).
//!
//! Light cache and dataset grow by a fixed number of bytes an epoch, rounded down to a prime number of
//! items so that no short cycle of indices exists. The seed of an epoch is 32 zero bytes, hashed with
//! Keccak-256 once for each epoch before it.
//!
//! ```text
//!                 blocks an epoch    seed of epoch n    parents of an item
//! Ethash                   30,000           K^n(0)                     256
//! Etchash                  60,000          K^2n(0)                     256
//! KawPow                    7,500           K^n(0)                     512
//! ```
//!
//! ECIP-1099 doubled the epochs of Ethereum Classic at block 11,700,000, and left the seed advancing every
//! 30,000 blocks: sizes went back from those of epoch 390 to those of epoch 195, the seed did not. Number n
//! alone would then name two memories, for n from 195 to 389. So an epoch of the [`ETCHASH`] row is always
//! one of 60,000 blocks, and earlier blocks of that chain belong to epochs of the [`ETHASH`] row.

use std::collections::HashMap;

use crate::algorithm::Algorithm;
use crate::primitive::keccak::keccak256;

/// The last epoch: the items of the next one's dataset could not be numbered by 32 bits.
pub const LAST_EPOCH: u32 = 32_639;

/// Bytes of an item of the light cache or of the dataset.
pub const ITEM_BYTES: usize = 64;

/// Bytes of a page, what a hash of Ethash reads of the dataset at a time: two items.
pub const PAGE_BYTES: usize = 2 * ITEM_BYTES;

/// A row of the family's parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct Params {
    /// Whose row it is.
    pub algorithm: Algorithm,
    /// Blocks in an epoch.
    pub epoch_blocks: u32,
    /// How many times the seed is hashed from one epoch to the next.
    pub seed_steps: u32,
    /// How many items of the light cache a dataset item is made from.
    pub parents: u32,
    /// The size of the light cache.
    pub cache_size: Growth,
    /// The size of the dataset.
    pub dataset_size: Growth,
    /// The row that ruled a chain before this one, and the block at which that ended.
    pub before: Option<(&'static Params, u64)>,
}

/// Bytes by epoch, before they are rounded down to a prime number of items: `first + each * number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Bytes in epoch 0, at least three items.
    pub first: u64,
    /// Bytes more in each epoch.
    pub each: u64,
}

/// 16 MiB and 128 KiB an epoch.
const CACHE_SIZE: Growth = Growth { first: 1 << 24, each: 1 << 17 };

/// 1 GiB and 8 MiB an epoch.
const DATASET_SIZE: Growth = Growth { first: 1 << 30, each: 1 << 23 };

/// Ethash as Ethereum mined with it.
pub static ETHASH: Params = Params {
    algorithm: Algorithm::Ethash,
    epoch_blocks: 30_000,
    seed_steps: 1,
    parents: 256,
    cache_size: CACHE_SIZE,
    dataset_size: DATASET_SIZE,
    before: None,
};

/// Ethash with the epochs of ECIP-1099, on Ethereum Classic's main network.
pub static ETCHASH: Params = Params {
    algorithm: Algorithm::Etchash,
    epoch_blocks: 60_000,
    seed_steps: 2,
    parents: 256,
    cache_size: CACHE_SIZE,
    dataset_size: DATASET_SIZE,
    before: Some((&ETHASH, 11_700_000)),
};

/// What KawPow, ProgPoW on Ravencoin, shares with Ethash.
pub static KAWPOW: Params = Params {
    algorithm: Algorithm::KawPow,
    epoch_blocks: 7_500,
    seed_steps: 1,
    parents: 512,
    cache_size: CACHE_SIZE,
    dataset_size: DATASET_SIZE,
    before: None,
};

/// An epoch that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochRangeError {
    /// A number past the last epoch.
    #[error("{algorithm} epoch {number} is out of range: expected 0 to {LAST_EPOCH}")]
    Number {
        /// The algorithm.
        algorithm: Algorithm,
        /// The number given.
        number: u32,
    },
    /// A block past the last epoch.
    #[error("{algorithm} has no block {height}: expected 0 to {last}", last = last_height(*.algorithm))]
    Height {
        /// The algorithm.
        algorithm: Algorithm,
        /// The height given.
        height: u64,
    },
}

/// An epoch of one row of the family; its number is at most [`LAST_EPOCH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthashEpoch {
    params: &'static Params,
    number: u32,
}

impl Params {
    /// The row of an algorithm, if it is of this family.
    pub fn of(algorithm: Algorithm) -> Option<&'static Params> {
        [&ETHASH, &ETCHASH, &KAWPOW].into_iter().find(|params| params.algorithm == algorithm)
    }

    /// The epoch with this number.
    ///
    /// # Errors
    /// [`EpochRangeError::Number`].
    pub fn epoch(&'static self, number: u32) -> Result<EthashEpoch, EpochRangeError> {
        if number > LAST_EPOCH {
            return Err(EpochRangeError::Number { algorithm: self.algorithm, number });
        }
        Ok(EthashEpoch { params: self, number })
    }

    /// The epoch of the block at this height: of this row, or of the one before it.
    ///
    /// # Errors
    /// [`EpochRangeError::Height`].
    pub fn epoch_at(&'static self, height: u64) -> Result<EthashEpoch, EpochRangeError> {
        if let Some((before, end)) = self.before
            && height < end
        {
            return before.epoch_at(height);
        }
        let out_of_range = EpochRangeError::Height { algorithm: self.algorithm, height };
        let number = u32::try_from(height / u64::from(self.epoch_blocks)).map_err(|_| out_of_range)?;
        self.epoch(number).map_err(|_| out_of_range)
    }
}

impl EthashEpoch {
    /// Its row.
    pub fn params(&self) -> &'static Params {
        self.params
    }

    /// Its number within its row.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The seed of its light cache; what pools send to name an epoch. Hashes once for each epoch of
    /// 30,000 (7,500) blocks before it, less than a microsecond each.
    pub fn seed(&self) -> [u8; 32] {
        (0..self.number * self.params.seed_steps).fold([0; 32], |seed, _| keccak256(&seed))
    }

    /// The size of the light cache in bytes: the largest below its growth that is a prime number of items.
    pub fn cache_bytes(&self) -> u64 {
        size(self.params.cache_size, self.number, ITEM_BYTES)
    }

    /// The size of the dataset in bytes: the largest below its growth that is a prime number of pages.
    pub fn dataset_bytes(&self) -> u64 {
        size(self.params.dataset_size, self.number, PAGE_BYTES)
    }
}

/// Recognises epochs by their seeds. Remembers what it has hashed: the first unknown seed costs 65,000
/// hashes (some 20 ms), every other query a look into a table of at most 2 MiB.
#[derive(Clone, Debug)]
pub struct SeedFinder {
    /// How often zero was hashed to give each seed.
    steps: HashMap<[u8; 32], u32>,
    last: [u8; 32],
}

impl Default for SeedFinder {
    fn default() -> Self {
        SeedFinder { steps: HashMap::from([([0; 32], 0)]), last: [0; 32] }
    }
}

impl SeedFinder {
    /// Knows the seed of epoch 0.
    pub fn new() -> SeedFinder {
        SeedFinder::default()
    }

    /// The epoch of a chain under `params` that has this seed, if one up to [`LAST_EPOCH`] has.
    pub fn find(&mut self, params: &'static Params, seed: &[u8; 32]) -> Option<EthashEpoch> {
        let steps = self.steps(seed, LAST_EPOCH * params.seed_steps)?;
        let first = params.before.map_or(0, |(_, end)| end / u64::from(params.epoch_blocks));
        let number = steps / params.seed_steps;
        match params.before {
            Some((before, _)) if u64::from(number) < first => before.epoch(steps / before.seed_steps).ok(),
            _ if steps % params.seed_steps == 0 => params.epoch(number).ok(),
            _ => None,
        }
    }

    fn steps(&mut self, seed: &[u8; 32], most: u32) -> Option<u32> {
        loop {
            if let Some(&steps) = self.steps.get(seed) {
                return (steps <= most).then_some(steps);
            }
            let next = self.steps.len() as u32;
            if next > most {
                return None;
            }
            self.last = keccak256(&self.last);
            self.steps.insert(self.last, next);
        }
    }
}

/// The largest prime below `bound`, which is above 2.
fn largest_prime_below(bound: u32) -> u32 {
    (2..bound).rev().find(|&n| is_prime(n)).expect("2 is a prime below any such bound")
}

/// The last epoch's dataset has fewer than 2^31 pages.
fn size(growth: Growth, number: u32, item_bytes: usize) -> u64 {
    let items = (growth.first + growth.each * u64::from(number)) / item_bytes as u64;
    u64::from(largest_prime_below(items as u32)) * item_bytes as u64
}

/// Miller and Rabin's test. The bases 2, 7 and 61 leave no doubt below 4,759,123,141 (Jaeschke 1993).
fn is_prime(n: u32) -> bool {
    for small in [2, 3, 5, 7, 11, 13, 61] {
        if n.is_multiple_of(small) {
            return n == small;
        }
    }
    if n < 2 {
        return false;
    }
    let twos = (n - 1).trailing_zeros();
    [2, 7, 61].into_iter().all(|base| {
        let mut x = power(base, (n - 1) >> twos, n);
        // A prime has no square roots of 1 but 1 and -1.
        x == 1
            || (0..twos).any(|_| {
                let found = x == n - 1;
                x = multiply(x, x, n);
                found
            })
    })
}

fn power(base: u32, exponent: u32, modulus: u32) -> u32 {
    (0..u32::BITS).rev().fold(1, |x, bit| {
        let square = multiply(x, x, modulus);
        if exponent >> bit & 1 == 1 { multiply(square, base, modulus) } else { square }
    })
}

fn multiply(a: u32, b: u32, modulus: u32) -> u32 {
    (u64::from(a) * u64::from(b) % u64::from(modulus)) as u32
}

fn last_height(algorithm: Algorithm) -> u64 {
    Params::of(algorithm).map_or(0, |params| u64::from(params.epoch_blocks) * u64::from(LAST_EPOCH + 1) - 1)
}
