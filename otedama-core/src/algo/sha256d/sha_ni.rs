//! SHA256d with the x86 SHA extensions: two nonces, or two messages, at a time.
//!
//! `sha256rnds2` does two rounds but takes several cycles to answer, and each pair of rounds needs the
//! pair before it. Two independent hashes side by side keep the unit busy; every function here works on
//! `N` of them (1 or 2), in arrays that become registers.
//!
//! The instruction wants the working variables in two registers, written from the top lane down as
//! `ABEF` and `CDGH`, and the sums `K[t] + W[t]` of its two rounds in the low half of a third. Two
//! rounds turn `(ABEF, CDGH)` into `(new ABEF, old ABEF)`: the registers trade places every time.
//!
//! In a search, the sums of chunk two are made once for a pair of nonces and used by every version.
//! Rounds 0..3 are skipped: [`Midstate`] has them but for the nonce's word, which is added to `a` and `e`.
//! The second hash ends after round 61, where `f` is the `e` of round 60, from which the digest's last
//! word follows.
//!
//! On Ice Lake the unit takes a `sha256rnds2` every 3 cycles and a schedule instruction every 5, so with
//! many versions 61 of the one and 23 of the other bound a nonce to about 300 cycles; 270 to 300 are
//! measured. There, lanes are faster; where the unit is quicker, this may be.

use super::{Hit, Hits, Kernel, Midstate, Search, for_each_group, padded_chunk, padded_chunks};
use crate::cpu::{Isa, ShaNi};
use crate::primitive::sha256::{IV, K, State};
use std::arch::x86_64::*;

/// The kernel for CPUs with the SHA extensions.
#[derive(Clone, Copy, Debug)]
pub struct ShaNiKernel {
    /// Proof that the instructions may run.
    _token: ShaNi,
}

impl ShaNiKernel {
    /// The kernel for the CPU that handed out the token.
    pub fn new(token: ShaNi) -> ShaNiKernel {
        ShaNiKernel { _token: token }
    }
}

impl Kernel for ShaNiKernel {
    fn name(&self) -> &'static str {
        Isa::ShaNi.name()
    }

    fn lanes(&self) -> usize {
        STREAMS
    }

    fn search(&mut self, search: &Search, first_nonce: u32, count: u32, hits: &mut Hits) -> u32 {
        // SAFETY: `self` was made from a token, which proves SHA, SSE4.1 and SSSE3 (`Cpu::detect`).
        unsafe { search_pairs(search, first_nonce, count, hits) }
    }

    fn hash_many(&mut self, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
        assert_eq!(messages.len(), digests.len(), "one digest per message");
        for_each_group(messages, STREAMS, |group| match *group {
            [i, j] => {
                // SAFETY: `self` was made from a token, as in `search`.
                [digests[i], digests[j]] = unsafe { double_digests([messages[i], messages[j]]) };
            }
            _ => {
                for &i in group {
                    // SAFETY: `self` was made from a token, as in `search`.
                    [digests[i]] = unsafe { double_digests([messages[i]]) };
                }
            }
        });
    }
}

/// How many hashes are computed side by side.
const STREAMS: usize = 2;

/// [`Kernel::search`].
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn search_pairs(search: &Search, first_nonce: u32, count: u32, hits: &mut Hits) -> u32 {
    let mut done = 0;
    while done < count {
        let first = first_nonce + done;
        let tried = (count - done).min(STREAMS as u32);
        let nonces = [first, first.wrapping_add(1)];
        let sums = chunk_two_sums(search, nonces);

        let found_before = hits.len();
        for (version, midstate) in (0..).zip(search.midstates()) {
            let last_words = second_hash_last_words(finish_first_hash(midstate, nonces, &sums));
            for (&nonce, last_word) in nonces.iter().zip(last_words).take(tried as usize) {
                let hit = last_word.swap_bytes() <= search.top();
                if hit && !hits.push(Hit { version, nonce }) {
                    hits.truncate(found_before);
                    return done;
                }
            }
        }
        done += tried;
    }
    count
}

