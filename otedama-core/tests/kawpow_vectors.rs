//! KawPow against published vectors: the parts, the programs, and the oracle and every kernel with light
//! caches of real epochs; and every kernel against the oracle with a made-up DAG in memory.
//!
//! The same file knows answers of earlier revisions of ProgPoW, which share all but the ends of a hash and
//! the number of steps: they test what they share.

use std::ops::ControlFlow;

use otedama_core::algo::ethash::{Dataset, ETHASH, Full, KAWPOW, Light, Outcome, build_cache};
use otedama_core::algo::kawpow::{
    Attempt, Kernel, Kiss99, L1Cache, MathOp, Merge, Mix, Portable, Program, Shape, Step, final_hash, fnv1a,
    hash, mix_hash, period_of, row, seal, sequences,
};
use otedama_core::primitive::keccak::{f800, keccak256};
use serde_json::Value;

#[test]
fn fnv1a_matches() {
    for case in cases("fnv1a") {
        assert_eq!(fnv1a(word(&case["h"]), word(&case["d"])), word(&case["result"]), "{}", case["id"]);
    }
}

#[test]
fn keccak_f800_matches() {
    for case in cases("keccak_f800") {
        let mut state = words::<25>(&case["input"]);
        f800(&mut state);
        assert_eq!(state, words(&case["output"]), "{}", case["id"]);
    }
    for case in cases("keccak_f800_progpow") {
        let seed = u64::from_str_radix(text(&case, "seed"), 16).unwrap();
        let found = old_keccak(&words(&case["header"]), seed, &words(&case["digest"]));
        assert_eq!(found, words(&case["result"]), "{}", case["id"]);
    }
}

#[test]
fn seals_and_final_hashes_match() {
    for case in cases("kawpow_keccak") {
        let attempt = attempt(&case, 0);
        let seal = seal(&attempt);
        assert_eq!(seal, words(&case["initial_digest_words"]), "{}", case["id"]);
        assert_eq!(seal[..2], words::<2>(&case["mix_seed_words"]), "{}", case["id"]);
        assert_eq!(final_hash(&attempt, &array(&case, "given_mix_hash")), array(&case, "final_hash"));
    }
}

#[test]
fn random_numbers_match() {
    for case in cases("kiss99") {
        let field = |name: &str| number(&case, name) as u32;
        let mut random = Kiss99 { z: field("z"), w: field("w"), jsr: field("jsr"), jcong: field("jcong") };
        let expected = case["outputs"].as_object().unwrap();
        let mut seen = 0;
        for i in 1..=100_000 {
            let found = random.next();
            if let Some(expected) = expected.get(&i.to_string()) {
                assert_eq!(u64::from(found), expected.as_u64().unwrap(), "number {i} of {}", case["id"]);
                seen += 1;
            }
        }
        assert_eq!(seen, expected.len(), "{}", case["id"]);
    }
    for case in cases("fill_mix") {
        let mix = Mix::of_seed([word(&case["seed_lo"]), word(&case["seed_hi"])]);
        let lane = number(&case, "lane") as usize;
        assert_eq!(mix.0.map(|register| register[lane]), words(&case["mix"]), "{}", case["id"]);
    }
}

#[test]
fn merges_and_calculations_match() {
    for case in cases("merge") {
        let merge = Merge::of(word(&case["r"]));
        assert_eq!(merge.apply(word(&case["a"]), word(&case["b"])), word(&case["result"]), "{}", case["id"]);
    }
    for case in cases("math") {
        let op = MathOp::of(word(&case["r"]));
        assert_eq!(op.apply(word(&case["a"]), word(&case["b"])), word(&case["result"]), "{}", case["id"]);
    }
}

