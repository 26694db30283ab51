//! Digests of one input and of many.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use otedama_core::algo::ethash::Params;
use otedama_core::algorithm::Input;
use otedama_core::builders::EthashBuilder;
use otedama_core::epoch;
use otedama_core::scan::{self, Attempt, Hasher, Kernel, KernelError, Setup};
use otedama_core::tune::{self, TuningCache};
use otedama_core::{Algorithm, Digest, Hash256};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{Digests, Lent};
use crate::epoch::Epoch;
use crate::error;
use crate::target::algorithm as parse;
use crate::wait::{Pace, interruptible};

/// The most headers hashed between two looks at the clock: they and their digests stay in the nearest caches.
const BATCH: u64 = 512;

/// How many idle hashers or provers are kept for the next call.
const KEPT: usize = 16;

/// The digest of one input: 32 bytes, in the order the function writes them.
///
/// data: the bytes as they are hashed, nonce included (sha256d, scrypt: an 80-byte header; randomx: any
/// blob), or a sealed header's 32-byte hash (ethash, etchash, kawpow), whose nonce and height come beside it.
/// epoch: the Epoch to hash with, where the algorithm has epochs.
/// Raises InputError, EpochError (none, or the wrong one), DeviceError. Costs one hash; the GIL is released.
#[pyfunction]
#[pyo3(signature = (algorithm, data, /, *, epoch=None, nonce=None, height=None))]
pub(crate) fn hash<'py>(
    py: Python<'py>,
    algorithm: &str,
    data: &Bound<'py, PyAny>,
    epoch: Option<&Bound<'py, Epoch>>,
    nonce: Option<u64>,
    height: Option<u64>,
) -> PyResult<Bound<'py, PyBytes>> {
    let digest = one(py, algorithm, data, epoch, nonce, height)?;
    Ok(PyBytes::new(py, digest.pow.as_raw()))
}

/// The digest of one sealed header and the mix hash that led to it: two times 32 bytes.
///
/// header_hash: the sealed header's 32-byte hash. nonce: 0 to 2**64 - 1. height: the block's (kawpow's program
/// depends on it; for ethash and etchash it is only compared with the epoch). Source: Ethash's appendix J of
/// the yellow paper, EIP-1057 for kawpow.
/// Raises InputError, EpochError, DeviceError. Costs one hash; the GIL is released.
#[pyfunction]
#[pyo3(signature = (algorithm, header_hash, /, *, epoch, nonce, height=None))]
pub(crate) fn hash_with_mix<'py>(
    py: Python<'py>,
    algorithm: &str,
    header_hash: &Bound<'py, PyAny>,
    epoch: &Bound<'py, Epoch>,
    nonce: u64,
    height: Option<u64>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let digest = one(py, algorithm, header_hash, Some(epoch), Some(nonce), height)?;
    let mix = digest.mix.ok_or_else(|| error::input(format!("{algorithm} has no mix hash: call hash")))?;
    Ok((PyBytes::new(py, digest.pow.as_raw()), PyBytes::new(py, mix.as_raw())))
}

/// The digests of many inputs of one size, many at a time: row i of the result is the digest of row i.
///
/// headers: a C-contiguous uint8 buffer of shape (n, size); where the size is fixed (80, or 32 for sealed
/// header hashes), a flat one of n * size bytes as well. Read in place: do not write to it meanwhile.
/// epoch: the Epoch to hash with, where the algorithm has epochs.
/// nonces, height: for sealed headers, n whole numbers and the height of the block.
/// out: where to write, a C-contiguous writable uint8 buffer of shape (n, 32) or n * 32 bytes that shares no
/// memory with headers. It is returned; without it a Digests is, a buffer of shape (n, 32).
/// Raises InputError, EpochError, DeviceError. One thread hashes, with the GIL released: call it on several
/// for more. Ctrl-C ends it; out is then partly written.
#[pyfunction]
#[pyo3(signature = (algorithm, headers, /, *, epoch=None, nonces=None, height=None, out=None))]
#[allow(clippy::too_many_arguments)] // Python's keywords
pub(crate) fn hash_many<'py>(
    py: Python<'py>,
    algorithm: &str,
    headers: &Bound<'py, PyAny>,
    epoch: Option<&Bound<'py, Epoch>>,
    nonces: Option<&Bound<'py, PyAny>>,
    height: Option<u64>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let algorithm = parse(algorithm)?;
    let epoch = epoch.map(|epoch| epoch.get().inner()).transpose()?;
    let lent = Lent::new("headers", headers)?;
    let (count, size) = rows(algorithm, lent.shape())?;
    let nonces = nonces.map(|nonces| numbers(nonces, count)).transpose()?;
    let sealed = sealing(algorithm, epoch.as_deref(), nonces.is_some(), height)?;
    let work = Batch { algorithm, epoch, bytes: lent.bytes(), size, nonces, height: sealed };
    match out {
        Some(object) => {
            let mut out = Lent::writable("out", object)?;
            if !(out.shape() == [count, 32] || out.shape() == [count * 32]) {
                return Err(error::input(format!("out has shape {:?}: expected ({count}, 32)", out.shape())));
            }
            if out.overlaps(&lent) {
                return Err(error::input("out shares memory with headers: expected a buffer of its own"));
            }
            work.hash(py, out.bytes_mut())?;
            Ok(object.clone())
        }
        None => {
            let mut bytes = vec![0; count * 32];
            work.hash(py, &mut bytes)?;
            Ok(Bound::new(py, Digests::new(bytes))?.into_any())
        }
    }
}