/// SHA256d of `N` messages of equally many chunks.
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn double_digests<const N: usize>(messages: [&[u8]; N]) -> [[u8; 32]; N] {
    let mut working = [Working::load(&IV); N];
    for index in 0..padded_chunks(messages[0].len()) {
        let before = working;
        let mut w = [[_mm_setzero_si128(); 4]; N];
        for i in 0..N {
            w[i] = load_chunk(&padded_chunk(messages[i], index));
        }
        compress(&mut working, w);
        add_each(&mut working, &before);
    }
    let mut w = [[_mm_setzero_si128(); 4]; N];
    for i in 0..N {
        w[i] = digest_message(working[i]);
    }
    let mut working = [Working::load(&IV); N];
    compress(&mut working, w);
    add_each(&mut working, &[Working::load(&IV); N]);

    let mut digests = [[0; 32]; N];
    for i in 0..N {
        for (place, words) in digests[i].as_chunks_mut::<16>().0.iter_mut().zip(working[i].words()) {
            // SAFETY: `place` is 16 writable bytes; the store needs no alignment.
            unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), swap_bytes(words)) };
        }
    }
    digests
}

/// `K[t] + W[t]` of chunk two for two nonces, four sums to a register, from `t` = 4 on (the first are
/// left at what comes out: rounds 0..3 are in the midstate).
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn chunk_two_sums(search: &Search, nonces: [u32; STREAMS]) -> [[__m128i; STREAMS]; 16] {
    let mut w = [[_mm_setzero_si128(); 4]; STREAMS];
    for i in 0..STREAMS {
        let block = search.chunk_two(nonces[i]);
        for (words, quad) in w[i].iter_mut().zip(block.as_chunks().0) {
            *words = quad_of(quad);
        }
    }
    let mut sums = [[_mm_setzero_si128(); STREAMS]; 16];
    unrolled!(Q in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
        for i in 0..STREAMS {
            sums[Q][i] = next_sums::<Q>(&mut w[i]);
        }
    });
    sums
}

/// Rounds 4..63 of chunk two and the addition of the midstate: the first hashes of two nonces.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn finish_first_hash(
    midstate: &Midstate,
    nonces: [u32; STREAMS],
    sums: &[[__m128i; STREAMS]; 16],
) -> [Working; STREAMS] {
    let mut working = [Working::load(&midstate.after_round_3); STREAMS];
    for i in 0..STREAMS {
        let word = nonces[i].swap_bytes() as i32;
        working[i].abef = _mm_add_epi32(working[i].abef, _mm_setr_epi32(0, word, 0, word));
    }
    for sums in &sums[1..] {
        four_rounds(&mut working, sums);
    }
    add_each(&mut working, &[Working::load(&midstate.state); STREAMS]);
    working
}

/// H7 of the second hashes: `IV[7]` plus what `f` is after round 61.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn second_hash_last_words(first_hashes: [Working; STREAMS]) -> [u32; STREAMS] {
    let mut w = [[_mm_setzero_si128(); 4]; STREAMS];
    for i in 0..STREAMS {
        w[i] = digest_message(first_hashes[i]);
    }
    let mut working = [Working::load(&IV); STREAMS];
    let mut sums = [_mm_setzero_si128(); STREAMS];
    unrolled!(Q in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
        for i in 0..STREAMS {
            sums[i] = next_sums::<Q>(&mut w[i]);
        }
        if Q < 15 {
            four_rounds(&mut working, &sums);
        } else {
            two_rounds(&mut working, &sums);
        }
    });
    // Two rounds leave the newer pair in `abef`: f, e, b, a from lane 0 up.
    working.map(|working| IV[7].wrapping_add(_mm_extract_epi32::<0>(working.abef) as u32))
}

/// Compresses a block of 16 words into each of `N` working states (without adding them up after).
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress<const N: usize>(working: &mut [Working; N], mut w: [[__m128i; 4]; N]) {
    let mut sums = [_mm_setzero_si128(); N];
    unrolled!(Q in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
        for i in 0..N {
            sums[i] = next_sums::<Q>(&mut w[i]);
        }
        four_rounds(working, &sums);
    });
}

