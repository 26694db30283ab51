//! `selftest`: known answers through every kernel.

use std::sync::Arc;

use otedama_core::epoch::{Depth, Epoch};
use otedama_core::scan::{Kernel, kernels};
use otedama_core::{Algorithm, selftest};
use serde_json::json;

use crate::args::{MachineArgs, SelftestArgs};
use crate::epochs::Epochs;
use crate::failure::{Outcome, work};
use crate::machine::Machine;
use crate::{cmd, show};

pub(crate) fn run(args: &SelftestArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let interrupted = cmd::interrupt_flag()?;
    let mut rows = Vec::new();
    let all = Algorithm::ALL;
    for &algorithm in if args.algorithms.is_empty() { &all[..] } else { &args.algorithms } {
        let epoch = match (selftest::epoch(algorithm), Epochs::of(algorithm, &machine)) {
            (Some(key), Some(epochs)) => Some(epochs.build(&key, Depth::Light, &interrupted)?.epoch),
            _ => None,
        };
        rows.extend(kernels(algorithm).map(|kernel| (kernel, Verdict::of(kernel, &machine, epoch.as_ref()))));
    }
    let count = |word: &str| rows.iter().filter(|(_, verdict)| verdict.word() == word).count();
    let (passed, failed, skipped) = (count("passed"), count("FAILED"), count("skipped"));
    if args.json {
        let results: Vec<_> = rows
            .iter()
            .map(|(kernel, verdict)| {
                json!({
                    "algorithm": kernel.algorithm().name(),
                    "kernel": kernel.name(),
                    "result": verdict.word().to_lowercase(),
                    "reason": verdict.reason(),
                })
            })
            .collect();
        show::print_json(
            &json!({ "passed": passed, "failed": failed, "skipped": skipped, "results": results }),
        )?;
    } else {
        let mut table = show::table(&["algorithm", "kernel", "result", ""]);
        for (kernel, verdict) in &rows {
            table.add_row([
                kernel.algorithm().name(),
                kernel.name(),
                verdict.word(),
                verdict.reason().unwrap_or(""),
            ]);
        }
        show::print_table(&table)?;
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }
    let first = rows.iter().find(|(_, verdict)| matches!(verdict, Verdict::Failed(_)));
    match first {
        None => Ok(()),
        Some((kernel, verdict)) => {
            Err(work(format!("{}: {}", kernel.name(), verdict.reason().unwrap_or_default())))
        }
    }
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
