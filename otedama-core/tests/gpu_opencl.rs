//! The OpenCL back end with a toy kernel, on the first device there is; PoCL will do.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use otedama_core::engine::{Assignment, EngineConfig, Event, NoMoreWork, WorkerConfig};
use otedama_core::gpu::{self, Api, Arg, CacheCounts, DeviceId, Gpu, GpuError, KernelCache};
use otedama_core::scan::{
    self, Candidates, GpuOptions, ScanEnd, Scanned, Scanner, Setup, StopFlag, gpu_scanner,
};
use otedama_core::target::U256;
use otedama_core::{
    Algorithm, Candidate, Engine, Job, JobId, NonceRange, SearchSpace, Target, Verifier, VersionMask,
    VersionRange,
};
use otedama_kernels::VOCAB;

const GROUP: u32 = 64;

/// Writes `start + step * lane`, whose low half is `words[2 * lane]` and high half the next, for `count` lanes.
const TOY: &str = r"
OTD_KERNEL(64) void toy(OTD_GLOBAL u32 *words, u64 start, u32 step, u32 count)
{
    u64 lane = OTD_GLOBAL_LANE;
    if (lane < count) {
        u64 value = start + step * lane + TOY_EXTRA;
        words[2 * lane] = (u32)value;
        words[2 * lane + 1] = (u32)(value >> 32);
    }
}
";

/// The first OpenCL device; without one the test says so and has nothing to do.
fn device() -> Option<Arc<dyn Gpu>> {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return None;
    };
    Some(gpu::open(card.info.id).expect("a device that is listed can be opened"))
}

fn toy_text() -> String {
    format!("{}{TOY}", VOCAB.1)
}

#[test]
fn two_queues_run_a_kernel_with_numbers_and_buffers() {
    let Some(device) = device() else { return };
    let program = device.compile("toy", &toy_text(), &[("TOY_EXTRA", 5)]).expect("the toy compiles");
    let kernel = program.kernel("toy", GROUP).expect("the toy is there");
    let count = 3 * GROUP - 7;
    let bytes = 8 * u64::from(3 * GROUP);
    let run = |start: u64| {
        let mut queue = device.queue().expect("a queue");
        let words = device.buffer(bytes).expect("a small buffer");
        queue.write(&words, 0, &vec![0xee; bytes as usize]).expect("bytes that fit");
        queue.zero(&words, bytes - 16, 8).expect("bytes that fit");
        let args = [Arg::Buffer(&words), Arg::U64(start), Arg::U32(3), Arg::U32(count)];
        queue.launch(&kernel, 3, &args).expect("arguments that match");
        let mut read = vec![0; bytes as usize];
        queue.read(&words, 0, &mut read).expect("the bytes are there");
        queue.finish().expect("nothing is left");
        read
    };
    let starts = [0xffff_fff0u64, 0x0123_4567_89ab_cdef];
    // Each thread has its own queue; the kernel is shared.
    let results = thread::scope(|scope| {
        starts.map(|start| scope.spawn(move || run(start))).map(|thread| thread.join().expect("no panic"))
    });
    for (start, read) in starts.into_iter().zip(results) {
        let (written, rest) = read.split_at(8 * count as usize);
        for (lane, value) in (0..).zip(written.chunks_exact(8)) {
            assert_eq!(value, (start + 3 * lane + 5).to_le_bytes());
        }
        let mut untouched = vec![0xee; rest.len()];
        let zeroed = untouched.len() - 16;
        untouched[zeroed..zeroed + 8].fill(0);
        assert_eq!(rest, untouched, "lanes past the count wrote something");
    }
}

