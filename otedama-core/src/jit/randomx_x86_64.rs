//! Programs of the RandomX machine compiled: all iterations of one machine, or of several in turn.
//!
//! ```text
//!   entry: save, set MXCSR --> prefetch --> machine 0: an iteration --> machine 1: an iteration --> ...
//!                                  ^------------ until all are done ------------------------------'
//!   exit: MXCSR as it was, restore, return
//! ```
//!
//! An iteration ends with a line of the dataset whose address was known an iteration before (two in
//! version 2). On one machine that is not long enough for memory; while other machines have their turn it
//! is. Of a machine only r0..r7, a rounding mode and some addresses outlive an iteration, so changing over
//! costs little: about 30 loads and stores beside some 600 instructions.
//!
//! The dataset lines of all machines are asked for in one place, because a prefetch is free only where the
//! processor knows the page: it cannot retire before its address is translated, and on a dataset that the
//! TLB does not reach (2 GiB; on a virtual machine, the host's pages of 4 KiB) that takes a walk through
//! page tables that are not in the caches either. The 350 or so operations that fit behind a prefetch hide
//! a part of the walk: 75 ns an iteration were left where this was measured. Walks of neighbouring
//! prefetches overlap (two: 80 ns together), so that two machines pay half of it each, and version 2, whose
//! lines are known two iterations ahead, asks for two lines every other time.
//!
//! | register | holds |
//! | --- | --- |
//! | r8..r15 | r0..r7 |
//! | xmm0..3, 4..7, 8..11 | f0..f3, e0..e3, a0..a3 |
//! | xmm12 | a number from memory |
//! | xmm13, 14, 15 | what a loaded E register keeps, what it gets, what FSCAL_R changes |
//! | rbp | the middle of the machine's [`Context`] |
//! | rsi | the scratchpad |
//! | rdi | the dataset at the program's offset; in light mode, the offset |
//! | ebx | iterations left |
//! | rax, rcx, rdx | nothing for long |
//!
//! The code contains addresses: of contexts, scratchpads, dataset. It is written before every run by
//! [`Machines`](super::machines::Machines), which borrows or owns all of them until the run is over.

use super::asm::{Alu, Asm, Fixup, Gpr, Label, Mem, Packed, SLACK, Width, Xmm};
use super::context::{Context, MIDDLE, context, field, slots};
use super::superscalar_x86_64::{INDEX, SLOT_BYTES};
use crate::algo::randomx::config::{Params, Revision};
use crate::algo::randomx::program::{
    Address, Configuration, Decoder, FloatGroup, IntegerOp, Op, Opcode, Source, Word,
};

/// What the code of one machine is about.
pub(super) struct MachineSpec<'a> {
    /// The address of the context.
    pub(super) context: u64,
    /// The address of the scratchpad.
    pub(super) scratchpad: u64,
    /// Configuration and instructions.
    pub(super) configuration: &'a Configuration,
    /// The instructions as they stand in the program.
    pub(super) code: &'a [[u8; 8]],
}

/// Where the code finds dataset items.
#[derive(Clone, Copy, Debug)]
pub(super) enum Items {
    /// At this address.
    Full(u64),
    /// Computed by the function at one address from the cache at another.
    Light {
        /// See [`ItemCode`](super::ItemCode).
        function: u64,
        cache: u64,
    },
}

/// No code for programs of `params` on `k` machines is longer.
pub(super) fn most_bytes(params: &Params, k: usize) -> usize {
    k * (params.program_size * MOST_PER_INSTRUCTION + MOST_PER_ITERATION) + MOST_AROUND + SLACK
}

const MOST_PER_INSTRUCTION: usize = 48;
const MOST_PER_ITERATION: usize = 1024;
const MOST_AROUND: usize = 1024;

