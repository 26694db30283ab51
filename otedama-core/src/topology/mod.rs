//! Which processors there are, which of them share a core, a cache or a memory node.
//!
//! ```text
//!   node 0                      node 1            a node: memory and the CPUs close to it
//!     core  core  core  core      core  core ..   a core: one or more CPUs (SMT siblings)
//!      0 8   1 9  2 10  3 11      4 12  5 13      a CPU:  what a thread is pinned to
//! ```
//!
//! [`Topology::detect`] reads the Linux sysfs tree and keeps only the CPUs that are online and that
//! this process may run on. Elsewhere, or where the tree makes no sense, the machine is described as
//! one node of unrelated CPUs, and [`Topology::source`] says so. Feature `hwloc` adds a second,
//! independent reading through the hwloc library.
//!
//! Source: the kernel's `Documentation/ABI/{stable,testing}/sysfs-devices-{node,system-cpu}`.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(feature = "hwloc")]
pub mod hwloc;
mod sysfs;

/// A logical processor, by the operating system's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuId(pub u32);

/// A memory node (NUMA), by the operating system's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// The machine as this process may use it. Every list of CPUs inside is ascending and holds usable
/// CPUs only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    source: Source,
    nodes: Vec<Node>,
    cores: Vec<Core>,
    caches: Vec<Cache>,
    cpus: Vec<CpuId>,
}

/// Who described the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The Linux sysfs tree.
    Sysfs,
    /// The hwloc library.
    Hwloc,
    /// Nobody: one node of unrelated CPUs was assumed.
    Assumed {
        /// Why nothing better was to be had.
        reason: String,
    },
}

/// A memory node and the usable CPUs next to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The operating system's number; numbers may have holes.
    pub id: NodeId,
    /// Memory on this node, in bytes, used or not. `None` where nobody says.
    pub memory_bytes: Option<u64>,
    /// Its usable CPUs; empty for a node of memory alone.
    pub cpus: Vec<CpuId>,
}

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The node it belongs to.
    pub node: NodeId,
    /// Its usable CPUs: one, or several SMT siblings. Never empty.
    pub cpus: Vec<CpuId>,
}

/// A processor cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u8,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size in bytes.
    pub bytes: u64,
    /// The usable CPUs that share it. Never empty.
    pub cpus: Vec<CpuId>,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheKind {
    /// Data only.
    Data,
    /// Instructions only.
    Instruction,
    /// Both.
    Unified,
}

impl fmt::Display for CacheKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CacheKind::Data => "data",
            CacheKind::Instruction => "instruction",
            CacheKind::Unified => "unified",
        })
    }
}

/// Why a description of the machine could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A file that must be there is not, or may not be read.
    #[error("cannot read {path}: {reason}; the machine will have to be described without it", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// A file holds something else than the kernel writes there.
    #[error("{path} holds '{text}': expected {expected}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// No online CPU is among those this process may use.
    #[error(
        "no usable CPU: {online} online, {allowed} allowed to this process, none in both; check its affinity mask"
    )]
    NoCpu {
        /// How many are online.
        online: usize,
        /// How many the affinity mask names.
        allowed: usize,
    },
    /// The hwloc library gave up.
    #[error("hwloc cannot describe this machine: {reason}; use the sysfs reading instead")]
    Hwloc {
        /// The library's words.
        reason: String,
    },
}

impl Topology {
    /// Describes the running machine. Reads a few small files per CPU, so keep the answer: CPUs that
    /// come and go later are not followed. Never fails: see [`Topology::source`].
    pub fn detect() -> Topology {
        let allowed = allowed_cpus();
        Topology::from_sysfs(Path::new("/sys"), allowed.as_deref())
            .unwrap_or_else(|error| Topology::assumed(allowed, error.to_string()))
    }

    /// Describes the machine whose sysfs tree is mounted at `root`, less the CPUs not in `allowed`.
    ///
    /// # Errors
    /// A tree without `devices/system/cpu/online`, a file that holds something else than the kernel
    /// writes there, or no CPU left. Absent optional parts (nodes, caches, sibling lists) are no error.
    pub fn from_sysfs(root: &Path, allowed: Option<&[CpuId]>) -> Result<Topology, TopologyError> {
        sysfs::read(root, allowed)
    }

