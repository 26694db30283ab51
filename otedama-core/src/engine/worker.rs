//! One worker: a pinned thread that scans slices and proves what it finds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::dispenser::{Counters, Shared, Slice};
use super::{EngineError, Event, MakeWorker, WorkerConfig};
use crate::epoch::{Depth, Epoch};
use crate::job::{NonceRange, SearchSpace, VersionRange};
use crate::scan::{Candidates, ScanEnd, ScanError, Scanner};
use crate::topology::pin_current_thread;
use crate::verify::{Claim, VerifyWorker};

/// The life of a worker: pinned, made, working until there is nothing more to do or it is lost.
pub(super) fn run(
    shared: &Shared,
    index: usize,
    config: WorkerConfig,
    ready: &mpsc::Sender<(usize, Result<(), EngineError>)>,
) {
    if let Some(cpu) = config.cpu
        && let Err(error) = pin_current_thread(cpu)
    {
        let _ = ready.send((index, Err(EngineError::Pin { cpu, error })));
        return;
    }
    let mut make = config.make;
    let (scanner, verifier) = match made(index, &mut *make) {
        Ok(pair) => pair,
        Err(error) => {
            let _ = ready.send((index, Err(error)));
            return;
        }
    };
    let _ = ready.send((index, Ok(())));
    let mut worker = Worker::new(shared, index, scanner, verifier);
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| worker.work()));
        shared.leave(index);
        let (reason, device) = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => (error.to_string(), error.may_be_remade()),
            Err(panic) => (format!("panicked: {}", panic_message(&*panic)), false),
        };
        if let Some(attempts) = worker.in_hand {
            shared.counters[index].abandoned.fetch_add(attempts, Ordering::Relaxed);
        }
        let held = worker.in_hand.is_some();
        // Whoever is made next may need the device's memory.
        drop(worker);
        if begun.elapsed() >= STEADY {
            failures = 0;
        }
        if !device {
            failures = shared.config.retries;
        }
        match revive(shared, index, &mut *make, &mut failures, reason, held) {
            Some((scanner, verifier)) => worker = Worker::new(shared, index, scanner, verifier),
            None => return,
        }
    }
}

/// A device that has worked for so long is forgiven its earlier failures.
const STEADY: Duration = Duration::from_secs(60);

/// How often a worker that rests asks whether it may go on.
const REST: Duration = Duration::from_millis(100);

/// Makes a worker's scanner anew after pauses, unless it has failed too often or the engine stops. Every
/// failure is reported before the slice it held is put down: whoever hears of idleness has heard of it.
fn revive(
    shared: &Shared,
    index: usize,
    make: &mut MakeWorker,
    failures: &mut u32,
    mut reason: String,
    mut held: bool,
) -> Option<(Box<dyn Scanner>, VerifyWorker)> {
    loop {
        let pause = shared.config.retry_pause * (1 << (*failures).min(16));
        let lost = *failures >= shared.config.retries;
        *failures += 1;
        if lost {
            shared.lose(index, reason);
        } else {
            shared.tell(Event::WorkerFailed { worker: index, reason, pause });
        }
        if held {
            shared.put_down();
            held = false;
        }
        if lost || !shared.pause(pause) {
            return None;
        }
        match made(index, make) {
            Ok(pair) => {
                shared.tell(Event::WorkerBack { worker: index });
                return Some(pair);
            }
            Err(error) => reason = error.to_string(),
        }
    }
}

fn made(worker: usize, make: &mut MakeWorker) -> Result<(Box<dyn Scanner>, VerifyWorker), EngineError> {
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(made) => Ok(made?),
        Err(panic) => Err(EngineError::MakePanicked { worker, message: panic_message(&*panic) }),
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
    scanner: Box<dyn Scanner>,
    verifier: VerifyWorker,
    found: Candidates,
    /// What is in the scanner: the generation of the job, and how deep its epoch is.
    loaded: Option<(u64, Option<Depth>)>,
    /// While a slice is in hand: those of its attempts that are not counted yet.
    in_hand: Option<u64>,
}

