//! A period's program as PTX, NVIDIA's assembly, for machines that have a driver and no compiler for CUDA C.
//!
//! The kernel around it was compiled ahead (`kernels/ptx/kawpow.ptx`, from the very `kernels/kawpow.cl`) with one
//! line in the place of the program, which names the registers the compiler gave to everything the program uses:
//!
//! ```text
//! OTD_PERIOD <mix 0> ... <mix 31> <cache> <copy> <row 0> ... <row 3> <copies>;
//! ```
//!
//! The program takes that line's place as a block with three registers of its own; the driver allocates and
//! schedules all of it together, as if a compiler had seen both. Most steps are one instruction and their
//! merge one or two (PTX ISA, sections "Integer arithmetic" and "Logic and shift"):
//!
//! ```text
//! { .reg .b32 %otd_t, %otd_u;
//!   min.u32 %otd_t, %r12, %r30;              t = min(a, b)
//!   mad.lo.u32 %r7, %r7, 33, %otd_t; ... }   register * 33 + t
//! ```

use std::fmt::Write;

use super::program::{DAG_WORDS, L1_WORDS, MathOp, Merge, Program, REGISTERS, Step};

/// What marks the place in a template.
const MARK: &str = "OTD_PERIOD ";

/// Registers that a template names: the mix, the cache, the copy, the row.
const OPERANDS: usize = REGISTERS + 2 + DAG_WORDS;

/// Why there is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The line is missing, or there are several.
    #[error("PTX template has {found} lines with OTD_PERIOD: expected one")]
    Marks {
        /// How many.
        found: usize,
    },
    /// The line does not name what a program needs.
    #[error(
        "PTX template's OTD_PERIOD has {found} operands: expected {OPERANDS} registers and a power of two"
    )]
    Operands {
        /// How many words it has.
        found: usize,
    },
}

/// Puts a program into a kernel compiled to PTX.
///
/// # Errors
/// If the template has no place for it.
pub fn ptx_text(template: &str, program: &Program) -> Result<String, TemplateError> {
    let marks = template.matches(MARK).count();
    let Some((before, rest)) = template.split_once(MARK).filter(|_| marks == 1) else {
        return Err(TemplateError::Marks { found: marks });
    };
    let (line, after) = rest.split_once(';').ok_or(TemplateError::Operands { found: 0 })?;
    let mut block = Block::of(line)?;
    block.program(program);
    Ok(format!("{before}{}{after}", block.text))
}

