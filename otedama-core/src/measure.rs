//! Benchmarks: the real engine on a made-up job for a few seconds, every result checked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::algorithm::{Algorithm, EpochKind, Input};
use crate::engine::{Assignment, Engine, EngineConfig, EngineError, Event, WorkSource, WorkerConfig};
use crate::epoch::{Depth, Epoch, EpochSeed};
#[cfg(feature = "gpu")]
use crate::gpu::watch::{PowerMeter, Sensor};
use crate::hash256::Hash256;
use crate::job::{Candidate, Job, JobId, NonceRange, SearchSpace, VersionMask, VersionRange};
use crate::power::EnergyMeter;
use crate::scan::{self, Candidates, Kernel, KernelError, ScanError, Scanner, ScannerInfo, Setup, StopFlag};
use crate::target::{HashRate, Target, U256};
use crate::topology::CpuId;
use crate::verify::Verifier;

/// How long the last scan before the clock takes, on a device.
const WARM_UP: Duration = Duration::from_millis(200);

/// What to measure.
#[derive(Clone)]
pub struct Plan {
    /// What is hashed.
    pub algorithm: Algorithm,
    /// Who hashes, at least one: all on the CPU, or a single one on a device.
    pub workers: Vec<Worker>,
    /// How long to hash.
    pub time: Duration,
    /// Whether the job lets the version roll (BIP 320), where its header has one.
    pub roll_version: bool,
    /// The epoch to hash with, where the algorithm needs one. A device wants the light part alone.
    pub epoch: Option<Arc<Epoch>>,
}

/// A thread that hashes, or that keeps a device busy.
#[derive(Clone)]
pub struct Worker {
    /// The CPU to pin it to, or `None`.
    pub cpu: Option<CpuId>,
    /// What its proofs may use.
    pub setup: Setup,
    /// Makes its scanner.
    pub scanner: Arc<MakeScanner>,
    /// What tells a device's power, if there is such a sensor.
    #[cfg(feature = "gpu")]
    pub sensor: Option<Arc<dyn Sensor>>,
}

/// Makes a scanner, as often as one is wanted.
pub type MakeScanner = dyn Fn() -> Result<Box<dyn Scanner>, KernelError> + Send + Sync;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The first worker's scanner: kernel, device, memory.
    pub scanner: ScannerInfo,
    /// How many threads hashed.
    pub threads: usize,
    /// From the first work to the last count.
    pub seconds: f64,
    /// Attempts made, exactly.
    pub hashes: u64,
    /// The rates of ten stretches of that time (fewer where an engine's slices are longer), for the spread.
    pub samples: Vec<HashRate>,
    /// Energy that the processor packages took, or the device if one was measured, in joules; `None` where nobody
    /// tells.
    pub joules: Option<f64>,
    /// How deep an epoch it hashed with, if any; `None` for a device, which makes what it needs of the light part.
    pub depth: Option<Depth>,
    /// Whether the job let the version roll.
    pub rolled: bool,
    /// What is wrong with the results; `None` if every check held.
    pub fault: Option<String>,
}

impl Worker {
    /// A thread that hashes with a kernel.
    pub fn on_cpu(kernel: &'static Kernel, cpu: Option<CpuId>, setup: Setup) -> Worker {
        let own = setup.clone();
        Worker {
            cpu,
            setup,
            scanner: Arc::new(move || kernel.scanner(&own)),
            #[cfg(feature = "gpu")]
            sensor: None,
        }
    }
}

impl Measurement {
    /// Hashes per second over the whole time.
    pub fn rate(&self) -> HashRate {
        HashRate::new(self.hashes, self.seconds)
    }

    /// Hashes per joule, which are hashes per second and watt, where the energy is known.
    pub fn per_joule(&self) -> Option<HashRate> {
        self.joules
            .filter(|joules| *joules > 0.0)
            .map(|joules| HashRate::from_hps(self.hashes as f64 / joules))
    }

