//! Effort: how many hashes something takes on average, as a whole number.

use std::fmt;
use std::iter::Sum;

use otedama_core::Target;
use otedama_core::target::U256;

/// Hashes that are expected to be needed: `floor(2^256 / (target + 1))`, what Bitcoin's chain work counts.
///
/// One unit for every algorithm and for shares and blocks alike, so that a share's part of a block is a
/// quotient of two whole numbers. Pool difficulties below one are no special case: only targets above
/// 2^255 round to a single hash. Bitcoin's whole chain is near 2^96; what exceeds 2^128 - 1 is held there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Effort(pub u128);

impl Effort {
    /// No effort.
    pub const ZERO: Effort = Effort(0);

    /// What meeting this target takes.
    pub fn of(target: &Target) -> Effort {
        let number = target.to_number();
        // 2^256 / (t + 1) = (2^256 - 1 - t) / (t + 1) + 1, which never leaves 256 bits; at 2^256 - 1 it is 1.
        let hashes = match number.checked_add(U256::from(1u64)) {
            Some(divisor) => (U256::MAX - number) / divisor + U256::from(1u64),
            None => U256::from(1u64),
        };
        Effort(u128::try_from(hashes).unwrap_or(u128::MAX))
    }

    /// The sum, held at 2^128 - 1.
    pub fn saturating_add(self, other: Effort) -> Effort {
        Effort(self.0.saturating_add(other.0))
    }

    /// This effort `count` times, held at 2^128 - 1.
    pub fn times(self, count: u64) -> Effort {
        Effort(self.0.saturating_mul(count.into()))
    }
}

impl Sum for Effort {
    fn sum<I: Iterator<Item = Effort>>(efforts: I) -> Effort {
        efforts.fold(Effort::ZERO, Effort::saturating_add)
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otedama_core::{Algorithm, CompactBits, Difficulty};

    #[test]
    fn effort_is_what_bitcoin_counts_as_chain_work() {
        // Chain work of Bitcoin's genesis block: 0x100010001.
        assert_eq!(Effort::of(&CompactBits(0x1d00ffff).to_target().unwrap()), Effort(0x1_0001_0001));
        assert_eq!(Effort::of(&Target::MAX), Effort(1));
        assert_eq!(Effort::of(&Target::new(U256::from(1u64)).unwrap()), Effort(u128::MAX));
    }

    #[test]
    fn whole_difficulties_of_ethash_and_randomx_are_their_own_effort() {
        for algorithm in [Algorithm::Ethash, Algorithm::RandomXV1] {
            for difficulty in [1.0, 2.0, 3.0, 480_045.0, 1e12] {
                let target = Target::from_difficulty(algorithm, Difficulty::new(difficulty).unwrap());
                let effort = Effort::of(&target).0;
                // 2^256 / d and (2^256 - 1) / d may differ by one hash from d itself.
                assert!(effort.abs_diff(difficulty as u128) <= 1, "{algorithm} {difficulty}: {effort}");
            }
        }
    }
}
