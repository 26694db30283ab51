//! Floating point as the virtual machine wants it: the four rounding modes of IEEE 754, in integers.
//!
//! Rust has no way to round but to nearest, so numbers are taken apart and put together again here. A
//! number is `±mantissa * 2^exponent`; each operation finds the exact result, or enough of its digits
//! with a last bit that says whether anything follows them, and [`Exact::round`] does the rest.
//!
//! Subnormal numbers count as zero, and results too small for a normal number become zero, as on machines
//! set to flush them. The specification rules both out.

use std::cmp::Ordering;

/// How results that are no floating point number are rounded: `fprc` (specification, table 4.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Rounding {
    /// To the nearest number; to the even one of two.
    #[default]
    Nearest = 0,
    /// Towards negative infinity.
    Down = 1,
    /// Towards positive infinity.
    Up = 2,
    /// Towards zero.
    Zero = 3,
}

impl Rounding {
    /// All modes, in the order of their numbers.
    pub const ALL: [Rounding; 4] = [Rounding::Nearest, Rounding::Down, Rounding::Up, Rounding::Zero];

    /// The mode of the low two bits of `fprc`.
    pub const fn from_bits(fprc: u64) -> Rounding {
        Rounding::ALL[(fprc & 3) as usize]
    }

    /// Whether the magnitude of a number, of which some is to be dropped, goes up: given whether its last
    /// bit that stays is set, and how what is dropped compares with half of that bit.
    fn goes_up(self, negative: bool, odd: bool, dropped: Ordering) -> bool {
        match self {
            Rounding::Nearest => dropped == Ordering::Greater || (dropped == Ordering::Equal && odd),
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        }
    }
}

/// The bits of the fraction.
pub const FRACTION: u64 = (1 << 52) - 1;

/// What FSCAL_R xors into a number (specification 5.3.4): negates it and multiplies it by a power of two.
pub const SCALE: u64 = 0x80f0_0000_0000_0000;

const SIGN: u64 = 1 << 63;
const INFINITY: u64 = 0x7ff << 52;
const LARGEST: u64 = INFINITY - 1;
const QUIET_NAN: u64 = SIGN | INFINITY | 1 << 51;

/// `a + b`. All numbers are given by their bits.
pub fn add(a: u64, b: u64, mode: Rounding) -> u64 {
    match (Number::of(a), Number::of(b)) {
        (Number::Nan, _) | (_, Number::Nan) => QUIET_NAN,
        (Number::Infinite(x), Number::Infinite(y)) if x != y => QUIET_NAN,
        (Number::Infinite(negative), _) | (_, Number::Infinite(negative)) => signed(negative, INFINITY),
        (Number::Zero(x), Number::Zero(y)) if x == y => signed(x, 0),
        (Number::Zero(_), Number::Zero(_)) => vanished(mode),
        (Number::Zero(_), Number::Finite(_)) => b,
        (Number::Finite(_), Number::Zero(_)) => a,
        (Number::Finite(x), Number::Finite(y)) => add_finite(x, y, mode),
    }
}

/// `a - b`.
pub fn subtract(a: u64, b: u64, mode: Rounding) -> u64 {
    add(a, b ^ SIGN, mode)
}

/// `a * b`.
pub fn multiply(a: u64, b: u64, mode: Rounding) -> u64 {
    let negative = (a ^ b) & SIGN != 0;
    match (Number::of(a), Number::of(b)) {
        (Number::Nan, _) | (_, Number::Nan) => QUIET_NAN,
        (Number::Infinite(_), Number::Zero(_)) | (Number::Zero(_), Number::Infinite(_)) => QUIET_NAN,
        (Number::Infinite(_), _) | (_, Number::Infinite(_)) => signed(negative, INFINITY),
        (Number::Zero(_), _) | (_, Number::Zero(_)) => signed(negative, 0),
        (Number::Finite(x), Number::Finite(y)) => {
            let mantissa = u128::from(x.mantissa) * u128::from(y.mantissa);
            Exact { negative, exponent: x.exponent + y.exponent, mantissa }.round(mode)
        }
    }
}

/// `a / b`.
pub fn divide(a: u64, b: u64, mode: Rounding) -> u64 {
    let negative = (a ^ b) & SIGN != 0;
    match (Number::of(a), Number::of(b)) {
        (Number::Nan, _) | (_, Number::Nan) => QUIET_NAN,
        (Number::Infinite(_), Number::Infinite(_)) | (Number::Zero(_), Number::Zero(_)) => QUIET_NAN,
        (Number::Infinite(_), _) | (_, Number::Zero(_)) => signed(negative, INFINITY),
        (Number::Zero(_), _) | (_, Number::Infinite(_)) => signed(negative, 0),
        (Number::Finite(x), Number::Finite(y)) => {
            // At least 57 digits of the quotient; the remainder goes into the last bit.
            let (dividend, divisor) = (u128::from(x.mantissa) << 57, u128::from(y.mantissa));
            let inexact = u128::from(dividend % divisor != 0);
            let exponent = x.exponent - y.exponent - 57;
            Exact { negative, exponent, mantissa: (dividend / divisor) | inexact }.round(mode)
        }
    }
}

