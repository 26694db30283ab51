//! `selftest`: known answers through every kernel.

use otedama_core::Algorithm;
use otedama_core::scan::{Kernel, kernels};
use serde_json::json;

use crate::args::{MachineArgs, SelftestArgs};
use crate::failure::{Outcome, work};
use crate::machine::Machine;
use crate::show;

pub(crate) fn run(args: &SelftestArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let rows: Vec<_> = Algorithm::ALL
        .into_iter()
        .flat_map(kernels)
        .map(|kernel| (kernel, Verdict::of(kernel, &machine)))
        .collect();
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

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Verdict {
    fn of(kernel: &'static Kernel, machine: &Machine) -> Verdict {
        if let Some(isa) = kernel.needs().filter(|&isa| !machine.setup.cpu.has(isa)) {
            return Verdict::Skipped(format!("needs {isa}, {}", machine.why_absent(isa)));
        }
        // Making either runs its known answers.
        let outcome = kernel.scanner(&machine.setup).and_then(|_| kernel.hasher(&machine.setup));
        match outcome {
            Ok(_) => Verdict::Passed,
            Err(error) => Verdict::Failed(error.to_string()),
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
