//! Anonymous mappings: the Linux side of a region.
//!
//! Huge pages come from the kernel's reserved pools. Mapping them sets the pages aside, so an empty pool
//! fails here and not on first touch; but that promise is for the machine as a whole, and a mapping
//! bound to one node, or limited by a control group, could still be killed by SIGBUS later. Therefore
//! pool pages are always faulted in at once by `MADV_POPULATE_WRITE`, which returns an error where a
//! touch would raise the signal.
//!
//! Ordinary memory lies between two stretches that may not be touched:
//!
//! ```text
//!   span   | no access ..... | region, aligned, whole pages | no access ... |
//! ```
//!
//! so that an overrun faults, and so that the kernel never merges the region with a neighbour, whose
//! huge pages would then be counted as ours.

use std::ffi::c_void;
use std::io;
use std::path::Path;
use std::ptr::{NonNull, null_mut};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use super::numa::{self, Bind};
use super::{
    MemError, NodePolicy, Note, PageKind, PageSet, Request, SystemPages, TransparentMode, available,
};

/// Memory that is mapped, readable, and writable until [`Mapping::protect`]; unmapped with the value.
#[derive(Debug)]
pub(super) struct Mapping {
    /// Everything mapped, guards included.
    span: NonNull<c_void>,
    span_len: usize,
    start: NonNull<u8>,
    len: usize,
    kind: PageKind,
}

