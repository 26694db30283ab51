//! Who works: the CPU's threads, GPUs, or both, each with somebody who proves what they claim.

use std::sync::Arc;
use std::time::Duration;

use otedama_core::algorithm::EpochKind;
use otedama_core::engine::{EngineConfig, WorkerConfig};
use otedama_core::epoch::{Epoch, Progress};
#[cfg(feature = "gpu")]
use otedama_core::gpu::watch;
use otedama_core::topology::CpuId;
use otedama_core::tune::Contest;
use otedama_core::{Algorithm, Verifier, scan};
use serde::Serialize;

#[cfg(feature = "gpu")]
use crate::args::DeviceArgs;
use crate::failure::Failure;
#[cfg(feature = "gpu")]
use crate::gpus::{self, Chosen};
use crate::machine::Machine;
use crate::miner::sensors::Gauge;
use crate::priority::{self, Priority};

/// How long a device may be silent before it is said to hang.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What was asked for, checked before anything takes time.
pub(crate) struct Wanted {
    /// The CPU of each thread.
    pub(crate) cpus: Vec<Option<CpuId>>,
    /// The CPU's kernel by name; the fastest if none.
    pub(crate) kernel: Option<String>,
    /// How the CPU's threads stand beside other programs.
    pub(crate) priority: Priority,
    #[cfg(feature = "gpu")]
    pub(crate) chosen: Chosen,
    /// How GPUs work.
    #[cfg(feature = "gpu")]
    pub(crate) options: scan::GpuOptions,
    /// How far each GPU's dataset is.
    #[cfg(feature = "gpu")]
    making: Vec<Progress>,
}

impl Wanted {
    /// These threads with this kernel, and the devices named.
    pub(crate) fn new(
        cpus: Vec<Option<CpuId>>,
        kernel: Option<String>,
        #[cfg(feature = "gpu")] devices: &DeviceArgs,
    ) -> Result<Wanted, Failure> {
        #[cfg(feature = "gpu")]
        let chosen = gpus::choose_for(devices, kernel.as_deref())?;
        Ok(Wanted {
            #[cfg(feature = "gpu")]
            making: chosen.gpus.iter().map(|_| Progress::new()).collect(),
            #[cfg(feature = "gpu")]
            chosen,
            #[cfg(feature = "gpu")]
            options: gpus::options(devices),
            priority: Priority::Normal,
            cpus,
            kernel,
        })
    }

    fn cpu(&self) -> bool {
        #[cfg(feature = "gpu")]
        return self.chosen.cpu;
        #[cfg(not(feature = "gpu"))]
        return true;
    }

    /// The GPUs' datasets: whose each is, and how far.
    pub(crate) fn datasets(&self) -> Vec<(String, Progress)> {
        #[cfg(feature = "gpu")]
        return self
            .chosen
            .gpus
            .iter()
            .map(|gpu| gpu.id.to_string())
            .zip(self.making.iter().cloned())
            .collect();
        #[cfg(not(feature = "gpu"))]
        return Vec::new();
    }

    /// What GPUs that make a dataset are at, for a person; empty if none does.
    pub(crate) fn making(&self) -> String {
        #[cfg(feature = "gpu")]
        let making = self
            .chosen
            .gpus
            .iter()
            .zip(&self.making)
            .filter_map(|(gpu, progress)| Some(format!("{} {}", gpu.id, gpus::making(progress)?)));
        #[cfg(not(feature = "gpu"))]
        let making = std::iter::empty::<String>();
        making.collect::<Vec<_>>().join("; ")
    }
}

/// What a worker is, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    /// `cuda:0`, `cpu 3` (pinned to that CPU) or `thread 3`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// What is on the box, if it is a GPU.
    pub(crate) device: Option<String>,
    /// The CPU's kernel.
    pub(crate) kernel: Option<&'static str>,
}

/// Of what kind a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A thread of the CPU.
    Cpu,
    /// A GPU.
    Gpu,
}

/// Workers ready to be started.
pub(crate) struct Crew {
    /// The workers.
    pub(crate) workers: Vec<WorkerConfig>,
    /// What each of them is.
    pub(crate) members: Vec<Member>,
    /// What can be read of each.
    pub(crate) gauges: Vec<Gauge>,
    /// Devices and kernel, for people.
    pub(crate) names: String,
    /// How the engine is to treat them.
    pub(crate) config: EngineConfig,
    /// Which kernel the CPU's threads end up with, where only mining tells.
    pub(crate) contest: Option<Contest>,
}

impl Crew {
    /// The workers wanted. What a kernel or a device claims, another kernel proves.
    pub(crate) fn gather(
        machine: &Machine,
        algorithm: Algorithm,
        wanted: &Wanted,
        epoch: Option<&Arc<Epoch>>,
    ) -> Result<Crew, Failure> {
        let prover = scan::prover(algorithm, &machine.setup)?;
        let (mut workers, mut names) = (Vec::new(), Vec::new());
        let (mut members, mut gauges) = (Vec::new(), Vec::new());
        let mut contest = None;
        #[cfg(feature = "gpu")]
        for (gpu, progress) in wanted.chosen.gpus.iter().zip(&wanted.making) {
            let verifier = Verifier::new(prover, machine.setup.clone());
            let options = scan::GpuOptions { progress: progress.clone(), ..wanted.options.clone() };
            workers.push(gpus::worker(algorithm, gpu.id, options, &machine.setup, &verifier));
            names.push(gpu.id.to_string());
            let (name, device) = (gpu.id.to_string(), Some(gpu.name.clone()));
            members.push(Member { name, kind: Kind::Gpu, device, kernel: None });
            gauges.push(watch::sensor(gpu));
        }
        let watchdog = (!workers.is_empty()).then_some(WATCHDOG);
        if wanted.cpu() {
            let kernel = machine.kernel(algorithm, wanted.kernel.as_deref(), epoch, wanted.cpus.len())?;
            // Work with a dataset is still to come: it tells which kernel is fastest.
            if wanted.kernel.is_none() && epoch.is_none() && algorithm.spec().epoch != EpochKind::None {
                contest = Some(machine.contest(algorithm, wanted.cpus.len())?);
            }
            names.push(kernel.name().to_owned());
            let priority = wanted.priority;
            for (thread, &cpu) in wanted.cpus.iter().enumerate() {
                let setup = machine.setup_on(cpu);
                let verifier = Verifier::new(prover, setup.clone());
                let contest = contest.clone();
                let make = move || {
                    // On the worker's own thread.
                    priority::take(priority);
                    let scanner = match &contest {
                        Some(contest) => contest.scanner(&setup)?,
                        None => kernel.scanner(&setup)?,
                    };
                    Ok((scanner, verifier.worker()?))
                };
                workers.push(WorkerConfig { cpu, make: Box::new(make) });
                let name = cpu.map_or_else(|| format!("thread {thread}"), |cpu| format!("cpu {}", cpu.0));
                members.push(Member { name, kind: Kind::Cpu, device: None, kernel: Some(kernel.name()) });
                gauges.push(None);
            }
        }
        let config = EngineConfig { watchdog, ..EngineConfig::default() };
        Ok(Crew { workers, members, gauges, names: names.join(", "), config, contest })
    }
}
