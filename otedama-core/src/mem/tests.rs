//! Regions on the machine at hand: what it lacks is reported, and the tests take either answer.

use std::sync::Arc;

use super::*;

const MIB: usize = 1 << 20;

fn request(pages: PageSet) -> Request {
    Request { pages, ..Request::default() }
}

#[test]
fn every_page_set_gives_zeroed_aligned_writable_memory() {
    let page = system_pages().page_bytes;
    for len in [1, page, page + 1, 3 * MIB, 5 * MIB + 17] {
        for prefault in [false, true] {
            for pages in PageKind::ALL.map(|kind| PageSet::of(&[kind])).into_iter().chain([PageSet::ALL]) {
                let mut region =
                    Region::new(len, &Request { pages, prefault, ..Request::default() }).unwrap();
                assert_eq!(region.len(), len);
                assert_eq!(region.as_ptr().addr() % page, 0);
                assert!(region.mapped_bytes() >= len);
                assert!(pages.contains(region.pages()), "{} were not asked for", region.pages());
                assert!(region.iter().all(|&byte| byte == 0));
                region.fill(0xA5);
                let frozen = region.freeze().unwrap();
                assert!(frozen.iter().all(|&byte| byte == 0xA5));
            }
        }
    }
}

#[test]
fn short_regions_take_plain_pages_without_a_word() {
    let region = Region::new(4096, &Request::default()).unwrap();
    assert_eq!(region.pages(), PageKind::Plain);
    assert_eq!(region.notes(), []);
}

#[test]
fn a_length_of_zero_and_lengths_beyond_the_address_space_are_errors() {
    assert_eq!(Region::new(0, &Request::default()).unwrap_err(), MemError::Empty);
    for len in [usize::MAX, isize::MAX as usize, 1 << 62] {
        assert!(Region::new(len, &Request::default()).is_err());
        assert!(Region::new(len, &request(PageSet::PLAIN)).is_err());
    }
}

/// More than any machine has, less than can be addressed: refused before Linux promises it.
#[cfg(target_os = "linux")]
#[test]
fn a_region_larger_than_the_memory_left_is_an_error_with_both_numbers() {
    let bytes = 1 << 46;
    let error = Region::new(bytes, &request(PageSet::PLAIN)).unwrap_err();
    let MemError::Short { bytes: wanted, available } = error else { panic!("{error}") };
    assert_eq!(wanted, bytes);
    assert!(available > 0 && available < bytes as u64);
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(text.starts_with(&format!("{bytes} bytes of memory are needed and {available} are")), "{text}");
    assert_eq!(afford(1), Ok(()));
}

#[test]
fn a_frozen_region_is_shared_by_threads() {
    let mut region = Region::new(2 * MIB, &Request::default()).unwrap();
    for (index, byte) in region.iter_mut().enumerate() {
        *byte = index as u8;
    }
    let frozen = Arc::new(region.freeze().unwrap());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let frozen = Arc::clone(&frozen);
            std::thread::spawn(move || frozen.iter().map(|&byte| u64::from(byte)).sum::<u64>())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), (2 * MIB as u64 / 256) * (255 * 128));
    }
}

