//! The sysfs reading: `devices/system/cpu` for cores and caches, `devices/system/node` for memory.
//!
//! The kernel's files hold one number, one word, or a list such as `0-3,8,10-11`. A missing file is
//! normal (an offline CPU has no `topology`, a kernel without NUMA has no `node`) and costs only the
//! part it describes; a file that holds something else is an error that names it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::{Cache, CacheKind, Core, CpuId, Node, NodeId, Source, Topology, TopologyError};

/// Numbers above this are taken for damage: the kernel's own limit is 8192 CPUs.
const HIGHEST_ID: u32 = 65_535;

const LIST: &str = "a list of numbers such as 0-3,8";

pub(super) fn read(root: &Path, allowed: Option<&[CpuId]>) -> Result<Topology, TopologyError> {
    let cpu_dir = root.join("devices/system/cpu");
    let online_path = cpu_dir.join("online");
    let online = ids(&online_path)?
        .ok_or_else(|| TopologyError::Unreadable { path: online_path, reason: "no such file".to_owned() })?;
    let usable: Vec<u32> =
        online.iter().copied().filter(|&cpu| allowed.is_none_or(|list| list.contains(&CpuId(cpu)))).collect();
    if usable.is_empty() {
        return Err(TopologyError::NoCpu { online: online.len(), allowed: allowed.map_or(0, <[_]>::len) });
    }

    let nodes = nodes(&root.join("devices/system/node"), &usable)?;
    let mut cores = BTreeMap::new();
    let mut caches = BTreeMap::new();
    for &cpu in &usable {
        let dir = cpu_dir.join(format!("cpu{cpu}"));
        let siblings = siblings(&dir, cpu)?;
        let node = nodes.iter().find(|node| node.cpus.contains(&CpuId(cpu))).unwrap_or(&nodes[0]).id;
        cores.entry(siblings.clone()).or_insert_with(|| Core { node, cpus: keep(&siblings, &usable) });
        for index in 0.. {
            let dir = dir.join(format!("cache/index{index}"));
            if !dir.is_dir() {
                break;
            }
            if let Some((key, cache)) = cache(&dir, cpu, &usable)? {
                caches.entry(key).or_insert(cache);
            }
        }
    }
    Ok(Topology::new(Source::Sysfs, nodes, cores.into_values().collect(), caches.into_values().collect()))
}

/// The memory nodes, never none: usable CPUs that no node claims go to the first one.
fn nodes(dir: &Path, usable: &[u32]) -> Result<Vec<Node>, TopologyError> {
    let mut nodes = Vec::new();
    for id in ids(&dir.join("online"))?.unwrap_or_default() {
        let dir = dir.join(format!("node{id}"));
        let cpus = keep(&ids(&dir.join("cpulist"))?.unwrap_or_default(), usable);
        nodes.push(Node { id: NodeId(id), memory_bytes: memory_bytes(&dir.join("meminfo"))?, cpus });
    }
    if nodes.is_empty() {
        nodes.push(Node { id: NodeId(0), memory_bytes: None, cpus: Vec::new() });
    }
    let claimed = |cpu: &CpuId| nodes.iter().any(|node| node.cpus.contains(cpu));
    let stray: Vec<CpuId> = usable.iter().copied().map(CpuId).filter(|cpu| !claimed(cpu)).collect();
    nodes[0].cpus.extend(stray);
    nodes[0].cpus.sort();
    Ok(nodes)
}

/// `Node 0 MemTotal:       24677528 kB`
fn memory_bytes(path: &Path) -> Result<Option<u64>, TopologyError> {
    let Some(text) = text(path)? else { return Ok(None) };
    let Some(line) = text.lines().find(|line| line.contains("MemTotal:")) else { return Ok(None) };
    let kib = line.split_whitespace().rev().nth(1).and_then(|number| number.parse::<u64>().ok());
    match kib.and_then(|kib| kib.checked_mul(1024)) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(malformed(path, line, "a MemTotal line in kB")),
    }
}

/// The CPUs of one core, by the current name of the file, its older name, or the CPU alone.
fn siblings(dir: &Path, cpu: u32) -> Result<Vec<u32>, TopologyError> {
    for name in ["topology/core_cpus_list", "topology/thread_siblings_list"] {
        if let Some(list) = ids(&dir.join(name))?.filter(|list| list.contains(&cpu)) {
            return Ok(list);
        }
    }
    Ok(vec![cpu])
}

/// What tells one cache from another: CPUs that may not be used count here.
type CacheKey = (u8, CacheKind, Vec<u32>);

