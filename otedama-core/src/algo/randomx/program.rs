//! A program of the virtual machine as data (specification 4.5 and 5): decoded once, in one place, for
//! whoever runs it, by interpreting it or by compiling it.
//!
//! ```text
//! 128 bytes of configuration    8 bytes for each instruction
//! | a0..a3 | ma mx | registers, |  opcode | dst | src | mod | imm32 |
//! |        |       | offset, E  |
//! ```
//!
//! Decoding resolves all that does not depend on registers: which instruction an opcode is, whether an
//! operand is a register or the immediate, which level of the scratchpad an address falls into, where a
//! branch goes, which instructions do nothing. What was decoded stays beside the result.

use super::config::{Level, Params, Revision};
use super::{float, reciprocal};

/// A program, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// What the first 128 bytes say.
    pub configuration: Configuration,
    /// As many as the variant's programs have.
    pub instructions: Vec<Instruction>,
}

impl Program {
    /// Decodes a program.
    ///
    /// # Panics
    /// If `bytes` are not [`Params::program_bytes`].
    pub fn decode(params: &Params, bytes: &[u8]) -> Program {
        assert_eq!(bytes.len(), params.program_bytes(), "a program of {} has another size", params.name);
        let (configuration, code) = bytes.split_first_chunk::<128>().expect("it is in every program");
        let mut decoder = Decoder::new(params);
        let instructions = code.as_chunks().0.iter().map(|word| decoder.next(*word)).collect();
        Program { configuration: Configuration::decode(params, configuration), instructions }
    }
}

/// What a program fixes for all its iterations (specification, table 4.5.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Configuration {
    /// The registers a0..a3, low half first, as bits of floating point numbers.
    pub a: [[u64; 2]; 4],
    /// The first `ma`.
    pub ma: u32,
    /// The first `mx`.
    pub mx: u32,
    /// Which integer registers are readReg0..readReg3.
    pub read_registers: [u8; 4],
    /// The first byte of the dataset that the program can reach: a multiple of 64.
    pub dataset_offset: u64,
    /// For each half of an E register, the bits that specification 4.3.2 sets: exponent and low fraction.
    pub e_bits: [u64; 2],
}

impl Configuration {
    /// Decodes the first 128 bytes of a program.
    pub fn decode(params: &Params, bytes: &[u8; 128]) -> Configuration {
        let quad = |i: usize| u64::from_le_bytes(bytes.as_chunks().0[i]);
        // Specification 4.5.2: a number from 1 to 2^32.
        let a = |i: usize| ((quad(i) >> 59) + 1023) << 52 | quad(i) & float::FRACTION;
        let select = |i: u8| 2 * i + (quad(12) >> i & 1) as u8;
        // Specification 4.5.6 and 4.3.2, steps 2 to 4, which number an exponent's bits from its sign on.
        let e_bits = |i: usize| quad(i) & E_LOW_FRACTION | (quad(i) >> 60) << 56 | 0b011 << 60;
        Configuration {
            a: std::array::from_fn(|i| [a(2 * i), a(2 * i + 1)]),
            ma: quad(8) as u32 & !63,
            mx: quad(10) as u32 & !63,
            read_registers: std::array::from_fn(|i| select(i as u8)),
            dataset_offset: quad(13) % params.dataset_starts() * 64,
            e_bits: [e_bits(14), e_bits(15)],
        }
    }
}

/// The fraction bits of an E register that a program fixes.
const E_LOW_FRACTION: u64 = (1 << 22) - 1;

/// The bits of a loaded E register that come from memory: the end of the exponent and the start of the
/// fraction. The others are [`Configuration::e_bits`].
pub const E_FROM_MEMORY: u64 = 0b1111 << 52 | float::FRACTION & !E_LOW_FRACTION;

/// An instruction and the word it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instruction {
    /// What to do.
    pub op: Op,
    /// The eight bytes as they stand in the program.
    pub word: Word,
}

/// An instruction's eight bytes (specification 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub [u8; 8]);

impl Word {
    /// The opcode, which [`Params::opcodes`] turns into an instruction.
    pub const fn opcode(self) -> u8 {
        self.0[0]
    }

    /// The destination as an integer register.
    pub const fn dst(self) -> u8 {
        self.0[1] & 7
    }

    /// The source as an integer register.
    pub const fn src(self) -> u8 {
        self.0[2] & 7
    }

    /// `mod.mem`: 0 for L2.
    pub const fn mod_mem(self) -> u8 {
        self.0[3] & 3
    }

    /// `mod.shift`.
    pub const fn mod_shift(self) -> u8 {
        self.0[3] >> 2 & 3
    }

