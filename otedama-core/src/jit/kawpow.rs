//! KawPow's programs as machine code: a function for each period that runs the program once.
//!
//! A lane never sees another lane's registers, so a register of all lanes is a vector: one zmm of sixteen
//! words with AVX-512; with AVX2 a ymm, and the function runs once for each half of the lanes. A function works
//! on registers in memory ([`Mix`], 2 KiB): each is loaded when it is first needed, kept in a vector register
//! as long as there is room, and stored when it is written. Since every register is written once a run, that
//! is as many loads and stores as moving a whole mix into the processor and out again would be, and
//! several hashes can take turns, a run each, while the rows of the others are on their way.
//!
//! ```text
//! rdi  the mix (or the upper half of its lanes)      rsi  the L1 cache
//! rdx  the row, from where its first lanes' words    rcx  the row's other half
//!      are (or the half of it for these lanes)       r8   the order of the row's words
//! ```
//!
//! All other registers are free, and nothing is saved: System V's convention says so.

use std::fmt;

use super::kawpow_avx2::Avx2Machine;
use super::kawpow_avx512::Avx512Machine;
use super::vex::{Base, Op, Reg, Rm, Shift, VectorAsm, Width};
use crate::algo::kawpow::{DAG_WORDS, L1Cache, LANES, MathOp, Merge, Mix, Program, REGISTERS, Row, Step};
use crate::cpu::{Avx2, Avx512, Avx512BitCounts};
use crate::mem::exec::{CodeMemory, ExecError};

/// A period's program, compiled.
pub struct KawPowCode {
    memory: CodeMemory,
    /// Bytes in use.
    len: usize,
    width: Width,
}

/// `(mix, L1 cache, row, other half of the row, order)`.
type Entry = unsafe extern "sysv64" fn(*mut u32, *const u32, *const u32, *const u32, *const u32);

impl KawPowCode {
    /// Compiles a program for AVX-512; with the second token, ones and leading zeros are counted by one
    /// instruction each. Takes some tens of microseconds, most of it for the memory.
    ///
    /// # Errors
    /// [`ExecError`], where executable memory is not to be had.
    pub fn avx512(
        _: Avx512,
        counts: Option<Avx512BitCounts>,
        program: &Program,
    ) -> Result<KawPowCode, ExecError> {
        KawPowCode::new(Width::Zmm, compile(Avx512Machine::new(counts.is_some()), program))
    }

    /// Compiles a program for AVX2.
    ///
    /// # Errors
    /// [`ExecError`], where executable memory is not to be had.
    pub fn avx2(_: Avx2, program: &Program) -> Result<KawPowCode, ExecError> {
        KawPowCode::new(Width::Ymm, compile(Avx2Machine, program))
    }

    fn new(width: Width, code: Vec<u8>) -> Result<KawPowCode, ExecError> {
        let mut memory = CodeMemory::new(code.len())?;
        memory.bytes_mut()[..code.len()].copy_from_slice(&code);
        Ok(KawPowCode { memory, len: code.len(), width })
    }

    /// Runs the program once: [`Mix::run`].
    #[inline]
    pub fn run(&self, mix: &mut Mix, l1: &L1Cache, row: &Row, number: usize) {
        // SAFETY: `new` put a function of this type at the start of the memory, which lives as long as
        // `self`, has not been written since, and had never been executed before; the token that its maker
        // asked for proves that the processor has its instructions. The function reads and writes the mix,
        // which is borrowed mutably and has `REGISTERS` vectors at either address; reads the L1 cache at
        // indices masked to its size, the row's two halves from their starts on, and one of the orders below,
        // all of them borrowed; wants the mix and the orders aligned, which their types are; and keeps the
        // registers that the convention says.
        unsafe {
            let entry = std::mem::transmute::<*const u8, Entry>(self.memory.start().as_ptr());
            let registers = mix.0.as_mut_ptr().cast::<u32>();
            let l1 = l1.words().as_ptr();
            // Lanes 0 to 7 read the half that bit 3 of the number says, the others the other one.
            let first = number / HALF_LANES % 2;
            let (first, second) = (row[first].as_ptr().cast(), row[1 - first].as_ptr().cast());
            match self.width {
                Width::Zmm => {
                    let order = &WORD_ORDERS.0[number % HALF_LANES];
                    entry(registers, l1, first, second, order.as_ptr().cast());
                }
                Width::Ymm => {
                    let order = LANE_ORDERS.0[number % HALF_LANES].as_ptr();
                    entry(registers, l1, first, second, order);
                    entry(registers.add(HALF_LANES), l1, second, first, order);
                }
            }
        }
    }

