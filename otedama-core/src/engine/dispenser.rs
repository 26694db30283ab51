//! What all workers share: the work being handed out, and the counting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Assignment, EngineConfig, EngineStats, Event, EventSink, WorkSource};
use crate::epoch::Epoch;
use crate::job::{Job, NonceRange, SearchSpace, VersionRange};
use crate::scan::StopFlag;

/// One engine's shared part: behind the lock what is to be done, beside it what has been done.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) wake: Condvar,
    /// Work of an earlier generation than this was replaced: its candidates are stale.
    pub(super) dead_below: AtomicU64,
    pub(super) counters: Vec<Counters>,
    pub(super) events: Box<dyn EventSink>,
    pub(super) config: EngineConfig,
    started: Instant,
}

/// What is to be done, and by how many.
pub(super) struct State {
    pub(super) source: Box<dyn WorkSource>,
    pub(super) current: Option<Current>,
    /// Watched by every scan since the last `replace`.
    pub(super) stop: Arc<StopFlag>,
    pub(super) generation: u64,
    pub(super) busy: usize,
    pub(super) alive: usize,
    pub(super) stopping: bool,
    /// Nothing is handed out for now.
    pub(super) paused: bool,
    pub(super) idle_reported: bool,
}

/// The work being handed out. The cursor goes through groups of versions, and through all nonces for
/// each group.
pub(super) struct Current {
    pub(super) assignment: Assignment,
    pub(super) generation: u64,
    pub(super) stop: Arc<StopFlag>,
    pub(super) nonces_done: u64,
    pub(super) versions_done: u32,
}

/// One worker's share of the counting, on its own cache line.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) hashes: AtomicU64,
    pub(super) shares: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) abandoned: AtomicU64,
    /// When the worker should be back from its scanner, in milliseconds since the start; 0 while it is not there.
    due: AtomicU64,
}

/// A piece of work small enough to be done in one go.
pub(super) struct Slice {
    pub(super) job: Arc<Job>,
    pub(super) epoch: Option<Arc<Epoch>>,
    pub(super) space: SearchSpace,
    pub(super) generation: u64,
    pub(super) stop: Arc<StopFlag>,
}

impl Shared {
    /// No work yet, and `workers` workers to come.
    pub(super) fn new(
        config: EngineConfig,
        workers: usize,
        source: Box<dyn WorkSource>,
        events: Box<dyn EventSink>,
    ) -> Shared {
        Shared {
            state: Mutex::new(State {
                source,
                current: None,
                stop: Arc::new(StopFlag::new()),
                generation: 0,
                busy: 0,
                alive: workers,
                stopping: false,
                paused: false,
                idle_reported: true,
            }),
            wake: Condvar::new(),
            dead_below: AtomicU64::new(0),
            counters: (0..workers).map(|_| Counters::default()).collect(),
            events,
            config,
            started: Instant::now(),
        }
    }

    /// The worker goes into its scanner and should be back in `patience` watchdog times.
    pub(super) fn enter(&self, worker: usize, patience: u32) {
        if let Some(watchdog) = self.config.watchdog {
            let due = (self.started.elapsed() + watchdog * patience).as_millis() as u64;
            self.counters[worker].due.store(due.max(1), Ordering::Relaxed);
        }
    }

    /// The worker is back from its scanner.
    pub(super) fn leave(&self, worker: usize) {
        self.counters[worker].due.store(0, Ordering::Relaxed);
    }

    /// Whether the worker should be back from its scanner, and is not.
    pub(super) fn hangs(&self, worker: usize) -> bool {
        let due = self.counters[worker].due.load(Ordering::Relaxed);
        due != 0 && self.started.elapsed().as_millis() as u64 > due
    }

    /// Reports workers that hang, each time once, until the engine stops.
    pub(super) fn watch(&self) {
        let Some(watchdog) = self.config.watchdog else { return };
        let mut reported = vec![false; self.counters.len()];
        while self.pause(watchdog / 4) {
            for (worker, reported) in reported.iter_mut().enumerate() {
                let hangs = self.hangs(worker);
                if hangs && !*reported {
                    self.tell(Event::WorkerHangs { worker });
                }
                *reported = hangs;
            }
        }
    }

    /// Waits; `false` at once when the engine stops.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stopping || left.is_zero() {
                return !state.stopping;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reports something; a sink that panics takes nothing else with it.
    pub(super) fn tell(&self, event: Event) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.events.event(event)));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic halfway through a change runs under this lock, except a work source:
        // its panic leaves the state as it was before the call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> EngineStats {
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
    pub(super) fn next_slice(&self, attempts: u64, lanes: usize) -> Option<Slice> {
        let versions = self.config.versions_per_slice.max(1);
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            if state.paused {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
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
    pub(super) fn put_down(&self) {
        let mut state = self.lock();
        state.busy -= 1;
        // A sleeping worker may have to report that all is done.
        if state.busy == 0 && state.current.is_none() {
            self.wake.notify_all();
        }
    }

    pub(super) fn lose(&self, worker: usize, reason: String) {
        let alive = {
            let mut state = self.lock();
            state.alive -= 1;
            state.alive
        };
        self.tell(Event::WorkerLost { worker, reason });
        if alive == 0 {
            self.tell(Event::AllWorkersLost);
        }
    }
}

impl State {
    pub(super) fn take_up(&mut self, assignment: Assignment) {
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
    pub(super) fn take(&mut self, attempts: u64, lanes: u64, versions: u32) -> Option<Slice> {
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
