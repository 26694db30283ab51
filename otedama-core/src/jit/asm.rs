//! An assembler of exactly those x86-64 instructions that the compilers here need.
//!
//! Instructions are named after Intel's manual (volume 2, which is also the source of the encodings) with
//! the operand kinds behind: `r` a register, `m` memory, `i` an immediate. Each is put together in a
//! register and stored at once; eight bytes are always stored, of which the next instruction overwrites
//! what was not needed. That, and a buffer whose length was fixed beforehand, is what makes a program of
//! hundreds of instructions a matter of microseconds.

#![forbid(unsafe_code)]

/// A general-purpose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the processor's")]
pub(super) enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

/// An SSE register, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Xmm(pub(super) u8);

/// The memory at `base + (index << scale) + disp`; `index` is not rsp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mem {
    pub(super) base: Gpr,
    pub(super) index: Option<(Gpr, u8)>,
    pub(super) disp: i32,
}

impl Mem {
    /// `[base + disp]`.
    #[inline(always)]
    pub(super) const fn at(base: Gpr, disp: i32) -> Mem {
        Mem { base, index: None, disp }
    }

    /// `[base + index + disp]`.
    #[inline(always)]
    pub(super) const fn sum(base: Gpr, index: Gpr, disp: i32) -> Mem {
        Mem { base, index: Some((index, 0)), disp }
    }
}

/// What two-operand integer instructions do: the opcode of the form `reg, reg/mem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0x03,
    And = 0x23,
    Sub = 0x2b,
    Xor = 0x33,
    /// Subtracts for the flags alone.
    Cmp = 0x3b,
}

impl Alu {
    /// The extension of opcode 81 with an immediate.
    const fn extension(self) -> u8 {
        self as u8 >> 3
    }
}

/// What packed floating-point instructions do: the opcode behind `66 0F` or `0F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Packed {
    Sqrt = 0x51,
    And = 0x54,
    Or = 0x56,
    Xor = 0x57,
    Add = 0x58,
    Mul = 0x59,
    Sub = 0x5c,
    Div = 0x5e,
}

/// Operand width of an integer instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// 32 bits; the upper half of a register becomes zero.
    D,
    /// 64 bits.
    Q,
}

/// A place in the code, to be jumped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(pub(super) u32);

/// A jump whose target is not known yet: the place of its 32-bit displacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Fixup(u32);

/// Bytes that an instruction starts with, before its displacement and immediate.
#[derive(Clone, Copy)]
struct Head {
    bits: u64,
    len: u32,
}

impl Head {
    #[inline(always)]
    const fn new() -> Head {
        Head { bits: 0, len: 0 }
    }

    #[inline(always)]
    const fn byte(self, byte: u8) -> Head {
        Head { bits: self.bits | (byte as u64) << (8 * self.len), len: self.len + 1 }
    }

    #[inline(always)]
    const fn byte_if(self, condition: bool, byte: u8) -> Head {
        if condition { self.byte(byte) } else { self }
    }
}

/// An opcode: mandatory prefix, escape bytes, code.
#[derive(Clone, Copy)]
struct Op {
    prefix: u8,
    escape: Escape,
    code: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// `0F`.
    One,
    /// `0F 38`.
    Two,
}

impl Op {
    const fn plain(code: u8) -> Op {
        Op { prefix: 0, escape: Escape::None, code }
    }

    const fn escaped(prefix: u8, code: u8) -> Op {
        Op { prefix, escape: Escape::One, code }
    }

    /// Prefix, REX and opcode, for operands that go to the fields reg, index and rm.
    #[inline(always)]
    const fn head(self, width: Width, reg: u8, index: u8, rm: u8) -> Head {
        let rex = 0x40
            | (matches!(width, Width::Q) as u8) << 3
            | (reg >> 3 & 1) << 2
            | (index >> 3 & 1) << 1
            | (rm >> 3 & 1);
        Head::new()
            .byte_if(self.prefix != 0, self.prefix)
            .byte_if(rex != 0x40, rex)
            .byte_if(!matches!(self.escape, Escape::None), 0x0f)
            .byte_if(matches!(self.escape, Escape::Two), 0x38)
            .byte(self.code)
    }
}

