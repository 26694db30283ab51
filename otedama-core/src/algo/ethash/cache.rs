//! The light cache.
//!
//! ```text
//! item 0 = Keccak-512(seed),  item i = Keccak-512(item i - 1)
//! three times over:  item i = Keccak-512(item i - 1  xor  item (first word of item i) mod n)
//! ```
//!
//! Everything is one chain: no item can be computed before the one in front of it, which for item 0 is
//! the last of the pass before.

use std::ops::ControlFlow;

use super::dataset::Item;
use crate::primitive::keccak::keccak512;

/// Passes over the cache after the first filling (RandMemoHash).
pub(super) const ROUNDS: usize = 3;

/// Hashes between two reports: a few milliseconds at most.
const REPORT_HASHES: usize = 1 << 12;

/// Hears how many bytes are done since it last did, and may stop the work.
pub type Report<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Fills `cache` from an epoch's seed, in the words of the specification. A pass counts as a quarter of
/// its bytes done; `report` is called every millisecond or so.
///
/// # Panics
/// If `cache` is not a number of items above zero.
pub fn build_cache(seed: &[u8; 32], cache: &mut [u8], report: Report<'_>) -> ControlFlow<()> {
    let items = items_mut(cache);
    let mut progress = PassProgress::new(report);
    items[0] = keccak512(seed);
    for i in 1..items.len() {
        items[i] = keccak512(&items[i - 1]);
        progress.hashed()?;
    }
    for _ in 0..ROUNDS {
        for i in 0..items.len() {
            let previous = &items[if i == 0 { items.len() - 1 } else { i - 1 }];
            let other = &items[first_word(&items[i]) as usize % items.len()];
            items[i] = keccak512(&std::array::from_fn::<_, 64, _>(|byte| previous[byte] ^ other[byte]));
            progress.hashed()?;
        }
    }
    progress.finish()
}

/// The items of a light cache.
pub(super) fn items_mut(cache: &mut [u8]) -> &mut [Item] {
    let (items, rest) = cache.as_chunks_mut();
    assert!(!items.is_empty() && rest.is_empty(), "a light cache is a number of 64-byte items");
    items
}

#[inline(always)]
pub(super) fn first_word(item: &Item) -> u32 {
    u32::from_le_bytes([item[0], item[1], item[2], item[3]])
}

/// Counts hashes of the passes and reports them in portions.
pub(super) struct PassProgress<'a> {
    hashed: usize,
    report: Report<'a>,
}

impl<'a> PassProgress<'a> {
    /// One hash, that of the seed, is done.
    pub(super) fn new(report: Report<'a>) -> PassProgress<'a> {
        PassProgress { hashed: 1, report }
    }

    /// One more.
    #[inline(always)]
    pub(super) fn hashed(&mut self) -> ControlFlow<()> {
        self.hashed += 1;
        if self.hashed == REPORT_HASHES { self.finish() } else { ControlFlow::Continue(()) }
    }

    /// Reports what is left.
    #[inline(never)]
    pub(super) fn finish(&mut self) -> ControlFlow<()> {
        // Four hashes of 64 bytes in turn leave the same 64 bytes.
        (self.report)(std::mem::take(&mut self.hashed) * size_of::<Item>() / (1 + ROUNDS))
    }
}
