//! Caches, dataset items, hashes and traces: key by key, so that each cache of 256 MiB is filled once and
//! only one is in memory. By default the test stops hashing after some time and says how many hashes
//! ran; `OTEDAMA_LONG_TESTS=1` runs all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use otedama_core::Algorithm;
#[cfg(target_arch = "x86_64")]
use otedama_core::algo::randomx::argon2d_lanes::LaneCompress;
use otedama_core::algo::randomx::config::Params;
use otedama_core::algo::randomx::interpret::Machine;
use otedama_core::algo::randomx::program::Program;
use otedama_core::algo::randomx::{self, Dataset, Light, aes, dataset, superscalar};
use otedama_core::builders::RandomXBuilder;
use otedama_core::cpu::Cpu;
use otedama_core::epoch::{Depth, EpochBuilder, EpochKey, EpochStore, Placement, Progress, StoreConfig};
use otedama_core::mem::PageSet;
#[cfg(target_arch = "x86_64")]
use otedama_core::primitive::argon2d;
use otedama_core::primitive::blake2b;
use otedama_core::topology::NodeId;
use serde_json::Value;

use super::{array, bytes, cases, check_ends, number, pairs, params, text, unhex, word, words};

/// After how long no further hash is started, unless all are asked for.
const HASH_TIME: Duration = Duration::from_secs(20);

/// Kinds that are about Monero's blocks and pools.
const ELSEWHERE: [&str; 4] = ["monero_seed_height", "monero_tree_hash", "monero_block", "xmrig_bench"];

#[test]
fn everything_that_needs_a_cache_matches() {
    for kind in ELSEWHERE {
        println!("SKIPPED: {kind}: {} cases are not about this function", cases(kind).len());
    }
    let kinds = ["cache", "dataset_item", "hash", "hash_trace", "variant_hash", "batch"];
    let cases = kinds.map(cases).concat();
    let mut known: Vec<(&Params, Vec<u8>, &Value)> = Vec::new();
    for case in &cases {
        let algo = case.get("algo").and_then(Value::as_str).unwrap_or("rx/0");
        match Params::named(algo) {
            Some(params) => known.push((params, bytes(case, "key"), case)),
            None => println!("SKIPPED: {}: no parameters of {algo} were published", case["id"]),
        }
    }
    // Keys of traces and of other variants first: they are few and say most.
    let mut keys: Vec<_> = known.iter().map(|(params, key, _)| (params.argon, key.clone())).collect();
    keys.sort_by_key(|(argon, key)| {
        let traced = cases.iter().any(|case| case["kind"] == "hash_trace" && bytes(case, "key") == *key);
        (argon.salt == params("rx/0").argon.salt, !traced, argon.salt, key.clone())
    });
    keys.dedup_by_key(|(argon, key)| (argon.salt, key.clone()));

    let mut hashes = Budget::new();
    for (argon, key) in keys {
        let of_key = known.iter().filter(|(params, k, _)| params.argon.salt == argon.salt && *k == key);
        let of_key: Vec<_> = of_key.collect();
        let cheap = |case: &Value| case["kind"] == "cache" || case["kind"] == "dataset_item";
        let wanted = of_key.iter().filter(|(.., case)| !cheap(case)).count();
        if hashes.spent() && of_key.iter().all(|(.., case)| case["kind"] != "dataset_item") {
            hashes.skip(wanted);
            continue;
        }
        let started = Instant::now();
        let memory = dataset::cache(of_key[0].0, &key);
        let filled = started.elapsed();
        let programs = superscalar::Program::of_key(of_key[0].0, &key);
        let (mut ran, started) = (0, Instant::now());
        for (params, _, case) in of_key {
            let light = Light::new(params, &memory, &programs);
            match text(case, "kind") {
                "cache" => {
                    check_cache(params, case, &key, &memory);
                    check_lane_caches(params, case, &key);
                }
                "dataset_item" => {
                    let item = light.item(number(case, "item")).map(u64::to_le_bytes);
                    assert_eq!(item.as_flattened(), bytes(case, "data"), "{}", case["id"]);
                }
                _ if !hashes.start() => continue,
                "hash_trace" => check_trace(params, case, &light),
                "batch" => {
                    let mut machine = Machine::new(params);
                    let [inputs, hashes] = ["inputs", "hashes"].map(|name| case[name].as_array().unwrap());
                    for (input, expected) in inputs.iter().zip(hashes) {
                        let hash = randomx::hash_on(&mut machine, &light, &unhex(input.as_str().unwrap()));
                        assert_eq!(hash[..], unhex(expected.as_str().unwrap()), "{}", case["id"]);
                        ran += 1;
                    }
                    continue;
                }
                _ => {
                    let hash = randomx::hash(params, &light, &bytes(case, "input"));
                    assert_eq!(hash, array::<32>(case, "hash"), "{} {}", params.name, case["id"]);
                }
            }
            ran += usize::from(!cheap(case));
        }
        let per_hash = started.elapsed() / ran.max(1) as u32;
        println!("cache filled in {filled:.1?}, then {ran} hashes, each in {per_hash:.0?}");
    }
    println!("hashes: {} of {} cases ran", hashes.ran, hashes.ran + hashes.skipped);
}

