//! The machine as JSON: one description for the command line, C and Python.

#![forbid(unsafe_code)]

use serde_json::{Value, json};

use crate::algorithm::Algorithm;
use crate::cpu::{Cpu, Isa};
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
