//! Targets, difficulties and compact bits; a target is a Python integer.

use std::num::NonZeroU64;

use otedama_core::{Algorithm, CompactBits, Difficulty, Target};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};

use crate::error;

/// The algorithm of this name.
pub(crate) fn algorithm(name: &str) -> PyResult<Algorithm> {
    name.parse().map_err(error::input)
}

/// A target from a whole number, 1 to 2**256 - 1.
pub(crate) fn to_target(number: &Bound<'_, PyAny>) -> PyResult<Target> {
    let wrong = || {
        let shown = number.repr().map_or_else(|_| "?".to_owned(), |repr| repr.to_string());
        error::input(format!("target is {shown}: expected a whole number from 1 to 2**256 - 1"))
    };
    let number = number.cast::<PyInt>().map_err(|_| wrong())?;
    let bytes = number.call_method1("to_bytes", (32, "big")).map_err(|_| wrong())?;
    let bytes: [u8; 32] = bytes.extract()?;
    Target::from_be_bytes(bytes).map_err(error::input)
}

/// A target as a whole number.
pub(crate) fn to_int<'py>(py: Python<'py>, target: &Target) -> PyResult<Bound<'py, PyAny>> {
    py.get_type::<PyInt>().call_method1("from_bytes", (PyBytes::new(py, &target.to_be_bytes()), "big"))
}

/// The target of a difficulty: the algorithm's difficulty one divided by it, rounded down.
///
/// difficulty: a positive number; whole numbers below 2**64 are divided exactly, others as doubles.
/// Returns a whole number, 1 to 2**256 - 1: the largest a hash may be.
/// Raises InputError. Sources: Bitcoin's and Litecoin's pool difficulty, Ethereum's yellow paper (4.4.1),
/// CryptoNote's hash * difficulty < 2**256.
#[pyfunction]
#[pyo3(signature = (algorithm, difficulty, /))]
pub(crate) fn target_from_difficulty<'py>(
    py: Python<'py>,
    algorithm: &str,
    difficulty: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let algorithm = self::algorithm(algorithm)?;
    let whole = if difficulty.is_instance_of::<PyInt>() { difficulty.extract::<u64>().ok() } else { None };
    let target = match whole.and_then(NonZeroU64::new) {
        Some(whole) => Target::from_whole_difficulty(algorithm, whole),
        None => {
            let number: f64 = difficulty.extract().map_err(|_| {
                error::input(format!("difficulty is {difficulty}: expected a positive, finite number"))
            })?;
            Target::from_difficulty(algorithm, Difficulty::new(number).map_err(error::input)?)
        }
    };
    to_int(py, &target)
}

/// A target as a difficulty of the algorithm, exact to the 53 bits of a double. Raises InputError.
#[pyfunction]
#[pyo3(signature = (algorithm, target, /))]
pub(crate) fn difficulty_from_target(algorithm: &str, target: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(to_target(target)?.to_difficulty(self::algorithm(algorithm)?).get())
}

/// The target that a block header's bits field stands for (Bitcoin's SetCompact): 0x1d00ffff is difficulty 1.
///
/// Raises InputError for negative, zero and overflowing ones, as every node refuses them.
#[pyfunction]
#[pyo3(signature = (bits, /))]
pub(crate) fn target_from_bits<'py>(py: Python<'py>, bits: u32) -> PyResult<Bound<'py, PyAny>> {
    to_int(py, &CompactBits(bits).to_target().map_err(error::input)?)
}

/// A target in the compact form of a block header's bits field, rounded down (Bitcoin's GetCompact).
/// Raises InputError.
#[pyfunction]
#[pyo3(signature = (target, /))]
pub(crate) fn bits_from_target(target: &Bound<'_, PyAny>) -> PyResult<u32> {
    Ok(to_target(target)?.to_compact().0)
}

/// How many hashes one that meets this target takes on average: 2**256 / (target + 1). Raises InputError.
#[pyfunction]
#[pyo3(signature = (target, /))]
pub(crate) fn expected_hashes(target: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(to_target(target)?.expected_hashes())
}
