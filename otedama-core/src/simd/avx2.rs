//! AVX2: eight 32-bit lanes or four of 64 bits. No rotate and no three-input logic: both are spelled out.

use super::{Lanes, Lanes64, Token, Vectorized};
use crate::cpu::{Avx2, Isa};
use std::arch::x86_64::*;

/// Eight 32-bit lanes in one ymm register.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct U32x8(__m256i);

/// Four 64-bit lanes in one ymm register.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct U64x4(__m256i);

impl Token for Avx2 {
    type Lanes = U32x8;
    type Lanes64 = U64x4;

    const ISA: Isa = Isa::Avx2;

    #[inline]
    fn run<B: Vectorized>(self, body: B) -> B::Output {
        #[target_feature(enable = "avx2,bmi1,bmi2")]
        fn enter<B: Vectorized>(token: Avx2, body: B) -> B::Output {
            body.run_on::<U32x8>(token)
        }
        // SAFETY: the token proves that AVX2, BMI1 and BMI2 are present (`Cpu::detect`).
        unsafe { enter(self, body) }
    }
}

impl Lanes for U32x8 {
    type Token = Avx2;

    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(_: Avx2, x: u32) -> Self {
        // SAFETY: the token proves AVX2.
        U32x8(unsafe { _mm256_set1_epi32(x as i32) })
    }

    #[inline(always)]
    fn from_fn(_: Avx2, f: impl FnMut(usize) -> u32) -> Self {
        let lanes: [u32; 8] = std::array::from_fn(f);
        // SAFETY: the token proves AVX2; the pointer is to 32 readable bytes, alignment not needed.
        U32x8(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load(_: Avx2, from: &[u32]) -> Self {
        assert_eq!(from.len(), 8, "eight lanes need eight numbers");
        // SAFETY: the token proves AVX2; `from` has 32 readable bytes (asserted above).
        U32x8(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_bytes(_: Avx2, from: &[u8]) -> Self {
        assert_eq!(from.len(), 32, "eight lanes are 32 bytes");
        // SAFETY: the token proves AVX2; `from` has 32 readable bytes (asserted above).
        U32x8(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        assert_eq!(out.len(), 32, "eight lanes are 32 bytes");
        // SAFETY: a lane value proves AVX2; `out` has 32 writable bytes (asserted above).
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store(self, out: &mut [u32]) {
        assert_eq!(out.len(), 8, "eight lanes need eight places");
        // SAFETY: a lane value proves AVX2; `out` has 32 writable bytes (asserted above).
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe { _mm256_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe { _mm256_mullo_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        self.xor(b).xor(c)
    }

    #[inline(always)]
    fn choose(self, f: Self, g: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe { _mm256_xor_si256(g.0, _mm256_and_si256(self.0, _mm256_xor_si256(f.0, g.0))) })
    }

    #[inline(always)]
    fn majority(self, b: Self, c: Self) -> Self {
        // Where b and c agree they are the majority; where they differ, a decides.
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe {
            _mm256_xor_si256(b.0, _mm256_and_si256(_mm256_xor_si256(self.0, b.0), _mm256_xor_si256(b.0, c.0)))
        })
    }

    #[inline(always)]
    fn rotate_right<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX2. Constant counts become immediate shifts.
        U32x8(unsafe {
            let right = _mm256_srlv_epi32(self.0, _mm256_set1_epi32(N as i32));
            let left = _mm256_sllv_epi32(self.0, _mm256_set1_epi32(32 - N as i32));
            _mm256_or_si256(right, left)
        })
    }

    #[inline(always)]
    fn shift_right<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe { _mm256_srlv_epi32(self.0, _mm256_set1_epi32(N as i32)) })
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        // SAFETY: a lane value proves AVX2.
        unsafe {
            let order = _mm256_broadcastsi128_si256(_mm_set_epi8(
                12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
            ));
            U32x8(_mm256_shuffle_epi8(self.0, order))
        }
    }

    #[inline(always)]
    fn at_most(self, other: Self) -> u32 {
        // a <= b exactly when min(a, b) = a, unsigned.
        // SAFETY: a lane value proves AVX2.
        unsafe {
            let equal = _mm256_cmpeq_epi32(_mm256_min_epu32(self.0, other.0), self.0);
            _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u32
        }
    }

    #[inline(always)]
    fn rotate_quads<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U32x8(unsafe {
            match N % 4 {
                0 => self.0,
                1 => _mm256_shuffle_epi32::<0b00_11_10_01>(self.0),
                2 => _mm256_shuffle_epi32::<0b01_00_11_10>(self.0),
                _ => _mm256_shuffle_epi32::<0b10_01_00_11>(self.0),
            }
        })
    }

    #[inline(always)]
    fn quad_heads(self) -> u64 {
        // SAFETY: a lane value proves AVX2.
        let (low, high) = unsafe { (_mm256_extract_epi32::<0>(self.0), _mm256_extract_epi32::<4>(self.0)) };
        u64::from(low as u16) | u64::from(high as u16) << 16
    }

    #[inline(always)]
    fn store_quads(self, rows: &mut [[u8; 128]], at: usize) {
        assert!(rows.len() == 2 && at <= 112, "two quads need as many rows, and room in them");
        // SAFETY: a lane value proves AVX2.
        let quads = unsafe { [_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0)] };
        for (quad, row) in quads.into_iter().zip(rows) {
            // SAFETY: a lane value proves AVX2; 16 bytes from `at` on are in the row (asserted above).
            unsafe { _mm_storeu_si128(row.as_mut_ptr().add(at).cast(), quad) }
        }
    }

    #[inline(always)]
    fn transpose_quads(rows: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = rows.map(|row| row.0);
        // SAFETY: lane values prove AVX2.
        unsafe {
            [
                U32x8(_mm256_permute2x128_si256::<0x20>(a, b)), // a0 b0
                U32x8(_mm256_permute2x128_si256::<0x31>(a, b)), // a1 b1
                U32x8(_mm256_permute2x128_si256::<0x20>(c, d)),
                U32x8(_mm256_permute2x128_si256::<0x31>(c, d)),
            ]
        }
    }
}

impl Lanes64 for U64x4 {
    type Token = Avx2;

