//! The machine as JSON: one description for the command line, C and Python.

#![forbid(unsafe_code)]

use serde_json::{Value, json};

use crate::algorithm::Algorithm;
use crate::cpu::{Cpu, Isa};
#[cfg(feature = "gpu")]
use crate::gpu::{Card, Inventory};
use crate::mem;
use crate::scan::{Kernel, kernels};
use crate::topology::{Cache, CpuId, Node, Topology};

/// The CPU (less what was taken away), its nodes and caches, the pages to be had, the version of this library.
/// Sizes are in bytes, CPUs and nodes have the operating system's numbers.
pub fn machine(cpu: &Cpu, topology: &Topology) -> Value {
    let pages = mem::system_pages();
    let numbers = |cpus: &[CpuId]| cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>();
    let node = |node: &Node| json!({ "id": node.id.0, "memory_bytes": node.memory_bytes, "cpus": numbers(&node.cpus) });
    let cache = |cache: &Cache| json!({ "level": cache.level, "kind": cache.kind.to_string(), "bytes": cache.bytes, "cpus": numbers(&cache.cpus) });
    let huge = |pool: &mem::HugePool| json!({ "page_bytes": pool.page_bytes, "total": pool.total, "free": pool.free });
    json!({
        "cpu": cpu.brand(),
        "isa": cpu.isas().into_iter().map(Isa::name).collect::<Vec<_>>(),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": topology.cores().len(),
        "cpus": numbers(topology.cpus()),
        "nodes": topology.nodes().iter().map(node).collect::<Vec<_>>(),
        "caches": topology.caches().iter().map(cache).collect::<Vec<_>>(),
        "pages": {
            "page_bytes": pages.page_bytes,
            "huge": pages.pools.iter().map(huge).collect::<Vec<_>>(),
            "transparent": pages.transparent.to_string(),
        },
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// [`machine`], and every device with the kernels it can run.
pub fn devices(cpu: &Cpu, topology: &Topology) -> Value {
    let usable = |algorithm| kernels(algorithm).filter(|kernel| kernel.runs_on(cpu)).map(Kernel::name);
    let kernels: Vec<_> = Algorithm::ALL.into_iter().flat_map(usable).collect();
    json!({
        "machine": machine(cpu, topology),
        "devices": [{ "id": "cpu", "name": cpu.brand(), "kernels": kernels }],
    })
}

/// [`devices`], and what is behind CUDA and OpenCL, with the APIs that have nothing. A card seen through both is one:
/// the entry to leave alone names the other in `same_card_as`.
#[cfg(feature = "gpu")]
pub fn devices_and_gpus(cpu: &Cpu, topology: &Topology, inventory: &Inventory) -> Value {
    let kernels: Vec<_> =
        Algorithm::ALL.iter().map(|algorithm| format!("{}-gpu", algorithm.name())).collect();
    let gpus = inventory.cards.iter().map(|Card { info, twin }| {
        json!({
            "id": info.id.to_string(),
            "name": info.name,
            "kernels": kernels,
            "api": info.id.api().to_string(),
            "vendor": info.vendor,
            "driver": info.driver,
            "pci": info.pci.map(|pci| pci.to_string()),
            "memory_bytes": info.memory,
            "max_buffer_bytes": info.max_buffer,
            "units": info.units,
            "compute": info.compute.map(|(major, minor)| format!("{major}.{minor}")),
            "is_cpu": info.is_cpu,
            "same_card_as": twin.map(|twin| twin.to_string()),
        })
    });
    let absent = inventory.absent.iter();
    let absent = absent.map(|(api, reason)| json!({ "api": api.to_string(), "reason": reason }));
    let mut report = devices(cpu, topology);
    if let Some(list) = report["devices"].as_array_mut() {
        list.extend(gpus);
    }
    report["absent"] = absent.collect();
    report
}
