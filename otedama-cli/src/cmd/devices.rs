//! `devices`: what this machine offers.

use otedama_core::scan::kernels;
use otedama_core::{Algorithm, report};

use crate::args::{DevicesArgs, MachineArgs};
use crate::failure::Outcome;
use crate::machine::{self, Machine};
use crate::show;

pub(crate) fn run(args: &DevicesArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let usable = |algorithm| {
        kernels(algorithm).filter(|kernel| kernel.runs_on(&machine.setup.cpu)).map(|kernel| kernel.name())
    };
    if args.json {
        show::print_json(&report::devices(&machine.setup.cpu, &machine.topology))?;
        return Ok(());
    }
    println!("{}", machine.describe());
    for node in machine.topology.nodes() {
        let cpus: Vec<_> = node.cpus.iter().map(|cpu| cpu.0.to_string()).collect();
        let memory = node.memory_bytes.map_or("unknown memory".to_owned(), show::bytes);
        println!("Node   {}: {memory}, CPUs {}", node.id.0, cpus.join(" "));
    }
    let mut caches: Vec<(String, usize)> = Vec::new();
    for cache in machine.topology.caches() {
        let line = machine::cache_line(cache);
        match caches.iter_mut().find(|(seen, _)| *seen == line) {
            Some((_, count)) => *count += 1,
            None => caches.push((line, 1)),
        }
    }
    for (line, count) in caches {
        println!("Cache  {count} x {line}");
    }
    println!("\nDevice cpu: {}", machine.setup.cpu.brand());
    for algorithm in Algorithm::ALL {
        let names: Vec<_> = usable(algorithm).collect();
        if !names.is_empty() {
            println!("  {:8} {}", algorithm.name(), names.join(", "));
        }
    }
    #[cfg(feature = "gpu")]
    print!("\n{}", crate::gpus::describe(&otedama_core::gpu::devices()));
    if let Some(path) = machine.tuning_path() {
        println!("\nFastest kernels are remembered in {}", path.display());
    }
    Ok(())
}
