//! Compiled programs against the interpreter.

use super::*;
use crate::algo::kawpow::{L1_WORDS, Shape};
use crate::cpu::Cpu;

type CompileFn = Box<dyn Fn(&Program) -> KawPowCode>;

/// Every compiler that this processor can run the code of, by name.
fn compilers() -> Vec<(&'static str, CompileFn)> {
    let cpu = Cpu::detect();
    let mut compilers: Vec<(_, CompileFn)> = Vec::new();
    match cpu.avx2() {
        Some(token) => {
            compilers.push(("avx2", Box::new(move |program| KawPowCode::avx2(token, program).unwrap())));
        }
        None => println!("SKIPPED: no AVX2 here"),
    }
    match cpu.avx512() {
        Some(token) => compilers.push((
            "avx512 without bit counts",
            Box::new(move |program| KawPowCode::avx512(token, None, program).unwrap()),
        )),
        None => println!("SKIPPED: no AVX-512 here"),
    }
    match (cpu.avx512(), cpu.avx512_bit_counts()) {
        (Some(token), counts @ Some(_)) => compilers
            .push(("avx512", Box::new(move |program| KawPowCode::avx512(token, counts, program).unwrap()))),
        _ => println!("SKIPPED: no AVX-512 CD and VPOPCNTDQ here"),
    }
    compilers
}

/// Numbers that no pattern of a test depends on (Steele, Lea, Flood: SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Often an extreme one.
    fn word(&mut self) -> u32 {
        let random = self.next();
        match random >> 60 {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << (random >> 32 & 31),
            3 => (1u32 << (random >> 32 & 31)).wrapping_sub(1),
            4 => u32::MAX << (random >> 32 & 31),
            _ => random as u32,
        }
    }

    fn mix(&mut self) -> Mix {
        Mix(std::array::from_fn(|_| std::array::from_fn(|_| self.word())))
    }

    fn row(&mut self) -> Row {
        std::array::from_fn(|_| std::array::from_fn(|_| self.next() as u8))
    }

    fn l1(&mut self) -> Box<L1Cache> {
        let memory: Vec<u8> = (0..4 * L1_WORDS).map(|_| self.next() as u8).collect();
        L1Cache::of(&crate::algo::ethash::Full::new(&memory))
    }
}

fn check(program: &Program, codes: &[(&str, KawPowCode)], random: &mut Random, l1: &L1Cache, number: usize) {
    let (mix, row) = (random.mix(), random.row());
    let mut expected = mix.clone();
    expected.run(program, l1, &row, number);
    for (name, code) in codes {
        let mut found = mix.clone();
        code.run(&mut found, l1, &row, number);
        for (register, (found, expected)) in found.0.iter().zip(&expected.0).enumerate() {
            assert_eq!(found, expected, "register {register}, loop {number}, {name}: {program:?}");
        }
    }
}

fn compile_all(program: &Program) -> Vec<(&'static str, KawPowCode)> {
    compilers().iter().map(|(name, compile)| (*name, compile(program))).collect()
}

#[test]
fn single_steps_agree_with_the_interpreter() {
    let mut random = Random(1);
    let l1 = random.l1();
    let merges = [
        Merge::MulAdd,
        Merge::XorMul,
        Merge::RotateLeftXor(1),
        Merge::RotateLeftXor(31),
        Merge::RotateRightXor(1),
        Merge::RotateRightXor(16),
    ];
    for merge in merges {
        let mut steps: Vec<Step> = (0..11)
            .map(|op| Step::Math { a: 3, b: 31, op: MathOp::of(op), dst: op as u8 % 7, merge })
            .collect();
        steps.push(Step::Cache { src: 30, dst: 5, merge });
        // Sources that are destinations.
        steps.push(Step::Cache { src: 6, dst: 6, merge });
        steps.push(Step::Math { a: 0, b: 1, op: MathOp::MulHigh, dst: 0, merge });
        steps.push(Step::Math { a: 0, b: 1, op: MathOp::RotateLeft, dst: 1, merge });
        for step in steps {
            let program = Program { steps: vec![step], dag: [0, 9, 0, 31].map(|dst| (dst, merge)) };
            let codes = compile_all(&program);
            for number in 0..20 {
                check(&program, &codes, &mut random, &l1, number);
            }
        }
    }
}

/// Three loops of each of 10,000 periods through every compiler.
#[test]
fn random_programs_agree_with_the_interpreter() {
    let mut random = Random(2);
    let l1 = random.l1();
    for i in 0..10_000 {
        // Every revision has a shape, and so has what none has.
        let shape = match i % 10 {
            0 => Shape { cache: 12, math: 20 },
            1 => Shape { cache: random.next() as usize % 30, math: random.next() as usize % 30 },
            _ => Shape::KAWPOW,
        };
        let program = Program::generate(random.next() >> (random.next() % 64), shape);
        let codes = compile_all(&program);
        for _ in 0..3 {
            let number = random.next() as usize % 64;
            check(&program, &codes, &mut random, &l1, number);
        }
    }
}

/// Prints a period's code: `cargo test -p otedama-core --lib disassembly -- --ignored --nocapture`.
#[test]
#[ignore = "prints, and checks nothing"]
fn disassembly() {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
    for (name, code) in compile_all(&Program::of_period(406_800)) {
        println!("; {name}: {} bytes", code.bytes().len());
        let mut formatter = IntelFormatter::new();
        for instruction in &mut Decoder::with_ip(64, code.bytes(), 0, DecoderOptions::NONE) {
            let mut line = String::new();
            formatter.format(&instruction, &mut line);
            println!("{:4x}  {line}", instruction.ip());
            if instruction.mnemonic() == iced_x86::Mnemonic::Ret {
                break;
            }
        }
    }
}
