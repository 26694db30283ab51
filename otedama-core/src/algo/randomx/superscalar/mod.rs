//! SuperscalarHash (specification 6): random programs on eight integers that make dataset items dear.
//!
//! A program is generated once per key, by [`generate`], and run for each of 34 million items. It is data:
//! [`Program::execute`] interprets it, and a compiler can read the same instructions.

mod generate;

use crate::algo::randomx::config::Params;
use crate::algo::randomx::{BlakeGenerator, reciprocal};

/// A function of eight registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it does, in order; no branches.
    pub instructions: Vec<Instruction>,
    /// The register with the longest chain of dependencies: it says which cache item comes next.
    pub address_register: u8,
}

/// An instruction, in whose fields nothing is left to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub kind: Kind,
    /// The register it changes.
    pub dst: u8,
    /// The register it reads as well; `dst` where it reads no other.
    pub src: u8,
    /// The `mod` field, of which IADD_RS uses bits 2 and 3: [`Instruction::shift`].
    pub modifier: u8,
    /// The immediate as generated.
    pub imm32: u32,
    /// What the immediate stands for: a rotation, a sign-extended addend or mask, a reciprocal.
    pub constant: u64,
}

/// The instructions (specification 6.1), in the order of their codes. C7, C8 and C9 do the same in 7, 8
/// and 9 bytes of the imagined CPU's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Kind {
    IsubR,
    IxorR,
    IaddRs,
    ImulR,
    IrorC,
    IaddC7,
    IxorC7,
    IaddC8,
    IxorC8,
    IaddC9,
    IxorC9,
    ImulhR,
    IsmulhR,
    ImulRcp,
}

impl Kind {
    /// The specification's name.
    pub const fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "ISUB_R", "IXOR_R", "IADD_RS", "IMUL_R", "IROR_C", "IADD_C7", "IXOR_C7", "IADD_C8", "IXOR_C8",
            "IADD_C9", "IXOR_C9", "IMULH_R", "ISMULH_R", "IMUL_RCP",
        ];
        NAMES[self as usize]
    }

    /// Whether it ends in a product.
    const fn multiplies(self) -> bool {
        matches!(self, Kind::ImulR | Kind::ImulhR | Kind::IsmulhR | Kind::ImulRcp)
    }
}

impl Instruction {
    fn new(kind: Kind, dst: u8, src: u8, modifier: u8, imm32: u32) -> Instruction {
        let constant = match kind {
            Kind::ImulRcp => reciprocal(imm32).expect("the generator draws no power of two"),
            _ => i64::from(imm32 as i32) as u64,
        };
        Instruction { kind, dst, src, modifier, imm32, constant }
    }

    /// How far IADD_RS shifts `src` to the left: 0 to 3.
    pub const fn shift(&self) -> u32 {
        (self.modifier >> 2 & 3) as u32
    }

    /// The reference's eight bytes for it: kind, dst, src, mod, immediate in little-endian order.
    pub fn to_bytes(&self) -> [u8; 8] {
        let [a, b, c, d] = self.imm32.to_le_bytes();
        [self.kind as u8, self.dst, self.src, self.modifier, a, b, c, d]
    }
}

impl Program {
    /// The programs of a key, one for each cache access of a dataset item (specification 7.2).
    ///
    /// # Panics
    /// If the key is longer than [`MAX_KEY_BYTES`](crate::algo::randomx::config::MAX_KEY_BYTES).
    pub fn of_key(params: &Params, key: &[u8]) -> Vec<Program> {
        let mut random = BlakeGenerator::new(key);
        (0..params.cache_accesses)
            .map(|_| Program::generate(params.superscalar_latency, &mut random))
            .collect()
    }

    /// The next program of a stream of random choices, for a target latency in cycles.
    pub fn generate(latency: usize, random: &mut BlakeGenerator) -> Program {
        let instructions = generate::generate(latency, random);
        let address_register = longest_chain(&instructions);
        Program { instructions, address_register }
    }

    /// Applies the function to eight registers.
    pub fn execute(&self, registers: &mut [u64; 8]) {
        for instruction in &self.instructions {
            let constant = instruction.constant;
            let src = registers[usize::from(instruction.src & 7)];
            let dst = &mut registers[usize::from(instruction.dst & 7)];
            *dst = match instruction.kind {
                Kind::IsubR => dst.wrapping_sub(src),
                Kind::IxorR => *dst ^ src,
                Kind::IaddRs => dst.wrapping_add(src << instruction.shift()),
                Kind::ImulR => dst.wrapping_mul(src),
                Kind::IrorC => dst.rotate_right(constant as u32),
                Kind::IaddC7 | Kind::IaddC8 | Kind::IaddC9 => dst.wrapping_add(constant),
                Kind::IxorC7 | Kind::IxorC8 | Kind::IxorC9 => *dst ^ constant,
                Kind::ImulhR => ((u128::from(*dst) * u128::from(src)) >> 64) as u64,
                Kind::IsmulhR => ((i128::from(*dst as i64) * i128::from(src as i64)) >> 64) as u64,
                Kind::ImulRcp => dst.wrapping_mul(constant),
            };
        }
    }
}

/// The register at the end of the longest chain, the first of several, on a machine that does each
/// instruction in one cycle and as many of them as are ready.
fn longest_chain(instructions: &[Instruction]) -> u8 {
    let mut ready = [0u32; 8];
    for instruction in instructions {
        let (dst, src) = (usize::from(instruction.dst), usize::from(instruction.src));
        ready[dst] = ready[dst].max(ready[src]) + 1;
    }
    let longest = ready.iter().max().expect("there are eight registers");
    ready.iter().position(|cycle| cycle == longest).expect("the longest is one of them") as u8
}
