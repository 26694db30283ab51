//! Threads that prove shares, in batches, away from the runtime.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, Epoch, EpochBuilder, EpochKey, EpochStore, Progress};
use otedama_core::scan::{HashError, KernelError, Setup};
use otedama_core::verify::{Reject, VerifyWorker};
use otedama_core::{Algorithm, Verifier};
use tokio::sync::mpsc;

use crate::session::{Check, Ticket, Verdict};

/// Shares waiting at most; more are refused, which their miners see.
const QUEUE: usize = 1 << 16;

/// Shares a thread takes at a time: many enough to fill every lane, few enough to be answered soon.
const BATCH: usize = 64;

/// How long a thread lets shares gather when they come faster than this one after the other. To be woken for each costs
/// more than to hash a header.
const GATHER: Duration = Duration::from_micros(500);

/// The verify threads. Dropping it ends them, with what they have in hand.
pub struct Judge {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    epochs: Option<Epochs>,
}

struct State {
    queue: VecDeque<Case>,
    /// Threads that wait for the next share.
    waiting: usize,
    stopping: bool,
}

/// What proving needs between jobs.
struct Epochs {
    builder: Arc<dyn EpochBuilder>,
    store: EpochStore,
}

/// A share and where its verdict goes.
struct Case {
    check: Box<Check>,
    answer: mpsc::UnboundedSender<(Ticket, Verdict)>,
}

impl Judge {
    /// So many threads for one algorithm; its epochs' light parts are kept in `store`.
    ///
    /// # Errors
    /// If no kernel can prove, or there is no thread.
    pub fn start(
        verifier: &Verifier,
        algorithm: Algorithm,
        setup: &Setup,
        store: EpochStore,
        threads: usize,
    ) -> Result<Judge, JudgeError> {
        let items_by = if setup.compile { ItemsBy::Compiler } else { ItemsBy::Interpreter };
        let epochs =
            builders::builder(algorithm, &setup.cpu, items_by).map(|builder| Epochs { builder, store });
        let state = State { queue: VecDeque::new(), waiting: 0, stopping: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), epochs });
        let mut judge = Judge { shared: Arc::clone(&shared), threads: Vec::new() };
        for index in 0..threads.max(1) {
            let (worker, shared) = (verifier.worker()?, Arc::clone(&shared));
            let thread = thread::Builder::new()
                .name(format!("verify-{index}"))
                .spawn(move || run(&shared, worker))
                .map_err(JudgeError::Thread)?;
            judge.threads.push(thread);
        }
        Ok(judge)
    }

    /// Hands in a share. Its verdict comes through `answer`, at once if too many are waiting.
    pub(super) fn prove(&self, check: Box<Check>, answer: &mpsc::UnboundedSender<(Ticket, Verdict)>) {
        let mut state = self.shared.lock();
        if state.queue.len() >= QUEUE {
            drop(state);
            // Nobody reads any more if the connection has ended.
            let _ = answer.send((check.ticket, Err(Reject::NoWorker)));
            return;
        }
        state.queue.push_back(Case { check, answer: answer.clone() });
        let sleeps = state.waiting > 0;
        drop(state);
        if sleeps {
            self.shared.wake.notify_one();
        }
    }

    /// Builds what the next jobs need before their shares come: this epoch, and the next if it is known.
    pub(super) fn announce(&self, (now, next): (Option<EpochKey>, Option<EpochKey>)) {
        let Some(epochs) = &self.shared.epochs else { return };
        for key in [now, next].into_iter().flatten() {
            // Whoever needs it builds it if this does not.
            let _ = epochs.store.announce(&epochs.builder, &key, Depth::Light);
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to do.
            let _ = thread.join();
        }
    }
}

/// Why shares cannot be proven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No thread.
    #[error("cannot start a verify thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next shares, all of one epoch, in the order they came; `None` when it is over.
    fn take(&self, batch: &mut Vec<Case>) -> Option<()> {
        let mut state = self.lock();
        while state.queue.is_empty() {
            if state.stopping {
                return None;
            }
            state.waiting += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        while batch.len() < BATCH {
            let same = |case: &Case| {
                batch.first().is_none_or(|first| first.check.job.epoch() == case.check.job.epoch())
            };
            match state.queue.pop_front_if(|case| same(case)) {
                Some(case) => batch.push(case),
                None => break,
            }
        }
        Some(())
    }

    fn epoch(&self, key: &EpochKey) -> Result<Arc<Epoch>, Reject> {
        let none = Reject::Hash(HashError::NoEpoch(key.algorithm));
        let Some(epochs) = &self.epochs else { return Err(none) };
        epochs.store.get(&epochs.builder, key, Depth::Light, &Progress::new()).map_err(|_| none)
    }
}

fn run(shared: &Shared, mut worker: VerifyWorker) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut free = Instant::now();
    while shared.take(&mut batch).is_some() {
        let begun = Instant::now();
        let epoch = batch[0].check.job.epoch().map(|key| shared.epoch(key)).transpose();
        let tell = |case: &Case, verdict| {
            // Nobody reads any more if the connection has ended.
            let _ = case.answer.send((case.check.ticket, verdict));
        };
        match epoch {
            Ok(epoch) => {
                let claims: Vec<_> = batch.iter().map(|case| case.check.claim()).collect();
                worker.check_many(&claims, epoch.as_ref(), |index, verdict| tell(&batch[index], verdict));
            }
            Err(reject) => batch.iter().for_each(|case| tell(case, Err(reject.clone()))),
        }
        let idle = begun.duration_since(free);
        free = Instant::now();
        // Hashes that take longer than this gather shares by themselves.
        let quick = idle < GATHER && free.duration_since(begun) < GATHER && batch.len() < BATCH;
        batch.clear();
        if quick {
            thread::sleep(GATHER);
        }
    }
}
