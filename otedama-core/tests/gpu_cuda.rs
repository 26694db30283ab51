//! The CUDA back end, driven against a fake driver (`fake_cuda.c`): the host side's calls and errors, no GPU.
//!
//! Each test runs this program again with the fake in the place of the driver.
#![cfg(target_os = "linux")]

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use otedama_core::gpu::{self, DeviceId, Gpu, GpuError, PciAddress, watch};
use otedama_core::measure::{self, Plan, Worker};
use otedama_core::scan::{self, Candidates, GpuOptions, Scanner, Setup, StopFlag, gpu_scanner};
use otedama_core::target::U256;
use otedama_core::{Algorithm, Job, JobId, NonceRange, SearchSpace, Target, VersionMask, VersionRange};

/// Compiles the fake and runs one of the ignored tests below with it; without a C compiler, says so.
fn with_fake(mode: &str, test: &str) {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fake-cuda-{test}"));
    std::fs::create_dir_all(&dir).expect("a folder below target");
    let cuda = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_cuda.c");
    let nvml = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_nvml.c");
    let kernels = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../kernels");
    for (name, source) in
        [("libcuda.so", cuda), ("libcuda.so.1", cuda), ("libnvidia-ml.so", nvml), ("libnvidia-ml.so.1", nvml)]
    {
        let arguments = ["-std=c11", "-O2", "-fPIC", "-shared", "-w", kernels, source, "-lm", "-o"];
        match Command::new("cc").args(arguments).arg(dir.join(name)).status() {
            Ok(status) => assert!(status.success(), "the fake does not compile"),
            Err(error) => {
                println!("SKIPPED: fake CUDA driver: no C compiler ({error})");
                return;
            }
        }
    }
    let run = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", &dir)
        .env("FAKE_CUDA", mode)
        .output()
        .expect("this program runs again");
    let output = String::from_utf8_lossy(&run.stdout);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && output.contains("1 passed"), "{output}{errors}");
}

#[test]
fn a_device_is_listed_opened_and_searches_as_the_oracle_does() {
    with_fake("", "inner_search");
}

#[test]
fn a_driver_too_old_for_the_kernel_is_told() {
    with_fake("old", "inner_old");
}

#[test]
fn a_device_that_is_lost_in_a_scan_is_told() {
    with_fake("lost", "inner_lost");
}

#[test]
fn a_cards_power_is_averaged_over_a_measurement() {
    with_fake("", "inner_power");
}

fn device() -> Arc<dyn Gpu> {
    gpu::open(DeviceId::Cuda(0)).expect("the fake has a device")
}

fn scanner() -> Box<dyn Scanner> {
    let options = GpuOptions { intensity: Some(11), ..GpuOptions::default() };
    gpu_scanner(Algorithm::Sha256d, &device(), options, &Setup::detect()).expect("it finds the known blocks")
}

fn found(scanner: &mut dyn Scanner) -> Result<Candidates, scan::ScanError> {
    let target = Target::new(U256::MAX >> 6usize).expect("a target above zero");
    let roll = Some(VersionMask::BIP320);
    let job = Job::blob(JobId(1), Algorithm::Sha256d, &[0x21; 80], roll, target).expect("a header");
    let space = SearchSpace {
        nonces: NonceRange { start: 99, count: 5001 },
        versions: VersionRange { start: 2, count: 3 },
    };
    scanner.load(&Arc::new(job), None)?;
    let mut found = Candidates::with_capacity(1000);
    scanner.scan(&space, &StopFlag::new(), &mut found)?;
    Ok(found)
}

