//! What fills the memory of each algorithm's epochs: for the store in [`epoch`](crate::epoch), with the
//! fastest code the CPU allows.
//!
//! Adding an algorithm's epochs is a file here and a row in [`builder`].

#![forbid(unsafe_code)]

mod ethash;
mod randomx;

use std::sync::Arc;

pub use ethash::EthashBuilder;
pub use randomx::{ItemsBy, RandomXBuilder};

use crate::algo;
use crate::algorithm::Algorithm;
use crate::cpu::Cpu;
use crate::epoch::EpochBuilder;

/// What builds the epochs of an algorithm, on a CPU; `None` where it has no epochs, or none that this
/// version can build.
pub fn builder(algorithm: Algorithm, cpu: &Cpu) -> Option<Arc<dyn EpochBuilder>> {
    match algorithm {
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => {
            let params = algo::randomx::Params::of(algorithm)?;
            Some(Arc::new(RandomXBuilder::new(params, cpu)))
        }
        Algorithm::Ethash | Algorithm::Etchash | Algorithm::KawPow => {
            let params = algo::ethash::Params::of(algorithm)?;
            Some(Arc::new(EthashBuilder::new(params, cpu)))
        }
        Algorithm::Sha256d | Algorithm::Scrypt => None,
    }
}

#[cfg(test)]
mod tests;
