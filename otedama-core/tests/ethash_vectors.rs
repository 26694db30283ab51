//! Ethash and Etchash against published vectors: epoch mathematics, and the oracle and every kernel with
//! light caches of real epochs.

use otedama_core::algo::ethash::{
    Attempt, Dataset, ETCHASH, ETHASH, Full, KAWPOW, Kernel, LAST_EPOCH, LanesKernel, Light, Outcome, Params,
    Portable, SeedFinder, build_cache, final_hash, fnv, hash,
};
use otedama_core::cpu::{Cpu, Isa};
use otedama_core::primitive::keccak::{f1600, keccak256, keccak512};
use serde_json::Value;
use std::ops::ControlFlow;

#[test]
fn keccak_matches() {
    for case in cases("keccak") {
        let message = bytes(&case, "message");
        assert_eq!(keccak256(&message)[..], bytes(&case, "keccak256"), "{}", case["id"]);
        assert_eq!(keccak512(&message)[..], bytes(&case, "keccak512"), "{}", case["id"]);
    }
    for case in cases("keccak_f1600") {
        let words = |name: &str| -> [u64; 25] {
            let words =
                list(&case, name).iter().map(|word| u64::from_str_radix(word.as_str().unwrap(), 16).unwrap());
            words.collect::<Vec<_>>().try_into().unwrap()
        };
        let mut state = words("input");
        f1600(&mut state);
        assert_eq!(state, words("output"), "{}", case["id"]);
    }
}

#[test]
fn fnv_matches() {
    for case in cases("fnv1") {
        assert_eq!(fnv(number(&case, "a") as u32, number(&case, "b") as u32), number(&case, "result") as u32);
    }
}

#[test]
fn every_epochs_sizes_match_the_tables() {
    for case in cases("epoch_sizes") {
        let (caches, datasets) = (list(&case, "cache_sizes"), list(&case, "dataset_sizes"));
        assert_eq!(caches.len(), datasets.len());
        for (i, (cache, dataset)) in caches.iter().zip(datasets).enumerate() {
            for params in [&ETHASH, &ETCHASH, &KAWPOW] {
                let epoch = params.epoch(number(&case, "epoch_start") as u32 + i as u32).unwrap();
                assert_eq!(Some(epoch.cache_bytes()), cache.as_u64(), "{epoch:?}");
                assert_eq!(Some(epoch.dataset_bytes()), dataset.as_u64(), "{epoch:?}");
            }
        }
    }
}

/// The rule itself, by division, for every epoch there is.
#[test]
fn every_epochs_size_is_the_largest_with_a_prime_number_of_items() {
    let primes: Vec<u64> = {
        let bound = 1usize << 16;
        let mut composite = vec![false; bound];
        (2..bound)
            .filter(|&n| {
                if !composite[n] {
                    (n * n..bound).step_by(n).for_each(|m| composite[m] = true);
                }
                !composite[n]
            })
            .map(|n| n as u64)
            .collect()
    };
    let is_prime = |n: u64| primes.iter().take_while(|&&p| p * p <= n).all(|p| !n.is_multiple_of(*p));
    let check = |bytes: u64, upper: u64, item: u64| {
        assert_eq!(bytes % item, 0);
        assert!(bytes < upper && is_prime(bytes / item), "{bytes}");
        assert!((bytes / item + 1..upper / item).all(|n| !is_prime(n)), "{bytes} is not the largest");
    };
    for number in 0..=LAST_EPOCH {
        let epoch = ETHASH.epoch(number).unwrap();
        check(epoch.cache_bytes(), (1 << 24) + (u64::from(number) << 17), 64);
        check(epoch.dataset_bytes(), (1 << 30) + (u64::from(number) << 23), 128);
    }
    assert!(ETHASH.epoch(LAST_EPOCH + 1).is_err());
}

