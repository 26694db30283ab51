//! An assembler of exactly those vector instructions that the compilers of KawPow's programs need, on ymm
//! registers (AVX2, VEX encoding) or zmm registers (AVX-512, EVEX encoding).
//!
//! The encodings are of Intel's manual, volume 2. Every instruction works on whole vectors and has up to
//! three operands: a register, a second source register, and a last source that may be in memory.

#![forbid(unsafe_code)]

/// How wide the vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// 256 bits, registers 0 to 15.
    Ymm,
    /// 512 bits, registers 0 to 31.
    Zmm,
}

impl Width {
    /// Bytes of a vector.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Width::Ymm => 32,
            Width::Zmm => 64,
        }
    }
}

/// A vector register.
pub(super) type Reg = u8;

/// A general-purpose register that holds an address. Others would need bytes that are not written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Base {
    Rcx = 1,
    Rdx = 2,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
}

/// The last source, or for a store the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rm {
    Reg(Reg),
    /// `[base + disp]`.
    Mem(Base, i32),
    /// A vector of the pool of constants behind the code.
    Pool(usize),
    /// `[base + 4 index]` for each lane of the index.
    Gather(Base, Reg),
}

/// An opcode. `wide` is the bit W of the EVEX form; none of the VEX forms here needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    prefix: u8,
    map: u8,
    code: u8,
    wide: bool,
}

const fn op(prefix: u8, map: u8, code: u8, wide: bool) -> Op {
    Op { prefix, map, code, wide }
}

/// The mandatory prefix 66.
const P66: u8 = 1;
/// The mandatory prefix F3.
const PF3: u8 = 2;
/// Opcodes behind 0F.
const M0F: u8 = 1;
/// Opcodes behind 0F 38.
const M38: u8 = 2;
/// Opcodes behind 0F 3A.
const M3A: u8 = 3;

#[rustfmt::skip]
impl Op {
    /// `vmovdqa`, `vmovdqa32`.
    pub(super) const LOAD: Op = op(P66, M0F, 0x6f, false);
    pub(super) const STORE: Op = op(P66, M0F, 0x7f, false);
    /// `vmovdqu`, `vmovdqu32`.
    pub(super) const LOAD_ANY: Op = op(PF3, M0F, 0x6f, false);
    pub(super) const PADDB: Op = op(P66, M0F, 0xfc, false);
    pub(super) const PADDD: Op = op(P66, M0F, 0xfe, false);
    pub(super) const PSUBD: Op = op(P66, M0F, 0xfa, false);
    pub(super) const PSUBUSW: Op = op(P66, M0F, 0xd9, false);
    pub(super) const PMULLD: Op = op(P66, M38, 0x40, false);
    pub(super) const PMULUDQ: Op = op(P66, M0F, 0xf4, true);
    pub(super) const PMADDWD: Op = op(P66, M0F, 0xf5, false);
    pub(super) const PMADDUBSW: Op = op(P66, M38, 0x04, false);
    pub(super) const PMINUD: Op = op(P66, M38, 0x3b, false);
    pub(super) const PAND: Op = op(P66, M0F, 0xdb, false);
    pub(super) const PANDN: Op = op(P66, M0F, 0xdf, false);
    pub(super) const POR: Op = op(P66, M0F, 0xeb, false);
    pub(super) const PXOR: Op = op(P66, M0F, 0xef, false);
    pub(super) const PSHUFB: Op = op(P66, M38, 0x00, false);
    /// Converts signed numbers to floating-point ones; no second source.
    pub(super) const CVTDQ2PS: Op = op(0, M0F, 0x5b, false);
    pub(super) const PCMPEQD: Op = op(P66, M0F, 0x76, false);
    pub(super) const PUNPCKLDQ: Op = op(P66, M0F, 0x62, false);
    pub(super) const PUNPCKHDQ: Op = op(P66, M0F, 0x6a, false);
    pub(super) const PUNPCKLQDQ: Op = op(P66, M0F, 0x6c, true);
    pub(super) const PUNPCKHQDQ: Op = op(P66, M0F, 0x6d, true);
    /// The second source has the indices, the last one the words.
    pub(super) const PERMD: Op = op(P66, M38, 0x36, false);
    pub(super) const PSLLVD: Op = op(P66, M38, 0x47, false);
    pub(super) const PSRLVD: Op = op(P66, M38, 0x45, false);
    pub(super) const PGATHERDD: Op = op(P66, M38, 0x90, false);
    // AVX2 alone:
    pub(super) const PBLENDD: Op = op(P66, M3A, 0x02, false);
    pub(super) const INSERTI128: Op = op(P66, M3A, 0x38, false);
    // AVX-512 alone:
    pub(super) const PROLVD: Op = op(P66, M38, 0x15, false);
    pub(super) const PRORVD: Op = op(P66, M38, 0x14, false);
    /// No second source; AVX-512 CD.
    pub(super) const PLZCNTD: Op = op(P66, M38, 0x44, false);
    /// No second source; AVX-512 VPOPCNTDQ.
    pub(super) const POPCNTD: Op = op(P66, M38, 0x55, false);
    /// The destination has the indices, the other two the words.
    pub(super) const PERMI2D: Op = op(P66, M38, 0x76, false);
}

