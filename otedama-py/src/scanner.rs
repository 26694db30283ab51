//! A search on the caller's own thread.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use otedama_core::scan::{self, Candidates, Setup, StopFlag};
use otedama_core::tune::{self, TuningCache};
use otedama_core::verify::{Claim, Verifier, VerifyWorker};
use otedama_core::{Job, NonceRange, SearchSpace, VersionRange, epoch, verify};
use pyo3::prelude::*;

use crate::error;
use crate::job;
use crate::wait::{Pace, TICK, interruptible};

/// Versions tried with each nonce at a time, where they may roll: kernels share one message schedule among them.
const VERSIONS: u32 = 64;

/// Room for candidates of one step.
const CANDIDATES: usize = 1024;

/// Goes through a job's nonces on the thread that asks: an iterator of proven shares, in order of nonces.
///
/// job: what to search. start, count: the part of the nonces; all that follow start if count is None. Where the
/// version may roll, all versions of the job are tried, 64 at a time, each 64 with all these nonces.
/// kernel: a kernel's name, such as "avx2"; the fastest on this machine if None.
/// The GIL is released while it scans. Ctrl-C ends a scan within some 20 ms; the next next() goes on where it ended. Threads
/// that share a scanner take turns. `async for` scans on asyncio's executor, a tick at a time.
/// Raises InputError, EpochError, DeviceError (kernel or memory missing, or a wrong claim).
#[pyclass(frozen, subclass, module = "otedama")]
pub(crate) struct Scanner {
    state: Mutex<State>,
    kernel: &'static str,
}

#[pymethods]
impl Scanner {
    #[new]
    #[pyo3(signature = (job, *, start=0, count=None, kernel=None))]
    fn new(
        py: Python<'_>,
        job: &Bound<'_, job::Job>,
        start: u64,
        count: Option<u64>,
        kernel: Option<&str>,
    ) -> PyResult<Scanner> {
        let job::Job { job, epoch } = job.get();
        let whole = job.space();
        let count = count.unwrap_or_else(|| whole.nonces.count.saturating_sub(start));
        let space = SearchSpace { nonces: NonceRange { start, count }, ..whole };
        space.check_within(&whole).map_err(error::input)?;
        let state = py.detach(|| State::new(job, epoch.as_ref(), space, kernel))?;
        Ok(Scanner { kernel: state.scanner.info().kernel, state: Mutex::new(state) })
    }

    /// Attempts made so far, exactly: nonces times versions.
    #[getter]
    fn tried(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().tried)
    }

    /// Whether everything has been tried. Shares may still wait to be taken.
    #[getter]
    fn done(&self, py: Python<'_>) -> bool {
        py.detach(|| self.lock().done())
    }

    /// The kernel's full name, such as "sha256d-avx512".
    #[getter]
    fn kernel(&self) -> &'static str {
        self.kernel
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<job::Share>> {
        let share = interruptible(py, || {
            let mut state = self.lock();
            match state.found.pop_front() {
                Some(share) => ControlFlow::Break(Ok(Some(share))),
                None if state.done() => ControlFlow::Break(Ok(None)),
                None => match state.step() {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(Err(error)),
                },
            }
        })?;
        Ok(share?.map(job::Share::new))
    }

    /// Scans for some 20 ms, or until something is found.
    fn _advance(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let begun = Instant::now();
            while begun.elapsed() < TICK {
                let mut state = self.lock();
                if !state.found.is_empty() || state.done() {
                    break;
                }
                state.step()?;
            }
            Ok(())
        })
    }

    /// A share that was found and not taken yet, if there is one.
    fn _take(&self, py: Python<'_>) -> Option<job::Share> {
        py.detach(|| self.lock().found.pop_front()).map(job::Share::new)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<otedama.Scanner {}: {} tried>", self.kernel, self.tried(py))
    }
}

impl Scanner {
    /// Call it with the GIL released: another thread may be scanning.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    job: Arc<Job>,
    epoch: Option<Arc<epoch::Epoch>>,
    scanner: Box<dyn scan::Scanner>,
    verifier: VerifyWorker,
    /// All that is to be searched, and what comes next in it: a nonce and the first of some versions.
    space: SearchSpace,
    next: (u64, u32),
    pace: Pace,
    tried: u64,
    candidates: Candidates,
    found: VecDeque<verify::Share>,
}

impl State {
    fn new(
        job: &Arc<Job>,
        epoch: Option<&Arc<epoch::Epoch>>,
        space: SearchSpace,
        kernel: Option<&str>,
    ) -> PyResult<State> {
        let setup = Setup::detect();
        let algorithm = job.algorithm();
        let kernel = match kernel {
            Some(name) => scan::kernel(algorithm, name),
            None => tune::best(algorithm, &setup, &TuningCache::user(), epoch, 1),
        };
        let mut scanner = kernel.and_then(|kernel| kernel.scanner(&setup)).map_err(error::kernel)?;
        scanner.load(job, epoch).map_err(error::scanning)?;
        let prover = scan::prover(algorithm, &setup).map_err(error::kernel)?;
        let verifier = Verifier::new(prover, setup).worker().map_err(error::kernel)?;
        Ok(State {
            job: Arc::clone(job),
            epoch: epoch.cloned(),
            verifier,
            next: (space.nonces.start, space.versions.start),
            space,
            pace: Pace::new(1 << 32),
            scanner,
            tried: 0,
            candidates: Candidates::with_capacity(CANDIDATES),
            found: VecDeque::new(),
        })
    }

    fn done(&self) -> bool {
        self.next.1 >= self.space.versions.start + self.space.versions.count
    }

    /// Scans a few milliseconds' worth of nonces with one set of versions, and proves what was claimed.
    fn step(&mut self) -> PyResult<()> {
        let (nonce, version) = self.next;
        let SearchSpace { nonces, versions } = self.space;
        let end = nonces.start + nonces.count;
        let most = self.scanner.info().max_versions.clamp(1, VERSIONS);
        let some = most.min(versions.start + versions.count - version);
        let space = SearchSpace {
            nonces: NonceRange { start: nonce, count: self.pace.batch().min(end - nonce) },
            versions: VersionRange { start: version, count: some },
        };
        self.candidates.clear();
        let begun = Instant::now();
        let scanned =
            self.scanner.scan(&space, &StopFlag::new(), &mut self.candidates).map_err(error::scanning)?;
        self.pace.took(begun.elapsed());
        self.tried += scanned.tried;
        let nonce = nonce + scanned.tried / u64::from(some);
        self.next = if nonce == end { (nonces.start, version + some) } else { (nonce, version) };
        for &candidate in self.candidates.as_slice() {
            let claim = Claim { job: &self.job, candidate, mix: None, pow: None };
            let share = self.verifier.check(&claim, self.epoch.as_ref()).map_err(|reason| {
                let kernel = self.scanner.info().kernel;
                error::device(format!("{kernel} claimed nonce {}, but its {reason}", candidate.nonce))
            })?;
            self.found.push_back(share);
        }
        Ok(())
    }
}