    /// Who described the machine.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Memory nodes, ascending. At least one.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes that have usable CPUs, ascending: where a copy of shared memory pays. At least one.
    pub fn worker_nodes(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|node| !node.cpus.is_empty()).map(|node| node.id).collect()
    }

    /// Physical cores, by their first CPU. At least one.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// Caches, by level, kind and first CPU. Empty where nobody says.
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    /// Usable CPUs, ascending. At least one.
    pub fn cpus(&self) -> &[CpuId] {
        &self.cpus
    }

    /// The node a usable CPU belongs to.
    pub fn node_of(&self, cpu: CpuId) -> Option<NodeId> {
        self.cores.iter().find(|core| core.cpus.contains(&cpu)).map(|core| core.node)
    }

    /// The CPUs to pin `count` workers to, best first: one per physical core before any SMT sibling,
    /// alternating between the nodes. No CPU is named twice, so the list is shorter than `count` when
    /// there are more workers than CPUs.
    pub fn worker_cpus(&self, count: usize) -> Vec<CpuId> {
        let mut order = Vec::with_capacity(self.cpus.len());
        let threads = self.cores.iter().map(|core| core.cpus.len()).max().unwrap_or(0);
        for sibling in 0..threads {
            let mut nodes: Vec<_> = self
                .nodes
                .iter()
                .map(|node| {
                    let cores = self.cores.iter().filter(|core| core.node == node.id);
                    cores.filter_map(move |core| core.cpus.get(sibling).copied())
                })
                .collect();
            loop {
                let before = order.len();
                order.extend(nodes.iter_mut().filter_map(Iterator::next));
                if order.len() == before {
                    break;
                }
            }
        }
        order.truncate(count);
        order
    }

    /// Where to pin so many workers, or one for each core where no number is asked for. More workers than CPUs
    /// are not pinned at all.
    pub fn pins(&self, count: Option<usize>) -> Vec<Option<CpuId>> {
        let count = count.unwrap_or(self.cores.len());
        if count > self.cpus.len() {
            return vec![None; count];
        }
        self.worker_cpus(count).into_iter().map(Some).collect()
    }

    /// Puts the parts in order. `cores` must not be empty.
    fn new(source: Source, mut nodes: Vec<Node>, mut cores: Vec<Core>, mut caches: Vec<Cache>) -> Topology {
        nodes.sort_by_key(|node| node.id);
        cores.sort_by(|a, b| a.cpus.cmp(&b.cpus));
        caches.sort_by(|a, b| (a.level, a.kind, &a.cpus).cmp(&(b.level, b.kind, &b.cpus)));
        let mut cpus: Vec<CpuId> = cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
        cpus.sort();
        Topology { source, nodes, cores, caches, cpus }
    }

    /// One node of unrelated CPUs.
    fn assumed(allowed: Option<Vec<CpuId>>, reason: String) -> Topology {
        let count = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let mut cpus =
            allowed.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| (0..count).map(CpuId).collect());
        cpus.sort();
        let cores = cpus.iter().map(|&cpu| Core { node: NodeId(0), cpus: vec![cpu] }).collect();
        let node = Node { id: NodeId(0), memory_bytes: None, cpus };
        Topology::new(Source::Assumed { reason }, vec![node], cores, Vec::new())
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (nodes, cores, cpus) = (self.nodes.len(), self.cores.len(), self.cpus.len());
        write!(f, "{nodes} node{}, {cores} core{}, {cpus} CPU{}", plural(nodes), plural(cores), plural(cpus))
    }
}

/// Pins the calling thread to one CPU. Threads it starts later inherit the pin.
///
/// # Errors
/// When the CPU is offline, not allowed to this process, or cannot be named to the operating system.
pub fn pin_current_thread(cpu: CpuId) -> std::io::Result<()> {
    // The largest set of CPUs that Linux takes without being asked for more.
    const NAMEABLE: u32 = 1024;
    if cpu.0 >= NAMEABLE {
        return Err(std::io::Error::other(format!("only CPUs below {NAMEABLE} can be named")));
    }
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu.0 as usize }) {
        Ok(())
    } else {
        Err(std::io::Error::other("the operating system refused"))
    }
}

/// The CPUs this thread may run on, or `None` where the operating system does not say.
#[cfg(target_os = "linux")]
fn allowed_cpus() -> Option<Vec<CpuId>> {
    use rustix::thread::CpuSet;
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    Some((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).map(|cpu| CpuId(cpu as u32)).collect())
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> Option<Vec<CpuId>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described_within_its_affinity_mask() {
        let topology = Topology::detect();
        assert!(!topology.cpus().is_empty());
        assert!(!topology.worker_nodes().is_empty());
        if let Some(allowed) = allowed_cpus() {
            assert!(topology.cpus().iter().all(|cpu| allowed.contains(cpu)));
        }
        for &cpu in topology.cpus() {
            assert!(topology.node_of(cpu).is_some(), "{cpu} belongs to no node");
        }
        let workers = topology.worker_cpus(usize::MAX);
        assert_eq!(workers.len(), topology.cpus().len());
    }

    #[test]
    fn an_assumed_machine_is_one_node_of_unrelated_cpus() {
        let topology = Topology::assumed(Some(vec![CpuId(7), CpuId(3)]), "no tree".to_owned());
        assert_eq!(topology.cpus(), [CpuId(3), CpuId(7)]);
        assert_eq!(topology.to_string(), "1 node, 2 cores, 2 CPUs");
        assert_eq!(topology.worker_cpus(1), [CpuId(3)]);
        assert!(matches!(topology.source(), Source::Assumed { .. }));
        assert!(!Topology::assumed(None, String::new()).cpus().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pinned_thread_sees_only_its_cpu() {
        let cpu = *Topology::detect().cpus().last().unwrap();
        std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            assert_eq!(Topology::detect().cpus(), [cpu]);
            assert!(pin_current_thread(CpuId(1_000_000)).is_err());
        })
        .join()
        .unwrap();
    }
}
