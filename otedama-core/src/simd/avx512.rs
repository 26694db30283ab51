//! AVX-512: sixteen 32-bit lanes or eight of 64 bits. Rotates and three-input logic are single instructions
//! here.

use super::{Lanes, Lanes64, Token, Vectorized};
use crate::cpu::{Avx512, Isa};
use std::arch::x86_64::*;

/// Sixteen 32-bit lanes in one zmm register.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct U32x16(__m512i);

/// Eight 64-bit lanes in one zmm register.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct U64x8(__m512i);

impl Token for Avx512 {
    type Lanes = U32x16;
    type Lanes64 = U64x8;

    const ISA: Isa = Isa::Avx512;

    #[inline]
    fn run<B: Vectorized>(self, body: B) -> B::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
        fn enter<B: Vectorized>(token: Avx512, body: B) -> B::Output {
            body.run_on::<U32x16>(token)
        }
        // SAFETY: the token proves that AVX-512 F, BW, DQ, VL, BMI1 and BMI2 are present (`Cpu::detect`).
        unsafe { enter(self, body) }
    }
}

/// Three-input logic by truth table: bit `4a + 2b + c` of `TABLE` is the answer for bits a, b, c.
macro_rules! ternary {
    ($a:expr, $b:expr, $c:expr, $table:literal) => {
        // SAFETY: the operands are lane values, so a token was shown: AVX-512 F is present.
        U32x16(unsafe { _mm512_ternarylogic_epi32::<$table>($a.0, $b.0, $c.0) })
    };
}

impl Lanes for U32x16 {
    type Token = Avx512;

    const COUNT: usize = 16;

    #[inline(always)]
    fn splat(_: Avx512, x: u32) -> Self {
        // SAFETY: the token proves AVX-512 F.
        U32x16(unsafe { _mm512_set1_epi32(x as i32) })
    }