/// The working variables as the instructions want them; lane 3 holds the first letter, lane 0 the last.
#[derive(Clone, Copy)]
struct Working {
    abef: __m128i,
    cdgh: __m128i,
}

impl Working {
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn load(state: &State) -> Working {
        let [a, b, c, d, e, f, g, h] = state.map(|x| x as i32);
        Working { abef: _mm_setr_epi32(f, e, b, a), cdgh: _mm_setr_epi32(h, g, d, c) }
    }

    /// a..d and e..h, each in the order of the lanes.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn words(self) -> [__m128i; 2] {
        let badc = _mm_unpackhi_epi64(self.abef, self.cdgh);
        let fehg = _mm_unpacklo_epi64(self.abef, self.cdgh);
        [_mm_shuffle_epi32::<0b10_11_00_01>(badc), _mm_shuffle_epi32::<0b10_11_00_01>(fehg)]
    }
}

/// Rounds t..t+3, `sums` being `K + W` of them in the order of the lanes.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four_rounds<const N: usize>(working: &mut [Working; N], sums: &[__m128i; N]) {
    two_rounds(working, sums);
    let mut upper = *sums;
    for upper in &mut upper {
        *upper = _mm_shuffle_epi32::<0b11_10_11_10>(*upper);
    }
    two_rounds(working, &upper);
}

/// Two rounds, with the sums in the lower two lanes.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn two_rounds<const N: usize>(working: &mut [Working; N], sums: &[__m128i; N]) {
    for (working, sums) in working.iter_mut().zip(sums) {
        let Working { abef, cdgh } = *working;
        *working = Working { abef: _mm_sha256rnds2_epu32(cdgh, abef, *sums), cdgh: abef };
    }
}

/// `K + W` of rounds `4 * Q ..`, after which their place in the ring `w` of sixteen words is taken by
/// the words sixteen later.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn next_sums<const Q: usize>(w: &mut [__m128i; 4]) -> __m128i {
    let [oldest, second, third, newest] = [w[Q % 4], w[(Q + 1) % 4], w[(Q + 2) % 4], w[(Q + 3) % 4]];
    if Q < 12 {
        let seven_before = _mm_alignr_epi8::<4>(newest, third);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, second), seven_before);
        w[Q % 4] = _mm_sha256msg2_epu32(sum, newest);
    }
    _mm_add_epi32(oldest, quad_of(&K.as_chunks().0[Q]))
}

/// Adds the state before a compression to the one after it.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn add_each<const N: usize>(working: &mut [Working; N], before: &[Working; N]) {
    for (working, before) in working.iter_mut().zip(before) {
        working.abef = _mm_add_epi32(working.abef, before.abef);
        working.cdgh = _mm_add_epi32(working.cdgh, before.cdgh);
    }
}

/// The padded message that a first hash is to the second: 32 bytes, a 1 bit, their length in bits.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn digest_message(first_hash: Working) -> [__m128i; 4] {
    let [low, high] = first_hash.words();
    [low, high, _mm_setr_epi32(i32::MIN, 0, 0, 0), _mm_setr_epi32(0, 0, 0, 32 * 8)]
}

/// The words of a chunk of bytes.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load_chunk(chunk: &[u8; 64]) -> [__m128i; 4] {
    let mut words = [_mm_setzero_si128(); 4];
    for (words, bytes) in words.iter_mut().zip(chunk.as_chunks::<16>().0) {
        // SAFETY: `bytes` is 16 readable bytes; the load needs no alignment.
        *words = swap_bytes(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
    }
    words
}

/// Four words in the order of the lanes.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn quad_of(words: &[u32; 4]) -> __m128i {
    let [w0, w1, w2, w3] = words.map(|w| w as i32);
    _mm_setr_epi32(w0, w1, w2, w3)
}

/// Reverses the four bytes of every lane.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn swap_bytes(words: __m128i) -> __m128i {
    let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    _mm_shuffle_epi8(words, order)
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_kernel_if_present;
    use super::ShaNiKernel;
    use crate::cpu::{Cpu, Isa};

    #[test]
    fn agrees_with_portable() {
        check_kernel_if_present(Isa::ShaNi, Cpu::detect().sha_ni().map(ShaNiKernel::new));
    }
}
