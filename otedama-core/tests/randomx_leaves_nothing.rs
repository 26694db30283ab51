//! What RandomX takes, it gives back: heap and mappings are the same after machines, caches and cancelled builds
//! have come and gone. One test, so that nothing else in the process allocates meanwhile.

#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use otedama_core::Algorithm;
use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, EpochError, EpochKey, EpochStore, Progress, StoreConfig};
use otedama_core::hash256::Digest;
use otedama_core::scan::{Attempt, Setup, kernels};
use otedama_core::topology::Topology;

/// The system's allocator, counting the bytes that are out.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every method hands its arguments on to the system's allocator and returns what that returns,
// so the system's own guarantees hold; counting touches an atomic only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: `old` came from this allocator, that is from the system's, with this layout.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of heap in use, and bytes of address space outside of it: code and big regions.
fn in_use() -> (i64, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut mapped = 0;
    for line in maps.lines().filter(|line| line.contains("memfd:code") || line.contains("hugepage")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |digits| u64::from_str_radix(digits, 16).unwrap();
        mapped += number(end) - number(start);
    }
    drop(maps);
    (LIVE.load(Ordering::Relaxed), mapped)
}

fn come_and_go(setup: &Setup, topology: &Topology) {
    for algorithm in [Algorithm::RandomXV1, Algorithm::RandomXV2] {
        let store = EpochStore::new(StoreConfig::for_machine(topology, 3 << 30));
        let builder = builders::builder(algorithm, &setup.cpu, ItemsBy::default()).unwrap();
        let key = EpochKey::bytes(algorithm, b"comes and goes").unwrap();
        let epoch = store.get(&builder, &key, Depth::Light, &Progress::new()).unwrap();
        for kernel in kernels(algorithm).filter(|kernel| kernel.obstacle(setup).is_none()) {
            drop(kernel.scanner(setup).unwrap());
            let mut hasher = kernel.hasher(setup).unwrap();
            if !kernel.is_oracle() {
                let mut digests = [Digest::plain([0; 32])];
                hasher.hash_many(&[Attempt::Bytes(b"x")], Some(&epoch), &mut digests).unwrap();
            }
        }
        // The dataset's build is stopped a moment after it began.
        let progress = Progress::new();
        thread::scope(|scope| {
            let build = scope.spawn(|| store.get(&builder, &key, Depth::Full, &progress));
            thread::sleep(Duration::from_millis(100));
            progress.cancel();
            assert!(matches!(build.join().unwrap(), Err(EpochError::Cancelled(_))));
        });
        let held = Arc::strong_count(&epoch);
        assert_eq!(held, 2, "the store and this test hold the epoch, and {} more", held - 2);
        assert_eq!(store.held_bytes(), 256 << 20);
    }
}

#[test]
fn what_was_taken_is_given_back() {
    let (setup, topology) = (Setup::detect(), Topology::detect());
    // What is made once for good (thread names, caches of the standard library) is made in the first round.
    come_and_go(&setup, &topology);
    let (heap, mapped) = in_use();
    for _ in 0..2 {
        come_and_go(&setup, &topology);
    }
    let (heap_after, mapped_after) = in_use();
    assert!((heap_after - heap).abs() < 4096, "{} bytes of heap were not given back", heap_after - heap);
    assert_eq!((mapped, mapped_after), (0, 0), "mappings were not given back");
}
