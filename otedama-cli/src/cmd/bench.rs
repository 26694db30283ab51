//! `bench`: hash rates of kernels, verified while timing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use otedama_core::Algorithm;
use otedama_core::algorithm::EpochKind;
use otedama_core::epoch::{Depth, Epoch, EpochKey, Replicas};
use otedama_core::measure::{self, Measurement, Plan, Worker};
use otedama_core::scan::{Kernel, kernels};
use otedama_core::topology::CpuId;
#[cfg(feature = "rivals")]
use otedama_core::{Digest, HashRate, epoch::EpochSeed, scan::Attempt, topology::pin_current_thread};
use serde_json::{Value, json};

use crate::args::{BenchArgs, MachineArgs};
use crate::epochs::{self, Epochs};
use crate::failure::{Failure, Outcome, usage, work};
#[cfg(feature = "gpu")]
use crate::gpus;
use crate::machine::Machine;
#[cfg(feature = "rivals")]
use crate::rival::{self, Rival};
use crate::{cmd, show};

pub(crate) fn run(args: &BenchArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let algorithms = algorithms(args)?;
    // A bad name is said before anything takes time.
    #[cfg(feature = "gpu")]
    let chosen = gpus::choose_for(&args.devices, args.kernel.as_deref())?;
    #[cfg(feature = "gpu")]
    let on_cpu = chosen.cpu;
    #[cfg(not(feature = "gpu"))]
    let on_cpu = true;
    let cpus = machine.worker_cpus(args.threads, &args.cpus)?;
    for &algorithm in algorithms.iter().filter(|_| on_cpu) {
        chosen_kernels(algorithm, args, &machine, None, cpus.len())?;
    }
    // A device makes its own dataset.
    let depth = if on_cpu { args.mode.into() } else { Depth::Light };
    let interrupted = cmd::interrupt_flag()?;

    let (mut results, mut memories) = (Vec::new(), Vec::new());
    let mut failures: Vec<String> = Vec::new();
    #[cfg(feature = "rivals")]
    let mut duels: Vec<Duel> = Vec::new();
    for &algorithm in &algorithms {
        let key = epochs::bench_era(algorithm, args.height, args.epoch)?;
        let epoch = match (key, Epochs::of(algorithm, &machine)) {
            (Some(key), Some(epochs)) => {
                let memory = Memory::build(&epochs, &key, depth, &interrupted)?;
                let epoch = Arc::clone(&memory.epoch);
                memories.push(memory.report(algorithm));
                Some(epoch)
            }
            _ => None,
        };
        let kernels = if on_cpu {
            chosen_kernels(algorithm, args, &machine, epoch.as_ref(), cpus.len())?
        } else {
            Vec::new()
        };
        for (kernel, skipped) in kernels {
            if let Some(reason) = skipped {
                eprintln!("skipped {}: {reason}", kernel.name());
                continue;
            }
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            let result = measure_kernel(kernel, &cpus, epoch.as_ref(), args, &machine, &interrupted)?;
            results.push((machine.setup.cpu.brand().to_owned(), result));
            #[cfg(feature = "rivals")]
            if let Some(epoch) = epoch.as_ref().filter(|_| args.rival && algorithm == Algorithm::RandomXV1) {
                duels.push(Duel::fight(kernel, &cpus[..1], epoch, args, &machine, &interrupted)?);
            }
        }
        // Devices in turns; one that fails leaves the others be.
        #[cfg(feature = "gpu")]
        for gpu in &chosen.gpus {
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            let options = gpus::options(&args.devices);
            let progress = options.progress.clone();
            let worker = gpus::measured(algorithm, gpu, options, &machine.setup);
            let name = format!("{algorithm} on {}", gpu.id);
            let bar = show::progress_bar(1000, name.clone());
            let made = gpus::shown(&progress, &bar, &interrupted, || {
                measure(&bar, algorithm, vec![worker], epoch.as_ref(), args, &interrupted)
            });
            match made {
                Ok(result) => results.push((gpu.name.clone(), result)),
                Err(_) if interrupted.load(Ordering::Relaxed) => break,
                Err(failure) => failures.push(format!("{name}: {failure}")),
            }
        }
    }

    if args.json {
        let results: Vec<_> = results.iter().map(|(device, result)| to_json(device, result)).collect();
        let memories: Vec<_> = memories.iter().map(Report::to_json).collect();
        let report = json!({ "machine": machine.to_json(), "epochs": memories, "results": results });
        #[cfg(feature = "rivals")]
        let report = {
            let mut report = report;
            report["rivals"] = duels.iter().map(Duel::to_json).collect();
            report
        };
        show::print_json(&report)?;
    } else {
        println!("{}", machine.describe());
        #[cfg(feature = "gpu")]
        chosen.gpus.iter().for_each(|gpu| println!("Device {}", gpus::line(gpu)));
        memories.iter().for_each(|memory| println!("{}", memory.to_line()));
        if !results.is_empty() {
            println!();
            print_results(&results)?;
        }
        #[cfg(feature = "rivals")]
        duels.iter().for_each(|duel| println!("{}", duel.to_line()));
    }
    let faults = results.iter().filter_map(|(_, result)| {
        let (kernel, device) = (result.scanner.kernel, &result.scanner.device);
        Some(format!("{kernel} on {device}: wrong results: {}", result.fault.as_ref()?))
    });
    failures.extend(faults);
    if !failures.is_empty() {
        return Err(work(failures.join("; ")));
    }
    if interrupted.load(Ordering::Relaxed) {
        return Err(work("interrupted: the last figure, if there is one, is of a shorter time"));
    }
    Ok(())
}

