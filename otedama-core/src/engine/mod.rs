//! Workers that never run dry: each pinned thread takes slices of the current work, scans them, proves
//! what it found and asks for more.
//!
//! ```text
//!   WorkSource ──next()──▶ ┌───────────┐ ──slice──▶ worker 0: scan ─▶ prove ─┐
//!   replace() / update() ─▶│ dispenser │ ──slice──▶ worker 1: scan ─▶ prove ─┼─▶ EventSink
//!                          └───────────┘ ──slice──▶ worker n: scan ─▶ prove ─┘
//! ```
//!
//! New work comes by two verbs; a third ([`Engine::deepen`]) gives the old work more memory, a fourth
//! ([`Engine::rest`]) takes it away, and [`Engine::pause`] holds it back for a while. [`Engine::replace`]: the old work is dead, scans on it stop and what
//! they found is dropped (and counted as stale). [`Engine::update`]: there is newer work, but shares of
//! the old still count, so slices already handed out run to their end.
//!
//! A worker that panics or fails is reported and leaves; the others go on. One whose device fails is made anew
//! after a pause, a few times. The attempts of the slice it held are counted as abandoned, so that counts stay exact: unless the work is stopped or replaced, every
//! attempt handed out ends up either in a worker's hashes or in the abandoned.

mod dispenser;
mod worker;

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::epoch::Epoch;
use crate::job::{Candidate, Job, JobError, SearchSpace};
use crate::scan::{KernelError, Scanner, StopFlag};
use crate::topology::CpuId;
use crate::verify::{Reject, Share, VerifyWorker};

use dispenser::Shared;

/// A job, the part of its space to search, and the memory it needs.
#[derive(Clone, Debug)]
pub struct Assignment {
    job: Arc<Job>,
    space: SearchSpace,
    epoch: Option<Arc<Epoch>>,
}

impl Assignment {
    /// All of a job's space.
    pub fn whole(job: Arc<Job>) -> Assignment {
        let space = job.space();
        Assignment { job, space, epoch: None }
    }

    /// A part of a job's space.
    ///
    /// # Errors
    /// If the part is empty or leaves the job's space.
    pub fn part(job: Arc<Job>, space: SearchSpace) -> Result<Assignment, JobError> {
        space.check_within(&job.space())?;
        Ok(Assignment { job, space, epoch: None })
    }

    /// The same assignment with the epoch its job names.
    #[must_use]
    pub fn with_epoch(self, epoch: Arc<Epoch>) -> Assignment {
        Assignment { epoch: Some(epoch), ..self }
    }

    fn deepen(&mut self, epoch: &Arc<Epoch>) {
        if self.epoch.as_ref().is_some_and(|old| old.key() == epoch.key()) {
            self.epoch = Some(Arc::clone(epoch));
        }
    }
}

/// Whoever has more work. Whoever speaks a mining protocol implements this by rolling extranonce2 or
/// ntime: a 32-bit nonce space without version rolling lasts a fast machine only seconds.
pub trait WorkSource: Send {
    /// The next work when the current is used up; `None` if there is none for now (workers then sleep
    /// until [`Engine::replace`] or [`Engine::update`]). Called under the engine's lock: must not block.
    fn next(&mut self) -> Option<Assignment>;
}

/// A source that has nothing beyond what the engine is given.
pub struct NoMoreWork;

impl WorkSource for NoMoreWork {
    fn next(&mut self) -> Option<Assignment> {
        None
    }
}

/// What the engine has to say while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A proven share.
    Share {
        /// Which worker found it.
        worker: usize,
        /// The job it is for.
        job: Arc<Job>,
        /// The share.
        share: Share,
    },
    /// A scanner claimed what its verifier did not confirm: broken hardware or a broken kernel.
    Refused {
        /// Which worker claimed it.
        worker: usize,
        /// What it claimed.
        candidate: Candidate,
        /// Why it is no share.
        reason: Reject,
    },
    /// A worker panicked or failed and is gone; the others go on.
    WorkerLost {
        /// Which one.
        worker: usize,
        /// What happened to it.
        reason: String,
    },
    /// A worker's device failed; it is made anew after a pause.
    WorkerFailed {
        /// Which one.
        worker: usize,
        /// What happened to it.
        reason: String,
        /// How long it rests.
        pause: Duration,
    },
    /// A worker that failed works again.
    WorkerBack {
        /// Which one.
        worker: usize,
    },
    /// A worker has not come back from its scanner in the time allowed: its device hangs, or its driver. It may
    /// return; until then it does nothing, and stopping the engine leaves its thread behind.
    WorkerHangs {
        /// Which one.
        worker: usize,
    },
    /// A worker takes no more work until its device is fit for it, such as cool enough.
    WorkerPaused {
        /// Which one.
        worker: usize,
        /// Why.
        reason: String,
    },
    /// A worker that paused works again.
    WorkerResumed {
        /// Which one.
        worker: usize,
    },
    /// The last worker is gone.
    AllWorkersLost,
    /// All work is done and the source has no more. New work handed in at the same moment may overtake it.
    Idle,
}

