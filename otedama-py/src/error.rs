//! Errors of the core as exceptions. The classes are Python's (`otedama/_errors.py`), because `InputError` has
//! two bases.

use std::fmt::Display;

use otedama_core::epoch;
use otedama_core::measure::MeasureError;
use otedama_core::scan::{HashError, KernelError, ScanError};
use otedama_core::verify::Reject;
use otedama_core::{Algorithm, engine::EngineError};
use pyo3::PyErr;

pyo3::import_exception!(otedama._errors, InputError);
pyo3::import_exception!(otedama._errors, EpochError);
pyo3::import_exception!(otedama._errors, DeviceError);
pyo3::import_exception!(otedama._errors, Rejected);

/// An argument is at fault.
pub(crate) fn input(error: impl Display) -> PyErr {
    InputError::new_err(error.to_string())
}

/// Kernel, CPU or memory is at fault.
pub(crate) fn device(error: impl Display) -> PyErr {
    DeviceError::new_err(error.to_string())
}

/// An epoch could not be built, or is not the right one.
pub(crate) fn epoch(error: impl Display) -> PyErr {
    EpochError::new_err(error.to_string())
}

pub(crate) fn building(error: epoch::EpochError) -> PyErr {
    epoch(error)
}

/// No epoch was given where one is needed.
pub(crate) fn no_epoch(algorithm: Algorithm) -> PyErr {
    epoch(format!("{algorithm} needs an epoch: expected epoch=EpochStore().get(\"{algorithm}\", ...)"))
}

pub(crate) fn hashing(error: HashError) -> PyErr {
    match error {
        HashError::NoEpoch(algorithm) => no_epoch(algorithm),
        HashError::WrongEpoch { .. } => epoch(error),
        HashError::Device(_) => device(error),
        error => input(error),
    }
}

pub(crate) fn scanning(error: ScanError) -> PyErr {
    match error {
        ScanError::NoEpoch(algorithm) => no_epoch(algorithm),
        ScanError::WrongEpoch { .. } => epoch(error),
        ScanError::Device(_) => device(error),
        error => input(error),
    }
}

pub(crate) fn kernel(error: KernelError) -> PyErr {
    match error {
        KernelError::Unknown { .. } => input(error),
        error => device(error),
    }
}

pub(crate) fn engine(error: EngineError) -> PyErr {
    match error {
        EngineError::NoWorkers => input("threads is 0: expected at least 1"),
        EngineError::Kernel(error) => kernel(error),
        error => device(error),
    }
}

pub(crate) fn measuring(error: MeasureError) -> PyErr {
    match error {
        MeasureError::Engine(error) => engine(error),
        MeasureError::Kernel(error) => kernel(error),
        MeasureError::Scan(error) => scanning(error),
        error => device(error),
    }
}

pub(crate) fn rejected(reason: Reject) -> PyErr {
    match reason {
        Reject::Hash(error) => hashing(error),
        reason => Rejected::new_err(reason.to_string()),
    }
}
