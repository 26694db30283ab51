//! The store under a toy algorithm: bytes from a small generator, and switches for everything that can
//! go wrong.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::*;
use crate::algorithm::Algorithm;
use crate::mem::{Note, PageSet};
use crate::topology::NodeId;

const LIGHT: usize = 64 << 10;
const FULL: usize = (1 << 20) + 640;

/// An algorithm whose light part is a generator's output and whose full part mixes it by position.
#[derive(Default)]
struct Toy {
    light_builds: AtomicUsize,
    full_threads: AtomicUsize,
    /// Full builds say here that they have begun ...
    begun: AtomicBool,
    /// ... and wait, if so told, until they are let go or cancelled.
    hold: AtomicBool,
    light_panics: AtomicBool,
    full_panics: AtomicBool,
    lazy: AtomicBool,
}

impl Toy {
    fn new() -> Arc<Toy> {
        Arc::new(Toy::default())
    }

    fn until_begun(&self) {
        while !self.begun.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn seed(key: &EpochKey) -> u64 {
    match &key.seed {
        EpochSeed::Number(number) => u64::from(*number) + 1,
        EpochSeed::Bytes(bytes) => bytes.iter().fold(1, |sum, &byte| sum * 31 + u64::from(byte)),
    }
}

fn item(light: &[u8], offset: usize) -> u8 {
    light[offset % light.len()].wrapping_mul(3) ^ (offset >> 8) as u8
}

impl EpochBuilder for Toy {
    fn light_bytes(&self, _: &EpochKey) -> usize {
        LIGHT
    }

    fn full_bytes(&self, key: &EpochKey) -> Option<usize> {
        (key.algorithm != Algorithm::Scrypt).then_some(FULL)
    }

    fn build_light(&self, key: &EpochKey, out: &mut [u8], progress: &Progress) -> Result<(), Cancelled> {
        self.light_builds.fetch_add(1, Ordering::SeqCst);
        assert!(!self.light_panics.load(Ordering::SeqCst), "toy light panic");
        let mut state = seed(key);
        for block in out.chunks_mut(4096) {
            for byte in &mut *block {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }
            progress.add(block.len())?;
        }
        Ok(())
    }

    fn build_full(
        &self,
        _: &EpochKey,
        light: &[u8],
        chunks: &Chunks<'_>,
        progress: &Progress,
    ) -> Result<(), Cancelled> {
        self.full_threads.fetch_add(1, Ordering::SeqCst);
        self.begun.store(true, Ordering::SeqCst);
        if self.lazy.load(Ordering::SeqCst) {
            return Ok(());
        }
        while let Some(Chunk { offset, bytes }) = chunks.take() {
            while self.hold.load(Ordering::SeqCst) {
                progress.check()?;
                thread::sleep(Duration::from_millis(1));
            }
            assert!(!self.full_panics.load(Ordering::SeqCst), "toy full panic");
            bytes.iter_mut().enumerate().for_each(|(index, byte)| *byte = item(light, offset + index));
            progress.add(bytes.len())?;
        }
        Ok(())
    }
}

fn store(byte_budget: usize, nodes: &[u32]) -> EpochStore {
    EpochStore::new(StoreConfig {
        byte_budget: byte_budget as u64,
        placement: Placement::Replicate,
        nodes: nodes.iter().copied().map(NodeId).collect(),
        pages: PageSet::PLAIN,
        threads: 3,
    })
}

fn epoch(number: u32) -> EpochKey {
    EpochKey::number(Algorithm::Ethash, number)
}

fn get(store: &EpochStore, toy: &Arc<Toy>, key: &EpochKey, depth: Depth) -> Result<Arc<Epoch>, EpochError> {
    let builder: Arc<dyn EpochBuilder> = Arc::clone(toy) as _;
    store.get(&builder, key, depth, &Progress::new())
}

fn announce(store: &EpochStore, toy: &Arc<Toy>, key: &EpochKey) -> Result<Progress, EpochError> {
    let builder: Arc<dyn EpochBuilder> = Arc::clone(toy) as _;
    store.announce(&builder, key, Depth::Full)
}

fn assert_right(epoch: &Epoch) {
    let light = epoch.light().view(NodeId(0));
    let full = epoch.full().unwrap().view(NodeId(0));
    assert_eq!((light.len(), full.len()), (LIGHT, FULL));
    assert!(full.iter().enumerate().all(|(offset, &byte)| byte == item(light, offset)));
}

#[test]
fn sixteen_callers_share_one_build() {
    let (store, toy, barrier) = (store(8 << 20, &[0]), Toy::new(), Barrier::new(16));
    let epochs: Vec<Arc<Epoch>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    get(&store, &toy, &epoch(5), Depth::Full).unwrap()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(epochs.iter().all(|epoch| Arc::ptr_eq(epoch, &epochs[0])));
    assert_eq!(toy.light_builds.load(Ordering::SeqCst), 1);
    assert_eq!(toy.full_threads.load(Ordering::SeqCst), 3);
    assert_right(&epochs[0]);
    assert_eq!(store.held_bytes(), (LIGHT + FULL) as u64);
    drop(store);
    assert_right(&epochs[0]);
}

#[test]
fn light_is_usable_while_full_is_being_built_and_stays_valid_after() {
    let (store, toy) = (store(8 << 20, &[0]), Toy::new());
    toy.hold.store(true, Ordering::SeqCst);
    let (light, full) = thread::scope(|scope| {
        let builder = scope.spawn(|| get(&store, &toy, &epoch(5), Depth::Full).unwrap());
        toy.until_begun();
        let light = get(&store, &toy, &epoch(5), Depth::Light).unwrap();
        assert_eq!(light.depth(), Depth::Light);
        assert!(light.light().view(NodeId(0)).iter().any(|&byte| byte != 0));
        assert!(!builder.is_finished());
        toy.hold.store(false, Ordering::SeqCst);
        (light, builder.join().unwrap())
    });
    assert_eq!(full.depth(), Depth::Full);
    assert_right(&full);
    assert!(light.full().is_none());
    assert!(std::ptr::eq(light.light(), full.light()));
    assert!(Arc::ptr_eq(&light, &get(&store, &toy, &epoch(5), Depth::Light).unwrap()));
    assert_eq!(toy.light_builds.load(Ordering::SeqCst), 1);
}

#[test]
fn progress_counts_every_byte_and_waiters_see_it() {
    let (store, toy) = (store(8 << 20, &[0]), Toy::new());
    let builder: Arc<dyn EpochBuilder> = Arc::clone(&toy) as _;
    let (first, second) = (Progress::new(), Progress::new());
    toy.hold.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| store.get(&builder, &epoch(1), Depth::Full, &first).unwrap());
        toy.until_begun();
        let waiter = scope.spawn(|| store.get(&builder, &epoch(1), Depth::Full, &second).unwrap());
        while second.total_bytes() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!waiter.is_finished());
        toy.hold.store(false, Ordering::SeqCst);
    });
    for progress in [first, second] {
        assert_eq!(
            (progress.done_bytes(), progress.total_bytes()),
            ((LIGHT + FULL) as u64, (LIGHT + FULL) as u64)
        );
    }
}