// SAFETY: the mapping is owned memory that no thread-local state refers to; whoever holds the value may
// access it, under the borrow rules that `Region` and `FrozenRegion` impose.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out a pointer and never writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps at least `len` zeroed bytes with the best pages the request allows and the machine has.
    pub(super) fn new(len: usize, request: &Request) -> Result<(Mapping, Vec<Note>), MemError> {
        let mut notes = Vec::new();
        for kind in [PageKind::Huge1G, PageKind::Huge2M] {
            if request.pages.suits(kind, len) {
                match Mapping::pool(len, kind, &request.policy, &mut notes) {
                    Ok(mapping) => return Ok((mapping, notes)),
                    Err(reason) => notes.push(Note::PagesRefused { kind, reason }),
                }
            }
        }
        let mapping = Mapping::ordinary(len, request, &mut notes)?;
        Ok((mapping, notes))
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes mapped, at least the length asked for.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn kind(&self) -> PageKind {
        self.kind
    }

    /// Takes the right to write away, for good.
    pub(super) fn protect(&self) -> Result<(), MemError> {
        // SAFETY: the range is the one this value mapped. The caller consumed the only handle that
        // gives out `&mut` access, so no live reference expects to write.
        unsafe { mprotect(self.start.as_ptr().cast(), self.len, MprotectFlags::READ) }
            .map_err(|errno| MemError::Protect { bytes: self.len, reason: words(errno) })
    }

    /// Looks where the pages really are, once they are in use: corrects [`Mapping::kind`] and notes
    /// what fell short. Costs a walk over the process's own mappings.
    pub(super) fn inspect(&mut self, policy: &NodePolicy, notes: &mut Vec<Note>) {
        if self.kind == PageKind::Transparent {
            match self.transparent_bytes() {
                Some(0) => {
                    self.kind = PageKind::Plain;
                    notes.push(Note::PartlyHuge { huge_bytes: 0, bytes: self.len });
                }
                Some(huge_bytes) if huge_bytes < self.len => {
                    notes.push(Note::PartlyHuge { huge_bytes, bytes: self.len });
                }
                Some(_) => {}
                None => notes.push(Note::Unverified),
            }
        }
        if let NodePolicy::On(node) = *policy {
            let step = (self.len / SAMPLES).max(1);
            let nodes = (0..self.len).step_by(step).filter_map(|offset| {
                // `offset` is below `self.len`, so the address stays inside the mapping.
                numa::node_of(self.start.as_ptr().wrapping_add(offset).cast())
            });
            let (mut sampled, mut elsewhere) = (0, 0);
            for found in nodes {
                sampled += 1;
                elsewhere += usize::from(found != node);
            }
            if elsewhere > 0 {
                notes.push(Note::NodeMissed { node, sampled, elsewhere });
            }
        }
    }

    /// Bytes now backed by transparent huge pages, or `None` where the kernel does not say.
    fn transparent_bytes(&self) -> Option<usize> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let heading = format!("{:x}-", self.start.addr());
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&heading));
        let line = lines.find(|line| line.starts_with("AnonHugePages:"))?;
        let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    }

    /// Pages from a reserved pool, all faulted in; or the reason why not.
    fn pool(
        len: usize,
        kind: PageKind,
        policy: &NodePolicy,
        notes: &mut Vec<Note>,
    ) -> Result<Mapping, String> {
        let (page, flag) = match kind {
            PageKind::Huge1G => (1 << 30, MapFlags::HUGE_1GB),
            _ => (2 << 20, MapFlags::HUGE_2MB),
        };
        let len = len.checked_next_multiple_of(page).ok_or("longer than the address space")?;
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | flag;
        let mapping = Mapping::map(len, ProtFlags::READ | ProtFlags::WRITE, flags, kind).map_err(
            |errno| match errno {
                Errno::NOMEM => format!("the pool has fewer than {} pages to spare", len / page),
                Errno::INVAL => "this machine has no such pages".to_owned(),
                other => words(other),
            },
        )?;
        // Strict: better smaller pages on the right node than large ones across the interconnect.
        mapping.bind(policy, Bind::Strict, notes);
        match mapping.populate() {
            Ok(()) => Ok(mapping),
            Err(Errno::INVAL) => {
                // Before Linux 5.14 only a touch faults pages in. The promise made when mapping covers
                // any node's pages, so the touch is safe once the node is a wish and not a condition.
                mapping.bind(policy, Bind::Preferred, notes);
                mapping.touch();
                Ok(mapping)
            }
            Err(errno) => Err(format!("the pages were promised but not delivered ({})", words(errno))),
        }
    }

    /// Ordinary memory, with huge pages advised where the request and the machine allow them.
    fn ordinary(len: usize, request: &Request, notes: &mut Vec<Note>) -> Result<Mapping, MemError> {
        let refused = |errno| MemError::Map { bytes: len, reason: words(errno) };
        super::afford(len)?;
        let page = rustix::param::page_size();
        let huge = transparent(len, request.pages, notes);
        let align = huge.unwrap_or(page);
        let len = len.checked_next_multiple_of(align).ok_or(MemError::TooLong { bytes: len })?;
        let span = align.checked_mul(2).and_then(|guards| guards.checked_add(len));
        let span = span.ok_or(MemError::TooLong { bytes: len })?;
        let kind = if huge.is_some() { PageKind::Transparent } else { PageKind::Plain };
        let mut mapping = Mapping::map(span, ProtFlags::empty(), MapFlags::PRIVATE, kind).map_err(refused)?;

        // The first aligned address that leaves a page in front is at most `align` into the span, so at
        // least `align` bytes stay behind as well.
        let base = mapping.start.addr().get();
        let offset = (base + page).next_multiple_of(align) - base;
        // SAFETY: offset <= align < span, so the result stays inside the mapping just made.
        mapping.start = unsafe { mapping.start.add(offset) };
        mapping.len = len;
        let start: *mut c_void = mapping.start.as_ptr().cast();
        // SAFETY: start and len are whole pages inside the mapping just made, which nobody else knows.
        unsafe { mprotect(start, len, MprotectFlags::READ | MprotectFlags::WRITE) }.map_err(refused)?;

        // Preferred: when the node is full, distant memory is slow, but a strict binding would have the
        // kernel kill a process to make room.
        mapping.bind(&request.policy, Bind::Preferred, notes);
        let advice = if huge.is_some() { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: as above; this advice changes page sizes, never contents.
        let advised = unsafe { madvise(start, len, advice) };
        if let (PageKind::Transparent, Err(errno)) = (kind, advised) {
            notes.push(Note::PagesRefused { kind, reason: words(errno) });
            mapping.kind = PageKind::Plain;
        }
        if request.prefault {
            match mapping.populate() {
                Ok(()) => {}
                Err(Errno::INVAL) => mapping.touch(),
                Err(errno) => return Err(MemError::Fault { bytes: len, reason: words(errno) }),
            }
            mapping.inspect(&request.policy, notes);
        }
        Ok(mapping)
    }

    fn map(len: usize, access: ProtFlags, flags: MapFlags, kind: PageKind) -> Result<Mapping, Errno> {
        // SAFETY: a null hint without MAP_FIXED makes the kernel choose a free range, so no existing
        // mapping changes.
        let base = unsafe { mmap_anonymous(null_mut(), len, access, flags) }?;
        // The kernel hands out address zero only under MAP_FIXED.
        let span = NonNull::new(base).ok_or(Errno::NOMEM)?;
        Ok(Mapping { span, span_len: len, start: span.cast(), len, kind })
    }

    /// Binds pages yet to come; a refusal is noted and costs speed only.
    fn bind(&self, policy: &NodePolicy, how: Bind, notes: &mut Vec<Note>) {
        let (nodes, how) = match policy {
            NodePolicy::Anywhere => return,
            NodePolicy::On(node) => (std::slice::from_ref(node), how),
            NodePolicy::Interleaved(nodes) => (nodes.as_slice(), Bind::Interleaved),
        };
        if let Err(error) = numa::bind(self.start.as_ptr().cast(), self.len, nodes, how) {
            let note = Note::NodeRefused { policy: policy.clone(), reason: error.to_string() };
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }

    /// Faults every page in for writing. `INVAL` means a kernel that cannot.
    fn populate(&self) -> Result<(), Errno> {
        loop {
            // SAFETY: the range is this value's own, mapped writable; populating changes no contents.
            let done = unsafe { madvise(self.start.as_ptr().cast(), self.len, Advice::LinuxPopulateWrite) };
            match done {
                Err(Errno::INTR | Errno::AGAIN) => continue,
                done => return done,
            }
        }
    }

    /// Faults every page in by writing the zero that is already there.
    fn touch(&self) {
        for offset in (0..self.len).step_by(rustix::param::page_size()) {
            // SAFETY: offset < len, the range is mapped writable, and no reference to it exists yet:
            // the mapping is still being made. Volatile, because the write is the point.
            unsafe { self.start.add(offset).write_volatile(0) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the span is this value's own and every reference into it borrowed the value.
        let done = unsafe { munmap(self.span.as_ptr(), self.span_len) };
        debug_assert!(done.is_ok(), "munmap of an owned span failed: {done:?}");
    }
}

/// Pages asked for their node by [`Mapping::inspect`].
const SAMPLES: usize = 16;

/// What the running machine offers.
pub(super) fn system_pages() -> SystemPages {
    SystemPages::read(Path::new("/sys"), rustix::param::page_size())
}

/// Bytes of ordinary memory left.
pub(super) fn available() -> Option<u64> {
    available::available(Path::new("/"))
}

/// The size of a transparent huge page, if a region of `len` bytes should ask for them.
fn transparent(len: usize, pages: PageSet, notes: &mut Vec<Note>) -> Option<usize> {
    if !pages.suits(PageKind::Transparent, len) {
        return None;
    }
    let system = system_pages();
    match system.transparent {
        TransparentMode::Always | TransparentMode::Madvise => {
            Some(system.transparent_bytes.filter(|bytes| bytes.is_power_of_two()).unwrap_or(2 << 20))
        }
        mode @ (TransparentMode::Never | TransparentMode::Unavailable) => {
            notes.push(Note::PagesRefused { kind: PageKind::Transparent, reason: mode.to_string() });
            None
        }
    }
}

fn words(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}