fn measure_kernel(
    kernel: &'static Kernel,
    cpus: &[Option<CpuId>],
    epoch: Option<&Arc<Epoch>>,
    args: &BenchArgs,
    machine: &Machine,
    interrupted: &AtomicBool,
) -> Result<Measurement, Failure> {
    let workers = cpus.iter().map(|&cpu| Worker::on_cpu(kernel, cpu, machine.setup_on(cpu))).collect();
    let bar = show::progress_bar(1000, kernel.name().to_owned());
    measure(&bar, kernel.algorithm(), workers, epoch, args, interrupted)
}

fn measure(
    bar: &ProgressBar,
    algorithm: Algorithm,
    workers: Vec<Worker>,
    epoch: Option<&Arc<Epoch>>,
    args: &BenchArgs,
    interrupted: &AtomicBool,
) -> Result<Measurement, Failure> {
    let plan = Plan {
        algorithm,
        workers,
        time: Duration::from_secs_f64(args.seconds),
        roll_version: !args.fixed_version,
        epoch: epoch.cloned(),
    };
    let result = measure::run(&plan, |fraction, rate| {
        bar.set_position((fraction * 1000.0) as u64);
        bar.set_message(rate.to_string());
        !interrupted.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    Ok(result?)
}

/// What to measure: what was asked for, or everything there are kernels for.
fn algorithms(args: &BenchArgs) -> Result<Vec<Algorithm>, Failure> {
    let mut algorithms = args.algorithms();
    if let Some(variant) = args.variant {
        let randomx = [Algorithm::RandomXV1, Algorithm::RandomXV2];
        if let Some(&stranger) = algorithms.iter().find(|algorithm| !randomx.contains(algorithm)) {
            return Err(usage(format!("{stranger} has no variants: --variant is for randomx")));
        }
        algorithms = vec![variant.into()];
    }
    if algorithms.is_empty() {
        algorithms = Algorithm::ALL.to_vec();
    }
    Ok(algorithms)
}

/// Which kernels to measure on so many threads; beside those that cannot run here, why.
fn chosen_kernels(
    algorithm: Algorithm,
    args: &BenchArgs,
    machine: &Machine,
    epoch: Option<&Arc<Epoch>>,
    threads: usize,
) -> Result<Vec<(&'static Kernel, Option<String>)>, Failure> {
    if args.kernel.as_deref() != Some("all") {
        // Which one is fastest cannot be told before there is an epoch.
        if args.kernel.is_none() && epoch.is_none() && algorithm.spec().epoch != EpochKind::None {
            return Ok(Vec::new());
        }
        return Ok(vec![(machine.kernel(algorithm, args.kernel.as_deref(), epoch, threads)?, None)]);
    }
    let row = |kernel: &'static Kernel| {
        let reason = kernel.needs().filter(|&isa| !machine.setup.cpu.has(isa)).map_or_else(
            || kernel.obstacle(&machine.setup).map(|error| error.to_string()),
            |isa| Some(format!("it needs {isa}, {}", machine.why_absent(isa))),
        );
        (kernel, reason)
    };
    Ok(kernels(algorithm).map(row).collect())
}

/// An epoch and what building it took.
struct Memory {
    epoch: Arc<Epoch>,
    light: Duration,
    full: Option<Duration>,
    threads: usize,
}

impl Memory {
    fn build(
        epochs: &Epochs,
        key: &EpochKey,
        depth: Depth,
        interrupted: &AtomicBool,
    ) -> Result<Memory, Failure> {
        let light = epochs.build(key, Depth::Light, interrupted)?;
        let threads = epochs.threads();
        let memory = Memory { epoch: light.epoch, light: light.time, full: None, threads };
        if depth == Depth::Light {
            return Ok(memory);
        }
        Ok(match epochs.build_unless_short(key, interrupted)? {
            Some(full) => Memory { epoch: full.epoch, full: Some(full.time), ..memory },
            None => memory,
        })
    }

    /// What is left of it when the epoch is dropped.
    fn report(&self, algorithm: Algorithm) -> Report {
        let part = |replicas: &Replicas, time: Duration| {
            let region = &replicas.copies()[0].region;
            Part { bytes: region.len(), pages: region.pages().to_string(), seconds: time.as_secs_f64() }
        };
        Report {
            algorithm,
            threads: self.threads,
            light: part(self.epoch.light(), self.light),
            full: self.epoch.full().zip(self.full).map(|(full, time)| part(full, time)),
        }
    }
}

/// What an epoch was.
struct Report {
    algorithm: Algorithm,
    threads: usize,
    light: Part,
    full: Option<Part>,
}

struct Part {
    bytes: usize,
    pages: String,
    seconds: f64,
}

impl Part {
    fn to_json(&self) -> Value {
        json!({ "bytes": self.bytes, "pages": self.pages, "seconds": self.seconds,
            "bytes_per_second": self.bytes as f64 / self.seconds })
    }

    fn to_text(&self) -> String {
        let (bytes, rate) = (show::bytes(self.bytes as u64), self.bytes as f64 / self.seconds / 1e6);
        format!("{bytes} in {:.2} s ({rate:.0} MB/s) on {}", self.seconds, self.pages)
    }
}

impl Report {
    fn mode(&self) -> &'static str {
        if self.full.is_some() { "full" } else { "light" }
    }

    fn to_json(&self) -> Value {
        json!({ "algorithm": self.algorithm.name(), "mode": self.mode(), "threads": self.threads,
            "light": self.light.to_json(), "full": self.full.as_ref().map(Part::to_json) })
    }

    fn to_line(&self) -> String {
        let full = match &self.full {
            Some(full) => format!("; dataset {}, {} threads", full.to_text(), self.threads),
            None => "; no dataset: light mode".to_owned(),
        };
        format!("Epoch  {}: cache {}{full}", self.algorithm, self.light.to_text())
    }
}

