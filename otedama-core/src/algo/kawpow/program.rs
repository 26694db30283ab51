//! The program of a period, as data.
//!
//! A period is [`PERIOD_BLOCKS`] blocks. Its number seeds a generator of random numbers ([`Kiss99`]), which
//! shuffles two sequences of registers and then chooses step after step:
//!
//! ```text
//! 11 times:  dst = merge(dst, L1 cache[src])          src, dst from the sequences
//! 18 times:  dst = merge(dst, math(a, b))             a, b random, dst from the sequence
//!  4 times:  dst = merge(dst, word of the DAG's row)  the first into register 0
//! ```
//!
//! with steps of the first two kinds in turn while both last. Every register is the destination of exactly
//! one merge, register 0 of a second one at the end. The same steps run in all lanes, [`LOOPS`] times a hash.
//!
//! Source: EIP-1057 (ProgPoW 0.9.4), functions `progPowInit`, `progPowLoop`, `merge` and `math`.

/// Words of a register, one for each lane.
pub const LANES: usize = 16;

/// Registers of a lane.
pub const REGISTERS: usize = 32;

/// Times that a hash runs the program, and rows of the DAG that it reads.
pub const LOOPS: usize = 64;

/// Words that a lane takes of a row of the DAG.
pub const DAG_WORDS: usize = 4;

/// Words of the L1 cache: the first 16 KiB of the DAG.
pub const L1_WORDS: usize = 4096;

/// Blocks of a period.
pub const PERIOD_BLOCKS: u64 = 3;

/// FNV's offset basis: where every FNV-1a hash here starts.
pub(super) const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a on whole words: exclusive or, then multiply.
#[inline(always)]
pub fn fnv1a(hash: u32, word: u32) -> u32 {
    (hash ^ word).wrapping_mul(0x0100_0193)
}

/// The period that a block belongs to.
pub fn period_of(height: u64) -> u64 {
    height / PERIOD_BLOCKS
}

/// What a period's hashes run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// In this order.
    pub steps: Vec<Step>,
    /// After them: word `i` of what a lane takes of the row is merged into the register `dag[i].0`.
    pub dag: [(u8, Merge); DAG_WORDS],
}

/// One step: something is computed and merged into register `dst`. Registers are numbered from 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Reads the L1 cache at word `src` modulo [`L1_WORDS`].
    Cache {
        /// The register with the index.
        src: u8,
        /// The register that changes.
        dst: u8,
        /// How.
        merge: Merge,
    },
    /// Calculates with two different registers.
    Math {
        /// The first operand.
        a: u8,
        /// The second operand.
        b: u8,
        /// What is done with them.
        op: MathOp,
        /// The register that changes.
        dst: u8,
        /// How.
        merge: Merge,
    },
}

/// What a [`Step::Math`] does with 32-bit operands `a` and `b`; arithmetic wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MathOp {
    /// `a + b`.
    Add,
    /// The low half of `a * b`.
    MulLow,
    /// The high half of `a * b`, unsigned.
    MulHigh,
    /// The smaller one, unsigned.
    Min,
    /// `a` rotated left by `b` modulo 32.
    RotateLeft,
    /// `a` rotated right by `b` modulo 32.
    RotateRight,
    /// `a & b`.
    And,
    /// `a | b`.
    Or,
    /// `a ^ b`.
    Xor,
    /// Leading zeros of `a` plus those of `b`; zero has 32.
    LeadingZeros,
    /// Ones of `a` plus those of `b`.
    Ones,
}

/// How new `data` goes into a register that has `old`, so that no entropy of either is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Merge {
    /// `old * 33 + data`.
    MulAdd,
    /// `(old ^ data) * 33`.
    XorMul,
    /// `old` rotated left by so many bits (1 to 31), `^ data`.
    RotateLeftXor(u8),
    /// `old` rotated right by so many bits (1 to 31), `^ data`.
    RotateRightXor(u8),
}

