//! Targets, compact bits and difficulties: three ways to say how small a hash must be.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::algorithm::{Algorithm, DifficultyOne};

/// A 256-bit unsigned number.
pub type U256 = ruint::Uint<256, 4>;

/// Wide enough for difficulty one (257 bits) shifted left by as much as any useful difficulty asks for.
type U576 = ruint::Uint<576, 9>;

/// The largest number a hash may be, 1 to 2^256 - 1. Which end of a hash comes first is the algorithm's
/// affair; a target is a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(U256);

impl Target {
    /// The easiest target: every hash meets it.
    pub const MAX: Target = Target(U256::MAX);

    /// A target of this number, which must not be zero (no hash would meet it in practice).
    pub fn new(number: U256) -> Result<Target, TargetError> {
        if number.is_zero() { Err(TargetError::Zero) } else { Ok(Target(number)) }
    }

    /// From 32 bytes, least significant first (the order of RandomX and Stratum V2 targets).
    pub fn from_le_bytes(bytes: [u8; 32]) -> Result<Target, TargetError> {
        Target::new(U256::from_le_bytes(bytes))
    }

    /// From 32 bytes, most significant first (the order of Ethash boundaries and of display).
    pub fn from_be_bytes(bytes: [u8; 32]) -> Result<Target, TargetError> {
        Target::new(U256::from_be_bytes(bytes))
    }

    /// The target of a difficulty: the algorithm's difficulty one divided by it, rounded down, held
    /// within 1 to 2^256 - 1. The division is exact: no floating-point step comes between.
    pub fn from_difficulty(algorithm: Algorithm, difficulty: Difficulty) -> Target {
        let (mantissa, exponent) = difficulty.parts();
        let one = difficulty_one(algorithm);
        let quotient = if exponent >= 0 {
            // A shift of 257 bits or more leaves nothing.
            if exponent > 300 { U576::ZERO } else { (one >> exponent as usize) / U576::from(mantissa) }
        } else if exponent < -310 {
            // one >= 2^224 and mantissa < 2^53, so one * 2^310 / mantissa exceeds 2^256.
            U576::MAX
        } else {
            (one << exponent.unsigned_abs() as usize) / U576::from(mantissa)
        };
        Target::saturating(quotient)
    }

    /// The target of a whole-number difficulty, exact over all 64 bits.
    pub fn from_whole_difficulty(algorithm: Algorithm, difficulty: NonZeroU64) -> Target {
        Target::saturating(difficulty_one(algorithm) / U576::from(difficulty.get()))
    }

    /// This target as a difficulty of the algorithm; exact to the 53 bits of a double.
    pub fn to_difficulty(&self, algorithm: Algorithm) -> Difficulty {
        // A quotient of 64 bits or more keeps more digits than a double holds.
        let scaled = (difficulty_one(algorithm) << 300) / self.0.to::<U576>();
        Difficulty(to_f64(scaled) / 2f64.powi(300))
    }

    /// How many hashes one that meets this target takes on average: 2^256 / (target + 1).
    pub fn expected_hashes(&self) -> f64 {
        2f64.powi(256) / (to_f64(self.0.to::<U576>()) + 1.0)
    }

    /// The number itself.
    pub fn to_number(&self) -> U256 {
        self.0
    }

    /// The number's most significant 32 bits: what scanners compare before anything else.
    pub fn top_word(&self) -> u32 {
        (self.0.as_limbs()[3] >> 32) as u32
    }

    /// 32 bytes, least significant first.
    pub fn to_le_bytes(&self) -> [u8; 32] {
        self.0.to_le_bytes()
    }