#[test]
fn seeds_match_and_are_recognised() {
    let mut finder = SeedFinder::new();
    let mut check = |number: u32, seed: &[u8; 32]| {
        let epoch = ETHASH.epoch(number).unwrap();
        assert_eq!(epoch.seed(), *seed, "epoch {number}");
        assert_eq!(finder.find(&ETHASH, seed), Some(epoch));
        assert_eq!(finder.find(&KAWPOW, seed), Some(KAWPOW.epoch(number).unwrap()));
    };
    for case in cases("seed_hash") {
        check(number(&case, "epoch") as u32, &array(&case, "seed"));
    }
    for case in cases("seed_hashes") {
        for (i, seed) in list(&case, "seeds").iter().enumerate() {
            check(number(&case, "epoch_start") as u32 + i as u32, &seed_of(seed));
        }
    }
    assert_eq!(finder.find(&ETHASH, &[1; 32]), None);
    assert_eq!(finder.find(&ETCHASH, &[1; 32]), None);
}

#[test]
fn ecip_1099_epochs_match() {
    let mut finder = SeedFinder::new();
    for case in cases("ecip1099_epoch") {
        let activation = number(&case, "activation_block");
        let params: &'static Params = if activation == 11_700_000 {
            &ETCHASH
        } else {
            Box::leak(Box::new(Params { before: Some((&ETHASH, activation)), ..ETCHASH }))
        };
        let epoch = params.epoch_at(number(&case, "block")).unwrap();
        assert_eq!(u64::from(epoch.number()), number(&case, "epoch"), "{}", case["id"]);
        assert_eq!(u64::from(epoch.params().epoch_blocks), number(&case, "epoch_length"), "{}", case["id"]);
        if case.get("seed").is_some_and(|seed| seed.is_string()) {
            assert_eq!(epoch.seed(), array(&case, "seed"), "{}", case["id"]);
            assert_eq!(epoch.cache_bytes(), number(&case, "cache_bytes"), "{}", case["id"]);
            assert_eq!(epoch.dataset_bytes(), number(&case, "dataset_bytes"), "{}", case["id"]);
            assert_eq!(finder.find(params, &epoch.seed()), Some(epoch), "{}", case["id"]);
        }
    }
}

/// A seed of Ethereum Classic names an old epoch, a new one, or (odd steps after the change) none.
#[test]
fn the_seeds_of_both_halves_of_a_chain_are_told_apart() {
    let mut finder = SeedFinder::new();
    let seed = |steps: u32| ETHASH.epoch(steps).unwrap().seed();
    for (steps, expected) in [
        (0, ETHASH.epoch(0).ok()),
        (389, ETHASH.epoch(389).ok()),
        (390, ETCHASH.epoch(195).ok()),
        (391, None),
        (392, ETCHASH.epoch(196).ok()),
    ] {
        assert_eq!(finder.find(&ETCHASH, &seed(steps)), expected, "{steps} steps");
    }
    let last = ETCHASH.epoch(LAST_EPOCH).unwrap();
    assert_eq!(finder.find(&ETCHASH, &last.seed()), Some(last));
    assert_eq!(finder.find(&ETHASH, &last.seed()), None);
}

#[test]
fn heights_past_the_last_epoch_are_refused() {
    let last = 30_000 * (u64::from(LAST_EPOCH) + 1) - 1;
    assert_eq!(ETHASH.epoch_at(last).unwrap().number(), LAST_EPOCH);
    for height in [last + 1, u64::MAX] {
        assert_eq!(
            ETHASH.epoch_at(height).unwrap_err().to_string(),
            format!("ethash has no block {height}: expected 0 to {last}")
        );
    }
    assert_eq!(
        KAWPOW.epoch(LAST_EPOCH + 1).unwrap_err().to_string(),
        "kawpow epoch 32640 is out of range: expected 0 to 32639"
    );
}

