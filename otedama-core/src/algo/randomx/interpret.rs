//! The virtual machine (specification 4), one instruction at a time: the oracle of every faster one.

use super::aes;
use super::config::{Params, Revision};
use super::dataset::{Dataset, line};
use super::float::{self, Rounding};
use super::program::{Address, Configuration, E_FROM_MEMORY, FloatGroup, IntegerOp, Op, Program, Source};
use crate::primitive::aes::{decrypt_round, encrypt_round};

/// The registers that the specification puts into the register file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// r0..r7.
    pub r: [u64; 8],
    /// f0..f3, low half first, as bits.
    pub f: [[u64; 2]; 4],
    /// e0..e3.
    pub e: [[u64; 2]; 4],
    /// a0..a3.
    pub a: [[u64; 2]; 4],
}

impl Registers {
    /// The register file (specification 1.1): 256 bytes in little-endian order.
    pub fn to_bytes(&self) -> [u8; 256] {
        let floats = [self.f, self.e, self.a];
        let words = self.r.iter().chain(floats.as_flattened().as_flattened());
        let mut bytes = [0; 256];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }
}

/// A machine: registers and a scratchpad of its own.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    params: &'a Params,
    /// The register file.
    pub registers: Registers,
    /// The rounding mode, which outlives a program.
    pub fprc: Rounding,
    /// The address of the next dataset read. Lowest six bits: 0.
    pub ma: u32,
    /// The address of the next dataset prefetch. Lowest six bits: 0.
    pub mx: u32,
    scratchpad: Vec<u8>,
}

/// What an iteration looked at in memory, and how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where in the scratchpad integers were read and numbers written.
    pub sp_addr0: u32,
    /// Where in the scratchpad numbers were read and integers written.
    pub sp_addr1: u32,
    /// The dataset item read.
    pub item: u64,
    /// How many branches were taken.
    pub branches_taken: u32,
}

impl<'a> Machine<'a> {
    /// A machine with an empty scratchpad.
    pub fn new(params: &'a Params) -> Machine<'a> {
        Machine {
            params,
            registers: Registers::default(),
            fprc: Rounding::default(),
            ma: 0,
            mx: 0,
            scratchpad: vec![0; params.scratchpad_bytes()],
        }
    }

    /// The variant that the machine is of.
    pub fn params(&self) -> &'a Params {
        self.params
    }

    /// The memory of the machine.
    pub fn scratchpad(&self) -> &[u8] {
        &self.scratchpad
    }

    /// The memory of the machine.
    pub fn scratchpad_mut(&mut self) -> &mut [u8] {
        &mut self.scratchpad
    }

    /// Runs a program to its end (specification 4.6).
    pub fn run(&mut self, program: &Program, dataset: &impl Dataset) {
        let mut sp_addrs = self.start(&program.configuration);
        for _ in 0..self.params.program_iterations {
            self.iterate(program, dataset, sp_addrs);
            sp_addrs = [0; 2];
        }
    }

    /// Specification 4.6.1: prepares for the first iteration and answers its spAddr0 and spAddr1.
    pub fn start(&mut self, configuration: &Configuration) -> [u32; 2] {
        self.registers.r = [0; 8];
        self.registers.a = configuration.a;
        self.ma = configuration.ma;
        self.mx = configuration.mx;
        [self.mx, self.ma]
    }