#[test]
fn sequences_match() {
    for case in cases("prog_init") {
        let seed = number(&case, "prog_seed");
        let mut random = Kiss99::of_words(seed as u32, (seed >> 32) as u32);
        let (destinations, sources) = sequences(&mut random);
        assert_eq!(destinations.map(u64::from)[..], numbers(&case["dst"]), "{}", case["id"]);
        assert_eq!(sources.map(u64::from)[..], numbers(&case["src"]), "{}", case["id"]);
        let Kiss99 { z, w, jsr, jcong } = random;
        let state = &case["kiss_state"];
        let expected = ["z", "w", "jsr", "jcong"].map(|name| word(&state[name]));
        assert_eq!([z, w, jsr, jcong], expected, "{}", case["id"]);
    }
}

#[test]
fn programs_match() {
    for case in cases("program") {
        let shape =
            Shape { cache: number(&case, "cnt_cache") as usize, math: number(&case, "cnt_math") as usize };
        let program = Program::generate(number(&case, "prog_seed"), shape);
        let (mut steps, mut dag) = (Vec::new(), Vec::new());
        for op in list(&case, "ops") {
            let register = |name: &str| number(op, name) as u8;
            let (dst, merge) = (register("dst"), Merge::of(word(&op["merge_sel"])));
            match text(op, "op") {
                "cache" => steps.push(Step::Cache { src: register("src"), dst, merge }),
                "math" => {
                    let math = MathOp::of(word(&op["math_sel"]));
                    assert_eq!(math, MathOp::of(number(op, "math_op") as u32));
                    steps.push(Step::Math { a: register("src1"), b: register("src2"), op: math, dst, merge });
                }
                "dag" => dag.push((dst, merge)),
                other => panic!("{}: unknown kind {other}", case["id"]),
            }
        }
        assert_eq!(program.steps, steps, "{}", case["id"]);
        assert_eq!(program.dag[..], dag, "{}", case["id"]);
    }
}

#[test]
fn epochs_match() {
    for case in cases("kawpow_epochs") {
        let start = number(&case, "epoch_start");
        let (caches, datasets) = (numbers(&case["cache_sizes"]), numbers(&case["dataset_sizes"]));
        assert_eq!(caches.len(), datasets.len());
        for (i, (cache, dataset)) in caches.into_iter().zip(datasets).enumerate() {
            let epoch = KAWPOW.epoch_at(7_500 * (start + i as u64)).unwrap();
            assert_eq!(u64::from(epoch.number()), start + i as u64);
            assert_eq!((epoch.cache_bytes(), epoch.dataset_bytes()), (cache, dataset), "{epoch:?}");
        }
        let first = KAWPOW.epoch_at(number(&case, "first_height")).unwrap();
        assert_eq!(first.seed(), array(&case, "first_seed"), "{}", case["id"]);
    }
}

#[test]
fn epochs_0_to_4_match() {
    (0..=4).for_each(check_epoch);
}

#[test]
fn epochs_7_to_162_match() {
    [7, 13, 22, 35, 36, 162].into_iter().for_each(check_epoch);
}

#[test]
fn epochs_333_to_533_match() {
    [333, 339, 400, 533].into_iter().for_each(check_epoch);
}

#[test]
#[ignore = "half a minute for a light cache of 430 MB"]
fn epoch_3333_matches() {
    check_epoch(3333);
}

#[test]
fn every_epoch_of_the_file_is_checked() {
    let checked = [0, 1, 2, 3, 4, 7, 13, 22, 35, 36, 162, 333, 339, 400, 533, 3333];
    for case in all_cases() {
        if let Some(epoch) = case.get("epoch").and_then(Value::as_u64) {
            assert!(checked.contains(&epoch), "{}: epoch {epoch} is in no test", case["id"]);
        }
    }
}

/// Everything that the file knows about an epoch.
fn check_epoch(number: u32) {
    let epoch = KAWPOW.epoch(number).unwrap();
    let mut cache = vec![0; epoch.cache_bytes() as usize];
    let done = build_cache(&epoch.seed(), &mut cache, &mut |_| ControlFlow::Continue(()));
    assert!(done.is_continue());
    for parents in [KAWPOW.parents, ETHASH.parents] {
        check_dataset(number, &Light::new(parents, &cache, epoch.dataset_bytes()), &cache);
    }
}