impl Worker<'_> {
    fn new(shared: &Shared, index: usize, scanner: Box<dyn Scanner>, verifier: VerifyWorker) -> Worker<'_> {
        let room = shared.config.candidates.max(shared.config.versions_per_slice as usize);
        Worker {
            shared,
            index,
            scanner,
            verifier,
            found: Candidates::with_capacity(room),
            loaded: None,
            in_hand: None,
        }
    }

    fn work(&mut self) -> Result<(), ScanError> {
        let lanes = self.scanner.info().lanes.max(1);
        let wanted_time = self.scanner.slice().unwrap_or(self.shared.config.slice);
        // The first slice is tiny; the pace then finds the right size within a few slices.
        let mut attempts = lanes as u64;
        while self.rest()
            && let Some(slice) = self.shared.next_slice(attempts, lanes)
        {
            self.in_hand = Some(slice.space.attempts());
            let wanted = (slice.generation, slice.epoch.as_deref().map(Epoch::depth));
            if self.loaded != Some(wanted) {
                self.shared.enter(self.index, 10);
                self.loaded = None;
                let loaded = self.scanner.load_unless(&slice.job, slice.epoch.as_ref(), &slice.stop)?;
                self.shared.leave(self.index);
                if !loaded {
                    // The work is dead, and its slice with it.
                    self.in_hand = None;
                    self.shared.put_down();
                    continue;
                }
                self.loaded = Some(wanted);
            }
            let begun = Instant::now();
            let tried = self.scan(&slice)?;
            attempts = pace(tried, begun.elapsed(), wanted_time);
            self.in_hand = None;
            self.shared.put_down();
        }
        Ok(())
    }

    /// Waits, without a slice, as long as the scanner wants a rest; `false` when the engine stops meanwhile.
    fn rest(&mut self) -> bool {
        let worker = self.index;
        let Some(reason) = self.scanner.rest() else { return true };
        self.shared.tell(Event::WorkerPaused { worker, reason });
        loop {
            if !self.shared.pause(REST) {
                return false;
            }
            if self.scanner.rest().is_none() {
                self.shared.tell(Event::WorkerResumed { worker });
                return true;
            }
        }
    }

    /// Scans a slice to its end or until it is stopped, as many versions at a time as the scanner
    /// takes; returns the attempts made.
    fn scan(&mut self, slice: &Slice) -> Result<u64, ScanError> {
        let SearchSpace { nonces, versions } = slice.space;
        let at_a_time = self.scanner.info().max_versions.max(1);
        let mut total = 0;
        for skipped in (0..versions.count).step_by(at_a_time as usize) {
            let count = at_a_time.min(versions.count - skipped);
            let mut left =
                SearchSpace { nonces, versions: VersionRange { start: versions.start + skipped, count } };
            loop {
                self.shared.enter(self.index, 1);
                let scanned = self.scanner.scan(&left, &slice.stop, &mut self.found)?;
                self.shared.leave(self.index);
                self.counters().hashes.fetch_add(scanned.tried, Ordering::Relaxed);
                total += scanned.tried;
                self.in_hand = self.in_hand.map(|attempts| attempts - scanned.tried);
                self.prove(slice);
                let done = scanned.tried / u64::from(count);
                match scanned.end {
                    ScanEnd::Done => break,
                    ScanEnd::Stopped => return Ok(total),
                    ScanEnd::Full => {
                        left.nonces =
                            NonceRange { start: left.nonces.start + done, count: left.nonces.count - done };
                    }
                }
            }
        }
        Ok(total)
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
            .map(|&candidate| Claim { job: &slice.job, candidate, mix: None, pow: None })
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
/// at most sixteen times as many, so that one lucky reading does no harm, and never more than 2^50.
fn pace(tried: u64, took: Duration, wanted: Duration) -> u64 {
    let tried = tried.max(1);
    let factor = wanted.as_secs_f64() / took.as_secs_f64().max(1e-9);
    ((tried as f64 * factor.clamp(0.1, 16.0)) as u64).min(1 << 50)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}
