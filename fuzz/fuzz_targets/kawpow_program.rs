//! A period's program through every compiler and in the interpreter: the same registers, bit by bit, from any
//! registers, any row and any loop.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::algo::ethash::Full;
use otedama_core::algo::kawpow::{Kiss99, L1Cache, Mix, Program, Shape};
use otedama_core::cpu::Cpu;
use otedama_core::jit::KawPowCode;

#[derive(Arbitrary, Debug)]
struct Input {
    seed: u64,
    /// Shapes that no revision has, or KawPow's.
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| Ok((u.int_in_range(0..=40)?, u.int_in_range(0..=40)?)))]
    shape: (usize, usize),
    kawpow: bool,
    /// Goes into the registers from the first on; the rest are random.
    words: Vec<u32>,
    filling: [u32; 2],
    number: u8,
}

thread_local! {
    static L1: Box<L1Cache> = {
        let mut random = Kiss99::of_words(1, 2);
        let memory: Vec<u8> = (0..4096).flat_map(|_| random.next().to_le_bytes()).collect();
        L1Cache::of(&Full::new(&memory))
    };
}

fuzz_target!(|input: Input| {
    let shape = match input.kawpow {
        true => Shape::KAWPOW,
        false => Shape { cache: input.shape.0, math: input.shape.1 },
    };
    let program = Program::generate(input.seed, shape);
    let mut mix = Mix::of_seed(input.filling);
    for (word, given) in mix.0.as_flattened_mut().iter_mut().zip(input.words) {
        *word = given;
    }
    let mut random = Kiss99::of_words(input.filling[1], input.filling[0]);
    let row = std::array::from_fn(|_| std::array::from_fn(|_| random.next() as u8));
    let number = usize::from(input.number % 64);

    let cpu = Cpu::detect();
    let avx2 = cpu.avx2().map(|token| KawPowCode::avx2(token, &program).unwrap());
    let plain = cpu.avx512().map(|token| KawPowCode::avx512(token, None, &program).unwrap());
    let counting =
        cpu.avx512().map(|token| KawPowCode::avx512(token, cpu.avx512_bit_counts(), &program).unwrap());
    L1.with(|l1| {
        let mut expected = mix.clone();
        expected.run(&program, l1, &row, number);
        for code in [avx2, plain, counting].into_iter().flatten() {
            let mut found = mix.clone();
            code.run(&mut found, l1, &row, number);
            assert!(found == expected, "{code:?}: {program:?}");
        }
    });
});