/// A shift or rotation by a constant: the opcode and its extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift(Op, u8);

#[rustfmt::skip]
impl Shift {
    pub(super) const PSLLD: Shift = Shift(op(P66, M0F, 0x72, false), 6);
    pub(super) const PSRLD: Shift = Shift(op(P66, M0F, 0x72, false), 2);
    pub(super) const PSRLW: Shift = Shift(op(P66, M0F, 0x71, false), 2);
    pub(super) const PSRLQ: Shift = Shift(op(P66, M0F, 0x73, true), 2);
    // AVX-512 alone:
    pub(super) const PROLD: Shift = Shift(op(P66, M0F, 0x72, false), 1);
}

/// Writes instructions one after the other, constants behind them.
pub(super) struct VectorAsm {
    code: Vec<u8>,
    width: Width,
    /// Displacements that name a vector of the pool, and which.
    fixups: Vec<(usize, usize)>,
}

impl VectorAsm {
    pub(super) fn new(width: Width) -> VectorAsm {
        VectorAsm { code: Vec::with_capacity(4096), width, fixups: Vec::with_capacity(64) }
    }

    /// `dst = op(a, b)`. Without a second source, `a` is 0.
    pub(super) fn op(&mut self, op: Op, dst: Reg, a: Reg, b: Rm) {
        self.encode(op, dst, a, b, 0, None);
    }

    /// `dst = op(a, b)` with an immediate.
    pub(super) fn op_imm(&mut self, op: Op, dst: Reg, a: Reg, b: Rm, imm: u8) {
        self.encode(op, dst, a, b, 0, Some(imm));
    }

    /// `dst = op(a, b)` in the lanes of mask register `mask`, 1 to 7.
    pub(super) fn masked(&mut self, op: Op, dst: Reg, a: Reg, b: Rm, mask: u8) {
        self.encode(op, dst, a, b, mask, None);
    }

    /// `dst = src` shifted by `count`.
    pub(super) fn shift(&mut self, shift: Shift, dst: Reg, src: Reg, count: u8) {
        self.encode(shift.0, shift.1, dst, Rm::Reg(src), 0, Some(count));
    }

    /// `dst = [from]`, at an address that is a multiple of the vector's size.
    pub(super) fn load(&mut self, dst: Reg, from: Rm) {
        self.op(Op::LOAD, dst, 0, from);
    }

    /// `[to] = src`, at an address that is a multiple of the vector's size.
    pub(super) fn store(&mut self, to: Rm, src: Reg) {
        self.op(Op::STORE, src, 0, to);
    }

    /// `vmovdqu xmm, [base + disp]`: the lower 16 bytes; zeros above.
    pub(super) fn load_xmm(&mut self, dst: Reg, base: Base, disp: i32) {
        self.vex(Op::LOAD_ANY, false, dst, 0, Rm::Mem(base, disp), None);
    }

    /// Sets all bits of a mask register's lower half: `kxnorw`.
    pub(super) fn mask_ones(&mut self, mask: u8) {
        self.code.extend([0xc5, 0xfc & !(mask << 3) | 4, 0x46, 0xc0 | mask << 3 | mask]);
    }

    /// `mov eax, bits; kmovw mask, eax`.
    pub(super) fn mask(&mut self, mask: u8, bits: u16) {
        self.code.push(0xb8);
        self.code.extend(u32::from(bits).to_le_bytes());
        self.code.extend([0xc5, 0xf8, 0x92, 0xc0 | mask << 3]);
    }

