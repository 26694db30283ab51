//! The scanner over devices that are made to fail, on the first OpenCL device there is (PoCL will do).

use std::sync::{Mutex, mpsc};
use std::thread;

use super::*;
use crate::algo::ethash;
use crate::builders::{self, ItemsBy};
use crate::engine::{Assignment, Engine, EngineConfig, Event, NoMoreWork, WorkerConfig};
use crate::epoch::{Depth, EpochKey, EpochStore, Progress, StoreConfig};
use crate::gpu::sealed_samples::{self as samples, final_hash};
use crate::gpu::{Arg, DeviceInfo, Kernel, Program};
use crate::hash256::Hash256;
use crate::scan;
use crate::scan::{HashError, oracle};
use crate::topology::Topology;
use crate::{JobId, Target, Verifier};

/// A device whose search goes wrong in some way; all else is right.
struct Faulty {
    device: Arc<dyn Gpu>,
    fault: Fault,
}

#[derive(Clone, Copy)]
enum Fault {
    None,
    /// A buffer among the arguments of a kernel is overwritten just before each launch.
    Memory(&'static str, usize),
    /// Launches of a kernel are forgotten.
    Idle(&'static str),
    /// A number among the arguments of a kernel has all its bits set: a target that everything meets.
    Number(&'static str, usize),
}

impl Gpu for Faulty {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn compile(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<Program, GpuError> {
        self.device.compile(name, text, defines)
    }

    fn buffer(&self, bytes: u64) -> Result<Buffer, GpuError> {
        self.device.buffer(bytes)
    }

    fn queue(&self) -> Result<Box<dyn Queue>, GpuError> {
        Ok(Box::new(FaultyQueue { queue: self.device.queue()?, fault: self.fault }))
    }
}

struct FaultyQueue {
    queue: Box<dyn Queue>,
    fault: Fault,
}

impl Queue for FaultyQueue {
    fn write(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        self.queue.write(to, offset, bytes)
    }

    fn zero(&mut self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<(), GpuError> {
        self.queue.zero(buffer, offset, bytes)
    }

    fn launch(&mut self, kernel: &Kernel, groups: u32, args: &[Arg<'_>]) -> Result<(), GpuError> {
        let mut args = args.to_vec();
        match self.fault {
            Fault::Memory(name, index) if name == kernel.name() => {
                let Arg::Buffer(buffer) = args[index] else { panic!("{index} of {name} is no buffer") };
                self.queue.zero(buffer, 0, buffer.bytes())?;
            }
            Fault::Idle(name) if name == kernel.name() => return Ok(()),
            Fault::Number(name, index) if name == kernel.name() => args[index] = Arg::U64(u64::MAX),
            _ => {}
        }
        self.queue.launch(kernel, groups, &args)
    }

    fn read(&mut self, from: &Buffer, offset: u64, into: &mut [u8]) -> Result<(), GpuError> {
        self.queue.read(from, offset, into)
    }

    fn finish(&mut self) -> Result<(), GpuError> {
        self.queue.finish()
    }
}

/// A device that computes nothing but takes its time: each group of a launch so long, one launch after the other.
struct Slow {
    device: Arc<dyn Gpu>,
    group: Duration,
    busy_until: Arc<Mutex<Instant>>,
}

impl Gpu for Slow {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn compile(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<Program, GpuError> {
        self.device.compile(name, text, defines)
    }

    fn buffer(&self, bytes: u64) -> Result<Buffer, GpuError> {
        self.device.buffer(bytes)
    }

    fn queue(&self) -> Result<Box<dyn Queue>, GpuError> {
        let busy_until = Arc::clone(&self.busy_until);
        Ok(Box::new(SlowQueue { queue: self.device.queue()?, group: self.group, busy_until, done_at: None }))
    }
}

struct SlowQueue {
    queue: Box<dyn Queue>,
    group: Duration,
    busy_until: Arc<Mutex<Instant>>,
    done_at: Option<Instant>,
}

impl Queue for SlowQueue {
    fn write(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        self.queue.write(to, offset, bytes)
    }

    fn zero(&mut self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<(), GpuError> {
        self.queue.zero(buffer, offset, bytes)
    }

    fn launch(&mut self, _: &Kernel, groups: u32, _: &[Arg<'_>]) -> Result<(), GpuError> {
        let mut busy_until = self.busy_until.lock().expect("nobody panics with it");
        *busy_until = (*busy_until).max(Instant::now()) + self.group * groups;
        self.done_at = Some(*busy_until);
        Ok(())
    }

    fn read(&mut self, from: &Buffer, offset: u64, into: &mut [u8]) -> Result<(), GpuError> {
        self.finish()?;
        self.queue.read(from, offset, into)
    }

    fn finish(&mut self) -> Result<(), GpuError> {
        if let Some(done_at) = self.done_at.take() {
            thread::sleep(done_at.saturating_duration_since(Instant::now()));
        }
        self.queue.finish()
    }
}

/// The same search with every batch in eight steps of 100 groups.
struct InSteps(Box<dyn Search>);

impl Search for InSteps {
    fn load(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        self.0.load(job, epoch, queue, go_on)
    }

    fn granule(&self) -> u32 {
        100 * self.0.granule()
    }

    fn max_batch(&self) -> u32 {
        self.granule()
    }

    fn steps(&self) -> u32 {
        8
    }

    fn enqueue(
        &mut self,
        slot: usize,
        queue: &mut dyn Queue,
        _: u32,
        batch: &Batch<'_>,
    ) -> Result<(), GpuError> {
        self.0.enqueue(slot, queue, 0, batch)
    }
}

/// Tells when it is given a job.
struct Told {
    scanner: GpuScanner,
    loaded: mpsc::Sender<(JobId, Instant)>,
}

impl Scanner for Told {
    fn info(&self) -> &ScannerInfo {
        self.scanner.info()
    }

    fn slice(&self) -> Option<Duration> {
        self.scanner.slice()
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        self.scanner.load(job, epoch)?;
        let _ = self.loaded.send((job.id(), Instant::now()));
        Ok(())
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        self.scanner.scan(space, stop, found)
    }
}

/// The oracle over a small epoch.
struct Oracle;

impl Hasher for Oracle {
    fn kernel(&self) -> &'static str {
        "oracle"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn hash_many(
        &mut self,
        attempts: &[Attempt<'_>],
        epoch: Option<&Arc<Epoch>>,
        digests: &mut [Digest],
    ) -> Result<(), HashError> {
        let epoch = epoch.expect("the scanner has an epoch");
        for (attempt, digest) in attempts.iter().zip(digests) {
            let &Attempt::Sealed { nonce, height, .. } = attempt else { panic!("{attempt:?}") };
            *digest = Digest::plain(final_hash(epoch, height, nonce));
        }
        Ok(())
    }
}

/// A scanner over small epochs of Ethash or KawPow, on a device with a fault.
fn small_scanner(device: &Arc<dyn Gpu>, algorithm: Algorithm, fault: Fault) -> GpuScanner {
    let params = if algorithm == Algorithm::KawPow { &samples::KAWPOW } else { &samples::ETHASH };
    let faulty: Arc<dyn Gpu> = Arc::new(Faulty { device: Arc::clone(device), fault });
    let search = samples::search_of(params, &faulty);
    let options = GpuOptions { intensity: Some(8), limit: None, ..GpuOptions::default() };
    GpuScanner::new(algorithm, &faulty, search, Box::new(Oracle), options).expect("a scanner")
}

fn small_epoch(algorithm: Algorithm, number: u32) -> Arc<Epoch> {
    samples::epoch(if algorithm == Algorithm::KawPow { &samples::KAWPOW } else { &samples::ETHASH }, number)
}

#[test]
fn a_device_that_is_right_passes_with_every_epoch_and_period() {
    let Some(device) = samples::device() else { return };
    for algorithm in [Algorithm::Ethash, Algorithm::KawPow] {
        let mut scanner = small_scanner(&device, algorithm, Fault::None);
        for (number, height) in [(0, 0), (0, 2), (0, 3), (1, 200), (0, 3)] {
            let epoch = small_epoch(algorithm, number);
            let mut target = [0xff; 32];
            target[0] = 0x07;
            let job = samples::job(&epoch, height, target);
            scanner.load(&job, Some(&epoch)).expect("a device that is right");
            let period = if algorithm == Algorithm::KawPow { height / 3 } else { 0 };
            assert_eq!(scanner.checked, Some((*epoch.key(), period)));
            // The job itself is loaded, not what the device was checked with.
            let mut found = Candidates::with_capacity(512);
            let space = SearchSpace { nonces: NonceRange { start: 77, count: 300 }, ..job.space() };
            scanner.scan(&space, &StopFlag::new(), &mut found).expect("a space of the job's");
            let found: Vec<u64> = found.as_slice().iter().map(|candidate| candidate.nonce).collect();
            let meets = |&nonce: &u64| final_hash(&epoch, height, nonce)[0] <= 0x07;
            assert_eq!(found, (77..377).filter(meets).collect::<Vec<_>>(), "{algorithm} at {height}");
            assert!(!found.is_empty());
        }
    }
}

#[test]
fn a_device_that_is_wrong_is_refused_before_it_searches() {
    let Some(device) = samples::device() else { return };
    const BELOW: &str = "finds nonce 6148914691236517205 below its hash";
    const NOT: &str = "does not find nonce 6148914691236517205 at its hash";
    for (algorithm, fault, found) in [
        // Its dataset went bad after the items had been compared: what it computes now is above or below the hash.
        (Algorithm::Ethash, Fault::Memory("ethash_search", 0), [BELOW, NOT]),
        (Algorithm::KawPow, Fault::Memory("kawpow_search", 0), [BELOW, NOT]),
        (Algorithm::Ethash, Fault::Idle("ethash_search"), [NOT; 2]),
        // Arguments: a part, two numbers of rows, four words, the first nonce, the count, the target.
        (Algorithm::Ethash, Fault::Number("ethash_search", 9), [BELOW; 2]),
    ] {
        let mut scanner = small_scanner(&device, algorithm, fault);
        let epoch = small_epoch(algorithm, 0);
        let job = samples::job(&epoch, 0, [0xff; 32]);
        let hash = Hash256::from_raw(final_hash(&epoch, 0, u64::MAX / 3));
        for _ in 0..2 {
            let error = scanner.load(&job, Some(&epoch)).expect_err("it is wrong each time");
            assert!(matches!(error, ScanError::Gpu(GpuError::Wrong { .. })) && !error.is_retryable());
            let (id, key) = (device.info().id, epoch.key());
            let told = found.map(|found| {
                format!("device failed: {id} computes wrongly and is not used: with {key} it {found}, on the CPU {hash:?}")
            });
            assert!(told.contains(&error.to_string()), "{error}");
        }
    }
}

#[test]
fn a_randomx_device_is_checked_with_every_key() {
    let Some(device) = samples::device() else { return };
    let algorithm = Algorithm::RandomXV1;
    let setup = Setup::detect();
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let builder = builders::builder(algorithm, &setup.cpu, ItemsBy::default()).expect("it has epochs");
    let key = EpochKey::bytes(algorithm, b"a key").expect("a short key");
    let epoch = store.get(&builder, &key, Depth::Light, &Progress::new()).expect("a cache");
    let job = Job::blob(JobId(1), algorithm, &[0x5a; 76], None, Target::MAX).expect("a blob");
    let job = Arc::new(job.with_epoch(key));
    // The cache, from which a CPU behind OpenCL computes items, goes bad; or nothing does.
    for fault in [Fault::Memory("rx_execute", 5), Fault::None] {
        let faulty: Arc<dyn Gpu> = Arc::new(Faulty { device: Arc::clone(&device), fault });
        let options = GpuOptions { limit: None, ..GpuOptions::default() };
        let mut scanner = gpu_scanner(algorithm, &faulty, options, &setup).expect("a scanner");
        match (fault, scanner.load(&job, Some(&epoch))) {
            (Fault::None, Ok(())) | (Fault::Memory(..), Err(ScanError::Gpu(GpuError::Wrong { .. }))) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_engine_gives_up_a_device_that_computes_wrongly_at_once() {
    let Some(device) = samples::device() else { return };
    let epoch = small_epoch(Algorithm::Ethash, 0);
    let verifier = Verifier::new(oracle(Algorithm::Ethash).expect("an oracle"), Setup::detect());
    let make = move || {
        let scanner: Box<dyn Scanner> =
            Box::new(small_scanner(&device, Algorithm::Ethash, Fault::Idle("ethash_search")));
        Ok((scanner, verifier.worker()?))
    };
    let (send, events) = mpsc::channel();
    let sink = move |event| {
        let _ = send.send(event);
    };
    let worker = WorkerConfig { cpu: None, make: Box::new(make) };
    let engine = Engine::start(EngineConfig::default(), vec![worker], NoMoreWork, sink).expect("it starts");
    let job = samples::job(&epoch, 0, [0xff; 32]);
    engine.replace(Assignment::whole(job).with_epoch(epoch));
    let Ok(Event::WorkerLost { worker: 0, reason }) = events.recv_timeout(Duration::from_secs(60)) else {
        panic!("it is not tried again")
    };
    assert!(reason.contains("computes wrongly and is not used"), "{reason}");
    assert_eq!(engine.stop().total_hashes(), 0);
}

/// What a new job may take to be taken up: 50 ms, after a launch that runs already.
const SOON: Duration = Duration::from_millis(50 + 12);

/// The second longest of some times: one may be the operating system's.
fn second_longest(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() - 2]
}

#[test]
fn a_new_job_is_taken_up_within_50_ms() {
    let Some(device) = samples::device() else { return };
    let algorithm = Algorithm::Sha256d;
    for in_steps in [false, true] {
        // Launches of 12 ms are found by measuring, steps are of 10.
        let slow: Arc<dyn Gpu> = Arc::new(Slow {
            device: Arc::clone(&device),
            group: Duration::from_micros(100),
            busy_until: Arc::new(Mutex::new(Instant::now())),
        });
        let (told, loaded) = mpsc::channel();
        let setup = Setup::detect();
        let verifier = Verifier::new(oracle(algorithm).expect("an oracle"), setup.clone());
        let make = move || {
            let search = gpu::search(algorithm, &slow)?;
            let search = if in_steps { Box::new(InSteps(search)) } else { search };
            let prover = scan::prover(algorithm, &setup)?.hasher(&setup)?;
            let scanner = GpuScanner::new(algorithm, &slow, search, prover, GpuOptions::default())?;
            let scanner: Box<dyn Scanner> = Box::new(Told { scanner, loaded: told.clone() });
            Ok((scanner, verifier.worker()?))
        };
        let worker = WorkerConfig { cpu: None, make: Box::new(make) };
        let engine =
            Engine::start(EngineConfig::default(), vec![worker], NoMoreWork, |_| {}).expect("it starts");
        let mut times = Vec::new();
        for number in 0..12 {
            let job = Job::blob(JobId(number), algorithm, &[number as u8; 80], None, Target::MAX);
            let given = Instant::now();
            engine.replace(Assignment::whole(Arc::new(job.expect("a header"))));
            let (id, at) = loaded.recv_timeout(Duration::from_secs(30)).expect("it is taken up");
            assert_eq!(id, JobId(number));
            times.push(at - given);
            // Long enough for two batches, and not in their beat.
            thread::sleep(Duration::from_millis(250 + 17 * number));
        }
        let hashes = engine.stop().total_hashes();
        println!("taken up after {times:?}, {hashes} hashes");
        assert!(hashes > 1 << 14, "it was at work: {hashes}");
        // The first came to a worker without any.
        assert!(second_longest(times.split_off(1)) <= SOON, "{times:?}");
    }
}

/// Epochs whose dataset takes a CPU behind OpenCL a second or two.
static LONG: ethash::Params =
    ethash::Params { dataset_size: ethash::Growth { first: 8 << 20, each: 1 << 14 }, ..samples::ETHASH };

#[test]
fn making_a_dataset_is_given_up_within_50_ms_and_gone_on_with() {
    let Some(device) = samples::device() else { return };
    let epoch = samples::epoch(&LONG, 0);
    let progress = Progress::new();
    let options = GpuOptions { intensity: Some(8), limit: None, progress: progress.clone() };
    let search = samples::search_of(&LONG, &device);
    let mut scanner =
        GpuScanner::new(Algorithm::Ethash, &device, search, Box::new(Oracle), options).expect("a scanner");
    let job = samples::job(&epoch, 0, [0xff; 32]);
    let bytes = epoch.full().expect("samples have one").copies()[0].region.len() as u64;
    let (mut times, mut done) = (Vec::new(), 0);
    for _ in 0..5 {
        let stop = StopFlag::new();
        let (loaded, took) = thread::scope(|scope| {
            let raised = scope.spawn(|| {
                thread::sleep(Duration::from_millis(60));
                stop.raise();
                Instant::now()
            });
            let loaded = scanner.load_unless(&job, Some(&epoch), &stop).expect("a device that is right");
            (loaded, raised.join().expect("no panic").elapsed())
        });
        assert!(!loaded, "a dataset of {bytes} bytes was made too soon");
        times.push(took);
        assert!(progress.done_bytes() > done && progress.total_bytes() == bytes, "{progress:?}");
        done = progress.done_bytes();
        let scanned = scanner.scan(&job.space(), &StopFlag::new(), &mut Candidates::with_capacity(1));
        assert!(matches!(scanned, Err(ScanError::NoJob)), "{scanned:?}");
    }
    assert!(second_longest(times.clone()) <= SOON, "{times:?}");
    // Whoever shows the progress can end it for good.
    progress.cancel();
    let cancelled = scanner.load(&job, Some(&epoch)).expect_err("it was cancelled");
    assert!(matches!(cancelled, ScanError::Gpu(GpuError::Cancelled { .. })), "{cancelled}");
}

#[test]
fn an_engine_goes_on_with_a_dataset_for_the_next_job_and_stops_at_once() {
    let Some(device) = samples::device() else { return };
    let epoch = samples::epoch(&LONG, 0);
    let mut times = Vec::new();
    for whole in [true, false, false, false] {
        let progress = Progress::new();
        let options = GpuOptions { intensity: Some(8), limit: None, progress: progress.clone() };
        let device = Arc::clone(&device);
        let verifier = Verifier::new(oracle(Algorithm::Ethash).expect("an oracle"), Setup::detect());
        let make = move || {
            let search = samples::search_of(&LONG, &device);
            let prover = Box::new(Oracle);
            let scanner = GpuScanner::new(Algorithm::Ethash, &device, search, prover, options.clone())?;
            let scanner: Box<dyn Scanner> = Box::new(scanner);
            Ok((scanner, verifier.worker()?))
        };
        let worker = WorkerConfig { cpu: None, make: Box::new(make) };
        let engine =
            Engine::start(EngineConfig::default(), vec![worker], NoMoreWork, |_| {}).expect("it starts");
        let replace = |height| {
            let mut hardest = [0; 32];
            hardest[31] = 1;
            let job = samples::job(&epoch, height, hardest);
            engine.replace(Assignment::whole(job).with_epoch(Arc::clone(&epoch)));
        };
        let wait = |what: &str, is: &dyn Fn() -> bool| {
            let begun = Instant::now();
            while !is() {
                assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
                thread::sleep(Duration::from_millis(1));
            }
        };
        replace(0);
        wait("it makes a dataset", &|| progress.done_bytes() > 0);
        if whole {
            // A job every few moments, as from a busy chain: the dataset is made all the same.
            for height in 1..40 {
                let before = progress.done_bytes();
                replace(height);
                thread::sleep(Duration::from_millis(20));
                assert!(progress.done_bytes() >= before, "it begins anew");
            }
            wait("it searches", &|| engine.stats().total_hashes() > 0);
            assert_eq!(progress.done_bytes(), progress.total_bytes());
        }
        let stopped = Instant::now();
        engine.stop();
        if !whole {
            times.push(stopped.elapsed());
            assert!(progress.done_bytes() < progress.total_bytes());
        }
    }
    assert!(second_longest(times.clone()) <= SOON, "{times:?}");
}
