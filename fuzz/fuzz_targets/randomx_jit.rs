//! RandomX: compiled machines, several in turn, hash as the interpreter does. The input deals out the
//! opcodes and sets every size, the programs follow from the hashes' inputs.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, arbitrary::Unstructured, fuzz_target};
use otedama_core::algo::randomx::config::{ArgonParams, Params, RX_0, RX_2, Revision};
use otedama_core::algo::randomx::{Dataset, Full, Light, hash, superscalar};
use otedama_core::cpu::Cpu;
use otedama_core::jit::{DatasetSource, ItemCode, Machines};
use otedama_core::mem::Request;

#[derive(Arbitrary, Debug)]
struct Input {
    version_2: bool,
    light: bool,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(1..=4))]
    k: usize,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(0..=6))]
    inputs: u8,
    /// In eights: the generator makes whole lines.
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(1..=12))]
    program_size: usize,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(1..=9))]
    program_iterations: usize,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(1..=4))]
    program_count: usize,
    /// Bits of the sizes of L1, and of how much larger L2 and L3 are.
    #[arbitrary(with = |u: &mut Unstructured| Ok([u.int_in_range(6..=8)?, u.int_in_range(0..=2)?, u.int_in_range(0..=2)?]))]
    scratchpad: [u32; 3],
    /// With none, branches would be taken for ever.
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(1..=12))]
    jump_bits: u32,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(0..=37))]
    jump_offset: u32,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(0..=5))]
    dataset_extra_lines: usize,
    /// From where the memory's bytes follow.
    seed: u64,
    opcodes: [u8; 256],
}

fuzz_target!(|input: Input| {
    let Some(aes) = Cpu::detect().aes_ni() else { panic!("this target needs AES instructions") };
    let base = if input.version_2 { &RX_2 } else { &RX_0 };
    let [l1, l2, l3] = input.scratchpad;
    let params = Params {
        name: "fuzz",
        revision: if input.version_2 { Revision::V2 } else { Revision::V1 },
        argon: ArgonParams { memory_kib: 8, ..RX_0.argon },
        // Their generator is slow, and not what this is about.
        cache_accesses: 2,
        superscalar_latency: 20,
        dataset_base_bytes: 1 << 12,
        dataset_extra_bytes: 64 * input.dataset_extra_lines,
        program_size: 8 * input.program_size,
        program_iterations: input.program_iterations,
        program_count: input.program_count,
        scratchpad: [1 << l1, 1 << (l1 + l2), 1 << (l1 + l2 + l3)],
        jump_bits: input.jump_bits,
        jump_offset: input.jump_offset,
        // All of them are in use there, each as often as it deserves.
        opcodes: input.opcodes.map(|opcode| base.opcodes[usize::from(opcode)]),
        ..*base
    };
    let len = if input.light { params.cache_bytes() } else { params.dataset_bytes() };
    let mut state = input.seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    let memory: Vec<u8> = (0..len).map(|_| next()).collect();

    let inputs: Vec<[u8; 9]> = (0..input.inputs).map(|i| std::array::from_fn(|j| i ^ j as u8)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
    let mut machines = Machines::new(&params, input.k, &Request::default(), aes).unwrap();
    let mut hashes = vec![[0; 32]; inputs.len()];
    if input.light {
        let programs = superscalar::Program::of_key(&params, &input.seed.to_le_bytes());
        let items = ItemCode::compile(&params, &programs).unwrap();
        machines.hash(DatasetSource::Light { cache: &memory, items: &items }, &inputs, &mut hashes);
        compare(&params, &Light::new(&params, &memory, &programs), &inputs, &hashes);
    } else {
        machines.hash(DatasetSource::Full(&memory), &inputs, &mut hashes);
        compare(&params, &Full::new(&params, &memory), &inputs, &hashes);
    }
});

fn compare(params: &Params, dataset: &impl Dataset, inputs: &[&[u8]], hashes: &[[u8; 32]]) {
    for (input, found) in inputs.iter().zip(hashes) {
        assert_eq!(hash(params, dataset, input), *found);
    }
}
