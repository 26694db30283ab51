//! A search on threads of its own.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use otedama_core::Algorithm;
use otedama_core::engine::{
    self, Assignment, EngineConfig, EngineStats, Event, EventSink, WorkSource, WorkerConfig,
};
use otedama_core::scan::{self, Setup};
use otedama_core::topology::{CpuId, Topology};
use otedama_core::tune::{self, TuningCache};
use otedama_core::verify::{self, Verifier};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error;
use crate::job::{Job, Share};
use crate::wait::{TICK, interruptible};

/// Shares that wait to be taken; workers that find more wait as well.
const WAITING: usize = 4096;

/// Searches a job on threads of its own, one pinned to each core: an iterator of proven shares.
///
/// job: what to search, all of it. threads: how many; one for each core if None. More than there are CPUs run
/// unpinned. kernel: a kernel's name; the fastest on this machine if None.
/// The iteration ends when all nonces have been tried or the engine is stopped. replace() and update() give it
/// further work. `async for` awaits shares without a thread. A context manager: leaving it stops the threads.
/// Raises InputError, EpochError, DeviceError (kernel or memory missing; later, if every worker is lost).
#[pyclass(frozen, subclass, module = "otedama")]
pub(crate) struct Engine {
    engine: Mutex<Option<engine::Engine>>,
    /// What a stopped engine had done.
    last: Mutex<EngineStats>,
    queue: Arc<Queue>,
    algorithm: Algorithm,
    kernel: &'static str,
    threads: usize,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (job, *, threads=None, kernel=None))]
    fn new(
        py: Python<'_>,
        job: &Bound<'_, Job>,
        threads: Option<usize>,
        kernel: Option<&str>,
    ) -> PyResult<Engine> {
        let job = job.get();
        let algorithm = job.job.algorithm();
        let queue = Arc::new(Queue::default());
        let (engine, kernel, threads) = py.detach(|| {
            let setup = Setup::detect();
            let setups = worker_setups(threads)?;
            let kernel = match kernel {
                Some(name) => scan::kernel(algorithm, name),
                None => tune::best(algorithm, &setup, &TuningCache::user(), job.epoch.as_ref(), setups.len()),
            };
            let kernel = kernel.map_err(error::kernel)?;
            let prover = scan::prover(algorithm, &setup).map_err(error::kernel)?;
            let threads = setups.len();
            let workers = setups.into_iter().map(|(cpu, setup)| {
                let verifier = Verifier::new(prover, setup.clone());
                let make = move || Ok((kernel.scanner(&setup)?, verifier.worker()?));
                WorkerConfig { cpu, make: Box::new(make) }
            });
            // Tried here first, so that bad work is an error and not a worker lost.
            let mut probe = kernel.scanner(&setup).map_err(error::kernel)?;
            probe.load(&job.job, job.epoch.as_ref()).map_err(error::scanning)?;
            drop(probe);
            let source = First(Some(assignment(job)));
            let sink = Sink(Arc::clone(&queue));
            let engine = engine::Engine::start(EngineConfig::default(), workers.collect(), source, sink);
            Ok::<_, PyErr>((engine.map_err(error::engine)?, kernel.name(), threads))
        })?;
        let (engine, last) = (Mutex::new(Some(engine)), Mutex::default());
        Ok(Engine { engine, last, queue, algorithm, kernel, threads })
    }

    /// The kernel's full name.
    #[getter]
    fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// How many threads it has.
    #[getter]
    fn threads(&self) -> usize {
        self.threads
    }

    /// New work; the old is dead: scans on it stop and what they find is dropped. Shares that wait to be
    /// taken still can be; their job_id tells.
    ///
    /// Raises InputError (another algorithm, or the engine is stopped), EpochError.
    #[pyo3(signature = (job, /))]
    fn replace(&self, py: Python<'_>, job: &Bound<'_, Job>) -> PyResult<()> {
        let work = self.work(job.get())?;
        py.detach(|| {
            let engine = self.running();
            let engine = engine.as_ref().ok_or_else(stopped)?;
            self.queue.lock().idle = false;
            engine.replace(work);
            Ok(())
        })
    }

    /// New work; shares of the old still count. Raises as replace().
    #[pyo3(signature = (job, /))]
    fn update(&self, py: Python<'_>, job: &Bound<'_, Job>) -> PyResult<()> {
        let work = self.work(job.get())?;
        py.detach(|| {
            let engine = self.running();
            let engine = engine.as_ref().ok_or_else(stopped)?;
            self.queue.lock().idle = false;
            engine.update(work);
            Ok(())
        })
    }

    /// What has been done so far: hashes (per worker, exact), shares, refused, stale, abandoned, alive.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| match &*self.running() {
            Some(engine) => engine.stats(),
            None => self.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        });
        let dict = PyDict::new(py);
        dict.set_item("hashes", stats.hashes)?;
        dict.set_item("shares", stats.shares)?;
        dict.set_item("refused", stats.refused)?;
        dict.set_item("stale", stats.stale)?;
        dict.set_item("abandoned", stats.abandoned)?;
        dict.set_item("alive", stats.alive)?;
        Ok(dict)
    }

    /// Stops the threads and waits for them, some 20 ms. Shares found so far can still be taken.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            self.queue.close();
            let mut engine = self.running();
            if let Some(engine) = engine.take() {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = engine.stop();
            }
        });
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.stop(py);
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Share>> {
        let share = interruptible(py, || {
            let mut state = self.queue.lock();
            if state.shares.is_empty() && !state.over() {
                state = self.queue.wait(state);
            }
            match state.take() {
                Ok(None) if !state.over() => ControlFlow::Continue(()),
                other => {
                    self.queue.changed.notify_all();
                    ControlFlow::Break(other)
                }
            }
        })?;
        Ok(share?.map(Share::new))
    }

    /// A share that was found and not taken yet, if there is one.
    fn _take(&self, py: Python<'_>) -> PyResult<Option<Share>> {
        let share = py.detach(|| {
            let share = self.queue.lock().take();
            self.queue.changed.notify_all();
            share
        });
        Ok(share?.map(Share::new))
    }

    /// Whether there will be no more shares for now: all was tried, or the engine is stopped.
    #[getter]
    fn done(&self, py: Python<'_>) -> bool {
        py.detach(|| self.queue.lock().over())
    }

    fn __repr__(&self) -> String {
        format!("<otedama.Engine {}: {} threads>", self.kernel, self.threads)
    }
}