/// One cache of one CPU, or `None` where the kernel does not know its size.
fn cache(dir: &Path, cpu: u32, usable: &[u32]) -> Result<Option<(CacheKey, Cache)>, TopologyError> {
    let (level_path, kind_path, size_path) = (dir.join("level"), dir.join("type"), dir.join("size"));
    let (Some(level), Some(kind), Some(size)) = (text(&level_path)?, text(&kind_path)?, text(&size_path)?)
    else {
        return Ok(None);
    };
    let level = level.parse::<u8>().map_err(|_| malformed(&level_path, &level, "a cache level"))?;
    let kind = match kind.as_str() {
        "Data" => CacheKind::Data,
        "Instruction" => CacheKind::Instruction,
        "Unified" => CacheKind::Unified,
        _ => return Err(malformed(&kind_path, &kind, "one of Data, Instruction, Unified")),
    };
    let bytes = size_bytes(&size).ok_or_else(|| malformed(&size_path, &size, "a size such as 48K"))?;
    let shared = ids(&dir.join("shared_cpu_list"))?.filter(|list| list.contains(&cpu));
    let shared = shared.unwrap_or_else(|| vec![cpu]);
    let cpus = keep(&shared, usable);
    Ok(Some(((level, kind, shared), Cache { level, kind, bytes, cpus })))
}

fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn keep(list: &[u32], usable: &[u32]) -> Vec<CpuId> {
    list.iter().filter(|cpu| usable.contains(cpu)).map(|&cpu| CpuId(cpu)).collect()
}

/// The numbers in a list file, ascending, or `None` if there is no such file. An empty file is an empty list.
fn ids(path: &Path) -> Result<Option<Vec<u32>>, TopologyError> {
    let Some(text) = text(path)? else { return Ok(None) };
    match parse_ids(&text) {
        Some(ids) => Ok(Some(ids)),
        None => Err(malformed(path, &text, LIST)),
    }
}

fn parse_ids(text: &str) -> Option<Vec<u32>> {
    let mut ids = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last > HIGHEST_ID {
            return None;
        }
        ids.extend(first..=last);
    }
    ids.sort();
    ids.dedup();
    Some(ids)
}