    /// `vzeroupper; ret`, and the pool, each constant in all lanes: the code.
    pub(super) fn finish(mut self, pool: &[[u32; 4]]) -> Vec<u8> {
        self.code.extend([0xc5, 0xf8, 0x77, 0xc3]);
        let size = self.width.bytes();
        let start = self.code.len().next_multiple_of(size);
        self.code.resize(start, 0xcc);
        for &constant in pool {
            for _ in 0..size / 16 {
                self.code.extend(constant.iter().flat_map(|word| word.to_le_bytes()));
            }
        }
        for (at, index) in self.fixups {
            // The displacement counts from the next instruction; none has an immediate behind it.
            let disp = (start + index * size) as i32 - (at as i32 + 4);
            self.code[at..at + 4].copy_from_slice(&disp.to_le_bytes());
        }
        self.code
    }

    fn encode(&mut self, op: Op, reg: Reg, second: Reg, rm: Rm, mask: u8, imm: Option<u8>) {
        match self.width {
            Width::Ymm => {
                debug_assert_eq!(mask, 0, "no masks without AVX-512");
                self.vex(op, true, reg, second, rm, imm);
            }
            Width::Zmm => self.evex(op, reg, second, rm, mask, imm),
        }
    }

    /// `C4 RXBmmmmm WvvvvLpp opcode`, all register bits inverted.
    fn vex(&mut self, op: Op, long: bool, reg: Reg, second: Reg, rm: Rm, imm: Option<u8>) {
        let (base, index) = rm.numbers();
        self.code.extend([
            0xc4,
            (!reg >> 3 & 1) << 7 | (!index >> 3 & 1) << 6 | (!base >> 3 & 1) << 5 | op.map,
            (!second & 15) << 3 | (long as u8) << 2 | op.prefix,
            op.code,
        ]);
        self.operand(reg, rm, 1, imm);
    }

    /// `62 RXBR'0mmm Wvvvv1pp zLLbV'aaa opcode`, all register bits inverted; X and V' are the fifth bits of a
    /// register as the last operand and of the second or the index.
    fn evex(&mut self, op: Op, reg: Reg, second: Reg, rm: Rm, mask: u8, imm: Option<u8>) {
        let (base, index) = rm.numbers();
        let (x, v) = match rm {
            Rm::Reg(register) => (register >> 4, second >> 4),
            Rm::Gather(_, index) => (index >> 3, index >> 4),
            Rm::Mem(..) | Rm::Pool(_) => (index >> 3, second >> 4),
        };
        self.code.extend([
            0x62,
            (!reg >> 3 & 1) << 7 | (!x & 1) << 6 | (!base >> 3 & 1) << 5 | (!reg >> 4 & 1) << 4 | op.map,
            (op.wide as u8) << 7 | (!second & 15) << 3 | 1 << 2 | op.prefix,
            0b10 << 5 | (!v & 1) << 3 | mask,
            op.code,
        ]);
        self.operand(reg, rm, 64, imm);
    }

    /// ModRM, SIB, displacement and immediate. A displacement of one byte counts in units of `unit`.
    fn operand(&mut self, reg: Reg, rm: Rm, unit: i32, imm: Option<u8>) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Reg(register) => self.code.push(0xc0 | reg | register & 7),
            Rm::Mem(base, 0) => self.code.push(reg | base as u8 & 7),
            Rm::Mem(base, disp) => {
                let short = i8::try_from(disp / unit).ok().filter(|_| disp % unit == 0);
                match short {
                    Some(disp) => self.code.extend([0x40 | reg | base as u8 & 7, disp as u8]),
                    None => {
                        self.code.push(0x80 | reg | base as u8 & 7);
                        self.code.extend(disp.to_le_bytes());
                    }
                }
            }
            Rm::Pool(index) => {
                debug_assert_eq!(imm, None, "the displacement would count from behind it");
                self.code.push(reg | 0b101);
                self.fixups.push((self.code.len(), index));
                self.code.extend([0; 4]);
            }
            Rm::Gather(base, index) => {
                // A scale of four.
                self.code.extend([reg | 0b100, 0b10 << 6 | (index & 7) << 3 | base as u8 & 7]);
            }
        }
        self.code.extend(imm);
    }
}

impl Rm {
    /// The numbers that go to the fields rm or base, and index.
    fn numbers(self) -> (u8, u8) {
        match self {
            Rm::Reg(register) => (register, 0),
            Rm::Mem(base, _) => (base as u8, 0),
            Rm::Pool(_) => (0, 0),
            Rm::Gather(base, index) => (base as u8, index),
        }
    }
}
