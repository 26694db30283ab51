//! Epochs: the large, shared, read-only memory some algorithms hash with, built once per machine.
//!
//! ```text
//!   EpochBuilder (an algorithm)              EpochStore (one per process, passed in)
//!     sizes, build_light, build_full   -->     get(key, Light | Full)  -->  Arc<Epoch>
//!                                                                            light: Replicas   always
//!                                                                            full:  Replicas   if asked
//! ```
//!
//! The light part (an Ethash cache, a RandomX cache) suffices to verify; the full part (a dataset) is for
//! searching. An [`Epoch`] never changes: one obtained with its light part alone stays as it is when the
//! full part is added, and shares the light bytes with the epoch that has both. A worker asks for the
//! bytes of its own memory node ([`Replicas::view`]) and knows nothing else about nodes.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::mem::MemError;

mod build;
mod file;
mod key;
mod replica;
mod store;

pub use build::{Cancelled, Chunk, Chunks, EpochBuilder, Progress};
pub use file::{EpochFile, FileError};
pub use key::{EpochKey, EpochSeed, SeedBytes, SeedTooLong};
pub use replica::{Placement, Replica, Replicas};
pub use store::{EpochStore, StoreConfig};

/// How much of an epoch is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Depth {
    /// The light part: enough to verify.
    Light,
    /// Both parts: to search at full speed.
    Full,
}

/// The memory of one epoch. Immutable; shared behind an [`Arc`].
#[derive(Debug)]
pub struct Epoch {
    key: EpochKey,
    light: Arc<Replicas>,
    full: Option<Replicas>,
}

impl Epoch {
    /// Which epoch it is.
    pub fn key(&self) -> &EpochKey {
        &self.key
    }

    /// The light part.
    pub fn light(&self) -> &Replicas {
        &self.light
    }

    /// The full part, if this epoch was obtained with it.
    pub fn full(&self) -> Option<&Replicas> {
        self.full.as_ref()
    }

    /// What it was obtained with.
    pub fn depth(&self) -> Depth {
        if self.full.is_some() { Depth::Full } else { Depth::Light }
    }
}

/// Why there is no epoch. The same for everyone who waited for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// The byte budget is spent.
    #[error(
        "{key} needs {wanted} more bytes, and {held} of the budget of {budget} are held: release an epoch or raise the budget"
    )]
    Budget {
        /// The epoch.
        key: EpochKey,
        /// Bytes wanted: one part, all copies.
        wanted: u64,
        /// Bytes allowed in all.
        budget: u64,
        /// Bytes held by epochs alive or being built.
        held: u64,
    },
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// Whoever built it, or this waiter, was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The algorithm's code panicked.
    #[error("building {key} panicked: {message}; this is a bug, please report it")]
    Panicked {
        /// The epoch.
        key: EpochKey,
        /// The panic's message.
        message: String,
    },
    /// The algorithm's code claimed to be done and was not.
    #[error("building {key} left {left} bytes of the full part undone; this is a bug, please report it")]
    Incomplete {
        /// The epoch.
        key: EpochKey,
        /// Bytes nobody built.
        left: usize,
    },
    /// A full part was asked of an algorithm that has none.
    #[error("{key} has no full part: ask for the light one")]
    NoFull {
        /// The epoch.
        key: EpochKey,
    },
    /// No thread to build ahead on.
    #[error("cannot start a thread to build {key} ahead: {reason}; ask for it when it is needed")]
    Thread {
        /// The epoch.
        key: EpochKey,
        /// The operating system's words.
        reason: String,
    },
}

impl EpochError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            EpochError::Budget { wanted, budget, .. } => wanted <= budget,
            EpochError::Memory(error) => error.is_retryable(),
            EpochError::Cancelled(_) | EpochError::Thread { .. } => true,
            EpochError::Panicked { .. } | EpochError::Incomplete { .. } | EpochError::NoFull { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
