//! SHA256d in vectors of 32-bit lanes: each lane works on a nonce (or message) of its own.
//!
//! Written once over [`Lanes`], compiled for AVX2 (8 lanes) and AVX-512 (16 lanes). What counts is the
//! number of vector operations, and three kinds of them need not be done:
//!
//! - **Shared by versions.** Chunk two's message schedule depends on the nonce alone. It is expanded
//!   once for a block of nonces, each word with the round's constant already added, and every version
//!   then spends one addition a round on it, its operand straight from memory.
//! - **Known beforehand.** Most words of both messages are padding. In the schedule, terms that are zero
//!   are left out and terms that are constant are added up first. Rounds 0..2 of chunk two are done
//!   once per version ([`Midstate`]) and round 3 is two additions. In the second hash, which starts
//!   from the initial value, round 0 is two additions and rounds 1..3 add an `h` that is constant.
//! - **Not looked at.** To reject a nonce takes the digest's last word: the initial value's last word
//!   plus `e` as it is after round 60. Rounds 61..63 and the schedule words 61..63 are never
//!   computed, nor are the `a` of rounds 57..60, which would reach `e` only after round 60.
//!
//! With rotates and three-input logic as single operations (AVX-512), a round is 16 operations, one
//! more where its constant is added, and a schedule word is 11. Two whole compressions are 3232; here,
//! for a block of 16 nonces:
//!
//! ```text
//! chunk two's schedule            about  470   once
//! chunk two's rounds, midstate    about  985   for each version
//! second hash as far as e         about 1420   for each version
//! ```
//!
//! Two ports share these operations, so a nonce takes at least 76 cycles with many versions and 90 with
//! one; 79.5 and 95 were measured on Ice Lake. What else matters there:
//!
//! - Three-input logic overwrites an operand. The next round's `K + W` is added to `g`, its `h` to be,
//!   *before* this round's choice, which may then overwrite `g`: one register copy less a round.
//! - The next `e` is what everything waits for. It is written, and so issued, before the next `a`: 3 to
//!   5 % faster than the other way round.
//! - Chunk two's rounds, and the second half of its schedule, are loops: smaller and no slower. The
//!   second hash is straight-line code: a loop over its last 32 rounds costs 39 operations more and ran
//!   a few per cent slower.

use super::{
    Hit, Hits, Kernel, MAX_GROUP, Midstate, Search, for_each_group, padded_chunk, padded_chunks, word,
};
use crate::primitive::sha256::{self, IV, K, small_sigma0, small_sigma1};
use crate::simd::{Lanes, Token, Vectorized};

/// The kernel for the vectors that a token enters.
#[derive(Clone, Copy, Debug)]
pub struct LanesKernel<T: Token> {
    token: T,
}

impl<T: Token> LanesKernel<T> {
    /// The kernel for the CPU that handed out the token.
    pub fn new(token: T) -> LanesKernel<T> {
        LanesKernel { token }
    }
}

impl<T: Token> Kernel for LanesKernel<T> {
    fn name(&self) -> &'static str {
        T::ISA.name()
    }

    fn lanes(&self) -> usize {
        T::Lanes::COUNT
    }

    fn search(&mut self, search: &Search, first_nonce: u32, count: u32, hits: &mut Hits) -> u32 {
        self.token.run(SearchNonces { search, first_nonce, count, hits })
    }

    fn hash_many(&mut self, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
        assert_eq!(messages.len(), digests.len(), "one digest per message");
        for_each_group(messages, T::Lanes::COUNT, |group| {
            if group.len() <= SCALAR_GROUP {
                group.iter().for_each(|&i| digests[i] = sha256::double_digest(messages[i]));
            } else {
                self.token.run(HashGroup { messages, group, digests });
            }
        });
    }
}

/// Groups of up to this many messages are hashed faster one by one than in lanes mostly empty.
const SCALAR_GROUP: usize = 2;

/// [`Kernel::search`] as a piece of work for a token.
struct SearchNonces<'a> {
    search: &'a Search,
    first_nonce: u32,
    count: u32,
    hits: &'a mut Hits,
}

