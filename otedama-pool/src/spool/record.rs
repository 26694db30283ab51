//! One share as it is kept: fixed-width numbers, little-endian, then three short names.

use otedama_core::{Algorithm, Hash256};

use crate::effort::Effort;
use crate::money::Amount;

/// Longest name of a coin, in bytes.
pub const MAX_COIN_LEN: usize = 16;
/// Longest name of a miner, in bytes; Monero's integrated addresses have 106.
pub const MAX_MINER_LEN: usize = 128;
/// Longest name of a worker, in bytes.
pub const MAX_WORKER_LEN: usize = 64;
/// Longest encoded record, in bytes.
pub(super) const MAX_RECORD_LEN: usize = FIXED_LEN + 32 + 3 + MAX_COIN_LEN + MAX_MINER_LEN + MAX_WORKER_LEN;

const FIXED_LEN: usize = 1 + 1 + 8 + 8 + 16 + 16 + 8 + 8;
const HAS_BLOCK: u8 = 1;

/// The numbers that stand for algorithms on disk. A number is never given to another algorithm.
const ALGORITHMS: [(u8, Algorithm); 7] = [
    (1, Algorithm::Sha256d),
    (2, Algorithm::Scrypt),
    (3, Algorithm::Ethash),
    (4, Algorithm::Etchash),
    (5, Algorithm::KawPow),
    (6, Algorithm::RandomXV1),
    (7, Algorithm::RandomXV2),
];

/// An accepted share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRecord {
    /// When it was accepted, in milliseconds since 1970.
    pub time_ms: u64,
    /// What was hashed with.
    pub algorithm: Algorithm,
    /// Height of the block that was being worked on.
    pub height: u64,
    /// What the miner is credited with: the effort of the job's share target, not of the hash that was found.
    pub credited: Effort,
    /// The effort of a block at that time.
    pub network: Effort,
    /// What a block pays without transaction fees, in ledger units (PPS).
    pub subsidy: Amount,
    /// What the block being worked on would have paid the pool, fees included, in ledger units (FPPS; the
    /// reward, if this is a block).
    pub block_value: Amount,
    /// The block's hash in the function's output order, if this share is a block. The hash by which the chain
    /// knows the block, which is not the proof of work for all coins.
    pub block: Option<Hash256>,
    /// Which currency: 1 to 16 bytes.
    pub coin: String,
    /// Who is paid: 1 to 128 bytes.
    pub miner: String,
    /// Which of the miner's machines: up to 64 bytes.
    pub worker: String,
}

impl ShareRecord {
    /// Appends the encoded record to `out`; on error nothing is appended.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.check()?;
        let (code, _) = ALGORITHMS
            .iter()
            .find(|(_, algorithm)| *algorithm == self.algorithm)
            .ok_or(RecordError::AlgorithmWithoutNumber(self.algorithm))?;
        out.extend([*code, if self.block.is_some() { HAS_BLOCK } else { 0 }]);
        out.extend(self.time_ms.to_le_bytes());
        out.extend(self.height.to_le_bytes());
        out.extend(self.credited.0.to_le_bytes());
        out.extend(self.network.0.to_le_bytes());
        out.extend(self.subsidy.units().to_le_bytes());
        out.extend(self.block_value.units().to_le_bytes());
        if let Some(block) = &self.block {
            out.extend(block.as_raw());
        }
        for (_, name, _) in self.names() {
            out.push(name.len() as u8); // checked: at most 128
            out.extend(name.as_bytes());
        }
        Ok(())
    }

    /// The record that these bytes, all of them, stand for.
    pub(super) fn decode(bytes: &[u8]) -> Option<ShareRecord> {
        let mut rest = bytes;
        let [code, flags] = take(&mut rest)?;
        let (_, algorithm) = *ALGORITHMS.iter().find(|(known, _)| *known == code)?;
        if flags & !HAS_BLOCK != 0 {
            return None;
        }
        let record = ShareRecord {
            time_ms: u64::from_le_bytes(take(&mut rest)?),
            algorithm,
            height: u64::from_le_bytes(take(&mut rest)?),
            credited: Effort(u128::from_le_bytes(take(&mut rest)?)),
            network: Effort(u128::from_le_bytes(take(&mut rest)?)),
            subsidy: Amount::new(i64::from_le_bytes(take(&mut rest)?)),
            block_value: Amount::new(i64::from_le_bytes(take(&mut rest)?)),
            block: if flags == HAS_BLOCK { Some(Hash256::from_raw(take(&mut rest)?)) } else { None },
            coin: name(&mut rest)?,
            miner: name(&mut rest)?,
            worker: name(&mut rest)?,
        };
        (rest.is_empty() && record.check().is_ok()).then_some(record)
    }

    fn check(&self) -> Result<(), RecordError> {
        for (field, name, range) in self.names() {
            if !range.contains(&name.len()) {
                let (min, max) = (*range.start(), *range.end());
                return Err(RecordError::NameLength { field, len: name.len(), min, max });
            }
        }
        let number = |field, fine| if fine { Ok(()) } else { Err(RecordError::OutOfRange { field }) };
        // The ledger's numbers are signed and have 64 bits.
        number("time_ms", self.time_ms <= i64::MAX as u64)?;
        number("height", self.height <= i64::MAX as u64)?;
        number("credited", self.credited.0 > 0)?;
        number("network", self.network.0 > 0)?;
        number("subsidy", !self.subsidy.is_negative())?;
        number("block_value", !self.block_value.is_negative())
    }

    fn names(&self) -> [(&'static str, &str, std::ops::RangeInclusive<usize>); 3] {
        [
            ("coin", &self.coin, 1..=MAX_COIN_LEN),
            ("miner", &self.miner, 1..=MAX_MINER_LEN),
            ("worker", &self.worker, 0..=MAX_WORKER_LEN),
        ]
    }
}

