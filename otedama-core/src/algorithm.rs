//! Which function is being mined, and the one table of facts in which the functions differ.
//!
//! Identity is an enum, behaviour a row of a table: code asks [`Algorithm::spec`] instead of matching
//! on names. A revision that changes the hash (RandomX v1 and v2, Etchash's longer epoch) is another
//! identity, never a flag beside one.

use std::fmt;
use std::str::FromStr;

/// A proof-of-work function, revision included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256 of SHA-256 of an 80-byte header: Bitcoin.
    Sha256d,
    /// scrypt with N = 1024, r = 1, p = 1, the header as password and salt: Litecoin, Dogecoin.
    Scrypt,
    /// Ethash with epochs of 30,000 blocks: Ethereum until the merge, EthereumPoW.
    Ethash,
    /// Ethash with epochs of 60,000 blocks (ECIP-1099): Ethereum Classic.
    Etchash,
    /// ProgPoW with Ravencoin's constants.
    KawPow,
    /// RandomX, first revision: Monero since 2019.
    RandomXV1,
    /// RandomX, second revision of 2026.
    RandomXV2,
}

impl Algorithm {
    /// Every algorithm this version knows the rules of. What it has kernels for is
    /// [`crate::scan::kernels`]'s to say.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::Sha256d,
        Algorithm::Scrypt,
        Algorithm::Ethash,
        Algorithm::Etchash,
        Algorithm::KawPow,
        Algorithm::RandomXV1,
        Algorithm::RandomXV2,
    ];

    /// The row of facts about this algorithm.
    pub fn spec(self) -> &'static Spec {
        let row = match self {
            Algorithm::Sha256d => &SHA256D,
            Algorithm::Scrypt => &SCRYPT,
            Algorithm::Ethash => &ETHASH,
            Algorithm::Etchash => &ETCHASH,
            Algorithm::KawPow => &KAWPOW,
            Algorithm::RandomXV1 => &RANDOMX_V1,
            Algorithm::RandomXV2 => &RANDOMX_V2,
        };
        debug_assert_eq!(row.algorithm, self);
        row
    }

    /// The name used in arguments, configuration and reports.
    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Algorithm::ALL.into_iter().find(|a| a.name() == s).ok_or_else(|| UnknownAlgorithm(s.to_owned()))
    }
}

/// A name that is no algorithm this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm '{0}': expected one of {names}", names = Algorithm::ALL.map(Algorithm::name).join(", "))]
pub struct UnknownAlgorithm(pub String);

/// The facts in which proof-of-work functions differ, as far as miners and pools must know them.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Whose row this is.
    pub algorithm: Algorithm,
    /// The name used in arguments, configuration and reports.
    pub name: &'static str,
    /// What is hashed, and where its nonce lies.
    pub input: Input,
    /// How the final hash is read as a number before it is compared with a target.
    pub hash_order: HashOrder,
    /// The target that is called "difficulty 1" where this algorithm is mined.
    pub difficulty_one: DifficultyOne,
    /// What memory the algorithm needs beside the input.
    pub epoch: EpochKind,
}

/// What a proof-of-work function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A header of a fixed length in bytes that contains the nonce.
    Header {
        /// Length in bytes.
        len: usize,
        /// Where the nonce lies.
        nonce: NonceSlot,
    },
    /// A hashing blob of variable length in bytes that contains the nonce (Monero).
    Blob {
        /// Shortest blob accepted, in bytes.
        min_len: usize,
        /// Longest blob accepted, in bytes.
        max_len: usize,
        /// Where the nonce lies.
        nonce: NonceSlot,
    },
    /// The 32-byte hash of a header; the 64-bit nonce travels beside it.
    Sealed,
}

/// Where a nonce lies in the bytes that are hashed; it is always written little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceSlot {
    /// Offset of its first byte.
    pub offset: usize,
    /// Width in bytes, 1 to 8.
    pub width: usize,
}