fn check_dataset(epoch: u32, light: &Light<'_>, cache: &[u8]) {
    let of_epoch = |kind: &'static str, revision: &'static str| {
        let parents = if ["0.9.2", "0.9.3"].contains(&revision) { 256 } else { 512 };
        cases(kind).into_iter().filter(move |case| {
            case["epoch"] == epoch
                && match case.get("dataset_parents") {
                    Some(parents) => parents == light.parents(),
                    None => parents == light.parents(),
                }
                && case.get("variant").is_none_or(|variant| variant == revision)
        })
    };
    let l1 = L1Cache::of(light);
    for case in of_epoch("dataset_item_512bit", "kawpow") {
        assert_eq!(light.item(self::number(&case, "index") as u32), array(&case, "item"), "{}", case["id"]);
    }
    for case in of_epoch("dataset_item_2048bit", "kawpow") {
        let found = row(light, self::number(&case, "index") as u32);
        assert_eq!(hex::encode(found.as_flattened()), text(&case, "item"), "{}", case["id"]);
    }
    for case in of_epoch("l1_cache", "kawpow") {
        assert_eq!(cache.len() as u64, self::number(&case, "light_cache_bytes"), "{}", case["id"]);
        assert_eq!(keccak256(cache), array(&case, "light_cache_keccak256"), "{}", case["id"]);
        let words: Vec<u64> = l1.words().iter().map(|&word| word.into()).collect();
        let (first, last) = (numbers(&case["first_words"]), numbers(&case["last_words"]));
        assert_eq!(words[..first.len()], first, "{}", case["id"]);
        assert_eq!(words[words.len() - last.len()..], last, "{}", case["id"]);
        assert_eq!(keccak256(&bytes_of(l1.words())), array(&case, "l1_keccak256"), "{}", case["id"]);
    }
    for case in of_epoch("prog_loop", "kawpow") {
        let program = Program::of_period(self::number(&case, "prog_seed"));
        let loop_index = self::number(&case, "loop_index") as usize;
        let mut mix = mix_of(&case["mix_before"]);
        let index = mix.row_index(loop_index, light_rows(light));
        assert_eq!(u64::from(index), self::number(&case, "dag_2048bit_index"), "{}", case["id"]);
        mix.run(&program, &l1, &row(light, index), loop_index);
        assert!(mix == mix_of(&case["mix_after"]), "{}", case["id"]);
    }
    for case in of_epoch("prog_loop", "0.9.2") {
        let program = Program::generate(self::number(&case, "prog_seed"), OLDEST);
        let mut mix = Mix::of_seed([word(&case["mix_seed_lo"]), word(&case["mix_seed_hi"])]);
        let index = mix.row_index(0, light_rows(light));
        mix.run(&program, &l1, &row(light, index), 0);
        assert!(mix == mix_of(&case["mix_after"]), "{}", case["id"]);
    }

    for revision in ["0.9.2", "0.9.3", "0.9.4"] {
        for case in of_epoch("hash", revision) {
            let program = Program::generate(
                self::number(&case, "prog_seed"),
                if revision == "0.9.2" { OLDEST } else { Shape::KAWPOW },
            );
            let found = old_hash(revision, &program, light, &l1, &attempt(&case, 0));
            assert_eq!(found, outcome(&case), "{}", case["id"]);
        }
    }
    for case in of_epoch("hash", "kawpow").chain(of_epoch("real_block", "kawpow")) {
        let attempt = attempt(&case, self::number(&case, "height"));
        assert_eq!(period_of(attempt.height), self::number(&case, "prog_seed"), "{}", case["id"]);
        assert_eq!(hash(light, &l1, &attempt), outcome(&case), "{}", case["id"]);
        for mut kernel in kernels() {
            let mut found = [Outcome::default()];
            kernel.hash_light(light, &l1, &[attempt], &mut found);
            assert_eq!(found, [outcome(&case)], "{} through {}", case["id"], kernel.name());
        }
        assert_eq!(final_hash(&attempt, &array(&case, "mix_hash")), array(&case, "final_hash"));
    }
    if light.parents() == KAWPOW.parents {
        for case in cases("search") {
            if KAWPOW.epoch_at(self::number(&case, "height")).unwrap().number() == epoch {
                check_search(&case, light, &l1);
            }
        }
    }
}