    /// One iteration of the loop (specification 4.6.2, whose steps are numbered here).
    pub fn iterate(&mut self, program: &Program, dataset: &impl Dataset, sp_addrs: [u32; 2]) -> Trace {
        let configuration = &program.configuration;
        let [read0, read1, read2, read3] = configuration.read_registers.map(usize::from);
        // 1
        let mixed = self.registers.r[read0] ^ self.registers.r[read1];
        let line_mask = self.params.line_mask();
        let sp_addr0 = (sp_addrs[0] ^ mixed as u32) & line_mask;
        let sp_addr1 = (sp_addrs[1] ^ (mixed >> 32) as u32) & line_mask;
        // 2
        let loaded = self.load_line(sp_addr0);
        for (register, word) in self.registers.r.iter_mut().zip(loaded) {
            *register ^= word;
        }
        // 3
        let loaded = self.load_line(sp_addr1);
        self.registers.f = std::array::from_fn(|i| to_group_f(loaded[i]));
        self.registers.e = std::array::from_fn(|i| to_group_e(loaded[4 + i], configuration));
        // 4
        let (mut next, mut branches_taken) = (0, 0);
        while let Some(instruction) = program.instructions.get(next) {
            next += 1;
            if let Some(target) = self.step(&instruction.op, configuration) {
                next = usize::from(target);
                branches_taken += 1;
            }
        }
        // 5, 6
        let read_from = self.ma;
        let mp = match self.params.revision {
            Revision::V1 => &mut self.mx,
            Revision::V2 => &mut self.ma,
        };
        *mp ^= (self.registers.r[read2] ^ self.registers.r[read3]) as u32 & !63;
        // 7
        let item = (configuration.dataset_offset + u64::from(read_from & self.params.dataset_mask())) / 64;
        for (register, word) in self.registers.r.iter_mut().zip(dataset.item(item)) {
            *register ^= word;
        }
        // 8
        std::mem::swap(&mut self.mx, &mut self.ma);
        // 9
        self.store_line(sp_addr1, self.registers.r);
        // 10
        mix_groups(self.params.revision, &mut self.registers);
        // 11
        let f = self.registers.f.as_flattened();
        self.store_line(sp_addr0, std::array::from_fn(|i| f[i]));
        Trace { sp_addr0, sp_addr1, item, branches_taken }
    }