    /// `mod.cond`.
    pub const fn mod_cond(self) -> u8 {
        self.0[3] >> 4
    }

    /// The immediate.
    pub const fn imm32(self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// The immediate with its sign extended to 64 bits.
    pub const fn immediate(self) -> u64 {
        self.imm32() as i32 as i64 as u64
    }
}

/// The instructions, in the order of their opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Opcode {
    IaddRs,
    IaddM,
    IsubR,
    IsubM,
    ImulR,
    ImulM,
    ImulhR,
    ImulhM,
    IsmulhR,
    IsmulhM,
    ImulRcp,
    InegR,
    IxorR,
    IxorM,
    IrorR,
    IrolR,
    IswapR,
    FswapR,
    FaddR,
    FaddM,
    FsubR,
    FsubM,
    FscalR,
    FmulR,
    FdivM,
    FsqrtR,
    Cbranch,
    Cfround,
    Istore,
}

impl Opcode {
    /// The specification's name.
    pub const fn name(self) -> &'static str {
        const NAMES: [&str; 29] = [
            "IADD_RS", "IADD_M", "ISUB_R", "ISUB_M", "IMUL_R", "IMUL_M", "IMULH_R", "IMULH_M", "ISMULH_R",
            "ISMULH_M", "IMUL_RCP", "INEG_R", "IXOR_R", "IXOR_M", "IROR_R", "IROL_R", "ISWAP_R", "FSWAP_R",
            "FADD_R", "FADD_M", "FSUB_R", "FSUB_M", "FSCAL_R", "FMUL_R", "FDIV_M", "FSQRT_R", "CBRANCH",
            "CFROUND", "ISTORE",
        ];
        NAMES[self as usize]
    }
}

/// The number of an integer register, 0 to 7.
pub type IntRegister = u8;

/// The number of a register within its group F, E or A, 0 to 3.
pub type FloatRegister = u8;

/// An instruction with its operands resolved. Integers wrap; numbers round as `fprc` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// IMUL_RCP by nothing useful, or ISWAP_R of a register with itself.
    Nop,
    /// IADD_RS: `dst += (src << shift) + displacement`; only r5 ever has one.
    AddShifted {
        /// Changed.
        dst: IntRegister,
        /// May be `dst`.
        src: IntRegister,
        /// 0 to 3.
        shift: u8,
        /// 0, or for r5 the immediate, its sign extended.
        displacement: u64,
    },
    /// `dst = dst op src`.
    Integer {
        /// What is done.
        op: IntegerOp,
        /// Changed.
        dst: IntRegister,
        /// The other operand.
        src: Source,
    },
    /// IMUL_RCP: `dst *= reciprocal`.
    MultiplyReciprocal {
        /// Changed.
        dst: IntRegister,
        /// What it is the reciprocal of.
        divisor: u32,
        /// See [`reciprocal`].
        reciprocal: u64,
    },
    /// INEG_R: `dst = -dst`.
    Negate {
        /// Changed.
        dst: IntRegister,
    },
    /// ISWAP_R of two different registers.
    Swap {
        /// Changed.
        dst: IntRegister,
        /// Changed too.
        src: IntRegister,
    },
    /// FSWAP_R: swaps the halves of one register.
    SwapHalves {
        /// Of which group.
        group: FloatGroup,
        /// Changed.
        dst: FloatRegister,
    },
    /// FADD_R: `f[dst] += a[src]`.
    AddA {
        /// Changed.
        dst: FloatRegister,
        /// Of group A.
        src: FloatRegister,
    },
    /// FADD_M: `f[dst] += [address]`.
    AddMemory {
        /// Changed.
        dst: FloatRegister,
        /// Converted as for group F.
        address: Address,
    },
    /// FSUB_R: `f[dst] -= a[src]`.
    SubtractA {
        /// Changed.
        dst: FloatRegister,
        /// Of group A.
        src: FloatRegister,
    },
    /// FSUB_M: `f[dst] -= [address]`.
    SubtractMemory {
        /// Changed.
        dst: FloatRegister,
        /// Converted as for group F.
        address: Address,
    },
    /// FSCAL_R: xors [`float::SCALE`] into both halves of `f[dst]`.
    Scale {
        /// Changed.
        dst: FloatRegister,
    },
    /// FMUL_R: `e[dst] *= a[src]`.
    MultiplyA {
        /// Changed.
        dst: FloatRegister,
        /// Of group A.
        src: FloatRegister,
    },
    /// FDIV_M: `e[dst] /= [address]`.
    DivideMemory {
        /// Changed.
        dst: FloatRegister,
        /// Converted as for group E.
        address: Address,
    },
    /// FSQRT_R: `e[dst] = sqrt(e[dst])`.
    SquareRoot {
        /// Changed.
        dst: FloatRegister,
    },
    /// CBRANCH: `dst += addend`; if then `dst & mask == 0`, goes on at `target`.
    Branch {
        /// Changed.
        dst: IntRegister,
        /// `cimm` of the specification.
        addend: u64,
        /// The bits that decide.
        mask: u64,
        /// The index of the instruction to go on with: at or before this one.
        target: u16,
    },
    /// CFROUND: the low bits of `src` rotated right may become `fprc`.
    Round {
        /// Read.
        src: IntRegister,
        /// 0 to 63.
        rotation: u8,
        /// Bits of the rotated value that must be 0 for it to have an effect; none in version 1.
        condition: u64,
    },
    /// ISTORE: `[address] = src`.
    Store {
        /// Where to.
        address: Address,
        /// Read.
        src: IntRegister,
    },
}

