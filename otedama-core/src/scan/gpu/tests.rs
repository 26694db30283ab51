//! The scanner over devices that are made to fail, on the first OpenCL device there is (PoCL will do).

use std::sync::mpsc;

use super::*;
use crate::builders::{self, ItemsBy};
use crate::engine::{Assignment, Engine, EngineConfig, Event, NoMoreWork, WorkerConfig};
use crate::epoch::{Depth, EpochKey, EpochStore, Progress, StoreConfig};
use crate::gpu::sealed_samples::{self as samples, final_hash};
use crate::gpu::{Arg, DeviceInfo, Kernel, Program};
use crate::hash256::Hash256;
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
    let options = GpuOptions { intensity: Some(8), limit: None };
    GpuScanner::new(algorithm, &faulty, search, Box::new(Oracle), options).expect("a scanner")
}

fn small_epoch(algorithm: Algorithm, number: u32) -> Arc<Epoch> {
    samples::epoch(
        if algorithm == Algorithm::KawPow { &samples::KAWPOW } else { &samples::ETHASH },
        number,
    )
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
