//! A period's program as text for a GPU's compiler, in the vocabulary of the kernels (`kernels/common/vocab.h`):
//! one statement for every step, over the registers `mix[0]` to `mix[31]` of a lane.
//!
//! ```text
//! mix[7] = OTD_ROTL32(mix[7], 11u) ^ OTD_CACHED(mix[30]);
//! mix[2] = mix[2] * 33u + (OTD_MULHI32(mix[4], mix[19]));
//! ```
//!
//! The same steps that the interpreter runs and [`jit`](crate::jit) compiles.

use std::fmt::{self, Display};

use super::program::{MathOp, Merge, Program, Step};

/// Prints a program as the function `otd_period` of `kernels/kawpow.cl`.
pub fn period_text(program: &Program) -> String {
    let steps: String = program.steps.iter().map(|step| format!("    {}\n", Statement(step))).collect();
    let row: String = (program.dag.iter().zip(["row.x", "row.y", "row.z", "row.w"]))
        .map(|(&(dst, merge), word)| format!("    {}\n", Merged(dst, merge, word)))
        .collect();
    format!(
        "OTD_FN void otd_period(u32 *mix, OTD_LOCAL const u32 *cache, u32 copy, u32x4 row)\n{{\n{steps}{row}}}\n"
    )
}

/// A step as an assignment.
struct Statement<'a>(&'a Step);

impl Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            Step::Cache { src, dst, merge } => {
                Merged(dst, merge, format_args!("OTD_CACHED(mix[{src}])")).fmt(f)
            }
            Step::Math { a, b, op, dst, merge } => {
                Merged(dst, merge, format_args!("({})", Math(op, a, b))).fmt(f)
            }
        }
    }
}

/// What goes into a register, and how.
struct Merged<T>(u8, Merge, T);

impl<T: Display> Display for Merged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Merged(dst, merge, data) = self;
        match merge {
            Merge::MulAdd => write!(f, "mix[{dst}] = mix[{dst}] * 33u + {data};"),
            Merge::XorMul => write!(f, "mix[{dst}] = (mix[{dst}] ^ {data}) * 33u;"),
            Merge::RotateLeftXor(turn) => write!(f, "mix[{dst}] = OTD_ROTL32(mix[{dst}], {turn}u) ^ {data};"),
            Merge::RotateRightXor(turn) => {
                write!(f, "mix[{dst}] = OTD_ROTR32(mix[{dst}], {turn}u) ^ {data};")
            }
        }
    }
}

/// A calculation with two registers.
struct Math(MathOp, u8, u8);

impl Display for Math {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Math(op, a, b) = self;
        match op {
            MathOp::Add => write!(f, "mix[{a}] + mix[{b}]"),
            MathOp::MulLow => write!(f, "mix[{a}] * mix[{b}]"),
            MathOp::MulHigh => write!(f, "OTD_MULHI32(mix[{a}], mix[{b}])"),
            MathOp::Min => write!(f, "OTD_MIN32(mix[{a}], mix[{b}])"),
            MathOp::RotateLeft => write!(f, "OTD_ROTL32(mix[{a}], mix[{b}])"),
            MathOp::RotateRight => write!(f, "OTD_ROTR32(mix[{a}], mix[{b}])"),
            MathOp::And => write!(f, "mix[{a}] & mix[{b}]"),
            MathOp::Or => write!(f, "mix[{a}] | mix[{b}]"),
            MathOp::Xor => write!(f, "mix[{a}] ^ mix[{b}]"),
            MathOp::LeadingZeros => write!(f, "OTD_CLZ32(mix[{a}]) + OTD_CLZ32(mix[{b}])"),
            MathOp::Ones => write!(f, "OTD_POPCOUNT32(mix[{a}]) + OTD_POPCOUNT32(mix[{b}])"),
        }
    }
}
