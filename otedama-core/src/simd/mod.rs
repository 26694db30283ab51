//! Vectors of 32-bit and 64-bit lanes: thin names for the instructions the kernels need, safe behind
//! tokens.
//!
//! A lane value can only be made from the token of its instruction set ([`crate::cpu`]), so holding
//! one proves that its instructions may run and every operation on it is a safe function. The
//! operations are `inline(always)` and carry no `#[target_feature]` of their own (trait methods
//! cannot): they must be reached through [`Vectorized::run_on`], whose one function per instruction
//! set does carry it, and everything between must be `inline(always)` too. A body that is not
//! inlined still computes the right answer, slowly.
//!
//! | instruction set | [`Lanes`], 32 bits | [`Lanes64`] |
//! | --- | --- | --- |
//! | AVX2 | 8: [`avx2::U32x8`] | 4: [`avx2::U64x4`] |
//! | AVX-512 | 16: [`avx512::U32x16`] | 8: [`avx512::U64x8`] |

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;

use crate::cpu::Isa;

/// A token that enters code compiled for its instruction set.
pub trait Token: Copy + Send + Sync + 'static {
    /// The vector of 32-bit lanes that this instruction set works on.
    type Lanes: Lanes<Token = Self>;

    /// The vector of 64-bit lanes that this instruction set works on. A [`Vectorized`] body reaches it
    /// as `<L::Token as Token>::Lanes64`.
    type Lanes64: Lanes64<Token = Self>;

    /// The instruction set that this token proves.
    const ISA: Isa;

    /// Runs `body` inside a function compiled for this instruction set.
    fn run<B: Vectorized>(self, body: B) -> B::Output;
}

/// A piece of work written once over [`Lanes`] and compiled once per instruction set.
pub trait Vectorized {
    /// What the work returns.
    type Output;

    /// The work. Implementations must be `#[inline(always)]`.
    fn run_on<L: Lanes>(self, token: L::Token) -> Self::Output;
}

/// A vector of [`Self::COUNT`] unsigned 32-bit lanes. Arithmetic wraps. Lane 0 is the lowest in memory.
pub trait Lanes: Copy + Send + Sync + 'static {
    /// Proof that the instructions may run; a value of this type cannot be made without one.
    type Token: Token<Lanes = Self>;

    /// How many lanes a vector has.
    const COUNT: usize;

    /// `x` in every lane.
    fn splat(token: Self::Token, x: u32) -> Self;

    /// Lane `i` is `f(i)`. For preparation, not for inner loops.
    fn from_fn(token: Self::Token, f: impl FnMut(usize) -> u32) -> Self;

    /// Copies lanes in; `from` must have [`Self::COUNT`] elements.
    ///
    /// # Panics
    /// If it has another length.
    fn load(token: Self::Token, from: &[u32]) -> Self;

    /// Copies lanes in from `4 * COUNT` bytes at any address, each lane in the machine's byte order.
    ///
    /// # Panics
    /// If `from` has another length.
    fn load_bytes(token: Self::Token, from: &[u8]) -> Self;

    /// Copies the lanes out; `out` must have [`Self::COUNT`] elements.
    ///
    /// # Panics
    /// If it has another length.
    fn store(self, out: &mut [u32]);

    /// Copies the lanes out to `4 * COUNT` bytes at any address, each lane in the machine's byte order.
    ///
    /// # Panics
    /// If `out` has another length.
    fn store_bytes(self, out: &mut [u8]);

    /// Lane-wise `self + other` modulo 2^32.
    #[must_use]
    fn add(self, other: Self) -> Self;

    /// Lane-wise `self * other` modulo 2^32.
    #[must_use]
    fn mul(self, other: Self) -> Self;

    /// Lane-wise exclusive or.
    #[must_use]
    fn xor(self, other: Self) -> Self;

    /// Exclusive or of three vectors.
    #[must_use]
    fn xor3(self, b: Self, c: Self) -> Self;

    /// SHA-2's choice, lane-wise: bits of `f` where `self` is 1, of `g` where it is 0.
    #[must_use]
    fn choose(self, f: Self, g: Self) -> Self;

    /// SHA-2's majority of three bits, lane-wise.
    #[must_use]
    fn majority(self, b: Self, c: Self) -> Self;

    /// Rotates every lane right by `N` bits, 0 < `N` < 32.
    #[must_use]
    fn rotate_right<const N: u32>(self) -> Self;

    /// Shifts every lane right by `N` bits, zeros in, 0 < `N` < 32.
    #[must_use]
    fn shift_right<const N: u32>(self) -> Self;

    /// Reverses the four bytes of every lane.
    #[must_use]
    fn swap_bytes(self) -> Self;

    /// Bit `i` of the answer says whether lane `i` is at most lane `i` of `other`, unsigned.
    #[must_use]
    fn at_most(self, other: Self) -> u32;

    /// Rotates each group of four lanes: lane `4g + i` of the answer is lane `4g + (i + N) % 4`.
    #[must_use]
    fn rotate_quads<const N: u32>(self) -> Self;

    /// Bits `16 i` to `16 i + 15` of the answer are the low half of the first lane of the `i`th group of
    /// four, in a general register: for small numbers that become addresses. The bits from
    /// `16 * COUNT / 4` on are zero.
    fn quad_heads(self) -> u64;

    /// Writes each group of four lanes as 16 bytes, in the machine's byte order, to a row of its own,
    /// from byte `at` on.
    ///
    /// # Panics
    /// If there are not `COUNT / 4` rows, or `at` is past 112.
    fn store_quads(self, rows: &mut [[u8; 128]], at: usize);

    /// Four vectors seen as a matrix of 128-bit cells, transposed within each block of
    /// `COUNT / 4` by `COUNT / 4` cells: AVX-512 turns four rows of four cells into four columns,
    /// AVX2 does so for the two 2-by-2 blocks `[0, 1]` and `[2, 3]`. Its own inverse.
    #[must_use]
    fn transpose_quads(rows: [Self; 4]) -> [Self; 4];
}

