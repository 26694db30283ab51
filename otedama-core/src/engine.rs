//! Workers that never run dry: each pinned thread takes slices of the current work, scans them, proves
//! what it found and asks for more.
//!
//! ```text
//!   WorkSource ──next()──▶ ┌───────────┐ ──slice──▶ worker 0: scan ─▶ prove ─┐
//!   replace() / update() ─▶│ dispenser │ ──slice──▶ worker 1: scan ─▶ prove ─┼─▶ EventSink
//!                          └───────────┘ ──slice──▶ worker n: scan ─▶ prove ─┘
//! ```
//!
//! New work comes by two verbs. [`Engine::replace`]: the old work is dead, scans on it stop and what
//! they found is dropped (and counted as stale). [`Engine::update`]: there is newer work, but shares of
//! the old still count, so slices already handed out run to their end.
//!
//! A worker that panics or fails is reported and leaves; the others go on. The attempts of the slice it
//! held are counted as abandoned, so that counts stay exact: unless the work is stopped or replaced, every
//! attempt handed out ends up either in a worker's hashes or in the abandoned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::epoch::Epoch;
use crate::job::{Candidate, Job, JobError, NonceRange, SearchSpace, VersionRange};
use crate::scan::{Candidates, KernelError, ScanEnd, ScanError, Scanner, StopFlag};
use crate::topology::{CpuId, pin_current_thread};
use crate::verify::{Claim, Reject, Share, VerifyWorker};

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
    /// The last worker is gone.
    AllWorkersLost,
    /// All work is done and the source has no more.
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
    /// Makes the scanner that searches and the verify worker that proves.
    pub make: Box<MakeWorker>,
}

/// Makes a worker's scanner and verify worker.
pub type MakeWorker = dyn FnOnce() -> Result<(Box<dyn Scanner>, VerifyWorker), KernelError> + Send;

/// How the engine splits work.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How long a slice should take: the time between stop checks at the latest, and between counts.
    pub slice: Duration,
    /// How many versions a slice covers where versions may roll: kernels share one message schedule
    /// among them.
    pub versions_per_slice: u32,
    /// How many candidates a worker can hold before it proves them.
    pub candidates: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig { slice: Duration::from_millis(20), versions_per_slice: 64, candidates: 1024 }
    }
}