/// A kernel and a rival in turns on one thread.
#[cfg(feature = "rivals")]
struct Duel {
    kernel: &'static Kernel,
    large_pages: bool,
    /// Hashes per second: ours, theirs.
    pairs: Vec<[f64; 2]>,
}

#[cfg(feature = "rivals")]
impl Duel {
    const PAIRS: usize = 5;

    fn fight(
        kernel: &'static Kernel,
        cpu: &[Option<CpuId>],
        epoch: &Arc<Epoch>,
        args: &BenchArgs,
        machine: &Machine,
        interrupted: &AtomicBool,
    ) -> Result<Duel, Failure> {
        let failed = |error| work(format!("{}: {error}", rival::NAME));
        let EpochSeed::Bytes(key) = &epoch.key().seed else { return Err(work("the epoch has no key")) };
        let bar = show::progress_bar(1, format!("{} gets ready", rival::NAME));
        let mut rival = Rival::new(key, epoch.full().is_some()).map_err(failed)?;
        bar.finish_and_clear();
        // Both compute the same function, or comparing them means nothing.
        let input = [0x77; 76];
        let mut digest = [Digest::plain([0; 32])];
        let attempt = [Attempt::Bytes(&input)];
        kernel.hasher(&machine.setup)?.hash_many(&attempt, Some(epoch), &mut digest).map_err(work)?;
        if rival.hash(&input).map_err(failed)? != digest[0].pow.as_raw() {
            return Err(work(format!("{} and {} hash differently", kernel.name(), rival::NAME)));
        }
        let mut duel = Duel { kernel, large_pages: rival.large_pages, pairs: Vec::new() };
        // The rival's machine cannot leave this thread: it is pinned as our workers are.
        if let Some(Some(cpu)) = cpu.first() {
            pin_current_thread(*cpu).map_err(work)?;
        }
        while duel.pairs.len() < Duel::PAIRS && !interrupted.load(Ordering::Relaxed) {
            let ours = measure_kernel(kernel, cpu, Some(epoch), args, machine, interrupted)?;
            if let Some(fault) = ours.fault {
                return Err(work(fault));
            }
            let theirs = rival.run(Duration::from_secs_f64(args.seconds)).map_err(failed)?;
            duel.pairs.push([ours.rate().hps(), theirs.hps()]);
        }
        Ok(duel)
    }

