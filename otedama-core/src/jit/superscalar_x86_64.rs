//! SuperscalarHash compiled: dataset items, several at a time.
//!
//! An item is eight cache lines one after the other, each at an address that the function before it
//! found, and each a wait for memory (200 ns where this was measured) that is longer than the function
//! that could fill it (55 ns). So items take turns:
//!
//! ```text
//!   for each function:  for each item:  load registers, run, xor the line, store, prefetch the next line
//! ```
//!
//! While one item's line is on its way the others run; changing over costs eight stores and loads.
//!
//! | register | holds |
//! | --- | --- |
//! | r8..r15 | the item's registers r0..r7 |
//! | rbx | the slot of the item |
//! | rdi, rsi | the first slot, the end of the last |
//! | rbp | the cache |
//! | rax, rcx, rdx | nothing for long |
//!
//! No vector register is touched: the virtual machine keeps its numbers there.

use std::fmt;

use super::asm::{Alu, Asm, Gpr, Label, Mem, SLACK, Width};
use crate::algo::randomx::Params;
use crate::algo::randomx::dataset::ITEM_CONSTANTS;
use crate::algo::randomx::superscalar::{Instruction, Kind, Program};
use crate::mem::exec::{CodeMemory, ExecError};

/// How many items [`ItemCode::fill`] keeps under way at once.
///
/// With four, each waits about as long as the three others run. More gain nothing on a quiet machine and
/// a little where memory is busy.
const BATCH: usize = 6;

/// An item under way: what the code reads and writes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    /// The registers, and in the end the item.
    pub(super) item: [u64; 8],
    /// The address of the cache line that comes next.
    line: u64,
    /// In the beginning, which item it is.
    pub(super) index: u64,
}

impl Slot {
    /// A slot to be given an index.
    pub(super) const EMPTY: Slot = Slot { item: [0; 8], line: 0, index: 0 };
}

/// The distance from slot to slot.
pub(super) const SLOT_BYTES: i32 = size_of::<Slot>() as i32;
const LINE: i32 = std::mem::offset_of!(Slot, line) as i32;
pub(super) const INDEX: i32 = std::mem::offset_of!(Slot, index) as i32;

/// The dataset item functions of one key as machine code. Shared by any number of threads.
pub struct ItemCode {
    memory: CodeMemory,
    /// Bytes in use.
    len: usize,
    cache_bytes: usize,
}

/// `(first slot, end of the last slot, cache)`.
type Entry = unsafe extern "sysv64" fn(*mut Slot, *const Slot, *const u8);

impl ItemCode {
    /// Compiles the programs of a key. Takes tens of microseconds.
    ///
    /// # Errors
    /// [`ExecError`], where executable memory is not to be had.
    ///
    /// # Panics
    /// If there are not [`Params::cache_accesses`] programs.
    pub fn compile(params: &Params, programs: &[Program]) -> Result<ItemCode, ExecError> {
        assert_eq!(programs.len(), params.cache_accesses, "a program for each access");
        let lines = params.cache_bytes() / 64;
        assert!(lines.is_power_of_two() && lines <= 1 << 31, "a cache line is found by a mask");
        let instructions: usize = programs.iter().map(|program| program.instructions.len()).sum();
        let bytes = instructions * LONGEST + (programs.len() + 2) * FRAME_BYTES;
        let mut memory = CodeMemory::new(bytes)?;
        let mut asm = Asm::new(memory.bytes_mut(), 0);
        emit(&mut asm, lines, programs);
        let len = asm.here().0 as usize;
        Ok(ItemCode { memory, len, cache_bytes: params.cache_bytes() })
    }

    /// Computes items `first`, `first + 1` and so on, as many as `out` has room for.
    ///
    /// # Panics
    /// If `cache` has not the size of the variant's cache.
    pub fn fill(&self, cache: &[u8], first: u64, out: &mut [[u8; 64]]) {
        let mut slots = [Slot::EMPTY; BATCH];
        let mut index = first;
        for group in out.chunks_mut(BATCH) {
            let slots = &mut slots[..group.len()];
            for slot in slots.iter_mut() {
                slot.index = index;
                index = index.wrapping_add(1);
            }
            self.run(cache, slots);
            for (out, slot) in group.iter_mut().zip(slots) {
                for (bytes, word) in out.as_chunks_mut().0.iter_mut().zip(slot.item) {
                    *bytes = word.to_le_bytes();
                }
            }
        }
    }

    /// Turns the index of every slot into its item.
    pub(super) fn run(&self, cache: &[u8], slots: &mut [Slot]) {
        self.check(cache);
        if slots.is_empty() {
            return;
        }
        // SAFETY: the code was written by `emit` for caches of this size (`check`), in which the masks
        // keep every line; it reads and writes the slots between the two pointers, which are at least
        // one, keeps the registers that the convention says, and returns. The processor has never seen
        // these addresses before they were written: they were mapped for this value, and have not been
        // written since.
        unsafe { self.entry()(slots.as_mut_ptr(), slots.as_ptr_range().end, cache.as_ptr()) }
    }

