//! KawPow's programs on AVX2: eight lanes at a time, one half of them after the other.

#![forbid(unsafe_code)]

use super::kawpow::{
    FIRST_HALF, L1, Machine, ORDER, count_leading_zeros, count_ones, multiply_high, pool, simple,
};
use super::vex::{Op, Reg, Rm, Shift, VectorAsm, Width};
use crate::algo::kawpow::MathOp;

/// AVX2 as it is everywhere.
pub(super) struct Avx2Machine;

/// The first temporary register, of seven.
const T: Reg = 9;

impl Machine for Avx2Machine {
    const WIDTH: Width = Width::Ymm;
    const KEPT: u8 = T;
    const MERGE_TEMPORARY: Reg = T + 4;

    fn start(&self, _: &mut VectorAsm) {}

    fn read_l1(&self, asm: &mut VectorAsm, index: Reg) -> Reg {
        asm.op(Op::PAND, T + 1, index, Rm::Pool(pool::L1_MASK));
        // Lanes that are not gathered would keep what was there: the processor would wait for it.
        asm.op(Op::PXOR, T, T, Rm::Reg(T));
        asm.op(Op::PCMPEQD, T + 2, T + 2, Rm::Reg(T + 2));
        asm.op(Op::PGATHERDD, T, T + 2, Rm::Gather(L1, T + 1));
        T
    }

    fn math(&self, asm: &mut VectorAsm, op: MathOp, a: Reg, b: Reg) -> Reg {
        if let Some(op) = simple(op) {
            asm.op(op, T, a, Rm::Reg(b));
            return T;
        }
        match op {
            MathOp::RotateLeft | MathOp::RotateRight => {
                let (there, back) = if op == MathOp::RotateLeft {
                    (Op::PSLLVD, Op::PSRLVD)
                } else {
                    (Op::PSRLVD, Op::PSLLVD)
                };
                // A shift by 32 leaves nothing.
                asm.op(Op::PAND, T + 1, b, Rm::Pool(pool::WORDS_31));
                asm.load(T + 2, Rm::Pool(pool::WORDS_32));
                asm.op(Op::PSUBD, T + 2, T + 2, Rm::Reg(T + 1));
                asm.op(there, T, a, Rm::Reg(T + 1));
                asm.op(back, T + 2, a, Rm::Reg(T + 2));
                asm.op(Op::POR, T, T, Rm::Reg(T + 2));
            }
            MathOp::LeadingZeros => count_leading_zeros(asm, T, a, b),
            MathOp::Ones => count_ones(asm, T, a, b),
            // What is left is `MathOp::MulHigh`.
            _ => {
                multiply_high(asm, T, a, b);
                asm.op_imm(Op::PBLENDD, T, T, Rm::Reg(T + 1), 0b1010_1010);
            }
        }
        T
    }

    fn rotate_left(&self, asm: &mut VectorAsm, register: Reg, count: u8) {
        asm.shift(Shift::PSRLD, T + 4, register, 32 - count);
        asm.shift(Shift::PSLLD, register, register, count);
        asm.op(Op::POR, register, register, Rm::Reg(T + 4));
    }

    /// Transposes: lane `l` of word `i` is word `4 l + i` of the half row, then lanes go where they belong.
    fn take_row(&self, asm: &mut VectorAsm) {
        for quad in 0..4 {
            let (register, offset) = (T + quad, 16 * i32::from(quad));
            asm.load_xmm(register, FIRST_HALF, offset);
            asm.op_imm(Op::INSERTI128, register, register, Rm::Mem(FIRST_HALF, 64 + offset), 1);
        }
        asm.op(Op::PUNPCKLDQ, T + 4, T, Rm::Reg(T + 1));
        asm.op(Op::PUNPCKLDQ, T + 5, T + 2, Rm::Reg(T + 3));
        asm.op(Op::PUNPCKHDQ, T + 6, T, Rm::Reg(T + 1));
        asm.op(Op::PUNPCKHDQ, T + 3, T + 2, Rm::Reg(T + 3));
        asm.op(Op::PUNPCKLQDQ, T, T + 4, Rm::Reg(T + 5));
        asm.op(Op::PUNPCKHQDQ, T + 1, T + 4, Rm::Reg(T + 5));
        asm.op(Op::PUNPCKLQDQ, T + 2, T + 6, Rm::Reg(T + 3));
        asm.op(Op::PUNPCKHQDQ, T + 3, T + 6, Rm::Reg(T + 3));
        asm.load(T + 5, Rm::Mem(ORDER, 0));
        for word in T..T + 4 {
            asm.op(Op::PERMD, word, T + 5, Rm::Reg(word));
        }
    }

    fn row_word(&self, _: &mut VectorAsm, i: usize) -> Reg {
        T + i as Reg
    }
}