    #[inline(always)]
    fn from_fn(_: Avx512, f: impl FnMut(usize) -> u32) -> Self {
        let lanes: [u32; 16] = std::array::from_fn(f);
        // SAFETY: the token proves AVX-512 F; the pointer is to 64 readable bytes, alignment not needed.
        U32x16(unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load(_: Avx512, from: &[u32]) -> Self {
        assert_eq!(from.len(), 16, "sixteen lanes need sixteen numbers");
        // SAFETY: the token proves AVX-512 F; `from` has 64 readable bytes (asserted above).
        U32x16(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_bytes(_: Avx512, from: &[u8]) -> Self {
        assert_eq!(from.len(), 64, "sixteen lanes are 64 bytes");
        // SAFETY: the token proves AVX-512 F; `from` has 64 readable bytes (asserted above).
        U32x16(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        assert_eq!(out.len(), 64, "sixteen lanes are 64 bytes");
        // SAFETY: a lane value proves AVX-512 F; `out` has 64 writable bytes (asserted above).
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store(self, out: &mut [u32]) {
        assert_eq!(out.len(), 16, "sixteen lanes need sixteen places");
        // SAFETY: a lane value proves AVX-512 F; `out` has 64 writable bytes (asserted above).
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U32x16(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U32x16(unsafe { _mm512_mullo_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U32x16(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        ternary!(self, b, c, 0x96)
    }

    #[inline(always)]
    fn choose(self, f: Self, g: Self) -> Self {
        ternary!(self, f, g, 0xca)
    }

    #[inline(always)]
    fn majority(self, b: Self, c: Self) -> Self {
        ternary!(self, b, c, 0xe8)
    }

    #[inline(always)]
    fn rotate_right<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F. The count is a constant, so this becomes `vprord`.
        U32x16(unsafe { _mm512_rorv_epi32(self.0, _mm512_set1_epi32(N as i32)) })
    }

    #[inline(always)]
    fn shift_right<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U32x16(unsafe { _mm512_srli_epi32::<N>(self.0) })
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F and BW.
        unsafe {
            let order =
                _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
            U32x16(_mm512_shuffle_epi8(self.0, order))
        }
    }

    #[inline(always)]
    fn at_most(self, other: Self) -> u32 {
        // SAFETY: a lane value proves AVX-512 F.
        u32::from(unsafe { _mm512_cmple_epu32_mask(self.0, other.0) })
    }

    #[inline(always)]
    fn rotate_quads<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U32x16(unsafe {
            match N % 4 {
                0 => self.0,
                1 => _mm512_shuffle_epi32::<0b00_11_10_01>(self.0),
                2 => _mm512_shuffle_epi32::<0b01_00_11_10>(self.0),
                _ => _mm512_shuffle_epi32::<0b10_01_00_11>(self.0),
            }
        })
    }

    #[inline(always)]
    fn quad_heads(self) -> u64 {
        // SAFETY: a lane value proves AVX-512 F and BW. The assembly is empty: it only hides where the
        // number comes from, or the compiler takes it apart in vector registers again.
        unsafe {
            let order = _mm512_castsi128_si512(_mm_set_epi64x(0, 0x0018_0010_0008_0000));
            let packed = _mm512_castsi512_si128(_mm512_permutexvar_epi16(order, self.0));
            let mut heads = _mm_cvtsi128_si64(packed) as u64;
            std::arch::asm!("/* {0} */", inout(reg) heads, options(pure, nomem, nostack, preserves_flags));
            heads
        }
    }

    #[inline(always)]
    fn store_quads(self, rows: &mut [[u8; 128]], at: usize) {
        assert!(rows.len() == 4 && at <= 112, "four quads need as many rows, and room in them");
        // SAFETY: a lane value proves AVX-512 F.
        let quads = unsafe {
            [
                _mm512_castsi512_si128(self.0),
                _mm512_extracti32x4_epi32::<1>(self.0),
                _mm512_extracti32x4_epi32::<2>(self.0),
                _mm512_extracti32x4_epi32::<3>(self.0),
            ]
        };
        for (quad, row) in quads.into_iter().zip(rows) {
            // SAFETY: a lane value proves AVX-512 F; 16 bytes from `at` on are in the row (asserted above).
            unsafe { _mm_storeu_si128(row.as_mut_ptr().add(at).cast(), quad) }
        }
    }

    #[inline(always)]
    fn transpose_quads(rows: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = rows.map(|row| row.0);
        // SAFETY: lane values prove AVX-512 F.
        unsafe {
            // Even and odd cells of each pair of rows, then even and odd of those.
            let ab_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b); // a0 a2 b0 b2
            let ab_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b); // a1 a3 b1 b3
            let cd_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
            let cd_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
            [
                U32x16(_mm512_shuffle_i32x4::<0b10_00_10_00>(ab_even, cd_even)), // a0 b0 c0 d0
                U32x16(_mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, cd_odd)),   // a1 b1 c1 d1
                U32x16(_mm512_shuffle_i32x4::<0b11_01_11_01>(ab_even, cd_even)), // a2 b2 c2 d2
                U32x16(_mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, cd_odd)),   // a3 b3 c3 d3
            ]
        }
    }
}

impl Lanes64 for U64x8 {
    type Token = Avx512;

    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(_: Avx512, x: u64) -> Self {
        // SAFETY: the token proves AVX-512 F.
        U64x8(unsafe { _mm512_set1_epi64(x as i64) })
    }

    #[inline(always)]
    fn from_fn(_: Avx512, f: impl FnMut(usize) -> u64) -> Self {
        let lanes: [u64; 8] = std::array::from_fn(f);
        // SAFETY: the token proves AVX-512 F; the pointer is to 64 readable bytes, alignment not needed.
        U64x8(unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load(_: Avx512, from: &[u64]) -> Self {
        assert_eq!(from.len(), 8, "eight lanes need eight numbers");
        // SAFETY: the token proves AVX-512 F; `from` has 64 readable bytes (asserted above).
        U64x8(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_bytes(_: Avx512, from: &[u8]) -> Self {
        assert_eq!(from.len(), 64, "eight lanes are 64 bytes");
        // SAFETY: the token proves AVX-512 F; `from` has 64 readable bytes (asserted above).
        U64x8(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, out: &mut [u64]) {
        assert_eq!(out.len(), 8, "eight lanes need eight places");
        // SAFETY: a lane value proves AVX-512 F; `out` has 64 writable bytes (asserted above).
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        assert_eq!(out.len(), 64, "eight lanes are 64 bytes");
        // SAFETY: a lane value proves AVX-512 F; `out` has 64 writable bytes (asserted above).
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U64x8(unsafe { _mm512_add_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U64x8(unsafe { _mm512_mul_epu32(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U64x8(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F. The table is of `ternary`.
        U64x8(unsafe { _mm512_ternarylogic_epi64::<0x96>(self.0, b.0, c.0) })
    }

    #[inline(always)]
    fn chi(self, b: Self, c: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F. The table is of `ternary`.
        U64x8(unsafe { _mm512_ternarylogic_epi64::<0xd2>(self.0, b.0, c.0) })
    }

    #[inline(always)]
    fn rotate_left<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F. The count is a constant, so this becomes `vprolq`.
        U64x8(unsafe { _mm512_rolv_epi64(self.0, _mm512_set1_epi64(i64::from(N))) })
    }

    #[inline(always)]
    fn rotate_right<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F. The count is a constant, so this becomes `vprorq`.
        U64x8(unsafe { _mm512_rorv_epi64(self.0, _mm512_set1_epi64(i64::from(N))) })
    }

    #[inline(always)]
    fn rotate_fours<const N: u32>(self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U64x8(unsafe {
            match N % 4 {
                0 => self.0,
                1 => _mm512_permutex_epi64::<0b00_11_10_01>(self.0),
                2 => _mm512_permutex_epi64::<0b01_00_11_10>(self.0),
                _ => _mm512_permutex_epi64::<0b10_01_00_11>(self.0),
            }
        })
    }

    #[inline(always)]
    fn join_pairs(self, next: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F and BW.
        U64x8(unsafe { _mm512_alignr_epi8::<8>(next.0, self.0) })
    }

    #[inline(always)]
    fn transpose_fours(rows: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = rows.map(|row| row.0);
        // SAFETY: lane values prove AVX-512 F.
        unsafe {
            [
                U64x8(_mm512_shuffle_i64x2::<0b01_00_01_00>(a, b)), // a0 b0
                U64x8(_mm512_shuffle_i64x2::<0b11_10_11_10>(a, b)), // a1 b1
                U64x8(_mm512_shuffle_i64x2::<0b01_00_01_00>(c, d)),
                U64x8(_mm512_shuffle_i64x2::<0b11_10_11_10>(c, d)),
            ]
        }
    }
}

/// What only these vectors can do.
impl U64x8 {
    /// The first `N` lanes xored with those of another vector, `N` at most 8; the other lanes as they are.
    #[inline(always)]
    #[must_use]
    pub fn xor_first<const N: usize>(self, other: Self) -> Self {
        // SAFETY: lane values prove AVX-512 F.
        U64x8(unsafe { _mm512_mask_xor_epi64(self.0, ((1u32 << N) - 1) as __mmask8, self.0, other.0) })
    }

    /// Lane `i` of the answer is lane `places[i] % 8` of `self`.
    #[inline(always)]
    #[must_use]
    pub fn permute(self, places: Self) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U64x8(unsafe { _mm512_permutexvar_epi64(places.0, self.0) })
    }

    /// Lane `i` of the answer is lane `places[i] % 16` of the sixteen lanes of `self` and `next`.
    #[inline(always)]
    #[must_use]
    pub fn permute_two(self, next: Self, places: Self) -> Self {
        // SAFETY: lane values prove AVX-512 F.
        U64x8(unsafe { _mm512_permutex2var_epi64(self.0, places.0, next.0) })
    }

    /// Lanes 0, 2, 4, 6 of `self`, each followed by the same lane of `next`.
    #[inline(always)]
    #[must_use]
    pub fn interleave_even(self, next: Self) -> Self {
        // SAFETY: lane values prove AVX-512 F.
        U64x8(unsafe { _mm512_unpacklo_epi64(self.0, next.0) })
    }

    /// Lanes 1, 3, 5, 7 of `self`, each followed by the same lane of `next`.
    #[inline(always)]
    #[must_use]
    pub fn interleave_odd(self, next: Self) -> Self {
        // SAFETY: lane values prove AVX-512 F.
        U64x8(unsafe { _mm512_unpackhi_epi64(self.0, next.0) })
    }

    /// Rotates lane `i` left by `counts[i] % 64` bits.
    #[inline(always)]
    #[must_use]
    pub fn rotate_left_each(self, counts: Self) -> Self {
        // SAFETY: lane values prove AVX-512 F.
        U64x8(unsafe { _mm512_rolv_epi64(self.0, counts.0) })
    }

    /// `self` with lane `LANE` replaced by `x`; `LANE` is below 8.
    #[inline(always)]
    #[must_use]
    pub fn with_lane<const LANE: usize>(self, x: u64) -> Self {
        // SAFETY: a lane value proves AVX-512 F.
        U64x8(unsafe { _mm512_mask_set1_epi64(self.0, 1 << LANE, x as i64) })
    }
}
