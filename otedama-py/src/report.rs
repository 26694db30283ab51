//! What there is to hash with, how fast it is, and the machine.

use std::sync::Arc;
use std::time::Duration;

use otedama_core::Algorithm;
use otedama_core::algorithm::EpochKind;
use otedama_core::cpu::{Cpu, Isa};
use otedama_core::measure::{self as core_measure, Plan, Worker};
use otedama_core::mem::{self, HugePool};
use otedama_core::scan::{self, Setup};
use otedama_core::topology::{self, CpuId, Topology};
use otedama_core::tune::{self, TuningCache};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::worker_setups;
use crate::epoch::{Epoch, depth_name};
use crate::error;
use crate::target::algorithm as parse;

/// The names of all algorithms.
#[pyfunction]
pub(crate) fn algorithms() -> Vec<&'static str> {
    Algorithm::ALL.map(Algorithm::name).to_vec()
}

/// The kernels of an algorithm: pairs of a full name and the reason why it cannot be used here, or None.
/// Raises InputError.
#[pyfunction]
#[pyo3(signature = (algorithm, /))]
pub(crate) fn kernels(algorithm: &str) -> PyResult<Vec<(&'static str, Option<String>)>> {
    let setup = Setup::detect();
    let row = |kernel: &'static scan::Kernel| {
        (kernel.name(), kernel.obstacle(&setup).map(|error| error.to_string()))
    };
    Ok(scan::kernels(parse(algorithm)?).map(row).collect())
}

/// Measures one kernel; what otedama.bench() calls for each row.
#[pyfunction]
#[pyo3(signature = (algorithm, /, *, kernel=None, threads=None, seconds=1.0, epoch=None, progress=None))]
pub(crate) fn measure<'py>(
    py: Python<'py>,
    algorithm: &str,
    kernel: Option<&str>,
    threads: Option<usize>,
    seconds: f64,
    epoch: Option<&Bound<'py, Epoch>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let algorithm = parse(algorithm)?;
    if !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(error::input(format!("seconds is {seconds}: expected more than 0, at most 3600")));
    }
    let epoch = epoch.map(|epoch| epoch.get().inner()).transpose()?;
    if epoch.is_none() && algorithm.spec().epoch != EpochKind::None {
        return Err(error::no_epoch(algorithm));
    }
    let mut raised: PyResult<()> = Ok(());
    let measured = py.detach(|| {
        let setup = Setup::detect();
        let setups = worker_setups(threads)?;
        let kernel = match kernel {
            Some(name) => scan::kernel(algorithm, name),
            None => tune::best(algorithm, &setup, &TuningCache::user(), epoch.as_ref(), setups.len()),
        };
        let kernel = kernel.map_err(error::kernel)?;
        let worker = |(cpu, setup)| Worker::on_cpu(kernel, cpu, setup);
        let plan = Plan {
            algorithm,
            workers: setups.into_iter().map(worker).collect(),
            time: Duration::from_secs_f64(seconds),
            roll_version: true,
            epoch: epoch.as_ref().map(Arc::clone),
        };
        let watch = |fraction: f64, rate: otedama_core::HashRate| {
            raised = Python::attach(|py| {
                py.check_signals()?;
                if let Some(progress) = &progress {
                    progress.call1(py, (fraction, rate.hps()))?;
                }
                Ok(())
            });
            raised.is_ok()
        };
        core_measure::run(&plan, watch).map_err(error::measuring)
    });
    raised?;
    let measured = measured?;
    if let Some(fault) = &measured.fault {
        return Err(error::device(format!("{}: wrong results: {fault}", measured.scanner.kernel)));
    }
    let (low, high) = measured.spread();
    let row = PyDict::new(py);
    row.set_item("algorithm", algorithm.name())?;
    row.set_item("kernel", measured.scanner.kernel)?;
    row.set_item("threads", measured.threads)?;
    row.set_item("mode", measured.depth.map(depth_name))?;
    row.set_item("seconds", measured.seconds)?;
    row.set_item("hashes", measured.hashes)?;
    row.set_item("hashes_per_second", measured.rate().hps())?;
    row.set_item("slowest", low)?;
    row.set_item("fastest", high)?;
    row.set_item("joules", measured.joules)?;
    row.set_item("rate", measured.rate().to_string())?;
    Ok(row)
}

/// The machine: what otedama.devices() shows.
#[pyfunction]
pub(crate) fn machine(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let (cpu, topology, pages) = py.detach(|| (Cpu::detect(), Topology::detect(), mem::system_pages()));
    let setup = Setup::detect();
    let numbers = |cpus: &[CpuId]| cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>();
    let node = |node: &topology::Node| {
        let dict = PyDict::new(py);
        dict.set_item("id", node.id.0)?;
        dict.set_item("memory_bytes", node.memory_bytes)?;
        dict.set_item("cpus", numbers(&node.cpus))?;
        Ok(dict)
    };
    let cache = |cache: &topology::Cache| {
        let dict = PyDict::new(py);
        dict.set_item("level", cache.level)?;
        dict.set_item("kind", cache.kind.to_string())?;
        dict.set_item("bytes", cache.bytes)?;
        dict.set_item("cpus", numbers(&cache.cpus))?;
        Ok(dict)
    };
    let pool = |pool: &HugePool| {
        let dict = PyDict::new(py);
        dict.set_item("page_bytes", pool.page_bytes)?;
        dict.set_item("total", pool.total)?;
        dict.set_item("free", pool.free)?;
        Ok(dict)
    };
    let usable = |kernel: &&'static scan::Kernel| kernel.obstacle(&setup).is_none();
    let kernels = Algorithm::ALL.into_iter().flat_map(scan::kernels).filter(usable);
    let dict = PyDict::new(py);
    dict.set_item("id", "cpu")?;
    dict.set_item("name", cpu.brand())?;
    dict.set_item("features", cpu.isas().into_iter().map(Isa::name).collect::<Vec<_>>())?;
    dict.set_item("cores", topology.cores().len())?;
    dict.set_item("cpus", numbers(topology.cpus()))?;
    dict.set_item("nodes", topology.nodes().iter().map(node).collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("caches", topology.caches().iter().map(cache).collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("huge_pages", pages.pools.iter().map(pool).collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("transparent_huge_pages", pages.transparent.to_string())?;
    dict.set_item("kernels", kernels.map(scan::Kernel::name).collect::<Vec<_>>())?;
    Ok(dict)
}
