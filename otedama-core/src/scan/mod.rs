//! Searching and hashing: the two traits behind which every kernel and device works, and the table
//! that says which of them exist.
//!
//! A [`Scanner`] goes through a range of nonces for one job; a [`Hasher`] hashes unrelated inputs, many
//! at a time. Both keep private state and belong to one thread. Callers see ranges and counts: a vector
//! kernel steps by its lanes inside, a GPU splits the range into launches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::algo::randomx::commitment;
use crate::algorithm::Algorithm;
use crate::epoch::{Epoch, EpochKey};
use crate::hash256::{Digest, Hash256};
use crate::job::{Candidate, Job, JobError, SearchSpace};

#[cfg(feature = "gpu")]
pub use gpu::{GpuOptions, gpu_scanner};
pub use sha256d::double_digest;
pub use table::{Kernel, KernelError, Setup, kernel, kernels, oracle, prover};
#[cfg(feature = "gpu")]
pub use watched::watched;

#[cfg(feature = "gpu")]
mod gpu;
mod randomx;
mod scrypt;
mod sealed;
mod sha256d;
mod table;
#[cfg(feature = "gpu")]
mod watched;

/// Searches ranges of nonces (and versions) for one job at a time.
pub trait Scanner: Send {
    /// What this scanner is.
    fn info(&self) -> &ScannerInfo;

    /// How long an engine's slice for this scanner should take; `None` leaves it to the engine. For devices
    /// that lose time at every pause and look at the stop flag themselves.
    fn slice(&self) -> Option<Duration> {
        None
    }

    /// Why the scanner should not work now, such as a device that is too hot. An engine asks before every slice, and
    /// while there is a reason again and again.
    fn rest(&mut self) -> Option<String> {
        None
    }

    /// Takes up a job; `epoch` is the memory it names, if it names any. Called before the first scan
    /// and whenever the job changes. Allocates nothing once a job of the same shape has been loaded.
    ///
    /// # Errors
    /// If the job is of another algorithm or lacks its epoch.
    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError>;

    /// As [`Scanner::load`], but gives up when `stop` is raised and then says `false`: no job is loaded. A device that
    /// makes a dataset looks at the flag every few milliseconds, keeps what it has made, and goes on with it when it
    /// is given a job of the same epoch. Anything else is loaded too soon to be stopped.
    ///
    /// # Errors
    /// As [`Scanner::load`].
    fn load_unless(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        _stop: &StopFlag,
    ) -> Result<bool, ScanError> {
        self.load(job, epoch).map(|()| true)
    }

    /// Tries every attempt in `space` for the loaded job, in order of nonces, and appends those that
    /// meet the target to `found`. Blocks; returns early when `stop` is raised (within about a
    /// millisecond on a CPU; RandomX takes some 40 ms, a GPU some 30 ms) or `found` is full. Allocates nothing
    /// (oracles, which put readability first, and drivers may).
    ///
    /// # Errors
    /// If no job is loaded, the space leaves the job's, or `found` could not hold one nonce's versions.
    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError>;
}

/// Hashes unrelated inputs; serves verifiers, C and Python. Lanes are filled with strangers' inputs.
pub trait Hasher: Send {
    /// What it hashes with: a kernel's name.
    fn kernel(&self) -> &'static str;

    /// How many inputs it likes to get at a time; any number is correct.
    fn lanes(&self) -> usize;

