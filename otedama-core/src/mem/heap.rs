//! Regions from the ordinary allocator, for operating systems without a mapping of their own here.
//! Pages are plain, nodes are ignored, and freezing is a promise of the types alone.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use super::{MemError, NodePolicy, Note, PageKind, Request, SystemPages, TransparentMode};

/// The alignment of every region: the largest base page in common use.
const PAGE_BYTES: usize = 16 << 10;

/// Allocated memory; freed with the value.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the allocation is owned and refers to no thread; `Region` and `FrozenRegion` impose the
// borrow rules on access to it.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out a pointer and never writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(len: usize, request: &Request) -> Result<(Mapping, Vec<Note>), MemError> {
        let too_long = MemError::TooLong { bytes: len };
        let Some(len) = len.checked_next_multiple_of(PAGE_BYTES) else { return Err(too_long) };
        let Ok(layout) = Layout::from_size_align(len, PAGE_BYTES) else { return Err(too_long) };
        // SAFETY: `Region::new` refuses a length of zero, so the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        let start = start.ok_or(MemError::Map { bytes: len, reason: "out of memory".to_owned() })?;
        let mut notes = Vec::new();
        if request.policy != NodePolicy::Anywhere {
            let reason = "not supported on this operating system".to_owned();
            notes.push(Note::NodeRefused { policy: request.policy.clone(), reason });
        }
        Ok((Mapping { start, layout }, notes))
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn len(&self) -> usize {
        self.layout.size()
    }

    pub(super) fn kind(&self) -> PageKind {
        PageKind::Plain
    }

    pub(super) fn protect(&self) -> Result<(), MemError> {
        Ok(())
    }

    pub(super) fn inspect(&mut self, _: &NodePolicy, _: &mut Vec<Note>) {}
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated by `Mapping::new` with this very layout; every reference into it borrowed
        // the value.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

pub(super) fn system_pages() -> SystemPages {
    SystemPages {
        page_bytes: PAGE_BYTES,
        pools: Vec::new(),
        transparent: TransparentMode::Unavailable,
        transparent_bytes: None,
    }
}

pub(super) fn available() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::NodeId;

    #[test]
    fn the_allocator_serves_zeroed_aligned_memory() {
        let request = Request { policy: NodePolicy::On(NodeId(0)), ..Request::default() };
        let (mut mapping, mut notes) = Mapping::new(100_000, &request).unwrap();
        assert_eq!(mapping.start().addr().get() % PAGE_BYTES, 0);
        assert_eq!(mapping.len() % PAGE_BYTES, 0);
        assert_eq!(mapping.kind(), PageKind::Plain);
        assert!(matches!(notes[..], [Note::NodeRefused { .. }]));
        mapping.inspect(&request.policy, &mut notes);
        mapping.protect().unwrap();
        // SAFETY: the mapping owns `len` initialised bytes and nobody writes to them here.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.start().as_ptr(), mapping.len()) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        assert!(Mapping::new(usize::MAX, &Request::default()).is_err());
        assert_eq!(system_pages().page_bytes, PAGE_BYTES);
        assert_eq!(available(), None);
    }
}