/// Where events go. Called on worker threads: should return soon.
pub trait EventSink: Send + Sync + 'static {
    /// Takes one event.
    fn event(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync + 'static> EventSink for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

/// A worker before it runs: where to pin it and how to make its scanner. Both are made on the worker's
/// own thread, after pinning, so that its memory lies near it.
pub struct WorkerConfig {
    /// The CPU to pin the thread to; `None` leaves it to the operating system.
    pub cpu: Option<CpuId>,
    /// Makes the scanner that searches and the verify worker that proves; asked again after a device failed.
    pub make: Box<MakeWorker>,
}

/// Makes a worker's scanner and verify worker.
pub type MakeWorker = dyn FnMut() -> Result<(Box<dyn Scanner>, VerifyWorker), KernelError> + Send;

/// How the engine splits work.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How long a slice should take: the time between stop checks at the latest, and between counts.
    pub slice: Duration,
    /// How many versions a slice covers where versions may roll: kernels share one message schedule
    /// among them. Scanners that take fewer at a time go through a slice in several scans.
    pub versions_per_slice: u32,
    /// How many candidates a worker can hold before it proves them.
    pub candidates: usize,
    /// How often a worker whose device fails ([`ScanError::is_retryable`](crate::scan::ScanError::is_retryable)) is made
    /// anew before it is given up. One that computes wrongly is given up at once. A device that has worked for a minute may fail as often again.
    pub retries: u32,
    /// The pause before the first of these; each further one is twice as long.
    pub retry_pause: Duration,
    /// How long a scan may take (and ten times that for taking up a job) until the worker is reported as
    /// hanging; `None` does not watch.
    pub watchdog: Option<Duration>,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            slice: Duration::from_millis(20),
            versions_per_slice: 64,
            candidates: 1024,
            retries: 5,
            retry_pause: Duration::from_secs(1),
            watchdog: None,
        }
    }
}

