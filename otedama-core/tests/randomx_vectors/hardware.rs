//! Floating point operations against the processor's, in all rounding modes.

use std::arch::asm;

use otedama_core::algo::randomx::float::{self, Rounding};
use proptest::prelude::*;

type Operation = (&'static str, fn(u64, u64, Rounding) -> u64, fn(u64, u64, Rounding) -> u64);

const OPERATIONS: [Operation; 5] = [
    ("+", float::add, addsd),
    ("-", float::subtract, subsd),
    ("*", float::multiply, mulsd),
    ("/", float::divide, divsd),
    ("sqrt", |_, b, mode| float::square_root(b, mode), sqrtsd),
];

/// One instruction in a rounding mode, with exceptions masked, subnormal operands taken for zero and
/// subnormal results flushed to zero. The mode is back before the block ends.
macro_rules! instruction {
    ($name:ident, $mnemonic:literal) => {
        fn $name(a: u64, b: u64, mode: Rounding) -> u64 {
            let mxcsr = 0x9fc0_u32 | (mode as u32) << 13;
            let mut saved = 0_u32;
            let mut result = a;
            // SAFETY: SSE2 belongs to every x86-64; the block only writes its operands, and MXCSR, which
            // it restores, is not in use in between by anything else.
            unsafe {
                asm!(
                    "stmxcsr [{saved}]",
                    "ldmxcsr [{mxcsr}]",
                    "movq {x}, {result}",
                    "movq {y}, {b}",
                    concat!($mnemonic, " {x}, {y}"),
                    "movq {result}, {x}",
                    "ldmxcsr [{saved}]",
                    saved = in(reg) &raw mut saved,
                    mxcsr = in(reg) &raw const mxcsr,
                    result = inout(reg) result,
                    b = in(reg) b,
                    x = out(xmm_reg) _,
                    y = out(xmm_reg) _,
                    options(nostack),
                );
            }
            result
        }
    };
}

instruction!(addsd, "addsd");
instruction!(subsd, "subsd");
instruction!(mulsd, "mulsd");
instruction!(divsd, "divsd");
instruction!(sqrtsd, "sqrtsd");

/// The same bits, except that one NaN is as good as another.
fn check(a: u64, b: u64) {
    for mode in Rounding::ALL {
        for (sign, ours, theirs) in OPERATIONS {
            let (ours, theirs) = (ours(a, b, mode), theirs(a, b, mode));
            let both_nan = f64::from_bits(ours).is_nan() && f64::from_bits(theirs).is_nan();
            assert!(
                ours == theirs || both_nan,
                "{a:016x} {sign} {b:016x} {mode:?}: {ours:016x}, the processor says {theirs:016x}"
            );
        }
    }
}

#[test]
fn special_numbers_agree_with_the_processor() {
    let magnitudes = [
        0,
        1,                     // the smallest subnormal number
        0x000f_ffff_ffff_ffff, // the largest
        0x0010_0000_0000_0000, // the smallest normal number
        0x0010_0000_0000_0001,
        0x001f_ffff_ffff_ffff,
        0x3fef_ffff_ffff_ffff,
        0x3ff0_0000_0000_0000, // one
        0x3ff0_0000_0000_0001,
        0x3ff8_0000_0000_0000,
        0x3ca0_0000_0000_0000, // half of the distance from one to the next number
        0x3ca0_0000_0000_0001,
        0x4330_0000_0000_0001,
        0x5fe0_0000_0000_0000,
        0x7fef_ffff_ffff_ffff, // the largest number
        0x7ff0_0000_0000_0000, // infinity
        0x7ff8_0000_0000_0000, // not a number
        float::SCALE & !(1 << 63),
    ];
    let numbers = magnitudes.map(|magnitude| [magnitude, magnitude | 1 << 63]);
    for a in numbers.as_flattened() {
        for b in numbers.as_flattened() {
            check(*a, *b);
        }
    }
}

/// A number with few or many digits, near one or anywhere.
fn number() -> impl Strategy<Value = u64> {
    let exponent = prop_oneof![3 => 1013_u64..1033, 2 => 768_u64..1279, 1 => 0_u64..2048];
    let fraction = prop_oneof![
        (any::<u64>(), 0_u32..52).prop_map(|(bits, zeros)| bits << zeros),
        (0_u64..4).prop_map(|low| low.wrapping_neg()),
        any::<u64>(),
    ];
    (any::<bool>(), exponent, fraction).prop_map(|(negative, exponent, fraction)| {
        u64::from(negative) << 63 | exponent << 52 | fraction & float::FRACTION
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_numbers_agree_with_the_processor(a in number(), b in number()) {
        check(a, b);
    }

    #[test]
    fn close_numbers_agree_with_the_processor(a in number(), distance in -3_i64..4) {
        check(a, a.wrapping_add_signed(distance));
        check(a, (a ^ 1 << 63).wrapping_add_signed(distance));
    }
}
