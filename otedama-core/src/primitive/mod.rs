//! Building blocks in the order and words of their specifications: portable, safe, readable. They are
//! the oracles that the fast kernels are tested against, and do the work that happens once per job.

pub mod aes;
pub mod argon2d;
pub mod blake2b;
pub mod keccak;
pub mod salsa20;
pub mod sha256;
pub mod xxh64;