/// How many steps of each kind a program has. Revisions of ProgPoW differ in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Reads of the L1 cache.
    pub cache: usize,
    /// Calculations.
    pub math: usize,
}

impl Shape {
    /// KawPow, as ProgPoW since 0.9.3.
    pub const KAWPOW: Shape = Shape { cache: 11, math: 18 };
}

impl Program {
    /// KawPow's program of a period. Takes about a microsecond.
    pub fn of_period(period: u64) -> Program {
        Program::generate(period, Shape::KAWPOW)
    }

    /// The program that a seed generates.
    pub fn generate(seed: u64, shape: Shape) -> Program {
        let mut random = Kiss99::of_words(seed as u32, (seed >> 32) as u32);
        let (destinations, sources) = sequences(&mut random);
        let mut destinations = destinations.into_iter().cycle();
        let mut sources = sources.into_iter().cycle();
        let next = |from: &mut dyn Iterator<Item = u8>| from.next().expect("a cycle has no end");

        let mut steps = Vec::with_capacity(shape.cache + shape.math);
        for i in 0..shape.cache.max(shape.math) {
            if i < shape.cache {
                let (src, dst) = (next(&mut sources), next(&mut destinations));
                steps.push(Step::Cache { src, dst, merge: Merge::of(random.next()) });
            }
            if i < shape.math {
                let (a, b) = two_registers(random.next());
                let op = MathOp::of(random.next());
                let dst = next(&mut destinations);
                steps.push(Step::Math { a, b, op, dst, merge: Merge::of(random.next()) });
            }
        }
        let dag = std::array::from_fn(|i| {
            let dst = if i == 0 { 0 } else { next(&mut destinations) };
            (dst, Merge::of(random.next()))
        });
        Program { steps, dag }
    }
}

/// The order in which registers are written, and the order in which they address the L1 cache: two random
/// permutations (Fisher and Yates), made side by side.
pub fn sequences(random: &mut Kiss99) -> ([u8; REGISTERS], [u8; REGISTERS]) {
    let mut destinations: [u8; REGISTERS] = std::array::from_fn(|i| i as u8);
    let mut sources = destinations;
    for i in (1..REGISTERS).rev() {
        for sequence in [&mut destinations, &mut sources] {
            sequence.swap(i, random.next() as usize % (i + 1));
        }
    }
    (destinations, sources)
}

/// Two different registers, each pair as likely as any other.
fn two_registers(random: u32) -> (u8, u8) {
    const COUNT: u32 = REGISTERS as u32;
    let random = random % (COUNT * (COUNT - 1));
    let (a, b) = (random % COUNT, random / COUNT);
    (a as u8, if b < a { b } else { b + 1 } as u8)
}

impl MathOp {
    /// The operation that a random number chooses.
    pub fn of(random: u32) -> MathOp {
        match random % 11 {
            0 => MathOp::Add,
            1 => MathOp::MulLow,
            2 => MathOp::MulHigh,
            3 => MathOp::Min,
            4 => MathOp::RotateLeft,
            5 => MathOp::RotateRight,
            6 => MathOp::And,
            7 => MathOp::Or,
            8 => MathOp::Xor,
            9 => MathOp::LeadingZeros,
            _ => MathOp::Ones,
        }
    }

    /// What it is of two words.
    #[inline(always)]
    pub fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            MathOp::Add => a.wrapping_add(b),
            MathOp::MulLow => a.wrapping_mul(b),
            MathOp::MulHigh => ((u64::from(a) * u64::from(b)) >> 32) as u32,
            MathOp::Min => a.min(b),
            MathOp::RotateLeft => a.rotate_left(b % 32),
            MathOp::RotateRight => a.rotate_right(b % 32),
            MathOp::And => a & b,
            MathOp::Or => a | b,
            MathOp::Xor => a ^ b,
            MathOp::LeadingZeros => a.leading_zeros() + b.leading_zeros(),
            MathOp::Ones => a.count_ones() + b.count_ones(),
        }
    }
}