/// Writes instructions one after the other.
pub(super) struct Asm<'a> {
    code: &'a mut [u8],
    at: usize,
}

/// The longest instruction, and what is stored beyond its end at most.
pub(super) const SLACK: usize = 24;

impl<'a> Asm<'a> {
    /// Starts at an offset of the buffer.
    ///
    /// Every instruction panics if fewer than [`SLACK`] bytes are left.
    pub(super) fn new(code: &'a mut [u8], at: usize) -> Asm<'a> {
        Asm { code, at }
    }

    /// The place of the next instruction.
    #[inline(always)]
    pub(super) fn here(&self) -> Label {
        Label(self.at as u32)
    }

    /// Pads with long no-ops until the place is a multiple of `align` (a power of two, at most 64).
    pub(super) fn align(&mut self, align: usize) {
        while !self.at.is_multiple_of(align) {
            let gap = align - self.at % align;
            // NOP of 1, 3, 4 or 7 bytes (`nop [rax + disp]`).
            match gap {
                7.. => self.store(0x0080_1f0f, 7),
                4.. => self.store(0x0040_1f0f, 4),
                3 => self.store(0x0000_1f0f, 3),
                _ => self.store(0x90, 1),
            }
        }
    }

    #[inline(always)]
    fn store(&mut self, bits: u64, len: usize) {
        self.code[self.at..self.at + 8].copy_from_slice(&bits.to_le_bytes());
        self.at += len;
    }

    #[inline(always)]
    fn put_rr(&mut self, op: Op, width: Width, reg: u8, rm: u8) {
        let head = op.head(width, reg, 0, rm).byte(0xc0 | (reg & 7) << 3 | rm & 7);
        self.store(head.bits, head.len as usize);
    }

    #[inline(always)]
    fn put_rm(&mut self, op: Op, width: Width, reg: u8, mem: Mem) {
        let base = mem.base as u8;
        let index = match mem.index {
            Some((index, _)) => index as u8,
            None => 0,
        };
        // rbp and r13 as a base cannot do without a displacement; rsp and r12 cannot do without a SIB byte,
        // which is also where an index goes (100 in it means that there is none).
        let short = mem.disp == i32::from(mem.disp as i8);
        let none = mem.disp == 0 && base & 7 != 5;
        let mode = if none {
            0x00
        } else if short {
            0x40
        } else {
            0x80
        };
        let sib = mem.index.is_some() || base & 7 == 4;
        let mut head = op.head(width, reg, index, base);
        head = head.byte(mode | (reg & 7) << 3 | if sib { 4 } else { base & 7 });
        if sib {
            let scaled = match mem.index {
                Some((index, scale)) => scale << 6 | (index as u8 & 7) << 3,
                None => 4 << 3,
            };
            head = head.byte(scaled | base & 7);
        }
        self.store(head.bits, head.len as usize);
        if !none {
            self.store(mem.disp as u32 as u64, if short { 1 } else { 4 });
        }
    }

    /// `dst = src`.
    #[inline(always)]
    pub(super) fn mov_rr(&mut self, width: Width, dst: Gpr, src: Gpr) {
        self.put_rr(Op::plain(0x8b), width, dst as u8, src as u8);
    }

    /// `dst = [mem]`.
    #[inline(always)]
    pub(super) fn mov_rm(&mut self, width: Width, dst: Gpr, mem: Mem) {
        self.put_rm(Op::plain(0x8b), width, dst as u8, mem);
    }

    /// `[mem] = src`.
    #[inline(always)]
    pub(super) fn mov_mr(&mut self, width: Width, mem: Mem, src: Gpr) {
        self.put_rm(Op::plain(0x89), width, src as u8, mem);
    }

    /// `dst = value`, in the shortest form.
    #[inline(always)]
    pub(super) fn mov_ri(&mut self, dst: Gpr, value: u64) {
        let d = dst as u8;
        if let Ok(value) = u32::try_from(value) {
            let head = Head::new().byte_if(d > 7, 0x41).byte(0xb8 | d & 7);
            self.store(head.bits, head.len as usize);
            self.store(u64::from(value), 4);
        } else if value as i64 == i64::from(value as i32) {
            self.put_rr(Op::plain(0xc7), Width::Q, 0, d);
            self.store(value, 4);
        } else {
            let head = Head::new().byte(0x48 | d >> 3).byte(0xb8 | d & 7);
            self.store(head.bits, head.len as usize);
            self.store(value, 8);
        }
    }

    /// `dst = address of mem`.
    #[inline(always)]
    pub(super) fn lea(&mut self, width: Width, dst: Gpr, mem: Mem) {
        self.put_rm(Op::plain(0x8d), width, dst as u8, mem);
    }

    /// `dst = dst op src`.
    #[inline(always)]
    pub(super) fn alu_rr(&mut self, op: Alu, width: Width, dst: Gpr, src: Gpr) {
        self.put_rr(Op::plain(op as u8), width, dst as u8, src as u8);
    }

    /// `dst = dst op [mem]`.
    #[inline(always)]
    pub(super) fn alu_rm(&mut self, op: Alu, width: Width, dst: Gpr, mem: Mem) {
        self.put_rm(Op::plain(op as u8), width, dst as u8, mem);
    }

    /// `dst = dst op value`, sign-extended.
    #[inline(always)]
    pub(super) fn alu_ri(&mut self, op: Alu, width: Width, dst: Gpr, value: i32) {
        let short = value == i32::from(value as i8);
        self.put_rr(Op::plain(if short { 0x83 } else { 0x81 }), width, op.extension(), dst as u8);
        self.store(value as u32 as u64, if short { 1 } else { 4 });
    }

    /// `flags = dst & value`, sign-extended.
    #[inline(always)]
    pub(super) fn test_ri(&mut self, width: Width, dst: Gpr, value: i32) {
        self.put_rr(Op::plain(0xf7), width, 0, dst as u8);
        self.store(value as u32 as u64, 4);
    }

    /// `dst = dst - 1`, 32 bits.
    pub(super) fn dec_r(&mut self, dst: Gpr) {
        self.put_rr(Op::plain(0xff), Width::D, 1, dst as u8);
    }

    /// `dst = low half of dst * src`.
    #[inline(always)]
    pub(super) fn imul_rr(&mut self, dst: Gpr, src: Gpr) {
        self.put_rr(Op::escaped(0, 0xaf), Width::Q, dst as u8, src as u8);
    }

    /// `dst = low half of dst * [mem]`.
    #[inline(always)]
    pub(super) fn imul_rm(&mut self, dst: Gpr, mem: Mem) {
        self.put_rm(Op::escaped(0, 0xaf), Width::Q, dst as u8, mem);
    }

    /// `dst = low half of dst * value`, sign-extended.
    #[inline(always)]
    pub(super) fn imul_ri(&mut self, dst: Gpr, value: i32) {
        self.put_rr(Op::plain(0x69), Width::Q, dst as u8, dst as u8);
        self.store(value as u32 as u64, 4);
    }

    /// `rdx:rax = rax * src`, unsigned.
    #[inline(always)]
    pub(super) fn mul_r(&mut self, src: Gpr) {
        self.put_rr(Op::plain(0xf7), Width::Q, 4, src as u8);
    }

    /// `rdx:rax = rax * [mem]`, unsigned.
    #[inline(always)]
    pub(super) fn mul_m(&mut self, mem: Mem) {
        self.put_rm(Op::plain(0xf7), Width::Q, 4, mem);
    }

    /// `rdx:rax = rax * src`, signed.
    #[inline(always)]
    pub(super) fn imul_wide_r(&mut self, src: Gpr) {
        self.put_rr(Op::plain(0xf7), Width::Q, 5, src as u8);
    }

    /// `rdx:rax = rax * [mem]`, signed.
    #[inline(always)]
    pub(super) fn imul_wide_m(&mut self, mem: Mem) {
        self.put_rm(Op::plain(0xf7), Width::Q, 5, mem);
    }

    /// `dst = -dst`.
    #[inline(always)]
    pub(super) fn neg(&mut self, dst: Gpr) {
        self.put_rr(Op::plain(0xf7), Width::Q, 3, dst as u8);
    }

    /// `dst` rotated right by `count`, 64 bits.
    #[inline(always)]
    pub(super) fn ror_ri(&mut self, dst: Gpr, count: u8) {
        self.put_rr(Op::plain(0xc1), Width::Q, 1, dst as u8);
        self.store(u64::from(count), 1);
    }

    /// `dst` rotated right by cl.
    #[inline(always)]
    pub(super) fn ror_cl(&mut self, dst: Gpr) {
        self.put_rr(Op::plain(0xd3), Width::Q, 1, dst as u8);
    }

    /// `dst` rotated left by cl.
    #[inline(always)]
    pub(super) fn rol_cl(&mut self, dst: Gpr) {
        self.put_rr(Op::plain(0xd3), Width::Q, 0, dst as u8);
    }

    /// `dst` shifted right by `count`, 64 bits.
    #[inline(always)]
    pub(super) fn shr_ri(&mut self, dst: Gpr, count: u8) {
        self.put_rr(Op::plain(0xc1), Width::Q, 5, dst as u8);
        self.store(u64::from(count), 1);
    }

    /// `dst` shifted left by `count`, 64 bits.
    pub(super) fn shl_ri(&mut self, dst: Gpr, count: u8) {
        self.put_rr(Op::plain(0xc1), Width::Q, 4, dst as u8);
        self.store(u64::from(count), 1);
    }

    /// Swaps two registers.
    #[inline(always)]
    pub(super) fn xchg(&mut self, a: Gpr, b: Gpr) {
        self.put_rr(Op::plain(0x87), Width::Q, a as u8, b as u8);
    }

    /// Puts a register on the stack.
    pub(super) fn push(&mut self, src: Gpr) {
        let head = Head::new().byte_if(src as u8 > 7, 0x41).byte(0x50 | src as u8 & 7);
        self.store(head.bits, head.len as usize);
    }

    /// Takes a register from the stack.
    pub(super) fn pop(&mut self, dst: Gpr) {
        let head = Head::new().byte_if(dst as u8 > 7, 0x41).byte(0x58 | dst as u8 & 7);
        self.store(head.bits, head.len as usize);
    }

    /// Returns to the caller.
    pub(super) fn ret(&mut self) {
        self.store(0xc3, 1);
    }

    /// Calls the function whose address a register holds.
    pub(super) fn call_r(&mut self, target: Gpr) {
        self.put_rr(Op::plain(0xff), Width::D, 2, target as u8);
    }

    /// Jumps back if the last result was zero.
    #[inline(always)]
    pub(super) fn jz(&mut self, target: Label) {
        self.store(0x840f, 2);
        let fixup = self.displacement();
        self.land(fixup, target);
    }

    /// Jumps back if the last result was not zero.
    pub(super) fn jnz(&mut self, target: Label) {
        self.store(0x850f, 2);
        let fixup = self.displacement();
        self.land(fixup, target);
    }

    /// Jumps to a place that [`Asm::land`] will tell, if the last result was not zero.
    pub(super) fn jnz_later(&mut self) -> Fixup {
        self.store(0x850f, 2);
        self.displacement()
    }

    /// Jumps to a place that [`Asm::land`] will tell, if the last result was zero.
    pub(super) fn jz_later(&mut self) -> Fixup {
        self.store(0x840f, 2);
        self.displacement()
    }

    /// Lets a jump arrive.
    #[inline(always)]
    pub(super) fn land(&mut self, fixup: Fixup, target: Label) {
        let at = fixup.0 as usize;
        let distance = target.0.wrapping_sub(fixup.0 + 4);
        self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }

    #[inline(always)]
    fn displacement(&mut self) -> Fixup {
        let fixup = Fixup(self.at as u32);
        self.store(0, 4);
        fixup
    }

    /// Brings a line nearer that will be read once: past the outer caches where the processor can.
    #[inline(always)]
    pub(super) fn prefetch_once(&mut self, mem: Mem) {
        self.put_rm(Op::escaped(0, 0x18), Width::D, 0, mem);
    }

    /// Brings a line into all caches.
    #[inline(always)]
    pub(super) fn prefetch(&mut self, mem: Mem) {
        self.put_rm(Op::escaped(0, 0x18), Width::D, 1, mem);
    }

    /// Sets the floating-point control register.
    #[inline(always)]
    pub(super) fn ldmxcsr(&mut self, mem: Mem) {
        self.put_rm(Op::escaped(0, 0xae), Width::D, 2, mem);
    }

    /// Stores the floating-point control register.
    pub(super) fn stmxcsr(&mut self, mem: Mem) {
        self.put_rm(Op::escaped(0, 0xae), Width::D, 3, mem);
    }

    /// `dst = [mem]`; the address is a multiple of 16.
    #[inline(always)]
    pub(super) fn movaps_rm(&mut self, dst: Xmm, mem: Mem) {
        self.put_rm(Op::escaped(0, 0x28), Width::D, dst.0, mem);
    }

    /// `[mem] = src`; the address is a multiple of 16.
    #[inline(always)]
    pub(super) fn movaps_mr(&mut self, mem: Mem, src: Xmm) {
        self.put_rm(Op::escaped(0, 0x29), Width::D, src.0, mem);
    }

    /// Two 32-bit integers at `mem` as two double numbers.
    #[inline(always)]
    pub(super) fn cvtdq2pd(&mut self, dst: Xmm, mem: Mem) {
        self.put_rm(Op::escaped(0xf3, 0xe6), Width::D, dst.0, mem);
    }

    /// `dst = dst op src` on two double numbers; a square root is `dst = root of src`.
    #[inline(always)]
    pub(super) fn pd_rr(&mut self, op: Packed, dst: Xmm, src: Xmm) {
        self.put_rr(Op::escaped(0x66, op as u8), Width::D, dst.0, src.0);
    }

    /// `dst = dst op src` on 128 bits, for the bitwise operations: a byte shorter than [`Asm::pd_rr`].
    #[inline(always)]
    pub(super) fn bits_rr(&mut self, op: Packed, dst: Xmm, src: Xmm) {
        self.put_rr(Op::escaped(0, op as u8), Width::D, dst.0, src.0);
    }

    /// Swaps the halves of a register.
    #[inline(always)]
    pub(super) fn swap_halves(&mut self, dst: Xmm) {
        self.put_rr(Op::escaped(0x66, 0xc6), Width::D, dst.0, dst.0);
        self.store(1, 1);
    }

    /// One round of AES encryption of `state` with `key`.
    #[inline(always)]
    pub(super) fn aesenc(&mut self, state: Xmm, key: Xmm) {
        let op = Op { prefix: 0x66, escape: Escape::Two, code: 0xdc };
        self.put_rr(op, Width::D, state.0, key.0);
    }

    /// One round of AES decryption of `state` with `key`.
    #[inline(always)]
    pub(super) fn aesdec(&mut self, state: Xmm, key: Xmm) {
        let op = Op { prefix: 0x66, escape: Escape::Two, code: 0xde };
        self.put_rr(op, Width::D, state.0, key.0);
    }

    /// Serializes: no instruction behind it was fetched before it is done. It is a return from interrupt
    /// to the next instruction (0.1 us; CPUID would trap to a hypervisor, 5 us). Changes rax; needs 40
    /// bytes of stack.
    pub(super) fn serialize(&mut self) {
        const MOV_EAX_SS: u64 = 0xd08c;
        const MOV_EAX_CS: u64 = 0xc88c;
        const PUSHFQ: u64 = 0x9c;
        const IRETQ: u64 = 0xcf48;
        const LEA_RAX_RIP: u64 = 0x05_8d48;
        self.store(MOV_EAX_SS, 2);
        self.push(Gpr::Rax);
        self.lea(Width::Q, Gpr::Rax, Mem::at(Gpr::Rsp, 8));
        self.push(Gpr::Rax);
        self.store(PUSHFQ, 1);
        self.store(MOV_EAX_CS, 2);
        self.push(Gpr::Rax);
        self.store(LEA_RAX_RIP, 3);
        let next = self.displacement();
        self.push(Gpr::Rax);
        self.store(IRETQ, 2);
        self.land(next, self.here());
    }
}

#[cfg(test)]
#[path = "asm_tests.rs"]
mod tests;