/// Running workers. Dropping it stops and joins them.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts one thread for each worker and returns when all of them are ready.
    ///
    /// # Errors
    /// If there are no workers, a CPU to pin to does not exist, or a scanner cannot be made. Nothing is
    /// left running then.
    pub fn start(
        config: EngineConfig,
        workers: Vec<WorkerConfig>,
        source: impl WorkSource + 'static,
        events: impl EventSink,
    ) -> Result<Engine, EngineError> {
        if workers.is_empty() {
            return Err(EngineError::NoWorkers);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                source: Box::new(source),
                current: None,
                stop: Arc::new(StopFlag::new()),
                generation: 0,
                busy: 0,
                alive: workers.len(),
                stopping: false,
                idle_reported: true,
            }),
            wake: Condvar::new(),
            dead_below: AtomicU64::new(0),
            counters: workers.iter().map(|_| Counters::default()).collect(),
            events: Box::new(events),
            config,
        });
        let (ready, readiness) = mpsc::channel();
        let count = workers.len();
        let mut engine = Engine { shared: Arc::clone(&shared), threads: Vec::with_capacity(workers.len()) };
        for (index, worker) in workers.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let ready = ready.clone();
            let thread = thread::Builder::new()
                .name(format!("otedama-{index}"))
                .spawn(move || run_worker(&shared, index, worker, &ready))
                .map_err(EngineError::Spawn)?;
            engine.threads.push(thread);
        }
        drop(ready);
        // An error drops the engine, which stops the workers that did start.
        for outcome in readiness.iter().take(count) {
            outcome?;
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
        for thread in self.threads.drain(..) {
            // A worker's panic was caught and reported on its own thread.
            let _ = thread.join();
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

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Work of an earlier generation than this was replaced: its candidates are stale.
    dead_below: AtomicU64,
    counters: Vec<Counters>,
    events: Box<dyn EventSink>,
    config: EngineConfig,
}

struct State {
    source: Box<dyn WorkSource>,
    current: Option<Current>,
    /// Watched by every scan since the last `replace`.
    stop: Arc<StopFlag>,
    generation: u64,
    busy: usize,
    alive: usize,
    stopping: bool,
    idle_reported: bool,
}

/// The work being handed out. The cursor goes through groups of versions, and through all nonces for
/// each group.
struct Current {
    assignment: Assignment,
    generation: u64,
    stop: Arc<StopFlag>,
    nonces_done: u64,
    versions_done: u32,
}

/// One worker's share of the counting, on its own cache line.
#[derive(Default)]
#[repr(align(128))]
struct Counters {
    hashes: AtomicU64,
    shares: AtomicU64,
    refused: AtomicU64,
    stale: AtomicU64,
    abandoned: AtomicU64,
}

/// A piece of work small enough to be done in one go.
struct Slice {
    job: Arc<Job>,
    epoch: Option<Arc<Epoch>>,
    space: SearchSpace,
    generation: u64,
    stop: Arc<StopFlag>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic halfway through a change runs under this lock, except a work source:
        // its panic leaves the state as it was before the call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> EngineStats {
        let sum = |field: fn(&Counters) -> &AtomicU64| {
            self.counters.iter().map(|c| field(c).load(Ordering::Relaxed)).sum()
        };
        EngineStats {
            hashes: self.counters.iter().map(|c| c.hashes.load(Ordering::Relaxed)).collect(),
            shares: sum(|c| &c.shares),
            refused: sum(|c| &c.refused),
            stale: sum(|c| &c.stale),
            abandoned: sum(|c| &c.abandoned),
            alive: self.lock().alive,
        }
    }

    /// Waits for a slice of about `attempts` attempts; `None` when it is time to leave. The worker that
    /// gets one counts as busy until it calls [`Shared::put_down`].
    fn next_slice(&self, attempts: u64, lanes: usize, max_versions: u32) -> Option<Slice> {
        let versions = self.config.versions_per_slice.clamp(1, max_versions);
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            if state.current.is_none()
                && let Some(assignment) = state.source.next()
            {
                state.take_up(assignment);
                self.wake.notify_all();
            }
            if let Some(current) = &mut state.current {
                match current.take(attempts, lanes as u64, versions) {
                    Some(slice) => {
                        state.busy += 1;
                        return Some(slice);
                    }
                    None => {
                        state.current = None;
                        continue;
                    }
                }
            }
            if state.busy == 0 && !state.idle_reported {
                state.idle_reported = true;
                drop(state);
                self.events.event(Event::Idle);
                state = self.lock();
                continue;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The worker is done with its slice.
    fn put_down(&self) {
        let mut state = self.lock();
        state.busy -= 1;
        // A sleeping worker may have to report that all is done.
        if state.busy == 0 && state.current.is_none() {
            self.wake.notify_all();
        }
    }

    fn lose(&self, worker: usize, reason: String) {
        let alive = {
            let mut state = self.lock();
            state.alive -= 1;
            state.alive
        };
        // A sink that panics must not take the next report with it.
        let tell = |event| {
            let _ = catch_unwind(AssertUnwindSafe(|| self.events.event(event)));
        };
        tell(Event::WorkerLost { worker, reason });
        if alive == 0 {
            tell(Event::AllWorkersLost);
        }
    }
}

impl State {
    fn take_up(&mut self, assignment: Assignment) {
        self.generation += 1;
        self.idle_reported = false;
        self.current = Some(Current {
            assignment,
            generation: self.generation,
            stop: Arc::clone(&self.stop),
            nonces_done: 0,
            versions_done: 0,
        });
    }
}

impl Current {
    /// Cuts off the next slice: up to `versions` versions, and as many nonces (a multiple of `lanes`
    /// unless the space ends) as make about `attempts` attempts.
    fn take(&mut self, attempts: u64, lanes: u64, versions: u32) -> Option<Slice> {
        let whole = &self.assignment.space;
        if self.nonces_done == whole.nonces.count {
            self.nonces_done = 0;
            self.versions_done += versions.min(whole.versions.count - self.versions_done);
        }
        let versions = versions.min(whole.versions.count - self.versions_done);
        if versions == 0 {
            return None;
        }
        let nonces = (attempts / u64::from(versions)).max(1).next_multiple_of(lanes);
        let count = nonces.min(whole.nonces.count - self.nonces_done);
        let space = SearchSpace {
            nonces: NonceRange { start: whole.nonces.start + self.nonces_done, count },
            versions: VersionRange { start: whole.versions.start + self.versions_done, count: versions },
        };
        self.nonces_done += count;
        Some(Slice {
            job: Arc::clone(&self.assignment.job),
            epoch: self.assignment.epoch.clone(),
            space,
            generation: self.generation,
            stop: Arc::clone(&self.stop),
        })
    }
}

fn run_worker(
    shared: &Shared,
    index: usize,
    config: WorkerConfig,
    ready: &mpsc::Sender<Result<(), EngineError>>,
) {
    if let Some(cpu) = config.cpu
        && let Err(error) = pin_current_thread(cpu)
    {
        let _ = ready.send(Err(EngineError::Pin { cpu, error }));
        return;
    }
    let made = catch_unwind(AssertUnwindSafe(config.make));
    let (scanner, verifier) = match made {
        Ok(Ok(pair)) => pair,
        Ok(Err(error)) => {
            let _ = ready.send(Err(error.into()));
            return;
        }
        Err(panic) => {
            let message = panic_message(&*panic);
            let _ = ready.send(Err(EngineError::MakePanicked { worker: index, message }));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let mut worker = Worker {
        shared,
        index,
        scanner,
        verifier,
        found: Candidates::with_capacity(
            shared.config.candidates.max(shared.config.versions_per_slice as usize),
        ),
        loaded: None,
        in_hand: None,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| worker.work()));
    let reason = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("panicked: {}", panic_message(&*panic)),
    };
    if let Some(attempts) = worker.in_hand {
        shared.counters[index].abandoned.fetch_add(attempts, Ordering::Relaxed);
    }
    // The loss is reported before the slice is put down: whoever hears of idleness has heard of it.
    shared.lose(index, reason);
    if worker.in_hand.is_some() {
        shared.put_down();
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
    scanner: Box<dyn Scanner>,
    verifier: VerifyWorker,
    found: Candidates,
    /// The generation of the job in the scanner.
    loaded: Option<u64>,
    /// While a slice is in hand: those of its attempts that are not counted yet.
    in_hand: Option<u64>,
}

impl Worker<'_> {
    fn work(&mut self) -> Result<(), ScanError> {
        let lanes = self.scanner.info().lanes.max(1);
        let max_versions = self.scanner.info().max_versions;
        // The first slice is tiny; the pace then finds the right size within a few slices.
        let mut attempts = lanes as u64;
        while let Some(slice) = self.shared.next_slice(attempts, lanes, max_versions) {
            self.in_hand = Some(slice.space.attempts());
            if self.loaded != Some(slice.generation) {
                self.scanner.load(&slice.job, slice.epoch.as_ref())?;
                self.loaded = Some(slice.generation);
            }
            let begun = Instant::now();
            let tried = self.scan(&slice)?;
            attempts = pace(tried, begun.elapsed(), self.shared.config.slice);
            self.in_hand = None;
            self.shared.put_down();
        }
        Ok(())
    }

    /// Scans a slice to its end or until it is stopped; returns the attempts made.
    fn scan(&mut self, slice: &Slice) -> Result<u64, ScanError> {
        let mut left = slice.space;
        let mut total = 0;
        loop {
            let scanned = self.scanner.scan(&left, &slice.stop, &mut self.found)?;
            self.counters().hashes.fetch_add(scanned.tried, Ordering::Relaxed);
            total += scanned.tried;
            self.in_hand = self.in_hand.map(|attempts| attempts - scanned.tried);
            self.prove(slice);
            if scanned.end != ScanEnd::Full {
                return Ok(total);
            }
            let nonces = scanned.tried / u64::from(left.versions.count);
            left.nonces = NonceRange { start: left.nonces.start + nonces, count: left.nonces.count - nonces };
        }
    }

    fn prove(&mut self, slice: &Slice) {
        if self.found.as_slice().is_empty() {
            return;
        }
        let counters = &self.shared.counters[self.index];
        if slice.generation < self.shared.dead_below.load(Ordering::Acquire) {
            counters.stale.fetch_add(self.found.as_slice().len() as u64, Ordering::Relaxed);
            self.found.clear();
            return;
        }
        let claims: Vec<Claim<'_>> = self
            .found
            .as_slice()
            .iter()
            .map(|&candidate| Claim { job: &slice.job, candidate, mix: None })
            .collect();
        let (shared, index) = (self.shared, self.index);
        self.verifier.check_many(&claims, slice.epoch.as_ref(), |claim, outcome| match outcome {
            Ok(share) => {
                counters.shares.fetch_add(1, Ordering::Relaxed);
                shared.events.event(Event::Share { worker: index, job: Arc::clone(&slice.job), share });
            }
            Err(reason) => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                let candidate = claims[claim].candidate;
                shared.events.event(Event::Refused { worker: index, candidate, reason });
            }
        });
        self.found.clear();
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters[self.index]
    }
}

/// How many attempts the next slice should have to take the time wanted, given how long the last took:
/// at most sixteen times as many, so that one lucky reading does no harm.
fn pace(tried: u64, took: Duration, wanted: Duration) -> u64 {
    let tried = tried.max(1);
    let factor = wanted.as_secs_f64() / took.as_secs_f64().max(1e-9);
    (tried as f64 * factor.clamp(0.1, 16.0)) as u64
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}
