//! The hash ("hashimoto").
//!
//! ```text
//! seed = Keccak-512(header hash, nonce)                     64 bytes
//! mix  = seed, seed                                         32 words
//! for i in 0..64:  mix = fnv(mix, page fnv(i xor first word of seed, word i mod 32 of mix) mod pages)
//! mix hash   = each four words folded to one by fnv         32 bytes
//! final hash = Keccak-256(seed, mix hash)
//! ```

use super::dataset::{Dataset, bytes, words};
use super::fnv;
use crate::primitive::keccak::{keccak256, keccak512};

/// Pages that a hash reads.
pub(super) const ACCESSES: u32 = 64;

/// One header with one nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The hash of the header without nonce and mix hash.
    pub header_hash: [u8; 32],
    /// The nonce.
    pub nonce: u64,
}

/// What an attempt hashes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The hash that is compared with the target, as a big-endian number.
    pub final_hash: [u8; 32],
    /// The mix hash, which proves that the dataset was read.
    pub mix_hash: [u8; 32],
}

/// The hash in the words of the specification: 64 pages.
pub fn hash(dataset: &impl Dataset, attempt: &Attempt) -> Outcome {
    let seed = seal(attempt);
    let seed_words = words::<16>(&seed);
    let mut mix: [u32; 32] = std::array::from_fn(|i| seed_words[i % 16]);
    for i in 0..ACCESSES {
        let page = fnv(i ^ seed_words[0], mix[i as usize % 32]) % dataset.pages();
        for (word, other) in mix.iter_mut().zip(words::<32>(&dataset.page(page))) {
            *word = fnv(*word, other);
        }
    }
    let mix_hash = fold(&mix);
    Outcome { final_hash: close(&seed, &mix_hash), mix_hash }
}

/// The final hash that a claimed mix hash leads to: two permutations and no memory. A claim whose final
/// hash misses the target is wrong whatever the dataset holds, so a verifier asks this first. One whose
/// final hash meets it may still be made up: whoever does so has tried as many as an honest miner.
pub fn final_hash(attempt: &Attempt, mix_hash: &[u8; 32]) -> [u8; 32] {
    close(&seal(attempt), mix_hash)
}

/// Keccak-512 of the header hash and the nonce, little-endian: where a hash starts.
pub fn seal(attempt: &Attempt) -> [u8; 64] {
    let mut message = [0; 40];
    message[..32].copy_from_slice(&attempt.header_hash);
    message[32..].copy_from_slice(&attempt.nonce.to_le_bytes());
    keccak512(&message)
}

/// The mix hash of a mix that all pages went into.
#[inline(always)]
pub(super) fn fold(mix: &[u32; 32]) -> [u8; 32] {
    let (fours, _) = mix.as_chunks::<4>();
    let folded: [u32; 8] = std::array::from_fn(|i| {
        let [a, b, c, d] = fours[i];
        fnv(fnv(fnv(a, b), c), d)
    });
    bytes(&folded)
}

fn close(seed: &[u8; 64], mix_hash: &[u8; 32]) -> [u8; 32] {
    let mut message = [0; 96];
    message[..64].copy_from_slice(seed);
    message[64..].copy_from_slice(mix_hash);
    keccak256(&message)
}
