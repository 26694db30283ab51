//! The kernels of Ethash, Etchash and KawPow on published vectors: items of datasets, and real blocks at their
//! real epochs. A block's hash reads 64 pages of gigabytes: only these are put into the device's buffers, computed
//! from the light cache, and the block's nonce must be the one that is found. On the first OpenCL device there is
//! (PoCL will do); a few of the blocks, and all of them, and whole datasets of a gigabyte made by the device, with
//! OTEDAMA_LONG_TESTS=1.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use otedama_core::algo::ethash::{self, Dataset, ITEM_BYTES, Light, PAGE_BYTES, Page, Params};
use otedama_core::algo::kawpow::{self, L1Cache, Program, period_of, period_text};
use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, EpochStore, Progress, StoreConfig};
use otedama_core::gpu::{self, Api, Arg, Buffer, Gpu, Kernel, Queue};
use otedama_core::scan::{GpuOptions, Setup, gpu_scanner};
use otedama_core::topology::Topology;
use otedama_core::{Algorithm, selftest};
use otedama_kernels::{ETHASH, KAWPOW, KAWPOW_PERIOD};
use serde_json::Value;

const GROUP: u32 = 32;

#[test]
fn items_of_datasets_match() {
    let Some(gpu) = device() else { return };
    let kernel = compile(&gpu, &ETHASH.text(), 1, "ethash_dag");
    let mut queue = gpu.queue().unwrap();

    let mock_fill = "e14a54a1b2c3d4e5";
    let mut mock = cases("ethash.json", "dataset_item");
    mock.retain(|case| case["mock_fill_word_le"] == mock_fill);
    assert_eq!(mock.len(), 9);
    let fill = u64::from_str_radix(mock_fill, 16).unwrap();
    let cache = fill.to_le_bytes().repeat(number(&mock[0], "cache_bytes") as usize / 8);
    let items = mock
        .iter()
        .map(|case| (number(case, "index512") as u32, number(case, "parents") as u32, text(case, "item")));
    check_items(&gpu, &kernel, queue.as_mut(), &cache, items);

    // KawPow's revisions have 256 or 512 parents an item.
    let real = cases("kawpow.json", "dataset_item_512bit");
    let real: Vec<_> = real.iter().filter(|case| number(case, "epoch") == 0).collect();
    assert_eq!(real.len(), 3);
    let items = real.iter().map(|case| {
        (number(case, "index") as u32, number(case, "dataset_parents") as u32, text(case, "item"))
    });
    check_items(&gpu, &kernel, queue.as_mut(), &light_cache(&ethash::KAWPOW, 0), items);
}

fn check_items<'a>(
    gpu: &Arc<dyn Gpu>,
    kernel: &Kernel,
    queue: &mut dyn Queue,
    cache: &[u8],
    items: impl Iterator<Item = (u32, u32, &'a str)>,
) {
    let on_device = gpu.buffer(cache.len() as u64).unwrap();
    queue.write(&on_device, 0, cache).unwrap();
    let out = gpu.buffer(4 * ITEM_BYTES as u64).unwrap();
    for (index, parents, expected) in items {
        queue.write(&out, 0, &[0x55; 4 * ITEM_BYTES]).unwrap();
        // One item of one lane, written as the third, and nothing beside it.
        let args = [
            Arg::Buffer(&on_device),
            Arg::U32((cache.len() / ITEM_BYTES) as u32),
            Arg::U32(parents),
            Arg::Buffer(&out),
            Arg::U32(index),
            Arg::U32(1),
            Arg::U32(2),
        ];
        queue.launch(kernel, 1, &args).unwrap();
        let mut found = [0; 4 * ITEM_BYTES];
        queue.read(&out, 0, &mut found).unwrap();
        assert_eq!(hex::encode(&found[2 * ITEM_BYTES..][..ITEM_BYTES]), expected, "item {index}");
        assert!(found[..2 * ITEM_BYTES].iter().chain(&found[3 * ITEM_BYTES..]).all(|&byte| byte == 0x55));
    }
}

