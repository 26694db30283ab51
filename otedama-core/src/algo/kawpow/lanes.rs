//! The ends of sixteen hashes at a time: their Keccaks side by side, a hash in each lane, and each one's mix,
//! whose own lanes are as many: loops over its lanes become vectors where a token enters them.

use super::Attempt;
use super::interpret::Mix;
use super::program::LANES;
use super::seal::{bytes, words_after, words_before};
use crate::algo::ethash::Outcome;
use crate::primitive::keccak::ROUND_CONSTANTS;
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
    fn run_on<L: Lanes>(self, token: L::Token) {
        let mut states = [[0; 25]; BATCH];
        for (state, attempt) in states.iter_mut().zip(self.attempts) {
            *state = words_before(attempt);
        }
        let hashes = self.hashes;
        permute::<L>(token, &states[..self.attempts.len()], |i, seal| hashes[i].seal = seal);
        for hash in hashes {
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
    fn run_on<L: Lanes>(self, token: L::Token) {
        let mut states = [[0; 25]; BATCH];
        for ((state, hash), outcome) in states.iter_mut().zip(self.hashes).zip(&mut *self.outcomes) {
            let mix_hash = hash.mix.fold();
            *state = words_after(&hash.seal, &mix_hash);
            outcome.mix_hash = bytes(&mix_hash);
        }
        let outcomes = self.outcomes;
        permute::<L>(token, &states[..outcomes.len()], |i, words| outcomes[i].final_hash = bytes(&words));
    }
}

/// The first eight words that Keccak-f\[800\] leaves of each state.
#[inline(always)]
fn permute<L: Lanes>(token: L::Token, states: &[[u32; 25]], mut to: impl FnMut(usize, [u32; 8])) {
    for (number, states) in states.chunks(L::COUNT).enumerate() {
        let mut words: [L; 25] = std::array::from_fn(|word| {
            let mut lanes = [0; BATCH];
            for (lane, state) in lanes.iter_mut().zip(states) {
                *lane = state[word];
            }
            L::load(token, &lanes[..L::COUNT])
        });
        for constant in &ROUND_CONSTANTS[..22] {
            words = round(token, words);
            words[0] = words[0].xor(L::splat(token, *constant as u32));
        }
        let mut lanes = [[0; BATCH]; 8];
        for (lanes, word) in lanes.iter_mut().zip(words) {
            word.store(&mut lanes[..L::COUNT]);
        }
        for lane in 0..states.len() {
            to(number * L::COUNT + lane, lanes.map(|word| word[lane]));
        }
    }
}

/// Theta, rho, pi and chi.
#[inline(always)]
fn round<L: Lanes>(token: L::Token, a: [L; 25]) -> [L; 25] {
    // Spelled out: closures over arrays this long are not always inlined, and must be.
    let zero = L::splat(token, 0);
    macro_rules! parity {
        ($($x:literal)*) => { [$(a[$x].xor3(a[$x + 5], a[$x + 10]).xor3(a[$x + 15], a[$x + 20])),*] };
    }
    let parity = parity!(0 1 2 3 4);
    macro_rules! turned {
        ($($x:literal)*) => { [$(parity[($x + 4) % 5].xor(parity[($x + 1) % 5].rotate_right::<31>())),*] };
    }
    let effect = turned!(0 1 2 3 4);
    // Word (x, y) after theta, turned left.
    macro_rules! word {
        ($x:literal, $y:literal, 0) => {
            a[$x + 5 * $y].xor(effect[$x])
        };
        ($x:literal, $y:literal, $left:literal) => {
            a[$x + 5 * $y].xor(effect[$x]).rotate_right::<{ 32 - $left % 32 }>()
        };
    }
    macro_rules! chi {
        ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {{
            let (a, b, c, d, e) = ($a, $b, $c, $d, $e);
            let step = |a: L, b: L, c: L| a.xor(b.choose(zero, c));
            [step(a, b, c), step(b, c, d), step(c, d, e), step(d, e, a), step(e, a, b)]
        }};
    }
    // Row by row, what pi takes there.
    let [r0, r1, r2, r3, r4] = [
        chi!(word!(0, 0, 0), word!(1, 1, 44), word!(2, 2, 43), word!(3, 3, 21), word!(4, 4, 14)),
        chi!(word!(3, 0, 28), word!(4, 1, 20), word!(0, 2, 3), word!(1, 3, 45), word!(2, 4, 61)),
        chi!(word!(1, 0, 1), word!(2, 1, 6), word!(3, 2, 25), word!(4, 3, 8), word!(0, 4, 18)),
        chi!(word!(4, 0, 27), word!(0, 1, 36), word!(1, 2, 10), word!(2, 3, 15), word!(3, 4, 56)),
        chi!(word!(2, 0, 62), word!(3, 1, 55), word!(4, 2, 39), word!(0, 3, 41), word!(1, 4, 2)),
    ];
    [
        r0[0], r0[1], r0[2], r0[3], r0[4], r1[0], r1[1], r1[2], r1[3], r1[4], r2[0], r2[1], r2[2], r2[3],
        r2[4], r3[0], r3[1], r3[2], r3[3], r3[4], r4[0], r4[1], r4[2], r4[3], r4[4],
    ]
}