    /// The machine code, for a disassembler.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, at least `len` bytes, and written only by `new`.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr(), self.len) }
    }
}

impl fmt::Debug for KawPowCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KawPowCode({:?}, {} bytes)", self.width, self.len)
    }
}

/// Lanes that half a row is for.
const HALF_LANES: usize = LANES / 2;

/// A table whose rows can be loaded as vectors.
#[repr(align(64))]
struct Aligned<T>(T);

/// For loop `n` modulo 8 and word `i`: which of a half row's words each lane gets, `4 ((lane ^ n) % 8) + i`.
static WORD_ORDERS: Aligned<[[[u32; LANES]; DAG_WORDS]; HALF_LANES]> = Aligned({
    let mut orders = [[[0; LANES]; DAG_WORDS]; HALF_LANES];
    let mut i = 0;
    while i < HALF_LANES * DAG_WORDS * LANES {
        let (number, word, lane) = (i / (DAG_WORDS * LANES), i / LANES % DAG_WORDS, i % LANES);
        orders[number][word][lane] = ((lane ^ number) % HALF_LANES * DAG_WORDS + word) as u32;
        i += 1;
    }
    orders
});

/// For loop `n` modulo 8: `lane ^ n`.
static LANE_ORDERS: Aligned<[[u32; HALF_LANES]; HALF_LANES]> = Aligned({
    let mut orders = [[0; HALF_LANES]; HALF_LANES];
    let mut i = 0;
    while i < HALF_LANES * HALF_LANES {
        let (number, lane) = (i / HALF_LANES, i % HALF_LANES);
        orders[number][lane] = (lane ^ number) as u32;
        i += 1;
    }
    orders
});

/// The mix.
const MIX: Base = Base::Rdi;
/// The L1 cache.
pub(super) const L1: Base = Base::Rsi;
/// The half of the row for the first lanes.
pub(super) const FIRST_HALF: Base = Base::Rdx;
/// The other half.
pub(super) const SECOND_HALF: Base = Base::Rcx;
/// The order of the row's words.
pub(super) const ORDER: Base = Base::R8;

/// What the constants behind the code are, by number.
pub(super) mod pool {
    /// Masks an index of the L1 cache.
    pub(in crate::jit) const L1_MASK: usize = 0;
    pub(in crate::jit) const WORDS_31: usize = 1;
    pub(in crate::jit) const WORDS_32: usize = 2;
    /// 127 + 31: the exponent of 2^31 as a floating-point number, with its bias.
    pub(in crate::jit) const WORDS_158: usize = 3;
    pub(in crate::jit) const BYTES_15: usize = 4;
    /// How many ones each number below 16 has.
    pub(in crate::jit) const NIBBLE_ONES: usize = 5;
    pub(in crate::jit) const BYTES_1: usize = 6;
    pub(in crate::jit) const HALVES_1: usize = 7;
}

const POOL: [[u32; 4]; 8] = [
    [crate::algo::kawpow::L1_WORDS as u32 - 1; 4],
    [31; 4],
    [32; 4],
    [158; 4],
    [0x0f0f_0f0f; 4],
    [0x0201_0100, 0x0302_0201, 0x0302_0201, 0x0403_0302],
    [0x0101_0101; 4],
    [0x0001_0001; 4],
];

/// How an instruction set does what programs consist of. Each method may use the temporary registers and
/// answers in the first of them, unless it says otherwise.
pub(super) trait Machine {
    /// How wide its vectors are.
    const WIDTH: Width;

    /// Vector registers from 0 on that keep registers of the program; those from here on are temporary.
    const KEPT: u8;

    /// What is set up once.
    fn start(&self, asm: &mut VectorAsm);

    /// Reads the L1 cache.
    fn read_l1(&self, asm: &mut VectorAsm, index: Reg) -> Reg;

    /// Calculates.
    fn math(&self, asm: &mut VectorAsm, op: MathOp, a: Reg, b: Reg) -> Reg;

    /// Turns each lane of a register by a constant, in place. Changes no temporary register but
    /// [`Self::MERGE_TEMPORARY`].
    fn rotate_left(&self, asm: &mut VectorAsm, register: Reg, count: u8);

    /// Takes the row apart. [`Self::row_word`] may find what it leaves in temporary registers, if nothing
    /// but merges come between.
    fn take_row(&self, asm: &mut VectorAsm);

