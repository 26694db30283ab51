//! One round of AES (FIPS 197), in either direction, as the instructions AESENC and AESDEC compute it.
//!
//! A state is a number of 128 bits whose least significant byte is byte 0: what a vector register holds
//! after a load on a little-endian machine. Its bytes fill a 4 x 4 matrix column by column.
//!
//! SubBytes and MixColumns act on a byte at a time, so both together are one table: the column that a
//! byte in row 0 becomes. A byte in row r becomes the same column turned down r places, which is a
//! rotation of its word; ShiftRows is the choice of bytes that make a column.

#![forbid(unsafe_code)]

/// An encryption round: ShiftRows, SubBytes, MixColumns, then xor with the round key.
#[inline]
pub fn encrypt_round(state: u128, key: u128) -> u128 {
    round(&ENCRYPT, state, 5) ^ key
}

/// A decryption round: the inverses of ShiftRows, SubBytes and MixColumns, then xor with the round key.
#[inline]
pub fn decrypt_round(state: u128, key: u128) -> u128 {
    round(&DECRYPT, state, 13) ^ key
}

/// Column c takes its row r from byte `4 c + r step` (modulo 16) of the state: with a step of 5, row r
/// shifts left by r columns; with 13, right.
#[inline(always)]
fn round(table: &[u32; 256], state: u128, step: usize) -> u128 {
    let bytes = state.to_le_bytes();
    let mut result = 0;
    for column in 0..4 {
        let mut word = 0;
        for row in 0..4 {
            let byte = bytes[(4 * column + step * row) % 16];
            word ^= table[usize::from(byte)].rotate_left(8 * row as u32);
        }
        result |= u128::from(word) << (32 * column);
    }
    result
}

/// The substitution (FIPS 197, section 5.1.1): inverse in GF(2^8), then an affine map.
const S_BOX: [u8; 256] = {
    let mut table = [0; 256];
    // 3 generates the field's multiplicative group and 0xf6 is its inverse: powers go through all pairs.
    let (mut power, mut inverse) = (1, 1);
    loop {
        let i: u8 = inverse;
        let affine = i ^ i.rotate_left(1) ^ i.rotate_left(2) ^ i.rotate_left(3) ^ i.rotate_left(4) ^ 0x63;
        table[power as usize] = affine;
        power = multiply(power, 3);
        inverse = multiply(inverse, 0xf6);
        if power == 1 {
            break;
        }
    }
    table[0] = 0x63;
    table
};

/// What MixColumns makes of a substituted byte in row 0 (section 5.1.3).
static ENCRYPT: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let s = S_BOX[i];
        table[i] = u32::from_le_bytes([multiply(s, 2), s, s, multiply(s, 3)]);
        i += 1;
    }
    table
};

/// The same for the inverse transformations (section 5.3.3).
static DECRYPT: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let s = i as u8;
        let column = [multiply(s, 14), multiply(s, 9), multiply(s, 13), multiply(s, 11)];
        table[S_BOX[i] as usize] = u32::from_le_bytes(column);
        i += 1;
    }
    table
};

/// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (section 4.2).
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut a, mut b) = (0, a, b);
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}