#[test]
fn ethash_finds_real_blocks() {
    let Some(gpu) = device() else { return };
    let mut blocks = cases("ethash.json", "block_header");
    if !long() {
        println!("SKIPPED: all but two real blocks of Ethash: set OTEDAMA_LONG_TESTS=1");
        let etchash = blocks.iter().position(|block| block["etchash"] == true).unwrap();
        blocks = vec![blocks[0].clone(), blocks[etchash].clone()];
    }
    for (block, parts) in blocks.iter().zip([1, 2, 4].into_iter().cycle()) {
        let params = if block["etchash"] == true { &ethash::ETCHASH } else { &ethash::ETHASH };
        let epoch = number(block, "epoch") as u32;
        let (header_hash, nonce) = (array(block, "header_hash"), hex64(block, "nonce"));
        let hash = |dataset: &Recorder<'_>| ethash::hash(dataset, &ethash::Attempt { header_hash, nonce });
        let kernel = compile(&gpu, &ETHASH.text(), parts, "ethash_search");
        finds(&gpu, &kernel, params, epoch, 1, parts, &header_hash, nonce, block, hash);
    }
}

#[test]
fn kawpow_finds_real_blocks() {
    let Some(gpu) = device() else { return };
    let mut blocks = cases("kawpow.json", "real_block");
    blocks.extend(cases("kawpow.json", "hash").into_iter().filter(|case| case["variant"] == "kawpow"));
    if !long() {
        println!("SKIPPED: all but three published hashes of KawPow: set OTEDAMA_LONG_TESTS=1");
        blocks.truncate(3);
    }
    assert!(blocks.len() >= 3);
    for (block, parts) in blocks.iter().zip([2, 1, 4].into_iter().cycle()) {
        let (height, epoch) = (number(block, "height"), number(block, "epoch") as u32);
        let (header_hash, nonce) = (array(block, "header_hash"), hex64(block, "nonce"));
        let hash = |dataset: &Recorder<'_>| {
            let l1 = L1Cache::of(dataset);
            kawpow::hash(dataset, &l1, &kawpow::Attempt { header_hash, height, nonce })
        };
        let period = period_text(&Program::of_period(period_of(height)));
        let source = KAWPOW.text_with(Some((KAWPOW_PERIOD, &period)));
        let kernel = compile(&gpu, &source, parts, "kawpow_search");
        finds(&gpu, &kernel, &ethash::KAWPOW, epoch, 2, parts, &header_hash, nonce, block, hash);
    }
}

#[test]
fn ethash_knows_the_answers_with_a_whole_dataset() {
    knows_the_answers(Algorithm::Ethash);
}

#[test]
fn kawpow_knows_the_answers_with_a_whole_dataset() {
    knows_the_answers(Algorithm::KawPow);
}

/// The scanner from job to candidate, with a real epoch of which it gets the light cache alone.
fn knows_the_answers(algorithm: Algorithm) {
    if !long() {
        println!("SKIPPED: a whole dataset of {algorithm} made on the device: set OTEDAMA_LONG_TESTS=1");
        return;
    }
    let Some(gpu) = device() else { return };
    let setup = Setup::detect();
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let builder = builders::builder(algorithm, &setup.cpu, ItemsBy::default()).unwrap();
    let key = selftest::epoch(algorithm).unwrap();
    let epoch = store.get(&builder, &key, Depth::Light, &Progress::new()).unwrap();
    let mut scanner = gpu_scanner(algorithm, &gpu, GpuOptions::default(), &setup).unwrap();
    selftest::scanner_in(scanner.as_mut(), &epoch).unwrap();
}