/// How 32 bytes of hash are read as a 256-bit number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashOrder {
    /// The first byte is the least significant: Bitcoin's family and Monero.
    LittleEndian,
    /// The first byte is the most significant: Ethash's family.
    BigEndian,
}

/// What difficulty 1 means: difficulty d is met by hashes up to this number divided by d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifficultyOne {
    /// `mantissa * 2^shift`.
    Scaled {
        /// The leading bits.
        mantissa: u16,
        /// How far they are shifted left.
        shift: usize,
    },
    /// 2^256 (Ethereum's yellow paper, 4.4.1: hash <= 2^256 / d).
    TwoTo256,
    /// 2^256 - 1: the same as hash * d < 2^256 (CryptoNote's rule).
    TwoTo256MinusOne,
}

/// What memory an algorithm needs, and what decides when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochKind {
    /// None.
    None,
    /// A light cache and a dataset that change every so many blocks.
    Blocks(u32),
    /// A cache and a dataset that change with a 32-byte key taken from the chain.
    Key,
}

/// Bitcoin's 80-byte header: version, previous hash, merkle root, time, bits, nonce.
const HEADER_80: Input = Input::Header { len: 80, nonce: NonceSlot { offset: 76, width: 4 } };

/// A Monero hashing blob: header, tree root, transaction count. 43 bytes is the shortest that holds the nonce.
const MONERO_BLOB: Input =
    Input::Blob { min_len: 43, max_len: 512, nonce: NonceSlot { offset: 39, width: 4 } };

static SHA256D: Spec = Spec {
    algorithm: Algorithm::Sha256d,
    name: "sha256d",
    input: HEADER_80,
    hash_order: HashOrder::LittleEndian,
    difficulty_one: DifficultyOne::Scaled { mantissa: 0xffff, shift: 208 },
    epoch: EpochKind::None,
};

static SCRYPT: Spec = Spec {
    algorithm: Algorithm::Scrypt,
    name: "scrypt",
    input: HEADER_80,
    hash_order: HashOrder::LittleEndian,
    // Pools' difficulty 1 is 65536 times easier than Bitcoin's.
    difficulty_one: DifficultyOne::Scaled { mantissa: 0xffff, shift: 224 },
    epoch: EpochKind::None,
};

static ETHASH: Spec = Spec {
    algorithm: Algorithm::Ethash,
    name: "ethash",
    input: Input::Sealed,
    hash_order: HashOrder::BigEndian,
    difficulty_one: DifficultyOne::TwoTo256,
    epoch: EpochKind::Blocks(30_000),
};

static ETCHASH: Spec = Spec {
    algorithm: Algorithm::Etchash,
    name: "etchash",
    input: Input::Sealed,
    hash_order: HashOrder::BigEndian,
    difficulty_one: DifficultyOne::TwoTo256,
    epoch: EpochKind::Blocks(60_000),
};

static KAWPOW: Spec = Spec {
    algorithm: Algorithm::KawPow,
    name: "kawpow",
    input: Input::Sealed,
    hash_order: HashOrder::BigEndian,
    difficulty_one: DifficultyOne::Scaled { mantissa: 0xff, shift: 216 },
    epoch: EpochKind::Blocks(7_500),
};

static RANDOMX_V1: Spec = Spec {
    algorithm: Algorithm::RandomXV1,
    name: "randomx",
    input: MONERO_BLOB,
    hash_order: HashOrder::LittleEndian,
    difficulty_one: DifficultyOne::TwoTo256MinusOne,
    epoch: EpochKind::Key,
};

static RANDOMX_V2: Spec = Spec { algorithm: Algorithm::RandomXV2, name: "randomx-v2", ..RANDOMX_V1 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_its_own_row_and_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.spec().algorithm, algorithm);
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn a_stranger_is_named_beside_what_was_expected() {
        assert_eq!(
            "sha256".parse::<Algorithm>().unwrap_err().to_string(),
            "unknown algorithm 'sha256': expected one of sha256d, scrypt, ethash, etchash, kawpow, randomx, randomx-v2"
        );
    }
}
