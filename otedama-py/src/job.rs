//! Jobs, shares, and proving a claim.

use std::sync::Arc;

use otedama_core::algorithm::Input;
use otedama_core::epoch;
use otedama_core::scan::{Setup, prover};
use otedama_core::verify::{self as proven, Claim, Verifier, VerifyWorker};
use otedama_core::{Candidate, Hash256, JobId, VersionMask, job};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Lent;
use crate::epoch::Epoch;
use crate::error;
use crate::hash::{Pool, sealed_hash, sealed_height};
use crate::target::{self, algorithm as parse};

/// What to hash, and how small the hash must be. Never changes.
///
/// data: the header or blob as it is hashed (the nonce in it does not matter), or a sealed header's 32-byte hash.
/// target: a whole number, the largest a hash may be; see target_from_difficulty and target_from_bits.
/// height: the block's, for sealed headers (kawpow must know it).
/// epoch: the Epoch to hash with, where the algorithm has epochs. The job keeps it alive.
/// version_mask: the bits of a header's version that may vary (BIP 320: 0x1fffe000).
/// id: what its shares are known by.
/// Raises InputError, EpochError.
#[pyclass(frozen, module = "otedama")]
pub(crate) struct Job {
    pub(crate) job: Arc<job::Job>,
    pub(crate) epoch: Option<Arc<epoch::Epoch>>,
}

#[pymethods]
impl Job {
    #[new]
    #[pyo3(signature = (algorithm, data, target, *, height=None, epoch=None, version_mask=None, id=0))]
    fn new(
        algorithm: &str,
        data: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        height: Option<u64>,
        epoch: Option<&Bound<'_, Epoch>>,
        version_mask: Option<u32>,
        id: u64,
    ) -> PyResult<Job> {
        let algorithm = parse(algorithm)?;
        let target = target::to_target(target)?;
        let lent = Lent::new("data", data)?;
        let epoch = epoch.map(|epoch| epoch.get().inner()).transpose()?;
        let roll = version_mask.map(VersionMask::new).transpose().map_err(error::input)?;
        let made = match algorithm.spec().input {
            Input::Sealed if roll.is_some() => {
                return Err(error::input(format!(
                    "{algorithm} has no version to roll: leave version_mask out"
                )));
            }
            Input::Sealed => {
                let height = sealed_height(algorithm, epoch.as_deref(), height)?;
                let header_hash = sealed_hash(algorithm, lent.bytes())?;
                job::Job::sealed(JobId(id), algorithm, header_hash, height, target)
            }
            _ if height.is_some() => {
                return Err(error::input(format!("{algorithm} does not depend on a height: leave it out")));
            }
            _ => job::Job::blob(JobId(id), algorithm, lent.bytes(), roll, target),
        };
        let mut job = made.map_err(error::input)?;
        if let Some(epoch) = &epoch {
            job = job.with_epoch(*epoch.key());
        }
        Ok(Job { job: Arc::new(job), epoch })
    }

    /// The algorithm's name.
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.job.algorithm().name()
    }

    /// The largest hash wanted.
    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        target::to_int(py, self.job.target())
    }

    /// What its shares are known by.
    #[getter]
    fn id(&self) -> u64 {
        self.job.id().0
    }

    /// The bytes that are hashed for a nonce and, where it was rolled, a version; empty for sealed headers.
    #[pyo3(signature = (nonce, version=None, /))]
    fn header<'py>(
        &self,
        py: Python<'py>,
        nonce: u64,
        version: Option<u32>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let candidate = Candidate { nonce, version };
        if !self.job.allows(&candidate) {
            return Err(error::input(format!("nonce {nonce} or its version is not one the job allows")));
        }
        let mut bytes = Vec::new();
        self.job.append_bytes(&candidate, &mut bytes);
        Ok(PyBytes::new(py, &bytes))
    }

    fn __repr__(&self) -> String {
        format!("<otedama.Job {}: {}, target {}>", self.job.id(), self.job.algorithm(), self.job.target())
    }
}

/// A proven share: a nonce whose hash was computed and meets its job's target.
#[pyclass(frozen, eq, module = "otedama")]
#[derive(PartialEq)]
pub(crate) struct Share {
    share: proven::Share,
}

impl Share {
    pub(crate) fn new(share: proven::Share) -> Share {
        Share { share }
    }
}

#[pymethods]
impl Share {
    /// The id of the job it is for.
    #[getter]
    fn job_id(&self) -> u64 {
        self.share.job().0
    }

    /// The nonce.
    #[getter]
    fn nonce(&self) -> u64 {
        self.share.nonce()
    }

    /// The header's version, where the job lets it roll; else None.
    #[getter]
    fn version(&self) -> Option<u32> {
        self.share.version()
    }

    /// The hash: 32 bytes, in the order the function writes them.
    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.share.digest().pow.as_raw())
    }

    /// The mix hash, 32 bytes (ethash, etchash, kawpow; for randomx-v2 the hash to which digest is the commitment);
    /// else None.
    #[getter]
    fn mix<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.share.digest().mix.map(|mix| PyBytes::new(py, mix.as_raw()))
    }

    fn __hash__(&self) -> u64 {
        self.share.nonce() ^ self.share.job().0.rotate_left(32)
    }

    fn __repr__(&self) -> String {
        let version = self.share.version().map(|version| format!(", version {version:#010x}"));
        format!(
            "<otedama.Share nonce {}{}, digest {}>",
            self.share.nonce(),
            version.unwrap_or_default(),
            self.share.digest().pow.to_raw_hex()
        )
    }
}

static PROVERS: Pool<VerifyWorker> = Pool::new();

/// Proves that a nonce is a share of a job, by hashing it once.
///
/// version: the header's, where the job lets it roll. mix, digest: what was claimed beside the nonce, 32 bytes
/// each; a claim that refutes itself is refused without hashing, and without an epoch.
/// Returns the Share. Raises Rejected with the reason, InputError, EpochError. The GIL is released.
#[pyfunction]
#[pyo3(signature = (job, nonce, /, *, version=None, mix=None, digest=None))]
pub(crate) fn verify(
    py: Python<'_>,
    job: &Bound<'_, Job>,
    nonce: u64,
    version: Option<u32>,
    mix: Option<&Bound<'_, PyAny>>,
    digest: Option<&Bound<'_, PyAny>>,
) -> PyResult<Share> {
    let Job { job, epoch } = job.get();
    let mix = mix.map(|mix| claimed("mix", mix)).transpose()?;
    let pow = digest.map(|digest| claimed("digest", digest)).transpose()?;
    let claim = Claim { job, candidate: Candidate { nonce, version }, mix: mix.as_ref(), pow: pow.as_ref() };
    let algorithm = job.algorithm();
    py.detach(|| {
        let setup = Setup::detect();
        let make = || Verifier::new(prover(algorithm, &setup)?, setup.clone()).worker();
        let mut worker = PROVERS.take(algorithm, make).map_err(error::kernel)?;
        let outcome = worker.check(&claim, epoch.as_ref());
        PROVERS.keep(algorithm, worker);
        outcome.map(Share::new).map_err(error::rejected)
    })
}

/// 32 bytes that were claimed.
fn claimed(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Hash256> {
    let lent = Lent::new(name, object)?;
    let bytes: [u8; 32] = lent
        .bytes()
        .try_into()
        .map_err(|_| error::input(format!("{name} has {} bytes: expected 32", lent.bytes().len())))?;
    Ok(Hash256::from_raw(bytes))
}
