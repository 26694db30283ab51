//! The machine a command runs on: what may be used of it, and how it is described.

use std::path::PathBuf;
use std::sync::Arc;

use otedama_core::cpu::Isa;
use otedama_core::epoch::Epoch;
use otedama_core::mem::{self, PageKind, PageSet, Request};
use otedama_core::scan::{Kernel, KernelError, Setup, kernel, kernels};
use otedama_core::topology::{CpuId, Topology};
use otedama_core::tune::{self, Contest, TuningCache};
use otedama_core::{Algorithm, cpu::Cpu, report};
use serde_json::Value;

use crate::args::{MachineArgs, Pages};
use crate::failure::{Failure, usage};
use crate::show;

/// The machine, less what the user took away.
pub(crate) struct Machine {
    pub(crate) setup: Setup,
    pub(crate) topology: Topology,
    pub(crate) dag_dir: Option<PathBuf>,
    tuning: TuningCache,
}

impl Machine {
    /// Looks at the machine once.
    pub(crate) fn detect(args: &MachineArgs) -> Machine {
        let cpu = match &args.isa {
            Some(isas) => Cpu::detect().only(&isas.0),
            None => Cpu::detect(),
        };
        let pages = match args.pages {
            Pages::Huge => PageSet::ALL,
            Pages::Transparent => PageSet::of(&[PageKind::Transparent]),
            Pages::Plain => PageSet::PLAIN,
        };
        let memory = Request { pages, ..Request::default() };
        let setup = Setup { cpu, memory, compile: !args.no_jit, ..Setup::detect() };
        let (topology, dag_dir) = (Topology::detect(), args.dag_dir.clone());
        Machine { setup, topology, dag_dir, tuning: TuningCache::user() }
    }

    /// What a worker on this CPU may use: the same, but the memory of its own node.
    pub(crate) fn setup_on(&self, cpu: Option<CpuId>) -> Setup {
        let node = cpu.and_then(|cpu| self.topology.node_of(cpu)).unwrap_or(self.setup.node);
        Setup { node, ..self.setup.clone() }
    }

    /// The kernel of this name, or the fastest on so many threads at once. Where the algorithm has epochs, only one with its dataset
    /// tells which is fastest. Says so where programs are interpreted that could be compiled elsewhere.
    pub(crate) fn kernel(
        &self,
        algorithm: Algorithm,
        name: Option<&str>,
        epoch: Option<&Arc<Epoch>>,
        threads: usize,
    ) -> Result<&'static Kernel, Failure> {
        let kernel = match name {
            Some(name) => kernel(algorithm, name)?,
            None => tune::best(algorithm, &self.setup, &self.tuning, epoch, threads)?,
        };
        if name.is_none() && kernel.is_oracle() && self.setup.compile {
            let refused = kernels(algorithm).filter_map(|kernel| kernel.obstacle(&self.setup)).next();
            if let Some(error @ KernelError::Code { .. }) = refused {
                eprintln!("{error}; going on with {}, many times slower", kernel.name());
            }
        }
        if let (false, Some(KernelError::Code { .. })) = (self.setup.compile, kernel.obstacle(&self.setup)) {
            return Err(usage(format!(
                "kernel {} compiles programs, which --no-jit forbids: leave one of the two out",
                kernel.name()
            )));
        }
        if let Some(isa) = kernel.needs().filter(|&isa| !self.setup.cpu.has(isa)) {
            let usable: Vec<_> =
                kernels(algorithm).filter(|k| k.runs_on(&self.setup.cpu)).map(Kernel::name).collect();
            return Err(usage(format!(
                "kernel {} needs {isa}: {}, expected one of {}",
                kernel.name(),
                self.why_absent(isa),
                usable.join(", ")
            )));
        }
        Ok(kernel)
    }

    /// All kernels of an algorithm in turns, as so many threads mine.
    pub(crate) fn contest(&self, algorithm: Algorithm, threads: usize) -> Result<Contest, Failure> {
        Ok(Contest::new(algorithm, &self.setup, self.tuning.clone(), threads)?)
    }

    /// Why an extension cannot be used.
    pub(crate) fn why_absent(&self, isa: Isa) -> &'static str {
        if Cpu::detect().has(isa) { "--isa leaves it out" } else { "this CPU lacks it" }
    }

    /// The CPU each thread is pinned to: those asked for, or `threads` of them chosen from the
    /// topology, or one for each core. More threads than CPUs run unpinned.
    pub(crate) fn worker_cpus(
        &self,
        threads: Option<u32>,
        cpus: &[u32],
    ) -> Result<Vec<Option<CpuId>>, Failure> {
        let usable = self.topology.cpus();
        if cpus.is_empty() {
            return Ok(self.topology.pins(threads.map(|threads| threads as usize)));
        }
        for cpu in cpus {
            if !usable.contains(&CpuId(*cpu)) {
                let names: Vec<_> = usable.iter().map(|cpu| cpu.0.to_string()).collect();
                return Err(usage(format!("cannot use CPU {cpu}: expected one of {}", names.join(", "))));
            }
        }
        Ok(cpus.iter().map(|&cpu| Some(CpuId(cpu))).collect())
    }

    /// Lines for a person: CPU, instruction sets, pages, nodes.
    pub(crate) fn describe(&self) -> String {
        let isas: Vec<_> = self.setup.cpu.isas().into_iter().map(Isa::name).collect();
        let isas = if isas.is_empty() { "baseline only".to_owned() } else { isas.join(" ") };
        format!(
            "CPU    {}, {}\nISA    {isas}\nPages  {}",
            self.setup.cpu.brand(),
            self.topology,
            mem::system_pages()
        )
    }

    /// The same for a program.
    pub(crate) fn to_json(&self) -> Value {
        report::machine(&self.setup.cpu, &self.topology)
    }

    /// Where kernel choices are remembered.
    pub(crate) fn tuning_path(&self) -> Option<PathBuf> {
        self.tuning.path().map(Into::into)
    }
}

/// One line for a cache of the topology table.
pub(crate) fn cache_line(cache: &otedama_core::topology::Cache) -> String {
    let sharing = match cache.cpus.len() {
        1 => "one CPU".to_owned(),
        many => format!("{many} CPUs"),
    };
    format!("L{} {} {} for {sharing}", cache.level, cache.kind, show::bytes(cache.bytes))
}
