//! Keccak (Bertoni, Daemen, Peeters, Van Assche; FIPS 202, section 3), with the padding it had before it
//! became SHA-3: one byte 1 after the message where SHA-3 has 6. Ethereum hashes with this one.
//!
//! A state is 5 by 5 words; the word in column x of row y is `state[x + 5 y]`. [`f1600`] works on 64-bit
//! words in 24 rounds, [`f800`] on 32-bit words in 22.

use std::ops::{BitAnd, BitXor, Not};

/// Keccak-f\[1600\]: 24 rounds over 25 words of 64 bits, in place.
#[inline(always)]
pub fn f1600(state: &mut [u64; 25]) {
    permute(state);
}

/// Keccak-f\[800\]: 22 rounds over 25 words of 32 bits, in place.
pub fn f800(state: &mut [u32; 25]) {
    permute(state);
}

/// Keccak-256 of a message: 32 bytes.
pub fn keccak256(message: &[u8]) -> [u8; 32] {
    sponge::<136, 32>(message)
}

/// Keccak-512 of a message: 64 bytes.
pub fn keccak512(message: &[u8]) -> [u8; 64] {
    sponge::<72, 64>(message)
}

/// The constant that a round of Keccak-f\[1600\] adds to word 0. A narrower permutation takes the low bits.
pub const ROUND_CONSTANTS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// How far step rho rotates word `x + 5 y` to the left, modulo the word's width.
pub const ROTATIONS: [u32; 25] = rotations();

/// FIPS 202, section 3.2.2: from (1, 0) on, word t of the walk (x, y) -> (y, 2x + 3y) turns by
/// (t + 1)(t + 2) / 2.
const fn rotations() -> [u32; 25] {
    let mut offsets = [0; 25];
    let (mut x, mut y) = (1, 0);
    let mut t = 0;
    while t < 24 {
        offsets[x + 5 * y] = (t + 1) * (t + 2) / 2 % 64;
        (x, y) = (y, (2 * x + 3 * y) % 5);
        t += 1;
    }
    offsets
}

/// Absorbs blocks of `RATE` bytes and returns the first `OUT` bytes of the state; `OUT` is below `RATE`.
fn sponge<const RATE: usize, const OUT: usize>(message: &[u8]) -> [u8; OUT] {
    let mut state = [0; 25];
    let (blocks, rest) = message.as_chunks::<RATE>();
    for block in blocks {
        absorb(&mut state, block);
    }
    let mut last = [0; RATE];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] ^= 0x01;
    last[RATE - 1] ^= 0x80;
    absorb(&mut state, &last);

    let mut out = [0; OUT];
    for (bytes, word) in out.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_le_bytes();
    }
    out
}

fn absorb(state: &mut [u64; 25], block: &[u8]) {
    for (word, bytes) in state.iter_mut().zip(block.as_chunks().0) {
        *word ^= u64::from_le_bytes(*bytes);
    }
    f1600(state);
}

/// A word of the state.
trait Word: Copy + BitXor<Output = Self> + BitAnd<Output = Self> + Not<Output = Self> {
    const ROUNDS: usize;

    fn rotate_left(self, n: u32) -> Self;

    fn constant(round: usize) -> Self;
}

impl Word for u64 {
    const ROUNDS: usize = 24;

    fn rotate_left(self, n: u32) -> u64 {
        self.rotate_left(n)
    }

    fn constant(round: usize) -> u64 {
        ROUND_CONSTANTS[round]
    }
}

impl Word for u32 {
    const ROUNDS: usize = 22;

    fn rotate_left(self, n: u32) -> u32 {
        self.rotate_left(n % 32)
    }

    fn constant(round: usize) -> u32 {
        ROUND_CONSTANTS[round] as u32
    }
}

/// The rounds of FIPS 202, section 3.2: theta, rho and pi, chi, iota. Inlined so that kernels that may use
/// more instructions compile it with them.
#[inline(always)]
fn permute<W: Word>(a: &mut [W; 25]) {
    for round in 0..W::ROUNDS {
        let parity: [W; 5] = std::array::from_fn(|x| a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20]);
        for x in 0..5 {
            let d = parity[(x + 4) % 5] ^ parity[(x + 1) % 5].rotate_left(1);
            for y in 0..5 {
                a[x + 5 * y] = a[x + 5 * y] ^ d;
            }
        }

        let mut b = *a;
        for x in 0..5 {
            for y in 0..5 {
                b[y + 5 * ((2 * x + 3 * y) % 5)] = a[x + 5 * y].rotate_left(ROTATIONS[x + 5 * y]);
            }
        }

        for y in 0..5 {
            for x in 0..5 {
                a[x + 5 * y] = b[x + 5 * y] ^ (!b[(x + 1) % 5 + 5 * y] & b[(x + 2) % 5 + 5 * y]);
            }
        }
        a[0] = a[0] ^ W::constant(round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 202 numbers every rotation in table 2; these are its rows from y = 0.
    #[test]
    fn the_walk_gives_the_rotations_of_the_table() {
        let table = [
            [0, 1, 62, 28, 27],
            [36, 44, 6, 55, 20],
            [3, 10, 43, 25, 39],
            [41, 45, 15, 21, 8],
            [18, 2, 61, 56, 14],
        ];
        assert_eq!(ROTATIONS[..], table.concat());
    }

    /// Known answers from the Keccak team's KeccakF-1600-IntermediateValues and KeccakF-800-IntermediateValues.
    #[test]
    fn the_zero_state_is_permuted_as_published() {
        let mut wide = [0; 25];
        f1600(&mut wide);
        assert_eq!(wide[..3], [0xf125_8f79_40e1_dde7, 0x84d5_ccf9_33c0_478a, 0xd598_261e_a65a_a9ee]);
        assert_eq!(wide[24], 0xeaf1_ff7b_5cec_a249);
        let mut narrow = [0; 25];
        f800(&mut narrow);
        assert_eq!(narrow[..4], [0xe531_d45d, 0xf404_c6fb, 0x23a0_bf99, 0xf1f8_452f]);
    }

    #[test]
    fn empty_messages_hash_to_ethereums_well_known_hash() {
        let expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        assert_eq!(hex::encode(keccak256(b"")), expected);
    }
}
