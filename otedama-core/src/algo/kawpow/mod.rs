//! KawPow: ProgPoW 0.9.4 (EIP-1057) with Ravencoin's constants.
//!
//! ```text
//! seal = Keccak-f800(header hash, nonce)                    its first 64 bits seed the mix
//! mix  = 16 lanes of 32 registers, filled by a generator of random numbers
//! 64 times:  one row of the DAG, 256 bytes, chosen by register 0 of one lane;
//!            the period's program: 11 reads of the L1 cache, 18 calculations, then the row
//! mix hash   = all registers folded to 32 bytes
//! final hash = Keccak-f800(seal, mix hash)
//! ```
//!
//! The DAG is Ethash's dataset with 512 parents an item and epochs of 7,500 blocks
//! ([`ethash::KAWPOW`](super::ethash::KAWPOW)); the L1 cache is its first 16 KiB. The program changes with
//! every period of three blocks. It is plain data ([`Program`]): the interpreter here ([`hash`], the oracle),
//! the compilers of [`jit`](crate::jit) and a generator of source code for a GPU read the same.

mod interpret;
mod program;
mod seal;

pub use interpret::{L1Cache, Mix, Row, mix_hash, row};
pub use program::{
    DAG_WORDS, Kiss99, L1_WORDS, LANES, LOOPS, MathOp, Merge, PERIOD_BLOCKS, Program, REGISTERS, Shape, Step,
    fnv1a, period_of, sequences,
};
pub use seal::{final_hash, seal};

use super::ethash::{Dataset, Outcome};

/// One header with one nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The hash of the header without nonce and mix hash, in the order that ProgPoW prints it.
    pub header_hash: [u8; 32],
    /// The block's height, which chooses the program. Its epoch is the caller's business.
    pub height: u64,
    /// The nonce.
    pub nonce: u64,
}

/// The hash, interpreted. Some tens of microseconds with the DAG in memory.
pub fn hash(dataset: &impl Dataset, l1: &L1Cache, attempt: &Attempt) -> Outcome {
    let program = Program::of_period(period_of(attempt.height));
    let seal = seal(attempt);
    let mix_hash = mix_hash(&program, dataset, l1, [seal[0], seal[1]]);
    let final_hash = seal::close(&seal, &mix_hash);
    Outcome { final_hash: seal::bytes(&final_hash), mix_hash: seal::bytes(&mix_hash) }
}