#[test]
fn a_node_that_is_not_there_is_noted_and_survived() {
    for policy in [
        NodePolicy::On(NodeId(900)),
        NodePolicy::On(NodeId(5000)),
        NodePolicy::Interleaved(vec![NodeId(900), NodeId(901)]),
    ] {
        for pages in [PageSet::ALL, PageSet::PLAIN] {
            let request = Request { pages, policy: policy.clone(), prefault: true };
            let mut region = Region::new(2 * MIB, &request).unwrap();
            region.fill(1);
            let frozen = region.freeze().unwrap();
            let refusals = |note: &&Note| matches!(note, Note::NodeRefused { .. });
            assert_eq!(frozen.notes().iter().filter(refusals).count(), 1, "{:?}", frozen.notes());
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::topology::Topology;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    const SIGSEGV: i32 = 11;
    const CHILD: &str = "OTEDAMA_STRAY_WRITE";

    #[test]
    fn memory_bound_to_a_real_node_lies_there() {
        let node = Topology::detect().worker_nodes()[0];
        for pages in [PageSet::ALL, PageSet::PLAIN] {
            let request = Request { pages, policy: NodePolicy::On(node), prefault: true };
            let region = Region::new(4 * MIB, &request).unwrap();
            // A sandbox may forbid the binding; then it must say so, and nothing is claimed.
            if region.notes().iter().any(|note| matches!(note, Note::NodeRefused { .. })) {
                eprintln!("SKIPPED: {:?}", region.notes());
                continue;
            }
            let page = system_pages().page_bytes;
            for offset in (0..region.len()).step_by(page) {
                assert_eq!(numa::node_of((&raw const region[offset]).cast()), Some(node));
            }
        }
    }

    #[test]
    fn pool_pages_are_used_where_the_pool_has_them_and_explained_where_not() {
        let available = |bytes| {
            let pools = system_pages().pools;
            pools.iter().find(|pool| pool.page_bytes == bytes).map_or(0, HugePool::available)
        };
        let region = Region::new(4 * MIB, &request(PageSet::of(&[PageKind::Huge2M]))).unwrap();
        eprintln!("{}; got {}, notes {:?}", system_pages(), region.pages(), region.notes());
        match region.pages() {
            PageKind::Huge2M => assert_eq!(region.notes(), []),
            PageKind::Plain => assert!(matches!(region.notes(), [Note::PagesRefused { .. }])),
            other => panic!("{other} were not asked for"),
        }
        drop(region);
        // More than any pool can have: falls to plain pages at once, which are not touched.
        let pages = available(2 * MIB) as usize + 100_000;
        let region = Region::new(pages * 2 * MIB, &request(PageSet::of(&[PageKind::Huge2M])));
        if let Ok(region) = region {
            assert_eq!(region.pages(), PageKind::Plain);
            let note = region.notes()[0].to_string();
            assert!(note.starts_with("no 2 MiB pages: the pool has fewer than"), "{note}");
        }
    }

    #[test]
    fn transparent_pages_are_claimed_only_where_the_kernel_confirms_them() {
        let pages = PageSet::of(&[PageKind::Transparent]);
        let request = Request { pages, prefault: true, ..Request::default() };
        let region = Region::new(8 * MIB, &request).unwrap();
        eprintln!("{}; got {}, notes {:?}", system_pages(), region.pages(), region.notes());
        match region.pages() {
            PageKind::Transparent => assert!(
                matches!(region.notes(), [] | [Note::PartlyHuge { .. } | Note::Unverified]),
                "{:?}",
                region.notes()
            ),
            PageKind::Plain => assert_eq!(region.notes().len(), 1),
            other => panic!("{other} were not asked for"),
        }
        // Never touched: nothing is backed by anything, and freezing finds out.
        let untouched = Region::new(8 * MIB, &Request { pages, ..Request::default() }).unwrap();
        assert_eq!(untouched.freeze().unwrap().pages(), PageKind::Plain);
    }

    /// Runs one of the ignored tests below in a process of its own and returns the signal that ended it.
    fn fatal_signal(case: &str) -> Option<i32> {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--test-threads=1", "mem::tests::linux::stray_access"])
            .env(CHILD, case)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        status.signal()
    }

    #[test]
    fn a_stray_write_to_a_frozen_region_faults() {
        assert_eq!(fatal_signal("before-freeze"), None, "the write is harmless before the freeze");
        assert_eq!(fatal_signal("all"), Some(SIGSEGV));
        assert_eq!(fatal_signal("transparent"), Some(SIGSEGV));
        assert_eq!(fatal_signal("plain"), Some(SIGSEGV));
    }

    #[test]
    fn an_overrun_of_ordinary_memory_faults_on_either_side() {
        assert_eq!(fatal_signal("above"), Some(SIGSEGV));
        assert_eq!(fatal_signal("below"), Some(SIGSEGV));
    }

    #[test]
    #[ignore = "ends its process by a signal: run by the tests above"]
    fn stray_access() {
        let Ok(case) = std::env::var(CHILD) else { return };
        let pages = match case.as_str() {
            "all" | "before-freeze" => PageSet::ALL,
            "transparent" => PageSet::of(&[PageKind::Transparent]),
            _ => PageSet::PLAIN,
        };
        let mut region = Region::new(2 * MIB, &request(pages)).unwrap();
        let mapped = region.mapped_bytes();
        let start = region.as_mut_ptr();
        let address = match case.as_str() {
            "above" => start.wrapping_add(mapped),
            "below" => start.wrapping_sub(1),
            _ => start.wrapping_add(MIB),
        };
        let (region, frozen) = match case.as_str() {
            "before-freeze" => (Some(region), None),
            _ => (None, Some(region.freeze().unwrap())),
        };
        // SAFETY: none. This is the fault the test is about, in a process made for it.
        unsafe { address.write_volatile(1) };
        drop((region, frozen));
    }
}