/// What a program works on by its names in the template, and the text it becomes.
struct Block<'a> {
    mix: [&'a str; REGISTERS],
    cache: &'a str,
    copy: &'a str,
    row: [&'a str; DAG_WORDS],
    copies: usize,
    text: String,
}

impl<'a> Block<'a> {
    /// Reads the marked line.
    fn of(line: &'a str) -> Result<Block<'a>, TemplateError> {
        let names: Vec<&str> = line.split_whitespace().collect();
        let wrong = TemplateError::Operands { found: names.len() };
        let (copies, registers) = names.split_last().ok_or(wrong)?;
        let copies = copies.parse().ok().filter(|copies: &usize| copies.is_power_of_two()).ok_or(wrong)?;
        if registers.len() != OPERANDS || registers.iter().any(|name| !name.starts_with('%')) {
            return Err(wrong);
        }
        Ok(Block {
            mix: std::array::from_fn(|i| registers[i]),
            cache: registers[REGISTERS],
            copy: registers[REGISTERS + 1],
            row: std::array::from_fn(|i| registers[REGISTERS + 2 + i]),
            copies,
            text: String::with_capacity(4096),
        })
    }

    fn program(&mut self, program: &Program) {
        self.text.push_str("{\n\t.reg .b32 %otd_t, %otd_u;\n");
        for step in &program.steps {
            let (dst, merge) = match *step {
                Step::Cache { src, dst, merge } => {
                    self.cached(src);
                    (dst, merge)
                }
                Step::Math { a, b, op, dst, merge } => {
                    self.math(op, a, b);
                    (dst, merge)
                }
            };
            self.merge(dst, merge, "%otd_t");
        }
        for (&(dst, merge), word) in program.dag.iter().zip(self.row) {
            self.merge(dst, merge, word);
        }
        self.text.push_str("\t}");
    }

    /// `t` = the word of the cache that register `src` names, from this lane's copy.
    fn cached(&mut self, src: u8) {
        let bytes = 4 * self.copies;
        let (shift, mask) = (bytes.trailing_zeros(), (L1_WORDS - 1) * bytes);
        let (src, copy, cache) = (self.mix[usize::from(src)], self.copy, self.cache);
        self.instruction(format_args!("shl.b32 %otd_t, {src}, {shift}"));
        self.instruction(format_args!("and.b32 %otd_t, %otd_t, {mask}"));
        self.instruction(format_args!("or.b32 %otd_t, %otd_t, {copy}"));
        self.instruction(format_args!("add.u32 %otd_t, %otd_t, {cache}"));
        self.instruction(format_args!("ld.shared.u32 %otd_t, [%otd_t]"));
    }

    /// `t` = the operation on two registers.
    fn math(&mut self, op: MathOp, a: u8, b: u8) {
        let (a, b) = (self.mix[usize::from(a)], self.mix[usize::from(b)]);
        let counting = |block: &mut Block<'_>, count: &str| {
            block.instruction(format_args!("{count}.b32 %otd_t, {a}"));
            block.instruction(format_args!("{count}.b32 %otd_u, {b}"));
            block.instruction(format_args!("add.u32 %otd_t, %otd_t, %otd_u"));
        };
        let name = match op {
            MathOp::RotateLeft => {
                return self.instruction(format_args!("shf.l.wrap.b32 %otd_t, {a}, {a}, {b}"));
            }
            MathOp::RotateRight => {
                return self.instruction(format_args!("shf.r.wrap.b32 %otd_t, {a}, {a}, {b}"));
            }
            MathOp::LeadingZeros => return counting(self, "clz"),
            MathOp::Ones => return counting(self, "popc"),
            MathOp::Add => "add.u32",
            MathOp::MulLow => "mul.lo.u32",
            MathOp::MulHigh => "mul.hi.u32",
            MathOp::Min => "min.u32",
            MathOp::And => "and.b32",
            MathOp::Or => "or.b32",
            MathOp::Xor => "xor.b32",
        };
        self.instruction(format_args!("{name} %otd_t, {a}, {b}"));
    }

    /// Merges `data` into a register.
    fn merge(&mut self, dst: u8, merge: Merge, data: &str) {
        let dst = self.mix[usize::from(dst)];
        match merge {
            Merge::MulAdd => self.instruction(format_args!("mad.lo.u32 {dst}, {dst}, 33, {data}")),
            Merge::XorMul => {
                self.instruction(format_args!("xor.b32 {dst}, {dst}, {data}"));
                self.instruction(format_args!("mul.lo.u32 {dst}, {dst}, 33"));
            }
            Merge::RotateLeftXor(turn) => {
                self.instruction(format_args!("shf.l.wrap.b32 {dst}, {dst}, {dst}, {turn}"));
                self.instruction(format_args!("xor.b32 {dst}, {dst}, {data}"));
            }
            Merge::RotateRightXor(turn) => {
                self.instruction(format_args!("shf.r.wrap.b32 {dst}, {dst}, {dst}, {turn}"));
                self.instruction(format_args!("xor.b32 {dst}, {dst}, {data}"));
            }
        }
    }

    fn instruction(&mut self, instruction: std::fmt::Arguments<'_>) {
        writeln!(self.text, "\t{instruction};").expect("strings take any text");
    }
}

#[cfg(test)]
mod tests;