#[test]
fn small_caches_and_datasets_match() {
    for case in cases("small_cache") {
        assert_eq!(cache(number(&case, "cache_bytes"), &array(&case, "seed")), bytes(&case, "cache"));
    }
    for case in cases("small_dataset") {
        let cache = cache(number(&case, "cache_bytes"), &array(&case, "seed"));
        let light = Light::new(256, &cache, number(&case, "dataset_bytes"));
        let dataset: Vec<u8> = (0..light.pages()).flat_map(|page| light.page(page)).collect();
        assert_eq!(keccak256(&dataset), array(&case, "dataset_keccak256"), "{}", case["id"]);
        assert_eq!(dataset[..1024], bytes(&case, "dataset_first_1024"), "{}", case["id"]);
        assert_eq!(dataset[dataset.len() - 256..], bytes(&case, "dataset_last_256"), "{}", case["id"]);
    }
    for case in cases("small_hashimoto") {
        let cache = cache(number(&case, "cache_bytes"), &array(&case, "seed"));
        let light = Light::new(256, &cache, number(&case, "dataset_bytes"));
        let dataset: Vec<u8> = (0..light.pages()).flat_map(|page| light.page(page)).collect();
        let expected = (array(&case, "mix_hash"), array(&case, "final_hash"));
        for outcome in [hash(&light, &attempt(&case)), hash(&Full::new(&dataset), &attempt(&case))] {
            assert_eq!((outcome.mix_hash, outcome.final_hash), expected, "{}", case["id"]);
        }
    }
}

#[test]
fn items_and_hashes_of_a_made_up_cache_match() {
    let fill = |case: &Value| -> Vec<u8> {
        let word = u64::from_str_radix(case["mock_fill_word_le"].as_str().unwrap(), 16).unwrap();
        word.to_le_bytes().repeat(number(case, "cache_bytes") as usize / 8)
    };
    let mock = |kind| cases(kind).into_iter().filter(|case: &Value| case.get("mock_fill_word_le").is_some());
    for case in mock("dataset_item") {
        let cache = fill(&case);
        let light = Light::new(number(&case, "parents") as u32, &cache, 1 << 30);
        assert_eq!(light.item(number(&case, "index512") as u32)[..], bytes(&case, "item"), "{}", case["id"]);
    }
    for case in mock("dataset_item_1024") {
        let cache = fill(&case);
        let light = Light::new(number(&case, "parents") as u32, &cache, 1 << 30);
        assert_eq!(light.page(number(&case, "index1024") as u32)[..], bytes(&case, "item"), "{}", case["id"]);
    }
    for case in cases("search_mock") {
        let cache = fill(&case);
        let light = Light::new(256, &cache, 128 * number(&case, "dataset_items1024"));
        let dataset: Vec<u8> = (0..light.pages()).flat_map(|page| light.page(page)).collect();
        let full = Full::new(&dataset);
        let start = number(&case, "start_nonce");
        let hashed = |nonce| hash(&full, &Attempt { header_hash: array(&case, "header_hash"), nonce });
        let first = (start..start + number(&case, "iterations"))
            .find(|&nonce| hashed(nonce).final_hash <= array(&case, "boundary"));
        assert_eq!(first, Some(number(&case, "nonce")), "{}", case["id"]);
        if case.get("mix_hash").is_some_and(|hash| hash.is_string()) {
            let outcome = hashed(number(&case, "nonce"));
            assert_eq!(outcome.mix_hash, array(&case, "mix_hash"), "{}", case["id"]);
            assert_eq!(outcome.final_hash, array(&case, "final_hash"), "{}", case["id"]);
        }
    }
}

#[test]
fn final_hashes_need_no_dataset() {
    for case in cases("final_hash_only") {
        assert_eq!(final_hash(&attempt(&case), &array(&case, "mix_hash")), array(&case, "final_hash"));
    }
}

