//! Who gets how much of what: pure functions over whole numbers.
//!
//! Everything here takes efforts and amounts and gives a [`Split`] whose parts sum to what was split, to the
//! unit. Miners are named by whatever the caller sorts by; equal input gives equal output, on every machine.
//!
//! | scheme | a share is worth | who carries the luck |
//! | --- | --- | --- |
//! | [`proportional`] over a round (PROP) | a part of the round's block | miners; hopping pays |
//! | [`proportional`] over a [`window`] (PPLNS) | a part of every block found within the window after it | miners |
//! | [`pps`] with the subsidy (PPS) or the whole block value (FPPS) | its expected value, at once | the pool: see [`pps::reserve`] |
//! | [`solo`] | nothing, unless it is a block | the finder |

pub mod pps;
mod window;

use std::collections::BTreeMap;

use otedama_core::target::U256;

use crate::effort::Effort;
use crate::money::{Amount, Ppm};

pub use window::{Slice, Window, window};

/// A reward, divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<K> {
    /// What each miner gets, in the miners' order; nobody is listed with nothing.
    pub credits: Vec<(K, Amount)>,
    /// What the pool keeps: its fee, or everything if nobody has a claim.
    pub fee: Amount,
}

/// Divides a reward by effort, after the fee (PROP; PPLNS with a window's efforts).
///
/// - The fee is rounded down, in the miners' favour; what remains is divided by largest remainder
///   ([`apportion`]), so no unit is created or lost.
/// - Effort that does not fill a PPLNS window is not held against the miners: the whole reward is divided by
///   the effort there is. (Miningcore keeps the rest instead.) A young pool's first miners gain by it and
///   nobody loses.
/// - Without any effort the whole reward is the pool's: there is nobody to pay. With one miner, all after the
///   fee is that miner's. With a fee of 100 % nobody is listed.
///
/// A negative reward is treated as none.
pub fn proportional<K: Ord + Clone>(reward: Amount, fee: Ppm, efforts: &BTreeMap<K, Effort>) -> Split<K> {
    let reward = reward.max(Amount::ZERO);
    let fee = fee.of(reward);
    let net = Amount::new(reward.units() - fee.units()); // 0 <= fee <= reward
    let weights: Vec<u128> = efforts.values().map(|effort| effort.0).collect();
    match apportion(net, &weights) {
        Some(parts) => {
            let credits = efforts.keys().cloned().zip(parts).filter(|(_, part)| part.is_positive());
            Split { credits: credits.collect(), fee }
        }
        None => Split { credits: Vec::new(), fee: reward },
    }
}

/// All to who found the block, after the fee.
pub fn solo<K: Ord + Clone>(reward: Amount, fee: Ppm, finder: K) -> Split<K> {
    proportional(reward, fee, &BTreeMap::from([(finder, Effort(1))]))
}

