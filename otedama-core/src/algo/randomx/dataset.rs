//! Cache and dataset (specification 7).
//!
//! ```text
//! key -- Argon2d ----------> cache, 256 MiB  --+
//!    `-- BlakeGenerator ---> 8 programs -------+--> item 0, item 1, ... item 34078718 (64 bytes each)
//! ```
//!
//! A machine looks items up in a [`Dataset`]: either [`Full`], where all were computed beforehand, or
//! [`Light`], where each is computed from the cache when asked for.

use std::convert::Infallible;

use super::config::Params;
use super::superscalar::Program;
use crate::primitive::argon2d;

/// The 64 bytes of an item as little-endian words, one for each integer register.
pub type Item = [u64; 8];

/// Where a machine finds dataset items.
pub trait Dataset {
    /// Item `index`, which is below [`Params::dataset_items`].
    fn item(&self, index: u64) -> Item;
}

/// All items in memory.
#[derive(Clone, Copy, Debug)]
pub struct Full<'a> {
    items: &'a [[u8; 64]],
}

impl<'a> Full<'a> {
    /// The dataset in `memory`.
    ///
    /// # Panics
    /// If the memory has not [`Params::dataset_bytes`].
    pub fn new(params: &Params, memory: &'a [u8]) -> Full<'a> {
        assert_eq!(memory.len(), params.dataset_bytes(), "a dataset of {} has another size", params.name);
        Full { items: memory.as_chunks().0 }
    }
}

impl Dataset for Full<'_> {
    fn item(&self, index: u64) -> Item {
        line(&self.items[index as usize])
    }
}

/// Items computed from the cache, for 256 MiB and a thousand times the work.
#[derive(Clone, Copy, Debug)]
pub struct Light<'a> {
    lines: &'a [[u8; 64]],
    programs: &'a [Program],
}

impl<'a> Light<'a> {
    /// Items from the cache in `memory` and the programs of the same key.
    ///
    /// # Panics
    /// If the memory has not [`Params::cache_bytes`], or there are not [`Params::cache_accesses`] programs.
    pub fn new(params: &Params, memory: &'a [u8], programs: &'a [Program]) -> Light<'a> {
        assert_eq!(memory.len(), params.cache_bytes(), "a cache of {} has another size", params.name);
        assert_eq!(programs.len(), params.cache_accesses, "a program for each access");
        Light { lines: memory.as_chunks().0, programs }
    }
}

impl Dataset for Light<'_> {
    /// Specification 7.3.
    fn item(&self, index: u64) -> Item {
        let mut registers = start_of_item(index);
        let mut cache_index = index;
        for program in self.programs {
            let loaded = line(&self.lines[cache_index as usize & (self.lines.len() - 1)]);
            program.execute(&mut registers);
            for (register, loaded) in registers.iter_mut().zip(loaded) {
                *register ^= loaded;
            }
            cache_index = registers[usize::from(program.address_register)];
        }
        registers
    }
}

/// The registers from which an item is computed (specification 7.3, step 1).
pub fn start_of_item(index: u64) -> Item {
    let first = index.wrapping_add(1).wrapping_mul(6364136223846793005);
    ITEM_CONSTANTS.map(|constant| first ^ constant)
}

/// What tells the registers of a fresh item apart.
pub const ITEM_CONSTANTS: [u64; 8] = [
    0,
    9298411001130361340,
    12065312585734608966,
    9306329213124626780,
    5281919268842080866,
    10536153434571861004,
    3398623926847679864,
    9549104520008361294,
];

/// What goes into the Argon2d of a key (specification 7.1): for [`argon2d::fill`].
pub fn cache_input<'a>(params: &Params, key: &'a [u8]) -> argon2d::Input<'a> {
    argon2d::Input {
        lanes: params.argon.lanes,
        tag_bytes: 0,
        memory_kib: params.argon.memory_kib,
        passes: params.argon.passes,
        password: key,
        salt: params.argon.salt,
        secret: &[],
        associated_data: &[],
    }
}

/// A freshly filled cache on the heap, without vectors, without haste.
pub fn cache(params: &Params, key: &[u8]) -> Vec<u8> {
    let mut memory = vec![0; params.cache_bytes()];
    let (blocks, _) = memory.as_chunks_mut();
    let input = cache_input(params, key);
    let Ok(()) = argon2d::fill(&input, blocks, &argon2d::Portable, |_| Ok::<(), Infallible>(()));
    memory
}

/// The words of a line of 64 bytes.
pub(super) fn line(bytes: &[u8; 64]) -> Item {
    std::array::from_fn(|i| u64::from_le_bytes(bytes.as_chunks().0[i]))
}
