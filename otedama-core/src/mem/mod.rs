//! Large memory: zeroed, page-aligned, on huge pages and near the right processors where that can be had.
//!
//! ```text
//!   Region::new(bytes, &request)  ->  Region (writable, one owner)  ->  freeze()  ->  FrozenRegion (read-only, shared)
//!        1 GiB pages, else 2 MiB pages, else transparent ones, else plain
//! ```
//!
//! A region is never refused for want of huge pages or of a memory node: it falls to the next best and
//! keeps a [`Note`] of what it missed, so that a report can tell why hashing is slow. It is refused only
//! when there is no memory at all.
//!
//! Linux has all of this. Elsewhere a region is an ordinary allocation and freezing it is a promise of
//! the types alone. Source: the manual pages mmap(2), madvise(2), mbind(2), and the kernel's
//! `Documentation/admin-guide/mm/{hugetlbpage,transhuge}.rst`.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::topology::NodeId;

#[cfg(target_os = "linux")]
mod available;
#[cfg(target_os = "linux")]
pub mod exec;
#[cfg(any(test, not(target_os = "linux")))]
mod heap;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(target_os = "linux")]
mod numa;
mod pages;

pub use pages::{HugePool, PageKind, PageSet, SystemPages, TransparentMode};

#[cfg(not(target_os = "linux"))]
use heap as os;
#[cfg(target_os = "linux")]
use mapping as os;

/// What a region should be made of.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    /// The page kinds to try, largest first. A kind is skipped where the region is too short to be worth
    /// one of its pages: see [`PageKind::least_bytes`].
    pub pages: PageSet,
    /// The memory nodes to take pages from.
    pub policy: NodePolicy,
    /// Whether to fault ordinary pages in at once. Without it they come on first touch, which lets
    /// several threads share the work. Pages from a reserved pool are always faulted in.
    pub prefault: bool,
}

/// Which memory nodes a region's pages come from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NodePolicy {
    /// Wherever the kernel likes: usually next to the thread that touches a page first.
    #[default]
    Anywhere,
    /// On one node. Pages from a reserved pool come from there or not at all (smaller pages are tried
    /// next); ordinary pages spill to other nodes when this one is full, since the kernel would
    /// otherwise kill a process to make room.
    On(NodeId),
    /// Page by page in turn over these nodes.
    Interleaved(Vec<NodeId>),
}

impl fmt::Display for NodePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodePolicy::Anywhere => f.write_str("any node"),
            NodePolicy::On(node) => write!(f, "{node}"),
            NodePolicy::Interleaved(nodes) => {
                f.write_str("nodes ")?;
                for (index, node) in nodes.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { "," }, node.0)?;
                }
                f.write_str(" in turn")
            }
        }
    }
}

/// What a region did not get. Costs speed, never correctness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A page kind was tried and not to be had.
    PagesRefused {
        /// The kind.
        kind: PageKind,
        /// Why.
        reason: String,
    },
    /// Transparent huge pages were asked for, and back only a part of the region.
    PartlyHuge {
        /// Bytes on huge pages.
        huge_bytes: usize,
        /// Bytes in all.
        bytes: usize,
    },
    /// Transparent huge pages were asked for, and the kernel does not say whether they came.
    Unverified,
    /// The kernel would not bind the region.
    NodeRefused {
        /// What was asked.
        policy: NodePolicy,
        /// Why not.
        reason: String,
    },
    /// Pages lie on other nodes than asked.
    NodeMissed {
        /// The node asked for.
        node: NodeId,
        /// Pages looked at.
        sampled: usize,
        /// How many of them are elsewhere.
        elsewhere: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::PagesRefused { kind, reason } => write!(f, "no {kind}: {reason}"),
            Note::PartlyHuge { huge_bytes, bytes } => {
                write!(f, "transparent huge pages back {} of {} MiB", huge_bytes >> 20, bytes >> 20)
            }
            Note::Unverified => f.write_str("transparent huge pages asked for, not verified"),
            Note::NodeRefused { policy, reason } => write!(f, "not bound to {policy}: {reason}"),
            Note::NodeMissed { node, sampled, elsewhere } => {
                write!(f, "{elsewhere} of {sampled} sampled pages are not on {node}")
            }
        }
    }
}

