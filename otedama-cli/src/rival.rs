//! The reference implementation of RandomX beside our kernels, through the crate randomx-rs: only with the
//! feature `rivals`, which needs cmake and a C++ compiler. Version 1, one thread, the same kind of pages.

use std::time::{Duration, Instant};

use otedama_core::HashRate;
use randomx_rs::{RandomXCache, RandomXDataset, RandomXError, RandomXFlag, RandomXVM};

/// Its name in tables.
pub(crate) const NAME: &str = "randomx-rs 1.6";

/// How many inputs it is given at a time: it fills one scratchpad while it hashes another.
const BATCH: usize = 32;

/// A machine of the reference.
pub(crate) struct Rival {
    vm: RandomXVM,
    nonce: u32,
    /// Whether its memory is on large pages.
    pub(crate) large_pages: bool,
}

impl Rival {
    /// A machine for a key, with the dataset where `full` is set, which takes a minute on its one thread.
    pub(crate) fn new(key: &[u8], full: bool) -> Result<Rival, RandomXError> {
        let with = |pages: RandomXFlag| {
            let flags = RandomXFlag::get_recommended_flags() | pages;
            let cache = RandomXCache::new(flags, key)?;
            if !full {
                return RandomXVM::new(flags, Some(cache), None);
            }
            let dataset = RandomXDataset::new(flags, cache, 0)?;
            RandomXVM::new(flags | RandomXFlag::FLAG_FULL_MEM, None, Some(dataset))
        };
        let (vm, large_pages) = match with(RandomXFlag::FLAG_LARGE_PAGES) {
            Ok(vm) => (vm, true),
            Err(_) => (with(RandomXFlag::FLAG_DEFAULT)?, false),
        };
        Ok(Rival { vm, nonce: 0, large_pages })
    }

    /// Hashes one input.
    pub(crate) fn hash(&self, input: &[u8]) -> Result<Vec<u8>, RandomXError> {
        self.vm.calculate_hash(input)
    }

    /// Hashes made-up blobs for about this long.
    pub(crate) fn run(&mut self, time: Duration) -> Result<HashRate, RandomXError> {
        let (begun, mut hashes) = (Instant::now(), 0);
        while begun.elapsed() < time {
            let blobs: Vec<[u8; 76]> = (0..BATCH as u32)
                .map(|i| {
                    let mut blob = [0x5a; 76];
                    blob[39..43].copy_from_slice(&(self.nonce + i).to_le_bytes());
                    blob
                })
                .collect();
            let inputs: Vec<&[u8]> = blobs.iter().map(|blob| &blob[..]).collect();
            hashes += self.vm.calculate_hash_set(&inputs)?.len() as u64;
            self.nonce = self.nonce.wrapping_add(BATCH as u32);
        }
        Ok(HashRate::new(hashes, begun.elapsed().as_secs_f64()))
    }
}
