//! Scanning allocates nothing, and neither does loading another job of the same shape: counted by the
//! allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;

use otedama_core::scan::{Candidates, Kernel, ScanEnd, Setup, StopFlag, kernels};
use otedama_core::target::U256;
use otedama_core::{Algorithm, Job, JobId, NonceRange, SearchSpace, Target, VersionMask, VersionRange};

/// The system's allocator, counting what the calling thread asks of it.
struct Counting;

thread_local! {
    // Made at compile time and never dropped, so that counting itself allocates nothing.
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    REQUESTS.with(|requests| requests.set(requests.get() + 1));
}

// SAFETY: every method hands its arguments on to the system's allocator and returns what that returns,
// so the system's own guarantees hold; counting touches a constant-initialised thread-local only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: `old` came from this allocator, that is from the system's, with this layout.
        unsafe { System.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count();
        // SAFETY: `old` came from this allocator, that is from the system's, with this layout.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many calls of the allocator `work` makes on this thread.
fn requests_of(work: impl FnOnce()) -> u64 {
    let before = REQUESTS.with(Cell::get);
    work();
    REQUESTS.with(Cell::get) - before
}

fn job(algorithm: Algorithm, fill: u8, roll: bool) -> Arc<Job> {
    // One hash in four meets it: hits are found, and many.
    let target = Target::new(U256::MAX >> 2).unwrap();
    let roll = roll.then_some(VersionMask::BIP320);
    Arc::new(Job::blob(JobId(fill.into()), algorithm, &[fill; 80], roll, target).unwrap())
}

#[test]
fn the_counter_counts() {
    assert_eq!(requests_of(|| drop(std::hint::black_box(Box::new(7)))), 2);
    assert_eq!(requests_of(|| ()), 0);
}

#[test]
fn scanning_and_loading_allocate_nothing() {
    let setup = Setup::detect();
    for algorithm in [Algorithm::Sha256d, Algorithm::Scrypt] {
        let mut ran = 0;
        // scrypt's oracle is written to be read: it makes its rows anew for every hash.
        let readable = |kernel: &Kernel| kernel.is_oracle() && algorithm == Algorithm::Scrypt;
        for kernel in kernels(algorithm).filter(|kernel| kernel.runs_on(&setup.cpu) && !readable(kernel)) {
            let mut scanner = kernel.scanner(&setup).unwrap();
            let most = scanner.info().max_versions;
            let nonces = if algorithm == Algorithm::Sha256d { 3000 } else { 70 };
            for roll in [false, true] {
                let (first, second) = (job(algorithm, 1, roll), job(algorithm, 2, roll));
                let mut found = Candidates::with_capacity(4096);
                let (stop, mut finds) = (StopFlag::new(), 0);
                scanner.load(&first, None).unwrap();
                let requests = requests_of(|| {
                    for (job, start, wanted) in [
                        (&first, 0, 1),
                        (&first, 0, most),
                        (&first, 77, 5),
                        (&second, 0, most),
                        (&first, 9, 64),
                    ] {
                        let count = if roll { wanted.min(most) } else { 1 };
                        let space = SearchSpace {
                            nonces: NonceRange {
                                start: (1 << 32) - nonces,
                                count: nonces / u64::from(count),
                            },
                            versions: VersionRange { start: if roll { start } else { 0 }, count },
                        };
                        scanner.load(job, None).unwrap();
                        let scanned = scanner.scan(&space, &stop, &mut found).unwrap();
                        assert_eq!(scanned.end, ScanEnd::Done);
                        finds += found.as_slice().len();
                        found.clear();
                    }
                });
                assert!(finds > 0, "{} found nothing", kernel.name());
                assert_eq!(requests, 0, "{} with version rolling {roll}", kernel.name());

                // Filling up and being stopped allocate no more than coming to the end does.
                let mut little = Candidates::with_capacity(most as usize);
                let space = SearchSpace { versions: VersionRange { start: 0, count: 1 }, ..first.space() };
                let raised = StopFlag::new();
                raised.raise();
                let requests = requests_of(|| {
                    let full = scanner.scan(&space, &stop, &mut little).unwrap();
                    assert_eq!(full.end, ScanEnd::Full);
                    let stopped = scanner.scan(&space, &raised, &mut little).unwrap();
                    assert_eq!(stopped.end, ScanEnd::Stopped);
                });
                assert_eq!(requests, 0, "{} filling up", kernel.name());
            }
            ran += 1;
        }
        // Past the test harness's capture: how much was covered must be seen.
        writeln!(std::io::stderr(), "allocations: {ran} {algorithm} kernels ran").unwrap();
    }
}