/// Things made once and used by one call at a time, by algorithm.
pub(crate) struct Pool<T>(Mutex<Vec<(Algorithm, T)>>);

impl<T> Pool<T> {
    pub(crate) const fn new() -> Pool<T> {
        Pool(Mutex::new(Vec::new()))
    }

    /// An idle one, or a new one. Call it with the GIL released: making one may take a while.
    pub(crate) fn take(
        &self,
        algorithm: Algorithm,
        make: impl FnOnce() -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let idle = {
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let found = idle.iter().position(|(other, _)| *other == algorithm);
            found.map(|index| idle.swap_remove(index).1)
        };
        idle.map_or_else(make, Ok)
    }

    /// Keeps one for the next call.
    pub(crate) fn keep(&self, algorithm: Algorithm, item: T) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((algorithm, item));
        }
    }
}

/// Hashers that answer soonest for one input, and those that hash the most.
static NARROW: Pool<Box<dyn Hasher>> = Pool::new();
static WIDE: Pool<Box<dyn Hasher>> = Pool::new();

/// The usable hasher with the fewest lanes: none is hashed in vain. The oracle only where it is alone.
fn narrow(algorithm: Algorithm) -> Result<Box<dyn Hasher>, KernelError> {
    let setup = Setup::detect();
    let usable = |kernel: &&'static Kernel| !kernel.is_oracle() && kernel.obstacle(&setup).is_none();
    let hashers: Result<Vec<_>, _> =
        scan::kernels(algorithm).filter(usable).map(|kernel| kernel.hasher(&setup)).collect();
    match hashers?.into_iter().min_by_key(|hasher| hasher.lanes()) {
        Some(hasher) => Ok(hasher),
        None => scan::oracle(algorithm)?.hasher(&setup),
    }
}

/// The hasher of the fastest kernel.
fn wide(algorithm: Algorithm, epoch: Option<&Arc<epoch::Epoch>>) -> Result<Box<dyn Hasher>, KernelError> {
    let setup = Setup::detect();
    tune::best(algorithm, &setup, &TuningCache::user(), epoch, 1)?.hasher(&setup)
}

fn one(
    py: Python<'_>,
    algorithm: &str,
    data: &Bound<'_, PyAny>,
    epoch: Option<&Bound<'_, Epoch>>,
    nonce: Option<u64>,
    height: Option<u64>,
) -> PyResult<Digest> {
    let algorithm = parse(algorithm)?;
    let epoch = epoch.map(|epoch| epoch.get().inner()).transpose()?;
    let height = sealing(algorithm, epoch.as_deref(), nonce.is_some(), height)?;
    let lent;
    // Bytes cannot change; anything else is read in place for the length of the call.
    let bytes = match data.cast::<PyBytes>() {
        Ok(bytes) => bytes.as_bytes(),
        Err(_) => {
            lent = Lent::new("data", data)?;
            lent.bytes()
        }
    };
    let header_hash;
    let attempt = match nonce {
        None => Attempt::Bytes(bytes),
        Some(nonce) => {
            header_hash = sealed_hash(algorithm, bytes)?;
            Attempt::Sealed { header_hash: &header_hash, nonce, height }
        }
    };
    py.detach(|| {
        let mut digest = [Digest::plain([0; 32])];
        let mut hasher = NARROW.take(algorithm, || narrow(algorithm)).map_err(error::kernel)?;
        let hashed = hasher.hash_many(&[attempt], epoch.as_ref(), &mut digest);
        NARROW.keep(algorithm, hasher);
        hashed.map_err(error::hashing)?;
        Ok(digest[0])
    })
}

/// A sealed header's hash from its 32 bytes.
pub(crate) fn sealed_hash(algorithm: Algorithm, bytes: &[u8]) -> PyResult<Hash256> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| {
        error::input(format!("{algorithm} header hash has {} bytes: expected 32", bytes.len()))
    })?;
    Ok(Hash256::from_raw(bytes))
}

/// The height to hash at, once nonce and height are known to be there where the algorithm takes them and nowhere
/// else, and the height to be of the epoch.
fn sealing(
    algorithm: Algorithm,
    epoch: Option<&epoch::Epoch>,
    has_nonce: bool,
    height: Option<u64>,
) -> PyResult<u64> {
    match (algorithm.spec().input, has_nonce) {
        (Input::Sealed, true) => sealed_height(algorithm, epoch, height),
        (Input::Sealed, false) => {
            Err(error::input(format!("{algorithm} hashes sealed headers: expected a nonce beside each")))
        }
        (_, false) if height.is_none() => Ok(0),
        _ => Err(error::input(format!(
            "{algorithm} takes neither nonce nor height: expected the nonce inside the bytes that are hashed"
        ))),
    }
}

