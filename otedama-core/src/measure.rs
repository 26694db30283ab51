//! Benchmarks: the real engine on a made-up job for a few seconds, every result checked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::algorithm::{Algorithm, EpochKind, Input};
use crate::engine::{Assignment, Engine, EngineConfig, EngineError, Event, WorkSource, WorkerConfig};
use crate::epoch::{Depth, Epoch, EpochSeed};
use crate::hash256::Hash256;
use crate::job::{Candidate, Job, JobId, NonceRange, SearchSpace, VersionMask, VersionRange};
use crate::mem::PageKind;
use crate::power::EnergyMeter;
use crate::scan::{self, Candidates, Kernel, KernelError, ScanError, Setup, StopFlag};
use crate::target::{HashRate, Target, U256};
use crate::topology::CpuId;
use crate::verify::Verifier;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// One entry for each thread, at least one: the CPU to pin it to, or `None`, and what it may use.
    pub workers: Vec<(Option<CpuId>, Setup)>,
    /// How long to hash.
    pub time: Duration,
    /// Whether the job lets the version roll (BIP 320), where its header has one.
    pub roll_version: bool,
    /// The epoch to hash with, where the algorithm needs one.
    pub epoch: Option<Arc<Epoch>>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// How many threads hashed.
    pub threads: usize,
    /// From the first work to the last count.
    pub seconds: f64,
    /// Attempts made, exactly.
    pub hashes: u64,
    /// The rates of ten equal stretches of that time, for the spread.
    pub samples: Vec<HashRate>,
    /// Energy the processor packages took, in joules, where the platform tells.
    pub joules: Option<f64>,
    /// The memory each thread's scanner obtained, if it needs any: bytes and kind of pages.
    pub memory: Option<(usize, PageKind)>,
    /// How deep an epoch it hashed with, if any.
    pub depth: Option<Depth>,
    /// Whether the job let the version roll.
    pub rolled: bool,
    /// What is wrong with the results; `None` if every check held.
    pub fault: Option<String>,
}

impl Plan {
    /// The first worker's setup.
    fn setup(&self) -> Result<&Setup, MeasureError> {
        self.workers.first().map(|(_, setup)| setup).ok_or(MeasureError::Engine(EngineError::NoWorkers))
    }
}

impl Measurement {
    /// Hashes per second over the whole time.
    pub fn rate(&self) -> HashRate {
        HashRate::new(self.hashes, self.seconds)
    }

    /// The slowest and the fastest stretch, relative to the whole: `(-0.03, 0.02)`.
    pub fn spread(&self) -> (f64, f64) {
        let relative = self.samples.iter().map(|sample| sample.hps() / self.rate().hps() - 1.0);
        relative.fold((0.0, 0.0), |(low, high), r| (r.min(low), r.max(high)))
    }
}