/// Why a record cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A name is too long, or empty.
    #[error("{field} has {len} bytes: expected {min} to {max}")]
    NameLength {
        /// Which name.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// Shortest allowed.
        min: usize,
        /// Longest allowed.
        max: usize,
    },
    /// A number is zero, negative or too large for the ledger.
    #[error("{field} of a share is out of range: expected efforts above 0, the rest from 0 to 2^63 - 1")]
    OutOfRange {
        /// Which number.
        field: &'static str,
    },
    /// No number is known for the algorithm.
    #[error("{0} has no number in the spool's table of algorithms: add one")]
    AlgorithmWithoutNumber(Algorithm),
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn name(rest: &mut &[u8]) -> Option<String> {
    let [len] = take(rest)?;
    let (head, tail) = rest.split_at_checked(len.into())?;
    *rest = tail;
    std::str::from_utf8(head).ok().map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        /// Any record that can be kept.
        pub(crate) fn any_record()(
            algorithm in proptest::sample::select(Algorithm::ALL.to_vec()),
            numbers in proptest::array::uniform4(0..=i64::MAX),
            efforts in proptest::array::uniform2(1..=u128::MAX),
            block in proptest::option::of(any::<[u8; 32]>()),
            coin in "[a-z]{1,16}",
            miner in "[a-zA-Z0-9]{1,128}",
            worker in "[ -~]{0,64}",
        ) -> ShareRecord {
            ShareRecord {
                time_ms: numbers[0] as u64,
                algorithm,
                height: numbers[1] as u64,
                credited: Effort(efforts[0]),
                network: Effort(efforts[1]),
                subsidy: Amount::new(numbers[2]),
                block_value: Amount::new(numbers[3]),
                block: block.map(Hash256::from_raw),
                coin,
                miner,
                worker,
            }
        }
    }

    #[test]
    fn every_algorithm_has_a_number() {
        for algorithm in Algorithm::ALL {
            assert_eq!(ALGORITHMS.iter().filter(|(_, known)| *known == algorithm).count(), 1, "{algorithm}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back(record in any_record()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes).unwrap();
            prop_assert!(bytes.len() <= MAX_RECORD_LEN);
            prop_assert_eq!(ShareRecord::decode(&bytes), Some(record));
            for cut in 0..bytes.len() {
                prop_assert_eq!(ShareRecord::decode(&bytes[..cut]), None);
            }
            bytes.push(0);
            prop_assert_eq!(ShareRecord::decode(&bytes), None);
        }

        #[test]
        fn what_cannot_be_kept_is_refused_and_leaves_no_trace(record in any_record(), which in 0usize..5) {
            let mut bad = record;
            match which {
                0 => bad.miner.clear(),
                1 => bad.worker = "w".repeat(MAX_WORKER_LEN + 1),
                2 => bad.credited = Effort::ZERO,
                3 => bad.block_value = Amount::new(-1),
                _ => bad.time_ms = u64::MAX,
            }
            let mut bytes = vec![7];
            prop_assert!(bad.encode(&mut bytes).is_err());
            prop_assert_eq!(bytes, vec![7]);
        }
    }
}
