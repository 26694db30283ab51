//! Pay per share: each share is worth its expected value, and the pool carries the luck.
//!
//! A share of effort e, when a block takes effort n and pays v, is worth v * e / n. For PPS, v is the subsidy;
//! for FPPS the whole block value with fees. That is usually a small part of a unit, so values are kept in
//! units of 2^-64 ([`Fine`]), and what is less than a unit is carried to the miner's next shares.

use otedama_core::target::U256;

use crate::effort::Effort;
use crate::money::{Amount, Overflow, Ppm};

/// Money in 2^-64 of a ledger unit; not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fine(u128);

impl Fine {
    /// Nothing.
    pub const ZERO: Fine = Fine(0);

    /// What is carried: below one unit.
    pub fn from_fraction(fraction: u64) -> Fine {
        Fine(fraction.into())
    }

    /// The sum, unless it leaves the range (2^63 units fit).
    pub fn plus(self, other: Fine) -> Result<Fine, Overflow> {
        self.0.checked_add(other.0).ok_or(Overflow).map(Fine)
    }

    /// Whole units, and the fraction that is left.
    pub fn split(self) -> Result<(Amount, u64), Overflow> {
        let units = i64::try_from(self.0 >> 64).map_err(|_| Overflow)?;
        Ok((Amount::new(units), self.0 as u64))
    }
}

/// What `count` shares of this effort are worth before the fee, rounded down to 2^-64 of a unit.
/// Nothing if the network's effort is zero or the block pays nothing.
pub fn value(effort: Effort, count: u64, network: Effort, block_value: Amount) -> Result<Fine, Overflow> {
    if network == Effort::ZERO || !block_value.is_positive() {
        return Ok(Fine::ZERO);
    }
    // At most 2^128 * 2^63 * 2^64 = 2^255; the count comes after the division, which loses count * 2^-64.
    let each =
        ((U256::from(effort.0) * U256::from(block_value.units() as u64)) << 64) / U256::from(network.0);
    let each = u128::try_from(each).map_err(|_| Overflow)?;
    each.checked_mul(count.into()).ok_or(Overflow).map(Fine)
}

/// A value divided into the miner's part and the pool's fee, which is rounded down to 2^-64 of a unit. Done share
/// by share it does not depend on how shares are batched.
pub fn take_fee(value: Fine, fee: Ppm) -> (Fine, Fine) {
    let fee = U256::from(value.0) * U256::from(fee.millionths()) / U256::from(1_000_000u64);
    let fee = u128::try_from(fee).unwrap_or(value.0).min(value.0); // at most the whole
    (Fine(value.0 - fee), Fine(fee))
}