/// A file's text without the newline at its end, or `None` if there is no such file.
fn text(path: &Path) -> Result<Option<String>, TopologyError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(TopologyError::Unreadable { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn malformed(path: &Path, text: &str, expected: &'static str) -> TopologyError {
    let text = text.chars().take(80).collect();
    TopologyError::Malformed { path: path.to_owned(), text, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A sysfs tree in a folder of its own, gone with the value.
    struct Tree(PathBuf);

    impl Tree {
        fn new() -> Tree {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let root = std::env::temp_dir().join(format!("otedama-sysfs-{}-{count}", std::process::id()));
            std::fs::create_dir_all(&root).unwrap();
            Tree(root)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join("devices/system").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }

        fn read(&self) -> Result<Topology, TopologyError> {
            Topology::from_sysfs(&self.0, None)
        }

        /// Two nodes (0 and 2: a hole) of four cores with two siblings each, sixteen CPUs, of which 3 and
        /// 13 are offline; siblings are eight apart; node 4 has memory and no CPU.
        fn two_nodes() -> Tree {
            let tree = Tree::new();
            tree.put("cpu/online", "0-2,4-12,14-15");
            tree.put("node/online", "0,2,4");
            for (node, list) in [(0, "0-2,8-11"), (2, "4-7,12,14-15"), (4, "")] {
                tree.put(&format!("node/node{node}/cpulist"), list);
                let meminfo =
                    format!("Node {node} MemTotal:   {} kB\nNode {node} MemFree: 1 kB", (node + 1) << 20);
                tree.put(&format!("node/node{node}/meminfo"), &meminfo);
            }
            for cpu in (0..16).filter(|&cpu| cpu != 3 && cpu != 13) {
                let core = cpu % 8;
                let siblings = match core {
                    3 => "11".to_owned(),
                    5 => "5".to_owned(),
                    _ => format!("{core},{}", core + 8),
                };
                // Half of the machine as an old kernel would put it.
                let name = if core < 4 { "core_cpus_list" } else { "thread_siblings_list" };
                tree.put(&format!("cpu/cpu{cpu}/topology/{name}"), &siblings);
                let node = if core < 4 { "0-2,8-11" } else { "4-7,12,14-15" };
                for (index, level, kind, size, shared) in [
                    (0, 1, "Data", "48K", siblings.as_str()),
                    (1, 1, "Instruction", "32K", siblings.as_str()),
                    (2, 2, "Unified", "1280K", siblings.as_str()),
                    (3, 3, "Unified", "32M", node),
                ] {
                    let dir = format!("cpu/cpu{cpu}/cache/index{index}");
                    tree.put(&format!("{dir}/level"), &level.to_string());
                    tree.put(&format!("{dir}/type"), kind);
                    tree.put(&format!("{dir}/size"), size);
                    tree.put(&format!("{dir}/shared_cpu_list"), shared);
                }
            }
            tree
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn cpus(list: &[u32]) -> Vec<CpuId> {
        list.iter().map(|&cpu| CpuId(cpu)).collect()
    }

    #[test]
    fn two_nodes_with_holes_and_offline_cpus() {
        let topology = Tree::two_nodes().read().unwrap();
        assert_eq!(topology.source(), &Source::Sysfs);
        assert_eq!(topology.to_string(), "3 nodes, 8 cores, 14 CPUs");
        assert_eq!(topology.nodes()[0].cpus, cpus(&[0, 1, 2, 8, 9, 10, 11]));
        assert_eq!(topology.nodes()[1].memory_bytes, Some(3 << 30));
        assert_eq!(topology.nodes()[2].cpus, []);
        assert_eq!(topology.worker_nodes(), [NodeId(0), NodeId(2)]);
        assert_eq!(topology.node_of(CpuId(14)), Some(NodeId(2)));
        assert_eq!(topology.node_of(CpuId(13)), None);
        let third: Vec<_> = topology.caches().iter().filter(|cache| cache.level == 3).collect();
        assert_eq!(third.len(), 2);
        assert_eq!((third[0].bytes, third[0].kind), (32 << 20, CacheKind::Unified));
        assert_eq!(topology.caches().len(), 3 * 8 + 2);
    }

    #[test]
    fn workers_get_cores_before_siblings_and_alternate_between_nodes() {
        let topology = Tree::two_nodes().read().unwrap();
        let order = topology.worker_cpus(usize::MAX);
        assert_eq!(order, cpus(&[0, 4, 1, 5, 2, 6, 11, 7, 8, 12, 9, 14, 10, 15]));
        assert_eq!(topology.worker_cpus(3), cpus(&[0, 4, 1]));
        assert_eq!(topology.worker_cpus(0), []);
    }

    #[test]
    fn the_affinity_mask_takes_cpus_away() {
        let tree = Tree::two_nodes();
        let allowed = cpus(&[3, 9, 12, 14, 99]);
        let topology = Topology::from_sysfs(&tree.0, Some(&allowed)).unwrap();
        assert_eq!(topology.cpus(), cpus(&[9, 12, 14]));
        assert_eq!(topology.cores().len(), 3);
        assert_eq!(topology.nodes()[0].cpus, cpus(&[9]));
        assert!(topology.caches().iter().all(|cache| cache.cpus.iter().all(|cpu| allowed.contains(cpu))));
        let none = Topology::from_sysfs(&tree.0, Some(&cpus(&[3, 13]))).unwrap_err();
        assert_eq!(none, TopologyError::NoCpu { online: 14, allowed: 2 });
    }

    #[test]
    fn a_kernel_that_says_little_gives_one_node_of_single_cores() {
        let tree = Tree::new();
        tree.put("cpu/online", "0-1");
        let topology = tree.read().unwrap();
        assert_eq!(topology.to_string(), "1 node, 2 cores, 2 CPUs");
        assert_eq!(topology.nodes()[0].memory_bytes, None);
        assert!(topology.caches().is_empty());
    }

    #[test]
    fn malformed_files_are_named() {
        for (path, text) in [
            ("cpu/online", "0-3,banana"),
            ("cpu/online", "3-0"),
            ("cpu/online", "0-4294967295"),
            ("cpu/online", "0,,1"),
            ("node/online", "-1"),
            ("node/node0/meminfo", "Node 0 MemTotal: lots kB"),
            ("node/node0/meminfo", "Node 0 MemTotal: 18446744073709551615 kB"),
            ("cpu/cpu0/topology/core_cpus_list", "0:1"),
            ("cpu/cpu0/cache/index0/level", "256"),
            ("cpu/cpu0/cache/index0/type", "Trace"),
            ("cpu/cpu0/cache/index0/size", "48Q"),
        ] {
            let tree = Tree::two_nodes();
            tree.put(path, text);
            let error = tree.read().expect_err(text).to_string();
            assert!(error.contains(path), "{error}");
            assert!(error.contains("expected"), "{error}");
        }
        let missing = Tree::new().read().unwrap_err();
        assert!(matches!(missing, TopologyError::Unreadable { .. }), "{missing}");
    }

    #[test]
    fn lists_that_leave_their_own_cpu_out_are_not_believed() {
        let tree = Tree::two_nodes();
        tree.put("cpu/cpu0/topology/core_cpus_list", "1,9");
        let topology = tree.read().unwrap();
        assert!(topology.cores().iter().any(|core| core.cpus == cpus(&[0])));
    }
}