#[test]
fn text_that_does_not_compile_shows_the_compilers_log() {
    let Some(device) = device() else { return };
    let text = format!("{}\nOTD_KERNEL(64) void broken(void) {{ no_such_thing = 1; }}\n", VOCAB.1);
    let error = device.compile("broken", &text, &[]).expect_err("an undeclared name");
    assert!(matches!(error, GpuError::Build { .. }), "{error:?}");
    let line = error.to_string();
    assert!(line.starts_with(&format!("kernel broken does not compile on {}: ", device.info().id)), "{line}");
    assert!(line.contains("no_such_thing") && !line.contains('\n'), "{line}");
    assert!(error.log().is_some_and(|log| log.contains("no_such_thing")), "{error:?}");
}

#[test]
fn compiled_kernels_are_kept_and_made_again_when_they_are_damaged() {
    let Some(device) = device() else { return };
    let folder = std::env::temp_dir().join(format!("otedama-opencl-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let cache = KernelCache::at(&folder);
    let device = gpu::open_with(device.info().id, &cache).expect("it was opened before");
    let (mut queue, words) = (device.queue().expect("a queue"), device.buffer(8).expect("a small buffer"));
    let counts = |found, made, broken| CacheCounts { found, made, broken };
    let mut ask = |extra: u64| {
        let program = device.compile("toy", &toy_text(), &[("TOY_EXTRA", extra)]).expect("it compiles");
        let kernel = program.kernel("toy", GROUP).expect("it is there");
        let args = [Arg::Buffer(&words), Arg::U64(100), Arg::U32(0), Arg::U32(1)];
        queue.launch(&kernel, 1, &args).expect("arguments that match");
        let mut read = [0; 8];
        queue.read(&words, 0, &mut read).expect("bytes that are there");
        assert_eq!(u64::from_le_bytes(read), 100 + extra);
        cache.counts()
    };
    assert_eq!(ask(5), counts(0, 1, 0));
    assert_eq!(ask(5), counts(1, 1, 0));
    // Another macro is another program.
    assert_eq!(ask(6), counts(1, 2, 0));
    assert_eq!(ask(6), counts(2, 2, 0));
    let files = || std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path());
    for path in files() {
        let mut bytes = std::fs::read(&path).expect("an entry");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&path, bytes).expect("this folder is ours");
    }
    assert_eq!(ask(5), counts(2, 3, 1));
    assert_eq!(ask(6), counts(2, 4, 2));
    assert_eq!(ask(5), counts(3, 4, 2));
    // Another's: whole, but not of this text.
    let [first, second] = files().collect::<Vec<_>>().try_into().expect("two entries");
    std::fs::copy(&first, &second).expect("this folder is ours");
    ask(5);
    assert_eq!(ask(6), counts(4, 5, 3));
    assert_eq!(files().count(), 2, "no draft is left");
    let error = device.compile("broken", "no such thing", &[]).expect_err("that is no kernel");
    let GpuError::Build { log, saved: Some(saved), .. } = &error else { panic!("{error:?}") };
    assert_eq!(std::fs::read_to_string(saved).ok().as_ref(), Some(log));
    assert_eq!(saved, &folder.join("broken.log"));
    std::fs::remove_dir_all(&folder).expect("this folder is ours");
}

#[test]
fn what_does_not_fit_is_refused_before_it_runs() {
    let Some(device) = device() else { return };
    let info = device.info();
    let error = device.buffer(info.max_buffer + 1).expect_err("too large");
    assert!(matches!(error, GpuError::BufferTooLarge { .. }), "{error:?}");
    let error = device.buffer(1 << 62).expect_err("larger than any memory");
    let expected = format!(
        "{} takes buffers of at most {} bytes: {} were asked for",
        info.id,
        info.max_buffer,
        1u64 << 62
    );
    assert_eq!(error.to_string(), expected);

    let program = device.compile("toy", &toy_text(), &[("TOY_EXTRA", 0)]).expect("the toy compiles");
    let error = program.kernel("toys", GROUP).expect_err("no such entry");
    assert_eq!(error.to_string(), "program toy has no kernel 'toys'");
    let kernel = program.kernel("toy", GROUP).expect("the toy is there");
    let (mut queue, words) = (device.queue().expect("a queue"), device.buffer(64).expect("a small buffer"));
    let error = queue.launch(&kernel, 1, &[Arg::Buffer(&words)]).expect_err("three are missing");
    assert_eq!(error.to_string(), format!("kernel 'toy' on {}: 1 arguments: expected 4", info.id));
    for (offset, bytes) in [(60, 8), (64, 1), (u64::MAX, 1)] {
        let error = queue.write(&words, offset, &vec![0; bytes]).expect_err("past the end");
        assert!(matches!(error, GpuError::OutOfBuffer { size: 64, .. }), "{error:?}");
        queue.read(&words, offset, &mut vec![0; bytes]).expect_err("past the end");
    }
    queue.zero(&words, 64, 4).expect_err("past the end");
    queue.write(&words, 64, &[]).expect("nothing fits everywhere");
}

