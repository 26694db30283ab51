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

mod emit;
mod emit_ptx;
mod interpret;
pub(crate) mod lanes;
mod portable;
mod program;
mod seal;

pub use emit::period_text;
pub use emit_ptx::{TemplateError, ptx_text};
pub use interpret::{L1Cache, Mix, Row, mix_hash, row};
pub use portable::Portable;
pub use program::{
    DAG_WORDS, Kiss99, L1_WORDS, LANES, LOOPS, MathOp, Merge, PERIOD_BLOCKS, Program, REGISTERS, Shape, Step,
    fnv1a, period_of, sequences,
};
pub use seal::{final_hash, seal};

use super::ethash::{Dataset, Full, Light, Outcome};

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

/// One way to compute KawPow, a thread's worth of it at a time. The epoch's parts are handed in at every
/// call: its dataset or light cache, and the L1 cache made of it ([`L1Cache::of`]). Attempts of the same
/// period should be neighbours.
pub trait Kernel: Send {
    /// The name in reports and arguments.
    fn name(&self) -> &'static str;

    /// Calls work on this many hashes at a time: any other count is right, multiples of it are fast.
    fn lanes(&self) -> usize;

    /// Makes the program of a period ready ahead, so that its first hash need not wait: some tens of
    /// microseconds. The programs of the last few periods are kept.
    fn prepare(&mut self, period: u64);

    /// Hashes each attempt into the outcome beside it, with rows computed from the light cache.
    ///
    /// # Panics
    /// If there are more or fewer outcomes than attempts.
    fn hash_light(&mut self, light: &Light<'_>, l1: &L1Cache, attempts: &[Attempt], outcomes: &mut [Outcome]);

    /// Hashes each attempt into the outcome beside it, with rows from memory.
    ///
    /// # Panics
    /// If there are more or fewer outcomes than attempts.
    fn hash_full(&mut self, full: &Full<'_>, l1: &L1Cache, attempts: &[Attempt], outcomes: &mut [Outcome]);
}

/// The hash, interpreted. Some tens of microseconds with the DAG in memory.
pub fn hash(dataset: &impl Dataset, l1: &L1Cache, attempt: &Attempt) -> Outcome {
    let program = Program::of_period(period_of(attempt.height));
    let seal = seal(attempt);
    let mix_hash = mix_hash(&program, dataset, l1, [seal[0], seal[1]]);
    let final_hash = seal::close(&seal, &mix_hash);
    Outcome { final_hash: seal::bytes(&final_hash), mix_hash: seal::bytes(&mix_hash) }
}
