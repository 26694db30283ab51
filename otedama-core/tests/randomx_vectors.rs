//! RandomX against published and constructed vectors: from its primitives to whole hashes.
//!
//! What needs a cache of 256 MiB is in `randomx_vectors/keyed.rs`, and the comparison of floating point
//! numbers with the processor's in `randomx_vectors/hardware.rs`. `randomx_vectors/compiled.rs` gives the same
//! hashes to compiled machines.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "randomx_vectors/compiled.rs"]
mod compiled;
#[cfg(target_arch = "x86_64")]
#[path = "randomx_vectors/hardware.rs"]
mod hardware;
#[path = "randomx_vectors/keyed.rs"]
mod keyed;

use otedama_core::algo::randomx::config::{Level, MAX_KEY_BYTES, Params, Revision};
use otedama_core::algo::randomx::float::Rounding;
use otedama_core::algo::randomx::interpret::{Machine, to_group_e, to_group_f};
use otedama_core::algo::randomx::program::{Configuration, Decoder, Instruction, Op, Program, Source};
use otedama_core::algo::randomx::{
    self, BlakeGenerator, Dataset, Full, Light, aes, commitment, dataset, hash, reciprocal, superscalar,
};
use otedama_core::primitive::aes::{decrypt_round, encrypt_round};
use otedama_core::primitive::{argon2d, blake2b};
use otedama_core::{Algorithm, Digest, Target};
use serde_json::Value;

#[test]
fn blake2b_matches() {
    for case in cases("blake2b") {
        let message = bytes(&case, "message");
        assert_eq!(blake2b::digest(&message), array::<64>(&case, "blake2b_512"), "{}", case["id"]);
        assert_eq!(blake2b::digest(&message), array::<32>(&case, "blake2b_256"), "{}", case["id"]);
        // In parts that straddle chunks.
        let mut hasher = blake2b::Blake2b::new(64);
        message.chunks(37).for_each(|part| hasher.update(part));
        assert_eq!(hasher.finish(), array::<64>(&case, "blake2b_512"), "{}", case["id"]);
    }
}

#[test]
fn constants_are_the_hashes_of_their_names() {
    let [case] = &cases("derived_constants")[..] else { panic!("one case expected") };
    let named = |name: &str| -> Vec<u8> {
        let constants = case["constants"].as_array().unwrap();
        let constant = constants.iter().find(|constant| constant["name"] == name).unwrap();
        let text = constant["hash_of"].as_str().unwrap().as_bytes();
        let expected = bytes(constant, "hex");
        let hash = if expected.len() == 32 {
            blake2b::digest::<32>(text).to_vec()
        } else {
            blake2b::digest::<64>(text).to_vec()
        };
        assert_eq!(hash, expected, "{name}");
        hash
    };
    let joined = |columns: &[u128]| columns.iter().flat_map(|c| c.to_le_bytes()).collect::<Vec<u8>>();
    let [keys_0_3, keys_4_7] = params("rx/0").generator_4r_keys;
    assert_eq!(named("AesGenerator1R keys 0-3"), joined(&aes::GENERATOR_1R_KEYS));
    assert_eq!(named("AesGenerator4R keys 0-3"), joined(&keys_0_3));
    assert_eq!(named("AesGenerator4R keys 4-7"), joined(&keys_4_7));
    assert_eq!(named("AesHash1R state"), joined(&aes::HASH_1R_STATE));
    assert_eq!(named("AesHash1R xkeys"), joined(&aes::HASH_1R_EXTRA_KEYS));
    // Specification 7.3: two of them were moved a little.
    let words = named("SuperScalarHash initialize");
    for (i, word) in words.as_chunks().0.iter().enumerate().skip(1) {
        let moved = [0, (1 << 33) + 700, 0, 1 << 14, 0, 0, 0, 0][i];
        assert_eq!(u64::from_le_bytes(*word) + moved, dataset::ITEM_CONSTANTS[i], "r{i}");
    }
}

