//! The generators and the fingerprint of [`aes`](super::aes) with the x86 AES instructions.
//!
//! Each of the four columns is a chain of rounds, and the unit starts a round every cycle (two on newer
//! processors) but answers after three or four: four columns side by side keep it busy about as well as
//! their chains allow.

use std::arch::x86_64::*;

use super::aes::{GENERATOR_1R_KEYS, HASH_1R_EXTRA_KEYS, HASH_1R_STATE, State};
use super::config::Params;
use crate::cpu::AesNi;

/// [`aes::fill_1r`](super::aes::fill_1r).
///
/// # Panics
/// If `out` is not a multiple of 64 bytes.
pub fn fill_1r(_token: AesNi, state: &mut State, out: &mut [u8]) {
    let (lines, rest) = out.as_chunks_mut();
    assert!(rest.is_empty(), "the AES generators make whole lines of 64 bytes");
    // SAFETY: the token proves AES.
    unsafe { fill::<1>(state, [GENERATOR_1R_KEYS], lines) }
}

/// [`aes::fill_4r`](super::aes::fill_4r).
///
/// # Panics
/// If `out` is not a multiple of 64 bytes.
pub fn fill_4r(_token: AesNi, params: &Params, state: &mut State, out: &mut [u8]) {
    let (lines, rest) = out.as_chunks_mut();
    assert!(rest.is_empty(), "the AES generators make whole lines of 64 bytes");
    let [left, right] = params.generator_4r_keys;
    let keys = std::array::from_fn(|i| [left[i], left[i], right[i], right[i]]);
    // SAFETY: the token proves AES.
    unsafe { fill::<4>(state, keys, lines) }
}

/// [`aes::hash_1r`](super::aes::hash_1r).
///
/// # Panics
/// If `input` is not a multiple of 64 bytes.
pub fn hash_1r(_token: AesNi, input: &[u8]) -> [u8; 64] {
    let (lines, rest) = input.as_chunks();
    assert!(rest.is_empty(), "AesHash1R takes whole lines of 64 bytes");
    // SAFETY: the token proves AES.
    unsafe { fingerprint(lines) }
}

/// [`aes::hash_1r`](super::aes::hash_1r) of `memory` and [`aes::fill_1r`](super::aes::fill_1r) in one pass:
/// each line is filled once it has been read.
///
/// # Panics
/// If `memory` is not a multiple of 64 bytes.
pub fn hash_and_fill_1r(_token: AesNi, state: &mut State, memory: &mut [u8]) -> [u8; 64] {
    let (lines, rest) = memory.as_chunks_mut();
    assert!(rest.is_empty(), "the AES generators make whole lines of 64 bytes");
    // SAFETY: the token proves AES.
    unsafe { fingerprint_and_fill(state, lines) }
}

/// How far ahead of the pass lines are asked for: it crosses 4 KiB, at which the processor's own
/// prefetcher stops. Where this was measured, 140 us a pass without, 105 with 128 lines, 125 with 16 to 64.
const LINES_AHEAD: usize = 128;

#[target_feature(enable = "aes")]
fn fingerprint_and_fill(state: &mut State, lines: &mut [[u8; 64]]) -> [u8; 64] {
    let mut columns = HASH_1R_STATE.map(vector);
    let mut filler = state.map(vector);
    let keys = GENERATOR_1R_KEYS.map(vector);
    let range = lines.as_ptr_range();
    for line in lines {
        let ahead = (&raw const *line).wrapping_add(LINES_AHEAD).min(range.end);
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        hash_round(&mut columns, load(line));
        fill_round(&mut filler, keys);
        *line = bytes(filler);
    }
    *state = super::aes::state_from_bytes(&bytes(filler));
    finish(columns)
}