#[test]
fn a_listed_device_tells_what_it_is() {
    let Some(device) = device() else { return };
    let info = device.info();
    assert!(!info.name.is_empty() && !info.driver.is_empty(), "{info:?}");
    assert!(info.memory >= info.max_buffer && info.max_buffer >= 1 << 20 && info.units > 0, "{info:?}");
    let id @ DeviceId::OpenCl(platform, _) = info.id else { panic!("{info:?}") };
    let absent = DeviceId::OpenCl(platform, 99);
    let error = gpu::open(absent).err().expect("there are not that many").to_string();
    assert!(error.starts_with(&format!("no device {absent} here: there are ")), "{error}");
    assert!(error.contains(&id.to_string()), "{error}");
}

/// A scanner of SHA256d on the device whose launches have at most 2^11 nonces: quick on a CPU behind OpenCL.
fn scanner(device: &Arc<dyn Gpu>) -> Box<dyn Scanner> {
    let options = GpuOptions { intensity: Some(11), ..GpuOptions::default() };
    gpu_scanner(Algorithm::Sha256d, device, options, &Setup::detect())
        .expect("the device finds the known blocks")
}

fn oracle() -> Box<dyn Scanner> {
    let kernel = scan::kernel(Algorithm::Sha256d, "portable").expect("the oracle is there");
    kernel.scanner(&Setup::detect()).expect("the oracle runs anywhere")
}

/// A job that rolls its version, whose target is met by one hash in 2^`bits`.
fn job(bits: u32) -> Arc<Job> {
    let header: [u8; 80] = std::array::from_fn(|i| (7 * i + 3) as u8);
    let target = Target::new(U256::MAX >> bits as usize).expect("a target above zero");
    let roll = Some(VersionMask::BIP320);
    Arc::new(Job::blob(JobId(1), Algorithm::Sha256d, &header, roll, target).expect("a header"))
}

fn space(start: u64, count: u64, version: u32, versions: u32) -> SearchSpace {
    SearchSpace {
        nonces: NonceRange { start, count },
        versions: VersionRange { start: version, count: versions },
    }
}

/// All a scanner finds, going on wherever the candidates are full.
fn all(scanner: &mut dyn Scanner, job: &Arc<Job>, space: SearchSpace, room: usize) -> Vec<Candidate> {
    scanner.load(job, None).expect("a job of its algorithm");
    let (mut left, mut candidates) = (space, Vec::new());
    let versions = u64::from(space.versions.count);
    loop {
        let mut found = Candidates::with_capacity(room);
        let scanned = scanner.scan(&left, &StopFlag::new(), &mut found).expect("a space of the job's");
        candidates.extend_from_slice(found.as_slice());
        assert_eq!(scanned.tried % versions, 0);
        let done = scanned.tried / versions;
        match scanned.end {
            ScanEnd::Done => {
                assert_eq!(done, left.nonces.count);
                return candidates;
            }
            ScanEnd::Full => assert!(done < left.nonces.count),
            ScanEnd::Stopped => panic!("nobody asked"),
        }
        left.nonces = NonceRange { start: left.nonces.start + done, count: left.nonces.count - done };
    }
}