/// Running workers. Dropping it stops and joins them.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts one thread for each worker and returns when all of them are ready.
    ///
    /// # Errors
    /// If there are no workers, a CPU to pin to does not exist, or a scanner cannot be made. Nothing is
    /// left running then. A GPU that cannot be used is reported as lost ([`Event::WorkerLost`]) and the others work,
    /// if there are any.
    pub fn start(
        config: EngineConfig,
        workers: Vec<WorkerConfig>,
        source: impl WorkSource + 'static,
        events: impl EventSink,
    ) -> Result<Engine, EngineError> {
        if workers.is_empty() {
            return Err(EngineError::NoWorkers);
        }
        let shared = Arc::new(Shared::new(config, workers.len(), Box::new(source), Box::new(events)));
        let (ready, readiness) = mpsc::channel();
        let count = workers.len();
        let threads = Vec::with_capacity(workers.len());
        let mut engine = Engine { shared: Arc::clone(&shared), threads, watchdog: None };
        for (index, worker) in workers.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let ready = ready.clone();
            let thread = thread::Builder::new()
                .name(format!("otedama-{index}"))
                .spawn(move || worker::run(&shared, index, worker, &ready))
                .map_err(EngineError::Spawn)?;
            engine.threads.push(thread);
        }
        drop(ready);
        // An error drops the engine, which stops the workers that did start.
        let mut unusable = Vec::new();
        for (worker, outcome) in readiness.iter().take(count) {
            match outcome {
                Err(error) if error.is_of_a_gpu() => unusable.push((worker, error)),
                outcome => outcome?,
            }
        }
        if unusable.len() == count {
            return unusable.into_iter().next().map_or(Err(EngineError::NoWorkers), |(_, error)| Err(error));
        }
        for (worker, error) in unusable {
            engine.shared.lose(worker, error.to_string());
        }
        if shared.config.watchdog.is_some() {
            let watched = Arc::clone(&shared);
            let thread = thread::Builder::new().name("otedama-watch".to_owned());
            engine.watchdog = Some(thread.spawn(move || watched.watch()).map_err(EngineError::Spawn)?);
        }
        Ok(engine)
    }

    /// New work; the old is dead. Scans on it stop and what they found is dropped.
    pub fn replace(&self, assignment: Assignment) {
        let mut state = self.shared.lock();
        state.stop.raise();
        state.stop = Arc::new(StopFlag::new());
        state.take_up(assignment);
        self.shared.dead_below.store(state.generation, Ordering::Release);
        drop(state);
        self.shared.wake.notify_all();
    }

    /// New work; shares of the old still count.
    pub fn update(&self, assignment: Assignment) {
        self.shared.lock().take_up(assignment);
        self.shared.wake.notify_all();
    }

    /// The same epoch with more to it, such as the dataset that was still being built when work began:
    /// workers take it up with their next slice and nothing is begun anew. Work that names another epoch is left
    /// as it is; a [`WorkSource`] must give its further work the new one itself.
    pub fn deepen(&self, epoch: &Arc<Epoch>) {
        let mut state = self.shared.lock();
        if let Some(current) = &mut state.current {
            current.assignment.deepen(epoch);
        }
    }

    /// No work any more: scans stop and what they found is dropped, until there is work again.
    pub fn rest(&self) {
        let mut state = self.shared.lock();
        state.stop.raise();
        state.stop = Arc::new(StopFlag::new());
        state.current = None;
        self.shared.dead_below.store(state.generation + 1, Ordering::Release);
    }

    /// Workers stop where they are, and take nothing more until [`resume`](Engine::resume). The work stays, and new
    /// work may be handed in meanwhile. What was found counts; what slices in hand had not come to yet is skipped.
    pub fn pause(&self) {
        let mut state = self.shared.lock();
        state.paused = true;
        state.stop.raise();
        state.stop = Arc::new(StopFlag::new());
        let stop = Arc::clone(&state.stop);
        if let Some(current) = &mut state.current {
            current.stop = stop;
        }
    }

    /// Workers go on after [`pause`](Engine::pause).
    pub fn resume(&self) {
        self.shared.lock().paused = false;
        self.shared.wake.notify_all();
    }

    /// What has been done so far.
    pub fn stats(&self) -> EngineStats {
        self.shared.stats()
    }

    /// Stops all workers, waits for them and says what was done. What they had found is proven and
    /// reported first.
    pub fn stop(mut self) -> EngineStats {
        self.halt();
        self.shared.stats()
    }

    fn halt(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.stop.raise();
        }
        self.shared.wake.notify_all();
        for (worker, thread) in self.threads.drain(..).enumerate() {
            while self.shared.config.watchdog.is_some() && !thread.is_finished() && !self.shared.hangs(worker)
            {
                thread::sleep(Duration::from_millis(1));
            }
            if self.shared.config.watchdog.is_none() || thread.is_finished() {
                // A worker's panic was caught and reported on its own thread.
                let _ = thread.join();
            }
        }
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.halt();
    }
}

/// What an engine has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Attempts made, per worker; exact.
    pub hashes: Vec<u64>,
    /// Shares proven.
    pub shares: u64,
    /// Candidates that the verifier refused.
    pub refused: u64,
    /// Candidates dropped because their job had been replaced.
    pub stale: u64,
    /// Attempts handed to a worker that was lost before it could say how many it had made.
    pub abandoned: u64,
    /// Workers not lost.
    pub alive: usize,
}

impl EngineStats {
    /// Attempts made by all workers.
    pub fn total_hashes(&self) -> u64 {
        self.hashes.iter().sum()
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Nobody to work.
    #[error("engine has no workers: expected at least one")]
    NoWorkers,
    /// A CPU that a worker cannot be pinned to.
    #[error("cannot pin a worker to {cpu}: expected a CPU this process may use ({error})")]
    Pin {
        /// The CPU asked for.
        cpu: CpuId,
        /// The operating system's answer.
        #[source]
        error: std::io::Error,
    },
    /// A scanner could not be made.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Making a scanner panicked.
    #[error("worker {worker} panicked while it was made: {message}")]
    MakePanicked {
        /// Which worker.
        worker: usize,
        /// What it said.
        message: String,
    },
    /// The operating system gave no thread.
    #[error("cannot start a worker thread: {0}")]
    Spawn(#[source] std::io::Error),
}

impl EngineError {
    /// Whether it is a GPU that cannot be used, which others can do without.
    fn is_of_a_gpu(&self) -> bool {
        match self {
            #[cfg(feature = "gpu")]
            EngineError::Kernel(KernelError::Device(_)) => true,
            _ => false,
        }
    }
}
