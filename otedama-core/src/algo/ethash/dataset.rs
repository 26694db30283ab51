//! The dataset, and the two ways of looking things up in it.
//!
//! ```text
//! mix = Keccak-512(cache[i mod n], its first word xor i)
//! for j in 0..parents:  mix = fnv(mix, cache[fnv(i xor j, word j mod 16 of mix) mod n])
//! item i = Keccak-512(mix)
//! ```

use super::fnv;
use super::params::{ITEM_BYTES, PAGE_BYTES};
use crate::primitive::keccak::keccak512;

/// An item of the light cache or of the dataset: sixteen little-endian words.
pub type Item = [u8; ITEM_BYTES];

/// What a hash of Ethash reads at a time: items `2 i` and `2 i + 1`.
pub type Page = [u8; PAGE_BYTES];

/// Where a hash finds pages.
pub trait Dataset {
    /// How many pages there are.
    fn pages(&self) -> u32;

    /// Page `index`, which is below [`Self::pages`].
    fn page(&self, index: u32) -> Page;
}

/// All items in memory.
#[derive(Clone, Copy, Debug)]
pub struct Full<'a> {
    pages: &'a [Page],
}

impl<'a> Full<'a> {
    /// The dataset in `memory`.
    ///
    /// # Panics
    /// If the memory is not a number of pages above zero, or has 2^32 of them.
    pub fn new(memory: &'a [u8]) -> Full<'a> {
        let (pages, rest) = memory.as_chunks();
        assert!(rest.is_empty(), "a dataset is a number of 128-byte pages");
        assert!(!pages.is_empty() && u32::try_from(pages.len()).is_ok(), "pages are numbered by 32 bits");
        Full { pages }
    }

    /// The pages.
    pub fn as_pages(&self) -> &'a [Page] {
        self.pages
    }
}

impl Dataset for Full<'_> {
    fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    fn page(&self, index: u32) -> Page {
        self.pages[index as usize]
    }
}

/// Items computed from the light cache: some tens of megabytes instead of gigabytes, 256 or 512 times the
/// reads.
#[derive(Clone, Copy, Debug)]
pub struct Light<'a> {
    cache: &'a [Item],
    parents: u32,
    pages: u32,
}

impl<'a> Light<'a> {
    /// A dataset of `dataset_bytes` whose items have `parents` parents in the light cache in `memory`.
    ///
    /// # Panics
    /// If the cache is not a number of items above zero, if there is no page, or 2^31 of them or more.
    pub fn new(parents: u32, memory: &'a [u8], dataset_bytes: u64) -> Light<'a> {
        let (cache, rest) = memory.as_chunks();
        assert!(!cache.is_empty() && rest.is_empty(), "a light cache is a number of 64-byte items");
        let pages = dataset_bytes / PAGE_BYTES as u64;
        assert!(pages > 0 && pages < 1 << 31, "{pages} pages: their items cannot be numbered by 32 bits");
        Light { cache, parents, pages: pages as u32 }
    }

    /// The items of the light cache.
    pub fn cache(&self) -> &'a [Item] {
        self.cache
    }

    /// How many items of the cache an item of the dataset is mixed from, beyond the first.
    pub fn parents(&self) -> u32 {
        self.parents
    }

    /// Item `index`, in the words of the specification.
    pub fn item(&self, index: u32) -> Item {
        let n = self.cache.len() as u32;
        let mut mix = words::<16>(&self.cache[(index % n) as usize]);
        mix[0] ^= index;
        mix = words(&keccak512(&bytes::<64>(&mix)));
        for j in 0..self.parents {
            let parent = fnv(index ^ j, mix[j as usize % 16]) % n;
            for (word, other) in mix.iter_mut().zip(words::<16>(&self.cache[parent as usize])) {
                *word = fnv(*word, other);
            }
        }
        keccak512(&bytes::<64>(&mix))
    }
}

impl Dataset for Light<'_> {
    fn pages(&self) -> u32 {
        self.pages
    }

    fn page(&self, index: u32) -> Page {
        let mut page = [0; PAGE_BYTES];
        for (half, index) in page.as_chunks_mut().0.iter_mut().zip([2 * index, 2 * index + 1]) {
            *half = self.item(index);
        }
        page
    }
}

/// Little-endian words of bytes four times as many.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|i| u32::from_le_bytes(words[i]))
}

/// Little-endian bytes of words a quarter as many.
pub(super) fn bytes<const N: usize>(words: &[u32]) -> [u8; N] {
    std::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4])
}