    /// Word `i` of what each lane takes of the row, in a register that a merge does not change.
    fn row_word(&self, asm: &mut VectorAsm, i: usize) -> Reg;

    /// The one temporary register that a merge may use.
    const MERGE_TEMPORARY: Reg;
}

fn compile<M: Machine>(machine: M, program: &Program) -> Vec<u8> {
    let mut asm = VectorAsm::new(M::WIDTH);
    let mut kept = Kept::new(M::KEPT, accesses(program));
    machine.start(&mut asm);
    for step in &program.steps {
        let (data, dst, how) = match *step {
            Step::Cache { src, dst, merge } => {
                let index = kept.get(&mut asm, src, [None, None]);
                (machine.read_l1(&mut asm, index), dst, merge)
            }
            Step::Math { a, b, op, dst, merge } => {
                let a = kept.get(&mut asm, a, [None, None]);
                let b = kept.get(&mut asm, b, [Some(a), None]);
                (machine.math(&mut asm, op, a, b), dst, merge)
            }
        };
        let old = kept.get(&mut asm, dst, [None, None]);
        merge(&machine, &mut asm, how, old, data);
        asm.store(home(dst), old);
    }
    machine.take_row(&mut asm);
    for (i, &(dst, how)) in program.dag.iter().enumerate() {
        let data = machine.row_word(&mut asm, i);
        let old = kept.get(&mut asm, dst, [None, None]);
        merge(&machine, &mut asm, how, old, data);
        asm.store(home(dst), old);
    }
    asm.finish(&POOL)
}

/// Merges in place: [`Merge::apply`]. 33 times x is x shifted by 5, plus x.
fn merge<M: Machine>(machine: &M, asm: &mut VectorAsm, how: Merge, old: Reg, data: Reg) {
    let times_33 = |asm: &mut VectorAsm| {
        asm.shift(Shift::PSLLD, M::MERGE_TEMPORARY, old, 5);
        asm.op(Op::PADDD, old, old, Rm::Reg(M::MERGE_TEMPORARY));
    };
    match how {
        Merge::MulAdd => {
            times_33(asm);
            asm.op(Op::PADDD, old, old, Rm::Reg(data));
        }
        Merge::XorMul => {
            asm.op(Op::PXOR, old, old, Rm::Reg(data));
            times_33(asm);
        }
        Merge::RotateLeftXor(count) | Merge::RotateRightXor(count) => {
            let left = if matches!(how, Merge::RotateLeftXor(_)) { count } else { 32 - count };
            machine.rotate_left(asm, old, left);
            asm.op(Op::PXOR, old, old, Rm::Reg(data));
        }
    }
}

/// Where a register of the program is at home.
fn home(register: u8) -> Rm {
    Rm::Mem(MIX, size_of::<[u32; LANES]>() as i32 * i32::from(register))
}

/// The registers of the program that it reads, in order; a destination is read by its merge.
fn accesses(program: &Program) -> Vec<u8> {
    let mut accesses = Vec::with_capacity(3 * program.steps.len() + DAG_WORDS);
    for step in &program.steps {
        match *step {
            Step::Cache { src, dst, .. } => accesses.extend([src, dst]),
            Step::Math { a, b, dst, .. } => accesses.extend([a, b, dst]),
        }
    }
    accesses.extend(program.dag.map(|(dst, _)| dst));
    accesses
}

/// Which registers of the program vector registers keep. What is dropped is the one whose next use is the
/// furthest; memory always has what a register is.
struct Kept {
    /// For each vector register, the register of the program.
    registers: Vec<Option<u8>>,
    accesses: Vec<u8>,
    /// How many of them were.
    done: usize,
}

impl Kept {
    fn new(count: u8, accesses: Vec<u8>) -> Kept {
        Kept { registers: vec![None; count.into()], accesses, done: 0 }
    }

    /// The vector register with what the next access reads, loaded if need be into any but those `held`.
    fn get(&mut self, asm: &mut VectorAsm, register: u8, held: [Option<Reg>; 2]) -> Reg {
        debug_assert_eq!(self.accesses[self.done], register, "accesses are in order");
        debug_assert!(usize::from(register) < REGISTERS);
        self.done += 1;
        if let Some(found) = self.registers.iter().position(|&kept| kept == Some(register)) {
            return found as Reg;
        }
        let next_use = |kept: Option<u8>| match kept {
            None => usize::MAX,
            Some(kept) => {
                let later = &self.accesses[self.done..];
                later.iter().position(|&access| access == kept).unwrap_or(usize::MAX - 1)
            }
        };
        let free = (0..self.registers.len() as Reg).filter(|reg| !held.contains(&Some(*reg)));
        let dropped = free
            .max_by_key(|&reg| next_use(self.registers[usize::from(reg)]))
            .expect("there are more than can be held");
        self.registers[usize::from(dropped)] = Some(register);
        asm.load(dropped, home(register));
        dropped
    }
}