/// Every epoch that the vectors have caches, items or hashes of: the fast kernels build the cache and
/// check all that is known of it, the oracle checks items and hashes.
#[test]
fn real_epochs_match() {
    let mut epochs: Vec<(u64, u64)> = Vec::new();
    let known: Vec<Value> =
        ["light_cache", "dataset_item", "dataset_item_1024", "hash_light", "block_header", "nonce_scan"]
            .into_iter()
            .flat_map(cases)
            .filter(|case| case.get("epoch").is_some_and(|epoch| epoch.is_u64()))
            .collect();
    // (epoch, seed steps): some vectors of items leave the steps to the epoch.
    let name = |case: &Value| {
        let epoch = number(case, "epoch");
        (epoch, case.get("seed_iterations").and_then(Value::as_u64).unwrap_or(epoch))
    };
    for case in &known {
        if !epochs.contains(&name(case)) {
            epochs.push(name(case));
        }
    }
    assert!(epochs.len() > 20);
    let check = |(number, steps): (u64, u64), kernel: &dyn Kernel| {
        let params = if steps == number { &ETHASH } else { &ETCHASH };
        let epoch = params.epoch(number as u32).unwrap();
        let mut cache = vec![0; epoch.cache_bytes() as usize];
        assert!(
            kernel.build_cache(&epoch.seed(), &mut cache, &mut |_| ControlFlow::Continue(())).is_continue()
        );
        let light = Light::new(params.parents, &cache, epoch.dataset_bytes());
        let cases = known.iter().filter(|case| name(case) == (number, steps));
        for case in cases {
            check_case(case, &light, &cache, kernel);
        }
    };
    let kernels = kernels();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&epoch) = epochs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    // The slower kernels on the caches of the first epochs only.
                    let some = if epoch.0 <= 2 { &kernels[..] } else { &kernels[..1] };
                    some.iter().for_each(|kernel| check(epoch, &**kernel));
                }
            });
        }
    });
}

fn check_case(case: &Value, light: &Light<'_>, cache: &[u8], kernel: &dyn Kernel) {
    let what = format!("{}: {}", case["id"], kernel.name());
    let items = |index: u64, count| {
        let mut items = vec![[0; 64]; count];
        kernel.items(light, index as u32, &mut items);
        items.concat()
    };
    let hashed = |attempts: &[Attempt]| {
        let mut outcomes = vec![Outcome::default(); attempts.len()];
        kernel.hash_light(light, attempts, &mut outcomes);
        outcomes
    };
    match case["kind"].as_str().unwrap() {
        "light_cache" => {
            assert_eq!(cache.len() as u64, number(case, "cache_bytes"), "{what}");
            assert_eq!(keccak256(cache), array(case, "cache_keccak256"), "{what}");
            assert_eq!(cache[..64], bytes(case, "first_item"), "{what}");
            assert_eq!(cache[cache.len() - 64..], bytes(case, "last_item"), "{what}");
        }
        "dataset_item" => assert_eq!(items(number(case, "index512"), 1), bytes(case, "item"), "{what}"),
        "dataset_item_1024" => {
            assert_eq!(items(2 * number(case, "index1024"), 2), bytes(case, "item"), "{what}");
        }
        "nonce_scan" => {
            let start = u64::from_str_radix(case["start_nonce"].as_str().unwrap(), 16).unwrap();
            let nonces = start..start + number(case, "iterations");
            let attempts: Vec<_> =
                nonces.map(|nonce| Attempt { header_hash: array(case, "header_hash"), nonce }).collect();
            let outcomes = hashed(&attempts);
            let found: Vec<Value> = attempts
                .iter()
                .zip(outcomes)
                .filter(|(_, outcome)| outcome.final_hash <= array(case, "boundary"))
                .map(|(attempt, outcome)| {
                    serde_json::json!({
                        "nonce": format!("{:016x}", attempt.nonce),
                        "mix_hash": hex::encode(outcome.mix_hash),
                        "final_hash": hex::encode(outcome.final_hash),
                    })
                })
                .collect();
            assert_eq!(&found, list(case, "solutions"), "{what}");
        }
        _ => {
            let expected =
                Outcome { final_hash: array(case, "final_hash"), mix_hash: array(case, "mix_hash") };
            assert_eq!(hashed(&[attempt(case)]), [expected], "{what}");
            assert_eq!(hash(light, &attempt(case)), expected, "{what}: the oracle");
        }
    }
}