/// Why there is no memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// A region of no bytes.
    #[error("a region of 0 bytes was asked for: expected at least 1")]
    Empty,
    /// More than can be addressed.
    #[error("a region of {bytes} bytes is longer than the address space: ask for less")]
    TooLong {
        /// Bytes wanted.
        bytes: usize,
    },
    /// There is less memory than the operating system would promise.
    #[error(
        "{bytes} bytes of memory are needed and {available} are available: free memory, raise the control group's limit, or set huge pages aside (vm.nr_hugepages)"
    )]
    Short {
        /// Bytes wanted.
        bytes: usize,
        /// Bytes there are.
        available: u64,
    },
    /// The operating system will not hand out the address range.
    #[error("cannot map {bytes} bytes: {reason}; free memory, or raise the process's memory limit")]
    Map {
        /// Bytes wanted.
        bytes: usize,
        /// The operating system's words.
        reason: String,
    },
    /// The range is there and the pages are not.
    #[error("cannot fault in {bytes} bytes: {reason}; free memory, or raise the control group's limit")]
    Fault {
        /// Bytes wanted.
        bytes: usize,
        /// The operating system's words.
        reason: String,
    },
    /// The region could not be made read-only.
    #[error("cannot make {bytes} bytes read-only: {reason}; raise vm.max_map_count")]
    Protect {
        /// Bytes wanted.
        bytes: usize,
        /// The operating system's words.
        reason: String,
    },
}

impl MemError {
    /// Whether the same request may succeed later, when others have released memory.
    pub fn is_retryable(&self) -> bool {
        match self {
            MemError::Empty | MemError::TooLong { .. } => false,
            MemError::Short { .. }
            | MemError::Map { .. }
            | MemError::Fault { .. }
            | MemError::Protect { .. } => true,
        }
    }
}

/// What the running machine offers, for reports. Reads a handful of small files.
pub fn system_pages() -> SystemPages {
    os::system_pages()
}

/// Whether so many bytes of ordinary memory, not yet touched, can be touched without the kernel killing a
/// process or swapping. For a moment: nothing is set aside. A region asks this for itself; ask again for the
/// sum of several. Pages of a reserved pool are not ordinary memory. Reads a handful of small files.
///
/// # Errors
/// [`MemError::Short`]; never where the operating system does not say.
pub fn afford(bytes: usize) -> Result<(), MemError> {
    match os::available() {
        Some(available) if available < bytes as u64 => Err(MemError::Short { bytes, available }),
        _ => Ok(()),
    }
}

/// Zeroed, page-aligned, writable memory with one owner. Released when dropped.
#[derive(Debug)]
pub struct Region {
    mapping: os::Mapping,
    len: usize,
    policy: NodePolicy,
    notes: Vec<Note>,
}

impl Region {
    /// Gets `len` bytes, all zero. Huge pages from a reserved pool, and all pages if the request says so,
    /// are faulted in here, by this thread, at some GiB per second where the machine has touched them before.
    ///
    /// # Errors
    /// [`MemError`], when `len` is zero or there is no memory of any kind.
    pub fn new(len: usize, request: &Request) -> Result<Region, MemError> {
        if len == 0 {
            return Err(MemError::Empty);
        }
        if len > isize::MAX as usize {
            return Err(MemError::TooLong { bytes: len });
        }
        let (mapping, notes) = os::Mapping::new(len, request)?;
        Ok(Region { mapping, len, policy: request.policy.clone(), notes })
    }

    /// The pages behind it. [`PageKind::Transparent`] is checked when pages are faulted in at creation and
    /// again by [`Region::freeze`]; between the two it says what was asked.
    pub fn pages(&self) -> PageKind {
        self.mapping.kind()
    }

    /// Bytes of address space and, once touched, of memory: the length, rounded up to whole pages.
    pub fn mapped_bytes(&self) -> usize {
        self.mapping.len()
    }

    /// What it did not get.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Makes it read-only for good: on Linux a stray write from anywhere in the process then faults. Also
    /// looks where the pages ended up, now that they are filled.
    ///
    /// # Errors
    /// [`MemError::Protect`]; the region is gone then.
    pub fn freeze(mut self) -> Result<FrozenRegion, MemError> {
        self.notes.retain(|note| {
            !matches!(note, Note::PartlyHuge { .. } | Note::NodeMissed { .. } | Note::Unverified)
        });
        self.mapping.inspect(&self.policy, &mut self.notes);
        self.mapping.protect()?;
        Ok(FrozenRegion { region: self })
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping owns at least `len` bytes, zeroed when it was made, readable as long as it
        // lives; `&self` keeps `deref_mut` away meanwhile.
        unsafe { std::slice::from_raw_parts(self.mapping.start().as_ptr(), self.len) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable: only `freeze` takes that away, and it keeps the region inside a
        // `FrozenRegion`, which never borrows it mutably. `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.start().as_ptr(), self.len) }
    }
}

/// A region that nobody can write to any more. Share it behind an [`Arc`](std::sync::Arc).
#[derive(Debug)]
pub struct FrozenRegion {
    region: Region,
}

impl FrozenRegion {
    /// The pages behind it, as found when it was frozen.
    pub fn pages(&self) -> PageKind {
        self.region.pages()
    }

    /// Bytes of memory: the length, rounded up to whole pages.
    pub fn mapped_bytes(&self) -> usize {
        self.region.mapped_bytes()
    }

    /// What it did not get.
    pub fn notes(&self) -> &[Note] {
        self.region.notes()
    }
}

impl Deref for FrozenRegion {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.region
    }
}

#[cfg(test)]
mod tests;
