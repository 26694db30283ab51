//! RandomX (Monero): a hash that is a program, different each time, for a machine that is a CPU.
//!
//! ```text
//! key ----> cache (256 MiB) ----> dataset (2 GiB)              once in days
//!                                     | 64 bytes an iteration
//! input --> scratchpad (2 MiB) --> 8 programs, one after the other, of 2048 iterations each --> hash
//!             |          ^           |       ^
//!             `- reads, writes ------'       `- each made from the registers the last one left
//! ```
//!
//! [`hash`] is the whole function; what it is made of can be read in this order:
//!
//! - [`config`]: the variants of the function, as rows of parameters.
//! - [`dataset`]: from the key to what the machine reads ([`superscalar`], [`BlakeGenerator`]).
//! - [`aes`]: from the input to scratchpad and programs, and from the scratchpad to a fingerprint.
//! - [`program`]: instructions decoded to data, for interpreters and compilers alike.
//! - [`interpret`]: the machine, with floating point numbers from [`float`].
//!
//! All of this is portable and plain: the oracle that faster machines are tested against. (Faster parts:
//! [`argon2d_lanes`] fills the cache, `aes_ni` the scratchpad.) "Specification"
//! is `doc/specs.md` of tevador/RandomX, "version 2" its `doc/design_v2.md`.

#![deny(unsafe_code)]

pub mod aes;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub mod aes_ni;
pub mod argon2d_lanes;
mod blake_generator;
pub mod config;
pub mod dataset;
pub mod float;
pub mod interpret;
pub mod program;
pub mod superscalar;

pub use blake_generator::BlakeGenerator;
pub use config::Params;
pub use dataset::{Dataset, Full, Light};

use crate::primitive::blake2b;
use interpret::{Machine, Registers};
use program::Program;

/// The RandomX hash of `input` (specification 2): a number whose least significant byte comes first.
///
/// Allocates a scratchpad; a [`Machine`] that is kept hashes with [`hash_on`].
pub fn hash(params: &Params, dataset: &impl Dataset, input: &[u8]) -> [u8; 32] {
    hash_on(&mut Machine::new(params), dataset, input)
}

/// The RandomX hash of `input` on a machine, whatever that did before.
pub fn hash_on(machine: &mut Machine<'_>, dataset: &impl Dataset, input: &[u8]) -> [u8; 32] {
    let params = machine.params();
    let mut state = aes::state_from_bytes(&blake2b::digest(input));
    machine.fill_scratchpad(&mut state);
    machine.fprc = float::Rounding::default();
    let mut code = vec![0; params.program_bytes()];
    for i in 0..params.program_count {
        if i > 0 {
            state = aes::state_from_bytes(&blake2b::digest(&machine.registers.to_bytes()));
        }
        aes::fill_4r(params, &mut state, &mut code);
        machine.run(&Program::decode(params, &code), dataset);
    }
    finish(&machine.registers, &aes::hash_1r(machine.scratchpad()))
}

/// The hash of a machine's last registers and its scratchpad's fingerprint (specification 2, steps 12
/// to 14).
pub fn finish(registers: &Registers, fingerprint: &[u8; 64]) -> [u8; 32] {
    let mut file = registers.to_bytes();
    file[192..].copy_from_slice(fingerprint);
    blake2b::digest(&file)
}

/// The commitment to a hash: `Hash256(input, hash)`. It is quickly told from the two whether they belong
/// to it, though not whether the hash is the input's.
pub fn commitment(input: &[u8], hash: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake2b::Blake2b::new(32);
    hasher.update(input);
    hasher.update(hash);
    let mut digest = [0; 32];
    digest.copy_from_slice(&hasher.finish()[..32]);
    digest
}

/// `2^x / divisor`, rounded down, for the greatest x for which that is less than 2^64; `None` for 0 and
/// powers of two (specification 5.2.6).
pub const fn reciprocal(divisor: u32) -> Option<u64> {
    if divisor == 0 || divisor.is_power_of_two() {
        return None;
    }
    let x = 63 + u32::BITS - divisor.leading_zeros();
    Some(((1 << x) / divisor as u128) as u64)
}