    /// Executes an instruction (specification 5) and answers where to go on, if not at the next one.
    pub fn step(&mut self, op: &Op, configuration: &Configuration) -> Option<u16> {
        let mode = self.fprc;
        match *op {
            Op::Nop => {}
            Op::AddShifted { dst, src, shift, displacement } => {
                let addend = (self.int(src) << shift).wrapping_add(displacement);
                self.set(dst, self.int(dst).wrapping_add(addend));
            }
            Op::Integer { op, dst, src } => {
                let src = match src {
                    Source::Register(src) => self.int(src),
                    Source::Immediate(value) => value,
                    Source::Memory(address) => self.load(address),
                };
                self.set(dst, apply(op, self.int(dst), src));
            }
            Op::MultiplyReciprocal { dst, reciprocal, .. } => {
                self.set(dst, self.int(dst).wrapping_mul(reciprocal));
            }
            Op::Negate { dst } => self.set(dst, self.int(dst).wrapping_neg()),
            Op::Swap { dst, src } => self.registers.r.swap(usize::from(dst), usize::from(src)),
            Op::SwapHalves { group, dst } => {
                let group = match group {
                    FloatGroup::F => &mut self.registers.f,
                    FloatGroup::E => &mut self.registers.e,
                };
                group[usize::from(dst)].reverse();
            }
            Op::AddA { dst, src } => {
                let src = self.registers.a[usize::from(src)];
                self.f_op(dst, src, |f, a| float::add(f, a, mode));
            }
            Op::AddMemory { dst, address } => {
                let src = to_group_f(self.load(address));
                self.f_op(dst, src, |f, m| float::add(f, m, mode));
            }
            Op::SubtractA { dst, src } => {
                let src = self.registers.a[usize::from(src)];
                self.f_op(dst, src, |f, a| float::subtract(f, a, mode));
            }
            Op::SubtractMemory { dst, address } => {
                let src = to_group_f(self.load(address));
                self.f_op(dst, src, |f, m| float::subtract(f, m, mode));
            }
            Op::Scale { dst } => self.f_op(dst, [float::SCALE; 2], |f, scale| f ^ scale),
            Op::MultiplyA { dst, src } => {
                let src = self.registers.a[usize::from(src)];
                self.e_op(dst, src, |e, a| float::multiply(e, a, mode));
            }
            Op::DivideMemory { dst, address } => {
                let src = to_group_e(self.load(address), configuration);
                self.e_op(dst, src, |e, m| float::divide(e, m, mode));
            }
            Op::SquareRoot { dst } => {
                self.e_op(dst, [0; 2], |e, _| float::square_root(e, mode));
            }
            Op::Branch { dst, addend, mask, target } => {
                self.set(dst, self.int(dst).wrapping_add(addend));
                return (self.int(dst) & mask == 0).then_some(target);
            }
            Op::Round { src, rotation, condition } => {
                let rotated = self.int(src).rotate_right(u32::from(rotation));
                if rotated & condition == 0 {
                    self.fprc = Rounding::from_bits(rotated);
                }
            }
            Op::Store { address, src } => {
                let (at, value) = (self.resolve(address), self.int(src));
                self.scratchpad[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        None
    }

    fn int(&self, register: u8) -> u64 {
        self.registers.r[usize::from(register)]
    }

    fn set(&mut self, register: u8, value: u64) {
        self.registers.r[usize::from(register)] = value;
    }

    /// `op` on both halves of an F register.
    fn f_op(&mut self, dst: u8, src: [u64; 2], op: impl Fn(u64, u64) -> u64) {
        let [low, high] = self.registers.f[usize::from(dst)];
        self.registers.f[usize::from(dst)] = [op(low, src[0]), op(high, src[1])];
    }

    /// `op` on both halves of an E register.
    fn e_op(&mut self, dst: u8, src: [u64; 2], op: impl Fn(u64, u64) -> u64) {
        let [low, high] = self.registers.e[usize::from(dst)];
        self.registers.e[usize::from(dst)] = [op(low, src[0]), op(high, src[1])];
    }

    fn resolve(&self, address: Address) -> usize {
        let base = address.base.map_or(0, |register| self.int(register));
        (base.wrapping_add(address.offset) as u32 & address.mask) as usize
    }

    fn load(&self, address: Address) -> u64 {
        let bytes = self.scratchpad[self.resolve(address)..].first_chunk();
        u64::from_le_bytes(*bytes.expect("the mask keeps addresses inside"))
    }

    fn load_line(&self, address: u32) -> [u64; 8] {
        let bytes = self.scratchpad[address as usize..].first_chunk();
        line(bytes.expect("the mask keeps lines inside"))
    }

    fn store_line(&mut self, address: u32, words: [u64; 8]) {
        let bytes = &mut self.scratchpad[address as usize..][..64];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }

    /// Fills the scratchpad (specification 2, steps 3 and 4).
    pub fn fill_scratchpad(&mut self, state: &mut aes::State) {
        aes::fill_1r(state, &mut self.scratchpad);
    }
}

/// Integer instructions of two operands (specification 5.2).
fn apply(op: IntegerOp, dst: u64, src: u64) -> u64 {
    match op {
        IntegerOp::Add => dst.wrapping_add(src),
        IntegerOp::Subtract => dst.wrapping_sub(src),
        IntegerOp::Multiply => dst.wrapping_mul(src),
        IntegerOp::MultiplyHigh => ((u128::from(dst) * u128::from(src)) >> 64) as u64,
        IntegerOp::MultiplyHighSigned => ((i128::from(dst as i64) * i128::from(src as i64)) >> 64) as u64,
        IntegerOp::Xor => dst ^ src,
        IntegerOp::RotateRight => dst.rotate_right(src as u32 & 63),
        IntegerOp::RotateLeft => dst.rotate_left(src as u32 & 63),
    }
}

/// Two signed integers of 32 bits as numbers (specification 4.3.1).
pub fn to_group_f(word: u64) -> [u64; 2] {
    [float::from_i32(word as i32), float::from_i32((word >> 32) as i32)]
}

/// Two signed integers of 32 bits as positive numbers of a program's magnitude (specification 4.3.2).
pub fn to_group_e(word: u64, configuration: &Configuration) -> [u64; 2] {
    let numbers = to_group_f(word);
    std::array::from_fn(|i| numbers[i] & E_FROM_MEMORY | configuration.e_bits[i])
}

/// Step 10 of an iteration.
fn mix_groups(revision: Revision, registers: &mut Registers) {
    match revision {
        Revision::V1 => {
            let e = registers.e.as_flattened();
            for (f, e) in registers.f.as_flattened_mut().iter_mut().zip(e) {
                *f ^= e;
            }
        }
        Revision::V2 => {
            let number = |[low, high]: [u64; 2]| u128::from(low) | u128::from(high) << 64;
            let keys = registers.e.map(number);
            for (i, f) in registers.f.iter_mut().enumerate() {
                let round = if i % 2 == 0 { encrypt_round } else { decrypt_round };
                let mixed = keys.into_iter().fold(number(*f), round);
                *f = [mixed as u64, (mixed >> 64) as u64];
            }
        }
    }
}