    /// 32 bytes, most significant first.
    pub fn to_be_bytes(&self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// The compact form, rounded down as Bitcoin's `GetCompact` does.
    pub fn to_compact(&self) -> CompactBits {
        let len = self.0.bit_len().div_ceil(8);
        let mantissa = if len <= 3 { self.0 << (8 * (3 - len)) } else { self.0 >> (8 * (len - 3)) };
        let (mantissa, len) = (mantissa.as_limbs()[0] as u32, len as u32);
        // The mantissa's top bit is a sign: move to the next exponent where it would be set.
        if mantissa & 0x0080_0000 != 0 {
            CompactBits((mantissa >> 8) | ((len + 1) << 24))
        } else {
            CompactBits(mantissa | (len << 24))
        }
    }

    fn saturating(number: U576) -> Target {
        let largest = U256::MAX.to::<U576>();
        let smallest = U576::from(1u64);
        Target(number.clamp(smallest, largest).to::<U256>())
    }
}

impl fmt::Display for Target {
    /// 64 hex digits, most significant first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_be_bytes()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// A number in up to 64 hex digits, most significant first, with or without `0x`.
    fn from_str(s: &str) -> Result<Target, TargetError> {
        let digits = s.strip_prefix("0x").unwrap_or(s);
        if digits.len() > 64 {
            return Err(TargetError::TooLong { digits: digits.len() });
        }
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TargetError::NotHex(s.to_owned()));
        }
        let number = U256::from_str_radix(digits, 16).map_err(|_| TargetError::NotHex(s.to_owned()))?;
        Target::new(number)
    }
}

/// What is wrong with a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is zero.
    #[error("target is zero: expected a number from 1 to 2^256 - 1")]
    Zero,
    /// It does not fit 256 bits.
    #[error("target has {digits} hex digits: expected at most 64")]
    TooLong {
        /// How many digits it has.
        digits: usize,
    },
    /// It is not a number in hex.
    #[error("target '{0}' is not hexadecimal: expected 1 to 64 hex digits")]
    NotHex(String),
    /// Compact bits that stand for a negative number.
    #[error("compact bits {0:08x} stand for a negative target")]
    Negative(u32),
    /// Compact bits that stand for more than 256 bits.
    #[error("compact bits {0:08x} stand for a target of more than 256 bits")]
    Overflow(u32),
}

/// A target in a block header's `bits` field: a base-256 exponent and a 23-bit mantissa with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CompactBits(pub u32);

impl CompactBits {
    /// The target these bits stand for (Bitcoin's `SetCompact`): negative, zero and overflowing ones
    /// are refused, as every node refuses them.
    pub fn to_target(self) -> Result<Target, TargetError> {
        let exponent = (self.0 >> 24) as usize;
        let mantissa = self.0 & 0x007f_ffff;
        let mantissa = if exponent < 3 { mantissa >> (8 * (3 - exponent)) } else { mantissa };
        if mantissa != 0 && self.0 & 0x0080_0000 != 0 {
            return Err(TargetError::Negative(self.0));
        }
        let shift = 8 * exponent.saturating_sub(3);
        let number = U256::from(mantissa);
        if !number.is_zero() && number.bit_len() + shift > 256 {
            return Err(TargetError::Overflow(self.0));
        }
        Target::new(if number.is_zero() { U256::ZERO } else { number << shift })
    }
}

/// How many times harder than the algorithm's difficulty one: a positive, finite number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Difficulty(f64);