#[test]
fn the_old_full_part_goes_before_the_next_is_made() {
    // Room for one full part and two light ones.
    let (store, toy) = (store(FULL + 2 * LIGHT, &[0]), Toy::new());
    drop(get(&store, &toy, &epoch(5), Depth::Full).unwrap());
    let next = get(&store, &toy, &epoch(6), Depth::Full).unwrap();
    assert_right(&next);
    assert_eq!(store.held_bytes(), (FULL + 2 * LIGHT) as u64, "both light parts are kept");
    // A third key makes room by giving the oldest light part up.
    drop(next);
    get(&store, &toy, &epoch(7), Depth::Full).unwrap();
    assert_eq!(store.held_bytes(), (FULL + 2 * LIGHT) as u64);
    assert_eq!(toy.light_builds.load(Ordering::SeqCst), 3);
    get(&store, &toy, &epoch(6), Depth::Light).unwrap();
    assert_eq!(toy.light_builds.load(Ordering::SeqCst), 3, "epoch 6's light part was kept");
}

#[test]
fn what_a_user_holds_counts_and_can_be_found_again() {
    let (store, toy) = (store(FULL + 2 * LIGHT, &[0]), Toy::new());
    let held = get(&store, &toy, &epoch(5), Depth::Full).unwrap();
    let error = get(&store, &toy, &epoch(6), Depth::Full).unwrap_err();
    let (wanted, budget, in_use) = (FULL as u64, (FULL + 2 * LIGHT) as u64, (FULL + 2 * LIGHT) as u64);
    assert_eq!(error, EpochError::Budget { key: epoch(6), wanted, budget, held: in_use });
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(text.starts_with("ethash epoch 6 needs 1049216 more bytes, and 1180288 of the budget"), "{text}");
    // The light part of 6 is there all the same, and 5, which the store let go, is found with its user.
    assert_eq!(get(&store, &toy, &epoch(6), Depth::Light).unwrap().depth(), Depth::Light);
    assert!(Arc::ptr_eq(&held, &get(&store, &toy, &epoch(5), Depth::Full).unwrap()));
    drop(held);
    get(&store, &toy, &epoch(6), Depth::Full).unwrap();
}