/// Hashes for the planned time, then checks the results: every candidate was proven by another kernel
/// ([`scan::prover`]), their number is what chance allows, and on a sample of the space the kernel finds
/// exactly what the oracle finds. `progress` is called some twenty times a second with the fraction
/// done and the rate so far; answering `false` ends the measurement early.
///
/// # Errors
/// If the engine cannot start or the sample cannot be scanned. Wrong results are not an error but a
/// [`Measurement::fault`].
pub fn run(
    plan: &Plan,
    mut progress: impl FnMut(f64, HashRate) -> bool,
) -> Result<Measurement, MeasureError> {
    let algorithm = plan.kernel.algorithm();
    let setup = plan.setup()?;
    let prover = scan::prover(algorithm, setup)?;
    let bits = timed_target_bits(algorithm);
    let memory = plan.kernel.scanner(setup)?.info().memory;

    let faults = Arc::new(Faults::default());
    let workers = plan.workers.iter().map(|(cpu, setup)| {
        let (cpu, setup, kernel) = (*cpu, setup.clone(), plan.kernel);
        let verifier = Verifier::new(prover, setup.clone());
        WorkerConfig { cpu, make: Box::new(move || Ok((kernel.scanner(&setup)?, verifier.worker()?))) }
    });
    let running = Arc::new(AtomicBool::new(false));
    let jobs = Jobs { algorithm, bits, roll_version: plan.roll_version, epoch: plan.epoch.clone() };
    let source = EndlessWork { jobs: jobs.clone(), made: 0, running: Arc::clone(&running) };
    let engine = Engine::start(EngineConfig::default(), workers.collect(), source, {
        let faults = Arc::clone(&faults);
        move |event| faults.take(event)
    })?;

    let meter = EnergyMeter::start();
    let begun = Instant::now();
    running.store(true, Ordering::Relaxed);
    engine.replace(jobs.assignment(0));
    let samples = watch(&engine, begun, plan.time, &mut progress);
    let stats = engine.stop();
    let seconds = begun.elapsed().as_secs_f64();
    let joules = meter.and_then(EnergyMeter::stop);

    let hashes = stats.total_hashes();
    let mut fault = faults.first.lock().unwrap_or_else(PoisonError::into_inner).take();
    if fault.is_none() {
        fault = luck_fault(hashes, faults.shares.load(Ordering::Relaxed), bits);
    }
    if fault.is_none() {
        fault = sample_fault(plan, &jobs)?;
    }
    let threads = plan.workers.len();
    let depth = plan.epoch.as_deref().map(Epoch::depth);
    let rolled = plan.roll_version && algorithm == Algorithm::Sha256d;
    Ok(Measurement {
        kernel: plan.kernel,
        threads,
        seconds,
        hashes,
        samples,
        joules,
        memory,
        depth,
        rolled,
        fault,
    })
}

/// A made-up job of the algorithm's usual shape that nobody solves, for the epoch given.
pub(crate) fn hopeless_job(algorithm: Algorithm, epoch: Option<&Arc<Epoch>>) -> Job {
    Jobs { algorithm, bits: 255, roll_version: true, epoch: epoch.cloned() }.job(0)
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The sample could not be scanned.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// Rare enough that proving candidates costs well under 1 % of the time, frequent enough that a few
/// seconds give a number to judge.
fn timed_target_bits(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha256d => 20,
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => 7,
        _ => 12,
    }
}

/// Made-up jobs of an algorithm's usual shape.
#[derive(Clone)]
struct Jobs {
    algorithm: Algorithm,
    /// Their target is met by one hash in 2^`bits`.
    bits: usize,
    roll_version: bool,
    epoch: Option<Arc<Epoch>>,
}

impl Jobs {
    fn job(&self, serial: u64) -> Job {
        let (algorithm, id) = (self.algorithm, JobId(serial));
        let target = Target::new(U256::MAX >> self.bits).unwrap_or(Target::MAX);
        let roll = (self.roll_version && algorithm == Algorithm::Sha256d).then_some(VersionMask::BIP320);
        // Where extranonce2 would show: in the merkle root, or in what a blob or a header's hash holds of it.
        let mut bytes = [0x5a; 80];
        bytes[..4].copy_from_slice(&0x2000_0000u32.to_le_bytes());
        bytes[44..52].copy_from_slice(&serial.to_le_bytes());
        let job = match algorithm.spec().input {
            Input::Header { len, .. } => Job::blob(id, algorithm, &bytes[..len.min(80)], roll, target),
            // The length of a Monero blob whose transaction count takes a byte.
            Input::Blob { .. } => Job::blob(id, algorithm, &bytes[..76], roll, target),
            Input::Sealed => {
                let mut hash = [0x5a; 32];
                hash[..8].copy_from_slice(&serial.to_le_bytes());
                Job::sealed(id, algorithm, Hash256::from_raw(hash), self.height(), target)
            }
        };
        // Headers are 80 bytes long, blobs may be 76.
        let job = job.expect("these lengths make a job");
        match &self.epoch {
            Some(epoch) => job.with_epoch(*epoch.key()),
            None => job,
        }
    }