/// What integer instructions with two operands do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerOp {
    /// IADD_M.
    Add,
    /// ISUB_R, ISUB_M.
    Subtract,
    /// IMUL_R, IMUL_M.
    Multiply,
    /// IMULH_R, IMULH_M: the high half of the product of unsigned numbers.
    MultiplyHigh,
    /// ISMULH_R, ISMULH_M: the high half of the product of signed numbers.
    MultiplyHighSigned,
    /// IXOR_R, IXOR_M.
    Xor,
    /// IROR_R: by the source modulo 64.
    RotateRight,
    /// IROL_R: by the source modulo 64.
    RotateLeft,
}

/// The second operand of an integer instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Another register; for the high products, perhaps the same.
    Register(IntRegister),
    /// The immediate, its sign extended.
    Immediate(u64),
    /// Eight bytes of the scratchpad.
    Memory(Address),
}

/// An aligned 8-byte word of the scratchpad: `(base + offset) & mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The register added, or `None` for zero.
    pub base: Option<IntRegister>,
    /// The immediate, its sign extended.
    pub offset: u64,
    /// The level of the scratchpad that it falls into.
    pub level: Level,
    /// [`Params::word_mask`] of that level.
    pub mask: u32,
}

/// The groups of floating point registers that instructions change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatGroup {
    /// The additive registers.
    F,
    /// The multiplicative registers.
    E,
}

/// Decodes a program's instructions one after the other, remembering what branches need to know.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    params: &'a Params,
    /// The index of the next instruction.
    index: u16,
    /// For each integer register, the index after the instruction that changed it last.
    after_change: [u16; 8],
}