    /// The slowest and the fastest stretch, relative to the whole: `(-0.03, 0.02)`.
    pub fn spread(&self) -> (f64, f64) {
        let relative = self.samples.iter().map(|sample| sample.hps() / self.rate().hps() - 1.0);
        relative.fold((0.0, 0.0), |(low, high), r| (r.min(low), r.max(high)))
    }
}

/// Hashes for the planned time and checks the results: every candidate was proven by another kernel
/// ([`scan::prover`]), their number is what chance allows, and on a sample of the space the scanner finds
/// exactly what the oracle finds. `progress` is called some twenty times a second with the fraction
/// done and the rate so far; answering `false` ends the measurement early. A device makes its dataset and finds
/// the size of its launches before the clock runs.
///
/// # Errors
/// If the engine cannot start or the sample cannot be scanned. Wrong results are not an error but a
/// [`Measurement::fault`].
pub fn run(
    plan: &Plan,
    mut progress: impl FnMut(f64, HashRate) -> bool,
) -> Result<Measurement, MeasureError> {
    let algorithm = plan.algorithm;
    let first = plan.workers.first().ok_or(MeasureError::Engine(EngineError::NoWorkers))?;
    let prover = scan::prover(algorithm, &first.setup)?;
    let mut jobs = Jobs {
        algorithm,
        bits: timed_target_bits(algorithm),
        roll_version: plan.roll_version,
        epoch: plan.epoch.clone(),
    };
    let mut scanner = (first.scanner)()?;
    let info = scanner.info().clone();
    let sample_fault = sample_fault(scanner.as_mut(), &first.setup, &jobs)?;
    // Memory of the CPU is made by the thread that will use it; what a device has made takes long to make again.
    let mut ready = None;
    if !info.on_cpu() {
        jobs.bits = device_target_bits(algorithm, warm_up(scanner.as_mut(), &jobs)?);
        ready = Some(scanner);
    }
    let bits = jobs.bits;

    let faults = Arc::new(Faults::default());
    let workers = plan.workers.iter().map(|worker| {
        let (worker, mut ready) = (worker.clone(), ready.take());
        let verifier = Verifier::new(prover, worker.setup.clone());
        WorkerConfig {
            cpu: worker.cpu,
            make: Box::new(move || {
                let scanner = ready.take().map_or_else(|| (worker.scanner)(), Ok)?;
                Ok((scanner, verifier.worker()?))
            }),
        }
    });
    let running = Arc::new(AtomicBool::new(false));
    let source = EndlessWork { jobs: jobs.clone(), made: 0, running: Arc::clone(&running) };
    let engine = Engine::start(EngineConfig::default(), workers.collect(), source, {
        let faults = Arc::clone(&faults);
        move |event| faults.take(event)
    })?;

    let packages = EnergyMeter::start();
    #[cfg(feature = "gpu")]
    let mut device = first.sensor.clone().map(PowerMeter::start);
    let begun = Instant::now();
    running.store(true, Ordering::Relaxed);
    engine.replace(jobs.assignment(0));
    let samples = watch(&engine, begun, plan.time, &mut |fraction, rate| {
        #[cfg(feature = "gpu")]
        device.as_mut().map(PowerMeter::look);
        progress(fraction, rate)
    });
    let stats = engine.stop();
    let seconds = begun.elapsed().as_secs_f64();
    let joules = packages.and_then(EnergyMeter::stop).filter(|_| info.on_cpu());
    #[cfg(feature = "gpu")]
    let joules = match device {
        Some(mut device) => device.watts().map(|watts| watts * seconds),
        None => joules,
    };

    let hashes = stats.total_hashes();
    let mut fault = faults.first.lock().unwrap_or_else(PoisonError::into_inner).take();
    if fault.is_none() {
        fault = luck_fault(hashes, faults.shares.load(Ordering::Relaxed), bits);
    }
    let threads = plan.workers.len();
    let depth = plan.epoch.as_deref().filter(|_| info.on_cpu()).map(Epoch::depth);
    let rolled = plan.roll_version && algorithm == Algorithm::Sha256d;
    let fault = fault.or(sample_fault);
    Ok(Measurement { scanner: info, threads, seconds, hashes, samples, joules, depth, rolled, fault })
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

/// The same for a device of this speed, whose finds are proven twice from the light part of an epoch: so many a
/// second that proving takes 1 % or so.
fn device_target_bits(algorithm: Algorithm, rate: HashRate) -> usize {
    let a_second = match algorithm {
        Algorithm::Sha256d => 40.0,
        Algorithm::Scrypt => 8.0,
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => 0.3,
        _ => 2.0,
    };
    (rate.hps() / a_second).log2().ceil().clamp(1.0, 48.0) as usize
}

/// Scans more and more until it takes [`WARM_UP`]: the device's launches have their size by then. Returns how fast
/// the last scan was.
fn warm_up(scanner: &mut dyn Scanner, jobs: &Jobs) -> Result<HashRate, ScanError> {
    let job = Arc::new(Jobs { bits: 255, ..jobs.clone() }.job(1));
    let most = job.space().nonces.count;
    let mut found = Candidates::with_capacity(64);
    scanner.load(&job, jobs.epoch.as_ref())?;
    let mut count = (scanner.info().lanes as u64).min(most);
    loop {
        let nonces = NonceRange { start: 0, count };
        let versions = VersionRange { start: 0, count: 1 };
        let begun = Instant::now();
        scanner.scan(&SearchSpace { nonces, versions }, &StopFlag::new(), &mut found)?;
        let took = begun.elapsed();
        if took >= WARM_UP || count == most {
            return Ok(HashRate::new(count, took.as_secs_f64()));
        }
        count = count.saturating_mul(4).min(most);
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

/// Lets the time pass; returns the rates of ten stretches of it, or fewer where slices are longer.
fn watch(
    engine: &Engine,
    begun: Instant,
    time: Duration,
    progress: &mut dyn FnMut(f64, HashRate) -> bool,
) -> Vec<HashRate> {
    let mut samples = Vec::with_capacity(10);
    let (mut mark, mut before) = ((begun, 0), 0);
    while begun.elapsed() < time {
        let next = time.mul_f64((samples.len() + 1) as f64 / 10.0);
        let pause = Duration::from_millis(50).min(next.saturating_sub(begun.elapsed()));
        std::thread::sleep(pause.max(Duration::from_millis(10)));
        let (now, hashes) = (Instant::now(), engine.stats().total_hashes());
        // Stretches end where a slice does: a device's are long.
        if begun.elapsed() >= next && samples.len() < 10 && hashes > before {
            samples.push(HashRate::new(hashes - mark.1, (now - mark.0).as_secs_f64()));
            mark = (now, hashes);
        }
        before = hashes;
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
            Event::WorkerPaused { worker, reason } => format!("worker {worker} paused: {reason}"),
            Event::AllWorkersLost => "all workers were lost".to_owned(),
            Event::WorkerBack { .. } | Event::WorkerResumed { .. } | Event::Idle => return,
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

/// Whether scanner and oracle find the same candidates on a sample of the space.
fn sample_fault(
    scanner: &mut dyn Scanner,
    setup: &Setup,
    jobs: &Jobs,
) -> Result<Option<String>, MeasureError> {
    let algorithm = jobs.algorithm;
    let (bits, nonces) = match algorithm {
        Algorithm::Sha256d => (8, 50_021),
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => (1, 9),
        _ => (3, 131),
    };
    let job = Arc::new(Jobs { bits, ..jobs.clone() }.job(1));
    let versions = job.space().versions.count.min(scanner.info().max_versions).min(3);
    let space = SearchSpace {
        nonces: NonceRange { start: 0xfff0_0000, count: nonces },
        versions: VersionRange { start: 0, count: versions },
    };
    let find = |scanner: &mut dyn Scanner| -> Result<Vec<Candidate>, ScanError> {
        let mut found = Candidates::with_capacity(4096);
        scanner.load(&job, jobs.epoch.as_ref())?;
        scanner.scan(&space, &StopFlag::new(), &mut found)?;
        Ok(found.as_slice().to_vec())
    };
    let expected = find(scan::oracle(algorithm)?.scanner(setup)?.as_mut())?;
    let found = find(scanner)?;
    Ok((expected != found).then(|| {
        format!(
            "on a sample the oracle finds {} candidates, {} finds {}",
            expected.len(),
            scanner.info().kernel,
            found.len()
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::kernel;

    fn plan(algorithm: Algorithm, seconds: f64, threads: usize) -> Plan {
        let kernel = kernel(algorithm, "portable").unwrap();
        Plan {
            algorithm,
            workers: vec![Worker::on_cpu(kernel, None, Setup::detect()); threads],
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

    /// A scanner of the CPU that says it is a device, and whose finds can be spoiled.
    struct Device {
        scanner: Box<dyn Scanner>,
        info: ScannerInfo,
        blind: bool,
    }

    impl Scanner for Device {
        fn info(&self) -> &ScannerInfo {
            &self.info
        }

        fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
            self.scanner.load(job, epoch)
        }

        fn scan(
            &mut self,
            space: &SearchSpace,
            stop: &StopFlag,
            found: &mut Candidates,
        ) -> Result<scan::Scanned, ScanError> {
            let scanned = self.scanner.scan(space, stop, found);
            if self.blind {
                found.clear();
            }
            scanned
        }
    }

    /// A sensor of a very small device.
    #[cfg(feature = "gpu")]
    struct HalfAWatt;

    #[cfg(feature = "gpu")]
    impl Sensor for HalfAWatt {
        fn read(&self) -> crate::gpu::watch::Reading {
            crate::gpu::watch::Reading { power: Some(0.5), ..Default::default() }
        }
    }

    #[test]
    fn a_device_is_made_once_warmed_up_and_judged_like_a_kernel() {
        for blind in [false, true] {
            let made = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&made);
            let setup = Setup::detect();
            let own = setup.clone();
            let scanner = move || -> Result<Box<dyn Scanner>, KernelError> {
                count.fetch_add(1, Ordering::Relaxed);
                let scanner = kernel(Algorithm::Scrypt, "portable")?.scanner(&own)?;
                let info = ScannerInfo { device: "opencl:0.0".to_owned(), ..scanner.info().clone() };
                Ok(Box::new(Device { scanner, info, blind }))
            };
            let worker = Worker {
                cpu: None,
                setup,
                scanner: Arc::new(scanner),
                #[cfg(feature = "gpu")]
                sensor: blind.then(|| Arc::new(HalfAWatt) as Arc<dyn Sensor>),
            };
            let plan = Plan { workers: vec![worker], ..plan(Algorithm::Scrypt, 0.2, 1) };
            let measurement = run(&plan, |_, _| true).unwrap();
            assert_eq!(made.load(Ordering::Relaxed), 1);
            assert_eq!(measurement.scanner.device, "opencl:0.0");
            // A device's energy is its sensor's, never the processor's.
            let told = measurement.per_joule().map(HashRate::hps);
            let expected = (cfg!(feature = "gpu") && blind).then(|| 2.0 * measurement.rate().hps());
            assert!(
                told.zip(expected).is_some_and(|(told, expected)| (told / expected - 1.0).abs() < 1e-6)
                    || told == expected,
                "{told:?} {expected:?}"
            );
            assert_eq!(measurement.fault.is_some(), blind, "{:?}", measurement.fault);
        }
    }

    #[test]
    fn a_device_is_given_targets_for_its_speed() {
        let bits = |algorithm, rate| device_target_bits(algorithm, HashRate::from_hps(rate));
        assert_eq!(bits(Algorithm::Sha256d, 40.0 * 1024.0), 10);
        assert_eq!(bits(Algorithm::Ethash, 525e6), 28);
        assert_eq!((bits(Algorithm::KawPow, 0.0), bits(Algorithm::KawPow, f64::INFINITY)), (1, 48));
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