#[test]
fn parameters_match() {
    let cases = cases("params");
    for case in &cases {
        let params = params(text(case, "name"));
        let given = &case["parameters"];
        let number = |name| number(given, name) as usize;
        assert_eq!(params.argon.memory_kib as usize, number("argon_memory_kib"), "{}", params.name);
        assert_eq!(params.argon.passes as usize, number("argon_iterations"), "{}", params.name);
        assert_eq!(params.argon.lanes as usize, number("argon_lanes"), "{}", params.name);
        assert_eq!(params.argon.salt, bytes(given, "argon_salt_hex"), "{}", params.name);
        assert_eq!(params.cache_accesses, number("cache_accesses"), "{}", params.name);
        assert_eq!(params.superscalar_latency, number("superscalar_latency"), "{}", params.name);
        assert_eq!(params.dataset_base_bytes, number("dataset_base_size"), "{}", params.name);
        assert_eq!(params.dataset_extra_bytes, number("dataset_extra_size"), "{}", params.name);
        assert_eq!(params.program_size, number("program_size"), "{}", params.name);
        assert_eq!(params.program_iterations, number("program_iterations"), "{}", params.name);
        assert_eq!(params.program_count, number("program_count"), "{}", params.name);
        let scratchpad = ["scratchpad_l1", "scratchpad_l2", "scratchpad_l3"].map(number);
        assert_eq!(params.scratchpad, scratchpad, "{}", params.name);
        assert_eq!(params.jump_bits as usize, number("jump_bits"), "{}", params.name);
        assert_eq!(params.jump_offset as usize, number("jump_offset"), "{}", params.name);
        for (name, frequency) in case["frequencies"].as_object().unwrap() {
            let count = params.opcodes.iter().filter(|opcode| opcode.name() == name).count();
            assert_eq!(count as u64, frequency.as_u64().unwrap(), "{} {name}", params.name);
        }
        assert_eq!(params.revision == Revision::V2, params.name == "rx/2");
    }
    println!("params: {} of {} variants have a case", cases.len(), Params::ALL.len());
    for case in self::cases("opcode_table") {
        for row in case["table"].as_array().unwrap() {
            for opcode in number(row, "first_opcode")..=number(row, "last_opcode") {
                for name in ["rx/0", "rx/2"] {
                    let found = params(name).opcodes[opcode as usize].name();
                    assert_eq!(found, text(row, "instruction"), "{name} {opcode}");
                }
            }
        }
    }
}

#[test]
fn masks_follow_from_the_sizes() {
    let params = params("rx/0");
    assert_eq!(params.word_mask(Level::L1), 0x3ff8);
    assert_eq!(params.word_mask(Level::L2), 0x3fff8);
    assert_eq!(params.word_mask(Level::L3), 0x1ffff8);
    assert_eq!(params.line_mask(), 0x1fffc0);
    assert_eq!(params.dataset_mask(), 0x7fff_ffc0);
    assert_eq!(params.dataset_items(), 34_078_719);
    assert_eq!(params.program_bytes(), 128 + 2048);
    assert_eq!(Params::of(Algorithm::RandomXV2).unwrap().name, "rx/2");
    assert!(Params::of(Algorithm::Sha256d).is_none());
}

#[test]
fn reciprocals_match() {
    for case in cases("reciprocal") {
        let expected = text(&case, "reciprocal").parse().unwrap();
        assert_eq!(reciprocal(number(&case, "divisor") as u32), Some(expected), "{}", case["id"]);
    }
    assert_eq!(reciprocal(0), None);
    for bit in 0..32 {
        assert_eq!(reciprocal(1 << bit), None);
    }
}