const R: [Gpr; 8] = [Gpr::R8, Gpr::R9, Gpr::R10, Gpr::R11, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
const SAVED: [Gpr; 6] = [Gpr::Rbx, Gpr::Rbp, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
const SCRATCHPAD: Gpr = Gpr::Rsi;
const DATASET: Gpr = Gpr::Rdi;
const COUNTER: Gpr = Gpr::Rbx;
const FROM_MEMORY: Xmm = Xmm(12);
const E_KEEP: Xmm = Xmm(13);
const E_BITS: Xmm = Xmm(14);
const SCALE_BITS: Xmm = Xmm(15);

/// By cases instead of by table: so the optimizer knows that all of these need the same prefix.
#[inline(always)]
fn int(register: u8) -> Gpr {
    match register & 7 {
        0 => Gpr::R8,
        1 => Gpr::R9,
        2 => Gpr::R10,
        3 => Gpr::R11,
        4 => Gpr::R12,
        5 => Gpr::R13,
        6 => Gpr::R14,
        _ => Gpr::R15,
    }
}

#[inline(always)]
fn f(register: u8) -> Xmm {
    Xmm(register & 3)
}

#[inline(always)]
fn e(register: u8) -> Xmm {
    Xmm(4 + (register & 3))
}

#[inline(always)]
fn a(register: u8) -> Xmm {
    Xmm(8 + (register & 3))
}

/// Compiles programs for one run. Kept for its memory only.
#[derive(Debug, Default)]
pub(super) struct Compiler {
    /// Where each instruction of the present program starts.
    places: Vec<Label>,
}

impl Compiler {
    /// Writes a function without arguments that runs all machines from start to end, and answers how
    /// long it is.
    ///
    /// # Panics
    /// If the memory is shorter than [`most_bytes`].
    pub(super) fn compile(
        &mut self,
        memory: &mut [u8],
        params: &Params,
        machines: &[MachineSpec],
        items: Items,
    ) -> usize {
        let mut emitter = Emitter { asm: Asm::new(memory, 0), params, items, alone: machines.len() == 1 };
        emitter.enter(machines);
        let start = emitter.asm.here();
        emitter.prefetch_items(machines);
        let start_without = emitter.asm.here();
        for machine in machines {
            emitter.begin_iteration(machine);
            self.places.clear();
            let mut decoder = Decoder::new(params);
            for word in machine.code {
                self.places.push(emitter.asm.here());
                emitter.next_instruction(&mut decoder, Word(*word), &self.places);
            }
            emitter.end_iteration(machine);
        }
        emitter.asm.dec_r(COUNTER);
        if params.revision == Revision::V2 {
            // Iterations 0, 2, 4... prefetch; the counter counts down.
            let done = emitter.asm.jz_later();
            emitter.asm.test_ri(Width::D, COUNTER, 1);
            let even = params.program_iterations.is_multiple_of(2);
            emitter.asm.jnz(if even { start_without } else { start });
            emitter.asm.jz(if even { start } else { start_without });
            emitter.asm.land(done, emitter.asm.here());
        } else {
            emitter.asm.jnz(start);
        }
        emitter.leave();
        emitter.asm.here().0 as usize
    }
}

struct Emitter<'a> {
    asm: Asm<'a>,
    params: &'a Params,
    items: Items,
    /// Whether there is only one machine, which then stays in registers.
    alone: bool,
}

impl Emitter<'_> {
    fn enter(&mut self, machines: &[MachineSpec]) {
        for register in SAVED {
            self.asm.push(register);
        }
        // The code was written through other addresses than it is executed at.
        self.asm.serialize();
        let last = &machines[machines.len() - 1];
        self.asm.mov_ri(Gpr::Rbp, last.context + MIDDLE as u64);
        self.asm.stmxcsr(context(field!(host_mxcsr), 0));
        self.asm.movaps_rm(E_KEEP, context(field!(e_keep), 0));
        self.asm.movaps_rm(SCALE_BITS, context(field!(scale), 0));
        self.asm.mov_ri(COUNTER, self.params.program_iterations as u64);
        if self.alone {
            self.load_pointers(&machines[0]);
            self.load_machine();
            for register in R {
                self.asm.alu_rr(Alu::Xor, Width::D, register, register);
            }
        }
        self.asm.align(64);
    }

    /// Asks for the dataset lines that are known and have not been asked for: one for each machine, or in
    /// version 2, where this happens before every other iteration, two. Leaves rax and rdx alone; rbp is
    /// the last machine's.
    fn prefetch_items(&mut self, machines: &[MachineSpec]) {
        let Items::Full(_) = self.items else { return };
        let lines = match self.params.revision {
            Revision::V1 => &[field!(ma)][..],
            Revision::V2 => &[field!(ma), field!(mx)],
        };
        for (back, machine) in machines.iter().rev().enumerate() {
            if !self.alone {
                self.asm.mov_ri(DATASET, self.dataset_pointer(machine.configuration));
            }
            for line in lines {
                let line = line - (back * size_of::<Context>()) as i32;
                self.asm.mov_rm(Width::D, Gpr::Rcx, context(line, 0));
                self.asm.alu_ri(Alu::And, Width::D, Gpr::Rcx, self.params.dataset_mask() as i32);
                self.asm.prefetch_once(Mem::sum(DATASET, Gpr::Rcx, 0));
            }
        }
    }

    /// What `DATASET` holds.
    fn dataset_pointer(&self, configuration: &Configuration) -> u64 {
        match self.items {
            Items::Full(address) => address + configuration.dataset_offset,
            Items::Light { .. } => configuration.dataset_offset,
        }
    }

    fn load_pointers(&mut self, machine: &MachineSpec) {
        self.asm.mov_ri(SCRATCHPAD, machine.scratchpad);
        self.asm.mov_ri(DATASET, self.dataset_pointer(machine.configuration));
    }

    /// Loads all that outlives an iteration, except r0..r7.
    fn load_machine(&mut self) {
        let asm = &mut self.asm;
        asm.mov_rm(Width::D, Gpr::Rax, context(field!(sp_addrs), 0));
        asm.mov_rm(Width::D, Gpr::Rdx, context(field!(sp_addrs), 4));
        asm.mov_rm(Width::D, Gpr::Rcx, context(field!(mode), 0));
        asm.ldmxcsr(Mem::sum(Gpr::Rbp, Gpr::Rcx, field!(mxcsr)));
        for i in 0..4 {
            asm.movaps_rm(a(i), context(field!(a), 16 * usize::from(i)));
        }
        asm.movaps_rm(E_BITS, context(field!(e_bits), 0));
    }

    fn leave(&mut self) {
        if self.alone {
            self.save_r();
            for i in 0..4 {
                self.asm.movaps_mr(context(field!(e), 16 * usize::from(i)), e(i));
                self.asm.movaps_mr(context(field!(f), 16 * usize::from(i)), f(i));
            }
        }
        self.asm.ldmxcsr(context(field!(host_mxcsr), 0));
        for register in SAVED.into_iter().rev() {
            self.asm.pop(register);
        }
        self.asm.ret();
    }

    fn save_r(&mut self) {
        for (i, register) in R.into_iter().enumerate() {
            self.asm.mov_mr(Width::Q, context(field!(r), 8 * i), register);
        }
    }

    fn load_r(&mut self) {
        for (i, register) in R.into_iter().enumerate() {
            self.asm.mov_rm(Width::Q, register, context(field!(r), 8 * i));
        }
    }

    /// Specification 4.6.2, steps 1 to 3; the addresses were found by the iteration before.
    fn begin_iteration(&mut self, machine: &MachineSpec) {
        if !self.alone {
            self.asm.mov_ri(Gpr::Rbp, machine.context + MIDDLE as u64);
            self.load_pointers(machine);
            self.load_machine();
            self.load_r();
        }
        let asm = &mut self.asm;
        asm.alu_rr(Alu::Add, Width::Q, Gpr::Rax, SCRATCHPAD);
        asm.alu_rr(Alu::Add, Width::Q, Gpr::Rdx, SCRATCHPAD);
        for (i, register) in R.into_iter().enumerate() {
            asm.alu_rm(Alu::Xor, Width::Q, register, Mem::at(Gpr::Rax, 8 * i as i32));
        }
        for i in 0..8 {
            asm.cvtdq2pd(Xmm(i), Mem::at(Gpr::Rdx, 8 * i32::from(i)));
        }
        for i in 0..4 {
            asm.bits_rr(Packed::And, e(i), E_KEEP);
            asm.bits_rr(Packed::Or, e(i), E_BITS);
        }
    }

    /// Specification 4.6.2, steps 5 to 12, and 1 of the next iteration.
    fn end_iteration(&mut self, machine: &MachineSpec) {
        let [read0, read1, read2, read3] = machine.configuration.read_registers.map(int);
        self.dataset_item(machine, read2, read3);

        let asm = &mut self.asm;
        let line_mask = self.params.line_mask() as i32;
        asm.mov_rr(Width::Q, Gpr::Rax, read0);
        asm.alu_rr(Alu::Xor, Width::Q, Gpr::Rax, read1);
        asm.mov_rr(Width::Q, Gpr::Rdx, Gpr::Rax);
        asm.shr_ri(Gpr::Rdx, 32);
        asm.alu_ri(Alu::And, Width::D, Gpr::Rax, line_mask);
        asm.alu_ri(Alu::And, Width::D, Gpr::Rdx, line_mask);
        if !self.alone {
            asm.prefetch(Mem::sum(SCRATCHPAD, Gpr::Rax, 0));
            asm.prefetch(Mem::sum(SCRATCHPAD, Gpr::Rdx, 0));
        }

        asm.mov_rm(Width::D, Gpr::Rcx, context(field!(sp_addrs), 4));
        asm.alu_rr(Alu::Add, Width::Q, Gpr::Rcx, SCRATCHPAD);
        for (i, register) in R.into_iter().enumerate() {
            asm.mov_mr(Width::Q, Mem::at(Gpr::Rcx, 8 * i as i32), register);
        }
        match self.params.revision {
            Revision::V1 => {
                for i in 0..4 {
                    asm.bits_rr(Packed::Xor, f(i), e(i));
                }
            }
            Revision::V2 => {
                for key in 0..4 {
                    asm.aesenc(f(0), e(key));
                    asm.aesdec(f(1), e(key));
                    asm.aesenc(f(2), e(key));
                    asm.aesdec(f(3), e(key));
                }
            }
        }
        asm.mov_rm(Width::D, Gpr::Rcx, context(field!(sp_addrs), 0));
        if !self.alone {
            asm.mov_mr(Width::D, context(field!(f_at), 0), Gpr::Rcx);
        }
        asm.alu_rr(Alu::Add, Width::Q, Gpr::Rcx, SCRATCHPAD);
        for i in 0..4 {
            asm.movaps_mr(Mem::at(Gpr::Rcx, 16 * i32::from(i)), f(i));
        }
        asm.mov_mr(Width::D, context(field!(sp_addrs), 0), Gpr::Rax);
        asm.mov_mr(Width::D, context(field!(sp_addrs), 4), Gpr::Rdx);
        if !self.alone {
            for i in 0..4 {
                asm.movaps_mr(context(field!(e), 16 * usize::from(i)), e(i));
            }
            self.save_r();
        }
    }

    /// Specification 4.6.2, steps 5 to 8.
    fn dataset_item(&mut self, machine: &MachineSpec, read2: Gpr, read3: Gpr) {
        let asm = &mut self.asm;
        let mask = self.params.dataset_mask() as i32;
        asm.mov_rr(Width::D, Gpr::Rax, read2);
        asm.alu_rr(Alu::Xor, Width::D, Gpr::Rax, read3);
        asm.mov_rm(Width::D, Gpr::Rcx, context(field!(ma), 0));
        // From here on: rcx what is read now, rdx what is read next, rax what was found just now. In
        // version 1 the last two are the same.
        match self.params.revision {
            Revision::V1 => {
                asm.alu_rm(Alu::Xor, Width::D, Gpr::Rax, context(field!(mx), 0));
                asm.mov_mr(Width::D, context(field!(ma), 0), Gpr::Rax);
                asm.mov_mr(Width::D, context(field!(mx), 0), Gpr::Rcx);
            }
            Revision::V2 => {
                asm.mov_rm(Width::D, Gpr::Rdx, context(field!(mx), 0));
                asm.alu_rr(Alu::Xor, Width::D, Gpr::Rax, Gpr::Rcx);
                asm.mov_mr(Width::D, context(field!(ma), 0), Gpr::Rdx);
                asm.mov_mr(Width::D, context(field!(mx), 0), Gpr::Rax);
            }
        }
        asm.alu_ri(Alu::And, Width::D, Gpr::Rcx, mask);
        match self.items {
            Items::Full(_) => {
                asm.alu_rr(Alu::Add, Width::Q, Gpr::Rcx, DATASET);
                for (i, register) in R.into_iter().enumerate() {
                    asm.alu_rm(Alu::Xor, Width::Q, register, Mem::at(Gpr::Rcx, 8 * i as i32));
                }
            }
            Items::Light { function, cache } => self.light_item(machine, function, cache),
        }
    }

    /// Takes an item that is there, or computes as many as have known addresses.
    fn light_item(&mut self, machine: &MachineSpec, function: u64, cache: u64) {
        let slots = slots(self.params);
        let asm = &mut self.asm;
        let first_slot = field!(slots);
        let slots_bytes = slots as i32 * SLOT_BYTES;
        let index = |slot: usize| context(first_slot + slot as i32 * SLOT_BYTES + INDEX, 0);
        asm.alu_ri(Alu::And, Width::D, Gpr::Rdx, self.params.dataset_mask() as i32);
        asm.alu_ri(Alu::And, Width::D, Gpr::Rax, self.params.dataset_mask() as i32);
        let mut known = [Gpr::Rcx, Gpr::Rdx, Gpr::Rax];
        if slots == 2 {
            known[1] = Gpr::Rax;
        }
        // The item's number for each address, whether it will be needed or not.
        for (slot, register) in known.into_iter().take(slots).enumerate() {
            asm.alu_rr(Alu::Add, Width::Q, register, DATASET);
            asm.shr_ri(register, 6);
            asm.mov_mr(Width::Q, index(slot), register);
        }
        asm.mov_rm(Width::D, Gpr::Rax, context(field!(next_slot), 0));
        asm.alu_ri(Alu::Cmp, Width::D, Gpr::Rax, slots_bytes);
        let there = asm.jnz_later();
        self.save_r();
        let asm = &mut self.asm;
        let slots_address = machine.context + std::mem::offset_of!(Context, slots) as u64;
        asm.mov_ri(Gpr::Rdi, slots_address);
        asm.mov_ri(Gpr::Rsi, slots_address + slots_bytes as u64);
        asm.mov_ri(Gpr::Rdx, cache);
        asm.mov_ri(Gpr::Rax, function);
        asm.call_r(Gpr::Rax);
        self.load_pointers(machine);
        self.load_r();
        let asm = &mut self.asm;
        asm.alu_rr(Alu::Xor, Width::D, Gpr::Rax, Gpr::Rax);
        asm.land(there, asm.here());
        for (i, register) in R.into_iter().enumerate() {
            let word = Mem::sum(Gpr::Rbp, Gpr::Rax, first_slot + 8 * i as i32);
            asm.alu_rm(Alu::Xor, Width::Q, register, word);
        }
        asm.alu_ri(Alu::Add, Width::D, Gpr::Rax, SLOT_BYTES);
        asm.mov_mr(Width::D, context(field!(next_slot), 0), Gpr::Rax);
    }

    /// Decodes and compiles an instruction. Each opcode has its own copy of both, of which the optimizer
    /// leaves only what concerns it: one jump that cannot be predicted instead of one for each decision.
    fn next_instruction(&mut self, decoder: &mut Decoder<'_>, word: Word, places: &[Label]) {
        macro_rules! copies {
            ($($opcode:ident)*) => {
                match decoder.opcode(word) {
                    $(Opcode::$opcode => {
                        self.instruction(&decoder.next_of(Opcode::$opcode, word).op, places);
                    })*
                }
            };
        }
        copies! {
            IaddRs IaddM IsubR IsubM ImulR ImulM ImulhR ImulhM IsmulhR IsmulhM ImulRcp InegR IxorR IxorM IrorR
            IrolR IswapR FswapR FaddR FaddM FsubR FsubM FscalR FmulR FdivM FsqrtR Cbranch Cfround Istore
        }
    }

    /// Specification 5.
    #[inline(always)]
    fn instruction(&mut self, op: &Op, places: &[Label]) {
        match *op {
            Op::Nop => {}
            Op::AddShifted { dst, src, shift, displacement } => {
                let (dst, src) = (int(dst), int(src));
                let mem = Mem { base: dst, index: Some((src, shift & 3)), disp: displacement as i32 };
                self.asm.lea(Width::Q, dst, mem);
            }
            Op::Integer { op, dst, src } => self.integer(op, int(dst), src),
            Op::MultiplyReciprocal { dst, reciprocal, .. } => {
                self.asm.mov_ri(Gpr::Rax, reciprocal);
                self.asm.imul_rr(int(dst), Gpr::Rax);
            }
            Op::Negate { dst } => self.asm.neg(int(dst)),
            Op::Swap { dst, src } => self.asm.xchg(int(dst), int(src)),
            Op::SwapHalves { group: FloatGroup::F, dst } => self.asm.swap_halves(f(dst)),
            Op::SwapHalves { group: FloatGroup::E, dst } => self.asm.swap_halves(e(dst)),
            Op::AddA { dst, src } => self.asm.pd_rr(Packed::Add, f(dst), a(src)),
            Op::SubtractA { dst, src } => self.asm.pd_rr(Packed::Sub, f(dst), a(src)),
            Op::MultiplyA { dst, src } => self.asm.pd_rr(Packed::Mul, e(dst), a(src)),
            Op::AddMemory { dst, address } => {
                self.load_f(address);
                self.asm.pd_rr(Packed::Add, f(dst), FROM_MEMORY);
            }
            Op::SubtractMemory { dst, address } => {
                self.load_f(address);
                self.asm.pd_rr(Packed::Sub, f(dst), FROM_MEMORY);
            }
            Op::DivideMemory { dst, address } => {
                self.load_f(address);
                self.asm.bits_rr(Packed::And, FROM_MEMORY, E_KEEP);
                self.asm.bits_rr(Packed::Or, FROM_MEMORY, E_BITS);
                self.asm.pd_rr(Packed::Div, e(dst), FROM_MEMORY);
            }
            Op::Scale { dst } => self.asm.bits_rr(Packed::Xor, f(dst), SCALE_BITS),
            Op::SquareRoot { dst } => self.asm.pd_rr(Packed::Sqrt, e(dst), e(dst)),
            Op::Branch { dst, addend, mask, target } => {
                self.branch(int(dst), addend, mask, places[usize::from(target)]);
            }
            Op::Round { src, rotation, condition } => self.round(int(src), rotation, condition),
            Op::Store { address, src } => {
                let mem = self.resolve(address, Gpr::Rax);
                self.asm.mov_mr(Width::Q, mem, int(src));
            }
        }
    }

    #[inline(always)]
    fn integer(&mut self, op: IntegerOp, dst: Gpr, src: Source) {
        let alu = match op {
            IntegerOp::Add => Alu::Add,
            IntegerOp::Subtract => Alu::Sub,
            IntegerOp::Xor => Alu::Xor,
            IntegerOp::Multiply => return self.multiply(dst, src),
            IntegerOp::MultiplyHigh | IntegerOp::MultiplyHighSigned => {
                return self.multiply_high(op, dst, src);
            }
            IntegerOp::RotateRight | IntegerOp::RotateLeft => return self.rotate(op, dst, src),
        };
        match src {
            Source::Register(src) => self.asm.alu_rr(alu, Width::Q, dst, int(src)),
            Source::Immediate(value) => match short(value) {
                Some(value) => self.asm.alu_ri(alu, Width::Q, dst, value),
                None => {
                    self.asm.mov_ri(Gpr::Rax, value);
                    self.asm.alu_rr(alu, Width::Q, dst, Gpr::Rax);
                }
            },
            Source::Memory(address) => {
                let mem = self.resolve(address, Gpr::Rax);
                self.asm.alu_rm(alu, Width::Q, dst, mem);
            }
        }
    }

    #[inline(always)]
    fn multiply(&mut self, dst: Gpr, src: Source) {
        match src {
            Source::Register(src) => self.asm.imul_rr(dst, int(src)),
            Source::Immediate(value) => match short(value) {
                Some(value) => self.asm.imul_ri(dst, value),
                None => {
                    self.asm.mov_ri(Gpr::Rax, value);
                    self.asm.imul_rr(dst, Gpr::Rax);
                }
            },
            Source::Memory(address) => {
                let mem = self.resolve(address, Gpr::Rax);
                self.asm.imul_rm(dst, mem);
            }
        }
    }

    #[inline(always)]
    fn multiply_high(&mut self, op: IntegerOp, dst: Gpr, src: Source) {
        let signed = op == IntegerOp::MultiplyHighSigned;
        let register = match src {
            Source::Register(src) => int(src),
            Source::Immediate(value) => {
                self.asm.mov_ri(Gpr::Rcx, value);
                Gpr::Rcx
            }
            Source::Memory(address) => {
                let mem = self.resolve(address, Gpr::Rcx);
                self.asm.mov_rr(Width::Q, Gpr::Rax, dst);
                if signed {
                    self.asm.imul_wide_m(mem);
                } else {
                    self.asm.mul_m(mem);
                }
                return self.asm.mov_rr(Width::Q, dst, Gpr::Rdx);
            }
        };
        self.asm.mov_rr(Width::Q, Gpr::Rax, dst);
        if signed {
            self.asm.imul_wide_r(register);
        } else {
            self.asm.mul_r(register);
        }
        self.asm.mov_rr(Width::Q, dst, Gpr::Rdx);
    }

    #[inline(always)]
    fn rotate(&mut self, op: IntegerOp, dst: Gpr, src: Source) {
        let left = op == IntegerOp::RotateLeft;
        match src {
            Source::Immediate(value) => {
                let count = value as u8 & 63;
                return self.asm.ror_ri(dst, if left { count.wrapping_neg() & 63 } else { count });
            }
            Source::Register(src) => self.asm.mov_rr(Width::D, Gpr::Rcx, int(src)),
            Source::Memory(address) => {
                let mem = self.resolve(address, Gpr::Rax);
                self.asm.mov_rm(Width::D, Gpr::Rcx, mem);
            }
        }
        if left {
            self.asm.rol_cl(dst);
        } else {
            self.asm.ror_cl(dst);
        }
    }

    #[inline(always)]
    fn branch(&mut self, dst: Gpr, addend: u64, mask: u64, target: Label) {
        match short(addend) {
            Some(addend) => self.asm.alu_ri(Alu::Add, Width::Q, dst, addend),
            None => {
                self.asm.mov_ri(Gpr::Rax, addend);
                self.asm.alu_rr(Alu::Add, Width::Q, dst, Gpr::Rax);
            }
        }
        match u32::try_from(mask) {
            Ok(mask) => self.asm.test_ri(Width::D, dst, mask as i32),
            Err(_) => {
                self.asm.mov_ri(Gpr::Rax, mask);
                self.asm.alu_rr(Alu::And, Width::Q, Gpr::Rax, dst);
            }
        }
        self.asm.jz(target);
    }

    /// The two bits are turned to bits 2 and 3 instead of 0 and 1: an offset into the table.
    #[inline(always)]
    fn round(&mut self, src: Gpr, rotation: u8, condition: u64) {
        let asm = &mut self.asm;
        asm.mov_rr(Width::Q, Gpr::Rax, src);
        asm.ror_ri(Gpr::Rax, rotation.wrapping_sub(2) & 63);
        let unless: Option<Fixup> = (condition != 0).then(|| {
            asm.test_ri(Width::D, Gpr::Rax, (condition << 2) as i32);
            asm.jnz_later()
        });
        asm.alu_ri(Alu::And, Width::D, Gpr::Rax, 0b1100);
        asm.mov_mr(Width::D, context(field!(mode), 0), Gpr::Rax);
        asm.ldmxcsr(Mem::sum(Gpr::Rbp, Gpr::Rax, field!(mxcsr)));
        if let Some(unless) = unless {
            asm.land(unless, asm.here());
        }
    }

    /// Two integers of the scratchpad as numbers.
    #[inline(always)]
    fn load_f(&mut self, address: Address) {
        let mem = self.resolve(address, Gpr::Rax);
        self.asm.cvtdq2pd(FROM_MEMORY, mem);
    }

    /// A word of the scratchpad. The mask keeps it inside; it may take a register to say where it is.
    #[inline(always)]
    fn resolve(&mut self, address: Address, register: Gpr) -> Mem {
        match address.base {
            Some(base) => {
                self.asm.lea(Width::D, register, Mem::at(int(base), address.offset as i32));
                self.asm.alu_ri(Alu::And, Width::D, register, address.mask as i32);
                Mem::sum(SCRATCHPAD, register, 0)
            }
            None => Mem::at(SCRATCHPAD, (address.offset as u32 & address.mask) as i32),
        }
    }
}

/// A number that 32 bits stand for when their sign is extended.
#[inline(always)]
fn short(value: u64) -> Option<i32> {
    let short = value as i32;
    (i64::from(short) as u64 == value).then_some(short)
}