#[test]
fn a_part_larger_than_the_budget_is_refused_for_good() {
    let (store, toy) = (store(LIGHT, &[0]), Toy::new());
    get(&store, &toy, &epoch(5), Depth::Light).unwrap();
    let error = get(&store, &toy, &epoch(5), Depth::Full).unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(store.held_bytes(), LIGHT as u64);
    let key = EpochKey::number(Algorithm::Scrypt, 0);
    assert_eq!(get(&store, &toy, &key, Depth::Full).unwrap_err(), EpochError::NoFull { key });
}

/// Two copies that each are less than the memory left and together more.
#[cfg(target_os = "linux")]
#[test]
fn copies_that_do_not_fit_together_are_refused_before_any_is_touched() {
    struct Vast(usize);
    impl EpochBuilder for Vast {
        fn light_bytes(&self, _: &EpochKey) -> usize {
            self.0
        }

        fn full_bytes(&self, _: &EpochKey) -> Option<usize> {
            None
        }

        fn build_light(&self, _: &EpochKey, _: &mut [u8], _: &Progress) -> Result<(), Cancelled> {
            panic!("there is no memory to build in");
        }

        fn build_full(&self, _: &EpochKey, _: &[u8], _: &Chunks<'_>, _: &Progress) -> Result<(), Cancelled> {
            unreachable!("there is no full part")
        }
    }

    let MemError::Short { available, .. } = crate::mem::afford(usize::MAX).unwrap_err() else {
        panic!("the machine says how much there is");
    };
    let bytes = (available / 4 * 3) as usize;
    let builder: Arc<dyn EpochBuilder> = Arc::new(Vast(bytes));
    let store = store(4 * bytes, &[0, 900]);
    let error = store.get(&builder, &epoch(5), Depth::Light, &Progress::new()).unwrap_err();
    let EpochError::Memory(MemError::Short { bytes: wanted, available }) = error else { panic!("{error}") };
    assert!(wanted >= 2 * bytes && available < wanted as u64, "{wanted} of {available}");
    assert_eq!(store.held_bytes(), 0);
}

#[test]
fn cancelling_the_builder_ends_it_for_all_and_leaves_nothing() {
    let (store, toy) = (store(8 << 20, &[0]), Toy::new());
    let builder: Arc<dyn EpochBuilder> = Arc::clone(&toy) as _;
    let progress = Progress::new();
    toy.hold.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let leader = scope.spawn(|| store.get(&builder, &epoch(5), Depth::Full, &progress));
        toy.until_begun();
        let waiter = scope.spawn(|| get(&store, &toy, &epoch(5), Depth::Full));
        thread::sleep(Duration::from_millis(20));
        progress.cancel();
        assert_eq!(leader.join().unwrap().unwrap_err(), EpochError::Cancelled(Cancelled));
        // Whether it came in time to wait or had to start anew depends on the scheduler.
        toy.hold.store(false, Ordering::SeqCst);
        match waiter.join().unwrap() {
            Ok(epoch) => assert_right(&epoch),
            Err(error) => assert_eq!(error, EpochError::Cancelled(Cancelled)),
        }
    });
    assert_right(&get(&store, &toy, &epoch(5), Depth::Full).unwrap());
    assert_eq!(store.held_bytes(), (LIGHT + FULL) as u64);
}