    /// Hashes `attempts[i]` into `digests[i]`.
    ///
    /// # Errors
    /// If the two differ in length, an input is not one of this algorithm's, or its epoch is missing.
    fn hash_many(
        &mut self,
        attempts: &[Attempt<'_>],
        epoch: Option<&Arc<Epoch>>,
        digests: &mut [Digest],
    ) -> Result<(), HashError>;

    /// The digest that a claimed mix hash leads to, where an algorithm can tell without its epoch (Ethash,
    /// KawPow; RandomX v2, whose hash stands in the mix's place): if that misses the target there is nothing to
    /// hash. Whether the mix is right is another question.
    fn claimed(&self, _attempt: &Attempt<'_>, _mix: &Hash256) -> Option<Digest> {
        None
    }
}

/// What an attempt is judged by, made of the function's digest of it. As RandomX v2 is mined that is the commitment
/// to the hash, `blake2b-256(input, hash)`, and the hash itself stands in the mix's place: whoever has both knows
/// without the epoch whether they meet a target (tevador/RandomX, pull request 265; `CpuWorker.cpp` of XMRig 6.26,
/// which compares the commitment). For all others it is the digest.
pub(crate) fn judged(algorithm: Algorithm, attempt: &Attempt<'_>, digest: Digest) -> Digest {
    match (algorithm, attempt.bytes()) {
        (Algorithm::RandomXV2, Some(input)) => {
            Digest { pow: Hash256::from_raw(commitment(input, digest.pow.as_raw())), mix: Some(digest.pow) }
        }
        _ => digest,
    }
}

/// One input to hash.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<'a> {
    /// The bytes as they are hashed, nonce included.
    Bytes(&'a [u8]),
    /// The hash of a sealed header, with the nonce beside it.
    Sealed {
        /// The header's hash, in the order it is fed to the function.
        header_hash: &'a Hash256,
        /// The nonce.
        nonce: u64,
        /// The block height (KawPow's program depends on it).
        height: u64,
    },
}

impl<'a> Attempt<'a> {
    /// The bytes as they are hashed; `None` for sealed work.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Attempt::Bytes(bytes) => Some(bytes),
            Attempt::Sealed { .. } => None,
        }
    }
}

/// What a scanner is, for reports and for whoever splits the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannerInfo {
    /// What it mines.
    pub algorithm: Algorithm,
    /// The kernel's full name, such as `sha256d-avx512`.
    pub kernel: &'static str,
    /// Where it runs: `cpu`, or a device's id.
    pub device: String,
    /// How many nonces it tries at once; ranges of a multiple waste nothing.
    pub lanes: usize,
    /// The most versions one scan may cover.
    pub max_versions: u32,
    /// The memory it obtained, if it needed any: bytes and kind of pages.
    pub memory: Option<(usize, crate::mem::PageKind)>,
}

impl ScannerInfo {
    /// Whether it runs on the CPU, not on a device behind an API.
    pub fn on_cpu(&self) -> bool {
        self.device == "cpu"
    }
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Attempts made, exactly: the nonces done times the versions. Hash rates and resuming rest on it.
    pub tried: u64,
    /// Why it ended.
    pub end: ScanEnd,
}

/// Why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// The range is done.
    Done,
    /// The stop flag was raised.
    Stopped,
    /// The candidates are full; go on at `start + tried / versions` after emptying them.
    Full,
}

/// A wish to stop, seen by every scan that was given it.
#[derive(Debug, Default)]
pub struct StopFlag(AtomicBool);

impl StopFlag {
    /// A flag that is not raised.
    pub const fn new() -> StopFlag {
        StopFlag(AtomicBool::new(false))
    }

    /// Asks every scan that watches this flag to end. It cannot be lowered: new work brings a new flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The candidates of a scan, at most as many as it was made for. Nothing is allocated after that.
#[derive(Debug)]
pub struct Candidates {
    list: Vec<Candidate>,
    capacity: usize,
}

impl Candidates {
    /// Room for this many.
    pub fn with_capacity(capacity: usize) -> Candidates {
        Candidates { list: Vec::with_capacity(capacity), capacity }
    }

    /// Those found so far, in order of their nonces.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.list
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        self.capacity - self.list.len()
    }

    /// Forgets them all; the room stays.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Appends one, or says that there is no room.
    pub fn push(&mut self, candidate: Candidate) -> Result<(), CandidatesFull> {
        if self.list.len() == self.capacity {
            return Err(CandidatesFull);
        }
        self.list.push(candidate);
        Ok(())
    }

    /// Takes back all but the first `len`: what came after them will be tried again.
    pub(crate) fn take_back(&mut self, len: usize) {
        self.list.truncate(len);
    }
}

/// There is no room for another candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidatesFull;