/// The ones of `a` plus those of `b`: in halves of bytes that a table counts, then summed up. Needs five
/// temporary registers from `t` on and answers in the first.
pub(super) fn count_ones(asm: &mut VectorAsm, t: Reg, a: Reg, b: Reg) {
    for (value, low, high) in [(a, t, t + 1), (b, t + 2, t + 3)] {
        asm.shift(Shift::PSRLW, high, value, 4);
        asm.op(Op::PAND, low, value, Rm::Pool(pool::BYTES_15));
        asm.op(Op::PAND, high, high, Rm::Pool(pool::BYTES_15));
    }
    // The table is what is shuffled: it goes to a register of its own each time.
    for nibbles in t..t + 4 {
        asm.load(t + 4, Rm::Pool(pool::NIBBLE_ONES));
        asm.op(Op::PSHUFB, nibbles, t + 4, Rm::Reg(nibbles));
    }
    asm.op(Op::PADDB, t, t, Rm::Reg(t + 1));
    asm.op(Op::PADDB, t + 2, t + 2, Rm::Reg(t + 3));
    asm.op(Op::PADDB, t, t, Rm::Reg(t + 2));
    asm.op(Op::PMADDUBSW, t, t, Rm::Pool(pool::BYTES_1));
    asm.op(Op::PMADDWD, t, t, Rm::Pool(pool::HALVES_1));
}

/// The leading zeros of `a` plus those of `b`. The exponent of a floating-point number says where the highest
/// one is, if rounding cannot carry: so a one behind a one is taken out first. What is negative has a sign
/// above the exponent and saturates to no zeros; zero gives 158, which is cut to 32. Needs four temporary
/// registers from `t` on and answers in the first.
pub(super) fn count_leading_zeros(asm: &mut VectorAsm, t: Reg, a: Reg, b: Reg) {
    for (value, zeros, exponent) in [(a, t, t + 1), (b, t + 2, t + 3)] {
        asm.shift(Shift::PSRLD, exponent, value, 1);
        asm.op(Op::PANDN, exponent, exponent, Rm::Reg(value));
        asm.op(Op::CVTDQ2PS, exponent, 0, Rm::Reg(exponent));
        asm.shift(Shift::PSRLD, exponent, exponent, 23);
        asm.load(zeros, Rm::Pool(pool::WORDS_158));
        asm.op(Op::PSUBUSW, zeros, zeros, Rm::Reg(exponent));
        asm.op(Op::PMINUD, zeros, zeros, Rm::Pool(pool::WORDS_32));
    }
    asm.op(Op::PADDD, t, t, Rm::Reg(t + 2));
}

/// The high half of the product: of the even lanes and of the odd ones, which a shift makes even. The first
/// of three temporary registers from `t` on then has that of the even lanes, the second that of the odd ones.
pub(super) fn multiply_high(asm: &mut VectorAsm, t: Reg, a: Reg, b: Reg) {
    asm.op(Op::PMULUDQ, t, a, Rm::Reg(b));
    asm.shift(Shift::PSRLQ, t + 1, a, 32);
    asm.shift(Shift::PSRLQ, t + 2, b, 32);
    asm.op(Op::PMULUDQ, t + 1, t + 1, Rm::Reg(t + 2));
    asm.shift(Shift::PSRLQ, t, t, 32);
}

/// What is one instruction everywhere.
pub(super) fn simple(op: MathOp) -> Option<Op> {
    match op {
        MathOp::Add => Some(Op::PADDD),
        MathOp::MulLow => Some(Op::PMULLD),
        MathOp::Min => Some(Op::PMINUD),
        MathOp::And => Some(Op::PAND),
        MathOp::Or => Some(Op::POR),
        MathOp::Xor => Some(Op::PXOR),
        MathOp::MulHigh | MathOp::RotateLeft | MathOp::RotateRight | MathOp::LeadingZeros | MathOp::Ones => {
            None
        }
    }
}

#[cfg(test)]
#[path = "kawpow_tests.rs"]
mod tests;