#[test]
fn cancelling_a_waiter_ends_its_wait_alone() {
    let (store, toy) = (store(8 << 20, &[0]), Toy::new());
    let builder: Arc<dyn EpochBuilder> = Arc::clone(&toy) as _;
    let progress = Progress::new();
    toy.hold.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let leader = scope.spawn(|| get(&store, &toy, &epoch(5), Depth::Full));
        toy.until_begun();
        let waiter = scope.spawn(|| store.get(&builder, &epoch(5), Depth::Full, &progress));
        thread::sleep(Duration::from_millis(10));
        progress.cancel();
        assert_eq!(waiter.join().unwrap().unwrap_err(), EpochError::Cancelled(Cancelled));
        assert!(!leader.is_finished());
        toy.hold.store(false, Ordering::SeqCst);
        assert_right(&leader.join().unwrap().unwrap());
    });
}

#[test]
fn a_panicking_builder_is_an_error_and_the_store_goes_on() {
    let (store, toy, barrier) = (store(8 << 20, &[0]), Toy::new(), Barrier::new(4));
    for (switch, message) in [(&toy.light_panics, "toy light panic"), (&toy.full_panics, "toy full panic")] {
        switch.store(true, Ordering::SeqCst);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let error = get(&store, &toy, &epoch(5), Depth::Full).unwrap_err();
                    assert_eq!(error, EpochError::Panicked { key: epoch(5), message: message.to_owned() });
                });
            }
        });
        switch.store(false, Ordering::SeqCst);
    }
    assert_eq!(store.held_bytes(), LIGHT as u64, "only the light part was ever finished");
    assert_right(&get(&store, &toy, &epoch(5), Depth::Full).unwrap());
}

#[test]
fn a_builder_that_leaves_chunks_undone_is_found_out() {
    let (store, toy) = (store(8 << 20, &[0]), Toy::new());
    toy.lazy.store(true, Ordering::SeqCst);
    let error = get(&store, &toy, &epoch(5), Depth::Full).unwrap_err();
    assert_eq!(error, EpochError::Incomplete { key: epoch(5), left: FULL });
}

#[test]
fn an_announced_epoch_is_there_when_asked_for() {
    let (store, toy) = (store(2 * FULL + 3 * LIGHT, &[0]), Toy::new());
    let current = get(&store, &toy, &epoch(5), Depth::Full).unwrap();
    toy.full_threads.store(0, Ordering::SeqCst);
    announce(&store, &toy, &epoch(6)).unwrap();
    // Building ahead took nothing from the current epoch.
    assert!(Arc::ptr_eq(&current, &get(&store, &toy, &epoch(5), Depth::Full).unwrap()));
    drop(current);
    let next = get(&store, &toy, &epoch(6), Depth::Full).unwrap();
    assert_right(&next);
    assert_eq!(toy.full_threads.load(Ordering::SeqCst), 3, "built once");
    assert_eq!(toy.light_builds.load(Ordering::SeqCst), 2);
    // Asking for it let the old full part go, so that the one after it can be announced.
    assert_eq!(store.held_bytes(), (FULL + 2 * LIGHT) as u64);
    announce(&store, &toy, &epoch(7)).unwrap();
    assert_right(&get(&store, &toy, &epoch(7), Depth::Full).unwrap());
}