impl Vectorized for SearchNonces<'_> {
    type Output = u32;

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) -> u32 {
        let SearchNonces { search, first_nonce, count, hits } = self;
        let top = L::splat(token, search.top);
        let lane_numbers = L::from_fn(token, |lane| lane as u32);
        let mut schedule = NonceSchedule::<L>::new(token, &search.tail);

        let mut done = 0;
        while done < count {
            let first = first_nonce + done;
            let tried = (count - done).min(L::COUNT as u32);
            let wanted = (1 << tried) - 1;
            schedule.expand(L::splat(token, first).add(lane_numbers).swap_bytes());

            let found_before = hits.len();
            for (version, midstate) in (0..).zip(&search.midstates) {
                let first_hash = schedule.finish_first_hash(midstate);
                let last_word = second_hash_last_word(token, first_hash);
                let found = last_word.swap_bytes().at_most(top) & wanted;
                if found != 0 && !push_lanes(hits, version, first, found) {
                    hits.truncate(found_before);
                    return done;
                }
            }
            done += tried;
        }
        count
    }
}

/// Adds a hit for each bit of `found`, or answers `false` if there is not room for all.
#[cold]
#[inline(never)]
fn push_lanes(hits: &mut Hits, version: u32, first_nonce: u32, mut found: u32) -> bool {
    while found != 0 {
        if !hits.push(Hit { version, nonce: first_nonce + found.trailing_zeros() }) {
            return false;
        }
        found &= found - 1;
    }
    true
}

/// Chunk two's schedule for one nonce per lane, which all versions share.
struct NonceSchedule<L: Lanes> {
    token: L::Token,
    /// The nonce's word W3.
    w3: L,
    /// `K[t] + W[t]` from `t` = 7 on, where the midstate's own sums end. Rows 7..18 never change.
    kw: [L; 64],
    /// W16 and W17, which no nonce changes, and what is constant of W18.
    w16: u32,
    w17: u32,
    w18: u32,
}

impl<L: Lanes> NonceSchedule<L> {
    #[inline(always)]
    fn new(token: L::Token, tail: &[u32; 3]) -> NonceSchedule<L> {
        let [w0, w1, w2] = *tail;
        let w16 = w0.wrapping_add(small_sigma0(w1));
        let w17 = w1.wrapping_add(small_sigma0(w2)).wrapping_add(small_sigma1(W15));
        let w18 = w2.wrapping_add(small_sigma1(w16));
        let mut kw = K.map(|k| L::splat(token, k));
        kw[15] = L::splat(token, K[15].wrapping_add(W15));
        kw[16] = L::splat(token, K[16].wrapping_add(w16));
        kw[17] = L::splat(token, K[17].wrapping_add(w17));
        NonceSchedule { token, w3: kw[0], kw, w16, w17, w18 }
    }

    /// Expands the schedule for message word 3, the nonce with its bytes reversed.
    #[inline(always)]
    fn expand(&mut self, w3: L) {
        let constant = |x| L::splat(self.token, x);
        self.w3 = w3;
        let mut w = [w3; 32];
        w[16] = constant(self.w16);
        w[17] = constant(self.w17);
        w[18] = sigma0(w3).add(constant(self.w18));
        w[19] = w3.add(constant(small_sigma1(self.w17).wrapping_add(small_sigma0(W4))));
        w[20] = sigma1(w[18]).add(constant(W4));
        w[21] = sigma1(w[19]);
        w[22] = sigma1(w[20]).add(constant(W15));
        w[23] = sigma1(w[21]).add(w[16]);
        w[24] = sigma1(w[22]).add(w[17]);
        unrolled!(T in [25 26 27 28 29] { w[T] = sigma1(w[T - 2]).add(w[T - 7]); });
        w[30] = sigma1(w[28]).add(w[23]).add(constant(small_sigma0(W15)));
        w[31] = sigma1(w[29]).add(w[24]).add(constant(small_sigma0(self.w16).wrapping_add(W15)));
        unrolled!(T in [18 19 20 21 22 23 24 25 26 27 28 29 30 31] {
            self.kw[T] = w[T].add(constant(K[T]));
        });
        // From here on every word has all its terms: a ring of the latest sixteen, twice round.
        let mut ring: [L; 16] = std::array::from_fn(|i| w[16 + i]);
        let (rows, constants) = (self.kw[32..].as_chunks_mut::<16>().0, K[32..].as_chunks::<16>().0);
        for (kw, k) in rows.iter_mut().zip(constants) {
            unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                let (near, far) = (ring[(I + 14) % 16], ring[(I + 1) % 16]);
                ring[I] = ring[I].add(ring[(I + 9) % 16]).add(sigma0(far)).add(sigma1(near));
                kw[I] = ring[I].add(constant(k[I]));
            });
        }
    }

    /// Compresses chunk two into a version's midstate: the first hash, one lane per nonce.
    #[inline(always)]
    fn finish_first_hash(&self, midstate: &Midstate) -> [L; 8] {
        let constant = |x| L::splat(self.token, x);
        let [addend_4, addend_5, addend_6] = midstate.addends.map(constant);
        let mut s = midstate.after_round_3.map(constant);
        s[0] = s[0].add(self.w3);
        s[4] = s[4].add(self.w3);
        s[7] = addend_4;
        s = round(s, addend_5);
        s = round(s, addend_6);
        s = round(s, s[6].add(self.kw[7]));
        for kw in self.kw[8..].as_chunks::<8>().0 {
            unrolled!(I in [0 1 2 3 4 5 6 7] { s = round(s, s[6].add(kw[I])); });
        }
        s = round(s, s[6]); // Nothing comes after round 63: its `g` is the final `h`.
        std::array::from_fn(|i| s[i].add(constant(midstate.state[i])))
    }
}

