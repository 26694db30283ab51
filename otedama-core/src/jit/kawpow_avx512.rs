//! KawPow's programs on AVX-512: sixteen lanes at a time.

#![forbid(unsafe_code)]

use super::kawpow::{
    FIRST_HALF, L1, Machine, ORDER, SECOND_HALF, count_leading_zeros, count_ones, multiply_high, pool, simple,
};
use super::vex::{Op, Reg, Rm, Shift, VectorAsm, Width};
use crate::algo::kawpow::MathOp;

/// What there is beyond AVX-512 F, BW, DQ and VL.
pub(super) struct Avx512Machine {
    counts: bool,
}

/// The first temporary register, of five.
const T: Reg = 26;

/// [`pool::L1_MASK`].
const L1_MASK: Reg = 31;

/// For a gather, which clears it.
const ALL: u8 = 1;
/// The odd lanes.
const ODD: u8 = 2;
/// Lanes 8 to 15.
const UPPER: u8 = 3;

impl Avx512Machine {
    /// With or without instructions that count ones and leading zeros.
    pub(super) fn new(counts: bool) -> Avx512Machine {
        Avx512Machine { counts }
    }
}

impl Machine for Avx512Machine {
    const WIDTH: Width = Width::Zmm;
    const KEPT: u8 = T;
    const MERGE_TEMPORARY: Reg = T + 1;

    fn start(&self, asm: &mut VectorAsm) {
        asm.mask(ODD, 0xaaaa);
        asm.mask(UPPER, 0xff00);
        asm.load(L1_MASK, Rm::Pool(pool::L1_MASK));
    }

    fn read_l1(&self, asm: &mut VectorAsm, index: Reg) -> Reg {
        asm.op(Op::PAND, T + 1, index, Rm::Reg(L1_MASK));
        // Lanes that are not gathered would keep what was there: the processor would wait for it.
        asm.op(Op::PXOR, T, T, Rm::Reg(T));
        asm.mask_ones(ALL);
        asm.masked(Op::PGATHERDD, T, 0, Rm::Gather(L1, T + 1), ALL);
        T
    }

    fn math(&self, asm: &mut VectorAsm, op: MathOp, a: Reg, b: Reg) -> Reg {
        if let Some(op) = simple(op) {
            asm.op(op, T, a, Rm::Reg(b));
            return T;
        }
        match op {
            MathOp::RotateLeft => asm.op(Op::PROLVD, T, a, Rm::Reg(b)),
            MathOp::RotateRight => asm.op(Op::PRORVD, T, a, Rm::Reg(b)),
            MathOp::LeadingZeros | MathOp::Ones if self.counts => {
                let count = if op == MathOp::Ones { Op::POPCNTD } else { Op::PLZCNTD };
                asm.op(count, T, 0, Rm::Reg(a));
                asm.op(count, T + 1, 0, Rm::Reg(b));
                asm.op(Op::PADDD, T, T, Rm::Reg(T + 1));
            }
            MathOp::LeadingZeros => count_leading_zeros(asm, T, a, b),
            MathOp::Ones => count_ones(asm, T, a, b),
            // What is left is `MathOp::MulHigh`.
            _ => {
                multiply_high(asm, T, a, b);
                asm.masked(Op::LOAD, T, 0, Rm::Reg(T + 1), ODD);
            }
        }
        T
    }

    fn rotate_left(&self, asm: &mut VectorAsm, register: Reg, count: u8) {
        asm.shift(Shift::PROLD, register, register, count);
    }

    fn take_row(&self, asm: &mut VectorAsm) {
        asm.op(Op::LOAD_ANY, T + 3, 0, Rm::Mem(FIRST_HALF, 0));
        asm.op(Op::LOAD_ANY, T + 4, 0, Rm::Mem(SECOND_HALF, 0));
    }

    /// Both halves of the row in the order of the lower lanes, which is that of the upper ones as well.
    fn row_word(&self, asm: &mut VectorAsm, i: usize) -> Reg {
        for (words, half, base) in [(T, T + 3, FIRST_HALF), (T + 2, T + 4, SECOND_HALF)] {
            asm.load(words, Rm::Mem(ORDER, 64 * i as i32));
            asm.op(Op::PERMI2D, words, half, Rm::Mem(base, 64));
        }
        asm.masked(Op::LOAD, T, 0, Rm::Reg(T + 2), UPPER);
        T
    }
}
