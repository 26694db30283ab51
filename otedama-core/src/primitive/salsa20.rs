//! Salsa20/8 Core (RFC 7914, section 3): 64 bytes to 64 bytes, the mixing step of scrypt.

/// A Salsa20 matrix: sixteen words, row by row. In memory they are little-endian.
pub type Block = [u32; 16];

/// Replaces `block` by its Salsa20/8 core: four double rounds, then the input added word by word.
pub fn salsa20_8(block: &mut Block) {
    let input = *block;
    for _ in 0..4 {
        double_round(block);
    }
    for (word, input) in block.iter_mut().zip(input) {
        *word = word.wrapping_add(input);
    }
}

/// The words of a 64-byte block.
pub fn block_from_bytes(bytes: &[u8; 64]) -> Block {
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|i| u32::from_le_bytes(words[i]))
}

/// The bytes of a block.
pub fn block_to_bytes(block: &Block) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(block) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// A quarter round down each column, from the diagonal on, then one along each row.
fn double_round(x: &mut Block) {
    quarter_round(x, [0, 4, 8, 12]);
    quarter_round(x, [5, 9, 13, 1]);
    quarter_round(x, [10, 14, 2, 6]);
    quarter_round(x, [15, 3, 7, 11]);

    quarter_round(x, [0, 1, 2, 3]);
    quarter_round(x, [5, 6, 7, 4]);
    quarter_round(x, [10, 11, 8, 9]);
    quarter_round(x, [15, 12, 13, 14]);
}

#[inline(always)]
fn quarter_round(x: &mut Block, [a, b, c, d]: [usize; 4]) {
    x[b] ^= x[a].wrapping_add(x[d]).rotate_left(7);
    x[c] ^= x[b].wrapping_add(x[a]).rotate_left(9);
    x[d] ^= x[c].wrapping_add(x[b]).rotate_left(13);
    x[a] ^= x[d].wrapping_add(x[c]).rotate_left(18);
}