    /// The first block of the epoch, where epochs are counted in blocks.
    fn height(&self) -> u64 {
        match (self.algorithm.spec().epoch, self.epoch.as_ref().map(|epoch| epoch.key().seed)) {
            (EpochKind::Blocks(blocks), Some(EpochSeed::Number(number))) => {
                u64::from(blocks) * u64::from(number)
            }
            _ => 0,
        }
    }

    fn assignment(&self, serial: u64) -> Assignment {
        let assignment = Assignment::whole(Arc::new(self.job(serial)));
        match &self.epoch {
            Some(epoch) => assignment.with_epoch(Arc::clone(epoch)),
            None => assignment,
        }
    }
}

struct EndlessWork {
    jobs: Jobs,
    made: u64,
    /// Whether the clock runs: workers that are ready before the others must not hash yet.
    running: Arc<AtomicBool>,
}

impl WorkSource for EndlessWork {
    fn next(&mut self) -> Option<Assignment> {
        // Job 0 is handed over by `replace`.
        if !self.running.load(Ordering::Relaxed) {
            return None;
        }
        self.made += 1;
        Some(self.jobs.assignment(self.made))
    }
}

/// Lets the time pass; returns the rates of ten stretches of it.
fn watch(
    engine: &Engine,
    begun: Instant,
    time: Duration,
    progress: &mut dyn FnMut(f64, HashRate) -> bool,
) -> Vec<HashRate> {
    let mut samples = Vec::with_capacity(10);
    let mut mark = (begun, 0);
    while begun.elapsed() < time {
        let next = time.mul_f64((samples.len() + 1) as f64 / 10.0);
        std::thread::sleep(Duration::from_millis(50).min(next.saturating_sub(begun.elapsed())));
        let (now, hashes) = (Instant::now(), engine.stats().total_hashes());
        if begun.elapsed() >= next && samples.len() < 10 {
            samples.push(HashRate::new(hashes - mark.1, (now - mark.0).as_secs_f64()));
            mark = (now, hashes);
        }
        let elapsed = begun.elapsed().as_secs_f64();
        if !progress((elapsed / time.as_secs_f64()).min(1.0), HashRate::new(hashes, elapsed)) {
            break;
        }
    }
    samples
}