/// The height of a sealed header: required where the hash depends on it, compared with the epoch where both are
/// given.
pub(crate) fn sealed_height(
    algorithm: Algorithm,
    epoch: Option<&epoch::Epoch>,
    height: Option<u64>,
) -> PyResult<u64> {
    let Some(height) = height else {
        if algorithm == Algorithm::KawPow {
            return Err(error::input("kawpow depends on the block's height: expected height=..."));
        }
        return Ok(0);
    };
    if let (Some(epoch), Some(params)) = (epoch, Params::of(algorithm)) {
        let key = EthashBuilder::key(&params.epoch_at(height).map_err(error::input)?);
        if key != *epoch.key() {
            let found = epoch.key();
            return Err(error::epoch(format!("block {height} is of {key}: {found} was given")));
        }
    }
    Ok(height)
}

/// How many inputs there are, and their size in bytes.
fn rows(algorithm: Algorithm, shape: &[usize]) -> PyResult<(usize, usize)> {
    let fixed = match algorithm.spec().input {
        Input::Header { len, .. } => Some(len),
        Input::Sealed => Some(32),
        Input::Blob { .. } => None,
    };
    match (shape, fixed) {
        (&[count, size], None) => Ok((count, size)),
        (&[count, size], Some(fixed)) if size == fixed => Ok((count, size)),
        (&[bytes], Some(fixed)) if bytes % fixed == 0 => Ok((bytes / fixed, fixed)),
        (shape, Some(fixed)) => {
            Err(error::input(format!("{algorithm} headers have shape {shape:?}: expected (n, {fixed})")))
        }
        (shape, None) => {
            Err(error::input(format!("{algorithm} blobs have shape {shape:?}: expected (n, size)")))
        }
    }
}

/// As many whole numbers as there are inputs.
fn numbers(nonces: &Bound<'_, PyAny>, count: usize) -> PyResult<Vec<u64>> {
    let mut numbers = Vec::new();
    for nonce in nonces.try_iter()? {
        let nonce = nonce?;
        if numbers.len() == count {
            return Err(error::input(format!("there are more nonces than headers: expected {count}")));
        }
        let number = nonce.extract::<u64>();
        numbers.push(number.map_err(|_| {
            error::input(format!("nonce {nonce} is not usable: expected a whole number below 2**64"))
        })?);
    }
    if numbers.len() < count {
        return Err(error::input(format!("there are {} nonces: expected {count}", numbers.len())));
    }
    Ok(numbers)
}

/// Inputs of one size, one after the other.
struct Batch<'a> {
    algorithm: Algorithm,
    epoch: Option<Arc<epoch::Epoch>>,
    bytes: &'a [u8],
    size: usize,
    nonces: Option<Vec<u64>>,
    height: u64,
}

impl Batch<'_> {
    /// Writes 32 bytes for each input.
    fn hash(&self, py: Python<'_>, out: &mut [u8]) -> PyResult<()> {
        let count = out.len() / 32;
        let (algorithm, epoch) = (self.algorithm, self.epoch.as_ref());
        let made = py.detach(|| WIDE.take(algorithm, || wide(algorithm, epoch)));
        let mut hasher = made.map_err(error::kernel)?;
        let mut digests = vec![Digest::plain([0; 32]); count.min(BATCH as usize)];
        let mut pace = Pace::new(BATCH);
        let mut done = 0;
        let outcome = interruptible(py, || {
            if done == count {
                return ControlFlow::Break(Ok(()));
            }
            let begun = Instant::now();
            let rows = (pace.batch() as usize).min(count - done);
            if let Err(error) = self.rows(&mut hasher, done, &mut digests[..rows]) {
                return ControlFlow::Break(Err(error));
            }
            let out = &mut out[done * 32..(done + rows) * 32];
            for (out, digest) in out.chunks_exact_mut(32).zip(&digests) {
                out.copy_from_slice(digest.pow.as_raw());
            }
            done += rows;
            pace.took(begun.elapsed());
            ControlFlow::Continue(())
        });
        WIDE.keep(algorithm, hasher);
        outcome?
    }

    fn rows(&self, hasher: &mut Box<dyn Hasher>, first: usize, digests: &mut [Digest]) -> PyResult<()> {
        let rows = first..first + digests.len();
        let row = |i: usize| &self.bytes[i * self.size..(i + 1) * self.size];
        let epoch = self.epoch.as_ref();
        let hashed = match &self.nonces {
            None => {
                let attempts: Vec<_> = rows.map(|i| Attempt::Bytes(row(i))).collect();
                hasher.hash_many(&attempts, epoch, digests)
            }
            Some(nonces) => {
                let hashes: PyResult<Vec<_>> =
                    rows.clone().map(|i| sealed_hash(self.algorithm, row(i))).collect();
                let hashes = hashes?;
                let sealed =
                    |(header_hash, &nonce)| Attempt::Sealed { header_hash, nonce, height: self.height };
                let attempts: Vec<_> = hashes.iter().zip(&nonces[rows]).map(sealed).collect();
                hasher.hash_many(&attempts, epoch, digests)
            }
        };
        hashed.map_err(error::hashing)
    }
}