#[test]
fn a_device_finds_what_the_oracle_finds_in_the_same_order() {
    let Some(device) = device() else { return };
    let (mut scanner, mut oracle) = (scanner(&device), oracle());
    let end = 1u64 << 32;
    for (bits, space) in [
        (6, space(0, 5000, 0, 1)),
        (6, space(12_345, 257, 3, 5)),
        (4, space(end - 777, 777, 65_535, 1)),
        (7, space(end - 300, 299, 65_472, 64)),
        (1, space(end - 1, 1, 0, 7)),
        (40, space(99, 3000, 0, 2)),
    ] {
        let job = job(bits);
        let expected = all(oracle.as_mut(), &job, space, 100_000);
        assert_eq!(all(scanner.as_mut(), &job, space, 100_000), expected, "{space:?}");
        assert!(bits == 40 || !expected.is_empty());
    }
}

#[test]
fn hits_that_overflow_are_searched_again_and_full_candidates_go_on() {
    let Some(device) = device() else { return };
    let (mut scanner, mut oracle) = (scanner(&device), oracle());
    // All but a few meet it: a launch of 2048 nonces has more hits than there is room for.
    let target = Target::new(U256::MAX - (U256::MAX >> 6)).expect("a target above zero");
    let header = [0x5a; 80];
    let job = Job::blob(JobId(1), Algorithm::Sha256d, &header, Some(VersionMask::BIP320), target);
    let job = Arc::new(job.expect("a header"));
    for (space, room) in [(space(1000, 9001, 0, 1), 700), (space(7, 3001, 0, 3), 64)] {
        let expected = all(oracle.as_mut(), &job, space, 100_000);
        assert!(expected.len() as u64 > space.attempts() * 9 / 10);
        assert_eq!(all(scanner.as_mut(), &job, space, room), expected, "{space:?}");
    }
}

/// Scans, raises the stop flag after so many milliseconds, and says how long the scan then took to end.
fn stopped_after(
    pause: u64,
    scanner: &mut dyn Scanner,
    space: &SearchSpace,
    found: &mut Candidates,
) -> (Scanned, Duration) {
    let stop = StopFlag::new();
    thread::scope(|scope| {
        let raised = scope.spawn(|| {
            thread::sleep(Duration::from_millis(pause));
            let raised = Instant::now();
            stop.raise();
            raised
        });
        let scanned = scanner.scan(space, &stop, found).expect("a space of the job's");
        (scanned, raised.join().expect("no panic").elapsed())
    })
}

/// 50 ms, and a launch that was under way: in most cases, for this machine may be busy with other things.
fn assert_soon(mut times: Vec<Duration>) {
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median <= Duration::from_millis(50 + 12), "{times:?}");
}

#[test]
fn a_stopped_scan_says_how_far_it_came_and_can_be_gone_on_with() {
    let Some(device) = device() else { return };
    let (mut scanner, mut oracle) = (scanner(&device), oracle());
    let job = job(12);
    scanner.load(&job, None).expect("a job of its algorithm");
    let whole = space(5, (1 << 32) - 5, 0, 2);
    let mut found = Candidates::with_capacity(100_000);
    let (mut times, mut left) = (Vec::new(), whole);
    for pause in [300, 20, 33, 47, 61] {
        let (scanned, took) = stopped_after(pause, scanner.as_mut(), &left, &mut found);
        assert_eq!(scanned.end, ScanEnd::Stopped);
        let done = scanned.tried / 2;
        assert!(done > 0 && done < left.nonces.count);
        left.nonces = NonceRange { start: left.nonces.start + done, count: left.nonces.count - done };
        times.push(took);
    }
    assert_soon(times);
    let done = left.nonces.start - whole.nonces.start;
    let part = SearchSpace { nonces: NonceRange { start: 5, count: done }, ..whole };
    assert_eq!(found.as_slice(), all(oracle.as_mut(), &job, part, 100_000));

    let already = StopFlag::new();
    already.raise();
    let scanned = scanner.scan(&whole, &already, &mut found).expect("a space of the job's");
    assert_eq!((scanned.tried, scanned.end), (0, ScanEnd::Stopped));
}