    /// The least, the median and the greatest of some numbers.
    fn spread(&self, number: impl Fn(&[f64; 2]) -> f64) -> [f64; 3] {
        let mut numbers: Vec<f64> = self.pairs.iter().map(number).collect();
        numbers.sort_by(f64::total_cmp);
        match numbers.as_slice() {
            [] => [0.0; 3],
            [first, .., last] => [*first, numbers[numbers.len() / 2], *last],
            [only] => [*only; 3],
        }
    }

    fn to_json(&self) -> Value {
        let [low, median, high] = self.spread(|[ours, theirs]| ours / theirs);
        json!({ "rival": rival::NAME, "kernel": self.kernel.name(), "threads": 1,
            "large_pages": self.large_pages, "pairs_hashes_per_second": self.pairs,
            "ratio": median, "ratio_spread": [low, high] })
    }

    fn to_line(&self) -> String {
        let rate = |[low, median, high]: [f64; 3]| {
            let [low, median, high] = [low, median, high].map(HashRate::from_hps);
            format!("{median} ({low} to {high})")
        };
        let [low, median, high] = self.spread(|[ours, theirs]| ours / theirs);
        format!(
            "In turns on one thread: {} {}, {} {} on {} pages: {median:.2} x ({low:.2} to {high:.2})",
            self.kernel.name(),
            rate(self.spread(|pair| pair[0])),
            rival::NAME,
            rate(self.spread(|pair| pair[1])),
            if self.large_pages { "large" } else { "small" },
        )
    }
}

fn to_json(device_name: &str, result: &Measurement) -> Value {
    let (low, high) = result.spread();
    let mut object = json!({
        "algorithm": result.scanner.algorithm.name(),
        "kernel": result.scanner.kernel,
        "device": result.scanner.device,
        "device_name": device_name,
        "threads": result.threads,
        "seconds": result.seconds,
        "hashes": result.hashes,
        "hashes_per_second": result.rate().hps(),
        "samples_hashes_per_second": result.samples.iter().map(|sample| sample.hps()).collect::<Vec<_>>(),
        "spread": [low, high],
        "joules_per_hash": joules_per_hash(result),
        "memory_bytes_per_thread": result.scanner.memory.map(|(bytes, _)| bytes),
        "pages": result.scanner.memory.map(|(_, pages)| pages.to_string()),
        "mode": result.depth.map(|depth| if depth == Depth::Full { "full" } else { "light" }),
        "version_rolling": result.rolled,
        "verified": result.fault.is_none(),
        "fault": result.fault,
    });
    if let (Some(joules), Some(rate)) = (result.joules, result.per_joule()) {
        object["watts"] = json!(joules / result.seconds);
        object["hashes_per_second_per_watt"] = json!(rate.hps());
    }
    object
}

fn print_results(results: &[(String, Measurement)]) -> std::io::Result<()> {
    // A column for those whose power is known, if there are any.
    let powered = results.iter().any(|(_, result)| result.per_joule().is_some());
    let mut header = vec!["algorithm", "kernel", "device", "threads", "hash rate", "spread", "J/hash"];
    header.extend(powered.then_some("per watt"));
    header.extend(["memory", "verified"]);
    let mut table = show::table(&header);
    for (_, result) in results {
        let (low, high) = result.spread();
        let mut row = vec![
            result.scanner.algorithm.name().to_owned(),
            result.scanner.kernel.to_owned(),
            result.scanner.device.clone(),
            result.threads.to_string(),
            result.rate().to_string(),
            format!("{:+.1} % {:+.1} %", low * 100.0, high * 100.0),
            joules_per_hash(result).map_or("-".to_owned(), |joules| format!("{joules:.3e}")),
        ];
        if powered {
            row.push(result.per_joule().map_or("-".to_owned(), |rate| rate.to_string()));
        }
        row.extend([
            result
                .scanner
                .memory
                .map_or("-".to_owned(), |(bytes, pages)| format!("{} in {pages}", show::bytes(bytes as u64))),
            if result.fault.is_none() { "yes" } else { "NO" }.to_owned(),
        ]);
        table.add_row(row);
    }
    show::print_table(&table)
}

fn joules_per_hash(result: &Measurement) -> Option<f64> {
    result.joules.filter(|_| result.hashes > 0).map(|joules| joules / result.hashes as f64)
}