/// All nonces of a range that meet a boundary.
fn check_search(case: &Value, light: &Light<'_>, l1: &L1Cache) {
    let first = nonce(&case["start_nonce"]);
    let boundary: [u8; 32] = array(case, "boundary");
    let (header_hash, height) = (array(case, "header_hash"), number(case, "height"));
    let nonces = first..first + number(case, "iterations");
    let attempts: Vec<_> = nonces.map(|nonce| Attempt { header_hash, height, nonce }).collect();
    let expected: Vec<_> =
        list(case, "all_solutions").iter().map(|found| (nonce(&found["nonce"]), outcome(found))).collect();
    for mut kernel in kernels() {
        let mut outcomes = vec![Outcome::default(); attempts.len()];
        kernel.hash_light(light, l1, &attempts, &mut outcomes);
        let pairs = attempts.iter().map(|attempt| attempt.nonce).zip(outcomes);
        let found: Vec<_> = pairs.filter(|(_, outcome)| outcome.final_hash <= boundary).collect();
        assert_eq!(found, expected, "{} through {}", case["id"], kernel.name());
    }
}

/// Every kernel that can run here.
fn kernels() -> Vec<Box<dyn Kernel>> {
    #[allow(unused_mut, reason = "elsewhere there is one kernel")]
    let mut kernels: Vec<Box<dyn Kernel>> = vec![Box::new(Portable)];
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        use otedama_core::cpu::Cpu;
        use otedama_core::jit::KawPowKernel;
        let cpu = Cpu::detect();
        match cpu.avx2() {
            Some(token) => kernels.push(Box::new(KawPowKernel::avx2(token).unwrap())),
            None => println!("SKIPPED: no AVX2 here"),
        }
        match cpu.avx512() {
            Some(token) => {
                kernels.push(Box::new(KawPowKernel::avx512(token, None).unwrap().with_in_flight(3)));
                kernels.push(Box::new(KawPowKernel::avx512(token, cpu.avx512_bit_counts()).unwrap()));
            }
            None => println!("SKIPPED: no AVX-512 here"),
        }
    }
    kernels
}

/// A DAG of 2,056 rows and batches that fill the lanes or do not, within a period and across periods.
#[test]
fn kernels_agree_with_the_oracle_in_memory() {
    let mut random = Kiss99::of_words(1, 2);
    let memory: Vec<u8> = (0..2056 * 64).flat_map(|_| random.next().to_le_bytes()).collect();
    let full = Full::new(&memory);
    let l1 = L1Cache::of(&full);
    let mut kernels = kernels();
    for (count, heights) in [(0, 1), (1, 1), (3, 1), (15, 1), (16, 7), (17, 1), (33, 1), (40, 20), (20, 60)] {
        let attempts: Vec<_> = (0..count)
            .map(|i| Attempt {
                header_hash: std::array::from_fn(|_| random.next() as u8),
                height: i % heights,
                nonce: u64::from(random.next()) << 32 | u64::from(random.next()),
            })
            .collect();
        let expected: Vec<_> = attempts.iter().map(|attempt| hash(&full, &l1, attempt)).collect();
        for kernel in &mut kernels {
            kernel.prepare(period_of(heights));
            let mut found = vec![Outcome::default(); attempts.len()];
            kernel.hash_full(&full, &l1, &attempts, &mut found);
            assert_eq!(found, expected, "{count} attempts at {heights} heights through {}", kernel.name());
        }
    }
}