impl Decoder<'_> {
    /// A decoder at a program's start.
    pub fn new(params: &Params) -> Decoder<'_> {
        Decoder { params, index: 0, after_change: [0; 8] }
    }

    /// Decodes the next instruction.
    pub fn next(&mut self, bytes: [u8; 8]) -> Instruction {
        let word = Word(bytes);
        self.next_of(self.opcode(word), word)
    }

    /// What the variant takes the opcode of a word for.
    #[inline(always)]
    pub fn opcode(&self, word: Word) -> Opcode {
        self.params.opcodes[usize::from(word.opcode())]
    }

    /// Decodes the next instruction, whose [`Decoder::opcode`] is known: where it is a constant, all but
    /// its own case disappears.
    #[inline(always)]
    pub fn next_of(&mut self, opcode: Opcode, word: Word) -> Instruction {
        let op = self.op(opcode, word);
        self.index += 1;
        // Specification 5.4.2, what counts as a change.
        let mut changes = |register: IntRegister| self.after_change[usize::from(register)] = self.index;
        match op {
            Op::AddShifted { dst, .. }
            | Op::Integer { dst, .. }
            | Op::MultiplyReciprocal { dst, .. }
            | Op::Negate { dst } => changes(dst),
            Op::Swap { dst, src } => {
                changes(dst);
                changes(src);
            }
            Op::Branch { .. } => (0..8).for_each(changes),
            Op::Nop
            | Op::SwapHalves { .. }
            | Op::AddA { .. }
            | Op::AddMemory { .. }
            | Op::SubtractA { .. }
            | Op::SubtractMemory { .. }
            | Op::Scale { .. }
            | Op::MultiplyA { .. }
            | Op::DivideMemory { .. }
            | Op::SquareRoot { .. }
            | Op::Round { .. }
            | Op::Store { .. } => {}
        }
        Instruction { op, word }
    }

    #[inline(always)]
    fn op(&self, opcode: Opcode, word: Word) -> Op {
        let (dst, src) = (word.dst(), word.src());
        let (float_dst, float_src) = (dst & 3, src & 3);
        let register_or_immediate =
            if src == dst { Source::Immediate(word.immediate()) } else { Source::Register(src) };
        let memory = Source::Memory(self.integer_operand(word));
        let integer = |op, src| Op::Integer { op, dst, src };
        match opcode {
            Opcode::IaddRs => {
                let displacement = if dst == 5 { word.immediate() } else { 0 };
                Op::AddShifted { dst, src, shift: word.mod_shift(), displacement }
            }
            Opcode::IaddM => integer(IntegerOp::Add, memory),
            Opcode::IsubR => integer(IntegerOp::Subtract, register_or_immediate),
            Opcode::IsubM => integer(IntegerOp::Subtract, memory),
            Opcode::ImulR => integer(IntegerOp::Multiply, register_or_immediate),
            Opcode::ImulM => integer(IntegerOp::Multiply, memory),
            Opcode::ImulhR => integer(IntegerOp::MultiplyHigh, Source::Register(src)),
            Opcode::ImulhM => integer(IntegerOp::MultiplyHigh, memory),
            Opcode::IsmulhR => integer(IntegerOp::MultiplyHighSigned, Source::Register(src)),
            Opcode::IsmulhM => integer(IntegerOp::MultiplyHighSigned, memory),
            Opcode::ImulRcp => match reciprocal(word.imm32()) {
                Some(reciprocal) => Op::MultiplyReciprocal { dst, divisor: word.imm32(), reciprocal },
                None => Op::Nop,
            },
            Opcode::InegR => Op::Negate { dst },
            Opcode::IxorR => integer(IntegerOp::Xor, register_or_immediate),
            Opcode::IxorM => integer(IntegerOp::Xor, memory),
            Opcode::IrorR => integer(IntegerOp::RotateRight, register_or_immediate),
            Opcode::IrolR => integer(IntegerOp::RotateLeft, register_or_immediate),
            Opcode::IswapR if src == dst => Op::Nop,
            Opcode::IswapR => Op::Swap { dst, src },
            Opcode::FswapR => {
                let group = if dst < 4 { FloatGroup::F } else { FloatGroup::E };
                Op::SwapHalves { group, dst: float_dst }
            }
            Opcode::FaddR => Op::AddA { dst: float_dst, src: float_src },
            Opcode::FaddM => Op::AddMemory { dst: float_dst, address: self.near(word, src) },
            Opcode::FsubR => Op::SubtractA { dst: float_dst, src: float_src },
            Opcode::FsubM => Op::SubtractMemory { dst: float_dst, address: self.near(word, src) },
            Opcode::FscalR => Op::Scale { dst: float_dst },
            Opcode::FmulR => Op::MultiplyA { dst: float_dst, src: float_src },
            Opcode::FdivM => Op::DivideMemory { dst: float_dst, address: self.near(word, src) },
            Opcode::FsqrtR => Op::SquareRoot { dst: float_dst },
            Opcode::Cbranch => self.branch(word),
            Opcode::Cfround => {
                let condition = match self.params.revision {
                    Revision::V1 => 0,
                    Revision::V2 => 0b11_1100,
                };
                Op::Round { src, rotation: word.imm32() as u8 & 63, condition }
            }
            Opcode::Istore => {
                let address = if word.mod_cond() >= 14 {
                    self.address(word, Some(dst), Level::L3)
                } else {
                    self.near(word, dst)
                };
                Op::Store { address, src }
            }
        }
    }

    /// The memory operand of an integer instruction: anywhere, at the immediate, if `src` is `dst`.
    #[inline(always)]
    fn integer_operand(&self, word: Word) -> Address {
        if word.src() == word.dst() {
            self.address(word, None, Level::L3)
        } else {
            self.near(word, word.src())
        }
    }

    /// A word in L1 or L2 (specification, table 5.1.4).
    #[inline(always)]
    fn near(&self, word: Word, base: IntRegister) -> Address {
        let level = if word.mod_mem() == 0 { Level::L2 } else { Level::L1 };
        self.address(word, Some(base), level)
    }

    #[inline(always)]
    fn address(&self, word: Word, base: Option<IntRegister>, level: Level) -> Address {
        Address { base, offset: word.immediate(), level, mask: self.params.word_mask(level) }
    }

    /// Specification 5.4.2. The bit added and the bit cleared below it make sure that a branch that was
    /// taken is not taken again and again.
    #[inline(always)]
    fn branch(&self, word: Word) -> Op {
        let bit = u32::from(word.mod_cond()) + self.params.jump_offset;
        let mut addend = word.immediate() | 1 << bit;
        if bit > 0 {
            addend &= !(1 << (bit - 1));
        }
        let mask = ((1 << self.params.jump_bits) - 1) << bit;
        let dst = word.dst();
        Op::Branch { dst, addend, mask, target: self.after_change[usize::from(dst)] }
    }
}