/// Words of chunk two's padding: the 1 bit that ends the message, and its length in bits.
const W4: u32 = 1 << 31;
const W15: u32 = 80 * 8;

/// H7 of the second hash, whose message is the first hash: `IV[7]` plus `e` after round 60.
#[inline(always)]
fn second_hash_last_word<L: Lanes>(token: L::Token, first_hash: [L; 8]) -> L {
    const W8: u32 = 1 << 31;
    const W15: u32 = 32 * 8;
    let constant = |x| L::splat(token, x);
    let mut w = [first_hash[0]; 64];
    w[..8].copy_from_slice(&first_hash);

    // Round 0 without its message word, which is then added to `a` and `e`.
    let mut start = IV;
    sha256::round(&mut start, K[0]);
    let mut s = start.map(constant);
    s[0] = s[0].add(w[0]);
    s[4] = s[4].add(w[0]);
    s[7] = w[1].add(constant(K[1].wrapping_add(IV[6])));
    unrolled!(T in [2 3] { s = round(s, w[T].add(constant(K[T].wrapping_add(IV[7 - T])))); });
    unrolled!(T in [4 5 6 7] { s = round(s, s[6].add(w[T].add(constant(K[T])))); });
    s = round(s, s[6].add(constant(K[8].wrapping_add(W8))));
    unrolled!(T in [9 10 11 12 13 14] { s = round(s, s[6].add(constant(K[T]))); });
    s = round(s, s[6].add(constant(K[15].wrapping_add(W15))));

    w[16] = sigma0(w[1]).add(w[0]);
    w[17] = sigma0(w[2]).add(w[1]).add(constant(small_sigma1(W15)));
    unrolled!(T in [18 19 20 21] { w[T] = sigma1(w[T - 2]).add(sigma0(w[T - 15])).add(w[T - 16]); });
    w[22] = sigma1(w[20]).add(sigma0(w[7])).add(w[6]).add(constant(W15));
    w[23] = sigma1(w[21]).add(w[16]).add(w[7]).add(constant(small_sigma0(W8)));
    w[24] = sigma1(w[22]).add(w[17]).add(constant(W8));
    unrolled!(T in [25 26 27 28 29] { w[T] = sigma1(w[T - 2]).add(w[T - 7]); });
    w[30] = sigma1(w[28]).add(w[23]).add(constant(small_sigma0(W15)));
    w[31] = sigma1(w[29]).add(w[24]).add(sigma0(w[16])).add(constant(W15));
    unrolled!(T in [16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31] {
        s = round(s, s[6].add(w[T].add(constant(K[T]))));
    });
    unrolled!(T in [32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59] {
        w[T] = sigma1(w[T - 2]).add(w[T - 7]).add(sigma0(w[T - 15])).add(w[T - 16]);
        s = round(s, s[6].add(w[T].add(constant(K[T]))));
    });
    w[60] = sigma1(w[58]).add(w[53]).add(sigma0(w[45])).add(w[44]);
    s = round(s, s[6].add(w[60].add(constant(K[60].wrapping_add(IV[7])))));
    let [_, _, _, d, e, f, g, addend] = s;
    addend.add(d).add(e.choose(f, g)).add(big_sigma1(e))
}

