//! Names of epochs.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use crate::algorithm::Algorithm;

/// Names one epoch: which algorithm (revision included), and which of its eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochKey {
    /// The algorithm whose memory it is.
    pub algorithm: Algorithm,
    /// The era.
    pub seed: EpochSeed,
}

/// What an epoch's memory is grown from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EpochSeed {
    /// An epoch number, counted from the chain's start (Ethash and its kin).
    Number(u32),
    /// Key bytes, such as a block's hash (RandomX).
    Bytes(SeedBytes),
}

/// Up to [`SeedBytes::MAX`] key bytes, held inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeedBytes {
    // Zero beyond `len`, so that the derived comparisons are those of the bytes in use.
    bytes: [u8; SeedBytes::MAX],
    len: u8,
}

/// A key longer than any algorithm takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch key of {len} bytes is too long: expected at most {max}", max = SeedBytes::MAX)]
pub struct SeedTooLong {
    /// Its length.
    pub len: usize,
}

impl EpochKey {
    /// The epoch with this number.
    pub fn number(algorithm: Algorithm, number: u32) -> EpochKey {
        EpochKey { algorithm, seed: EpochSeed::Number(number) }
    }

    /// The epoch with these key bytes.
    ///
    /// # Errors
    /// [`SeedTooLong`].
    pub fn bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<EpochKey, SeedTooLong> {
        Ok(EpochKey { algorithm, seed: EpochSeed::Bytes(SeedBytes::new(bytes)?) })
    }
}

impl fmt::Display for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.seed {
            EpochSeed::Number(number) => write!(f, "{} epoch {number}", self.algorithm),
            EpochSeed::Bytes(bytes) => write!(f, "{} key {bytes:?}", self.algorithm),
        }
    }
}

impl SeedBytes {
    /// The longest key, in bytes: what RandomX takes.
    pub const MAX: usize = 60;

    /// Copies a key.
    ///
    /// # Errors
    /// [`SeedTooLong`].
    pub fn new(key: &[u8]) -> Result<SeedBytes, SeedTooLong> {
        let mut bytes = [0; SeedBytes::MAX];
        let Some(head) = bytes.get_mut(..key.len()) else { return Err(SeedTooLong { len: key.len() }) };
        head.copy_from_slice(key);
        Ok(SeedBytes { bytes, len: key.len() as u8 })
    }
}

impl Deref for SeedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for SeedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_by_the_bytes_in_use() {
        let key = |bytes: &[u8]| EpochKey::bytes(Algorithm::RandomXV1, bytes).unwrap();
        assert_eq!(key(b"ab"), key(b"ab"));
        assert_ne!(key(b"ab"), key(b"ab\0"));
        assert_ne!(key(b"ab"), EpochKey::bytes(Algorithm::RandomXV2, b"ab").unwrap());
        assert_eq!(SeedBytes::new(&[7; 60]).unwrap().len(), 60);
        assert_eq!(SeedBytes::new(&[7; 61]), Err(SeedTooLong { len: 61 }));
        assert_eq!(key(b"\x01\xff").to_string(), "randomx key 01ff");
        assert_eq!(EpochKey::number(Algorithm::Ethash, 7).to_string(), "ethash epoch 7");
    }
}