#[test]
fn aes_matches() {
    for case in cases("aes_round") {
        let [state, key] = ["state", "key"].map(|name| u128::from_le_bytes(array(&case, name)));
        let [encrypted, decrypted] = [encrypt_round(state, key), decrypt_round(state, key)];
        assert_eq!(encrypted.to_le_bytes(), array::<16>(&case, "encrypt"), "{}", case["id"]);
        assert_eq!(decrypted.to_le_bytes(), array::<16>(&case, "decrypt"), "{}", case["id"]);
    }
    let rx_0 = params("rx/0");
    type Fill<'a> = &'a dyn Fn(&mut aes::State, &mut [u8]);
    let generators: [(&str, Fill<'_>); 2] = [
        ("aes_generator_1r", &aes::fill_1r),
        ("aes_generator_4r", &|state, out| aes::fill_4r(rx_0, state, out)),
    ];
    for (kind, fill) in generators {
        for case in cases(kind) {
            let mut state = aes::state_from_bytes(&array(&case, "state"));
            let mut output = vec![0; number(&case, "output_len") as usize];
            fill(&mut state, &mut output);
            assert_eq!(output, bytes(&case, "output"), "{}", case["id"]);
            if case.get("final_state").is_some() {
                let state = aes::state_to_bytes(&state);
                assert_eq!(state, array::<64>(&case, "final_state"), "{}", case["id"]);
            }
        }
    }
    for case in cases("aes_hash_1r") {
        let hash = aes::hash_1r(&bytes(&case, "input"));
        assert_eq!(hash, array::<64>(&case, "output"), "{}", case["id"]);
    }
    for case in cases("aes_scratchpad") {
        let mut scratchpad = vec![0; number(&case, "scratchpad_len") as usize];
        aes::fill_1r(&mut aes::state_from_bytes(&array(&case, "state")), &mut scratchpad);
        check_ends(&case, "", &scratchpad);
        let digest = blake2b::digest(&scratchpad);
        assert_eq!(digest, array::<32>(&case, "scratchpad_blake2b_256"), "{}", case["id"]);
        let hash = aes::hash_1r(&scratchpad);
        assert_eq!(hash, array::<64>(&case, "aes_hash_1r"), "{}", case["id"]);
    }
}

#[test]
fn blake_generators_match() {
    for case in cases("blake2_generator") {
        let mut generator = BlakeGenerator::new(&bytes(&case, "key"));
        let outputs = case["outputs"].as_array().unwrap();
        for (i, (size, output)) in text(&case, "pattern").chars().zip(outputs).enumerate() {
            let drawn = match size {
                'w' => format!("{:08x}", generator.word()),
                'b' => format!("{:02x}", generator.byte()),
                other => panic!("{}: unknown size {other}", case["id"]),
            };
            assert_eq!(drawn, output.as_str().unwrap(), "{} output {i}", case["id"]);
        }
    }
}

#[test]
fn argon2d_matches() {
    for case in cases("argon2d") {
        let mut tag = vec![0; number(&case, "tag_len") as usize];
        let [password, salt, secret, associated_data] =
            ["password", "salt", "secret", "associated_data"].map(|name| bytes(&case, name));
        let input = argon2d::Input {
            lanes: number(&case, "lanes") as u32,
            tag_bytes: tag.len() as u32,
            memory_kib: number(&case, "memory_kib") as u32,
            passes: number(&case, "iterations") as u32,
            password: &password,
            salt: &salt,
            secret: &secret,
            associated_data: &associated_data,
        };
        argon2d::hash(&input, &mut tag);
        assert_eq!(tag, bytes(&case, "tag"), "{}", case["id"]);
    }
    for case in cases("argon2d_fill") {
        let (key, salt) = (bytes(&case, "key"), bytes(&case, "salt"));
        let input = argon2d::Input {
            lanes: number(&case, "lanes") as u32,
            tag_bytes: 0,
            memory_kib: number(&case, "memory_kib") as u32,
            passes: number(&case, "iterations") as u32,
            password: &key,
            salt: &salt,
            secret: &[],
            associated_data: &[],
        };
        assert_eq!(input.h0(), array::<64>(&case, "h0"), "{}", case["id"]);
        let mut memory = vec![[0; argon2d::BLOCK_BYTES]; input.blocks()];
        let mut reported = 0;
        argon2d::fill(&input, &mut memory, &argon2d::Portable, |blocks| {
            reported += blocks;
            Ok::<(), ()>(())
        })
        .unwrap();
        let filled = input.blocks() * input.passes as usize - 2 * input.lanes as usize;
        assert_eq!(reported, filled, "{}: every block but the first two of a lane", case["id"]);
        assert_eq!(memory[1][..64], bytes(&case, "block1_first_64"), "{}", case["id"]);
        let memory = memory.as_flattened();
        check_ends(&case, "", memory);
        let digest = blake2b::digest(memory);
        assert_eq!(digest, array::<32>(&case, "memory_blake2b_256"), "{}", case["id"]);
    }
}

#[test]
fn a_fill_that_is_stopped_stops() {
    let input = dataset::cache_input(params("rx/0"), b"key");
    let mut memory = vec![[0; argon2d::BLOCK_BYTES]; input.blocks()];
    let stopped = argon2d::fill(&input, &mut memory, &argon2d::Portable, Err);
    assert_eq!(stopped, Err(2048));
    assert_eq!(memory[2050], [0; 1024]);
}

#[test]
fn superscalar_programs_match() {
    let cases = cases("superscalar_program");
    let mut compared = 0;
    for case in &cases {
        let mut random = BlakeGenerator::new(&bytes(case, "key"));
        let mut programs = std::iter::repeat_with(|| superscalar::Program::generate(170, &mut random));
        let program = programs.nth(number(case, "index") as usize).unwrap();
        let code: Vec<u8> = program.instructions.iter().flat_map(|i| i.to_bytes()).collect();
        if case.get("code").is_some() {
            for (i, (ours, theirs)) in code.chunks(8).zip(bytes(case, "code").chunks(8)).enumerate() {
                assert_eq!(ours, theirs, "{} instruction {i}", case["id"]);
            }
            compared += 1;
        }
        assert_eq!(program.instructions.len() as u64, number(case, "size"), "{}", case["id"]);
        let digest = blake2b::digest(&code);
        assert_eq!(digest, array::<32>(case, "program_blake2b_256"), "{}", case["id"]);
        let address_register = u64::from(program.address_register);
        assert_eq!(address_register, number(case, "address_register"), "{}", case["id"]);
        if case.get("input_registers").is_some() {
            let mut registers = words(&case["input_registers"]);
            program.execute(&mut registers);
            assert_eq!(registers, words(&case["output_registers"]), "{}", case["id"]);
        }
    }
    println!("superscalar_program: {} programs, {compared} of them byte by byte", cases.len());
}

#[test]
fn conversions_match() {
    for case in cases("fp_conversion") {
        let int32 = u64::from_str_radix(text(&case, "int32"), 16).unwrap();
        let mut code = vec![0; params("rx/0").program_bytes()];
        let mask = u64::from_str_radix(text(&case, "e_mask_quadword"), 16).unwrap();
        code[112..120].copy_from_slice(&mask.to_le_bytes());
        let configuration = Program::decode(params("rx/0"), &code).configuration;
        let hex = |value: u64| format!("{value:016x}");
        assert_eq!(hex(to_group_f(int32)[0]), text(&case, "f_value"), "{}", case["id"]);
        assert_eq!(hex(to_group_f(int32 << 32)[1]), text(&case, "f_value"), "{}", case["id"]);
        assert_eq!(hex(to_group_e(int32, &configuration)[0]), text(&case, "e_value"), "{}", case["id"]);
    }
}

#[test]
fn instructions_decode_as_they_should() {
    for case in cases("instruction_decode") {
        let Instruction { op, word } = decode("rx/0", &case);
        let id = &case["id"];
        assert_eq!(u64::from(word.opcode()), number(&case, "opcode"), "{id}");
        assert_eq!(format!("{:08x}", word.imm32()), text(&case, "imm32"), "{id}");
        let expected = &case["decoded"];
        let opcode = params("rx/0").opcodes[usize::from(word.opcode())];
        assert_eq!(opcode.name(), text(expected, "type"), "{id}");
        let mut decoded = serde_json::Map::new();
        let mut set = |name: &str, value: Value| {
            decoded.insert(name.to_owned(), value);
        };
        let address = match op {
            Op::AddShifted { dst, src, shift, displacement } => {
                set("dst", dst.into());
                set("src", src.into());
                set("shift", shift.into());
                set("imm", immediate(displacement));
                None
            }
            Op::Integer { dst, src, .. } => {
                set("dst", dst.into());
                match src {
                    Source::Register(src) => {
                        set("src", src.into());
                        None
                    }
                    Source::Immediate(value) => {
                        set("imm", immediate(value));
                        None
                    }
                    Source::Memory(address) => {
                        set("src", address.base.map_or("zero".into(), Value::from));
                        Some(address)
                    }
                }
            }
            Op::Branch { dst, addend, mask, target } => {
                assert_eq!(target, 0, "{id}");
                set("dst", dst.into());
                set("imm", immediate(addend));
                set("mem_mask", format!("{mask:x}").into());
                None
            }
            Op::Store { address, src } => {
                set("dst", address.base.unwrap().into());
                set("src", src.into());
                Some(address)
            }
            _ => {
                set("dst", word.dst().into());
                set("src", word.src().into());
                None
            }
        };
        if let Some(address) = address {
            set("level", format!("{:?}", address.level).into());
            set("imm", immediate(address.offset));
            assert_eq!(address.mask, params("rx/0").word_mask(address.level), "{id}");
        }
        for (name, value) in expected.as_object().unwrap() {
            if name != "type" {
                assert_eq!(decoded.get(name), Some(value), "{id} {name}");
            }
        }
    }
}

#[test]
fn branches_go_after_the_last_change() {
    // CBRANCH r0; IMUL_RCP r1, 4 (nothing); IADD_RS r1, r2; ISWAP_R r3, r3 (nothing); CBRANCH r3;
    // CBRANCH r1; ISWAP_R r1, r4; CBRANCH r4.
    let code = [[238, 0], [76, 1], [0, 1], [116, 3], [238, 3], [238, 1], [116, 1], [238, 4]];
    let sources = [0, 0, 2, 3, 0, 0, 4, 0];
    let mut decoder = Decoder::new(params("rx/0"));
    let targets: Vec<Option<u16>> = code
        .into_iter()
        .zip(sources)
        .map(|([opcode, dst], src)| match decoder.next([opcode, dst, src, 0, 4, 0, 0, 0]).op {
            Op::Branch { target, .. } => Some(target),
            _ => None,
        })
        .collect();
    assert_eq!(targets, [Some(0), None, None, None, Some(1), Some(5), None, Some(7)]);
}

#[test]
fn instructions_execute_as_they_should() {
    for case in cases("instruction_execute") {
        let id = &case["id"];
        let (mut machine, configuration) = machine("rx/0", &case);
        if let Some(memory) = case.get("memory") {
            let (address, value) = (number(memory, "address") as usize, word(&memory["value"]));
            machine.scratchpad_mut()[address..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let taken = machine.step(&decode("rx/0", &case).op, &configuration).is_some();
        if let Some(expected) = case.get("branch_taken") {
            assert_eq!(taken, expected.as_bool().unwrap(), "{id}");
        }
        let group = match text(&case, "result_group") {
            "r" => &machine.registers.r[..],
            "f" => machine.registers.f.as_flattened(),
            "e" => machine.registers.e.as_flattened(),
            other => panic!("{id}: unknown group {other}"),
        };
        for (i, expected) in case["result"].as_array().unwrap().iter().enumerate() {
            assert_eq!(group[i], word(expected), "{id} {i}");
        }
    }
}

#[test]
fn random_instructions_execute_as_they_should() {
    let mut scratchpad = vec![0; params("rx/0").scratchpad_bytes()];
    let seed = blake2b::digest(b"vm instruction test");
    aes::fill_1r(&mut aes::state_from_bytes(&seed), &mut scratchpad);
    for case in cases("instruction_random") {
        for variant in ["rx/0", "rx/2"] {
            let id = &case["id"];
            let (mut machine, configuration) = machine(variant, &case);
            machine.scratchpad_mut().copy_from_slice(&scratchpad);
            let before = machine.registers;
            let instruction = decode(variant, &case);
            let opcode = params(variant).opcodes[usize::from(instruction.word.opcode())];
            assert_eq!(opcode.name(), text(&case, "instruction_name"), "{id}");
            machine.step(&instruction.op, &configuration);

            let result = match case.get("result_rx2") {
                Some(result) if variant == "rx/2" => result,
                _ => &case["result"],
            };
            let changed = |name: &str, before: &[u64]| {
                let mut after = before.to_vec();
                let changes = result.get(name).and_then(Value::as_object);
                for (i, value) in changes.into_iter().flatten() {
                    after[i.parse::<usize>().unwrap()] = word(value);
                }
                after
            };
            let after = &machine.registers;
            assert_eq!(after.r[..], changed("changed_r", &before.r), "{id} r");
            assert_eq!(after.f.as_flattened(), changed("changed_f", before.f.as_flattened()), "{id} f");
            assert_eq!(after.e.as_flattened(), changed("changed_e", before.e.as_flattened()), "{id} e");
            assert_eq!(after.a, before.a, "{id} a");
            assert_eq!(machine.fprc as u64, number(result, "fprc"), "{id} {variant} fprc");
            let mut expected = scratchpad.clone();
            if let Some(store) = result.get("store").filter(|store| !store.is_null()) {
                let (address, value) = (number(store, "address") as usize, word(&store["value"]));
                expected[address..][..8].copy_from_slice(&value.to_le_bytes());
            }
            assert!(machine.scratchpad() == expected, "{id}: the scratchpad differs");
        }
    }
}

#[test]
fn commitments_match() {
    for kind in ["commitment", "hash"] {
        for case in cases(kind) {
            let made = commitment(&bytes(&case, "input"), &array(&case, "hash"));
            assert_eq!(made, array::<32>(&case, "commitment"), "{}", case["id"]);
        }
    }
}

#[test]
fn difficulties_are_met_as_monero_says() {
    for case in cases("monero_difficulty") {
        let difficulty = text(&case, "difficulty").parse().unwrap();
        let algorithm = Algorithm::RandomXV1;
        let target = Target::from_whole_difficulty(algorithm, difficulty);
        let met = Digest::plain(array(&case, "hash")).meets(algorithm, &target);
        assert_eq!(met, case["valid"].as_bool().unwrap(), "{}", case["id"]);
    }
}

#[test]
fn full_and_light_agree() {
    for revision in [Revision::V1, Revision::V2] {
        let params = small(revision);
        let memory = dataset::cache(&params, b"small");
        let programs = superscalar::Program::of_key(&params, b"small");
        let light = Light::new(&params, &memory, &programs);
        let items: Vec<u8> = (0..params.dataset_items())
            .flat_map(|index| light.item(index).map(u64::to_le_bytes))
            .flatten()
            .collect();
        let full = Full::new(&params, &items);
        let mut machine = Machine::new(&params);
        for input in [&b""[..], b"one", &[0xff; 200]] {
            let expected = hash(&params, &light, input);
            assert_eq!(randomx::hash_on(&mut machine, &full, input), expected);
        }
    }
}

#[test]
#[should_panic(expected = "a RandomX key has 61 bytes: expected at most 60")]
fn long_keys_are_refused() {
    superscalar::Program::of_key(params("rx/0"), &[0; MAX_KEY_BYTES + 1]);
}

/// A variant that takes no time and little memory.
fn small(revision: Revision) -> Params {
    let mut params = params("rx/0").clone();
    params.name = "small";
    params.revision = revision;
    params.argon.memory_kib = 64;
    params.dataset_base_bytes = 1 << 14;
    params.dataset_extra_bytes = 64 * 100;
    params.program_iterations = 64;
    params.program_count = 2;
    params.scratchpad = [1 << 10, 1 << 12, 1 << 14];
    params
}

fn params(name: &str) -> &'static Params {
    Params::named(name).unwrap()
}

/// A machine in a case's state, and a configuration with its masks.
fn machine(variant: &str, case: &Value) -> (Machine<'static>, Configuration) {
    let params = params(variant);
    let mut machine = Machine::new(params);
    let floats = |name: &str| -> [[u64; 2]; 4] {
        let flat = case.get(name).map_or([0; 8], words);
        std::array::from_fn(|i| [flat[2 * i], flat[2 * i + 1]])
    };
    machine.registers.r = case.get("r").map_or([0; 8], words);
    machine.registers.f = floats("f");
    machine.registers.e = floats("e");
    machine.registers.a = floats("a");
    machine.fprc = Rounding::from_bits(case.get("fprc").map_or(0, |fprc| fprc.as_u64().unwrap()));
    let mut code = vec![0; params.program_bytes()];
    for (i, mask) in case.get("e_mask_quadwords").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        code[112 + 8 * i..][..8].copy_from_slice(&word(mask).to_le_bytes());
    }
    (machine, Program::decode(params, &code).configuration)
}

fn decode(variant: &str, case: &Value) -> Instruction {
    Decoder::new(params(variant)).next(array(case, "instruction"))
}

/// An immediate as the cases give it.
fn immediate(value: u64) -> Value {
    if value == 0 { 0.into() } else { format!("{value:016x}").into() }
}

/// The first and last bytes of `memory`, as far as the case has them.
fn check_ends(case: &Value, prefix: &str, memory: &[u8]) {
    let (first, last) = (bytes(case, &format!("{prefix}first_64")), bytes(case, &format!("{prefix}last_64")));
    assert_eq!(memory[..64], first, "{} first", case["id"]);
    assert_eq!(memory[memory.len() - 64..], last, "{} last", case["id"]);
}

fn cases(kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/randomx.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let cases: Vec<_> = cases.iter().filter(|case| case["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{}: {name} is no text", case["id"]))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{}: {name} is no number", case["id"]))
}

/// A register, printed as a number.
fn word(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn words(values: &Value) -> [u64; 8] {
    let values: Vec<u64> = values.as_array().unwrap().iter().map(word).collect();
    values.try_into().unwrap()
}

fn pairs(values: &Value) -> [[u64; 2]; 4] {
    std::array::from_fn(|i| std::array::from_fn(|half| word(&values[i][half])))
}

fn array<const LEN: usize>(case: &Value, name: &str) -> [u8; LEN] {
    bytes(case, name).try_into().unwrap()
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    unhex(text(case, name))
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}