/// Divides an amount by weights; the parts sum to it exactly. Each part is first rounded down; the units left
/// over go one each to the largest remainders, among equals to the earlier (largest remainder, Hamilton's
/// method). `None` if all weights are zero. The amount must not be negative.
pub fn apportion(total: Amount, weights: &[u128]) -> Option<Vec<Amount>> {
    let sum = weights.iter().fold(U256::ZERO, |sum, weight| sum + U256::from(*weight));
    if sum.is_zero() || total.is_negative() {
        return None;
    }
    let whole = U256::from(total.units() as u64);
    // total < 2^63 and weight < 2^128: products fit. Every quotient is at most the total.
    let (mut parts, mut remainders): (Vec<i64>, Vec<(U256, usize)>) = weights
        .iter()
        .enumerate()
        .map(|(index, weight)| {
            let (quotient, remainder) = (whole * U256::from(*weight)).div_rem(sum);
            (quotient.as_limbs()[0] as i64, (remainder, index))
        })
        .unzip();
    let left = total.units() - parts.iter().sum::<i64>();
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    // Fewer units are left than there are remainders above zero.
    for (_, index) in remainders.into_iter().take(left as usize) {
        parts[index] += 1;
    }
    Some(parts.into_iter().map(Amount::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn efforts(pairs: &[(&'static str, u128)]) -> BTreeMap<&'static str, Effort> {
        pairs.iter().map(|(name, effort)| (*name, Effort(*effort))).collect()
    }

    fn total<K>(split: &Split<K>) -> Amount {
        Amount::sum(split.credits.iter().map(|(_, part)| *part).chain([split.fee])).unwrap()
    }

    const fn ppm(millionths: u32) -> Ppm {
        match Ppm::new(millionths) {
            Ok(ppm) => ppm,
            Err(_) => panic!("more than a million"),
        }
    }

    #[test]
    fn a_reward_of_the_books_is_divided_as_by_hand() {
        // 3.125 BTC, 2 % fee, efforts 5 : 3 : 2. The fee is 6,250,000; 306,250,000 are divided.
        let split =
            proportional(Amount::new(312_500_000), ppm(20_000), &efforts(&[("a", 5), ("b", 3), ("c", 2)]));
        let expected = [("a", 153_125_000), ("b", 91_875_000), ("c", 61_250_000)];
        assert_eq!(split.credits, expected.map(|(name, units)| (name, Amount::new(units))));
        assert_eq!(split.fee, Amount::new(6_250_000));
    }

    #[test]
    fn units_that_do_not_divide_go_to_the_largest_remainders() {
        // Quotas of 10 by 2 : 2 : 3 : 1 of 8 are 2.5, 2.5, 3.75, 1.25.
        let parts = apportion(Amount::new(10), &[2, 2, 3, 1]).unwrap();
        assert_eq!(parts, [3, 2, 4, 1].map(Amount::new));
        assert_eq!(apportion(Amount::new(1), &[1, 1, 1]).unwrap(), [1, 0, 0].map(Amount::new));
    }

    #[test]
    fn the_edges_are_as_documented() {
        let reward = Amount::new(1001);
        let nobody = proportional(reward, ppm(20_000), &efforts(&[]));
        assert_eq!((nobody.credits.len(), nobody.fee), (0, reward));
        let idle = proportional(reward, ppm(20_000), &efforts(&[("a", 0)]));
        assert_eq!((idle.credits.len(), idle.fee), (0, reward));
        let one = proportional(reward, ppm(20_000), &efforts(&[("a", 7)]));
        assert_eq!((one.credits, one.fee), (vec![("a", Amount::new(981))], Amount::new(20)));
        let free = proportional(reward, Ppm::ZERO, &efforts(&[("a", 7)]));
        assert_eq!((free.credits, free.fee), (vec![("a", reward)], Amount::ZERO));
        let greedy = proportional(reward, Ppm::ALL, &efforts(&[("a", 7)]));
        assert_eq!((greedy.credits.len(), greedy.fee), (0, reward));
        assert_eq!(solo(reward, ppm(10_000), "a").credits, [("a", Amount::new(991))]);
        assert_eq!(total(&proportional(Amount::new(-5), Ppm::ZERO, &efforts(&[("a", 7)]))), Amount::ZERO);
    }

    proptest! {
        #[test]
        fn no_unit_is_created_or_lost(
            reward in 0..=i64::MAX, fee in 0..=1_000_000u32,
            weights in proptest::collection::btree_map(any::<u16>(), prop_oneof![any::<u128>(), 0..4u128], 0..40),
        ) {
            let efforts: BTreeMap<u16, Effort> = weights.into_iter().map(|(k, w)| (k, Effort(w))).collect();
            let split = proportional(Amount::new(reward), ppm(fee), &efforts);
            prop_assert_eq!(total(&split), Amount::new(reward));
            prop_assert!(split.credits.iter().all(|(_, part)| part.is_positive()));
        }

        #[test]
        fn every_part_is_its_quota_rounded_one_way_or_the_other(
            amount in 0..=i64::MAX, weights in proptest::collection::vec(0..=u128::MAX >> 8, 1..30),
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let parts = apportion(Amount::new(amount), &weights).unwrap();
            let sum = weights.iter().fold(U256::ZERO, |sum, weight| sum + U256::from(*weight));
            for (part, weight) in parts.iter().zip(&weights) {
                let product = U256::from(amount as u64) * U256::from(*weight);
                let (floor, rest) = product.div_rem(sum);
                let part = U256::from(part.units() as u64);
                prop_assert!(part == floor || (part == floor + U256::from(1u64) && !rest.is_zero()));
            }
        }

        #[test]
        fn more_effort_never_gets_less(amount in 0..=i64::MAX, a: u128, b: u128, others in proptest::collection::vec(any::<u128>(), 0..10)) {
            prop_assume!(a > b);
            let weights: Vec<u128> = [a, b].into_iter().chain(others).collect();
            let parts = apportion(Amount::new(amount), &weights).unwrap();
            prop_assert!(parts[0] >= parts[1]);
        }
    }
}