/// A vector of [`Self::COUNT`] unsigned 64-bit lanes. Arithmetic wraps. Lane 0 is the lowest in memory.
pub trait Lanes64: Copy + Send + Sync + 'static {
    /// Proof that the instructions may run; a value of this type cannot be made without one.
    type Token: Token<Lanes64 = Self>;

    /// How many lanes a vector has: a multiple of four.
    const COUNT: usize;

    /// `x` in every lane.
    fn splat(token: Self::Token, x: u64) -> Self;

    /// Lane `i` is `f(i)`. For preparation, not for inner loops.
    fn from_fn(token: Self::Token, f: impl FnMut(usize) -> u64) -> Self;

    /// Copies lanes in; `from` must have [`Self::COUNT`] elements.
    ///
    /// # Panics
    /// If it has another length.
    fn load(token: Self::Token, from: &[u64]) -> Self;

    /// Copies lanes in from `8 * COUNT` bytes at any address, each lane in the machine's byte order.
    ///
    /// # Panics
    /// If `from` has another length.
    fn load_bytes(token: Self::Token, from: &[u8]) -> Self;

    /// Copies the lanes out; `out` must have [`Self::COUNT`] elements.
    ///
    /// # Panics
    /// If it has another length.
    fn store(self, out: &mut [u64]);

    /// Copies the lanes out to `8 * COUNT` bytes at any address, each lane in the machine's byte order.
    ///
    /// # Panics
    /// If `out` has another length.
    fn store_bytes(self, out: &mut [u8]);

    /// Lane-wise `self + other` modulo 2^64.
    #[must_use]
    fn add(self, other: Self) -> Self;

    /// Lane-wise product of the low halves: all 64 bits of it.
    #[must_use]
    fn mul_low(self, other: Self) -> Self;

    /// Lane-wise exclusive or.
    #[must_use]
    fn xor(self, other: Self) -> Self;

    /// Exclusive or of three vectors.
    #[must_use]
    fn xor3(self, b: Self, c: Self) -> Self;

    /// Keccak's only step that is not linear, lane-wise: `self ^ (!b & c)`.
    #[must_use]
    fn chi(self, b: Self, c: Self) -> Self;

    /// Rotates every lane left by `N` bits, `N` < 64.
    #[must_use]
    fn rotate_left<const N: u32>(self) -> Self;

    /// Rotates every lane right by `N` bits, `N` < 64.
    #[must_use]
    fn rotate_right<const N: u32>(self) -> Self;

    /// Rotates each group of four lanes: lane `4g + i` of the answer is lane `4g + (i + N) % 4`.
    #[must_use]
    fn rotate_fours<const N: u32>(self) -> Self;

    /// Joins two vectors pair by pair: lanes `2p` and `2p + 1` of the answer are lane `2p + 1` of `self`
    /// and lane `2p` of `next`.
    #[must_use]
    fn join_pairs(self, next: Self) -> Self;

    /// Four vectors seen as a matrix of cells of four lanes, transposed within each block of
    /// `COUNT / 4` by `COUNT / 4` cells: AVX-512 does so for the two 2-by-2 blocks `[0, 1]` and `[2, 3]`,
    /// and AVX2, where a vector is a cell, changes nothing. Its own inverse.
    #[must_use]
    fn transpose_fours(rows: [Self; 4]) -> [Self; 4];
}

/// Asks for the cache line at an address that will be read soon. Any address will do: one that cannot be
/// read costs time only. Nothing happens on processors other than x86.
#[inline(always)]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that touches no memory the program can see and never faults; SSE, which
    // has it, belongs to the architecture.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
