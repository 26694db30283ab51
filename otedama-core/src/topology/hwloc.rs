//! The same description through the hwloc library, which knows more operating systems and the
//! corrections for machines whose firmware misreports itself. Feature `hwloc`.

#![forbid(unsafe_code)]

use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::{CacheType, ObjectType};
use hwlocality::topology::builder::TypeFilter;

use super::{Cache, CacheKind, Core, CpuId, Node, NodeId, Source, Topology, TopologyError};

/// Describes the running machine as [`Topology::detect`] does: online CPUs that this process may use.
/// The library's own discovery takes some milliseconds.
///
/// # Errors
/// [`TopologyError::Hwloc`] with the library's words, or [`TopologyError::NoCpu`].
pub fn detect() -> Result<Topology, TopologyError> {
    let machine = hwlocality::Topology::builder()
        .with_cpu_icache_type_filter(TypeFilter::KeepAll)
        .and_then(|builder| builder.build())
        .map_err(|error| TopologyError::Hwloc { reason: error.to_string() })?;
    let allowed = super::allowed_cpus();
    let cpus = |object: &TopologyObject| -> Vec<CpuId> {
        let set = object.cpuset();
        let ids = set.iter().flat_map(|set| set.iter_set()).map(|index| CpuId(usize::from(index) as u32));
        ids.filter(|cpu| allowed.as_ref().is_none_or(|list| list.contains(cpu))).collect()
    };

    let nodes: Vec<Node> = machine
        .objects_with_type(ObjectType::NUMANode)
        .map(|object| Node {
            id: NodeId(object.os_index().unwrap_or(0) as u32),
            memory_bytes: match object.attributes() {
                Some(ObjectAttributes::NUMANode(node)) => node.local_memory().map(u64::from),
                _ => None,
            },
            cpus: cpus(object),
        })
        .collect();
    let cores: Vec<Core> = machine
        .objects_with_type(ObjectType::Core)
        .map(&cpus)
        .filter(|cpus| !cpus.is_empty())
        .map(|cpus| {
            let node = nodes.iter().find(|node| node.cpus.contains(&cpus[0]));
            Core { node: node.map_or(NodeId(0), |node| node.id), cpus }
        })
        .collect();
    if cores.is_empty() {
        let online = machine.objects_with_type(ObjectType::PU).count();
        return Err(TopologyError::NoCpu { online, allowed: allowed.map_or(0, |list| list.len()) });
    }
    let caches = machine
        .normal_objects()
        .filter_map(|object| match object.attributes() {
            Some(ObjectAttributes::Cache(cache)) => Some(Cache {
                level: u8::try_from(cache.depth()).ok()?,
                kind: match cache.cache_type() {
                    CacheType::Data => CacheKind::Data,
                    CacheType::Instruction => CacheKind::Instruction,
                    _ => CacheKind::Unified,
                },
                bytes: cache.size()?.get(),
                cpus: cpus(object),
            }),
            _ => None,
        })
        .filter(|cache| !cache.cpus.is_empty())
        .collect();
    Ok(Topology::new(Source::Hwloc, nodes, cores, caches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hwloc_and_sysfs_describe_the_same_machine() {
        let (ours, theirs) = (Topology::detect(), detect().unwrap());
        assert_eq!(theirs.source(), &Source::Hwloc);
        assert_eq!(ours.cpus(), theirs.cpus());
        assert_eq!(ours.nodes(), theirs.nodes());
        assert_eq!(ours.cores(), theirs.cores());
        assert_eq!(ours.caches(), theirs.caches());
    }
}