impl Difficulty {
    /// A difficulty of this number, if it is positive and finite.
    pub fn new(number: f64) -> Result<Difficulty, BadDifficulty> {
        if number.is_finite() && number > 0.0 {
            Ok(Difficulty(number))
        } else {
            Err(BadDifficulty(number.to_string()))
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The number as `mantissa * 2^exponent`, exactly; the mantissa has at most 53 bits.
    fn parts(self) -> (u64, i32) {
        let bits = self.0.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        match (bits >> 52) as i32 {
            0 => (fraction, -1074), // subnormal
            biased => (fraction | (1 << 52), biased - 1075),
        }
    }
}

impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Difficulty {
    type Err = BadDifficulty;

    fn from_str(s: &str) -> Result<Difficulty, BadDifficulty> {
        s.parse::<f64>().ok().and_then(|n| Difficulty::new(n).ok()).ok_or_else(|| BadDifficulty(s.to_owned()))
    }
}

/// A number that is no difficulty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("difficulty '{0}' is not usable: expected a positive, finite number")]
pub struct BadDifficulty(pub String);

/// Hashes per second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct HashRate(f64);

impl HashRate {
    /// This many hashes in this many seconds; zero if no time has passed.
    pub fn new(hashes: u64, seconds: f64) -> HashRate {
        HashRate(if seconds > 0.0 { hashes as f64 / seconds } else { 0.0 })
    }

    /// From hashes per second.
    pub fn from_hps(hps: f64) -> HashRate {
        HashRate(hps)
    }

    /// Hashes per second.
    pub fn hps(self) -> f64 {
        self.0
    }
}

impl fmt::Display for HashRate {
    /// Four significant digits and an SI prefix: `40.12 MH/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.0;
        let mut prefix = "";
        for next in ["k", "M", "G", "T", "P", "E"] {
            // 999.95 would round to 1000.0.
            if number < 999.95 {
                break;
            }
            number /= 1000.0;
            prefix = next;
        }
        let decimals = if number < 9.9995 {
            3
        } else if number < 99.995 {
            2
        } else {
            1
        };
        f.pad(&format!("{number:.decimals$} {prefix}H/s"))
    }
}

fn difficulty_one(algorithm: Algorithm) -> U576 {
    match algorithm.spec().difficulty_one {
        DifficultyOne::Scaled { mantissa, shift } => U576::from(mantissa) << shift,
        DifficultyOne::TwoTo256 => U576::from(1u64) << 256,
        DifficultyOne::TwoTo256MinusOne => (U576::from(1u64) << 256) - U576::from(1u64),
    }
}

/// The nearest double at or below in magnitude: the top 64 bits, scaled.
fn to_f64(number: U576) -> f64 {
    let excess = number.bit_len().saturating_sub(64);
    (number >> excess).as_limbs()[0] as f64 * 2f64.powi(excess as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(hex: &str) -> Target {
        hex.parse().unwrap()
    }

    #[test]
    fn difficulty_one_is_the_published_target() {
        let one = Difficulty::new(1.0).unwrap();
        let expected = [
            (Algorithm::Sha256d, format!("00000000ffff{}", "0".repeat(52))),
            (Algorithm::Scrypt, format!("0000ffff{}", "0".repeat(56))),
            (Algorithm::KawPow, format!("00000000ff{}", "0".repeat(54))),
            (Algorithm::RandomXV1, "f".repeat(64)),
            (Algorithm::Ethash, "f".repeat(64)), // 2^256 itself does not fit
        ];
        for (algorithm, hex) in expected {
            assert_eq!(Target::from_difficulty(algorithm, one).to_string(), hex, "{algorithm}");
        }
    }

    #[test]
    fn extreme_difficulties_stay_within_range() {
        for algorithm in Algorithm::ALL {
            for tiny in [f64::MIN_POSITIVE, f64::from_bits(1), 1e-90] {
                let target = Target::from_difficulty(algorithm, Difficulty::new(tiny).unwrap());
                assert_eq!(target, Target::MAX, "{algorithm} {tiny}");
            }
            let target = Target::from_difficulty(algorithm, Difficulty::new(f64::MAX).unwrap());
            assert_eq!(target.to_number(), U256::from(1u64), "{algorithm}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Difficulty::new(bad).is_err());
        }
    }

    #[test]
    fn monero_difficulties_follow_the_product_rule() {
        // The largest hash with hash * d < 2^256.
        for d in [1u64, 2, 3, 480_045, u64::MAX] {
            let target = Target::from_whole_difficulty(Algorithm::RandomXV1, NonZeroU64::new(d).unwrap());
            let wide = |n: U256| n.to::<U576>() * U576::from(d);
            assert!(wide(target.to_number()) < U576::from(1u64) << 256);
            if d > 1 {
                assert!(wide(target.to_number() + U256::from(1u64)) >= U576::from(1u64) << 256);
            }
        }
    }

    #[test]
    fn strange_compact_bits_are_refused() {
        assert_eq!(CompactBits(0).to_target(), Err(TargetError::Zero));
        assert_eq!(CompactBits(0x0100_3456).to_target(), Err(TargetError::Zero));
        assert_eq!(CompactBits(0x0492_3456).to_target(), Err(TargetError::Negative(0x0492_3456)));
        assert_eq!(CompactBits(0xff12_3456).to_target(), Err(TargetError::Overflow(0xff12_3456)));
        assert_eq!(CompactBits(0x2300_0001).to_target(), Err(TargetError::Overflow(0x2300_0001)));
        assert_eq!(
            CompactBits(0x2200_0001).to_target().unwrap().to_string(),
            format!("01{}", "0".repeat(62))
        );
        assert_eq!(CompactBits(0x0112_3456).to_target().unwrap().to_number(), U256::from(0x12u64));
        assert_eq!(CompactBits(0x0500_9234).to_target().unwrap().to_number(), U256::from(0x9234_0000u64));
    }

    #[test]
    fn text_that_is_no_target_is_named() {
        let error = |text: &str| text.parse::<Target>().unwrap_err().to_string();
        assert_eq!(error("00"), "target is zero: expected a number from 1 to 2^256 - 1");
        assert_eq!(error(&"1".repeat(65)), "target has 65 hex digits: expected at most 64");
        assert_eq!(error("xyz"), "target 'xyz' is not hexadecimal: expected 1 to 64 hex digits");
        assert!("".parse::<Target>().is_err() && "0x".parse::<Target>().is_err());
        assert!("1_0".parse::<Target>().is_err() && "+1".parse::<Target>().is_err());
        assert_eq!(target("0xff").to_number(), U256::from(255u64));
    }

    #[test]
    fn hash_rates_read_as_people_write_them() {
        let shown = |hps: f64| HashRate::from_hps(hps).to_string();
        assert_eq!(shown(0.0), "0.000 H/s");
        assert_eq!(shown(293.4), "293.4 H/s");
        assert_eq!(shown(999.96), "1.000 kH/s");
        assert_eq!(shown(23_512.0), "23.51 kH/s");
        assert_eq!(shown(40_123_456.0), "40.12 MH/s");
    }

    proptest! {
        #[test]
        fn whole_difficulties_agree_however_they_are_given(d in 1u64..(1 << 53)) {
            for algorithm in Algorithm::ALL {
                let exact = Target::from_whole_difficulty(algorithm, NonZeroU64::new(d).unwrap());
                prop_assert_eq!(Target::from_difficulty(algorithm, Difficulty::new(d as f64).unwrap()), exact);
            }
        }

        #[test]
        fn difficulties_survive_the_way_there_and_back(exponent in -40i32..60, fraction in 1.0f64..2.0) {
            let difficulty = fraction * 2f64.powi(exponent);
            for algorithm in Algorithm::ALL {
                let target = Target::from_difficulty(algorithm, Difficulty::new(difficulty).unwrap());
                prop_assume!(target != Target::MAX);
                let back = target.to_difficulty(algorithm).get();
                prop_assert!((back / difficulty - 1.0).abs() < 1e-12, "{} {} {}", algorithm, difficulty, back);
            }
        }

        #[test]
        fn compact_bits_round_down_and_are_stable(bytes in any::<[u8; 32]>()) {
            let Ok(target) = Target::from_be_bytes(bytes) else { return Ok(()) };
            let back = target.to_compact().to_target().unwrap();
            prop_assert!(back <= target);
            prop_assert_eq!(back.to_compact(), target.to_compact());
        }

        #[test]
        fn no_compact_bits_panic(bits in any::<u32>()) {
            if let Ok(target) = CompactBits(bits).to_target() {
                prop_assert_eq!(target.to_compact().to_target().unwrap(), target);
            }
        }

        #[test]
        fn hex_comes_back(bytes in any::<[u8; 32]>()) {
            let Ok(target) = Target::from_be_bytes(bytes) else { return Ok(()) };
            prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
            prop_assert_eq!(Target::from_le_bytes(target.to_le_bytes()).unwrap(), target);
            prop_assert_eq!(target.top_word(), u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
    }
}
