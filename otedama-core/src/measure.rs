//! Benchmarks: the real engine on a made-up job for a few seconds, every result checked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::algorithm::Algorithm;
use crate::engine::{Assignment, Engine, EngineConfig, EngineError, Event, WorkSource, WorkerConfig};
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
    /// What it may use.
    pub setup: Setup,
    /// One entry for each thread: the CPU to pin it to, or `None`.
    pub cpus: Vec<Option<CpuId>>,
    /// How long to hash.
    pub time: Duration,
    /// Whether the job lets the version roll (BIP 320), where its header has one.
    pub roll_version: bool,
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
    /// Whether the job let the version roll.
    pub rolled: bool,
    /// What is wrong with the results; `None` if every check held.
    pub fault: Option<String>,
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

/// Hashes for the planned time, then checks the results: every candidate was proven by the algorithm's
/// portable oracle, their number is what chance allows, and on a sample of the space the kernel finds
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
    let oracle = scan::oracle(algorithm)?;
    let bits = timed_target_bits(algorithm);
    let memory = plan.kernel.scanner(&plan.setup)?.info().memory;

    let faults = Arc::new(Faults::default());
    let workers = plan.cpus.iter().map(|&cpu| {
        let (setup, kernel) = (plan.setup.clone(), plan.kernel);
        let verifier = Verifier::new(oracle, plan.setup.clone());
        WorkerConfig { cpu, make: Box::new(move || Ok((kernel.scanner(&setup)?, verifier.worker()?))) }
    });
    let running = Arc::new(AtomicBool::new(false));
    let source = EndlessWork {
        algorithm,
        bits,
        roll_version: plan.roll_version,
        jobs: 0,
        running: Arc::clone(&running),
    };
    let engine = Engine::start(EngineConfig::default(), workers.collect(), source, {
        let faults = Arc::clone(&faults);
        move |event| faults.take(event)
    })?;

    let meter = EnergyMeter::start();
    let begun = Instant::now();
    running.store(true, Ordering::Relaxed);
    engine.replace(job_assignment(algorithm, bits, plan.roll_version, 0));
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
        fault = sample_fault(plan, oracle)?;
    }
    let threads = plan.cpus.len();
    let rolled = plan.roll_version && algorithm == Algorithm::Sha256d;
    Ok(Measurement { kernel: plan.kernel, threads, seconds, hashes, samples, joules, memory, rolled, fault })
}

/// A made-up job of the algorithm's usual shape whose target is met by one hash in 2^`bits`.
pub(crate) fn job(algorithm: Algorithm, bits: usize, roll_version: bool) -> Job {
    make_job(algorithm, bits, roll_version, 0)
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

/// Rare enough that proving candidates costs the portable oracle well under 1 % of the time, frequent
/// enough that a few seconds give a number to judge.
fn timed_target_bits(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha256d => 20,
        _ => 12,
    }
}

fn make_job(algorithm: Algorithm, bits: usize, roll_version: bool, serial: u64) -> Job {
    let mut header = [0x5a; 80];
    header[..4].copy_from_slice(&0x2000_0000u32.to_le_bytes());
    // Where extranonce2 would show: in the merkle root.
    header[36..44].copy_from_slice(&serial.to_le_bytes());
    let roll = (roll_version && algorithm == Algorithm::Sha256d).then_some(VersionMask::BIP320);
    let target = Target::new(U256::MAX >> bits).unwrap_or(Target::MAX);
    // The header has the length that every algorithm with kernels takes.
    Job::blob(JobId(serial), algorithm, &header, roll, target).expect("an 80-byte header makes a job")
}

fn job_assignment(algorithm: Algorithm, bits: usize, roll_version: bool, serial: u64) -> Assignment {
    Assignment::whole(Arc::new(make_job(algorithm, bits, roll_version, serial)))
}

struct EndlessWork {
    algorithm: Algorithm,
    bits: usize,
    roll_version: bool,
    jobs: u64,
    /// Whether the clock runs: workers that are ready before the others must not hash yet.
    running: Arc<AtomicBool>,
}

impl WorkSource for EndlessWork {
    fn next(&mut self) -> Option<Assignment> {
        // Job 0 is handed over by `replace`.
        if !self.running.load(Ordering::Relaxed) {
            return None;
        }
        self.jobs += 1;
        Some(job_assignment(self.algorithm, self.bits, self.roll_version, self.jobs))
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
            Event::AllWorkersLost => "all workers were lost".to_owned(),
            Event::Idle => return,
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
fn sample_fault(plan: &Plan, oracle: &'static Kernel) -> Result<Option<String>, MeasureError> {
    let algorithm = plan.kernel.algorithm();
    let (bits, nonces) = match algorithm {
        Algorithm::Sha256d => (8, 50_021),
        _ => (3, 131),
    };
    let job = Arc::new(make_job(algorithm, bits, plan.roll_version, 1));
    let space = SearchSpace {
        nonces: NonceRange { start: 0xfff0_0000, count: nonces },
        versions: VersionRange { start: 0, count: job.space().versions.count.min(3) },
    };
    let find = |kernel: &'static Kernel| -> Result<Vec<Candidate>, MeasureError> {
        let mut scanner = kernel.scanner(&plan.setup)?;
        let mut found = Candidates::with_capacity(4096);
        scanner.load(&job, None)?;
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
            setup: Setup::detect(),
            cpus: vec![None; threads],
            time: Duration::from_secs_f64(seconds),
            roll_version: true,
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
        let mut source = EndlessWork {
            algorithm: Algorithm::Sha256d,
            bits: 20,
            roll_version: true,
            jobs: 0,
            running: Arc::clone(&running),
        };
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
