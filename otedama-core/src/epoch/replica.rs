//! Copies of a part of an epoch, one per memory node or one for all.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::EpochError;
use crate::mem::{self, FrozenRegion, NodePolicy, PageKind, PageSet, Region, Request};
use crate::topology::NodeId;

/// Where the memory of an epoch goes. With one node all of them mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// A copy on every node, built once and copied: the fastest, and the most memory.
    #[default]
    Replicate,
    /// One copy, page by page in turn over the nodes: every worker is equally far from it on average.
    Interleave,
    /// One copy on one node.
    Node(NodeId),
}

/// One part of an epoch: read-only copies with the same bytes.
#[derive(Debug)]
pub struct Replicas {
    copies: Vec<Replica>,
    // Dropped after the copies, so that bytes are counted until they are unmapped.
    charge: Charge,
}

/// One copy.
#[derive(Debug)]
pub struct Replica {
    /// The node it was meant for, where it was meant for one. [`FrozenRegion::notes`] says whether it got there.
    pub node: Option<NodeId>,
    /// The bytes.
    pub region: FrozenRegion,
}

impl Replicas {
    /// The copy for workers on a node: its own, or the first where it has none.
    pub fn view(&self, node: NodeId) -> &[u8] {
        &self.copies.iter().find(|copy| copy.node == Some(node)).unwrap_or(&self.copies[0]).region
    }

    /// Every copy, for reports and tests. At least one.
    pub fn copies(&self) -> &[Replica] {
        &self.copies
    }

    /// The bytes this part takes from the store's budget: its length times the number of copies.
    pub fn held_bytes(&self) -> u64 {
        self.charge.bytes
    }

    /// Makes the copies `layout` asks for: `fill` writes the first, the others are copied from it. All
    /// memory is mapped before anything is built.
    pub(super) fn build(
        bytes: usize,
        layout: &[NodePolicy],
        pages: PageSet,
        charge: Charge,
        fill: impl FnOnce(&mut [u8]) -> Result<(), EpochError>,
    ) -> Result<Replicas, EpochError> {
        let map = |policy: &NodePolicy| {
            Region::new(bytes, &Request { pages, policy: policy.clone(), prefault: false })
        };
        let mut regions = layout.iter().map(map).collect::<Result<Vec<_>, _>>()?;
        // Each region fits by itself; those of ordinary memory must fit together.
        let ordinary = |region: &&Region| matches!(region.pages(), PageKind::Transparent | PageKind::Plain);
        mem::afford(regions.iter().filter(ordinary).map(Region::mapped_bytes).sum())?;
        // `layout` is never empty: see `layout` below.
        let (first, rest) = regions.split_first_mut().expect("a layout has at least one copy");
        fill(first)?;
        let first: &[u8] = first;
        thread::scope(|scope| {
            for copy in rest {
                scope.spawn(|| copy.copy_from_slice(first));
            }
        });
        let freeze = |(region, policy): (Region, &NodePolicy)| {
            let node = if let NodePolicy::On(node) = policy { Some(*node) } else { None };
            Ok(Replica { node, region: region.freeze()? })
        };
        let copies = regions.into_iter().zip(layout).map(freeze).collect::<Result<Vec<_>, EpochError>>()?;
        Ok(Replicas { copies, charge })
    }
}

/// The memory of each copy that a placement over these nodes asks for. At least one.
pub(super) fn layout(placement: Placement, nodes: &[NodeId]) -> Vec<NodePolicy> {
    match placement {
        // The only node needs no binding, and a sandbox that forbids binding no excuse.
        Placement::Node(node) if nodes == [node] => vec![NodePolicy::Anywhere],
        Placement::Node(node) => vec![NodePolicy::On(node)],
        _ if nodes.len() < 2 => vec![NodePolicy::Anywhere],
        Placement::Replicate => nodes.iter().copied().map(NodePolicy::On).collect(),
        Placement::Interleave => vec![NodePolicy::Interleaved(nodes.to_vec())],
    }
}

/// The bytes all epochs of a store may hold, counted from reservation until the memory is unmapped,
/// whoever holds it.
#[derive(Debug)]
pub(super) struct Ledger {
    budget: u64,
    held: AtomicU64,
}

/// Bytes reserved from a [`Ledger`]; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Ledger {
    pub(super) fn new(budget: u64) -> Arc<Ledger> {
        Arc::new(Ledger { budget, held: AtomicU64::new(0) })
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// Reserves bytes, or returns `None` where the budget does not allow them.
    pub(super) fn charge(self: &Arc<Ledger>, bytes: u64) -> Option<Charge> {
        let more = |held: u64| held.checked_add(bytes).filter(|&held| held <= self.budget);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Charge { ledger: Arc::clone(self), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_is_one_unbound_copy_whatever_the_placement() {
        for nodes in [&[][..], &[NodeId(3)][..]] {
            for placement in [Placement::Replicate, Placement::Interleave] {
                assert_eq!(layout(placement, nodes), [NodePolicy::Anywhere]);
            }
        }
        assert_eq!(layout(Placement::Node(NodeId(3)), &[NodeId(3)]), [NodePolicy::Anywhere]);
        assert_eq!(layout(Placement::Node(NodeId(1)), &[NodeId(3)]), [NodePolicy::On(NodeId(1))]);
        let two = [NodeId(0), NodeId(4)];
        assert_eq!(layout(Placement::Replicate, &two), two.map(NodePolicy::On));
        assert_eq!(layout(Placement::Interleave, &two), [NodePolicy::Interleaved(two.to_vec())]);
    }

    #[test]
    fn the_ledger_never_exceeds_its_budget_and_gets_everything_back() {
        let ledger = Ledger::new(100);
        let first = ledger.charge(60).unwrap();
        assert!(ledger.charge(41).is_none());
        assert!(ledger.charge(u64::MAX).is_none());
        let second = ledger.charge(40).unwrap();
        assert_eq!(ledger.held(), 100);
        drop((first, second));
        assert_eq!(ledger.held(), 0);
    }
}
