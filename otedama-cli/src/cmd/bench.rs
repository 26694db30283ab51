//! `bench`: hash rates of kernels, verified while timing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otedama_core::Algorithm;
use otedama_core::measure::{self, Measurement, Plan};
use otedama_core::scan::{Kernel, kernels};
use serde_json::{Value, json};

use crate::args::{BenchArgs, MachineArgs};
use crate::failure::{Failure, Outcome, work};
use crate::machine::Machine;
use crate::{cmd, show};

pub(crate) fn run(args: &BenchArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let kernels = chosen_kernels(args, &machine)?;
    let cpus = machine.worker_cpus(args.threads, &args.cpus)?;

    let interrupted = Arc::new(AtomicBool::new(false));
    cmd::on_interrupt({
        let interrupted = Arc::clone(&interrupted);
        move || interrupted.store(true, Ordering::Relaxed)
    })?;

    let mut results = Vec::new();
    for kernel in kernels {
        let plan = Plan {
            kernel,
            setup: machine.setup.clone(),
            cpus: cpus.clone(),
            time: Duration::from_secs_f64(args.seconds),
            roll_version: !args.fixed_version,
        };
        let bar = show::progress_bar(1000, kernel.name().to_owned());
        let result = measure::run(&plan, |fraction, rate| {
            bar.set_position((fraction * 1000.0) as u64);
            bar.set_message(rate.to_string());
            !interrupted.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        results.push(result?);
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }

    if args.json {
        let results: Vec<_> = results.iter().map(|result| to_json(result, args)).collect();
        show::print_json(&json!({ "machine": machine.to_json(), "results": results }))?;
    } else {
        println!("{}\n", machine.describe());
        print_results(&results)?;
    }
    let faults = results.iter().filter_map(|r| Some(format!("{}: {}", r.kernel.name(), r.fault.as_ref()?)));
    match faults.reduce(|all, next| format!("{all}; {next}")) {
        Some(faults) => Err(work(format!("wrong results: {faults}"))),
        None if interrupted.load(Ordering::Relaxed) => {
            Err(work("interrupted: the last figure is of a shorter time"))
        }
        None => Ok(()),
    }
}

/// Which kernels to measure. Those left out for want of an instruction set are said.
fn chosen_kernels(args: &BenchArgs, machine: &Machine) -> Result<Vec<&'static Kernel>, Failure> {
    let algorithms = match args.algorithms.as_slice() {
        [] => Algorithm::ALL.into_iter().filter(|&algorithm| kernels(algorithm).next().is_some()).collect(),
        asked => asked.to_vec(),
    };
    if let Some(&algorithm) = algorithms.iter().find(|&&algorithm| kernels(algorithm).next().is_none()) {
        return Err(cmd::no_kernel("bench", algorithm));
    }
    let mut chosen = Vec::new();
    for &algorithm in &algorithms {
        if args.kernel.as_deref() != Some("all") {
            chosen.push(machine.kernel(algorithm, args.kernel.as_deref())?);
            continue;
        }
        for kernel in kernels(algorithm) {
            match kernel.needs().filter(|&isa| !machine.setup.cpu.has(isa)) {
                None => chosen.push(kernel),
                Some(isa) => {
                    eprintln!("skipped {}: it needs {isa}, {}", kernel.name(), machine.why_absent(isa))
                }
            }
        }
    }
    Ok(chosen)
}

fn to_json(result: &Measurement, args: &BenchArgs) -> Value {
    let (low, high) = result.spread();
    json!({
        "algorithm": result.kernel.algorithm().name(),
        "kernel": result.kernel.name(),
        "device": args.device,
        "threads": result.threads,
        "seconds": result.seconds,
        "hashes": result.hashes,
        "hashes_per_second": result.rate().hps(),
        "samples_hashes_per_second": result.samples.iter().map(|sample| sample.hps()).collect::<Vec<_>>(),
        "spread": [low, high],
        "joules_per_hash": joules_per_hash(result),
        "memory_bytes_per_thread": result.memory.map(|(bytes, _)| bytes),
        "pages": result.memory.map(|(_, pages)| pages.to_string()),
        "version_rolling": result.rolled,
        "verified": result.fault.is_none(),
        "fault": result.fault,
    })
}

fn print_results(results: &[Measurement]) -> std::io::Result<()> {
    let header = ["algorithm", "kernel", "threads", "hash rate", "spread", "J/hash", "memory", "verified"];
    let mut table = show::table(&header);
    for result in results {
        let (low, high) = result.spread();
        table.add_row([
            result.kernel.algorithm().name().to_owned(),
            result.kernel.name().to_owned(),
            result.threads.to_string(),
            result.rate().to_string(),
            format!("{:+.1} % {:+.1} %", low * 100.0, high * 100.0),
            joules_per_hash(result).map_or("-".to_owned(), |joules| format!("{joules:.3e}")),
            result
                .memory
                .map_or("-".to_owned(), |(bytes, pages)| format!("{} in {pages}", show::bytes(bytes as u64))),
            if result.fault.is_none() { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    show::print_table(&table)
}

fn joules_per_hash(result: &Measurement) -> Option<f64> {
    result.joules.filter(|_| result.hashes > 0).map(|joules| joules / result.hashes as f64)
}
