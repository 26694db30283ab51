//! Numbers such as RandomX's machine meets, and whether somebody rounds operations on them as the oracle does.

use otedama_core::algo::randomx::float::{self, Rounding};

/// Records at a time.
const RECORDS: usize = 400_000;

/// Gives `evaluate` millions of records (operation, mode, a, b; operations 0 add, 1 multiply, 2 divide, 3 square
/// root) and compares the bits it answers with the oracle's.
pub(crate) fn check_roundings(name: &str, evaluate: impl Fn(&[[u64; 4]]) -> Vec<u64>) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut inexact = [[0u32; 4]; 4];
    for _ in 0..8 {
        let records: Vec<[u64; 4]> = (0..RECORDS)
            .map(|i| {
                let (operation, mode) = (i as u64 % 4, i as u64 / 4 % 4);
                let [a, b] = operands(operation, &mut random);
                [operation, mode, a, b]
            })
            .collect();
        let found = evaluate(&records);
        assert_eq!(found.len(), RECORDS);
        for ([operation, mode, a, b], found) in records.into_iter().zip(found) {
            let rounded = |mode| match operation {
                0 => float::add(a, b, mode),
                1 => float::multiply(a, b, mode),
                2 => float::divide(a, b, mode),
                _ => float::square_root(a, mode),
            };
            let expected = rounded(Rounding::from_bits(mode));
            assert_eq!(
                found, expected,
                "{name}: operation {operation}, mode {mode}: {a:016x} {b:016x}: {found:016x}, not {expected:016x}"
            );
            let differs = rounded(Rounding::Up) != rounded(Rounding::Down);
            inexact[operation as usize][mode as usize] += u32::from(differs);
        }
    }
    // Most operands have no exact result: the modes were told apart.
    assert!(inexact.as_flattened().iter().all(|count| *count > 50_000), "{inexact:?}");
}

/// Two numbers such as an operation may meet: 0 add, 1 multiply, 2 divide, 3 square root.
fn operands(operation: u64, random: &mut Random) -> [u64; 2] {
    // Powers of two, numbers beside them, and the largest; few bits, so that results are exact or half way.
    let edge = |random: &mut Random, bits: u64| match random.next() % 6 {
        0 => bits & !float::FRACTION,
        1 => bits | float::FRACTION,
        2 => bits & !float::FRACTION | 1,
        3 => bits & !(float::FRACTION >> 8),
        4 => bits & !(float::FRACTION >> 26),
        _ => bits,
    };
    let number = |random: &mut Random, least: i64, most: i64| {
        let power = least + (random.next() % (most - least + 1) as u64) as i64;
        let bits = ((1023 + power) as u64) << 52 | random.next() & float::FRACTION;
        edge(random, bits)
    };
    // From 1 to 2^32.
    let a_register = |random: &mut Random| number(random, 0, 31);
    // Once in a while the largest exponents and infinity, where results overflow.
    let e_register = |random: &mut Random| match random.next() % 16 {
        0 => number(random, 980, 1023),
        1 if random.next().is_multiple_of(8) => 0x7ff << 52,
        2 => number(random, 1000, 1023),
        _ => number(random, -260, 300),
    };
    match operation {
        0 => {
            let sign = random.next() & 1 << 63;
            let f = match random.next() % 10 {
                0 => sign,
                1 => sign | float::SCALE & !(1 << 63),
                2 => float::from_i32(random.next() as i32) ^ float::SCALE,
                3 => float::from_i32(random.next() as i32),
                _ => number(random, -40, 66) | sign,
            };
            let other = match random.next() % 4 {
                0 => float::from_i32(random.next() as i32),
                1 => float::from_i32(random.next() as i32 % 3),
                // Near to cancelling all of it.
                2 if f << 1 >> 53 > 100 => (f ^ 1 << 63).wrapping_add(random.next() % 3),
                2 => f ^ 1 << 63,
                _ => a_register(random),
            };
            // Neither subnormal numbers nor what the machine cannot hold.
            let small = |bits: u64| bits << 1 != 0 && bits << 1 >> 53 == 0;
            if small(other) { [f, 0] } else { [f, other] }
        }
        1 => [e_register(random), a_register(random)],
        2 => [e_register(random), number(random, -255, 0)],
        _ => [e_register(random), 0],
    }
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