    /// Whether a cache fits the code.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check(&self, cache: &[u8]) {
        assert_eq!(cache.len(), self.cache_bytes, "the code was compiled for caches of another size");
    }

    /// The function, for compiled code that calls it, for as long as this value lives.
    pub(super) fn entry(&self) -> Entry {
        // SAFETY: `emit` put a function of this type at the start of the memory.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.memory.start().as_ptr()) }
    }

    /// The machine code, for a disassembler.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, at least `len` bytes, and written only by `compile`.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr(), self.len) }
    }
}

impl fmt::Debug for ItemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemCode({} bytes)", self.len)
    }
}

/// No instruction takes more bytes: `mov rax, imm64` and `imul`.
const LONGEST: usize = 14;

/// The code around a function or around all of them is shorter.
const FRAME_BYTES: usize = 384 + SLACK;

const R: [Gpr; 8] = [Gpr::R8, Gpr::R9, Gpr::R10, Gpr::R11, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
const SAVED: [Gpr; 6] = [Gpr::Rbx, Gpr::Rbp, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
const SLOT: Gpr = Gpr::Rbx;
const FIRST: Gpr = Gpr::Rdi;
const END: Gpr = Gpr::Rsi;
const CACHE: Gpr = Gpr::Rbp;

fn emit(asm: &mut Asm, lines: usize, programs: &[Program]) {
    for register in SAVED {
        asm.push(register);
    }
    asm.mov_rr(Width::Q, CACHE, Gpr::Rdx);
    let start = begin_round(asm);
    start_item(asm, lines);
    end_round(asm, start);
    for (i, program) in programs.iter().enumerate() {
        let start = begin_round(asm);
        for (i, &register) in R.iter().enumerate() {
            asm.mov_rm(Width::Q, register, Mem::at(SLOT, 8 * i as i32));
        }
        for instruction in &program.instructions {
            emit_instruction(asm, instruction);
        }
        asm.mov_rm(Width::Q, Gpr::Rcx, Mem::at(SLOT, LINE));
        for (i, &register) in R.iter().enumerate() {
            asm.alu_rm(Alu::Xor, Width::Q, register, Mem::at(Gpr::Rcx, 8 * i as i32));
        }
        if i + 1 < programs.len() {
            asm.mov_rr(Width::D, Gpr::Rax, R[usize::from(program.address_register & 7)]);
            next_line(asm, lines);
        }
        for (i, &register) in R.iter().enumerate() {
            asm.mov_mr(Width::Q, Mem::at(SLOT, 8 * i as i32), register);
        }
        end_round(asm, start);
    }
    for register in SAVED.into_iter().rev() {
        asm.pop(register);
    }
    asm.ret();
}

/// Starts going through the slots.
fn begin_round(asm: &mut Asm) -> Label {
    asm.mov_rr(Width::Q, SLOT, FIRST);
    asm.align(32);
    asm.here()
}

/// Goes on with the next slot, if there is one.
fn end_round(asm: &mut Asm, start: Label) {
    asm.alu_ri(Alu::Add, Width::Q, SLOT, SLOT_BYTES);
    asm.alu_rr(Alu::Cmp, Width::Q, SLOT, END);
    asm.jnz(start);
}

/// From the index to the first registers and the first line (specification 7.3, steps 1 and 2).
fn start_item(asm: &mut Asm, lines: usize) {
    asm.mov_rm(Width::Q, Gpr::Rax, Mem::at(SLOT, INDEX));
    asm.lea(Width::Q, Gpr::R8, Mem::at(Gpr::Rax, 1));
    next_line(asm, lines);
    asm.mov_ri(Gpr::Rax, 6364136223846793005);
    asm.imul_rr(Gpr::R8, Gpr::Rax);
    asm.mov_mr(Width::Q, Mem::at(SLOT, 0), Gpr::R8);
    for (i, constant) in ITEM_CONSTANTS.into_iter().enumerate().skip(1) {
        asm.mov_ri(Gpr::Rax, constant);
        asm.alu_rr(Alu::Xor, Width::Q, Gpr::Rax, Gpr::R8);
        asm.mov_mr(Width::Q, Mem::at(SLOT, 8 * i as i32), Gpr::Rax);
    }
}

/// Asks for the line whose number is in rax, modulo the number of lines. Changes rax.
fn next_line(asm: &mut Asm, lines: usize) {
    asm.alu_ri(Alu::And, Width::D, Gpr::Rax, (lines - 1) as i32);
    asm.shl_ri(Gpr::Rax, 6);
    asm.alu_rr(Alu::Add, Width::Q, Gpr::Rax, CACHE);
    asm.prefetch_once(Mem::at(Gpr::Rax, 0));
    asm.mov_mr(Width::Q, Mem::at(SLOT, LINE), Gpr::Rax);
}

fn emit_instruction(asm: &mut Asm, instruction: &Instruction) {
    let dst = R[usize::from(instruction.dst & 7)];
    let src = R[usize::from(instruction.src & 7)];
    let constant = instruction.constant;
    match instruction.kind {
        Kind::IsubR => asm.alu_rr(Alu::Sub, Width::Q, dst, src),
        Kind::IxorR => asm.alu_rr(Alu::Xor, Width::Q, dst, src),
        Kind::IaddRs => {
            let index = Some((src, instruction.shift() as u8));
            asm.lea(Width::Q, dst, Mem { base: dst, index, disp: 0 });
        }
        Kind::ImulR => asm.imul_rr(dst, src),
        Kind::IrorC => asm.ror_ri(dst, constant as u8 & 63),
        Kind::IaddC7 | Kind::IaddC8 | Kind::IaddC9 => {
            asm.alu_ri(Alu::Add, Width::Q, dst, instruction.imm32 as i32);
        }
        Kind::IxorC7 | Kind::IxorC8 | Kind::IxorC9 => {
            asm.alu_ri(Alu::Xor, Width::Q, dst, instruction.imm32 as i32);
        }
        Kind::ImulhR | Kind::IsmulhR => {
            asm.mov_rr(Width::Q, Gpr::Rax, dst);
            if instruction.kind == Kind::ImulhR {
                asm.mul_r(src);
            } else {
                asm.imul_wide_r(src);
            }
            asm.mov_rr(Width::Q, dst, Gpr::Rdx);
        }
        Kind::ImulRcp => {
            asm.mov_ri(Gpr::Rax, constant);
            asm.imul_rr(dst, Gpr::Rax);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::randomx::config::{ArgonParams, RX_0};
    use crate::algo::randomx::{Dataset, Light};

    /// A variant with a cache small enough for a test.
    fn small() -> Params {
        Params { argon: ArgonParams { memory_kib: 256, ..RX_0.argon }, ..RX_0 }
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    #[test]
    fn agrees_with_the_interpreter() {
        let params = small();
        let cache = pattern(params.cache_bytes());
        for key in 0..20u8 {
            let programs = Program::of_key(&params, &[key; 32]);
            let code = ItemCode::compile(&params, &programs).unwrap();
            let light = Light::new(&params, &cache, &programs);
            for (first, count) in [(0, 1), (1, 5), (34078718, 6), (u64::MAX - 1, 13), (12345, 0)] {
                let mut items = vec![[0; 64]; count];
                code.fill(&cache, first, &mut items);
                for (i, item) in items.iter().enumerate() {
                    let words = light.item(first.wrapping_add(i as u64));
                    let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    assert_eq!(item[..], expected, "item {first} + {i} of key {key}");
                }
            }
        }
    }

    #[test]
    fn agrees_on_single_instructions_with_extreme_operands() {
        let params = Params { cache_accesses: 1, ..small() };
        let cache = pattern(params.cache_bytes());
        let kinds = [
            Kind::IsubR,
            Kind::IxorR,
            Kind::IaddRs,
            Kind::ImulR,
            Kind::IrorC,
            Kind::IaddC7,
            Kind::IxorC7,
            Kind::IaddC8,
            Kind::IxorC8,
            Kind::IaddC9,
            Kind::IxorC9,
            Kind::ImulhR,
            Kind::IsmulhR,
            Kind::ImulRcp,
        ];
        let mut state = 1u64;
        for kind in kinds {
            for imm32 in [1, 3, 63, 127, 128, 0x7fff_ffff, 0x8000_0000, 0xffff_ff80, u32::MAX] {
                let constant = match kind {
                    Kind::ImulRcp => crate::algo::randomx::reciprocal(imm32).unwrap_or(1),
                    _ => imm32 as i32 as u64,
                };
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let [.., modifier, dst, src] = state.to_be_bytes().map(|byte| byte.rotate_left(3));
                let (dst, src) = (dst & 7, src & 7);
                let instruction = Instruction { kind, dst, src, modifier, imm32, constant };
                let program = Program { instructions: vec![instruction], address_register: dst };
                let programs = [program];
                let code = ItemCode::compile(&params, &programs).unwrap();
                let light = Light::new(&params, &cache, &programs);
                let mut slots = [Slot { index: state, ..Slot::EMPTY }];
                code.run(&cache, &mut slots);
                assert_eq!(slots[0].item, light.item(state), "{instruction:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "another size")]
    fn refuses_a_short_cache() {
        let params = small();
        let code = ItemCode::compile(&params, &Program::of_key(&params, b"key")).unwrap();
        code.fill(&[0; 64], 0, &mut [[0; 64]]);
    }
}