/// What went wrong while the engine ran, and how many shares it proved.
#[derive(Default)]
struct Faults {
    shares: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Faults {
    fn take(&self, event: Event) {
        let fault = match event {
            Event::Share { .. } => {
                self.shares.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Event::Refused { candidate, reason, .. } => {
                format!("nonce {} was claimed, but its {reason}", candidate.nonce)
            }
            Event::WorkerLost { worker, reason } => format!("worker {worker} was lost: {reason}"),
            Event::WorkerFailed { worker, reason, .. } => format!("worker {worker} failed: {reason}"),
            Event::WorkerHangs { worker } => format!("worker {worker} hangs"),
            Event::AllWorkersLost => "all workers were lost".to_owned(),
            Event::WorkerBack { .. } | Event::Idle => return,
        };
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }
}

/// Whether the number of shares is one that chance gives: within six standard deviations (and a few)
/// of hashes / 2^bits. A kernel that skips lanes would be far off.
fn luck_fault(hashes: u64, shares: u64, bits: usize) -> Option<String> {
    let expected = hashes as f64 / 2f64.powi(bits as i32);
    let allowed = 6.0 * expected.sqrt() + 4.0;
    ((shares as f64 - expected).abs() > allowed)
        .then(|| format!("{shares} shares were found where about {expected:.1} were expected"))
}

/// Whether kernel and oracle find the same candidates on a sample of the space.
fn sample_fault(plan: &Plan, jobs: &Jobs) -> Result<Option<String>, MeasureError> {
    let algorithm = plan.kernel.algorithm();
    let oracle = scan::oracle(algorithm)?;
    let (bits, nonces) = match algorithm {
        Algorithm::Sha256d => (8, 50_021),
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => (1, 9),
        _ => (3, 131),
    };
    let job = Arc::new(Jobs { bits, ..jobs.clone() }.job(1));
    let space = SearchSpace {
        nonces: NonceRange { start: 0xfff0_0000, count: nonces },
        versions: VersionRange { start: 0, count: job.space().versions.count.min(3) },
    };
    let find = |kernel: &'static Kernel| -> Result<Vec<Candidate>, MeasureError> {
        let mut scanner = kernel.scanner(plan.setup()?)?;
        let mut found = Candidates::with_capacity(4096);
        scanner.load(&job, plan.epoch.as_ref())?;
        scanner.scan(&space, &StopFlag::new(), &mut found)?;
        Ok(found.as_slice().to_vec())
    };
    let (expected, found) = (find(oracle)?, find(plan.kernel)?);
    Ok((expected != found).then(|| {
        format!(
            "on a sample the oracle finds {} candidates, {} finds {}",
            expected.len(),
            plan.kernel.name(),
            found.len()
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::kernel;

    fn plan(algorithm: Algorithm, seconds: f64, threads: usize) -> Plan {
        Plan {
            kernel: kernel(algorithm, "portable").unwrap(),
            workers: vec![(None, Setup::detect()); threads],
            time: Duration::from_secs_f64(seconds),
            roll_version: true,
            epoch: None,
        }
    }

    #[test]
    fn a_short_run_is_clean_counted_and_in_proportion() {
        for algorithm in [Algorithm::Sha256d, Algorithm::Scrypt] {
            let mut fractions = Vec::new();
            let measurement = run(&plan(algorithm, 0.2, 2), |fraction, _| {
                fractions.push(fraction);
                true
            })
            .unwrap();
            assert_eq!(measurement.fault, None);
            assert_eq!((measurement.threads, measurement.rolled), (2, algorithm == Algorithm::Sha256d));
            assert!(measurement.hashes > 0 && measurement.seconds >= 0.2);
            assert_eq!(measurement.rate(), HashRate::new(measurement.hashes, measurement.seconds));
            assert!((1..=10).contains(&measurement.samples.len()), "{:?}", measurement.samples);
            assert!(fractions.is_sorted() && fractions.iter().all(|f| (0.0..=1.0).contains(f)));
            let (low, high) = measurement.spread();
            assert!(low <= 0.0 && high >= 0.0);
        }
    }

    #[test]
    fn saying_no_ends_a_run_early() {
        let begun = Instant::now();
        let measurement = run(&plan(Algorithm::Sha256d, 600.0, 1), |_, _| false).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(measurement.fault, None);
    }

    #[test]
    fn nothing_is_hashed_before_the_clock_runs() {
        let running = Arc::new(AtomicBool::new(false));
        let jobs = Jobs { algorithm: Algorithm::Sha256d, bits: 20, roll_version: true, epoch: None };
        let mut source = EndlessWork { jobs, made: 0, running: Arc::clone(&running) };
        assert!(source.next().is_none());
        running.store(true, Ordering::Relaxed);
        assert!(source.next().is_some());
    }

    #[test]
    fn luck_is_judged_by_what_chance_allows() {
        assert_eq!(luck_fault(0, 0, 20), None);
        assert_eq!(luck_fault(100 << 20, 100, 20), None);
        assert_eq!(luck_fault(100 << 20, 100 + 64, 20), None);
        assert_eq!(luck_fault(100 << 20, 100 - 64, 20), None);
        let fault = luck_fault(100 << 20, 100 + 65, 20).unwrap();
        assert_eq!(fault, "165 shares were found where about 100.0 were expected");
        // A kernel that counts 16 lanes but searches 8 of them is found out.
        assert!(luck_fault(1000 << 20, 500, 20).is_some());
        // Few hashes prove little.
        assert_eq!(luck_fault(1 << 20, 0, 20), None);
    }

    #[test]
    fn the_first_fault_is_kept_and_idleness_is_none() {
        let faults = Faults::default();
        faults.take(Event::Idle);
        assert_eq!(*faults.first.lock().unwrap(), None);
        faults.take(Event::WorkerLost { worker: 3, reason: "panicked: x".to_owned() });
        faults.take(Event::AllWorkersLost);
        assert_eq!(faults.first.lock().unwrap().as_deref(), Some("worker 3 was lost: panicked: x"));
    }
}