/// The square root of `a`.
pub fn square_root(a: u64, mode: Rounding) -> u64 {
    match Number::of(a) {
        Number::Nan | Number::Infinite(true) => QUIET_NAN,
        Number::Infinite(false) => INFINITY,
        Number::Zero(negative) => signed(negative, 0),
        Number::Finite(x) if x.negative => QUIET_NAN,
        Number::Finite(x) => {
            // An even exponent, which can be halved; the root has at least 57 digits.
            let shift = 62 + (x.exponent & 1) as u32;
            let radicand = u128::from(x.mantissa) << shift;
            let root = radicand.isqrt();
            let inexact = u128::from(root * root != radicand);
            let exponent = (x.exponent - shift as i32) / 2;
            Exact { negative: false, exponent, mantissa: root | inexact }.round(mode)
        }
    }
}

/// A whole number as a floating point number: exact, as 32 bits fit.
pub fn from_i32(value: i32) -> u64 {
    f64::from(value).to_bits()
}

/// A number taken apart. The flags say whether it is negative.
enum Number {
    Nan,
    Infinite(bool),
    Zero(bool),
    Finite(Finite),
}

/// `±mantissa * 2^exponent` where the mantissa has exactly 53 bits.
#[derive(Clone, Copy)]
struct Finite {
    negative: bool,
    exponent: i32,
    mantissa: u64,
}

impl Number {
    #[inline]
    fn of(bits: u64) -> Number {
        let negative = bits & SIGN != 0;
        let biased = (bits >> 52 & 0x7ff) as i32;
        match biased {
            0 => Number::Zero(negative),
            0x7ff if bits & FRACTION != 0 => Number::Nan,
            0x7ff => Number::Infinite(negative),
            _ => Number::Finite(Finite {
                negative,
                exponent: biased - BIAS,
                mantissa: bits & FRACTION | 1 << 52,
            }),
        }
    }
}

/// What is added to the exponent of a 53-bit mantissa when a number is written down.
const BIAS: i32 = 1023 + 52;

fn add_finite(x: Finite, y: Finite, mode: Rounding) -> u64 {
    // Far below the last digit of the greater one, it only matters that the smaller one is not zero.
    const FAR: i32 = 64;
    let (high, low) = if x.exponent >= y.exponent { (x, y) } else { (y, x) };
    let distance = high.exponent - low.exponent;
    let (shift, added) = if distance <= FAR { (distance, i128::from(low.mantissa)) } else { (FAR, 1) };
    let high_value = i128::from(high.mantissa) << shift;
    let sum = if high.negative == low.negative { high_value + added } else { high_value - added };
    if sum == 0 {
        return vanished(mode);
    }
    let negative = high.negative != (sum < 0);
    Exact { negative, exponent: high.exponent - shift, mantissa: sum.unsigned_abs() }.round(mode)
}

/// The zero that is the difference of equal numbers.
fn vanished(mode: Rounding) -> u64 {
    signed(mode == Rounding::Down, 0)
}

fn signed(negative: bool, magnitude: u64) -> u64 {
    if negative { SIGN | magnitude } else { magnitude }
}

/// `±mantissa * 2^exponent`, the mantissa not zero. If its last bit stands for more than itself, it has
/// at least 55 bits.
struct Exact {
    negative: bool,
    exponent: i32,
    mantissa: u128,
}

impl Exact {
    #[inline]
    fn round(self, mode: Rounding) -> u64 {
        let Exact { negative, mantissa, .. } = self;
        let surplus = 75 - mantissa.leading_zeros() as i32;
        let mut exponent = self.exponent + surplus;
        let mut kept;
        if surplus <= 0 {
            kept = (mantissa as u64) << -surplus;
        } else {
            kept = (mantissa >> surplus) as u64;
            let dropped = mantissa & ((1 << surplus) - 1);
            let up = mode.goes_up(negative, kept & 1 != 0, dropped.cmp(&(1 << (surplus - 1))));
            kept += u64::from(dropped != 0 && up);
            if kept == 1 << 53 {
                kept = 1 << 52;
                exponent += 1;
            }
        }
        match exponent + BIAS {
            ..=0 => signed(negative, 0),
            // Beyond the largest number: to infinity, or back to it.
            0x7ff.. if mode.goes_up(negative, true, Ordering::Greater) => signed(negative, INFINITY),
            0x7ff.. => signed(negative, LARGEST),
            biased => signed(negative, (biased as u64) << 52 | kept & FRACTION),
        }
    }
}