/// One round. `s` holds the working variables a..g and, in `h`'s place, the sum `h + K[t] + W[t]` that
/// the round adds; `next` is that sum for the round after it, whose `h` is this round's `g`, `s[6]`.
#[inline(always)]
fn round<L: Lanes>(s: [L; 8], next: L) -> [L; 8] {
    let [a, b, c, d, e, f, g, addend] = s;
    let t1 = big_sigma1(e).add(e.choose(f, g)).add(addend);
    let new_e = d.add(t1);
    let t2 = big_sigma0(a).add(a.majority(b, c));
    [t1.add(t2), a, b, c, new_e, e, f, next]
}

/// A group of messages of equally many chunks, a lane each, as a piece of work for a token.
struct HashGroup<'a> {
    messages: &'a [&'a [u8]],
    group: &'a [usize],
    digests: &'a mut [[u8; 32]],
}

impl Vectorized for HashGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        let HashGroup { messages, group, digests } = self;
        let iv = IV.map(|x| L::splat(token, x));
        let zero = L::splat(token, 0);

        let mut state = iv;
        let mut chunks = [[0; 64]; MAX_GROUP];
        for index in 0..padded_chunks(messages[group[0]].len()) {
            for (chunk, &i) in chunks.iter_mut().zip(group) {
                *chunk = padded_chunk(messages[i], index);
            }
            state = compress(
                token,
                state,
                std::array::from_fn(|i| L::from_fn(token, |lane| word(&chunks[lane], i))),
            );
        }

        let mut block = [zero; 16];
        block[..8].copy_from_slice(&state);
        block[8] = L::splat(token, 1 << 31);
        block[15] = L::splat(token, 32 * 8);
        let state = compress(token, iv, block);

        let mut words = [[0; MAX_GROUP]; 8];
        for (row, lanes) in words.iter_mut().zip(state) {
            lanes.store(&mut row[..L::COUNT]);
        }
        for (lane, &i) in group.iter().enumerate() {
            digests[i] = sha256::state_to_bytes(&words.map(|row| row[lane]));
        }
    }
}

/// Compresses one block per lane.
#[inline(always)]
fn compress<L: Lanes>(token: L::Token, state: [L; 8], block: [L; 16]) -> [L; 8] {
    let mut w = block;
    let mut s = state;
    s[7] = s[7].add(w[0].add(L::splat(token, K[0])));
    for t in (0..64).step_by(16) {
        let k: &[u32; 16] = K[t..].first_chunk().expect("sixteen of the 64 constants");
        unrolled!(I in [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            s = round(s, s[6].add(w[I].add(L::splat(token, k[I]))));
        });
        unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            let (near, far) = (w[(I + 14) % 16], w[(I + 1) % 16]);
            w[I] = w[I].add(w[(I + 9) % 16]).add(sigma0(far)).add(sigma1(near));
        });
        let next = K.get(t + 16).map_or(L::splat(token, 0), |&k| w[0].add(L::splat(token, k)));
        s = round(s, s[6].add(next));
    }
    std::array::from_fn(|i| s[i].add(state[i]))
}

#[inline(always)]
fn big_sigma0<L: Lanes>(x: L) -> L {
    x.rotate_right::<2>().xor3(x.rotate_right::<13>(), x.rotate_right::<22>())
}

#[inline(always)]
fn big_sigma1<L: Lanes>(x: L) -> L {
    x.rotate_right::<6>().xor3(x.rotate_right::<11>(), x.rotate_right::<25>())
}

#[inline(always)]
fn sigma0<L: Lanes>(x: L) -> L {
    x.rotate_right::<7>().xor3(x.rotate_right::<18>(), x.shift_right::<3>())
}

#[inline(always)]
fn sigma1<L: Lanes>(x: L) -> L {
    x.rotate_right::<17>().xor3(x.rotate_right::<19>(), x.shift_right::<10>())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::super::tests::check_kernel_if_present;
    use super::LanesKernel;
    use crate::cpu::{Cpu, Isa};

    #[test]
    fn avx2_agrees_with_portable() {
        check_kernel_if_present(Isa::Avx2, Cpu::detect().avx2().map(LanesKernel::new));
    }

    #[test]
    fn avx512_agrees_with_portable() {
        check_kernel_if_present(Isa::Avx512, Cpu::detect().avx512().map(LanesKernel::new));
    }
}
