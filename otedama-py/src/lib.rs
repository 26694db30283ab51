//! The Python package `otedama`: what `otedama._otedama` holds. The package's own files (`python/otedama`) add
//! exceptions, asyncio and tables for notebooks.
//!
//! | module | what |
//! | --- | --- |
//! | `buffer` | memory shared with Python in both directions (the only unsafe code) |
//! | `error` | errors of the core as exceptions |
//! | `wait` | work with the GIL released that Ctrl-C ends |
//! | `hash` | `hash`, `hash_with_mix`, `hash_many` |
//! | `epoch` | `EpochStore`, `Epoch` |
//! | `job` | `Job`, `Share`, `verify` |
//! | `scanner`, `engine` | the two ways to search |
//! | `report` | kernels, measurements, the machine |
//! | `target` | targets as whole numbers |
//!
//! Rules: every class is frozen and may be shared by threads; whatever hashes, builds or waits does so with
//! the GIL released; a lock is taken with the GIL released or for an instant, never while waiting for the GIL.

#![deny(unsafe_code)]

mod buffer;
mod engine;
mod epoch;
mod error;
mod hash;
mod job;
mod report;
mod scanner;
mod target;
mod wait;

use pyo3::prelude::*;

/// Proof-of-work hashing: the compiled part of the package `otedama`.
#[pymodule(gil_used = false)]
mod _otedama {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};
    #[pymodule_export]
    use crate::buffer::Digests;
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::epoch::{Epoch, EpochStore};
    #[pymodule_export]
    use crate::hash::{hash, hash_many, hash_with_mix};
    #[pymodule_export]
    use crate::job::{Job, Share, verify};
    #[pymodule_export]
    use crate::report::{algorithms, kernels, machine, measure};
    #[pymodule_export]
    use crate::scanner::Scanner;
    #[pymodule_export]
    use crate::target::{
        bits_from_target, difficulty_from_target, expected_hashes, target_from_bits, target_from_difficulty,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