#[test]
fn an_announcement_without_room_is_refused_and_one_in_the_way_gives_way() {
    let (store, toy) = (store(2 * FULL + 4 * LIGHT, &[0]), Toy::new());
    let current = get(&store, &toy, &epoch(5), Depth::Full).unwrap();
    toy.begun.store(false, Ordering::SeqCst);
    toy.hold.store(true, Ordering::SeqCst);
    let ahead = announce(&store, &toy, &epoch(6)).unwrap();
    toy.until_begun();
    assert!(matches!(announce(&store, &toy, &epoch(7)), Err(EpochError::Budget { .. })));
    // A user who needs the room stops the build nobody asked for.
    toy.begun.store(false, Ordering::SeqCst);
    let urgent = thread::scope(|scope| {
        let urgent = scope.spawn(|| get(&store, &toy, &epoch(9), Depth::Full));
        while !ahead.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
        toy.until_begun();
        toy.hold.store(false, Ordering::SeqCst);
        urgent.join().unwrap().unwrap()
    });
    assert_right(&urgent);
    assert_right(&current);
}

#[test]
fn dropping_the_store_ends_what_it_builds_ahead() {
    let (store, toy) = (store(8 << 20, &[0]), Toy::new());
    toy.hold.store(true, Ordering::SeqCst);
    let progress = announce(&store, &toy, &epoch(6)).unwrap();
    toy.until_begun();
    drop(store);
    assert!(progress.is_cancelled());
    assert_eq!(Arc::strong_count(&toy), 1, "no thread is left behind");
}

#[test]
fn replicas_on_a_pretended_second_node_are_equal_and_the_binding_is_noted() {
    // Node 900 does not exist: the copy is made all the same, wherever there is memory.
    let (store, toy) = (store(8 << 20, &[0, 900]), Toy::new());
    let epoch = get(&store, &toy, &epoch(5), Depth::Full).unwrap();
    assert_right(&epoch);
    for part in [epoch.light(), epoch.full().unwrap()] {
        let (near, far) = (part.view(NodeId(0)), part.view(NodeId(900)));
        assert!(near == far && !std::ptr::eq(near, far));
        assert!(std::ptr::eq(part.view(NodeId(77)), near), "a stranger gets the first copy");
        assert_eq!(part.held_bytes(), 2 * near.len() as u64);
        let notes = part.copies()[1].region.notes();
        assert!(notes.iter().any(|note| matches!(note, Note::NodeRefused { .. })), "{notes:?}");
    }
    assert_eq!(store.held_bytes(), 2 * (LIGHT + FULL) as u64);
}

#[test]
fn every_placement_gives_the_same_bytes() {
    let toy = Toy::new();
    let config = store(8 << 20, &[0]).config().clone();
    let mut seen: Option<Vec<u8>> = None;
    for nodes in [vec![NodeId(0)], vec![NodeId(0), NodeId(900)]] {
        for placement in [Placement::Replicate, Placement::Interleave, Placement::Node(NodeId(0))] {
            let store = EpochStore::new(StoreConfig { placement, nodes: nodes.clone(), ..config.clone() });
            let epoch = get(&store, &toy, &epoch(5), Depth::Full).unwrap();
            let bytes = epoch.full().unwrap().view(NodeId(0)).to_vec();
            assert_eq!(*seen.get_or_insert_with(|| bytes.clone()), bytes);
        }
    }
}

#[test]
fn callers_over_changing_epochs_always_get_the_bytes_of_their_key() {
    let (store, toy) = (store(3 * FULL + 8 * LIGHT, &[0]), Toy::new());
    thread::scope(|scope| {
        for caller in 0..4_u32 {
            let (store, toy) = (&store, &toy);
            scope.spawn(move || {
                for step in 0..12_u32 {
                    let key = epoch(step / 3 + caller % 2);
                    let depth = if (step + caller) % 3 == 0 { Depth::Light } else { Depth::Full };
                    match get(store, toy, &key, depth) {
                        Ok(epoch) if depth == Depth::Full => assert_right(&epoch),
                        Ok(epoch) => assert_eq!(epoch.key(), &key),
                        Err(error) => assert!(matches!(error, EpochError::Budget { .. }), "{error}"),
                    }
                }
            });
        }
    });
    assert!(store.held_bytes() <= (3 * FULL + 8 * LIGHT) as u64);
}
