//! Where a hash starts and ends: Keccak-f\[800\], once before the mix and once after it.
//!
//! ```text
//! state  =  header hash (8 words) | nonce (2) | "rAVENCOINKAWPOW" (15)   --f800-->  seal
//! state  =  first 8 words of seal | mix hash (8) | "rAVENCOIN" (9)       --f800-->  final hash (8)
//! ```
//!
//! One character a word. The first two words of the seal seed the mix. ProgPoW 0.9.4 has zeros where
//! Ravencoin has its name.

use super::Attempt;
use crate::primitive::keccak::f800;

/// What fills the state before the mix.
pub(super) const BEFORE: &[u8; 15] = b"rAVENCOINKAWPOW";

/// What fills it after the mix.
pub(super) const AFTER: &[u8; 9] = b"rAVENCOIN";

/// Where a hash starts. The first two words seed the mix.
pub fn seal(attempt: &Attempt) -> [u32; 8] {
    permute(&words_before(attempt))
}

/// The final hash that a claimed mix hash leads to: two permutations and no memory. A claim whose final
/// hash misses the target is wrong whatever the DAG holds, so a verifier asks this first. One whose final
/// hash meets it may still be made up: whoever does so has tried as many as an honest miner.
pub fn final_hash(attempt: &Attempt, mix_hash: &[u8; 32]) -> [u8; 32] {
    bytes(&close(&seal(attempt), &words(mix_hash)))
}

/// The end of a hash.
pub(super) fn close(seal: &[u32; 8], mix_hash: &[u32; 8]) -> [u32; 8] {
    permute(&words_after(seal, mix_hash))
}

#[inline(always)]
pub(super) fn words_before(attempt: &Attempt) -> [u32; 25] {
    let header = words(&attempt.header_hash);
    std::array::from_fn(|i| match i {
        0..8 => header[i],
        8 => attempt.nonce as u32,
        9 => (attempt.nonce >> 32) as u32,
        _ => BEFORE[i - 10].into(),
    })
}

#[inline(always)]
pub(super) fn words_after(seal: &[u32; 8], mix_hash: &[u32; 8]) -> [u32; 25] {
    std::array::from_fn(|i| match i {
        0..8 => seal[i],
        8..16 => mix_hash[i - 8],
        _ => AFTER[i - 16].into(),
    })
}

fn permute(state: &[u32; 25]) -> [u32; 8] {
    let mut state = *state;
    f800(&mut state);
    std::array::from_fn(|i| state[i])
}

/// Little-endian words of 32 bytes.
#[inline(always)]
pub(super) fn words(bytes: &[u8; 32]) -> [u32; 8] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|i| u32::from_le_bytes(words[i]))
}

/// Little-endian bytes of eight words.
#[inline(always)]
pub(super) fn bytes(words: &[u32; 8]) -> [u8; 32] {
    std::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4])
}
