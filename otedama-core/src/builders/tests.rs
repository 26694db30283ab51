//! Builders in the store, on variants of RandomX that are small enough to build many times.

use std::thread;
use std::time::Duration;

use super::*;
use crate::algo::randomx::config::{ArgonParams, MAX_KEY_BYTES, RX_0};
use crate::algo::randomx::superscalar::Program;
use crate::algo::randomx::{Dataset, Full, Light, Params, dataset};
use crate::algorithm::EpochKind;
use crate::cpu::Isa;
use crate::epoch::{
    Cancelled, Depth, Epoch, EpochError, EpochKey, EpochStore, Placement, Progress, StoreConfig,
};
use crate::mem::PageSet;
use crate::topology::NodeId;

/// A cache of 256 KiB, a dataset of a hundred thousand bytes and some.
static SMALL: Params = Params {
    argon: ArgonParams { memory_kib: 256, ..RX_0.argon },
    dataset_base_bytes: 100_000 / 64 * 64,
    dataset_extra_bytes: 64,
    ..RX_0
};

/// A cache of 64 MiB, a dataset of as much: a while to fill.
static LONG: Params = Params {
    argon: ArgonParams { memory_kib: 64 << 10, ..RX_0.argon },
    dataset_base_bytes: 64 << 20,
    dataset_extra_bytes: 0,
    ..RX_0
};

fn store(byte_budget: usize) -> EpochStore {
    EpochStore::new(StoreConfig {
        byte_budget: byte_budget as u64,
        placement: Placement::Replicate,
        nodes: vec![NodeId(0)],
        pages: PageSet::PLAIN,
        threads: 3,
    })
}

fn part_bytes(params: &Params) -> usize {
    params.cache_bytes() + params.dataset_bytes()
}

fn key(name: &str) -> EpochKey {
    EpochKey::bytes(Algorithm::RandomXV1, name.as_bytes()).unwrap()
}

fn shared(builder: RandomXBuilder) -> Arc<dyn EpochBuilder> {
    Arc::new(builder)
}

/// A full epoch whose every byte the oracle finds right.
fn assert_right(params: &Params, name: &str, epoch: &Epoch) {
    let cache = epoch.light().view(NodeId(0));
    assert!(cache == dataset::cache(params, name.as_bytes()));
    let programs = Program::of_key(params, name.as_bytes());
    let light = Light::new(params, cache, &programs);
    let full = Full::new(params, epoch.full().unwrap().view(NodeId(0)));
    for index in 0..params.dataset_items() {
        assert_eq!(full.item(index), light.item(index), "item {index} of {name}");
    }
}

#[test]
fn every_epoch_of_a_key_has_its_builder() {
    for algorithm in Algorithm::ALL {
        let builder = builder(algorithm, &Cpu::detect());
        match algorithm.spec().epoch {
            EpochKind::None => assert!(builder.is_none(), "{algorithm}"),
            EpochKind::Blocks(_) => assert!(builder.is_some(), "{algorithm}"),
            EpochKind::Key => {
                let builder = builder.unwrap();
                assert_eq!(builder.light_bytes(&key("any")), 256 << 20, "{algorithm}");
                assert_eq!(builder.full_bytes(&key("any")), Some(2_181_038_016), "{algorithm}");
            }
        }
    }
}

#[test]
fn every_cpu_and_every_way_gives_the_same_bytes() {
    let cpu = Cpu::detect();
    for cpu in [Cpu::baseline(), cpu.only(&[Isa::Avx2]), cpu.only(&[Isa::Avx512]), cpu] {
        for items_by in [ItemsBy::Compiler, ItemsBy::Interpreter] {
            let builder = shared(RandomXBuilder::new(&SMALL, &cpu).with_items(items_by));
            for name in ["", "a key", &"k".repeat(MAX_KEY_BYTES)] {
                let (store, progress) = (store(part_bytes(&SMALL)), Progress::new());
                let epoch = store.get(&builder, &key(name), Depth::Full, &progress).unwrap();
                assert_right(&SMALL, name, &epoch);
                assert_eq!(progress.total_bytes(), part_bytes(&SMALL) as u64);
                assert_eq!(progress.done_bytes(), progress.total_bytes());
            }
        }
    }
}

#[test]
fn the_next_key_is_built_ahead_and_then_there() {
    let (store, builder) =
        (store(2 * part_bytes(&SMALL)), shared(RandomXBuilder::new(&SMALL, &Cpu::detect())));
    let current = store.get(&builder, &key("now"), Depth::Full, &Progress::new()).unwrap();
    let ahead = store.announce(&builder, &key("next"), Depth::Full).unwrap();
    while ahead.done_bytes() < part_bytes(&SMALL) as u64 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_right(&SMALL, "now", &current);
    let progress = Progress::new();
    let next = store.get(&builder, &key("next"), Depth::Full, &progress).unwrap();
    assert_right(&SMALL, "next", &next);
}

#[test]
fn both_parts_can_be_stopped_half_way() {
    let parts = [
        // The slowest ways, so that there is something to stop.
        (Depth::Light, 0, RandomXBuilder::new(&LONG, &Cpu::baseline())),
        (
            Depth::Full,
            LONG.cache_bytes() as u64,
            RandomXBuilder::new(&LONG, &Cpu::detect()).with_items(ItemsBy::Interpreter),
        ),
    ];
    for (depth, before, builder) in parts {
        let (store, builder, progress) = (store(part_bytes(&LONG)), shared(builder), Progress::new());
        thread::scope(|scope| {
            let build = scope.spawn(|| store.get(&builder, &key("stopped"), depth, &progress));
            while progress.done_bytes() <= before {
                thread::sleep(Duration::from_millis(1));
            }
            progress.cancel();
            assert_eq!(build.join().unwrap().unwrap_err(), EpochError::Cancelled(Cancelled));
        });
        assert!(progress.done_bytes() < before + LONG.cache_bytes() as u64);
        // The light part was finished before the full one was stopped, and is kept.
        assert_eq!(store.held_bytes(), before, "{depth:?}");
    }
}

#[test]
fn a_dataset_beyond_the_budget_is_refused_and_the_cache_is_not() {
    let (store, builder) =
        (store(part_bytes(&SMALL) - 1), shared(RandomXBuilder::new(&SMALL, &Cpu::detect())));
    let error = store.get(&builder, &key("a key"), Depth::Full, &Progress::new()).unwrap_err();
    assert!(matches!(error, EpochError::Budget { wanted, .. } if wanted == SMALL.dataset_bytes() as u64));
    let light = store.get(&builder, &key("a key"), Depth::Light, &Progress::new()).unwrap();
    assert!(light.light().view(NodeId(0)) == dataset::cache(&SMALL, b"a key"));
}

#[test]
fn a_numbered_epoch_is_an_error() {
    let (store, builder) = (store(part_bytes(&SMALL)), shared(RandomXBuilder::new(&SMALL, &Cpu::detect())));
    let key = EpochKey::number(Algorithm::RandomXV1, 7);
    let error = store.get(&builder, &key, Depth::Light, &Progress::new()).unwrap_err();
    assert!(matches!(error, EpochError::Panicked { .. }), "{error}");
    assert_eq!(store.held_bytes(), 0);
}
