//! The last N shares of PPLNS: how far back, measured in effort and in time.

use std::collections::BTreeMap;

use otedama_core::target::U256;

use crate::effort::Effort;

/// Shares of one slice of time, summed by miner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<K> {
    /// When the slice began, in milliseconds since 1970.
    pub start_ms: u64,
    /// What each miner did in it.
    pub efforts: BTreeMap<K, Effort>,
}

/// How far back a window reaches: until the first limit is met. A limit that is `None` does not limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// This much effort.
    pub effort: Option<Effort>,
    /// Slices that began this many milliseconds, or less, before the block.
    pub age_ms: Option<u64>,
}

impl Window {
    /// A window of so many times the effort of a block, in thousandths: 2000 is twice a block's effort, the
    /// usual choice.
    pub fn of_blocks(network: Effort, thousandths: u64) -> Window {
        let effort = (network.0 / 1000).saturating_mul(thousandths.into());
        let rest = (network.0 % 1000) * u128::from(thousandths) / 1000;
        Window { effort: Some(Effort(effort.saturating_add(rest))), age_ms: None }
    }

    /// When the oldest slices that count began.
    pub fn oldest_ms(self, block_ms: u64) -> u64 {
        self.age_ms.map_or(0, |age_ms| block_ms.saturating_sub(age_ms))
    }
}

/// The effort of each miner within the window that ends with the block.
///
/// `slices` come newest first and hold nothing after the block. A slice that reaches over the window's far
/// end counts by the part that fits, the same part of each of its miners: with slices of a minute
/// and a window of hours the difference to share-by-share counting is below a slice's part of the window.
pub fn window<K: Ord + Clone>(
    limits: Window,
    block_ms: u64,
    slices: impl IntoIterator<Item = Slice<K>>,
) -> BTreeMap<K, Effort> {
    let oldest_ms = limits.oldest_ms(block_ms);
    let mut room = limits.effort.unwrap_or(Effort(u128::MAX));
    let mut total: BTreeMap<K, Effort> = BTreeMap::new();
    // Slices that came late, from a node that was cut off, may stand between newer ones.
    for slice in slices.into_iter().filter(|slice| slice.start_ms >= oldest_ms) {
        if room == Effort::ZERO {
            break;
        }
        let effort: Effort = slice.efforts.values().copied().sum();
        let fits = effort <= room;
        let efforts = if fits { slice.efforts } else { part_of(slice.efforts, effort, room) };
        room = Effort(room.0.saturating_sub(effort.0));
        for (miner, effort) in efforts {
            let sum = total.entry(miner).or_default();
            *sum = sum.saturating_add(effort);
        }
    }
    total
}

/// Each miner's part of the `room` that is left for a slice of this `whole` effort, rounded down: efforts are
/// weights here, and a hash less in billions moves no unit of money from where it belongs.
fn part_of<K: Ord>(efforts: BTreeMap<K, Effort>, whole: Effort, room: Effort) -> BTreeMap<K, Effort> {
    let part = |effort: Effort| {
        let part = U256::from(effort.0) * U256::from(room.0) / U256::from(whole.0);
        Effort(u128::try_from(part).unwrap_or(u128::MAX))
    };
    efforts.into_iter().map(|(miner, effort)| (miner, part(effort))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slices(list: &[(u64, &[(&'static str, u128)])]) -> Vec<Slice<&'static str>> {
        let efforts = |pairs: &[(&'static str, u128)]| {
            pairs.iter().map(|(name, effort)| (*name, Effort(*effort))).collect()
        };
        list.iter().map(|(start_ms, pairs)| Slice { start_ms: *start_ms, efforts: efforts(pairs) }).collect()
    }

    fn of_effort(effort: u128) -> Window {
        Window { effort: Some(Effort(effort)), age_ms: None }
    }

    #[test]
    fn the_window_ends_where_its_effort_is_full() {
        let slices =
            slices(&[(300, &[("a", 10), ("b", 20)]), (200, &[("b", 30)]), (100, &[("a", 40), ("c", 40)])]);
        let efforts = |limit| window(of_effort(limit), 350, slices.clone()).into_iter().collect::<Vec<_>>();
        assert_eq!(efforts(60), [("a", Effort(10)), ("b", Effort(50))]);
        // 20 of the oldest slice's 80 fit.
        assert_eq!(efforts(80), [("a", Effort(20)), ("b", Effort(50)), ("c", Effort(10))]);
        // A young pool: all there is.
        assert_eq!(efforts(u128::MAX), [("a", Effort(50)), ("b", Effort(50)), ("c", Effort(40))]);
        assert_eq!(efforts(0), []);
    }

    #[test]
    fn the_window_ends_where_it_is_old_enough_too() {
        let slices = slices(&[(300, &[("a", 1)]), (200, &[("b", 1)]), (100, &[("c", 1)])]);
        let limits = |age_ms| Window { effort: None, age_ms: Some(age_ms) };
        let miners = |age_ms| window(limits(age_ms), 350, slices.clone()).into_keys().collect::<Vec<_>>();
        assert_eq!(miners(150), ["a", "b"]);
        assert_eq!(miners(149), ["a"]);
        assert_eq!(miners(1000), ["a", "b", "c"]);
    }

    #[test]
    fn a_window_is_a_multiple_of_a_blocks_effort() {
        assert_eq!(Window::of_blocks(Effort(1001), 2000).effort, Some(Effort(2002)));
        assert_eq!(Window::of_blocks(Effort(1001), 1500).effort, Some(Effort(1501)));
        assert_eq!(Window::of_blocks(Effort(u128::MAX), 2000).effort, Some(Effort(u128::MAX)));
    }

    proptest! {
        #[test]
        fn a_window_never_holds_more_than_its_effort_and_misses_less_than_a_hash_per_miner(
            efforts in proptest::collection::vec(proptest::collection::btree_map(0u8..8, 1u128..1 << 90, 1..8), 1..8),
            limit in 0u128..1 << 93,
        ) {
            let all: u128 = efforts.iter().flat_map(|slice| slice.values()).sum();
            let slices = efforts.iter().rev().map(|slice| Slice {
                start_ms: 0,
                efforts: slice.iter().map(|(miner, effort)| (*miner, Effort(*effort))).collect(),
            });
            let held: Effort = window(of_effort(limit), 1, slices).into_values().sum();
            prop_assert!(held.0 <= limit.min(all));
            prop_assert!(limit.min(all) - held.0 < 8);
        }
    }
}