impl Merge {
    /// The way that a random number chooses.
    pub fn of(random: u32) -> Merge {
        let turn = ((random >> 16) % 31 + 1) as u8;
        match random % 4 {
            0 => Merge::MulAdd,
            1 => Merge::XorMul,
            2 => Merge::RotateLeftXor(turn),
            _ => Merge::RotateRightXor(turn),
        }
    }

    /// What it makes of two words.
    #[inline(always)]
    pub fn apply(self, old: u32, data: u32) -> u32 {
        match self {
            Merge::MulAdd => old.wrapping_mul(33).wrapping_add(data),
            Merge::XorMul => (old ^ data).wrapping_mul(33),
            Merge::RotateLeftXor(turn) => old.rotate_left(turn.into()) ^ data,
            Merge::RotateRightXor(turn) => old.rotate_right(turn.into()) ^ data,
        }
    }
}

/// Marsaglia's KISS generator of 1999: two multiply-with-carry generators, a shift register and a linear
/// congruential one. The fields are its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the generator's")]
pub struct Kiss99 {
    pub z: u32,
    pub w: u32,
    pub jsr: u32,
    pub jcong: u32,
}

impl Kiss99 {
    /// The generator that two words seed: a program's, from the period's number.
    pub fn of_words(low: u32, high: u32) -> Kiss99 {
        Kiss99::seeded([low, high, low, high])
    }

    /// The generator of a lane's first registers, from the seed of a hash.
    #[inline(always)]
    pub fn of_lane(seed: [u32; 2], lane: u32) -> Kiss99 {
        Kiss99::seeded([seed[0], seed[1], lane, lane])
    }

    /// Each field is the FNV-1a hash of one word more.
    #[inline(always)]
    fn seeded(words: [u32; 4]) -> Kiss99 {
        let z = fnv1a(FNV_OFFSET, words[0]);
        let w = fnv1a(z, words[1]);
        let jsr = fnv1a(w, words[2]);
        let jcong = fnv1a(jsr, words[3]);
        Kiss99 { z, w, jsr, jcong }
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "an iterator would be without end, and slower")]
    #[inline(always)]
    pub fn next(&mut self) -> u32 {
        self.z = (self.z & 0xffff).wrapping_mul(36969).wrapping_add(self.z >> 16);
        self.w = (self.w & 0xffff).wrapping_mul(18000).wrapping_add(self.w >> 16);
        let mwc = (self.z << 16).wrapping_add(self.w);
        self.jsr ^= self.jsr << 17;
        self.jsr ^= self.jsr >> 13;
        self.jsr ^= self.jsr << 5;
        self.jcong = self.jcong.wrapping_mul(69069).wrapping_add(1_234_567);
        (mwc ^ self.jcong).wrapping_add(self.jsr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_written_once_and_the_first_once_more() {
        for period in (0..100).chain([u64::from(u32::MAX), u64::MAX]) {
            let program = Program::of_period(period);
            let destinations = program.steps.iter().map(|step| match *step {
                Step::Cache { dst, .. } | Step::Math { dst, .. } => dst,
            });
            let mut written: Vec<u8> = destinations.chain(program.dag.map(|(dst, _)| dst)).collect();
            written.sort_unstable();
            written.dedup();
            assert_eq!(program.steps.len(), 29);
            assert_eq!(program.dag[0].0, 0);
            assert_eq!(written.len(), REGISTERS, "period {period}: {written:?}");
        }
    }

    #[test]
    fn operands_differ_and_every_pair_occurs() {
        let pairs: std::collections::HashSet<_> = (0..32 * 31).map(two_registers).collect();
        assert_eq!(pairs.len(), 32 * 31);
        assert!(pairs.iter().all(|&(a, b)| a != b && a < 32 && b < 32));
        assert_eq!(two_registers(32 * 31), two_registers(0));
    }
}
