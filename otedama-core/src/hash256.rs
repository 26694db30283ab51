//! 32 bytes of hash, in the order the hash function wrote them.

use std::fmt;

use crate::algorithm::HashOrder;
use crate::target::U256;

/// A 32-byte digest as the hash function outputs it. It has no order of its own: whether it is "small"
/// depends on the algorithm, and [`Digest::meets`] is the one place that asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash256([u8; 32]);

impl Hash256 {
    /// From bytes in the function's output order.
    pub const fn from_raw(bytes: [u8; 32]) -> Hash256 {
        Hash256(bytes)
    }

    /// The bytes in the function's output order.
    pub const fn as_raw(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hex digits in the function's output order.
    pub fn to_raw_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// 64 hex digits, last byte first: how Bitcoin's family shows hashes.
    pub fn to_display_hex(&self) -> String {
        hex::encode(self.reversed().0)
    }

    /// From 64 hex digits in the function's output order; `None` if they are not that.
    pub fn from_raw_hex(digits: &str) -> Option<Hash256> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Hash256(bytes))
    }

    /// From 64 hex digits, last byte first; `None` if they are not that.
    pub fn from_display_hex(digits: &str) -> Option<Hash256> {
        Hash256::from_raw_hex(digits).map(|hash| hash.reversed())
    }

    fn reversed(mut self) -> Hash256 {
        self.0.reverse();
        self
    }

    /// The number these bytes stand for.
    pub fn to_number(&self, order: HashOrder) -> U256 {
        match order {
            HashOrder::LittleEndian => U256::from_le_bytes(self.0),
            HashOrder::BigEndian => U256::from_be_bytes(self.0),
        }
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash256(raw {})", self.to_raw_hex())
    }
}

/// What one attempt produced: the final hash, and for some the hash that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The hash that is compared with the target.
    pub pow: Hash256,
    /// The hash that must be submitted beside the nonce: the mix hash (Ethash, KawPow), or, for a share of RandomX
    /// v2, the function's hash, `pow` being the commitment to it.
    pub mix: Option<Hash256>,
}

impl Digest {
    /// A digest without a mix.
    pub const fn plain(pow: [u8; 32]) -> Digest {
        Digest { pow: Hash256::from_raw(pow), mix: None }
    }

    /// Whether this digest satisfies the target: the one such comparison in the project. The hash is
    /// read in the algorithm's byte order and must be at most the target. (CryptoNote's rule,
    /// hash * difficulty < 2^256, is the same as hash <= floor((2^256 - 1) / difficulty), which is the
    /// target that [`crate::Target::from_difficulty`] makes.)
    pub fn meets(&self, algorithm: crate::Algorithm, target: &crate::Target) -> bool {
        self.pow.to_number(algorithm.spec().hash_order) <= target.to_number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, Target};

    #[test]
    fn display_order_is_the_reverse_of_raw_order() {
        let hash = Hash256::from_raw(std::array::from_fn(|i| i as u8));
        assert!(hash.to_raw_hex().starts_with("000102"));
        assert!(hash.to_display_hex().starts_with("1f1e1d"));
        assert_eq!(Hash256::from_raw_hex(&hash.to_raw_hex()), Some(hash));
        assert_eq!(Hash256::from_display_hex(&hash.to_display_hex()), Some(hash));
        assert_eq!(Hash256::from_raw_hex("00"), None);
        assert_eq!(Hash256::from_raw_hex(&"g".repeat(64)), None);
    }

    #[test]
    fn the_edges_of_a_target_are_met_below_and_on_it_but_not_above() {
        for algorithm in Algorithm::ALL {
            let order = algorithm.spec().hash_order;
            for number in [U256::from(1u64), U256::from(0xffffu64) << 208, U256::MAX - U256::from(1u64)] {
                let target = Target::new(number).unwrap();
                let digest_of = |n: U256| {
                    Digest::plain(match order {
                        HashOrder::LittleEndian => n.to_le_bytes(),
                        HashOrder::BigEndian => n.to_be_bytes(),
                    })
                };
                let one = U256::from(1u64);
                assert!(digest_of(number - one).meets(algorithm, &target), "{algorithm}: target - 1");
                assert!(digest_of(number).meets(algorithm, &target), "{algorithm}: target");
                assert!(!digest_of(number + one).meets(algorithm, &target), "{algorithm}: target + 1");
            }
        }
    }
}
