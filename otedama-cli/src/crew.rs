//! Who works: the CPU's threads, GPUs, or both, each with somebody who proves what they claim.

use std::sync::Arc;
use std::time::Duration;

use otedama_core::engine::{EngineConfig, WorkerConfig};
use otedama_core::epoch::Epoch;
#[cfg(feature = "gpu")]
use otedama_core::gpu::DeviceId;
use otedama_core::topology::CpuId;
use otedama_core::{Algorithm, Verifier, scan};

#[cfg(feature = "gpu")]
use crate::args::DeviceArgs;
use crate::failure::Failure;
#[cfg(feature = "gpu")]
use crate::gpus;
use crate::machine::Machine;

/// How long a device may be silent before it is said to hang.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What was asked for, checked before anything takes time.
pub(crate) struct Wanted {
    /// The CPU of each thread.
    pub(crate) cpus: Vec<Option<CpuId>>,
    /// The CPU's kernel by name; the fastest if none.
    pub(crate) kernel: Option<String>,
    #[cfg(feature = "gpu")]
    cpu: bool,
    /// The GPUs, and how each is used.
    #[cfg(feature = "gpu")]
    gpus: Vec<(DeviceId, scan::GpuOptions)>,
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
            cpu: chosen.cpu,
            #[cfg(feature = "gpu")]
            gpus: chosen.gpus.iter().map(|gpu| (gpu.id, gpus::options(devices))).collect(),
            cpus,
            kernel,
        })
    }

    fn cpu(&self) -> bool {
        #[cfg(feature = "gpu")]
        return self.cpu;
        #[cfg(not(feature = "gpu"))]
        return true;
    }

    /// What GPUs that make a dataset are at, for a person; empty if none does.
    pub(crate) fn making(&self) -> String {
        #[cfg(feature = "gpu")]
        let making = self
            .gpus
            .iter()
            .filter_map(|(id, options)| Some(format!("{id} {}", gpus::making(&options.progress)?)));
        #[cfg(not(feature = "gpu"))]
        let making = std::iter::empty::<String>();
        making.collect::<Vec<_>>().join("; ")
    }
}

/// Workers ready to be started.
pub(crate) struct Crew {
    /// The workers.
    pub(crate) workers: Vec<WorkerConfig>,
    /// Devices and kernel, for people.
    pub(crate) names: String,
    /// How the engine is to treat them.
    pub(crate) config: EngineConfig,
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
        #[cfg(feature = "gpu")]
        for (id, options) in &wanted.gpus {
            let verifier = Verifier::new(prover, machine.setup.clone());
            workers.push(gpus::worker(algorithm, *id, options.clone(), &machine.setup, &verifier));
            names.push(id.to_string());
        }
        let watchdog = (!workers.is_empty()).then_some(WATCHDOG);
        if wanted.cpu() {
            let kernel = machine.kernel(algorithm, wanted.kernel.as_deref(), epoch)?;
            names.push(kernel.name().to_owned());
            workers.extend(wanted.cpus.iter().map(|&cpu| {
                let setup = machine.setup_on(cpu);
                let verifier = Verifier::new(prover, setup.clone());
                let make = move || Ok((kernel.scanner(&setup)?, verifier.worker()?));
                WorkerConfig { cpu, make: Box::new(make) }
            }));
        }
        let config = EngineConfig { watchdog, ..EngineConfig::default() };
        Ok(Crew { workers, names: names.join(", "), config })
    }
}
