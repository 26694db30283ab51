//! What blocks of Ethereum Classic pay: ECIP-1017, "Monetary Policy and Final Modification to the Ethereum Classic
//! Emission Schedule".
//!
//! A block of the first era pays 5 ETC, one of each later era 4/5 of that of the era before; eras have the same number
//! of blocks, and the first begins with block 1. Whoever names an uncle gets 1/32 of the block's reward more. The uncle's
//! miner gets `(8 - distance) / 8` of it in the first era (the yellow paper, 11.3), and 1/32 from then on; the era is
//! that of the block that names the uncle.
//!
//! Nodes compute `5 ETC * 4^era / 5^era` and divide once, in wei. 5 ETC are `2^18 * 5^19` wei, so that is
//!
//! ```text
//! 2^(18 + 2 era) * 5^(19 - era)       a whole number up to era 19 (counted from 0)
//! 2^(18 + 2 era) / 5^(era - 19)       rounded down afterwards
//! ```

use std::num::NonZeroU64;

use otedama_core::target::U256;

use crate::money::Amount;

/// The last era whose reward is computed: its blocks pay less than a gwei, which is not booked.
const LAST_ERA: u64 = 118;

/// Wei in a gwei, the unit that is booked.
const WEI_PER_GWEI: u64 = 1_000_000_000;

/// The part of a block's reward that an uncle is worth to who names it, and after the first era to its miner.
const UNCLE_PART: u64 = 32;

/// What a chain pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Blocks in an era.
    pub era_blocks: NonZeroU64,
}

impl Emission {
    /// What the block at this height pays that names so many uncles, transaction fees left out; in gwei, rounded down.
    pub fn block(self, height: u64, uncles: u64) -> Amount {
        let reward = wei(self.era(height));
        gwei(reward + reward / U256::from(UNCLE_PART) * U256::from(uncles))
    }

    /// What an uncle of this height pays its miner that the block `included_at` names; in gwei, rounded down.
    pub fn uncle(self, height: u64, included_at: u64) -> Amount {
        let era = self.era(included_at);
        let distance = included_at.saturating_sub(height);
        gwei(match era {
            0 => wei(era) * U256::from(8u64.saturating_sub(distance)) / U256::from(8u64),
            _ => wei(era) / U256::from(UNCLE_PART),
        })
    }

    /// The era of a height, counted from 0.
    fn era(self, height: u64) -> u64 {
        height.saturating_sub(1) / self.era_blocks
    }
}

/// What a block of an era pays, in wei.
fn wei(era: u64) -> U256 {
    if era > LAST_ERA {
        return U256::ZERO;
    }
    let (five, twos) = (U256::from(5u64), U256::from(1u64) << (18 + 2 * era as usize));
    if era <= 19 { twos * five.pow(U256::from(19 - era)) } else { twos / five.pow(U256::from(era - 19)) }
}

fn gwei(wei: U256) -> Amount {
    // Nothing here is more than 6 ETC.
    Amount::new(i64::try_from(wei / U256::from(WEI_PER_GWEI)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: Emission = Emission { era_blocks: NonZeroU64::new(5_000_000).unwrap() };
    const MORDOR: Emission = Emission { era_blocks: NonZeroU64::new(2_000_000).unwrap() };

    fn etc(coins: &str) -> Amount {
        Amount::from_decimal(coins, 9).unwrap()
    }

    /// The ECIP's table: "blocks 1 - 5,000,000" pay 5 ETC, "blocks 5,000,001 - 10,000,000" 4 ETC, and 20 % less at
    /// each new era.
    #[test]
    fn blocks_pay_what_the_ecip_says() {
        for (height, coins) in [
            (1, "5"),
            (5_000_000, "5"),
            (5_000_001, "4"),
            (10_000_000, "4"),
            (10_000_001, "3.2"),
            (15_000_001, "2.56"),
            (20_000_000, "2.56"),
            (20_000_001, "2.048"),
            (25_000_001, "1.6384"),
        ] {
            assert_eq!(MAIN.block(height, 0), etc(coins), "block {height}");
        }
        assert_eq!(MORDOR.block(2_000_000, 0), etc("5"));
        assert_eq!(MORDOR.block(2_000_001, 0), etc("4"));
        assert_eq!(MORDOR.block(4_000_001, 0), etc("3.2"));
    }

    /// "An extra 1/32 (0.15625 ETC) per uncle included", then 0.125 ETC; "up to 7/8 of the winning block reward
    /// (4.375 ETC)" for the uncle's miner, then 1/32 (0.125 ETC).
    #[test]
    fn uncles_pay_what_the_ecip_says() {
        assert_eq!(MAIN.block(100, 1), etc("5.15625"));
        assert_eq!(MAIN.block(100, 2), etc("5.3125"));
        assert_eq!(MAIN.block(5_000_001, 2), etc("4.25"));
        assert_eq!(MAIN.uncle(99, 100), etc("4.375"));
        assert_eq!(MAIN.uncle(98, 100), etc("3.75"));
        assert_eq!(MAIN.uncle(93, 100), etc("0.625"));
        assert_eq!(MAIN.uncle(5_000_009, 5_000_010), etc("0.125"));
        assert_eq!(MAIN.uncle(5_000_003, 5_000_010), etc("0.125"));
        assert_eq!(MAIN.uncle(10_000_001, 10_000_002), etc("0.1"));
        // The era is that of the block that names it.
        assert_eq!(MAIN.uncle(5_000_000, 5_000_001), etc("0.125"));
    }

    #[test]
    fn a_reward_is_rounded_once_and_ends_at_nothing() {
        // As nodes do it, as far as the product has room.
        let wide = |number: u64| U256::from(number);
        for era in 0..=96 {
            let product = wide(5_000_000_000_000_000_000).checked_mul(wide(4).pow(wide(era))).unwrap();
            assert_eq!(wei(era), product / wide(5).pow(wide(era)), "era {era}");
        }
        assert!(gwei(wei(96)).is_positive());
        assert_eq!(gwei(wei(LAST_ERA)), Amount::ZERO);
        assert_eq!(MAIN.block(u64::MAX, 2), Amount::ZERO);
        assert_eq!(MAIN.block(0, 0), etc("5"));
    }
}
