//! Whom to pay, and how many at a time.

use crate::money::Amount;

/// How a coin is paid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutRules {
    /// The coin's name, as in its share records.
    pub coin: String,
    /// Who is owed less is not paid yet.
    pub minimum: Amount,
    /// Most recipients of one transaction: [`bitcoin_family_outputs`]; Monero's wallet takes 15.
    pub max_outputs: usize,
    /// After how many confirmations a payout is done.
    pub confirmations: u64,
}

/// How many recipients fit into a transaction of this virtual size, if it has this many inputs: 11 bytes for the
/// frame, 68 for an input (witness key hash; 148 for one that is not segwit, which is what is reckoned with
/// here), 43 for an output (taproot, the longest), one of which is the change. Nodes relay up to 100,000.
pub fn bitcoin_family_outputs(max_virtual_size: usize, inputs: usize) -> usize {
    max_virtual_size.saturating_sub(11 + 43).saturating_sub(inputs.saturating_mul(148)) / 43
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_counted_by_size() {
        assert_eq!(bitcoin_family_outputs(100_000, 100), (100_000 - 54 - 14_800) / 43);
        assert_eq!(bitcoin_family_outputs(54, 0), 0);
        assert_eq!(bitcoin_family_outputs(0, usize::MAX), 0);
    }
}