/// Epochs as a miner gets them: the published items of one key through the store.
#[test]
fn the_store_builds_what_was_published() {
    let all = cases("dataset_item");
    let key = bytes(&all[0], "key");
    let of_key = all.iter().filter(|case| bytes(case, "key") == key && case.get("algo").is_none());
    let of_key: Vec<_> = of_key.collect();

    // The published cache, and as much of the dataset as the first published items need.
    let items = of_key.iter().map(|case| number(case, "item")).filter(|&item| item < 1 << 16);
    let dataset_bytes = 64 * (1 + items.max().expect("an item at the start of the dataset")) as usize;
    let whole = params("rx/0");
    let start = Params { dataset_base_bytes: dataset_bytes, dataset_extra_bytes: 0, ..whole.clone() };
    let start: &'static Params = Box::leak(Box::new(start));

    let store = EpochStore::new(StoreConfig {
        byte_budget: 1 << 30,
        placement: Placement::Replicate,
        nodes: vec![NodeId(0)],
        pages: PageSet::ALL,
        threads: 2,
    });
    let builder: Arc<dyn EpochBuilder> = Arc::new(RandomXBuilder::new(start, &Cpu::detect()));
    let name = EpochKey::bytes(Algorithm::RandomXV1, &key).unwrap();
    let epoch = store.get(&builder, &name, Depth::Full, &Progress::new()).unwrap();
    let [cache, full] = [epoch.light(), epoch.full().unwrap()].map(|part| part.view(NodeId(0)));
    let programs = superscalar::Program::of_key(whole, &key);
    let light = Light::new(whole, cache, &programs);
    let mut in_full = 0;
    for case in of_key {
        let (item, expected) = (number(case, "item"), bytes(case, "data"));
        assert_eq!(light.item(item).map(u64::to_le_bytes).as_flattened(), expected, "{}", case["id"]);
        if let Some(found) = full.as_chunks::<64>().0.get(item as usize) {
            assert_eq!(found[..], expected, "{}", case["id"]);
            in_full += 1;
        }
    }
    assert!(in_full > 0);
}

fn check_cache(params: &Params, case: &Value, key: &[u8], memory: &[u8]) {
    let id = &case["id"];
    assert_eq!(dataset::cache_input(params, key).h0(), array::<64>(case, "argon2_h0"), "{id}");
    for (index, expected) in case["words"].as_object().unwrap() {
        let at = 8 * index.parse::<usize>().unwrap();
        let found = u64::from_le_bytes(memory[at..at + 8].try_into().unwrap());
        assert_eq!(found, word(expected), "{id} word {index}");
    }
    assert_eq!(blake2b::digest(memory), array::<32>(case, "cache_blake2b_256"), "{id}");
}

