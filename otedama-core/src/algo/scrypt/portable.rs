//! scrypt as RFC 7914 writes it down, and a mining kernel that hashes one header at a time with it.

use super::{Kernel, ScryptParams, check_nonces, checked_scratchpad};
use crate::primitive::salsa20::{self, salsa20_8};
use crate::primitive::sha256;

/// scrypt of any length (RFC 7914, section 6). Takes [`ScryptParams::scratchpad_len`] bytes of memory
/// for the duration of the call, and as much again as `p` rows.
///
/// # Errors
/// If the machine has not that much memory; `out` is untouched then.
pub fn scrypt(
    password: &[u8],
    salt: &[u8],
    params: &ScryptParams,
    out: &mut [u8],
) -> Result<(), NoScratchpad> {
    let mut scratchpad = zeroed(params.scratchpad_len())?;
    let mut blocks = zeroed(params.row_len() * params.p() as usize)?;
    sha256::pbkdf2(password, salt, 1, &mut blocks);
    for block in blocks.chunks_exact_mut(params.row_len()) {
        ro_mix(block, params.n(), &mut scratchpad);
    }
    sha256::pbkdf2(password, &blocks, 1, out);
    Ok(())
}

/// The machine has not the memory that these scrypt parameters take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "scrypt needs {bytes} bytes at once: this machine does not give as many; expected a smaller N, r or p"
)]
pub struct NoScratchpad {
    /// Bytes asked for.
    pub bytes: usize,
}

fn zeroed(len: usize) -> Result<Vec<u8>, NoScratchpad> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(len).map_err(|_| NoScratchpad { bytes: len })?;
    memory.resize(len, 0);
    Ok(memory)
}

/// scryptROMix (RFC 7914, section 5) of a row of `128 r` bytes, with `n` rows of `scratchpad`.
///
/// # Panics
/// If `row` is not a multiple of 128 bytes, `n` not a power of two, or the scratchpad not `n` rows long.
pub fn ro_mix(row: &mut [u8], n: u32, scratchpad: &mut [u8]) {
    assert!(n.is_power_of_two(), "N is {n}: expected a power of two");
    assert_eq!(scratchpad.len(), row.len() * n as usize, "the scratchpad must hold N rows");
    let mut x: Vec<salsa20::Block> = row.as_chunks().0.iter().map(salsa20::block_from_bytes).collect();
    let mut mixed = x.clone();
    for v in scratchpad.chunks_exact_mut(row.len()) {
        write_row(&x, v);
        block_mix(&x, &mut mixed);
        std::mem::swap(&mut x, &mut mixed);
    }
    for _ in 0..n {
        // N is at most 2^31, so the low word of Integerify is enough.
        let j = (x[x.len() - 1][0] & (n - 1)) as usize;
        let v = &scratchpad[j * row.len()..][..row.len()];
        for (block, bytes) in x.iter_mut().zip(v.as_chunks().0) {
            xor(block, &salsa20::block_from_bytes(bytes));
        }
        block_mix(&x, &mut mixed);
        std::mem::swap(&mut x, &mut mixed);
    }
    write_row(&x, row);
}

/// scryptBlockMix (RFC 7914, section 4) of the `2 r` blocks of `input` into `output`.
///
/// # Panics
/// If `input` has not an even number of blocks, at least two, or `output` another number.
pub fn block_mix(input: &[salsa20::Block], output: &mut [salsa20::Block]) {
    assert!(!input.is_empty() && input.len().is_multiple_of(2), "a row is pairs of blocks");
    assert_eq!(input.len(), output.len(), "BlockMix keeps the number of blocks");
    let mut x = input[input.len() - 1];
    for (i, block) in input.iter().enumerate() {
        xor(&mut x, block);
        salsa20_8(&mut x);
        // Even blocks come first in the output, odd ones after them.
        output[i / 2 + i % 2 * (input.len() / 2)] = x;
    }
}

/// The mining form, one header at a time, without any vector instruction.
#[derive(Clone, Debug)]
pub struct Portable {
    header: [u8; 80],
}

impl Portable {
    /// A kernel; it needs no more than the processor's baseline.
    pub fn new() -> Portable {
        Portable { header: [0; 80] }
    }
}

impl Default for Portable {
    fn default() -> Self {
        Portable::new()
    }
}

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn scratchpad_len(&self) -> usize {
        ScryptParams::MINING.scratchpad_len()
    }

    fn hash_headers(&mut self, scratchpad: &mut [u8], headers: &[[u8; 80]], digests: &mut [[u8; 32]]) {
        assert_eq!(headers.len(), digests.len(), "each header needs a place for its digest");
        let scratchpad = checked_scratchpad(self.name(), scratchpad, self.scratchpad_len());
        for (header, digest) in headers.iter().zip(digests) {
            *digest = hash_header(header, scratchpad);
        }
    }

    fn load(&mut self, header: &[u8; 80]) {
        self.header = *header;
    }

    fn hash_nonces(&mut self, scratchpad: &mut [u8], first_nonce: u32, digests: &mut [[u8; 32]]) {
        check_nonces(first_nonce, digests.len());
        let scratchpad = checked_scratchpad(self.name(), scratchpad, self.scratchpad_len());
        for (nonce, digest) in (first_nonce..=u32::MAX).zip(digests) {
            self.header[76..].copy_from_slice(&nonce.to_le_bytes());
            *digest = hash_header(&self.header, scratchpad);
        }
    }
}

fn hash_header(header: &[u8; 80], scratchpad: &mut [u8]) -> [u8; 32] {
    let mut row = [0; 128];
    sha256::pbkdf2(header, header, 1, &mut row);
    ro_mix(&mut row, ScryptParams::MINING.n(), scratchpad);
    let mut digest = [0; 32];
    sha256::pbkdf2(header, &row, 1, &mut digest);
    digest
}

fn write_row(blocks: &[salsa20::Block], row: &mut [u8]) {
    for (bytes, block) in row.as_chunks_mut().0.iter_mut().zip(blocks) {
        *bytes = salsa20::block_to_bytes(block);
    }
}

fn xor(block: &mut salsa20::Block, other: &salsa20::Block) {
    block.iter_mut().zip(other).for_each(|(word, other)| *word ^= other);
}
