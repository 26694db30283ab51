//! The ends of sixteen hashes at a time: their Keccaks side by side, a hash in each lane, and each one's mix,
//! whose own lanes are as many. Plain loops over arrays, which become vectors where a token enters them.

use super::Attempt;
use super::interpret::Mix;
use super::program::LANES;
use super::seal::{bytes, words_after, words_before};
use crate::algo::ethash::Outcome;
use crate::primitive::keccak::f800_many;
use crate::simd::{Lanes, Vectorized};

/// Hashes at a time.
pub(crate) const BATCH: usize = LANES;

/// A hash under way: what its first permutation left, and the mix that this seeds.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) mix: Mix,
    seal: [u32; 8],
}

impl Started {
    pub(crate) const EMPTY: Started = Started { mix: Mix::ZERO, seal: [0; 8] };
}

/// Starts at most [`BATCH`] hashes.
pub(crate) struct Start<'a> {
    pub(crate) attempts: &'a [Attempt],
    pub(crate) hashes: &'a mut [Started],
}

impl Vectorized for Start<'_> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, _: L::Token) {
        let seals = permute(self.attempts.iter().map(words_before));
        for (lane, hash) in self.hashes.iter_mut().enumerate() {
            hash.seal = seals.map(|word| word[lane]);
            hash.mix = Mix::of_seed([hash.seal[0], hash.seal[1]]);
        }
    }
}

/// Ends as many as were started.
pub(crate) struct Finish<'a> {
    pub(crate) hashes: &'a [Started],
    pub(crate) outcomes: &'a mut [Outcome],
}

impl Vectorized for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, _: L::Token) {
        let mut mix_hashes = [[0; 8]; BATCH];
        for (mix_hash, hash) in mix_hashes.iter_mut().zip(self.hashes) {
            *mix_hash = hash.mix.fold();
        }
        let states = self.hashes.iter().zip(&mix_hashes);
        let finals = permute(states.map(|(hash, mix_hash)| words_after(&hash.seal, mix_hash)));
        for (lane, (outcome, mix_hash)) in self.outcomes.iter_mut().zip(&mix_hashes).enumerate() {
            let final_hash = bytes(&finals.map(|word| word[lane]));
            *outcome = Outcome { final_hash, mix_hash: bytes(mix_hash) };
        }
    }
}

/// The first eight words that Keccak-f\[800\] leaves of each state, word by word.
#[inline(always)]
fn permute(states: impl Iterator<Item = [u32; 25]>) -> [[u32; BATCH]; 8] {
    let mut words = [[0; BATCH]; 25];
    for (lane, state) in states.enumerate() {
        for (lanes, word) in words.iter_mut().zip(state) {
            lanes[lane] = word;
        }
    }
    f800_many(&mut words);
    std::array::from_fn(|i| words[i])
}