/// The cache by every kernel that this CPU can run.
#[cfg(target_arch = "x86_64")]
fn check_lane_caches(params: &Params, case: &Value, key: &[u8]) {
    let filled = |kernel: &dyn Fn(&mut [argon2d::Block])| {
        let mut memory = vec![0; params.cache_bytes()];
        kernel(memory.as_chunks_mut().0);
        check_cache(params, case, key, &memory);
    };
    let (cpu, input) = (Cpu::detect(), dataset::cache_input(params, key));
    match cpu.avx2().map(LaneCompress) {
        Some(kernel) => filled(&|memory| argon2d::fill(&input, memory, &kernel, unstopped).unwrap()),
        None => println!("SKIPPED: {}: no AVX2 here", case["id"]),
    }
    match cpu.avx512().map(LaneCompress) {
        Some(kernel) => filled(&|memory| argon2d::fill(&input, memory, &kernel, unstopped).unwrap()),
        None => println!("SKIPPED: {}: no AVX-512 here", case["id"]),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn check_lane_caches(_: &Params, case: &Value, _: &[u8]) {
    println!("SKIPPED: {}: no vector kernels for this processor", case["id"]);
}

#[cfg(target_arch = "x86_64")]
fn unstopped(_: usize) -> Result<(), std::convert::Infallible> {
    Ok(())
}

/// A hash, stage by stage.
fn check_trace(params: &Params, case: &Value, light: &Light<'_>) {
    let id = &case["id"];
    let seed = blake2b::digest(&bytes(case, "input"));
    assert_eq!(seed, array::<64>(case, "seed_512"), "{id}");
    let mut machine = Machine::new(params);
    let mut state = aes::state_from_bytes(&seed);
    machine.fill_scratchpad(&mut state);
    assert_eq!(aes::state_to_bytes(&state), array::<64>(case, "gen1_state_after_fill"), "{id}");
    let digest = blake2b::digest(machine.scratchpad());
    assert_eq!(digest, array::<32>(case, "scratchpad_initial_blake2b_256"), "{id}");
    check_ends(case, "scratchpad_initial_", machine.scratchpad());

    let mut code = vec![0; params.program_bytes()];
    let mut branches = 0;
    for i in 0..params.program_count {
        aes::fill_4r(params, &mut state, &mut code);
        let digest = blake2b::digest::<32>(&code);
        assert_eq!(digest[..], unhex(case["program_buffer_blake2b_256"][i].as_str().unwrap()), "{id}");
        let program = Program::decode(params, &code);
        if i == 0 {
            assert_eq!(code, bytes(case, "program0_config_and_code"), "{id}");
            // On a machine aside.
            let mut machine = machine.clone();
            let sp_addrs = machine.start(&program.configuration);
            let accesses = machine.iterate(&program, light, sp_addrs);
            let expected = &case["program0_after_first_iteration"];
            assert_eq!(u64::from(accesses.sp_addr0), number(expected, "sp_addr0"), "{id}");
            assert_eq!(u64::from(accesses.sp_addr1), number(expected, "sp_addr1"), "{id}");
            assert_eq!(accesses.item, number(expected, "dataset_item_index"), "{id}");
            // The reference keeps bits of these that it never looks at.
            assert_eq!(machine.ma, number(expected, "ma") as u32 & !63, "{id} ma");
            assert_eq!(machine.mx, number(expected, "mx") as u32 & !63, "{id} mx");
            assert_eq!(machine.fprc as u64, number(expected, "fprc"), "{id}");
            let registers = &expected["registers"];
            assert_eq!(machine.registers.r, words(&registers["r"]), "{id}");
            assert_eq!(machine.registers.f, pairs(&registers["f"]), "{id}");
            assert_eq!(machine.registers.e, pairs(&registers["e"]), "{id}");
            assert_eq!(machine.registers.a, pairs(&registers["a"]), "{id}");
        }
        let mut sp_addrs = machine.start(&program.configuration);
        for _ in 0..params.program_iterations {
            branches += u64::from(machine.iterate(&program, light, sp_addrs).branches_taken);
            sp_addrs = [0; 2];
        }
        let file = machine.registers.to_bytes();
        let expected = unhex(case["register_file_after_each_program"][i].as_str().unwrap());
        assert_eq!(file[..], expected, "{id} program {i}");
        let seed = blake2b::digest(&file);
        if i == 0 {
            assert_eq!(seed, array::<64>(case, "gen4_seed_for_program1"), "{id}");
        }
        state = aes::state_from_bytes(&seed);
    }
    assert_eq!(branches, number(case, "branches_taken"), "{id}");
    let digest = blake2b::digest(machine.scratchpad());
    assert_eq!(digest, array::<32>(case, "scratchpad_final_blake2b_256"), "{id}");
    let fingerprint = aes::hash_1r(machine.scratchpad());
    assert_eq!(fingerprint, array::<64>(case, "aes_hash_of_scratchpad"), "{id}");
    let hash = randomx::finish(&machine.registers, &fingerprint);
    assert_eq!(hash, array::<32>(case, "hash"), "{id}");
    let again = randomx::hash(params, light, &bytes(case, "input"));
    assert_eq!(again, hash, "{id}: the stages are what the function does");
}

/// Which hashes run, and how many did not.
struct Budget {
    started: Instant,
    all: bool,
    ran: usize,
    skipped: usize,
}

impl Budget {
    fn new() -> Budget {
        let all = std::env::var_os("OTEDAMA_LONG_TESTS").is_some_and(|value| value == "1");
        Budget { started: Instant::now(), all, ran: 0, skipped: 0 }
    }

    fn spent(&self) -> bool {
        !self.all && self.started.elapsed() > HASH_TIME
    }

    fn skip(&mut self, cases: usize) {
        self.skipped += cases;
    }

    /// Whether another hash may start; counts it either way.
    fn start(&mut self) -> bool {
        let start = !self.spent();
        *(if start { &mut self.ran } else { &mut self.skipped }) += 1;
        start
    }
}