/// Why a scan could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// A job of another algorithm.
    #[error("job is for {found}: this scanner mines {expected}")]
    WrongAlgorithm {
        /// What the scanner mines.
        expected: Algorithm,
        /// What the job asks for.
        found: Algorithm,
    },
    /// `scan` before `load`.
    #[error("no job is loaded: load one before scanning")]
    NoJob,
    /// The space to search leaves the job's.
    #[error(transparent)]
    Space(#[from] JobError),
    /// More versions than one scan may cover.
    #[error("scan covers {count} versions: expected at most {max}")]
    TooManyVersions {
        /// How many were asked for.
        count: u32,
        /// How many are allowed.
        max: u32,
    },
    /// The candidates could not hold one nonce's versions.
    #[error("room for {room} candidates: expected room for at least one nonce's {needed} versions")]
    NoRoom {
        /// Places left.
        room: usize,
        /// Places needed.
        needed: usize,
    },
    /// The job's epoch was not given.
    #[error("{0} needs the epoch its job names: none was given")]
    NoEpoch(Algorithm),
    /// An epoch other than the one the job names.
    #[error("job needs {expected}: {found} was given")]
    WrongEpoch {
        /// What the job names.
        expected: Box<EpochKey>,
        /// What was given.
        found: Box<EpochKey>,
    },
    /// A device failed.
    #[error("device failed: {0}")]
    Device(String),
    /// A GPU failed, or computes wrongly.
    #[cfg(feature = "gpu")]
    #[error("device failed: {0}")]
    Gpu(#[from] crate::gpu::GpuError),
}

impl ScanError {
    /// Whether the same scan may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ScanError::NoEpoch(_)) || self.may_be_remade()
    }

    /// Whether a device failed that may work when its scanner is made anew.
    pub(crate) fn may_be_remade(&self) -> bool {
        match self {
            ScanError::Device(_) => true,
            #[cfg(feature = "gpu")]
            ScanError::Gpu(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// Why inputs could not be hashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// As many digests as inputs are needed.
    #[error("{digests} places for digests: expected one for each of {inputs} inputs")]
    Lengths {
        /// Inputs given.
        inputs: usize,
        /// Places for digests given.
        digests: usize,
    },
    /// An input this algorithm does not take.
    #[error("{algorithm} input has {found} bytes: expected {expected}")]
    WrongInput {
        /// What hashes.
        algorithm: Algorithm,
        /// Its length in bytes, 32 for sealed work.
        found: usize,
        /// What it should have been.
        expected: &'static str,
    },
    /// The algorithm's epoch was not given.
    #[error("{0} needs an epoch: none was given")]
    NoEpoch(Algorithm),
    /// An epoch of another algorithm.
    #[error("{algorithm} hashes with an epoch of its own: {found} was given")]
    WrongEpoch {
        /// What hashes.
        algorithm: Algorithm,
        /// What was given.
        found: Box<EpochKey>,
    },
    /// A device failed.
    #[error("device failed: {0}")]
    Device(String),
}

/// Checks every scanner makes before it starts; returns the versions per nonce.
fn check_scan(
    job: Option<&Arc<Job>>,
    space: &SearchSpace,
    max_versions: u32,
    found: &Candidates,
) -> Result<u32, ScanError> {
    let job = job.ok_or(ScanError::NoJob)?;
    space.check_within(&job.space())?;
    let versions = space.versions.count;
    if versions > max_versions {
        return Err(ScanError::TooManyVersions { count: versions, max: max_versions });
    }
    if found.capacity < versions as usize {
        return Err(ScanError::NoRoom { room: found.capacity, needed: versions as usize });
    }
    Ok(versions)
}

/// Checks every scanner with epochs makes before it takes up a job: that it is of its algorithm, and that
/// the epoch given is the one it names, or at least one of its algorithm.
fn check_load<'a>(
    expected: Algorithm,
    job: &Job,
    epoch: Option<&'a Arc<Epoch>>,
) -> Result<&'a Arc<Epoch>, ScanError> {
    if job.algorithm() != expected {
        return Err(ScanError::WrongAlgorithm { expected, found: job.algorithm() });
    }
    let epoch = epoch.ok_or(ScanError::NoEpoch(expected))?;
    let found = *epoch.key();
    match job.epoch() {
        Some(&expected) if expected != found => {
            Err(ScanError::WrongEpoch { expected: Box::new(expected), found: Box::new(found) })
        }
        None if found.algorithm != expected => Err(ScanError::NoEpoch(expected)),
        _ => Ok(epoch),
    }
}

/// Checks that there is a place for each digest.
fn check_lengths(attempts: &[Attempt<'_>], digests: &[Digest]) -> Result<(), HashError> {
    if attempts.len() != digests.len() {
        return Err(HashError::Lengths { inputs: attempts.len(), digests: digests.len() });
    }
    Ok(())
}

/// Checks every hasher of blobs makes before it starts.
fn check_attempts(
    algorithm: Algorithm,
    attempts: &[Attempt<'_>],
    digests: &[Digest],
    fits: impl Fn(&[u8]) -> bool,
    expected: &'static str,
) -> Result<(), HashError> {
    check_lengths(attempts, digests)?;
    for attempt in attempts {
        match attempt.bytes() {
            Some(bytes) if fits(bytes) => {}
            other => {
                let found = other.map_or(32, <[u8]>::len);
                return Err(HashError::WrongInput { algorithm, found, expected });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(nonce: u64) -> Candidate {
        Candidate { nonce, version: None }
    }

    #[test]
    fn candidates_take_as_many_as_they_were_made_for_and_no_more() {
        let mut found = Candidates::with_capacity(2);
        assert_eq!(found.room(), 2);
        assert_eq!(found.push(candidate(1)), Ok(()));
        assert_eq!(found.push(candidate(2)), Ok(()));
        assert_eq!((found.room(), found.push(candidate(3))), (0, Err(CandidatesFull)));
        assert_eq!(found.as_slice(), [candidate(1), candidate(2)]);
        found.clear();
        assert_eq!((found.room(), found.as_slice()), (2, [].as_slice()));
        assert_eq!(Candidates::with_capacity(0).push(candidate(1)), Err(CandidatesFull));
    }

    #[test]
    fn taking_back_leaves_what_was_there_before() {
        let mut found = Candidates::with_capacity(3);
        for nonce in [7, 7, 8] {
            found.push(candidate(nonce)).unwrap();
        }
        found.take_back(1);
        assert_eq!((found.as_slice(), found.room()), ([candidate(7)].as_slice(), 2));
    }

    #[test]
    fn a_flag_is_raised_for_everyone_and_for_good() {
        let flag = StopFlag::new();
        assert!(!flag.is_raised());
        flag.raise();
        flag.raise();
        assert!(flag.is_raised());
    }

    #[test]
    fn kernels_are_found_by_their_full_and_their_short_names() {
        for algorithm in Algorithm::ALL {
            assert_eq!(kernels(algorithm).filter(|kernel| kernel.is_oracle()).count(), 1, "{algorithm}");
            for row in kernels(algorithm) {
                let short = &row.name()[algorithm.name().len() + 1..];
                assert_eq!(kernel(algorithm, row.name()).unwrap().name(), row.name());
                assert_eq!(kernel(algorithm, short).unwrap().name(), row.name());
            }
        }
        let error = kernel(Algorithm::Sha256d, "scrypt-portable").unwrap_err().to_string();
        assert!(error.starts_with("unknown sha256d kernel 'scrypt-portable': expected sha256d-"), "{error}");
    }

    #[test]
    fn a_kernel_is_refused_where_its_extension_was_taken_away() {
        let setup = Setup { cpu: crate::cpu::Cpu::baseline(), ..Setup::detect() };
        for row in [Algorithm::Sha256d, Algorithm::Scrypt].into_iter().flat_map(kernels) {
            let refused = row.scanner(&setup).err().map(|error| error.to_string());
            let expected = row
                .needs()
                .map(|isa| format!("kernel {} needs {isa}: this CPU does not offer it", row.name()));
            assert_eq!(refused, expected);
            assert_eq!(row.hasher(&setup).err().map(|error| error.to_string()), expected);
        }
    }
}
