//! What the assembler writes, read back by a disassembler.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};

use super::*;

/// Every register, in the order of the numbers.
const ALL: [Gpr; 16] = [
    Gpr::Rax,
    Gpr::Rcx,
    Gpr::Rdx,
    Gpr::Rbx,
    Gpr::Rsp,
    Gpr::Rbp,
    Gpr::Rsi,
    Gpr::Rdi,
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::R12,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
];

const NAMES_64: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

const NAMES_32: [&str; 16] = [
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d",
    "r14d", "r15d",
];

/// The instructions that `write` emits, as text.
fn listing(write: impl FnOnce(&mut Asm)) -> Vec<String> {
    let mut code = [0xcc; 4096];
    let mut asm = Asm::new(&mut code, 0);
    write(&mut asm);
    let len = asm.at;
    decode(&code[..len])
}

fn decode(code: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_first_operand_char_index(0);
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_small_hex_numbers_in_decimal(true);
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.options_mut().set_show_branch_size(false);
    let mut lines = Vec::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        assert!(!instruction.is_invalid(), "at {:#x} of {code:02x?}", instruction.ip());
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        lines.push(line);
    }
    lines
}

fn one(write: impl FnOnce(&mut Asm)) -> String {
    let lines = listing(write);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[test]
fn registers_reach_both_fields() {
    for (i, a) in ALL.into_iter().enumerate() {
        for (j, b) in ALL.into_iter().enumerate() {
            let (q, d) = ((NAMES_64[i], NAMES_64[j]), (NAMES_32[i], NAMES_32[j]));
            let both = |mnemonic: &str, (a, b)| format!("{mnemonic} {a},{b}");
            assert_eq!(one(|asm| asm.mov_rr(Width::Q, a, b)), both("mov", q));
            assert_eq!(one(|asm| asm.mov_rr(Width::D, a, b)), both("mov", d));
            assert_eq!(one(|asm| asm.imul_rr(a, b)), both("imul", q));
            assert_eq!(one(|asm| asm.xchg(a, b)), both("xchg", (q.1, q.0)));
            for (op, name) in [
                (Alu::Add, "add"),
                (Alu::And, "and"),
                (Alu::Sub, "sub"),
                (Alu::Xor, "xor"),
                (Alu::Cmp, "cmp"),
            ] {
                assert_eq!(one(|asm| asm.alu_rr(op, Width::Q, a, b)), both(name, q));
                assert_eq!(one(|asm| asm.alu_rr(op, Width::D, a, b)), both(name, d));
            }
        }
        let q = NAMES_64[i];
        assert_eq!(one(|asm| asm.neg(a)), format!("neg {q}"));
        assert_eq!(one(|asm| asm.mul_r(a)), format!("mul {q}"));
        assert_eq!(one(|asm| asm.imul_wide_r(a)), format!("imul {q}"));
        assert_eq!(one(|asm| asm.ror_ri(a, 63)), format!("ror {q},0x3f"));
        assert_eq!(one(|asm| asm.ror_cl(a)), format!("ror {q},cl"));
        assert_eq!(one(|asm| asm.rol_cl(a)), format!("rol {q},cl"));
        assert_eq!(one(|asm| asm.shr_ri(a, 32)), format!("shr {q},0x20"));
        assert_eq!(one(|asm| asm.shl_ri(a, 6)), format!("shl {q},6"));
        assert_eq!(one(|asm| asm.push(a)), format!("push {q}"));
        assert_eq!(one(|asm| asm.pop(a)), format!("pop {q}"));
        assert_eq!(one(|asm| asm.call_r(a)), format!("call {q}"));
        assert_eq!(one(|asm| asm.dec_r(a)), format!("dec {}", NAMES_32[i]));
    }
}

#[test]
fn immediates_take_the_form_that_keeps_their_value() {
    for (i, reg) in ALL.into_iter().enumerate() {
        let (q, d) = (NAMES_64[i], NAMES_32[i]);
        assert_eq!(one(|asm| asm.mov_ri(reg, 0xffff_ffff)), format!("mov {d},0xffffffff"));
        assert_eq!(one(|asm| asm.mov_ri(reg, 0x1_0000_0000)), format!("mov {q},0x100000000"));
        assert_eq!(one(|asm| asm.mov_ri(reg, u64::MAX << 31)), format!("mov {q},0xffffffff80000000"));
        for (value, text) in [
            (127, "0x7f"),
            (128, "0x80"),
            (-128, "0xffffffffffffff80"),
            (-129, "0xffffffffffffff7f"),
            (i32::MAX, "0x7fffffff"),
            (i32::MIN, "0xffffffff80000000"),
        ] {
            assert_eq!(one(|asm| asm.alu_ri(Alu::Sub, Width::Q, reg, value)), format!("sub {q},{text}"));
            assert_eq!(one(|asm| asm.alu_ri(Alu::Add, Width::Q, reg, value)), format!("add {q},{text}"));
            assert_eq!(one(|asm| asm.alu_ri(Alu::Xor, Width::Q, reg, value)), format!("xor {q},{text}"));
            assert_eq!(one(|asm| asm.imul_ri(reg, value)), format!("imul {q},{text}"));
            assert_eq!(one(|asm| asm.test_ri(Width::Q, reg, value)), format!("test {q},{text}"));
        }
        assert_eq!(one(|asm| asm.test_ri(Width::D, reg, 0x7f80_0000)), format!("test {d},0x7f800000"));
        assert_eq!(one(|asm| asm.alu_ri(Alu::And, Width::D, reg, 0x3ff8)), format!("and {d},0x3ff8"));
    }
}

#[test]
fn every_base_index_scale_and_displacement() {
    for (i, base) in ALL.into_iter().enumerate() {
        for (disp, text) in
            [(0, ""), (1, "+1"), (127, "+0x7f"), (128, "+0x80"), (-128, "-0x80"), (i32::MAX, "+0x7fffffff")]
        {
            let line = one(|asm| asm.mov_rm(Width::Q, Gpr::R9, Mem::at(base, disp)));
            assert_eq!(line, format!("mov r9,[{}{text}]", NAMES_64[i]));
            for (j, index) in ALL.into_iter().enumerate().filter(|(_, index)| *index != Gpr::Rsp) {
                for scale in 0..4 {
                    let factor = ["", "*2", "*4", "*8"][usize::from(scale)];
                    let mem = Mem { base, index: Some((index, scale)), disp };
                    let line = one(|asm| asm.lea(Width::Q, Gpr::Rax, mem));
                    assert_eq!(line, format!("lea rax,[{}+{}{factor}{text}]", NAMES_64[i], NAMES_64[j]));
                }
            }
        }
    }
}

#[test]
fn memory_forms() {
    let mem = Mem::sum(Gpr::Rsi, Gpr::Rax, 0);
    let lines = listing(|asm| {
        asm.mov_mr(Width::Q, mem, Gpr::R15);
        asm.mov_mr(Width::D, mem, Gpr::Rcx);
        asm.alu_rm(Alu::Xor, Width::Q, Gpr::R8, mem);
        asm.imul_rm(Gpr::R8, mem);
        asm.mul_m(mem);
        asm.imul_wide_m(mem);
        asm.prefetch(mem);
        asm.prefetch_once(mem);
        asm.ldmxcsr(mem);
        asm.stmxcsr(mem);
        asm.movaps_rm(Xmm(9), mem);
        asm.movaps_mr(mem, Xmm(9));
        asm.cvtdq2pd(Xmm(12), mem);
        asm.ret();
    });
    let expected = [
        "mov [rsi+rax],r15",
        "mov [rsi+rax],ecx",
        "xor r8,[rsi+rax]",
        "imul r8,[rsi+rax]",
        "mul qword ptr [rsi+rax]",
        "imul qword ptr [rsi+rax]",
        "prefetcht0 [rsi+rax]",
        "prefetchnta [rsi+rax]",
        "ldmxcsr [rsi+rax]",
        "stmxcsr [rsi+rax]",
        "movaps xmm9,[rsi+rax]",
        "movaps [rsi+rax],xmm9",
        "cvtdq2pd xmm12,[rsi+rax]",
        "ret",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn vector_registers_reach_both_fields() {
    for a in 0..16 {
        for b in 0..16 {
            for (op, name) in [
                (Packed::Add, "addpd"),
                (Packed::Sub, "subpd"),
                (Packed::Mul, "mulpd"),
                (Packed::Div, "divpd"),
                (Packed::Sqrt, "sqrtpd"),
            ] {
                assert_eq!(one(|asm| asm.pd_rr(op, Xmm(a), Xmm(b))), format!("{name} xmm{a},xmm{b}"));
            }
            for (op, name) in [(Packed::And, "andps"), (Packed::Or, "orps"), (Packed::Xor, "xorps")] {
                assert_eq!(one(|asm| asm.bits_rr(op, Xmm(a), Xmm(b))), format!("{name} xmm{a},xmm{b}"));
            }
            assert_eq!(one(|asm| asm.aesenc(Xmm(a), Xmm(b))), format!("aesenc xmm{a},xmm{b}"));
            assert_eq!(one(|asm| asm.aesdec(Xmm(a), Xmm(b))), format!("aesdec xmm{a},xmm{b}"));
        }
        assert_eq!(one(|asm| asm.swap_halves(Xmm(a))), format!("shufpd xmm{a},xmm{a},1"));
    }
}

#[test]
fn jumps_arrive() {
    let lines = listing(|asm| {
        let start = asm.here();
        let unless = asm.jnz_later();
        asm.jz(start);
        asm.jnz(start);
        let end = asm.here();
        asm.land(unless, end);
    });
    assert_eq!(lines, ["jne 0x12", "je 0", "jne 0"]);
}

#[test]
fn serializing_returns_to_the_next_instruction() {
    let lines = listing(|asm| asm.serialize());
    let expected = [
        "mov eax,ss",
        "push rax",
        "lea rax,[rsp+8]",
        "push rax",
        "pushfq",
        "mov eax,cs",
        "push rax",
        "lea rax,[0x13]",
        "push rax",
        "iretq",
    ];
    assert_eq!(lines[..7], expected[..7]);
    assert_eq!(lines[8..], expected[8..]);
    let mut code = [0; 64];
    let mut asm = Asm::new(&mut code, 0);
    asm.serialize();
    assert!(lines[7].contains(&format!("{:#x}", asm.at)), "{} is not {:#x}", lines[7], asm.at);
}

#[test]
fn padding_is_made_of_no_ops() {
    for start in 0..32 {
        let mut code = [0; 128];
        let mut asm = Asm::new(&mut code, start);
        asm.align(32);
        let len = asm.at;
        assert_eq!(len % 32, 0);
        assert!(decode(&code[start..len]).iter().all(|line| line.starts_with("nop")));
    }
}