/// Searches a group of nonces around a block's with a dataset that holds the pages of the block's hash alone.
#[allow(clippy::too_many_arguments, reason = "all of a block, a dataset and a device")]
fn finds(
    gpu: &Arc<dyn Gpu>,
    kernel: &Kernel,
    params: &'static Params,
    epoch: u32,
    row_pages: u32,
    parts: u32,
    header_hash: &[u8; 32],
    nonce: u64,
    block: &Value,
    hash: impl Fn(&Recorder<'_>) -> ethash::Outcome,
) {
    let cache = light_cache(params, epoch);
    let bytes = params.epoch(epoch).unwrap().dataset_bytes();
    let recorder = Recorder { light: Light::new(params.parents, &cache, bytes), read: RefCell::default() };
    let outcome = hash(&recorder);
    assert_eq!(outcome.final_hash, array(block, "final_hash"), "{}", block["id"]);

    let mut queue = gpu.queue().unwrap();
    let rows = recorder.pages() / row_pages;
    let part_rows = rows.div_ceil(parts);
    let part_pages = part_rows * row_pages;
    let part_bytes = u64::from(part_pages) * PAGE_BYTES as u64;
    let dag: Vec<Buffer> = (0..parts).map(|_| gpu.buffer(part_bytes).unwrap()).collect();
    for &page in &*recorder.read.borrow() {
        let place = u64::from(page % part_pages) * PAGE_BYTES as u64;
        queue.write(&dag[(page / part_pages) as usize], place, &recorder.light.page(page)).unwrap();
    }
    let hits = gpu.buffer(4 + 8 * u64::from(GROUP)).unwrap();
    let top = u64::from_be_bytes(*outcome.final_hash.first_chunk().unwrap());
    // Right at the target, and right below it.
    for target_top in [top, top - 1] {
        let mut args: Vec<Arg<'_>> = dag.iter().map(Arg::Buffer).collect();
        args.extend([Arg::U32(part_rows), Arg::U32(rows)]);
        args.extend(header_hash.as_chunks().0.iter().map(|word| Arg::U64(u64::from_le_bytes(*word))));
        args.extend([Arg::U64(nonce.wrapping_sub(21)), Arg::U32(GROUP), Arg::U64(target_top)]);
        args.extend([Arg::Buffer(&hits), Arg::U32(GROUP)]);
        queue.zero(&hits, 0, hits.bytes()).unwrap();
        queue.launch(kernel, 1, &args).unwrap();
        let mut bytes = vec![0; hits.bytes() as usize];
        queue.read(&hits, 0, &mut bytes).unwrap();
        let words: Vec<u32> = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let found: Vec<u64> = words[1..][..2 * words[0] as usize]
            .chunks(2)
            .map(|halves| u64::from(halves[1]) << 32 | u64::from(halves[0]))
            .collect();
        assert_eq!(found.contains(&nonce), target_top == top, "{}: {found:x?}", block["id"]);
        // The neighbours read pages that nobody made: whatever their hashes are, none is as rare as a block's.
        if top.leading_zeros() >= 20 {
            assert!(found.len() <= 1, "{}: {found:x?}", block["id"]);
        }
    }
}

/// A light dataset that remembers which pages were read.
struct Recorder<'a> {
    light: Light<'a>,
    read: RefCell<BTreeSet<u32>>,
}

impl Dataset for Recorder<'_> {
    fn pages(&self) -> u32 {
        self.light.pages()
    }

    fn page(&self, index: u32) -> Page {
        self.read.borrow_mut().insert(index);
        self.light.page(index)
    }
}

fn light_cache(params: &'static Params, epoch: u32) -> Vec<u8> {
    let epoch = params.epoch(epoch).unwrap();
    let mut cache = vec![0; epoch.cache_bytes() as usize];
    let _ = ethash::build_cache(&epoch.seed(), &mut cache, &mut |_| ControlFlow::Continue(()));
    cache
}

fn compile(gpu: &Arc<dyn Gpu>, source: &str, parts: u32, entry: &str) -> Kernel {
    let defines = [("OTD_DAG_PARTS", parts.into()), ("OTD_BLOCK", GROUP.into())];
    gpu.compile(entry, source, &defines).unwrap().kernel(entry, GROUP).unwrap()
}

/// The first OpenCL device; without one the test says so and has nothing to do.
fn device() -> Option<Arc<dyn Gpu>> {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return None;
    };
    Some(gpu::open(card.info.id).expect("a device that is listed can be opened"))
}

fn long() -> bool {
    std::env::var_os("OTEDAMA_LONG_TESTS").is_some_and(|value| value == "1")
}

fn cases(file: &str, kind: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    cases.iter().filter(|case| case["kind"] == kind).cloned().collect()
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{}: no text '{name}'", case["id"]))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{}: no number '{name}'", case["id"]))
}

fn hex64(case: &Value, name: &str) -> u64 {
    u64::from_str_radix(text(case, name), 16).unwrap()
}

fn array(case: &Value, name: &str) -> [u8; 32] {
    hex::decode(text(case, name)).unwrap().try_into().unwrap()
}