/// The reserve that keeps the chance of ever running out of money at or below `ruin_chance`, for a pool that
/// pays per share with this fee: R = B * ln(1 / chance) / (2 * fee) (Rosenfeld, "Analysis of Bitcoin Pooled
/// Mining Reward Systems", 2011, on ruin of a PPS pool). Rounded up. `None` without a fee or for a chance that
/// is not between 0 and 1: then no reserve is enough, or the question makes no sense.
///
/// An estimate for the operator's eyes, hence the logarithm: no money is moved by it.
pub fn reserve(block_reward: Amount, fee: Ppm, ruin_chance: f64) -> Option<Amount> {
    if fee == Ppm::ZERO || block_reward.is_negative() || !(ruin_chance > 0.0 && ruin_chance < 1.0) {
        return None;
    }
    let fee = f64::from(fee.millionths()) / 1e6;
    let reserve = (block_reward.units() as f64 * (1.0 / ruin_chance).ln() / (2.0 * fee)).ceil();
    (reserve < i64::MAX as f64).then(|| Amount::new(reserve as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_is_worth_its_part_of_a_block() {
        // A thousandth of a block's effort, three times, of a block of 5000: 15 units.
        let value = value(Effort(1 << 40), 3, Effort(1000 << 40), Amount::new(5000)).unwrap();
        assert_eq!(value.split(), Ok((Amount::new(15), 0)));
        // A tenth of it is 1.5.
        let (net, fee) = take_fee(value, Ppm::new(100_000).unwrap());
        assert_eq!(net.split(), Ok((Amount::new(13), 1 << 63)));
        assert_eq!(fee.split(), Ok((Amount::new(1), 1 << 63)));
        assert_eq!(take_fee(value, Ppm::ALL), (Fine::ZERO, value));
        assert_eq!(take_fee(value, Ppm::ZERO), (value, Fine::ZERO));
    }

    #[test]
    fn parts_of_a_unit_add_up_over_many_batches() {
        // A share of difficulty 1024 on Bitcoin at a difficulty of 10^14, 3.125 BTC: 0.0032 satoshi.
        let (effort, network) = (Effort(1024 << 32), Effort(100_000_000_000_000 << 32));
        let (mut carries, mut paid) = ([0; 2], [0; 2]);
        for _ in 0..100_000 {
            let value = value(effort, 10, network, Amount::new(312_500_000)).unwrap();
            let (net, fee) = take_fee(value, Ppm::new(20_000).unwrap());
            for (part, (carry, paid)) in [net, fee].into_iter().zip(carries.iter_mut().zip(&mut paid)) {
                let (units, rest) = part.plus(Fine::from_fraction(*carry)).unwrap().split().unwrap();
                *carry = rest;
                *paid += units.units();
            }
        }
        // 10^6 shares * 312500000 * 1024 / 10^14 = 3200: 3136 and 64; rounding down may leave either just below.
        assert!((3135..=3136).contains(&paid[0]) && (63..=64).contains(&paid[1]), "{paid:?}");
    }

    #[test]
    fn the_reserve_is_the_rule_of_thumb() {
        // 2 % and one in a thousand: about 173 blocks.
        let block = Amount::new(1_000_000);
        assert_eq!(reserve(block, Ppm::new(20_000).unwrap(), 0.001), Some(Amount::new(172_693_882)));
        assert_eq!(reserve(block, Ppm::ZERO, 0.001), None);
        assert_eq!(reserve(block, Ppm::ALL, 1.0), None);
        assert_eq!(reserve(block, Ppm::ALL, f64::NAN), None);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_nothing_is_worth_nothing() {
        assert_eq!(value(Effort(u128::MAX), 1, Effort(1), Amount::MAX), Err(Overflow));
        assert_eq!(value(Effort(1), 1, Effort::ZERO, Amount::MAX), Ok(Fine::ZERO));
        assert_eq!(value(Effort(1), 1, Effort(1), Amount::ZERO), Ok(Fine::ZERO));
    }

    /// The reserve rule against a pool that pays per share: a random walk that loses (1 - fee) of a block's
    /// value for each block's effort and gains a block at random. A small generator keeps it repeatable.
    #[test]
    fn pools_with_that_reserve_are_ruined_as_seldom_as_promised() {
        let (fee, chance) = (0.05, 0.1);
        let blocks =
            reserve(Amount::new(1000), Ppm::new(50_000).unwrap(), chance).unwrap().units() as f64 / 1000.0;
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut ruined, pools) = (0, 2000);
        for _ in 0..pools {
            let mut reserve = blocks;
            // The drift of 5 % a block carries the survivors out of reach long before the end.
            for _ in 0..4000 {
                let efforts_until_block = -(1.0 - uniform()).ln();
                reserve -= efforts_until_block * (1.0 - fee);
                if reserve < 0.0 {
                    ruined += 1;
                    break;
                }
                reserve += 1.0;
            }
        }
        let share = f64::from(ruined) / f64::from(pools);
        assert!(share < chance * 1.3 && share > chance * 0.4, "{share}");
    }

    proptest! {
        #[test]
        fn no_fraction_is_created_or_lost(value: u128, fee in 0..=1_000_000u32) {
            let (net, fee) = take_fee(Fine(value), Ppm::new(fee).unwrap());
            prop_assert_eq!(net.plus(fee), Ok(Fine(value)));
        }

        #[test]
        fn shares_together_are_worth_what_they_are_worth_apart(effort in 1u128..1 << 80, network in 1u128..1 << 90, block in 0i64..1 << 40, a in 0u64..1000, b in 0u64..1000) {
            prop_assume!(effort <= network);
            let value = |count| value(Effort(effort), count, Effort(network), Amount::new(block)).unwrap();
            prop_assert_eq!(value(a).plus(value(b)), Ok(value(a + b)));
        }
    }
}