#[target_feature(enable = "aes")]
fn fill<const ROUNDS: usize>(state: &mut State, keys: [State; ROUNDS], out: &mut [[u8; 64]]) {
    let keys = keys.map(|keys| keys.map(vector));
    let mut columns = state.map(vector);
    for line in out {
        for keys in &keys {
            fill_round(&mut columns, *keys);
        }
        *line = bytes(columns);
    }
    *state = super::aes::state_from_bytes(&bytes(columns));
}

#[target_feature(enable = "aes")]
fn fingerprint(lines: &[[u8; 64]]) -> [u8; 64] {
    let mut columns = HASH_1R_STATE.map(vector);
    for line in lines {
        let keys = load(line);
        hash_round(&mut columns, keys);
    }
    finish(columns)
}

#[inline]
#[target_feature(enable = "aes")]
fn finish(mut columns: [__m128i; 4]) -> [u8; 64] {
    for key in HASH_1R_EXTRA_KEYS {
        hash_round(&mut columns, [vector(key); 4]);
    }
    bytes(columns)
}

#[inline]
#[target_feature(enable = "aes")]
fn fill_round(columns: &mut [__m128i; 4], keys: [__m128i; 4]) {
    columns[0] = _mm_aesdec_si128(columns[0], keys[0]);
    columns[1] = _mm_aesenc_si128(columns[1], keys[1]);
    columns[2] = _mm_aesdec_si128(columns[2], keys[2]);
    columns[3] = _mm_aesenc_si128(columns[3], keys[3]);
}

#[inline]
#[target_feature(enable = "aes")]
fn hash_round(columns: &mut [__m128i; 4], keys: [__m128i; 4]) {
    columns[0] = _mm_aesenc_si128(columns[0], keys[0]);
    columns[1] = _mm_aesdec_si128(columns[1], keys[1]);
    columns[2] = _mm_aesenc_si128(columns[2], keys[2]);
    columns[3] = _mm_aesdec_si128(columns[3], keys[3]);
}

#[inline]
fn vector(number: u128) -> __m128i {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_set_epi64x((number >> 64) as i64, number as i64) }
}

#[inline]
fn load(line: &[u8; 64]) -> [__m128i; 4] {
    super::aes::state_from_bytes(line).map(vector)
}

#[inline]
fn bytes(columns: [__m128i; 4]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (place, column) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(columns) {
        // SAFETY: `place` is 16 writable bytes; the store needs no alignment.
        unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), column) };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::aes;
    use super::*;
    use crate::algo::randomx::config::RX_0;
    use crate::cpu::Cpu;

    #[test]
    fn agrees_with_the_portable_rounds() {
        let Some(token) = Cpu::detect().aes_ni() else {
            println!("SKIPPED: no AES-NI here");
            return;
        };
        let seed: [u8; 64] = std::array::from_fn(|i| (i * 37 + 11) as u8);
        for params in Params::ALL {
            let (mut ours, mut theirs) = (aes::state_from_bytes(&seed), aes::state_from_bytes(&seed));
            let (mut out, mut expected) = (vec![0; 64 * 33], vec![0; 64 * 33]);
            fill_4r(token, params, &mut ours, &mut out);
            aes::fill_4r(params, &mut theirs, &mut expected);
            assert_eq!((&out, ours), (&expected, theirs));
            fill_1r(token, &mut ours, &mut out);
            aes::fill_1r(&mut theirs, &mut expected);
            assert_eq!((&out, ours), (&expected, theirs));
            assert_eq!(hash_1r(token, &out), aes::hash_1r(&out));
            let hash = hash_and_fill_1r(token, &mut ours, &mut out);
            assert_eq!(hash, aes::hash_1r(&expected));
            aes::fill_1r(&mut theirs, &mut expected);
            assert_eq!((&out, ours), (&expected, theirs));
            fill_4r(token, &RX_0, &mut ours, &mut []);
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    #[should_panic(expected = "whole lines")]
    fn refuses_a_part_of_a_line() {
        let token = Cpu::detect().aes_ni().expect("whole lines (no AES-NI here)");
        hash_1r(token, &[0; 63]);
    }
}
