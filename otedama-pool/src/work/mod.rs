//! From what is said to what is hashed: the same functions build the work at both ends.

pub mod bitcoin;
pub mod monero;
pub mod sealed;

use otedama_core::job::JobError;
use otedama_core::{Algorithm, Job, SearchSpace};

/// A job to search, and which part of its space is this connection's.
#[derive(Clone, Debug)]
pub struct Task {
    /// The job.
    pub job: std::sync::Arc<Job>,
    /// Where to search it.
    pub space: SearchSpace,
}

/// Why a message leads to no work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The header or blob is not one of the algorithm's.
    #[error(transparent)]
    Job(#[from] JobError),
    /// No epoch has this seed.
    #[error("seed {seed} belongs to no {algorithm} epoch: is the pool on another chain?")]
    UnknownSeed {
        /// The function to mine.
        algorithm: Algorithm,
        /// The seed, in hex.
        seed: String,
    },
    /// A height that no epoch holds.
    #[error(transparent)]
    Height(#[from] otedama_core::algo::ethash::EpochRangeError),
    /// A height and a seed that do not belong together.
    #[error("{algorithm} block {height} is not of the epoch with seed {seed}: is the pool on another chain?")]
    SeedMismatch {
        /// The function to mine.
        algorithm: Algorithm,
        /// The block's height.
        height: u64,
        /// The seed, in hex.
        seed: String,
    },
    /// An algorithm that the dialect names and that is not the one being mined.
    #[error("the job is for algorithm '{found}': expected '{expected}'")]
    OtherAlgorithm {
        /// The dialect's name of it.
        found: String,
        /// The dialect's name of what is mined.
        expected: &'static str,
    },
    /// A job without the seed its algorithm needs.
    #[error("job has no seed_hash: expected 64 hex digits")]
    NoSeed,
    /// A blob whose nonce lies elsewhere.
    #[error("blob has its nonce at byte {found}: expected 39")]
    NonceOffset {
        /// Where it lies.
        found: usize,
    },
    /// A blob that ends too early.
    #[error("blob of {bytes} bytes ends before its nonce: expected at least 43")]
    ShortBlob {
        /// Its length in bytes.
        bytes: usize,
    },
}