#[test]
#[ignore = "run by the tests above, with the fake driver"]
fn inner_search() {
    let inventory = gpu::devices();
    let info = &inventory.cards.first().expect("the fake's device comes first").info;
    assert_eq!(
        (info.id, info.name.as_str(), info.driver.as_str()),
        (DeviceId::Cuda(0), "a fake", "CUDA 12.0")
    );
    assert_eq!((info.compute, info.units, info.memory), (Some((9, 0)), 2, 1 << 26));
    assert_eq!(info.pci, Some(PciAddress { domain: 0, bus: 0x3b, device: 0 }));
    let absent = gpu::open(DeviceId::Cuda(1)).err().expect("there is one device").to_string();
    assert!(absent.starts_with("no device cuda:1 here: there are cuda:0"), "{absent}");

    let oracle = scan::oracle(Algorithm::Sha256d).expect("an oracle");
    let mut oracle = oracle.scanner(&Setup::detect()).expect("the oracle runs anywhere");
    let expected = found(oracle.as_mut()).expect("the oracle scans");
    assert!(!expected.as_slice().is_empty());
    assert_eq!(found(scanner().as_mut()).expect("the device scans").as_slice(), expected.as_slice());

    let device = device();
    let half = device.buffer(1 << 25).expect("half the memory");
    let error = device.buffer(1 << 26).expect_err("half is taken");
    assert_eq!(
        error.to_string(),
        "cuda:0 has no room for 67108864 bytes: 33554432 of 67108864 bytes are free"
    );
    assert!(matches!(device.buffer(1 << 27), Err(GpuError::BufferTooLarge { .. })));
    drop(half);
    let whole = device.buffer(1 << 26).expect("what was freed can be had again");
    let mut queue = device.queue().expect("a queue");
    queue.write(&whole, 8, b"otedama!").expect("bytes that fit");
    let mut read = [0; 8];
    queue.read(&whole, 8, &mut read).expect("bytes that are there");
    assert_eq!(&read, b"otedama!");
    queue.read(&whole, (1 << 26) - 4, &mut read).expect_err("past the end");
    drop(whole);

    // No NVRTC in the fake's place; where one is installed, the fake refuses what it makes.
    let error = device.compile("toy", "not a kernel", &[]).expect_err("nothing to compile it with");
    assert!(matches!(error, GpuError::NoCompiler { .. } | GpuError::Build { .. }), "{error}");
    let source = otedama_kernels::SHA256D;
    let program = device.compile(source.name, &source.text(), &[]).expect("its PTX is embedded");
    let error = program.kernel("nothing", 256).expect_err("no such entry").to_string();
    assert_eq!(error, "program sha256d has no kernel 'nothing'");
    let kernel = program.kernel("sha256d_search", 256).expect("it is there");
    let error = queue.launch(&kernel, 1, &[]).expect_err("arguments are missing").to_string();
    assert_eq!(error, "kernel 'sha256d_search' on cuda:0: 0 arguments: expected 28");
    let error = queue.launch(&kernel, 1, &[gpu::Arg::U64(0); 28]).expect_err("the first has 32 bits");
    assert!(error.to_string().ends_with("argument 0 is U64(0): expected 4 bytes"), "{error}");
}

#[test]
#[ignore = "run by the tests above, with the fake driver"]
fn inner_old() {
    let error = gpu_scanner(Algorithm::Sha256d, &device(), GpuOptions::default(), &Setup::detect());
    assert_eq!(
        error.err().expect("the fake refuses the PTX").to_string(),
        "driver CUDA 12.0 of cuda:0 is too old for the compiled kernel sha256d: expected driver 525 (CUDA 12.0) or newer"
    );
}

#[test]
#[ignore = "run by the tests above, with the fake driver"]
fn inner_lost() {
    let mut scanner = scanner();
    // The self-test took some of the launches.
    let error = (0..40).find_map(|_| found(scanner.as_mut()).err()).expect("the fake faults").to_string();
    assert!(error.starts_with("device failed: cuda:0 is lost: "), "{error}");
    assert!(error.ends_with("failed with CUDA_ERROR_ILLEGAL_ADDRESS (700)"), "{error}");
}

#[test]
#[ignore = "run by the tests above, with the fake driver"]
fn inner_power() {
    let info = device().info().clone();
    let sensor = watch::sensor(&info).expect("the fake has sensors");
    let reading = sensor.read();
    assert_eq!((reading.temperature, reading.power, reading.fan_rpm), (Some(61.0), Some(250.0), None));
    let setup = Setup::detect();
    let own = setup.clone();
    let make = move || {
        let options = GpuOptions { intensity: Some(11), ..GpuOptions::default() };
        gpu_scanner(Algorithm::Sha256d, &device(), options, &own)
    };
    let plan = Plan {
        algorithm: Algorithm::Sha256d,
        workers: vec![Worker { cpu: None, setup, scanner: Arc::new(make), sensor: Some(sensor) }],
        time: Duration::from_millis(300),
        roll_version: true,
        epoch: None,
    };
    let measured = measure::run(&plan, |_, _| true).expect("the fake hashes");
    assert_eq!(measured.fault, None);
    // The counter of energy says more than the reading.
    let watts = measured.joules.expect("it was measured") / measured.seconds;
    assert!((watts / 300.0 - 1.0).abs() < 0.1, "{watts}");
    let per_watt = measured.per_joule().expect("it was measured").hps();
    assert!((per_watt * watts / measured.rate().hps() - 1.0).abs() < 1e-6);
}
