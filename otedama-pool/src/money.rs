//! Money: whole atomic units, and arithmetic that fails instead of wrapping.

use std::fmt;

/// An amount of one coin in its ledger unit, positive or negative.
///
/// The ledger unit is the coin's atomic unit where 2^63 of them are more than a pool can hold: satoshi
/// (10^-8), litoshi, Monero's piconero (10^-12, up to 9.2 million XMR). Ether's family counts wei (10^-18),
/// of which 2^63 are only 9.2 ether: its ledger unit is the gwei (10^-9 ether), and what a block's reward
/// has beyond whole gwei stays in the pool's wallet unbooked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// The largest amount.
    pub const MAX: Amount = Amount(i64::MAX);

    /// This many ledger units.
    pub const fn new(units: i64) -> Amount {
        Amount(units)
    }

    /// In ledger units.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// The sum, unless it leaves the range.
    pub fn plus(self, other: Amount) -> Result<Amount, Overflow> {
        self.0.checked_add(other.0).map(Amount).ok_or(Overflow)
    }

    /// The difference, unless it leaves the range.
    pub fn minus(self, other: Amount) -> Result<Amount, Overflow> {
        self.0.checked_sub(other.0).map(Amount).ok_or(Overflow)
    }

    /// The same amount the other way round.
    pub fn negated(self) -> Result<Amount, Overflow> {
        self.0.checked_neg().map(Amount).ok_or(Overflow)
    }

    /// The sum of all, unless it leaves the range on the way.
    pub fn sum(amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, Overflow> {
        amounts.into_iter().try_fold(Amount::ZERO, Amount::plus)
    }

    /// Reads a decimal number of the coin's unit with this many decimal places: `12.5`, `-0.00000001`. `None` for
    /// anything else, for more places than there are, and outside the range. No floating point on the way.
    pub fn from_decimal(text: &str, places: u32) -> Option<Amount> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let part = part.trim_end_matches('0');
        let fine = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 20 || !fine(whole) || !fine(part) || part.len() > places as usize
        {
            return None;
        }
        let number: i128 = format!("{whole}{part:0<width$}", width = places as usize).parse().ok()?;
        i64::try_from(if negative { -number } else { number }).ok().map(Amount)
    }

    /// As a decimal number of the coin's unit, with all its places: `12.50000000`.
    pub fn to_decimal(self, places: u32) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.0.unsigned_abs(), width = places as usize + 1);
        let (whole, part) = digits.split_at(digits.len() - places as usize);
        if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
    }

    /// Whether it is above zero.
    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount left the range of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount left the range of 64 bits: expected less than 2^63 ledger units")]
pub struct Overflow;

/// A part of a million: 10,000 is one per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ppm(u32);

impl Ppm {
    /// Nothing of it.
    pub const ZERO: Ppm = Ppm(0);
    /// All of it.
    pub const ALL: Ppm = Ppm(1_000_000);

    /// This many millionths, at most a million.
    pub const fn new(millionths: u32) -> Result<Ppm, BadPpm> {
        if millionths <= 1_000_000 { Ok(Ppm(millionths)) } else { Err(BadPpm(millionths)) }
    }

    /// In millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// This part of an amount, rounded towards zero.
    pub fn of(self, amount: Amount) -> Amount {
        // |amount| < 2^63 times at most a million, over a million: fits again.
        Amount((i128::from(amount.0) * i128::from(self.0) / 1_000_000) as i64)
    }
}

/// More than the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} millionths are more than the whole: expected at most 1000000")]
pub struct BadPpm(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        let units = |text, places| Amount::from_decimal(text, places).map(Amount::units);
        assert_eq!(units("12.5", 8), Some(1_250_000_000));
        assert_eq!(units("0.00004520", 8), Some(4520));
        assert_eq!(units("-0.00000001", 8), Some(-1));
        assert_eq!(units("7", 0), Some(7));
        assert_eq!(units("92233720368.54775807", 8), Some(i64::MAX));
        for wrong in ["", "-", ".5", "1e-8", "1.000000001", "92233720368.54775808", "1,5", "0x10", " 1"] {
            assert_eq!(units(wrong, 8), None, "{wrong}");
        }
        assert_eq!(Amount::new(1_250_000_000).to_decimal(8), "12.50000000");
        assert_eq!(Amount::new(-1).to_decimal(8), "-0.00000001");
        assert_eq!(Amount::new(i64::MIN).to_decimal(12), "-9223372.036854775808");
        assert_eq!(Amount::new(7).to_decimal(0), "7");
    }

    proptest::proptest! {
        #[test]
        fn decimals_come_back(units in proptest::num::i64::ANY, places in 0u32..=18) {
            let amount = Amount::new(units);
            proptest::prop_assert_eq!(Amount::from_decimal(&amount.to_decimal(places), places), Some(amount));
        }
    }

    #[test]
    fn arithmetic_fails_at_the_edge_instead_of_wrapping() {
        let one = Amount::new(1);
        assert_eq!(Amount::MAX.plus(one), Err(Overflow));
        assert_eq!(Amount::new(i64::MIN).minus(one), Err(Overflow));
        assert_eq!(Amount::new(i64::MIN).negated(), Err(Overflow));
        assert_eq!(Amount::sum([Amount::MAX, one]), Err(Overflow));
        assert_eq!(Amount::new(5).minus(Amount::new(7)), Ok(Amount::new(-2)));
    }

    #[test]
    fn parts_round_towards_zero_and_the_whole_is_the_whole() {
        let two_percent = Ppm::new(20_000).unwrap();
        assert_eq!(two_percent.of(Amount::new(149)), Amount::new(2));
        assert_eq!(two_percent.of(Amount::new(-149)), Amount::new(-2));
        assert_eq!(Ppm::ALL.of(Amount::MAX), Amount::MAX);
        assert_eq!(Ppm::ZERO.of(Amount::MAX), Amount::ZERO);
        assert_eq!(Ppm::new(1_000_001), Err(BadPpm(1_000_001)));
    }
}