    const COUNT: usize = 4;

    #[inline(always)]
    fn splat(_: Avx2, x: u64) -> Self {
        // SAFETY: the token proves AVX2.
        U64x4(unsafe { _mm256_set1_epi64x(x as i64) })
    }

    #[inline(always)]
    fn from_fn(_: Avx2, f: impl FnMut(usize) -> u64) -> Self {
        let lanes: [u64; 4] = std::array::from_fn(f);
        // SAFETY: the token proves AVX2; the pointer is to 32 readable bytes, alignment not needed.
        U64x4(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load(_: Avx2, from: &[u64]) -> Self {
        assert_eq!(from.len(), 4, "four lanes need four numbers");
        // SAFETY: the token proves AVX2; `from` has 32 readable bytes (asserted above).
        U64x4(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_bytes(_: Avx2, from: &[u8]) -> Self {
        assert_eq!(from.len(), 32, "four lanes are 32 bytes");
        // SAFETY: the token proves AVX2; `from` has 32 readable bytes (asserted above).
        U64x4(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, out: &mut [u64]) {
        assert_eq!(out.len(), 4, "four lanes need four places");
        // SAFETY: a lane value proves AVX2; `out` has 32 writable bytes (asserted above).
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        assert_eq!(out.len(), 32, "four lanes are 32 bytes");
        // SAFETY: a lane value proves AVX2; `out` has 32 writable bytes (asserted above).
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U64x4(unsafe { _mm256_add_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U64x4(unsafe { _mm256_mul_epu32(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U64x4(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        self.xor(b).xor(c)
    }

    #[inline(always)]
    fn chi(self, b: Self, c: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U64x4(unsafe { _mm256_xor_si256(self.0, _mm256_andnot_si256(b.0, c.0)) })
    }

    #[inline(always)]
    fn rotate_left<const N: u32>(self) -> Self {
        rotate_right((64 - N) % 64, self)
    }

    #[inline(always)]
    fn rotate_right<const N: u32>(self) -> Self {
        rotate_right(N, self)
    }

    #[inline(always)]
    fn rotate_fours<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U64x4(unsafe {
            match N % 4 {
                0 => self.0,
                1 => _mm256_permute4x64_epi64::<0b00_11_10_01>(self.0),
                2 => _mm256_permute4x64_epi64::<0b01_00_11_10>(self.0),
                _ => _mm256_permute4x64_epi64::<0b10_01_00_11>(self.0),
            }
        })
    }

    #[inline(always)]
    fn join_pairs(self, next: Self) -> Self {
        // SAFETY: a lane value proves AVX2.
        U64x4(unsafe { _mm256_alignr_epi8::<8>(next.0, self.0) })
    }

    #[inline(always)]
    fn transpose_fours(rows: [Self; 4]) -> [Self; 4] {
        rows
    }
}

/// A rotation of 64-bit lanes by a count that is a constant where this is called: by whole bytes it is one
/// shuffle, by any other number two shifts.
#[inline(always)]
fn rotate_right(count: u32, x: U64x4) -> U64x4 {
    // SAFETY: a lane value proves AVX2. Constant counts become immediate shifts.
    U64x4(unsafe {
        if count == 32 {
            _mm256_shuffle_epi32::<0b10_11_00_01>(x.0)
        } else if count.is_multiple_of(8) {
            let from = |byte: i64, lane: i64| (8 * lane) + (byte + i64::from(count / 8)) % 8;
            let places = |lane| (0..8).fold(0, |order, byte| order | from(byte, lane) << (8 * byte));
            let order = _mm256_broadcastsi128_si256(_mm_set_epi64x(places(1), places(0)));
            _mm256_shuffle_epi8(x.0, order)
        } else {
            let right = _mm256_srlv_epi64(x.0, _mm256_set1_epi64x(i64::from(count)));
            let left = _mm256_sllv_epi64(x.0, _mm256_set1_epi64x(i64::from(64 - count)));
            _mm256_or_si256(right, left)
        }
    })
}
