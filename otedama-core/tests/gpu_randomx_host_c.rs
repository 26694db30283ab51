//! The GPU kernels of RandomX compiled as C, under AddressSanitizer and UndefinedBehaviorSanitizer, against the
//! oracle: the four roundings on millions of operands, and hashes of the sample variants with all that comes before
//! them. Each compiler there is takes its turn.

mod randomx_operands;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use otedama_core::algo::randomx::dataset::{self, Dataset};
use otedama_core::algo::randomx::interpret::Machine;
use otedama_core::algo::randomx::superscalar::Program;
use otedama_core::algo::randomx::{self, Light, Params};
use otedama_core::gpu::randomx::{defines, function_words, variant_words};
use randomx_operands::check_roundings;

const COMPILERS: [&str; 2] = ["gcc", "clang"];

#[test]
fn sums_products_quotients_and_roots_round_as_the_oracle_does() {
    let params = Params::named("rx/0").unwrap();
    for compiler in COMPILERS {
        let Some(program) = build(compiler, params, 0, 1) else { continue };
        check_roundings(compiler, |records| {
            let input = records.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
            words(&run(&program, "rounding", input)).collect()
        });
    }
}

#[test]
fn hashes_of_the_samples_are_the_oracle_s() {
    for name in ["rx/0", "rx/2"] {
        let params = Params::named(name).unwrap().sample();
        for light in [0, 1] {
            for compiler in COMPILERS {
                let part = params.dataset_items() * 3 / 5;
                let Some(program) = build(compiler, params, light, part) else { continue };
                // The nonce within a word, across two, and across two chunks; blobs that end with a chunk or not.
                for (len, nonce_at) in [(76, 39), (128, 32), (141, 126), (43, 39)] {
                    hashes_agree(params, &program, len, nonce_at);
                }
            }
        }
    }
}

fn hashes_agree(params: &Params, program: &Path, len: usize, nonce_at: usize) {
    const COUNT: usize = 3;
    let key = b"host C";
    let first = u64::from(u32::MAX) - 1000;
    let cache = dataset::cache(params, key);
    let functions = Program::of_key(params, key);
    let light = Light::new(params, &cache, &functions);
    let mut blob: Vec<u8> = (0..len as u8).map(|i| i.wrapping_mul(73)).collect();
    blob[nonce_at..][..4].fill(0);

    let mut machines: Vec<Machine<'_>> = (0..COUNT).map(|_| Machine::new(params)).collect();
    let hashes: Vec<[u8; 32]> = (first..)
        .zip(&mut machines)
        .map(|(nonce, machine)| {
            let mut input = blob.clone();
            input[nonce_at..][..4].copy_from_slice(&(nonce as u32).to_le_bytes());
            randomx::hash_on(machine, &light, &input)
        })
        .collect();
    let tops = hashes.iter().map(|hash| u64::from_le_bytes(*hash.last_chunk().unwrap()));
    let target = tops.clone().min().unwrap();

    let function_words = function_words(&functions);
    let numbers = [
        len as u64,
        nonce_at as u64,
        first,
        COUNT as u64,
        params.program_count as u64,
        params.program_iterations as u64,
        27,
        target,
        params.dataset_items(),
        function_words.len() as u64,
    ];
    let mut input: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    input.extend(variant_words(params).iter().flat_map(|word| word.to_le_bytes()));
    input.extend(&blob);
    input.resize(input.len() + len.next_multiple_of(128) - len, 0);
    input.extend(function_words.iter().flat_map(|word| word.to_le_bytes()));
    input.extend(&cache);
    let output = run(program, "hashes", input);

    let (items, rest) = output.split_at(params.dataset_bytes());
    for (i, item) in (0..).zip(items.as_chunks::<64>().0) {
        assert_eq!(words(item).collect::<Vec<_>>(), light.item(i), "{} item {i}", params.name);
    }
    let (states, hits) = rest.split_at(8 * 44 * COUNT);
    let states: Vec<u64> = words(states).collect();
    for (i, machine) in machines.iter().enumerate() {
        let mut file = machine.registers.to_bytes();
        file[192..].copy_from_slice(&randomx::aes::hash_1r(machine.scratchpad()));
        let found: Vec<u64> = (0..32).map(|word| states[word * COUNT + i]).collect();
        assert_eq!(found, words(&file).collect::<Vec<_>>(), "{} hash {i}: its registers", params.name);
    }
    let hits: Vec<u32> = hits.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let best = first + tops.clone().position(|top| top == target).unwrap() as u64;
    assert_eq!(hits[..3], [1, best as u32, (best >> 32) as u32], "{}", params.name);
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// Compiles the kernels with a variant's parameters; says so if there is no such compiler.
fn build(compiler: &str, params: &Params, light: u64, part: u64) -> Option<PathBuf> {
    let version = params.program_size;
    let program = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("randomx-{compiler}-{version}-{light}-{:?}", std::thread::current().id()));
    let mut command = Command::new(compiler);
    command.args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]);
    command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o"]).arg(&program);
    command.args(["-DRX_GROUP=1", &format!("-DRX_LIGHT={light}"), &format!("-DRX_PART={part}")]);
    command.args(defines(params).iter().map(|(name, value)| format!("-D{name}={value}")));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/host/randomx.c")).arg("-lm");
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: RandomX as host C: there is no {compiler}");
            None
        }
        Err(error) => panic!("{compiler}: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
            Some(program)
        }
    }
}

fn run(program: &Path, what: &str, input: Vec<u8>) -> Vec<u8> {
    let mut child =
        Command::new(program).arg(what).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    output.stdout
}