impl Engine {
    /// Call it with the GIL released: another thread may be stopping the engine.
    fn running(&self) -> MutexGuard<'_, Option<engine::Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, job: &Job) -> PyResult<Assignment> {
        let (found, expected) = (job.job.algorithm(), self.algorithm);
        if found != expected {
            return Err(error::input(format!("job is for {found}: this engine searches {expected}")));
        }
        if job.epoch.is_none() && expected.spec().epoch != otedama_core::algorithm::EpochKind::None {
            return Err(error::no_epoch(expected));
        }
        Ok(assignment(job))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Workers that wait for room would keep the threads from ending.
        self.queue.close();
    }
}

fn stopped() -> PyErr {
    error::input("the engine is stopped: expected a running one")
}

fn assignment(job: &Job) -> Assignment {
    let assignment = Assignment::whole(Arc::clone(&job.job));
    match &job.epoch {
        Some(epoch) => assignment.with_epoch(Arc::clone(epoch)),
        None => assignment,
    }
}

/// What each thread may use: one to a core, pinned near its memory; unpinned where there are more than CPUs.
pub(crate) fn worker_setups(threads: Option<usize>) -> PyResult<Vec<(Option<CpuId>, Setup)>> {
    let topology = Topology::detect();
    let count = threads.unwrap_or_else(|| topology.cores().len().max(1));
    if !(1..=MOST_THREADS).contains(&count) {
        return Err(error::input(format!("threads is {count}: expected 1 to {MOST_THREADS}")));
    }
    let cpus: Vec<_> = if count > topology.cpus().len() {
        vec![None; count]
    } else {
        topology.worker_cpus(count).into_iter().map(Some).collect()
    };
    let setup = Setup::detect();
    let near = |cpu: Option<CpuId>| {
        let node = cpu.and_then(|cpu| topology.node_of(cpu)).unwrap_or(setup.node);
        (cpu, Setup { node, ..setup.clone() })
    };
    Ok(cpus.into_iter().map(near).collect())
}

/// More threads than any machine has CPUs today.
const MOST_THREADS: usize = 4096;

/// The work an engine begins with.
struct First(Option<Assignment>);

impl WorkSource for First {
    fn next(&mut self) -> Option<Assignment> {
        self.0.take()
    }
}

/// Shares on their way from the workers to Python.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    shares: VecDeque<verify::Share>,
    /// Everything has been tried.
    idle: bool,
    /// Nobody will take any more, or they need not wait for room.
    closed: bool,
    /// Why the last worker is gone.
    lost: Option<String>,
    all_lost: bool,
}

impl Waiting {
    fn over(&self) -> bool {
        self.shares.is_empty() && (self.idle || self.closed || self.all_lost)
    }

    fn take(&mut self) -> PyResult<Option<verify::Share>> {
        match self.shares.pop_front() {
            None if self.all_lost => {
                let reason = self.lost.as_deref().unwrap_or("for an unknown reason");
                Err(error::device(format!("every worker is lost: {reason}")))
            }
            share => Ok(share),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until something changes, for a tick at most.
    fn wait<'a>(&self, state: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

struct Sink(Arc<Queue>);

impl EventSink for Sink {
    fn event(&self, event: Event) {
        let mut state = self.0.lock();
        match event {
            Event::Share { share, .. } => {
                while state.shares.len() >= WAITING && !state.closed {
                    state = self.0.wait(state);
                }
                state.shares.push_back(share);
            }
            Event::WorkerLost { reason, .. } => state.lost = Some(reason),
            Event::AllWorkersLost => state.all_lost = true,
            Event::Idle => state.idle = true,
            // Counted by the engine: see stats().
            _ => {}
        }
        drop(state);
        self.0.changed.notify_all();
    }
}