#[test]
fn attempts_without_outcomes_are_refused() {
    let memory = vec![0; 1 << 14];
    let full = Full::new(&memory);
    let l1 = L1Cache::of(&full);
    let attempt = Attempt { header_hash: [0; 32], height: 0, nonce: 0 };
    for mut kernel in kernels() {
        let hashed = std::panic::AssertUnwindSafe(|| kernel.hash_full(&full, &l1, &[attempt], &mut []));
        assert!(std::panic::catch_unwind(hashed).is_err());
    }
}

/// ProgPoW 0.9.2 has more steps.
const OLDEST: Shape = Shape { cache: 12, math: 20 };

/// A hash of ProgPoW before Ravencoin: nothing fills the states, and before 0.9.4 the seed alone goes from
/// the first permutation to the last.
fn old_hash(
    revision: &str,
    program: &Program,
    light: &Light<'_>,
    l1: &L1Cache,
    attempt: &Attempt,
) -> Outcome {
    let header: [u32; 8] = words_of(&attempt.header_hash);
    let sealed = old_keccak(&header, attempt.nonce, &[0; 8]);
    let (mix, last) = if revision == "0.9.4" {
        let mix = mix_hash(program, light, l1, [sealed[0], sealed[1]]);
        let mut state = [0; 25];
        state[..8].copy_from_slice(&sealed);
        state[8..16].copy_from_slice(&mix);
        f800(&mut state);
        (mix, std::array::from_fn(|i| state[i]))
    } else {
        let (high, low) = (sealed[0].swap_bytes(), sealed[1].swap_bytes());
        let mix = mix_hash(program, light, l1, [low, high]);
        (mix, old_keccak(&header, u64::from(high) << 32 | u64::from(low), &mix))
    };
    Outcome { final_hash: array_of(&last), mix_hash: array_of(&mix) }
}

fn old_keccak(header: &[u32; 8], seed: u64, digest: &[u32; 8]) -> [u32; 8] {
    let mut state = [0; 25];
    state[..8].copy_from_slice(header);
    state[8..10].copy_from_slice(&[seed as u32, (seed >> 32) as u32]);
    state[10..18].copy_from_slice(digest);
    f800(&mut state);
    std::array::from_fn(|i| state[i])
}

fn light_rows(light: &Light<'_>) -> u32 {
    light.pages() / 2
}

fn all_cases() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/kawpow.json")).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn cases(kind: &str) -> Vec<Value> {
    let cases: Vec<Value> = all_cases().into_iter().filter(|case| case["kind"] == kind).collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn attempt(case: &Value, height: u64) -> Attempt {
    Attempt { header_hash: array(case, "header_hash"), height, nonce: nonce(&case["nonce"]) }
}

fn outcome(case: &Value) -> Outcome {
    Outcome { final_hash: array(case, "final_hash"), mix_hash: array(case, "mix_hash") }
}

fn mix_of(lanes: &Value) -> Mix {
    let lanes: Vec<[u32; 32]> = lanes.as_array().unwrap().iter().map(words).collect();
    Mix(std::array::from_fn(|register| std::array::from_fn(|lane| lanes[lane][register])))
}

fn list<'a>(case: &'a Value, name: &str) -> &'a Vec<Value> {
    case[name].as_array().unwrap_or_else(|| panic!("{}: no list {name}", case["id"]))
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{}: no text {name}", case["id"]))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{}: no number {name}", case["id"]))
}

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// Sixteen digits, or a number.
fn nonce(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| u64::from_str_radix(value.as_str().unwrap(), 16).unwrap())
}

fn word(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn words<const N: usize>(list: &Value) -> [u32; N] {
    list.as_array().unwrap().iter().map(word).collect::<Vec<_>>().try_into().unwrap()
}

fn words_of<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|i| u32::from_le_bytes(bytes.as_chunks().0[i]))
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn array_of(words: &[u32; 8]) -> [u8; 32] {
    bytes_of(words).try_into().unwrap()
}

fn array<const N: usize>(case: &Value, name: &str) -> [u8; N] {
    hex::decode(text(case, name)).unwrap().try_into().unwrap()
}
