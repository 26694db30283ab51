//! `selftest`: known answers through every kernel.

use std::sync::Arc;
#[cfg(feature = "gpu")]
use std::sync::atomic::Ordering;

use otedama_core::epoch::{Depth, Epoch};
#[cfg(feature = "gpu")]
use otedama_core::gpu::DeviceInfo;
#[cfg(feature = "gpu")]
use otedama_core::scan::GpuOptions;
use otedama_core::scan::{Kernel, kernels};
use otedama_core::{Algorithm, selftest};
use serde_json::json;

use crate::args::{MachineArgs, SelftestArgs};
use crate::epochs::Epochs;
use crate::failure::{Outcome, work};
#[cfg(feature = "gpu")]
use crate::gpus;
use crate::machine::Machine;
use crate::{cmd, show};

pub(crate) fn run(args: &SelftestArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let interrupted = cmd::interrupt_flag()?;
    #[cfg(feature = "gpu")]
    let chosen = gpus::choose(&args.device)?;
    #[cfg(feature = "gpu")]
    let on_cpu = chosen.cpu;
    #[cfg(not(feature = "gpu"))]
    let on_cpu = true;
    let mut rows = Vec::new();
    let all = Algorithm::ALL;
    for &algorithm in if args.algorithms.is_empty() { &all[..] } else { &args.algorithms } {
        #[cfg(feature = "gpu")]
        let any_gpu = chosen.gpus.iter().any(|gpu| !gpu.is_cpu);
        #[cfg(not(feature = "gpu"))]
        let any_gpu = false;
        let epoch = match (selftest::epoch(algorithm), Epochs::of(algorithm, &machine)) {
            (Some(key), Some(epochs)) if on_cpu || any_gpu => {
                Some(epochs.build(&key, Depth::Light, &interrupted)?.epoch)
            }
            _ => None,
        };
        for kernel in kernels(algorithm).filter(|_| on_cpu) {
            let verdict = Verdict::of(kernel, &machine, epoch.as_ref());
            rows.push(Row { algorithm, kernel: kernel.name().to_owned(), device: "cpu".to_owned(), verdict });
        }
        #[cfg(feature = "gpu")]
        for gpu in &chosen.gpus {
            if interrupted.load(Ordering::Relaxed) {
                return Err(work("interrupted"));
            }
            let kernel = format!("{}-gpu", algorithm.name());
            let verdict = Verdict::on(gpu, algorithm, &machine, epoch.as_ref());
            rows.push(Row { algorithm, kernel, device: gpu.id.to_string(), verdict });
        }
    }
    let count = |word: &str| rows.iter().filter(|row| row.verdict.word() == word).count();
    let (passed, failed, skipped) = (count("passed"), count("FAILED"), count("skipped"));
    if args.json {
        let results: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "algorithm": row.algorithm.name(),
                    "kernel": row.kernel,
                    "device": row.device,
                    "result": row.verdict.word().to_lowercase(),
                    "reason": row.verdict.reason(),
                })
            })
            .collect();
        show::print_json(
            &json!({ "passed": passed, "failed": failed, "skipped": skipped, "results": results }),
        )?;
    } else {
        let mut table = show::table(&["algorithm", "kernel", "device", "result", ""]);
        for row in &rows {
            table.add_row([
                row.algorithm.name(),
                &row.kernel,
                &row.device,
                row.verdict.word(),
                row.verdict.reason().unwrap_or(""),
            ]);
        }
        show::print_table(&table)?;
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }
    match rows.iter().find(|row| matches!(row.verdict, Verdict::Failed(_))) {
        None => Ok(()),
        Some(Row { kernel, device, verdict, .. }) => {
            Err(work(format!("{kernel} on {device}: {}", verdict.reason().unwrap_or_default())))
        }
    }
}

/// A kernel's verdict on a device.
struct Row {
    algorithm: Algorithm,
    kernel: String,
    device: String,
    verdict: Verdict,
}

/// Lets a kernel compute what it has known answers for. Making a scanner or a hasher runs those that need no
/// epoch.
fn known_answers(
    kernel: &'static Kernel,
    machine: &Machine,
    epoch: Option<&Arc<Epoch>>,
) -> Result<(), String> {
    let mut scanner = kernel.scanner(&machine.setup).map_err(|error| error.to_string())?;
    let mut hasher = kernel.hasher(&machine.setup).map_err(|error| error.to_string())?;
    if let Some(epoch) = epoch {
        selftest::scanner_in(scanner.as_mut(), epoch).map_err(|error| error.to_string())?;
        selftest::hasher_in(kernel.algorithm(), hasher.as_mut(), epoch).map_err(|error| error.to_string())?;
    }
    Ok(())
}

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Verdict {
    fn of(kernel: &'static Kernel, machine: &Machine, epoch: Option<&Arc<Epoch>>) -> Verdict {
        if let Some(isa) = kernel.needs().filter(|&isa| !machine.setup.cpu.has(isa)) {
            return Verdict::Skipped(format!("needs {isa}, {}", machine.why_absent(isa)));
        }
        if let Some(obstacle) = kernel.obstacle(&machine.setup) {
            return Verdict::Skipped(obstacle.to_string());
        }
        match known_answers(kernel, machine, epoch) {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(error),
        }
    }

    /// A device's. Making a scanner asks for what needs no epoch; for the rest the device makes a whole dataset, which
    /// takes a CPU behind OpenCL too long.
    #[cfg(feature = "gpu")]
    fn on(gpu: &DeviceInfo, algorithm: Algorithm, machine: &Machine, epoch: Option<&Arc<Epoch>>) -> Verdict {
        let mut scanner = match gpus::scanner(algorithm, gpu.id, GpuOptions::default(), &machine.setup) {
            Ok(scanner) => scanner,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        let asked = match epoch {
            _ if selftest::epoch(algorithm).is_none() => Ok(()),
            Some(epoch) if !gpu.is_cpu => selftest::scanner_in(scanner.as_mut(), epoch),
            _ => {
                let reason = "not asked: the answer needs a whole dataset, which takes a CPU minutes to make";
                return Verdict::Skipped(reason.to_owned());
            }
        };
        asked.map_or_else(|error| Verdict::Failed(error.to_string()), |()| Verdict::Passed)
    }

    fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "FAILED",
            Verdict::Skipped(_) => "skipped",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Passed => None,
            Verdict::Failed(reason) | Verdict::Skipped(reason) => Some(reason),
        }
    }
}