/// Any number of hashes and items at once, on memory of odd sizes, with the parents of either row.
#[test]
fn kernels_agree_with_the_oracle_on_every_count() {
    let dataset_bytes = 509 * 128;
    let cache = cache(67 * 64, &[7; 32]);
    for parents in [256, 512, 1, 0] {
        let light = Light::new(parents, &cache, dataset_bytes);
        let memory: Vec<u8> = (0..light.pages()).flat_map(|page| light.page(page)).collect();
        let full = Full::new(&memory);
        let attempts: Vec<Attempt> = (0..70)
            .map(|i: u64| Attempt {
                header_hash: keccak256(&i.to_le_bytes()),
                nonce: i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            })
            .collect();
        let expected: Vec<Outcome> = attempts.iter().map(|attempt| hash(&full, attempt)).collect();
        for kernel in kernels() {
            for count in (0..=20).chain([31, 32, 33, 63, 64, 65, 70]) {
                let mut outcomes = vec![Outcome::default(); count];
                kernel.hash_full(&full, &attempts[..count], &mut outcomes);
                assert_eq!(outcomes, expected[..count], "{}: {count} full", kernel.name());
                if count <= 20 {
                    outcomes.fill(Outcome::default());
                    kernel.hash_light(&light, &attempts[..count], &mut outcomes);
                    assert_eq!(outcomes, expected[..count], "{}: {count} light", kernel.name());
                }
                let mut items = vec![[0; 64]; count];
                for first in [0, 5, u32::MAX - 100] {
                    kernel.items(&light, first, &mut items);
                    for (index, item) in (first..).zip(&items) {
                        assert_eq!(*item, light.item(index), "{}: item {index}", kernel.name());
                    }
                    let indices: Vec<u32> = (first..).take(count).map(|i| i ^ 0x5a5a).collect();
                    kernel.items_at(&light, &indices, &mut items);
                    for (index, item) in indices.iter().zip(&items) {
                        assert_eq!(*item, light.item(*index), "{}: item {index}", kernel.name());
                    }
                }
            }
        }
    }
}

#[test]
fn kernels_build_the_oracles_caches_and_stop_when_told() {
    for kernel in kernels() {
        for items in [1, 2, 3, 4, 5, 61, 5003] {
            let seed = [items as u8; 32];
            let (mut built, mut reported) = (vec![0; 64 * items], 0);
            let report = &mut |bytes| {
                reported += bytes;
                ControlFlow::Continue(())
            };
            assert!(kernel.build_cache(&seed, &mut built, report).is_continue());
            assert_eq!(reported, built.len());
            assert!(built == cache(64 * items as u64, &seed), "{}: {items} items", kernel.name());
        }
        let mut calls = 0;
        let report = &mut |_| {
            calls += 1;
            ControlFlow::Break(())
        };
        assert!(kernel.build_cache(&[0; 32], &mut vec![0; 64 * 50_000], report).is_break());
        assert_eq!(calls, 1);
    }
}

/// The kernels there are here, the oracle last.
fn kernels() -> Vec<Box<dyn Kernel>> {
    let cpu = Cpu::detect();
    let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
    match cpu.avx512() {
        Some(token) => kernels.push(Box::new(LanesKernel::avx512(token))),
        None => println!("SKIPPED: no {} here", Isa::Avx512),
    }
    match cpu.avx2() {
        Some(token) => kernels.push(Box::new(LanesKernel::avx2(token))),
        None => println!("SKIPPED: no {} here", Isa::Avx2),
    }
    kernels.push(Box::new(Portable));
    kernels
}

fn cache(len: u64, seed: &[u8; 32]) -> Vec<u8> {
    let mut cache = vec![0; len as usize];
    let mut reported = 0;
    let done = build_cache(seed, &mut cache, &mut |bytes| {
        reported += bytes as u64;
        ControlFlow::Continue(())
    });
    assert!(done.is_continue());
    assert_eq!(reported, len);
    cache
}

fn attempt(case: &Value) -> Attempt {
    let nonce = u64::from_str_radix(case["nonce"].as_str().unwrap(), 16).unwrap();
    Attempt { header_hash: array(case, "header_hash"), nonce }
}

fn cases(kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/ethash.json")).unwrap();
    let cases: Vec<Value> =
        file["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn list<'a>(case: &'a Value, name: &str) -> &'a Vec<Value> {
    case[name].as_array().unwrap_or_else(|| panic!("{}: no list {name}", case["id"]))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{}: no number {name}", case["id"]))
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    let digits = case[name].as_str().unwrap_or_else(|| panic!("{}: no text {name}", case["id"]));
    hex::decode(digits).unwrap()
}

fn array<const N: usize>(case: &Value, name: &str) -> [u8; N] {
    bytes(case, name).try_into().unwrap()
}

fn seed_of(value: &Value) -> [u8; 32] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}