#[test]
fn a_batch_in_steps_is_given_up_between_two_and_counts_nothing() {
    let Some(device) = device() else { return };
    let setup = Setup::detect();
    let mut scanner = gpu_scanner(Algorithm::Scrypt, &device, GpuOptions::default(), &setup)
        .expect("the device finds the known block");
    let kernel = scan::prover(Algorithm::Scrypt, &setup).expect("a kernel for any machine");
    let mut on_cpu = kernel.scanner(&setup).expect("it runs here");
    let target = Target::new(U256::MAX >> 3usize).expect("a target above zero");
    let job = Arc::new(Job::blob(JobId(1), Algorithm::Scrypt, &[3; 80], None, target).expect("a header"));
    scanner.load(&job, None).expect("a job of its algorithm");
    // Stopped at different moments, each scan going on where the last one stopped.
    let (mut found, mut start) = (Candidates::with_capacity(100_000), 9);
    let mut times = Vec::new();
    for pause in [3, 17, 40, 71, 23] {
        let whole = space(start, (1 << 32) - start, 0, 1);
        let (scanned, took) = stopped_after(pause, scanner.as_mut(), &whole, &mut found);
        assert_eq!(scanned.end, ScanEnd::Stopped);
        times.push(took);
        start += scanned.tried;
    }
    assert_soon(times);
    // What was given up left nothing behind that a later batch counts.
    let scanned = scanner.scan(&space(start, 70, 0, 1), &StopFlag::new(), &mut found);
    assert_eq!(scanned.map(|scanned| scanned.tried).ok(), Some(70));
    assert_eq!(found.as_slice(), all(on_cpu.as_mut(), &job, space(9, start + 70 - 9, 0, 1), 100_000));
}

#[test]
fn a_device_and_a_cpu_share_the_work_of_an_engine() {
    let Some(device) = device() else { return };
    let setup = Setup::detect();
    let verifier = Verifier::new(scan::oracle(Algorithm::Sha256d).expect("an oracle"), setup.clone());
    let on_device = {
        let (verifier, setup) = (verifier.clone(), setup.clone());
        let options = GpuOptions { intensity: Some(11), ..GpuOptions::default() };
        let make = move || {
            let scanner = gpu_scanner(Algorithm::Sha256d, &device, options.clone(), &setup)?;
            Ok((scanner, verifier.worker()?))
        };
        WorkerConfig { cpu: None, make: Box::new(make) }
    };
    let kernel = scan::oracle(Algorithm::Sha256d).expect("an oracle");
    let on_cpu =
        WorkerConfig { cpu: None, make: Box::new(move || Ok((kernel.scanner(&setup)?, verifier.worker()?))) };
    let (send, events) = mpsc::channel();
    let sink = move |event| {
        let _ = send.send(event);
    };
    let config = EngineConfig {
        slice: Duration::from_millis(1),
        watchdog: Some(Duration::from_secs(60)),
        ..EngineConfig::default()
    };
    let engine = Engine::start(config, vec![on_device, on_cpu], NoMoreWork, sink).expect("both start");
    let (job, space) = (job(8), space(0, 20_000, 0, 8));
    engine.replace(Assignment::part(Arc::clone(&job), space).expect("a part of the job's space"));
    let mut shares = 0;
    for event in &events {
        match event {
            Event::Share { .. } => shares += 1,
            Event::Idle => break,
            other => panic!("{other:?}"),
        }
    }
    let stats = engine.stop();
    assert_eq!((stats.total_hashes(), stats.abandoned, stats.alive), (space.attempts(), 0, 2));
    assert_eq!(shares, all(oracle().as_mut(), &job, space, 100_000).len());
}
